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
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.database import reading
from bridge.queue.rows import is_true, version_of
from bridge.sync.documents import Mirror
from bridge.sync.models import Source
from bridge.sync.reconcile.checksums import NO_VERSION, Sums, add_all, in_buckets
from bridge.sync.reconcile.doubts import State
from bridge.sync.sql.expressions import as_text, bucket_in, sum_in
from bridge.sync.sql.keys import Key, after, candidates, key_text, one_of
from bridge.sync.sql.rows import Rows, fetch, trouble

__all__ = ["CHUNK", "KeyedRows", "Told"]

CHUNK = 20_000
"""Rows of one question. Larger ones gain little."""

AT_ONCE = 500
"""Keys of one question."""

NOT_ONE = NO_VERSION - 1
"""Of a row whose version is none: like no document, not even one without a version."""

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Told:
    """What SQL says of one key. owner: the key of the row whose event carries it, which is the
    parent's for a child."""

    state: State
    owner: str


class KeyedRows:
    """The rows of one entity, children included, by key and version.

    Every method raises BridgeError when sync.yaml names a table or column that is not there, and
    ServerAway when the database does not answer.
    """

    def __init__(self, engine: sql.Engine, name: str, mirror: Mirror) -> None:
        entity = mirror.entities[name]
        if entity.source is None:
            raise BridgeError(f"entity {name} has no source")
        self.name, self._engine = name, engine
        self._source = entity.source
        parent = mirror.parent_of.get(name)
        self._parent = None if parent is None else (parent, mirror.entities[parent].source)
        self._plan: _Plan | None = None

    def __repr__(self) -> str:
        return f"<KeyedRows {self.name}>"

    def in_database(self) -> bool:
        """Whether the database sums up, or the rows are read."""
        with self._errors():
            return self._look().server is not None

    def sums(self, progress: Progress = lambda rows: None, chunk: int = CHUNK) -> Sums:
        """All rows that are alive. `progress` is told how many rows more were looked at."""
        sums = Sums()
        with self._errors():
            plan = self._look()
            if plan.server is None:
                add_all(sums, plan.alive_batches(self._engine, chunk, None), progress)
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
    ) -> Iterator[tuple[str, int]]:
        """Key and version of the rows that are alive and in these buckets."""
        with self._errors():
            plan = self._look()
            batches = plan.alive_batches(self._engine, chunk, buckets)
            if plan.server is not None:
                for batch in batches:
                    progress(len(batch))
                    yield from batch
                return
            yield from in_buckets(batches, buckets, progress)

    def states(self, keys: Sequence[str]) -> dict[str, Told]:
        """What SQL has under these keys now; nothing of what it has no row for."""
        found: dict[str, Told] = {}
        with self._errors(), reading(self._engine) as connection:
            plan = self._learn(connection)
            kinds = plan.key_types(connection)
            if kinds is None:
                return found
            wanted = set(keys)
            asked: dict[int, dict[Key, None]] = {}
            for text in wanted:
                width, every = candidates(text, kinds)
                asked.setdefault(width, {}).update(dict.fromkeys(every))
            for width, these in asked.items():
                rest = list(these)
                for start in range(0, len(rest), AT_ONCE):
                    which = one_of(plan.order[:width], rest[start : start + AT_ONCE])
                    for row in fetch(connection, plan.rows().where(which)):
                        key, state, owner = plan.read(row)
                        if key in wanted:
                            found[key] = Told(state, owner)
        return found

    def without_key(self) -> int:
        """How many rows have no key at all, because one of its columns is NULL."""
        with self._errors(), reading(self._engine) as connection:
            plan = self._learn(connection)
            nameless = sql.or_(*(column.is_(None) for column in plan.order))
            counted = sql.select(sql.func.count()).select_from(plan.own).where(nameless)
            return int(fetch(connection, counted)[0][0])

    def count(self) -> int:
        """How many rows there are, for a progress bar."""
        with self._errors(), reading(self._engine) as connection:
            plan = self._learn(connection)
            return int(fetch(connection, sql.select(sql.func.count()).select_from(plan.own))[0][0])

    def _look(self) -> _Plan:
        with reading(self._engine) as connection:
            return self._learn(connection)

    def _learn(self, connection: sql.Connection) -> _Plan:
        if self._plan is None:
            own = _Side(connection, self.name, self._source, "c")
            parent = None
            if self._parent is not None:
                name, source = self._parent
                if source is None:
                    raise BridgeError(
                        f"entity {self.name} has the versions of its {name}, and {name} has no "
                        f"source: write one in sync.yaml under `entities: {name}: source:`"
                    )
                parent = _Side(connection, name, source, "p")
            self._plan = _Plan(own, parent, connection.dialect.name)
        return self._plan

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if (told := trouble(error, self.name, self._engine)) is None:
                raise
            self._plan = None  # columns may have changed
            raise told from error


