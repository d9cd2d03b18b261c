"""The copies that wait in the shadow, bounded by number and bytes; what is over is dropped."""

from __future__ import annotations

import threading
from collections import deque

from bridge.proxy.shadow.copies import Copied

__all__ = ["Backlog"]

_OWN = 2048  # bytes that a copy has besides its body


class Backlog:
    """Copies in the order in which they came. Thread-safe.

    most: copies that may wait.
    size: bytes of them.
    """

    def __init__(self, most: int, size: int) -> None:
        self._most, self._size = most, size
        self._waiting: deque[Copied] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, copied: Copied) -> bool:
        """Whether there was room for it."""
        size = _OWN + len(copied.body)
        with self._changed:
            if len(self._waiting) >= self._most or self._bytes + size > self._size:
                return False
            self._waiting.append(copied)
            self._bytes += size
            self._changed.notify()
            return True

    def get(self) -> Copied:
        """The next one; this waits for it."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            copied = self._waiting.popleft()
            self._bytes -= _OWN + len(copied.body)
            return copied
