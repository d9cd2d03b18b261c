"""Events of a log as a server writes them, made by hand: for the tests of what reads them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from bridge.sync.log.format import Kind
from bridge.sync.log.tables import ENUM, SET, STRING, Physical

__all__ = ["UUID", "Maker", "deflated", "packed", "rows_body", "table_body"]

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
_NUMBERS = {"insert": Kind.WRITE_1, "update": Kind.UPDATE_1, "delete": Kind.DELETE_1}
_NUMERIC = (1, 2, 9, 3, 8, 4, 5, 246, 13)
_TEXTS = (254, 253, 15, 141, 252, 140, 249, 250, 251, 255)


def packed(number: int) -> bytes:
    """A whole number in the protocol's form."""
    if number < 251:
        return bytes((number,))
    for first, size in ((252, 2), (253, 3)):
        if number < 256**size:
            return bytes((first,)) + number.to_bytes(size, "little")
    return b"\xfe" + number.to_bytes(8, "little")


def deflated(raw: bytes) -> bytes:
    """As MariaDB compresses a part of an event."""
    size = len(raw).to_bytes(4, "big").lstrip(b"\0") or b"\0"
    return bytes((0x80 | len(size),)) + size + zlib.compress(raw)


class Maker:
    """A file of a log. checksums: whether its events have them. at: where the next one begins."""

    def __init__(self, version: str = "10.11.19-MariaDB-log", *, checksums: bool = True) -> None:
        self.version, self.checksums, self.at = version, checksums, 4

    def event(self, kind: int, body: bytes, *, time: int = 1_700_000_000, flags: int = 0) -> bytes:
        """One with its header; without a place where flags say that it is in no file."""
        size = 19 + len(body) + 4 * self.checksums
        if not flags & 0x20:
            self.at += size
        end = 0 if flags & 0x20 else self.at & 0xFFFFFFFF
        raw = struct.pack("<IBIIIH", time, kind, 7, size, end, flags) + body
        return raw + zlib.crc32(raw).to_bytes(4, "little") if self.checksums else raw

    def described(self, made: int = 1_600_000_000) -> bytes:
        """The event with which a file begins."""
        lengths = bytes(100)
        body = struct.pack("<H50sIB", 4, self.version.encode(), made, 19) + lengths
        body += bytes((self.checksums,)) + (b"" if self.checksums else bytes(4))
        return self.event(Kind.FORMAT_DESCRIPTION, body, time=made)

    def rotation(self, file: str, at: int = 4) -> bytes:
        """What is said before a file."""
        return self.event(Kind.ROTATE, struct.pack("<Q", at) + file.encode(), flags=0x20)

    def gtid(self, sequence: int, *, domain: int = 0, alone: bool = False, flags: int = 0) -> bytes:
        """The beginning of a transaction of MariaDB."""
        body = struct.pack("<QIB", sequence, domain, flags | alone) + bytes(6)
        return self.event(Kind.MARIADB_GTID, body)

    def mysql_gtid(self, sequence: int, uuid: str = UUID) -> bytes:
        """The beginning of a transaction of MySQL."""
        body = b"\1" + bytes.fromhex(uuid.replace("-", "")) + struct.pack("<Q", sequence)
        return self.event(Kind.GTID, body + bytes(17))

    def xid(self) -> bytes:
        """A commit."""
        return self.event(Kind.XID, bytes(8))

    def said(
        self, text: bytes | str, schema: str = "site", *, status: bytes | None = None
    ) -> bytes:
        """A statement; of a client that speaks UTF-8 where no status is given."""
        return self.event(Kind.QUERY, statement_body(text, schema, status=status))

    def table(self, number: int, table: str, columns: Sequence[Physical], **more: str) -> bytes:
        """The description of a table."""
        return self.event(Kind.TABLE_MAP, table_body(number, table, columns, **more))

    def rows(
        self,
        change: str,
        number: int,
        rows: Sequence[Sequence[bytes | None]],
        *,
        second: bool = False,
        compressed: bool = False,
    ) -> bytes:
        """Rows; of updates each two of them, the row before and the row after."""
        kind: int = _NUMBERS[change]
        if compressed:
            kind += 143
        if second:
            kind += 3 if compressed else 7
        return self.event(
            kind, rows_body(change, number, rows, second=second, compressed=compressed)
        )


