"""How much all copies of a process may hold together, and how many of a route are made."""

from __future__ import annotations

import threading

__all__ = ["Room", "Valve"]

_FIRST = 0.2  # seconds of the rate that may be let through at once


class Room:
    """Bytes that may be held at a time. Thread-safe."""

    __slots__ = ("_lock", "_most", "held")

    def __init__(self, most: int) -> None:
        self._most, self.held = most, 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there is room for so many bytes more; they are held then."""
        with self._lock:
            if self.held + size > self._most:
                return False
            self.held += size
            return True

    def give(self, size: int) -> None:
        """So many bytes are held no more."""
        with self._lock:
            self.held -= size


class Valve:
    """Lets so many through in a second, and those of a fifth of one at once. Thread-safe.

    `over` counts those that it did not let through; none passes before `opens` while the rate is
    `rate`.
    """

    __slots__ = ("_last", "_left", "_lock", "opens", "over", "rate")

    def __init__(self) -> None:
        self.rate = self._left = self._last = 0.0
        self.opens = 0.0
        self.over = 0
        self._lock = threading.Lock()

    def lets(self, now: float, rate: float) -> bool:
        """Whether one more may pass.

        now: seconds of a clock that only goes forward.
        rate: of a second; it may be another one than before.
        """
        if now < self.opens and rate == self.rate:
            self.over += 1
            return False
        with self._lock:
            most = max(1.0, rate * _FIRST)
            if rate != self.rate:
                self.rate, self._left = rate, most
            else:
                self._left = min(most, self._left + max(0.0, now - self._last) * rate)
            self._last = now
            if self._left < 1.0:
                self.opens = now + (1.0 - self._left) / rate
                self.over += 1
                return False
            self._left -= 1.0
            return True
