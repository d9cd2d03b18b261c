"""Slow visitors: 5,700 who read a page slowly and 5,700 who wait for a slow one, all at once,
through one worker of `bridgectl serve`; and quick requests beside them.

A page on a loopback device would vanish in the kernel's buffers. So the visitors' kernels ask for
segments as they are on the Internet and take little ahead, and some of the pages are larger than
all buffers, so that legacy has to be stopped: as many as there are descriptors for, because each
of those holds two in the worker. Some of those who wait do so for real PHP.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from bench.fronts import prepare
from bench.report import BenchmarkFailed, Report
from bench.slow_stuck import beside_slow_handlers
from bridge.proxy.telemetry.workers import read_all
from stack.bridge import BridgeServe, PythonServer
from stack.load import Page, percentile, read_answer
from stack.nginx import NginxPhp
from stack.waiting import wait_for

__all__ = ["run"]

READING = WAITING = 5700
QUICK_RUN = 100
OF_PHP = 64  # of those who wait
SMALL, LARGE = 32 * 1024, 1024 * 1024  # bytes of the pages that are read slowly
PIECE, PAUSE = 1024, 2.0  # bytes at a time, and seconds between them
EVERY = 0.005  # seconds between two quick requests
FRESH = 10  # one in so many quick requests is on a connection of its own
QUICK_BODY = b"x" * 1024
SPARE = 1000  # descriptors for everything else
PROCESSES = 2  # for each kind of visitors

SLOW_PHP = """<?php
while (!file_exists('@RELEASE@')) { usleep(50000); clearstatcache(); }
header('Content-Length: 1024');
echo str_repeat('x', 1024);
"""

TIMEOUTS = "{connect: 30s, first_byte: 300s, idle: 1s}"

ROUTES = """\
version: 1
sites:
  slow: {hosts: ["@HOST@"], legacy: site}
backends:
  site: {url: "@SITE@", limits: {max_in_flight: 20000}, timeouts: @TIME@}
  php: {url: "@PHP@", limits: {max_in_flight: 1000}, timeouts: @TIME@}
routes:
  - {name: php, path: "/php/<path:rest>", legacy: php}
"""


class Legacy(PythonServer):
    """`bench.slow_legacy`."""

    name: ClassVar[str] = "slow-legacy"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "bench.slow_legacy", str(self.port)]


@dataclass(frozen=True)
class Numbers:
    """How many of each kind of visitors there are, and what had to be left out."""

    small: int
    large: int
    waiting: int
    php: int
    shortage: str = ""

    @classmethod
    def fitting(cls, reading: int, waiting: int) -> Numbers:
        """As many as the descriptors that a process may have. Raises BenchmarkFailed when those
        do not even suffice for small pages."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = most - SPARE - reading - 2 * waiting
        if free < 0:
            raise BenchmarkFailed(
                f"a process may have {most} descriptors here (`ulimit -Hn`), and {reading} who "
                f"read and {waiting} who wait need {most - free}; raise the limit"
            )
        large = min(reading, free)
        shortage = ""
        if large < reading:
            shortage = (
                f"`ulimit -Hn` is {most}: {large} of {reading} pages are larger than all buffers; "
                f"for all of them it would have to be {most + reading - large}"
            )
        php = min(OF_PHP, waiting // 2)
        return cls(reading - large, large, waiting - php, php, shortage)


@dataclass
class Crowd:
    """A process with visitors of one kind."""

    process: subprocess.Popen[str]
    count: int

    @classmethod
    def of(
        cls, server: BridgeServe, source: int, count: int, path: str, size: int, pause: float
    ) -> Crowd:
        spec = {
            "count": count,
            "source": f"127.0.0.{source}",
            "host": server.host,
            "port": server.port,
            "path": path,
            "size": size,
            "piece": PIECE,
            "pause": pause,
        }
        command = [sys.executable, "-m", "bench.slow_visitors", json.dumps(spec)]
        pipe = subprocess.PIPE
        return cls(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True), count)

    def wait_until_asked(self) -> None:
        if self._line() != "asked\n":
            raise BenchmarkFailed("the visitors could not connect")

    def finish(self) -> None:
        """Let them read on as fast as they can."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # those who have everything are gone
            self.process.stdin.write("finish\n")
            self.process.stdin.flush()

    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._line() or "{}")
        if not found:
            raise BenchmarkFailed("visitors ended before they had their pages")
        return found

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[BridgeServe, Legacy, NginxPhp, int]]:
    """The engine, the two backends, and the process id of the one worker. Raises StackError."""
    docroot = folder / "docroot"
    (docroot / "php").mkdir(parents=True)
    script = SLOW_PHP.replace("@RELEASE@", str(folder / "release"))
    (docroot / "php" / "slow.php").write_text(script)
    legacy = Legacy(folder / "legacy", port=None, env=None, cwd=None)
    php = NginxPhp(folder / "php", docroot, children=8)
    serve = BridgeServe(folder / "serve", env={})
    places = {"HOST": serve.address, "SITE": legacy.url, "PHP": php.url, "TIME": TIMEOUTS}
    text = ROUTES
    for place, value in places.items():
        text = text.replace(f"@{place}@", value)
    bridge = prepare(serve, text)
    serve.options = ["--access-log", str(bridge.log)]
    with legacy, php, serve:
        wait_for(lambda: read_all(bridge.state), 30, "a worker with a table")
        (worker,) = read_all(bridge.state)
        yield serve, legacy, php, worker.pid


def memory(pid: int) -> dict[str, float]:
    """VmRSS and VmHWM, its highest value so far, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pairs = (line.split() for line in lines if line.startswith(("VmRSS:", "VmHWM:")))
    return {pair[0][:-1]: round(int(pair[1]) / 1024, 1) for pair in pairs}


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def quick_requests(page: Page, seconds: float) -> list[float]:
    """Milliseconds from when each request was due until its answer was there; one is due every
    few milliseconds, whatever the one before takes. Raises BenchmarkFailed for a wrong answer."""
    host, _, port = page.request.split(b"Host: ")[1].split(b"\r\n")[0].partition(b":")
    address = host.decode(), int(port)
    times: list[float] = []
    kept = socket.create_connection(address, timeout=30)
    began = time.perf_counter()
    for number in range(round(seconds / EVERY)):
        due = began + number * EVERY
        time.sleep(max(0.0, due - time.perf_counter()))
        sock = kept if number % FRESH else socket.create_connection(address, timeout=30)
        sock.sendall(page.request)
        page.check(*read_answer(sock))
        times.append((time.perf_counter() - due) * 1000)
        if sock is not kept:
            sock.close()
    kept.close()
    return times


