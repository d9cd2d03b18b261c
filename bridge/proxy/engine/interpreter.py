"""How long a handler may keep the interpreter from the event loop."""

from __future__ import annotations

import sys
import time

__all__ = ["Load"]

_WINDOW = 0.02  # seconds after which it is known whether they do
_HEAVY = 0.25, 1.5  # of one processor; the system counts in steps of a fifth of the window
_QUICK = 0.001  # seconds that a handler computes at most which is called quick
_SWITCH = 0.0002  # seconds that any other may keep the interpreter from the event loop


class Load:
    """How much the handlers' threads compute. Used on the event loop's thread.

    `is_heavy`: much of one processor went into it just now. More than one is at work where they
    compute outside of the interpreter, a busy machine gives less. While nothing is known it is.

    How long a handler may keep the interpreter from the event loop follows from it: each time
    that it has to give it up costs a quick handler a good part of its own time.
    """

    def __init__(self) -> None:
        self.is_heavy = True
        self._quick = True
        self._ended = 0  # handlers, since the last look
        self._since, self._computed = time.perf_counter(), 0.0
        self.look(idle=True, quick=False)

    def ended(self) -> None:
        """One more handler is through."""
        self._ended += 1

    def look(self, *, idle: bool, quick: bool) -> None:
        """Measure; `idle` says that no handler runs, so that the next ones are unknown, `quick`
        that none has run for long."""
        now = time.perf_counter()
        seconds = now - self._since
        if not idle and seconds < _WINDOW:
            return
        total = time.process_time() - time.thread_time()
        computed, self._computed, self._since = total - self._computed, total, now
        least, most = _HEAVY
        self.is_heavy = idle or least * seconds < computed < most * seconds
        quick = quick and not idle and computed < _QUICK * self._ended
        self._ended = 0
        if quick != self._quick:
            self._quick = quick
            sys.setswitchinterval(_QUICK if quick else _SWITCH)
