"""What the events of the log say: the format of MariaDB 10.3 and later, and of MySQL 8. Pure.

Source: MariaDB's and MySQL's descriptions of the replication protocol, and their `log_event.h`.
What is cut off or damaged is LogUnreadable, and never another value. How tables are described is
`tables`, and what is in rows `rows`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import wraps
from typing import ParamSpec, TypeVar

from bridge.errors import BridgeError

__all__ = [
    "ARTIFICIAL",
    "HEADER",
    "IGNORABLE",
    "ROWS",
    "Described",
    "Group",
    "Header",
    "Kind",
    "LogUnreadable",
    "Rows",
    "Statement",
    "begins_group",
    "describe",
    "has_checksum",
    "header",
    "length",
    "reads",
    "rotation",
    "sequence_of",
    "statement",
    "taken",
    "unpacked",
    "uuid_of",
]


class LogUnreadable(BridgeError):
    """An event that is not understood. Nothing after it may be applied."""


_P = ParamSpec("_P")
_R = TypeVar("_R")


def reads(what: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Of a function that reads bytes: what fails in it on bytes that are cut off or damaged
    becomes LogUnreadable. what: for the message."""

    def made(function: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(function)
        def read(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return function(*args, **kwargs)
            except (struct.error, IndexError, ValueError) as error:
                raise LogUnreadable(f"{what} of the log is damaged: {error}") from None

        return read

    return made


def taken(body: bytes, at: int, size: int) -> bytes:
    """So many bytes. Raises IndexError where there are fewer."""
    found = body[at : at + size]
    if len(found) != size:
        raise IndexError(f"it ends {size - len(found)} bytes too early")
    return found


def length(body: bytes, at: int) -> tuple[int, int]:
    """A whole number in the protocol's packed form, and where it ends. Raises IndexError."""
    first = body[at]
    if first < 251:
        return first, at + 1
    if first not in _WIDTHS:
        raise IndexError(f"no length begins with {first}")
    width = _WIDTHS[first]
    return int.from_bytes(taken(body, at + 1, width), "little"), at + 1 + width


_WIDTHS = {252: 2, 253: 3, 254: 8}


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


@reads("the first event of a file")
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


def has_checksum(raw: bytes) -> bool:
    """Whether an event ends with the checksum of what is before it: the CRC32 of zlib."""
    return zlib.crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little")


@reads("the name of the next file")
def rotation(body: bytes) -> tuple[str, int]:
    """The file and place that follow."""
    (at,) = struct.unpack_from("<Q", body)
    name = body[8:].decode("utf-8", "surrogateescape")
    if not name:
        raise IndexError("it is empty")
    return name, at


@reads("the list of transactions before a file")
def before_file(body: bytes) -> str:
    """The last transaction of each domain before a file of MariaDB's, as MariaDB writes them."""
    (count,) = struct.unpack_from("<I", body)
    found = (struct.unpack_from("<IIQ", body, 4 + 16 * at) for at in range(count & 0x0FFFFFFF))
    return ",".join(f"{domain}-{server}-{sequence}" for domain, server, sequence in found)


@dataclass(frozen=True, slots=True)
class Group:
    """The beginning of a transaction. alone: it is one statement without a commit of its own.
    prepares: it is one of XA, which a later one completes."""

    domain: str
    sequence: int
    alone: bool
    prepares: bool = False


_ALONE, _TOGETHER, _PREPARES = 1, 2, 64


@reads("a GTID")
def begins_group(body: bytes) -> Group:
    """MariaDB's GTID event."""
    sequence, domain, flags = struct.unpack_from("<QIB", body)
    return Group(str(domain), sequence, bool(flags & _ALONE), bool(flags & _PREPARES))


@reads("a GTID")
def uuid_of(body: bytes) -> str:
    """The server of MySQL's GTID event."""
    text = taken(body, 1, 16).hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


@reads("a GTID")
def sequence_of(body: bytes) -> int:
    """The number of MySQL's GTID event."""
    return int(struct.unpack_from("<Q", body, 17)[0])


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in words. schema: the default database. text: it, as the client sent it, with
    values: never to be logged. is_utf8: whether the names in it can be read; else the client spoke
    another character set."""

    schema: str
    text: str
    is_utf8: bool = True


@reads("a statement")
def statement(body: bytes, *, compressed: bool = False) -> Statement:
    """A query event."""
    _, _, size, _, status = struct.unpack_from("<IIBHH", body)
    at = 13 + status
    schema = taken(body, at, size).decode("utf-8", "surrogateescape")
    if body[at + size]:
        raise IndexError("its database does not end where it should")
    text = body[at + size + 1 :]
    if compressed:
        text = unpacked(text)
    is_utf8 = text.isascii() or _speaks_utf8(taken(body, 13, status))
    return Statement(schema, text.decode("utf-8", "surrogateescape"), is_utf8)


_BEFORE = {0: 4, 1: 8, 3: 4}
"""Bytes of what is said of a statement before its character set, by its number; names are not
here."""
_CHARSET, _CATALOG, _CATALOG_WITH_ZERO = 4, 6, 2
_UTF8 = frozenset((33, 45, 46, 76, 83, *range(192, 248), *range(255, 324)))
"""Collations of UTF-8. MariaDB has the same ones again 1024 higher, and from 2048 on all are."""


def _speaks_utf8(status: bytes) -> bool:
    """Whether the client's character set is UTF-8; False where that is not found."""
    at = 0
    while at < len(status):
        kind, at = status[at], at + 1
        if kind == _CHARSET:
            (collation,) = struct.unpack_from("<H", status, at)
            return collation >= 2048 or collation % 1024 in _UTF8
        if kind in _BEFORE:
            at += _BEFORE[kind]
        elif kind in (_CATALOG, _CATALOG_WITH_ZERO):
            at += 1 + status[at] + (kind == _CATALOG_WITH_ZERO)
        else:
            break
    return False


@reads("a compressed event")
def unpacked(body: bytes) -> bytes:
    """What MariaDB compressed: a byte that says how, how long it was, and the deflated bytes."""
    if body[0] & 0xF0 != 0x80:
        raise LogUnreadable("an event of the log is compressed in an unknown way")
    width = body[0] & 0x07
    size = int.from_bytes(taken(body, 1, width), "big")
    try:
        found = zlib.decompress(body[1 + width :])
    except zlib.error as error:
        raise LogUnreadable(f"a compressed event of the log is damaged: {error}") from None
    if len(found) != size:
        raise LogUnreadable(f"a compressed event has {len(found)} bytes, and says {size}")
    return found
