"""What `bench.engine` compares: nginx as the legacy side, and everything in front of it.

Every server has one process, or one thread, that works.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bench.fronts import FRONT, LENGTH, Front, gunicorn, prepare, routes_yaml, visitor
from bench.report import BenchmarkFailed
from bridge.proxy.telemetry.scrape import scrape
from stack.bridge import BridgeServe, Gunicorn, PythonServer
from stack.load import UNSEEN, Page
from stack.nginx import Nginx
from stack.process import REPOSITORY, Server, find_program

__all__ = ["FRONTS", "Bridge", "fronts"]

FRONTS = {
    "direct": "nginx with the page: what all others have behind them",
    "nginx": "nginx as a proxy",
    "haproxy": "HAProxy",
    "engine": "bridgectl serve",
    "engine_500": "bridgectl serve with 500 routes",
    "dispatcher_gthread": "the Dispatcher under gunicorn gthread",
    "dispatcher_gevent": "the Dispatcher under gunicorn gevent",
    "proxymiddleware": "Werkzeug's ProxyMiddleware under gunicorn gthread",
    "aiohttp": "a proxy of aiohttp's server and client",
    "nginx_unseen": "nginx, every request with headers that it has never seen",
    "engine_unseen": "bridgectl serve, likewise",
    "nginx_all_new": "nginx, the target and the answer's head are new each time too",
    "engine_all_new": "bridgectl serve, likewise",
    "handler": "a hello page of Python under bridgectl serve",
    "handler_gthread": "the same under gunicorn gthread",
}

ANSWERS = {"project": "php", "plain": "origin", "hello": "python"}
"""Who answers on the routes that are asked for."""

# Legacy says something new in every answer where it is asked for what nobody has asked for.
ORIGIN = """
    keepalive_requests 1000000000;
    server {
        listen @LISTEN@;
        location / { return 200 "@PAGE@"; }
        location ~ ^/project/u { add_header X-Once $request_id; return 200 "@PAGE@"; }
    }
"""

HAPROXY = """\
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend visitors
    bind @LISTEN@
    default_backend legacy
backend legacy
    server origin @ORIGIN@
"""


class HAProxy(Server):
    """HAProxy in the foreground, with one thread, in front of `origin` (host:port)."""

    name: ClassVar[str] = "haproxy"

    def __init__(self, directory: Path, origin: str) -> None:
        super().__init__(directory)
        self.origin = origin

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT, without a slash at the end."""
        return f"http://{self.address}"

    def command(self) -> Sequence[str]:
        program = find_program("haproxy", "apt-get install haproxy")
        return [program, "-db", "-f", str(self.directory / "haproxy.cfg")]

    def prepare(self) -> None:
        text = HAPROXY.replace("@LISTEN@", self.address).replace("@ORIGIN@", self.origin)
        (self.directory / "haproxy.cfg").write_text(text, encoding="utf-8")


class AiohttpProxy(PythonServer):
    """`bench.aiohttp_proxy` in front of `upstream`."""

    name: ClassVar[str] = "aiohttp"

    def __init__(self, directory: Path, upstream: str) -> None:
        super().__init__(directory, port=None, env=None, cwd=None)
        self.upstream = upstream

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "bench.aiohttp_proxy", str(self.port), self.upstream]


def forge_routes(host: str, upstream: str) -> str:
    """The forge's routes.yaml for another address and another backend."""
    text = (REPOSITORY / "routes.yaml").read_text(encoding="utf-8")
    text = re.sub(r"hosts: \[.*?\]", f'hosts: ["{host}"]', text, count=1)
    return re.sub(r"url: \S+", f"url: {upstream}", text, count=1)


@dataclass(frozen=True)
class Bridge:
    """Where a bridge counts its requests and logs them."""

    log: Path
    state: Path

    def check(self, requests: int, left: int) -> None:
        """Raises BenchmarkFailed unless access log and metrics have seen `requests` requests,
        each with an id of its own, and answered by the side that it was meant for. wrk hangs up
        when its time is over: `left` requests at most may have lost their visitor."""
        ids: set[str] = set()
        lines = 0
        with self.log.open("rb") as log:
            for line in log:
                entry = json.loads(line)
                if entry.get("aborted") == "visitor left" and left > 0:
                    left -= 1
                    continue
                if entry["backend"] != ANSWERS.get(entry["route"]) or entry["status"] != 200:
                    raise BenchmarkFailed(f"the wrong side answered, or badly: {entry}")
                ids.add(entry["request_id"])
                lines += 1
        if len(ids) != lines:
            raise BenchmarkFailed(f"{lines} lines of the access log have {len(ids)} ids")
        counted = sum(
            float(line.rpartition(" ")[2])
            for line in scrape(self.state).decode().splitlines()
            if line.startswith("bridge_requests_total{")
        )
        if min(lines, counted) < requests:
            raise BenchmarkFailed(
                f"of {requests} requests the access log has {lines}, the metrics {counted:.0f}"
            )


