"""Reading an entity from the site's SQL database: row by row in the order of its key, or by key.

Each row becomes the event that its PHP producer would have sent. Only short transactions that
read, and never a lock that the site's writers would wait for. What the columns are is
`bridge.sync.sql.rows`; what is done with the events is left to the callers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.events import Event
from bridge.queue.rows import AS_THEY_ARE, is_true, plain, to_json, version_of
from bridge.sync.documents import Mirror
from bridge.sync.sql.keys import (
    Key,
    Position,
    after,
    candidates,
    from_position,
    key_text,
    one_of,
    to_position,
)
from bridge.sync.sql.rows import Rows, fetch, trouble

__all__ = ["BadRow", "Chunk", "Position", "SqlSource"]

AT_ONCE = 500
"""Keys in one question: beyond 1000 MariaDB makes a table of them."""

SOURCE = "/bridge/sql"
"""The `source` of the events."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that no event can be made of. raw: it as JSON. error: why. key: its key text."""

    raw: bytes
    error: str
    key: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows in the order of their key.

    rows: how many were read; fewer than were asked for means that these were the last ones.
    last: the position of the last one, to go on after; None when there was no row.
    """

    events: list[Event]
    bad: list[BadRow]
    last: Position | None
    rows: int


class SqlSource:
    """The rows of one entity, with those of its children.

    name: the entity in sync.yaml. rewrite: whether the events also replace the same version.

    Raises BridgeError when the entity has no source or is a child; every method raises
    BridgeError when sync.yaml names a table or column that is not there, and ServerAway when
    the database does not answer.
    """

    def __init__(
        self, engine: sql.Engine, name: str, mirror: Mirror, *, rewrite: bool = False
    ) -> None:
        if name not in mirror.entities:
            known = ", ".join(sorted(mirror.entities)) or "none"
            raise BridgeError(f"sync.yaml has no entity {name}; it has: {known}")
        entity = mirror.entities[name]
        if entity.source is None:
            raise BridgeError(
                f"entity {name} has no source: write in sync.yaml under `entities: {name}: "
                "source:` the table with its key and version"
            )
        self.name, self.source = name, entity.source
        self._engine, self._mirror, self.rewrite = engine, mirror, rewrite
        self._lead = engine.dialect.name == "sqlite"
        self._rows: Rows | None = None
        self._children: list[tuple[str, Rows]] = []
        self._kinds: list[type] | None = None
        self._child_sources = []
        for field, child in entity.children.items():
            source = mirror.entities[child.entity].source
            if source is None:
                raise BridgeError(
                    f"entity {child.entity} has no source, and {name} cannot be read without the "
                    f"rows of its {field}: write in sync.yaml under `entities: {child.entity}: "
                    "source:` the table with its key and version"
                )
            if len(source.key) <= len(entity.source.key):
                raise BridgeError(
                    f"entity {child.entity}: its key must begin with the columns that name its "
                    f"{name}; write in sync.yaml under `entities: {child.entity}: source: key:` "
                    f"{len(entity.source.key)} columns for the {name}, and its own after them"
                )
            self._child_sources.append((field, child.entity, source))

    def __repr__(self) -> str:
        where = self._engine.url.render_as_string()
        return f"<SqlSource {self.name} in {self.source.table or 'a query'} at {where}>"

    def count(self) -> int:
        """How many rows there are, deleted ones included."""
        with self._view() as (connection, rows):
            counted = sql.select(sql.func.count()).select_from(rows.origin)
            return int(fetch(connection, counted)[0][0])

    def chunk(self, after_: Position | None, size: int) -> Chunk:
        """Up to `size` rows after a position, from the beginning for None.

        A row without a key has no place in the order: all such rows are among the bad ones of
        the first chunk, up to `size` of them.

        Raises ValueError for a position that is not of this source's key.
        """
        with self._view() as (connection, rows):
            found: list[Any] = []
            if after_ is None:
                nameless = sql.or_(*(column.is_(None) for column in rows.key))
                found = fetch(connection, rows.select().where(nameless).limit(size))
            headless = len(found)
            ordered = rows.select().order_by(*rows.key).limit(size)
            if after_ is None:
                ordered = ordered.where(*(column.is_not(None) for column in rows.key))
            else:
                key = from_position(after_)
                if len(key) != len(rows.key):
                    raise ValueError(f"a position of {len(key)} columns, not {len(rows.key)}")
                ordered = ordered.where(after(rows.key, key))
            found += fetch(connection, ordered)
            events, bad = self._events(connection, rows, found)
        count = len(found) - headless
        last = to_position(rows.key_of(found[-1])) if count else None
        return Chunk(events, bad, last, count)

    def by_keys(self, keys: Sequence[str]) -> list[Event]:
        """The events of the rows that have these key texts; of what is not there, none.

        A row of which no event can be made gives none; `rows_by_keys` tells it apart.
        """
        return self.rows_by_keys(keys)[0]

    def rows_by_keys(self, keys: Sequence[str]) -> tuple[list[Event], list[BadRow]]:
        """The same, and the rows that no event can be made of."""
        events: list[Event] = []
        bad: list[BadRow] = []
        with self._view() as (connection, rows):
            for these in self._having(connection, rows, keys, rows.select(), rows.key_of):
                good, wrong = self._events(connection, rows, these)
                events += good
                bad += wrong
        return events, bad

    def existing(self, keys: Sequence[str]) -> set[str]:
        """Which of these key texts have a row, be it marked as deleted or not."""
        with self._view() as (connection, rows):
            only_keys = sql.select(*rows.key).select_from(rows.origin)
            found = self._having(connection, rows, keys, only_keys, tuple)
            return {key_text(row) for these in found for row in these}

    def _having(
        self,
        connection: sql.Connection,
        rows: Rows,
        keys: Sequence[str],
        select: sql.Select[Any],
        key_of: Callable[[Any], Key],
    ) -> Iterator[list[Any]]:
        """What `select` gives of the rows with these key texts, each once, in batches."""
        if not (kinds := self._key_types(connection, rows)):
            return
        wanted = set(keys)
        asked: dict[int, dict[Key, None]] = {}
        for text in wanted:
            width, found = candidates(text, kinds)
            asked.setdefault(width, {}).update(dict.fromkeys(found))
        seen: set[Key] = set()
        for width, every in asked.items():
            for some in _batches(list(every)):
                these = []
                which = one_of(rows.key[:width], some, lead=self._lead)
                for row in fetch(connection, select.where(which)):
                    key = key_of(row)
                    if key not in seen and key_text(key) in wanted:
                        seen.add(key)
                        these.append(row)
                yield these

    @contextmanager
    def _view(self) -> Iterator[tuple[sql.Connection, Rows]]:
        """A transaction that sees one moment of the database, and the columns to read."""
        try:
            with self._engine.connect() as connection:
                options: dict[str, Any] = {"only_reads": True}
                if self._child_sources and connection.dialect.name != "sqlite":
                    # A row and those of its children must be of the same moment.
                    options["isolation_level"] = "REPEATABLE READ"
                connection = connection.execution_options(**options)
                with connection.begin():
                    yield connection, self._learn(connection)
        except Exception as error:
            if (told := trouble(error, self.name, self._engine)) is None:
                raise
            self._rows = None  # columns may have changed
            raise told from error

    def _learn(self, connection: sql.Connection) -> Rows:
        if self._rows is None:
            self._children = [
                (field, Rows(connection, child, source))
                for field, child, source in self._child_sources
            ]
            self._rows = Rows(connection, self.name, self.source)
        return self._rows

    def _key_types(self, connection: sql.Connection, rows: Rows) -> list[type] | None:
        """Python's types of the key columns; None while there is no row."""
        if self._kinds is None:
            named = [column.is_not(None) for column in rows.key]
            first = fetch(connection, sql.select(*rows.key).where(*named).limit(1), rows.origin)
            if first:
                self._kinds = [type(value) for value in first[0]]
        return self._kinds

    def _events(
        self, connection: sql.Connection, rows: Rows, found: Sequence[Any]
    ) -> tuple[list[Event], list[BadRow]]:
        entity, rewrite, key_of, deleted = self.name, self.rewrite, rows.key_of, rows.deleted
        names, values_of, at = rows.names, rows.values_of, rows.version
        lists = [
            (field, self._members(connection, rows, child, found))
            for field, child in self._children
        ]
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        batch = uuid.uuid4().hex
        events: list[Event] = []
        bad: list[BadRow] = []
        for number, row in enumerate(found):
            key = key_of(row)
            try:
                if None in key:
                    raise UndecodableMessage("a key column is NULL")
                version = row[at] if type(row[at]) is int else version_of(row[at])
                if gone := deleted is not None and is_true(row[deleted]):
                    data = None
                else:
                    data = {
                        name: value if type(value) in AS_THEY_ARE else plain(value)
                        for name, value in zip(names, values_of(row), strict=True)
                    }
                    for field, members in lists:
                        data[field] = members.get(key, [])
                events.append(
                    Event(
                        entity,
                        "deleted" if gone else "changed",
                        key_text(key),
                        version,
                        data,
                        f"{batch}.{number}",
                        SOURCE,
                        now,
                        rewrite,
                    )
                )
            except UndecodableMessage as error:
                whole = rows.whole(row) | {field: members.get(key, []) for field, members in lists}
                raw = to_json(whole).encode("utf-8", "surrogateescape")
                bad.append(BadRow(raw, f"{rows.place}: {error}", key_text(key)))
        return events, bad

    def _members(
        self, connection: sql.Connection, rows: Rows, child: Rows, found: Sequence[Any]
    ) -> dict[Key, list[dict[str, Any]]]:
        """The rows of a child entity that belong to these rows, by the key of those."""
        keys = [key for key in map(rows.key_of, found) if None not in key]
        width = len(rows.key)
        lists: dict[Key, list[dict[str, Any]]] = {}
        for some in _batches(keys):
            theirs = self._members_of(connection, child, width, some)
            if not theirs.keys() <= set(some):
                # What the database takes for equal has another text, as in "vim" and "VIM".
                # Whom each belongs to is then the database's to say.
                theirs = {}
                for key in some:
                    for members in self._members_of(connection, child, width, [key]).values():
                        theirs.setdefault(key, []).extend(members)
            lists |= theirs
        return lists

    def _members_of(
        self, connection: sql.Connection, child: Rows, width: int, keys: Sequence[Key]
    ) -> dict[Key, list[dict[str, Any]]]:
        theirs = one_of(child.key[:width], keys, lead=self._lead)
        which = child.select().where(theirs).order_by(*child.key)
        names, values_of, deleted = child.names, child.values_of, child.deleted
        lists: dict[Key, list[dict[str, Any]]] = {}
        for row in fetch(connection, which):
            if deleted is None or not is_true(row[deleted]):
                member = {
                    name: value if type(value) in AS_THEY_ARE else _member_value(value)
                    for name, value in zip(names, values_of(row), strict=True)
                }
                lists.setdefault(child.key_of(row)[:width], []).append(member)
        return lists


def _member_value(value: Any) -> Any:
    try:
        return plain(value)
    except UndecodableMessage:
        # No event takes a surrogate: the row of the parent is refused, and says where.
        return "\udcff"


def _batches(keys: Sequence[Key]) -> Iterator[Sequence[Key]]:
    for start in range(0, len(keys), AT_ONCE):
        yield keys[start : start + AT_ONCE]
