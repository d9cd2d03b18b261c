"""Keys of rows as conditions and as places to go on from. Nothing here talks to a server.

How a key is written is `bridge.sync.types.keys`. A position is the texts of the key columns of a
row, so that it can be kept anywhere.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError, UndecodableMessage
from bridge.sync.types.column import Column
from bridge.sync.types.keys import KINDS, Kind, Unlookable, split
from bridge.sync.types.wire import NO_TYPE, KeyColumn

__all__ = [
    "Key",
    "Position",
    "after",
    "by_value",
    "from_position",
    "keys_of",
    "one_of",
    "position",
    "up_to",
]

Position = list[Any]
"""The texts of the key columns of a row, in order; of SQLite the values, because their types are
the row's own there. Everything is what JSON has."""

Key = tuple[Any, ...]
"""What the driver is given for the key columns of a row."""


def position(columns: Sequence[KeyColumn], found: Iterable[Any]) -> Position:
    """What can be kept of the key of a row, as the driver gives it."""
    return [_kept(column, value) for column, value in zip(columns, found, strict=True)]


def _kept(column: KeyColumn, found: Any) -> Any:
    if not column.dynamic:
        try:
            return _keep(column.text(found))
        except UndecodableMessage:
            pass  # a row without a name has its place all the same
    return _keep(found)


def _keep(found: Any) -> Any:
    if isinstance(found, bytes):
        return {"bytes": found.hex()}
    if isinstance(found, str):
        try:
            found.encode()
        except UnicodeEncodeError:
            return {"text": found.encode("utf-8", "surrogateescape").hex()}
    return found


def from_position(columns: Sequence[KeyColumn], kept: Sequence[Any]) -> Key:
    """The values that were kept. Raises ValueError for what is no position of this key."""
    if len(kept) != len(columns):
        raise ValueError(f"a position of {len(kept)} columns, not {len(columns)}")
    return tuple(
        _back(one) if column.dynamic or not isinstance(one, str) else column.values(one)[0]
        for column, one in zip(columns, kept, strict=True)
    )


def _back(kept: Any) -> Any:
    if not isinstance(kept, dict):
        # BSON gives a type of its own, which drivers take for a text.
        return int(kept) if isinstance(kept, int) else kept
    [(kind, written)] = kept.items()
    raw = bytes.fromhex(written)
    return raw if kind == "bytes" else raw.decode("utf-8", "surrogateescape")


def keys_of(columns: Sequence[KeyColumn], text: str) -> list[Key]:
    """The values that the key columns of a row can have whose key this is: one for most
    databases. Raises Unlookable."""
    parts = split(text, len(columns))
    if len(columns) == 1:
        return [(value,) for value in columns[0].values(parts[0])]
    every = [column.values(part) for column, part in zip(columns, parts, strict=True)]
    return list(product(*every))


def value(plain: Any, column: KeyColumn | None = None) -> sql.ColumnElement[Any]:
    """A value for the driver as it is, whatever SQLAlchemy would make of its type."""
    if isinstance(plain, str):
        try:
            plain.encode()
        except UnicodeEncodeError:
            raw = plain.encode("utf-8", "surrogateescape")
            return sql.cast(sql.literal(raw, NO_TYPE), sql.Text)
    made = sql.literal(plain, NO_TYPE)
    return made if column is None or column.bound is None else column.bound(made)


def after(columns: Sequence[KeyColumn], key: Key) -> sql.ColumnElement[bool]:
    """That a row comes after `key` in the order of `columns`.

    Written out, with the first column alone in front: MariaDB uses no index range for
    `(a, b) > (x, y)`, and none for an OR.
    """
    lefts = [column.left for column in columns]
    values = [value(part, column) for part, column in zip(key, columns, strict=True)]
    if len(columns) == 1:
        return lefts[0] > values[0]
    condition: sql.ColumnElement[bool] = lefts[-1] > values[-1]
    for left, one in reversed(list(zip(lefts[:-1], values[:-1], strict=True))):
        condition = sql.or_(left > one, sql.and_(left == one, condition))
    return sql.and_(lefts[0] >= values[0], condition)


