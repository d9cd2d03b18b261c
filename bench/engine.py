"""The engine beside nginx, HAProxy, the Dispatcher under gunicorn, and what Python has else.

One worker each, the same page of 1 KiB from nginx, keep-alive on both sides. The engine is
`bridgectl serve` with everything on: the forge's routes.yaml, metrics, access log.
"""

from __future__ import annotations

import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.engine_fronts import FRONTS, Bridge, fronts
from bench.fronts import Front
from bench.report import Report, spread
from stack.load import latencies, throughput

__all__ = ["run"]

WARM = 400  # requests before the first round
ALONE = 400  # requests one by one in a round, for each second of load
COMPARED = 32  # connections at which the ratios are taken
CONNECTIONS = (COMPARED, 256)  # of wrk


@dataclass
class Measured:
    """One value a round: µs of waiting a request at one connection; for each number of
    connections requests/s and µs of CPU a request."""

    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    rate: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in CONNECTIONS})
    cpu: dict[int, list[float]] = field(default_factory=lambda: {n: [] for n in CONNECTIONS})
    requests: int = 0

    def take(self, front: Front, seconds: int, most: int = 256) -> None:
        """Measure one round, with `most` connections. Raises BenchmarkFailed."""
        times, answer = latencies(front.page, requests=ALONE * seconds)
        self.requests += len(times)
        times.sort()
        self.p50.append(statistics.median(times))
        self.p99.append(times[len(times) * 99 // 100])
        for number in CONNECTIONS:
            before = front.cpu()
            rate, requests = throughput(
                front.page, connections=min(number, most), seconds=seconds, answer=answer
            )
            self.rate[number].append(rate)
            self.cpu[number].append((front.cpu() - before) * 1e6 / requests)
            self.requests += requests


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Interleaved rounds; medians. A single round of a second, which shows no more than that it
    runs, is taken of all fronts at once. Raises BenchmarkFailed when any answer is wrong, and
    StackError when a server does not start."""
    progress.print("start the servers", style="dim")
    with fronts(folder) as (compared, bridges):
        measured = {name: Measured() for name in compared}
        for front in compared.values():
            latencies(front.page, requests=WARM)
        if rounds == seconds == 1:
            progress.print("one round, all at once: figures that say nothing", style="dim")
            with ThreadPoolExecutor(len(compared)) as pool:
                list(pool.map(lambda name: measured[name].take(compared[name], 1, 8), compared))
        else:
            for number in range(rounds):
                # Every other round goes the other way: none always follows the same one.
                for name in list(compared) if number % 2 == 0 else reversed(compared):
                    progress.print(f"round {number + 1} of {rounds}: {name}", style="dim")
                    measured[name].take(compared[name], seconds)
        _check(bridges, compared, measured)
    return _report(measured)


def _check(
    bridges: dict[str, Bridge], compared: dict[str, Front], measured: dict[str, Measured]
) -> None:
    for name, bridge in bridges.items():
        server = compared[name].server
        through = [measured[other] for other in compared if compared[other].server is server]
        server.stop()  # then the last lines are written
        rounds = sum(len(found.p50) for found in through)
        bridge.check(sum(found.requests for found in through), rounds * sum(CONNECTIONS))


def _report(measured: dict[str, Measured]) -> Report:
    direct = measured["direct"]

    def over(name: str, other: str, connections: int = COMPARED) -> float:
        """Median of the ratios of each round."""
        rates = measured[name].rate[connections], measured[other].rate[connections]
        return round(statistics.median(a / b for a, b in zip(*rates, strict=True)), 2)

    report = Report(
        "requests/s and µs of CPU a request, latency in µs at one connection; median "
        "(smallest–largest) of the rounds",
        ("", "c=32: requests/s", "CPU", "c=256: requests/s", "CPU", "c=1: p50", "p99", "added p50"),
    )
    for name in FRONTS:
        found = measured[name]
        added = statistics.median(a - b for a, b in zip(found.p50, direct.p50, strict=True))
        report.figures[f"{name}_added_p50_us"] = round(added)
        columns: list[str] = []
        for number in CONNECTIONS:
            rate, cpu = found.rate[number], found.cpu[number]
            report.figures[f"{name}_c{number}_rps"] = round(statistics.median(rate))
            report.figures[f"{name}_c{number}_cpu_us"] = round(statistics.median(cpu), 1)
            columns += [spread(rate), f"{statistics.median(cpu):,.0f}"]
        columns += [spread(found.p50), spread(found.p99), f"{added:,.0f}"]
        report.rows.append((name, *columns))
    report.figures["added_p50_us"] = report.figures["engine_added_p50_us"]
    report.ratios = {
        "engine_over_nginx": over("engine", "nginx"),
        "engine_over_haproxy": over("engine", "haproxy"),
        "engine_over_proxymiddleware": over("engine", "proxymiddleware"),
        "engine_over_aiohttp": over("engine", "aiohttp"),
        "engine_over_dispatcher_gthread": over("engine", "dispatcher_gthread"),
        "engine_over_dispatcher_gevent": over("engine", "dispatcher_gevent"),
        "engine_500_over_engine": over("engine_500", "engine"),
        "engine_500_over_nginx": over("engine_500", "nginx"),
        "engine_500_over_proxymiddleware": over("engine_500", "proxymiddleware"),
        "engine_500_over_aiohttp": over("engine_500", "aiohttp"),
        "engine_unseen_over_nginx_unseen": over("engine_unseen", "nginx_unseen"),
        "engine_unseen_over_engine": over("engine_unseen", "engine"),
        "engine_all_new_over_nginx_all_new": over("engine_all_new", "nginx_all_new"),
        "handler_over_gthread": over("handler", "handler_gthread"),
        "engine_over_nginx_c256": over("engine", "nginx", 256),
    }
    return report
