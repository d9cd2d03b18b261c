"""Values of each type as they are in the log: each is made by hand from what it stands for."""

from __future__ import annotations

import base64
import ipaddress
import struct
import uuid
import zlib
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UndecodableMessage
from bridge.sync.log import tables as log
from bridge.sync.log.cells import cell
from bridge.sync.log.charsets import Decode
from bridge.sync.log.moments import without_fraction
from bridge.sync.log.sizes import Misread, prefix, skip, width
from bridge.sync.log.tables import Physical
from bridge.sync.models import FieldRule
from bridge.sync.types.column import Column
from bridge.sync.types.rules import rule
from tests.sync.log.entities import CHARSETS, LATIN1, UCS2, UTF8

OTHER = b"\xa5\x5a\xa5"
"""What stands before a value, and behind it."""


def read(physical: Physical, column: Column, raw: bytes, *, stored: str | None = None) -> Any:
    """The value that is all of these bytes, wherever they stand; and who does not want it finds the
    same end."""
    field = None if stored is None else FieldRule.model_validate({"text": {"stored": stored}})
    made = cell(physical, decoder(physical), column, rule(column, "mysql", field))
    value, end = made(OTHER + raw + OTHER, len(OTHER))
    assert end == len(OTHER) + len(raw)
    at = len(OTHER)
    for past in skip([physical]):
        at = past(OTHER + raw + OTHER, at)
    assert at == end
    return value


def decoder(physical: Physical) -> Decode | None:
    return CHARSETS.decoder(physical.collation)


def column(type_: str, **more: Any) -> Column:
    return Column("c", type_, more.pop("declared", type_), **more)


# Numbers.

WHOLES = {
    "tinyint": (log.TINY, 1),
    "smallint": (log.SHORT, 2),
    "mediumint": (log.INT24, 3),
    "int": (log.LONG, 4),
    "bigint": (log.LONGLONG, 8),
}


@given(st.sampled_from(sorted(WHOLES)), st.sampled_from(sorted(WHOLES)), st.data())
def test_whole_numbers_are_read(declared: str, written: str, data: st.DataObject) -> None:
    """Of whatever width they were when they were written."""
    kind, size = WHOLES[written]
    number = data.draw(st.integers(-(2 ** (8 * size - 1)), 2 ** (8 * size - 1) - 1))
    raw = number.to_bytes(size, "little", signed=True)
    assert read(Physical("c", kind, 0), column(declared), raw) == number
    unsigned = int.from_bytes(raw, "little")
    found = read(Physical("c", kind, 0, True), column(declared), raw)
    assert found == (unsigned if unsigned < 2**63 else str(unsigned))


def test_the_largest_number_that_is_one_is_known() -> None:
    physical = Physical("c", log.LONGLONG, 0, True)
    assert read(physical, column("bigint"), (2**63 - 1).to_bytes(8, "little")) == 2**63 - 1
    assert read(physical, column("bigint"), (2**63).to_bytes(8, "little")) == str(2**63)


@pytest.mark.parametrize(("raw", "number"), [(0, 0), (1, 1901), (126, 2026), (255, 2155)])
def test_years_are_read(raw: int, number: int) -> None:
    assert read(Physical("c", log.YEAR, 0), column("year"), bytes((raw,))) == number


