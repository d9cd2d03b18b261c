"""Rows that a foreign key changes, of which the log says nothing: found by the row that they refer
to. Pure.

`Cascade` is a foreign key that changes rows by itself. `Referred` reads the rows of the table that
it refers to: where one goes, or gets other values in the columns that are referred to, rows with
the old values are concerned, and with the new ones, under which ON UPDATE CASCADE may give them
another key. Where they are in a table of the mirror, these rows alone; where the way leads over
several tables, or the values are of a type in which equal ones may be written in several ways, all
rows of the entity.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bridge.errors import UndecodableMessage
from bridge.sync.log.charsets import Charsets
from bridge.sync.log.format import LogUnreadable, Rows
from bridge.sync.log.rows import Columns, Walk
from bridge.sync.log.sizes import Cell
from bridge.sync.log.tables import Shape
from bridge.sync.types.column import Column
from bridge.sync.types.rules import rule

__all__ = ["QUIET", "Below", "Cascade", "Cascaded", "Referred", "Target", "below", "is_exact"]

QUIET = ("RESTRICT", "NO ACTION")
"""Rules by which no row changes by itself."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Rows that the server changes by itself, without a word in its log, when a row that they refer
    to goes or gets another key.

    parent, child: schema and table. columns: of the parent; refers: of the child, in that order.
    deletes, updates: what becomes of the child's rows, as the server says: `CASCADE`, `SET NULL`.
    """

    parent: tuple[str, str]
    child: tuple[str, str]
    columns: tuple[str, ...]
    refers: tuple[str, ...]
    deletes: str
    updates: str

    @property
    def changes(self) -> bool:
        """Whether it does anything by itself."""
        return not (self.deletes in QUIET and self.updates in QUIET)


def is_exact(column: Column) -> bool:
    """Whether equal values of a column are written alike. Those of text need not be: a row that
    refers to `Vim` may say `vim`."""
    return column.type in _EXACT


_EXACT = frozenset(
    ("tinyint", "smallint", "mediumint", "int", "bigint", "year", "date", "uuid", "inet4", "inet6")
)


class Target(NamedTuple):
    """An entity whose rows go or change with those of another table. column: of that one, whose
    value they have in `field`; both empty where it is not known which rows these are."""

    entity: str
    column: str = ""
    field: str = ""


class Below(NamedTuple):
    """What hangs on a table: who, and on which of its columns."""

    targets: tuple[Target, ...]
    columns: tuple[str, ...]


class Cascaded(NamedTuple):
    """Rows of an entity that were changed without a word. field, value: they have it, or had it;
    an empty field: any of them."""

    entity: str
    field: str
    value: Any


def below(
    cascades: Iterable[Cascade],
    mirrored: Mapping[tuple[str, str], Mapping[str, Mapping[str, str]]],
) -> dict[tuple[str, str], Below]:
    """What hangs on each table. mirrored: table to its entities, and of each column to field."""
    direct: dict[tuple[str, str], list[Cascade]] = {}
    for one in cascades:
        if one.changes:
            direct.setdefault(one.parent, []).append(one)
    found: dict[tuple[str, str], Below] = {}
    for parent, ways in direct.items():
        targets: dict[Target, None] = {}
        for way in ways:
            for entity, fields in mirrored.get(way.child, {}).items():
                field = fields.get(way.refers[0], "") if len(way.refers) == 1 else ""
                column = way.columns[0] if field else ""
                targets[Target(entity, column, field)] = None
        for place in _further(parent, direct):
            targets |= {Target(entity): None for entity in mirrored.get(place, {})}
        if targets:
            columns = dict.fromkeys(name for way in ways for name in way.columns)
            found[parent] = Below(tuple(targets), tuple(columns))
    return found


def _further(
    parent: tuple[str, str], direct: Mapping[tuple[str, str], Sequence[Cascade]]
) -> Iterator[tuple[str, str]]:
    """The tables that are reached in more than one step."""
    seen: set[tuple[str, str]] = set()
    todo = [way.child for way in direct[parent]]
    while todo:
        for way in direct.get(todo.pop(), ()):
            if way.child not in seen:
                seen.add(way.child)
                todo.append(way.child)
                yield way.child


class Referred:
    """Reads which values vanish that rows of other tables refer to.

    shape: the table as the log describes it.
    columns: those that are referred to, as the database declares them; none where it is not known
        which these are, and every change counts.
    targets: who is concerned.

    Raises Misread where the one does not fit the other.
    """

    def __init__(
        self,
        shape: Shape,
        columns: Iterable[Column],
        dialect: str,
        targets: Sequence[Target],
        charsets: Charsets,
    ) -> None:
        self._targets = targets
        self._walk = Walk(shape, charsets)
        wanted: dict[int, Cell] = {}
        places = {one.name: self._walk.want(one, rule(one, dialect), wanted) for one in columns}
        self._columns = Columns(shape, wanted)
        self._at = {name: self._columns.index[place] for name, place in places.items()}

    def vanished(self, kind: Rows, body: bytes) -> list[Cascaded]:
        """What an event with rows takes away. Raises LogUnreadable, and PartsOfRows."""
        if kind.change == "insert":
            return []
        found: dict[Cascaded, None] = {}
        raw, at = self._walk.begin(kind, body)
        try:
            while at < len(raw):
                after = None
                before, at = self._columns.read(raw, at)
                if kind.change == "update":
                    after, at = self._columns.read(raw, at)
                found |= dict.fromkeys(self._of(before, after))
        except UndecodableMessage:
            return [Cascaded(one.entity, "", None) for one in self._targets]
        except (struct.error, IndexError) as error:
            raise LogUnreadable(f"an event with rows of the log is damaged: {error}") from None
        return list(found)

    def _of(self, before: Sequence[Any], after: Sequence[Any] | None) -> Iterator[Cascaded]:
        """What one row takes away."""
        if after == before and self._at:
            return
        for one in self._targets:
            if not one.column:
                yield Cascaded(one.entity, "", None)
                continue
            at = self._at[one.column]
            if before[at] is None or (after is not None and before[at] == after[at]):
                continue
            yield Cascaded(one.entity, one.field, before[at])
            if after is not None and after[at] is not None:
                yield Cascaded(one.entity, one.field, after[at])
