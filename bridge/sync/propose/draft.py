"""What of a table stands in sync.yaml, as far as its definition says. Pure.

What only its rows can say is added by `bridge.sync.propose.advice`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sql

from bridge.queue.sources import COLUMN
from bridge.sync.entities import STATE, TOMBSTONES
from bridge.sync.log.rows import names_rows
from bridge.sync.models import COLLECTION, Entity, Index
from bridge.sync.sql.versions import table as versions_table
from bridge.sync.types.column import Column, Table
from bridge.sync.types.rules import Unknown, rule
from bridge.sync.types.typed import part_of_key

__all__ = ["Draft", "Note", "draft", "why_not"]

_FIELD = re.compile(r"[^_$.\0][^.\0]*")
_WHOLE = re.compile(
    r"(?:tiny|small|medium|big|unsigned\s+big\s+)?int(?:eger)?[248]?\b|numeric|decimal",
    re.IGNORECASE,
)
_OURS = (versions_table().name,)
MOST_INDEXES = 60
"""MongoDB takes 64 for a collection."""
MOST_FIELDS = 31
"""MongoDB takes 32 in one index."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know. kind: for programs, `no-key`, `secret` …"""

    kind: str
    text: str


@dataclass(frozen=True)
class Draft:
    """An entity as it would stand in sync.yaml. said: what stands under its name, in that order.
    notes: what stands above it as comments."""

    name: str
    table: Table
    said: Mapping[str, Any]
    notes: tuple[Note, ...] = field(default=())

    @property
    def entity(self) -> Entity:
        """As sync.yaml would be read."""
        return Entity.model_validate(dict(self.said))


def why_not(table: Table, outbox: str, *, log: bool = False) -> Note | None:
    """Why a table cannot be mirrored; None where it can.

    outbox: the name of ours.
    log: whether its changes are to come from the database's log, which knows tables alone.
    """
    if table.name in (*_OURS, outbox.rpartition(".")[2]):
        return Note("ours", "it is the bridge's own")
    if "." in table.name or "\0" in table.name or len(table.name) > 128:
        other = "rename it" if log else "make a view of it, and name that"
        return Note("name", f"sync.yaml cannot have its name; {other}")
    if not (table.key or table.unique):
        other = "" if log else ", or write a `query:` with a key and a version"
        return Note(
            "no-key",
            "it has no primary key, and no unique index over columns that are never NULL, so that "
            f"nothing names its rows; add one{other}",
        )
    if not _key(table, log=log):
        keys = dict.fromkeys(name for one in (table.key, *table.unique) for name in one)
        names = ", ".join(f"{name} {_named(table, name).declared}" for name in keys)
        who = "the database does not find rows by its key ({}) again"
        if log and _key(table):
            who = "the log does not have the text of its key ({}); add another unique index"
        return Note("no-key", who.format(names))
    return None


def draft(table: Table, taken: Collection[str], version: str = "", *, log: bool = False) -> Draft:
    """The entity of a table for which `why_not` gives None.

    taken: names of entities and collections that are there already.
    version: the column that grows with every change, in tables that have it.
    log: whether its changes and versions come from the database's log.
    """
    name = _unused(_entity_name(table.name), taken)
    collection = table.name
    if not COLLECTION.fullmatch(collection) or collection.startswith("system."):
        collection = name
    if collection in taken or collection == STATE:
        collection = _unused(name, {*taken, STATE})
    key = _key(table, log=log)
    notes: list[Note] = []
    source: dict[str, Any] = {"table": table.full_name, "key": key[0] if len(key) == 1 else [*key]}
    column = table.column(version) if version else None
    if column is not None and _WHOLE.match(column.type) and not (column.scale or column.nullable):
        source["version"] = column.name
    if log:
        source["log"] = True
    ours = source.get("version")
    columns, renamed = _columns(table, ours, notes)
    if renamed:
        source["columns"] = columns
    said: dict[str, Any] = {"collection": collection, "source": source}
    unruled = [
        field for field, name in columns.items() if not _has_rule(table, _named(table, name))
    ]
    if unruled:
        said["drop"] = unruled
    for field_ in unruled:
        declared = _named(table, columns[field_]).declared
        text = f"`{field_}` is {declared}, which has no rule: it is dropped"
        other = "" if log else "; a `query:` can select it as text"
        notes.append(Note("no-rule", f"{text}{other}"))
    fields = {name: field for field, name in columns.items() if field not in unruled}
    if indexes := _indexes(table, key, fields):
        said["indexes"] = indexes
    return Draft(name, table, said, tuple(notes))


