"""Upgrades: the engine tunnels a WebSocket; plain WSGI refuses it at once, and nothing hangs."""

from __future__ import annotations

import threading

import pytest

from tests.proxy.shells.double import Backend, Call, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Answer, Visitor, request

WEBSOCKET = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]


@pytest.fixture
def threaded(bridge: Bridge) -> Bridge:
    if bridge.engine == "event":
        pytest.skip("it tunnels")
    return bridge


@pytest.fixture
def tunnelling(bridge: Bridge) -> Bridge:
    if bridge.engine != "event":
        pytest.skip("plain WSGI has no tunnel")
    return bridge


SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"


def _echo(call: Call) -> None:
    call.send(SWITCHED + b"Sec-WebSocket-Accept: abc\r\n\r\nhello")
    while data := call.sock.recv(65536):
        call.send(data)
    call.close()


def _open(bridge: Bridge) -> Visitor:
    visitor = bridge.visitor()
    lines = ["Connection: Upgrade", "Upgrade: websocket", *WEBSOCKET]
    visitor.send(request("GET", "/chat", *lines))
    return visitor


def test_a_websocket_is_tunnelled(tunnelling: Bridge, backend: Backend) -> None:
    backend.when("/chat", _echo)
    with _open(tunnelling) as visitor:
        got = Answer(visitor._until(b"\r\n\r\n"))
        assert (got.status, got.get("Upgrade"), got.get("Sec-WebSocket-Accept")) == (
            *(101, "websocket"),
            "abc",
        )
        assert visitor._exactly(5) == b"hello"
        large = bytes(range(256)) * 4000
        sender = threading.Thread(target=visitor.send, args=(large,))
        sender.start()
        assert visitor._exactly(len(large)) == large
        sender.join()
    received = backend.only()
    assert received.get("Sec-WebSocket-Key") == WEBSOCKET[0].partition(": ")[2]
    assert (received.all("Connection"), received.all("Upgrade")) == (["Upgrade"], ["websocket"])
    record = tunnelling.outcome("/chat")
    assert (record["status"], record["bytes"]) == (101, 5 + len(large))


def test_a_tunnel_ends_when_legacy_ends_it(tunnelling: Bridge, backend: Backend) -> None:
    def script(call: Call) -> None:
        call.send(SWITCHED + b"\r\nbye")
        call.close()

    backend.when("/chat", script)
    with _open(tunnelling) as visitor:
        visitor._until(b"\r\n\r\n")
        assert visitor._exactly(3) == b"bye"
        assert visitor.ended()


def test_a_websocket_that_legacy_refuses_gets_its_answer(
    tunnelling: Bridge, backend: Backend
) -> None:
    backend.when("/chat", plain("403 Forbidden", body=b"no"))
    with _open(tunnelling) as visitor:
        assert visitor.answer().body == b"no"
        visitor.send(request("GET", "/"))
        assert visitor.answer().status == 200


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket"])
def test_a_websocket_is_a_501_at_once(threaded: Bridge, backend: Backend, upgrade: str) -> None:
    """A WSGI application cannot take over the connection. 501, and not 502 or a hang, tells a
    script of the page to fall back to polling; the event-loop engine tunnels it."""
    got = threaded.ask("GET", "/chat", "Connection: Upgrade", f"Upgrade: {upgrade}", *WEBSOCKET)
    assert got.status == 501
    assert backend.received == []


@pytest.mark.parametrize("upgrade", ["h2c", "HTTP/2.0", "TLS/1.0", "IRC/6.9"])
def test_another_upgrade_is_ignored(bridge: Bridge, backend: Backend, upgrade: str) -> None:
    """RFC 9110, 7.8: a server may always answer as if it had not been asked."""
    lines = ["Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAA"]
    got = bridge.ask("GET", "/", *lines)
    assert (got.status, got.body) == (200, b"ok")
    assert backend.only().get("Upgrade") is None
    assert backend.only().get("HTTP2-Settings") is None


def test_a_connection_is_usable_after_a_refused_websocket(
    threaded: Bridge, backend: Backend
) -> None:
    with threaded.visitor() as visitor:
        visitor.send(
            request("GET", "/chat", "Connection: Upgrade", "Upgrade: websocket", *WEBSOCKET)
        )
        assert visitor.answer().status == 501
        visitor.send(request("GET", "/"))
        assert visitor.answer().status == 200
