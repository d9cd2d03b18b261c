"""Whether a document is what its event makes, field by field and strictly by type. Pure.

1 is not 1.0 and not true; the order of fields does not matter, that of lists does. Fields of our
own bookkeeping, such as the time of the write, are left out.
"""

from __future__ import annotations

import math
from typing import Any

from bridge.sync.documents import Document

__all__ = ["first_difference"]

COMPARED = frozenset({"_id", "_v", "_parent"})
"""Of the fields with `_` in front, those that the event says."""

_NAMES = {
    bool: "a boolean",
    dict: "an object",
    float: "a floating-point number",
    int: "a whole number",
    list: "a list",
    str: "a text",
    type(None): "null",
}


def first_difference(expected: Document, found: Document) -> str:
    """Where the two differ, in words; empty when they are equal. Both as BSON decodes them."""
    return _objects(_said(expected), _said(found), "")


def _said(document: Document) -> Document:
    return {
        name: value
        for name, value in document.items()
        if not name.startswith("_") or name in COMPARED
    }


def _objects(expected: Document, found: Document, place: str) -> str:
    if expected.keys() != found.keys():
        for name in expected.keys() - found.keys():
            return f"{_at(place, name)} is missing"
        for name in found.keys() - expected.keys():
            return f"{_at(place, name)} should not be there"
    for name, value in expected.items():
        if difference := _values(value, found[name], _at(place, name)):
            return difference
    return ""


def _values(expected: Any, found: Any, place: str) -> str:
    kind, other = _kind(expected), _kind(found)
    if kind is not other:
        return f"{place} is {_name(other)}, not {_name(kind)}"
    if kind is dict:
        return _objects(expected, found, place)
    if kind is list:
        if len(expected) != len(found):
            return f"{place} has {len(found)} members, not {len(expected)}"
        for number, (value, one) in enumerate(zip(expected, found, strict=True)):
            if difference := _values(value, one, f"{place}[{number}]"):
                return difference
        return ""
    if kind is float and math.isnan(expected) and math.isnan(found):
        return ""
    return "" if expected == found else f"{place} has another value"


def _kind(value: Any) -> type:
    # 64-bit integers come as a type of their own.
    for kind in (bool, int, dict, list):
        if isinstance(value, kind):
            return kind
    return type(value)


def _name(kind: type) -> str:
    return _NAMES.get(kind, f"a {kind.__name__}")


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
