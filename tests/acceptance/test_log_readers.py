"""Who reads the logs of `bridgectl serve`, or does not, is nothing to its visitors."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from stack.bridge import BridgeServe
from stack.waiting import wait_for
from tests.proxy.shells.double import Backend
from tests.proxy.shells.visitor import Visitor, request

ROUTES = """\
version: 1
sites: {{s: {{hosts: ["{address}"], legacy: php}}}}
backends: {{php: {{url: "http://127.0.0.1:{port}"}}}}
routes:
  - {{name: fails, path: /fails/<x>, wsgi: "tests.acceptance.test_log_readers:fails",
     python: 100%, fallback: false}}
"""
LONG = "x" * 3000
REQUESTS = 500  # their lines are more than a kernel holds, and than is kept besides


def fails(environ: object, start_response: Callable[..., object]) -> list[bytes]:
    """A handler with a traceback in the log, and words of its own."""
    print(LONG)
    raise RuntimeError(LONG)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BridgeServe]:
    with Backend() as legacy:
        routes = tmp_path / "routes.yaml"
        server = BridgeServe(
            tmp_path / "serve",
            env={"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(tmp_path / "state")},
        )
        routes.write_text(ROUTES.format(address=server.address, port=legacy.port))
        yield server


@contextlib.contextmanager
def running(server: BridgeServe, **streams: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """The server with these streams; it must end in peace."""
    with subprocess.Popen(server.command(), env=server.environment(), **streams) as process:  # type: ignore[call-overload]
        try:
            wait_for(lambda: asks(server, "/"), 30, "the first answer")
            yield process
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()


def asks(server: BridgeServe, path: str) -> int:
    """The status of the answer; 0 without a server."""
    try:
        with Visitor((server.host, server.port)) as visitor:
            visitor.send(request("GET", path, host=server.address))
            return visitor.answer().status
    except ConnectionRefusedError:
        return 0


def test_a_pipe_that_nobody_reads_holds_up_no_visitor(server: BridgeServe) -> None:
    """Neither the access log in it, nor errors, nor what handlers print. Who reads it in the end
    finds whole lines, and that some are lost."""
    with running(server, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for n in range(REQUESTS):
            assert asks(server, f"/{n}/{LONG}") == 200
            assert asks(server, f"/fails/{n}") in (500, 503)
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        read = b""

        def tells() -> bool:
            nonlocal read
            assert asks(server, "/more") == 200
            assert asks(server, "/fails/more") in (500, 503)
            while got := process.stdout and process.stdout.read(2**20):
                read += got
            return b"lines of this log are lost" in read and b'"/more"' in read

        wait_for(tells, 20, "the words about lost lines")
    paths = [json.loads(x)["path"] for x in read.splitlines() if x.startswith(b'{"time"')]
    assert f"/1/{LONG}" in paths


def test_a_reader_who_has_gone_holds_up_no_visitor(server: BridgeServe) -> None:
    with running(server, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout
        process.stdout.close()
        for n in range(50):
            assert asks(server, f"/{n}/{LONG}") == 200


def test_a_named_pipe_without_a_reader_is_no_obstacle(server: BridgeServe, tmp_path: Path) -> None:
    """Who opens it for reading gets what comes then."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    server.options = [*server.options, "--access-log", str(fifo)]
    with running(server), fifo.open("rb") as reader:
        assert asks(server, "/seen") == 200
        for line in reader:
            if json.loads(line)["path"] == "/seen":
                break
