"""One connection of a visitor: requests in, answers out, in order.

It finds where heads begin and end, keeps what comes too early (pipelining), stops reading when
there is no room, and limits how long a visitor may take. A request is
`bridge.proxy.engine.turn`'s; what its bytes mean is `bridge.proxy.engine.reading`'s.
"""

from __future__ import annotations

import asyncio
import enum
import re
import socket
import struct
from collections.abc import Callable
from typing import cast

from bridge.errors import VisitorError
from bridge.proxy.conversation import refused
from bridge.proxy.engine.answers import CONTINUE, refusal
from bridge.proxy.engine.clock import NEVER, clock
from bridge.proxy.engine.engine import Engine
from bridge.proxy.engine.outlet import Outlet, delivered, is_gone, on_the_way
from bridge.proxy.engine.reading import Block, read_block, read_line
from bridge.proxy.engine.reply import Known
from bridge.proxy.engine.tunnel import Tunnel
from bridge.proxy.engine.turn import Turn
from bridge.proxy.engine.upstream import LegacyConnection, Upstream
from bridge.proxy.hooks import Outcome
from bridge.proxy.http.wire import NO_TLS, TLS_HELLO

__all__ = ["Visitor"]

_HIGH_WATER = 4 * 1024  # bytes of an answer that wait for the visitor before legacy is stopped
_LOW_WATER = 0  # the kernel still has much of it then
_EARLY = 64 * 1024  # bytes of later requests that are kept
_AT_ONCE = 32 * 1024  # bytes that are taken before others have their turn
_REQUEST = 256  # bytes that a request counts for besides its own
_CHEAP = 8  # so many bytes of a body with a length cost as much as one of any other kind
_LINGER = 2.0  # seconds that an ended connection is read on for
_LINGER_BYTES = 2**30
_EMPTY_LINES = re.compile(rb"(?:\r\n)*")  # may stand before a request (RFC 9112, section 2.2)


class _Phase(enum.IntEnum):
    """Where a connection is in its life. IDLE: nothing is asked. BEGUN: a head has come in part.
    ANSWERING: a request is being answered. TUNNEL: it is one. ENDED: nothing more is answered;
    what still comes is read for a while."""

    IDLE = 0
    BEGUN = 1
    ANSWERING = 2
    TUNNEL = 3
    ENDED = 4


_IDLE, _BEGUN, _ANSWERING, _TUNNEL, _ENDED = _Phase


