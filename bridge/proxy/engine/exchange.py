"""One request to legacy and its answer, on an event loop.

Steps: (1) get a connection, (2) send the head and pass the body on, (3) read the answer's head,
(4) pass its body on, (5) give the connection back or close it. Every failure names its stage.
The bytes are `bridge.proxy.http.wire`'s; the connections are `bridge.proxy.engine.upstream`'s; who
asks is a `LegacyDownstream`.
"""

from __future__ import annotations

import enum
from functools import lru_cache
from time import perf_counter

from bridge.errors import LegacyError
from bridge.proxy.engine.clock import NEVER, clock
from bridge.proxy.engine.ports import LegacyDownstream
from bridge.proxy.engine.upstream import LegacyConnection, Upstream
from bridge.proxy.hooks import Outcome
from bridge.proxy.http.wire import (
    REPEATABLE,
    ChunkedReader,
    Framing,
    ResponseHead,
    WireError,
    chunk,
    framing,
    split_head,
)
from bridge.proxy.request.head import Headers
from bridge.reasons import Stage

__all__ = ["Exchange"]


_REMEMBERED = 1024  # bytes of a head


def _read_answer(method: str, lines: bytes) -> tuple[ResponseHead, Framing, Headers, bool, bool]:
    """The head, how its body ends, its headers, whether the connection is kept, and whether it
    is one visitor's alone from now on."""
    head = ResponseHead.parse(lines)
    return head, framing(method, head), head.plain_length(), head.keeps_alive, head.binds


# Under load most heads come many times within the second that their Date names.
read_answer = lru_cache(maxsize=128)(_read_answer)


class _State(enum.IntEnum):
    """Where a request to legacy is. WAITING: for a place. CONNECTING: it has one, and gets a new
    connection. ASKED: it has a connection. ANSWERED: the final head came. OVER: nobody wants more,
    or there is no more."""

    WAITING = 0
    CONNECTING = 1
    ASKED = 2
    ANSWERED = 3
    OVER = 4


_WAITING, _CONNECTING, _ASKED, _ANSWERED, _OVER = _State


