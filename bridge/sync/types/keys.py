"""Names of rows: the text of a key and its exact inverse. Pure.

The key of a row is the text of its key columns, joined with `/`. Where there are several, a `/`
in one of them is written `%2F`, and the `%` of a `%2F` or `%25` in it `%25`, so that no two rows
have the same text, whatever is in them. How a column's value is written is its `Kind`.

A text that cannot be the key of any row is `Unlookable`. That is never the same as a row that is
not there: nothing is concluded from it, least of all that something was deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

__all__ = ["KINDS", "Kind", "Unlookable", "join", "split"]

_ESCAPED = re.compile(r"%(?=2F|25)")
_WHOLE = re.compile(r"-?[0-9]{1,80}")
_HEX = re.compile(r"(?:[0-9a-fA-F]{2})*")
_DECIMAL = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DAY = re.compile(r"([0-9]{4,7})-([0-9]{2})-([0-9]{2})")
_LAX_DAY = re.compile(r"[0-9]{4}-([0-9]{2})-([0-9]{2})")
_MOMENT = re.compile(
    r"([0-9]{4,7}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,6})?"
    r"(?:Z|\+00(?::?00)?)?"
)


class Unlookable(ValueError):
    """No row can have this key, or nobody can tell; its text says why."""


def join(parts: Sequence[str]) -> str:
    """The key of a row whose key columns have these texts."""
    if len(parts) == 1:
        return parts[0]
    return "/".join([_escape(part) if "/" in part or "%" in part else part for part in parts])


def _escape(part: str) -> str:
    return _ESCAPED.sub("%25", part).replace("/", "%2F")


def split(text: str, width: int) -> list[str]:
    """The texts of `width` key columns. Raises Unlookable."""
    if width == 1:
        return [text]
    parts = text.split("/")
    if len(parts) != width:
        raise Unlookable(
            f"it has {len(parts)} parts, and the key has {width} columns; a `/` within one of "
            "them is written %2F"
        )
    return [part.replace("%2F", "/").replace("%25", "%") if "%" in part else part for part in parts]


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of a key column are written.

    words: for docs and messages. parse: from its text, however a producer writes it, to what the
    driver is given; raises Unlookable. text: from that back to the one text that the row has.
    """

    words: str
    parse: Callable[[str], Any]
    text: Callable[[Any], str] = str


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise Unlookable("it is no whole number")
    return int(text)


def _any_decimal(text: str) -> Decimal:
    return Decimal(text) if text in ("NaN", "Infinity", "-Infinity") else _decimal(text)


def _decimal(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text):
        raise Unlookable("it is no decimal number")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise Unlookable("it is no decimal number") from None


def _plain(number: Decimal) -> str:
    return format(number, "f") if number.is_finite() else str(number)


def _text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unlookable("it is no text of UTF-8") from None
    return text


def _text_without_nul(text: str) -> str:
    if "\0" in text:
        raise Unlookable("it holds a NUL, which no text of PostgreSQL does")
    return _text(text)


def _bytes(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise Unlookable("it is no hexadecimal; a binary key is written as bin2hex() does")
    return bytes.fromhex(text)


def _uuid(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise Unlookable("it is no UUID")
    return text.lower()


def _boolean(text: str) -> bool:
    if text in ("1", "t", "true"):
        return True
    if text in ("0", "f", "false", ""):
        return False
    raise Unlookable("it is neither true nor false")


def _day(text: str) -> str:
    if text in ("infinity", "-infinity"):
        return text
    bare = text.removesuffix(" BC")
    if (found := _DAY.fullmatch(bare)) is None:
        raise Unlookable("it is no date")
    year = int(found[1])
    if bare != text:
        year = 1 - year
    try:
        # Of all calendars only the length of the months matters.
        date(2000 + year % 400, int(found[2]), int(found[3]))
    except ValueError:
        raise Unlookable("it is no date that a calendar has") from None
    return text


def _moment(text: str) -> str:
    if text in ("infinity", "-infinity"):
        return text
    found = _MOMENT.fullmatch(text.removesuffix(" BC"))
    if found is None:
        raise Unlookable("it is no moment, as in 2024-01-31 12:00:00")
    era = " BC" if text.endswith(" BC") else ""
    _day(found[1] + era)
    return f"{_on_the_clock(found)}{era}"


def _on_the_clock(found: re.Match[str]) -> str:
    hours, minutes, seconds = map(int, found[2].split(":"))
    if hours > 23 or minutes > 59 or seconds > 59:
        raise Unlookable("it is no time of day")
    return f"{found[1]} {found[2]}{found[3] or ''}"


def _lax_day(text: str) -> str:
    if (found := _LAX_DAY.fullmatch(text)) is None or int(found[1]) > 12 or int(found[2]) > 31:
        raise Unlookable("it is no date, as in 2024-01-31 or 2005-03-00")
    return text


def _lax_moment(text: str) -> str:
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise Unlookable("it is no moment, as in 2024-01-31 12:00:00")
    _lax_day(found[1])
    return _on_the_clock(found)


def _any_text(text: str) -> str:
    return _text(text.replace("T", " ", 1) if _MOMENT.fullmatch(text) else text)


def _any_text_without_nul(text: str) -> str:
    return _text_without_nul(_any_text(text))


def _object_id(text: str) -> int:
    if (found := _whole(text)) < 0 or found >= 2**32:
        raise Unlookable("it is no number of 32 bits")
    return found


KINDS: dict[str, Kind] = {
    "whole": Kind("its digits, without zeros in front", _whole),
    "decimal": Kind("as the database prints it", _decimal, _plain),
    "any decimal": Kind("as the database prints it", _any_decimal, _plain),
    "object id": Kind("its digits", _object_id),
    "text": Kind("the text itself", _text),
    "text without NUL": Kind("the text itself", _text_without_nul),
    "bytes": Kind("lower-case hexadecimal", _bytes, bytes.hex),
    "uuid": Kind("lower case", _uuid),
    "boolean": Kind("1 or 0", _boolean, lambda value: "1" if value else "0"),
    "day": Kind("YYYY-MM-DD", _day),
    "moment": Kind("YYYY-MM-DD HH:MM:SS", _moment),
    "lax day": Kind("YYYY-MM-DD", _lax_day),
    "lax moment": Kind("YYYY-MM-DD HH:MM:SS", _lax_moment),
    "printed without NUL": Kind("as the database prints it", _any_text_without_nul),
    "printed": Kind("as the database prints it", _any_text),
}
"""By name."""
