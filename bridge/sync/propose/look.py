"""Some rows of a table, looked at once: what of them does not fit its types, and what their bytes
say about character sets.

The first rows in the order of the key, and the newest: bounded in rows and in bytes, in short
reads that lock nothing. Long values are looked at in their beginning only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sql

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_KEY_BYTES
from bridge.sync.propose.evidence import Evidence
from bridge.sync.sql.keys import after, from_position, position
from bridge.sync.sql.rows import fetch
from bridge.sync.types import wire
from bridge.sync.types.column import Column
from bridge.sync.types.keys import join
from bridge.sync.types.rules import Rule
from bridge.sync.types.typed import Typed

__all__ = ["ColumnSeen", "TableSample", "about", "look"]

ROWS_PER_QUESTION = 500
"""Rows of one read."""
NEWEST = 1000
"""Rows from the other end of the key."""
MOST_BYTES = 64 * 1024 * 1024
"""Of one table."""
LONG = 4096
"""Bytes; a longer value is looked at in its first BEGINNING characters."""
BEGINNING = 1000
_SHORT_TYPES = frozenset({"enum", "set", "bit", "year", "bool", "uuid", "inet4", "inet6"})
_TEXTS = ("string", "json", "binary", "any", "numeric")


@dataclass
class ColumnSeen:
    """What was seen in one column. values: that are not NULL. zero_dates, misfits: how many of
    them; example: a misfit, of numbers and times only. longest: bytes."""

    values: int = 0
    zero_dates: int = 0
    misfits: int = 0
    example: str = ""
    longest: int = 0
    evidence: Evidence | None = None


@dataclass
class TableSample:
    """What was seen of a table. rows: looked at; all: whether these were all. about: rows of the
    table, where anything says how many. columns: by field. largest: bytes of the largest row;
    over: rows of more than the limit. same: rows with the key text of another. long_keys,
    unnamed: rows whose key is too long, or none. failed: why nothing was looked at."""

    rows: int = 0
    all: bool = False
    about: int | None = None
    columns: dict[str, ColumnSeen] = field(default_factory=dict)
    largest: int = 0
    over: int = 0
    same: int = 0
    long_keys: int = 0
    unnamed: int = 0
    failed: str = ""


_ABOUT = {
    "mysql": "SELECT table_rows FROM information_schema.tables "
    "WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name",
    "postgresql": "SELECT NULLIF(CAST(c.reltuples AS bigint), -1) FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = :name "
    "AND (n.nspname = CAST(:schema AS text) "
    "OR (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid)))",
}


def about(connection: sql.Connection, types: Typed) -> int | None:
    """How many rows the database thinks there are; None where it does not say."""
    table = types.table
    if table.dialect not in _ABOUT:
        return None
    where = {"schema": table.schema, "name": table.name}
    found = connection.execute(sql.text(_ABOUT[table.dialect]), where).scalar()
    return None if found is None else int(found)


def look(
    connection: sql.Connection,
    types: Typed,
    *,
    rows: int,
    limit: int,
    progress: Callable[[int], None] = lambda count: None,
) -> TableSample:
    """Look at some rows, and at the newest ones.

    rows: how many at most.
    limit: bytes of a row that are many.
    progress: is told how many rows were looked at.

    Raises SQLAlchemy's errors.
    """
    looking = _Looking(types, limit)
    seen = looking.seen
    seen.about = about(connection, types)
    named = [column.left.is_not(None) for column in types.key]
    order = [column.left for column in types.key]
    select = looking.select().where(*named)
    last: Any = None
    while seen.rows < rows and looking.bytes < MOST_BYTES:
        part = select.order_by(*order).limit(min(ROWS_PER_QUESTION, rows - seen.rows))
        if last is not None:
            part = part.where(after(types.key, last))
        found = fetch(connection, part)
        looking.add(found)
        progress(seen.rows)
        if len(found) < min(ROWS_PER_QUESTION, rows - (seen.rows - len(found))) or not found:
            seen.all = True
            break
        try:
            last = from_position(types.key, position(types.key, looking.key_of(found[-1])))
        except (UndecodableMessage, ValueError):
            break
    if not seen.all and rows:
        newest = select.order_by(*(one.desc() for one in order)).limit(min(NEWEST, rows))
        looking.add(fetch(connection, newest), again=True)
        progress(seen.rows)
    return seen


class _Looking:
    """The columns of a table as they are selected, and what was seen of them."""

    def __init__(self, types: Typed, limit: int) -> None:
        self.seen = TableSample(columns={name: ColumnSeen() for name in types.rules})
        self.bytes = 0
        self._types, self._limit = types, limit
        self._dialect = types.table.dialect
        self._keys: dict[str, tuple[Any, ...]] = {}
        self._fields = [
            _Field(types.rows.c[types.columns[name].name], types.columns[name], rule, self._dialect)
            for name, rule in types.rules.items()
        ]

    def select(self) -> sql.Select[Any]:
        wanted: list[Any] = [column.printed for column in self._types.key]
        for one in self._fields:
            wanted += one.wanted
        # Two that are the same expression must stay two.
        labelled = [one.label(f"c{number}") for number, one in enumerate(wanted)]
        return sql.select(*labelled).select_from(self._types.rows)

    def key_of(self, row: Any) -> tuple[Any, ...]:
        return tuple(row[: len(self._types.key)])

    def add(self, found: Sequence[Any], *, again: bool = False) -> None:
        """again: rows that were looked at already may be among them."""
        for row in found:
            if self._name(row, again=again):
                self._add(row)

    def _name(self, row: Any, *, again: bool) -> bool:
        """Look at the key of a row; whether the row is a new one."""
        key = self.key_of(row)
        try:
            texts = zip(self._types.key, key, strict=True)
            text = join([column.text(value) for column, value in texts])
        except (UndecodableMessage, ValueError):
            self.seen.unnamed += 1
            return True
        other = self._keys.setdefault(text, key)
        if other is not key:
            if again and other == key:
                return False
            self.seen.same += 1
        if len(text.encode("utf-8", "surrogateescape")) > MAX_KEY_BYTES:
            self.seen.long_keys += 1
        return True

    def _add(self, row: Any) -> None:
        place, size = len(self._types.key), 0
        self.seen.rows += 1
        for name, one in zip(self._types.rules, self._fields, strict=True):
            value = row[place]
            length = row[place + 1] if one.measured else None
            place += len(one.wanted)
            if value is not None:
                size += one.add(self.seen.columns[name], value, length)
        self.bytes += size
        self.seen.largest = max(self.seen.largest, size)
        self.seen.over += size > self._limit


class _Field:
    """One column: what is selected of it, and what is made of that."""

    def __init__(self, reference: Any, column: Column, rule: Rule, dialect: str) -> None:
        self._rule = rule
        self._plain = wire.plain(rule, dialect)
        self._bytes_of = _bytes_of(column, rule, dialect)
        value = wire.value(reference, rule, dialect)
        short = column.type in _SHORT_TYPES or (column.length or LONG + 1) <= LONG // 4
        self.measured = not short and rule.family.kind in _TEXTS
        self.wanted: list[Any] = [value]
        if self.measured:
            length = _octets(reference, rule, dialect)
            # Not NO_TYPE: a CASE of two types would be converted.
            part = sql.func.substr(value, 1, BEGINNING)
            self.wanted = [sql.case((length <= LONG, value), else_=part), length]

    def add(self, seen: ColumnSeen, value: Any, length: int | None) -> int:
        """Look at a value; how many bytes it has."""
        seen.values += 1
        whole = length is None or length <= LONG
        raw = None if self._bytes_of is None else self._bytes_of(value)
        if raw is not None:
            if seen.evidence is None:
                seen.evidence = Evidence()
            seen.evidence.add(raw, whole=whole)
        size = int(length) if length is not None else _size(value if raw is None else raw)
        seen.longest = max(seen.longest, size)
        if whole:
            self._convert(seen, value)
        return size

    def _convert(self, seen: ColumnSeen, value: Any) -> None:
        if isinstance(value, str) and value.startswith("0000-00-00"):
            seen.zero_dates += 1
            return
        try:
            if self._plain is not None:
                value = self._plain(value)
            if type(value) is not self._rule.plain:
                self._rule.convert(value)
        except (ValueError, UndecodableMessage):
            seen.misfits += 1
            kind = self._rule.family.kind
            if not seen.example and kind in ("date", "datetime", "time", "decimal", "number"):
                seen.example = ascii(value)[:60]


def _size(value: Any) -> int:
    if isinstance(value, bytes | bytearray | memoryview):
        return len(value)
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    return 8


def _octets(reference: Any, rule: Rule, dialect: str) -> Any:
    if dialect == "sqlite":
        return sql.func.length(sql.cast(reference, sql.BLOB))
    if dialect == "postgresql" and rule.family.kind != "binary":
        return sql.func.octet_length(sql.cast(reference, sql.Text))
    return sql.func.octet_length(reference)


def _bytes_of(column: Column, rule: Rule, dialect: str) -> Callable[[Any], bytes | None] | None:
    """What makes bytes of what the driver gives; None for columns whose bytes say nothing."""
    kind = rule.family.kind
    if kind == "binary":
        return lambda value: (
            bytes(value) if isinstance(value, bytearray | memoryview) else _encoded(value, "utf-8")
        )
    if kind != "string" or column.members or rule.family.read == "text":
        return None
    if dialect == "mysql" and column.charset == "latin1":
        return lambda value: _encoded(value, "bridge-latin1")
    return lambda value: _encoded(value, "utf-8")


def _encoded(value: Any, codec: str) -> bytes | None:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        return None
    errors = "surrogateescape" if codec == "utf-8" else "strict"
    try:
        return value.encode(codec, errors)
    except UnicodeEncodeError:
        return None
