"""A TurboGears application, as someone would mount it beside a PHP site."""

from __future__ import annotations

from collections.abc import Iterator

import tg
from tg import AppConfig, TGController, expose


class RootController(TGController):
    @expose(content_type="text/plain")
    def page(self, word: str = "") -> str:
        basket = tg.request.cookies.get("basket", "")
        tg.response.set_cookie("basket", "apples", path="/tg", httponly=True)
        tg.response.set_cookie("colour", "red")
        return (
            "turbogears page\n"
            f"link={tg.url('/page')}\n"
            f"absolute={tg.url('/page', qualified=True)}\n"
            f"visitor={tg.request.remote_addr}\n"
            f"word={word}\n"
            f"cookie={basket}\n"
        )

    @expose(content_type="application/octet-stream")
    def echo(self) -> bytes:
        tg.response.content_type = tg.request.content_type
        return tg.request.body

    @expose(content_type="text/plain")
    def form(self, name: str, file: object) -> str:
        return f"name={name} file={len(file.file.read())}"

    @expose(content_type="text/plain")
    def stream(self) -> Iterator[bytes]:
        path = tg.request.path_info

        def lines() -> Iterator[bytes]:
            for number in range(5):
                yield f"{path} {number}\n".encode()

        return lines()

    @expose()
    def broken(self) -> str:
        raise RuntimeError("on purpose")

    @expose()
    def decline(self) -> str:
        len(tg.request.body)
        tg.response.headers["X-Bridge-Use-Legacy"] = "not ready"
        return ""


app = AppConfig(minimal=True, root_controller=RootController()).make_wsgi_app()
