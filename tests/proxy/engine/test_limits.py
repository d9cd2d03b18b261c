"""Visitors who take their time: each limit ends the connection that exceeds it, and no other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from bridge.proxy.engine.limits import Limits
from tests.proxy.engine.inside import HOST, Inside, engine
from tests.proxy.engine.wired import Wired
from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.visitor import Visitor, request
from tests.proxy.site import TOP, table


@pytest.fixture
def inside(backend: Backend) -> Iterator[Inside]:
    """An engine in a thread of this process, whose limits are short."""
    routes = table(top=TOP.replace(":8090", f":{backend.port}"))
    with engine(routes, limits=Limits(head=0.6, idle=1.2, stall=0.6)) as running:
        yield running


@pytest.fixture
def address(inside: Inside) -> tuple[str, int]:
    return inside.address


def test_who_is_let_go_did_not_leave() -> None:
    wired = Wired()
    visitor, wire = wired.visit()
    visitor.data_received(request("GET", "/", host=HOST))
    wired.legacy[0].send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    assert visitor.turn
    outcome = visitor.turn.conversation.outcome
    visitor.pause_writing()
    visitor.look(visitor.deadline)
    assert wire.closed == "aborted"
    assert outcome.aborted == "bridge: the visitor took less than 128 bytes/s for 60 s"


def test_a_head_that_trickles_in_is_a_408(address: tuple[str, int]) -> None:
    with Visitor(address) as visitor:
        visitor.send(b"GET / HTTP/1.1\r\nHost: forge.example\r\n")
        got = visitor.answer()
        assert (got.status, got.get("Connection")) == (408, "close")
        assert visitor.ended()


def test_bytes_now_and_then_do_not_extend_the_limit_of_a_head(address: tuple[str, int]) -> None:
    pause = threading.Event()
    with Visitor(address) as visitor:
        visitor.send(b"GET / HTTP/1.1\r\n")
        for _ in range(40):
            try:
                visitor.send(b"X-A: b\r\n")
            except OSError:
                break
            pause.wait(0.1)
        else:
            raise AssertionError("four seconds, and the head is still waited for")


def test_a_connection_without_a_request_is_ended(address: tuple[str, int]) -> None:
    with Visitor(address) as visitor:
        assert visitor.ended()


def test_a_kept_connection_is_ended_when_nothing_more_is_asked(address: tuple[str, int]) -> None:
    with Visitor(address) as visitor:
        visitor.send(request("GET", "/", host=HOST))
        assert visitor.answer().body == b"ok"
        assert visitor.ended()


def test_a_visitor_who_takes_nothing_is_ended(inside: Inside, backend: Backend) -> None:
    """The answer is larger than all that kernels keep of it."""
    backend.when("/large", plain(body=b"x" * 60_000_000))
    with inside.visitor() as visitor:
        visitor.send(request("GET", "/large", host=HOST))
        got = visitor.head()
        inside.wait_until_empty()
        visitor._read_body(got, "GET")
    assert not got.whole


def test_who_has_said_everything_still_gets_the_answer(
    address: tuple[str, int], backend: Backend
) -> None:
    """A half-closed connection."""
    with Visitor(address) as visitor:
        visitor.send(request("POST", "/", host=HOST, body=b"x"))
        visitor.sock.shutdown(socket.SHUT_WR)
        assert visitor.answer().body == b"ok"
        assert visitor.ended()


def test_what_is_asked_at_once_is_answered_in_order(
    address: tuple[str, int], backend: Backend
) -> None:
    """The first answer comes last from legacy."""
    late = threading.Event()

    def slow(call: object) -> None:
        late.wait(0.3)
        call.send(plain(body=b"first"))  # type: ignore[attr-defined]

    backend.when("/first", slow)
    paths = ["/first", *(f"/{n}" for n in range(20))]
    for path in paths[1:]:
        backend.when(path, plain(body=path.encode()))
    with Visitor(address) as visitor:
        visitor.send(b"".join(request("GET", path, host=HOST) for path in paths))
        answers = [visitor.answer().body for _ in paths]
    assert answers == [b"first", *(path.encode() for path in paths[1:])]
