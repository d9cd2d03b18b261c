"""The log as a stream: what each kind of event does, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.log import stream as module
from bridge.sync.log import tables as log
from bridge.sync.log.format import ROWS, Kind, LogUnreadable
from bridge.sync.log.position import Gtid, Position, position_of_version
from bridge.sync.log.rows import Reader
from bridge.sync.log.stream import (
    Altered,
    Change,
    Concerned,
    Found,
    Stopped,
    Stream,
    Torn,
    Unreadable,
)
from bridge.sync.log.tables import Physical, Shape
from bridge.sync.types.column import Column
from tests.sync.log.entities import UTF8, reader_of, types_of
from tests.sync.log.made import UUID, Maker, deflated, statement_body

COLUMNS = (
    Column("id", "int", "int"),
    Column("v", "varchar", "varchar(9)", length=9, charset="utf8mb4"),
)
PHYSICAL = (Physical("id", log.LONG, 0), Physical("v", log.VARCHAR, 36, collation=UTF8))
STOPPED = Stopped("third", "it is another one")
WANTED = {
    "things": ("first",),
    "both": ("first", "second"),
    "halted": ("third", "first"),
}


def readers(shape: Shape) -> Sequence[Reader | Stopped]:
    return [
        STOPPED if name == "third" else reader_of(shape, *types_of(COLUMNS, name=name))
        for name in WANTED.get(shape.table, ())
    ]


def row(id_: int, text: bytes | str = "x") -> list[bytes | None]:
    raw = text.encode() if isinstance(text, str) else text
    return [struct.pack("<i", id_), bytes((len(raw),)) + raw]


def fed(*events: bytes, stream: Stream | None = None) -> list[Found]:
    stream = stream or Stream(Position(1, None), readers)
    return [one for raw in events for one in stream.feed(raw)]


def begun(maker: Maker, position: Position | None = None) -> Stream:
    stream = Stream(position or Position(1, None), readers)
    assert fed(maker.rotation("bin.000001"), maker.described(), stream=stream) == []
    return stream


def test_a_transaction_that_a_new_file_interrupts_did_not_happen() -> None:
    """The next one has its number."""
    maker = Maker()
    stream = begun(maker)
    table = maker.table(5, "things", PHYSICAL)
    first = fed(maker.gtid(1), table, maker.rows("insert", 5, [row(1)]), stream=stream)
    torn = fed(maker.rotation("bin.000002"), maker.described(), stream=stream)
    assert (len(first), stream.is_within, stream.position.gtid) == (1, False, None)
    assert torn == [Torn(Gtid("0", 7, 1), frozenset({("site", "things")}))]
    again = fed(maker.gtid(1), table, maker.rows("insert", 5, [row(2)]), maker.xid(), stream=stream)
    assert (len(again), str(stream.position), stream.file) == (1, "0-7-1", "bin.000002")
    assert fed(maker.rotation("bin.000003"), maker.described(), stream=stream) == []


def changes(found: Sequence[Found]) -> list[tuple[str, str, str | None]]:
    return [
        (one.entity, one.key, one.data and one.data["v"])
        for one in found
        if isinstance(one, Change)
    ]


@pytest.mark.parametrize("checksums", [True, False])
def test_a_transaction_is_read_and_then_it_is_where_we_are(checksums: bool) -> None:
    """And no sooner than at its commit."""
    make = Maker(checksums=checksums)
    stream = begun(make)
    start = make.at
    found = fed(
        make.gtid(42), make.table(5, "things", PHYSICAL), make.rows("insert", 5, [row(1), row(2)]),
        stream=stream,
    )  # fmt: skip
    assert changes(found) == [("first", "1", "x"), ("first", "2", "x")]
    assert [position_of_version(one.version) for one in found if isinstance(one, Change)] == [
        (1, 42, 0),
        (1, 42, 1),
    ]
    assert {one.time for one in found if isinstance(one, Change)} == {1_700_000_000}
    assert (stream.is_within, stream.position, str(stream.at)) == (
        True,
        Position(1, None),
        "0-7-42",
    )

    commit = make.xid()
    assert fed(commit, stream=stream) == []
    checksum = int.from_bytes(commit[-4:], "little")
    assert stream.position == Position(
        1, Gtid("0", 7, 42), "bin.000001", start, make.at, 1_600_000_000, 1_700_000_000, checksum
    )
    assert (stream.is_within, stream.at, stream.made) == (False, stream.position, 1_600_000_000)


def transaction(make: Maker, sequence: int, *events: bytes) -> list[bytes]:
    return [make.gtid(sequence), *events, make.xid()]


@given(st.lists(st.sampled_from(["insert", "update", "delete"]), min_size=1, max_size=6))
def test_entities_count_their_rows_each_for_itself(kinds: list[str]) -> None:
    """So the versions of one do not depend on which others there are."""
    make = Maker()
    stream = begun(make)
    events = [make.table(5, "both", PHYSICAL), make.table(6, "things", PHYSICAL)]
    for number, kind in enumerate(kinds):
        rows = [row(number), row(number)] if kind == "update" else [row(number)]
        events += [make.rows(kind, 5, rows), make.rows(kind, 6, rows)]
    found = [one for one in fed(make.gtid(9), *events, stream=stream) if isinstance(one, Change)]
    versions: dict[str, list[int]] = {}
    for one in found:
        versions.setdefault(one.entity, []).append(position_of_version(one.version)[2])
    assert versions == {
        "first": list(range(2 * len(kinds))),
        "second": list(range(len(kinds))),
    }


def test_both_rows_of_a_changed_key_have_one_version() -> None:
    make = Maker()
    stream = begun(make)
    found = fed(
        make.gtid(9), make.table(5, "things", PHYSICAL),
        make.rows("update", 5, [row(1), row(2), row(3), row(4)]), stream=stream,
    )  # fmt: skip
    assert changes(found) == [
        ("first", "1", None),
        ("first", "2", "x"),
        ("first", "3", None),
        ("first", "4", "x"),
    ]
    rows = [position_of_version(one.version)[2] for one in found if isinstance(one, Change)]
    assert rows == [0, 0, 1, 1]


def test_a_row_that_cannot_be_read_and_an_entity_that_is_stopped_are_told() -> None:
    make = Maker()
    stream = begun(make)
    found = fed(
        make.gtid(9), make.table(5, "halted", PHYSICAL),
        make.rows("insert", 5, [row(1), row(2, b"\xff"), row(3)]), stream=stream,
    )  # fmt: skip
    assert [type(one) for one in found] == [Stopped, Change, Unreadable, Change]
    assert found[0] == STOPPED
    assert isinstance(found[2], Unreadable)
    assert (found[2].entity, found[2].raw[-1:]) == ("first", b"\xff")
    assert "its bytes are no UTF-8" in found[2].error
    rows = [position_of_version(one.version)[2] for one in found if isinstance(one, Change)]
    assert rows == [0, 2]


def test_more_rows_than_a_version_has_room_for_concern_the_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LAST_ROW", 2)
    make = Maker()
    stream = begun(make)
    rows = make.rows("insert", 5, [row(n) for n in range(4)])
    found = fed(*transaction(make, 9, make.table(5, "things", PHYSICAL), rows, rows), stream=stream)
    assert changes(found) == [("first", "0", "x"), ("first", "1", "x")]
    assert found[2:] == [Concerned("site", ("things",), "more than 2 rows in a transaction")]
    assert str(stream.position) == "0-7-9"


def test_rows_of_a_table_that_nobody_wants_are_passed_over() -> None:
    make = Maker()
    stream = begun(make)
    broken = make.event(Kind.WRITE_1, (5).to_bytes(6, "little") + b"\1\0\xff")
    assert fed(*transaction(make, 9, make.table(5, "x", PHYSICAL), broken), stream=stream) == []
    dummy = make.event(Kind.WRITE_1, b"\xff\xff\xff\0\0\0\1\0")
    assert fed(*transaction(make, 10, dummy), stream=stream) == []


def test_readers_are_asked_once_for_a_definition_until_it_is_forgotten() -> None:
    asked: list[Shape] = []

    def ask(shape: Shape) -> Sequence[Reader]:
        asked.append(shape)
        return ()

    make = Maker()
    stream = Stream(Position(1, None), ask)
    fed(make.described(), make.gtid(1), stream=stream)
    fed(make.table(5, "a", PHYSICAL), make.table(6, "a", PHYSICAL), stream=stream)
    assert len(asked) == 1
    fed(make.table(7, "a", PHYSICAL[:1]), stream=stream)
    assert len(asked) == 2
    stream.forget()
    fed(make.table(5, "a", PHYSICAL), stream=stream)
    assert [one.table for one in asked] == ["a"] * 3
    stream.follow(readers)
    fed(make.table(8, "things", PHYSICAL), stream=stream)
    assert changes(fed(make.rows("insert", 8, [row(1)]), stream=stream)) == [("first", "1", "x")]
    assert len(asked) == 3


@pytest.mark.parametrize(("version", "unsigned"), [("10.11.19-MariaDB", False), ("8.0.40", True)])
def test_a_table_is_read_as_the_server_writes_it(version: str, unsigned: bool) -> None:
    """MySQL has no sign of a YEAR."""
    shapes = []

    def ask(shape: Shape) -> Sequence[Reader]:
        shapes.append(shape)
        return ()

    make = Maker(version)
    stream = Stream(Position(1, None), ask)
    columns = (Physical("y", log.YEAR, 0, True), Physical("n", log.LONG, 0, False))
    fed(make.described(), make.gtid(1), make.table(5, "a", columns), stream=stream)
    assert shapes[0].columns[1].unsigned == unsigned


def test_another_file_begins_with_tables_of_its_own() -> None:
    make = Maker()
    stream = begun(make)
    fed(*transaction(make, 1, make.table(5, "things", PHYSICAL)), stream=stream)
    make.at = 4
    fed(make.rotation("bin.000002"), make.described(made=77), make.gtid(2), stream=stream)
    assert stream.made == 77
    with pytest.raises(LogUnreadable, match="of a table that the log has not named"):
        fed(make.rows("insert", 5, [row(1)]), stream=stream)
    fed(make.xid(), stream=stream)
    assert (stream.position.file, stream.position.end) == ("bin.000002", make.at - 0)


def test_between_files_checksums_may_begin_and_end() -> None:
    bare, summed = Maker(checksums=False), Maker(checksums=True)
    stream = begun(bare)
    fed(bare.rotation("bin.000002"), summed.described(), *transaction(summed, 1), stream=stream)
    fed(summed.rotation("bin.000003"), bare.described(), *transaction(bare, 2), stream=stream)
    assert (stream.position.file, str(stream.position)) == ("bin.000003", "0-7-2")


def test_beyond_four_gibibytes_the_place_is_counted() -> None:
    make = Maker()
    make.at = 2**32 - 40
    stream = begun(make, Position(1, Gtid("0", 7, 1), "bin.000001", 0, 2**32 - 40))
    stream._offset = 2**32 - 40
    make.at = 2**32 - 40
    fed(*transaction(make, 2), stream=stream)
    assert stream.position.end == make.at > 2**32


def test_a_file_that_is_read_from_its_middle_is_described_first() -> None:
    """At no place of its own."""
    make = Maker()
    raw = make.described()
    raw = raw[:13] + bytes(4) + raw[17:-4]
    stream = Stream(Position(1, None), readers)
    fed(make.rotation("bin.000001", 5000), raw + crc32(raw).to_bytes(4, "little"), stream=stream)
    make.at = 5000
    fed(*transaction(make, 2), stream=stream)
    assert (stream.position.start, stream.position.end) == (5000, make.at)


def test_what_is_in_no_file_moves_no_place() -> None:
    make = Maker()
    stream = begun(make)
    fed(make.event(Kind.GTID_LIST, bytes(4), flags=0x20), stream=stream)
    start = make.at
    fed(*transaction(make, 2), stream=stream)
    assert stream.position.start == start


# What is refused.


@pytest.mark.parametrize(
    ("gtid", "told"),
    [
        ((42, 0), "transaction 0-7-42 follows 0-7-42, and has no higher number"),
        ((7, 0), "it is another history; run `bridgectl snapshot`"),
        ((43, 1), "has another domain or server than 0-7-42 before it"),
    ],
)
def test_another_history_or_domain_is_refused(gtid: tuple[int, int], told: str) -> None:
    make = Maker()
    stream = begun(make, Position(1, Gtid("0", 7, 42)))
    with pytest.raises(LogUnreadable, match=told):
        fed(make.gtid(gtid[0], domain=gtid[1]), stream=stream)


def test_transactions_begin_and_end_in_turn() -> None:
    make = Maker()
    stream = begun(make)
    for event in (make.xid(), make.said("COMMIT"), make.rows("insert", 5, [row(1)])):
        with pytest.raises(LogUnreadable, match="a part of a transaction that has not begun"):
            fed(event, stream=stream)
    fed(make.gtid(1), stream=stream)
    with pytest.raises(LogUnreadable, match="transaction 0-7-2 begins before 0-7-1 has ended"):
        fed(make.gtid(2), stream=stream)


REFUSED = {
    Kind.ANONYMOUS_GTID: "set gtid_mode=ON",
    Kind.PARTIAL_UPDATE: "SET GLOBAL binlog_row_value_options=''",
    Kind.TRANSACTION_PAYLOAD: "SET GLOBAL binlog_transaction_compression=OFF",
    Kind.INCIDENT: "changes are missing in its log: run `bridgectl snapshot`",
    Kind.PRE_GA_WRITE: "older than MySQL 5.1.18",
    Kind.PRE_GA_UPDATE: "older than MySQL 5.1.18",
    Kind.PRE_GA_DELETE: "older than MySQL 5.1.18",
}
PASSED = {
    Kind.STOP, Kind.INTVAR, Kind.RAND, Kind.USER_VAR, Kind.APPEND_BLOCK, Kind.DELETE_FILE,
    Kind.BEGIN_LOAD_QUERY, Kind.HEARTBEAT, Kind.HEARTBEAT_2, Kind.IGNORABLE, Kind.ROWS_QUERY,
    Kind.PREVIOUS_GTIDS, Kind.TRANSACTION_CONTEXT, Kind.VIEW_CHANGE, Kind.ANNOTATE_ROWS,
    Kind.BINLOG_CHECKPOINT, Kind.GTID_LIST, Kind.START_ENCRYPTION,
}  # fmt: skip
READ = {
    *ROWS, Kind.QUERY, Kind.ROTATE, Kind.FORMAT_DESCRIPTION, Kind.XID, Kind.TABLE_MAP, Kind.GTID,
    Kind.XA_PREPARE, Kind.MARIADB_GTID, Kind.QUERY_COMPRESSED, Kind.EXECUTE_LOAD_QUERY,
}  # fmt: skip


@pytest.mark.parametrize("kind", range(256))
def test_no_event_is_passed_over_that_is_not_known(kind: int) -> None:
    """Unless the server says that it may be."""
    make = Maker()
    stream = begun(make)
    body = struct.pack("<Q", 4) * 6
    if kind in READ:
        return
    if kind in PASSED:
        assert fed(make.event(kind, body), stream=stream) == []
        return
    told = REFUSED.get(kind, f"an event of the unknown kind {kind}")  # type: ignore[call-overload]
    with pytest.raises(LogUnreadable, match=told):
        fed(make.event(kind, body), stream=stream)
    if kind not in REFUSED:
        assert fed(make.event(kind, body, flags=0x80), stream=stream) == []


def test_a_log_that_does_not_say_what_it_is_is_refused() -> None:
    make = Maker()
    make.described()
    with pytest.raises(LogUnreadable, match="begins with an event of kind 162"):
        fed(make.gtid(1))


def test_a_wrong_checksum_is_refused() -> None:
    make = Maker()
    stream = begun(make)
    raw = bytearray(make.gtid(1))
    raw[20] ^= 1
    with pytest.raises(LogUnreadable, match="damaged: its checksum is another"):
        fed(bytes(raw), stream=stream)


# Statements.


def test_a_statement_alone_is_a_transaction() -> None:
    make = Maker()
    stream = begun(make)
    found = fed(make.gtid(1, alone=True), make.said("TRUNCATE things"), stream=stream)
    assert [type(one) for one in found] == [Altered, Concerned]
    for one in found:
        assert isinstance(one, Altered | Concerned)
        assert one.touches("site", "things")
        assert not one.touches("site", "both")
    assert (stream.is_within, str(stream.position)) == (False, "0-7-1")


def test_a_compressed_statement_is_one() -> None:
    make = Maker()
    stream = begun(make)
    body = statement_body(deflated(b"TRUNCATE things"))
    raw = [make.gtid(1, alone=True), make.event(Kind.QUERY_COMPRESSED, body)]
    assert len(fed(*raw, stream=stream)) == 2
    assert not stream.is_within


def test_an_index_alters_and_changes_nothing() -> None:
    make = Maker()
    stream = begun(make)
    found = fed(make.gtid(1, alone=True), make.said("CREATE INDEX a ON things (v)"), stream=stream)
    assert [type(one) for one in found] == [Altered]


def test_names_in_another_character_set_may_be_any() -> None:
    make = Maker()
    stream = begun(make)
    said = make.said("TRUNCATE tänze".encode("latin-1"), status=b"\4\x08\0\x08\0\x08\0")
    found = fed(make.gtid(1, alone=True), said, stream=stream)
    assert found == [Altered("", None), Concerned("", None, "TRUNCATE TABLE")]


def test_statements_in_a_transaction_do_not_end_it() -> None:
    make = Maker()
    stream = begun(make)
    fed(make.gtid(1), stream=stream)
    found = fed(make.said("INSERT INTO a VALUES (1)"), make.said("SAVEPOINT a"), stream=stream)
    assert found == [Concerned("", None, "INSERT in statement format")]
    assert stream.is_within
    assert fed(make.said("COMMIT"), stream=stream) == []
    assert not stream.is_within


def test_a_file_that_is_loaded_concerns_all() -> None:
    make = Maker()
    stream = begun(make)
    raw = make.event(Kind.EXECUTE_LOAD_QUERY, bytes(40))
    found = fed(make.gtid(1), raw, stream=stream)
    assert found == [Concerned("", None, "LOAD DATA in statement format")]


@pytest.mark.parametrize("text", ["ROLLBACK", "rollback"])
def test_rows_before_a_rollback_concern_their_tables(text: str) -> None:
    make = Maker()
    stream = begun(make)
    found = fed(
        make.gtid(1), make.table(5, "things", PHYSICAL), make.table(6, "other", PHYSICAL),
        make.rows("insert", 5, [row(1)]), make.rows("insert", 6, [row(1)]), make.said(text),
        stream=stream,
    )  # fmt: skip
    why = "ROLLBACK of a transaction that other tables keep"
    assert found[1:] == [Concerned("site", ("things",), why)]
    assert not stream.is_within


def test_what_is_rolled_back_to_a_savepoint_concerns_its_tables_in_the_end() -> None:
    make = Maker()
    stream = begun(make)
    found = fed(
        make.gtid(1), make.table(5, "things", PHYSICAL), make.rows("insert", 5, [row(1)]),
        make.said("ROLLBACK TO `a`"), make.table(6, "both", PHYSICAL),
        make.rows("insert", 6, [row(2)]), stream=stream,
    )  # fmt: skip
    assert stream.is_within
    assert len(changes(found)) == len(found) == 3
    why = "ROLLBACK TO a savepoint"
    assert fed(make.xid(), stream=stream) == [Concerned("site", ("both", "things"), why)]
    assert fed(*transaction(make, 2), stream=stream) == []


# XA.


def prepared(make: Maker, sequence: int, xid: bytes, one_phase: bool = False) -> list[bytes]:
    body = struct.pack("<BIII", one_phase, 1, len(xid), 1) + xid + b"b"
    return [
        make.gtid(sequence, flags=64),
        make.table(5, "things", PHYSICAL),
        make.rows("insert", 5, [row(sequence)]),
        make.said(f"XA END X'{xid.hex()}',X'62',1"),
        make.event(Kind.XA_PREPARE, body),
    ]


def completed(make: Maker, sequence: int, verb: str, xid: bytes) -> list[bytes]:
    text = f"XA {verb} X'{xid.hex().upper()}', X'62', 1"
    return [make.gtid(sequence, alone=True, flags=128), make.said(text)]


def test_what_is_prepared_is_told_when_it_is_committed() -> None:
    make = Maker()
    stream = begun(make)
    assert fed(*prepared(make, 1, b"k"), *prepared(make, 2, b"m"), stream=stream) == []
    assert (stream.is_within, str(stream.position)) == (False, "0-7-2")
    assert fed(*completed(make, 3, "ROLLBACK", b"m"), stream=stream) == []
    told = [Concerned("site", ("things",), "XA COMMIT")]
    assert fed(*completed(make, 4, "COMMIT", b"k"), stream=stream) == told
    assert str(stream.position) == "0-7-4"
    # What has been told is not known any more, nor what was rolled back.
    anything = [Concerned("", None, "XA COMMIT of what was prepared earlier")]
    assert fed(*completed(make, 5, "COMMIT", b"k"), stream=stream) == anything
    assert fed(*completed(make, 6, "COMMIT", b"m"), stream=stream) == anything


def test_what_was_prepared_for_other_readers_may_be_of_any_table() -> None:
    make = Maker()
    stream = begun(make)
    fed(*prepared(make, 1, b"k"), stream=stream)
    stream.follow(readers)
    found = fed(*completed(make, 2, "COMMIT", b"k"), stream=stream)
    assert found == [Concerned("", None, "XA COMMIT of what was prepared earlier")]


def test_xa_in_one_phase_is_a_commit() -> None:
    make = Maker()
    stream = begun(make)
    found = fed(*prepared(make, 1, b"k", one_phase=True), stream=stream)
    assert found == [Concerned("site", ("things",), "XA COMMIT")]


def test_what_is_no_xa_transaction_is_refused() -> None:
    make = Maker()
    stream = begun(make)
    raw = prepared(make, 1, b"k")
    fed(*raw[:-1], stream=stream)
    with pytest.raises(LogUnreadable, match="an XA transaction of the log is damaged"):
        fed(make.event(Kind.XA_PREPARE, struct.pack("<BIII", 0, 1, 5, 5) + b"short"), stream=stream)


def test_an_xa_statement_without_words_does_nothing() -> None:
    make = Maker()
    stream = begun(make)
    assert fed(make.gtid(1, alone=True), make.said("XA"), stream=stream) == []


# MySQL.


def test_transactions_of_mysql_are_read() -> None:
    """One that begins with BEGIN ends with its commit, and any other statement is one."""
    make = Maker("8.0.40")
    stream = begun(make)
    start = make.at
    found = fed(
        make.mysql_gtid(5), make.said("BEGIN"), make.table(5, "things", PHYSICAL),
        make.rows("insert", 5, [row(1)], second=True), stream=stream,
    )  # fmt: skip
    assert changes(found) == [("first", "1", "x")]
    assert stream.is_within
    fed(make.xid(), stream=stream)
    assert (stream.position.gtid, stream.position.start) == (Gtid(UUID, 0, 5), start)
    assert len(fed(make.mysql_gtid(6), make.said("TRUNCATE things"), stream=stream)) == 2
    assert str(stream.position) == f"{UUID}:6"
    with pytest.raises(LogUnreadable, match="another domain or server"):
        fed(make.mysql_gtid(7, "0" + UUID[1:]), stream=stream)


def test_xa_of_mysql_is_told_when_it_is_committed() -> None:
    make = Maker("8.0.40")
    stream = begun(make)
    body = struct.pack("<BIII", 0, 1, 1, 1) + b"kb"
    found = fed(
        make.mysql_gtid(1), make.said("XA START X'6b',X'62',1"),
        make.table(5, "things", PHYSICAL), make.rows("insert", 5, [row(1)], second=True),
        make.said("XA END X'6b',X'62',1"), make.event(Kind.XA_PREPARE, body), stream=stream,
    )  # fmt: skip
    assert found == []
    found = fed(make.mysql_gtid(2), make.said("XA COMMIT X'6b',X'62',1"), stream=stream)
    assert found == [Concerned("site", ("things",), "XA COMMIT")]
