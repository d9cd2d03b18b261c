"""Values as documents have them: the types that a column or sync.yaml can ask for.

Pure. Each function takes whatever a producer sends for the value (PHP's number or its digits, the
text that the database prints, JSON of a trigger) and gives one and the same value of the document,
or raises ValueError with a text that follows the name of the field. None is left to the callers.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
from functools import partial
from typing import Any

from bson.decimal128 import Decimal128

from bridge.errors import UndecodableMessage
from bridge.queue.events import Number, check_data, load_json
from bridge.sync.charsets import readable

__all__ = [
    "BYTES",
    "CONVERSIONS",
    "EXACT",
    "NotThatText",
    "binary",
    "boolean",
    "day",
    "decimal",
    "double",
    "integer",
    "json_value",
    "moment",
    "single",
    "string",
    "time",
    "whole",
]

Convert = Callable[[Any], Any]

BYTES = "base64"
"""The one name of an object that stands for bytes: `{"base64": "…"}`."""
MOST_JSON = 32 * 1024 * 1024
_INTEGER = re.compile(r"[+-]?[0-9]{1,80}")
_ZERO_DATE = re.compile(r"0000-00-00(?:[T ]00:00:00(?:\.0*)?)?")
_DATE = re.compile(
    r"([0-9]{4,6}-[0-9]{2}-[0-9]{2})(?:[T ]00:00:00(?:\.0*)?(?:Z|[+-]00(?::?00)?)?)?"
)
_TIME = re.compile(
    r"([+-]?)([0-9]{1,3}):([0-9]{2})(?::([0-9]{2})(\.[0-9]{1,9})?)?"
    r"((?:[+-][0-9]{2}(?::[0-9]{2}){0,2})?)"
)
_SPAN = re.compile(r"(-?[0-9]{1,2}) days?, ([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?")
_UNIX = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# As many digits as MySQL and PostgreSQL can have, so that nothing is rounded on the way.
EXACT = Context(prec=200_000, rounding=ROUND_HALF_UP, Emax=999_999, Emin=-999_999)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?")
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
"""As PostgreSQL prints them."""
_NOT_FINITE_WORDS = frozenset({*_NOT_FINITE, "NAN", "INF", "-INF", "Inf", "-Inf"})
"""Of floating-point numbers, as PHP and SQLite print them, too."""
_WORDS = {
    "1": True, "true": True, "t": True, "yes": True, "y": True, "on": True,
    "0": False, "false": False, "f": False, "no": False, "n": False, "off": False, "": False,
}  # fmt: skip


class NotThatText(ValueError):
    """Bytes that are not in the character set that they are said to be in. text: how they can be
    read."""

    def __init__(self, codec: str, raw: bytes) -> None:
        super().__init__(f"is no {codec}")
        self.text = readable(raw)


def string(value: Any) -> str:
    """Text. A number becomes its digits, as PHP prints it; bytes are read as PHP's producer reads
    them."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return readable(binary(value))
    if isinstance(value, Number):
        return value.text
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is no text")
    return str(value + 0).removesuffix(".0")  # never -0


def integer(value: Any) -> int:
    """A whole number of 64 bits."""
    found = _whole(value)
    if not -(2**63) <= found < 2**63:
        raise ValueError("has more than 64 bits")
    return found


def whole(value: Any) -> int | Decimal128:
    """A whole number; above 64 bits a decimal, with which MongoDB compares it all the same."""
    found = _whole(value)
    return found if -(2**63) <= found < 2**63 else decimal(str(found))


