"""One read at a time for each thing: who comes while it is under way waits for its answer.

Pure but for threads. Whether an answer is new enough for who waited is left to the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Flights"]

Answer = TypeVar("Answer")


class _Flight(Generic[Answer]):
    def __init__(self) -> None:
        self.landed = threading.Event()
        self.answer: Answer | None = None
        self.error: BaseException | None = None


class Flights(Generic[Answer]):
    """Reads under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[Answer]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def join(
        self, key: Hashable, read: Callable[[], Answer], patience: float
    ) -> tuple[Answer | None, bool]:
        """The answer, and whether it is that of our own `read`. Raises what the read raised, also
        for those who waited. (None, False) when another's read takes longer than `patience`
        seconds."""
        with self._lock:
            flight = self._flights.get(key)
            ours = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if not ours:
            if flight.landed.wait(patience) and flight.error is not None:
                raise flight.error
            return flight.answer, False
        try:
            flight.answer = read()
        except BaseException as error:
            # Of ours alone: an interrupt is not the failure of those who wait.
            flight.error = error if isinstance(error, Exception) else None
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.landed.set()
        return flight.answer, True
