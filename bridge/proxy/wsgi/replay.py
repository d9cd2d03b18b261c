"""`wsgi.input` that can be read again: for legacy, when the handler that has read it declines.

For the WSGI shell, which gives a handler the visitor's bytes as they come; the engine has all of
them before it starts a handler.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

from bridge.errors import VisitorError

__all__ = ["ReplayableInput"]

_PATIENCE = 300.0  # seconds that a slow upload to a handler may take
_REPLAYABLE = 1024 * 1024  # a handler that read more than this has taken the request


class ReplayableInput:
    """`wsgi.input` for a handler: remembers what was read, so that legacy can have it after all.

    `taken` says that the handler read too much for that.
    """

    def __init__(self, stream: Any, length: int | None = None) -> None:
        """`length` is what the visitor announced, in bytes, or None for a chunked body."""
        self._stream, self._length = stream, length
        self._read = io.BytesIO()
        self._detached = False
        self._size = 0
        self._waited = 0.0
        self._waits_since: float | None = None
        self.taken = False

    @property
    def seconds_waited(self) -> float:
        """How long the handler has waited for the visitor's bytes, up to now; a visitor who
        sends nothing at all is not waited for without end."""
        since = self._waits_since
        now = time.monotonic() - since if since is not None else 0.0
        return min(self._waited + now, _PATIENCE)

    def read(self, size: int = -1, /) -> bytes:
        data = self._receive(self._stream.read, size)
        self._check_whole(size < 0 or len(data) < size)
        return data

    def readline(self, size: int = -1, /) -> bytes:
        data = self._receive(self._stream.readline, size)
        self._check_whole(not data.endswith(b"\n") and (size < 0 or len(data) < size))
        return data

    def _receive(self, read: Callable[..., bytes], size: int) -> bytes:
        self._guard()
        self._waits_since = time.monotonic()
        try:
            data = read(size) if size >= 0 else read()
        except VisitorError:
            raise
        except Exception as error:  # servers raise their own kinds for a broken body
            raise VisitorError(400, f"the request body breaks off: {error}") from None
        finally:
            self._waited, self._waits_since = self.seconds_waited, None
        self._size += len(data)
        if self._size > _REPLAYABLE:
            self.taken, self._read = True, io.BytesIO()
        else:
            self._read.write(data)
        return data

    def _check_whole(self, ended: bool) -> None:
        """A handler must not take half of a form for all of it: servers end a body quietly
        when the visitor hangs up."""
        if ended and self._length is not None and self._size < self._length:
            early = self._length - self._size
            raise VisitorError(400, f"the request body ends {early} bytes early")

    def _guard(self) -> None:
        if self._detached:
            raise OSError("this request has been answered without its handler")

    def detach(self) -> None:
        """From now on a handler that was given up gets no more of the visitor's bytes."""
        self._detached = True

    def readlines(self, hint: int = -1, /) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def replay(self) -> Replayed:
        """The whole body from its beginning, for the legacy side."""
        self._read.seek(0)
        return Replayed(self._read, self._stream)


class Replayed:
    """What the handler read, and then the rest."""

    def __init__(self, first: Any, rest: Any) -> None:
        self._first, self._rest = first, rest

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._first.read(size) or self._rest.read(size)
        return data
