"""Numbers that a process counts in memory which others can read: one pair of files per slot.

A slot is a worker's place, not its process: a worker that replaces another goes on counting in
the same cells, so recycling leaves nothing behind that each scrape would have to read. Counting
is one addition in a mapped file; reading needs nobody's help, also after a crash. A lock on a
third file says whose a slot is, whichever parent the worker has. What is counted is
`bridge.proxy.telemetry.metrics`'.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import mmap
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Cells", "Histogram", "Reader", "Series", "free_slots", "take_slot"]

_CELLS = 1 << 16  # cells of 8 bytes; the file is sparse, unused ones cost nothing
Series = tuple[str, tuple[str, ...], int, int]
"""Name of a metric, the values of its labels, its first cell, and how many it has."""


def take_slot(folder: Path) -> int:
    """The lowest slot that no other process has; this one has it until it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    return next(slot for slot in itertools.count() if _lock(folder, slot) is not None)


def free_slots(folder: Path) -> Iterator[int]:
    """Each slot that was taken and is not now; it cannot be while the caller works on it."""
    for path in folder.glob("*.lock"):
        slot = int(path.stem)
        file = _lock(folder, slot)
        if file is not None:
            try:
                yield slot
            finally:
                os.close(file)


def _lock(folder: Path, slot: int) -> int | None:
    """The descriptor that has the slot while it is open, or None when another process has it.
    A lock of this kind is not for children too: what a handler forks keeps no slot."""
    file = os.open(folder / f"{slot}.lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


class Cells:
    """The cells of `slot` in `folder`, to count in.

    `values` may be written by index: `cells.values[index] += 1`. Not thread-safe by itself: two
    threads that add to one cell at the same moment may lose one of the two.
    """

    def __init__(self, folder: Path, slot: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._names = open(folder / f"{slot}.names", "a+b", buffering=0)  # noqa: SIM115
        self._known: dict[tuple[str, tuple[str, ...]], int] = {}
        self._used = 0
        before = (folder / f"{slot}.names").read_bytes()
        if not before.endswith(b"\n") and before:
            self._names.write(b"\n")  # the worker before this one died while it wrote
        for name, labels, start, count in _series(before):
            self._known[name, labels] = start
            self._used = max(self._used, start + count)
        file = os.open(folder / f"{slot}.cells", os.O_RDWR | os.O_CREAT, 0o640)
        try:
            os.ftruncate(file, _CELLS * 8)
            self._map = mmap.mmap(file, _CELLS * 8)
        finally:
            os.close(file)
        self.values: memoryview[float] = memoryview(self._map).cast("d")

    def close(self) -> None:
        """Nothing is counted here any more."""
        self._names.close()
        self.values.release()
        self._map.close()

    def index(self, name: str, labels: tuple[str, ...] = (), count: int = 1) -> int:
        """Where the `count` cells of this series begin; they are made when they are new. When
        all cells are taken, everything new is counted in the last ones, which nobody reads."""
        known = self._known.get((name, labels))
        if known is not None:
            return known
        if self._used + count > _CELLS - 64:
            return _CELLS - 64
        start, self._used = self._used, self._used + count
        self._known[name, labels] = start
        self._names.write(json.dumps([name, labels, start, count]).encode() + b"\n")
        return start

    def known(self) -> list[tuple[str, tuple[str, ...], int]]:
        """Name, labels and index of every series, also of those that earlier workers made."""
        return [(name, labels, start) for (name, labels), start in self._known.items()]

    def histogram(self, name: str, labels: tuple[str, ...], bounds: Sequence[float]) -> Histogram:
        return Histogram(self.values, self.index(name, labels, len(bounds) + 2), bounds)


class Histogram:
    """One cell per bound, one for what is beyond them, one for the sum."""

    __slots__ = ("_bounds", "_start", "_sum", "_values")

    def __init__(self, values: memoryview[float], start: int, bounds: Sequence[float]) -> None:
        self._values, self._start, self._bounds = values, start, bounds
        self._sum = start + len(bounds) + 1

    def observe(self, value: float) -> None:
        values = self._values
        values[self._start + bisect_left(self._bounds, value)] += 1
        values[self._sum] += value


class _Slot:
    """What a reader knows of a slot's names: they are read once, later only what is new."""

    def __init__(self) -> None:
        self.series: list[Series] = []
        self._file, self._read = 0, 0
        self.used = 0  # cells

    def look(self, names: Path) -> None:
        found = names.stat()
        if found.st_ino != self._file or found.st_size < self._read:
            self.series, self._file, self._read, self.used = [], found.st_ino, 0, 0
        if found.st_size == self._read:
            return
        with names.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        for one in _series(whole):
            self.series.append(one)
            self.used = max(self.used, one[2] + one[3])


class Reader:
    """Reads the cells of all slots in `folder`, again and again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._slots: dict[Path, _Slot] = {}

    def read(self) -> Iterator[tuple[int, list[Series], memoryview[float]]]:
        """Each slot: its number, every series that has cells in it, and the cells. The list of
        a slot stays the same and only grows, until the slot begins anew."""
        for names in sorted(self._folder.glob("*.names")):
            slot = self._slots.setdefault(names, _Slot())
            try:
                slot.look(names)
                with names.with_suffix(".cells").open("rb") as file:
                    cells = memoryview(file.read(slot.used * 8)).cast("d")
            except OSError:
                continue  # being made
            if len(cells) == slot.used:
                yield int(names.stem), slot.series, cells


def _series(lines: bytes) -> Iterator[Series]:
    for line in lines.splitlines():
        try:
            name, labels, start, count = json.loads(line)
        except ValueError:
            continue  # the worker died while it wrote this
        yield name, tuple(labels), start, count
