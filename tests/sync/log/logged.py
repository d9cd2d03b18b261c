"""A database with a log, the entities of some of its tables, and what both ways say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import bson

from bridge.queue.events import Event
from bridge.queue.sql.database import connect, reading
from bridge.sync.documents import Mirror
from bridge.sync.log.stream import Found
from bridge.sync.models import File
from bridge.sync.sql.learn import learn
from bridge.sync.sql.source import SqlSource
from tests.sync.log.reading import Place, end_of, events_of, found_in

__all__ = ["Logged"]


class Logged:
    """A database whose log is read from here on."""

    def __init__(self, url: str) -> None:
        self.engine = connect(url)
        began = end_of(self.engine)
        assert began is not None
        self.began: Place = began

    def run(self, *statements: str) -> None:
        """Each in a transaction of its own, in one session that is given up then."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement.replace("%", "%%"))
            connection.invalidate()

    def mirror(self, *tables: str, key: Sequence[str] = ("id",), **source: Any) -> Mirror:
        """An entity for each table, whose types are learned. Each has a version in `ver`."""
        entities = {
            f"e{number}": {
                "collection": f"c{number}",
                "source": {"table": table, "key": list(key), "version": "ver", **source},
            }
            for number, table in enumerate(tables)
        }
        mirror = Mirror(File.model_validate({"version": 1, "entities": entities}))
        with reading(self.engine) as connection:
            for name in mirror.entities:
                learn(connection, mirror, name)
        return mirror

    def rows(self, mirror: Mirror, name: str) -> list[Event]:
        """What SELECT says."""
        chunk = SqlSource(self.engine, name, mirror).chunk(None, 10_000)
        assert chunk.bad == []
        return chunk.events

    def found(self, mirror: Mirror) -> list[Found]:
        """What the log says."""
        return found_in(self.engine, mirror, self.began)

    def differences(self, mirror: Mirror) -> list[Any]:
        """Entity, key, and the two documents where they are not the same bytes."""
        logged = _documents(mirror, events_of(self.found(mirror)))
        read = _documents(
            mirror, [event for name in mirror.entities for event in self.rows(mirror, name)]
        )
        return [
            (identity, read.get(identity), logged.get(identity))
            for identity in sorted(read.keys() | logged.keys())
            if bson.encode(read.get(identity, {})) != bson.encode(logged.get(identity, {}))
        ]


def _documents(mirror: Mirror, events: Iterable[Event]) -> dict[Any, dict[str, Any]]:
    return {
        one.identity: mirror.prepare(replace(one, version=1)).own.document
        for one in events
        if one.data is not None
    }
