"""Legacy's pages beside handlers that are stuck: two engines, one with all of its handler threads
stuck and one with all of them free, asked in turn."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from werkzeug.wrappers import Request, Response

from bench.fronts import LENGTH, ORIGIN, prepare
from bench.load import BenchmarkFailed, Page, latencies, read_answer
from bridge.proxy.status import read_all
from stack.gunicorn import BridgeServe
from stack.nginx import Nginx
from stack.waiting import wait_for

__all__ = ["beside_stuck_handlers", "stuck"]

THREADS = 16
REQUESTS = 1000  # a round
FIFO = "BENCH_FIFO"

ROUTES = """\
version: 1
sites:
  stuck: {hosts: ["@HOST@"], legacy: origin}
backends:
  origin: {url: "@ORIGIN@"}
routes:
  - {name: stuck, path: /stuck, handler: "bench.slow_stuck:stuck", python: 100%, timeout: 1h}
"""


def stuck(request: Request) -> Response:
    """Waits until somebody opens a named pipe, as a handler waits for a database that is gone."""
    with open(os.environ[FIFO], "rb") as pipe:
        pipe.read()
    return Response("free")


@contextlib.contextmanager
def engines(folder: Path) -> Iterator[tuple[BridgeServe, BridgeServe]]:
    """Two engines in front of the same nginx. Raises StackError."""
    with contextlib.ExitStack() as stack:
        origin = Nginx(folder / "origin", ORIGIN, values={"PAGE": "x" * LENGTH})
        stack.enter_context(origin)
        found = []
        for name in ("stuck", "free"):
            serve = BridgeServe(folder / name, env={})
            text = ROUTES.replace("@HOST@", serve.address).replace("@ORIGIN@", origin.url)
            bridge = prepare(serve, text)
            serve.options = ["--access-log", str(bridge.log), "--handlers", str(THREADS)]
            serve.env[FIFO] = str(serve.directory / "fifo")
            os.mkfifo(serve.env[FIFO])
            stack.enter_context(serve)
            state = bridge.state
            wait_for(lambda state=state: read_all(state), 30, "a worker with a table")  # type: ignore[misc]
            found.append(serve)
        yield found[0], found[1]


def beside_stuck_handlers(folder: Path, rounds: int) -> dict[str, float]:
    """p99 of a legacy page in both engines, milliseconds, the median of the rounds' ratios, and
    how long who wants the Python side waits until legacy answers in its place."""
    with engines(folder) as (blocked, free), contextlib.ExitStack() as stack:
        request = f"GET /stuck HTTP/1.1\r\nHost: {blocked.address}\r\n\r\n".encode()
        held = [stack.enter_context(_asked(blocked, request)) for _ in range(THREADS)]
        began = time.perf_counter()
        with _asked(blocked, request) as one_more:
            read_answer(one_more)
        fallback = time.perf_counter() - began
        found: dict[BridgeServe, list[float]] = {blocked: [], free: []}
        for number in range(rounds + 1):
            for serve in (blocked, free) if number % 2 else (free, blocked):
                page = Page(f"{serve.url}/page", (), b"x" * LENGTH)
                times, _ = latencies(page, requests=REQUESTS)
                if number:  # the first round warms up
                    found[serve].append(sorted(times)[int(len(times) * 0.99)] / 1000)
        for sock in held:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raise BenchmarkFailed(f"a handler was not stuck: {sock.recv(100)!r}")
        os.close(os.open(blocked.env[FIFO], os.O_WRONLY | os.O_NONBLOCK))  # lets all of them go
    ratios = [a / b for a, b in zip(found[blocked], found[free], strict=True)]
    return {
        "free_p99_ms": round(statistics.median(found[free]), 3),
        "stuck_p99_ms": round(statistics.median(found[blocked]), 3),
        "stuck_p99_over_free": round(statistics.median(ratios), 2),
        "fallback_ms": round(fallback * 1000),
    }


def _asked(serve: BridgeServe, request: bytes) -> socket.socket:
    sock = socket.create_connection((serve.host, serve.port), timeout=30)
    sock.sendall(request)
    return sock
