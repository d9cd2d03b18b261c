"""1xx answers are never taken for the final one, and `Expect: 100-continue` never hangs."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, Call, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

EXPECT = "Expect: 100-continue"


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 ?"])
@pytest.mark.parametrize("count", [1, 3])
def test_an_interim_answer_of_legacy_is_not_the_final_one(
    bridge: Bridge, backend: Backend, status: str, count: int
) -> None:
    interim = f"HTTP/1.1 {status}\r\nX-Interim: 1\r\n\r\n".encode()
    backend.when("/", interim * count + plain(body=b"final"))
    got = bridge.ask("GET", "/")
    assert (got.status, got.body, got.get("X-Interim")) == (200, b"final", None)


def test_an_interim_answer_may_come_long_before_the_final_one(
    bridge: Bridge, backend: Backend
) -> None:
    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 100 Con")
        call.send(b"tinue\r\n\r\nHTTP/1.1 100 Continue\r\n\r")
        call.send(b"\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal")

    backend.when("/", script)
    assert bridge.ask("GET", "/").body == b"final"


def test_early_hints_are_passed_on(bridge: Bridge, backend: Backend) -> None:
    """Their Link headers only: that is what hints are."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Secret: 1\r\n\r\n"
    backend.when("/", hints + plain(body=b"final"))
    got = bridge.ask("GET", "/")
    (early,) = got.interim
    assert (early.status, early.headers) == (103, [("Link", "</a.css>; rel=preload")])
    assert got.body == b"final"


def test_visitors_of_http_1_0_get_no_hints(bridge: Bridge, backend: Backend) -> None:
    """They would take them for the answer."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    backend.when("/", hints + plain(body=b"final"))
    got = bridge.ask("GET", "/", version="1.0")
    assert (got.interim, got.status, got.body) == ([], 200, b"final")


def test_a_visitor_who_expects_100_gets_it_and_then_the_answer(
    bridge: Bridge, backend: Backend
) -> None:
    """gunicorn says 100 before the application sees the request, so legacy is not asked first
    (RFC 9110, 10.1.1, lets a proxy do that); Expect is not passed on, having been met. The
    engine asks legacy, and says 100 itself when legacy, like here, says nothing for a second."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", EXPECT, "Content-Length: 5"))
        assert visitor._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        visitor.send(b"hello")
        assert visitor.answer().status == 200
    assert backend.only().body == b"hello"
    asked = "100-continue" if bridge.engine == "event" else None
    assert backend.only().get("Expect") == asked


def test_legacys_100_reaches_the_visitor_once(bridge: Bridge, backend: Backend) -> None:
    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        call.body()
        call.send(plain())

    backend.when("/up", script)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", EXPECT, "Content-Length: 5"))
        assert visitor._until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        visitor.send(b"hello")
        got = visitor.answer()
        assert (got.status, got.interim) == (200, [])
    assert backend.only().body == b"hello"


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_a_final_answer_without_the_body_is_passed_on(
    bridge: Bridge, backend: Backend, framing: str
) -> None:
    """The visitor never sends the body, legacy never reads it, and nobody waits for it."""
    refused = plain("413 Content Too Large", body=b"too much")
    backend.when("/up", lambda call: call.send(refused))
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", EXPECT, framing))
        got = visitor.answer()
        assert (got.status, got.body) == (413, b"too much")


def test_a_final_answer_without_the_body_says_that_the_connection_ends(
    bridge: Bridge, backend: Backend
) -> None:
    """What would follow on it is either the body or not, and nobody could tell."""
    backend.when("/up", lambda call: call.send(plain("413 Content Too Large", body=b"too much")))
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", EXPECT, "Content-Length: 100000"))
        assert visitor.answer().get("Connection") == "close"


def test_an_expectation_that_nobody_knows_is_a_417(bridge: Bridge, backend: Backend) -> None:
    got = bridge.ask("POST", "/up", "Expect: the-unexpected", body=b"x")
    assert got.status == 417
    assert b"unexpected" not in got.body
    assert backend.received == []


def test_visitors_of_http_1_0_cannot_expect(bridge: Bridge, backend: Backend) -> None:
    """RFC 9110, 10.1.1: ignored."""
    got = bridge.ask("POST", "/up", EXPECT, body=b"hello", version="1.0")
    assert (got.interim, got.status) == ([], 200)
    assert backend.only().body == b"hello"