def ask(url: str) -> bytes:
    """The body of a page of the legacy program itself."""
    host, _, rest = url.removeprefix("http://").partition(":")
    port, _, path = rest.partition("/")
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        sock.sendall(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return read_answer(sock)[1]


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """With --quick, few visitors. Raises BenchmarkFailed when an answer to a quick request is
    wrong or the machine does not allow so many connections, and StackError when a server does
    not start."""
    quick = rounds == 1
    count = QUICK_RUN if quick else READING
    numbers = Numbers.fitting(count, count if quick else WAITING)
    if numbers.shortage:
        progress.print(numbers.shortage, style="yellow")
    figures: dict[str, float] = {
        "reading": numbers.small + numbers.large,
        "reading_large": numbers.large,
        "waiting": numbers.waiting + numbers.php,
        "waiting_for_php": numbers.php,
    }
    with servers(folder / "crowd") as (serve, legacy, _, pid):
        figures |= _crowded(serve, legacy, pid, numbers, 0.5 if quick else 10.0, progress)
    progress.print("handlers that are stuck, and that compute", style="dim")
    figures |= beside_slow_handlers(folder / "handlers", quick=quick)
    report = Report("slow visitors, through one worker", ("", "value"))
    report.figures = {**figures}
    report.ratios = {"stuck_p99_over_free": figures["stuck_p99_over_free"]}
    report.rows = [(name, f"{value:,g}") for name, value in figures.items()]
    return report


def _crowded(
    serve: BridgeServe,
    legacy: Legacy,
    pid: int,
    numbers: Numbers,
    seconds: float,
    progress: Console,
) -> dict[str, float]:
    page = Page(f"{serve.url}/quick", (), QUICK_BODY)
    alone = quick_requests(page, min(seconds, 2.0))
    base, files = memory(pid)["VmRSS"], descriptors(pid)
    crowds: list[Crowd] = []

    def come(count: int, path: str, size: int, pause: float = 0.0) -> None:
        for number in range(PROCESSES):
            share = count // PROCESSES + (number < count % PROCESSES)
            if share:
                crowds.append(Crowd.of(serve, 2 + len(crowds), share, path, size, pause))

    began = time.monotonic()
    try:
        progress.print("the visitors come", style="dim")
        come(numbers.small, f"/page?{SMALL}", SMALL, PAUSE)
        come(numbers.large, f"/page?{LARGE}", LARGE, PAUSE)
        come(numbers.waiting, "/slow", len(QUICK_BODY))
        come(numbers.php, "/php/slow.php", len(QUICK_BODY))
        for crowd in crowds:
            crowd.wait_until_asked()
        held = f"{legacy.url}/held"
        wait_for(lambda: int(ask(held)) >= numbers.waiting, 60, "all who wait to have asked legacy")
        came = time.monotonic() - began
        progress.print("quick requests", style="dim")
        times = quick_requests(page, seconds)
        most, open_files = memory(pid)["VmHWM"], descriptors(pid)
        progress.print("the visitors get the rest", style="dim")
        (serve.directory.parent / "release").touch()
        ask(f"{legacy.url}/release")
        for crowd in crowds:
            crowd.finish()
        results = [crowd.result() for crowd in crowds]
        most = max(most, memory(pid)["VmHWM"])
    finally:
        for crowd in crowds:
            crowd.stop()
    wait_for(lambda: descriptors(pid) <= files + 2 * len(crowds), 60, "the connections to end")
    return {
        "cut_off": sum(c.count - found["whole"] for c, found in zip(crowds, results, strict=True)),
        "early": sum(found["early"] for found in results),
        "rss_mb": most,
        "rss_mb_before": base,
        "kb_per_visitor": round((most - base) * 1024 / sum(c.count for c in crowds), 1),
        "descriptors": open_files,
        "came_in_s": round(came, 1),
        "quick_p50_ms": round(statistics.median(times), 2),
        "quick_p99_ms": round(percentile(times, 0.99), 2),
        "quick_max_ms": round(max(times), 2),
        "quick_alone_p99_ms": round(percentile(alone, 0.99), 2),
    }
