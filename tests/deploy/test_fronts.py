"""nginx, Apache and lighttpd, each with its shipped file, between visitors and a real bridge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.deploy.fronts import FRONTS, HOST, Front, front_of
from tests.proxy.shells.double import Backend, Call, plain
from tests.proxy.shells.visitor import Answer, request

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites:
  s: {hosts: [www.example.org], legacy: php}
backends:
  php: {url: "@DOUBLE@"}
trusted_proxies: [unix]
routes:
  - {name: seen, path: /seen, handler: "tests.acceptance.apps.handlers:seen", python: 100%}
"""


@pytest.fixture(scope="module")
def double() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def backend(double: Backend) -> Backend:
    """The legacy server, without scripts and without memories."""
    double.clear()
    return double


@pytest.fixture(scope="module")
def bridge_socket(
    tmp_path_factory: pytest.TempPathFactory, double: Backend
) -> Iterator[tuple[Path, BridgeSite]]:
    """A bridge at a unix socket, and where that is."""
    folder = tmp_path_factory.mktemp("bridge")
    socket = folder / "shop.sock"
    routes = ROUTES.replace("@DOUBLE@", f"http://127.0.0.1:{double.port}")
    with BridgeSite(folder, routes, options=["--bind", f"unix:{socket}"]) as site:
        yield socket, site


@pytest.fixture(scope="module", params=list(FRONTS))
def front(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    bridge_socket: tuple[Path, BridgeSite],
) -> Iterator[Front]:
    """Each web server, with the file for it."""
    home = tmp_path_factory.mktemp(request.param)
    with front_of(request.param, home, bridge_socket[0]) as server:
        yield server


def test_legacy_and_handlers_hear_who_the_visitor_is_and_that_they_came_by_https(
    front: Front, backend: Backend
) -> None:
    """What the visitor claims to be is not believed."""
    claims = ["X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: http", "Forwarded: for=1.2.3.4"]
    assert front.ask("/who", *claims).status == 200
    got = backend.only()
    assert got.get("X-Forwarded-For").rpartition(" ")[2] == "127.0.0.1"  # type: ignore[union-attr]
    assert (got.all("X-Forwarded-Proto"), got.all("Host")) == (["https"], [HOST])
    assert "1.2.3.4" not in str(got.all("Forwarded"))
    told = front.ask("/seen", *claims).body
    assert b'"client": "127.0.0.1"' in told
    assert b'"url": "https://www.example.org/seen"' in told


def test_who_comes_by_http_is_sent_to_https(front: Front, backend: Backend) -> None:
    got = front.ask("/a/page?q=1", secure=False)
    assert (got.status, got.get("Location")) == (301, f"https://{HOST}/a/page?q=1")
    assert backend.received == []


@pytest.mark.parametrize("target", ["/a%2Fb/c?d=%2F&e", "/a//b", "/%7Euser/%e4", "/a;b=c,d/@x:y!"])
def test_the_target_reaches_legacy_byte_for_byte(
    front: Front, backend: Backend, target: str
) -> None:
    assert front.ask(target).status == 200
    assert backend.only().target == target.encode()


def test_an_upload_is_not_held_back(front: Front, backend: Backend) -> None:
    """Legacy has the first part while the visitor has not sent the second. Apache waits for 16 KiB
    before it asks, but for no more."""
    first = b"1" * 50_000
    parts: list[bytes] = []

    def script(call: Call) -> None:
        parts.append(call.read(len(first)))
        call.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        parts.append(call.read(6))
        call.send(b"4\r\ndone\r\n0\r\n\r\n")

    backend.when("/upload", script)
    with front.visitor() as visitor:
        length = f"Content-Length: {len(first) + 6}"
        visitor.send(request("POST", "/upload", length, host=HOST) + first)
        backend.wait("/upload")
        wait_for(lambda: parts == [first], 10, "the first part at legacy")
        visitor.send(b"second")
        assert visitor.answer().body == b"done"
    assert parts == [first, b"second"]


def test_events_come_one_by_one(front: Front, backend: Backend) -> None:
    """The visitor has the first while legacy has not sent the second."""

    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
        call.send(b"Transfer-Encoding: chunked\r\n\r\nf\r\ndata: the first\r\n")
        call.read(1)  # nothing comes here before the visitor leaves
        call.close()

    backend.when("/events", script)
    with front.visitor() as visitor:
        visitor.send(request("GET", "/events", "Accept: text/event-stream", host=HOST))
        assert visitor.head().get("Content-Type") == "text/event-stream"
        assert b"the first" in visitor.piece()


def test_a_websocket_is_tunnelled(front: Front, backend: Backend) -> None:
    def script(call: Call) -> None:
        assert call.received.get("Upgrade") == "websocket"
        call.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
        call.send(b"Upgrade: websocket\r\nSec-WebSocket-Accept: abc\r\n\r\nhello")
        while data := call.sock.recv(65536):
            call.send(data)
        call.close()

    backend.when("/chat", script)
    with front.visitor() as visitor:
        upgrade = ["Connection: Upgrade", "Upgrade: websocket"]
        keys = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
        visitor.send(request("GET", "/chat", *upgrade, *keys, host=HOST))
        got = Answer(visitor._until(b"\r\n\r\n"))
        assert (got.status, got.get("Sec-WebSocket-Accept")) == (101, "abc")
        assert visitor._exactly(5) == b"hello"
        visitor.send(b"and back")
        assert visitor._exactly(8) == b"and back"


def test_pages_of_the_bridge_and_of_legacy_come_as_they_are(front: Front, backend: Backend) -> None:
    """An error page of legacy is not replaced by one of the web server."""
    backend.when("/gone", plain("410 Gone", "X-Own: 1", body=b"legacy's own words"))
    got = front.ask("/gone")
    assert (got.status, got.get("X-Own"), got.body) == (410, "1", b"legacy's own words")
