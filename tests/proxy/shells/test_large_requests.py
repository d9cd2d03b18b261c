"""`max_body`, and heads that are too large."""

from __future__ import annotations

import contextlib

import pytest

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

HOST = "limited.test"  # max_body: 1KiB


def chunks(size: int) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)


def test_a_body_of_the_largest_size_is_taken(bridge: Bridge, backend: Backend) -> None:
    assert bridge.ask("POST", "/up", host=HOST, body=b"x" * 1024).status == 200
    raw = request("POST", "/up", "Transfer-Encoding: chunked", host=HOST)
    assert bridge.send(raw + chunks(1024)).status == 200
    assert [len(received.body) for received in backend.received] == [1024, 1024]


def test_an_announced_body_that_is_too_large_is_a_413(bridge: Bridge, backend: Backend) -> None:
    """Before a byte of it was read: the visitor need not send it."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", "Content-Length: 1025", host=HOST))
        assert visitor.answer().status == 413
    assert backend.received == []


def test_a_chunked_body_that_grows_too_large_is_a_413(bridge: Bridge, backend: Backend) -> None:
    """Legacy gets no last chunk, so it does not take what it has for the whole."""
    ended: list[bytes] = []

    def script(call: Call) -> None:
        try:
            call.body()
        except OSError:
            ended.append(call.received.body)
            raise
        ended.append(b"a whole body")

    backend.when("/grows", script)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/grows", "Transfer-Encoding: chunked", host=HOST))
        backend.wait("/grows")
        visitor.send(chunks(1025))
        assert visitor.answer().status == 413
    wait_for(lambda: ended, BOUND, "the end of the legacy connection")
    assert ended[0] != b"a whole body"


def test_a_handlers_body_has_the_same_limit(bridge: Bridge, backend: Backend) -> None:
    """It is the site's, whoever answers. (`python.test` has none.)"""
    body = b"x" * 100_000
    assert bridge.ask("POST", "/py/echo", host="python.test", body=body).body == body


def test_a_body_for_python_has_a_limit_where_the_site_has_none(
    bridge: Bridge, backend: Backend
) -> None:
    """It is kept here until all of it has come."""
    size = 32 * 2**20 + 1
    with bridge.visitor() as visitor:
        length = f"Content-Length: {size}"
        visitor.send(request("POST", "/py/echo", length, host="python.test"))
        assert visitor.answer().status == 413
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/py/echo", "Transfer-Encoding: chunked", host="python.test"))
        with contextlib.suppress(OSError):  # it is not read to its end
            visitor.send(chunks(size))
        assert visitor.answer().status == 413
    assert backend.received == []


@pytest.mark.parametrize(
    "lines",
    [["X-Large: " + "x" * 20_000], [f"X-{n}: 1" for n in range(200)]],
    ids=["one large field", "many fields"],
)
def test_a_head_that_is_too_large_is_a_431(
    bridge: Bridge, backend: Backend, lines: list[str]
) -> None:
    got = bridge.ask("GET", "/", *lines)
    assert got.status == 431
    assert b"xxx" not in got.body
    assert backend.received == []


def test_a_large_head_that_is_allowed_goes_through(bridge: Bridge, backend: Backend) -> None:
    """Cookies grow; 16 KiB in one field is what browsers may send."""
    bridge.ask("GET", "/", f"Cookie: a={'x' * 16_000}")
    assert backend.only().all("Cookie") == [f"a={'x' * 16_000}"]
