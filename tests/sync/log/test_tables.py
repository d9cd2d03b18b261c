"""The description of a table in the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.log import tables as log
from bridge.sync.log.format import LogUnreadable
from bridge.sync.log.tables import BINARY, Physical, Shape, shape
from tests.sync.log.made import packed, table_body

NUMERIC = (log.TINY, log.SHORT, log.INT24, log.LONG, log.LONGLONG, log.FLOAT, log.DOUBLE,
           log.NEWDECIMAL, log.YEAR)  # fmt: skip
TEXTS = (log.STRING, log.VARCHAR, log.VARCHAR_COMPRESSED, log.BLOB, log.BLOB_COMPRESSED,
         log.GEOMETRY)  # fmt: skip
OTHERS = (log.DATE, log.TIME, log.DATETIME, log.TIMESTAMP, log.BIT, log.TIME2, log.DATETIME2,
          log.TIMESTAMP2, log.JSON, log.NEWDATE)  # fmt: skip
TWO = (log.VARCHAR, log.VARCHAR_COMPRESSED, log.STRING, log.NEWDECIMAL, log.BIT)
ONE = (log.BLOB, log.BLOB_COMPRESSED, log.GEOMETRY, log.JSON, log.FLOAT, log.DOUBLE, log.TIME2,
       log.DATETIME2, log.TIMESTAMP2)  # fmt: skip


@st.composite
def physical(draw: st.DrawFn) -> Physical:
    type_ = draw(st.sampled_from((*NUMERIC, *TEXTS, *OTHERS, log.ENUM, log.SET)))
    name = draw(st.text(min_size=1, max_size=5))
    meta = 0
    if type_ in TWO:
        # The low byte of a STRING is its type.
        meta = draw(st.integers(0, 255)) << 8 | 0xFE if type_ == log.STRING else 0
        meta = meta or draw(st.integers(0, 2**16 - 1))
    elif type_ in ONE or type_ in (log.ENUM, log.SET):
        meta = draw(st.integers(1, 8))
    collations = st.sampled_from((8, 45, BINARY, 250, 2304, 70_000))
    members: tuple[bytes, ...] = ()
    if type_ in (log.ENUM, log.SET):
        members = tuple(draw(st.lists(st.binary(max_size=3), max_size=4)))
    return Physical(
        name,
        type_,
        meta,
        type_ in NUMERIC and draw(st.booleans()),
        draw(collations) if type_ in (*TEXTS, log.ENUM, log.SET) else BINARY,
        members,
    )


COLUMNS = st.lists(physical(), min_size=1, max_size=12).map(tuple)


@given(COLUMNS, st.sampled_from(("each", "default")), st.text(max_size=9))
def test_a_table_is_read_as_it_was_described(
    columns: tuple[Physical, ...], collations: str, name: str
) -> None:
    """With each collation, or with the usual one and those that differ from it."""
    body = table_body(5, name, columns, collations=collations)
    assert shape(body) == Shape("site", name, columns, True)


@given(COLUMNS)
def test_what_is_not_written_has_no_names(columns: tuple[Physical, ...]) -> None:
    found = shape(table_body(5, "t", columns, metadata="NO_LOG"))
    assert not found.names
    assert [(one.type, one.meta) for one in found.columns] == [(c.type, c.meta) for c in columns]
    assert [one.name for one in found.columns] == [f"@{n}" for n in range(1, len(columns) + 1)]


@given(COLUMNS, st.data())
def test_a_description_that_is_cut_off_is_not_read_as_another(
    columns: tuple[Physical, ...], data: st.DataObject
) -> None:
    """At most it has no names, and is no good then."""
    body = table_body(5, "t", columns)
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    try:
        found = shape(cut)
    except LogUnreadable as error:
        assert str(error).startswith("the description of a table of the log is damaged")  # noqa: PT017
        return
    assert not found.names or found.columns == columns


def test_mysql_has_no_sign_of_a_year() -> None:
    """MariaDB has, so that the signs of what follows are elsewhere."""
    columns = (Physical("y", log.YEAR, 0, True), Physical("a", log.LONG, 0, False))
    body = table_body(5, "t", columns)
    assert [one.unsigned for one in shape(body).columns] == [True, False]
    assert [one.unsigned for one in shape(body, mariadb=False).columns] == [False, True]


def described(*parts: tuple[int, bytes], types: bytes = b"\3", metas: bytes = b"") -> bytes:
    body = bytes(6) + b"\1\0" + b"\4site\0\1t\0" + packed(len(types)) + types
    body += packed(len(metas)) + metas + b"\0"
    return body + b"".join(bytes((kind,)) + packed(len(part)) + part for kind, part in parts)


@pytest.mark.parametrize(
    "body",
    [
        described((4, b"\1a")),  # no sign
        described((4, b"\1a"), types=b"\x0f", metas=b"\5\0"),  # no collation
        described((4, b"\1a"), (10, b"\x2d"), types=b"\xfe", metas=b"\xf7\1"),  # no members
        described((4, b"\1a"), (6, b"\1\1x"), types=b"\xfe", metas=b"\xf7\1"),  # none of theirs
        described((4, b"\1a"), (1, b"\0"), metas=b"\1"),  # something of no column
        described((4, b"\1a"), (2, b"\x08\1"), types=b"\x0f", metas=b"\5\0"),  # half a pair
    ],
)
def test_what_has_names_and_lacks_the_rest_is_told(body: bytes) -> None:
    """Nothing is taken to be usual."""
    with pytest.raises(LogUnreadable, match="description of a table"):
        shape(body)


@pytest.mark.parametrize("place", [13, 16])
def test_a_name_that_does_not_end_is_told(place: int) -> None:
    body = bytearray(described((4, b"\1a"), (1, b"\0")))
    assert body[place] == 0
    body[place] = 1
    with pytest.raises(LogUnreadable, match="a name does not end where it should"):
        shape(bytes(body))


def test_a_name_may_be_of_any_bytes() -> None:
    body = described((4, b"\2\xffa"), (1, b"\x80"))
    assert shape(body).columns == (Physical("\udcffa", log.LONG, 0, True),)


def test_members_and_signs_of_many_columns_are_their_own() -> None:
    """Of ENUM and SET in turn, and beyond eight signs."""
    columns = []
    for number in range(20):
        columns.append(Physical(f"n{number}", log.LONG, 0, number % 3 == 0))
        kind = (log.ENUM, log.SET)[number % 2]
        columns.append(Physical(f"c{number}", kind, 1, False, 45, (b"%d" % number,)))
    assert shape(table_body(1, "t", columns)).columns == tuple(columns)


def test_a_column_is_found_by_its_own_name_first() -> None:
    """Python takes some names for the same that are not: ß and SS."""
    names = ("Straße", "STRASSE", "Name", "a", "A")
    found = Shape("s", "t", tuple(Physical(name, 3, 0) for name in names), True)
    assert [found.place(name) for name in names] == [0, 1, 2, 3, 4]
    assert found.place("NAME") == 2
    assert found.place("strasse") is None
    assert found.place("missing") is None


NUMBERS = {
    "TINY": 1, "SHORT": 2, "LONG": 3, "FLOAT": 4, "DOUBLE": 5, "NULL": 6, "TIMESTAMP": 7,
    "LONGLONG": 8, "INT24": 9, "DATE": 10, "TIME": 11, "DATETIME": 12, "YEAR": 13, "NEWDATE": 14,
    "VARCHAR": 15, "BIT": 16, "TIMESTAMP2": 17, "DATETIME2": 18, "TIME2": 19,
    "BLOB_COMPRESSED": 140, "VARCHAR_COMPRESSED": 141, "JSON": 245, "NEWDECIMAL": 246,
    "ENUM": 247, "SET": 248, "TINY_BLOB": 249, "MEDIUM_BLOB": 250, "LONG_BLOB": 251, "BLOB": 252,
    "VAR_STRING": 253, "STRING": 254, "GEOMETRY": 255,
}  # fmt: skip
"""As both servers' `mysql_com.h` and `field_types.h` have them."""


def test_types_have_the_numbers_of_the_protocol() -> None:
    assert {name: getattr(log, name) for name in NUMBERS} == NUMBERS


def test_what_may_be_null_is_there_whole() -> None:
    """Also where nothing follows it."""
    body = described(types=b"\3" * 9)[:-1]
    assert len(shape(body + bytes(2)).columns) == 9
    for cut in (body, body + b"\0"):
        with pytest.raises(LogUnreadable, match="it ends within what may be NULL"):
            shape(cut)
