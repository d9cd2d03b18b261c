"""What the events of the log say: the format of MariaDB 10.3 and later, and of MySQL 8. Pure.

Source: MariaDB's and MySQL's descriptions of the replication protocol, and their `log_event.h`.
Nothing is passed over in silence: an event of a kind that is not known here, and that the server
does not mark as ignorable, is an error.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import count

from bridge.errors import BridgeError

__all__ = [
    "ROWS",
    "Described",
    "Header",
    "Kind",
    "LogUnreadable",
    "Physical",
    "Shape",
    "Statement",
    "begins_group",
    "describe",
    "header",
    "length",
    "rotation",
    "sequence_of",
    "shape",
    "statement",
    "unpacked",
    "uuid_of",
]


class LogUnreadable(BridgeError):
    """An event that is not understood. Nothing after it may be applied."""


class Kind(IntEnum):
    """Events, by the number that they have in the log."""

    QUERY = 2
    STOP = 3
    ROTATE = 4
    INTVAR = 5
    LOAD = 6
    CREATE_FILE = 8
    APPEND_BLOCK = 9
    DELETE_FILE = 11
    RAND = 13
    USER_VAR = 14
    FORMAT_DESCRIPTION = 15
    XID = 16
    BEGIN_LOAD_QUERY = 17
    EXECUTE_LOAD_QUERY = 18
    TABLE_MAP = 19
    PRE_GA_WRITE = 20
    PRE_GA_UPDATE = 21
    PRE_GA_DELETE = 22
    WRITE_1 = 23
    UPDATE_1 = 24
    DELETE_1 = 25
    INCIDENT = 26
    HEARTBEAT = 27
    IGNORABLE = 28
    ROWS_QUERY = 29
    WRITE_2 = 30
    UPDATE_2 = 31
    DELETE_2 = 32
    GTID = 33
    ANONYMOUS_GTID = 34
    PREVIOUS_GTIDS = 35
    TRANSACTION_CONTEXT = 36
    VIEW_CHANGE = 37
    XA_PREPARE = 38
    PARTIAL_UPDATE = 39
    TRANSACTION_PAYLOAD = 40
    HEARTBEAT_2 = 41
    ANNOTATE_ROWS = 160
    BINLOG_CHECKPOINT = 161
    MARIADB_GTID = 162
    GTID_LIST = 163
    START_ENCRYPTION = 164
    QUERY_COMPRESSED = 165
    WRITE_COMPRESSED_1 = 166
    UPDATE_COMPRESSED_1 = 167
    DELETE_COMPRESSED_1 = 168
    WRITE_COMPRESSED_2 = 169
    UPDATE_COMPRESSED_2 = 170
    DELETE_COMPRESSED_2 = 171


@dataclass(frozen=True, slots=True)
class Rows:
    """A kind of event with rows. change: `insert`, `update` or `delete`. second: of the second
    version of the format. compressed: its rows are."""

    change: str
    second: bool = False
    compressed: bool = False


ROWS: dict[int, Rows] = {
    Kind.WRITE_1: Rows("insert"),
    Kind.UPDATE_1: Rows("update"),
    Kind.DELETE_1: Rows("delete"),
    Kind.WRITE_2: Rows("insert", second=True),
    Kind.UPDATE_2: Rows("update", second=True),
    Kind.DELETE_2: Rows("delete", second=True),
    Kind.WRITE_COMPRESSED_1: Rows("insert", compressed=True),
    Kind.UPDATE_COMPRESSED_1: Rows("update", compressed=True),
    Kind.DELETE_COMPRESSED_1: Rows("delete", compressed=True),
    Kind.WRITE_COMPRESSED_2: Rows("insert", second=True, compressed=True),
    Kind.UPDATE_COMPRESSED_2: Rows("update", second=True, compressed=True),
    Kind.DELETE_COMPRESSED_2: Rows("delete", second=True, compressed=True),
}

HEADER = 19
"""Bytes of the header of an event."""
ARTIFICIAL = 0x20
"""Flag of an event that is not in the file, and is made for whoever reads it."""
IGNORABLE = 0x80
"""Flag of an event that a reader who does not know it may pass over."""

_HEADER = struct.Struct("<IBIIIH")


@dataclass(frozen=True, slots=True)
class Header:
    """time: Unix seconds. server: the number of the one that wrote it. size: bytes of the whole.
    end: where the next one begins in the file, modulo 2^32."""

    time: int
    kind: int
    server: int
    size: int
    end: int
    flags: int


def header(raw: bytes) -> Header:
    """Of an event. Raises LogUnreadable for one that is cut off."""
    if len(raw) < HEADER:
        raise LogUnreadable(
            f"an event of the log has {len(raw)} bytes, and its header has {HEADER}"
        )
    found = Header(*_HEADER.unpack_from(raw))
    if found.size != len(raw):
        raise LogUnreadable(f"an event of the log has {len(raw)} bytes, and says {found.size}")
    return found


@dataclass(frozen=True, slots=True)
class Described:
    """A file of the log. version: of the server that wrote it. made: Unix seconds at which it was
    begun. checksums: whether its events end with one, of 4 bytes."""

    version: str
    made: int
    checksums: bool


def describe(raw: bytes) -> Described:
    """The event with which each file begins. Raises LogUnreadable."""
    format_, version = struct.unpack_from("<H50s", raw, HEADER)
    if format_ != 4:
        raise LogUnreadable(f"the log has format {format_}, and only 4 is known (MySQL 5.0 on)")
    # After the lengths of the events' own headers: the algorithm, and a checksum in any case.
    algorithm = raw[-5]
    if algorithm not in (0, 1):
        raise LogUnreadable(f"the log has checksums of the unknown kind {algorithm}")
    text = version.rstrip(b"\0").decode("ascii", "replace")
    return Described(text, _HEADER.unpack_from(raw)[0], algorithm == 1)


def rotation(body: bytes) -> tuple[str, int]:
    """The file and place that follow."""
    (at,) = struct.unpack_from("<Q", body)
    return body[8:].decode("utf-8", "surrogateescape"), at


@dataclass(frozen=True, slots=True)
class Group:
    """The beginning of a transaction. alone: it is one statement without a commit of its own. xid:
    of an XA transaction that it prepares or completes."""

    domain: str
    sequence: int
    alone: bool
    xid: bytes = b""
    prepares: bool = False
    completes: bool = False


_ALONE, _PREPARES, _COMPLETES = 1, 64, 128


def begins_group(body: bytes) -> Group:
    """MariaDB's GTID event."""
    sequence, domain, flags = struct.unpack_from("<QIB", body)
    at = 13
    if flags & 2:  # it was committed together with others
        at += 8
    xid = b""
    if flags & (_PREPARES | _COMPLETES):
        _, gtrid, bqual = struct.unpack_from("<IBB", body, at)
        xid = bytes(body[at : at + 6 + gtrid + bqual])
    return Group(
        str(domain),
        sequence,
        bool(flags & _ALONE),
        xid,
        bool(flags & _PREPARES),
        bool(flags & _COMPLETES),
    )