class _Side:
    """One table or query, with the columns that matter."""

    def __init__(self, connection: sql.Connection, entity: str, source: Source, alias: str) -> None:
        rows = Rows(connection, entity, source)
        wanted = [column.name for column in rows.select().selected_columns]
        key = [column.name for column in rows.key]
        version = wanted[rows.version]
        deleted = None if rows.deleted is None else wanted[rows.deleted]
        names = list(dict.fromkeys([*key, version, *([deleted] if deleted else [])]))
        columns: list[Any] = [sql.column(name) for name in names]
        self.selectable: Any
        self.types: dict[str, Any] = {}
        if source.table is not None:
            schema, _, table = source.table.rpartition(".")
            self.selectable = sql.table(table, *columns, schema=schema or None).alias(alias)
            found = sql.inspect(connection).get_columns(table, schema or None)
            self.types = {column["name"]: column["type"] for column in found}
        else:
            query = (source.query or "").strip().rstrip(";").replace(":", r"\:")
            self.selectable = sql.text(f"{query}\n").columns(*columns).subquery(alias)
        self.key = [self.selectable.c[name] for name in key]
        self.version = self.selectable.c[version]
        self.deleted = None if deleted is None else self.selectable.c[deleted]

    def type_of(self, column: Any) -> Any:
        return self.types.get(column.name)


class _Server:
    """The expressions with which the database sums up."""

    def __init__(self, plan: _Plan, dialect: str, parts: Sequence[Any], alive: Sequence[Any]):
        text = parts[0]
        for part in parts[1:]:
            text = sql.func.concat(text, "/", part)
        # NULL makes no event; the row must be summed up to be found.
        version = sql.func.coalesce(as_text(plan.version, dialect), "")
        self.bucket = bucket_in(text, dialect)
        self._sum = sum_in(text, version, dialect)
        self.alive = sql.and_(*alive)
        self._source = plan.source

    def sums(self, where: sql.ColumnElement[bool]) -> sql.Select[Any]:
        rows = (
            sql.select(self.bucket.label("b"), self._sum.label("s"))
            .select_from(self._source)
            .where(where, self.alive)
            .subquery("t")
        )
        total = sql.func.sum(rows.c.s)
        return sql.select(rows.c.b, sql.func.count(), total).group_by(rows.c.b)


