"""Where visitors come in: open while there is room for one more, shut while there is not.

While it is shut nobody is refused: who comes waits in the kernel's line, or goes to another
worker, which listens on the same sockets.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any
from weakref import WeakSet

from bridge.proxy.engine.clock import TICK, clock
from bridge.proxy.engine.descriptors import spare
from bridge.proxy.engine.engine import Engine
from bridge.proxy.engine.ports import Guest
from bridge.proxy.engine.visitor import Visitor
from bridge.proxy.request.forwarded import household

__all__ = ["Acceptor"]


_SHORTLY = 2.0  # seconds for which nobody who is silent has to give way
_SOME = 20  # of so many places one is made at a time


class _Handshaking(Visitor):
    """One who is not let in yet, as far as TLS is concerned. Only the connection refers to it:
    nobody is told when a handshake fails, but then it is gone."""

    __slots__ = ("__weakref__",)


class Acceptor:
    """Lets visitors in, at most `most` at a time.

    sockets: stay the caller's.
    descriptors: the limit of the process.
    backlog: how many may wait to be accepted, in the kernel.
    tls: what `create_server` takes for TLS.
    """

    def __init__(
        self,
        engine: Engine,
        sockets: Sequence[socket.socket],
        *,
        most: int,
        descriptors: int,
        backlog: int = 2048,
        tls: dict[str, Any] | None = None,
    ) -> None:
        self.engine, self.sockets, self.most = engine, sockets, most
        self._highest = descriptors - spare(descriptors)
        self._backlog, self._tls = backlog, tls or {}
        self._servers: list[asyncio.Server] = []
        # Who is here, but has no connection yet as TLS sees it.
        self._handshaking: WeakSet[Guest] = WeakSet()
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        state = "open" if self._servers else "shut"
        return f"<Acceptor {state}: {self.inside} of {self.most}>"

    @property
    def inside(self) -> int:
        """How many visitors there are."""
        return len(self.engine.visitors) + len(self._handshaking)

    async def open(self) -> None:
        """Let visitors in, from now on whenever there is room."""
        self.engine.on_enter, self.engine.on_leave = self._enter, self._look
        await self._open()

    async def _open(self) -> None:
        loop = self.engine.loop
        for sock in self.sockets:
            # uvloop closes what it is given; the caller's socket has to stay.
            own = sock.dup()
            own.setblocking(False)
            is_unix = sock.family == socket.AF_UNIX
            create = loop.create_unix_server if is_unix else loop.create_server
            server = await create(self._accept, sock=own, backlog=self._backlog, **self._tls)
            if self._closed:
                server.close()
            else:
                self._servers.append(server)

    def close(self) -> None:
        """Let nobody in any more."""
        self._closed = True
        self._shut()

    def _accept(self) -> Visitor:
        visitor = _Handshaking(self.engine)
        self._handshaking.add(visitor)
        if self.inside >= self.most:
            self.engine.loop.call_soon(self._full)
        return visitor

    def _enter(self, visitor: Guest) -> None:
        """`visitor` has a connection and is one of the engine's."""
        self._handshaking.discard(visitor)
        if self._servers and not self._has_room(visitor):
            self._full()

    def _full(self) -> None:
        if self._servers:
            self._shut()
            self.engine.loop.call_later(TICK, self._look_again)

    def _has_room(self, visitor: Guest | None = None) -> bool:
        if self.inside >= self.most:
            return False
        # A new descriptor has the lowest number that is free.
        sock = visitor.transport.get_extra_info("socket") if visitor else None
        if sock is not None:
            return int(sock.fileno()) < self._highest
        try:
            number = os.dup(self.sockets[0].fileno())
        except OSError:
            return False
        os.close(number)
        return number < self._highest

    def _give_way(self) -> None:
        """Let some go who ask nothing, those first who have been silent longest; where there are
        none, those who have not finished asking, at the address from which most have come."""
        if self._has_room():
            return
        patience = clock.now - _SHORTLY
        some = max(1, self.most // _SOME)
        visitors = self.engine.visitors
        idle = [v for v in visitors if v.idle and v.idle_since < patience]
        for visitor in sorted(idle, key=attrgetter("idle_since"))[:some]:
            visitor.give_way()
        if idle:
            return
        most = max(2, self.most * self.engine.limits.share)
        for place, count in Counter(household(v.peer) for v in visitors).most_common(1):
            slow = [v for v in visitors if v.is_begun and household(v.peer) == place]
            if place and count >= most:
                for visitor in sorted(slow, key=attrgetter("deadline"))[:some]:
                    visitor.give_way()

    def _shut(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def _look(self) -> None:
        """Somebody has left."""
        if not self._servers and not self._closed and self._opening is None and self._has_room():
            self._opening = self.engine.loop.create_task(self._open())
            self._opening.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening = None

    def _look_again(self) -> None:
        """Places and descriptors may have become free without a visitor who leaves."""
        if self.inside < self.most and not self._has_room():
            for upstream in self.engine.upstreams.all():
                upstream.shrink()
        self._give_way()
        self._look()
        if not self._servers and not self._closed:
            self.engine.loop.call_later(TICK, self._look_again)
