"""Make rows right of which the log does not say everything: bring MongoDB to what SQL has of them.

The log does not have what a foreign key does to other rows, nor TRUNCATE, nor what a statement in
words changes. What of an entity may be concerned is read from SQL, and what differs is written with
the version of the reading, see `snapshots`: what the log tells of before is older, and what it
tells of after is newer, in whatever order it all is written.

What is equal is left alone. So everything up to what happened must be in MongoDB before: a change
of before would undo what only looked right.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from bridge.errors import Stopped
from bridge.queue.consumer.dead_letters import DeadLetter
from bridge.queue.events import Event
from bridge.sync.apply import apply
from bridge.sync.checksums import alive, is_dead, is_text
from bridge.sync.dead_letters import letter_of, letter_of_row
from bridge.sync.documents import Document, Mirror
from bridge.sync.guard import is_held, make_ready
from bridge.sync.log.position import Position as Place
from bridge.sync.log.snapshots import Readings
from bridge.sync.mongodb import TOLERANT, decode, majority, outages
from bridge.sync.sql.source import BadRow, SqlSource
from bridge.sync.types.rules import Rule
from bridge.units import in_portions

__all__ = ["Healed", "Which", "heal"]

Which = Sequence[str] | Mapping[str, Sequence[Any]] | None
"""Rows of an entity: those with these keys, or those in which a field of the data has one of these
values, in SQL or in MongoDB, or all for None."""

MOST_ROWS, FIRST_ROWS = 500, 100
"""Rows of one step, and of the first one, which shows how large they are."""
MOST_BYTES = 8 * 1024 * 1024
"""About so large may the documents of one step become."""
SOURCE = "/bridge/heal"


@dataclass(slots=True)
class Healed:
    """What was done. looked: keys that were looked at. changed, gone: documents that were written,
    and that were buried because they have no row. dead: rows that became dead letters."""

    looked: int = 0
    changed: int = 0
    gone: int = 0
    dead: int = 0


def heal(
    engine: sql.Engine,
    database: Database[Document],
    mirror: Mirror,
    position: Place,
    marks: Mapping[str, Which],
    *,
    bury: Callable[[Sequence[DeadLetter]], None],
    stop: threading.Event | None = None,
) -> dict[str, Healed]:
    """Bring MongoDB to what SQL has of these rows; what was done, by entity.

    position: up to which the log is in MongoDB; whatever is to be healed was before that.
    marks: by entity, which rows.
    bury: keeps dead letters of rows of which no document can be made.

    Raises Stopped when `stop` is set, ServerAway, and BridgeError for a table that does not fit
    sync.yaml. Part of it may then be done: call again.
    """
    done = {}
    for entity, which in marks.items():
        healer = _Healer(engine, database, mirror, position, entity, bury, stop)
        healer.heal(which)
        done[entity] = healer.done
    return done


class _Healer:
    def __init__(
        self,
        engine: sql.Engine,
        database: Database[Document],
        mirror: Mirror,
        position: Place,
        entity: str,
        bury: Callable[[Sequence[DeadLetter]], None],
        stop: threading.Event | None,
    ) -> None:
        self._engine, self._database, self._mirror = engine, database, mirror
        self._entity, self._bury, self._stop = entity, bury, stop
        self._source = SqlSource(
            engine, entity, mirror, rewrite=True, sender=SOURCE, reading=Readings(position)
        )
        self._collection = majority(database, mirror.collection_of(entity), codec_options=TOLERANT)
        options = TOLERANT.with_options(document_class=RawBSONDocument)
        self._raw = self._collection.with_options(options)
        self._size = FIRST_ROWS
        self.done = Healed()

    def heal(self, which: Which) -> None:
        if isinstance(which, Mapping):
            self._source.existing([])  # learns the types
            if any(self._field(field) is None for field in which):
                which = None
        if which is None:
            self._all()
        elif isinstance(which, Mapping):
            for field, values in which.items():
                for some in in_portions(list(values), MOST_ROWS):
                    self._having(field, some)
        else:
            self._keys(list(dict.fromkeys(which)))

    def _all(self) -> None:
        position = None
        while True:
            self._check()
            size = self._size
            chunk = self._source.chunk(position, size)
            self._write(chunk.events, chunk.bad)
            if chunk.rows < size:
                break
            position = chunk.last
        for keys in self._walk({}):
            self._gone(keys)

    def _having(self, field: str, values: Sequence[Any]) -> None:
        """Rows and documents with these values of a field."""
        name = self._field(field)
        types = self._mirror.typed(self._entity)
        assert name is not None
        assert types is not None
        wanted = [_converted(types.rules[field], value) for value in values]
        for keys in self._walk({name: {"$in": wanted}}):
            self._keys(keys)
        position, texts = None, [str(value) for value in values]
        while True:
            self._check()
            keys, position = self._source.having(field, texts, position, MOST_ROWS)
            self._keys(keys)
            if position is None:
                return

    def _field(self, field: str) -> str | None:
        """The name in the document of a field by whose values rows can be found on both sides;
        None where they cannot."""
        entity, types = self._mirror.entities[self._entity], self._mirror.typed(self._entity)
        if entity.hook is not None or field in entity.drop or types is None:
            return None
        if field not in types.rules or types.key_like(field) is None:
            return None
        said = entity.fields.get(field)
        return (said.as_ if said is not None else None) or field

    def _keys(self, keys: Sequence[str]) -> None:
        left = list(keys)
        while left:
            self._check()
            some, left = left[: self._size], left[self._size :]
            events, bad = self._source.rows_by_keys(some)
            self._write(events, bad)
            told = {event.key for event in events} | {one.key for one in bad}
            self._gone([key for key in some if key not in told])

    def _write(self, events: Sequence[Event], bad: Sequence[BadRow]) -> None:
        """Write those of the events that MongoDB does not say yet."""
        self.done.looked += len(events)
        ready, rejected = make_ready(self._mirror, events)
        self._measure(sum(one.own.size for one in ready))
        held = self._held([one.own.key for one in ready])
        different = [one.event for one in ready if not is_held(one, held.get(one.own.key))]
        result = apply(self._database, self._mirror, different)
        self.done.changed += result.written
        letters = [letter_of_row(self._entity, row) for row in bad]
        letters += [letter_of(one) for one in (*rejected, *result.failed)]
        if letters:
            self._bury(letters)
            self.done.dead += len(letters)

    def _gone(self, keys: Sequence[str]) -> None:
        """Bury those that have no row."""
        held = self._held(keys)
        suspects = [key for key, raw in held.items() if not is_dead(decode(raw))]
        self.done.looked += len(keys)
        if not suspects:
            return
        found = self._source.existing(suspects)
        assert found.version is not None
        events = [
            Event(self._entity, "deleted", key, found.version, source=SOURCE, rewrite=True)
            for key in suspects
            if key not in found.there and key not in found.unlookable
        ]
        self.done.gone += apply(self._database, self._mirror, events).written

    def _held(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What MongoDB has under these keys, as BSON."""
        asked = [key for key in keys if is_text(key)]
        with outages():
            return {raw["_id"]: bytes(raw.raw) for raw in self._raw.find({"_id": {"$in": asked}})}

    def _walk(self, where: Document) -> Iterator[list[str]]:
        """The keys of the documents that are alive, in their order."""
        last = ""
        while True:
            self._check()
            these = {"_id": {"$gt": last} if last else {"$gte": ""}, **alive(), **where}
            with outages():
                found = self._collection.find(these, {"_id": 1}).sort("_id", 1)
                keys = [one["_id"] for one in found.limit(MOST_ROWS)]
            yield [key for key in keys if is_text(key)]
            if len(keys) < MOST_ROWS:
                return
            last = keys[-1]

    def _measure(self, size: int) -> None:
        """Say how many bytes the documents of a step had, so that the next one is no larger."""
        if size > MOST_BYTES:
            self._size = max(1, self._size // 2)
        elif size < MOST_BYTES // 4:
            self._size = min(MOST_ROWS, self._size * 2)

    def _check(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Stopped("stopped")


def _converted(rule: Rule, value: Any) -> Any:
    """As the documents have it."""
    try:
        return rule.convert(value)
    except ValueError:
        return value
