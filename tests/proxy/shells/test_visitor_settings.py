"""`visitors` of routes.yaml: the time and room that a visitor may take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.bridge import BridgeServe, BridgeWsgi
from stack.process import Server
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend
from tests.proxy.shells.visitor import Visitor, request

ROUTES = """\
version: 1
sites: {{s: {{hosts: ["{address}"], legacy: php}}}}
backends: {{php: {{url: "http://127.0.0.1:{port}"}}}}
visitors: {{{visitors}}}
"""
TIGHT = "body: 300ms, head: 300ms, request_line: 1KiB, request_header: 1KiB, request_headers: 10"


@pytest.fixture(scope="module", params=[BridgeServe, BridgeWsgi])
def tight(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("tight")
    routes = home / "routes.yaml"
    with Backend() as legacy:
        env = {"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(home / "state")}
        server: Server = request.param(home / "serve", env=env)
        values = {"address": server.address, "port": legacy.port, "visitors": TIGHT}
        routes.write_text(ROUTES.format(**values))
        with server:
            yield server


def status(server: Server, raw: bytes) -> int:
    with Visitor((server.host, server.port)) as visitor:
        visitor.send(raw)
        return visitor.answer().status


def test_sizes_of_a_head_are_settings(tight: Server) -> None:
    """Other servers have settings of their own for these."""
    if not isinstance(tight, BridgeServe):
        pytest.skip("the server reads the head")

    def ask(path: str, *lines: str) -> int:
        return status(tight, request("GET", path, *lines, host=tight.address))

    assert ask(f"/{'x' * 900}", f"X-A: {'x' * 900}", *["X-B: c"] * 8) == 200
    assert ask(f"/{'x' * 1100}") == 414
    assert ask("/", f"X-A: {'x' * 1100}") == 431
    assert ask("/", *["X-B: c"] * 10) == 431


def test_the_silence_of_a_body_is_a_setting(tight: Server) -> None:
    raw = request("POST", "/up", "Content-Length: 100000", host=tight.address)
    assert status(tight, raw + b"x") == 408


def test_a_reload_changes_what_visitors_may_take(tmp_path: Path) -> None:
    """In `bridgectl serve`, without a restart."""
    routes = tmp_path / "routes.yaml"
    with Backend() as legacy:
        env = {"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(tmp_path / "state")}
        server = BridgeServe(tmp_path / "serve", env=env)
        values = {"address": server.address, "port": legacy.port}
        routes.write_text(ROUTES.format(**values, visitors=""))
        with server:
            long = request("GET", f"/{'x' * 1100}", host=server.address)
            assert status(server, long) == 200
            routes.write_text(ROUTES.format(**values, visitors=TIGHT))
            wait_for(lambda: status(server, long) == 414, BOUND, "the new limits")
            assert status(server, b"GET / HTTP/1.1\r\n") == 408