@contextlib.contextmanager
def fronts(folder: Path) -> Iterator[tuple[dict[str, Front], dict[str, Bridge]]]:
    """Everything that is compared, started, by name, and how to check what is ours of it.
    Raises StackError."""
    body, headers = b"x" * LENGTH, visitor()
    origin = Nginx(folder / "origin", ORIGIN, values={"PAGE": body.decode()})
    nginx = Nginx(folder / "nginx", FRONT, values={"ORIGIN": origin.address})
    haproxy = HAProxy(folder / "haproxy", origin.address)
    middleware = gunicorn(folder / "proxymiddleware", "proxy_middleware")
    middleware.env = {"BENCH_UPSTREAM": origin.url}
    aiohttp = AiohttpProxy(folder / "aiohttp", origin.url)
    gthread = gunicorn(folder / "gthread", "dispatcher")
    gevent = gunicorn(folder / "gevent", "dispatcher")
    gevent.worker_class = "gevent"
    hello = gunicorn(folder / "handler_gthread", "bare_hello")
    engine, engine_500, handler = (
        BridgeServe(folder / name, env={}) for name in ("engine", "engine_500", "handler")
    )
    ours: dict[str, tuple[BridgeServe | Gunicorn, str]] = {
        "engine": (engine, forge_routes(engine.address, origin.url)),
        "engine_500": (engine_500, routes_yaml(engine_500.address, origin.url, 500)),
        "handler": (handler, routes_yaml(handler.address, origin.url, 40)),
        "dispatcher_gthread": (gthread, forge_routes(gthread.address, origin.url)),
        "dispatcher_gevent": (gevent, forge_routes(gevent.address, origin.url)),
    }
    bridges: dict[str, Bridge] = {}
    for name, (bridge, routes) in ours.items():
        written = prepare(bridge, routes)
        bridges[name] = Bridge(written.log, written.state)
        if isinstance(bridge, BridgeServe):
            bridge.options = ["--access-log", str(written.log)]
    # With 16 threads 144 requests may run or wait; of 256 the others would go to legacy.
    handler.options += ["--handlers", "32"]

    def front(server: Nginx | HAProxy | PythonServer, path: str = "/project/page") -> Front:
        return Front(Page(server.url + path, headers, body), server)

    def unseen(server: Nginx | PythonServer, path: str = "/project/page") -> Front:
        once = tuple(
            (name, f"{value}; session={UNSEEN}" if name == "Cookie" else value)
            for name, value in headers
        )
        return Front(Page(server.url + path, once, body), server)

    with contextlib.ExitStack() as stack:
        servers: list[Server] = [origin, nginx, haproxy, middleware, aiohttp, hello]
        servers += [server for server, _ in ours.values()]
        for server in servers:  # they start side by side
            stack.callback(server.stop)
            server.launch()
        for server in servers:
            server.wait_ready()
        compared = {
            "direct": front(origin),
            "nginx": front(nginx),
            "haproxy": front(haproxy),
            "engine": front(engine),
            "engine_500": front(engine_500, "/q/page"),
            "dispatcher_gthread": front(gthread),
            "dispatcher_gevent": front(gevent),
            "proxymiddleware": front(middleware, "/p/page"),
            "aiohttp": front(aiohttp),
            "nginx_unseen": unseen(nginx),
            "engine_unseen": unseen(engine),
            "nginx_all_new": unseen(nginx, f"/project/u{UNSEEN}"),
            "engine_all_new": unseen(engine, f"/project/u{UNSEEN}"),
            "handler": front(handler, "/hello"),
            "handler_gthread": front(hello, "/hello"),
        }
        assert list(compared) == list(FRONTS)
        yield compared, bridges
