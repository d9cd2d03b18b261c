"""What both shells copy of legacy's answers; visitors get theirs whatever becomes of a copy."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy
from bridge.evidence.shadow.intake import Intake
from bridge.proxy.decision.buckets import bucket
from bridge.proxy.front import Front
from bridge.proxy.shadow.copies import Copied
from bridge.proxy.shadow.tap import AWAY, CUT, FULL, OVER_RATE, SENT, Shadow
from bridge.proxy.wsgi.dispatcher import Dispatcher
from stack.waiting import wait_for
from tests.proxy.engine import inside
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import Answer, Visitor, request
from tests.proxy.site import table

HERE = "tests.proxy.shadow.test_tap"
HOST = "forge.example"


def page(request: Request) -> Response:
    return Response("from Python")


def declines(request: Request) -> Response:
    raise UseLegacy("not mine")


@dataclass
class Site:
    """A bridge in front of `backend`, and what came of its copies."""

    address: tuple[str, int]
    shadow: Shadow
    copies: list[Copied] = field(default_factory=list)

    def ask(self, *lines: str, method: str = "GET", target: str = "/page", **more: Any) -> Answer:
        with Visitor(self.address) as visitor:
            visitor.send(request(method, target, *lines, host=HOST, **more))
            return visitor.answer(method)

    def results(self, count: int = 1) -> dict[str, int]:
        """What became of the answers, when there are so many."""
        wait_for(lambda: sum(self.shadow.counts().values()) >= count, BOUND, "the copies")
        return {result: n for (_, result), n in self.shadow.counts().items()}

    def copied(self, count: int = 1) -> list[Copied]:
        wait_for(lambda: len(self.copies) >= count, BOUND, "the copies")
        return self.copies


Make = Callable[..., Site]


@pytest.fixture(scope="module")
def double() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def backend(double: Backend) -> Backend:
    double.clear()
    return double


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *arguments: object, **more: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def gthread(routes: Any, shadow: Shadow) -> Iterator[tuple[str, int]]:
    app = Dispatcher(Front(lambda: routes, shadow=shadow))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[0], server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        for pool in app.pools.all():
            pool.close()


@contextlib.contextmanager
def event(routes: Any, shadow: Shadow) -> Iterator[tuple[str, int]]:
    with inside.engine(routes, shadow=shadow) as running:
        yield running.address


@pytest.fixture(params=[event, gthread], ids=["event", "gthread"])
def make(request: pytest.FixtureRequest, backend: Backend, tmp_path: Path) -> Iterator[Make]:
    """make(spec, listens=True): a site whose page has `shadow: {spec}`."""
    with contextlib.ExitStack() as end:

        def made(
            spec: str = "share: 100%, rate: 1000/s",
            *,
            more: str = "python: 0%",
            view: str = "page",
            listens: bool = True,
            **options: Any,
        ) -> Site:
            top = (
                f"version: 1\nsites: {{forge: {{hosts: ['{HOST}'], legacy: php}}}}\n"
                f'backends: {{php: {{url: "http://127.0.0.1:{backend.port}"}}}}\nroutes:\n'
            )
            route = f'name: page, path: /page, handler: "{HERE}:{view}", methods: [GET, HEAD, POST]'
            routes = table(f"{route}, {more}, shadow: {{{spec}}}", top=top)
            shadow = Shadow(tmp_path, **options)
            site = Site(end.enter_context(request.param(routes, shadow)), shadow)
            if listens:
                end.enter_context(listening(tmp_path, site.copies.append))
            return site

        yield made


@contextlib.contextmanager
def listening(state_dir: Path, take: Callable[[Copied], None]) -> Iterator[None]:
    over = threading.Event()
    intake = Intake(state_dir, take, lambda: None)

    def run() -> None:
        while not over.is_set():
            intake.step(0.05)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        intake.close()


def test_a_copy_has_the_request_as_it_came_and_the_answer_as_it_went(
    make: Make, backend: Backend
) -> None:
    backend.when("/page", plain("200 Fine", "Set-Cookie: a=1", "X-Caf\xe9: \xe9", body=b"from PHP"))
    site = make()
    answer = site.ask("Cookie: a=1; b=2", "X-Who: m\xe9", target="/page?q=%41&q=a%2fb")
    (copied,) = site.copied()
    assert (copied.route, copied.method, copied.target) == ("page", "GET", "/page?q=%41&q=a%2fb")
    assert (copied.host, copied.scheme, copied.peer) == (HOST, "http", "127.0.0.1")
    sent = {name.lower(): value for name, value in copied.headers}
    assert (sent["cookie"], sent["x-who"]) == ("a=1; b=2", "m\xe9")
    assert (copied.status, copied.reason, copied.body) == (200, "Fine", b"from PHP")
    assert (copied.length, copied.whole) == (8, True)
    # The server adds some of its own to what the visitor gets.
    assert {n.lower(): v for n, v in copied.answer}.items() <= {
        n.lower(): v for n, v in answer.headers
    }.items() | {("connection", "close")}
    assert ("set-cookie", "a=1") in [(n.lower(), v) for n, v in copied.answer]
    assert site.results() == {SENT: 1}


@pytest.mark.parametrize("more", ["python: 0.001%", 'python: 0.001%, headers: {X-Some: "false"}'])
def test_what_a_share_adds_for_a_visitor_is_no_part_of_the_copy(
    make: Make, backend: Backend, more: str
) -> None:
    """Python is asked as at 100%, where nobody has to be kept on a side."""
    site = make(more=more)
    backend.when("/page", plain("200 OK", "Content-Type: text/html", "Cache-Control: max-age=9"))
    given = site.ask("X-Some: false")
    assert given.get("Cache-Control") != "max-age=9"
    assert given.get("Set-Cookie")
    (copied,) = site.copied()
    names = {name.lower(): value for name, value in copied.answer}
    assert names["cache-control"] == "max-age=9"
    assert "set-cookie" not in names
    assert names.get("vary") == ("X-Some" if "headers" in more else None)


@pytest.mark.parametrize("form", ["length", "chunks", "to the end"])
def test_the_body_is_copied_however_it_is_framed(make: Make, backend: Backend, form: str) -> None:
    body = bytes(range(256)) * 1000
    site = make()

    def script(call: Call) -> None:
        if form == "chunks":
            call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for at in range(0, len(body), 50_000):
                piece = body[at : at + 50_000]
                call.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            call.send(b"0\r\n\r\n")
        elif form == "length":
            call.send(plain(body=body))
        else:
            call.send(plain(body=body, length=False))
            call.close()

    backend.when("/page", script)
    assert site.ask().body == body
    assert site.copied()[0].body == body


def test_of_a_larger_body_length_and_digest_are_known(make: Make, backend: Backend) -> None:
    site = make("share: 100%, rate: 1000/s, body: 1KiB")
    for size in (1024, 1025, 500_000):
        body = bytes(size)
        backend.when("/page", plain(body=body))
        assert site.ask().body == body
    kept, over, large = site.copied(3)
    assert (kept.whole, kept.body) == (True, bytes(1024))
    for copied, size in ((over, 1025), (large, 500_000)):
        assert (copied.whole, copied.length, copied.body) == (False, size, b"")
        assert copied.sha256 == hashlib.sha256(bytes(size)).hexdigest()
    wait_for(lambda: site.shadow.room.held == 0, BOUND, "all room is given back")


def test_a_head_is_copied_and_a_post_never_is(make: Make, backend: Backend) -> None:
    site = make()
    site.ask(method="POST", body=b"a=1")
    site.ask(body=b"a=1")  # a GET with a body
    site.ask(method="HEAD")
    site.copied(1)
    site.ask()
    assert [copied.method for copied in site.copied(2)] == ["HEAD", "GET"]
    assert site.results() == {SENT: 2}


def test_what_says_too_little_of_the_page_is_not_copied(make: Make, backend: Backend) -> None:
    site = make()
    for line in ("304 Not Modified", "206 Partial Content"):
        backend.when("/page", plain(line, body=b"" if line.startswith("3") else b"ok"))
        site.ask()
    backend.when("/page", plain("404 Not Found"))
    site.ask()
    assert [copied.status for copied in site.copied()] == [404]


@pytest.mark.parametrize(("view", "more"), [("page", "python: 100%"), ("declines", "python: 100%")])
def test_what_python_was_asked_already_is_not_copied(make: Make, view: str, more: str) -> None:
    site = make(view=view, more=more)
    assert site.ask().status == 200
    assert site.shadow.counts() == {}


def test_an_answer_that_breaks_off_is_not_compared(make: Make, backend: Backend) -> None:
    site, seen = make(), threading.Event()

    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!")
        assert seen.wait(BOUND)
        call.close()

    backend.when("/page", script)
    with Visitor(site.address) as visitor:
        visitor.send(request("GET", "/page", host=HOST))
        assert visitor.head().status == 200
        seen.set()
        assert site.results() == {CUT: 1}
    assert site.shadow.room.held == 0


def test_a_visitor_is_in_with_all_of_their_pages(make: Make, backend: Backend) -> None:
    site = make("share: 50%, rate: 1000/s")
    keys = [f"visitor-{number}" for number in range(40)]
    for key in keys:
        for _ in range(2):
            site.ask(f"Cookie: bridge_share={key}")
    inside_ = [key for key in keys if bucket("route:page", key) < 50_000]
    assert 0 < len(inside_) < 40
    copies = site.copied(2 * len(inside_))
    found = [value for copied in copies for name, value in copied.headers if name == "Cookie"]
    assert sorted(found) == sorted(f"bridge_share={key}" for key in inside_ * 2)


def test_who_has_no_cookie_is_known_by_their_address_and_gets_none(
    make: Make, backend: Backend
) -> None:
    own = bucket("route:page", "127.0.0.1") / 1000
    out, into = make(f"share: {own:.3f}%"), make(f"share: {own + 0.001:.3f}%")
    for site in (out, into):
        assert site.ask().all("Set-Cookie") == []
    assert into.results() == {SENT: 1}
    assert out.shadow.counts() == {}


def test_more_than_the_rate_are_counted_and_not_copied(make: Make, backend: Backend) -> None:
    site = make("share: 100%, rate: 2/h")
    for _ in range(5):
        assert site.ask().status == 200
    assert site.results(5) == {SENT: 1, OVER_RATE: 4}


def test_nobody_notices_that_there_is_no_shadow(make: Make, backend: Backend) -> None:
    site = make(listens=False)
    for _ in range(3):
        assert site.ask().body == b"ok"
    assert site.results(3) == {AWAY: 3}
    assert site.shadow.room.held == 0


def test_a_shadow_that_takes_nothing_costs_copies_and_no_visitor_waits(
    make: Make, backend: Backend, tmp_path: Path
) -> None:
    body = bytes(300_000)
    backend.when("/page", plain(body=body))
    held = Intake(tmp_path, lambda copied: None, lambda: None)  # nobody lets it run
    site = make(listens=False, room=1_000_000, bound=0.5)
    try:
        for _ in range(12):
            assert site.ask().body == body
        results = site.results(12)
    finally:
        held.close()
    assert results[FULL] >= 8
    assert results.get(SENT, 0) <= 1  # what the kernel has taken


def test_a_new_shadow_gets_what_comes_from_then_on(
    make: Make, backend: Backend, tmp_path: Path
) -> None:
    site = make(listens=False)
    first: list[Copied] = []
    second: list[Copied] = []
    with listening(tmp_path, first.append):
        site.ask()
        wait_for(lambda: first, BOUND, "the first copy")
    with listening(tmp_path, second.append):

        def asked() -> list[Copied]:
            site.ask()
            return second

        wait_for(asked, BOUND, "a copy at the second")
    assert len(first) == 1
