"""Legacy's pages beside slow handlers: engines whose handler threads are free, all stuck, or
computing, asked in turn."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from werkzeug.wrappers import Request, Response

from bench.fronts import LENGTH, ORIGIN, prepare
from bench.report import BenchmarkFailed
from bridge.proxy.telemetry.workers import read_all
from stack.bridge import BridgeServe
from stack.load import Page, latencies, percentile, read_answer, throughput
from stack.nginx import Nginx
from stack.waiting import wait_for

__all__ = ["beside_slow_handlers", "computing", "stuck"]

THREADS = 16
REQUESTS = 1000  # a round
COMPUTING = {"computing_1": 1, "computing_16": 16}  # visitors who want such pages, by engine
COMPUTING_SECONDS = 10
QUICK_SECONDS = 3  # enough for some pages on a busy machine
WARM_UP = 0.5  # seconds
COST = 0.02  # seconds of CPU for such a page
FIFO = "BENCH_FIFO"

ROUTES = """\
version: 1
sites:
  stuck: {hosts: ["@HOST@"], legacy: origin}
backends:
  origin: {url: "@ORIGIN@"}
routes:
  - {name: stuck, path: /stuck, handler: "bench.slow_stuck:stuck", python: 100%, timeout: 1h}
  - name: computing
    path: /computing
    handler: "bench.slow_stuck:computing"
    python: 100%
    timeout: 1h
"""


def stuck(request: Request) -> Response:
    """Waits until somebody opens a named pipe, as a handler waits for a database that is gone."""
    with open(os.environ[FIFO], "rb") as pipe:
        pipe.read()
    return Response("free")


def computing(request: Request) -> Response:
    """Computes in Python, as a page does that is made of many small things."""
    until = time.thread_time() + COST
    while time.thread_time() < until:
        sum(range(100))
    return Response("computed")


@contextlib.contextmanager
def engines(folder: Path) -> Iterator[dict[str, BridgeServe]]:
    """Engines in front of the same nginx, by what their handlers do. Raises StackError."""
    with contextlib.ExitStack() as stack:
        origin = Nginx(folder / "origin", ORIGIN, values={"PAGE": "x" * LENGTH})
        stack.enter_context(origin)
        found = {}
        for name in ("stuck", "free", *COMPUTING):
            serve = BridgeServe(folder / name, env={})
            text = ROUTES.replace("@HOST@", serve.address).replace("@ORIGIN@", origin.url)
            bridge = prepare(serve, text)
            serve.options = ["--access-log", str(bridge.log), "--handlers", str(THREADS)]
            serve.env[FIFO] = str(serve.directory / "fifo")
            os.mkfifo(serve.env[FIFO])
            stack.enter_context(serve)
            state = bridge.state
            wait_for(lambda state=state: read_all(state), 30, "a worker with a table")  # type: ignore[misc]
            found[name] = serve
        yield found


def beside_slow_handlers(folder: Path, *, quick: bool) -> dict[str, float]:
    """p99 of a legacy page, milliseconds, with handler threads that are free and stuck, the
    median of the rounds' ratios, and how long who wants the Python side waits until legacy
    answers in its place; then p50 and p99 beside handlers that compute, and what these do."""
    with engines(folder) as found:
        figures = _beside_stuck(found["stuck"], found["free"], 1 if quick else 25)
        for name, visitors in COMPUTING.items():
            seconds = QUICK_SECONDS if quick else COMPUTING_SECONDS
            figures |= _beside_computing(name, found[name], visitors, seconds)
    return figures


def _beside_stuck(blocked: BridgeServe, free: BridgeServe, rounds: int) -> dict[str, float]:
    with _held(blocked, "/stuck", THREADS) as held:
        began = time.perf_counter()
        with _asked(blocked, "/stuck") as one_more:
            read_answer(one_more)
        fallback = time.perf_counter() - began
        found: dict[BridgeServe, list[float]] = {blocked: [], free: []}
        for number in range(rounds + 1):
            for serve in (blocked, free) if number % 2 else (free, blocked):
                times = _legacy_page(serve, REQUESTS)
                if number:  # the first round warms up
                    found[serve].append(percentile(times, 0.99))
        for sock in held:
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                raise BenchmarkFailed(f"a handler was not stuck: {sock.recv(100)!r}")
        # Lets all of them go.
        os.close(os.open(blocked.env[FIFO], os.O_WRONLY | os.O_NONBLOCK))
    ratios = [a / b for a, b in zip(found[blocked], found[free], strict=True)]
    return {
        "free_p99_ms": round(statistics.median(found[free]), 3),
        "stuck_p99_ms": round(statistics.median(found[blocked]), 3),
        "stuck_p99_over_free": round(statistics.median(ratios), 2),
        "fallback_ms": round(fallback * 1000),
    }


def _beside_computing(
    name: str, serve: BridgeServe, visitors: int, seconds: int
) -> dict[str, float]:
    """While so many visitors ask for a page that Python computes, each again and again."""
    page = Page(f"{serve.url}/computing", (), b"computed")
    _, size = latencies(page, requests=1)
    times: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        computed = pool.submit(throughput, page, connections=visitors, seconds=seconds, answer=size)
        time.sleep(WARM_UP)
        while not computed.done():
            times += _legacy_page(serve, 20)
        rate, _ = computed.result()
    return {
        f"{name}_p50_ms": round(percentile(times, 0.5), 2),
        f"{name}_p99_ms": round(percentile(times, 0.99), 2),
        f"{name}_pages_per_s": round(rate, 1),
    }


def _legacy_page(serve: BridgeServe, requests: int) -> list[float]:
    """Milliseconds of each request for it."""
    page = Page(f"{serve.url}/page", (), b"x" * LENGTH)
    return [micros / 1000 for micros in latencies(page, requests=requests)[0]]


@contextlib.contextmanager
def _held(serve: BridgeServe, path: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections of visitors who wait for handlers."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_asked(serve, path)) for _ in range(count)]


def _asked(serve: BridgeServe, path: str) -> socket.socket:
    sock = socket.create_connection((serve.host, serve.port), timeout=30)
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {serve.address}\r\n\r\n".encode())
    return sock
