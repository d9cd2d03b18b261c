"""Days and times in rows of the log: each is made by hand from what it stands for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UndecodableMessage
from bridge.sync.log import tables as log
from bridge.sync.log.cells import cell
from bridge.sync.log.moments import without_fraction
from bridge.sync.log.sizes import Misread
from bridge.sync.log.tables import Physical
from bridge.sync.types.rules import rule
from tests.sync.log.values import column, read


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
