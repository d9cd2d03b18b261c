"""Keys and versions of the rows of one entity, summed up per bucket by the database where it can.

Where the key is whole numbers and texts in a table, MySQL, MariaDB and PostgreSQL compute the
sums, and only those travel. Everything else (SQLite, queries, keys of other types) is read, two or
three columns a row, and summed up here: the same numbers, in about the same time. The order of
rows is that of the key, in short transactions that only read.

A child entity has no versions of its own: its rows are joined with those of its parent, as they
are in the parent's event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.sql.database import reading
from bridge.queue.sql.values import is_true, version_of
from bridge.sync.checksums import NO_VERSION, Listed, Sums, add_all, listed
from bridge.sync.documents import Mirror
from bridge.sync.doubts import KeyState
from bridge.sync.sql import versions
from bridge.sync.sql.expressions import bucket_in, sum_in
from bridge.sync.sql.keys import Key, after, from_position, position, up_to
from bridge.sync.sql.learn import refresh
from bridge.sync.sql.moments import Reading, at_one_moment
from bridge.sync.sql.rows import KEYS_PER_QUESTION, Lookup, Rows, as_bridge_error, fetch
from bridge.sync.types.catalog import dialect_of
from bridge.sync.types.column import Column
from bridge.sync.types.keys import join
from bridge.sync.types.wire import as_text, key_in_sql
from bridge.units import in_portions

__all__ = ["CHUNK", "KeyedRows", "RowState"]

CHUNK = 20_000
"""Rows of one question. Larger ones gain little."""

NOT_ONE = NO_VERSION - 1
"""Of a row whose version is none: like no document, not even one without a version."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RowState:
    """What SQL says of one key. owner: the key of the row whose event carries it, which is the
    parent's for a child. rows: how many have the key; 0 where only the table of versions knows
    of it."""

    state: KeyState
    owner: str
    rows: int = 1


class KeyedRows:
    """The rows of one entity, children included, by key and version.

    name: the entity.
    reading: how the rows of an entity of the log are read, which `states` needs. Where they are
        only counted and listed, all have ONE_VERSION.

    Every method raises BridgeError when sync.yaml names a table or column that is not there, and
    ServerAway when the database does not answer.
    """

    def __init__(
        self, engine: sql.Engine, name: str, mirror: Mirror, reading: Reading | None = None
    ) -> None:
        entity = mirror.entities[name]
        if entity.source is None:
            raise BridgeError(f"entity {name} has no source")
        self.name, self._engine, self._mirror = name, engine, mirror
        self._reading, self._in_log = reading, entity.source.owner == "log"
        self._plan: _Plan | None = None

    def __repr__(self) -> str:
        return f"<KeyedRows {self.name}>"

    def sums(self, progress: Progress = lambda rows: None, chunk: int = CHUNK) -> Sums:
        """All rows that are alive. `progress` is told how many rows more were looked at."""
        sums = Sums()
        with self._errors():
            plan = self._look()
            if plan.server is None:
                add_all(sums, plan.alive_batches(self._engine, chunk), progress)
                return sums
            for lower, upper in plan.ranges(self._engine, chunk):
                with reading(self._engine) as connection:
                    found = fetch(connection, plan.server.sums(plan.between(lower, upper)))
                rows = 0
                for bucket, count, total in found:
                    sums.add_bucket(int(bucket), int(count), int(total))
                    rows += int(count)
                progress(rows)
        return sums

    def keys(
        self, buckets: frozenset[int], progress: Progress = lambda rows: None, chunk: int = CHUNK
    ) -> Iterator[Listed]:
        """The rows that are alive and in these buckets, as they are in the sums."""
        with self._errors():
            yield from self._look().listed(self._engine, chunk, buckets, progress)

    def states(self, keys: Sequence[str]) -> tuple[dict[str, RowState], dict[str, str]]:
        """What SQL has under these keys now, nothing of what it has no row for, unless versions
        are beside the table and it knows more; and those keys that no row can have, each with the
        reason. Of these nothing is known.

        Of an entity of the log every key has a state, with the version of this look: its row was
        so in a version up to that, and nobody knows in which."""
        with self._errors():
            if self._in_log:
                ask = partial(self._states, keys)
                return at_one_moment(self._reading, self._engine, self.name, ask)
            with reading(self._engine) as connection:
                return self._states(keys, connection, None)

    def _states(
        self, keys: Sequence[str], connection: sql.Connection, version: int | None
    ) -> tuple[dict[str, RowState], dict[str, str]]:
        found: dict[str, RowState] = {}
        plan = self._learn(connection)
        lookup = Lookup(plan.own, keys)
        for rows in lookup.batches(connection, plan.rows(), plan.key_of):
            for row in rows:
                key, state, owner = plan.read(row)
                if version is not None:
                    state = replace(state, version=version, least=0)
                if (other := found.get(key)) is None:
                    found[key] = RowState(state, owner)
                else:
                    found[key] = replace(other, rows=other.rows + 1)
        rowless = [key for key in keys if key not in found and key not in lookup.unlookable]
        if version is not None:
            gone = KeyState(version, False, row=False, least=0)
            found |= {key: RowState(gone, key, 0) for key in rowless}
        elif plan.own.beside and plan.is_its_own:
            found |= self._deleted(connection, rowless)
        return found, lookup.unlookable

    def _deleted(self, connection: sql.Connection, keys: Sequence[str]) -> dict[str, RowState]:
        """Of keys without a row: the versions of their deletions, and how high one can be."""
        if not keys:
            return {}
        base = versions.base_of(connection, self.name) or 0
        entries: dict[str, int] = {}
        for some in in_portions(keys, KEYS_PER_QUESTION):
            asked = versions.entry_of(self.name, some, dialect_of(connection))
            for id, version in fetch(connection, asked):
                text = id.decode("utf-8", "surrogateescape") if isinstance(id, bytes) else id
                entries[text] = int(version)
        found = {}
        for key in keys:
            version = entries.get(key, NO_VERSION)
            state = KeyState(version, False, row=False, most=max(version, base))
            found[key] = RowState(state, key, 0)
        return found

    def without_key(self) -> int:
        """How many rows have no key at all, because one of its columns is NULL."""
        with self._errors(), reading(self._engine) as connection:
            own = self._learn(connection).own
            return own.count(connection, sql.not_(own.named()))

    def count(self) -> int:
        """How many rows there are, for a progress bar."""
        with self._errors(), reading(self._engine) as connection:
            return self._learn(connection).own.count(connection)

    def _look(self) -> _Plan:
        with reading(self._engine) as connection:
            plan = self._learn(connection)
            if refresh(connection, self._mirror, plan.typed):
                self._plan = None
            return self._learn(connection)

    def _learn(self, connection: sql.Connection) -> _Plan:
        if self._plan is None:
            parent = self._mirror.parent_of.get(self.name)
            above = None
            if parent is not None:
                if self._mirror.entities[parent].source is None:
                    raise BridgeError(
                        f"entity {self.name} has the versions of its {parent}, and {parent} has no "
                        f"source: write one in sync.yaml under `entities: {parent}: source:`"
                    )
                above = Rows(connection, self._mirror, parent)
            own = Rows(connection, self._mirror, self.name)
            self._plan = _Plan(own, above)
        return self._plan

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if (told := as_bridge_error(error, self.name, self._engine)) is None:
                raise
            self._plan = None  # columns may have changed
            if self._mirror.typed(self.name) is not None:
                self._mirror.learn(self.name, None)
            raise told from error


