"""From the rows of an event of the log to rows of an entity. Pure.

`Reader` is made for a table as the log describes it and an entity of sync.yaml; it reads only the
columns that the entity has, and of a row that is no more only its key. What the columns mean is
the types' to say, see `cells`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from bridge.errors import UndecodableMessage
from bridge.queue.sql.values import is_true
from bridge.sync.log.cells import cell
from bridge.sync.log.charsets import Charsets
from bridge.sync.log.format import LogUnreadable, Rows, length, reads, taken, unpacked
from bridge.sync.log.moments import without_fraction
from bridge.sync.log.sizes import Cell, Misread, Skip, skip
from bridge.sync.log.tables import LONGLONG, TIMESTAMP2, Physical, Shape
from bridge.sync.models import Source
from bridge.sync.types.column import Column
from bridge.sync.types.keys import Unlookable, join
from bridge.sync.types.rules import Rule, rule
from bridge.sync.types.typed import Typed
from bridge.sync.types.wire import KeyColumn

__all__ = ["Columns", "PartsOfRows", "Reader", "Row", "Unread", "Walk", "names_rows"]


class Row(NamedTuple):
    """A row after a change. data: None where there is none any more."""

    key: str
    data: dict[str, Any] | None


class Unread(NamedTuple):
    """A row that no event can be made of. error: why. raw: its bytes in the log."""

    error: str
    raw: bytes


class PartsOfRows(Exception):
    """An event has rows that are not whole, as a session writes them that has set
    `binlog_row_image` to MINIMAL or NOBLOB."""


class Walk:
    """What is alike in all readers of a table: where its columns are, and where rows begin."""

    def __init__(self, shape: Shape, charsets: Charsets) -> None:
        self._shape, self._charsets = shape, charsets

    def want(self, column: Column, rule: Rule, wanted: dict[int, Cell]) -> int:
        """The place of a column, which is read from now on. wanted: readers by place. Raises
        Misread."""
        place = self._shape.place(column.name)
        if place is None:
            raise Misread(f"has no column {column.name} in the log")
        physical = self._shape.columns[place]
        with _named(column.name):
            text = self._charsets.decoder(physical.collation)
            wanted[place] = cell(physical, text, column, rule)
        return place

    def ends(self, name: str, wanted: dict[int, Cell]) -> tuple[int, Any]:
        """The place of the column that says until when a row was valid, which is read from now on,
        and its value of a row that is valid still. Raises Misread."""
        place = self._shape.place(name)
        if place is None:
            raise Misread(f"has no column {name} in the log")
        never = _NEVER.get(self._shape.columns[place].type)
        if never is None:
            raise Misread(f"keeps its history in a way that is not known, by the column {name}")
        size = len(never)
        read = wanted.setdefault(place, lambda raw, at: (raw[at : at + size], at + size))
        return place, read(never, 0)[0]

    @reads("an event with rows")
    def begin(self, kind: Rows, body: bytes) -> tuple[bytes, int]:
        """The bytes of the rows, and where the first one begins. Raises LogUnreadable, and
        PartsOfRows."""
        at = 8
        if kind.second:
            more = int.from_bytes(taken(body, at, 2), "little")
            if more < 2:
                raise IndexError(f"it has {more} bytes more, and these are two of them")
            at += more
        width, at = length(body, at)
        if width != len(self._shape.columns):
            raise LogUnreadable(
                f"a row has {width} columns, and its table {len(self._shape.columns)}"
            )
        size = (width + 7) // 8
        every = (1 << width) - 1
        for _ in range(2 if kind.change == "update" else 1):
            if int.from_bytes(taken(body, at, size), "little") & every != every:
                raise PartsOfRows
            at += size
        return (unpacked(body[at:]), 0) if kind.compressed else (body, at)


_NEVER = {TIMESTAMP2: b"\x7f\xff\xff\xff\x0f\x42\x3f", LONGLONG: b"\xff" * 8}
"""The end of a row that is valid still, by the type of its column: the last microsecond that
MariaDB's TIMESTAMP has, and the highest number of a transaction."""


