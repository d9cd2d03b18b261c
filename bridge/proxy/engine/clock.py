"""The time for deadlines, looked at once per tick: a request needs it several times, and a few
hundredths of a second make no difference to how long it may take."""

from __future__ import annotations

import time

__all__ = ["NEVER", "TICK", "clock"]

NEVER = float("inf")
"""A deadline that does not come."""

TICK = 0.05
"""Seconds between two looks."""


class _Clock:
    """`now` is what time.monotonic() was at the last tick."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = time.monotonic()

    def look(self) -> float:
        self.now = now = time.monotonic()
        return now


clock = _Clock()
