"""Texts, bytes, members and addresses in rows of the log, and what is another column."""

from __future__ import annotations

import base64
import ipaddress
import struct
import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UndecodableMessage
from bridge.sync.log import tables as log
from bridge.sync.log.cells import cell
from bridge.sync.log.sizes import Misread, prefix
from bridge.sync.log.tables import Physical
from bridge.sync.types.column import Column
from bridge.sync.types.rules import rule
from tests.sync.log.entities import LATIN1, UCS2, UTF8
from tests.sync.log.values import column, decoder, read, sized

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
