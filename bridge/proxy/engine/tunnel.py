"""A connection that has become something else: bytes go both ways, unread (RFC 9110, 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.proxy.engine.clock import clock
from bridge.proxy.engine.upstream import NEVER, LegacyConnection

if TYPE_CHECKING:
    from bridge.proxy.engine.turn import Turn
    from bridge.proxy.engine.visitor import Visitor

__all__ = ["Tunnel"]


class Tunnel:
    """Takes the place of the exchange on the legacy connection, and of the turn's body on the
    visitor's. It ends when either side does."""

    answered = True
    over = False

    def __init__(self, turn: Turn, visitor: Visitor, connection: LegacyConnection) -> None:
        self._turn, self._visitor, self._connection = turn, visitor, connection
        self._full = False
        connection.pool.keep_apart(connection)
        connection.exchange = self  # type: ignore[assignment]
        visitor.tunnel = self

    def start(self, rest: bytes) -> None:
        """`rest` came from legacy together with its 101. What the visitor sent before they had
        that belongs to the new protocol as well (RFC 9110, section 7.8)."""
        if early := self._visitor.take_early():
            self.take(early)
        if rest:
            self.received(rest)
        self._used()
        self._visitor.go_on()

    def _used(self) -> None:
        if not self._full:
            self._connection.deadline = clock.now + self._visitor.engine.limits.tunnel_idle

    # from legacy

    def received(self, data: bytes) -> None:
        self._used()
        self._turn.conversation.outcome.sent += len(data)
        self._visitor.outlet.write(data)

    def ended(self, error: Exception | None) -> None:
        self._over(visitor_left=False)

    def legacy_is_full(self) -> None:
        self._full = True
        self._connection.deadline = clock.now + self._connection.pool.spec.timeouts.send
        self._visitor.stop()
        self._visitor.engine.unread.add(self._visitor)

    def legacy_has_room(self) -> None:
        self._full = False
        self._used()
        self._visitor.engine.unread.discard(self._visitor)
        self._visitor.go_on()

    def too_late(self) -> None:
        """Nothing has gone through for too long."""
        if not self._full and not self.over:
            seconds = self._visitor.engine.limits.tunnel_idle
            outcome = self._turn.conversation.outcome
            outcome.aborted = f"bridge: the tunnel was not used for {seconds:g} s"
        self._over(visitor_left=False)

    # from the visitor

    def take(self, data: bytes) -> None:
        self._used()
        if not self._connection.transport.is_closing():
            self._connection.transport.write(data)

    def visitor_is_slow(self) -> None:
        self._connection.transport.pause_reading()

    def visitor_keeps_up(self) -> None:
        self._connection.transport.resume_reading()

    def lost(self) -> None:
        """The visitor has ended it."""
        self._over(visitor_left=True)

    def _over(self, *, visitor_left: bool) -> None:
        if self.over:
            return
        self.over = True
        connection = self._connection
        connection.deadline = NEVER
        connection.exchange = None
        if visitor_left:
            connection.transport.close()  # what the visitor sent last still arrives
        connection.pool.give_back_place(connection)
        self._turn.tunnel_over()
        if not visitor_left:
            self._visitor.close()
