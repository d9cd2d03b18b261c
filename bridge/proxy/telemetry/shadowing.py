"""What others know of the shadow process: whether it is wanted, and whether it lives.

Workers say by a file in the state directory that a route of theirs has `shadow:`; the parent reads
that and keeps the process. The process says that it lives by the time of a file of its own, and
counts in cells as workers do.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from bridge.files import is_alive
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.telemetry import cells
from bridge.proxy.telemetry import scrape as shown

__all__ = ["Alive", "Tallies", "is_silent", "is_wanted", "prepare", "trouble", "want"]

_WANTED = "shadow.wanted"
_FOLDER = "shadow"
_START = 60.0  # seconds until the first sign of life
_GRACE = 30.0  # seconds in which nobody need know that there is none


def prepare(state_dir: Path) -> None:
    """Begin without a shadow; called once, before the first worker starts."""
    (state_dir / _WANTED).unlink(missing_ok=True)
    for path in _files(state_dir):
        path.unlink(missing_ok=True)


def want(state_dir: Path, table: RouteTable) -> None:
    """Say whether this table, which a worker runs now, has something to compare. Raises OSError."""
    path = state_dir / _WANTED
    if not any(route.spec.shadow for route in table.routes):
        path.unlink(missing_ok=True)
    elif not path.exists():
        path.touch(0o640)


def is_wanted(state_dir: Path) -> bool:
    """Whether a worker has something to compare."""
    return (state_dir / _WANTED).exists()


def is_silent(state_dir: Path, pid: int, since: float) -> bool:
    """Whether the shadow `pid` gave no sign of life for too long.

    since: seconds since it was started.
    """
    path = _folder(state_dir) / str(pid)
    try:
        age = time.time() - path.stat().st_mtime
        return age > float(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return since > _START
    except (OSError, ValueError):
        return False


def trouble(state_dir: Path) -> str:
    """What is wrong with the shadow, for people; empty where all is well, or none is wanted."""
    try:
        newest = (state_dir / _WANTED).stat().st_mtime
    except OSError:
        return ""
    for path in _files(state_dir):
        with contextlib.suppress(OSError):
            newest = max(newest, path.stat().st_mtime)
    silent = time.time() - newest
    if silent < _GRACE:
        return ""
    return (
        f"the shadow gave no sign of life for {silent:,.0f} s, so nothing is compared; "
        "the log of bridgectl serve says why"
    )


class Alive:
    """The sign of life of this process."""

    def __init__(self, state_dir: Path) -> None:
        self._path = _folder(state_dir) / str(os.getpid())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._limit = 0.0
        for path in _files(state_dir):
            if not is_alive(int(path.name)):
                path.unlink(missing_ok=True)

    def beat(self, limit: float) -> None:
        """I live; without another sign within `limit` seconds I do not. Raises OSError."""
        if limit != self._limit or not self._path.exists():
            self._path.write_text(f"{limit:g}", encoding="ascii")
            self._limit = limit
        else:
            os.utime(self._path)


class Tallies:
    """What the shadow counts, where the operator's listener finds it. Thread-safe."""

    def __init__(self, state_dir: Path) -> None:
        folder = state_dir / shown.FOLDER
        self._cells = cells.Cells(folder, cells.take_slot(folder))
        self._lock = threading.Lock()

    def add(self, name: str, *labels: str) -> None:
        """One more of this metric of `scrape.KINDS`."""
        with self._lock:
            self._cells.values[self._cells.index(name, labels)] += 1

    def set(self, name: str, value: float) -> None:
        """What a gauge is now."""
        with self._lock:
            self._cells.values[self._cells.index(name)] = value

    def close(self) -> None:
        """Nothing is counted any more."""
        with self._lock:
            self._cells.close()


def _folder(state_dir: Path) -> Path:
    return state_dir / _FOLDER


def _files(state_dir: Path) -> list[Path]:
    return [path for path in _folder(state_dir).glob("*") if path.name.isdecimal()]
