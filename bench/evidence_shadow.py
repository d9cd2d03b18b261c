"""What visitors notice of a shadow: legacy's pages with it off, on, slow, computing, and killed.

One bridge each, with one worker, in front of the same nginx; rounds in turns. The shadow is on
another core than the worker where there is one. Instructions are those of the worker alone, of a
request over the rate and of one that is copied; what a request costs at the default rate follows
from both and the requests/s that were measured.
"""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.before.callgrind import Counter, under_callgrind
from bench.fronts import LENGTH, ORIGIN, Bridge, prepare, visitor
from bench.report import BenchmarkFailed, Report, spread
from bridge.files import is_alive
from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry.workers import read_all
from stack.bridge import BridgeServe
from stack.load import Page, latencies, percentile, throughput
from stack.nginx import Nginx
from stack.waiting import wait_for

__all__ = ["ROWS", "instructions", "long_run", "parts"]

RATE = 10  # copies a second of a worker, the default of routes.yaml
CONNECTIONS = 32  # of wrk
ALONE = 5000  # requests one by one in a round: longer than the first copies take
SHORT, LONG = 20_000, 1_000_000
"""Comparisons of the run that watches memory."""
_SHADOW = ", shadow: {{share: 100%, rate: {rate}}}"
_LIMIT = 512  # MB that the shadow may have

ROWS = {"off": "hello", "on": "hello", "slow": "slow", "computing": "computing", "killed": "hello"}
"""The handler of each."""


