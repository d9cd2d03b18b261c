"""Visitors of HTTP/1.0: no chunking, no kept connections unless they ask."""

from __future__ import annotations

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

CHUNKED = plain(
    "200 OK", "Transfer-Encoding: chunked", length=False, body=b"5\r\nhello\r\n0\r\n\r\n"
)


def test_they_get_no_chunks(bridge: Bridge, backend: Backend) -> None:
    backend.when("/", CHUNKED)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/", version="1.0"))
        got = visitor.answer()
        assert got.line == "HTTP/1.0 200 OK"
        assert got.get("Transfer-Encoding") is None
        assert got.body == b"hello"


def test_legacy_is_asked_in_http_1_1_all_the_same(bridge: Bridge, backend: Backend) -> None:
    """RFC 9110, 2.5: each hop has its own version."""
    bridge.ask("GET", "/", version="1.0")
    assert backend.only().line == b"GET / HTTP/1.1"


def test_their_connection_ends_with_the_answer(bridge: Bridge, backend: Backend) -> None:
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/", version="1.0"))
        got = visitor.answer()
        assert (got.body, got.get("Connection")) == (b"ok", "close")
        assert visitor.ended()


def test_they_may_ask_to_keep_it(bridge: Bridge, backend: Backend) -> None:
    with bridge.visitor() as visitor:
        for _ in range(2):
            visitor.send(request("GET", "/", "Connection: keep-alive", version="1.0"))
            got = visitor.answer()
            assert (got.body, got.get("Connection")) == (b"ok", "keep-alive")


def test_it_is_not_kept_where_its_end_is_the_end_of_the_body(
    bridge: Bridge, backend: Backend
) -> None:
    backend.when("/", CHUNKED)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/", "Connection: keep-alive", version="1.0"))
        got = visitor.answer()
        assert (got.body, got.get("Connection"), got.whole) == (b"hello", "close", True)


def test_they_may_post(bridge: Bridge, backend: Backend) -> None:
    assert bridge.ask("POST", "/", body=b"hello", version="1.0").status == 200
    assert backend.only().body == b"hello"
