"""What is an event and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_DEPTH, MAX_EVENT_BYTES, MAX_VERSION, Event

GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "/forge",
    "type": "project.changed",
    "subject": "vim",
    "time": "2026-01-02T03:04:05Z",
    "datacontenttype": "application/json",
    "sequence": "7",
    "sequencetype": "Integer",
    "data": {"name": "vim"},
}

text = st.text(st.characters(exclude_categories=["Cs"]))
names = text.filter(lambda name: not name.startswith("$") and "\0" not in name)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=20,
)
states = st.dictionaries(names.filter(lambda name: not name.startswith("_")), values, max_size=6)


def test_an_event_has_the_fields_of_its_cloudevent() -> None:
    event = Event.parse(json.dumps(GOOD))

    assert event == Event(
        "project", "changed", "vim", 7, {"name": "vim"}, "1", "/forge", "2026-01-02T03:04:05Z"
    )


def test_a_deletion_has_no_data() -> None:
    deletion = Event("release", "deleted", "vim/9.1/amd64", 8)

    assert "data" not in json.loads(deletion.to_json())
    assert Event.parse(deletion.to_json()) == deletion


@given(
    key=text.filter(lambda key: 1 <= len(key.encode()) <= 1024),
    version=st.integers(0, MAX_VERSION),
    data=states,
)
def test_every_event_is_read_as_it_was_written(
    key: str, version: int, data: dict[str, Any]
) -> None:
    event = Event("project", "changed", key, version, data)

    assert Event.parse(event.to_json()) == event
    assert Event.parse(event.to_json().encode()) == event


def test_attributes_that_nobody_knows_are_ignored() -> None:
    assert Event.parse(GOOD | {"traceparent": "00-1-2-01"}).key == "vim"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", None),
        ("id", ""),
        ("id", 1),
        ("source", ""),
        ("type", "project"),
        ("type", "project.renamed"),
        ("type", "Project.changed"),
        ("type", "a.b.changed"),
        ("subject", 5),
        ("subject", "é" * 513),
        ("subject", "\ud800"),
        ("time", "yesterday"),
        ("time", "2026-01-02T03:04:05"),
        ("datacontenttype", "text/xml"),
        ("sequence", 7),
        ("sequence", "-1"),
        ("sequence", "07"),
        ("sequence", "٧"),
        ("sequence", "9223372036854775808"),
        ("sequence", "7\n"),
        ("sequencetype", None),
        ("data", None),
        ("data", []),
        ("data", "text"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: object) -> None:
    with pytest.raises(UndecodableMessage, match=rf"^{field}: "):
        Event.parse(GOOD | {field: value})


@pytest.mark.parametrize("field", ["id", "source", "type", "subject", "time", "sequence"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(UndecodableMessage, match=rf"^{field}: is missing"):
        Event.parse({name: value for name, value in GOOD.items() if name != field})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"_v": 1}, "data._v: names with _"),
        ({"$set": 1}, "data.$set: names with $"),
        ({"a": [{"$ref": "x"}]}, "data.a[0].$ref: names with $"),
        ({"a\0b": 1}, "name with a NUL"),
        ({"n": 2**63}, "data.n: is an integer of more than 64 bits"),
        ({"n": [1, -(2**63) - 1]}, "data.n[1]: is an integer of more than 64 bits"),
        ({"f": float("nan")}, "data.f: is nan"),
        ({"s": {"t": "\udc80"}}, "data.s.t: holds half of a surrogate pair"),
        ({"o": object()}, "data.o: is no JSON value"),
        ({1: 2}, "data: has a name that is no string"),
    ],
)
def test_data_that_mongodb_would_not_give_back_is_refused(
    data: dict[str, Any], message: str
) -> None:
    with pytest.raises(UndecodableMessage) as caught:
        Event("project", "changed", "vim", 1, data)

    assert message in str(caught.value)


def test_data_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    deepest: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deepest = {"d": deepest}
    Event("project", "changed", "vim", 1, deepest)

    with pytest.raises(UndecodableMessage, match="nested deeper"):
        Event("project", "changed", "vim", 1, {"d": deepest})


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"nonsense",
        b"[]",
        b"7",
        b"null",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"specversion":"1.0","specversion":"1.0"}',
        json.dumps(GOOD).replace('"vim"}', "NaN}"),
        json.dumps(GOOD).replace('"vim"}', "Infinity}"),
        json.dumps(GOOD).replace('"vim"}', "1e999}"),
        json.dumps(GOOD).replace('"vim"}', "9" * 5000 + "}"),
        json.dumps(GOOD).replace('"vim"}', '"\\ud800"}'),
        json.dumps(GOOD)[:-1],
        json.dumps(GOOD) + "{}",
    ],
    ids=lambda message: repr(message[:20]) + repr(message[-12:]),
)
def test_what_is_no_event_is_undecodable(message: bytes | str) -> None:
    with pytest.raises(UndecodableMessage):
        Event.parse(message)


def test_an_event_larger_than_the_limit_is_neither_written_nor_read() -> None:
    event = Event("project", "changed", "vim", 1, {"text": "x" * MAX_EVENT_BYTES})

    with pytest.raises(UndecodableMessage, match="more than 1048576"):
        event.to_json()
    with pytest.raises(UndecodableMessage, match="more than 1048576"):
        Event.parse(b" " * (MAX_EVENT_BYTES + 1))


def test_the_message_about_a_huge_name_stays_short_and_printable() -> None:
    with pytest.raises(UndecodableMessage) as caught:
        Event("project", "changed", "vim", 1, {"\x1b[2J\u202e" * 1000: float("inf")})

    assert len(str(caught.value)) < 250
    assert str(caught.value).isascii()
