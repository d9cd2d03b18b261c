"""Reading an entity from the site's SQL database: row by row in the order of its key, or by key.

Each row becomes the event that its PHP producer would have sent. Only short transactions that
read, and never a lock that the site's writers would wait for. What the columns are is
`bridge.sync.sql.rows`; what is done with the events is left to the callers.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sql

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.events import Event
from bridge.queue.sql.database import at_level
from bridge.queue.sql.values import is_true, to_json, version_of
from bridge.settings import redact_url
from bridge.sync.documents import Mirror
from bridge.sync.sql.keys import Key, Position, after, from_position, keys_of, one_of, position
from bridge.sync.sql.learn import refresh
from bridge.sync.sql.moments import Reading, at_one_moment
from bridge.sync.sql.rows import KEYS_PER_QUESTION, Lookup, Rows, as_bridge_error, fetch
from bridge.sync.types.keys import Unlookable
from bridge.sync.types.typed import Typed
from bridge.units import in_portions

__all__ = ["BadRow", "Chunk", "Existing", "Position", "SqlSource"]

T = TypeVar("T")

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

    rows: how many were read; fewer than were asked for means that these were the last ones. There
    are more where the last ones have a key that the database takes for the same.
    last: the position of the last one, to go on after; None when there was no row.
    """

    events: list[Event]
    bad: list[BadRow]
    last: Position | None
    rows: int


class Existing(NamedTuple):
    """Which of some keys have a row, be it marked as deleted or not, and which no row can have,
    each with the reason: of these nothing is known. version: of this very answer, of an entity of
    the log; None of others."""

    there: set[str]
    unlookable: dict[str, str]
    version: int | None = None


