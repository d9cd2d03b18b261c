"""What reconciling found last, per entity: kept in `bridge_state`, shown to operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from pymongo import MongoClient
from pymongo.database import Database

from bridge.cached import Cached
from bridge.errors import BridgeError
from bridge.prometheus import family, page
from bridge.settings import Settings
from bridge.sync.documents import Document
from bridge.sync.entities import STATE, load
from bridge.sync.mongodb import connect, majority, outages
from bridge.sync.reconcile.findings import ReconcileResult
from bridge.sync.state import State
from bridge.units import roughly

__all__ = ["LastResult", "LastWatch", "id_of", "keep", "metrics", "read_all", "status_row"]

PREFIX = "reconcile:"
MOST_KEPT = 20
"""Differences that are kept one by one, beside their numbers."""
KEEP = 15.0
"""Seconds that one look serves all who ask."""


@dataclass(frozen=True, slots=True)
class LastResult:
    """The last result of one entity. age: seconds since its end, by the clock of this machine;
    the others as in `ReconcileResult`."""

    entity: str
    age: float
    seconds: float
    rows: int
    differences: Mapping[str, int]
    more: bool
    deep: bool
    repaired: Mapping[str, int]

    @property
    def total(self) -> int:
        """How many differences there were."""
        return sum(self.differences.values())

    @property
    def equal(self) -> bool:
        """Whether both sides were equal."""
        return not self.total and not self.more


def id_of(entity: str) -> str:
    """The `_id` in `bridge_state`."""
    return f"{PREFIX}{entity}"


def keep(state: State, result: ReconcileResult, *, deep: bool) -> None:
    """Put a result in the place of the one before. Raises ServerAway."""
    state.put(
        id_of(result.entity),
        {
            "at": datetime.now(UTC),
            "seconds": result.seconds,
            "rows": result.rows,
            "documents": result.documents,
            "differences": result.by_kind,
            "more": result.more,
            "deep": deep,
            "repaired": result.repaired,
            # Values are the site's: whoever asks for them is shown them, and nobody else.
            "listed": [asdict(replace(one, values=())) for one in result.differences[:MOST_KEPT]],
        },
    )


def read_all(database: Database[Document]) -> list[LastResult]:
    """The last result of each entity that has one. Raises ServerAway."""
    # All of them, and no pattern: the strings from `reconcile:` to `reconcile;`.
    mine = {"_id": {"$gte": PREFIX, "$lt": PREFIX[:-1] + ";"}}
    with outages():
        found = list(majority(database, STATE).find(mine, {"listed": 0}, sort=[("_id", 1)]))
    return [last for document in found if (last := _last(document)) is not None]


def _last(document: Document) -> LastResult | None:
    at = document.get("at")
    if not isinstance(at, datetime):
        return None
    age = (datetime.now(UTC) - at.replace(tzinfo=UTC)).total_seconds()
    return LastResult(
        document["_id"].removeprefix(PREFIX),
        max(0.0, age),
        document.get("seconds", 0.0),
        document.get("rows", 0),
        document.get("differences", {}),
        document.get("more", False),
        document.get("deep", False),
        document.get("repaired", {}),
    )


def status_row(last: LastResult) -> dict[str, str]:
    """A row of `bridgectl status`: what, is, note."""
    differs = ", ".join(f"{count:,} {kind}" for kind, count in last.differences.items())
    notes = [f"{last.rows:,} rows, {roughly(last.age)} ago"]
    if last.deep:
        notes.append("contents, too")
    if repaired := sum(last.repaired.values()):
        notes.append(f"{repaired:,} repaired")
    return {
        "what": f"reconciled: {last.entity}",
        "is": "equal" if last.equal else differs,
        "note": ", ".join(notes),
    }


class LastWatch(Cached[Sequence[LastResult]]):
    """A MongoDB that does not answer costs a second, and then nothing is known."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(self._read, KEEP)
        self._settings = settings
        self._client: MongoClient[Document] | None = None

    def _read(self) -> Sequence[LastResult]:
        with suppress(BridgeError):
            if load(self._settings.sync).entities:
                if self._client is None:
                    self._client = connect(self._settings.mongodb_url, patience=1.0, answer=2.0)
                return read_all(self._client.get_default_database())
        return ()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


_GAUGES: dict[str, tuple[str, Callable[[LastResult], float]]] = {
    "bridge_reconcile_age_seconds": ("Since the last reconciling ended", lambda last: last.age),
    "bridge_reconcile_seconds": ("How long it took", lambda last: last.seconds),
    "bridge_reconcile_rows": ("Rows that were alive in SQL", lambda last: last.rows),
    "bridge_reconcile_differences": ("What it left different", lambda last: last.total),
    "bridge_reconcile_repaired": ("What it repaired", lambda last: sum(last.repaired.values())),
}


def metrics(results: Sequence[LastResult]) -> bytes:
    """The results in Prometheus' text format."""
    if not results:
        return b""
    lines: list[str] = []
    for name, (text, value) in _GAUGES.items():
        samples = [({"entity": last.entity}, float(value(last))) for last in results]
        lines += family(name, "gauge", text, samples)
    kinds = [
        ({"entity": last.entity, "kind": kind}, float(count))
        for last in results
        for kind, count in last.differences.items()
    ]
    name, text = "bridge_reconcile_differences_by_kind", "What it left different, by kind"
    return page([*lines, *family(name, "gauge", text, kinds)])
