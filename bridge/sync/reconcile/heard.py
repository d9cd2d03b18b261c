"""Events that come over the queue of an entity whose versions are the log's: they are compared with
MongoDB, and not written, for one source owns the versions of an entity.

What MongoDB does not hold may be behind, or ahead, or never come. So the key is in doubt, and
`doubtful` looks at it until the log says that no lag explains what SQL and MongoDB have under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from structlog.typing import FilteringBoundLogger

from bridge.queue.events import Event, Rejected
from bridge.sync.documents import Document, Mirror
from bridge.sync.guard import is_held, make_ready
from bridge.sync.log.wanted import of_the_log
from bridge.sync.mongodb import TOLERANT, majority, outages
from bridge.sync.reconcile.doubtful import Doubtful, Outcome

__all__ = ["Counts", "Heard"]


class Counts(Protocol):
    """compared: events that were not written, because the log is their source. differing: keys of
    them under which SQL and MongoDB differ for good. unchecked: events of which that was not
    looked at, because too many were in doubt."""

    compared: int
    differing: int
    unchecked: int


class Heard:
    """Compares events. `take` is for one thread; another one runs within the context, where an
    entity is the log's.

    sql_url: of the site's database.
    counts: what was done, for others to read.
    """

    def __init__(
        self,
        sql_url: str,
        database: Database[Document],
        mirror: Mirror,
        counts: Counts,
        log: FilteringBoundLogger,
    ) -> None:
        self._database, self._mirror, self._counts = database, mirror, counts
        self._names = frozenset(of_the_log(mirror.entities))
        self._doubtful = Doubtful(sql_url, database, lambda: mirror, self._names, self._count, log)

    def __enter__(self) -> Heard:
        self._doubtful.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._doubtful.__exit__(*error)

    def take(self, events: Sequence[Event]) -> tuple[list[Event], list[Rejected]]:
        """Compare those that the log is the source of; the others, and those that can be no
        document. Raises ServerAway."""
        theirs = [event for event in events if event.entity in self._names]
        if not theirs:
            return list(events), []
        ready, rejected = make_ready(self._mirror, theirs)
        keys: dict[str, list[str]] = {}
        for one in ready:
            keys.setdefault(one.own.collection, []).append(one.own.key)
        held = {name: self._held(name, some) for name, some in keys.items()}
        for one in ready:
            if not is_held(one, held[one.own.collection].get(one.own.key)):
                self._doubtful.doubt(one.event.entity, one.own.key)
        self._counts.compared += len(ready)
        return [event for event in events if event.entity not in self._names], rejected

    def look(self) -> None:
        """Look at what is in doubt once more. Raises BridgeError, and ServerAway."""
        self._doubtful.look()

    def _held(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        options = TOLERANT.with_options(document_class=RawBSONDocument)
        found = majority(self._database, collection, codec_options=options)
        with outages():
            asked = found.find({"_id": {"$in": list(keys)}})
            return {raw["_id"]: bytes(raw.raw) for raw in asked}

    def _count(self, entity: str, key: str, outcome: Outcome) -> None:
        setattr(self._counts, outcome, getattr(self._counts, outcome) + 1)
