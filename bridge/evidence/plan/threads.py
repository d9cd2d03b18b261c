"""How many handler threads a load needs. Pure."""

from __future__ import annotations

import math

__all__ = ["threads_for"]


def threads_for(rate: float, seconds: float, share: float = 0.99) -> int:
    """Threads so that, this share of the time, a request finds a free one.

    rate: requests per second.
    seconds: that one takes on average.

    By Little's law, `rate * seconds` are busy on average; where visitors come independently, how
    many are busy follows Poisson's distribution, however the times are distributed.
    """
    load = rate * seconds
    if load > 1000:  # it is a bell by then
        return math.ceil(load + 2.3263 * math.sqrt(load))
    term = total = math.exp(-load)
    count = 0
    while total < share:
        count += 1
        term *= load / count
        total += term
    return max(1, count)
