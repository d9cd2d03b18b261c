"""How long values in rows of the log are."""

from __future__ import annotations

import pytest

from bridge.sync.log import tables as log
from bridge.sync.log.sizes import Misread, char_length, other, prefix, skip, width
from bridge.sync.log.tables import Physical
from bridge.sync.types.column import Column
from tests.sync.log.values import sized

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


@pytest.mark.parametrize(
    ("physical", "bytes_"),
    [
        (Physical("c", log.NEWDECIMAL, 1 | 0 << 8), 1),
        (Physical("c", log.NEWDECIMAL, 10 | 2 << 8), 5),
        (Physical("c", log.NEWDECIMAL, 38 | 38 << 8), 17),
        (Physical("c", log.NEWDECIMAL, 65 | 30 << 8), 30),
        (Physical("c", log.BIT, 1), 1),
        (Physical("c", log.BIT, 1 << 8), 1),
        (Physical("c", log.BIT, 1 << 8 | 1), 2),
        (Physical("c", log.BIT, 8 << 8), 8),
        (Physical("c", log.ENUM, 2), 2),
        (Physical("c", log.SET, 8), 8),
        *((Physical("c", log.TIME2, digits), 3 + (digits + 1) // 2) for digits in range(7)),
        *((Physical("c", log.DATETIME2, digits), 5 + (digits + 1) // 2) for digits in range(7)),
        *((Physical("c", log.TIMESTAMP2, digits), 4 + (digits + 1) // 2) for digits in range(7)),
    ],
)
def test_values_of_one_length_have_it(physical: Physical, bytes_: int) -> None:
    assert width(physical) == bytes_
    [past] = skip([physical])
    assert past(b"", 5) == 5 + bytes_


@pytest.mark.parametrize("kind", [log.VARCHAR, log.VAR_STRING, log.VARCHAR_COMPRESSED])
def test_the_length_of_a_short_text_is_in_one_byte(kind: int) -> None:
    assert [prefix(Physical("c", kind, meta)) for meta in (1, 255, 256)] == [1, 1, 2]


@pytest.mark.parametrize("bytes_", [0, 1, 40, 255, 256, 300, 767, 768, 1020])
def test_the_longest_value_of_a_char_is_known(bytes_: int) -> None:
    """Two of its bits are in the byte of the type, inverted."""
    meta = (bytes_ & 0xFF) << 8 | 0xCE | ((bytes_ >> 4) & 0x30) ^ 0x30
    assert char_length(meta) == bytes_
    assert prefix(Physical("c", log.STRING, meta)) == (1 if bytes_ < 256 else 2)


@pytest.mark.parametrize("kind", [log.BLOB, log.BLOB_COMPRESSED, log.GEOMETRY, log.JSON])
def test_the_length_of_a_large_value_is_in_as_many_bytes_as_its_column_says(kind: int) -> None:
    assert [prefix(Physical("c", kind, size)) for size in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_another_column_is_told_with_its_sign() -> None:
    declared = Column("c", "date", "date")
    told = str(other(Physical("c", log.LONG, 0, True), declared))
    assert told == "is date, and the log has kind 3 unsigned there"
    told = str(other(Physical("c", log.LONG, 0), declared))
    assert told == "is date, and the log has kind 3 there"
