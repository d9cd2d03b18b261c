"""Values of columns as rows of the log have them: from bytes to what an event has. Pure.

`cell` gives the reader of one column. The value is the same that reading the row with SQL gives,
see `bridge.sync.types.wire`: what becomes of it in a document is for the rules of the types alone.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from typing import Any

from bridge.errors import UndecodableMessage
from bridge.sync.log import moments, numbers
from bridge.sync.log import tables as log
from bridge.sync.log.charsets import Decode, utf8
from bridge.sync.log.sizes import Cell, Misread, char_length, other, prefix
from bridge.sync.log.tables import Physical
from bridge.sync.types.column import Column
from bridge.sync.types.rules import Rule
from bridge.sync.types.values import BYTES

__all__ = ["cell"]


def cell(physical: Physical, text: Decode | None, column: Column, rule: Rule) -> Cell:
    """Of a column of a mirrored table.

    physical: how its values are in the log.
    text: reads its character set; None for bytes.
    column, rule: what the table and sync.yaml say of it.

    Raises Misread where the table's column is another than the log's, as it is when one is behind
    the other's ALTER TABLE.
    """
    if (makers := _PLAIN.get(column.type)) is not None:
        if (maker := makers.get(physical.type)) is None:
            raise other(physical, column)
        moments.without_fraction(physical, column)
        return maker(physical, column)
    if column.members:
        return _members(physical, text, column, rule)
    if column.type not in _TEXTS and column.type not in _BYTES:
        raise Misread(f"is {column.declared}, which the log is not read for")
    if (column.type in _BYTES) != (text is None):
        raise other(physical, column)
    raw = _bytes(physical, column)
    if rule.family.read == "stored":
        return _stored(raw, rule.codec)
    if text is utf8 and physical.type not in _COMPRESSED:
        return _utf8(prefix(physical))
    return _base64(raw) if text is None else _text(raw, text)


_TEXTS = frozenset(("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json"))
_BYTES = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"))


def _bytes(physical: Physical, column: Column) -> Cell:
    """Bytes as they are kept."""
    if physical.type not in _KINDS_OF_BYTES:
        raise other(physical, column)
    size = prefix(physical)
    if physical.type in _COMPRESSED:

        def inflated(raw: bytes, at: int) -> tuple[bytes, int]:
            begin = at + size
            end = begin + int.from_bytes(raw[at:begin], "little")
            return _inflated(raw[begin:end]), end

        return inflated
    # The log leaves the zeros at the end of BINARY out.
    pad = char_length(physical.meta) if column.type == "binary" else 0
    if pad:

        def padded(raw: bytes, at: int) -> tuple[bytes, int]:
            begin = at + size
            end = begin + int.from_bytes(raw[at:begin], "little")
            return raw[begin:end].ljust(pad, b"\0"), end

        return padded
    if size == 1:

        def short(raw: bytes, at: int) -> tuple[bytes, int]:
            begin = at + 1
            end = begin + raw[at]
            return raw[begin:end], end

        return short

    def long(raw: bytes, at: int) -> tuple[bytes, int]:
        begin = at + size
        end = begin + int.from_bytes(raw[at:begin], "little")
        return raw[begin:end], end

    return long


_COMPRESSED = frozenset((log.VARCHAR_COMPRESSED, log.BLOB_COMPRESSED))
_KINDS_OF_BYTES = _COMPRESSED | {log.VARCHAR, log.VAR_STRING, log.STRING, log.BLOB}


def _inflated(raw: bytes) -> bytes:
    """A value of a COMPRESSED column: a byte that says how, how long it was, and the deflated
    bytes."""
    if not raw:
        return b""
    if raw[0] == 0:
        return raw[1:]
    width = raw[0] & 0x07
    if raw[0] >> 4 != 8:
        raise UndecodableMessage(f"it is COMPRESSED in an unknown way, {raw[0]}")
    window = -zlib.MAX_WBITS if raw[0] & 0x08 else zlib.MAX_WBITS
    try:
        found = zlib.decompress(raw[1 + width :], window)
    except zlib.error as error:
        raise UndecodableMessage(f"its COMPRESSED value cannot be read: {error}") from None
    if len(found) != int.from_bytes(raw[1 : 1 + width], "big"):
        raise UndecodableMessage("its COMPRESSED value has another length than it says")
    return found


def _utf8(size: int) -> Cell:
    """What nearly all texts are in, read in one step. size: bytes of the length."""

    def short(raw: bytes, at: int) -> tuple[str, int]:
        begin = at + 1
        end = begin + raw[at]
        try:
            return raw[begin:end].decode(), end
        except UnicodeDecodeError:
            return utf8(raw[begin:end]), end

    def long(raw: bytes, at: int) -> tuple[str, int]:
        begin = at + size
        end = begin + int.from_bytes(raw[at:begin], "little")
        try:
            return raw[begin:end].decode(), end
        except UnicodeDecodeError:
            return utf8(raw[begin:end]), end

    return short if size == 1 else long


def _text(read: Cell, decode: Decode) -> Cell:
    def text(raw: bytes, at: int) -> tuple[str, int]:
        found, end = read(raw, at)
        return decode(found), end

    return text


def _base64(read: Cell) -> Cell:
    def encoded(raw: bytes, at: int) -> tuple[str, int]:
        found, end = read(raw, at)
        return base64.b64encode(found).decode("ascii"), end

    return encoded


def _stored(read: Cell, codec: str) -> Cell:
    """Text in bytes of another character set."""

    def stored(raw: bytes, at: int) -> tuple[Any, int]:
        found, end = read(raw, at)
        return _of_codec(found, codec), end

    return stored


def _of_codec(raw: bytes, codec: str) -> Any:
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        return {BYTES: base64.b64encode(raw).decode("ascii")}


def _members(physical: Physical, text: Decode | None, column: Column, rule: Rule) -> Cell:
    """ENUM: the number of its member. SET: a bit for each."""
    width, members = physical.meta, physical.members
    codec = rule.codec

    def shown(raw: bytes) -> Any:
        if codec:
            return _of_codec(raw, codec)
        return raw.decode() if text is None else text(raw)

    try:
        texts = ["", *map(shown, members)]
    except (UndecodableMessage, UnicodeDecodeError) as error:
        raise Misread(f"has a member that cannot be read: {error}") from None
    if physical.type == log.ENUM and column.type == "enum":

        def one(raw: bytes, at: int) -> tuple[Any, int]:
            found = int.from_bytes(raw[at : at + width], "little")
            if found >= len(texts):
                raise UndecodableMessage(f"it has member {found} of {len(members)}")
            return texts[found], at + width

        return one
    if physical.type == log.SET and column.type == "set":

        def some(raw: bytes, at: int) -> tuple[Any, int]:
            bits = int.from_bytes(raw[at : at + width], "little")
            if bits >> len(members):
                raise UndecodableMessage(f"it has more members than {len(members)}")
            chosen = [number for number in range(len(members)) if bits >> number & 1]
            if codec:
                return _of_codec(b",".join([members[one] for one in chosen]), codec), at + width
            return ",".join([texts[one + 1] for one in chosen]), at + width

        return some
    raise other(physical, column)


def _address(physical: Physical, column: Column) -> Cell:
    """UUID, INET4 and INET6: 16 or 4 bytes, without the zeros at their end."""
    size = prefix(physical)
    width = 4 if column.type == "inet4" else 16
    show = {"uuid": _uuid, "inet4": _inet4, "inet6": _inet6}[column.type]

    def address(raw: bytes, at: int) -> tuple[str, int]:
        begin = at + size
        end = begin + int.from_bytes(raw[at:begin], "little")
        if end - begin > width:
            raise UndecodableMessage(f"it has {end - begin} bytes, and {column.type} {width}")
        return show(raw[begin:end].ljust(width, b"\0")), end

    return address


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _inet4(raw: bytes) -> str:
    return ".".join(map(str, raw))


def _inet6(raw: bytes) -> str:
    """As MariaDB prints it: the longest run of zeros is left out, also one of a single zero, and
    what holds an address of IPv4 is written as one."""
    groups = struct.unpack(">8H", raw)
    begin, length, run = -1, 0, 0
    for place, group in enumerate((*groups, 1)):
        if group:
            run = 0
            continue
        run += 1
        if run > length:
            begin, length = place - run + 1, run
    mapped = begin == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF))
    if mapped:
        head = "::ffff:" if length == 5 else "::"
        return head + _inet4(raw[12:])
    if begin < 0:
        return ":".join(f"{group:x}" for group in groups)
    left = ":".join(f"{group:x}" for group in groups[:begin])
    right = ":".join(f"{group:x}" for group in groups[begin + length :])
    return f"{left}::{right}"


Maker = Callable[[Physical, Column], Cell]
_PLAIN: dict[str, dict[int, Maker]] = {
    **{name: dict.fromkeys(numbers.WHOLES.values(), numbers.whole) for name in numbers.WHOLES},
    "year": {log.YEAR: numbers.year},
    "bit": {log.BIT: numbers.bit},
    "float": {log.FLOAT: numbers.single},
    "double": {log.DOUBLE: numbers.double},
    "decimal": {log.NEWDECIMAL: numbers.decimal},
    "date": {log.DATE: moments.date, log.NEWDATE: moments.date},
    "datetime": {log.DATETIME: moments.old_datetime, log.DATETIME2: moments.datetime2},
    "timestamp": {log.TIMESTAMP: moments.old_timestamp, log.TIMESTAMP2: moments.timestamp2},
    "time": {log.TIME: moments.old_time, log.TIME2: moments.time2},
    **{name: {log.STRING: _address} for name in ("uuid", "inet4", "inet6")},
}
"""By the type of the column, and of its values in the log."""
