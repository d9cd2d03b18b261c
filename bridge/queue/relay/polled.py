"""One of the sources that a relay looks at in turn, with its own patience when it fails."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

__all__ = ["PolledSource"]


class PolledSource:
    """One thing that is looked at, with its own patience. needs_work: whether the trouble was
    with what it needs for its work, so that finding none does not end it."""

    def __init__(self, name: str, step: Callable[[], int]) -> None:
        self.name, self.step, self.failures, self.cause = name, step, 0, ""
        self.needs_work = False
        self._not_before = self._tell_at = 0.0

    def is_due(self) -> bool:
        return monotonic() >= self._not_before

    def waits(self, seconds: float, cause: str, quiet: float) -> bool:
        """Not due for so long; whether that is news."""
        self.failures += 1
        now = monotonic()
        self._not_before = now + seconds
        if cause == self.cause and now < self._tell_at:
            return False
        self.cause, self._tell_at = cause, now + quiet
        return True
