"""One odd value never stops an entity: what does not fit follows its policy, for every type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UnusableEvent
from bridge.queue.events import Event
from bridge.sync.documents import Mirror
from bridge.sync.models import Conversion, FieldRule, File
from bridge.sync.types import values
from bridge.sync.types.column import Column
from bridge.sync.types.rules import RULES, misfitting, rule
from tests.sync.alltypes.everything import Everything
from tests.sync.alltypes.producers import by_snapshot

KINDS: Sequence[str] = Conversion.__args__  # type: ignore[attr-defined]
# What JSON can hold, and what programs of all kinds may take for a value of a column.
WORDS = st.sampled_from(
    [
        "",
        " ",
        "0000-00-00",
        "2005-03-00",
        "9999-12-31T23:59:59-05:00",
        "infinity",
        "-infinity",
        "NaN",
        "INF",
        "4713-01-01 BC",
        "10000-01-01",
        "24:00:00",
        "26:30:00",
        "1 day, 2:30:00",
        "-1 day, 23:59:59",
        "12.50",
        "1e400",
        "-1e-400",
        "1E+5",
        "0x1F",
        "1_000",
        "١٢",
        "t",
        "no",
        "{",
        "null",
        "[1]",
        '{"$a": 1}',
        "12,50",
        "$1,234.50",
        "(5.00)",
        "9" * 40,
        "\\0",
        "\\ud800",
    ]
)
VALUES = st.one_of(
    WORDS,
    st.text(max_size=30),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(st.integers(0, 9), max_size=2),
    st.binary(max_size=8).map(lambda raw: {"base64": raw.hex()}),
    st.dictionaries(st.sampled_from(["base64", "a", ""]), WORDS, max_size=2),
    st.datetimes().map(str),
    st.timedeltas().map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
)
COLUMNS = [
    (
        family.dialect,
        Column("c", name.replace("…", "X"), name, length=9, scale=scale, members=("a",)),
    )
    for family in RULES
    for name in family.types
    for scale in (None, 2)
]


def stored(convert: Callable[[Any], Any], value: Any, policy: str) -> Any:
    """As a document has it."""
    try:
        return convert(value)
    except ValueError as error:
        return misfitting(value, policy, "data.c", error, convert)


@given(st.sampled_from(COLUMNS), VALUES)
def test_whatever_comes_is_stored_or_refused_by_its_policy(
    column: tuple[str, Column], value: Any
) -> None:
    """Of every type, whatever a program sends: MongoDB can hold it, or it is a dead letter where
    that was asked for."""
    dialect, declared = column
    convert = rule(declared, dialect).convert
    for policy in ("text", "null", "dead"):
        try:
            found = stored(convert, value, policy)
        except UnusableEvent:
            assert policy == "dead"
            continue
        bson.encode({"c": found})


@given(st.sampled_from(COLUMNS), VALUES)
def test_what_is_stored_is_stored_again_as_the_same(column: tuple[str, Column], value: Any) -> None:
    """A text that a document has may come back from a program that read it there."""
    dialect, declared = column
    made = rule(declared, dialect)
    try:
        once = stored(made.convert, value, "text")
    except UnusableEvent:
        return
    if isinstance(once, str) and made.family.kind not in ("binary", "json"):
        assert stored(made.convert, once, "text") == once


@given(st.sampled_from(KINDS), VALUES)
def test_a_type_of_sync_yaml_gives_a_value_or_a_valueerror(kind: str, value: Any) -> None:
    """Never another error, which would stop the worker."""
    with suppress(ValueError):
        bson.encode({"c": values.CONVERSIONS[kind](value)})


@given(st.timedeltas(), st.sampled_from([None, 0, 3, 6]))
def test_a_span_of_python_is_that_of_the_database(span: Any, digits: int | None) -> None:
    """`1 day, 2:30:00` is 26:30:00, and -1 day, 23:59:59 is -00:00:01."""
    try:
        found = values.time(str(span), digits)
    except ValueError:
        assert abs(span.days) > 41  # more than 838 hours
        return
    sign = -1 if found.startswith("-") else 1
    hours, minutes, seconds = found.lstrip("-").split(":")
    micros = (int(hours) * 3600 + int(minutes) * 60) * 10**6 + round(float(seconds) * 10**6)
    whole = span.days * 86400 * 10**6 + span.seconds * 10**6 + span.microseconds
    unit = 10 ** (6 - (6 if digits is None else digits))
    assert micros == abs(whole) // unit * unit
    assert sign == (-1 if whole < 0 and micros else 1)


def test_one_odd_row_never_stops_an_entity(everything: Everything) -> None:
    """Of all borders of all types nothing becomes a dead letter, unless that was asked for."""
    site = everything.site
    plain = everything.mirror()
    events = by_snapshot(site, everything.tables, plain)
    for policy in ("text", "null"):
        mirror = with_policy(everything, policy)
        by_snapshot(site, everything.tables, mirror)
        for event in events:
            bson.encode(mirror.prepare(event).own.document)
    strict = with_policy(everything, "dead")
    by_snapshot(site, everything.tables, strict)
    refused = [event for event in events if not is_taken(strict, event)]
    assert 0 < len(refused) < len(events)


def with_policy(everything: Everything, policy: str) -> Mirror:
    entities: Mapping[str, Any] = {
        one.name: {
            "collection": one.name,
            "source": one.source(),
            "fields": {name: {"misfit": policy} for name in one.columns},
        }
        for one in everything.tables
    }
    return Mirror(File.model_validate({"version": 1, "entities": entities}))


def is_taken(mirror: Mirror, event: Event) -> bool:
    try:
        mirror.prepare(event)
    except UnusableEvent:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,234.50", "1234.50"),
        ("-$0.01", "-0.01"),
        ("($5.00)", "-5.00"),
        ("1.234,50 €", "1234.50"),
        ("€ 1 234,5", "1234.50"),
        ("¥1,234", "1234.00"),
        ("1'234.50 CHF", "1234.50"),
        ("0", "0.00"),
        ("12.5", "12.50"),
        ("$.50", "0.50"),
    ],
)
def test_money_is_read_however_the_server_prints_it(text: str, number: str) -> None:
    """`lc_monetary` says which sign stands before the cents."""
    money = rule(Column("c", "money", "money"), "postgresql", FieldRule.model_validate({}))
    assert str(money.convert(text)) == number
