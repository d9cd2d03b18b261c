"""Changes in the log of entities whose versions are another's: nothing of them is written. Each key
that the log names is in doubt until SQL and MongoDB agree about it, see `doubtful`.

What is in doubt is in memory only: what the log told of before this process ended is not looked at
any more. How much was compared, and what differed, is kept in MongoDB beside the place in the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from pymongo.database import Database
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway
from bridge.sync.documents import Document, Mirror
from bridge.sync.log.kept import KeptLog, Tally
from bridge.sync.log.snapshots import VISIBLE
from bridge.sync.log.stream import Change
from bridge.sync.log.wanted import compared
from bridge.sync.reconcile.doubtful import Doubtful, Outcome

__all__ = ["Compared"]

KEEP = 1.0
"""Seconds between two times that it is kept what was counted."""
QUIET = 60.0
"""Seconds for which it is not said again of an entity that something could not be compared."""


@dataclass(slots=True)
class _Counted:
    """Since it was kept last. why: of what was told last, empty for nothing."""

    compared: int = 0
    differing: int = 0
    unchecked: int = 0
    why: str = ""


class Compared:
    """Compares while it is entered. `take` and `unsure` are for the thread that reads the log.

    sql_url: of the site's database.
    lag: the age in seconds of the oldest change that is on its way to MongoDB.
    """

    def __init__(
        self,
        sql_url: str,
        database: Database[Document],
        mirror: Mirror,
        log: FilteringBoundLogger,
        *,
        lag: Callable[[], float],
    ) -> None:
        self._log, self._kept = log, KeptLog(database)
        self.names = frozenset(compared(mirror.entities))
        self._counted = {name: _Counted() for name in self.names}
        self._said: dict[str, float] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="compared", daemon=True)
        # Of its own, because whoever reads the log learns the tables at its own time.
        own = Mirror(mirror.file)
        self._doubtful = Doubtful(
            sql_url,
            database,
            lambda: own,
            self.names,
            self._count,
            log,
            lag=lag,
            visible=VISIBLE,
        )

    def __repr__(self) -> str:
        return f"<Compared: {self._doubtful!r}>"

    def __enter__(self) -> Compared:
        if self.names:
            self._doubtful.__enter__()
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.names:
            self._doubtful.__exit__(*error)
            self._stop.set()
            self._thread.join(10)

    def take(self, changes: Sequence[Change]) -> list[Change]:
        """Those that are to be written; the others are compared from now on."""
        left = []
        numbers: dict[str, int] = {}
        for one in changes:
            if one.entity in self.names:
                numbers[one.entity] = numbers.get(one.entity, 0) + 1
                self._doubtful.doubt(one.entity, one.key)
            else:
                left.append(one)
        with self._lock:
            for name, number in numbers.items():
                self._counted[name].compared += number
        return left

    def unsure(self, entity: str, why: str) -> None:
        """Rows were changed that the log does not name. why: in words, without values."""
        with self._lock:
            counted = self._counted[entity]
            counted.unchecked += 1
            counted.why = why

    def _count(self, entity: str, key: str, outcome: Outcome) -> None:
        with self._lock:
            counted = self._counted[entity]
            setattr(counted, outcome, getattr(counted, outcome) + 1)
            counted.why = f"{key} differs" if outcome == "differing" else "too many keys in doubt"

    # On a thread of its own.

    def _run(self) -> None:
        while not self._stop.wait(KEEP):
            with suppress(ServerAway):  # whoever reads the log says so
                self.keep()
        with suppress(BridgeError):
            self.keep()

    def keep(self) -> None:
        """Keep what was counted. Raises ServerAway: then it is kept next time."""
        with self._lock:
            counted, self._counted = self._counted, {name: _Counted() for name in self.names}
        for name in list(counted):
            one = counted[name]
            if not (one.compared or one.unchecked or one.differing):
                continue
            try:
                self._kept.compared(
                    name, Tally(one.compared, one.differing, one.unchecked, one.why)
                )
            except ServerAway:
                self._put_back(counted)
                raise
            del counted[name]
            if one.unchecked and monotonic() >= self._said.get(name, 0.0):
                self._said[name] = monotonic() + QUIET
                do = f"bridgectl reconcile {name} --deep"
                self._log.warning(
                    "log.unchecked", entity=name, changes=one.unchecked, cause=one.why, do=do
                )

    def _put_back(self, counted: Mapping[str, _Counted]) -> None:
        with self._lock:
            for name, one in counted.items():
                now = self._counted[name]
                now.compared += one.compared
                now.differing += one.differing
                now.unchecked += one.unchecked
                now.why = now.why or one.why
