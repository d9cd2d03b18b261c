"""Keys of rows: as text, as a place to go on from, and as conditions. Nothing here talks to a
server.

A key text is the text of the key columns joined with `/`. A position is the same columns as
values that JSON has, so that it can be kept anywhere.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from itertools import combinations, pairwise
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError

__all__ = [
    "Key",
    "Position",
    "after",
    "candidates",
    "from_position",
    "key_text",
    "one_of",
    "parse",
    "splits",
    "to_position",
    "value",
]

Position = list[Any]
"""The key columns of a row, in order, each as a value that JSON has."""

Key = tuple[Any, ...]

MOST_SPLITS = 64
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")


def key_text(values: Iterable[Any]) -> str:
    """The key that events have: `str` of each column, joined with `/`."""
    return "/".join([value if type(value) is str else _text(value) for value in values])


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return str(int(value)) if isinstance(value, bool) else str(value)


def to_position(values: Iterable[Any]) -> Position:
    """Raises BridgeError for a value that cannot be kept."""
    return [_keep(value) for value in values]


def _keep(value: Any) -> Any:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            # SQLite takes any bytes for text.
            return {"text": value.encode("utf-8", "surrogateescape").hex()}
        return value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return {"integer": str(value)}  # BIGINT UNSIGNED; MongoDB has no such number
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": bytes(value).hex()}
    for name, kind in (("decimal", Decimal), ("uuid", uuid.UUID)):
        if isinstance(value, kind):
            return {name: str(value)}
    for name, moment in (("datetime", datetime), ("date", date)):
        if isinstance(value, moment):
            return {name: value.isoformat()}
    raise BridgeError(
        f"a key column holds a {type(value).__name__}; rows can be read in the order of numbers, "
        "texts, bytes and dates only: name another `key:` in sync.yaml"
    )


_BACK: dict[str, Any] = {
    "text": lambda text: bytes.fromhex(text).decode("utf-8", "surrogateescape"),
    "bytes": bytes.fromhex,
    "integer": int,
    "decimal": Decimal,
    "uuid": uuid.UUID,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
}


def from_position(position: Sequence[Any]) -> Key:
    """The values that `to_position` kept. Raises ValueError for what it did not make."""
    values = []
    for kept in position:
        if isinstance(kept, dict):
            [(name, text)] = kept.items()
            kept = _BACK[name](text)
        elif isinstance(kept, int) and not isinstance(kept, bool):
            kept = int(kept)  # BSON gives a type of its own, which drivers take for a text
        values.append(kept)
    return tuple(values)


def splits(text: str, columns: int) -> Iterator[tuple[str, ...]]:
    """Every way in which `columns` texts joined with `/` could have become `text`."""
    slashes = [place for place, character in enumerate(text) if character == "/"]
    for chosen in combinations(slashes, columns - 1):
        edges = [-1, *chosen, len(text)]
        yield tuple(text[a + 1 : b] for a, b in pairwise(edges))


def parse(text: str, kind: type) -> Any:
    """A part of a key text as a column of this type has it; None where it cannot have it."""
    try:
        if kind is int or kind is bool:
            return int(text) if _WHOLE.fullmatch(text) and abs(int(text)) < 2**63 else None
        if kind is str:
            text.encode()
            return None if "\0" in text else text
        if kind is bytes:
            return text.encode("utf-8", "surrogateescape")
        for one in (datetime, date):
            if kind is one:
                return one.fromisoformat(text)
        return kind(text)  # Decimal, float, UUID
    except (ValueError, TypeError, InvalidOperation, OverflowError):
        return None


def value(plain: Any) -> sql.ColumnElement[Any]:
    """A value for the driver as it is, whatever SQLAlchemy would make of its type."""
    if isinstance(plain, str):
        try:
            plain.encode()
        except UnicodeEncodeError:
            raw = plain.encode("utf-8", "surrogateescape")
            return sql.cast(sql.literal(raw, sql.types.NullType()), sql.Text)
    return sql.literal(plain, sql.types.NullType())


def after(columns: Sequence[sql.ColumnClause[Any]], key: Key) -> sql.ColumnElement[bool]:
    """That a row comes after `key` in the order of `columns`.

    Written out, with the first column alone in front: MariaDB uses no index range for
    `(a, b) > (x, y)`, and none for an OR.
    """
    first, *rest = columns
    if not rest:
        return first > value(key[0])
    condition: sql.ColumnElement[bool] = columns[-1] > value(key[-1])
    for column, part in reversed(list(zip(columns[:-1], key[:-1], strict=True))):
        condition = sql.or_(column > value(part), sql.and_(column == value(part), condition))
    return sql.and_(first >= value(key[0]), condition)


def one_of(
    columns: Sequence[sql.ColumnClause[Any]], keys: Sequence[Key], *, lead: bool = False
) -> sql.ColumnElement[bool]:
    """That a row has one of these keys. lead: ask for the first column alone, too."""
    if any(_is_unencodable(part) for key in keys for part in key):
        return sql.or_(
            *(
                sql.and_(
                    *(column == value(part) for column, part in zip(columns, key, strict=True))
                )
                for key in keys
            )
        )
    if len(columns) == 1:
        parts = [part for (part,) in keys]
        these = sql.bindparam(None, parts, expanding=True, type_=sql.types.NullType())
        return columns[0].in_(these)
    # As a row, written out in full by nobody but the server: AND and OR of hundreds of keys cost
    # SQLAlchemy and MariaDB ten times as much.
    plain = [sql.types.NullType() for _ in columns]
    rows = sql.tuple_(*columns, types=plain).in_(list(keys))
    # SQLite looks through all rows for that, unless the first column is there alone.
    return sql.and_(one_of(columns[:1], [key[:1] for key in keys]), rows) if lead else rows


def _is_unencodable(part: Any) -> bool:
    return isinstance(part, str) and not part.isprintable() and parse(part, str) is None


def candidates(text: str, kinds: Sequence[type]) -> tuple[int, list[Key]]:
    """The values that key columns of these types must have so that `text` is their key.

    Returns how many of the columns the values are for, and the values: all columns, or only the
    first where there are too many ways to split the text.
    """
    slashes = text.count("/")
    if len(kinds) > 1 and _ways(slashes, len(kinds) - 1) > MOST_SPLITS:
        parts = text.split("/")
        heads = ("/".join(parts[:n]) for n in range(1, slashes + 3 - len(kinds)))
        firsts = [parse(head, kinds[0]) for head in heads]
        return 1, [(first,) for first in firsts if first is not None]
    found = []
    for split in splits(text, len(kinds)):
        key = tuple(parse(part, kind) for part, kind in zip(split, kinds, strict=True))
        if None not in key:
            found.append(key)
    return len(kinds), found


def _ways(slashes: int, chosen: int) -> int:
    ways = 1
    for n in range(chosen):
        ways = ways * (slashes - n) // (n + 1)
    return ways
