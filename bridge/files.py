"""Small files that several processes share."""

from __future__ import annotations

import os
import threading
from pathlib import Path

__all__ = ["is_alive", "write_atomically"]


def write_atomically(path: Path, text: str, mode: int | None = None) -> None:
    """Replace `path` by `text` so that a reader, or a crash, sees the old or the new file.

    `mode` and, for root, the owner are taken over from the old file when there is one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            old = os.stat(path)
            os.chmod(temporary, old.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.chown(temporary, old.st_uid, old.st_gid)
        except FileNotFoundError:
            if mode is not None:
                os.chmod(temporary, mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
