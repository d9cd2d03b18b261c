"""What each worker and relay of this machine does, for people outside: one small file for each in
the state directory, written every two seconds, read by `bridgectl status` and the metrics.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from bridge.errors import StateUnreadable
from bridge.files import is_alive, write_atomically

__all__ = ["Pulse", "Vitals", "read_all"]

FOLDER = "queue"
EVERY = 2.0
"""Seconds between two writes; rates are over this time."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """One process: kind is `worker` or `relay`; totals since it started, and the same per second
    over the last seconds; times are Unix seconds."""

    kind: str
    pid: int
    started_at: float
    written_at: float
    totals: dict[str, int]
    rates: dict[str, float]


class Pulse:
    """Writes the file while the context is entered. totals: what is counted, by name."""

    def __init__(self, state_dir: Path, kind: str, totals: Callable[[], Mapping[str, int]]) -> None:
        self._file = state_dir / FOLDER / f"{kind}-{os.getpid()}.json"
        self._kind, self._totals = kind, totals
        self._started = time.time()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def __enter__(self) -> Self:
        self._write(dict(self._totals()), {})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._file.unlink(missing_ok=True)

    def _run(self) -> None:
        before, since = dict(self._totals()), time.monotonic()
        while not self._stop.wait(EVERY):
            now, totals = time.monotonic(), dict(self._totals())
            seconds = max(now - since, 0.001)
            rates = {name: round((totals[name] - before[name]) / seconds, 1) for name in totals}
            before, since = totals, now
            self._write(totals, rates)

    def _write(self, totals: dict[str, int], rates: dict[str, float]) -> None:
        vitals = Vitals(self._kind, os.getpid(), self._started, time.time(), totals, rates)
        try:
            write_atomically(self._file, json.dumps(asdict(vitals)))
        except OSError:
            return  # a full disk must not stop the work; the file's age tells


def read_all(state_dir: Path) -> list[Vitals]:
    """Every worker and relay of this machine that is alive; files of dead ones are removed.

    Raises StateUnreadable when this user may not look.
    """
    found = []
    folder = state_dir / FOLDER
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except PermissionError:
        raise StateUnreadable(state_dir) from None
    except OSError:
        return []  # nobody has worked here
    for path in (folder / name for name in names):
        try:
            vitals = Vitals(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue  # being replaced, or from another version
        if is_alive(vitals.pid):
            found.append(vitals)
        else:
            with contextlib.suppress(OSError):  # whoever only looks may not tidy up
                path.unlink()
    return found
