"""A gate that waits for a visitor's own edit holds up that visitor, and nobody else.

The gate here waits until the test lets it go on: a real one waits at most a tenth of a second,
which shows nothing about who waits for whom.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import threading
from collections.abc import Collection, Iterable, Iterator
from contextvars import Context
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import uvloop

from bridge.proxy.engine.engine import Engine
from bridge.proxy.engine.visitor import Visitor as Protocol
from bridge.proxy.front import Front
from bridge.proxy.python.threads import HandlerThreads
from tests.proxy.shells.double import BOUND, Backend, plain
from tests.proxy.shells.visitor import Answer, Visitor, request
from tests.proxy.site import TOP, table

own: contextvars.ContextVar[str] = contextvars.ContextVar("own", default="")
threads: set[int] = set()
"""Those that the gate was asked on."""


def shows(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("X-Own", own.get() or "none")])
    return [b"python"]


class Wants:
    """What a visitor's cookie asks for: its value."""

    refused = False
    outcome = "waited"

    def __init__(self, value: str) -> None:
        self.value = value

    def settled(self, now: float) -> bool:
        return False

    def context(self) -> Context:
        context = contextvars.Context()
        context.run(own.set, self.value)
        return context


class Waits:
    """A gate that waits for the test, and then lets in who wants to see `has`."""

    cookie = "bv"
    marker = None
    log: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()

    def wanted(self, cookies: Iterable[str]) -> Wants | None:
        return Wants(next(iter(cookies)))

    def ensure(self, wanted: Wants, reads: Collection[str]) -> bool:
        threads.add(threading.get_ident())
        self.asked.release()
        assert self.go.wait(BOUND)
        return wanted.value == "has"


class Site:
    """An engine in a thread of this process, with a gate and two threads for handlers."""

    def __init__(self, backend: Backend) -> None:
        self.gate = Waits()
        routes = table(
            f"name: shows, path: /shows, wsgi: '{__name__}:shows', python: 100%",
            top=TOP.replace(":8090", f":{backend.port}"),
        )
        self._front = Front(lambda: routes, gate=self.gate, tunnels=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._loop = uvloop.new_event_loop()
        self._over = asyncio.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        engine = Engine(self._front, HandlerThreads(2), self._loop)
        server = await self._loop.create_server(lambda: Protocol(engine), sock=self._listener)
        engine.start()
        await self._over.wait()
        server.close()
        for visitor in list(engine.visitors):
            visitor.transport.abort()
        for upstream in engine.upstreams.all():
            upstream.close()
        await asyncio.sleep(0.05)

    def visit(self, path: str, cookie: str = "") -> Visitor:
        """A visitor who has asked."""
        visitor = Visitor(self._listener.getsockname())
        lines = [f"Cookie: bv={cookie}"] if cookie else []
        visitor.send(request("GET", path, *lines, host="forge.example"))
        return visitor

    def ask(self, path: str, cookie: str = "") -> Answer:
        with self.visit(path, cookie) as visitor:
            return visitor.answer()

    def close(self) -> None:
        self.gate.go.set()
        self._loop.call_soon_threadsafe(self._over.set)
        self.thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    threads.clear()
    with Backend() as backend:
        backend.when("/shows", plain(body=b"legacy"))
        backend.when("/page", plain(body=b"page"))
        site = Site(backend)
        yield site
        site.close()


def test_while_it_waits_legacy_and_other_handlers_answer(site: Site) -> None:
    with site.visit("/shows", "has") as waiting:
        assert site.gate.asked.acquire(timeout=BOUND)
        assert site.ask("/page").body == b"page"
        assert site.ask("/shows").body == b"python"
        site.gate.go.set()
        answer = waiting.answer()
    assert (answer.body, answer.get("X-Own")) == (b"python", "has")
    assert site.thread.ident not in threads


def test_while_it_waits_on_every_handler_thread_legacy_answers(site: Site) -> None:
    with site.visit("/shows", "has") as one, site.visit("/shows", "has") as two:
        for _ in range(2):
            assert site.gate.asked.acquire(timeout=BOUND)
        assert site.ask("/page").body == b"page"
        site.gate.go.set()
        assert [one.answer().body, two.answer().body] == [b"python", b"python"]


def test_legacy_answers_who_cannot_have_their_own_edit(site: Site) -> None:
    site.gate.go.set()
    assert site.ask("/shows", "has not").body == b"legacy"


def test_a_visitor_who_leaves_while_it_waits_takes_no_thread_along(site: Site) -> None:
    for _ in range(2):
        visitor = site.visit("/shows", "has")
        assert site.gate.asked.acquire(timeout=BOUND)
        visitor.leave()
    assert site.ask("/page").body == b"page"
    site.gate.go.set()
    assert [site.ask("/shows", "has").body for _ in range(4)] == [b"python"] * 4
