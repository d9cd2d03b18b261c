"""Values of columns as rows of the log have them: from bytes to what an event has. Pure.

`cell` gives the reader of one column: of bytes and a place, the value and where it ends. The value
is the same that reading the row with SQL gives, see `bridge.sync.types.wire`: what becomes of it
in a document is for the rules of the types alone.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_VERSION
from bridge.sync.charsets import codec_of
from bridge.sync.log import format as log
from bridge.sync.log.format import Physical
from bridge.sync.types.column import Column
from bridge.sync.types.rules import Rule
from bridge.sync.types.values import BYTES

__all__ = ["Cell", "Misread", "cell", "skip"]

Cell = Callable[[bytes, int], tuple[Any, int]]
"""Reads one value that is not NULL."""


class Misread(ValueError):
    """A column whose values in the log are not what the table's column says. The text follows the
    name of the column."""


def skip(physical: Physical) -> Cell:
    """Of a column that nobody wants."""
    if (width := _width(physical)) is not None:
        return lambda raw, at, width=width: (None, at + width)  # type: ignore[misc]
    size = _prefix(physical)

    def skipped(raw: bytes, at: int) -> tuple[None, int]:
        begin = at + size
        return None, begin + int.from_bytes(raw[at:begin], "little")

    return skipped


def cell(physical: Physical, charset: str, column: Column, rule: Rule) -> Cell:
    """Of a column of a mirrored table. charset: of the values in the log, `binary` for bytes.

    Raises Misread where the table's column is another than the log's, as it is when one is behind
    the other's ALTER TABLE, and ValueError for a character set that is not known.
    """
    if (makers := _PLAIN.get(column.type)) is not None:
        if (maker := makers.get(physical.type)) is None:
            raise _other(physical, column)
        return maker(physical, column)
    if column.members:
        return _members(physical, charset, column, rule)
    if column.type not in _TEXTS and column.type not in _BYTES:
        raise Misread(f"is {column.declared}, which the log is not read for")
    if (column.type in _BYTES) != (charset == "binary"):
        raise _other(physical, column)
    raw = _bytes(physical, column)
    if rule.family.read == "stored":
        return _stored(raw, rule.codec)
    return _base64(raw) if column.type in _BYTES else _text(raw, codec_of(charset))


# How long values are.

_FIXED = {
    log.TINY: 1,
    log.SHORT: 2,
    log.INT24: 3,
    log.LONG: 4,
    log.LONGLONG: 8,
    log.FLOAT: 4,
    log.DOUBLE: 8,
    log.YEAR: 1,
    log.DATE: 3,
    log.NEWDATE: 3,
    log.TIME: 3,
    log.DATETIME: 8,
    log.TIMESTAMP: 4,
}
_DIGITS = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""Bytes of so many decimal digits."""


def _width(physical: Physical) -> int | None:
    """Bytes of each value; None where they differ."""
    kind, meta = physical.type, physical.meta
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == log.NEWDECIMAL:
        precision, scale = meta & 0xFF, meta >> 8
        whole = precision - scale
        return whole // 9 * 4 + _DIGITS[whole % 9] + scale // 9 * 4 + _DIGITS[scale % 9]
    if kind == log.BIT:
        return ((meta >> 8) * 8 + (meta & 0xFF) + 7) // 8
    if kind in (log.ENUM, log.SET):
        return meta
    if kind in _FRACTIONS:
        return _FRACTIONS[kind] + (meta + 1) // 2
    return None


_FRACTIONS = {log.TIMESTAMP2: 4, log.DATETIME2: 5, log.TIME2: 3}


def _prefix(physical: Physical) -> int:
    """Bytes that say how long a value is. Raises Misread."""
    kind, meta = physical.type, physical.meta
    if kind in (log.VARCHAR, log.VAR_STRING, log.VARCHAR_COMPRESSED):
        return 1 if meta < 256 else 2
    if kind == log.STRING:
        return 1 if _char_length(meta) < 256 else 2
    if kind in (log.BLOB, log.BLOB_COMPRESSED, log.GEOMETRY, log.JSON):
        return meta
    raise Misread(f"is of kind {kind} in the log, which is not known")


def _char_length(meta: int) -> int:
    # Two bits of the length are in the byte of the type, inverted.
    return (meta >> 8) | (((meta & 0x30) ^ 0x30) << 4)


# Whole numbers, and what is like them.

_WHOLES = {"tinyint": log.TINY, "smallint": log.SHORT, "mediumint": log.INT24, "int": log.LONG,
           "bigint": log.LONGLONG}  # fmt: skip
