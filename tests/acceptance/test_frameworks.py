"""Whole applications of three frameworks, mounted under a prefix of a PHP site."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stack.php import PhpServer
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.raw_http import Answer, ask, request

pytestmark = pytest.mark.acceptance

SITE = """\
version: 1
sites:
  shop: {hosts: ["@ADDRESS@", shop.example.org], legacy: php}
backends:
  php: {url: "@PHP@"}
trusted_proxies: [127.0.0.1]
routes:
"""
ROUTE = """\
  - name: @NAME@
    path: @MOUNT@/<path:rest>
    methods: [GET, HEAD, POST]
    wsgi: tests.acceptance.apps.@NAME@_app:app
    mount: @MOUNT@
    python: 100%
"""


@dataclass(frozen=True)
class App:
    """One framework's application: where it is mounted on which site."""

    name: str
    mount: str
    site: BridgeSite

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        host = "shop.example.org"
        return ask(self.site.address, request(method, self.mount + path, host, headers, body))


PATHS = ("/page", "/broken", "/decline")
MOUNTS = {"turbogears": "/tg", "flask": "/flask", "django": "/django"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, php: PhpServer) -> Iterator[BridgeSite]:
    routes = SITE.replace("@PHP@", php.url)
    for name, mount in MOUNTS.items():
        routes += ROUTE.replace("@NAME@", name).replace("@MOUNT@", mount)
    with BridgeSite(tmp_path_factory.mktemp("frameworks"), routes) as site:
        yield site


@pytest.fixture(params=MOUNTS)
def app(request: pytest.FixtureRequest, site: BridgeSite) -> App:
    return App(request.param, MOUNTS[request.param], site)


def values_of(answer: Answer) -> dict[str, str]:
    """The lines `name=value` of a page."""
    lines = answer.body.decode().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_a_page_is_the_applications(app: App) -> None:
    answer = app.ask("GET", "/page?word=gr%C3%BC%C3%9Fe")
    assert answer.status == 200
    assert answer.body.startswith(f"{app.name} page\n".encode())
    assert values_of(answer)["word"] == "grüße"


def test_links_keep_the_prefix_and_the_public_host(app: App) -> None:
    page = values_of(app.ask("GET", "/page"))
    assert page["link"] == f"{app.mount}/page"
    assert page["absolute"] == f"http://shop.example.org{app.mount}/page"


def test_links_are_https_when_the_trusted_proxy_says_so(app: App) -> None:
    page = values_of(app.ask("GET", "/page", {"X-Forwarded-Proto": "https"}))
    assert page["absolute"] == f"https://shop.example.org{app.mount}/page"


def test_the_application_sees_the_visitor_and_not_the_proxy(app: App) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
    assert values_of(app.ask("GET", "/page", forwarded))["visitor"] == "203.0.113.9"


def test_cookies_go_both_ways_one_by_one(app: App) -> None:
    answer = app.ask("GET", "/page", {"Cookie": "basket=pears; other=1"})
    assert values_of(answer)["cookie"] == "pears"
    basket, colour = answer.all("Set-Cookie")
    assert basket.startswith("basket=apples;")
    assert f"Path={app.mount}" in basket
    assert "HttpOnly" in basket
    assert colour.startswith("colour=red;")


def test_head_is_the_page_without_its_body(app: App) -> None:
    answer = app.ask("HEAD", "/page")
    assert (answer.status, answer.body) == (200, b"")
    assert len(answer.all("Set-Cookie")) == 2


def test_a_posted_body_arrives_whole(app: App) -> None:
    body = bytes(range(256)) * 4000
    answer = app.ask("POST", "/echo", {"Content-Type": "application/x-thing"}, body)
    assert answer.body == body
    assert (answer.get("Content-Type") or "").startswith("application/x-thing")


def test_a_form_with_a_file_arrives(app: App) -> None:
    file = b"\r\n--front" * 2000
    body = (
        b'--frontier\r\nContent-Disposition: form-data; name="name"\r\n\r\nAnna\r\n'
        b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + file + b"\r\n--frontier--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=frontier"}
    answer = app.ask("POST", "/form", kind, body)
    assert answer.body == b"name=Anna file=%d" % len(file)


def test_a_stream_arrives_whole_with_its_request_still_known(app: App) -> None:
    answer = app.ask("GET", "/stream")
    assert answer.get("Content-Length") is None
    assert answer.body == b"".join(b"/stream %d\n" % number for number in range(5))


def test_a_page_that_fails_is_answered_by_legacy(app: App) -> None:
    answer = app.ask("GET", "/broken?a=1")
    assert answer.status == 200
    assert answer.body.startswith(f"php GET {app.mount}/broken?a=1\n".encode())


def test_a_failed_post_is_not_done_again_by_legacy(app: App) -> None:
    answer = app.ask("POST", "/broken", {"Content-Type": "text/plain"}, b"buy")
    assert answer.status == 500
    assert b"php POST" not in answer.body
    assert b"on purpose" not in answer.body
    assert answer.get("X-Side") is None


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_the_application_declines_is_answered_by_legacy(app: App, method: str) -> None:
    body = b"the whole body" if method == "POST" else None
    answer = app.ask(method, "/decline", {"Content-Type": "text/plain"}, body)
    assert answer.status == 200
    assert answer.body.startswith(f"php {method} {app.mount}/decline\n".encode())
    assert values_of(answer)["body"] == (body or b"").decode()
    assert answer.get("X-Bridge-Use-Legacy") is None


def test_what_is_not_mounted_is_legacys(app: App) -> None:
    for path in ("", "/", "-other/page"):
        answer = app.ask("GET", path)
        assert answer.body.startswith(f"php GET {app.mount}{path}\n".encode())


def test_the_access_log_says_who_answered_and_why(app: App) -> None:
    ids = {path: f"id-of-{app.name}{path.replace('/', '-')}" for path in PATHS}
    for path, request_id in ids.items():
        # The trusted proxy in front may name a request; the name is found again in the log.
        app.ask("GET", path, {"X-Request-Id": request_id})

    def lines() -> list[dict[str, Any]]:
        logged = {line["request_id"]: line for line in app.site.log()}
        return [logged[i] for i in ids.values() if i in logged]

    page, broken, declined = wait_for(lambda: len(lines()) == len(ids) and lines(), what="the log")
    assert page["route"] == broken["route"] == declined["route"] == app.name
    assert page["backend"] == "python"
    assert broken["backend"] == declined["backend"] == "php"
    assert broken["fallback"] in ("python-error", "python-5xx")
    assert (declined["fallback"], declined["fallback_detail"]) == ("declined", "not ready")