def up_to(columns: Sequence[KeyColumn], key: Key) -> sql.ColumnElement[bool]:
    """That a row does not come after `key`."""
    start = sql.not_(after(columns[:1], key[:1]))
    if len(columns) == 1:
        return start
    return sql.and_(start, sql.not_(after(columns, key)))


def one_of(
    columns: Sequence[KeyColumn], keys: Sequence[Key], *, lead: bool = False
) -> sql.ColumnElement[bool]:
    """That a row has one of these keys. lead: ask for the first column alone, too."""
    lefts = [column.left for column in columns]
    if any(_is_unencodable(part) for key in keys for part in key):
        return sql.or_(
            *(
                sql.and_(
                    *(
                        column.left == value(part, column)
                        for column, part in zip(columns, key, strict=True)
                    )
                )
                for key in keys
            )
        )
    bound = any(column.bound is not None for column in columns)
    if len(columns) == 1:
        parts = [part for (part,) in keys]
        if bound:
            return lefts[0].in_([value(part, columns[0]) for part in parts])
        these = sql.bindparam(None, parts, expanding=True, type_=NO_TYPE)
        return lefts[0].in_(these)
    # As a row, written out in full by nobody but the server: AND and OR of hundreds of keys cost
    # SQLAlchemy and MariaDB ten times as much.
    row = sql.tuple_(*lefts, types=[NO_TYPE for _ in lefts])
    if bound:
        these_rows: Any = [
            sql.tuple_(*(value(part, one) for part, one in zip(key, columns, strict=True)))
            for key in keys
        ]
    else:
        these_rows = list(keys)
    rows = row.in_(these_rows)
    # SQLite looks through all rows for that, unless the first column is there alone.
    firsts = list(dict.fromkeys(key[:1] for key in keys))
    return sql.and_(one_of(columns[:1], firsts), rows) if lead else rows


def _is_unencodable(part: Any) -> bool:
    if not isinstance(part, str) or part.isprintable():
        return False
    try:
        part.encode()
    except UnicodeEncodeError:
        return True
    return False


# Of a query nobody declares types: the first row shows them.


def by_value(reference: Any, example: Any) -> KeyColumn:
    """A column of the key of a query. example: a value of it, as the driver gives it. Raises
    BridgeError for a type that rows cannot be found by."""
    for kind, found in _BY_VALUE.items():
        if isinstance(example, kind):
            column = Column(str(reference.name), "", "")
            return KeyColumn(column, found, reference, reference, None, _text_of)
    raise BridgeError(
        f"a key column holds a {type(example).__name__}; rows can be read in the order of numbers, "
        "texts, bytes and dates only: name another `key:` in sync.yaml"
    )


def _text_of(found: Any) -> str:
    if isinstance(found, bytes | bytearray | memoryview):
        return bytes(found).decode("utf-8", "surrogateescape")
    return str(int(found)) if isinstance(found, bool) else str(found)


def _parsed(make: Callable[[str], Any], what: str) -> Kind:
    def parse(text: str) -> Any:
        try:
            return make(text)
        except (ValueError, OverflowError):
            raise Unlookable(f"it is no {what}") from None

    return Kind(what, parse)


_BY_VALUE: dict[type, Kind] = {
    bool: KINDS["whole"],
    int: KINDS["whole"],
    str: KINDS["text"],
    bytes: _parsed(lambda text: text.encode("utf-8", "surrogateescape"), "text"),
    Decimal: KINDS["decimal"],
    datetime: _parsed(datetime.fromisoformat, "moment"),
    date: _parsed(date.fromisoformat, "date"),
    uuid.UUID: _parsed(uuid.UUID, "UUID"),
}
