"""What the triggers of a table note: whose key, and how SQL writes it. Pure.

A row of a child entity is a part of its parent: what is noted then is the key of the parent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql, postgresql, sqlite

from bridge.errors import BridgeError
from bridge.queue.sql.outbox import TOUCHED
from bridge.sync.documents import Mirror
from bridge.sync.types.column import Column, Table
from bridge.sync.types.typed import Typed, part_of_key
from bridge.sync.types.wire import key_in_sql

__all__ = [
    "MOST_KEY",
    "DatabaseObject",
    "TriggerSpec",
    "name_of",
    "needs_none",
    "noted",
    "quote",
    "with_triggers",
]

MOST_KEY = 1024
"""Characters of a key in the outbox. What is longer is the key of no event, and is cut."""
_LONGEST_NAME = 63  # of PostgreSQL; MySQL takes 64

# A percent sign is doubled only for drivers that look for parameters, and there are none.
_MAKERS: dict[str, Callable[..., sql.Dialect]] = {
    "mysql": mysql.dialect,
    "postgresql": postgresql.dialect,
    "sqlite": sqlite.dialect,
}
_DIALECTS = {name: make(paramstyle="named") for name, make in _MAKERS.items()}


@dataclass(frozen=True, slots=True)
class DatabaseObject:
    """One thing that the database has to hold: a trigger, or a function of PostgreSQL.

    create: the statements that make it, in place of what is there under its name. body: what the
    database shows of it afterwards, without regard to white space. drop: one statement.
    """

    name: str
    create: tuple[str, ...]
    body: str
    drop: str


@dataclass(frozen=True, slots=True)
class TriggerSpec:
    """What the triggers of a table note. entity: whose table it is. about: whose key is noted:
    its own, or that of its parent. outbox: its name, quoted. key: of the row of a name such as
    NEW, its text in SQL; columns: what it is made of. named: that such a row has a key, as a
    condition; empty where every row has one."""

    entity: str
    about: str
    table: Table
    outbox: str
    key: Callable[[str], str]
    columns: tuple[Column, ...]
    named: Callable[[str], str]

    @property
    def place(self) -> str:
        """The table, quoted."""
        return quote(self.table.dialect, self.table.schema, self.table.name)

    @property
    def type(self) -> str:
        """The `type` of the rows of the outbox."""
        return f"{self.about}{TOUCHED}"


def quote(dialect: str, *names: str | None) -> str:
    """Names with their quotes, joined by points; None is left out."""
    mark = "`" if dialect == "mysql" else '"'
    return ".".join(mark + name.replace(mark, mark * 2) + mark for name in names if name)


def name_of(entity: str, what: str) -> str:
    """The name of what is made for an entity; one that is too long has a hash in it."""
    name = f"bridge_{entity}_{what}"
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(entity.encode()).hexdigest()[:10]
    room = _LONGEST_NAME - len(f"bridge__{digest}_{what}")
    return f"bridge_{entity[:room]}_{digest}_{what}"


def needs_none(mirror: Mirror, name: str) -> str:
    """Why an entity needs no triggers, and what to change in sync.yaml to have some; empty where
    it needs them."""
    entity = mirror.entities[name]
    place = f"`entities: {name}: source:`"
    if entity.source is None:
        return f"it has no source: write in sync.yaml under {place} its table and key"
    if entity.source.table is None:
        return (
            "its rows are those of a query, which no trigger sees: keep its version, or write "
            f"under {place} a table"
        )
    parent = mirror.parent_of.get(name)
    if parent is None:
        if entity.source.owner == "beside":
            return ""
        if entity.source.owner == "log":
            return (
                "its changes and versions come from the database's log: to have triggers instead, "
                f"see `bridgectl sync owner {name} --to triggers`"
            )
        return (
            f"its version is the column {entity.source.version}, which the site raises: to have "
            f"versions beside the table, remove `version:` under {place}"
        )
    above = mirror.entities[parent].source
    if above is not None and above.table is not None and above.owner == "beside":
        return ""
    return f"it comes with its {parent}, which has a version of its own or no table"


def with_triggers(mirror: Mirror) -> list[str]:
    """The entities that need triggers."""
    return [name for name in mirror.entities if not needs_none(mirror, name)]


def noted(mirror: Mirror, types: Typed, outbox: str) -> TriggerSpec:
    """What is noted of the table of an entity whose types are known. outbox: quoted. Raises
    BridgeError for a key that the database cannot write."""
    name, dialect = types.entity, types.table.dialect
    about = mirror.parent_of.get(name, name)
    source = mirror.entities[about].source
    assert source is not None
    columns = [one.column for one in types.key[: len(source.key)]]
    _check_key(name, mirror, types, columns)

    def key(row: str) -> str:
        parts = []
        for column in columns:
            reference: Any = sql.literal_column(f"{row}.{quote(dialect, column.name)}")
            part = part_of_key(reference, dialect, column, _said(mirror, types, column))
            assert part is not None
            parts.append(part)
        text = key_in_sql(parts, dialect)
        assert text is not None
        made = text.compile(dialect=_DIALECTS[dialect], compile_kwargs={"literal_binds": True})
        return str(made)

    # Bytes that are no text of their character set MySQL gives as NULL.
    stored = dialect == "mysql" and any(
        said is not None and said.text for said in (_said(mirror, types, one) for one in columns)
    )
    nullable = [one.name for one in columns if one.nullable or dialect == "sqlite"]

    def named(row: str) -> str:
        conditions = [f"{row}.{quote(dialect, name)} IS NOT NULL" for name in nullable]
        return " AND ".join(conditions + ([f"{key(row)} IS NOT NULL"] if stored else []))

    return TriggerSpec(name, about, types.table, outbox, key, tuple(columns), named)


def _check_key(name: str, mirror: Mirror, types: Typed, columns: list[Column]) -> None:
    width = len(columns)
    if key_in_sql(types.key[:width], types.table.dialect) is None:
        named = ", ".join(column.name for column in columns)
        raise BridgeError(
            f"entity {name}: no trigger can write the key ({named}) of {types.table.full_name}, "
            "because its text is in a character set of its own: name another key, or a column "
            f"that grows with every change under `entities: {name}: source: version:`"
        )


def _said(mirror: Mirror, types: Typed, column: Column) -> Any:
    fields = mirror.entities[types.entity].fields
    return next((fields.get(field) for field, one in types.columns.items() if one == column), None)
