"""A visitor who goes away is no failure of legacy, and legacy's work for them ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

CHUNKED = plain("200 OK", "Transfer-Encoding: chunked", length=False, body=b"")


class Endless:
    """A script whose body never ends; `ended` says that the bridge hung up."""

    def __init__(self, head: bytes) -> None:
        self.head, self.ended = head, False

    def __call__(self, call: Call) -> None:
        call.send(self.head)
        try:
            while True:
                call.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        except OSError:
            self.ended = True


def test_a_visitor_who_leaves_a_download_ends_it(bridge: Bridge, backend: Backend) -> None:
    """The connection to legacy is closed, and the access log blames nobody."""
    script = Endless(CHUNKED)
    backend.when("/endless", script)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/endless"))
        assert visitor.head().status == 200
        assert visitor.chunk()
        visitor.leave()
    record = bridge.outcome("/endless")
    assert record["aborted"] == "visitor left"
    assert (record["status"], record["backend"]) == (200, "main")
    assert "error" not in record
    assert "fallback" not in record
    wait_for(lambda: script.ended, BOUND, "the end of the legacy connection")


def test_a_visitor_who_left_is_noticed_at_the_next_byte(bridge: Bridge, backend: Backend) -> None:
    """WSGI has no way to say that a visitor is gone while legacy is silent; the next two pieces
    of a stream find out, and the limit between them ends a stream without any."""
    left: list[bool] = []

    def script(call: Call) -> None:
        call.send(CHUNKED + b"5\r\nfirst\r\n")
        gone.wait(BOUND)
        try:
            for _ in range(10_000):
                call.send(b"4\r\nmore\r\n")
        except OSError:
            left.append(True)
        else:
            left.append(call.left())

    gone = threading.Event()
    backend.when("/events", script)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/events"))
        visitor.head()
        assert visitor.chunk() == b"first"
        visitor.leave()
    gone.set()
    assert bridge.outcome("/events")["aborted"] == "visitor left"
    wait_for(lambda: left, BOUND, "the end of the legacy connection")
    assert left == [True]


def test_a_visitor_who_leaves_an_upload_is_no_failure_of_legacy(
    bridge: Bridge, backend: Backend
) -> None:
    """Legacy sees its connection end before the announced length: no half request is done."""
    ended: list[bool] = []

    def script(call: Call) -> None:
        call.read(1000)
        ended.append(call.left())

    backend.when("/upload", script)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/upload", "Content-Length: 5000") + b"x" * 1000)
        backend.wait("/upload")
        visitor.leave()
    record = bridge.outcome("/upload")
    assert record["backend"] == "bridge"
    assert record["error"].startswith("the request body ")
    wait_for(lambda: ended, BOUND, "the end of the legacy connection")
    assert ended == [True]


def test_a_connection_without_a_request_is_no_request(bridge: Bridge, backend: Backend) -> None:
    """Browsers open connections ahead; a head that breaks off is none either."""
    for raw in (b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: main.test\r\n"):
        with bridge.visitor() as visitor:
            visitor.send(raw)
    assert bridge.ask("GET", "/after").status == 200
    bridge.outcome("/after")
    assert [record["path"] for record in bridge.outcomes()] == ["/after"]


def test_the_generator_of_a_handler_is_closed_when_the_visitor_leaves(
    bridge: Bridge, events: Path, release: Callable[[], bool]
) -> None:
    """PEP 3333: `close` is called, whatever happened; it is when the handler makes its next
    piece that the visitor's absence shows."""
    before = events.read_text().count("closed")
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/py/streaming", host="python.test"))
        visitor.head()
        assert visitor.chunk() == b"one"
        assert visitor.chunk() == b"two"
        visitor.leave()

    def closed() -> bool:
        release()
        return events.read_text().count("closed") > before

    wait_for(closed, BOUND, "the close of the handler's iterable")
    assert bridge.outcome("/py/streaming")["aborted"] == "visitor left"


@pytest.mark.slow
def test_visitors_who_stay_after_their_answer_hold_nobody_up(
    bridge: Bridge, backend: Backend
) -> None:
    """gunicorn would wait for each of them, two seconds, in the thread that accepts
    connections: with ten of them the last request would come far too late."""
    stay = []
    for _ in range(10):
        visitor = bridge.visitor()
        stay.append(visitor)
        visitor.send(request("GET", "/bye", "Connection: close"))
        assert visitor.answer().status == 200
    assert bridge.ask("GET", "/me").status == 200
    for visitor in stay:
        visitor.sock.close()
