"""What it costs to stand in front of a site: direct, nginx, ProxyMiddleware, the Dispatcher.

The legacy side is nginx with a page of 1 KiB, so that the fronts are measured and not PHP. The
ProxyMiddleware and the Dispatcher run under the same gunicorn settings; the Dispatcher does all
of its work (40 routes, some of them split; access log; metrics), the ProxyMiddleware has none.
`dispatcher` is a page of a route that is not flipped yet, `dispatcher_split` one of a split
route, which also looks for the visitor's key and keeps the answer out of shared caches. The event
loop of `bridgectl serve` has a benchmark of its own, `engine`.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from bench.fronts import CONNECTIONS, Front, fronts
from bench.report import Report, spread
from stack.load import latencies, throughput

__all__ = ["run"]

WARM = 200  # requests before the first round
ALONE = 400  # requests one by one in a round, for each second of load


@dataclass
class Measured:
    """One value a round: requests/s, µs of CPU a request, µs of waiting a request."""

    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    requests: int = 0

    def take(self, front: Front, seconds: int) -> None:
        """Measure one round. Raises BenchmarkFailed."""
        times, answer = latencies(front.page, requests=ALONE * seconds)
        times.sort()
        self.p50.append(statistics.median(times))
        self.p99.append(times[len(times) * 99 // 100])
        before = front.cpu()
        rate, requests = throughput(
            front.page, connections=CONNECTIONS, seconds=seconds, answer=answer
        )
        self.rate.append(rate)
        self.cpu.append((front.cpu() - before) * 1e6 / requests)
        self.requests += requests + len(times)


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Interleaved rounds; medians. Raises BenchmarkFailed when any answer is wrong, and
    StackError when a server does not start."""
    progress.print("start the servers", style="dim")
    with fronts(folder) as compared:
        measured = {name: Measured() for name in compared}
        for front in compared.values():
            latencies(front.page, requests=WARM)
        for number in range(rounds):
            # Every other round goes the other way, so that none always follows the same one.
            for name in list(compared) if number % 2 == 0 else reversed(compared):
                progress.print(f"round {number + 1} of {rounds}: {name}", style="dim")
                measured[name].take(compared[name], seconds)
        for bridge in {front.bridge for front in compared.values() if front.bridge}:
            through = (name for name, front in compared.items() if front.bridge == bridge)
            bridge.check(sum(measured[name].requests for name in through))
    return _report(measured)


def _report(measured: dict[str, Measured]) -> Report:
    direct = measured["direct"]

    def added(times: list[float], without: list[float]) -> float:
        """Median over the rounds of what a front adds to direct in the same round."""
        return statistics.median(a - b for a, b in zip(times, without, strict=True))

    def over(name: str, other: str) -> float:
        pairs = zip(measured[name].rate, measured[other].rate, strict=True)
        return round(statistics.median(a / b for a, b in pairs), 2)

    report = Report(
        f"requests/s and µs of CPU a request at {CONNECTIONS} connections, latency in µs at one; "
        "median (smallest–largest) of the rounds",
        ("", "requests/s", "CPU", "p50", "p99", "added p50", "added p99"),
    )
    for name, found in measured.items():
        p50, p99 = added(found.p50, direct.p50), added(found.p99, direct.p99)
        report.figures[f"{name}_rps"] = round(statistics.median(found.rate))
        report.figures[f"{name}_cpu_us"] = round(statistics.median(found.cpu))
        added_columns = ("", "")
        if found is not direct:
            report.figures[f"{name}_added_p50_us"] = round(p50)
            report.figures[f"{name}_added_p99_us"] = round(p99)
            added_columns = (f"{p50:,.0f}", f"{p99:,.0f}")
        columns = [spread(values) for values in (found.rate, found.cpu, found.p50, found.p99)]
        report.rows.append((name, *columns, *added_columns))
    report.figures["added_p50_us"] = report.figures["dispatcher_added_p50_us"]
    report.figures["added_p99_us"] = report.figures["dispatcher_added_p99_us"]
    report.ratios = {
        "dispatcher_over_proxymiddleware": over("dispatcher", "proxymiddleware"),
        "dispatcher_split_over_proxymiddleware": over("dispatcher_split", "proxymiddleware"),
        "dispatcher_over_nginx": over("dispatcher", "nginx"),
        "dispatcher_500_routes_over_dispatcher": over("dispatcher_500_routes", "dispatcher"),
        "handler_over_dispatcher": over("dispatcher_handler", "dispatcher"),
    }
    return report
