"""What the relay fetches of rows that triggers have noted: the row as it is now, with its version.

A version is given first, in a short transaction, and the row is read after that. So whoever has
the higher version has read later, in whatever order relays, snapshots and workers come: the last
note of a row was written with its last change, and the version that it is given wins, with what
the row was then or has become since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import sqlalchemy as sql

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.events import MAX_KEY_BYTES, Event
from bridge.queue.relay.touched import CurrentRow
from bridge.queue.sql.database import reading
from bridge.queue.sql.values import to_json
from bridge.sync.documents import Mirror
from bridge.sync.sql.learn import learn
from bridge.sync.sql.source import SqlSource
from bridge.sync.sql.versions import raise_entries
from bridge.sync.triggers.noted import MOST_KEY, needs_none
from bridge.sync.types.keys import Unlookable
from bridge.sync.types.typed import Typed

__all__ = ["Fetcher"]


class Fetcher:
    """Fetches rows of one database. source: of the events, as sync.yaml has it."""

    def __init__(self, engine: sql.Engine, mirror: Mirror, source: str) -> None:
        self._engine, self._mirror, self._from = engine, mirror, source
        self._max_event = mirror.file.max_event
        self._sources: dict[str, SqlSource] = {}

    def __call__(self, entity: str, keys: Sequence[str]) -> Mapping[str, CurrentRow]:
        """What these keys of an entity are now. Raises BridgeError when it cannot be read,
        ServerAway, and SQLAlchemy's errors."""
        source = self._source(entity)
        types = self._types(entity)
        while True:
            found = self._fetch(source, types, keys)
            # The table may have changed; what a key is, too.
            if (known := self._types(entity)) is types:
                return found
            types = known

    def _fetch(
        self, source: SqlSource, types: Typed, keys: Sequence[str]
    ) -> Mapping[str, CurrentRow]:
        found: dict[str, CurrentRow] = {}
        names: dict[str, str] = {}
        for key in keys:
            name, error = _canonical(types, key)
            if error:
                found[key] = _dead(types, key, f"no row has this key: {error}")
            else:
                names[key] = name
        wanted = sorted(set(names.values()))
        if not wanted:
            return found
        with self._engine.begin() as connection:
            given = raise_entries(connection, types.entity, wanted)
        events, bad = source.rows_by_keys(wanted)
        rows = {event.key: event for event in events}
        wrong = {row.key: row for row in bad}
        alike = self._alike(source, [name for name in wanted if name not in rows | wrong])
        for key, name in names.items():
            if (row := wrong.get(name)) is not None:
                found[key] = CurrentRow(error=row.error, raw=row.raw)
            elif (event := rows.get(name)) is not None:
                found[key] = self._made(event)
            elif len(key) >= MOST_KEY:
                found[key] = _dead(types, key, "its key is cut, and no row has what is left of it")
            else:
                gone = Event(types.entity, "deleted", name, given[name], source=self._from)
                found[key] = replace(self._made(gone), others=alike)
        return found

    def _made(self, event: Event) -> CurrentRow:
        try:
            text = event.to_json(self._max_event)
        except UndecodableMessage as error:
            raw = to_json(event.data).encode("utf-8", "surrogateescape")
            return CurrentRow(error=f"its event {error}", raw=raw)
        return CurrentRow(event.version, text.encode())

    def _alike(self, source: SqlSource, missing: Sequence[str]) -> tuple[str, ...]:
        """A child names its parent as the database compares: `VIM` may be the row `vim`."""
        if not missing or not self._mirror.entities[source.name].children:
            return ()
        return tuple(sorted(source.alike(missing) - set(missing)))

    def _source(self, entity: str) -> SqlSource:
        if entity not in self._sources:
            if entity not in self._mirror.entities:
                raise BridgeError(
                    f"triggers note changes of {entity}, which is no entity of sync.yaml: restart "
                    "the relay if it has become one, or remove its triggers with "
                    f"`bridgectl sync triggers {entity} --drop`"
                )
            if why := needs_none(self._mirror, entity):
                raise BridgeError(
                    f"triggers note changes of {entity}, and {why}; or remove the triggers with "
                    f"`bridgectl sync triggers {entity} --drop`"
                )
            self._sources[entity] = SqlSource(self._engine, entity, self._mirror, sender=self._from)
        return self._sources[entity]

    def _types(self, entity: str) -> Typed:
        if (known := self._mirror.typed(entity)) is None:
            with reading(self._engine) as connection:
                known = learn(connection, self._mirror, entity)
        assert known is not None
        return known


def _canonical(types: Typed, key: str) -> tuple[str, str]:
    """The key of the row that is meant, and why there cannot be one."""
    try:
        name = types.canonical(key)
        size = len(name.encode())
    except Unlookable as error:
        return "", str(error)
    except UnicodeEncodeError:
        return "", "it is no text of UTF-8"
    if size > MAX_KEY_BYTES:
        return "", f"it has more than {MAX_KEY_BYTES} bytes of UTF-8"
    return name, types.is_lookable(name)


def _dead(types: Typed, key: str, error: str) -> CurrentRow:
    raw = to_json({"entity": types.entity, "key": key}).encode("utf-8", "surrogateescape")
    return CurrentRow(error=f"{types.table.full_name}: {error}", raw=raw)
