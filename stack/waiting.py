"""Wait for a condition with a bound, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from stack.errors import TimedOut

__all__ = ["wait_for"]

Result = TypeVar("Result")


def wait_for(
    condition: Callable[[], Result],
    bound: float = 10.0,
    what: str = "",
    *,
    interval: float = 0.02,
) -> Result:
    """Call `condition` every `interval` seconds until it gives a true value; return that value.

    Raises TimedOut after `bound` seconds; `what` names the awaited thing in its message. An
    exception of `condition` passes through: catch in it what may fail for a while.
    """
    deadline = time.monotonic() + bound
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            awaited = what or getattr(condition, "__name__", repr(condition))
            raise TimedOut(f"waited {bound:g} s in vain for: {awaited} (last value: {result!r})")
        time.sleep(interval)