def _whole(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(text := value.strip()):
        return int(text)
    if isinstance(value, float) and value.is_integer():
        return int(Decimal(value.text)) if isinstance(value, Number) else int(value)
    if not isinstance(value, int):
        raise ValueError("is no whole number")
    return int(value)


def double(value: Any, digits: int | None = None) -> float:
    """A number of double precision; NaN and the infinities where the database has them. digits:
    how many the database prints after the point, where it was told so."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is no number")
    if isinstance(value, str):
        if value in _NOT_FINITE_WORDS:
            return float(value)
        _numeral(value)
    try:
        found = float(value)
    except OverflowError:
        raise ValueError("is no number") from None
    if not math.isfinite(found):
        raise ValueError("is no number of double precision")
    if digits is not None:
        found = round(found, digits)
    return found + 0.0  # never -0.0


def _numeral(text: str) -> None:
    # Python would also take 1_000, and digits of other scripts.
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError("is no number")


def single(value: Any) -> float:
    """MySQL's FLOAT: the six digits that it prints of one, whatever the producer saw."""
    found = double(value)
    return float(f"{found:.6g}") if math.isfinite(found) else found


def boolean(value: Any) -> bool:
    """Of numbers anything but 0 is true; of texts 1, t, true, y, yes and on, and those that say
    no, the empty one included: so PHP writes false."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value != 0
    if isinstance(value, str):
        word = value.strip().casefold()
        if word in _WORDS:
            return _WORDS[word]
        if _NUMBER.fullmatch(word):
            return float(word) != 0
        if word in ("\0", "\x01"):  # BIT(1), as old drivers of PHP give it
            return word == "\x01"
    raise ValueError("is neither true nor false")


def decimal(value: Any, scale: int | None = None) -> Decimal128:
    """An exact decimal of at most 34 digits. scale: how many of them are after the point, in
    every document; None for as many as there are."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is no decimal number")
    text = value.text if isinstance(value, Number) else str(value).strip()
    try:
        found = Decimal(text)
        if not found.is_finite():
            if text not in _NOT_FINITE:
                raise ValueError("is no decimal number")
            return Decimal128(found)
        _numeral(text)
        if scale is not None:
            found = found.quantize(Decimal(1).scaleb(-scale), context=EXACT)
        if not found:
            found = abs(found)  # never -0.00
        return Decimal128(found)
    except DecimalException:
        raise ValueError("is no decimal number of at most 34 digits") from None


def shortest_decimal(value: Any) -> Decimal128:
    """A decimal without zeros at its end, for SQLite, which keeps none."""
    found = decimal(value).to_decimal()
    if found.is_finite():
        found = found.normalize(EXACT)
        if 0 < found.as_tuple().exponent <= 34 - len(found.as_tuple().digits):  # type: ignore[operator]
            found = found.quantize(Decimal(1), context=EXACT)
    return Decimal128(found)


def decimal_text(value: Any, scale: int | None = None) -> str:
    """The same as text, for columns with more digits than MongoDB's decimals have."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is no decimal number")
    text = value.text if isinstance(value, Number) else str(value).strip()
    try:
        found = Decimal(text)
        if found.is_finite():
            _numeral(text)
        elif text not in _NOT_FINITE:
            raise ValueError("is no decimal number")
        if scale is not None and found.is_finite():
            found = found.quantize(Decimal(1).scaleb(-scale), context=EXACT)
    except DecimalException:
        raise ValueError("is no decimal number") from None
    return format(found if found else abs(found), "f") if found.is_finite() else str(found)


def day(value: Any) -> str | None:
    """A day as `YYYY-MM-DD`. MySQL's zero date and the empty text are none; a date that no
    calendar has, such as 2005-03-00, stays what it is."""
    if not isinstance(value, str):
        raise ValueError("is no date")
    text = value.strip()
    if not text or _ZERO_DATE.fullmatch(text):
        return None
    if (found := _DATE.fullmatch(text)) is None:
        raise ValueError("is no date")
    return found[1]


def time(value: Any, digits: int | None = None) -> str:
    """A time of day, or a span, as `[-]HH:MM:SS[.ffffff][+ZZ]`. digits: how many there are after
    the point, in every document; None for as many as came. Python's `1 day, 2:30:00` is one."""
    if not isinstance(value, str):
        raise ValueError("is no time")
    text = value.strip()
    if (span := _SPAN.fullmatch(text)) is not None:
        text = _clock(span)
    if (found := _TIME.fullmatch(text)) is None:
        raise ValueError("is no time")
    sign, hours, minutes, seconds, fraction, zone = found.groups()
    fraction = fraction or ""
    if digits is not None:
        fraction = f".{fraction[1 : digits + 1]:0<{digits}}" if digits else ""
    made = f"{int(hours):02}:{minutes}:{seconds or '00'}{fraction}"
    minus = "-" if sign == "-" and made.strip("0:.") else ""
    return f"{minus}{made}{zone}"