class Visitor(asyncio.Protocol):
    """The connection. `turn` is the request that is being answered, `tunnel` what became of one;
    `bound` are the connections to legacy that are authenticated as this visitor, and idle."""

    __slots__ = (
        "_at",
        "_block",
        "_buffer",
        "_got",
        "_half_closed",
        "_known",
        "_lingering",
        "_phase",
        "_soon",
        "_stopped",
        "_taking",
        "_tls",
        "bound",
        "deadline",
        "engine",
        "outlet",
        "peer",
        "scheme",
        "server",
        "transport",
        "tunnel",
        "turn",
    )

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.outlet: Outlet = None  # type: ignore[assignment]
        self.turn: Turn | None = None
        self.tunnel: Tunnel | None = None
        self.bound: dict[Upstream, LegacyConnection] = {}
        self.peer, self.scheme, self.server = "", "http", ("", "")
        self.deadline = NEVER
        self._buffer = b""  # what has come; of it
        self._at = 0  # so much is taken
        self._phase = _IDLE
        self._block: Block | None = None  # the last one, and
        self._known = Known()  # what follows from it
        self._tls = False
        self._taking = self._soon = self._stopped = False
        self._half_closed = False  # the visitor sends no more
        self._lingering = 0  # bytes read since the end
        self._got = 0

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        self.outlet = Outlet(self.transport, self.engine.batch)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        name = transport.get_extra_info("sockname")
        self.server = (name[0], str(name[1])) if isinstance(name, tuple) else ("", "")
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme, self._tls = "https", True
        self.deadline = clock.now + self.engine.limits.head
        self.engine.visitors.add(self)
        self.engine.on_enter(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.engine.visitors.discard(self)
        self.engine.unread.discard(self)
        self.engine.on_leave()
        self._buffer = b""
        if self.tunnel is not None:
            self.tunnel.lost()
        elif self.turn is not None:
            turn, self.turn = self.turn, None
            turn.lost()
        for pool, connection in self.bound.items():
            pool.discard(connection)

    def eof_received(self) -> bool:
        """No more comes; who has asked still gets the answer."""
        if self.tunnel is not None:
            self.tunnel.lost()
            return False
        self._half_closed = True
        turn = self.turn
        if turn is None and not (self.outlet.full or self._soon):
            self.engine.report()
            self.outlet.flush()
            return False
        if turn is not None and turn.body is None:
            self._ask_whether_gone(turn)
        if not self._soon:
            self._no_more_comes()
        return not self._tls  # which is ended in both directions at once

    def _ask_whether_gone(self, turn: Turn) -> None:
        """Who hung up looks like who only sends no more, until something is written: the system
        of the former resets the connection, the latter passes over an interim answer that they
        did not ask for (RFC 9110, section 15.2)."""
        self.engine.unread.add(self)
        if turn.minor == 1 and not turn.answered:
            self.outlet.write(CONTINUE)

    def _no_more_comes(self) -> None:
        """Everything that came is taken, as far as it can be now."""
        turn = self.turn
        if turn is None:
            if not self.outlet.full and self._phase is not _ENDED:
                self.end()
        elif turn.body is not None and not self._buffer:
            turn.body_broke(VisitorError(400, turn.body.missing))

    @property
    def is_gone(self) -> bool:
        """Whether the other end of the connection is closed in both directions. Nobody says so
        while nothing is read or written."""
        return not self.transport.is_closing() and is_gone(self.transport)

    @property
    def idle_since(self) -> float:
        """When it became `idle`."""
        limits = self.engine.limits
        return self.deadline - (limits.head if self._block is None else limits.idle)

    @property
    def is_begun(self) -> bool:
        """Whether a head has come in part, and nothing is being answered."""
        return self._phase is _BEGUN and not self.outlet.full

    def give_way(self) -> None:
        """Leave at once: others need the place."""
        self.engine.report()
        self.transport.abort()

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is being answered."""
        return self._phase is _IDLE and not self._buffer

    # from the visitor

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel.take(data)
            return
        if self._phase is _ENDED:
            self._lingering += len(data)
            if self._lingering > _LINGER_BYTES:
                self.transport.abort()
            return
        if self._buffer:
            self._buffer, self._at = self._buffer[self._at :] + data, 0
        else:
            self._buffer = data
        turn = self.turn
        if turn is None or turn.body is not None:
            self.proceed()
        elif len(self._buffer) > _EARLY:
            self.stop()

    def take_early(self) -> bytes:
        """What came after the request that is being answered."""
        early, self._buffer, self._at = self._buffer[self._at :], b"", 0
        return early

    def proceed(self) -> None:
        """Take what is here: the rest of a body, then requests until one of them is being
        answered, or the visitor takes no answers. After a while others have their turn."""
        if self._taking:
            return
        self._taking, self._soon = True, False
        try:
            self._take()
        finally:
            self._taking = False
        if self._at >= len(self._buffer):
            self._buffer, self._at = b"", 0
        if self._phase is not _ENDED:
            self._read_on()

    def _take(self) -> None:
        left = _AT_ONCE
        while self._at < len(self._buffer) and self._phase is not _ENDED:
            turn, before = self.turn, self._at
            if left <= 0:
                self._soon = True
                return
            if turn is None:
                self.outlet.flush()  # only then is it known whether the visitor takes more
                if self.outlet.full or not self._take_head():
                    return
                left -= self._at - before + _REQUEST
            elif turn.body is None or not turn.takes:
                return
            else:
                left -= self._take_body(turn)

    def _read_on(self) -> None:
        """Read on, or not, as it fits to what was taken and what was not."""
        turn = self.turn
        missing = turn is not None and turn.body is not None
        if turn is not None and not self.outlet.full:
            if missing:
                self.deadline = self._awaits_body(turn)
                if turn.over:
                    return
            else:
                self.deadline = NEVER
        if self._soon:
            self.stop()
            self.engine.loop.call_soon(self._proceed_soon)
            return
        if len(self._buffer) - self._at > _EARLY or (missing and turn and not turn.takes):
            self.stop()
        else:
            self.go_on()
        if self._half_closed:
            self._no_more_comes()

    def _proceed_soon(self) -> None:
        if self._soon and not self.transport.is_closing():
            self.proceed()

    def _take_head(self) -> bool:
        """Take a request; False when there is none that could be."""
        data, at = self._buffer, self._at
        end = data.find(b"\r\n\r\n", at)
        limits = self.engine.limits
        if end < 0 or end - at > limits.request_head:
            self._look_at_part()
            return False
        line_end = data.find(b"\r\n", at)
        if line_end == at:
            self._skip_empty_lines()
            return True
        line, raw = data[at:line_end], data[line_end + 2 : end + 2]
        self._at = end + 4
        try:
            method, target, minor = read_line(line, limits.request_line)
            block = self._block
            if block is None or block.raw != raw:
                fields = limits.request_header, limits.request_headers
                block = self._block = read_block(raw, *fields)
                self._known = Known()
            if block.chunked and minor == 0:
                raise VisitorError(400, "Transfer-Encoding on HTTP/1.0")
        except VisitorError as error:
            self._refuse(error)
            return False
        self.deadline = NEVER
        self._phase = _ANSWERING
        turn = self.turn = Turn(self.engine, self, method, minor, block, self._known)
        turn.start(target)
        return True

    def _skip_empty_lines(self) -> None:
        found = _EMPTY_LINES.match(self._buffer, self._at)
        assert found is not None
        self._at = found.end()

    def _look_at_part(self) -> None:
        """A head is not all here; what is wrong already is refused already."""
        if len(self._buffer) - self._at > 2:
            self._skip_empty_lines()
        part, limits = self._buffer[self._at :], self.engine.limits
        line_end = part.find(b"\r\n")
        if part.startswith(TLS_HELLO):
            self._refuse(VisitorError(400, NO_TLS))
        elif (line_end if line_end >= 0 else len(part)) > limits.request_line:
            self._refuse(VisitorError(414, "the request line is too long"))
        elif len(part) > limits.request_head:
            self._refuse(VisitorError(431, "the head is too large"))
        elif part.count(b"\n") != part.count(b"\r\n"):
            self._refuse(VisitorError(400, "a line that ends without CR"))
        elif self._phase is _IDLE:
            self._phase = _BEGUN
            self.deadline = clock.now + limits.head

    def _awaits_body(self, turn: Turn) -> float:
        """Until when the next byte of a body has to come. Who sends, but hardly anything, keeps
        a place of legacy's as who sends nothing."""
        now, limits = clock.now, self.engine.limits
        if not turn.is_fast_enough(now, limits.body, limits.slowest, excused=self._stopped):
            turn.body_broke(VisitorError(408, f"less of the body than {limits.slowest} bytes/s"))
        return now + limits.body

    def _take_body(self, turn: Turn) -> int:
        """Give a request what is its body; returns what that costs, in bytes."""
        body, at = turn.body, self._at
        assert body is not None
        size = _AT_ONCE if body.length is None else body.left
        piece = self._buffer[at : at + size]
        rest = turn.take_body(piece)
        self._at = at + len(piece) - len(rest)
        return len(piece) if body.length is None else len(piece) // _CHEAP

    def _refuse(self, error: VisitorError) -> None:
        """What came is no request, or none that can be read on from."""
        request_id = refused(self.engine.front, self.peer, error.status, error.reason)
        self.outlet.write(refusal(error.status, request_id, self.engine.date))
        self.end()

    def stop(self, *, unread: bool = False) -> None:
        """Read no more for now; `unread`: nobody would notice that the visitor leaves."""
        if unread:
            self.engine.unread.add(self)
        if not self._stopped and not self.transport.is_closing():
            self._stopped = True
            self.transport.pause_reading()

    def go_on(self, *, unread: bool = False) -> None:
        """Read on; `unread`: after a `stop` of that kind."""
        if unread:
            self.engine.unread.discard(self)
        if self._stopped and not self.transport.is_closing():
            self._stopped = False
            self.transport.resume_reading()

    # to the visitor

    def pause_writing(self) -> None:
        self.outlet.full = True
        # The kernel asks for more only when it has got rid of a third of what it holds, which
        # takes slow visitors minutes.
        self._got = delivered(self.transport)
        self.deadline = clock.now + self.engine.limits.stall
        if self.tunnel is not None:
            self.tunnel.visitor_is_slow()
        elif self.turn is not None:
            self.turn.visitor_is_slow()

    def resume_writing(self) -> None:
        self.outlet.full = False
        self.deadline = NEVER
        turn = self.turn
        if self.tunnel is not None:
            self.tunnel.visitor_keeps_up()
        elif turn is not None:
            if turn.body is not None:
                self.deadline = clock.now + self.engine.limits.body
            turn.visitor_keeps_up()
        elif self._phase is _ENDED:
            self.deadline = clock.now + _LINGER
        else:
            self.deadline = clock.now + self.engine.limits.idle
            self.proceed()

    def turn_over(self, *, keep: bool) -> None:
        """The answer is written."""
        self.turn, self._phase = None, _IDLE
        if not keep or self.transport.is_closing():
            self.end()
            return
        if not self.outlet.full:
            self.deadline = clock.now + self.engine.limits.idle
        if self._buffer or self._stopped or self._half_closed:
            self.proceed()

    def become(
        self, legacy: LegacyConnection, rest: bytes, outcome: Outcome, over: Callable[[], None]
    ) -> None:
        self.tunnel = Tunnel(self, legacy, self.engine.limits, outcome, over)
        self._phase = _TUNNEL
        self.tunnel.start(rest)

    def break_off(self, *, reset: bool) -> None:
        """The answer stops in the middle. `reset` where a clean end would look like its end."""
        self.turn = None
        if self.transport.is_closing():
            return
        self.engine.report()
        if reset and self._tls:
            self.transport.abort()  # closing would say goodbye
            return
        sock = self.transport.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    def end(self) -> None:
        """Nothing more is answered here. What still comes is read for a while: data that
        arrives at a closed socket resets the connection, and the answer would be lost."""
        self.turn, self._buffer, self._at = None, b"", 0
        if self.transport.is_closing():
            return
        self.engine.report()
        if not self.transport.can_write_eof() or self._half_closed:
            self._close()
            return
        self._linger()
        self.transport.write_eof()
        self.go_on()

    def _close(self) -> None:
        """Close it once everything is written, which the visitor may take their time for."""
        self._linger()
        self.transport.close()

    def _linger(self) -> None:
        """It has ended, but for an answer that waits here, as long as the visitor gets on."""
        self.outlet.flush()
        self._phase = _ENDED
        self._got = delivered(self.transport)
        self.deadline = clock.now + (self.engine.limits.stall if self._has_more else _LINGER)

    @property
    def _has_more(self) -> bool:
        """Whether some of the answer still waits here; with TLS that may be in the kernel."""
        if self._tls:
            return on_the_way(self.transport) > 0
        return self.transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """End it, once everything is written."""
        if not self.transport.is_closing():
            self.engine.report()
            self._close()

    def cut_short(self) -> None:
        """End what is being answered: the server stops."""
        turn = self.turn
        if self.tunnel is not None:
            self.tunnel.too_late()
        elif turn is None:
            self.end()
        elif turn.answered:
            turn.cut("bridge: the server has stopped")
        else:
            turn.own(turn.conversation.page(503, "the server has stopped"))

    def _let_go(self) -> None:
        """Who takes an answer too slowly keeps what others need."""
        limits = self.engine.limits
        if self.turn is not None:
            taken = f"less than {limits.slowest} bytes/s for {limits.stall:g} s"
            self.turn.lost(f"bridge: the visitor took {taken}")
        self.transport.abort()

    # time

    def look(self, now: float) -> None:
        """The deadline has passed."""
        turn = self.turn
        if self.outlet.full or (self._phase is _ENDED and self._has_more):
            got = delivered(self.transport)
            if got - self._got >= max(1, self.engine.limits.slowest * self.engine.limits.stall):
                self._got, self.deadline = got, now + self.engine.limits.stall
            else:
                self._let_go()
        elif turn is not None:
            self.deadline = NEVER
            if turn.body is not None and not turn.over:
                if self._stopped:  # it is not the visitor who waits
                    self.deadline = now + self.engine.limits.body
                    return
                message = f"nothing of the body for {self.engine.limits.body:g} s"
                turn.body_broke(VisitorError(408, message))
        elif self._phase is not _ENDED and self._buffer:
            self._refuse(VisitorError(408, "the head takes too long"))
        else:
            self.transport.abort()
