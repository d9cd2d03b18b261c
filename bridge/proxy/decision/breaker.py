"""When a route's Python side has failed too often, legacy answers for a while.

Pure but for the clock it is given. A visitor who leaves, and a handler that declines, say
nothing about the handler. Legacy has no breaker: it is the only one that can answer.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Breaker"]

_CONSECUTIVE = 5
_WINDOW = 60.0  # seconds that are looked back at
_FEWEST = 10  # requests in them, for a share to mean something
_SHARE = 0.3
_OPEN = 30.0  # seconds, times how often it has opened
_MOST = 10  # of these times


class Breaker:
    """Open after 5 failures in a row, or when 30% of at least 10 requests in a minute failed;
    for 30 s the first time, 60 s the second, and so on until it has been well for a minute."""

    __slots__ = ("_failed", "_in_a_row", "_seen", "_times", "_until", "_well_since", "opened")

    def __init__(self) -> None:
        self._seen: deque[tuple[float, bool]] = deque()
        self._failed = 0
        self._in_a_row = 0
        self._times = 0
        self.opened = 0  # times in all
        self._until = 0.0
        self._well_since = 0.0

    def __repr__(self) -> str:
        return f"<Breaker: opened {self._times} times, {self._in_a_row} failures in a row>"

    @property
    def seconds(self) -> float:
        """How long it stays open, or stayed, from when it last opened."""
        return _OPEN * self._times

    def is_open(self, now: float) -> bool:
        """Whether the Python side is left alone at `now`, in seconds of any clock."""
        return now < self._until

    def succeeded(self, now: float) -> None:
        self._in_a_row = 0
        if self._times and now - max(self._well_since, self._until) > _WINDOW:
            self._times = 0
        self._note(now, failed=False)

    def failed(self, now: float) -> bool:
        """Count a failure; True when it opens the breaker."""
        self._in_a_row += 1
        self._well_since = now
        self._note(now, failed=True)
        seen = len(self._seen)
        if self.is_open(now) or not (
            self._in_a_row >= _CONSECUTIVE or (seen >= _FEWEST and self._failed >= _SHARE * seen)
        ):
            return False
        self.open(now)
        return True

    @property
    def facts(self) -> dict[str, float]:
        """What the log says of it when it has just opened."""
        return {"seconds": self.seconds, "opened": self.opened}

    def open(self, now: float) -> None:
        """Leave the Python side alone for a while."""
        self.opened += 1
        self._times = min(self._times + 1, _MOST)
        self._until = now + self.seconds
        self._seen.clear()
        self._failed = self._in_a_row = 0

    def _note(self, now: float, *, failed: bool) -> None:
        seen = self._seen
        seen.append((now, failed))
        self._failed += failed
        while seen and (seen[0][0] < now - _WINDOW or len(seen) > 1000):
            self._failed -= seen.popleft()[1]
