"""The WSGI applications that `bench.dispatcher` compares, as gunicorn imports them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from wsgiref.types import WSGIApplication

from werkzeug.middleware.http_proxy import ProxyMiddleware
from werkzeug.wrappers import Request, Response

from bridge.proxy.front import Front
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.telemetry.accesslog import AccessLog
from bridge.proxy.telemetry.metrics import Metrics
from bridge.proxy.wsgi.dispatcher import Dispatcher

__all__ = ["bare_hello", "computing", "dispatcher", "hello", "proxy_middleware", "slow"]

PAGE = b"x" * 1024


def hello(request: Request) -> Response:
    """The Python handler: a page as large as the legacy one."""
    return Response(PAGE, mimetype="text/html")


def slow(request: Request) -> Response:
    """The same, after waiting for longer than a visitor would."""
    time.sleep(2)
    return hello(request)


def computing(request: Request) -> Response:
    """The same, after a tenth of a second of computing."""
    until = time.thread_time() + 0.1
    while time.thread_time() < until:
        sum(range(1000))
    return hello(request)


def bare_hello() -> WSGIApplication:
    """The handler as an application, with nothing around it."""
    return Request.application(hello)


def proxy_middleware() -> WSGIApplication:
    """Werkzeug's, with nothing around it; it takes prefixes only, so the page is under /p/."""

    @Request.application
    def nothing(request: Request) -> Response:
        return Response("not proxied", 500)

    return ProxyMiddleware(nothing, {"/p/": {"target": os.environ["BENCH_UPSTREAM"]}})


def dispatcher() -> WSGIApplication:
    """Ours with all of its work: routes, access log, metrics."""
    state = Path(os.environ["BRIDGE_STATE_DIR"])
    metrics = Metrics(state, 0)
    reloader = Reloader(Path(os.environ["BRIDGE_ROUTES"]), state, metrics.on_reload)
    hooks = (metrics, AccessLog(os.environ["BENCH_ACCESS_LOG"]))
    return Dispatcher(Front(reloader.table, secret=os.environ["BRIDGE_SECRET"], hooks=hooks))
