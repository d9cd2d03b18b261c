"""What each worker and relay of this machine does, for people outside: one small file for each in
the state directory, written every two seconds, read by `bridgectl status` and the metrics.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from bridge.files import ProcessFiles

__all__ = ["ProcessStatus", "Vitals", "read_all"]

FOLDER = "queue"
EVERY = 2.0
"""Seconds between two writes; rates are over this time."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process: kind is `worker` or `relay`; totals since it started, and the same per second
    over the last seconds; times are Unix seconds."""

    kind: str
    pid: int
    started_at: float
    written_at: float
    totals: dict[str, int]
    rates: dict[str, float]


class Vitals:
    """Writes the file while the context is entered. totals: what is counted, by name."""

    def __init__(self, state_dir: Path, kind: str, totals: Callable[[], Mapping[str, int]]) -> None:
        self._files = ProcessFiles(state_dir, FOLDER)
        self._name, self._kind, self._totals = f"{kind}-{os.getpid()}", kind, totals
        self._started = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vitals", daemon=True)

    def __enter__(self) -> Self:
        self._write(dict(self._totals()), {})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._files.remove(self._name)

    def _run(self) -> None:
        before, since = dict(self._totals()), time.monotonic()
        while not self._stop.wait(EVERY):
            now, totals = time.monotonic(), dict(self._totals())
            seconds = max(now - since, 0.001)
            rates = {name: round((totals[name] - before[name]) / seconds, 1) for name in totals}
            before, since = totals, now
            self._write(totals, rates)

    def _write(self, totals: dict[str, int], rates: dict[str, float]) -> None:
        status = ProcessStatus(self._kind, os.getpid(), self._started, time.time(), totals, rates)
        try:
            self._files.write(self._name, asdict(status))
        except OSError:
            return  # a full disk must not stop the work; the file's age tells


def read_all(state_dir: Path) -> list[ProcessStatus]:
    """Every worker and relay of this machine that is alive; files of dead ones are removed. Raises
    StateUnreadable when this user may not look."""
    files = ProcessFiles(state_dir, FOLDER)
    return files.read(lambda fields: ProcessStatus(**fields), tidy=True)
