"""Values of documents as people can read them: with their type, short, and on one line. Pure.

The text is the site's: nothing in it may be a command for a terminal.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128

__all__ = ["NOTHING", "named", "shown", "shown_apart"]

LONGEST = 80
"""Characters of one value; of a longer one the part that differs is shown."""
MOST_MEMBERS = 5
"""Of a list or an object."""


class _Nothing:
    """There is no value: the field is not there."""

    def __repr__(self) -> str:
        return "nothing"


NOTHING = _Nothing()

_NAMES: Mapping[type, str] = {
    bool: "a boolean",
    bytes: "binary of subtype 0",
    datetime: "a moment",
    Decimal128: "a decimal",
    dict: "an object",
    float: "a floating-point number",
    int: "a whole number",
    list: "a list",
    str: "a text",
    type(None): "null",
}


def named(kind: type) -> str:
    """A type in words."""
    return _NAMES.get(kind, f"a {kind.__name__}")


def shown(value: Any) -> str:
    """A value with its type, on one line and without control characters."""
    return _shortened(_whole(value), 0)


def shown_apart(one: Any, other: Any) -> tuple[str, str]:
    """Two values that differ, so that one sees where."""
    first, second = _whole(one), _whole(other)
    if first == second or _alike(first) == _alike(second):
        # They look the same, as letters do that are put together in another way.
        first, second = _escaped(first), _escaped(second)
    place = next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )
    return _shortened(first, place), _shortened(second, place)


def _alike(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _escaped(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _shortened(text: str, place: int) -> str:
    """The text around a place; its type, which is in front, stays."""
    if len(text) <= LONGEST:
        return text
    kind = text.partition(" ")[0]
    begin = 0 if place < LONGEST - 10 else place - LONGEST // 2
    part = text[begin : begin + LONGEST]
    head = f"{kind} …" if begin else ""
    tail = f"… ({len(text):,} characters)" if begin + LONGEST < len(text) else ""
    return f"{head}{part}{tail}"


def _whole(value: Any) -> str:
    match value:
        case _Nothing():
            return "nothing"
        case None:
            return "null"
        case bool():
            return f"boolean {str(value).lower()}"
        case int():
            return f"integer {int(value)}"
        case float():
            return f"double {value!r}"
        case Decimal128():
            return f"decimal {value}"
        case str() if type(value) is str:
            return f"text {_quoted(value)}"
        case bytes():
            kind = getattr(value, "subtype", 0)
            return f"binary {value.hex() or '(empty)'}" + (f" of subtype {kind}" if kind else "")
        case datetime():
            return f"moment {value.isoformat(timespec='milliseconds')}Z"
        case DatetimeMS():
            return f"moment {int(value)} ms after 1970"
        case Mapping():
            members = [f"{_quoted(name)}: {_whole(one)}" for name, one in value.items()]
            return f"object {{{_some(members)}}}"
        case list():
            return f"list [{_some([_whole(one) for one in value])}]"
    return f"{type(value).__name__} {_printable(str(value))}"


def _some(members: list[str]) -> str:
    more = len(members) - MOST_MEMBERS
    return ", ".join([*members[:MOST_MEMBERS], *([f"{more} more"] if more > 0 else [])])


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_printable(escaped)}"'


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
