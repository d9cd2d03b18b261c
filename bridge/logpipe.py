"""Logs into pipes, sockets and terminals, whose readers may stop reading.

Writing to one of these blocks when its reader is slower than the writer, and then everything
stops that logs. So a thread writes, what waits for it has a bound, and what is beyond that is
lost and counted. Files on disks need none of this.
"""

from __future__ import annotations

import array
import atexit
import fcntl
import io
import os
import select
import stat
import sys
import termios
import threading
import weakref
from collections import deque
from collections.abc import Callable

__all__ = ["LogPipe", "finish", "may_block", "unblock_standard_streams"]

_MOST = 2**20  # bytes that wait for the reader
_SLACK = 16 * 1024  # bytes of a pipe that pages which are not full may take
_LAST = 0.5  # seconds that the end of the process waits for the reader


def may_block(file: int) -> bool:
    """Whether the descriptor is a pipe, a socket or a terminal."""
    mode = os.fstat(file).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(file)


class LogPipe:
    """Writes to the descriptor `file`, in order, without ever holding up who calls.

    `on_lost` is told why something was lost and how many lines: from `write` where too much
    waits, else from the thread that writes. It may be called often.
    """

    def __init__(self, file: int, on_lost: Callable[[str, int], None]) -> None:
        self._file, self._on_lost = file, on_lost
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        """Begin anew: a process that was forked has the bytes of its parent, but no threads."""
        self._waiting: deque[bytes] = deque()
        self._size = 0  # bytes that wait, with those that are being written
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        """Write `data`, whole lines, soon; or never, when too much waits already."""
        with self._news:
            lost = self._size + len(data) > _MOST
            if not lost:
                self._size += len(data)
                self._waiting.append(data)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._work, name="bridge-log", daemon=True
                    )
                    self._thread.start()
                self._news.notify_all()
        if lost:
            self._on_lost("nobody reads it", data.count(b"\n"))

    def _work(self) -> None:
        while True:
            with self._news:
                while not self._waiting:
                    self._news.wait()
                data = b"".join(self._waiting)
                self._waiting.clear()
            left = data
            try:
                while left:
                    left = left[os.write(self._file, self._next(left)) :]
            except OSError as error:
                self._on_lost(error.strerror or str(error), left.count(b"\n"))
            with self._news:
                self._size -= len(data)
                self._news.notify_all()

    def _next(self, left: bytes) -> bytes:
        """How much to write at once. A write that has to wait for room is cut by what others
        write meanwhile, but for short ones to a pipe (pipe(7)): so that lines stay whole."""
        if len(left) <= select.PIPE_BUF or self._has_room(len(left)):
            return left
        end = left.rfind(b"\n", 0, select.PIPE_BUF) + 1
        return left[: end or left.find(b"\n") + 1 or len(left)]

    def _has_room(self, size: int) -> bool:
        held = array.array("i", [0])
        try:
            fcntl.ioctl(self._file, termios.FIONREAD, held)
            return size + held[0] + _SLACK < fcntl.fcntl(self._file, fcntl.F_GETPIPE_SZ)
        except OSError:
            return False  # it is no pipe

    def finish(self, seconds: float) -> None:
        """Wait until everything is written, at most so long."""
        with self._news:
            self._news.wait_for(lambda: not self._size, seconds)


_all: weakref.WeakSet[LogPipe] = weakref.WeakSet()


def _forked() -> None:
    for pipe in _all:
        pipe._forget()


os.register_at_fork(after_in_child=_forked)


@atexit.register
def finish() -> None:
    """Write what waits, before the process ends; who does not read then is not waited for."""
    for pipe in list(_all):
        pipe.finish(_LAST)


class _Stream(io.RawIOBase):
    """The descriptor `file` as a stream that never blocks. What was lost is said in it once
    somebody reads again."""

    def __init__(self, file: int) -> None:
        self._file, self._lost = file, 0
        self._pipe = LogPipe(file, self._on_lost)

    def _on_lost(self, reason: str, lines: int) -> None:
        self._lost += lines

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file

    def isatty(self) -> bool:
        return os.isatty(self._file)

    def write(self, data: object) -> int:
        text = bytes(data)  # type: ignore[call-overload]
        lost, self._lost = self._lost, 0
        note = b'{"event": "lines of this log are lost: nobody read it", "lines": %d}\n' % lost
        self._pipe.write(note + text if lost else text)
        if self._lost:  # this was lost, too, and its note with it
            self._lost += lost - (lost > 0)
        return len(text)


def unblock_standard_streams() -> None:
    """Let nothing that this process prints or logs wait for who reads it."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        stream.flush()
        try:
            file = stream.fileno()
        except OSError:
            continue  # somebody has put an object of their own there
        if may_block(file):
            raw = io.BufferedWriter(_Stream(file), 64 * 1024)
            text = io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)
            setattr(sys, name, text)
