"""How long to wait before another try, and the wait for a server that is away."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TypeVar

from bridge.errors import ServerAway, Stopped

__all__ = ["Patience", "backoff", "retry_wait"]

T = TypeVar("T")

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0


def backoff(attempt: int) -> float:
    """Seconds to wait after the failure number `attempt`, counted from 0.

    Doubles up to LONGEST_DELAY, with jitter so that workers do not come back as one.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311  # spreads load, guards nothing


def retry_wait(deliveries: int, shortest: float = 0.0) -> float:
    """Seconds to wait after so many deliveries that came to nothing: `min(n⁴ + 15, 3600)`, with
    up to a tenth more so that many do not come back as one; the first time `shortest`."""
    wait = shortest if deliveries <= 1 else min(deliveries**4 + 15.0, 3600.0)
    return max(wait, shortest) * random.uniform(1.0, 1.1)  # noqa: S311  # spreads load


class Patience:
    """Waits for a server that is away, for one thread. `failures`: those since it last worked."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self.failures = 0

    def until(
        self,
        attempt: Callable[[], T],
        tell: Callable[[ServerAway, int, float], None],
        back: Callable[[int], None] = lambda failures: None,
    ) -> T:
        """What `attempt` returns, which is tried until the server answers.

        attempt: raises ServerAway for as long as it does not.
        tell: is told each failure, how many there were before it, and the seconds until the next
            try.
        back: is told how many failures there were, where there were any.

        Raises Stopped when `stop` is set meanwhile.
        """
        while True:
            try:
                answer = attempt()
            except ServerAway as error:
                seconds = backoff(self.failures)
                self.failures += 1
                tell(error, self.failures - 1, seconds)
                if self._stop.wait(seconds):
                    raise Stopped("stopped while a server was away") from error
            else:
                if self.failures:
                    back(self.failures)
                self.failures = 0
                return answer
