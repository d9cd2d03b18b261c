"""How the evidence of what runs now stands: what was compared of this release, by route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.errors import BridgeError
from bridge.evidence.differences.found import Counts
from bridge.evidence.differences.store import Evidence
from bridge.evidence.rate import upper_bound
from bridge.evidence.release import release_of, rules_of
from bridge.prometheus import family, page
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.routing.table import RouteTable
from bridge.settings import Settings

__all__ = ["KEEP", "Standing", "metrics", "scraped", "standing", "standing_of"]

KEEP = 15.0  # seconds that what was looked up stays good for an operator


@dataclass(frozen=True, slots=True)
class Standing:
    """Of one release and one state of the data rules, by route. The bounds are at 95%."""

    release: str
    rules: str
    counts: Mapping[str, Counts] = field(default_factory=dict)

    def upper_bound(self, route: str) -> float | None:
        """Of the share that is different; None where nothing was compared."""
        counts = self.counts.get(route)
        if counts is None or not counts.compared:
            return None
        return upper_bound(counts.different, counts.compared)


def standing_of(settings: Settings, table: RouteTable) -> Standing:
    """That of the handlers of `table`, as their files are now. Raises BridgeError."""
    release = release_of((route.handler for route in table.routes), settings)
    rules = rules_of(settings)
    evidence = Evidence(settings.state_dir)
    try:
        return Standing(release, rules, evidence.counts(release, rules))
    finally:
        evidence.close()


def standing(settings: Settings) -> Standing:
    """That of routes.yaml as it is now. Raises BridgeError."""
    return standing_of(settings, load(settings.routes, handlers=Handlers.NAMED))


def metrics(found: Standing) -> bytes:
    """In Prometheus' text format."""
    if not found.counts:
        return b""
    kinds = [
        ({"route": route, "kind": kind}, float(many))
        for route, counts in found.counts.items()
        for kind, many in counts.by_kind.items()
    ]
    bounds = [
        ({"route": route}, bound)
        for route in found.counts
        if (bound := found.upper_bound(route)) is not None
    ]
    total = "Requests whose answers of both sides were compared, of this release, by what they are"
    upper = "Upper bound at 95% of the share of different answers, of this release"
    return page(
        [
            *family("bridge_compared_total", "counter", total, kinds),
            *family("bridge_different_upper_bound", "gauge", upper, bounds),
        ]
    )


def scraped(settings: Settings) -> bytes:
    """The metrics of now; empty where they cannot be told, which `bridgectl differences` says."""
    try:
        return metrics(standing(settings))
    except BridgeError:
        return b""
