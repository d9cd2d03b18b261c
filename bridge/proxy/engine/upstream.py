"""Connections to one legacy backend on an event loop: last in, first out, and bounded.

A request that finds no free connection waits in a line that is bounded too. Time limits are
watched by one look at all connections every few hundredths of a second, which costs less than a
timer per request. What goes over a connection is `bridge.proxy.engine.exchange`'s.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections import Counter, deque
from math import ceil
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from bridge.errors import LegacyError
from bridge.proxy.backends.prober import Prober
from bridge.proxy.backends.servers import Server, Servers
from bridge.proxy.engine.clock import NEVER, clock
from bridge.proxy.engine.limits import Limits
from bridge.proxy.engine.outlet import Batch, Outlet
from bridge.proxy.pools import RetryBudget
from bridge.proxy.routing import models
from bridge.reasons import Stage

__all__ = ["Asking", "LegacyConnection", "OnConnection", "Upstream"]

_LARGEST_READ = 128 * 1024
_SMALLEST_READ = 16 * 1024
_CROWD = 512  # connections at work from which on each reads little at a time
_CROWDED_READ = 8 * 1024
_FEW = 8
_HIGH_WATER = 64 * 1024  # bytes of an upload that wait for legacy before the visitor is stopped

_shared = memoryview(bytearray(_LARGEST_READ))


class OnConnection(Protocol):
    """Who has a connection: a request, or a tunnel."""

    @property
    def place(self) -> str:
        """From where the visitor comes, as places are shared out, or empty."""

    @property
    def answered(self) -> bool:
        """Whether the head of legacy's answer has come."""

    def received(self, data: bytes) -> None:
        """Bytes from legacy."""

    def ended(self, error: Exception | None) -> None:
        """Legacy has ended the connection."""

    def legacy_is_full(self) -> None:
        """Legacy takes nothing now."""

    def legacy_has_room(self) -> None:
        """Legacy takes something again."""

    def too_late(self) -> None:
        """The deadline has passed."""


class Asking(OnConnection, Protocol):
    """A request that asks for a connection. `fresh`: for none that has been used; `own`: the one
    that only its visitor may use, until it is theirs again."""

    fresh: bool
    own: LegacyConnection | None

    @property
    def over(self) -> bool:
        """Whether nobody wants the answer any more."""

    def connects(self) -> None:
        """There is a place for a new connection."""

    def begin(self, connection: LegacyConnection) -> None:
        """There is a connection."""

    def failed(self, error: LegacyError) -> None:
        """There will be none."""

    def hurry(self, most: int) -> None:
        """Others need the place: read up to `most` bytes more, whatever the visitor does."""


