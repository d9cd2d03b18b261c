"""How far the mirror has come with the database's log, and since when a process knows it. Pure.

MongoDB has a document that says it (`bridge.sync.log.kept`); `bridge.sync.probe` reads that.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from bridge.sync.gtid import Gtid

__all__ = ["LOG", "Applied", "LookAtLog", "Reached", "nothing_applied"]

LOG = "log"
"""The `_id` of the document."""

_SPACING = 0.1  # seconds between two moments that are remembered
_REMEMBERED = 128


@dataclass(frozen=True, slots=True)
class Applied:
    """What MongoDB's majority holds of the log. gtid: the last transaction of which it holds
    everything, None before the first one; history: which one it belongs to, as the log may begin
    again. dirty: entities of which it lacks changes that the log could not tell. stopped: those
    that it does not follow."""

    gtid: Gtid | None = None
    history: int = 0
    dirty: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()

    @property
    def lacks(self) -> bool:
        """Whether it holds less than all, of any entity."""
        return bool(self.dirty or self.stopped)

    def reaches(self, gtid: Gtid) -> bool:
        """Whether this transaction is in it."""
        return self.gtid is not None and self.gtid.covers(gtid)


LookAtLog = Callable[[], Applied]
"""How far has the mirror come with the log? Raises ServerAway."""


def nothing_applied() -> Applied:
    """What a mirror holds that follows no log."""
    return Applied()


class Reached:
    """Since when this process knows that the mirror has come so far. Thread-safe.

    What it does not remember it learns a little later, which is never wrong: only what was read
    before that moment may be too old.
    """

    def __init__(self) -> None:
        self._log: tuple[int, str] | None = None  # its history and its domain
        self._sequences: list[int] = []  # growing, and
        self._moments: list[float] = []  # when each was first seen
        self._highest, self._seen = 0, float("-inf")
        self._lock = threading.Lock()

    def see(self, found: Applied, began: float, now: float) -> None:
        """A look that `began` then has found this `now`, by one clock."""
        with self._lock:
            gtid = found.gtid
            if gtid is None or found.lacks:
                # Nobody knows when all of it will have been healed.
                self._forget(None)
                return
            log = found.history, gtid.domain
            behind = gtid.sequence < self._highest
            if behind and log == self._log and began < self._seen:
                return  # somebody else's look has overtaken this one
            if behind or log != self._log:
                self._forget(log)  # another history, or a mirror that was restored
            if gtid.sequence > self._highest or not self._moments:
                self._highest, self._seen = gtid.sequence, now
                if not self._moments or now - self._moments[-1] >= _SPACING:
                    self._sequences.append(gtid.sequence)
                    self._moments.append(now)
            if len(self._moments) > _REMEMBERED:
                del self._sequences[0], self._moments[0]

    def since(self, gtid: Gtid, now: float) -> float:
        """When it was first known to have come to `gtid`, as it has `now`."""
        with self._lock:
            at = bisect_left(self._sequences, gtid.sequence)
            known = self._log is not None and self._log[1] == gtid.domain
            return min(self._moments[at], now) if known and at < len(self._moments) else now

    def _forget(self, log: tuple[int, str] | None) -> None:
        self._log = log
        self._sequences.clear()
        self._moments.clear()