_STRUCTS = {
    (log.TINY, False): struct.Struct("<b"),
    (log.TINY, True): struct.Struct("<B"),
    (log.SHORT, False): struct.Struct("<h"),
    (log.SHORT, True): struct.Struct("<H"),
    (log.LONG, False): struct.Struct("<i"),
    (log.LONG, True): struct.Struct("<I"),
    (log.LONGLONG, False): struct.Struct("<q"),
    (log.LONGLONG, True): struct.Struct("<Q"),
}


def _whole(physical: Physical, column: Column) -> Cell:
    kind = physical.type
    if kind == log.INT24:
        signed = not physical.unsigned
        return lambda raw, at: (int.from_bytes(raw[at : at + 3], "little", signed=signed), at + 3)
    packed = _STRUCTS[kind, physical.unsigned]
    unpack, width = packed.unpack_from, packed.size
    if kind == log.LONGLONG and physical.unsigned:

        def large(raw: bytes, at: int) -> tuple[int | str, int]:
            (found,) = unpack(raw, at)
            return (found if found <= MAX_VERSION else str(found)), at + 8

        return large
    return lambda raw, at: (unpack(raw, at)[0], at + width)


def _year(physical: Physical, column: Column) -> Cell:
    def year(raw: bytes, at: int) -> tuple[int, int]:
        return (raw[at] + 1900 if raw[at] else 0), at + 1

    return year


def _bit(physical: Physical, column: Column) -> Cell:
    width = _width(physical)
    assert width is not None

    def bits(raw: bytes, at: int) -> tuple[int | str, int]:
        found = int.from_bytes(raw[at : at + width], "big")
        return (found if found <= MAX_VERSION else str(found)), at + width

    return bits


def _float(physical: Physical, column: Column) -> Cell:
    unpack = struct.Struct("<f").unpack_from
    if column.scale is not None:
        return lambda raw, at: (unpack(raw, at)[0], at + 4)
    # SELECT prints six digits of it, and so do drivers read it.
    return lambda raw, at: (float(f"{unpack(raw, at)[0]:.6g}"), at + 4)


def _double(physical: Physical, column: Column) -> Cell:
    unpack = struct.Struct("<d").unpack_from
    return lambda raw, at: (unpack(raw, at)[0], at + 8)


