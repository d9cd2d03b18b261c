"""Whether a document is what its event makes, field by field and strictly by type. Pure.

1 is not 1.0 and not true, 12.5 is not 12.50 and 0.0 is not -0.0; whole numbers of 32 and 64 bits
are the same, as they are for MongoDB. The order of fields does not matter, that of lists does.
Bytes are compared first: what is equal there is equal, and needs no decoding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import bson

from bridge.sync.bare import without_time
from bridge.sync.documents import Document
from bridge.sync.mongodb import TOLERANT, decode, has_doubles
from bridge.sync.reconcile.bookkeeping import SAID, is_moment, may_have
from bridge.sync.reconcile.shown import NOTHING, named, shown_apart

__all__ = [
    "MOST_GAPS",
    "Gap",
    "differences",
    "in_words",
    "of_version",
]

WHOLE = "the document"

MOST_GAPS = 20
"""Differences of one document that are told."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One difference. place: the field, with dots and `[numbers]` to what is in it. expected: the
    value that the event makes; found: that of MongoDB; NOTHING where there is none."""

    place: str
    expected: Any
    found: Any

    @property
    def words(self) -> str:
        """What differs, without the values."""
        if self.place == WHOLE:
            return f"the document holds {self.found}"
        if self.found is NOTHING:
            return f"{self.place} is missing"
        if self.expected is NOTHING:
            return f"{self.place} should not be there"
        kind, other = _kind(self.expected), _kind(self.found)
        if kind is not other:
            return f"{self.place} is {named(other)}, not {named(kind)}"
        if kind is list and len(self.expected) != len(self.found):
            return f"{self.place} has {len(self.found)} members, not {len(self.expected)}"
        return f"{self.place} has another value"

    @property
    def values(self) -> dict[str, str]:
        """The field and both values, as they can be shown to people."""
        expected, found = shown_apart(self.expected, self.found)
        return {"field": self.place, "sql": expected, "mongodb": found}


def of_version(raw: bytes, found: bytes) -> bytes:
    """A document that an event makes, with the version of the one that was found: where rows have
    no version of their own, nothing is to be compared but the rest."""
    version = decode(found).get("_v", NOTHING)
    ours = decode(raw)
    if version is NOTHING:
        return raw
    return bson.encode({**ours, "_v": version}, codec_options=TOLERANT)


def differences(expected: bytes, found: bytes, most: int = MOST_GAPS) -> list[Gap]:
    """Where two documents differ, up to `most` places; both as BSON, `expected` as an event makes
    it. Nothing where they are equal."""
    if without_time(expected) == without_time(found):
        return []
    ours, theirs = decode(expected), decode(found)
    if has_doubles(found):
        first = [Gap(WHOLE, NOTHING, "a field that is there twice")]
        return [*first, *islice(_documents(ours, theirs), most - 1)]
    gaps = [*islice(_documents(ours, theirs), most)]
    if not gaps and not _is_what_it_seems(found, theirs):
        text = "a text that is no UTF-8, or a type of BSON that drivers read as another"
        return [Gap(WHOLE, NOTHING, text)]
    return gaps


def in_words(gaps: list[Gap]) -> str:
    """The first difference, and how many there are."""
    if not gaps:
        return ""
    if len(gaps) == 1:
        return gaps[0].words
    least = "at least " if len(gaps) >= MOST_GAPS else ""
    return f"{gaps[0].words}, and {least}{len(gaps) - 1} more"


def _documents(expected: Document, found: Document) -> Iterator[Gap]:
    ours = {name: value for name, value in expected.items() if name[:1] != "_" or name in SAID}
    theirs = {
        name: value
        for name, value in found.items()
        if name[:1] != "_" or name in SAID or not may_have(found, name)
    }
    if isinstance(version := theirs.get("_v"), float) and version == ours["_v"]:
        theirs["_v"] = ours["_v"]  # the same number for the guard and for whoever reads it
    yield from _objects(ours, theirs, "")
    if "_at" not in found:
        yield Gap("_at", "the time of the write", NOTHING)
    elif not is_moment(found["_at"]):
        yield Gap("_at", expected.get("_at"), found["_at"])


def _objects(expected: Document, found: Document, place: str) -> Iterator[Gap]:
    for name, value in expected.items():
        if name not in found:
            yield Gap(_at(place, name), value, NOTHING)
        else:
            yield from _values(value, found[name], _at(place, name))
    for name, value in found.items():
        if name not in expected:
            yield Gap(_at(place, name), NOTHING, value)


def _values(expected: Any, found: Any, place: str) -> Iterator[Gap]:
    kind = _kind(expected)
    if kind is not _kind(found):
        yield Gap(place, expected, found)
    elif kind is dict:
        yield from _objects(expected, found, place)
    elif kind is list and len(expected) == len(found):
        for number, (value, one) in enumerate(zip(expected, found, strict=True)):
            yield from _values(value, one, f"{place}[{number}]")
    elif kind is list or not _same(kind, expected, found):
        yield Gap(place, expected, found)


def _same(kind: type, expected: Any, found: Any) -> bool:
    if kind is float:
        if math.isnan(expected) or math.isnan(found):
            return math.isnan(expected) and math.isnan(found)
        return bool(expected == found) and math.copysign(1, expected) == math.copysign(1, found)
    return bool(expected == found)


def _kind(value: Any) -> type:
    # 64-bit integers come as a type of their own.
    for kind in (bool, int, dict, list):
        if isinstance(value, kind):
            return kind
    return type(value)


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _is_what_it_seems(raw: bytes, decoded: Document) -> bool:
    """Whether what was read is what is there: of types that BSON had once drivers show others."""
    try:
        return bson.encode(decoded, codec_options=TOLERANT) == raw
    except (UnicodeError, bson.errors.BSONError):
        return False