class SqlSource:
    """The rows of one entity, with those of its children.

    name: the entity in sync.yaml.
    rewrite: whether the events also replace the same version.
    sender: their `source`.
    reading: how the rows of an entity of the log are read, which it needs for events and for
        `existing`.

    Raises BridgeError when the entity has no source or is a child; every method raises
    BridgeError when sync.yaml names a table or column that is not there, and ServerAway when
    the database does not answer.
    """

    def __init__(
        self,
        engine: sql.Engine,
        name: str,
        mirror: Mirror,
        *,
        rewrite: bool = False,
        sender: str = SOURCE,
        reading: Reading | None = None,
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
        self._sender, self.reading = sender, reading
        self._lead = engine.dialect.name == "sqlite"
        self._rows: Rows | None = None
        self._children: list[tuple[str, Rows]] = []
        self._types: list[Typed | None] = []
        self._child_sources: list[tuple[str, str]] = []
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
            self._child_sources.append((field, child.entity))

        self._names = [name, *(child for _, child in self._child_sources)]

    def __repr__(self) -> str:
        where = redact_url(self._engine.url.render_as_string(hide_password=False))
        return f"<SqlSource {self.name} in {self.source.table or 'a query'} at {where}>"

    def count(self) -> int:
        """How many rows there are, deleted ones included."""
        return self._ask(lambda connection, rows, _: rows.count(connection), counts=True)

    def chunk(self, after_: Position | None, size: int) -> Chunk:
        """Up to `size` rows after a position, from the beginning for None.

        A row without a key has no place in the order: all such rows are among the bad ones of
        the first chunk, up to `size` of them.

        Raises ValueError for a position that is not of this source's key.
        """
        return self._ask(
            lambda connection, rows, version: self._chunk(connection, rows, version, after_, size)
        )

    def _chunk(
        self,
        connection: sql.Connection,
        rows: Rows,
        version: int | None,
        after_: Position | None,
        size: int,
    ) -> Chunk:
        found: list[Any] = []
        if after_ is None:
            found = fetch(connection, rows.select().where(sql.not_(rows.named())).limit(size))
        headless = len(found)
        ordered = rows.select().order_by(*rows.order()).limit(size)
        if after_ is None:
            ordered = ordered.where(rows.named())
        else:
            ordered = ordered.where(after(rows.key, from_position(rows.key, after_)))
        page = fetch(connection, ordered)
        if len(page) == size and not rows.unique:
            page += self._ties(connection, rows, page)
        found += page
        events, bad = self._events(connection, rows, version, found)
        count = len(found) - headless
        last = position(rows.key, rows.key_of(found[-1])) if count else None
        return Chunk(events, bad, last, count)

    def _ties(self, connection: sql.Connection, rows: Rows, page: Sequence[Any]) -> list[Any]:
        """The rows that the database takes for equal to the last one of a page, and that are not
        in it: whoever goes on after that one does not see them."""
        last = from_position(rows.key, position(rows.key, rows.key_of(page[-1])))
        found = fetch(connection, rows.select().where(one_of(rows.key, [last])))
        for row in page:
            if row in found:
                found.remove(row)
        return found

    def rows_by_keys(self, keys: Sequence[str]) -> tuple[list[Event], list[BadRow]]:
        """The events of the rows that have these key texts, and the rows that no event can be made
        of; of what is not there, none. Keys that no row can have are left out: see `existing`."""

        def ask(
            connection: sql.Connection, rows: Rows, version: int | None
        ) -> tuple[list[Event], list[BadRow]]:
            events: list[Event] = []
            bad: list[BadRow] = []
            found = Lookup(rows, keys, lead=self._lead)
            for these in found.batches(connection, rows.select(), rows.key_of):
                good, wrong = self._events(connection, rows, version, these)
                events += good
                bad += wrong
            return events, bad

        return self._ask(ask)

    def having(
        self, field: str, texts: Sequence[str], after_: Position | None, size: int
    ) -> tuple[list[str], Position | None]:
        """Keys of rows in whose column for a field of the data is one of these values; and the
        last one's position, None where there are no more.

        texts: the values, written as in a key.
        after_, size: up to so many rows after a position.

        Raises Unlookable for a column whose values find no row.
        """

        def ask(
            connection: sql.Connection, rows: Rows, _: int | None
        ) -> tuple[list[str], Position | None]:
            types = rows.types
            column = None if types is None else types.key_like(field)
            if column is None:
                raise Unlookable(f"{rows.place} cannot be asked for values of {field}")
            wanted = []
            for text in texts:
                with suppress(Unlookable):
                    wanted += [(value,) for value in column.values(text)]
            if not wanted:
                return [], None
            which = rows.select_keys().where(one_of([column], wanted), rows.named())
            if after_ is not None:
                which = which.where(after(rows.key, from_position(rows.key, after_)))
            found = fetch(connection, which.order_by(*rows.order()).limit(size))
            last = position(rows.key, tuple(found[-1])) if len(found) == size else None
            return [rows.name_of(tuple(row)) for row in found], last

        return self._ask(ask)

    def existing(self, keys: Sequence[str]) -> Existing:
        """Which of these key texts have a row."""

        def ask(connection: sql.Connection, rows: Rows, version: int | None) -> Existing:
            found = Lookup(rows, keys, lead=self._lead)
            return Existing(found.there(connection), found.unlookable, version)

        return self._ask(ask)

    def alike(self, keys: Sequence[str]) -> set[str]:
        """The key texts of the rows that the database takes for rows with these keys, as MySQL does
        with `vim` and `VIM`; those with these very texts included."""

        def ask(connection: sql.Connection, rows: Rows, _: int | None) -> set[str]:
            found = [one for key in keys for one in keys_of(rows.key, key)]
            there: set[str] = set()
            for some in in_portions(found, KEYS_PER_QUESTION):
                which = rows.select_keys().where(one_of(rows.key, some, lead=self._lead))
                there.update(rows.text_of(tuple(row)) for row in fetch(connection, which))
            return there

        return self._ask(ask)

    def _ask(
        self, question: Callable[[sql.Connection, Rows, int | None], T], *, counts: bool = False
    ) -> T:
        """Ask in a transaction that sees one moment of the database. counts: whether rows are only
        counted, for which any moment will do.

        Whether the table is still what it was is looked at after the question: by then no server
        lets anybody change it until the end of the transaction.
        """
        try:
            if self.source.owner == "log" and not counts:
                return self._ask_the_log(question)
            with self._connected() as connection:
                connection = connection.execution_options(only_reads=True)
                with connection.begin():
                    answer = question(connection, self._learn(connection), None)
                    if not self._has_changed(connection):
                        return answer
                with connection.begin():
                    return question(connection, self._learn(connection), None)
        except Exception as error:
            if (told := as_bridge_error(error, self.name, self._engine)) is None:
                raise
            self._rows = None  # columns may have changed
            for name in filter(self._mirror.typed, self._names):
                self._mirror.learn(name, None)
            raise told from error

    def _connected(self) -> AbstractContextManager[sql.Connection]:
        if self._child_sources and self._engine.dialect.name != "sqlite":
            # A row and those of its children must be of the same moment.
            return at_level(self._engine, "REPEATABLE READ")
        return self._engine.connect()

    def _ask_the_log(self, question: Callable[[sql.Connection, Rows, int | None], T]) -> T:
        """The same in a moment whose place in the log is known."""

        def ask(connection: sql.Connection, version: int) -> T | None:
            answer = question(connection, self._learn(connection), version)
            return None if self._has_changed(connection) else answer

        return at_one_moment(self.reading, self._engine, self.name, ask)

    def _learn(self, connection: sql.Connection) -> Rows:
        if self._rows is None:
            self._children = [
                (field, Rows(connection, self._mirror, child))
                for field, child in self._child_sources
            ]
            self._rows = Rows(connection, self._mirror, self.name)
            self._types = [self._mirror.typed(name) for name in self._names]
        return self._rows

    def _has_changed(self, connection: sql.Connection) -> bool:
        if self._rows is None:
            return False
        typed = self._mirror.typed
        refresh(connection, self._mirror, [name for name in self._names if typed(name)])
        if all(typed(name) is known for name, known in zip(self._names, self._types, strict=True)):
            return False
        self._rows = None
        return True

    def _events(
        self,
        connection: sql.Connection,
        rows: Rows,
        taken: int | None,
        found: Sequence[Any],
    ) -> tuple[list[Event], list[BadRow]]:
        entity, rewrite, key_of, deleted = self.name, self.rewrite, rows.key_of, rows.deleted_at
        data_of, text_of, at = rows.data, rows.text_of, rows.version_at
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
                version = taken
                if version is None:
                    version = row[at] if type(row[at]) is int else version_of(row[at])
                if gone := deleted is not None and is_true(row[deleted]):
                    data = None
                else:
                    data = data_of(row)
                    for field, members in lists:
                        data[field] = members.get(key, [])
                events.append(
                    Event(
                        entity,
                        "deleted" if gone else "changed",
                        text_of(key),
                        version,
                        data,
                        f"{batch}.{number}",
                        self._sender,
                        now,
                        rewrite,
                    )
                )
            except UndecodableMessage as error:
                whole = rows.whole(row) | {field: members.get(key, []) for field, members in lists}
                raw = to_json(whole).encode("utf-8", "surrogateescape")
                bad.append(BadRow(raw, f"{rows.place}: {error}", rows.name_of(key)))
        return events, bad

    def _members(
        self, connection: sql.Connection, rows: Rows, child: Rows, found: Sequence[Any]
    ) -> dict[Key, list[dict[str, Any]]]:
        """The rows of a child entity that belong to these rows, by the key of those."""
        keys = [key for key in map(rows.key_of, found) if None not in key]
        lists: dict[Key, list[dict[str, Any]]] = {}
        for some in in_portions(keys, KEYS_PER_QUESTION):
            theirs = self._members_of(connection, rows, child, some)
            if not theirs.keys() <= set(some):
                # What the database takes for equal has another text, as in "vim" and "VIM".
                # Whom each belongs to is then the database's to say.
                theirs = {}
                for key in some:
                    for members in self._members_of(connection, rows, child, [key]).values():
                        theirs.setdefault(key, []).extend(members)
            lists |= theirs
        return lists

    def _members_of(
        self, connection: sql.Connection, rows: Rows, child: Rows, keys: Sequence[Key]
    ) -> dict[Key, list[dict[str, Any]]]:
        width = len(rows.key)
        # The text of the parent's column is that of the child's, whatever their types are.
        owners = [
            tuple(
                one.values(parent.text(value))[0]
                for one, parent, value in zip(child.key, rows.key, key, strict=False)
            )
            for key in keys
        ]
        theirs = one_of(child.key[:width], owners, lead=self._lead)
        which = child.select().where(theirs).order_by(*child.order())
        lists: dict[Key, list[dict[str, Any]]] = {}
        for row in fetch(connection, which):
            if child.deleted_at is None or not is_true(row[child.deleted_at]):
                try:
                    member = child.data(row)
                except UndecodableMessage:
                    # No event takes a surrogate: the row of the parent is refused, and says where.
                    member = {"unreadable": "\udcff"}
                lists.setdefault(child.key_of(row)[:width], []).append(member)
        return lists
