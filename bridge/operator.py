"""The operator's listener: metrics, health, the table as it runs, and the ingest of events.

Never on the public port. `application` puts it together from the parts that a process has:
beside `bridgectl serve` it is a small process of its own (`main`), in `bridgectl worker` and
`bridgectl relay` a thread (`serve_in_thread`). With BRIDGE_OPERATOR_TOKEN set, every request needs
it as a bearer token; without one it listens on the loopback address only, and takes no events.
"""

from __future__ import annotations

import contextlib
import errno
import hmac
import ipaddress
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from werkzeug.wrappers import Request, Response

from bridge import logs
from bridge.errors import BridgeError, ConfigError, WrongUsage
from bridge.files import write_atomically
from bridge.listener import Limits, Listener
from bridge.settings import Settings
from bridge.units import several

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = [
    "application",
    "beside_serve",
    "broken",
    "check_address",
    "check_free",
    "forget",
    "serve_in_thread",
]

log = structlog.get_logger("bridge.operator")

TABLE = "Bridge-Table"
"""Header of GET /health: which table is served here; several, while workers differ."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GRACE = 5.0  # seconds
_GONE_WITHIN = 3.0  # seconds; a listener whose parent was killed looks for it every second
_BROKEN = "operator.broken"
"""Name of the file in the state directory that says why there is no listener."""


def check_address(address: str, token: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises WrongUsage when it is malformed, BridgeError when it can
    be reached from other machines and there is no token."""
    host, port = _split(address)
    if host not in _LOOPBACK and not token:
        raise BridgeError(
            f"the operator's listener on {host} could be reached from other machines; "
            "set BRIDGE_OPERATOR_TOKEN, or listen on 127.0.0.1"
        )
    return host, port


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    good = _PORT.fullmatch(port) and int(port) <= 65535 and _HOST.fullmatch(host)
    if not good or (":" in host and not _is_ipv6(host)):
        raise WrongUsage(f"--operator {address} is no host:port; write for example 127.0.0.1:9180")
    return host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def application(
    settings: Settings,
    *,
    metrics: Callable[[], bytes],
    health: Callable[[], str],
    tables: Callable[[], Sequence[str]] | None = None,
    routes: Callable[[], object] | None = None,
    ingest: Callable[[Request], Response] | None = None,
) -> WSGIApplication:
    """The WSGI application of the listener.

    metrics: for GET /metrics, Prometheus' text format.
    health: for GET /health: an empty text when all is well, otherwise what is wrong, which is
        answered with status 503.
    tables: the digests of the routing tables that run, for a header of GET /health.
    routes: for GET /routes: what json.dumps takes. None: there is none.
    ingest: for POST /events: `bridge.queue.ingest.Ingest`. None: there is none.
    """
    token = settings.operator_token.encode(errors="surrogateescape")

    def show_metrics(request: Request) -> Response:
        return Response(metrics(), content_type=_METRICS_TYPE)

    def show_health(request: Request) -> Response:
        wrong = health()
        headers = {TABLE: ", ".join(tables())} if tables else {}
        return Response(f"{wrong or 'ok'}\n", 503 if wrong else 200, headers)

    def show_routes(request: Request) -> Response:
        assert routes
        return Response(json.dumps(routes()), mimetype="application/json")

    def take_events(request: Request) -> Response:
        assert ingest
        if not token:
            text = "events are taken with a token only: set BRIDGE_OPERATOR_TOKEN and restart\n"
            return Response(text, 403)
        return ingest(request)

    views = {"/metrics": show_metrics, "/health": show_health}
    if routes:
        views["/routes"] = show_routes
    if ingest:
        views["/events"] = take_events

    @Request.application
    def answer(request: Request) -> Response:
        if token and not _knows(request, token):
            return Response("a bearer token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
        view = views.get(request.path)
        if view is None:
            return Response(f"here are {', '.join(sorted(views))}\n", 404)
        writes = view is take_events
        if request.method not in (("POST",) if writes else ("GET", "HEAD")):
            text = "events are sent here with POST\n" if writes else "this path only reads\n"
            return Response(text, 405, {"Allow": "POST" if writes else "GET, HEAD"})
        return view(request)

    return answer


def _knows(request: Request, token: bytes) -> bool:
    """Whether the request has the token. The scheme's name is in any case (RFC 9110, 11.1)."""
    scheme, _, given = request.headers.get("Authorization", "").strip().partition(" ")
    # A header's text is Latin-1 for WSGI, so this gives the bytes as they were sent.
    same = hmac.compare_digest(given.strip(" ").encode("latin-1", "replace"), token)
    return same and scheme.lower() == "bearer"


def beside_serve(settings: Settings) -> WSGIApplication:
    """The application beside `bridgectl serve`: it reads what the workers write to the state
    directory, and takes events for BRIDGE_BROKER_URL."""
    from bridge.proxy.telemetry import metrics
    from bridge.proxy.telemetry import workers as status
    from bridge.queue.ingest import Ingest, PublisherPool
    from bridge.queue.status import Watch
    from bridge.queue.status import metrics as queue_metrics
    from bridge.sync.reconcile import results as reconciled
    from bridge.sync.relay import Sources, queue_status

    sources = Sources.of(settings)
    largest = sources.file.max_event
    pool = PublisherPool.of(settings.broker_url, max_event=largest)
    watch = Watch(lambda: queue_status(settings, sources))
    last = reconciled.LastWatch(settings)

    def everything() -> bytes:
        found = metrics.scrape(settings.state_dir) + status.metrics(settings.state_dir)
        found += queue_metrics(watch())
        return found + reconciled.metrics(last())

    return application(
        settings,
        metrics=everything,
        health=lambda: _health(settings.state_dir),
        tables=lambda: list(status.tables(settings.state_dir)),
        routes=lambda: _tables(settings.state_dir),
        ingest=Ingest(pool.publish_many, max_event=largest),
    )


def without_mirror(settings: Settings, error: ConfigError) -> WSGIApplication:
    """The same while sync.yaml is broken: what it says of the proxy is needed now."""
    from bridge.proxy.telemetry import metrics

    def unusable(request: Request) -> Response:
        return Response("sync.yaml is broken; send the events again later\n", 503)

    says = f"sync.yaml is broken, so nothing is said of the queue: {error}"
    return application(
        settings,
        metrics=lambda: metrics.scrape(settings.state_dir),
        health=lambda: "\n".join(filter(None, (_health(settings.state_dir), says))),
        routes=lambda: _tables(settings.state_dir),
        ingest=unusable,
    )


def _health(state_dir: Path) -> str:
    from bridge.proxy.telemetry import scrape as samples
    from bridge.proxy.telemetry import workers as status

    workers = status.read_all(state_dir)
    if not workers:
        return "no worker runs here"
    wrong = []
    if stopped := [str(worker.pid) for worker in workers if worker.stopped]:
        wrong.append(f"stopped, and answering nobody: {', '.join(stopped)}")
    if any(worker.error for worker in workers):
        wrong.append("routes.yaml, or a handler that it names, is broken")
    if unwatched := samples.unwatched(state_dir):
        who = several(unwatched, "worker does", "workers do")
        wrong.append(f"{who} not notice changes of routes.yaml; restart")
    return "\n".join(wrong)


def _tables(state_dir: Path) -> object:
    from bridge.proxy.telemetry import workers as status

    return [asdict(worker) for worker in status.read_all(state_dir)]


def serve_in_thread(
    address: str, app: WSGIApplication, limits: Limits | None = None
) -> Callable[[], None]:
    """Serve `app` at `address` (host:port) on a daemon thread. The caller has asked
    `check_address`.

    What is returned stops it: it ends listening at once, and waits at most five seconds for
    requests that are being answered. Raises BridgeError when it cannot listen there.
    """
    listener = _listen(address, app, limits)
    thread = threading.Thread(target=listener.serve_forever, name="operator", daemon=True)
    thread.start()

    def stop() -> None:
        listener.shutdown()
        thread.join()
        listener.server_close()
        listener.wait_until_idle(_GRACE)

    return stop


def check_free(address: str, bind: tuple[str, ...]) -> None:
    """Try to listen on `address`, before `bridgectl serve` starts anything; `bind` is what it
    listens on for visitors. Raises BridgeError."""
    from bridge.proxy.serve.binding import check_addresses

    until = time.monotonic() + _GONE_WITHIN
    while True:
        try:
            listener = Listener(*_split(address), Response())
            break
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise _cannot_listen(address, error) from None
        time.sleep(0.05)
    with listener:
        try:
            check_addresses(bind)
        except BridgeError:
            raise BridgeError(
                f"--operator {address} is where --bind listens for visitors; choose another port"
            ) from None


def _listen(address: str, app: WSGIApplication, limits: Limits | None = None) -> Listener:
    try:
        return Listener(*_split(address), app, limits)
    except OSError as error:
        raise _cannot_listen(address, error) from None


def _cannot_listen(address: str, error: OSError) -> BridgeError:
    from bridge.proxy.serve.binding import advice

    return BridgeError(
        f"the operator's listener cannot listen on {address}: {error.strerror}; "
        f"{advice(error, '--operator')}"
    )


def broken(state_dir: Path) -> str:
    """Why there is no listener beside `bridgectl serve`, though one is wanted; else empty."""
    try:
        return (state_dir / _BROKEN).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def forget(state_dir: Path) -> None:
    """There is a listener, or none is wanted."""
    with contextlib.suppress(OSError):
        (state_dir / _BROKEN).unlink(missing_ok=True)


def _tell(state_dir: Path, says: str) -> None:
    """Say why there is no listener: in the log once, and for `bridgectl doctor` as long as it is
    so. The parent tries again and again."""
    if broken(state_dir) != says:
        log.error("no metrics and no health", error=says)
    with contextlib.suppress(OSError):
        write_atomically(state_dir / _BROKEN, f"{says}\n")


def main() -> None:
    """`python -m bridge.operator host:port PARENT`; ends with the process PARENT, whose child
    it is."""
    logs.configure()
    parent = int(sys.argv[2])
    settings = Settings.from_environ()
    try:
        check_address(sys.argv[1], settings.operator_token)
        try:
            app, without = beside_serve(settings), False
        except ConfigError as error:
            app, without = without_mirror(settings, error), True
        listener = _listen(sys.argv[1], app)
    except Exception as error:
        _tell(settings.state_dir, str(error) or repr(error))
        if not isinstance(error, BridgeError):
            raise
        sys.exit(1)
    forget(settings.state_dir)

    def watch_parent() -> None:
        """Also ends when sync.yaml was mended: the parent starts another one."""
        while os.getppid() == parent and not (without and _loads(settings)):
            time.sleep(1)
        listener.shutdown()

    threading.Thread(target=watch_parent, daemon=True).start()
    with listener, contextlib.suppress(KeyboardInterrupt):
        listener.serve_forever()


def _loads(settings: Settings) -> bool:
    """Whether sync.yaml is good."""
    from bridge.sync.relay import Sources

    try:
        Sources.of(settings)
    except ConfigError:
        return False
    except BridgeError:
        return True  # whoever starts anew says it
    return True


if __name__ == "__main__":
    main()
