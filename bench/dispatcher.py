"""What it costs to stand in front of a site: direct, nginx, ProxyMiddleware, the Dispatcher.

The legacy side is nginx with a page of 1 KiB, so that the fronts are measured and not PHP. The
ProxyMiddleware and the Dispatcher run under the same gunicorn settings; the Dispatcher does all
of its work (40 routes, some of them split; access log; metrics), the ProxyMiddleware has none.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from bench.load import latencies, throughput
from bench.report import Report, spread
from stack.gunicorn import BridgeServe, Gunicorn
from stack.nginx import Nginx

__all__ = ["run"]

LENGTH = 1024
THREADS = 8
CONNECTIONS = 32

ORIGIN = """
    keepalive_requests 1000000000;
    server {
        listen @LISTEN@;
        location / { return 200 "@PAGE@"; }
    }
"""

FRONT = """
    keepalive_requests 1000000000;
    upstream origin { server @ORIGIN@; keepalive 64; keepalive_requests 1000000000; }
    server {
        listen @LISTEN@;
        location / {
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }
    }
"""


def routes_yaml(hosts: list[str], upstream: str, count: int) -> str:
    """A routing file with `count` routes, every fourth of them split."""
    names = ", ".join(f'"{host}"' for host in hosts)
    lines = [
        "version: 1",
        "sites:",
        f"  bench: {{hosts: [{names}], legacy: origin}}",
        "backends:",
        f'  origin: {{url: "{upstream}", limits: {{connections: 64}}}}',
        "routes:",
        '  - {name: hello, path: /hello, handler: "bench.apps:hello", python: 100%}',
    ]
    for number in range(count - 1):
        share = "50%" if number % 4 == 0 else "0%"
        lines.append(
            f'  - {{name: r{number}, path: "/area{number}/<name>/<int:id>", '
            f'handler: "bench.apps:hello", python: {share}}}'
        )
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _fronts(folder: Path) -> Iterator[dict[str, str]]:
    """Everything that is compared, started: name → URL of the page."""
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(
            Nginx(folder / "origin", ORIGIN, values={"PAGE": "x" * LENGTH})
        )
        upstream = f"http://{origin.address}"
        nginx = stack.enter_context(
            Nginx(folder / "nginx", FRONT, values={"ORIGIN": origin.address})
        )

        def gunicorn(name: str, app: str, env: dict[str, str]) -> Gunicorn:
            server = Gunicorn(
                folder / name,
                f"bench.apps:{app}()",
                threads=THREADS,
                options=["--keep-alive", "30"],
                env={"BENCH_UPSTREAM": upstream, **env},
            )
            return stack.enter_context(server)

        def settings(server_address: str, name: str, count: int) -> dict[str, str]:
            state = folder / f"{name}-state"
            state.mkdir()
            file = folder / f"{name}.yaml"
            file.write_text(routes_yaml([server_address], upstream, count))
            return {"BRIDGE_ROUTES": str(file), "BRIDGE_STATE_DIR": str(state)}

        def dispatcher(name: str, count: int) -> Gunicorn:
            server = Gunicorn(
                folder / name,
                "bench.apps:dispatcher()",
                threads=THREADS,
                options=["--keep-alive", "30"],
            )
            server.env = settings(server.address, name, count)
            return stack.enter_context(server)

        middleware = gunicorn("middleware", "proxy_middleware", {})
        ours = dispatcher("dispatcher", 40)
        large = dispatcher("dispatcher500", 500)
        log = ["--access-log", str(folder / "serve.jsonl")]
        serve = BridgeServe(folder / "serve", env={}, threads=THREADS, options=log)
        serve.env = settings(serve.address, "serve", 40)
        stack.enter_context(serve)
        yield {
            "direct": f"{upstream}/p/page",
            "nginx": f"http://{nginx.address}/p/page",
            "proxymiddleware": f"{middleware.url}/p/page",
            "dispatcher": f"{ours.url}/p/page",
            "dispatcher_500_routes": f"{large.url}/p/page",
            "dispatcher_handler": f"{ours.url}/hello",
            "bridge_serve": f"{serve.url}/p/page",
        }


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Interleaved rounds; medians. Raises BenchmarkFailed when any answer is wrong."""
    rates: dict[str, list[float]] = {}
    p50: dict[str, list[float]] = {}
    p99: dict[str, list[float]] = {}
    with _fronts(folder) as urls:
        for url in urls.values():
            latencies(url, requests=100, length=LENGTH)  # warm
        for number in range(1, rounds + 1):
            for name, url in urls.items():
                progress.print(f"round {number} of {rounds}: {name}", style="dim")
                times = sorted(latencies(url, requests=200 * seconds, length=LENGTH))
                p50.setdefault(name, []).append(statistics.median(times))
                p99.setdefault(name, []).append(times[int(len(times) * 0.99)])
                rate = throughput(url, connections=CONNECTIONS, seconds=seconds)
                rates.setdefault(name, []).append(rate)
    return _report(rates, p50, p99)


def _report(
    rates: dict[str, list[float]], p50: dict[str, list[float]], p99: dict[str, list[float]]
) -> Report:
    def added(times: dict[str, list[float]], name: str) -> float:
        """Median over the rounds of what a front adds to direct in the same round."""
        pairs = zip(times[name], times["direct"], strict=True)
        return statistics.median(front - direct for front, direct in pairs)

    def over(name: str, other: str) -> float:
        pairs = zip(rates[name], rates[other], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 2)

    report = Report(
        "requests/s at 32 connections; µs at 1 connection, median (smallest–largest)",
        ("", "requests/s", "p50 µs", "p99 µs", "added p50", "added p99"),
    )
    for name, values in rates.items():
        report.rows.append(
            (
                name,
                spread(values),
                spread(p50[name]),
                spread(p99[name]),
                f"{added(p50, name):,.0f}",
                f"{added(p99, name):,.0f}",
            )
        )
        report.figures[f"{name}_rps"] = round(statistics.median(values))
        if name != "direct":
            report.figures[f"{name}_added_p50_us"] = round(added(p50, name))
            report.figures[f"{name}_added_p99_us"] = round(added(p99, name))
    report.figures["added_p50_us"] = report.figures["dispatcher_added_p50_us"]
    report.figures["added_p99_us"] = report.figures["dispatcher_added_p99_us"]
    report.ratios = {
        "dispatcher_over_proxymiddleware": over("dispatcher", "proxymiddleware"),
        "dispatcher_over_nginx": over("dispatcher", "nginx"),
        "bridge_serve_over_proxymiddleware": over("bridge_serve", "proxymiddleware"),
        "dispatcher_500_routes_over_dispatcher": over("dispatcher_500_routes", "dispatcher"),
        "handler_over_dispatcher": over("dispatcher_handler", "dispatcher"),
    }
    return report
