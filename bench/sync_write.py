"""How fast events get into MongoDB, by batch; the parts of `bench.sync` that write.

Every write is acknowledged by a majority, journalled. Ours has the guard of versions and the JSON
Schema on. Each event finds its document in an older version, as in a worker's life.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pymongo import WriteConcern
from pymongo.database import Database

from bench.report import BenchmarkFailed
from bench.sync_forge import check_mirror
from bridge.queue.events import Event
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror

__all__ = ["BATCHES", "Writer"]

BATCHES = {1: 300, 10: 2000, 100: 10_000, 200: 10_000, 1000: 10_000}
"""Events of one apply, and events of a round for each second of load. A worker takes 200."""
NAIVE = 300
"""Updates of a round by the writer that sends one at a time."""


class Writer:
    """Applies newer and newer versions of the same events.

    Beside it `naive`, the program that anybody would write first: one `update_one` an event,
    without guard and schema, and just as durable.
    """

    def __init__(
        self, database: Database[dict[str, Any]], mirror: Mirror, events: Sequence[Event]
    ) -> None:
        self._database, self._mirror = database, mirror
        self._events = [event for event in events if mirror.entities[event.entity].schema_]
        if len(self._events) != len(events):
            raise BenchmarkFailed("an entity has no schema: what was measured would be too fast")
        self._version = 1
        self._apply(self._events, 1000)

    def batches(self, size: int, seconds: int) -> float:
        """Events/s with so many in a batch. Raises BenchmarkFailed for one that is not written."""
        events = self._newer(BATCHES[size] * seconds)
        begin = time.perf_counter()
        self._apply(events, size)
        rate = len(events) / (time.perf_counter() - begin)
        what = f"apply, batch {size}"
        check_mirror(what, self._database, self._mirror, events, whole=False)
        return rate

    def naive(self, seconds: int) -> float:
        """Events/s of `update_one` after `update_one`. Raises BenchmarkFailed."""
        events = self._newer(NAIVE * seconds)
        concern = WriteConcern(w="majority", j=True)
        begin = time.perf_counter()
        for event in events:
            name = self._mirror.collection_of(event.entity)
            collection = self._database.get_collection(name, write_concern=concern)
            state = {"_v": event.version, **(event.data or {})}
            found = collection.update_one({"_id": event.key}, {"$set": state}, upsert=True)
            if found.matched_count != 1:
                raise BenchmarkFailed(f"naive writer: {event.key} was not there")
        rate = len(events) / (time.perf_counter() - begin)
        # It has stored what came, unconverted; that must not be there any more in later rounds.
        self._apply(self._newer(len(events)), 1000)
        return rate

    def _newer(self, count: int) -> list[Event]:
        """The first `count` events with a version that is nowhere yet; fewer where there are
        fewer."""
        self._version += 1
        return [replace(event, version=self._version) for event in self._events[:count]]

    def _apply(self, events: Sequence[Event], size: int) -> None:
        for batch in _parts(events, size):
            applied = apply(self._database, self._mirror, batch)
            if applied.failed or applied.written != len(batch):
                why = applied.failed[0].error if applied.failed else f"{applied.stale} are stale"
                raise BenchmarkFailed(f"apply wrote {applied.written} of {len(batch)}: {why}")


def _parts(events: Sequence[Event], size: int) -> Iterator[Sequence[Event]]:
    for start in range(0, len(events), size):
        yield events[start : start + size]