class Serve(BridgeServe):
    """`bridgectl serve` whose worker and shadow have a core each. counted: under callgrind."""

    start_bound = 120.0

    def __init__(self, folder: Path, handler: str, shadow: str, origin: str, counted: bool) -> None:
        super().__init__(folder, env={}, options=["--access-log", str(folder / "access.jsonl")])
        self.counted = counted
        self.bridge: Bridge = prepare(
            self,
            f"version: 1\nsites: {{bench: {{hosts: ['{self.address}'], legacy: origin}}}}\n"
            f'backends: {{origin: {{url: "{origin}", limits: {{connections: 64}}}}}}\nroutes:\n'
            f'  - {{name: plain, path: "/q/<name>", handler: "bench.apps:{handler}", python: 0%'
            f"{shadow}}}\n",
        )

    def command(self) -> Sequence[str]:
        words = super().command()
        return under_callgrind(words, self.directory) if self.counted else words

    @property
    def worker(self) -> int:
        (one,) = wait_for(lambda: read_all(self.bridge.state), 120, "a worker with a table")
        return one.pid

    def shadows(self) -> list[int]:
        """Those that live."""
        found = (self.bridge.state / "shadow").glob("[0-9]*")
        return [pid for path in found if is_alive(pid := int(path.name))]

    def apart(self) -> None:
        """Give worker and shadow a core each."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return
        for pids, core in (([self.worker], cores[0]), (self.shadows(), cores[-1])):
            for pid in pids:
                for task in Path(f"/proc/{pid}/task").glob("*"):
                    with contextlib.suppress(OSError):
                        os.sched_setaffinity(int(task.name), {core})

    def kinds(self) -> dict[str, int]:
        """Comparisons by kind."""
        found = scrape.by_two(self.bridge.state, scrape.SHADOW)
        return {kind: number for (_, kind), number in found.items()}


@dataclass
class _Found:
    """One value of each round: requests/s, and the latency of the 99th percentile in µs."""

    rate: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)


@contextlib.contextmanager
def _killing(serve: Serve) -> Iterator[list[int]]:
    """Kill the shadow every second, as soon as there is one."""
    over, killed = threading.Event(), list[int]()

    def kill() -> None:
        while not over.wait(0 if not killed else 1):
            for pid in serve.shadows():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            over.wait(0.1)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _serving(folder: Path, origin: str) -> Iterator[dict[str, Serve]]:
    with contextlib.ExitStack() as ends:
        found = {}
        for name, handler in ROWS.items():
            shadow = "" if name == "off" else _SHADOW.format(rate=f"{RATE}/s")
            serve = Serve(folder / name, handler, shadow, origin, counted=False)
            found[name] = ends.enter_context(serve)
        for name, serve in found.items():
            if name != "off":
                wait_for(serve.shadows, 120, f"the shadow of {name}")
            serve.apart()
        yield found


def parts(report: Report, folder: Path, rounds: int, seconds: int, progress: Console) -> None:
    """Add rows, figures and ratios to `report`. A single round of a second is the short form, which
    shows that it runs. Raises BenchmarkFailed and StackError.

    folder: for the servers.
    rounds: in turns.
    seconds: of load, each.
    """
    quick = rounds == seconds == 1
    found = {name: _Found() for name in ROWS}
    with Nginx(folder / "origin", ORIGIN, values={"PAGE": "x" * LENGTH}) as origin:
        with _serving(folder, origin.url) as serving:
            for number in range(rounds):
                for name in list(ROWS) if number % 2 == 0 else reversed(ROWS):
                    progress.print(f"shadow, round {number + 1}: {name}", style="dim")
                    _round(serving[name], name, found[name], seconds)
            _check(serving)
        off = found["off"]
        for name, one in found.items():
            report.rows.append((f"shadow {name}", spread(one.rate), spread(one.p99)))
            report.figures[f"shadow_{name}_rps"] = round(statistics.median(one.rate))
            report.figures[f"shadow_{name}_p99_us"] = round(statistics.median(one.p99))
        others = [name for name in ROWS if name != "off"]
        for name in others:
            report.ratios[f"shadow_{name}_p99_over_off"] = _over(found[name].p99, off.p99)
            report.ratios[f"shadow_{name}_rps_over_off"] = _over(found[name].rate, off.rate)
        worst, least = "shadow_p99_over_off", "shadow_rps_over_off"
        report.ratios[worst] = max(report.ratios[f"shadow_{name}_p99_over_off"] for name in others)
        report.ratios[least] = min(report.ratios[f"shadow_{name}_rps_over_off"] for name in others)
        progress.print("shadow: count instructions", style="dim")
        rate = statistics.median(off.rate)
        instructions(report, folder, origin.url, rate, 100 if quick else 1000)
        progress.print("shadow: memory", style="dim")
        long_run(report, folder, origin.url, SHORT // 20 if quick else SHORT)


def _over(ones: Sequence[float], others: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ones, others, strict=True)), 3)


def _page(serve: Serve) -> Page:
    return Page(serve.url + "/q/page", visitor(), b"x" * LENGTH)


def _round(serve: Serve, name: str, found: _Found, seconds: int) -> None:
    page = _page(serve)
    with _killing(serve) if name == "killed" else contextlib.nullcontext():
        times, answer = latencies(page, requests=ALONE * seconds)
        found.p99.append(percentile(times, 0.99))
        rate, _ = throughput(page, connections=CONNECTIONS, seconds=seconds, answer=answer)
        found.rate.append(rate)


def _check(serving: dict[str, Serve]) -> None:
    """Raises BenchmarkFailed unless all was as it is called."""
    for name in ("on", "computing"):
        wait_for(serving[name].kinds, 30, f"a comparison of {name}")
    if serving["off"].kinds() or serving["off"].shadows():
        raise BenchmarkFailed("there is a shadow where it is off")
    wait_for(lambda: _starts(serving["killed"]) > 1, 90, "a shadow in place of the one killed")
    if _starts(serving["on"]) != 1:
        raise BenchmarkFailed("a shadow that nobody killed has begun anew")


def _starts(serve: Serve) -> int:
    for line in scrape.scrape(serve.bridge.state).decode().splitlines():
        if line.startswith(f"{scrape.SHADOW_STARTS} "):
            return int(float(line.split()[1]))
    return 0


def instructions(report: Report, folder: Path, origin: str, rate: float, requests: int) -> None:
    """Count the worker's instructions a request: shadow off, over the rate, and each one copied.

    report: gets the figures, and the ratio at the default rate.
    folder: for the servers.
    origin: URL of legacy.
    rate: requests/s, of which RATE are copied.
    requests: that are counted.
    """
    shadows = {
        "off": "",
        "over_rate": _SHADOW.format(rate="1/h"),
        "copied": _SHADOW.format(rate="100000/s"),
    }
    found = {}
    for name, shadow in shadows.items():
        with Serve(folder / f"counted-{name}", "hello", shadow, origin, counted=True) as serve:
            page = _page(serve)
            latencies(page, requests=requests)
            counter = Counter(serve.worker, serve.directory)
            latencies(page, requests=requests)
            first = counter.take()
            latencies(page, requests=2 * requests)
            # What it does besides requests is in both.
            found[name] = (counter.take() - first) / requests
        report.figures[f"shadow_instructions_{name}"] = round(found[name])
    copied = min(1.0, RATE / rate)
    mean = found["over_rate"] * (1 - copied) + found["copied"] * copied
    report.ratios["shadow_instructions_over_off"] = round(mean / found["off"], 4)
    report.ratios["shadow_copied_instructions_over_off"] = round(found["copied"] / found["off"], 3)


def long_run(report: Report, folder: Path, origin: str, comparisons: int) -> None:
    """Let the shadow compare so many, and look how large it and its store become. Raises
    BenchmarkFailed where the shadow had to begin anew, or too few were compared.

    report: gets the figures `shadow_rss_mb` and `store_mb`.
    folder: for the servers.
    origin: URL of legacy.
    comparisons: LONG proves the bound, SHORT shows that it runs.
    """
    shadow = _SHADOW.format(rate="100000/s")
    with Serve(folder / "memory", "hello", shadow, origin, counted=False) as serve:
        (pid,) = wait_for(serve.shadows, 120, "the shadow")
        serve.apart()
        page, most, done = _page(serve), 0, 0
        while done < comparisons:
            latencies(page, requests=500)
            most = max(most, _resident(pid))
            now = sum(serve.kinds().values())
            if serve.shadows() != [pid]:
                raise BenchmarkFailed("the shadow ended while its memory was watched")
            done = now
        store = sum(path.stat().st_size for path in serve.bridge.state.glob("evidence.db*"))
    report.figures["shadow_compared"] = done
    report.figures["shadow_rss_mb"] = round(most / 1e6, 1)
    report.figures["store_mb"] = round(store / 1e6, 1)
    if most > _LIMIT * 2**20:
        raise BenchmarkFailed(f"the shadow had {most / 2**20:,.0f} MiB")


def _resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