class Exchange:
    """One request to legacy; `send` and `finish` give its body.

    head: complete, in bytes.
    chunked: how the body is framed; None when there is none.
    outcome: gets the times of the stages.
    upgrade: whether 101 is an answer that was asked for.
    bound: the connections that are this visitor's alone.
    binds: whether the request authenticates its connection, which is then one of them.
    """

    __slots__ = (
        "_binds",
        "_body",
        "_bound",
        "_buffer",
        "_chunked",
        "_chunks",
        "_head",
        "_interim",
        "_left",
        "_method",
        "_outcome",
        "_passed",
        "_reusable",
        "_sent",
        "_since",
        "_spare",
        "_state",
        "_upgrade",
        "connection",
        "downstream",
        "fresh",
        "full",
        "own",
        "paused",
        "pool",
        "repeatable",
    )

    def __init__(
        self,
        pool: Upstream,
        downstream: LegacyDownstream,
        method: str,
        head: bytes,
        chunked: bool | None,
        outcome: Outcome,
        bound: dict[Upstream, LegacyConnection],
        upgrade: bool,
        binds: bool,
    ) -> None:
        self.pool, self.downstream, self._outcome = pool, downstream, outcome
        self._method, self._head, self._chunked = method, head, chunked
        self.repeatable = chunked is None and method in REPEATABLE and not upgrade
        self._upgrade, self._binds, self._bound = upgrade, binds, bound
        self._sent = chunked is None  # everything of the request
        self._body: list[bytes] = []  # what came before there was a connection
        self._buffer = b""
        self._interim = False  # a 1xx answer came: the connection was not stale
        self._left: int | None = None
        self._spare = 0  # bytes that are read although the visitor is slow
        self._passed = 0  # bytes of the answer's body that were read after its head
        self._chunks: ChunkedReader | None = None
        self._reusable = False
        self._state = _WAITING
        self.full = False  # legacy takes nothing now
        self.paused = False  # the visitor takes nothing now
        self.connection: LegacyConnection | None = None
        self.own: LegacyConnection | None = None  # that is its visitor's alone, until it begins

    # (1)

    def start(self) -> None:
        pool = self.pool
        pool.budget.requests += 1
        self._outcome.legacy = pool.name
        self._since = perf_counter()  # when the stage began
        if self._bound and (own := self._bound.pop(pool, None)):
            self.own, self._binds = own, True
        # What cannot be repeated gets a fresh connection: it must not meet a stale one. What
        # authenticates a connection must not change who somebody else's is.
        self.fresh = self._binds or not self.repeatable
        pool.take(self)

    def connects(self) -> None:
        """There is a place for a new connection."""
        now = perf_counter()
        self._outcome.wait = now - self._since
        self._since, self._state = now, _CONNECTING

    # (2)

    def begin(self, connection: LegacyConnection) -> None:
        """There is a connection."""
        now = perf_counter()
        if self._state is _CONNECTING:
            self._outcome.connect = now - self._since
        else:
            self._outcome.wait = now - self._since
        self._since, self._state = now, _ASKED
        self.connection = connection
        connection.read_size = self.pool.read_size(0)
        outlet = connection.outlet
        if self._body:
            outlet.write(b"".join((self._head, *self._body)))
            self._body.clear()
        elif self._sent:
            outlet.write_soon(self._head)
        else:
            outlet.write(self._head)
        if self._sent:
            connection.deadline = clock.now + self.pool.spec.timeouts.first_byte
        elif not self.full:
            self.downstream.on_room()

    @property
    def place(self) -> str:
        """From where the visitor comes."""
        return self.downstream.place

    @property
    def answered(self) -> bool:
        """Whether the final head has come."""
        return self._state is _ANSWERED

    @property
    def over(self) -> bool:
        """Whether nobody wants more of the answer, or there is no more."""
        return self._state is _OVER

    @property
    def takes(self) -> bool:
        """Whether more of the body can be taken now."""
        return self.connection is not None and not self.full

    def send(self, piece: bytes) -> None:
        """A piece of the request's body."""
        if self._chunked:
            piece = chunk(piece)
        if self.connection is None:
            self._body.append(piece)
        else:
            self.connection.outlet.write(piece)

    def finish(self) -> None:
        """The request's body is complete."""
        self._sent = True
        if self._chunked:
            if self.connection is None:
                self._body.append(b"0\r\n\r\n")
            else:
                self.connection.outlet.write(b"0\r\n\r\n")
        if self.connection is not None and self._state is not _ANSWERED and not self.full:
            timeouts = self.pool.spec.timeouts
            self.connection.deadline = clock.now + timeouts.first_byte

    def legacy_is_full(self) -> None:
        self.full = True
        if self.connection is not None and self._state is not _ANSWERED:
            self.connection.deadline = clock.now + self.pool.spec.timeouts.send

    def legacy_has_room(self) -> None:
        self.full = False
        if self.connection is not None and self._state is not _ANSWERED:
            first = clock.now + self.pool.spec.timeouts.first_byte
            self.connection.deadline = first if self._sent else NEVER
        self.downstream.on_room()

    # (3)

    def received(self, data: bytes) -> None:
        """Bytes from legacy."""
        if self._state is _ANSWERED:
            self._take_body(data)
            return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            self._take_head(data)
        except WireError as error:
            self.failed(LegacyError(Stage.HEAD, 502, f"is no HTTP: {error}"))

    def _take_head(self, data: bytes) -> None:
        limit = self.pool.spec.limits.response_head
        while True:
            split = split_head(data)
            if split is None or len(split[0]) > limit:
                if len(data) > limit:
                    message = f"headers are larger than {limit} bytes"
                    self.failed(LegacyError(Stage.HEAD, 502, message))
                else:
                    self._buffer = data
                return
            lines, data = split
            read = read_answer if len(lines) <= _REMEMBERED else _read_answer
            head, frame, headers, keeps, binds = read(self._method, lines)
            if head.status >= 200:
                break
            if head.status == 101:
                self._switch(head, data)
                return
            self._interim = True
            self.downstream.on_interim(head)
            if self._state is _OVER:
                return
            if not data:
                return
        self._reusable = keeps
        if binds:
            self._binds = True
        if head.odd:
            self._outcome.odd = head.odd
        self._state = _ANSWERED
        self._outcome.first_byte = perf_counter() - self._since
        if self.pool.many and self.connection is not None:
            self.pool.servers.answered(self.connection.server)
        if head.status == 205:
            self._settle(keep=frame.length == 0 and not data)
            self.downstream.on_head(head, headers, 0, b"", True)
            return
        length = frame.length
        if length is not None and len(data) >= length:
            # What comes beyond its end means that the connection cannot be trusted.
            self._settle(keep=len(data) == length)
            self.downstream.on_head(head, headers, length, data[:length], True)
            return
        connection = self.connection
        assert connection is not None
        connection.deadline = clock.now + self.pool.spec.timeouts.between_bytes
        if frame.chunked:
            # What came with the head is read now: if it is garbage, there can still be a 502.
            self._chunks = chunks = ChunkedReader()
            body = b"".join(chunks.feed(data)) if data else b""
            if chunks.done:
                self._settle(keep=not chunks.leftover)
                self.downstream.on_head(head, headers, None, body, not chunks.trailers)
                if chunks.trailers:
                    self.downstream.on_end(chunks.trailers)
                return
            self.downstream.on_head(head, headers, None, body, False)
            return
        if length is not None:
            self._left = length - len(data)
        self.downstream.on_head(head, headers, length, data, False)

    def _switch(self, head: ResponseHead, data: bytes) -> None:
        connection = self.connection
        if not self._upgrade or connection is None:
            raise WireError("101 without an Upgrade")
        if [value.lower() for value in head.values("upgrade")] != ["websocket"]:
            raise WireError("101 to another protocol than was asked for")
        self.downstream.on_tunnel(head, connection, data)

    def let_go(self) -> None:
        """The connection is somebody else's from now on."""
        self._state = _OVER
        self.connection = None

    # (4)

    def _take_body(self, data: bytes) -> None:
        connection = self.connection
        if connection is None:
            return
        connection.deadline = clock.now + self.pool.spec.timeouts.between_bytes
        self._passed += len(data)
        if len(data) == connection.read_size:
            connection.read_size = self.pool.read_size(self._passed)
        if self._spare:
            self._spend(len(data))
        if self._chunks is not None:
            chunks = self._chunks
            try:
                pieces = chunks.feed(data)
            except WireError as error:
                self.failed(LegacyError(Stage.BODY, 502, f"is no HTTP: {error}"))
                return
            if chunks.done:
                self._settle(keep=not chunks.leftover)
            if pieces:
                self.downstream.on_body(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if chunks.done:
                self.downstream.on_end(chunks.trailers)
        elif self._left is None:
            self.downstream.on_body(data)
        else:
            left = self._left - len(data)
            if left > 0:
                self._left = left
                self.downstream.on_body(data)
                return
            self._settle(keep=left == 0)
            self.downstream.on_body(data[:left] if left else data)
            self.downstream.on_end([])

    def pause(self) -> None:
        """The visitor is slower than legacy: read no more for now, and later less at a time."""
        self._passed //= 4
        connection = self.connection
        if connection is not None and self._state is not _OVER:
            self.paused = True
            connection.deadline = NEVER
            connection.read_size = self.pool.read_size(self._passed)
            connection.transport.pause_reading()
            self.pool.was_paused(self)

    def hurry(self, most: int) -> None:
        """Others need the place: read up to `most` bytes more, once, whatever the visitor does.
        If the answer ends with them, they wait here for the visitor, and the place is free."""
        if self.paused and not self._spare:
            self.resume()
            self._spare = most

    def _spend(self, size: int) -> None:
        self._spare -= size
        if self._spare <= 0:
            self._spare = -1
            if not self.paused:
                self.pause()

    def resume(self) -> None:
        connection = self.connection
        self._is_read_again()
        self._spare = 0
        if connection is not None and self._state is not _OVER:
            connection.deadline = clock.now + self.pool.spec.timeouts.between_bytes
            connection.transport.resume_reading()

    def _is_read_again(self) -> None:
        if self.paused:
            self.paused = False
            self.pool.was_resumed(self)

    # (5)

    def _settle(self, *, keep: bool) -> None:
        connection = self.connection
        if self._state is _OVER or connection is None:
            return
        self._state = _OVER
        self.connection = None
        if self.paused:
            self._is_read_again()
        keep = keep and self._reusable and self._sent
        if self._binds and keep:
            self._bound[self.pool] = connection
            self.pool.give_back(connection, keep=True, binds=True)
        else:
            self.pool.give_back(connection, keep=keep)

    def ended(self, error: Exception | None) -> None:
        """Legacy has ended the connection."""
        connection = self.connection
        if self._state is _OVER or connection is None:
            return
        words = getattr(error, "strerror", None) or (str(error) if error else "")
        if self._state is not _ANSWERED:
            stale = connection.pooled and not self._buffer and not self._interim
            self._buffer = b""
            if stale and self.repeatable and self.pool.budget.take():
                self.connection, self._state = None, _WAITING
                self._since = perf_counter()
                self.pool.give_back(connection, keep=False)
                self.fresh = True
                self.pool.take(self)
                return
            self.pool.servers.was_silent(connection.server, clock.now)
            self.failed(LegacyError(Stage.FIRST_BYTE, 502, words or "closed without an answer"))
        elif self._chunks is not None:
            self.failed(LegacyError(Stage.BODY, 502, words or "ended before the last chunk"))
        elif self._left is not None:
            self.failed(LegacyError(Stage.BODY, 502, words or f"ended {self._left} bytes early"))
        elif error is not None:
            self.failed(LegacyError(Stage.BODY, 502, words))
        else:
            self._settle(keep=False)
            self.downstream.on_end([])

    def too_late(self) -> None:
        """The deadline of the stage has passed."""
        timeouts = self.pool.spec.timeouts
        if self._state is _ANSWERED:
            error = LegacyError(Stage.BODY, 504, f"stalled for {timeouts.between_bytes:g} s")
        elif self.full:
            error = LegacyError(Stage.SEND, 504, f"takes nothing for {timeouts.send:g} s")
        else:
            error = LegacyError(
                Stage.FIRST_BYTE, 504, f"no answer within {timeouts.first_byte:g} s"
            )
            if self.connection is not None:
                self.pool.servers.was_silent(self.connection.server, clock.now)
        self.failed(error)

    def failed(self, error: LegacyError) -> None:
        if self._state is not _OVER:
            if self._state is not _ANSWERED:
                stage = (
                    error.stage if error.stage in (Stage.WAIT, Stage.CONNECT) else Stage.FIRST_BYTE
                )
                setattr(self._outcome, stage, perf_counter() - self._since)
            self.cancel()
            self.downstream.on_failure(error)

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        if self._state is _OVER:
            return
        self._state = _OVER
        self._is_read_again()
        connection, self.connection = self.connection, None
        if self.own is not None:  # it has waited for a place: its visitor may ask again
            self._bound[self.pool], self.own = self.own, None
        if connection is not None:
            self.pool.give_back(connection, keep=False)
