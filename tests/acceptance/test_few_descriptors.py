"""A machine that lets a process have few descriptors: it serves fewer at a time, and says so."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from stack.bridge import BridgeServe
from stack.errors import ServerFailed
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import Visitor, request

ROUTES = """\
version: 1
sites: {{s: {{hosts: ["{address}"], legacy: php}}}}
backends:
  php: {{url: "http://127.0.0.1:{port}", timeouts: {{wait: 30s}}}}
  other: {{url: "http://127.0.0.1:1"}}
"""


class Poor(BridgeServe):
    """`bridgectl serve` that may have so many descriptors."""

    descriptors = 256

    def command(self) -> Sequence[str]:
        return ["prlimit", f"--nofile={self.descriptors}:{self.descriptors}", *super().command()]


def poor(directory: Path, legacy: Backend) -> Poor:
    routes = directory / "routes.yaml"
    env = {"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(directory / "state")}
    server = Poor(directory / "serve", env=env)
    routes.write_text(ROUTES.format(address=server.address, port=legacy.port))
    return server


def test_with_256_descriptors_everybody_is_answered(tmp_path: Path) -> None:
    """More visitors at once than there are descriptors, half of them with slow pages."""
    slow = threading.Event()

    def late(call: Call) -> None:
        slow.wait(BOUND)
        call.send(plain())

    with Backend() as legacy, poor(tmp_path, legacy) as server:
        legacy.when("/slow", late)
        answers: list[int] = []

        def visit(path: str) -> None:
            with Visitor((server.host, server.port), 30) as visitor:
                visitor.send(request("GET", path, "Connection: close", host=server.address))
                answers.append(visitor.answer().status)

        paths = ["/slow", "/"] * 150
        threads = [threading.Thread(target=visit, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        legacy.wait("/slow")
        slow.set()
        for thread in threads:
            thread.join()
        assert answers == [200] * 300
        log = server.log_text()
    assert "no descriptor" not in log
    assert "A worker may have 256 descriptors: at most 107 visitors and 85 connections" in log


def test_with_too_few_it_does_not_start(tmp_path: Path) -> None:
    with Backend() as legacy:
        server = poor(tmp_path, legacy)
        server.descriptors = 100
        with pytest.raises(ServerFailed, match="needs 128 at least; raise `ulimit -Hn`"):
            server.start()
