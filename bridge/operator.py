"""The operator's listener: metrics, health, the table as it runs, and the ingest of events.

Never on the public port. `application` puts it together from what a process has to show, which
`bridge.overview` wires: beside `bridgectl serve` it is a small process of its own, in `bridgectl
worker` and `bridgectl relay` a thread (`serve_in_thread`). With BRIDGE_OPERATOR_TOKEN set, every
request needs it as a bearer token; without one it listens on the loopback address only, and takes
no events.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from wsgiref.types import WSGIApplication

import structlog
from werkzeug.wrappers import Request, Response

from bridge.errors import BridgeError, WrongUsage
from bridge.files import write_atomically
from bridge.listener import Limits, Listener, advice
from bridge.settings import Settings

__all__ = [
    "TABLE",
    "application",
    "broken",
    "cannot_listen",
    "check_address",
    "forget",
    "listen",
    "serve_in_thread",
    "split_address",
    "tell",
]

log = structlog.get_logger("bridge.operator")

TABLE = "Bridge-Table"
"""Header of GET /health: which table is served here; several, while workers differ."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_PORT = re.compile(r"[0-9]{1,5}")
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_GRACE = 5.0  # seconds
_BROKEN = "operator.broken"
"""Name of the file in the state directory that says why there is no listener."""


def check_address(address: str, token: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises WrongUsage when it is malformed, BridgeError when it can
    be reached from other machines and there is no token."""
    host, port = split_address(address)
    if host not in _LOOPBACK and not token:
        raise BridgeError(
            f"the operator's listener on {host} could be reached from other machines; "
            "set BRIDGE_OPERATOR_TOKEN, or listen on 127.0.0.1"
        )
    return host, port


def split_address(address: str) -> tuple[str, int]:
    """Host and port. Raises WrongUsage."""
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
            text = "events need a token: set BRIDGE_OPERATOR_TOKEN and restart\n"
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


def serve_in_thread(
    address: str, app: WSGIApplication, limits: Limits | None = None
) -> Callable[[], None]:
    """Serve `app` at `address` (host:port) on a daemon thread. The caller has asked
    `check_address`.

    What is returned stops it: it ends listening at once, and waits at most five seconds for
    requests that are being answered. Raises BridgeError when it cannot listen there.
    """
    listener = listen(address, app, limits)
    thread = threading.Thread(target=listener.serve_forever, name="operator", daemon=True)
    thread.start()

    def stop() -> None:
        listener.shutdown()
        thread.join()
        listener.server_close()
        listener.wait_until_idle(_GRACE)

    return stop


def listen(address: str, app: WSGIApplication, limits: Limits | None = None) -> Listener:
    """A listener on `address`, which does not serve yet. Raises BridgeError."""
    try:
        return Listener(*split_address(address), app, limits)
    except OSError as error:
        raise cannot_listen(address, error) from None


def cannot_listen(address: str, error: OSError) -> BridgeError:
    """What to say when `address` cannot be had."""
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


def tell(state_dir: Path, says: str) -> None:
    """Say why there is no listener: in the log once, and for `bridgectl doctor` as long as it is
    so. The parent tries again and again."""
    if broken(state_dir) != says:
        log.error("no metrics and no health", error=says)
    with contextlib.suppress(OSError):
        write_atomically(state_dir / _BROKEN, f"{says}\n")
