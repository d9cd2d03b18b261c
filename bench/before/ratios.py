"""What two commits found, as ratios that all read the same way: above 1 is slower, or more.

A benchmark has rates, where more is better, and times, where less is. As a ratio to the commit
before both become the *cost* of one unit, now over before, and the key says of what:
`…_time_over_before`, `…_memory_over_before`, `instructions_…_over_before`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = [
    "INSTRUCTIONS_LIMIT",
    "TIME_LIMIT",
    "Compared",
    "Found",
    "compare",
    "cost_key",
    "limit_of",
]

TIME_LIMIT = 1.10
INSTRUCTIONS_LIMIT = 1.03
"""A commit is not slower than another one while its ratios are not above these."""

_RATES = ("_per_s", "_rps")
_TIMES = ("_us", "_ms")
_INSTRUCTIONS = "instructions_"


@dataclass(frozen=True)
class Found:
    """What one run of a benchmark found, see `bench.report`."""

    figures: Mapping[str, float]
    ratios: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """One figure on both sides: its key, medians of it in its own unit, and the cost now over
    before, one a pair of runs."""

    figure: str
    before: float
    now: float
    ratios: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median of the pairs."""
        return statistics.median(self.ratios)


def limit_of(key: str) -> float:
    """What a ratio to the commit before may be at most."""
    return INSTRUCTIONS_LIMIT if key.startswith(_INSTRUCTIONS) else TIME_LIMIT


def cost_key(key: str) -> tuple[str, bool] | None:
    """The key of the ratio that a figure becomes, and whether the figure is a rate; None for a
    figure that is no speed.

    `e2e_events_per_s` becomes `e2e_events_time_over_before`, `applied_per_s_200` becomes
    `applied_200_time_over_before`, `visible_p50_ms` becomes `visible_p50_time_over_before`.
    """
    if key.startswith(_INSTRUCTIONS):
        return f"{key}_over_before", False
    name, found, size = key.rpartition("_per_s")
    if found and name and (not size or (size[0] == "_" and size[1:].isdigit())):
        return f"{name}{size}_time_over_before", True
    for unit in (*_RATES, *_TIMES):
        if key.endswith(unit) and key != unit:
            return f"{key.removesuffix(unit)}_time_over_before", unit in _RATES
    if "_mb" in key:
        return f"{key.replace('_mb', '', 1)}_memory_over_before", False
    return None


def compare(pairs: Sequence[tuple[Found, Found]]) -> dict[str, Compared]:
    """The ratios of runs that stood side by side, (before, now) each.

    A figure that only one of the commits has cannot be compared, nor can one that is 0 or less,
    as the differences of two measurements can be.
    """
    compared: dict[str, Compared] = {}
    for key in pairs[0][0].figures:
        if (made := cost_key(key)) is None:
            continue
        values = [
            (before.figures.get(key, 0.0), now.figures.get(key, 0.0)) for before, now in pairs
        ]
        if any(min(pair) <= 0 for pair in values):
            continue
        name, is_rate = made
        ratios = [before / now if is_rate else now / before for before, now in values]
        compared[name] = Compared(
            key,
            statistics.median(before for before, _ in values),
            statistics.median(now for _, now in values),
            ratios,
        )
    return compared
