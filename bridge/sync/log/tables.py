"""How the log describes a table, each time before rows of it. Pure.

Source: MariaDB's and MySQL's `Table_map_log_event`. Names, signs, character sets and members are
there with `binlog_row_metadata=FULL` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TypeVar

from bridge.sync.log.format import length, reads, taken

__all__ = ["BINARY", "Physical", "Shape", "shape"]

TINY, SHORT, LONG, FLOAT, DOUBLE, NULL, TIMESTAMP, LONGLONG, INT24 = 1, 2, 3, 4, 5, 6, 7, 8, 9
DATE, TIME, DATETIME, YEAR, NEWDATE, VARCHAR, BIT = 10, 11, 12, 13, 14, 15, 16
TIMESTAMP2, DATETIME2, TIME2, BLOB_COMPRESSED, VARCHAR_COMPRESSED = 17, 18, 19, 140, 141
JSON, NEWDECIMAL, ENUM, SET, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB = 245, 246, 247, 248, 249, 250, 251
BLOB, VAR_STRING, STRING, GEOMETRY = 252, 253, 254, 255

_META = {
    **dict.fromkeys((BLOB, TINY_BLOB, MEDIUM_BLOB, LONG_BLOB, BLOB_COMPRESSED, GEOMETRY, JSON), 1),
    **dict.fromkeys((FLOAT, DOUBLE, TIME2, DATETIME2, TIMESTAMP2), 1),
    **dict.fromkeys(
        (VARCHAR, VARCHAR_COMPRESSED, VAR_STRING, STRING, NEWDECIMAL, BIT, ENUM, SET), 2
    ),
}
"""Bytes of what is said of a column besides its type."""
_NUMERIC = frozenset((TINY, SHORT, INT24, LONG, LONGLONG, FLOAT, DOUBLE, NEWDECIMAL))
"""In the order of the table each of these has a bit for its sign; MariaDB's YEAR has one, too."""
_CHARACTERS = frozenset(
    (STRING, VAR_STRING, VARCHAR, VARCHAR_COMPRESSED, BLOB, BLOB_COMPRESSED, TINY_BLOB,
     MEDIUM_BLOB, LONG_BLOB, GEOMETRY)
)  # fmt: skip
"""Each of these has a collation. To the server a place is bytes, too."""
_CHOICES = frozenset((ENUM, SET))
BINARY = 63
"""The collation of bytes."""


@dataclass(frozen=True, slots=True)
class Physical:
    """How the values of a column are in the log. type: its number; a STRING that is an ENUM or SET
    has theirs. meta: as in the log, the low byte first. collation: the number of it, of text; 63
    is that of bytes. members: of ENUM and SET, in the character set of that collation."""

    name: str
    type: int
    meta: int
    unsigned: bool = False
    collation: int = BINARY
    members: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """A table as it is where the log names it. names: whether the log has them, and all else that
    needs `binlog_row_metadata=FULL`."""

    schema: str
    table: str
    columns: tuple[Physical, ...]
    names: bool

    def place(self, name: str) -> int | None:
        """The number of a column; None where there is none, or several that differ in case only."""
        for fold in (str, str.casefold):
            found = [at for at, one in enumerate(self.columns) if fold(one.name) == fold(name)]
            if len(found) == 1:
                return found[0]
        return None