class _Plan:
    """How the rows of an entity are read: alone, or joined with those of the parent."""

    def __init__(self, own: _Side, parent: _Side | None, dialect: str) -> None:
        self.own = own.selectable
        self.order = own.key
        self.deleted = [side.deleted for side in (own, parent) if side and side.deleted is not None]
        if parent is None:
            self.key, self.owner_width, self.version = own.key, len(own.key), own.version
            self.source: Any = own.selectable
        else:
            self.owner_width = len(parent.key)
            # The text of the parent, which the database may take for equal when it is not.
            self.key = [*parent.key, *own.key[self.owner_width :]]
            self.version = parent.version
            same = zip(parent.key, own.key, strict=False)
            joined = sql.and_(*(theirs == ours for theirs, ours in same))
            self.source = own.selectable.join(parent.selectable, joined)
        self.named = sql.and_(*(column.is_not(None) for column in self.order))
        self.server = self._server(own, parent, dialect)
        self._kinds: list[type] | None = None

    def _server(self, own: _Side, parent: _Side | None, dialect: str) -> _Server | None:
        if dialect not in ("mysql", "mariadb", "postgresql"):
            return None
        sides = [own] if parent is None else [own, parent]
        types = {id(column): side.type_of(column) for side in sides for column in side.key}
        parts = []
        for column in self.key:
            if not (_is_integer(types[id(column)]) or _is_text(types[id(column)], dialect)):
                return None
            parts.append(as_text(column, dialect))
        if not _is_integer(sides[-1].type_of(self.version)):
            return None
        alive = []
        for side in sides:
            if side.deleted is not None:
                condition = _not_deleted(side.deleted, side.type_of(side.deleted), dialect)
                if condition is None:
                    return None
                alive.append(condition)
        return _Server(self, dialect, parts, [self.named, *alive])

    def rows(self) -> sql.Select[Any]:
        """SELECT of key, version, and the columns that say whether a row is deleted."""
        return sql.select(*self.key, self.version, *self.deleted).select_from(self.source)

    def read(self, row: Any) -> tuple[str, State, str]:
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
        alive = not any(is_true(value) for value in row[width + 1 :])
        key = key_text(row[:width])
        owner = key if width == self.owner_width else key_text(row[: self.owner_width])
        return key, State(version, alive, wrong), owner

    def ranges(self, engine: sql.Engine, chunk: int) -> Iterator[tuple[Key | None, Key | None]]:
        """From where, exclusive, to where, inclusive; None is the beginning and the end."""
        lower: Key | None = None
        while True:
            bound = sql.select(*self.order).where(self.named).order_by(*self.order)
            if lower is not None:
                bound = bound.where(after(self.order, lower))
            with reading(engine) as connection:
                found = fetch(connection, bound.limit(1).offset(chunk - 1))
            upper = tuple(found[0]) if found else None
            yield lower, upper
            if upper is None:
                return
            lower = upper

    def between(self, lower: Key | None, upper: Key | None) -> sql.ColumnElement[bool]:
        """That a row is in a range."""
        conditions = [self.named]
        if lower is not None:
            conditions.append(after(self.order, lower))
        if upper is not None:
            conditions.append(_up_to(self.order, upper))
        return sql.and_(*conditions)

    def alive_batches(
        self, engine: sql.Engine, chunk: int, buckets: frozenset[int] | None
    ) -> Iterator[list[tuple[str, int]]]:
        """Key and version of the rows that are alive; with `buckets`, only of those in them where
        the database can tell."""
        only: sql.ColumnElement[bool] = sql.true()
        if buckets is not None and self.server is not None:
            only = sql.and_(self.server.bucket.in_(sorted(buckets)), self.server.alive)
        for lower, upper in self.ranges(engine, chunk):
            with reading(engine) as connection:
                found = fetch(connection, self.rows().where(self.between(lower, upper), only))
            read = self.read
            batch = []
            for row in found:
                key, state, _ = read(row)
                if state.alive:
                    batch.append((key, state.version))
            yield batch

    def key_types(self, connection: sql.Connection) -> list[type] | None:
        """Python's types of the columns of the order; None while there is no row."""
        if self._kinds is None:
            first = sql.select(*self.order).where(self.named).limit(1)
            if found := fetch(connection, first):
                self._kinds = [type(value) for value in found[0]]
        return self._kinds


def _up_to(columns: Sequence[Any], key: Key) -> sql.ColumnElement[bool]:
    """That a row does not come after `key`."""
    first, *rest = columns
    start = after([first], key[:1])
    if not rest:
        return sql.not_(start)
    return sql.and_(sql.not_(start), sql.not_(after(columns, key)))


def _is_integer(kind: Any) -> bool:
    # With ZEROFILL the database's text has zeros that the number does not have.
    return isinstance(kind, sql.types.Integer) and not getattr(kind, "zerofill", False)


def _is_text(kind: Any, dialect: str) -> bool:
    if not isinstance(kind, sql.types.String) or isinstance(kind, sql.types.Enum | mysql.SET):
        return False
    # PostgreSQL pads CHAR for the client and not for its own functions.
    return not (dialect == "postgresql" and isinstance(kind, sql.types.CHAR))


def _not_deleted(column: Any, kind: Any, dialect: str) -> sql.ColumnElement[bool] | None:
    """What `bridge.queue.rows.is_true` denies; None where the database cannot tell."""
    if isinstance(kind, sql.types.Boolean):
        return sql.func.coalesce(column, sql.false()).is_(sql.false())
    if isinstance(kind, sql.types.Numeric | sql.types.Integer):
        return sql.func.coalesce(column, 0) == 0
    if isinstance(kind, sql.types.DateTime | sql.types.Date):
        if dialect == "postgresql":
            return sql.and_(column.is_(None))
        # MySQL's moment that is none.
        return sql.or_(column.is_(None), sql.cast(column, sql.CHAR(10)) == "0000-00-00")
    return None
