"""Values as databases give them, as JSON has them: the one place that decides how.

What rows mean is left to `bridge.queue.sql.queue_table` and `bridge.sync.sql.source`.
"""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from bridge.errors import UndecodableMessage
from bridge.queue.events import LARGEST_EVENT_BYTES, MAX_VERSION, load_json

__all__ = ["is_true", "plain", "to_json", "version_of"]

AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})
"""Types of values that JSON has."""

_FALSE = frozenset({"", "0", "f", "false", "n", "no", "off"})


def to_json(value: Any) -> str:
    """JSON of what databases give: dates as ISO 8601, decimals as text, bytes as text or base64."""
    return json.dumps(value, ensure_ascii=False, default=_scalar, separators=(",", ":"))


def plain(value: Any) -> Any:
    """What JSON makes of `value` on its way: the same as decoding `to_json`, without the text.
    Raises UndecodableMessage for a list or an object that is no strict JSON."""
    if type(value) in AS_THEY_ARE:
        return value
    if isinstance(value, list | tuple | dict):
        return load_json(to_json(value), LARGEST_EVENT_BYTES)
    return _scalar(value)


def version_of(found: Any) -> int:
    """A version, however the column is typed. Raises UndecodableMessage for what is none."""
    spelled = found.decode("ascii", "replace") if isinstance(found, bytes) else found
    if isinstance(spelled, str | Decimal) and str(spelled).isdecimal() and len(str(spelled)) < 20:
        spelled = int(spelled)
    if type(spelled) is not int or not 0 <= spelled <= MAX_VERSION:
        shown = str(found)[:40]
        raise UndecodableMessage(f"the version is {shown!r}, no whole number of 64 bits")
    return spelled


def is_true(value: Any) -> bool:
    """Whether a column says yes: a number but 0, a moment, or a text that does not say no."""
    if isinstance(value, bytes | bytearray | memoryview):
        # BIT(1) comes as one byte, 0 or 1.
        value = bytes(value).strip(b"\0").decode("utf-8", "replace")
    if isinstance(value, str):
        # What MySQL gives for a moment that is none.
        return value.strip().casefold() not in _FALSE and not value.startswith("0000-00-00")
    return value is not None and bool(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, Decimal):
        # Money stays what it is; a float would not. 12.00 is text like 12.50.
        exponent = value.as_tuple().exponent
        whole = isinstance(exponent, int) and exponent >= 0 and abs(value) <= MAX_VERSION
        return int(value) if whole else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(bytes(value)).decode("ascii")
    return str(value)