def uuid_of(body: bytes) -> str:
    """The server of MySQL's GTID event."""
    text = body[1:17].hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def sequence_of(body: bytes) -> int:
    """The number of MySQL's GTID event."""
    return int(struct.unpack_from("<Q", body, 17)[0])


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in words. schema: the default database. text: it, as the client sent it, with
    values: never to be logged."""

    schema: str
    text: str


def statement(body: bytes, *, compressed: bool = False) -> Statement:
    """A query event."""
    _, _, length, _, status = struct.unpack_from("<IIBHH", body)
    at = 13 + status
    schema = body[at : at + length].decode("utf-8", "surrogateescape")
    text = body[at + length + 1 :]
    if compressed:
        text = unpacked(text)
    return Statement(schema, text.decode("utf-8", "surrogateescape"))


def unpacked(body: bytes) -> bytes:
    """What MariaDB compressed: a byte that says how, how long it was, and the deflated bytes."""
    if not body or body[0] & 0x80 == 0 or (body[0] & 0x70) >> 4 != 0:
        raise LogUnreadable("an event of the log is compressed in an unknown way")
    width = body[0] & 0x07
    size = int.from_bytes(body[1 : 1 + width], "big")
    try:
        found = zlib.decompress(body[1 + width :])
    except zlib.error as error:
        raise LogUnreadable(f"a compressed event of the log is damaged: {error}") from None
    if len(found) != size:
        raise LogUnreadable(f"a compressed event has {len(found)} bytes, and says {size}")
    return found


# Tables.

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
NUMERIC = frozenset((TINY, SHORT, INT24, LONG, LONGLONG, FLOAT, DOUBLE, NEWDECIMAL, YEAR))
"""In the order of the table each of these has a bit for its sign."""


_CHARACTERS = frozenset(
    (STRING, VAR_STRING, VARCHAR, VARCHAR_COMPRESSED, BLOB, BLOB_COMPRESSED, TINY_BLOB,
     MEDIUM_BLOB, LONG_BLOB)
)  # fmt: skip
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


@dataclass(frozen=True)
class Shape:
    """A table as it is where the log names it. names: whether the log has them, and signs, which
    needs `binlog_row_metadata=FULL`."""

    schema: str
    table: str
    columns: tuple[Physical, ...]
    names: bool

    @cached_property
    def places(self) -> dict[str, int]:
        """Column to its number."""
        return {one.name: number for number, one in enumerate(self.columns)}


def shape(body: bytes) -> tuple[int, Shape]:
    """A table map: the number that rows call the table by, and the table. Raises LogUnreadable."""
    number = int.from_bytes(body[:6], "little")
    try:
        return number, _shape(body)
    except (struct.error, IndexError, ValueError) as error:
        raise LogUnreadable(f"the log describes a table in an unknown way: {error}") from None


def _shape(body: bytes) -> Shape:
    at = 8
    schema, at = _name(body, at)
    table, at = _name(body, at + 1)
    width, at = length(body, at + 1)
    types = body[at : at + width]
    size, at = length(body, at + width)
    metas = body[at : at + size]
    at += size + (width + 7) // 8
    found: list[tuple[int, int]] = []
    place = 0
    for type_ in types:
        bytes_ = _META.get(type_, 0)
        meta = int.from_bytes(metas[place : place + bytes_], "little")
        place += bytes_
        if type_ == STRING and meta & 0xFF in (ENUM, SET):
            type_, meta = meta & 0xFF, meta >> 8
        found.append((type_, meta))
    more = _more(body, at)
    names = [one.decode("utf-8", "surrogateescape") for one in _strings(more.get(_NAMES, b""))]
    whole = len(names) == width
    signs = iter(
        [bool(byte >> bit & 1) for byte in more.get(_SIGNS, b"") for bit in range(7, -1, -1)]
    )
    texts = iter(_collations(more, _TEXT_DEFAULT, _TEXT_EACH))
    choices = iter(_collations(more, _CHOICE_DEFAULT, _CHOICE_EACH))
    members = {ENUM: _lists(more.get(_ENUMS, b"")), SET: _lists(more.get(_SETS, b""))}
    columns = []
    for number, (type_, meta) in enumerate(found):
        collations = texts if type_ in _CHARACTERS else choices if type_ in _CHOICES else iter(())
        columns.append(
            Physical(
                names[number] if whole else f"@{number + 1}",
                type_,
                meta,
                type_ in NUMERIC and bool(next(signs, 0)),
                next(collations, BINARY),
                next(members[type_], ()) if type_ in _CHOICES else (),
            )
        )
    return Shape(schema, table, tuple(columns), whole)


_SIGNS, _TEXT_DEFAULT, _TEXT_EACH, _NAMES, _SETS, _ENUMS = 1, 2, 3, 4, 5, 6
_CHOICE_DEFAULT, _CHOICE_EACH = 10, 11


def _more(body: bytes, at: int) -> dict[int, bytes]:
    """What `binlog_row_metadata=FULL` adds, by its kind."""
    found = {}
    while at < len(body):
        kind, (size, begin) = body[at], length(body, at + 1)
        at = begin + size
        found[kind] = body[begin:at]
    return found


def _collations(more: dict[int, bytes], default: int, each: int) -> Iterator[int]:
    """Of the columns that have one, in their order; as many as are asked for."""
    if (part := more.get(each)) is not None:
        yield from _numbers(part)
        return
    numbers = list(_numbers(more.get(default, b"")))
    if not numbers:
        return
    others = dict(zip(numbers[1::2], numbers[2::2], strict=True))
    for number in count():
        yield others.get(number, numbers[0])


def _numbers(part: bytes) -> Iterator[int]:
    at = 0
    while at < len(part):
        number, at = length(part, at)
        yield number


def _strings(part: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(part):
        size, at = length(part, at)
        yield part[at : at + size]
        at += size


def _lists(part: bytes) -> Iterator[tuple[bytes, ...]]:
    """Of texts, one of each column."""
    at = 0
    while at < len(part):
        size, at = length(part, at)
        members = []
        for _ in range(size):
            width, at = length(part, at)
            members.append(part[at : at + width])
            at += width
        yield tuple(members)


def _name(body: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + body[at]
    return body[at + 1 : end].decode("utf-8", "surrogateescape"), end


def length(body: bytes, at: int) -> tuple[int, int]:
    """A whole number in the protocol's packed form, and where it ends."""
    first = body[at]
    if first < 251:
        return first, at + 1
    width = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(body[at + 1 : at + 1 + width], "little"), at + 1 + width
