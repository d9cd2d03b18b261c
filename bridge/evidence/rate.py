"""How often answers may really be different, when some of those that were compared were. Pure.

The exact one-sided upper bound of a share by Clopper and Pearson (Biometrika 26, 1934): the
largest share under which as few as these would still be seen in one of twenty samples.
"""

from __future__ import annotations

import math

__all__ = ["CONFIDENCE", "needed", "percent", "upper_bound"]

CONFIDENCE = 0.95
_ROUNDS = 200
_CLOSE = 1e-12  # relative


def upper_bound(different: int, compared: int, confidence: float = CONFIDENCE) -> float:
    """The upper bound of the share, from 0 to 1; 1 where nothing was compared.

    different, compared: how many were, of how many.
    confidence: from 0 to 1.

    Raises ValueError for numbers that cannot be.
    """
    if not 0 <= different <= compared:
        raise ValueError(f"{different} of {compared} cannot be different")
    alpha = 1 - confidence
    if different == compared:
        return 1.0
    if different == 0:
        return -math.expm1(math.log(alpha) / compared)
    # The chance of so few falls as the share grows. Newton's steps, within bounds that close in.
    low, high = different / compared, 1.0
    share = min(_first(different, compared), (1 + low) / 2)
    for _ in range(_ROUNDS):
        tail, last = _at_most(different, compared, share)
        if tail > alpha:
            low = share
        else:
            high = share
        slope = (compared - different) / (1 - share) * last  # of the tail, downwards
        step = tail * math.log(tail / alpha) / slope if tail and slope else math.inf
        following = share + step
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - share) <= _CLOSE * share:
            return following
        share = following
    return share


def needed(
    limit: float, different: int = 0, compared: int = 0, confidence: float = CONFIDENCE
) -> int:
    """How many more requests must be compared, and be the same, until the bound is below `limit`.

    limit: a share above 0 and below 1.
    different, compared: so far.
    confidence: from 0 to 1.

    Raises ValueError for a limit that can never be met, and for numbers that cannot be.
    """
    if not 0 < limit < 1:
        raise ValueError(f"{limit} is no share above 0 and below 1")
    if not 0 <= different <= compared:
        raise ValueError(f"{different} of {compared} cannot be different")

    def enough(many: int) -> bool:
        return many > different and _at_most(different, many, limit)[0] < 1 - confidence

    if enough(compared):
        return 0
    low, high = compared, max(compared, different, 1) * 2
    while not enough(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high - compared


def percent(share: float) -> str:
    """A bound in percent, with two digits, rounded up: what is under `1%` is not over it."""
    if share <= 0:
        return "0%"
    number = share * 100
    digits = 1 - math.floor(math.log10(number))
    shown = min(100.0, math.ceil(number * 10**digits - 1e-9) / 10**digits)
    return f"{shown:.15f}".rstrip("0").rstrip(".") + "%"


def _first(different: int, compared: int) -> float:
    """A share near the bound (Wilson)."""
    z = 1.645
    share, spread = (different + 1) / (compared + 1), z * z / compared
    middle = share + spread / 2
    return (middle + z * math.sqrt(share * (1 - share) / compared + spread / compared / 4)) / (
        1 + spread
    )


def _at_most(most: int, of: int, share: float) -> tuple[float, float]:
    """The chance that at most `most` of `of` are hit when each is with the chance `share`, and
    the chance of exactly so many."""
    last = math.exp(_choose(of, most) + most * math.log(share) + (of - most) * math.log1p(-share))
    if most >= of * share:
        # Nearly all of it lies below: what lies above is the shorter sum.
        return 1 - _sum(last, of, most, share, upwards=True), last
    return last + _sum(last, of, most, share, upwards=False), last


def _sum(last: float, of: int, most: int, share: float, *, upwards: bool) -> float:
    """The chances of all counts above, or below, `most`, whose own chance is `last`."""
    odds = share / (1 - share)
    total, term, at = 0.0, last, most
    while term > total * 1e-17 and (at < of if upwards else at > 0):
        if upwards:
            term *= (of - at) / (at + 1) * odds
            at += 1
        else:
            term *= at / (of - at + 1) / odds
            at -= 1
        total += term
        if not term:
            break
    return total


def _choose(of: int, many: int) -> float:
    """The logarithm of how many ways there are."""
    few = min(many, of - many)
    if few <= 50:
        return math.log(math.comb(of, few))
    return math.lgamma(of + 1) - math.lgamma(few + 1) - math.lgamma(of - few + 1)
