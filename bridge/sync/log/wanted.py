"""Who wants the rows of a table: the entities of sync.yaml whose changes come from the log, and the
readers that are made for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.sync.documents import Mirror
from bridge.sync.log.cascades import Below, Referred, Target, below, is_exact
from bridge.sync.log.charsets import Charsets
from bridge.sync.log.needs import cascades
from bridge.sync.log.rows import Reader
from bridge.sync.log.sizes import Misread
from bridge.sync.log.statements import touches
from bridge.sync.log.stream import Stopped
from bridge.sync.log.tables import Shape
from bridge.sync.models import Entity
from bridge.sync.sql.learn import learn, refresh
from bridge.sync.types import catalog
from bridge.sync.types.column import Table
from bridge.sync.types.typed import Typed

__all__ = ["Wanted", "compared", "of_the_log"]


def of_the_log(entities: Mapping[str, Entity]) -> dict[str, Entity]:
    """Those whose changes come from the log."""
    return {
        name: one
        for name, one in entities.items()
        if one.source is not None and one.source.log is True
    }


def compared(entities: Mapping[str, Entity]) -> dict[str, Entity]:
    """Those whose changes come another way, and are compared with what the log tells."""
    return {
        name: one
        for name, one in entities.items()
        if one.source is not None and one.source.log == "compare"
    }


class Wanted:
    """The tables of a mirror that are read from the log, as they are now. names: the entities that
    come from it; compared: those that are only compared.

    schema: the database that tables without one are in.
    charsets: of the server.
    folds: whether the server takes names of tables for the same whose letters differ in case.
    compares: whether those are read, too, that are only compared.
    """

    def __init__(
        self, mirror: Mirror, schema: str, charsets: Charsets, *, folds: bool, compares: bool
    ) -> None:
        self._mirror, self._charsets, self._folds = mirror, charsets, folds
        self.names = list(of_the_log(mirror.entities))
        self.compared = list(compared(mirror.entities)) if compares else []
        self._entities = {name: mirror.entities[name] for name in (*self.names, *self.compared)}
        self._at: dict[tuple[str, str], list[str]] = {}
        for name, entity in self._entities.items():
            table_name = "" if entity.source is None else entity.source.table or ""
            place, _, table = table_name.rpartition(".")
            self._at.setdefault(self._key(place or schema, table), []).append(name)
        self._wrong: dict[str, str] = {}
        self._below: dict[tuple[str, str], Below] = {}
        self._referred: dict[tuple[str, str], Table] = {}

    def _key(self, schema: str, table: str) -> tuple[str, str]:
        return (schema.casefold(), table.casefold()) if self._folds else (schema, table)

    def in_(self, schema: str, tables: tuple[str, ...] | None) -> list[str]:
        """The entities of what a statement is about, and those whose rows change with those of its
        tables: schema and tables as of `touches`."""
        found: dict[str, None] = {}
        for place, names in self._at.items():
            if touches(schema, tables, *place):
                found |= dict.fromkeys(names)
        for place, under in self._below.items():
            if touches(schema, tables, *place):
                found |= {one.entity: None for one in under.targets}
        return list(found)

    def refer(self, connection: sql.Connection) -> None:
        """Look which tables have rows that those of entities refer to, and go or change with.
        Raises SQLAlchemy's errors."""
        mirrored = {
            place: {name: self._columns_of(name) for name in names}
            for place, names in self._at.items()
        }
        found = [
            replace(one, parent=self._key(*one.parent), child=self._key(*one.child))
            for one in cascades(connection)
        ]
        self._below = below(found, mirrored)
        self._referred = {}
        for place in self._below:
            if (table := catalog.read(connection, ".".join(place))) is not None:
                self._referred[place] = table

    def _columns_of(self, entity: str) -> dict[str, str]:
        """Column to field of the data, of those by whose values rows can be found."""
        types = self._mirror.typed(entity)
        if types is None:
            return {}
        return {one.name: field for field, one in types.columns.items() if is_exact(one)}

    def learn(self, connection: sql.Connection, names: Iterable[str]) -> list[str]:
        """Look what the tables of entities are now; which are others than they were. What does not
        fit sync.yaml is kept in mind, and its rows are not read. Raises SQLAlchemy's errors."""
        changed = []
        for name in names:
            before = self._mirror.typed(name)
            try:
                if before is None:
                    learn(connection, self._mirror, name)
                else:
                    refresh(connection, self._mirror, [name])
                self._wrong.pop(name, None)
            except BridgeError as error:
                again = "after a change of sync.yaml, start `bridgectl capture` again"
                self._wrong[name] = f"{error}; {again}"
                self._mirror.learn(name, None)
            after = self._mirror.typed(name)
            if before is not None and not _same(before, after):
                changed.append(name)
        return changed

    def readers(self, shape: Shape) -> Sequence[Reader | Referred | Stopped]:
        """Who wants the rows of a table."""
        found: list[Reader | Referred | Stopped] = []
        for name in self._at.get(self._key(shape.schema, shape.table), ()):
            types, source = self._mirror.typed(name), self._entities[name].source
            assert source is not None
            if types is None:
                found.append(Stopped(name, self._wrong.get(name, "its table is not known")))
                continue
            try:
                found.append(Reader(shape, types, source, self._charsets))
            except Misread as error:
                found.append(Stopped(name, f"{types.table.full_name} {error}"))
        return [*found, *self._watchers(shape)]

    def _watchers(self, shape: Shape) -> Iterator[Referred]:
        """Who wants to know which rows of a table go, because others go with them."""
        place = self._key(shape.schema, shape.table)
        if (under := self._below.get(place)) is None:
            return
        table = self._referred.get(place)
        # A row that goes is one that is changed where the table keeps its history.
        asked = under.columns if table and not table.ends else ()
        found = [table.column(name) for name in asked] if table else []
        known = [one for one in found if one is not None]
        if len(known) == len(under.columns):
            with suppress(Misread):
                yield Referred(shape, known, "mysql", under.targets, self._charsets)
                return
        whole = [Target(one.entity) for one in under.targets]
        yield Referred(shape, (), "mysql", whole, self._charsets)


def _same(before: Typed, after: Typed | None) -> bool:
    """Whether documents that were made by the one are what the other makes."""
    if after is None or before.columns.keys() != after.columns.keys():
        return False
    return all(
        after.columns[field].declared == column.declared for field, column in before.columns.items()
    )
