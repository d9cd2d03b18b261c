"""Rows of a table, however the log writes them, and the columns that an entity wants of them."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.log import tables as log
from bridge.sync.log.format import ROWS, Kind, LogUnreadable, Rows
from bridge.sync.log.rows import PartsOfRows, Reader, Row, Unread
from bridge.sync.log.sizes import Misread
from bridge.sync.log.tables import Physical, Shape
from bridge.sync.types.column import Column
from tests.sync.log.entities import UTF8, reader_of, types_of
from tests.sync.log.made import rows_body

COLUMNS = (
    Column("id", "int", "int(11)"),
    Column("big", "bigint", "bigint(20)"),
    Column("text", "varchar", "varchar(300)", length=300, charset="utf8mb4"),
    Column("raw", "blob", "blob"),
    Column("small", "varchar", "varchar(9)", length=9, charset="utf8mb4"),
    Column("gone", "tinyint", "tinyint(1)"),
    Column("other", "int", "int(11)"),
)
PHYSICAL = (
    Physical("id", log.LONG, 0),
    Physical("big", log.LONGLONG, 0),
    Physical("text", log.VARCHAR, 1200, collation=UTF8),
    Physical("raw", log.BLOB, 3),
    Physical("small", log.VARCHAR, 36, collation=UTF8),
    Physical("gone", log.TINY, 0),
    Physical("other", log.LONG, 0),
)
SHAPE = Shape("site", "things", PHYSICAL, True)
FORMS = [(second, compressed) for second in (False, True) for compressed in (False, True)]
Value = tuple[Any, ...]


def written(row: Value) -> list[bytes | None]:
    """A row of the table above, as the log has it."""
    id_, big, text, raw, small, gone, other = row

    def put(value: Any, form: str) -> bytes | None:
        return None if value is None else struct.pack(form, value)

    def put_text(value: Any, size: int) -> bytes | None:
        if value is None:
            return None
        made = value if isinstance(value, bytes) else value.encode()
        return len(made).to_bytes(size, "little") + made

    return [
        put(id_, "<i"),
        put(big, "<q"),
        put_text(text, 2),
        put_text(raw, 3),
        put_text(small, 1),
        put(gone, "<b"),
        put(other, "<i"),
    ]


NULLABLE = {
    "big": st.none() | st.integers(-(2**63), 2**63 - 1),
    "text": st.none() | st.text(max_size=300),
    "raw": st.none() | st.binary(max_size=9),
    "small": st.none() | st.text(max_size=9),
    "gone": st.none() | st.integers(0, 1),
    "other": st.none() | st.integers(-5, 5),
}
ROW = st.tuples(st.integers(-(2**31), 2**31 - 1), *NULLABLE.values())


def reader(*wanted: str, key: Sequence[str] = ("id",), **source: Any) -> Reader:
    columns = {name: name for name in wanted} if wanted else {}
    return reader_of(SHAPE, *types_of(COLUMNS, key, columns=columns, **source))


def kind_of(change: str, second: bool, compressed: bool) -> Rows:
    return next(
        one
        for one in ROWS.values()
        if (one.change, one.second, one.compressed) == (change, second, compressed)
    )


def read(
    of: Reader, change: str, rows: Sequence[Value], form: tuple[bool, bool] = (False, False)
) -> list[Any]:
    body = rows_body(change, 5, [written(row) for row in rows], second=form[0], compressed=form[1])
    return [one for found in of.changes(kind_of(change, *form), body) for one in found]


def data_of(row: Value, *wanted: str) -> dict[str, Any]:
    whole = dict(zip([one.name for one in COLUMNS], row, strict=True))
    if whole["raw"] is not None:
        whole["raw"] = base64.b64encode(whole["raw"]).decode()
    return {name: whole[name] for name in wanted or whole}


WANTED = st.lists(st.sampled_from([one.name for one in COLUMNS]), min_size=1, unique=True)


@given(st.lists(ROW, min_size=1, max_size=5), st.sampled_from(FORMS), WANTED)
def test_inserted_rows_are_read(
    rows: list[Value], form: tuple[bool, bool], wanted: list[str]
) -> None:
    """In each form of the event, with NULLs anywhere, whichever columns are wanted."""
    assert read(reader(*wanted), "insert", rows, form) == [
        Row(str(row[0]), data_of(row, *wanted)) for row in rows
    ]


@given(st.lists(ROW, min_size=1, max_size=5), st.sampled_from(FORMS))
def test_deleted_rows_leave_their_key(rows: list[Value], form: tuple[bool, bool]) -> None:
    assert read(reader(), "delete", rows, form) == [Row(str(row[0]), None) for row in rows]


@given(st.lists(ROW, min_size=2, max_size=6).filter(lambda rows: len(rows) % 2 == 0),
       st.sampled_from(FORMS), st.booleans())  # fmt: skip
def test_an_updated_row_whose_key_is_another_leaves_the_old_one(
    rows: list[Value], form: tuple[bool, bool], same: bool
) -> None:
    if same:
        rows = [(rows[n - n % 2][0], *row[1:]) for n, row in enumerate(rows)]
    expected = []
    for before, after in zip(rows[::2], rows[1::2], strict=True):
        if before[0] != after[0]:
            expected.append(Row(str(before[0]), None))
        expected.append(Row(str(after[0]), data_of(after)))
    assert read(reader(), "update", rows, form) == expected


A = (1, 2, "text", b"raw", "small", 0, 3)


def test_a_key_of_several_columns_is_joined() -> None:
    of = reader("big", key=("small", "id"))
    assert read(of, "insert", [(7, 5, None, None, "a/b", None, None)]) == [
        Row("a%2Fb/7", {"big": 5})
    ]
    assert read(of, "delete", [(7, 5, None, None, "c", None, None)]) == [Row("c/7", None)]


def test_a_row_that_stands_for_a_deletion_is_gone() -> None:
    of = reader("big", deleted="gone")
    rows = [(*A[:5], gone, 3) for gone in (0, 1, None)]
    assert read(of, "insert", rows) == [
        Row("1", {"big": 2}),
        Row("1", None),
        Row("1", {"big": 2}),
    ]


def test_a_row_that_cannot_be_read_is_told_with_its_bytes_and_its_column() -> None:
    """Its neighbours are read, also where it has two halves."""
    bad = (2, 2, b"\xff", b"raw", "small", 0, 3)
    found = read(reader(), "insert", [A, bad, A])
    assert found[0] == found[2] == Row("1", data_of(A))
    assert isinstance(found[1], Unread)
    assert found[1].error.startswith("the column text cannot be read: its bytes are no UTF-8")
    whole = rows_body("insert", 5, [written(bad)])
    assert found[1].raw == whole[len(rows_body("insert", 5, [[None] * 7])) - 1 :]

    found = read(reader(), "update", [A, bad, A, A])
    assert [type(one) for one in found] == [Unread, Row]
    # Of what is no more only the key matters.
    assert read(reader(), "update", [bad, A]) == [Row("2", None), Row("1", data_of(A))]
    assert read(reader(), "delete", [bad]) == [Row("2", None)]


def test_a_key_that_is_null_or_no_text_is_told() -> None:
    null = (*A[:4], None, 0, 3)
    [told] = read(reader("big", key=("small",)), "insert", [null])
    assert told.error == "the key column small is NULL"
    [told] = read(reader("big", key=("id", "small")), "delete", [null])
    assert told.error == "the key column small is NULL"


def test_rows_that_are_not_whole_are_refused() -> None:
    body = bytearray(rows_body("update", 5, [written(A), written(A)]))
    for place, bits in ((9, 0x7E), (10, 0x3F)):
        wrong = bytearray(body)
        wrong[place] = bits
        with pytest.raises(PartsOfRows):
            list(reader().changes(kind_of("update", False, False), bytes(wrong)))
    body[9] = 0x7F  # the bit of no column
    assert len(list(reader().changes(kind_of("update", False, False), bytes(body)))) == 1


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(LogUnreadable, match="a row has 3 columns, and its table 7"):
        list(reader().changes(kind_of("insert", False, False), rows_body("insert", 5, [[b""] * 3])))


@given(st.sampled_from(["insert", "update", "delete"]), st.sampled_from(FORMS), st.data())
def test_an_event_that_is_cut_off_gives_no_other_row(
    change: str, form: tuple[bool, bool], data: st.DataObject
) -> None:
    """Nor a short value: at most it has fewer rows."""
    rows = [A, (2, None, "more", None, "x", 1, None)] * 2
    body = rows_body(change, 5, [written(row) for row in rows], second=form[0], compressed=form[1])
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    kind = kind_of(change, *form)
    whole = [one for found in reader().changes(kind, body) for one in found]
    try:
        found = [one for some in reader().changes(kind, cut) for one in some]
    except LogUnreadable as error:
        assert "damaged" in str(error) or "compressed" in str(error)  # noqa: PT017
        return
    assert found == whole[: len(found)]


def test_more_of_the_second_form_is_passed_over() -> None:
    """Where it says how long it is."""
    body = rows_body("insert", 5, [written(A)], second=True)
    assert body[8:10] == b"\4\0"
    kind = kind_of("insert", True, False)
    longer = body[:8] + b"\7\0" + b"\1\2\3\4\5" + body[12:]
    assert list(reader().changes(kind, longer)) == [(Row("1", data_of(A)),)]
    with pytest.raises(LogUnreadable, match="damaged"):
        list(reader().changes(kind, body[:8] + b"\1\0" + body[10:]))


def test_a_table_without_names_is_refused() -> None:
    with pytest.raises(Misread, match="written without FULL metadata"):
        reader_of(Shape("site", "things", PHYSICAL, False), *types_of(COLUMNS))


def without(name: str) -> Shape:
    columns = tuple(one for one in PHYSICAL if one.name != name)
    return Shape("site", "things", columns, True)


def test_a_column_that_the_log_does_not_have_is_named() -> None:
    """Unless nobody wants it."""
    with pytest.raises(Misread, match=r"^has no column text in the log$"):
        reader_of(without("text"), *types_of(COLUMNS))
    wanted = types_of(COLUMNS, columns={"big": "big"})
    body = rows_body("insert", 5, [[*written(A)[:2], *written(A)[3:]]])
    kind = kind_of("insert", False, False)
    assert list(reader_of(without("text"), *wanted).changes(kind, body)) == [
        (Row("1", {"big": 2}),)
    ]


def replaced(place: int, other: Physical) -> Shape:
    return Shape("site", "things", (*PHYSICAL[:place], other, *PHYSICAL[place + 1 :]), True)


def test_a_column_that_is_another_is_named() -> None:
    for other, told in (
        (Physical("big", log.DATE, 0), "has a column big that is bigint.20., and the log has kind"),
        (Physical("big", log.NULL, 0), "has a column big that is bigint"),
    ):
        with pytest.raises(Misread, match=told):
            reader_of(replaced(1, other), *types_of(COLUMNS))
    with pytest.raises(
        Misread, match=r"^has a column big that is of kind 6 in the log, which is n"
    ):
        reader_of(
            replaced(1, Physical("big", log.NULL, 0)), *types_of(COLUMNS, columns={"id": "id"})
        )


@pytest.mark.parametrize(("kind", "type_"), [("float", log.FLOAT), ("double", log.DOUBLE)])
def test_a_floating_point_number_in_a_key_is_refused_by_name(kind: str, type_: int) -> None:
    """Whatever type its field has in documents."""
    columns = [Column("id", kind, kind), *COLUMNS[1:]]
    shape = replaced(0, Physical("id", type_, 4))
    for fields in ({}, {"id": {"type": "string"}}):
        with pytest.raises(Misread, match=r"^has a column id that is a floating-point number"):
            # Where the log gives the versions, sync.yaml is refused before.
            reader_of(shape, *types_of(columns, fields=fields, log=False, version="big"))


def test_the_type_of_a_field_is_not_that_of_a_key() -> None:
    of = reader_of(SHAPE, *types_of(COLUMNS, fields={"id": {"type": "number"}}))
    assert read(of, "delete", [A]) == [Row("1", None)]


def test_many_patterns_of_nulls_are_read() -> None:
    """More than are kept in mind."""
    width = 12
    columns = [Column(f"c{number}", "int", "int") for number in range(width)]
    shape = Shape("site", "things", tuple(Physical(c.name, log.LONG, 0) for c in columns), True)
    of = reader_of(shape, *types_of(columns, ("c0",)))
    kind = kind_of("insert", False, False)
    for nulls in range(1, 2**11, 1):
        row: list[int | None] = [
            None if place and nulls >> (place - 1) & 1 else place for place in range(width)
        ]
        values = [None if one is None else struct.pack("<i", one) for one in row]
        [[found]] = of.changes(kind, rows_body("insert", 5, [values]))
        assert isinstance(found, Row)
        assert found.data == {f"c{place}": value for place, value in enumerate(row)}


def test_an_event_of_no_row_has_none() -> None:
    body = rows_body("insert", 5, [[None] * 7])
    assert list(reader().changes(ROWS[Kind.WRITE_1], body[:-1])) == []


KEYS = (
    (Column("id", "int", "int"), Physical("id", log.LONG, 0), b"\7\0\0\0", "7"),
    (
        Column("id", "varbinary", "varbinary(9)"),
        Physical("id", log.VARCHAR, 9),
        b"\2\xab\x0c",
        "ab0c",
    ),
    (
        Column("id", "timestamp", "timestamp", scale=0),
        Physical("id", log.TIMESTAMP2, 0),
        b"\0\0\0\1",
        "1970-01-01 00:00:01",
    ),
    (
        Column("id", "decimal", "decimal(4,3)", length=4, scale=3),
        Physical("id", log.NEWDECIMAL, 4 | 2 << 8),
        b"\x8c\x22",
        "12.340",
    ),
    (
        Column("id", "date", "date"),
        Physical("id", log.DATE, 0),
        (2005 << 9 | 3 << 5).to_bytes(3, "little"),
        "2005-03-00",
    ),
)


@pytest.mark.parametrize(("column", "physical", "raw", "key"), KEYS)
def test_a_key_is_named_as_sql_names_it(
    column: Column, physical: Physical, raw: bytes, key: str
) -> None:
    """With the digits that the column has now."""
    of = reader_of(Shape("site", "things", (physical,), True), *types_of([column]))
    body = rows_body("delete", 5, [[raw]])
    assert list(of.changes(kind_of("delete", False, False), body)) == [(Row(key, None),)]


def test_a_key_in_another_character_set_than_its_column_says_is_read_by_it() -> None:
    columns = [Column("id", "varchar", "varchar(9)", charset="latin1")]
    types = types_of(columns, fields={"id": {"text": {"stored": "utf-8"}}})
    of = reader_of(Shape("s", "t", (Physical("id", log.VARCHAR, 9, collation=8),), True), *types)
    kind = kind_of("delete", False, False)
    body = rows_body("delete", 5, [[b"\2" + "é".encode()], [b"\1\xff"]])
    [[good], [told]] = of.changes(kind, body)
    assert good == Row("é", None)
    assert isinstance(told, Unread)
    assert (told.error, told.raw[1:]) == ("the key column id holds what is no utf-8", b"\1\xff")


SAYS = (
    ("decimal", Physical("no", log.NEWDECIMAL, 4 | 2 << 8), b"\x80\0", b"\x80\1"),
    ("time", Physical("no", log.TIME2, 0), b"\x80\0\0", b"\x80\0\1"),
    ("binary", Physical("no", log.STRING, 2 << 8 | 0xFE), b"\0", b"\1\1"),
    ("varbinary", Physical("no", log.VARCHAR, 9), b"\1" + b"0", b"\1" + b"1"),
    ("date", Physical("no", log.DATE, 0), bytes(3), (2024 << 9 | 33).to_bytes(3, "little")),
    ("varchar", Physical("no", log.VARCHAR, 9, collation=UTF8), b"\2no", b"\3yes"),
)


@pytest.mark.parametrize(("type_", "physical", "no", "yes"), SAYS)
def test_a_column_of_any_type_says_that_a_row_is_gone(
    type_: str, physical: Physical, no: bytes, yes: bytes
) -> None:
    """And NULL says that it is not."""
    scale = {"decimal": 2, "time": 0}.get(type_)
    columns = [COLUMNS[0], Column("no", type_, type_, length=4, scale=scale)]
    of = reader_of(
        Shape("s", "t", (PHYSICAL[0], physical), True),
        *types_of(columns, columns={"id": "id"}, deleted="no"),
    )
    rows = [[b"\1\0\0\0", value] for value in (no, yes, None)]
    found = of.changes(kind_of("insert", False, False), rows_body("insert", 5, rows))
    there = Row("1", {"id": 1})
    assert list(found) == [(there,), (Row("1", None),), (there,)]
