"""Whether there is the evidence that a flip asks for, and how much is missing. Pure, but for
`Required`, which looks at what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.errors import BridgeError, FlipRefused
from bridge.evidence.differences.found import Counts
from bridge.evidence.rate import needed, percent, upper_bound
from bridge.evidence.standing import standing_of
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.telemetry import surroundings, workers
from bridge.settings import Settings

__all__ = ["WITHOUT", "Required", "missing", "says"]

WITHOUT = "without"
"""What the history has of a flip that was to have evidence, and had none on purpose."""

_HOPELESS = 10_000_000
"""More requests than anybody waits for."""


def says(counts: Counts) -> str:
    """`0 of 120 compared were different: under 2.5% at 95%`."""
    bound = upper_bound(counts.different, counts.compared)
    were = f"{counts.different:,} of {counts.compared:,} compared were different"
    return f"{were}: under {percent(bound)} at 95%" if bound < 1 else were


def missing(counts: Counts, limit: float) -> str:
    """How much is missing until fewer than `limit`, from 0 to 1, are different at 95%; empty where
    nothing is."""
    more = needed(limit, counts.different, counts.compared)
    if not more:
        return ""
    if not counts.compared:
        return f"nothing was compared; {more:,} that are the same are needed"
    if counts.different / counts.compared >= limit or more > _HOPELESS:
        return f"{says(counts)}; mend what is different first: `bridgectl differences` shows it"
    # One that is different is one of those that are compared.
    other = needed(limit, counts.different + 1, counts.compared + 1) + 1
    return (
        f"{says(counts)}; {more:,} more that are the same are needed, or {other:,} with one more "
        "that is different"
    )


@dataclass(frozen=True, slots=True)
class Required:
    """What a flip is asked for before it raises a share: for `bridge.proxy.tools.flip`.

    limit: of the command, from 0 to 1; None: it has none. The one of routes.yaml counts as well.
    without: whether it may be raised all the same.
    """

    settings: Settings
    limit: float | None = None
    without: bool = False

    def __call__(self, table: RouteTable, routes: Sequence[str]) -> str:
        """What the history notes of it. Raises FlipRefused where evidence is missing, or cannot be
        read."""
        rules = [one for one in (self.limit, table.file.flips.require) if one is not None]
        if not rules:
            return ""
        if self.without:
            return WITHOUT
        limit = min(rules)
        try:
            standing = standing_of(self.settings, table)
        except BridgeError as error:
            raise FlipRefused(
                f"whether there is evidence is not known: {error}; nothing was changed: mend that, "
                "or give --without-evidence, which the history notes"
            ) from None
        lines = _refusals(table, routes, standing.counts, limit)
        if lines:
            rule = f"different<{percent(limit)}"
            of = f"release {standing.release}"
            raise FlipRefused(
                "\n  ".join([f"no evidence yet that {rule}, of {of}; nothing was changed:", *lines])
                + "\nevidence comes from `bridgectl compare` and from `shadow:` in routes.yaml; to "
                "do without, give --without-evidence, which the history notes"
            )
        if old := _old_code(self.settings):
            raise FlipRefused(
                f"what was compared is release {standing.release}, and {old}; nothing was changed"
            )
        found = (f"{name} {says(standing.counts[name])}" for name in routes)
        return f"{'; '.join(found)} (release {standing.release})"


def _old_code(settings: Settings) -> str:
    """In words, that workers would answer with older code than was compared; empty where not."""
    found = surroundings.compare(workers.read_all(settings.state_dir), settings)
    says = surroundings.Compared({}, found.code).says
    return says[0] if says else ""


def _refusals(
    table: RouteTable, routes: Sequence[str], counts: Mapping[str, Counts], limit: float
) -> list[str]:
    found = []
    for name in routes:
        route = table.route(name)
        if route is not None and not {"GET", "HEAD"} & set(route.spec.methods):
            methods = ", ".join(route.spec.methods)
            found.append(f"{name}: takes {methods} only, which is never compared")
        elif lacks := missing(counts.get(name, Counts()), limit):
            found.append(f"{name}: {lacks}")
    return found
