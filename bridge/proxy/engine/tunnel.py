"""A connection that has become something else: bytes go both ways, unread (RFC 9110, 7.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bridge.proxy.engine.clock import NEVER, clock
from bridge.proxy.engine.limits import Limits
from bridge.proxy.engine.outlet import Outlet
from bridge.proxy.engine.upstream import LegacyConnection
from bridge.proxy.hooks import Outcome

__all__ = ["Tunnel"]


class _Near(Protocol):
    """The visitor's end of a tunnel."""

    outlet: Outlet

    def take_early(self) -> bytes:
        """What came after the request that asked for the tunnel."""

    def stop(self, *, unread: bool = False) -> None:
        """Read no more for now; `unread`: nobody would notice that the visitor leaves."""

    def go_on(self, *, unread: bool = False) -> None:
        """Read on; `unread`: after a `stop` of that kind."""

    def close(self) -> None:
        """End it, once everything is written."""


class Tunnel:
    """Takes the place of the request on both connections; it ends when either side does.

    near: the visitor's end.
    far: legacy's.
    outcome: counts what goes to the visitor, and gets to know why it ended.
    over: is called at the end.
    """

    answered = True
    place = ""

    def __init__(
        self,
        near: _Near,
        far: LegacyConnection,
        limits: Limits,
        outcome: Outcome,
        over: Callable[[], None],
    ) -> None:
        self._near, self._far, self._limits = near, far, limits
        self._outcome, self._at_end = outcome, over
        self._full = self._ended = False
        far.pool.keep_apart(far, self)

    def start(self, rest: bytes) -> None:
        """`rest` came from legacy together with its 101. What the visitor sent before they had
        that belongs to the new protocol as well (RFC 9110, section 7.8)."""
        if early := self._near.take_early():
            self.take(early)
        if rest:
            self.received(rest)
        self._used()
        self._near.go_on()

    def _used(self) -> None:
        if not self._full:
            self._far.deadline = clock.now + self._limits.tunnel_idle

    # from legacy

    def received(self, data: bytes) -> None:
        self._used()
        self._outcome.sent += len(data)
        self._near.outlet.write(data)

    def ended(self, error: Exception | None) -> None:
        self._over(visitor_left=False)

    def legacy_is_full(self) -> None:
        self._full = True
        self._far.deadline = clock.now + self._far.pool.spec.timeouts.send
        self._near.stop(unread=True)

    def legacy_has_room(self) -> None:
        self._full = False
        self._used()
        self._near.go_on(unread=True)

    def too_late(self) -> None:
        """Nothing has gone through for too long."""
        if not self._full and not self._ended:
            seconds = self._limits.tunnel_idle
            self._outcome.aborted = f"bridge: the tunnel was not used for {seconds:g} s"
        self._over(visitor_left=False)

    # from the visitor

    def take(self, data: bytes) -> None:
        self._used()
        if not self._far.transport.is_closing():
            self._far.transport.write(data)

    def visitor_is_slow(self) -> None:
        self._far.transport.pause_reading()

    def visitor_keeps_up(self) -> None:
        self._far.transport.resume_reading()

    def lost(self) -> None:
        """The visitor has ended it."""
        self._over(visitor_left=True)

    def _over(self, *, visitor_left: bool) -> None:
        if self._ended:
            return
        self._ended = True
        far = self._far
        far.deadline = NEVER
        far.user = None
        if visitor_left:
            far.transport.close()  # what the visitor sent last still arrives
        far.pool.give_back_place(far)
        self._at_end()
        if not visitor_left:
            self._near.close()
