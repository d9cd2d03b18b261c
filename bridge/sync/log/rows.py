"""From the rows of an event of the log to rows of an entity. Pure.

`Reader` is made for a table as the log describes it and an entity of sync.yaml; it keeps only the
columns that the entity has. What the columns mean is the types' to say, see `cells`.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from bridge.errors import UndecodableMessage
from bridge.queue.sql.values import is_true
from bridge.sync.log.cells import Cell, Misread, cell, skip
from bridge.sync.log.format import BINARY, LogUnreadable, Rows, Shape, length, unpacked
from bridge.sync.models import Source
from bridge.sync.types.column import Column
from bridge.sync.types.keys import join
from bridge.sync.types.rules import Rule, rule
from bridge.sync.types.typed import Typed
from bridge.sync.types.wire import KeyColumn

__all__ = ["Reader", "Row", "Unread"]

Values = list[Any]
"""Of one row, in the order of the table."""


class Row(NamedTuple):
    """A row after a change. data: None where there is none any more."""

    key: str
    data: dict[str, Any] | None


class Unread(NamedTuple):
    """A row that no event can be made of. error: why. raw: its bytes in the log."""

    error: str
    raw: bytes


class Reader:
    """Reads the rows of one entity. charsets: the character set of each collation, by its number.

    Raises Misread where the table in the log is another than that of `types`.
    """

    def __init__(
        self, shape: Shape, types: Typed, source: Source, charsets: Mapping[int, str]
    ) -> None:
        if not shape.names:
            raise Misread("has no names in the log: it was written without FULL metadata")
        self.entity, self._width = types.entity, len(shape.columns)
        self._shape, self._charsets = shape, charsets
        self._cells: dict[int, Cell] = {}
        self._places = {name.casefold(): place for name, place in shape.places.items()}
        self._fields = [
            (field, self._want(column, types.rules[field]))
            for field, column in types.columns.items()
            if field in types.rules
        ]
        rules = {column.name: types.rules.get(field) for field, column in types.columns.items()}

        def rule_of(column: Column) -> Rule:
            return rules.get(column.name) or rule(column, types.table.dialect)

        self._key = [
            (self._want(one.column, rule_of(one.column)), _part(one, rule_of(one.column)))
            for one in types.key
        ]
        self._deleted: int | None = None
        if source.deleted is not None:
            column = types.table.column(source.deleted)
            assert column is not None
            self._deleted = self._want(column, rule_of(column))
        self._skips = [skip(one) for one in shape.columns]
        self._all = [self._cells.get(place, one) for place, one in enumerate(self._skips)]

    def _want(self, column: Column, rule: Rule) -> int:
        """The place of a column. Raises Misread."""
        if (place := self._places.get(column.name.casefold())) is None:
            raise Misread(f"has no column {column.name} in the log")
        physical = self._shape.columns[place]
        charset = "binary"
        if physical.collation != BINARY:
            charset = self._charsets.get(physical.collation, "")
        try:
            self._cells[place] = cell(physical, charset, column, rule)
        except (Misread, ValueError) as error:
            raise Misread(f"has a column {column.name} that {error}") from None
        return place

    def changes(self, kind: Rows, body: bytes) -> Iterator[list[Row | Unread]]:
        """What each change of the event does: one row, or two where the key became another, of
        which the first is gone. body: what follows the event's header.

        Raises LogUnreadable for what is damaged, and where rows are not whole.
        """
        raw, at = self._begin(kind, body)
        try:
            while at < len(raw):
                start = at
                try:
                    before, after = None, None
                    if kind.change != "insert":
                        before, at = self._row(raw, at, self._all)
                    if kind.change != "delete":
                        after, at = self._row(raw, at, self._all)
                    yield self._of(before, after)
                except UndecodableMessage as error:
                    at = self._past(raw, start, 2 if kind.change == "update" else 1)
                    yield [Unread(str(error), raw[start:at])]
        except (struct.error, IndexError) as error:
            raise LogUnreadable(f"an event with rows is damaged: {error}") from None

    def _begin(self, kind: Rows, body: bytes) -> tuple[bytes, int]:
        """The bytes of the rows, and where the first one begins."""
        at = 8
        if kind.second:
            at += int.from_bytes(body[at : at + 2], "little")
        width, at = length(body, at)
        if width != self._width:
            raise LogUnreadable(f"a row has {width} columns, and its table {self._width}")
        size = (width + 7) // 8
        every = (1 << width) - 1
        for _ in range(2 if kind.change == "update" else 1):
            if int.from_bytes(body[at : at + size], "little") & every != every:
                raise LogUnreadable(
                    f"the log holds parts of rows of {self._shape.table}: SET GLOBAL "
                    "binlog_row_image=FULL, and run `bridgectl snapshot` after that"
                )
            at += size
        return (unpacked(body[at:]), 0) if kind.compressed else (body, at)

    def _row(self, raw: bytes, at: int, cells: list[Cell]) -> tuple[Values, int]:
        size = (self._width + 7) // 8
        end = at + size
        nulls = int.from_bytes(raw[at:end], "little")
        at = end
        if at > len(raw):
            raise IndexError("it ends within a row")
        values: Values = []
        add = values.append
        for read in cells:
            if nulls & 1:
                add(None)
            else:
                value, at = read(raw, at)
                add(value)
            nulls >>= 1
        if at > len(raw):
            raise IndexError("it ends within a row")
        return values, at

    def _past(self, raw: bytes, at: int, rows: int) -> int:
        for _ in range(rows):
            _, at = self._row(raw, at, self._skips)
        return at

    def _of(self, before: Values | None, after: Values | None) -> list[Row | Unread]:
        """What a change leaves."""
        found: list[Row | Unread] = []
        key = None if after is None else self._key_of(after)
        if before is not None and (old := self._key_of(before)) != key:
            found.append(Row(old, None))
        if after is not None and key is not None:
            gone = self._deleted is not None and is_true(after[self._deleted])
            data = None if gone else {field: after[place] for field, place in self._fields}
            found.append(Row(key, data))
        return found

    def _key_of(self, values: Values) -> str:
        """Raises UndecodableMessage."""
        if len(self._key) == 1:
            ((place, text),) = self._key
            if (value := values[place]) is None:
                raise UndecodableMessage("a key column is NULL")
            return text(value)
        parts = []
        for place, text in self._key:
            if (value := values[place]) is None:
                raise UndecodableMessage("a key column is NULL")
            parts.append(text(value))
        return join(parts)


def _part(column: KeyColumn, rule: Rule) -> Callable[[Any], str]:
    """From a value to its text in a key. Raises Misread for a column that has none in the log."""
    family = rule.family
    if family.kind == "number":
        raise Misread("is a floating-point number, of which the log does not have the text")
    if family.key == "bytes":
        return lambda value: base64.b64decode(value).hex()
    if family.key == "utc":
        return lambda value: str(value).removesuffix("Z")
    if family.key == "stored text":
        return _decoded
    if family.key in ("whole", "text"):
        return str
    return column.canonical


def _decoded(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise UndecodableMessage("a key column holds what is not in its character set")
