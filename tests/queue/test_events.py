"""What is an event and what is none."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import UndecodableMessage
from bridge.queue.events import (
    LARGEST_EVENT_BYTES,
    MAX_DEPTH,
    MAX_EVENT_BYTES,
    MAX_VERSION,
    Event,
    Number,
    Rejected,
    check_data,
    dump_json,
    load_json,
)

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


def refusal(**changes: Any) -> str:
    """Why there is no such event."""
    words: dict[str, Any] = {"entity": "project", "change": "changed", "key": "k", "version": 1}
    words |= {"data": {}} | changes
    with pytest.raises(UndecodableMessage) as caught:
        Event(**words)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"entity": 5}, "type: 5 is no name of an entity"),
        ({"entity": ""}, "type: '' is no name of an entity"),
        ({"entity": "a" * 65}, f"type: '{'a' * 56}... is no name of an entity"),
        ({"entity": "a-b"}, "type: 'a-b' is no name of an entity"),
        ({"change": "gone"}, "type: ends with 'gone', not with changed or deleted"),
        ({"key": "x" * 1025}, "subject: the key must have at most 1024 bytes of UTF-8"),
        ({"key": 5}, "subject: must be a string, not a int"),
        ({"key": None}, "subject: must be a string, not null"),
        ({"key": True}, "subject: must be a string, not a boolean"),
        ({"key": []}, "subject: must be a string, not a list"),
        ({"key": {}}, "subject: must be a string, not an object"),
        ({"version": -1}, f"sequence: the version must be an integer from 0 to {MAX_VERSION}"),
        ({"version": MAX_VERSION + 1}, "sequence: the version must be"),
        ({"version": True}, "sequence: the version must be"),
        ({"version": "1"}, "sequence: the version must be"),
        ({"id": ""}, "id: is empty"),
        ({"source": ""}, "source: is empty"),
        ({"time": None}, "time: is no RFC 3339 time: None"),
        ({"time": "x"}, "time: is no RFC 3339 time: 'x'"),
        ({"time": "2026-01-02T03:04:05"}, "time: has no time zone: '2026-01-02T03:04:05'"),
        ({"rewrite": 1}, "rewrite: must be true or false, not 1"),
        ({"change": "deleted"}, "data: a deletion carries none"),
        ({"data": None}, "data: must be a JSON object, not null"),
        ({"data": "x"}, "data: must be a JSON object, not a string"),
    ],
)
def test_what_is_wrong_is_said_whole(changes: dict[str, Any], why: str) -> None:
    assert refusal(**changes).startswith(why)


@pytest.mark.parametrize("key", ["", "x" * 1024, "é" * 512])
@pytest.mark.parametrize("version", [0, MAX_VERSION])
@pytest.mark.parametrize("entity", ["a", "a" * 64, "a_1"])
def test_the_limits_are_within(key: str, version: int, entity: str) -> None:
    event = Event(entity, "changed", key, version, {})
    assert event.identity == (entity, key)
    assert Event.parse(event.to_json()) == event


def test_a_new_event_has_its_own_id_the_time_and_a_source() -> None:
    one, other = (Event("project", "deleted", "k", 1) for _ in range(2))
    assert one.id != other.id
    assert one.source == "/bridge"
    assert one.time.endswith("Z")
    assert datetime.fromisoformat(one.time).utcoffset().seconds == 0  # type: ignore[union-attr]
    assert one.rewrite is False
    assert Rejected(one, "why").wait == 0


def test_a_rewrite_says_so_on_the_wire_and_others_say_nothing() -> None:
    plain = Event("project", "changed", "k", 1, {"a": 1})
    again = Event("project", "changed", "k", 1, {"a": 1}, rewrite=True)
    assert "rewrite" not in json.loads(plain.to_json())
    assert json.loads(again.to_json())["rewrite"] is True
    assert Event.parse(again.to_json()).rewrite is True
    assert Event.parse(plain.to_json()).rewrite is False


def test_it_is_a_cloudevent_on_the_wire() -> None:
    event = Event("project", "changed", "k", 1, {"é": 1}, "i", "/s", "2026-01-02T03:04:05Z")
    assert event.to_json() == (
        '{"specversion":"1.0","id":"i","source":"/s","type":"project.changed","subject":"k",'
        '"time":"2026-01-02T03:04:05Z","sequence":"1","sequencetype":"Integer",'
        '"datacontenttype":"application/json","data":{"é":1}}'
    )


def test_the_type_of_the_content_may_be_left_out() -> None:
    assert Event.parse({k: v for k, v in GOOD.items() if k != "datacontenttype"}).key == "vim"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"specversion": "0.3"}, "specversion: must be \"1.0\", not '0.3'"),
        ({"datacontenttype": "a/b"}, "datacontenttype: must be application/json, not 'a/b'"),
        ({"sequencetype": "String"}, "sequencetype: must be \"Integer\", not 'String'"),
        ({"sequence": "x"}, "sequence: must be the version in decimal digits, not 'x'"),
        ({"id": 5}, "id: must be a string, not a int"),
    ],
)
def test_a_message_that_is_no_event_says_what_it_should_be(
    changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(UndecodableMessage) as caught:
        Event.parse(GOOD | changes)
    assert str(caught.value) == why


def test_what_is_not_an_object_is_named() -> None:
    for message, kind in ((b"[]", "a list"), (b"7", "a int"), (b'"x"', "a string")):
        with pytest.raises(UndecodableMessage, match=f"not a JSON object but {kind}"):
            Event.parse(message)


def test_no_limit_is_above_twice_the_largest_document_of_mongodb() -> None:
    assert LARGEST_EVENT_BYTES == 2 * 16_777_216


def test_an_event_may_be_as_large_as_the_limit_and_no_larger() -> None:
    event = Event("project", "changed", "k", 1, {"text": "é"})
    size = len(event.to_json().encode())
    assert Event.parse(event.to_json(size), size) == event
    with pytest.raises(UndecodableMessage, match=f"has {size} bytes, more than {size - 1}; leave"):
        event.to_json(size - 1)
    with pytest.raises(UndecodableMessage, match=f"has {size} bytes, more than {size - 1}; leave"):
        Event.parse(event.to_json(), size - 1)
    with pytest.raises(UndecodableMessage, match=r"has 3 bytes, more than 2$"):
        load_json(b"[1]", 2)


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,20})\.[0-9]{1,20}([eE][+-]?[0-9]{1,2})?", fullmatch=True))
def test_a_number_with_a_point_is_written_as_it_was_read(text: str) -> None:
    """However many digits it has, and also twice, and beside a text that looks like one."""
    whole = f'{{"a":{text},"b":[{text},"{text}"],"c":{{"d":{text}}}}}'
    value = load_json(whole, 1000)
    assert dump_json(value) == whole
    assert value["a"] == float(text)
    for copied in (copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert copied["a"].text == text


def test_many_numbers_are_each_written_as_their_own() -> None:
    """The first one is 1, and so are the eleventh and the twelfth."""
    text = "[" + ",".join(f"{number}.50" for number in range(25)) + "]"
    assert dump_json(load_json(text, 1000)) == text
    assert dump_json([0.5, Number("1.0"), True, None, 7, "x"]) == '[0.5,1.0,true,null,7,"x"]'


def test_a_name_that_stands_twice_is_named() -> None:
    with pytest.raises(UndecodableMessage, match="'b' stands twice in one object"):
        load_json(b'{"a": 1, "b": 2, "c": {}, "b": 3, "a": 4}', 100)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b'{"a": \xff}', "not UTF-8: invalid start byte at byte 6"),
        ("\ud800", "not UTF-8: surrogates not allowed at byte 0"),
        (b"{", "not JSON: "),
        (b"NaN", "NaN is no JSON"),
        (b"-Infinity", "-Infinity is no JSON"),
        (b"[" * 50_000, "not usable JSON: nested too deeply"),
    ],
    ids=lambda value: repr(value[:9]),
)
def test_what_is_no_json_says_why(text: bytes | str, why: str) -> None:
    with pytest.raises(UndecodableMessage) as caught:
        load_json(text, 100_000)
    assert str(caught.value).startswith(why)


class Odd(int):
    """An integer of another class."""


@pytest.mark.parametrize(
    "data",
    [
        {"n": Odd(5), "m": Odd(-(2**63)), "o": [Odd(2**63 - 1)]},
        {"n": 2**63 - 1, "m": -(2**63)},
        {"a": ["é", {"ü": "ö"}], "f": 1.5, "t": True, "z": None},
        {"a": {"_b": 1}, "c$": 1},
        {},
    ],
)
def test_what_mongodb_gives_back_as_it_was_is_taken(data: dict[str, Any]) -> None:
    check_data(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ({"n": 2**63}, "data.n: is an integer of more than 64 bits; send it as a string"),
        ({"n": -(2**63) - 1}, "data.n: is an integer of more than 64 bits; send it as a string"),
        ({"n": Odd(2**63)}, "data.n: is an integer"),
        ({"n": Odd(-(2**63) - 1)}, "data.n: is an integer"),
        ({"n": [[2**70]]}, "data.n[0][0]: is an integer"),
        ({"f": float("inf")}, "data.f: is inf, which JSON does not have"),
        ({"a": {1: 2}}, "data.a: has a name that is no string: 1"),
        ({"a": {"$b": 1}}, "data.a.$b: names with $ at the start"),
        ({"a": {"b\0": 1}}, "data.a: has a name with a NUL in it: 'b\\x00'"),
        ({"a": {"\udc80": 1}}, "data.a: holds half of a surrogate pair, which is no character"),
        ({"b": b"x"}, "data.b: is no JSON value but a bytes"),
        ({"a": {"_id": 1}, "_id": 1}, "data._id: names with _ at the start"),
        ({"x" * 200: float("inf")}, f"data.{'x' * 112}...: is inf"),
        ({"x" * 115: float("inf")}, f"data.{'x' * 115}: is inf"),
        ({"x" * 116: float("inf")}, f"data.{'x' * 112}...: is inf"),
    ],
)
def test_what_mongodb_would_change_is_named_with_its_place(data: dict[str, Any], why: str) -> None:
    with pytest.raises(UndecodableMessage) as caught:
        check_data(data)
    assert str(caught.value).startswith(why)


@pytest.mark.parametrize("kind", [list, dict])
def test_lists_and_objects_are_counted_as_levels_alike(kind: type) -> None:
    def nested(levels: int) -> dict[str, Any]:
        inner: Any = kind()
        for _ in range(levels - 2):
            inner = [inner] if kind is list else {"a": inner}
        return {"a": inner}

    check_data(nested(MAX_DEPTH))
    with pytest.raises(UndecodableMessage, match=f"is nested deeper than {MAX_DEPTH} levels"):
        check_data(nested(MAX_DEPTH + 1))


@pytest.mark.parametrize(("length", "shown"), [(58, "x" * 58 + "'"), (59, "x" * 56 + "...")])
def test_what_is_shown_of_a_value_is_short(length: int, shown: str) -> None:
    assert f"ends with '{shown}, not with" in refusal(change="x" * length)
