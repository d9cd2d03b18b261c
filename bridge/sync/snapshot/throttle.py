"""When a load has to wait, so that the edits of visitors do not.

A thread looks every second at what visitors' edits wait for: the age of the oldest row of the
outbox that MongoDB does not hold, and the messages on the queue that no worker holds.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from bridge.queue.status import QueueStatus, behind, missing

__all__ = ["Throttle"]

EVERY = 1.0


class Throttle:
    """max_lag: seconds. max_waiting: messages. Each 0 for no limit.

    What does not answer limits nothing: the load needs neither the outbox nor the queue.
    """

    def __init__(
        self, look: Callable[[], QueueStatus], *, max_lag: float, max_waiting: int
    ) -> None:
        self._look, self._max_lag, self._max_waiting = look, max_lag, max_waiting
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="throttle", daemon=True)
        self.reason = ""
        """Why to wait; empty when there is nothing to wait for."""

    def __enter__(self) -> Throttle:
        if self._max_lag or self._max_waiting:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2)  # it may hang on a server that is away

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.reason = why(self._look(), self._max_lag, self._max_waiting)
            except Exception:
                self.reason = ""
            self._stop.wait(EVERY)


def why(status: QueueStatus, max_lag: float, max_waiting: int) -> str:
    """Why to wait, for a person; empty when there is nothing to wait for."""
    if max_lag and status.lag is not None and status.lag > max_lag:
        return (
            f"the outbox is {status.lag:.0f} s behind, more than --max-lag {max_lag:g}s; "
            f"{behind(status)}"
        )
    if max_waiting and status.ready is not None and status.ready > max_waiting:
        return (
            f"{status.ready:,} messages wait on the queue, more than --max-waiting {max_waiting}; "
            f"{missing(status, 'worker')}`bridgectl status` shows who works on it"
        )
    return ""
