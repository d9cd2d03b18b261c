"""One request as an access log has it, and how the texts of a log become its values.

Pure. Text of a log is Latin-1, byte for byte, as the bridge keeps targets: nothing is lost, and
nothing can fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = ["FIELDS", "Entry", "make", "number", "seconds_of", "split_request", "time_of"]

FIELDS = (
    "client", "user", "time", "request", "status", "bytes", "referer", "agent", "seconds", "host",
    "cookie", "ours",
)  # fmt: skip
"""What a row of a log may have, each a text but for `ours`."""

_ESCAPED = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_SIGNS = {"n": "\n", "t": "\t", "r": "\r", "v": "\v", "b": "\b", "f": "\f"}
_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (.*?)(?: HTTP/\d(?:\.\d)?)?", re.DOTALL)
_MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "Jun": 6,
    "Jul": 7, "Aug": 8, "Sep": 9, "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
_YEAR_3000 = 32_503_680_000.0
_COMMON = re.compile(r"\[?(\d\d)/(\w{3})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-]\d\d)(\d\d)\]?")


class Entry(NamedTuple):
    """One request of a log.

    time: Unix seconds, 0 where the log has none.
    method: empty where the request line is none.
    target: as it was asked for, with the query if the log has it; Latin-1 text.
    status: 0 where the log has none.
    bytes: of the answer.
    host: empty where the log has none.
    client: the visitor's address, or their name.
    agent: the browser as it calls itself.
    seconds: how long it took, None where the log does not say.
    user: who was logged in by HTTP, or empty.
    referer: the page before, or empty.
    cookie: whether the answer set one, None where the log does not say.
    ours: the whole line, where the log is the bridge's own.
    """

    time: float
    method: str
    target: str
    status: int
    bytes: int
    host: str = ""
    client: str = ""
    agent: str = ""
    seconds: float | None = None
    user: str = ""
    referer: str = ""
    cookie: bool | None = None
    ours: Mapping[str, Any] | None = None


def make(row: Mapping[str, Any], scale: float = 1.0) -> Entry:
    """The entry of a row, with the keys of FIELDS. scale: seconds in one unit of its time."""
    method, target = split_request(row.get("request") or "")
    cookie = row.get("cookie")
    return Entry(
        time_of(row.get("time") or ""),
        method,
        target,
        number(row.get("status") or ""),
        number(row.get("bytes") or ""),
        _text(row.get("host")),
        _text(row.get("client")),
        _text(row.get("agent")),
        seconds_of(row.get("seconds") or "", scale),
        _text(row.get("user")),
        _text(row.get("referer")),
        None if cookie is None else cookie not in ("", "-"),
        row.get("ours"),
    )


def _text(value: str | None) -> str:
    if not value or value == "-":
        return ""
    return unescaped(value) if "\\" in value else value


def unescaped(text: str) -> str:
    r"""`text` without the escapes of nginx (`\x22`) and Apache (`\"`, `\x22`, `\t`)."""
    return _ESCAPED.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _SIGNS.get(found[2], found[2]), text
    )


def split_request(request: str) -> tuple[str, str]:
    """Method and target of a request line as a log has it. What is no request line has no method,
    and is its own target."""
    if "\\" in request:
        request = unescaped(request)
    found = _REQUEST.fullmatch(request)
    return (found[1], found[2]) if found else ("", request)


def number(text: str) -> int:
    """A whole number; 0 for `-`, and for what is none."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 19 else 0


def seconds_of(text: str, scale: float = 1.0) -> float | None:
    """A time that something took, in seconds, or None. Of several (`0.1, 0.2`), the sum."""
    parts = [part for part in re.split(r"[,:] ?", text) if part.strip(" -")]
    try:
        took = sum(float(part) for part in parts) * scale
    except ValueError:
        return None
    return took if parts and 0 <= took < 1e9 else None


@lru_cache(maxsize=4096)
def time_of(text: str) -> float:
    """Unix seconds of a time as logs have it: `17/May/2015:10:05:03 +0000`, ISO 8601, or seconds,
    milliseconds, microseconds or nanoseconds since 1970. 0 for what is none, and for what is in
    no year from 1970 to 2999."""
    found = _time_of(text)
    return found if 0 <= found < _YEAR_3000 else 0.0


def _time_of(text: str) -> float:
    if found := _COMMON.fullmatch(text):
        day, month, year, hour, minute, second, off_hours, off_minutes = found.groups()
        try:
            base = datetime(
                int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), 0, UTC
            ).timestamp()
        except (ValueError, KeyError):
            return 0.0
        sign = -1 if off_hours[0] == "-" else 1
        return base - sign * (int(off_hours[1:]) * 3600 + int(off_minutes) * 60)
    try:
        value = float(text)
        while 1e11 < value < 1e20:
            value /= 1000
        return value
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text.strip("[]"))
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0
