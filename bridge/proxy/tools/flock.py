"""One flip at a time, in all processes, of whichever user."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from bridge.errors import FlipRefused
from bridge.files import take_over

__all__ = ["locked"]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """While nobody else changes the file `path`. Raises FlipRefused."""
    name = path.with_name(f".{path.name}.lock")
    try:
        lock = _lock_file(name, path)
    except OSError as error:
        raise FlipRefused(
            f"the lock {name} cannot be opened: {error.strerror}; operators must be able to read "
            "it, and to write to its folder"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise FlipRefused(f"{name} cannot be locked: {error.strerror}") from None
        yield
    finally:
        os.close(lock)


def _lock_file(name: Path, routes: Path) -> int:
    """A descriptor of the lock. Another user's is enough to read: only NFS wants more."""
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        pass
    else:
        with contextlib.suppress(OSError):  # without routes.yaml, which is said next
            take_over(lock, like := os.stat(routes), like.st_mode & 0o666 | 0o600)
        return lock
    try:
        return os.open(name, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC)
