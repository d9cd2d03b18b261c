"""What differs in a document is told, and how it is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from bson import Binary, Int64
from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.mongodb import has_doubles
from bridge.sync.reconcile.bookkeeping import tombstone_fault
from bridge.sync.reconcile.contents import differences, in_words
from bridge.sync.reconcile.shown import LONGEST, NOTHING, shown, shown_apart

NOW = datetime(2026, 1, 2, 3, 4, 5)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters(codec="utf-8"))
    | st.binary()
    | st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-9, max_value=9).map(
        Decimal128
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text("abcd", min_size=1, max_size=3), VALUES, max_size=5)


def written(fields: dict[str, Any]) -> bytes:
    return bson.encode({"_id": "k", "_v": 1, **fields, "_at": NOW})


def gaps(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [gap.words for gap in differences(written(expected), written(found))]


@given(fields=DOCUMENTS, later=st.integers(0, 10**9))
def test_a_document_is_equal_to_itself_at_any_time_and_in_any_order(
    fields: dict[str, Any], later: int
) -> None:
    found = {"_at": NOW + timedelta(seconds=later), **dict(reversed(fields.items()))}
    raw = bson.encode({"_id": "k", "_v": Int64(1), **found})

    assert differences(written(fields), raw) == []


@given(fields=DOCUMENTS, other=DOCUMENTS)
def test_two_documents_are_equal_only_where_mongodb_compares_them_so(
    fields: dict[str, Any], other: dict[str, Any]
) -> None:
    def canonical(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: canonical(one) for name, one in sorted(value.items())}
        if isinstance(value, list):
            return [canonical(one) for one in value]
        same = isinstance(value, int) and not isinstance(value, bool)
        return Int64(value) if same else value

    same = bson.encode(canonical(fields)) == bson.encode(canonical(other))
    assert (gaps(fields, other) == []) is same


@given(fields=DOCUMENTS, data=st.data())
def test_every_field_that_differs_is_told(fields: dict[str, Any], data: st.DataObject) -> None:
    changed = data.draw(st.sets(st.sampled_from(sorted(fields)))) if fields else set()
    other = {name: ["other", value] if name in changed else value for name, value in fields.items()}

    told = differences(written(fields), written(other))

    assert {gap.place.partition("[")[0].partition(".")[0] for gap in told} == changed


def test_no_more_is_told_than_anybody_reads() -> None:
    many = {f"f{n}": n for n in range(100)}

    told = differences(written(many), written({}))

    assert len(told) == 20
    assert in_words(told) == "f0 is missing, and at least 19 more"


def test_both_values_are_shown_with_their_types() -> None:
    expected = {"price": Decimal128("12.50"), "name": "x", "on": True, "list": [1, 2]}
    found = {"price": 12.5, "on": 1, "list": [1], "more": None}

    told = [gap.values for gap in differences(written(expected), written(found))]

    assert told == [
        {"field": "price", "sql": "decimal 12.50", "mongodb": "double 12.5"},
        {"field": "name", "sql": 'text "x"', "mongodb": "nothing"},
        {"field": "on", "sql": "boolean true", "mongodb": "integer 1"},
        {"field": "list", "sql": "list [integer 1, integer 2]", "mongodb": "list [integer 1]"},
        {"field": "more", "sql": "nothing", "mongodb": "null"},
    ]


@given(one=VALUES, other=VALUES)
def test_values_are_short_and_hold_no_command_for_a_terminal(one: Any, other: Any) -> None:
    for text in (shown(one), *shown_apart(one, other)):
        assert text.isprintable()
        assert len(text) < LONGEST + 60


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", "e\u0301"),
        ("a" * 500 + "x", "a" * 500 + "y"),
        ("a ", "a"),
        ("a\u00a0b", "a b"),
        ("o", "\u043e"),
        (b"\0" * 300, b"\0" * 301),
        (0.0, -0.0),
        (1, 1.0),
        (Binary(b"a", 0), Binary(b"a", 5)),
        (DatetimeMS(0), DatetimeMS(1)),
        (None, NOTHING),
    ],
)
def test_two_values_that_differ_look_different(one: Any, other: Any) -> None:
    first, second = shown_apart(one, other)

    assert first != second


def test_a_field_that_is_there_twice_is_told_at_every_level() -> None:
    one, two = bson.encode({"a": 1})[4:-1], bson.encode({"a": 2})[4:-1]

    def document(fields: bytes) -> bytes:
        return (len(fields) + 5).to_bytes(4, "little") + fields + b"\0"

    assert has_doubles(document(one + two))
    assert has_doubles(document(b"\x03x\0" + document(one + two)))
    assert has_doubles(document(b"\x04x\0" + document(b"\x030\0" + document(one + two))))
    assert not has_doubles(bson.encode({"a": {"a": [{"a": 1}, {"a": 2}]}}))


def test_a_tombstone_has_what_it_needs_and_nothing_else() -> None:
    now = NOW.replace(tzinfo=UTC)
    good = {"_id": "k", "_v": 1, "_del": True, "_at": NOW}

    assert tombstone_fault(good, child=False, now=now) == ""
    assert tombstone_fault(good | {"_parent": "p"}, child=True, now=now) == ""
    for wrong in (
        good | {"_parent": "p"},
        good | {"title": "x"},
        good | {"_v": "1"},
        good | {"_at": "2024"},
        good | {"_at": NOW + timedelta(days=2)},
        good | {"_at": DatetimeMS(2**50)},
        good | {"_del": [True]},
    ):
        assert tombstone_fault(wrong, child=False, now=now), wrong
