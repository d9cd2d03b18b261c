"""Connections to legacy are used again, are bounded, and when one has gone stale nobody sees it."""

from __future__ import annotations

import threading

import pytest

from bridge.proxy.telemetry.scrape import scrape
from stack.nginx import NginxPhp
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, answer, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request


def test_requests_share_a_connection(bridge: Bridge, backend: Backend) -> None:
    """Those of different visitors too."""
    for _ in range(5):
        assert bridge.ask("GET", "/").status == 200
    assert len({received.connection for received in backend.received}) == 1


@pytest.mark.parametrize(
    "raw",
    [
        plain("200 OK", "Connection: close"),
        plain("200 OK", "Connection: X-A, Close"),
        plain().replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_connection_that_legacy_will_close_is_not_used_again(
    bridge: Bridge, backend: Backend, raw: bytes
) -> None:
    backend.when("/", answer(raw))
    bridge.ask("GET", "/")
    bridge.ask("GET", "/")
    first, second = backend.received
    assert first.connection != second.connection


def test_an_old_server_that_keeps_alive_is_used_again(bridge: Bridge, backend: Backend) -> None:
    raw = plain("200 OK", "Connection: keep-alive").replace(b"HTTP/1.1", b"HTTP/1.0")
    backend.when("/", answer(raw))
    bridge.ask("GET", "/")
    bridge.ask("GET", "/")
    first, second = backend.received
    assert first.connection == second.connection


def test_a_connection_that_was_closed_meanwhile_is_not_used(
    bridge: Bridge, backend: Backend
) -> None:
    """Every request of a restarted legacy server's first visitors is answered."""
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT"):
        bridge.ask("GET", "/warm")
        backend.hang_up()
        assert bridge.ask(method, "/again").status == 200
    assert len(backend.of("/again")) == 5


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_request_that_met_a_stale_connection_is_sent_once_more(
    bridge: Bridge, backend: Backend, method: str
) -> None:
    """Legacy closes it at the very moment the request arrives, which no check can foresee."""

    def script(call: Call) -> None:
        if call.received.turn > 1:
            call.close()
        else:
            call.send(plain(body=b""))

    backend.hang_up()
    backend.when("/warm", script)
    backend.when("/again", script)
    bridge.ask("GET", "/warm")
    assert bridge.ask(method, "/again").status == 200
    warm = backend.of("/warm")[0]
    stale, fresh = backend.of("/again")
    assert (stale.connection, stale.turn) == (warm.connection, 2)
    assert (fresh.connection != warm.connection, fresh.turn) == (True, 1)


def test_a_fresh_connection_that_is_closed_without_an_answer_is_not_tried_again(
    bridge: Bridge, backend: Backend
) -> None:
    """Then it is not stale: legacy fails, and asking twice would double its load."""
    backend.when("/", Call.close)
    backend.hang_up()
    assert bridge.ask("GET", "/").status == 502
    assert len({received.connection for received in backend.received}) == len(backend.received)
    assert len(backend.of("/")) <= 2


def test_a_request_is_not_sent_again_after_a_byte_of_an_answer(
    bridge: Bridge, backend: Backend
) -> None:
    backend.when("/warm", answer(plain()))
    backend.when("/half", answer(b"HTTP/1.1 200 O", close=True))
    bridge.ask("GET", "/warm")
    assert bridge.ask("GET", "/half").status == 502
    assert len(backend.of("/half")) == 1


@pytest.mark.parametrize(
    ("method", "body"), [("POST", b"x"), ("POST", None), ("DELETE", None), ("GET", b"query")]
)
def test_what_may_have_been_done_never_meets_a_stale_connection(
    bridge: Bridge, backend: Backend, method: str, body: bytes | None
) -> None:
    """It gets a connection of its own, so that it need never be sent twice."""
    bridge.ask("GET", "/warm")
    assert bridge.ask(method, "/write", body=body).status == 200
    (written,) = backend.of("/write")
    assert written.turn == 1


def test_a_post_that_got_no_answer_is_never_sent_again(bridge: Bridge, backend: Backend) -> None:
    backend.when("/write", answer(b"", close=True))
    bridge.ask("GET", "/warm")
    assert bridge.ask("POST", "/write", body=b"x").status == 502
    assert len(backend.of("/write")) == 1


def test_the_connection_of_a_post_is_used_again(bridge: Bridge, backend: Backend) -> None:
    bridge.ask("POST", "/write", body=b"x")
    bridge.ask("GET", "/")
    first, second = backend.received
    assert first.connection == second.connection


def test_posts_leave_no_more_connections_than_were_needed_at_a_time(
    bridge: Bridge, backend: Backend
) -> None:
    """Each may hold a process of legacy's."""
    backend.hang_up()
    wait_for(lambda: backend.open == 0, BOUND, "the end of what others have opened")
    for _ in range(10):
        assert bridge.ask("POST", "/write", body=b"x").status == 200
    wait_for(lambda: backend.open == 1, BOUND, "the end of what is not used")
    bridge.ask("GET", "/")
    assert backend.received[-1].connection == backend.received[-2].connection


def test_a_full_pool_is_a_503_that_says_when_to_come_back(bridge: Bridge, backend: Backend) -> None:
    """`single.test` may have one connection, and somebody has it."""
    over = threading.Event()

    def script(call: Call) -> None:
        over.wait(BOUND)
        call.send(plain())

    backend.when("/slow", script)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/slow", host="single.test"))
        backend.wait("/slow")
        got = bridge.ask("GET", "/busy", host="single.test")
        assert (got.status, got.get("Retry-After")) == (503, "2")
        assert bridge.outcome("/busy")["error"] == "wait: all 1 connections are busy"
        over.set()
        assert visitor.answer().status == 200
    assert bridge.ask("GET", "/free", host="single.test").status == 200


def test_the_line_for_legacy_is_bounded_too(bridge: Bridge, backend: Backend) -> None:
    """`few.test` may have one request in flight, and one that waits."""
    over = threading.Event()

    def script(call: Call) -> None:
        over.wait(BOUND)
        call.send(plain())

    backend.when("/slow", script)
    with bridge.visitor() as first, bridge.visitor() as second:
        first.send(request("GET", "/slow", host="few.test"))
        backend.wait("/slow")
        second.send(request("GET", "/waits", host="few.test"))
        waiting = b'bridge_backend_connections{backend="few",state="waiting"} 1.0'
        wait_for(lambda: waiting in scrape(bridge.state), BOUND, "the second to be in the line")
        got = bridge.ask("GET", "/busy", host="few.test")
        assert (got.status, got.get("Retry-After")) == (503, "2")
        over.set()
        assert [first.answer().status, second.answer().status] == [200, 200]
    assert bridge.ask("GET", "/free", host="few.test").status == 200


def test_who_waits_for_a_connection_gets_the_one_that_is_given_back(
    bridge: Bridge, backend: Backend
) -> None:
    first = bridge.visitor()
    second = bridge.visitor()
    second_is_there = threading.Event()

    def script(call: Call) -> None:
        second_is_there.wait(0.1)
        call.send(plain())

    backend.when("/slow", script)
    first.send(request("GET", "/slow", host="single.test"))
    backend.wait("/slow")
    second.send(request("GET", "/", host="single.test"))
    assert [first.answer().status, second.answer().status] == [200, 200]
    one, other = backend.received
    assert one.connection == other.connection
    first.sock.close()
    second.sock.close()


def test_an_aborted_download_does_not_take_a_connection_away(
    bridge: Bridge, backend: Backend
) -> None:
    """Over and over, from a pool of one."""
    body = b"x" * 1_000_000
    backend.when("/large", answer(plain(body=body)))
    for _ in range(5):
        with bridge.visitor() as visitor:
            visitor.send(request("GET", "/large", host="single.test"))
            visitor.head()
            visitor.leave()
        bridge.outcome("/large")
        bridge.mark()
    assert bridge.ask("GET", "/", host="single.test").status == 200


def test_a_backend_behind_a_unix_socket(bridge: Bridge, unix_double: Backend) -> None:
    unix_double.clear()
    got = bridge.ask("POST", "/a%2Fb", host="unix.test", body=b"hello")
    assert (got.status, got.body) == (200, b"ok")
    received = unix_double.only()
    assert (received.target, received.body) == (b"/a%2Fb", b"hello")
    assert received.all("Host") == ["unix.test"]


def test_a_backend_behind_tls(bridge: Bridge, tls_double: Backend) -> None:
    """Its certificate is checked; connections are used again."""
    tls_double.clear()
    for _ in range(3):
        assert bridge.ask("GET", "/", host="tls.test").body == b"ok"
    assert len({received.connection for received in tls_double.received}) == 1


@pytest.mark.parametrize("size", [5, 1_000_000])
def test_an_upload_over_tls_is_sent_whole(bridge: Bridge, tls_double: Backend, size: int) -> None:
    """The session tickets that a TLS 1.3 server sends at once are no early answer."""
    tls_double.clear()
    body = b"x" * size
    assert bridge.ask("POST", "/up", host="tls.test", body=body).status == 200
    assert tls_double.only().body == body


def test_a_backend_with_a_wrong_certificate_is_a_502(trusting: Bridge, backend: Backend) -> None:
    """`trusting` does not know the authority that signed it."""
    got = trusting.ask("POST", "/tls", host="tls.test", body=b"a secret")
    assert got.status == 502
    assert "certificate verify failed" in trusting.outcome("/tls")["error"]


def test_nginx_is_asked_over_one_connection(bridge: Bridge, nginx: NginxPhp) -> None:
    """A real server that keeps connections: its own number of the connection stays the same."""
    numbers = {bridge.ask("GET", f"/{n}", host="nginx.test").get("X-Connection") for n in range(5)}
    assert len(numbers) == 1
    assert None not in numbers