def statement_body(
    text: bytes | str, schema: str = "site", *, status: bytes | None = None
) -> bytes:
    """Of a statement. status: what is said of its session; else UTF-8."""
    if status is None:
        status = b"\0\1\0\0\0\1" + bytes(8) + b"\6\3std\4" + struct.pack("<HHH", 45, 45, 45)
    raw = text.encode() if isinstance(text, str) else text
    head = struct.pack("<IIBHH", 5, 0, len(schema.encode()), 0, len(status))
    return head + status + schema.encode() + b"\0" + raw


def table_body(
    number: int,
    table: str,
    columns: Sequence[Physical],
    *,
    schema: str = "site",
    metadata: str = "FULL",
    collations: str = "each",
) -> bytes:
    """Of the description of a table. collations: `each`, or `default` and what differs from it."""
    types, metas = b"", b""
    for one in columns:
        is_choice = one.type in (ENUM, SET)
        types += bytes((STRING if is_choice else one.type,))
        if is_choice:
            metas += bytes((one.type, one.meta))
        elif one.type in (15, 246, 16, 254, 141, 253):
            metas += one.meta.to_bytes(2, "little")
        elif one.type in (252, 140, 245, 255, 4, 5, 17, 18, 19):
            metas += bytes((one.meta,))
    body = number.to_bytes(6, "little") + b"\1\0"
    for name in (schema, table):
        body += bytes((len(name.encode()),)) + name.encode() + b"\0"
    body += packed(len(columns)) + types + packed(len(metas)) + metas
    body += bytes((len(columns) + 7) // 8)
    return body if metadata == "NO_LOG" else body + _more(columns, collations)


def _more(columns: Sequence[Physical], collations: str) -> bytes:
    signs = [one.unsigned for one in columns if one.type in _NUMERIC]
    bits = 0
    for number, sign in enumerate(signs):
        bits |= sign << (8 * ((len(signs) + 7) // 8) - 1 - number)
    texts = [one.collation for one in columns if one.type in _TEXTS]
    chosen = [one for one in columns if one.type in (ENUM, SET)]
    names = b"".join(packed(len(one.name.encode())) + one.name.encode() for one in columns)
    parts = {4: names}
    if signs:
        parts[1] = bits.to_bytes((len(signs) + 7) // 8, "big")
    for usual, each, numbers in ((2, 3, texts), (10, 11, [one.collation for one in chosen])):
        if numbers and collations == "each":
            parts[each] = b"".join(map(packed, numbers))
        elif numbers:
            default = max(set(numbers), key=numbers.count)
            others = [(n, one) for n, one in enumerate(numbers) if one != default]
            parts[usual] = packed(default) + b"".join(packed(n) + packed(one) for n, one in others)
    for kind, type_ in ((5, SET), (6, ENUM)):
        lists = [one.members for one in chosen if one.type == type_]
        if lists:
            parts[kind] = b"".join(
                packed(len(one)) + b"".join(packed(len(member)) + member for member in one)
                for one in lists
            )
    return b"".join(bytes((kind,)) + packed(len(part)) + part for kind, part in parts.items())


def rows_body(
    change: str,
    number: int,
    rows: Sequence[Sequence[bytes | None]],
    *,
    second: bool = False,
    compressed: bool = False,
) -> bytes:
    """Of an event with rows: the bytes of each value, None for NULL."""
    width = len(rows[0])
    size = (width + 7) // 8
    head = number.to_bytes(6, "little") + b"\1\0" + (b"\4\0\0\0" if second else b"")
    head += packed(width) + b"\xff" * size * (2 if change == "update" else 1)
    raw = b""
    for row in rows:
        nulls = sum((value is None) << place for place, value in enumerate(row))
        # The bits that are no column's are set.
        nulls |= (1 << 8 * size) - (1 << width)
        raw += nulls.to_bytes(size, "little") + b"".join(value or b"" for value in row)
    return head + (deflated(raw) if compressed else raw)