@given(st.integers(1, 64), st.data())
def test_bits_are_read(bits: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, 2**bits - 1))
    physical = Physical("c", log.BIT, (bits // 8) << 8 | bits % 8)
    found = read(physical, column("bit", length=bits), number.to_bytes((bits + 7) // 8, "big"))
    assert found == (number if number < 2**63 else str(number))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_of_double_precision_are_read(number: float) -> None:
    assert read(Physical("c", log.DOUBLE, 8), column("double"), struct.pack("<d", number)) == number


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_numbers_of_single_precision_have_the_digits_that_select_prints(number: float) -> None:
    """Six, unless the column says how many."""
    raw = struct.pack("<f", number)
    physical = Physical("c", log.FLOAT, 4)
    assert read(physical, column("float"), raw) == float(f"{number:.5e}")
    assert read(physical, column("float", scale=3), raw) == number


def decimal_bytes(number: Decimal, precision: int, scale: int) -> bytes:
    """As the server packs it."""
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    digits = f"{abs(int(number.scaleb(scale))):0{precision}}"
    before, after = digits[: precision - scale], digits[precision - scale :]
    head = len(before) % 9
    groups = [(before[:head], sizes[head])] if head else []
    groups += [(before[n : n + 9], 4) for n in range(head, len(before), 9)]
    groups += [(after[n : n + 9], sizes[len(after[n : n + 9])]) for n in range(0, len(after), 9)]
    raw = bytearray(b"".join(int(text).to_bytes(size, "big") for text, size in groups))
    raw[0] ^= 0x80
    return bytes(one ^ 0xFF for one in raw) if number < 0 else bytes(raw)


@given(st.data())
def test_decimals_are_read(data: st.DataObject) -> None:
    """With all digits of their scale, and without zeros in front."""
    scale = data.draw(st.integers(0, 30))
    precision = data.draw(st.integers(max(1, scale), 65))
    whole = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    digits = f"{abs(whole):0{scale + 1}}"
    text = ("-" if whole < 0 else "") + digits[: len(digits) - scale]
    text += f".{digits[-scale:]}" if scale else ""
    number = Decimal((int(whole < 0), tuple(map(int, str(abs(whole)))), -scale))
    with localcontext(Context(prec=80)):
        raw = decimal_bytes(number, precision, scale)
    physical = Physical("c", log.NEWDECIMAL, precision | scale << 8)
    assert read(physical, column("decimal", length=precision, scale=scale), raw) == text


# Days and times.


@given(st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31))
def test_days_are_read(year: int, month: int, day: int) -> None:
    """Also those that no calendar has."""
    raw = (year << 9 | month << 5 | day).to_bytes(3, "little")
    for kind in (log.DATE, log.NEWDATE):
        found = read(Physical("c", kind, 0), column("date"), raw)
        assert found == f"{year:04}-{month:02}-{day:02}"


FRACTIONS = st.integers(0, 6).flatmap(
    lambda digits: st.tuples(st.just(digits), st.integers(0, 10**digits - 1))
)


def fraction(digits: int, part: int) -> tuple[bytes, str]:
    """Its bytes, and its text."""
    if not digits:
        return b"", ""
    return (part * 10 ** (digits % 2)).to_bytes((digits + 1) // 2, "big"), f".{part:0{digits}}"


@given(
    st.integers(0, 9999), st.integers(0, 12), st.integers(0, 31), st.integers(0, 23),
    st.integers(0, 59), st.integers(0, 59), FRACTIONS,
)  # fmt: skip
def test_moments_are_read(
    year: int, month: int, day: int, hour: int, minute: int, second: int, part: tuple[int, int]
) -> None:
    bits = ((year * 13 + month) << 5 | day) << 17 | hour << 12 | minute << 6 | second
    raw, text = fraction(*part)
    found = read(
        Physical("c", log.DATETIME2, part[0]),
        column("datetime", scale=part[0]),
        (bits + 0x8000000000).to_bytes(5, "big") + raw,
    )
    clock = f"{hour:02}:{minute:02}:{second:02}"
    assert found == f"{year:04}-{month:02}-{day:02} {clock}{text}"

    digits = int(f"{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
    old = read(Physical("c", log.DATETIME, 0), column("datetime"), digits.to_bytes(8, "little"))
    assert old == f"{year:04}-{month:02}-{day:02} {clock}"


@given(st.integers(1, 2**32 - 1), FRACTIONS)
def test_moments_of_unix_time_are_read(seconds: int, part: tuple[int, int]) -> None:
    raw, text = fraction(*part)
    physical = Physical("c", log.TIMESTAMP2, part[0])
    moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).replace(tzinfo=None)
    declared = column("timestamp", scale=part[0])
    assert read(physical, declared, seconds.to_bytes(4, "big") + raw) == f"{moment}{text}Z"

    old = Physical("c", log.TIMESTAMP, 0)
    assert read(old, column("timestamp"), seconds.to_bytes(4, "little")) == f"{moment}Z"


@pytest.mark.parametrize("digits", range(7))
def test_the_zero_moment_is_none(digits: int) -> None:
    """And half a second of 1970 is one."""
    physical, declared = Physical("c", log.TIMESTAMP2, digits), column("timestamp", scale=digits)
    zero = "0000-00-00 00:00:00" + ("." + "0" * digits if digits else "")
    wide = (digits + 1) // 2
    assert read(physical, declared, bytes(4 + wide)) == zero
    if digits:
        raw, text = fraction(digits, 5 * 10 ** (digits - 1))
        assert read(physical, declared, bytes(4) + raw) == f"1970-01-01 00:00:00{text}Z"
    old = Physical("c", log.TIMESTAMP, 0)
    assert read(old, column("timestamp"), bytes(4)) == "0000-00-00 00:00:00"


@given(st.integers(-838 * 3600 - 3599, 838 * 3600 + 3599), FRACTIONS)
def test_spans_of_time_are_read(seconds: int, part: tuple[int, int]) -> None:
    """The fraction of a negative one counts down from it."""
    digits, of = part
    wide = (digits + 1) // 2
    hours, rest = divmod(abs(seconds), 3600)
    clock = hours << 12 | rest // 60 << 6 | rest % 60
    whole = clock << 8 * wide | int.from_bytes(fraction(digits, of)[0], "big")
    negative = seconds < 0
    raw = ((-whole if negative else whole) + (0x800000 << 8 * wide)).to_bytes(3 + wide, "big")
    text = f"{hours:02}:{rest // 60:02}:{rest % 60:02}"
    sign = "-" if negative else ""
    found = read(Physical("c", log.TIME2, digits), column("time", scale=digits), raw)
    assert found == f"{sign}{text}{fraction(digits, of)[1]}"

    number = hours * 10000 + rest // 60 * 100 + rest % 60
    old = (-number if negative else number).to_bytes(3, "little", signed=True)
    assert read(Physical("c", log.TIME, 0), column("time", scale=0), old) == f"{sign}{text}"


@pytest.mark.parametrize(
    ("kind", "type_", "raw", "told"),
    [
        (log.DATE, "date", (2024 << 9 | 13 << 5 | 1).to_bytes(3, "little"), "2024-13-1 is no day"),
        (log.DATE, "date", (10000 << 9).to_bytes(3, "little"), "10000-0-0 is no day"),
        (log.DATETIME2, "datetime", bytes(5), "is no day"),
        (log.DATETIME2, "datetime", b"\xff" * 5, "is no day"),
        (log.DATETIME, "datetime", (20240132000000).to_bytes(8, "little"), "2024-1-32 is no day"),
        (log.DATETIME, "datetime", (20241301000000).to_bytes(8, "little"), "2024-13-1 is no day"),
        (log.DATETIME, "datetime", (20240131240000).to_bytes(8, "little"), "240000 is no moment"),
        (log.DATETIME, "datetime", (20240131006000).to_bytes(8, "little"), "006000 is no moment"),
        (log.DATETIME, "datetime", (20240131000060).to_bytes(8, "little"), "000060 is no moment"),
        (log.TIME, "time", (8390000).to_bytes(3, "little"), "is no time"),
        (log.TIME, "time", (6000).to_bytes(3, "little"), "6000 is no time"),
        (log.TIME, "time", (-60).to_bytes(3, "little", signed=True), "-60 is no time"),
    ],
)
def test_what_is_no_day_or_time_is_told(kind: int, type_: str, raw: bytes, told: str) -> None:
    with pytest.raises(UndecodableMessage, match=told):
        read(Physical("c", kind, 0), column(type_, scale=0), raw)


def test_days_that_were_met_before_are_found_again() -> None:
    """However many there were in between."""
    physical, declared = Physical("c", log.DATE, 0), column("date")
    made = cell(physical, None, declared, rule(declared, "mysql"))
    numbers = [*range(1, 12_000), *range(1, 12_000, 7)]
    for number in numbers:
        year, month, day = number // 360, number % 12 + 1, number % 30 + 1
        raw = (year << 9 | month << 5 | day).to_bytes(3, "little")
        assert made(raw, 0) == (f"{year:04}-{month:02}-{day:02}", 3)


@pytest.mark.parametrize(
    ("kind", "type_"),
    [(log.TIME, "time"), (log.DATETIME, "datetime"), (log.TIMESTAMP, "timestamp")],
)
def test_old_types_are_read_where_it_is_known_that_they_have_no_fraction(
    kind: int, type_: str
) -> None:
    physical = Physical("c", kind, 0)
    for good in (column(type_), column(type_, scale=0)):
        without_fraction(physical, good)
    without_fraction(Physical("c", log.TIME2, 3), column(type_, scale=3))
    fractions = column(type_, scale=3, declared=f"{type_}(3)")
    for bad, told in (
        (None, "is no column of the table any more, and in the format"),
        (column("int"), "is int, and in the format of servers before MySQL 5.6"),
        (fractions, rf"is {type_}\(3\), and in the format"),
    ):
        with pytest.raises(Misread, match=told):
            without_fraction(physical, bad)
    with pytest.raises(Misread, match=r"`ALTER TABLE … FORCE` writes the table anew"):
        cell(physical, None, fractions, rule(fractions, "mysql"))


# Bytes and texts.

BYTES = {
    "varbinary": (log.VARCHAR, 300, 2),
    "tinyblob": (log.BLOB, 1, 1),
    "blob": (log.BLOB, 2, 2),
    "mediumblob": (log.BLOB, 3, 3),
    "longblob": (log.BLOB, 4, 4),
}
TEXTS = {
    "varchar": (log.VARCHAR, 255, 1),
    "char": (log.STRING, 40 << 8 | 0xFE, 1),
    "tinytext": (log.BLOB, 1, 1),
    "text": (log.BLOB, 2, 2),
    "mediumtext": (log.BLOB, 3, 3),
    "longtext": (log.BLOB, 4, 4),
    "json": (log.VAR_STRING, 256, 2),
}


def sized(raw: bytes, size: int) -> bytes:
    return len(raw).to_bytes(size, "little") + raw


@given(st.sampled_from(sorted(BYTES)), st.binary(max_size=255))
def test_bytes_are_read(type_: str, raw: bytes) -> None:
    kind, meta, size = BYTES[type_]
    found = read(Physical("c", kind, meta), column(type_), sized(raw, size))
    assert base64.b64decode(found) == raw
    assert read(
        Physical("c", kind, meta), column(type_), sized(raw, size), stored="latin1"
    ) == raw.decode("bridge-latin1")


@given(st.sampled_from(sorted(TEXTS)), st.text(max_size=60))
def test_texts_are_read(type_: str, text: str) -> None:
    kind, meta, size = TEXTS[type_]
    raw = text.encode()
    physical = Physical("c", kind, meta, collation=UTF8)
    assert read(physical, column(type_, charset="utf8mb4"), sized(raw, size)) == text
    wide = Physical("c", kind, meta, collation=UCS2)
    letters = "".join(one for one in text if one < "\ud800")
    found = read(wide, column(type_, charset="ucs2"), sized(letters.encode("utf-16-be"), size))
    assert found == letters


@pytest.mark.parametrize("type_", sorted(TEXTS))
def test_a_text_that_is_none_is_told(type_: str) -> None:
    """Unless it is said what its bytes are."""
    kind, meta, size = TEXTS[type_]
    physical = Physical("c", kind, meta, collation=UTF8)
    with pytest.raises(UndecodableMessage, match="its bytes are no UTF-8"):
        read(physical, column(type_), sized(b"a\xff", size))
    assert read(physical, column(type_), sized(b"a\xff", size), stored="latin1") == "aÿ"
    assert read(physical, column(type_), sized(b"a\xff", size), stored="utf-8") == {
        "base64": "Yf8="
    }


def test_long_values_of_one_byte_more_are_read() -> None:
    """A CHAR of 256 bytes or more has two of them for its length."""
    for bytes_, size in ((255, 1), (256, 2), (1020, 2)):
        meta = (bytes_ & 0xFF) << 8 | (0xFE & ~0x30 | ((bytes_ >> 4) & 0x30) ^ 0x30)
        physical = Physical("c", log.STRING, meta, collation=UTF8)
        assert prefix(physical) == size
        assert read(physical, column("char"), sized(b"x" * 9, size)) == "x" * 9
    for meta, size in ((255, 1), (256, 2)):
        assert prefix(Physical("c", log.VARCHAR, meta)) == size
        assert prefix(Physical("c", log.VARCHAR_COMPRESSED, meta)) == size


@given(st.binary(max_size=16))
def test_the_zeros_at_the_end_of_binary_are_there(raw: bytes) -> None:
    physical = Physical("c", log.STRING, 16 << 8 | 0xFE)
    found = base64.b64decode(read(physical, column("binary", length=16), sized(raw, 1)))
    assert found == raw.ljust(16, b"\0")


@given(st.binary(max_size=200), st.booleans())
def test_compressed_values_are_read(raw: bytes, wrapped: bool) -> None:
    """With the wrapper of zlib or without; short ones as they are."""
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
    size = (len(raw).bit_length() + 7) // 8 or 1
    made = bytes((0x80 | size | (0 if wrapped else 8),)) + len(raw).to_bytes(size, "big")
    made += packer.compress(raw) + packer.flush()
    for kind, meta, prefixed in ((log.BLOB_COMPRESSED, 2, 2), (log.VARCHAR_COMPRESSED, 300, 2)):
        physical = Physical("c", kind, meta)
        for one in (made, b"\0" + raw):
            found = read(physical, column("blob"), sized(one, prefixed))
            assert base64.b64decode(found) == raw
    assert read(Physical("c", log.BLOB_COMPRESSED, 2), column("blob"), b"\0\0") == ""
    text = Physical("c", log.BLOB_COMPRESSED, 2, collation=UTF8)
    assert read(text, column("text"), sized(b"\0" + "é".encode(), 2)) == "é"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"\x11\1x", "in an unknown way, 17"),
        (b"\x91\1" + zlib.compress(b"x"), "in an unknown way, 145"),
        (b"\x81\1" + zlib.compress(b"x")[:-1], "cannot be read"),
        (b"\x81\1xyz", "cannot be read"),
        (b"\x81\2" + zlib.compress(b"x"), "has another length than it says"),
    ],
)
def test_a_compressed_value_that_is_none_is_told(raw: bytes, told: str) -> None:
    with pytest.raises(UndecodableMessage, match=told):
        read(Physical("c", log.BLOB_COMPRESSED, 2), column("blob"), sized(raw, 2))


MEMBERS = (b"a", "é".encode(), b"b c", b"")


@pytest.mark.parametrize("size", [1, 2])
def test_members_are_read(size: int) -> None:
    """0 is the empty text that stands for what was none of them."""
    physical = Physical("c", log.ENUM, size, False, UTF8, MEMBERS)
    declared = column("enum", members=("a", "é", "b c", ""))
    for number, text in enumerate(("", "a", "é", "b c", "")):
        assert read(physical, declared, number.to_bytes(size, "little")) == text
    with pytest.raises(UndecodableMessage, match="it has member 5 of 4"):
        read(physical, declared, (5).to_bytes(size, "little"))


@given(st.integers(1, 64), st.data())
def test_sets_are_read(count: int, data: st.DataObject) -> None:
    names = [f"m{number}" for number in range(count)]
    size = next(one for one in (1, 2, 3, 4, 8) if 8 * one >= count)
    physical = Physical("c", log.SET, size, False, UTF8, tuple(one.encode() for one in names))
    bits = data.draw(st.integers(0, 2**count - 1))
    chosen = [name for number, name in enumerate(names) if bits >> number & 1]
    declared = column("set", members=tuple(names))
    assert read(physical, declared, bits.to_bytes(size, "little")) == ",".join(chosen)
    if count < 8 * size:
        with pytest.raises(UndecodableMessage, match=f"has more members than {count}"):
            read(physical, declared, (1 << count).to_bytes(size, "little"))


def test_members_are_in_the_character_set_of_their_column() -> None:
    """Or in what it really is."""
    declared = column("enum", members=("ä",))
    latin = Physical("c", log.ENUM, 1, False, LATIN1, (b"\xe4",))
    assert read(latin, declared, b"\1") == "ä"
    assert read(latin, declared, b"\1", stored="cp1251") == "д"
    assert read(latin, declared, b"\1", stored="utf-8") == {"base64": "5A=="}
    assert read(Physical("c", log.ENUM, 1, False, 63, (b"a",)), declared, b"\1") == "a"
    several = Physical("c", log.SET, 1, False, LATIN1, (b"\xe4", b"\xe5", b"x"))
    chosen = column("set", members=("ä", "å", "x"))
    assert read(several, chosen, b"\5") == "ä,x"
    assert read(several, chosen, b"\3", stored="cp1251") == "д,е"
    for physical in (
        Physical("c", log.ENUM, 1, False, UTF8, (b"\xff",)),
        Physical("c", log.ENUM, 1, False, 63, (b"\xff",)),
    ):
        with pytest.raises(Misread, match="has a member that cannot be read"):
            read(physical, declared, b"\1")


# Addresses.


@given(st.uuids())
def test_uuids_are_read(number: uuid.UUID) -> None:
    physical = Physical("c", log.STRING, 16 << 8 | 0xFE)
    raw = number.bytes.rstrip(b"\0")
    assert read(physical, column("uuid"), sized(raw, 1)) == str(number)


@given(st.ip_addresses(v=4))
def test_addresses_of_ipv4_are_read(address: ipaddress.IPv4Address) -> None:
    physical = Physical("c", log.STRING, 4 << 8 | 0xFE)
    raw = address.packed.rstrip(b"\0")
    assert read(physical, column("inet4"), sized(raw, 1)) == str(address)


GROUPS = st.lists(st.sampled_from((0, 0, 0, 1, 0xFFFF, 0xDB8)), min_size=8, max_size=8)


@given(GROUPS)
def test_addresses_of_ipv6_are_read(groups: list[int]) -> None:
    """As they are printed, they are the same again; the longest zeros are left out, also a single
    one."""
    physical = Physical("c", log.STRING, 16 << 8 | 0xFE)
    raw = struct.pack(">8H", *groups)
    found = read(physical, column("inet6"), sized(raw.rstrip(b"\0"), 1))
    assert ipaddress.IPv6Address(found).packed == raw
    if "." not in found and "0:0" in ":".join(f"{group:x}" for group in groups):
        assert found == str(ipaddress.IPv6Address(raw))


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("::", "::"),
        ("::1", "::1"),
        ("::1:0", "::0.1.0.0"),
        ("::ffff:192.168.0.1", "::ffff:192.168.0.1"),
        ("::ffff:0:192.168.0.1", "::ffff:0:c0a8:1"),
        ("::1:2:3", "::1:2:3"),
        ("1::", "1::"),
        ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("1:0:2:3:4:5:6:7", "1::2:3:4:5:6:7"),
        ("1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7::"),
        ("0:2:3:4:5:6:0:7", "::2:3:4:5:6:0:7"),
        ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ("1:0:0:2:0:0:3:4", "1::2:0:0:3:4"),
    ],
)
def test_addresses_are_printed_as_the_server_does(address: str, printed: str) -> None:
    physical = Physical("c", log.STRING, 16 << 8 | 0xFE)
    raw = ipaddress.IPv6Address(address).packed
    assert read(physical, column("inet6"), sized(raw, 1)) == printed


