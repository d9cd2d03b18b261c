"""What the connections of one process share, and the ticking that limits their time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from bridge.proxy.conversation import Conversation
from bridge.proxy.engine.calls import Handlers
from bridge.proxy.engine.clock import TICK, clock
from bridge.proxy.engine.descriptors import for_legacy
from bridge.proxy.engine.limits import Limits
from bridge.proxy.engine.outlet import Batch
from bridge.proxy.engine.ports import Guest, Waits
from bridge.proxy.engine.upstream import Upstream
from bridge.proxy.front import Front
from bridge.proxy.pools import Pools
from bridge.proxy.python.threads import HandlerThreads
from bridge.proxy.request.head import Headers
from bridge.proxy.routing import models

__all__ = ["Engine"]

_VISITORS = 10  # ticks between two looks at visitors
_HEADS = 256  # of legacy, for which it is remembered what becomes of them
_REPORT = 0.005  # seconds until what is answered is counted and logged


class Engine:
    """What is one in a process, for all of its visitors.

    flush: called after answers were reported, to write what was logged.
    limits: those of the newest table where none are given.
    descriptors: of the process; a third is for legacy, and the limits of the backends fit that.
    least_idle: seconds that a connection may be idle, whatever the limits say.

    Answers are reported together, a few thousandths of a second after the first of them: that
    costs less than one by one between the reading and writing of others. `draining`: every answer
    says that the connection ends. `heads` has what becomes of legacy's heads.
    """

    def __init__(
        self,
        front: Front,
        threads: HandlerThreads,
        loop: asyncio.AbstractEventLoop,
        *,
        flush: Callable[[], None] = lambda: None,
        limits: Limits | None = None,
        descriptors: int = 1_000_000,
        least_idle: float = 0.0,
    ) -> None:
        self.loop = loop
        self.front = front
        self.batch = Batch(loop)
        self.handlers = Handlers(threads, loop)
        self.upstreams: Pools[Upstream] = Pools(self._upstream)
        self.heads: dict[tuple[Any, ...], tuple[Headers, dict[Any, bytes]]] = {}
        self.visitors: set[Guest] = set()
        self.unread: set[Guest] = set()  # of these, from whom nothing more comes, or is read now
        self.on_enter: Callable[[Guest], None] = lambda visitor: None
        self.on_leave: Callable[[], None] = lambda: None
        self.limits = limits or Limits()
        self._fixed, self._least_idle = limits is not None, least_idle
        self._visitors_spec: models.Visitors | None = None
        self.holding: set[Waits] = set()  # those whose body is not all here yet
        self.draining = False
        self.answered = 0
        self.date = ""
        self._ticks = 0
        self._flush = flush
        self._ended: list[Conversation] = []
        self._watched: set[Upstream] = set()  # also those of older tables that are still at work
        self._for_legacy = for_legacy(descriptors)
        self._set_date()

    def _upstream(self, name: str, spec: models.Backend) -> Upstream:
        backends = self.front.table().file.backends.values()
        fits = self._for_legacy / sum(backend.limits.sockets for backend in backends)
        most = max(1, int(spec.limits.sockets * fits)) if fits < 1 else spec.limits.at_once
        upstream = Upstream(name, spec, self.batch, most, self.limits)
        self._watched.add(upstream)
        return upstream

    def _look_at_limits(self) -> None:
        """Take those of the newest table, but where they were given to begin with."""
        spec = self.front.table().file.visitors
        if spec is not self._visitors_spec and not self._fixed:
            self._visitors_spec = spec
            self.limits.take(spec)
            self.limits.idle = max(self.limits.idle, self._least_idle)

    def start(self) -> None:
        clock.look()
        self._look_at_limits()
        self.loop.call_later(TICK, self._tick)

    def _set_date(self) -> None:
        self.date = formatdate(usegmt=True)

    def keep_head(self, place: tuple[Any, ...], head: tuple[Headers, dict[Any, bytes]]) -> None:
        """Remember what a head of legacy's becomes for visitors, with its bytes."""
        if len(self.heads) >= _HEADS:
            self.heads.clear()
        self.heads[place] = head

    def began(self, method: str, peer: str) -> Conversation:
        """A request has come from `peer`."""
        self.batch.asking += 1
        return Conversation(self.front, method, peer)

    def ended(self, conversation: Conversation) -> None:
        """This one is through; it is reported soon."""
        self.batch.asking -= 1
        self.answered += 1
        if not self._ended:
            self.loop.call_later(_REPORT, self.report)
        self._ended.append(conversation)

    def report(self) -> None:
        """Count and log what has ended. Called before a connection ends in peace, so that whoever
        sees its end finds it in the log."""
        ended, self._ended = self._ended, []
        for conversation in ended:
            conversation.report()
        self._flush()

    def _tick(self) -> None:
        self.loop.call_later(TICK, self._tick)
        now = clock.look()
        self._ticks += 1
        for upstream in [*self._watched]:
            upstream.look(now)
            if upstream.is_over:
                self._watched.discard(upstream)
        self.handlers.look(now)
        if self._ticks % _VISITORS == 0:
            self._set_date()
            self._look_at_limits()
            for turn in [*self.holding]:
                turn.look(now)
            for visitor in [v for v in self.unread if v.is_gone]:
                visitor.transport.abort()
            for visitor in [v for v in self.visitors if v.deadline < now]:
                visitor.look(now)

    def drain(self) -> None:
        """Answer what runs and what was asked already; close who asks nothing."""
        self.draining = True
        for visitor in list(self.visitors):
            if visitor.idle:
                visitor.end()