@reads("the description of a table")
def shape(body: bytes, *, mariadb: bool = True) -> Shape:
    """A table map. mariadb: whether MariaDB wrote it. Raises LogUnreadable."""
    schema, at = _name(body, 8)
    table, at = _name(body, at)
    width, at = length(body, at)
    types = taken(body, at, width)
    size, at = length(body, at + width)
    metas = taken(body, at, size)
    at += size + (width + 7) // 8
    if at > len(body):
        raise IndexError("it ends within what may be NULL")
    more = _more(body, at)
    names = [one.decode("utf-8", "surrogateescape") for one in _strings(more.get(_NAMES, b""))]
    whole = len(names) == width
    numeric = _NUMERIC | {YEAR} if mariadb else _NUMERIC
    signs = iter(
        [bool(byte >> bit & 1) for byte in more.get(_SIGNS, b"") for bit in range(7, -1, -1)]
    )
    texts = _collations(more, _TEXT_DEFAULT, _TEXT_EACH)
    choices = _collations(more, _CHOICE_DEFAULT, _CHOICE_EACH)
    members = {ENUM: _lists(more.get(_ENUMS, b"")), SET: _lists(more.get(_SETS, b""))}
    columns = []
    for number, (type_, meta) in enumerate(_physical(types, metas)):
        unsigned, collation = False, BINARY
        of: tuple[bytes, ...] = ()
        # With names all the rest is there, or the server has written something else.
        if whole:
            if type_ in numeric:
                unsigned = _next(signs)
            elif type_ in _CHARACTERS:
                collation = _next(texts)
            elif type_ in _CHOICES:
                collation, of = _next(choices), _next(members[type_])
        name = names[number] if whole else f"@{number + 1}"
        columns.append(Physical(name, type_, meta, unsigned, collation, of))
    return Shape(schema, table, tuple(columns), whole)


def _physical(types: bytes, metas: bytes) -> Iterator[tuple[int, int]]:
    """Type and what else is said of each column."""
    at = 0
    for type_ in types:
        size = _META.get(type_, 0)
        meta = int.from_bytes(taken(metas, at, size), "little")
        at += size
        if type_ == STRING and meta & 0xFF in _CHOICES:
            type_, meta = meta & 0xFF, meta >> 8
        yield type_, meta
    if at != len(metas):
        raise IndexError(f"it says {len(metas)} bytes of its columns, and they have {at}")


_T = TypeVar("_T")
_SIGNS, _TEXT_DEFAULT, _TEXT_EACH, _NAMES, _SETS, _ENUMS = 1, 2, 3, 4, 5, 6
_CHOICE_DEFAULT, _CHOICE_EACH = 10, 11


def _more(body: bytes, at: int) -> dict[int, bytes]:
    """What `binlog_row_metadata` adds, by its kind."""
    found = {}
    while at < len(body):
        kind, (size, begin) = body[at], length(body, at + 1)
        found[kind] = taken(body, begin, size)
        at = begin + size
    return found


def _next(of: Iterator[_T]) -> _T:
    for found in of:
        return found
    raise IndexError("a column has no sign, character set or members")


def _collations(more: Mapping[int, bytes], default: int, each: int) -> Iterator[int]:
    """Of the columns that have one, in their order."""
    if (part := more.get(each)) is not None:
        return iter(_numbers(part))
    numbers = _numbers(more.get(default, b""))
    if not numbers:
        return iter(())
    others = dict(zip(numbers[1::2], numbers[2::2], strict=True))
    return (others.get(number, usual) for number, usual in enumerate(repeat(numbers[0])))


def _numbers(part: bytes) -> Sequence[int]:
    at, found = 0, []
    while at < len(part):
        number, at = length(part, at)
        found.append(number)
    return found


def _strings(part: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(part):
        size, at = length(part, at)
        yield taken(part, at, size)
        at += size


def _lists(part: bytes) -> Iterator[tuple[bytes, ...]]:
    """Of texts, one of each column."""
    at = 0
    while at < len(part):
        size, at = length(part, at)
        members = []
        for _ in range(size):
            width, at = length(part, at)
            members.append(taken(part, at, width))
            at += width
        yield tuple(members)


def _name(body: bytes, at: int) -> tuple[str, int]:
    """A name with its length in front and a zero behind, and where that ends."""
    size = body[at]
    name, end = taken(body, at + 1, size), at + 1 + size
    if body[end]:
        raise IndexError("a name does not end where it should")
    return name.decode("utf-8", "surrogateescape"), end + 1
