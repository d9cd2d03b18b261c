"""Spool directories: events that PHP appends to a file where it has no transaction to put them in.

`current.spool` is written under a lock; whoever takes it renames it under the same lock. A
renamed file belongs to the reader and goes only when its events are safe elsewhere. A line is
the JSON text of one event.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["CURRENT", "Spool"]

CURRENT = "current.spool"


class Spool:
    """One spool directory; several readers may share it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def take(self) -> Iterator[tuple[Path, list[bytes]]]:
        """Each file that waits, with its lines, oldest first. The caller removes it with `done`.

        A file that another reader has is left out; it is locked until the next one is asked for.
        Raises OSError.
        """
        self._rotate()
        for path in sorted(self.directory.glob("*.spool")):
            if path.name == CURRENT:
                continue
            try:
                file = path.open("rb")
            except FileNotFoundError:
                continue  # another reader was faster
            with file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                if _is_still(file.fileno(), path):
                    yield path, [line for line in file.read().split(b"\n") if line]

    def waiting(self) -> int:
        """Files that wait, with the one that is being written if there is anything in it."""
        return sum(1 for path in self.directory.glob("*.spool") if _size(path))

    def done(self, path: Path) -> None:
        """The events of this file are safe elsewhere."""
        path.unlink(missing_ok=True)

    def _rotate(self) -> None:
        """Give what was written until now a name of its own."""
        current = self.directory / CURRENT
        try:
            file = current.open("rb")
        except FileNotFoundError:
            return
        with file:
            # PHP holds it for the time of one write.
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(file.fileno(), current) and os.fstat(file.fileno()).st_size:
                name = f"{int(time.time())}-{secrets.token_hex(6)}.spool"
                current.rename(self.directory / name)


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return (found.st_ino, found.st_dev) == (
        os.fstat(descriptor).st_ino,
        os.fstat(descriptor).st_dev,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
