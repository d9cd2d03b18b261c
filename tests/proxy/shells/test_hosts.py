"""Which site a request is for: one Host, well formed, and on the list."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request


@pytest.mark.parametrize(
    "host", ["other.example", "main.test.other.example", "xmain.test", "127.0.0.1:1", "localhost"]
)
def test_a_host_that_is_not_ours_is_a_421(bridge: Bridge, backend: Backend, host: str) -> None:
    """And the page does not repeat it."""
    got = bridge.ask("GET", "/host", host=host)
    assert got.status == 421
    assert host.encode() not in got.body
    assert backend.received == []
    assert bridge.outcome("/host")["error"].endswith("is on no site's list")


@pytest.mark.parametrize(
    "host",
    [
        "main.test",
        "MAIN.Test",
        "main.test:80",
        "main.test:8080",
        "main.test.",
        "main.test:",
        "main.test.:",
        "main.test.:81",
    ],
)
def test_a_host_of_ours_is_answered(bridge: Bridge, backend: Backend, host: str) -> None:
    assert bridge.ask("GET", "/", host=host).status == 200
    assert backend.only().all("Host") == [host.lower()]


def test_a_missing_host_is_a_400(bridge: Bridge, backend: Backend) -> None:
    assert bridge.ask("GET", "/", host="").status == 400
    assert backend.received == []


def test_two_hosts_are_a_400(bridge: Bridge, backend: Backend) -> None:
    assert bridge.ask("GET", "/", "Host: main.test").status == 400
    assert bridge.ask("GET", "/", "Host: other.example").status == 400
    assert backend.received == []


@pytest.mark.parametrize(
    "host",
    [
        "main.test/",
        "main.test:80:80",
        "main.test:x",
        "main.test,other.example",
        "main.test other.example",
        "user@main.test",
        "[::1",
        "main.test#",
        "m\xe4in.test",
        "main.test:123456",
        f"{'a' * 246}.main.test",
    ],
)
def test_a_malformed_host_is_a_400(bridge: Bridge, backend: Backend, host: str) -> None:
    assert bridge.ask("GET", "/", host=host).status == 400
    assert backend.received == []


def test_an_empty_host_is_a_400(bridge: Bridge, backend: Backend) -> None:
    assert bridge.send(b"GET / HTTP/1.1\r\nHost:\r\n\r\n").status == 400
    assert backend.received == []


def test_the_host_of_a_backend_may_be_another(bridge: Bridge, backend: Backend) -> None:
    """Then the visitor's is in X-Forwarded-Host."""
    bridge.ask("GET", "/", host="named.test")
    assert backend.only().all("Host") == ["legacy.internal"]
    assert backend.only().all("X-Forwarded-Host") == ["named.test"]


def test_visitors_of_http_1_0_need_no_host(bridge: Bridge, backend: Backend) -> None:
    """They get the site of the address that they connected to."""
    assert bridge.ask("GET", "/", host="", version="1.0").status == 200
    assert backend.only().all("Host") == [bridge.server.address]


def test_each_request_of_a_connection_goes_to_its_own_site(
    bridge: Bridge, backend: Backend
) -> None:
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/one") + request("GET", "/two", host="named.test"))
        assert visitor.answer().status == 200
        assert visitor.answer().status == 200
        visitor.send(request("GET", "/three", host="other.example"))
        assert visitor.answer().status == 421
    assert [r.get("Host") for r in backend.received] == ["main.test", "legacy.internal"]
