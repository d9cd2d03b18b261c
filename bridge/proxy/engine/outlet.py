"""Writing to a connection: to its socket, as long as that takes it.

What the socket does not take is the transport's, which buffers it and says when that is too much.
Whole requests and whole answers wait for the end of the event loop's turn while many are at work.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import os
import select
import socket
import struct
import termios

__all__ = ["Batch", "Outlet", "delivered", "descriptor", "is_gone", "on_the_way", "send"]

_MANY = 4  # requests at work from which on writes wait for each other
_ACKED = struct.Struct("=120xQ")  # tcpi_bytes_acked in struct tcp_info, linux/tcp.h


def descriptor(transport: asyncio.BaseTransport) -> int:
    """Where the bytes for the other side may be written to; -1 where only the transport can,
    because it encrypts them."""
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


def send(transport: asyncio.Transport, file: int, data: bytes) -> None:
    """Write `data` after everything that was written before; `file` is the transport's
    `descriptor`. Does nothing on a connection that is being closed."""
    # In this order: the descriptor of a closed connection may be another one's already.
    if transport.is_closing():
        return
    if file >= 0 and not transport.get_write_buffer_size():
        try:
            written = os.write(file, data)
        except OSError:  # there is no room, or the connection broke: the transport finds out
            written = 0
        if written == len(data):
            return
        if written:
            data = data[written:]
    transport.write(data)


class Batch:
    """Outlets that have something to write at the end of the loop's turn.

    A write that finds the reader asleep has to wake them, which costs as much as the write. Of
    writes that follow each other at once, only the first one has to. `asking` is how many
    requests are at work, which their owner counts: a few need not wait for each other.
    """

    __slots__ = ("_loop", "asking", "outlets")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.asking = 0
        self.outlets: list[Outlet] = []

    def begin(self) -> None:
        """The first outlet has come."""
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        outlets, self.outlets = iter(self.outlets), []
        try:
            for outlet in outlets:
                outlet.flush()
        finally:
            if rest := [*outlets]:  # one could not be flushed, which concerns nobody else
                self.outlets[:0] = rest
                self.begin()


class Outlet:
    """Where the bytes for the other side of a connection go, in order. `kept` are those that
    wait for the end of the loop's turn. `full`: the other side takes nothing now."""

    __slots__ = ("_batch", "_file", "_transport", "full", "kept")

    def __init__(self, transport: asyncio.Transport, batch: Batch) -> None:
        self._transport, self._batch = transport, batch
        self._file = descriptor(transport)
        self.kept = b""
        self.full = False

    def write(self, data: bytes) -> None:
        """Write `data` now."""
        if self.kept:
            self.flush()
        send(self._transport, self._file, data)

    def write_soon(self, data: bytes) -> None:
        """Write `data` no later than at the end of the loop's turn."""
        batch = self._batch
        if self.kept or batch.asking < _MANY:
            self.write(data)
            return
        self.kept = data
        batch.outlets.append(self)
        if len(batch.outlets) == 1:
            batch.begin()

    def flush(self) -> None:
        """Write what is kept. To be called before the connection is closed."""
        data, self.kept = self.kept, b""
        if data:
            send(self._transport, self._file, data)


def on_the_way(transport: asyncio.Transport) -> int:
    """Bytes that the other side has not got yet, with those that the kernel holds. What a TLS
    transport has encrypted already and not written is in neither."""
    unsent = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is not None:
        held = array.array("i", [0])
        with contextlib.suppress(OSError):
            fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, held)  # SIOCOUTQ, tcp(7)
        unsent += held[0]
    return unsent


def delivered(transport: asyncio.Transport) -> int:
    """A number that grows as the other side gets more: the bytes that it has acknowledged, or,
    where nobody counts them (unix sockets), those on the way, negative."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.size)
            if len(info) == _ACKED.size:
                return int(_ACKED.unpack(info)[0])
    return -on_the_way(transport)


def is_gone(transport: asyncio.Transport) -> bool:
    """Whether the other end is closed in both directions."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), 0)  # hang-ups and errors are always told
    return bool(poll.poll(0))