@pytest.mark.parametrize(("type_", "size"), [("uuid", 16), ("inet4", 4), ("inet6", 16)])
def test_an_address_that_is_too_long_is_told(type_: str, size: int) -> None:
    physical = Physical("c", log.STRING, 40 << 8 | 0xFE)
    with pytest.raises(UndecodableMessage, match=f"it has {size + 1} bytes, and {type_} {size}"):
        read(physical, column(type_), sized(bytes(size + 1), 1))


# What does not fit.


@pytest.mark.parametrize(
    ("physical", "declared"),
    [
        (Physical("c", log.LONG, 0, True), column("date")),
        (Physical("c", log.DATE, 0), column("int")),
        (Physical("c", log.DOUBLE, 8), column("float")),
        (Physical("c", log.VARCHAR, 9, collation=UTF8), column("varbinary")),
        (Physical("c", log.VARCHAR, 9), column("varchar")),
        (Physical("c", log.LONG, 0), column("varbinary")),
        (Physical("c", log.GEOMETRY, 4), column("blob")),
        (Physical("c", log.JSON, 4, collation=UTF8), column("json")),
        (Physical("c", log.TINY, 0), column("enum", members=("a",))),
        (Physical("c", log.ENUM, 1), column("set", members=("a",))),
        (Physical("c", log.SET, 1), column("enum", members=("a",))),
    ],
)
def test_another_column_is_told_with_both_types(physical: Physical, declared: Column) -> None:
    sign = " unsigned" if physical.unsigned else ""
    told = f"is {declared.type}, and the log has kind {physical.type}{sign} there"
    with pytest.raises(Misread, match=told):
        cell(physical, decoder(physical), declared, rule(declared, "mysql"))


