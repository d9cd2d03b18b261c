"""A visitor who has hung up cancels their request; one who only sends no more gets the answer.

Both look the same at first: browsers and programs that go away in peace close their connection
without a reset.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from bridge.proxy.routing.table import RouteTable
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, Inside, engine, release, spoken
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import request
from tests.proxy.site import TOP, table

CHUNKED = plain("200 OK", "Transfer-Encoding: chunked", length=False, body=b"")
HANDLER = "tests.proxy.engine.inside:speaking"


class Silent:
    """A script that answers when it is told to. `left`: the bridge has hung up before that."""

    def __init__(self, first: bytes = b"") -> None:
        self.first, self.answer, self.left = first, threading.Event(), threading.Event()

    def __call__(self, call: Call) -> None:
        call.body()
        call.send(self.first)
        call.sock.settimeout(0.02)
        while not self.answer.is_set():
            try:
                call.sock.recv(1)
            except TimeoutError:
                continue
            self.left.set()
            return
        call.sock.settimeout(BOUND)
        call.send(plain(body=b"at last"))


@pytest.fixture
def routes(backend: Backend) -> RouteTable:
    return table(
        f'name: speaking, path: /speaking, handler: "{HANDLER}", python: 100%, timeout: 1h',
        top=TOP.replace(":8090", f":{backend.port}"),
    )


@pytest.fixture
def inside(routes: RouteTable) -> Iterator[Inside]:
    spoken.clear()
    with engine(routes) as inside:
        yield inside


def in_flight(inside: Inside) -> int:
    return inside.look(lambda: sum(pool.in_flight for pool in inside.engine.upstreams.all()))


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_legacy_is_let_go_when_a_visitor_hangs_up(
    inside: Inside, backend: Backend, method: str
) -> None:
    silent = Silent()
    backend.when("/slow", silent)
    body = b"x" if method == "POST" else None
    with inside.visitor() as visitor:
        visitor.send(request(method, "/slow", host=HOST, body=body))
        backend.wait("/slow")
    assert silent.left.wait(BOUND)
    inside.wait_until_empty()
    assert in_flight(inside) == 0


def test_who_only_sends_no_more_gets_the_answer(inside: Inside, backend: Backend) -> None:
    """They may wait longer than it takes to find out about others."""
    silent = Silent()
    backend.when("/slow", silent)
    with inside.visitor() as visitor:
        visitor.send(request("GET", "/slow", host=HOST))
        visitor.sock.shutdown(socket.SHUT_WR)
        assert not silent.left.wait(1.5)
        silent.answer.set()
        got = visitor.answer()
        assert (got.status, got.body) == (200, b"at last")
        assert [interim.line for interim in got.interim] == ["HTTP/1.1 100 Continue"]
        assert visitor.ended()
    assert not silent.left.is_set()


def test_nobody_of_http_1_0_gets_an_answer_that_they_do_not_know(
    inside: Inside, backend: Backend
) -> None:
    silent = Silent()
    backend.when("/slow", silent)
    with inside.visitor() as visitor:
        visitor.send(f"GET /slow HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        visitor.sock.shutdown(socket.SHUT_WR)
        assert not silent.left.wait(1.5)
        silent.answer.set()
        got = visitor.answer()
        assert (got.status, got.body, got.interim) == (200, b"at last", [])


def test_what_was_asked_ahead_is_answered_to_who_sends_no_more(
    inside: Inside, backend: Backend
) -> None:
    silent = Silent()
    backend.when("/slow", silent)
    with inside.visitor() as visitor:
        visitor.send(request("GET", "/slow", host=HOST) + request("GET", "/next", host=HOST))
        visitor.sock.shutdown(socket.SHUT_WR)
        silent.answer.set()
        assert visitor.answer().body == b"at last"
        assert visitor.answer().body == b"ok"
        assert visitor.ended()


def test_who_hangs_up_in_a_stream_ends_it_at_its_next_piece(
    inside: Inside, backend: Backend
) -> None:
    """Legacy says one more word, and nothing after it."""
    ended = threading.Event()

    def script(call: Call) -> None:
        call.send(CHUNKED + b"5\r\nfirst\r\n")
        release.wait(BOUND)
        call.send(b"4\r\nmore\r\n")
        if call.left():
            ended.set()

    backend.when("/events", script)
    with inside.visitor() as visitor:
        visitor.send(request("GET", "/events", host=HOST))
        visitor.head()
        assert visitor.chunk() == b"first"
    release.set()
    assert ended.wait(BOUND)
    inside.wait_until_empty()


@pytest.mark.parametrize("query", ["", "?first"], ids=["silent", "streaming"])
def test_the_handler_of_a_visitor_who_hung_up_is_closed(inside: Inside, query: str) -> None:
    with inside.visitor() as visitor:
        visitor.send(request("GET", f"/speaking{query}", host=HOST))
        if query:
            visitor.head()
            assert visitor.chunk() == b"first"
        else:
            wait_for(lambda: inside.engine.handlers.running, BOUND, "the handler")
    if not query:
        inside.wait_until_empty()
    release.set()
    wait_for(lambda: spoken == ["closed"], BOUND, "the end of the handler's answer")
    inside.wait_until_empty()


def test_a_connection_that_changed_its_backend_keeps_its_time_limits(backend: Backend) -> None:
    """routes.yaml was reloaded with other timeouts while a request was with legacy: nobody asks
    the old pool any more, but it still has who waits."""
    backend.when("/never", Silent())
    before, after = (
        table(
            top=TOP.replace('8090"', f'{backend.port}", timeouts: {{first_byte: {limit}}}'),
            generation=generation,
        )
        for generation, limit in ((1, "700ms"), (2, "30s"))
    )
    with engine(before) as inside, inside.visitor() as waiting:
        waiting.send(request("GET", "/never", host=HOST))
        backend.wait("/never")
        inside.table = after
        with inside.visitor() as visitor:
            visitor.send(request("GET", "/", host=HOST))
            assert visitor.answer().status == 200
        assert waiting.answer().status == 504
        wait_for(
            lambda: inside.look(lambda: len(inside.engine._watched)) == len(after.file.backends),
            BOUND,
            "the old pool to be forgotten",
        )
