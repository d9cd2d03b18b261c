"""Values as the document has them: the types that sync.yaml can ask for.

Pure. `null` stays null. What is of the type already stays as it is, so that it does not matter
whether PHP sent a number or its digits.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, DecimalException
from typing import Any

from bson.decimal128 import Decimal128

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_EVENT_BYTES, check_data, load_json
from bridge.sync.models import Conversion

__all__ = ["CONVERSIONS"]

_INTEGER = re.compile(r"[+-]?[0-9]+")
_ZERO_DATE = re.compile(r"0000-00-00(?:[T ]00:00:00(?:\.0*)?)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = {
    "1": True, "true": True, "t": True, "yes": True, "y": True,
    "0": False, "false": False, "f": False, "no": False, "n": False,
}  # fmt: skip


def _string(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is no text")
    return str(value)


def _integer(value: Any) -> int:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()):
        value = int(value) if len(value) < 40 else 2**64
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int):
        raise ValueError("is no whole number")
    if not -(2**63) <= value < 2**63:
        raise ValueError("has more than 64 bits")
    return int(value)


def _number(value: Any) -> int | float:
    if isinstance(value, str):
        try:
            found = int(value) if _INTEGER.fullmatch(value.strip()) else float(value)
        except ValueError:
            raise ValueError("is no number") from None
        if not -1.7e308 < found < 1.7e308:  # infinities and NaN are none
            raise ValueError("is no number that JSON has")
        return found if isinstance(found, float) else _integer(found)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("is no number")
    return value


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().casefold() if isinstance(value, str | int) else ""
    if word not in _WORDS:
        raise ValueError("is neither true nor false")
    return _WORDS[word]


def _datetime(value: Any) -> datetime | None:
    """UTC without a zone, in milliseconds, as PyMongo reads it back. Text is ISO 8601 (without a
    zone: UTC), a number is Unix seconds; MySQL's zero date and the empty text are none."""
    if isinstance(value, str):
        text = value.strip()
        if not text or _ZERO_DATE.fullmatch(text):
            return None
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError("is no time of ISO 8601") from None
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            moment = (_EPOCH + timedelta(seconds=value)).replace(tzinfo=None)
        except OverflowError:
            raise ValueError("is no time of Unix seconds") from None
    else:
        raise ValueError("is no time")
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _decimal(value: Any) -> Decimal128:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("is no decimal number")
    try:
        found = Decimal(str(value).strip())
        if not found.is_finite():
            raise ValueError("is no decimal number")
        return Decimal128(found)
    except DecimalException:
        raise ValueError("is no decimal number of at most 34 digits") from None


def _binary(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("is no base64 text")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is no base64 text") from None


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = load_json(value, MAX_EVENT_BYTES)
        check_data({"json": found})
    except UndecodableMessage as error:
        raise ValueError(f"cannot be stored: {error}") from None
    return found


CONVERSIONS: Mapping[Conversion, Callable[[Any], Any]] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "datetime": _datetime,
    "decimal": _decimal,
    "binary": _binary,
    "json": _json,
}
"""By name; each raises ValueError with a text that follows the name of the field."""
