"""Wait for a condition with a bound, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from stack.errors import TimedOut

__all__ = ["wait_for", "wait_until_there_are"]

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


def wait_until_there_are(
    count: int, of: Callable[[], int], what: str, *, stalled: float = 30.0, interval: float = 0.1
) -> None:
    """Call `of` every `interval` seconds until it gives `count` or more.

    How long that takes is the machine's matter: raises TimedOut when the number has not changed
    for `stalled` seconds, with the last one in its message.
    """
    last, since = of(), time.monotonic()
    while last < count:
        time.sleep(interval)
        now = of()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= stalled:
            raise TimedOut(f"{what}: {last:,} of {count:,}, and none more in {stalled:g} s")