class LegacyConnection(asyncio.BufferedProtocol):
    """One connection. `user` is the request or the tunnel on it, or None while it is idle.

    Bytes are read into one buffer that all connections share, because each is emptied before
    the next is read from. What was read and the visitor does not take stays in memory, so
    `read_size` grows only after the visitor has taken more than kernels hold for anybody.
    """

    __slots__ = (
        "deadline",
        "idle_since",
        "outlet",
        "pool",
        "pooled",
        "read_size",
        "server",
        "transport",
        "user",
    )

    def __init__(self, pool: Upstream, server: Server) -> None:
        self.pool, self.server = pool, server
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.user: OnConnection | None = None
        self.pooled = False
        self.idle_since = 0.0
        self.deadline = NEVER
        self.read_size = _SMALLEST_READ
        self.outlet: Outlet = None  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.outlet = Outlet(self.transport, self.pool.batch)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _shared[: self.read_size]

    def buffer_updated(self, nbytes: int) -> None:
        user = self.user
        if user is None:
            self.pool.discard(self)  # nobody asked for anything
        elif self.outlet.kept:
            user.ended(None)  # likewise: the request is still here
        else:
            user.received(bytes(_shared[:nbytes]))

    def eof_received(self) -> bool:
        if self.user is None:
            self.pool.discard(self)
        else:
            self.user.ended(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        if self.user is None:
            self.pool.discard(self)
            return
        if error is not None and not self.user.answered:
            self._rescue()
        if self.user is not None:
            self.user.ended(error)

    def _rescue(self) -> None:
        """Read what came before the connection broke: a server that refuses an upload answers
        and hangs up, and writing to it fails before its answer is looked at."""
        sock = self.transport.get_extra_info("socket")
        if sock is None or self.transport.get_extra_info("ssl_object") is not None:
            return
        try:
            while self.user is not None and (data := os.read(sock.fileno(), _SMALLEST_READ)):
                self.user.received(data)
        except OSError:
            return

    def pause_writing(self) -> None:
        if self.user is not None:
            self.user.legacy_is_full()

    def resume_writing(self) -> None:
        if self.user is not None:
            self.user.legacy_has_room()


class Upstream:
    """The pool of connections to the backend `name`; `prefix` is the path in its URL.

    most: requests at a time that there are descriptors for.
    visitors: their limits, of which the share of the places and the buffer matter here.
    """

    def __init__(
        self,
        name: str,
        spec: models.Backend,
        batch: Batch,
        most: int = 1_000_000,
        visitors: Limits | None = None,
    ) -> None:
        self.name, self.spec, self.batch = name, spec, batch
        self.at_once = min(spec.limits.at_once, most)
        self._visitors = visitors or Limits()
        self._scarce = self._share  # places taken, from which on not everybody gets one
        self._counts: Counter[str] | None = None  # places by address, while they are scarce
        self.budget = RetryBudget()
        parts = urlsplit(spec.url)
        self.prefix = spec.prefix
        self.servers = Servers(name, spec.urls)
        self.many = self.servers.many
        self._prober = Prober(spec, self.servers) if spec.health else None
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[LegacyConnection] = []
        self._bound: list[LegacyConnection] = []
        self.active: set[LegacyConnection] = set()
        self.tunnels: set[LegacyConnection] = set()
        self._connecting: set[Asking] = set()
        self._paused: set[Asking] = set()
        self._waiting: deque[tuple[float, Asking]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._keeps = spec.keep_alive  # connections, for other requests

    def __repr__(self) -> str:
        busy = self.in_flight
        return f"<Upstream {self.name}: {busy} active, {len(self._idle)} idle, {self.waiting} wait>"

    @property
    def in_flight(self) -> int:
        """How many places are taken; tunnels have none."""
        return len(self.active) + len(self._connecting)

    @property
    def has_plenty(self) -> bool:
        """Whether there are places for visitors who need them for long."""
        return self.in_flight < self.at_once / 2

    @property
    def is_full_of_tunnels(self) -> bool:
        return len(self.tunnels) >= self.spec.limits.tunnels

    @property
    def _share(self) -> int:
        """How many places those from one address may have, when places are scarce."""
        return max(1, min(self.at_once - 1, ceil(self.at_once * self._visitors.share)))

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether it is closed, and everybody has what they asked for."""
        busy = self.active or self._connecting or self._waiting or self.tunnels
        return self._closed and not busy

    def read_size(self, passed: int) -> int:
        """How many bytes to read at a time once a visitor has taken `passed` without a stop."""
        if len(self.active) > _CROWD:
            return _CROWDED_READ
        size = passed // 16
        return _SMALLEST_READ if size < _SMALLEST_READ else min(size, _LARGEST_READ)

    def take(self, exchange: Asking) -> None:
        """Give `exchange` a connection, now or as soon as there is one: it is told by `begin`,
        or by `failed` with the stage `wait` or `connect`."""
        busy = len(self.active) + len(self._connecting)
        if busy >= self._scarce and self._must_wait(exchange):
            self._wait(exchange)
        else:
            self._give(exchange)

    def _give(self, exchange: Asking) -> None:
        """There is a place. The last connection that was given back, of the server whose turn it
        is; or the one that only its visitor may use; or a new one. An idle one has been read all
        the time: one that ended, or said anything unasked, is no longer among them."""
        if self._idle and not exchange.fresh:
            connection = self._idle.pop() if not self.many else self._of_next_server()
        else:
            connection = self._own_of(exchange)
        if connection is None:
            self._replace_oldest()
            self._connect(exchange)
            return
        connection.server.busy += 1
        self.active.add(connection)
        connection.user = exchange
        if self._counts is not None:
            self._count(exchange, +1)
        exchange.begin(connection)

    def _of_next_server(self) -> LegacyConnection | None:
        server = self.servers.pick(clock.now)
        for place in reversed(range(len(self._idle))):
            if self._idle[place].server is server:
                return self._idle.pop(place)
        return None

    def _own_of(self, exchange: Asking) -> LegacyConnection | None:
        own, exchange.own = exchange.own, None
        if own is None:
            return None
        if own in self._bound:
            self._bound.remove(own)
        return None if own.transport.is_closing() else own

    def _must_wait(self, exchange: Asking) -> bool:
        """Whether there is no place for `exchange`, while there are few."""
        return self.in_flight >= self.at_once or self._has_its_share(exchange)

    def _has_its_share(self, exchange: Asking) -> bool:
        """Whether those from its address have as many places as they may, while there are few. An
        address that says nothing counts as nobody: those behind a unix socket are many."""
        place = exchange.place
        if not place or self.in_flight < self._share:
            return False
        if self._counts is None:
            taken = [c.user for c in self.active if c.user is not None]
            self._counts = Counter(one.place for one in (*taken, *self._connecting))
        return self._counts[place] >= self._share

    def _count(self, exchange: OnConnection | None, change: int) -> None:
        """`exchange` takes a place or leaves it, while that is counted."""
        counts = self._counts
        if counts is None or exchange is None:
            return
        if self.in_flight < self._share // 2:
            self._counts = None  # there are plenty again
            return
        place = exchange.place
        counts[place] += change
        if counts[place] <= 0:
            del counts[place]

    def _wait(self, exchange: Asking) -> None:
        limits = self.spec.limits
        most, line = limits.waiting, self._waiting
        if len(line) >= most * self._visitors.share:  # those who have left make place
            self._waiting = line = deque(w for w in line if not w[1].over)
        place = exchange.place
        if len(line) >= most or (
            place
            and len(line) >= most * self._visitors.share
            and sum(w[1].place == place for w in line) >= most * self._visitors.share
        ):
            exchange.failed(self._busy())
            return
        line.append((clock.now + self.spec.timeouts.wait, exchange))
        for paused in tuple(self._paused):
            paused.hurry(self._visitors.buffer)

    def was_paused(self, exchange: Asking) -> None:
        """The visitor of `exchange` takes nothing now, and perhaps others wait for its place."""
        self._paused.add(exchange)
        if self._waiting:
            exchange.hurry(self._visitors.buffer)

    def was_resumed(self, exchange: Asking) -> None:
        """The visitor takes something again, or it is over."""
        self._paused.discard(exchange)

    def _replace_oldest(self) -> None:
        """Close an idle connection, as there will be a new one: there are never more than were
        needed at a time, and each may hold a process of legacy's."""
        if self._idle:
            self.discard(self._idle[0])

    def _busy(self) -> LegacyError:
        if self.at_once < self.spec.limits.at_once:
            busy = f"all {self.at_once} connections that there are descriptors for are busy"
            return LegacyError(Stage.WAIT, 503, busy)
        return LegacyError(Stage.WAIT, 503, self.spec.limits.busy)

    def _connect(self, exchange: Asking, tried: tuple[Server, ...] = ()) -> None:
        if not tried:
            exchange.connects()
        self._connecting.add(exchange)
        self._count(exchange, +1)
        server = self.servers.pick(clock.now, tried)
        server.busy += 1
        task = asyncio.get_running_loop().create_task(self._connected(exchange, server, tried))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connected(self, exchange: Asking, server: Server, tried: tuple[Server, ...]) -> None:
        seconds = self.spec.timeouts.connect
        try:
            async with asyncio.timeout(seconds):
                connection = await self._open(server)
        except Exception as error:
            self._connecting.discard(exchange)
            self._count(exchange, -1)
            server.busy -= 1
            if not _is_ours(error):
                self.servers.refused(server, clock.now)
                tried = (*tried, server)
                if self.servers.another(clock.now, tried) and not exchange.over:
                    self._connect(exchange, tried)  # nothing of the request was sent
                    return
            if isinstance(error, TimeoutError):
                failure = LegacyError(Stage.CONNECT, 504, f"no connection within {seconds:g} s")
            elif _is_ours(error):
                failure = LegacyError(Stage.WAIT, 503, "no descriptor is left; raise `ulimit -n`")
            elif isinstance(error, OSError):
                failure = LegacyError(Stage.CONNECT, 502, _words(error))
            else:
                failure = LegacyError(Stage.CONNECT, 502, f"{type(error).__name__}: {error}")
            if not exchange.over:
                exchange.failed(failure)
            self._next()
            return
        self._connecting.discard(exchange)
        self.active.add(connection)
        connection.user = exchange
        if exchange.over:  # the visitor has left meanwhile
            self.give_back(connection, keep=True)
        elif connection.transport.is_closing():
            exchange.begin(connection)
            exchange.ended(None)
        else:
            exchange.begin(connection)

    async def _open(self, server: Server) -> LegacyConnection:
        loop, parts = asyncio.get_running_loop(), server.parts

        def make() -> LegacyConnection:
            return LegacyConnection(self, server)

        if parts.scheme == "unix":
            _, connection = await loop.create_unix_connection(make, parts.path)
        else:
            tls: dict[str, Any] = (
                {"ssl": self._tls, "server_hostname": parts.hostname} if self._tls else {}
            )
            port = parts.port or (443 if self._tls else 80)
            _, connection = await loop.create_connection(make, parts.hostname or "", port, **tls)
        return connection

    def give_back(self, connection: LegacyConnection, *, keep: bool, binds: bool = False) -> None:
        """The exchange on `connection` is over. `binds`: only its visitor may use it again."""
        self.active.discard(connection)
        connection.server.busy -= 1
        if self._counts is not None:
            self._count(connection.user, -1)
        connection.user = None
        connection.deadline = NEVER
        if not keep or not self._keeps or connection.transport.is_closing():
            connection.transport.abort()
        elif binds:
            self._bind(connection)
        else:
            connection.pooled = True
            connection.idle_since = clock.now
            self._idle.append(connection)
        if self._waiting:
            self._next()

    def _bind(self, connection: LegacyConnection) -> None:
        connection.pooled = True
        self._bound.append(connection)
        # Each may hold a process of legacy's.
        while len(self._bound) > self.spec.limits.at_once:
            self.discard(self._bound[0])

    def give_back_place(self, connection: LegacyConnection) -> None:
        """`connection` has become a tunnel that is over."""
        if connection in self.tunnels:
            self.tunnels.discard(connection)
            connection.server.busy -= 1
        connection.transport.close()

    def keep_apart(self, connection: LegacyConnection, tunnel: OnConnection) -> None:
        """`connection` becomes a tunnel: its place is free for a request."""
        self.active.discard(connection)
        self._count(connection.user, -1)
        connection.user = tunnel
        self.tunnels.add(connection)
        if self._waiting:
            self._next()

    def _next(self) -> None:
        """Let those in the line go on who can."""
        while self._waiting and self.in_flight < self.at_once:
            exchange = self._first()
            if exchange is None:
                return
            self._give(exchange)

    def _first(self) -> Asking | None:
        """The first in the line who may have a place now, taken out of it."""
        line = self._waiting
        while line and line[0][1].over:
            line.popleft()
        for at, (_, exchange) in enumerate(line):
            if not exchange.over and not self._has_its_share(exchange):
                del line[at]
                return exchange
        return None

    def discard(self, connection: LegacyConnection) -> None:
        """An idle connection is of no use any more."""
        for some in (self._idle, self._bound):
            if connection in some:
                some.remove(connection)
        connection.transport.abort()

    def look(self, now: float) -> None:
        """End what has taken too long; called every few hundredths of a second."""
        self._scarce = self._share
        if self.active or self.tunnels:
            for connection in [c for c in (*self.active, *self.tunnels) if c.deadline < now]:
                if connection.user is not None:
                    connection.user.too_late()
        while self._waiting and (self._waiting[0][0] < now or self._waiting[0][1].over):
            _, exchange = self._waiting.popleft()
            if not exchange.over:
                exchange.failed(self._busy())
        oldest = now - self.spec.timeouts.idle
        while self._idle and self._idle[0].idle_since < oldest:
            self.discard(self._idle[0])

    def shrink(self) -> None:
        """Close what is idle, but for a few: descriptors are short."""
        for connection in self._idle[:-_FEW]:
            self.discard(connection)

    def close(self) -> None:
        """Close what is idle; active connections end with their requests."""
        self._closed, self._keeps = True, False
        if self._prober is not None:
            self._prober.close()
        for connection in [*self._idle, *self._bound]:
            self.discard(connection)


def _is_ours(error: Exception) -> bool:
    """Whether this process has no descriptor left, which is no fault of the server's."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def _words(error: OSError) -> str:
    return error.strerror or str(error)
