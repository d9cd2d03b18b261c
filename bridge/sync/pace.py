"""Not faster than a number of rows a second, and not longer than somebody wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from bridge.errors import Stopped

__all__ = ["Pace"]


class Pace:
    """Called with the rows that were just done, by one thread; waits where they came too fast.

    rate: rows a second, 0 for as fast as it goes. tell: is told the rows.
    Raises Stopped when `stop` is set.
    """

    def __init__(
        self, rate: float, stop: threading.Event, tell: Callable[[int], None] = lambda rows: None
    ) -> None:
        self._rate, self._stop, self._tell = rate, stop, tell
        self._rows, self._start = 0, monotonic()

    @property
    def at_once(self) -> int:
        """How many rows to do before the next call, so that no second is far above the rate."""
        return 20_000 if not self._rate else max(100, min(20_000, int(self._rate)))

    def __call__(self, rows: int) -> None:
        self._rows += rows
        self._tell(rows)
        ahead = self._rows / self._rate - (monotonic() - self._start) if self._rate else 0.0
        if self._stop.wait(ahead) if ahead > 0 else self._stop.is_set():
            raise Stopped("stopped")
