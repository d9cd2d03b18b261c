"""The body of a request for a handler, complete before that starts."""

from __future__ import annotations

import contextlib
import io
import tempfile
import threading
from typing import Any

__all__ = ["Spool"]

_IN_MEMORY = 256 * 1024  # bytes of a body; what is larger goes to a temporary file
_PIECE = 64 * 1024


class Spool:
    """A request body as it came: in memory, or in a file when it is large."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._lock = threading.Lock()
        self._at = 0
        self.size = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self.size += len(piece)

    def rewind(self) -> None:
        """Begin reading again."""
        self._at = 0

    def read(self) -> bytes:
        """The next piece, empty at the end."""
        data = self.read_at(self._at, _PIECE)
        self._at += len(data)
        return data

    def read_at(self, at: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(at)
            return self._file.read(size)

    def input(self) -> io.BufferedReader:
        """A `wsgi.input` that reads it from its beginning."""
        return io.BufferedReader(_Input(self))

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # a full disk keeps nothing that is wanted
            self._file.close()


class _Input(io.RawIOBase):
    """`wsgi.input` over a spool; a handler that was given up reads nothing more."""

    def __init__(self, spool: Spool) -> None:
        self._spool, self._position = spool, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._spool.read_at(self._position, len(buffer))
        except ValueError:
            raise OSError("this request has been answered without its handler") from None
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
