"""The operator's listener: metrics and the table as it runs, never on the public port.

A small process beside the workers that only reads what they write to the state directory. With
BRIDGE_OPERATOR_TOKEN set, every request needs it as a bearer token; without one it listens on
the loopback address only.
"""

from __future__ import annotations

import hmac
import json
import os
import sys
import threading
import time
from dataclasses import asdict

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from bridge.errors import BridgeError
from bridge.proxy import metrics, status
from bridge.settings import Settings

__all__ = ["application", "check_address"]

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing: a scrape every few seconds is no news."""


def check_address(address: str, token: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises BridgeError when it is malformed, or when it can be
    reached from other machines and there is no token."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        raise BridgeError(f"{address!r} is no host:port; write for example 127.0.0.1:9180")
    if host not in _LOOPBACK and not token:
        raise BridgeError(
            f"the operator's listener on {host} could be reached from other machines; "
            "set BRIDGE_OPERATOR_TOKEN, or listen on 127.0.0.1"
        )
    return host, int(port)


def application(settings: Settings) -> object:
    """The WSGI application: /metrics, /routes and /health."""

    @Request.application
    def answer(request: Request) -> Response:
        if settings.operator_token:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), settings.operator_token.encode()):
                return Response("a bearer token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
        if request.method not in ("GET", "HEAD"):
            return Response("this listener only reads\n", 405, {"Allow": "GET, HEAD"})
        if request.path == "/metrics":
            return Response(metrics.scrape(settings.state_dir), mimetype="text/plain")
        workers = status.read_all(settings.state_dir)
        if request.path == "/routes":
            rows = [asdict(worker) for worker in workers]
            return Response(json.dumps(rows), mimetype="application/json")
        if request.path == "/health":
            good = bool(workers) and not any(worker.error for worker in workers)
            return Response("ok\n" if good else "routes.yaml is broken\n", 200 if good else 503)
        return Response("/metrics, /routes and /health are here\n", 404)

    return answer


def main() -> None:
    """`python -m bridge.proxy.operator host:port PARENT`; ends with the process PARENT, whose
    child it is."""
    settings = Settings.from_environ()
    try:
        host, port = check_address(sys.argv[1], settings.operator_token)
        server = make_server(
            host,
            port,
            application(settings),  # type: ignore[arg-type]
            threaded=True,
            request_handler=_Quiet,
        )
    except (BridgeError, OSError, SystemExit) as error:
        sys.exit(f"operator's listener: {error}")
    parent = int(sys.argv[2])

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        server.shutdown()

    threading.Thread(target=watch_parent, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