def test_a_type_that_is_not_read_is_told() -> None:
    of_text = rule(column("text"), "mysql")
    with pytest.raises(Misread, match="is point, which the log is not read for"):
        cell(Physical("c", log.GEOMETRY, 4), None, column("point"), of_text)


# How long values are.

WIDTHS = {
    log.TINY: 1, log.SHORT: 2, log.INT24: 3, log.LONG: 4, log.LONGLONG: 8, log.FLOAT: 4,
    log.DOUBLE: 8, log.YEAR: 1, log.DATE: 3, log.NEWDATE: 3, log.TIME: 3, log.DATETIME: 8,
    log.TIMESTAMP: 4,
}  # fmt: skip


def test_columns_that_nobody_wants_are_passed_over_together() -> None:
    """Whether all of their values are of one length or not."""
    fixed = [Physical("c", kind, 0) for kind in WIDTHS]
    long = [Physical("c", log.BLOB, size) for size in (1, 2, 3, 4)]
    assert [width(one) for one in fixed] == list(WIDTHS.values())
    assert [width(one) for one in long] == [None] * 4
    columns = [*fixed[:3], long[0], long[1], fixed[3], long[2], *fixed[4:], long[3], fixed[0]]
    values = [300 if n == 1 else 7 for n in range(4)]
    raw = bytes(6) + sized(bytes(7), 1) + sized(bytes(values[1]), 2) + bytes(4)
    raw += sized(bytes(7), 3) + bytes(sum(list(WIDTHS.values())[4:])) + sized(bytes(7), 4) + b"\0"
    passed = skip(columns)
    at = 0
    for one in passed:
        at = one(raw, at)
    assert at == len(raw)
    assert len(passed) == 8
    assert skip([]) == []


def test_a_kind_that_is_not_known_is_told_with_its_column() -> None:
    with pytest.raises(Misread, match=r"^has a column odd that is of kind 0 in the log, which is"):
        skip([Physical("odd", 0, 0)])
