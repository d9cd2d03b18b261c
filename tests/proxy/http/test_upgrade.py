"""Upgrades: plain WSGI has no tunnel, so a WebSocket is refused at once and nothing hangs."""

from __future__ import annotations

import pytest

from tests.proxy.http.double import Backend
from tests.proxy.http.serving import Bridge
from tests.proxy.http.visitor import request

WEBSOCKET = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "h2c, websocket"])
def test_a_websocket_is_a_501_at_once(bridge: Bridge, backend: Backend, upgrade: str) -> None:
    """A WSGI application cannot take over the connection. 501, and not 502 or a hang, tells a
    script of the page to fall back to polling; the event-loop engine tunnels it."""
    got = bridge.ask("GET", "/chat", "Connection: Upgrade", f"Upgrade: {upgrade}", *WEBSOCKET)
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


def test_a_connection_is_usable_after_a_refused_websocket(bridge: Bridge, backend: Backend) -> None:
    with bridge.visitor() as visitor:
        visitor.send(
            request("GET", "/chat", "Connection: Upgrade", "Upgrade: websocket", *WEBSOCKET)
        )
        assert visitor.answer().status == 501
        visitor.send(request("GET", "/"))
        assert visitor.answer().status == 200