def _clock(span: re.Match[str]) -> str:
    """A timedelta of Python on one clock: `-1 day, 23:59:59` is `-00:00:01`."""
    days, hours, minutes, seconds, fraction = span.groups()
    micros = int(f"{fraction or '':0<6}"[:6])
    at = timedelta(int(days), int(seconds), micros, minutes=int(minutes), hours=int(hours))
    sign, at = ("-", -at) if at < timedelta(0) else ("", at)
    whole, rest = divmod(at, timedelta(seconds=1))
    end = f".{rest.microseconds:06}" if rest else ""
    return f"{sign}{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{end}"


def moment(value: Any, zone: tzinfo = UTC, *, unix: bool | None = None) -> datetime | None:
    """A moment: UTC without a zone, in milliseconds, as PyMongo reads it back.

    Text is ISO 8601, in `zone` where it names none; a number is Unix seconds. unix: whether a
    text of digits is such a number, too; None: unless it can be a date. MySQL's zero date and the
    empty text are none. Of the two moments that a clock shows twice it is the first.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text or (text[0] == "0" and _ZERO_DATE.fullmatch(text)):
            return None
        if (
            (text[4:5] != "-" or text[3] in "eE")
            and _UNIX.fullmatch(text)
            and (unix or (unix is None and len(text) != 8))
        ):
            return _since_1970(float(text))
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("is no time of ISO 8601") from None
        try:
            if found.tzinfo is None and zone is not UTC:
                found = found.replace(tzinfo=zone)
            if found.tzinfo is not None:
                found = found.astimezone(UTC).replace(tzinfo=None)
        except (OverflowError, ValueError):
            raise ValueError("is beyond the years 1 to 9999") from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return _since_1970(value)
    else:
        raise ValueError("is no time")
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def _since_1970(seconds: float) -> datetime:
    try:
        found = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None)
    except (OverflowError, ValueError):
        raise ValueError("is no time of Unix seconds") from None
    return found.replace(microsecond=found.microsecond // 1000 * 1000)


def binary(value: Any) -> bytes:
    """Bytes, from base64, from `{"base64": "…"}`, or from PostgreSQL's `\\x…`."""
    if isinstance(value, dict) and set(value) == {BYTES}:
        value = value[BYTES]
    if not isinstance(value, str):
        raise ValueError("is no base64 text")
    try:
        if value.startswith("\\x"):
            return bytes.fromhex(value[2:])
        # MySQL and PostgreSQL write lines of 76 characters.
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no base64 text") from None


def stored_text(value: Any, codec: str) -> str:
    """Text whose bytes were kept in a column of another charset, or of none. A producer that
    could decode them sends the text, another one `{"base64": "…"}`."""
    if isinstance(value, dict):
        raw = binary(value)
        try:
            return raw.decode(codec)
        except UnicodeDecodeError:
            raise NotThatText(codec, raw) from None
    return string(value)


def json_value(value: Any) -> Any:
    """What a text of JSON holds."""
    if not isinstance(value, str):
        return value
    try:
        found = load_json(value, MOST_JSON)
        check_data({"json": found})
    except UndecodableMessage as error:
        raise ValueError(f"cannot be stored: {error}") from None
    return found


CONVERSIONS: Mapping[str, Convert] = {
    "string": string,
    "integer": integer,
    "number": double,
    "boolean": boolean,
    "date": day,
    "time": time,
    "datetime": moment,
    "decimal": decimal,
    "binary": binary,
    "json": json_value,
}
"""The types that sync.yaml can name."""


def with_scale(scale: int | None) -> Convert:
    """`decimal` with so many digits after the point."""
    return decimal if scale is None else partial(decimal, scale=scale)
