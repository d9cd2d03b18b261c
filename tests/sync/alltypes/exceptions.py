"""Where a producer or its driver has lost the value before the bridge sees it, with the reason.

The tests fail where something differs that is in no line here, and where a line is needed no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bson.decimal128 import Decimal128

from tests.sync.alltypes.all_types import Declared

__all__ = ["EXCEPTIONS", "REFUSED", "Differs", "Excepted"]

REFUSED = "refused"


@dataclass(frozen=True)
class Differs:
    """A value that is another one. way: of the producer. literal: what was written. snapshot,
    found: the two values; found is REFUSED where the producer told that it takes none."""

    dialect: str
    way: str
    column: Declared
    literal: str
    snapshot: Any
    found: Any


@dataclass(frozen=True)
class Excepted:
    """reason: why. holds: for which differences. dialect: of which database."""

    reason: str
    holds: Callable[[Differs], bool]
    dialect: str = "sqlite"


_UNTYPED = frozenset({"none", "STRING", "UUID"})
_OF_TEXTS = frozenset({"pdo stringify", "5.2", "7.4"})


def _number(found: Any) -> float | None:
    if isinstance(found, Decimal128):
        found = str(found)
    if isinstance(found, bytes):
        found = found.decode("latin-1")
    try:
        return float(found)
    except (TypeError, ValueError):
        return None


def _is_infinite(one: Differs) -> bool:
    number = _number(one.snapshot)
    return number is not None and math.isinf(number)


def _is_rounded(one: Differs) -> bool:
    exact, found = _number(one.snapshot), _number(one.found)
    if exact is None or found is None or one.way not in {*_OF_TEXTS, "trigger"}:
        return False
    return math.isclose(exact, found, rel_tol=1e-13)


EXCEPTIONS = (
    *(
        Excepted(
            "a trigger sends what its database can make JSON of, and an event can hold",
            lambda one: one.way == "trigger" and one.found == REFUSED,
            dialect,
        )
        for dialect in ("mysql", "postgresql", "sqlite")
    ),
    Excepted(
        "to_jsonb has its own form of arrays, composites and hstore",
        lambda one: (
            one.way == "trigger"
            and (one.column.kind.endswith("[]") or one.column.kind in ("pair", "hstore"))
        ),
        "postgresql",
    ),
    Excepted(
        "to_jsonb writes a T in moments, also in those that are none of Python's",
        lambda one: (
            one.way == "trigger"
            and isinstance(one.snapshot, str)
            and one.found.replace("T", " ").replace("+00:00", "+00") == one.snapshot
        ),
        "postgresql",
    ),
    Excepted(
        "JSON has no infinity, and PHP's producer refuses it",
        lambda one: one.found == REFUSED and _is_infinite(one),
    ),
    Excepted(
        "PHP and SQLite have words of their own for infinity, which are a text in other columns "
        "than those of numbers",
        lambda one: one.way in _OF_TEXTS and _is_infinite(one) and one.found != REFUSED,
    ),
    Excepted(
        "as a text, PHP and SQLite give 14 or 15 digits of a floating-point number",
        lambda one: _is_rounded(one) and type(one.snapshot) is type(one.found),
    ),
    Excepted(
        "a column without a known type has the types of its values, which a producer of texts "
        "does not tell",
        lambda one: (
            one.column.kind in _UNTYPED
            and isinstance(one.snapshot, int | float)
            and (one.way in _OF_TEXTS or abs(one.snapshot) > 2**53)
        ),
    ),
    Excepted(
        "PHP shows no difference between bytes and text, and a Python program that gets what is "
        "no text sends bytes",
        lambda one: (
            one.column.kind in _UNTYPED and {type(one.snapshot), type(one.found)} == {bytes, str}
        ),
    ),
    Excepted(
        "a number in a column of bytes: who takes it for bytes sends its digits",
        lambda one: (
            one.column.is_binary
            and _number(one.snapshot) is not None
            and isinstance(one.found, bytes)
        ),
    ),
    Excepted(
        "SQLite3::fetchArray ends a text at a NUL",
        lambda one: (
            one.way == "sqlite3" and (one.snapshot, one.found) in (("a\0b", "a"), (b"a\0b", b"a"))
        ),
    ),
    Excepted(
        "in a column of JSON, an object with the one name base64 may be what it holds",
        lambda one: one.column.kind == "JSON" and one.way == "http" and "base64" in one.found,
    ),
)
