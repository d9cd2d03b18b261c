"""One connection of a visitor: requests in, answers out, in order.

It finds where heads begin and end, keeps what comes too early (pipelining), stops reading when
there is no room, and limits how long a visitor may take. A request is
`bridge.proxy.engine.turn`'s; what its bytes mean is `bridge.proxy.engine.reading`'s.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import re
import select
import socket
import struct
import termios
from typing import TYPE_CHECKING, cast

from bridge.errors import VisitorError
from bridge.proxy.connection import VISITOR_SILENCE
from bridge.proxy.engine.clock import clock
from bridge.proxy.engine.reading import LONGEST_HEAD, LONGEST_LINE, Block, read_block, read_line
from bridge.proxy.engine.sending import descriptor, send
from bridge.proxy.engine.turn import Turn
from bridge.proxy.engine.writing import CONTINUE, refusal

if TYPE_CHECKING:
    from bridge.proxy.engine.service import Service
    from bridge.proxy.engine.tunnel import Tunnel

__all__ = ["Visitor"]

_HIGH_WATER = 4 * 1024  # bytes of an answer that wait for the visitor before legacy is stopped
_LOW_WATER = 0  # the kernel still has much of it then
_EARLY = 64 * 1024  # bytes of later requests that are kept
_LINGER = 2.0  # seconds that an ended connection is read on for
_LINGER_BYTES = 2**30
_NEVER = float("inf")
_EMPTY_LINES = re.compile(rb"(?:\r\n)+")


def _without_empty_lines(data: bytes) -> bytes:
    """Empty lines may stand before a request (RFC 9112, section 2.2)."""
    match = _EMPTY_LINES.match(data)
    return data[match.end() :] if match else data


class Visitor(asyncio.Protocol):
    """The connection. `turn` is the request that is being answered; `full` says that the
    visitor takes nothing now."""

    __slots__ = (
        "_block",
        "_buffer",
        "_file",
        "_half_closed",
        "_lingering",
        "_reading",
        "_stopped",
        "_unsent",
        "deadline",
        "engine",
        "full",
        "peer",
        "scheme",
        "server",
        "transport",
        "tunnel",
        "turn",
    )

    def __init__(self, engine: Service) -> None:
        self.engine = engine
        self.transport: asyncio.Transport = None  # type: ignore[assignment]
        self.turn: Turn | None = None
        self.tunnel: Tunnel | None = None
        self.peer, self.scheme, self.server = "", "http", ("", "")
        self.full = False
        self.deadline = _NEVER
        self._buffer = b""
        self._block: Block | None = None
        self._file = -1
        self._reading = self._stopped = False
        self._half_closed = False  # the visitor sends no more
        self._lingering = -1  # bytes read since the end; -1: it has not ended
        self._unsent = 0

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER, low=_LOW_WATER)
        self._file = descriptor(transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        name = transport.get_extra_info("sockname")
        self.server = (name[0], str(name[1])) if isinstance(name, tuple) else ("", "")
        if transport.get_extra_info("sslcontext") is not None:
            self.scheme = "https"
        self.deadline = clock.now + self.engine.limits.head
        self.engine.visitors.add(self)
        self.engine.on_enter(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.engine.visitors.discard(self)
        self.engine.half_closed.discard(self)
        self.engine.on_leave()
        self._buffer = b""
        if self.tunnel is not None:
            self.tunnel.lost()
        elif self.turn is not None:
            turn, self.turn = self.turn, None
            turn.lost()

    def eof_received(self) -> bool:
        """No more comes; who has asked still gets the answer."""
        if self.tunnel is not None:
            self.tunnel.lost()
            return False
        self._half_closed = True
        turn = self.turn
        if turn is None:
            self.engine.report()
            return False
        if turn.body is not None:
            turn.body_broke(VisitorError(400, turn.body.missing))
        else:
            self._ask_whether_gone(turn)
        return True

    def _ask_whether_gone(self, turn: Turn) -> None:
        """Who hung up looks like who only sends no more, until something is written: the system
        of the former resets the connection, the latter passes over an interim answer that they
        did not ask for (RFC 9110, section 15.2)."""
        self.engine.half_closed.add(self)
        if turn.minor == 1 and not turn.answered:
            self.write(CONTINUE)

    @property
    def is_gone(self) -> bool:
        """Whether the other end of the connection is closed in both directions. Nobody says so
        while nothing is read or written."""
        sock = self.transport.get_extra_info("socket")
        if sock is None or self.transport.is_closing():
            return False
        poll = select.poll()
        poll.register(sock.fileno(), 0)  # hang-ups and errors are always told
        return bool(poll.poll(0))

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is being answered."""
        return self.turn is None and not self._buffer and self._lingering < 0

    # from the visitor

    def data_received(self, data: bytes) -> None:
        turn = self.turn
        if turn is None:
            if self._lingering >= 0:
                self._lingering += len(data)
                if self._lingering > _LINGER_BYTES:
                    self.transport.abort()
                return
            self._read(self._buffer + data if self._buffer else data)
        elif self.tunnel is not None:
            self.tunnel.take(data)
        elif turn.body is not None and not self._buffer:
            self._read_body(turn, data)
        else:
            self._buffer += data
            if len(self._buffer) > _EARLY:
                self.stop()

    def take_early(self) -> bytes:
        """What came after the request that is being answered."""
        early, self._buffer = self._buffer, b""
        return early

    def _read(self, data: bytes) -> None:
        """Take requests out of `data` until one of them is being answered."""
        self._reading = True
        while data and self.turn is None and self._lingering < 0:
            end = data.find(b"\r\n\r\n")
            if end < 0 or end > LONGEST_HEAD:
                data = self._incomplete(data)
                break
            line_end = data.find(b"\r\n")
            if line_end == 0:
                data = _without_empty_lines(data)
                continue
            line, raw = data[:line_end], data[line_end + 2 : end + 2]
            data = data[end + 4 :]
            try:
                method, target, minor = read_line(line)
                block = self._block
                if block is None or block.raw != raw:
                    block = self._block = read_block(raw)
                if block.chunked and minor == 0:
                    raise VisitorError(400, "Transfer-Encoding on HTTP/1.0")
            except VisitorError as error:
                self._refuse(error)
                data = b""
                break
            self.deadline = _NEVER
            turn = self.turn = Turn(self, method, minor, block)
            turn.start(target)
            if turn.body is not None and not turn.over:
                data = self._read_body(turn, data)
        self._buffer = data if self._lingering < 0 else b""
        self._reading = False

    def _incomplete(self, data: bytes) -> bytes:
        """A head that is not all here; what is wrong already is refused already."""
        if len(data) > 2 and data[:2] == b"\r\n":
            data = _without_empty_lines(data)
        line_end = data.find(b"\r\n")
        error: VisitorError | None = None
        if (line_end if line_end >= 0 else len(data)) > LONGEST_LINE:
            error = VisitorError(414, "the request line is too long")
        elif len(data) > LONGEST_HEAD:
            error = VisitorError(431, "the head is too large")
        elif data.count(b"\n") != data.count(b"\r\n"):
            error = VisitorError(400, "a line that ends without CR")
        if error is not None:
            self._refuse(error)
            return b""
        if not self._buffer:
            self.deadline = clock.now + self.engine.limits.head
        return data

    def _read_body(self, turn: Turn, data: bytes) -> bytes:
        rest = turn.take_body(data) if data else b""
        if turn.body is not None and not turn.over:
            self.deadline = clock.now + VISITOR_SILENCE
            if not turn.takes:
                self.stop()
        elif turn.body is None:
            self.deadline = _NEVER
            if rest and not self._reading:
                self._buffer = rest
                if self.turn is None:
                    self._read(rest)
        return rest

    def _refuse(self, error: VisitorError) -> None:
        """What came is no request, or none that can be read on from."""
        request_id = self.engine.front.refused(self.peer, error.status, error.reason)
        self.write(refusal(error.status, request_id, self.engine.date))
        self.end()

    def stop(self) -> None:
        """Read no more for now."""
        if not self._stopped and not self.transport.is_closing():
            self._stopped = True
            self.transport.pause_reading()

    def go_on(self) -> None:
        if self._stopped and not self.transport.is_closing():
            self._stopped = False
            self.transport.resume_reading()

    # to the visitor

    def write(self, data: bytes) -> None:
        send(self.transport, self._file, data)

    def pause_writing(self) -> None:
        self.full = True
        self._unsent = self._on_the_way()
        self.deadline = clock.now + self.engine.limits.stall
        if self.tunnel is not None:
            self.tunnel.visitor_is_slow()
        elif self.turn is not None:
            self.turn.visitor_is_slow()

    def resume_writing(self) -> None:
        self.full = False
        if self.tunnel is not None:
            self.deadline = _NEVER
            self.tunnel.visitor_keeps_up()
        elif self.turn is not None:
            self.deadline = _NEVER
            self.turn.visitor_keeps_up()

    def turn_over(self, *, keep: bool) -> None:
        """The answer is written."""
        self.turn = None
        if not keep or self.transport.is_closing():
            self.end()
            return
        self.deadline = clock.now + self.engine.limits.idle
        if not self._reading:
            self.go_on()
            if self._buffer:
                self._read(self._buffer)
            if self._half_closed and self.turn is None and self._lingering < 0:
                self.end()
        elif self._stopped:
            self.go_on()

    def break_off(self, *, reset: bool) -> None:
        """The answer stops in the middle. `reset` where a clean end would look like its end."""
        self.turn = None
        if self.transport.is_closing():
            return
        sock = self.transport.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.engine.report()
        self.transport.close()

    def end(self) -> None:
        """Nothing more is answered here. What still comes is read for a while: data that
        arrives at a closed socket resets the connection, and the answer would be lost."""
        self.turn, self._buffer = None, b""
        if self.transport.is_closing():
            return
        self.engine.report()
        self._lingering = 0
        self.deadline = clock.now + _LINGER
        if self.transport.can_write_eof() and not self._half_closed:
            self.transport.write_eof()
            self.go_on()
        else:
            self.transport.close()

    def close(self) -> None:
        """End it, once everything is written."""
        if not self.transport.is_closing():
            self.engine.report()
            self.transport.close()

    # time

    def _on_the_way(self) -> int:
        """Bytes that the visitor has not got yet, with those that the kernel holds: it asks for
        more only when it has got rid of a third of them, which takes slow visitors minutes."""
        unsent = self.transport.get_write_buffer_size()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            held = array.array("i", [0])
            with contextlib.suppress(OSError):
                fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, held)  # SIOCOUTQ, tcp(7)
            unsent += held[0]
        return unsent

    def look(self, now: float) -> None:
        """The deadline has passed."""
        turn = self.turn
        if self.full:
            unsent = self._on_the_way()
            if unsent < self._unsent:  # slow, but not stuck
                self._unsent, self.deadline = unsent, now + self.engine.limits.stall
            else:
                self.transport.abort()
        elif turn is not None:
            self.deadline = _NEVER
            if turn.body is not None and not turn.over:
                message = f"nothing of the body for {VISITOR_SILENCE:g} s"
                turn.body_broke(VisitorError(408, message))
        elif self._lingering < 0 and self._buffer:
            self._refuse(VisitorError(408, "the head takes too long"))
        else:
            self.transport.abort()
