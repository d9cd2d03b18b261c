"""Spool directories: events that PHP appends to a file where it has no transaction to put them in.

`current.spool` is written under a lock; whoever takes it renames it under the same lock. A
renamed file belongs to the reader and goes only when its events are safe elsewhere. A line is
the JSON text of one event.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from pathlib import Path
from typing import BinaryIO

from bridge.queue.events import MAX_EVENT_BYTES

__all__ = ["CURRENT", "Spool"]

CURRENT = "current.spool"
_NO_FILE = "is no file of PHP's, but a link, a FIFO or the like: remove it"


class Spool:
    """One spool directory; several readers may share it. For one thread. max_event: bytes of the
    largest event.

        while (lines := spool.lines()) is not None:
            … bring them to safety …
            spool.done()

    The file in hand stays locked until its end, so no other reader repeats it.
    """

    def __init__(self, directory: Path, *, max_event: int = MAX_EVENT_BYTES) -> None:
        self.directory = directory
        self._chunk = 2 * max_event  # bytes that are read at once
        self._file: BinaryIO | None = None
        self._path = directory
        self._start = self._end = 0

    def lines(self) -> list[bytes] | None:
        """The next lines, without their ends; None where nothing waits. The same ones again until
        `done`. A line that is much too long for an event is cut. Raises OSError, also when the only
        files that wait cannot be read."""
        if self._file is None and not self._open():
            return None
        assert self._file is not None
        self._file.seek(self._start)
        chunk = self._file.read(self._chunk)
        self._end = self._start + len(chunk)
        if len(chunk) == self._chunk:
            whole = chunk.rfind(b"\n") + 1
            if whole:
                chunk, self._end = chunk[:whole], self._start + whole
            else:
                self._end = self._next_line(self._file)
        return [line for line in chunk.split(b"\n") if line]

    def done(self) -> None:
        """What `lines` gave is safe elsewhere."""
        assert self._file is not None
        self._start = self._end
        if self._start >= os.fstat(self._file.fileno()).st_size:
            # Removed before it is unlocked, so that nobody begins it.
            self._path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Leave the file in hand to others."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def waiting(self) -> int:
        """Files that wait, with the one that is being written if there is anything in it."""
        return sum(1 for path in self._paths() if _size(path))

    def strangers(self) -> list[Path]:
        """What is named like a spool file and is none; nothing of it is read. Raises OSError."""
        found = []
        for path in self._paths():
            try:
                _open_file(path).close()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno is None:
                    found.append(path)
        return found

    def _paths(self) -> list[Path]:
        # Not glob(): of a directory that is not there it says that it is empty.
        names = sorted(name for name in os.listdir(self.directory) if name.endswith(".spool"))
        return [self.directory / name for name in names]

    def _open(self) -> bool:
        """Lock the oldest file that no other reader has."""
        trouble: OSError | None = None
        try:
            self._rotate()
        except OSError as error:
            trouble = error  # the files that were renamed are still there
        for path in self._paths():
            if path.name == CURRENT:
                continue
            try:
                file = _open_file(path)
            except FileNotFoundError:
                continue  # another reader was faster
            except OSError as error:
                trouble = error
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = _is_still(file.fileno(), path)
            except OSError as error:
                mine = False
                if not isinstance(error, BlockingIOError):
                    trouble = error
            if mine:
                self._file, self._path, self._start = file, path, 0
                return True
            file.close()
        if trouble is not None:
            raise trouble
        return False

    def _rotate(self) -> None:
        """Give what was written until now a name of its own."""
        current = self.directory / CURRENT
        try:
            file = _open_file(current)
        except FileNotFoundError:
            return
        with file:
            if not os.fstat(file.fileno()).st_size or not _lock_soon(file):
                return
            if _is_still(file.fileno(), current):
                name = f"{int(time.time())}-{secrets.token_hex(6)}.spool"
                current.rename(self.directory / name)

    def _next_line(self, file: BinaryIO) -> int:
        """Where the next line begins."""
        while chunk := file.read(self._chunk):
            if (found := chunk.find(b"\n")) >= 0:
                return file.tell() - len(chunk) + found + 1
        return file.tell()


def _open_file(path: Path) -> BinaryIO:
    """Open a file that PHP has made here. Raises OSError for all that it would never make: a FIFO
    would be waited for, and behind a link is somebody else's file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise OSError(f"{path} {_NO_FILE}") from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise OSError(f"{path} {_NO_FILE}")
    return os.fdopen(descriptor, "rb")


def _lock_soon(file: BinaryIO) -> bool:
    """PHP holds the lock for the time of one write. One that was stopped in the middle of it
    must not stop the reader too."""
    for _ in range(20):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.002)
    return False


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return (found.st_ino, found.st_dev) == (
        os.fstat(descriptor).st_ino,
        os.fstat(descriptor).st_dev,
    )


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0
