"""The request body on its way from the visitor to the legacy side.

It is framed anew and streams in small pieces. Waiting for a visitor who sends slowly can be
given up for an answer that legacy gives early. Which server the bytes come from is
`bridge.proxy.wsgi.environ`'s; the connection they go to is `bridge.proxy.wsgi.connection`'s.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bridge.errors import VisitorError
from bridge.proxy.http.wire import chunk

__all__ = ["EarlyAnswer", "Readable", "RequestBody", "Wait", "framed_pieces"]

_PIECE = 32 * 1024  # bytes of a body read at a time: latency of an early answer, not throughput

Wait = Callable[[socket.socket], None]
"""Called with the visitor's socket before it is read from; may raise EarlyAnswer."""


class EarlyAnswer(Exception):
    """Legacy answered, or hung up, while the visitor still had something to send."""


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class RequestBody:
    """A request body to stream: `length` bytes, or chunked when it is None.

    `watch` sets what is called before each read from the visitor's socket, and None ends that.
    It is None itself under a server that does not show its socket. The visitor may be silent for
    `silence` seconds.
    """

    stream: Readable
    length: int | None
    watch: Callable[[Wait | None], None] | None = None
    silence: float = 60.0

    @property
    def header(self) -> tuple[str, str]:
        """The header that frames it."""
        if self.length is None:
            return "Transfer-Encoding", "chunked"
        return "Content-Length", str(self.length)


def framed_pieces(body: RequestBody) -> Iterator[bytes]:
    """The body framed for the wire. Raises VisitorError when it is not what was announced, and
    EarlyAnswer."""
    left = body.length
    while left is None or left > 0:
        try:
            data = body.stream.read(_PIECE if left is None else min(left, _PIECE))
        except (VisitorError, EarlyAnswer):
            raise
        except Exception as error:  # servers raise their own kinds for a broken body
            raise VisitorError(400, f"the request body breaks off: {error}") from None
        if not data:
            break
        if left is None:
            yield chunk(data)
        else:
            left -= len(data)
            yield data
    if left is None:
        yield b"0\r\n\r\n"
    elif left:
        raise VisitorError(400, f"the request body ends {left} bytes early")
