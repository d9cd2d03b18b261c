"""The whole engine without a socket: bytes in and bytes out of its protocols, at once.

Everything runs that runs in a server except the event loop itself, so that thousands of hostile
inputs a second can be tried, each in a fresh state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bridge.proxy.backends.servers import Server
from bridge.proxy.engine.engine import Engine
from bridge.proxy.engine.exchange import Exchange
from bridge.proxy.engine.upstream import LegacyConnection, Upstream
from bridge.proxy.engine.visitor import Visitor
from bridge.proxy.front import Front
from bridge.proxy.pools import Pools
from bridge.proxy.python.threads import HandlerThreads
from bridge.proxy.routing import models
from bridge.proxy.routing.table import RouteTable
from tests.proxy.site import table

__all__ = ["Later", "Legacy", "Wire", "Wired"]


class Wire(asyncio.Transport):
    """Keeps what is written. `closed` is how it ended: empty, "closed" or "aborted"."""

    def __init__(self, peer: str = "192.0.2.7") -> None:
        super().__init__()
        self.peer = peer
        self.out = bytearray()
        self.closed = ""
        self.ended = False  # its writing half

    def write(self, data: Any) -> None:
        assert not self.ended, "a write after the end"
        self.out += data

    def is_closing(self) -> bool:
        return bool(self.closed)

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "aborted"

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        address = {"peername": (self.peer, 4711), "sockname": ("192.0.2.1", 80)}
        return address.get(name, default)


class Legacy:
    """One connection of the engine's to legacy, from the other end."""

    def __init__(self, connection: LegacyConnection) -> None:
        self.connection = connection
        self.wire: Wire = connection.transport  # type: ignore[assignment]

    def send(self, raw: bytes) -> None:
        """Let these bytes arrive, cut as the kernel would cut them at most."""
        while raw and not self.wire.closed:
            room = self.connection.get_buffer(-1)
            piece, raw = raw[: len(room)], raw[len(room) :]
            room[: len(piece)] = piece
            self.connection.buffer_updated(len(piece))

    def end(self) -> None:
        """End the connection cleanly."""
        if not self.wire.closed:
            self.connection.eof_received()
            self.wire.close()


class Later:
    """An event loop that does things when it is told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def call_soon(self, callback: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append((callback, arguments))

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> None:
        pass

    def step(self) -> bool:
        """Let it turn once. Whether there was anything to do."""
        calls, self.calls = self.calls, []
        for callback, arguments in calls:
            callback(*arguments)
        return bool(calls)


class _Loop:
    """Does nothing later; nothing here takes time."""

    def call_soon(self, callback: Callable[..., Any], *arguments: Any) -> None:
        callback(*arguments)

    def call_later(self, delay: float, callback: Callable[..., Any], *arguments: Any) -> None:
        pass


class Wired:
    """An engine on one table. `fresh` forgets every connection."""

    def __init__(self, routes: RouteTable | None = None, loop: Later | None = None) -> None:
        routes = routes or table()
        self.legacy: list[Legacy] = []
        self._visits = 0
        front = Front(lambda: routes, tunnels=True)
        self._engine = Engine(front, HandlerThreads(16), loop or _Loop())  # type: ignore[arg-type]
        self.fresh()

    def fresh(self) -> None:
        self.legacy = legacy = []

        batch = self._engine.batch

        class Connected(Upstream):
            def __init__(self, name: str, spec: models.Backend) -> None:
                super().__init__(name, spec, batch)

            def _connect(self, exchange: Exchange, tried: tuple[Server, ...] = ()) -> None:
                [server] = self.servers.all
                server.busy += 1
                connection = LegacyConnection(self, server)
                connection.connection_made(Wire())
                legacy.append(Legacy(connection))
                self.active.add(connection)
                connection.user = exchange
                exchange.begin(connection)

        self._engine.upstreams = Pools[Upstream](Connected)
        self._engine.visitors.clear()

    def visit(self, peer: str = "") -> tuple[Visitor, Wire]:
        """A visitor's connection: the protocol to feed, and what it has written. It is somebody
        else each time, unless `peer` says who: who is sent in circles is remembered."""
        self._visits += 1
        peer = peer or f"2001:db8::{self._visits & 0xFFFF:x}"
        visitor, wire = Visitor(self._engine), Wire(peer)
        visitor.connection_made(wire)
        return visitor, wire

    @property
    def busy(self) -> int:
        """Requests that legacy has not answered."""
        return sum(pool.in_flight + pool.waiting for pool in self._engine.upstreams.all())