class _Server:
    """The expressions with which the database sums up."""

    def __init__(self, plan: _Plan, text: Any, alive: Sequence[Any], dialect: str) -> None:
        # NULL makes no event; the row must be summed up to be found.
        version = sql.func.coalesce(as_text(plan.version, dialect), "")
        self.bucket = bucket_in(text, dialect)
        self.sum = sum_in(text, version, dialect)
        self.alive = sql.and_(*alive)
        self._source = plan.source

    def sums(self, where: sql.ColumnElement[bool]) -> sql.Select[Any]:
        rows = (
            sql.select(self.bucket.label("b"), self.sum.label("s"))
            .select_from(self._source)
            .where(where, self.alive)
            .subquery("t")
        )
        total = sql.func.sum(rows.c.s)
        return sql.select(rows.c.b, sql.func.count(), total).group_by(rows.c.b)


class _Plan:
    """How the rows of an entity are read: alone, or joined with those of the parent."""

    def __init__(self, own: Rows, parent: Rows | None) -> None:
        self.own = own
        self.is_its_own = parent is None
        self.typed = [side.entity for side in (own, parent) if side and side.types is not None]
        self.deleted = [side.deleted for side in (own, parent) if side and side.deleted is not None]
        self.owner_width = len((parent or own).key)
        if parent is None:
            self.key, self.version = own.key, own.version
            self.source: Any = own.origin
        else:
            # The text of the parent, which the database may take for equal when it is not.
            self.key = [*parent.key, *own.key[self.owner_width :]]
            self.version = parent.version
            same = zip(parent.key, own.key, strict=False)
            on = sql.and_(*(theirs.left == ours.left for theirs, ours in same))
            self.source = parent.origin.join(own.table, on)
        self.named = own.named()
        self.server = self._server([own] if parent is None else [own, parent], own.dialect)

    def _server(self, sides: Sequence[Rows], dialect: str) -> _Server | None:
        if dialect not in ("mysql", "postgresql") or any(side.types is None for side in sides):
            return None
        if (text := key_in_sql(self.key, dialect)) is None:
            return None
        last = sides[-1]
        if not (last.beside or last.in_log):
            version = _column(last, str(last.version.name))
            # With ZEROFILL the database's text has zeros that the number does not have.
            if version.type not in _INTEGERS or version.zerofill:
                return None
        alive = []
        for side in sides:
            if side.deleted is not None:
                kind = _column(side, side.deleted.name)
                condition = _not_deleted(side.deleted, kind, dialect)
                if condition is None:
                    return None
                alive.append(condition)
        return _Server(self, text, [self.named, *alive], dialect)

    def rows(self) -> sql.Select[Any]:
        """SELECT of key, version, and the columns that say whether a row is deleted."""
        key = [column.printed for column in self.key]
        own = [column.printed for column in self.own.key]
        return sql.select(*key, self.version, *self.deleted, *own).select_from(self.source)

    def key_of(self, row: Any) -> tuple[Any, ...]:
        """The own key columns of a row that `rows` gives."""
        return tuple(row[-len(self.own.key) :])

    def read(self, row: Any) -> tuple[str, KeyState, str]:
        """Key, state and key of the owner of a row that `rows` gives."""
        width = len(self.key)
        found = row[width]
        if type(found) is int and found >= 0:
            version, wrong = found, ""
        else:
            try:
                version, wrong = version_of(found), ""
            except UndecodableMessage as error:
                version, wrong = NOT_ONE, str(error)
        alive = not any(is_true(value) for value in row[width + 1 : width + 1 + len(self.deleted)])
        try:
            texts = [one.text(value) for one, value in zip(self.key, row, strict=False)]
        except UndecodableMessage as error:
            texts, wrong = [ascii(value) for value in row[:width]], str(error)
        key = join(texts)
        owner = key if width == self.owner_width else join(texts[: self.owner_width])
        return key, KeyState(version, alive, wrong), owner

    def ranges(self, engine: sql.Engine, chunk: int) -> Iterator[tuple[Key | None, Key | None]]:
        """From where, exclusive, to where, inclusive; None is the beginning and the end."""
        lower: Key | None = None
        key = self.own.key
        while True:
            bound = self.own.select_keys().where(self.named).order_by(*self.own.order())
            if lower is not None:
                bound = bound.where(after(key, lower))
            with reading(engine) as connection:
                found = fetch(connection, bound.limit(1).offset(chunk - 1))
            upper = from_position(key, position(key, found[0])) if found else None
            yield lower, upper
            if upper is None:
                return
            lower = upper

    def between(self, lower: Key | None, upper: Key | None) -> sql.ColumnElement[bool]:
        """That a row is in a range."""
        conditions = [self.named]
        if lower is not None:
            conditions.append(after(self.own.key, lower))
        if upper is not None:
            conditions.append(up_to(self.own.key, upper))
        return sql.and_(*conditions)

    def alive_batches(self, engine: sql.Engine, chunk: int) -> Iterator[list[tuple[str, int]]]:
        """Key and version of the rows that are alive."""
        for found in self._batches(engine, chunk, self.rows()):
            states = map(self.read, found)
            yield [(key, state.version) for key, state, _ in states if state.alive]

    def listed(
        self, engine: sql.Engine, chunk: int, buckets: frozenset[int], progress: Progress
    ) -> Iterator[Listed]:
        """The rows of some buckets that are alive. `progress` is told how many were looked at."""
        select = self.rows()
        server = self.server
        if server is not None:
            # In front of the key columns, which are the last ones.
            select = sql.select(server.bucket, server.sum, *select.selected_columns)
            only = sql.and_(server.bucket.in_(sorted(buckets)), server.alive)
            select = select.select_from(self.source).where(only)
        for found in self._batches(engine, chunk, select):
            for row in found:
                bucket, total, *rest = row if server is not None else (0, 0, *row)
                key, state, _ = self.read(rest)
                if not state.alive:
                    continue
                one = listed(key, state.version, state.wrong)
                if server is not None:
                    one = one._replace(bucket=int(bucket), sum=int(total))
                if one.bucket in buckets:
                    yield one
            progress(len(found))

    def _batches(
        self, engine: sql.Engine, chunk: int, select: sql.Select[Any]
    ) -> Iterator[list[Any]]:
        for lower, upper in self.ranges(engine, chunk):
            with reading(engine) as connection:
                yield fetch(connection, select.where(self.between(lower, upper)))


def _column(rows: Rows, name: str) -> Column:
    assert rows.types is not None
    found = rows.types.table.column(name)
    assert found is not None
    return found


_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint", "int2", "int4", "int8"})
_NUMBERS = _INTEGERS | {"decimal", "numeric", "float", "double", "float4", "float8"}
_MOMENTS = frozenset({"datetime", "timestamp", "timestamptz", "date"})


def _not_deleted(column: Any, kind: Column, dialect: str) -> sql.ColumnElement[bool] | None:
    """What `bridge.queue.sql.values.is_true` denies; None where the database cannot tell."""
    if kind.type == "bool":
        return sql.func.coalesce(column, sql.false()).is_(sql.false())
    if kind.type in _NUMBERS:
        return sql.func.coalesce(column, sql.literal_column("0")) == sql.literal_column("0")
    if kind.type in _MOMENTS:
        if dialect == "postgresql":
            return sql.and_(column.is_(None))
        # MySQL's moment that is none.
        return sql.or_(column.is_(None), sql.cast(column, sql.CHAR(10)) == "0000-00-00")
    return None
