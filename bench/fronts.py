"""What `bench.dispatcher` compares: nginx as the legacy side, and everything in front of it.

Every server has one process that works. The WSGI fronts run under the same gunicorn settings.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import BenchmarkFailed
from bridge.proxy.decision.buckets import bucket, inside
from bridge.proxy.telemetry.scrape import scrape
from stack.bridge import BridgeServe, Gunicorn
from stack.load import Page
from stack.nginx import Nginx
from stack.process import Server

__all__ = [
    "CONNECTIONS",
    "FRONT",
    "LENGTH",
    "ORIGIN",
    "Bridge",
    "Front",
    "fronts",
    "gunicorn",
    "prepare",
    "routes_yaml",
    "visitor",
]

LENGTH = 1024  # bytes of the page
THREADS = 8
CONNECTIONS = 32  # of wrk
SHARE = 25  # percent of the visitors to whom Python shows the page; the measured one is not
ANSWERS = {"page": "origin", "plain": "origin", "hello": "python"}
"""Who answers the three routes that are asked for."""

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

AREA = """\
  - {name: a@-page, path: "/a@/<name>", handler: "bench.apps:hello", python: 50%}
  - {name: a@-list, path: "/a@", query: {page: false}, handler: "bench.apps:hello", python: 0%}
  - {name: a@-old, path: /index.php, query: {page: "a@"}, handler: "bench.apps:hello", python: 0%}
  - {name: a@-file, path: "/a@/<name>/<int:id>", handler: "bench.apps:hello", python: 0%}
"""
"""Four routes of one part of a site, as the forge has them; one of them is split."""


def routes_yaml(host: str, upstream: str, count: int) -> str:
    """A routing file for `host` with `count` routes, the page's and the handler's among them."""
    lines = [
        "version: 1",
        "sites:",
        f'  bench: {{hosts: ["{host}"], legacy: origin}}',
        "backends:",
        f'  origin: {{url: "{upstream}", limits: {{connections: 64}}}}',
        "routes:",
        '  - {name: hello, path: /hello, handler: "bench.apps:hello", python: 100%}',
        '  - {name: plain, path: "/q/<name>", handler: "bench.apps:hello", python: 0%}',
        f'  - {{name: page, path: "/p/<name>", handler: "bench.apps:hello", python: {SHARE}%}}',
    ]
    areas = "".join(AREA.replace("@", str(number)) for number in range(count // 4 + 1))
    return "\n".join([*lines, *areas.splitlines()[: count - 3]]) + "\n"


def visitor() -> tuple[tuple[str, str], ...]:
    """Headers as a browser sends them, with the cookies of a visitor to whom legacy shows the
    page: the whole work of a split route is done, and the answer comes from legacy."""
    keys = (f"visitor-{number}" for number in range(1000))
    key = next(key for key in keys if not inside(bucket("route:page", key), SHARE * 1000))
    return (
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Language", "en-GB,en;q=0.5"),
        ("Accept-Encoding", "gzip, deflate"),
        ("Cookie", f"PHPSESSID=5f3759dfb1f0c4a1be2c9d0e7a6b4c21; bridge_share={key}"),
    )


@dataclass(frozen=True)
class Bridge:
    """Where a Dispatcher counts its requests and writes its access log."""

    log: Path
    state: Path

    def check(self, requests: int) -> None:
        """Raises BenchmarkFailed unless access log and metrics have seen `requests` requests,
        each with an id of its own, and answered by the side that it was meant for."""
        ids: set[str] = set()
        with self.log.open("rb") as log:
            for line in log:
                entry = json.loads(line)
                if entry["backend"] != ANSWERS[entry["route"]] or entry["reason"] != "share":
                    raise BenchmarkFailed(f"the wrong side answered: {entry}")
                if entry["request_id"] in ids:
                    raise BenchmarkFailed(f"two requests have the same id: {entry}")
                ids.add(entry["request_id"])
        counted = sum(
            float(line.rpartition(" ")[2])
            for line in scrape(self.state).decode().splitlines()
            if line.startswith("bridge_requests_total{")
        )
        if min(len(ids), counted) < requests:
            raise BenchmarkFailed(
                f"of {requests} requests the access log has {len(ids)}, the metrics {counted:.0f}"
            )


@dataclass(frozen=True)
class Front:
    """A page through one of the compared servers."""

    page: Page
    server: Server
    bridge: Bridge | None = None

    def cpu(self) -> float:
        """Seconds of CPU that all processes of the server have used so far."""
        ticks = 0
        for pid in self.server.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])  # utime and stime, see proc(5)
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def fronts(folder: Path) -> Iterator[dict[str, Front]]:
    """Everything that is compared, started, by name. Raises StackError."""
    body, headers = b"x" * LENGTH, visitor()
    origin = Nginx(folder / "origin", ORIGIN, values={"PAGE": body.decode()})
    nginx = Nginx(folder / "nginx", FRONT, values={"ORIGIN": origin.address})
    middleware = gunicorn(folder / "proxymiddleware", "proxy_middleware")
    middleware.env = {"BENCH_UPSTREAM": origin.url}
    dispatcher = gunicorn(folder / "dispatcher", "dispatcher")
    large = gunicorn(folder / "dispatcher-500", "dispatcher")
    bridges: dict[Server, Bridge] = {
        server: _bridge(server, origin.url, count)
        for server, count in ((dispatcher, 40), (large, 500))
    }

    def front(server: Nginx | Gunicorn, path: str = "/p/page") -> Front:
        return Front(Page(server.url + path, headers, body), server, bridges.get(server))

    with contextlib.ExitStack() as stack:
        servers: list[Server] = [origin, nginx, middleware, dispatcher, large]
        for server in servers:  # they start side by side
            stack.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait_ready()
        yield {
            "direct": front(origin),
            "nginx": front(nginx),
            "proxymiddleware": front(middleware),
            "dispatcher": front(dispatcher, "/q/page"),
            "dispatcher_split": front(dispatcher),
            "dispatcher_500_routes": front(large, "/q/page"),
            "dispatcher_handler": front(dispatcher, "/hello"),
        }


def gunicorn(folder: Path, app: str) -> Gunicorn:
    options = ["--keep-alive", "30"]
    return Gunicorn(folder, f"bench.apps:{app}()", threads=THREADS, options=options)


def _bridge(server: Gunicorn, upstream: str, count: int) -> Bridge:
    """Write what a Dispatcher needs for `count` routes, and set its environment."""
    return prepare(server, routes_yaml(server.address, upstream, count))


def prepare(server: Gunicorn | BridgeServe, routes: str) -> Bridge:
    """Write `routes` to its routes.yaml, and set its environment."""
    folder = server.directory
    state = folder / "state"
    state.mkdir(parents=True)
    (folder / "routes.yaml").write_text(routes)
    server.env = {
        "BRIDGE_ROUTES": str(folder / "routes.yaml"),
        "BRIDGE_STATE_DIR": str(state),
        "BRIDGE_SECRET": "bench",
        "BENCH_ACCESS_LOG": str(folder / "access.jsonl"),
    }
    return Bridge(folder / "access.jsonl", state)
