"""A site behind the real bridge, in this process, which writes a real access log while its shares
are flipped: splits, previews, failures, odd targets, visitors without keys, and reloads."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from werkzeug.test import EnvironBuilder, run_wsgi_app

from bridge.proxy.decision import preview
from bridge.proxy.front import Front
from bridge.proxy.request.cookies import PREVIEW_COOKIE, SHARE_COOKIE
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.telemetry.accesslog import AccessLog
from bridge.proxy.tools.flip import flip
from bridge.proxy.wsgi.dispatcher import Dispatcher

__all__ = ["SECRET", "Site", "site"]

SECRET = "a secret of the tests"
ROUTES = """\
version: 1
sites:
  forge: {{hosts: [forge.example], legacy: php}}
  shop: {{hosts: [shop.example], legacy: php, sticky: {{header: X-Key}}}}
  dark: {{hosts: [dark.example], legacy: dead}}
backends:
  php: {{url: "http://127.0.0.1:{port}"}}
  old: {{url: "http://127.0.0.1:{port}"}}
  dead: {{url: "http://127.0.0.1:1"}}
groups:
  lists:
    python: 10%
routes:
  - {{name: front, path: /, handler: "{page}", group: lists, site: '*'}}
  - {{name: list, path: /list, handler: "{page}", group: lists, site: '*'}}
  - name: project
    path: /project/<name>
    handler: "{page}"
    site: '*'
    methods: [GET, HEAD, POST]
    python: 30%
  - name: whole
    path: /whole/<int:id>
    site: '*'
    handler: "{page}"
    legacy: old
    python: 100%
  - name: bug
    path: /bug/<int:id>
    site: '*'
    handler: "{page}"
    fallback: false
    python: 40%
  - {{name: gone, path: /gone, handler: "no.such.module:page", site: '*', python: 50%}}
  - {{name: php-only, path: /php/<path:rest>, site: '*'}}
"""
SHARES = {
    "project": ("5%", "30%", "80%", "100%", "0%"),
    "lists": ("10%", "0.5%", "60%"),
    "whole": ("100%", "33.333%"),
    "bug": ("40%", "90%"),
}


class _Php(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(302 if self.command == "POST" else 200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"php")

    do_POST = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, *words: object) -> None:
        pass


@dataclass
class Site:
    """`ask` asks for so many pages; `routes` is its file, `log` what was written."""

    routes: Path
    log: Path
    dispatcher: Dispatcher
    reload: Callable[[], None]
    chance: random.Random
    now: list[float]
    flips: int = 0
    asked: int = 0
    visitors: list[str] = field(default_factory=list)

    def ask(self, requests: int) -> None:
        for _ in range(requests):
            self._one()
            self.asked += 1

    def flip(self) -> None:
        """Another share of something, and the table is live."""
        name = self.chance.choice(list(SHARES))
        share = self.chance.choice(SHARES[name])
        flip(self.routes, name, share, who="tests", why="more of them")
        self.reload()
        self.flips += 1

    def _one(self) -> None:
        chance = self.chance
        number = chance.randrange(10**6)
        path = chance.choice(
            [
                "/", "/list?page=2", f"/project/p{number}", f"/whole/{number}", f"/bug/{number}",
                "/gone", f"/php/{number}/x", f"/none/{number}", "//odd", "/a/../b", "/%zz",
                "/project/%C3%A9",
            ]
        )  # fmt: skip
        if chance.random() < 0.1:
            fate = chance.choice(["declines", "raises", "500"])
            path += f"{'&' if '?' in path else '?'}fate={fate}"
        host = chance.choices(
            ["forge.example", "shop.example", "dark.example", "strange.example"], [80, 14, 3, 3]
        )[0]
        headers = {"Host": host}
        cookies = []
        if chance.random() < 0.8:
            cookies.append(f"{SHARE_COOKIE}={chance.choice(self.visitors)}")
        if chance.random() < 0.05:
            side = chance.choice(["python", "legacy"])
            secret = SECRET if chance.random() < 0.8 else "another"
            value = preview.make(secret, side, preview.EVERY_ROUTE, 4_000_000_000)  # type: ignore[arg-type]
            cookies.append(f"{PREVIEW_COOKIE}={value}")
        if cookies:
            headers["Cookie"] = "; ".join(cookies)
        if chance.random() < 0.7:
            headers["X-Key"] = chance.choice(self.visitors)
        method = chance.choices(["GET", "HEAD", "POST", "OPTIONS"], [80, 8, 10, 2])[0]
        raw = path.partition("?")
        environ = EnvironBuilder(
            method=method, path="/", headers=headers, data=b"a=1" if method == "POST" else None
        ).get_environ()
        environ |= {
            "RAW_URI": path, "REQUEST_URI": path, "PATH_INFO": raw[0], "QUERY_STRING": raw[2],
            "HTTP_HOST": host, "REMOTE_ADDR": f"192.0.2.{chance.randrange(1, 200)}",
        }  # fmt: skip
        self.now[0] += chance.random()
        answer, _, _ = run_wsgi_app(self.dispatcher, environ, buffered=True)
        for _ in answer:
            pass


@contextmanager
def site(folder: Path, seed: int = 1) -> Iterator[Site]:
    """A site that runs, with a log that is whole when it has ended."""
    php = ThreadingHTTPServer(("127.0.0.1", 0), _Php)
    php.daemon_threads = True
    threading.Thread(target=php.serve_forever, daemon=True).start()
    routes, log = folder / "routes.yaml", folder / "access.log"
    page = "tests.evidence.plan.handlers:page"
    routes.write_text(ROUTES.format(port=php.server_port, page=page))
    tables = [load(routes, handlers=Handlers.WANTED)]

    def reload() -> None:
        before = tables[-1]
        tables.append(
            load(routes, generation=before.generation + 1, handlers=Handlers.WANTED, before=before)
        )

    now = [1_780_000_000.0]
    written = AccessLog(str(log), batched=True)
    front = Front(lambda: tables[-1], secret=SECRET, hooks=[written], clock=lambda: now[0])
    chance = random.Random(seed)
    dispatcher = Dispatcher(front)
    visitors = [f"visitor-{number:05}" for number in range(400)]
    try:
        yield Site(routes, log, dispatcher, reload, chance, now, visitors=visitors)
    finally:
        written.close()
        for pool in dispatcher.pools.all():
            pool.close()
        php.shutdown()
        php.server_close()
