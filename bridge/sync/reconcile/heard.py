"""Events that come over the queue of an entity whose versions are the log's: they are compared with
MongoDB, and not written, for one source owns the versions of an entity.

What MongoDB does not hold may be behind, or ahead, or never come. So the key is in doubt, and is
looked at again on a thread, as reconciling does, until the log says that no lag explains what SQL
and MongoDB have under it. That is told, once for each time.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Sequence
from time import monotonic
from typing import Protocol

from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway
from bridge.queue.events import Event, Rejected
from bridge.queue.sql.database import connect
from bridge.sync.documents import Document, Mirror
from bridge.sync.doubts import Doubt, look_at_log
from bridge.sync.guard import is_held, make_ready
from bridge.sync.log.wanted import of_the_log
from bridge.sync.mongodb import TOLERANT, majority, outages
from bridge.sync.reconcile.sides import Sides

__all__ = ["Counts", "Heard"]

MOST = 1000
"""Keys in doubt at a time."""
EVERY = 2.0
"""Seconds between two looks at them."""


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
        self._sql_url, self._database, self._mirror = sql_url, database, mirror
        self._counts, self._log = counts, log
        self._names = frozenset(of_the_log(mirror.entities))
        self._doubts: dict[str, dict[str, Doubt | None]] = {name: {} for name in self._names}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heard", daemon=True)

    def __enter__(self) -> Heard:
        if self._names:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

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
                self._doubt(one.event.entity, one.own.key)
        self._counts.compared += len(ready)
        return [event for event in events if event.entity not in self._names], rejected

    def _held(self, collection: str, keys: Sequence[str]) -> dict[str, bytes]:
        options = TOLERANT.with_options(document_class=RawBSONDocument)
        found = majority(self._database, collection, codec_options=options)
        with outages():
            return {raw["_id"]: raw.raw for raw in found.find({"_id": {"$in": list(keys)}})}

    def _doubt(self, entity: str, key: str) -> None:
        with self._lock:
            if sum(map(len, self._doubts.values())) >= MOST:
                self._counts.unchecked += 1
            else:
                self._doubts[entity].setdefault(key, None)

    # On the thread.

    def _run(self) -> None:
        told = ""
        while not self._stop.wait(EVERY):
            try:
                self.look()
                told = ""
            except ServerAway:
                continue  # whoever writes says so
            except BridgeError as error:
                if str(error) != told:
                    self._log.warning("log.cannot_compare", cause=str(error))
                told = str(error)
            except Exception as error:
                # A mistake of ours must not end the worker's writing; its text may show data.
                frame = traceback.extract_tb(error.__traceback__)[-1]
                cause = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
                self._log.error("log.cannot_compare", cause=cause)

    def look(self) -> None:
        """Look at what is in doubt once more. Raises BridgeError, and ServerAway."""
        for entity in sorted(self._names):
            with self._lock:
                doubts = dict(self._doubts[entity])
            if doubts:
                self._look_at(entity, doubts)

    def _look_at(self, entity: str, doubts: dict[str, Doubt | None]) -> None:
        engine = connect(self._sql_url)
        try:
            sides = Sides(engine, self._database, self._mirror, entity)
            assert sides.log is not None
            reached = sides.log.reached()
            looks = sides.look(list(doubts), set(doubts))
        finally:
            engine.dispose()
        for key, seen in looks.items():
            doubt = look_at_log(doubts[key], seen.pair, monotonic(), reached)
            with self._lock:
                if doubt is None or doubt.is_certain:
                    self._doubts[entity].pop(key, None)
                else:
                    self._doubts[entity][key] = doubt
            if doubt is not None and doubt.is_certain:
                self._counts.differing += 1
                self._log.warning(
                    "log.differs",
                    entity=entity,
                    key=key,
                    kind=doubt.kind,
                    cause=seen.detail,
                    do=f"bridgectl reconcile {entity} --deep --repair",
                )