class Reader:
    """Reads the rows of one entity.

    shape: its table as the log describes it.
    types, source: what the database and sync.yaml say of it.
    charsets: of the server.

    Raises Misread where the table in the log is another than that of `types`, and what asking for
    a character set raises.
    """

    def __init__(self, shape: Shape, types: Typed, source: Source, charsets: Charsets) -> None:
        if not shape.names:
            raise Misread("has no names in the log: it was written without FULL metadata")
        self.entity, self._walk = types.entity, Walk(shape, charsets)
        want = self._walk.want
        for one in shape.columns:
            with _named(one.name):
                without_fraction(one, types.table.column(one.name))
        wanted: dict[int, Cell] = {}
        fields = {
            field: want(column, types.rules[field], wanted)
            for field, column in types.columns.items()
            if field in types.rules
        }
        dialect = types.table.dialect
        rules = {column.name: types.rules.get(field) for field, column in types.columns.items()}

        def rule_of(column: Column) -> Rule:
            return rules.get(column.name) or rule(column, dialect)

        key = []
        for part in types.key:
            of_field = rule_of(part.column)
            place = want(part.column, of_field, wanted)
            with _named(part.column.name):
                key.append((place, _part(part, of_field, dialect)))
        deleted: int | None = None
        self._is_deleted: Callable[[Any], bool] = is_true
        if source.deleted is not None:
            column = types.table.column(source.deleted)
            assert column is not None
            deleted = want(column, rule_of(column), wanted)
            self._is_deleted = _says_yes(column)
        places = {place for place, _ in key}
        self._of = self._plainly
        if types.table.ends:
            self._of = self._now
            ends, self._never = self._walk.ends(types.table.ends, wanted)
            places.add(ends)
        self._whole = Columns(shape, wanted)
        self._only_key = Columns(shape, {place: wanted[place] for place in places})
        if types.table.ends:
            self._old_end, self._new_end = self._only_key.index[ends], self._whole.index[ends]
        self._nothing = Columns(shape, {})
        names = [part.column.name for part in types.key]
        self._new_key, self._old_key = (
            _Key(names, [(columns.index[place], text) for place, text in key])
            for columns in (self._whole, self._only_key)
        )
        self._fields = [(field, self._whole.index[place]) for field, place in fields.items()]
        self._deleted = None if deleted is None else self._whole.index[deleted]

    def changes(self, kind: Rows, body: bytes) -> Iterator[Sequence[Row | Unread]]:
        """What each change of the event does: one row, or two where the key became another, of
        which the first is gone. body: what follows the event's header.

        Raises LogUnreadable for what is damaged, and PartsOfRows where rows are not whole.
        """
        raw, at = self._walk.begin(kind, body)
        end = len(raw)
        change = kind.change
        has_before, has_after = change != "insert", change != "delete"
        old, new = self._only_key.read, self._whole.read
        try:
            while at < end:
                start = at
                try:
                    before = after = None
                    if has_before:
                        before, at = old(raw, at)
                    if has_after:
                        after, at = new(raw, at)
                    found = self._of(before, after)
                except UndecodableMessage as error:
                    at = self._past(raw, start, has_before + has_after)
                    found = (Unread(str(error), raw[start:at]),)
                yield found
        except (struct.error, IndexError) as error:
            raise LogUnreadable(f"an event with rows of the log is damaged: {error}") from None

    def _past(self, raw: bytes, at: int, rows: int) -> int:
        for _ in range(rows):
            _, at = self._nothing.read(raw, at)
        return at

    def _now(self, before: list[Any] | None, after: list[Any] | None) -> Sequence[Row | Unread]:
        """What a change leaves of a table that keeps its history: rows of the past are none."""
        if before is not None and before[self._old_end] != self._never:
            before = None
        if after is not None and after[self._new_end] != self._never:
            after = None
        return () if before is None and after is None else self._plainly(before, after)

    def _plainly(self, before: list[Any] | None, after: list[Any] | None) -> Sequence[Row | Unread]:
        """What a change leaves."""
        if after is None:
            assert before is not None
            return (Row(self._old_key(before), None),)
        key = self._new_key(after)
        gone = self._deleted is not None and self._is_deleted(after[self._deleted])
        row = Row(key, None if gone else {field: after[index] for field, index in self._fields})
        if before is None or (old := self._old_key(before)) == key:
            return (row,)
        return Row(old, None), row


