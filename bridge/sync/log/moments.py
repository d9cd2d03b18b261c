"""Days and times in rows of the log, as the text that SELECT prints. Pure.

The formats with a `2` are those of MySQL 5.6 and later. The older ones do not say in the log
whether a column has fractions, so that only columns without them are read.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bridge.errors import UndecodableMessage
from bridge.sync.log import tables as log
from bridge.sync.log.sizes import Cell, Misread
from bridge.sync.log.tables import Physical
from bridge.sync.types.column import Column

__all__ = ["OLD", "date", "datetime2", "old_datetime", "old_time", "old_timestamp", "time2",
           "timestamp2", "without_fraction"]  # fmt: skip

OLD = {log.TIME: "time", log.DATETIME: "datetime", log.TIMESTAMP: "timestamp"}
"""The types of before MySQL 5.6, which `mysql56_temporal_format=OFF` still makes in MariaDB."""

_TWO = tuple(f"{number:02}" for number in range(64))
_CLOCK = tuple(f" {hour:02}:{minute:02}:" for hour in range(32) for minute in range(64))
"""Hours and minutes, by the bits of both."""


def without_fraction(physical: Physical, column: Column | None) -> None:
    """Raises Misread where it cannot be known how long the values of an old type are."""
    if physical.type not in OLD:
        return
    if column is None or column.type != OLD[physical.type] or column.scale:
        declared = "no column of the table any more" if column is None else column.declared
        raise Misread(
            f"is {declared}, and in the format of servers before MySQL 5.6, of which the log does "
            "not say whether there are fractions: `ALTER TABLE … FORCE` writes the table anew"
        )


class _Days(dict[int, str]):
    """The text of days, by a number; they come again and again."""

    def __init__(self, text: Callable[[int], str]) -> None:
        super().__init__()
        self._text = text

    def __missing__(self, number: int) -> str:
        if len(self) >= 10_000:
            self.clear()
        found = self[number] = self._text(number)
        return found


def _day(bits: int) -> str:
    return _printed(bits >> 9, bits >> 5 & 15, bits & 31)


def _printed(year: int, month: int, day: int) -> str:
    if not 0 <= year <= 9999 or month > 12 or day > 31:
        raise UndecodableMessage(f"{year}-{month}-{day} is no day")
    return f"{year:04}-{month:02}-{day:02}"


def date(physical: Physical, column: Column) -> Cell:
    """DATE."""
    days = _Days(_day)

    def read(raw: bytes, at: int) -> tuple[str, int]:
        return days[raw[at] | raw[at + 1] << 8 | raw[at + 2] << 16], at + 3

    return read


def _fraction(digits: int) -> Callable[[int], str]:
    """The text of a fraction of so many digits; an odd number of them has a zero behind it."""
    if digits % 2:
        return lambda found: f".{found // 10:0{digits}}"
    return lambda found: f".{found:0{digits}}"


def _day_of_months(number: int) -> str:
    months, day = number >> 5, number & 31
    return _printed(months // 13, months % 13, day)


def datetime2(physical: Physical, column: Column) -> Cell:
    """DATETIME."""
    digits = physical.meta
    wide = (digits + 1) // 2
    fraction = _fraction(digits)
    days = _Days(_day_of_months)

    def whole(raw: bytes, at: int) -> tuple[str, int]:
        end = at + 5
        bits = int.from_bytes(raw[at:end], "big") - 0x8000000000
        return days[bits >> 17] + _CLOCK[bits >> 6 & 2047] + _TWO[bits & 63], end

    def parted(raw: bytes, at: int) -> tuple[str, int]:
        text, middle = whole(raw, at)
        end = middle + wide
        return text + fraction(int.from_bytes(raw[middle:end], "big")), end

    return parted if wide else whole


def old_datetime(physical: Physical, column: Column) -> Cell:
    """DATETIME, as a number of the digits that it is printed with."""

    def read(raw: bytes, at: int) -> tuple[str, int]:
        found = int.from_bytes(raw[at : at + 8], "little")
        number, clock = divmod(found, 1_000_000)
        hour, minute, second = clock // 10000, clock // 100 % 100, clock % 100
        if hour > 23 or minute > 59 or second > 59:
            raise UndecodableMessage(f"{found} is no moment")
        day = _printed(number // 10000, number // 100 % 100, number % 100)
        return f"{day} {hour:02}:{minute:02}:{second:02}", at + 8

    return read


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _day_of_epoch(number: int) -> str:
    return (_EPOCH + timedelta(days=number)).strftime("%Y-%m-%d")


def _moment(days: _Days, seconds: int) -> str:
    day, second = divmod(seconds, 86400)
    hour, rest = divmod(second, 3600)
    return days[day] + _CLOCK[hour << 6 | rest // 60] + _TWO[rest % 60]


def timestamp2(physical: Physical, column: Column) -> Cell:
    """TIMESTAMP, in UTC, with a Z behind it."""
    digits = physical.meta
    wide = (digits + 1) // 2
    fraction = _fraction(digits)
    zero = "0000-00-00 00:00:00" + (f".{'0' * digits}" if digits else "")
    days = _Days(_day_of_epoch)

    def whole(raw: bytes, at: int) -> tuple[str, int]:
        end = at + 4
        seconds = int.from_bytes(raw[at:end], "big")
        return (f"{_moment(days, seconds)}Z" if seconds else zero), end

    def parted(raw: bytes, at: int) -> tuple[str, int]:
        middle = at + 4
        end = middle + wide
        seconds = int.from_bytes(raw[at:middle], "big")
        part = int.from_bytes(raw[middle:end], "big")
        if not seconds and not part:
            return zero, end
        return f"{_moment(days, seconds)}{fraction(part)}Z", end

    return parted if wide else whole


def old_timestamp(physical: Physical, column: Column) -> Cell:
    """TIMESTAMP."""
    days = _Days(_day_of_epoch)

    def read(raw: bytes, at: int) -> tuple[str, int]:
        seconds = int.from_bytes(raw[at : at + 4], "little")
        return (f"{_moment(days, seconds)}Z" if seconds else "0000-00-00 00:00:00"), at + 4

    return read


def time2(physical: Physical, column: Column) -> Cell:
    """TIME. The fraction counts from the lower second, so that the sign is that of the whole."""
    digits = physical.meta
    wide = (digits + 1) // 2
    all_ = 3 + wide
    zero = 0x800000 << 8 * wide
    unit = 256**wide
    fraction = _fraction(digits)

    def read(raw: bytes, at: int) -> tuple[str, int]:
        bits = int.from_bytes(raw[at : at + all_], "big") - zero
        sign, bits = ("-", -bits) if bits < 0 else ("", bits)
        clock, part = divmod(bits, unit)
        text = f"{sign}{clock >> 12 & 0x3FF:02}:{clock >> 6 & 63:02}:{clock & 63:02}"
        return (text + fraction(part) if digits else text), at + all_

    return read


def old_time(physical: Physical, column: Column) -> Cell:
    """TIME, as a number of the digits that it is printed with."""

    def read(raw: bytes, at: int) -> tuple[str, int]:
        found = int.from_bytes(raw[at : at + 3], "little", signed=True)
        sign, found = ("-", -found) if found < 0 else ("", found)
        hours, minutes, seconds = found // 10000, found // 100 % 100, found % 100
        if hours > 838 or minutes > 59 or seconds > 59:
            raise UndecodableMessage(f"{sign}{found} is no time")
        return f"{sign}{hours:02}:{minutes:02}:{seconds:02}", at + 3

    return read
