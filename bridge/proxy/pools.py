"""Which pool of connections a table's backend has: one per backend, kept over reloads.

What is configured as before keeps its connections; what is not gets new ones. How a pool works
is the shell's: `bridge.proxy.wsgi.legacy` blocks, `bridge.proxy.engine` does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from bridge.proxy.routing import models
from bridge.proxy.routing.table import RouteTable

__all__ = ["Pools", "RetryBudget"]

_RETRY_SHARE = 0.2  # retries on stale connections, of all requests
_RETRY_FLOOR = 10


class Pool(Protocol):
    spec: models.Backend

    def close(self) -> None:
        """Close what is idle; active connections end with their requests."""


P = TypeVar("P", bound=Pool)


class Pools(Generic[P]):
    """The pools of this process; `make(name, spec)` makes one. Thread-safe."""

    def __init__(self, make: Callable[[str, models.Backend], P]) -> None:
        self._make = make
        self._pools: dict[str, P] = {}
        self._of: RouteTable | None = None
        self._lock = threading.Lock()

    def get(self, table: RouteTable, name: str) -> P:
        """The pool of connections to the backend `name`, as `table` configures it."""
        if table is not self._of:
            self._adopt(table)
        pool, spec = self._pools.get(name), table.file.backends[name]
        if pool is None or (pool.spec is not spec and pool.spec != spec):
            # A request that still runs on an older table, whose backend is configured otherwise.
            pool = self._make(name, spec)
            pool.close()
        return pool

    def all(self) -> list[P]:
        """Those of the newest table."""
        return list(self._pools.values())

    def _adopt(self, table: RouteTable) -> None:
        with self._lock:
            current = self._of
            if current is not None and table.generation <= current.generation:
                return
            old, new = self._pools, {}
            for name, spec in table.file.backends.items():
                kept = old.get(name)
                if kept is not None and kept.spec == spec:
                    kept.spec = spec
                    new[name] = kept
                else:
                    new[name] = self._make(name, spec)
            self._pools, self._of = new, table
        for name, pool in old.items():
            if new.get(name) is not pool:
                pool.close()


class RetryBudget:
    """How many requests to one backend may be sent twice: a fifth of all, and a few more.

    A backend that drops every second request is broken, not restarting, and must not get
    double its load.
    """

    __slots__ = ("requests", "retries")

    def __init__(self) -> None:
        self.requests = self.retries = 0

    def take(self) -> bool:
        """Whether one more request may be sent again; counts it."""
        if self.retries >= _RETRY_FLOOR + _RETRY_SHARE * self.requests:
            return False
        self.retries += 1
        return True