def _entity_name(table: str) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", table.lower()).strip("_") or "table"
    if not name[0].isalpha():
        name = f"t_{name}"
    return name[:64]


def _unused(name: str, taken: Collection[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name[:60]}_{number}"
    return found


def _key(table: Table, *, log: bool = False) -> tuple[str, ...]:
    """The columns that name a row: the primary key, or the shortest of the unique indexes."""
    for these in (table.key, *sorted(table.unique, key=lambda one: (len(one), one))):
        if these and all(_is_part(table, name, log=log) for name in these):
            return these
    return ()


def _is_part(table: Table, name: str, *, log: bool) -> bool:
    if not re.fullmatch(COLUMN, name):
        return False
    column = _named(table, name)
    if part_of_key(sql.column(name), table.dialect, column) is None:
        return False
    return not log or names_rows(column, table.dialect)


def _named(table: Table, name: str) -> Column:
    found = table.column(name)
    assert found is not None
    return found


def _has_rule(table: Table, column: Column) -> bool:
    try:
        rule(column, table.dialect)
    except Unknown:
        return False
    return True


def _columns(
    table: Table, version: str | None, notes: list[Note]
) -> tuple[dict[str, str], list[str]]:
    """Field to column, and the fields that are not called as their columns."""
    columns: dict[str, str] = {}
    renamed: list[str] = []
    names = {one.name for one in table.columns}
    for column in table.columns:
        if column.name == version:
            continue
        if column.hidden:
            text = f"`{column.name}` is INVISIBLE: it is left out unless `columns:` names it"
            notes.append(Note("hidden", text))
            continue
        if not re.fullmatch(COLUMN, column.name):
            notes.append(Note("name", f"{column.name!a} cannot be named in sync.yaml; left out"))
            renamed.append(column.name)
            continue
        name = column.name
        if not _FIELD.fullmatch(name):
            name = _unused(name.lstrip("_$.").replace(".", "_") or "field", names | {*columns})
            renamed.append(name)
            text = (
                f"a field cannot be called `{column.name}`, so it is `{name}`; so must PHP send it"
            )
            notes.append(Note("renamed", text))
        columns[name] = column.name
    return columns, renamed


def _indexes(table: Table, key: Sequence[str], fields: Mapping[str, str]) -> list[Any]:
    """What the database has indexes for, without what `_id` or a longer index does already."""
    wanted: dict[tuple[str, ...], bool] = {}
    unique = {*table.unique, table.key}
    foreign = tuple(one.columns for one in table.foreign)
    keys = (tuple(key), table.key) if len(key) > 1 else (table.key,)
    for columns in (*keys, *table.indexes, *foreign):
        if not columns or columns == key[:1] == tuple(key):
            continue
        these = tuple(fields.get(_named(table, one).name, "") for one in columns)
        if (
            all(these)
            and len(set(these)) == len(these) <= MOST_FIELDS
            and _are_plain(table, columns)
        ):
            wanted[these] = wanted.get(these, False) or _is_unique(table, columns, unique, key)
    kept = [
        (these, unique_)
        for these, unique_ in wanted.items()
        if unique_
        or not any(len(other) > len(these) and other[: len(these)] == these for other in wanted)
    ]
    said: list[Any] = []
    names = {TOMBSTONES}
    for these, unique_ in kept[:MOST_INDEXES]:
        try:
            index = Index.model_validate({"fields": list(these), "unique": unique_})
        except ValueError:
            continue
        if any(one.startswith(("-", "$")) for one in these) or index.name in names:
            continue
        names.add(index.name)
        plain: Any = these[0] if len(these) == 1 else [*these]
        said.append({"fields": [*these], "unique": True} if unique_ else plain)
    return said


def _are_plain(table: Table, columns: Sequence[str]) -> bool:
    """Whether no value is a list: MongoDB indexes the members of one each by itself."""
    return all(rule(_named(table, one), table.dialect).family.kind != "json" for one in columns)


def _is_unique(
    table: Table, columns: Sequence[str], unique: Collection[tuple[str, ...]], key: Sequence[str]
) -> bool:
    """Whether two rows cannot become documents with the same values.

    The key is the `_id`, which is unique by itself. A collation that takes more for equal than
    MongoDB does harms nothing. Columns that can be NULL, and types whose documents hold less than
    the database, do.
    """
    if tuple(columns) not in unique or tuple(columns) == tuple(key):
        return False
    kinds = set()
    for name in columns:
        column = _named(table, name)
        kinds.add(rule(column, table.dialect).family.kind)
        if column.nullable:
            return False
    return kinds <= {"integer", "decimal", "string", "boolean", "binary"}
