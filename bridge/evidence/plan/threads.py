"""How many handler threads a load needs. Pure."""

from __future__ import annotations

import math

__all__ = ["threads_for"]


_ENOUGH = 0.99


def threads_for(rate: float, seconds: float) -> int:
    """Threads so that, 99% of the time, a request finds a free one.

    rate: requests per second.
    seconds: that one takes on average.

    By Little's law, `rate * seconds` are busy on average; where visitors come independently, how
    many are busy follows Poisson's distribution, however the times are distributed.
    """
    load = rate * seconds
    if load > 10_000:  # it is a bell by then
        return math.ceil(load + 2.3263 * math.sqrt(load))
    if load <= 0:
        return 1
    total, count = 0.0, -1
    while total < _ENOUGH:  # each term by its logarithm: the first ones may be too small to be had
        count += 1
        total += math.exp(count * math.log(load) - load - math.lgamma(count + 1))
    return max(1, count)
