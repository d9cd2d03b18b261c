"""Asks one side or the other in this process: Python as routes.yaml would have it at 100%, legacy
as at 0%.

Both are asked through the WSGI shell, so that status, headers and body are those that visitors
would get. For several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from werkzeug.test import create_environ, run_wsgi_app

from bridge.errors import LegacyError
from bridge.proxy.decision.buckets import ALL
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.pools import Pools
from bridge.proxy.request.cookies import TRAIL_COOKIE
from bridge.proxy.request.head import Headers
from bridge.proxy.routing import models
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.wsgi.dispatcher import Dispatcher
from bridge.proxy.wsgi.legacy import LegacyPool
from bridge.reasons import Stage

__all__ = ["LEGACY", "Heard", "Sides", "environ_of"]

LEGACY = "legacy"
_NEVER = "not asked: Python alone was to answer"


@dataclass(frozen=True, slots=True)
class Heard:
    """What a side has answered: status line, headers, and what became of the request."""

    status: int
    reason: str
    headers: Headers
    outcome: Outcome


class _Nobody:
    """In place of the connections to a backend: nothing is sent there."""

    def __init__(self, name: str, spec: models.Backend) -> None:
        self.name, self.spec = name, spec

    def exchange(self, *_: object) -> Any:
        raise LegacyError(Stage.CONNECT, 502, _NEVER)

    def close(self) -> None:
        """There is nothing."""


class Sides(Hooks):
    """The two sides of one table.

    clock: Unix seconds.
    handlers: handlers that run at a time.
    alone: legacy is not asked where Python declines or fails; the outcome says why it would be.
    """

    def __init__(
        self,
        table: RouteTable,
        *,
        clock: Callable[[], float],
        handlers: int = 16,
        alone: bool = False,
    ) -> None:
        self.table = table
        self._heard = threading.local()
        self._of: dict[str, Dispatcher] = {}
        for side, share in ((PYTHON, ALL), (LEGACY, 0)):
            at = table.at(share)
            front = Front(_always(at), hooks=[self], clock=clock)
            self._of[side] = Dispatcher(front, handlers)
        if alone:
            nobody: Any = Pools[Any](_Nobody)
            self._of[PYTHON].pools = nobody
        self._pools: Pools[LegacyPool] = self._of[LEGACY].pools

    def after_response(self, outcome: Outcome) -> None:
        self._heard.outcome = outcome

    def close(self) -> None:
        """End the connections."""
        for dispatcher in self._of.values():
            for pool in dispatcher.pools.all():
                pool.close()

    def ask(
        self,
        side: str,
        environ: dict[str, Any],
        take: Callable[[bytes], None] | None = None,
    ) -> Heard:
        """What `side` answers.

        environ: of `environ_of`.
        take: gets the pieces of the body. Without it nobody reads that.
        """
        body, status, given = run_wsgi_app(self._of[side], environ)
        try:
            if take is not None:
                for piece in body:
                    take(piece)
        finally:
            if close := getattr(body, "close", None):
                close()
        outcome: Outcome = self._heard.outcome
        headers = [
            (name, value)
            for name, value in given
            # What the loop guard tells a visitor changes no page.
            if not (name.lower() == "set-cookie" and value.startswith(f"{TRAIL_COOKIE}="))
        ]
        return Heard(int(status[:3]), status[4:], headers, outcome)


def environ_of(
    method: str,
    host: str,
    target: str,
    headers: Sequence[tuple[str, str]],
    *,
    scheme: str = "http",
    peer: str = "127.0.0.1",
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A request as a WSGI server would hand it over.

    host: the Host header.
    target: raw, path and query.
    headers: several of one name become a list, cookies one line. Host is left out.
    peer: the address that it comes from.
    more: further keys of the environment, which handlers see.
    """
    environ = create_environ("/", f"{scheme}://{host}/", method=method)
    environ.update(RAW_URI=target, SERVER_PROTOCOL="HTTP/1.1", REMOTE_ADDR=peer)
    environ["HTTP_HOST"] = host
    for name, value in headers:
        key = f"HTTP_{name.upper().replace('-', '_')}"
        if key == "HTTP_HOST" or not value:
            continue
        between = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{between}{value}" if key in environ else value
    environ.update(more or {})
    return environ


def _always(table: RouteTable) -> Callable[[], RouteTable]:
    return lambda: table
