"""Reading the types of an entity's table when they are needed, and noticing that they changed."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.sync.documents import Mirror
from bridge.sync.types import catalog
from bridge.sync.types.typed import Typed, typed

__all__ = ["learn", "refresh"]


def learn(connection: sql.Connection, mirror: Mirror, name: str) -> Typed | None:
    """The types of an entity, read once and kept in the mirror; None where it has no table.

    Raises BridgeError when the table is not there or does not fit sync.yaml, and SQLAlchemy's
    errors.
    """
    entity = mirror.entities[name]
    if entity.source is None or entity.source.table is None:
        return None
    if (found := mirror.typed(name)) is not None:
        return found
    table = catalog.read(connection, entity.source.table)
    if table is None:
        raise BridgeError(
            f"entity {name}: {entity.source.table} cannot be read: this database has no such "
            f"table, or this user may not see it. Write in sync.yaml under `entities: {name}: "
            "source: table:` one that is there, or grant SELECT on it"
        )
    made = typed(name, entity, table, mirror.file.zone)
    mirror.learn(name, made)
    return made


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
