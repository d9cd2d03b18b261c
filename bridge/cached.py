"""What is looked for again every few seconds at most, however many ask."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

__all__ = ["Cached"]

T = TypeVar("T")


class Cached(Generic[T]):
    """Called, it gives what `look` found in the last `seconds`. Thread-safe; raises what `look`
    raises."""

    def __init__(self, look: Callable[[], T], seconds: float) -> None:
        self._look, self._seconds = look, seconds
        self._lock, self._until = threading.Lock(), 0.0
        self._found: T

    def __call__(self) -> T:
        with self._lock:
            if monotonic() >= self._until:
                self._found = self._look()
                self._until = monotonic() + self._seconds
            return self._found