class Columns:
    """Reads some columns of a row. wanted: by their place in the table. index: where each one's
    value is then."""

    def __init__(self, shape: Shape, wanted: Mapping[int, Cell]) -> None:
        self._shape, self._wanted = shape, wanted
        self.index = {place: number for number, place in enumerate(sorted(wanted))}
        self._names = [shape.columns[place].name for place in self.index]
        self._bytes = (len(shape.columns) + 7) // 8
        self._every = (1 << len(shape.columns)) - 1
        self._plans: dict[int, tuple[list[Cell], list[Skip]]] = {}
        self._plan(0)

    def read(self, raw: bytes, at: int) -> tuple[list[Any], int]:
        """The values, None for NULL, and where the row ends. Raises UndecodableMessage, and
        IndexError or struct.error where the row is damaged."""
        begin = at + self._bytes
        nulls = int.from_bytes(raw[at:begin], "little") & self._every
        readers, rest = self._plans.get(nulls) or self._plan(nulls)
        at = begin
        values: list[Any] = []
        add = values.append
        try:
            for read in readers:
                value, at = read(raw, at)
                add(value)
        except UndecodableMessage as error:
            name = self._names[len(values)]
            raise UndecodableMessage(f"the column {name} cannot be read: {error}") from None
        for past in rest:
            at = past(raw, at)
        if at > len(raw):
            raise IndexError("it ends within a row")
        return values, at

    def _plan(self, nulls: int) -> tuple[list[Cell], list[Skip]]:
        """How a row is read in which these columns are NULL, a bit for each. Raises Misread."""
        if len(self._plans) >= 1000:
            self._plans.clear()
        readers: list[Cell] = []
        unwanted: list[Physical] = []
        for place, one in enumerate(self._shape.columns):
            is_null = nulls >> place & 1
            if (read := self._wanted.get(place)) is None:
                if not is_null:
                    unwanted.append(one)
                continue
            readers.append(_behind(skip(unwanted), _null if is_null else read))
            unwanted = []
        found = self._plans[nulls] = readers, skip(unwanted)
        return found


class _Key:
    """The key of a row. names: of its columns. parts: where the value of each is among those that
    are read, and what its text is."""

    def __init__(
        self, names: Sequence[str], parts: Sequence[tuple[int, Callable[[Any], str]]]
    ) -> None:
        self._names, self._parts = names, parts

    def __call__(self, values: Sequence[Any]) -> str:
        """Raises UndecodableMessage."""
        parts: list[str] = []
        try:
            for index, text in self._parts:
                if (value := values[index]) is None:
                    raise UndecodableMessage(f"the key column {self._names[len(parts)]} is NULL")
                parts.append(text(value))
        except Unlookable as error:
            name = self._names[len(parts)]
            raise UndecodableMessage(f"the key column {name} names no row: {error}") from None
        return parts[0] if len(parts) == 1 else join(parts)


def _null(raw: bytes, at: int) -> tuple[None, int]:
    return None, at


def _behind(skips: Sequence[Skip], read: Cell) -> Cell:
    """Reads what is behind columns that nobody wants."""
    if not skips:
        return read

    def behind(raw: bytes, at: int) -> tuple[Any, int]:
        for past in skips:
            at = past(raw, at)
        return read(raw, at)

    return behind


@contextmanager
def _named(name: str) -> Iterator[None]:
    """A Misread in here gets the name of the column."""
    try:
        yield
    except Misread as error:
        raise Misread(f"has a column {name} that {error}") from None


def names_rows(column: Column, dialect: str) -> bool:
    """Whether the log has the text that a column's values have in a key."""
    return rule(column, dialect).family.kind != "number"


def _part(column: KeyColumn, of_field: Rule, dialect: str) -> Callable[[Any], str]:
    """From a value to its text in a key. Raises Misread for a column that has none in the log."""
    if of_field.family.read == "stored":
        return _of_stored(column.column.name, of_field.codec)
    if not names_rows(column.column, dialect):
        raise Misread("is a floating-point number, of which the log does not have the text")
    # The types of fields are not those of keys.
    family = rule(column.column, dialect).family
    if family.key == "bytes":
        return lambda value: base64.b64decode(value).hex()
    if family.key == "utc":
        return lambda value: str(value).removesuffix("Z")
    if family.key in ("whole", "text"):
        return str
    return column.canonical


def _says_yes(column: Column) -> Callable[[Any], bool]:
    """Whether a value is a yes where it stands for a deletion, as it is where SELECT gives it."""
    if column.type in ("decimal", "time"):
        return lambda value: value is not None and any(one in value for one in "123456789")
    if rule(column, "mysql").family.read == "bytes":
        return lambda value: value is not None and is_true(base64.b64decode(value))
    return is_true


def _of_stored(name: str, codec: str) -> Callable[[Any], str]:
    def text(value: Any) -> str:
        if isinstance(value, str):
            return value
        raise UndecodableMessage(f"the key column {name} holds what is no {codec}")

    return text
