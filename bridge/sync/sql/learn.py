"""Reading the types of an entity's table when they are needed, and noticing that they changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import nested
from bridge.sync.documents import Mirror
from bridge.sync.types import catalog
from bridge.sync.types.typed import Typed, typed

__all__ = ["learn", "refresh"]


def learn(connection: sql.Connection, mirror: Mirror, name: str) -> Typed | None:
    """The types of an entity, read once and kept in the mirror; None where it has no table. Raises
    BridgeError when the table is not there or does not fit sync.yaml, and SQLAlchemy's errors."""
    entity = mirror.entities[name]
    if entity.source is None or entity.source.table is None:
        return None
    if (found := mirror.typed(name)) is not None:
        return found
    table = catalog.read(connection, entity.source.table)
    if table is None:
        raise _unreadable(connection, name, entity.source.table)
    made = typed(name, entity, table, mirror.file.zone)
    mirror.learn(name, made)
    return made


def _unreadable(connection: sql.Connection, name: str, place: str) -> BridgeError:
    """Why the catalog does not show a table: it is not there, or not for us."""
    here = f"write in sync.yaml under `entities: {name}: source: table:` one that is there"
    says, do = "shows no such table", f"{here}, or grant SELECT on it"
    schema, _, table = place.rpartition(".")
    probe: sql.Select[Any] = sql.select(sql.literal_column("1")).select_from(
        sql.table(table, schema=schema or None)
    )
    try:
        with nested(connection):
            connection.execute(probe.limit(0))
    except sql.exc.DBAPIError as error:
        cause = cause_of(error, connection.engine.url)
        says, do = cause.says, here if cause.kind == "no table" else cause.do
    return BridgeError(f"entity {name}: {place} cannot be read, the database {says}: {do}")


def refresh(connection: sql.Connection, mirror: Mirror, names: Iterable[str]) -> list[str]:
    """Look whether the tables of these entities are what they were, and read those anew that are
    not; which. Raises as `learn` does: what was known is forgotten then."""
    changed = []
    for name in dict.fromkeys(names):
        if (known := mirror.typed(name)) is None:
            learn(connection, mirror, name)
        elif catalog.digest(connection, known.table.full_name) != known.table.digest:
            mirror.learn(name, None)
            learn(connection, mirror, name)
            changed.append(name)
    return changed
