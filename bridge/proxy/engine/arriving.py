"""The body of a request on its way from the visitor: to legacy, or to a handler's spool.

A body of moderate size is here before legacy is asked, so that who sends it slowly keeps no place
of legacy's. What comes too slowly, is too large or is not what was announced ends the request.
The bytes are `bridge.proxy.engine.reading`'s; who is asked is `bridge.proxy.engine.turn`'s.
"""

from __future__ import annotations

from bridge.errors import BridgeError, LegacyError, VisitorError
from bridge.proxy.engine.answers import CONTINUE
from bridge.proxy.engine.clock import clock
from bridge.proxy.engine.reply import Reply
from bridge.reasons import Stage

__all__ = ["Arriving"]

_PATIENCE = 1.0  # seconds until legacy is asked although a body is not all here


class Arriving(Reply):
    """The asking half of a request, as far as it is a body."""

    __slots__ = (
        "_held_since",
        "_held_size",
        "_measured",
        "_measured_size",
        "_most",
    )

    def spooled(self) -> None:
        """All of the body is here, for a handler."""
        raise NotImplementedError

    def go_to_legacy(self) -> None:
        """Ask legacy, now or when the body is here; what fails becomes the answer."""
        raise NotImplementedError

    def _expect_body(self) -> None:
        self._most: int | None = None  # bytes that it may have
        self._held_size, self._held_since = 0, 0.0
        self._measured, self._measured_size = clock.now, 0  # when its speed was, and how much was
        body = self.block.body(self.minor)
        if body is not None:
            self._size = body.length
            self.body = None if body.done else body

    def _look_at_body(self) -> None:
        block = self.block
        if block.expect and self.minor == 1:
            if block.expect != "100-continue":
                raise VisitorError(417, "an expectation that nobody knows")
            self._expects = True
        self._limit_body(self.conversation.max_body)

    def _limit_body(self, most: int | None) -> None:
        self._most = most
        if most is not None and self._size is not None and self._size > most:
            raise VisitorError(413, f"the request body has {self._size} bytes, max_body is {most}")

    # the request's body, from the visitor

    def take_body(self, data: bytes) -> bytes:
        """Pass on what of `data` belongs to the body; what does not is returned."""
        body = self.body
        assert body is not None
        try:
            pieces, rest = body.feed(data)
            most = self._most
            if most is not None and body.size > most:
                raise VisitorError(413, "the request body is larger than max_body")
        except VisitorError as error:
            self.body_broke(error)
            return b""
        if pieces and not self._pass_on_body(b"".join(pieces)):
            return b""
        if body.done:
            self.body = None
            if self.spool is not None:
                self.spooled()
            elif self.held is not None:
                self.go_to_legacy()
            elif self.exchange is not None and not self.exchange.over:
                self.exchange.finish()
        return rest

    def _pass_on_body(self, piece: bytes) -> bool:
        if self.spool is not None:
            try:
                self.spool.write(piece)
            except OSError as error:
                message = f"cannot keep the body of a request for its handler: {error.strerror}"
                self.own(self.conversation.page_for(BridgeError(message)))
                return False
        elif self.held is not None:
            self.held.append(piece)
            self._held_size += len(piece)
            if self._held_size > self.engine.limits.buffer:
                self.go_to_legacy()
        elif self.exchange is not None and not self.exchange.over:
            self.exchange.send(piece)
        return True

    def is_fast_enough(self, now: float, window: float, slowest: int, *, excused: bool) -> bool:
        """Whether the body comes fast enough.

        now, window: seconds, by the engine's clock and between two looks.
        slowest: bytes a second that are enough.
        excused: it was not the visitor who was waited for.
        """
        body, seconds = self.body, now - self._measured
        if excused:
            seconds = 0.0
        elif body is None or seconds < window:
            return True
        size = body.size if body is not None else 0
        slow = size - self._measured_size < slowest * seconds
        self._measured, self._measured_size = now, size
        return not slow

    @property
    def takes(self) -> bool:
        """Whether the visitor may send more of the body now."""
        exchange = self.exchange
        return exchange is None or exchange.over or exchange.takes

    def body_broke(self, error: VisitorError) -> None:
        """The visitor's body is not what was announced, too large, or too slow."""
        if self.over:
            return
        if self.exchange is not None:
            self.exchange.cancel()
        if self.answered:
            self.cut(f"visitor: {error.reason}")
        else:
            self.own(self.conversation.page_for(error))

    def _waits_for_body(self, name: str) -> bool:
        """Whether legacy is asked later, when the body is here: a visitor who sends it slowly
        keeps no place of legacy's meanwhile. Of a large one that is not waited for, nor of one
        that legacy may not want, as long as there are places."""
        engine = self.engine
        pool = engine.upstreams.get(self.conversation.table, name)
        if self.block.upgrade and pool.is_full_of_tunnels:
            raise LegacyError(Stage.WAIT, 503, f"{pool.spec.limits.tunnels} tunnels are open")
        most = engine.limits.buffer
        if self.held is not None or self.body is None or self.spool is not None or not most:
            return False
        if self._size is not None and self._size > most:
            return False
        if self._expects:
            if pool.has_plenty:
                return False
            self._expects = False
            self.outlet.write(CONTINUE)
        self.held, self._held_since = [], clock.now
        engine.holding.add(self)
        return True

    def look(self, now: float) -> None:
        """Some time has passed, and not all of the body is here. A program may want an answer
        to its first part; while there are places enough, legacy is asked."""
        if now - self._held_since > _PATIENCE:
            pool = self.engine.upstreams.get(
                self.conversation.table, self.conversation.decision.legacy
            )
            if pool.has_plenty:
                self.go_to_legacy()

    def _drop_body(self) -> None:
        if self.spool is not None:
            self.spool.close()
        if self.held is not None:
            self.held = None
            self.engine.holding.discard(self)