def _decimal(physical: Physical, column: Column) -> Cell:
    """Groups of nine digits in four bytes, the first one and the last one shorter. The first bit
    is the sign, inverted, and a negative number has all bits inverted."""
    precision, scale = physical.meta & 0xFF, physical.meta >> 8
    whole = precision - scale
    width = _width(physical)
    assert width is not None
    sizes = [_DIGITS[whole % 9]] if whole % 9 else []
    sizes += [4] * (whole // 9)
    tail = [(4, 9)] * (scale // 9) + ([(_DIGITS[scale % 9], scale % 9)] if scale % 9 else [])
    ones = (1 << 8 * width) - 1
    top = 1 << 8 * width - 1

    def decimal(raw: bytes, at: int) -> tuple[str, int]:
        end = at + width
        bits = int.from_bytes(raw[at:end], "big")
        sign = "" if bits & top else "-"
        bits ^= top
        if sign:
            bits ^= ones
        data = bits.to_bytes(width, "big")
        number, place = 0, 0
        for size in sizes:
            number = number * 1_000_000_000 + int.from_bytes(data[place : place + size], "big")
            place += size
        text = f"{sign}{number}"
        if tail:
            text += "."
            for size, digits in tail:
                text += f"{int.from_bytes(data[place : place + size], 'big'):0{digits}}"
                place += size
        return text, end

    return decimal


# Days and times.


def _date(physical: Physical, column: Column) -> Cell:
    def date(raw: bytes, at: int) -> tuple[str, int]:
        bits = raw[at] | raw[at + 1] << 8 | raw[at + 2] << 16
        return f"{bits >> 9:04}-{bits >> 5 & 15:02}-{bits & 31:02}", at + 3

    return date


def _fraction(meta: int) -> tuple[int, Callable[[int], str]]:
    """Bytes of a fraction of so many digits, and its text."""
    width = (meta + 1) // 2
    spare = meta % 2  # an odd number of digits has a zero behind it
    return width, lambda found: f".{found // 10 if spare else found:0{meta}}" if meta else ""


def _datetime2(physical: Physical, column: Column) -> Cell:
    width, fraction = _fraction(physical.meta)

    def moment(raw: bytes, at: int) -> tuple[str, int]:
        middle, end = at + 5, at + 5 + width
        bits = int.from_bytes(raw[at:middle], "big") - 0x8000000000
        months, day = bits >> 22, bits >> 17 & 31
        text = (
            f"{months // 13:04}-{months % 13:02}-{day:02} "
            f"{bits >> 12 & 31:02}:{bits >> 6 & 63:02}:{bits & 63:02}"
        )
        return (text + fraction(int.from_bytes(raw[middle:end], "big")) if width else text), end

    return moment


def _datetime(physical: Physical, column: Column) -> Cell:
    def moment(raw: bytes, at: int) -> tuple[str, int]:
        digits = f"{int.from_bytes(raw[at : at + 8], 'little'):014}"
        day = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"
        return f"{day} {digits[8:10]}:{digits[10:12]}:{digits[12:]}", at + 8

    return _without_fraction(column, moment)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _timestamp2(physical: Physical, column: Column) -> Cell:
    width, fraction = _fraction(physical.meta)
    zero = "0000-00-00 00:00:00" + (f".{'0' * physical.meta}" if physical.meta else "")

    def moment(raw: bytes, at: int) -> tuple[str, int]:
        middle, end = at + 4, at + 4 + width
        seconds = int.from_bytes(raw[at:middle], "big")
        part = int.from_bytes(raw[middle:end], "big")
        if not seconds and not part:
            return zero, end
        text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")
        return f"{text}{fraction(part)}Z", end

    return moment


def _timestamp(physical: Physical, column: Column) -> Cell:
    def moment(raw: bytes, at: int) -> tuple[str, int]:
        seconds = int.from_bytes(raw[at : at + 4], "little")
        if not seconds:
            return "0000-00-00 00:00:00", at + 4
        return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%SZ"), at + 4

    return _without_fraction(column, moment)


def _time2(physical: Physical, column: Column) -> Cell:
    digits = physical.meta
    width = (digits + 1) // 2
    whole = 3 + width
    zero = 0x800000 << 8 * width
    unit = 256**width
    spare = 10 if digits % 2 else 1

    def time(raw: bytes, at: int) -> tuple[str, int]:
        # The fraction counts from the lower second, so that the sign is that of the whole.
        bits = int.from_bytes(raw[at : at + whole], "big") - zero
        sign, bits = ("-", -bits) if bits < 0 else ("", bits)
        clock, part = divmod(bits, unit)
        text = f"{sign}{clock >> 12 & 0x3FF:02}:{clock >> 6 & 63:02}:{clock & 63:02}"
        return (f"{text}.{part // spare:0{digits}}" if digits else text), at + whole

    return time


def _time(physical: Physical, column: Column) -> Cell:
    def time(raw: bytes, at: int) -> tuple[str, int]:
        found = int.from_bytes(raw[at : at + 3], "little", signed=True)
        sign, found = ("-", -found) if found < 0 else ("", found)
        return f"{sign}{found // 10000:02}:{found // 100 % 100:02}:{found % 100:02}", at + 3

    return _without_fraction(column, time)


def _without_fraction(column: Column, read: Cell) -> Cell:
    """The types that servers wrote before MySQL 5.6."""
    if column.scale:
        raise Misread(
            f"is {column.declared} in the format of old servers, whose fractions are not read: "
            "`ALTER TABLE … FORCE` writes the table anew"
        )
    return read


# Bytes and texts.

_TEXTS = frozenset(
    ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "json")
)
_BYTES = frozenset(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"))


def _bytes(physical: Physical, column: Column) -> Cell:
    """Bytes as they are kept."""
    if physical.type in (log.GEOMETRY, log.JSON) or physical.type in _FIXED:
        raise _other(physical, column)
    size = _prefix(physical)
    if physical.type in (log.BLOB_COMPRESSED, log.VARCHAR_COMPRESSED):

        def inflated(raw: bytes, at: int) -> tuple[bytes, int]:
            begin = at + size
            end = begin + int.from_bytes(raw[at:begin], "little")
            return _inflated(raw[begin:end]), end

        return inflated
    # The log leaves the zeros at the end of BINARY out.
    pad = _char_length(physical.meta) if column.type == "binary" else 0
    if pad:

        def padded(raw: bytes, at: int) -> tuple[bytes, int]:
            begin = at + size
            end = begin + int.from_bytes(raw[at:begin], "little")
            return raw[begin:end].ljust(pad, b"\0"), end

        return padded
    if size == 1:

        def short(raw: bytes, at: int) -> tuple[bytes, int]:
            end = at + 1 + raw[at]
            return raw[at + 1 : end], end

        return short

    def long(raw: bytes, at: int) -> tuple[bytes, int]:
        begin = at + size
        end = begin + int.from_bytes(raw[at:begin], "little")
        return raw[begin:end], end

    return long


def _inflated(raw: bytes) -> bytes:
    """A value of a COMPRESSED column: a byte that says how, and the length of what was deflated."""
    if not raw:
        return b""
    method, width = raw[0] >> 4, raw[0] & 0x07
    if method == 0:
        return raw[1:]
    if method != 8:
        raise UndecodableMessage(f"a COMPRESSED column has an unknown method, {method}")
    window = zlib.MAX_WBITS if raw[0] & 0x08 else -zlib.MAX_WBITS
    try:
        return zlib.decompress(raw[1 + width :], window)
    except zlib.error as error:
        raise UndecodableMessage(f"a COMPRESSED value cannot be read: {error}") from None


def _text(read: Cell, codec: str) -> Cell:
    def text(raw: bytes, at: int) -> tuple[str, int]:
        found, end = read(raw, at)
        try:
            return found.decode(codec), end
        except UnicodeDecodeError as error:
            raise UndecodableMessage(f"its bytes are no {codec}: {error.reason}") from None

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
        try:
            return found.decode(codec), end
        except UnicodeDecodeError:
            return {BYTES: base64.b64encode(found).decode("ascii")}, end

    return stored


def _members(physical: Physical, charset: str, column: Column, rule: Rule) -> Cell:
    """ENUM: the number of its member. SET: a bit for each."""
    width = physical.meta
    codec = rule.codec or ("utf-8" if charset == "binary" else codec_of(charset))
    try:
        members = [one.decode(codec) for one in physical.members]
    except UnicodeDecodeError as error:
        raise Misread(f"has a member that is no {codec}: {error.reason}") from None
    if physical.type == log.ENUM and column.type == "enum":
        texts = ("", *members)

        def one(raw: bytes, at: int) -> tuple[str, int]:
            found = int.from_bytes(raw[at : at + width], "little")
            if found >= len(texts):
                raise UndecodableMessage(f"it has member {found} of {len(members)}")
            return texts[found], at + width

        return one
    if physical.type == log.SET and column.type == "set":

        def some(raw: bytes, at: int) -> tuple[str, int]:
            bits = int.from_bytes(raw[at : at + width], "little")
            if bits >> len(members):
                raise UndecodableMessage(f"it has more members than {len(members)}")
            return ",".join(one for n, one in enumerate(members) if bits >> n & 1), at + width

        return some
    raise _other(physical, column)


def _address(physical: Physical, column: Column) -> Cell:
    """UUID, INET4 and INET6: 16 or 4 bytes, without the zeros at their end."""
    size = _prefix(physical)
    width = 4 if column.type == "inet4" else 16
    show = {"uuid": _uuid, "inet4": _inet4, "inet6": _inet6}[column.type]

    def address(raw: bytes, at: int) -> tuple[str, int]:
        begin = at + size
        end = begin + int.from_bytes(raw[at:begin], "little")
        return show(raw[begin:end].ljust(width, b"\0")), end

    return address


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def _inet4(raw: bytes) -> str:
    return ".".join(map(str, raw))


def _inet6(raw: bytes) -> str:
    """As MariaDB prints it: the longest run of zeros is left out, and what holds an address of
    IPv4 is written as one."""
    groups = struct.unpack(">8H", raw)
    begin, length, run = -1, 0, 0
    for place, group in enumerate((*groups, 1)):
        if group:
            run = 0
            continue
        run += 1
        if run > length:
            begin, length = place - run + 1, run
    if length < 2:
        begin, length = -1, 0
    mapped = begin == 0 and (length == 6 or (length == 5 and groups[5] == 0xFFFF))
    if mapped:
        head = "::ffff:" if length == 5 else "::"
        return head + _inet4(raw[12:])
    if begin < 0:
        return ":".join(f"{group:x}" for group in groups)
    left = ":".join(f"{group:x}" for group in groups[:begin])
    right = ":".join(f"{group:x}" for group in groups[begin + length :])
    return f"{left}::{right}"


def _other(physical: Physical, column: Column) -> Misread:
    sign = " unsigned" if physical.unsigned else ""
    return Misread(f"is {column.declared}, and the log has kind {physical.type}{sign} there")


Maker = Callable[[Physical, Column], Cell]
_PLAIN: dict[str, dict[int, Maker]] = {
    **{name: dict.fromkeys(_WHOLES.values(), _whole) for name in _WHOLES},
    "year": {log.YEAR: _year},
    "bit": {log.BIT: _bit},
    "float": {log.FLOAT: _float},
    "double": {log.DOUBLE: _double},
    "decimal": {log.NEWDECIMAL: _decimal},
    "date": {log.DATE: _date, log.NEWDATE: _date},
    "datetime": {log.DATETIME: _datetime, log.DATETIME2: _datetime2},
    "timestamp": {log.TIMESTAMP: _timestamp, log.TIMESTAMP2: _timestamp2},
    "time": {log.TIME: _time, log.TIME2: _time2},
    **{name: {log.STRING: _address} for name in ("uuid", "inet4", "inet6")},
}
"""By the type of the column, and of its values in the log."""
