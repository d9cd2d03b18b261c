"""Events of the log, taken apart; what is cut off is never read as something else."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.log.format import (
    ROWS,
    Described,
    Group,
    Header,
    Kind,
    LogUnreadable,
    Statement,
    begins_group,
    describe,
    has_checksum,
    header,
    length,
    rotation,
    sequence_of,
    statement,
    taken,
    unpacked,
    uuid_of,
)
from tests.sync.log.made import UUID, Maker, deflated, packed, statement_body


def test_a_header_is_read() -> None:
    raw = Maker(checksums=False).event(Kind.XID, b"12345678", time=99, flags=0x80)
    assert header(raw) == Header(99, Kind.XID, 7, 27, 31, 0x80)


def test_an_event_has_as_many_bytes_as_it_says() -> None:
    raw = Maker().xid()
    assert len(raw) == 31
    assert header(bytes(19)[:9] + b"\x13\0\0\0" + bytes(6)).size == 19
    with pytest.raises(LogUnreadable, match="has 18 bytes, and its header has 19"):
        header(raw[:18])
    for wrong in (raw[:-1], raw + b"\0", raw[:19]):
        with pytest.raises(LogUnreadable, match=f"has {len(wrong)} bytes, and says 31"):
            header(wrong)


@pytest.mark.parametrize("checksums", [True, False])
def test_a_file_is_described(checksums: bool) -> None:
    raw = Maker("10.11.19-MariaDB-log", checksums=checksums).described(made=1_234)
    assert describe(raw) == Described("10.11.19-MariaDB-log", 1_234, checksums)


def test_a_format_or_a_checksum_that_is_not_known_is_told() -> None:
    raw = Maker().described()
    with pytest.raises(LogUnreadable, match=r"has format 5, and only 4 is known"):
        describe(raw[:19] + b"\5\0" + raw[21:])
    with pytest.raises(LogUnreadable, match="checksums of the unknown kind 2"):
        describe(raw[:-5] + b"\2" + raw[-4:])
    with pytest.raises(LogUnreadable, match="the first event of a file of the log is damaged"):
        describe(raw[:40])


@given(st.binary(min_size=1))
def test_a_checksum_is_that_of_what_is_before_it(raw: bytes) -> None:
    assert has_checksum(raw + zlib.crc32(raw).to_bytes(4, "little"))
    assert not has_checksum(raw + (zlib.crc32(raw) ^ 1).to_bytes(4, "little"))


def test_the_next_file_is_named() -> None:
    assert rotation(struct.pack("<Q", 2**40) + b"b\xffn.000007") == ("b\udcffn.000007", 2**40)
    for cut in (b"\4", struct.pack("<Q", 4)):
        with pytest.raises(LogUnreadable, match="the name of the next file"):
            rotation(cut)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("prepares", [True, False])
def test_a_transaction_of_mariadb_begins(alone: bool, prepares: bool) -> None:
    body = struct.pack("<QIB", 2**60, 2**31, alone | 2 | prepares << 6 | 128) + bytes(12)
    assert begins_group(body) == Group(str(2**31), 2**60, alone, prepares)
    with pytest.raises(LogUnreadable, match="a GTID of the log is damaged"):
        begins_group(body[:12])


def test_a_transaction_of_mysql_begins() -> None:
    raw = Maker(checksums=False).mysql_gtid(2**40)
    assert (uuid_of(raw[19:]), sequence_of(raw[19:])) == (UUID, 2**40)
    for read, size in ((uuid_of, 16), (sequence_of, 24)):
        with pytest.raises(LogUnreadable, match="a GTID of the log is damaged"):
            read(raw[19 : 19 + size])


@given(st.text(), st.text(max_size=20))
def test_a_statement_is_read_with_its_schema(text: str, schema: str) -> None:
    assert statement(statement_body(text, schema)) == Statement(schema, text)


def test_a_compressed_statement_is_read() -> None:
    text = "INSERT INTO ä" * 50
    body = statement_body(deflated(text.encode()))
    assert statement(body, compressed=True) == Statement("site", text)
    with pytest.raises(LogUnreadable, match="compressed"):
        statement(statement_body(text), compressed=True)


@given(st.integers(0, 60))
def test_a_statement_that_is_cut_off_before_its_text_is_not_read(size: int) -> None:
    body = statement_body("x")
    whole = len(body) - 1
    if size < whole:
        with pytest.raises(LogUnreadable, match="a statement of the log is damaged"):
            statement(body[:size])


def test_a_schema_that_does_not_end_is_told() -> None:
    body = statement_body("x", "site")
    with pytest.raises(LogUnreadable, match="does not end where it should"):
        statement(body[:-2] + b"y" + body[-1:])


def status(collation: int, *before: bytes) -> bytes:
    return b"".join(before) + b"\4" + struct.pack("<HHH", collation, 8, 8)


FLAGS, MODE, AUTO = b"\0\1\2\3\4", b"\1" + bytes(8), b"\3\4\4\4\4"
OLD_CATALOG, CATALOG = b"\2\3std\0", b"\6\3std"
UTF8 = (33, 45, 46, 76, 83, 192, 215, 247, 255, 323, 1057, 1069, 1070, 1107, 1247, 2048, 2304)
OTHERS = (8, 14, 32, 34, 44, 47, 51, 75, 77, 82, 84, 191, 248, 254, 324, 1032, 1056, 1071, 2047)


@pytest.mark.parametrize("collation", UTF8 + OTHERS)
def test_a_statement_says_whether_its_names_can_be_read(collation: int) -> None:
    """What is ASCII can be, in any case."""
    for said in (
        status(collation),
        status(collation, FLAGS, MODE, OLD_CATALOG, AUTO),
        status(collation, FLAGS, MODE, CATALOG, AUTO),
    ):
        body = statement_body("ALTER TABLE ä", status=said)
        assert statement(body).is_utf8 == (collation in UTF8)
        assert statement(statement_body("ALTER TABLE a", status=said)).is_utf8


@pytest.mark.parametrize("said", [b"", FLAGS, b"\x63" + status(45)])
def test_where_nothing_is_said_of_the_character_set_names_cannot_be_read(said: bytes) -> None:
    assert not statement(statement_body("ALTER TABLE ä", status=said)).is_utf8


@pytest.mark.parametrize("said", [b"\4\1", b"\6", b"\2"])
def test_a_status_that_is_cut_off_is_told(said: bytes) -> None:
    with pytest.raises(LogUnreadable, match="a statement of the log is damaged"):
        statement(statement_body("ALTER TABLE ä", status=said))


@given(st.binary(max_size=300))
def test_what_was_compressed_is_unpacked(raw: bytes) -> None:
    assert unpacked(deflated(raw)) == raw


def test_what_is_compressed_in_another_way_or_damaged_is_told() -> None:
    good = deflated(b"x" * 300)
    assert good[0] == 0x82
    for first in (0x02, 0x92, 0xC2):
        with pytest.raises(LogUnreadable, match="compressed in an unknown way"):
            unpacked(bytes((first,)) + good[1:])
    with pytest.raises(LogUnreadable, match=r"has 300 bytes, and says 301"):
        unpacked(good[:1] + (301).to_bytes(2, "big") + good[3:])
    for cut in range(len(good)):
        with pytest.raises(LogUnreadable, match="damaged"):
            unpacked(good[:cut])


@given(st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1)), st.binary(max_size=4))
def test_a_length_is_read_and_where_it_ends(number: int, rest: bytes) -> None:
    made = packed(number)
    assert length(b"x" + made + rest, 1) == (number, 1 + len(made))
    with pytest.raises(IndexError):
        length(made[:-1], 0)


@pytest.mark.parametrize(
    ("number", "made"),
    [
        (250, b"\xfa"),
        (251, b"\xfc\xfb\0"),
        (0xFFFF, b"\xfc\xff\xff"),
        (0x10000, b"\xfd\0\0\1"),
        (0xFFFFFF, b"\xfd\xff\xff\xff"),
        (0x1000000, b"\xfe\0\0\0\1\0\0\0\0"),
    ],
)
def test_lengths_are_written_as_the_protocol_says(number: int, made: bytes) -> None:
    assert length(made, 0) == (number, len(made))


@pytest.mark.parametrize("first", [251, 255])
def test_what_begins_no_length_is_told(first: int) -> None:
    with pytest.raises(IndexError, match=f"no length begins with {first}"):
        length(bytes((first, 1, 1, 1, 1, 1, 1, 1, 1)), 0)


def test_so_many_bytes_are_taken_or_it_is_told_how_many_are_missing() -> None:
    assert (taken(b"abc", 1, 2), taken(b"abc", 3, 0)) == (b"bc", b"")
    with pytest.raises(IndexError, match="ends 2 bytes too early"):
        taken(b"abc", 2, 3)


KINDS = {
    "QUERY": 2, "STOP": 3, "ROTATE": 4, "INTVAR": 5, "LOAD": 6, "CREATE_FILE": 8,
    "APPEND_BLOCK": 9, "DELETE_FILE": 11, "RAND": 13, "USER_VAR": 14, "FORMAT_DESCRIPTION": 15,
    "XID": 16, "BEGIN_LOAD_QUERY": 17, "EXECUTE_LOAD_QUERY": 18, "TABLE_MAP": 19,
    "PRE_GA_WRITE": 20, "PRE_GA_UPDATE": 21, "PRE_GA_DELETE": 22, "WRITE_1": 23, "UPDATE_1": 24,
    "DELETE_1": 25, "INCIDENT": 26, "HEARTBEAT": 27, "IGNORABLE": 28, "ROWS_QUERY": 29,
    "WRITE_2": 30, "UPDATE_2": 31, "DELETE_2": 32, "GTID": 33, "ANONYMOUS_GTID": 34,
    "PREVIOUS_GTIDS": 35, "TRANSACTION_CONTEXT": 36, "VIEW_CHANGE": 37, "XA_PREPARE": 38,
    "PARTIAL_UPDATE": 39, "TRANSACTION_PAYLOAD": 40, "HEARTBEAT_2": 41, "ANNOTATE_ROWS": 160,
    "BINLOG_CHECKPOINT": 161, "MARIADB_GTID": 162, "GTID_LIST": 163, "START_ENCRYPTION": 164,
    "QUERY_COMPRESSED": 165, "WRITE_COMPRESSED_1": 166, "UPDATE_COMPRESSED_1": 167,
    "DELETE_COMPRESSED_1": 168, "WRITE_COMPRESSED_2": 169, "UPDATE_COMPRESSED_2": 170,
    "DELETE_COMPRESSED_2": 171,
}  # fmt: skip
"""As both servers' `log_event.h` have them."""


def test_kinds_have_the_numbers_of_the_protocol() -> None:
    assert {kind.name: kind.value for kind in Kind} == KINDS


def test_every_kind_of_event_with_rows_is_known() -> None:
    kinds = {
        Kind.WRITE_1: ("insert", False, False),
        Kind.UPDATE_1: ("update", False, False),
        Kind.DELETE_1: ("delete", False, False),
        Kind.WRITE_2: ("insert", True, False),
        Kind.UPDATE_2: ("update", True, False),
        Kind.DELETE_2: ("delete", True, False),
        Kind.WRITE_COMPRESSED_1: ("insert", False, True),
        Kind.UPDATE_COMPRESSED_1: ("update", False, True),
        Kind.DELETE_COMPRESSED_1: ("delete", False, True),
        Kind.WRITE_COMPRESSED_2: ("insert", True, True),
        Kind.UPDATE_COMPRESSED_2: ("update", True, True),
        Kind.DELETE_COMPRESSED_2: ("delete", True, True),
    }
    assert {kind: (one.change, one.second, one.compressed) for kind, one in ROWS.items()} == kinds
