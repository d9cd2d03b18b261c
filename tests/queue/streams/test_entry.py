"""An entry of a stream and the message it is."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.queue.streams.entry import (
    DELIVERIES,
    UNDECODABLE,
    to_fields,
    to_message,
    why_undecodable,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


def message(**changes: Any) -> dict[str, Any]:
    info = {"exchange": "", "routing_key": "q"}
    return {
        "body": b"{}",
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {"delivery_info": info, "delivery_tag": "x", "priority": 0},
    } | changes


def flat(fields: dict[str, bytes | str]) -> list[bytes]:
    return [
        word.encode() if isinstance(word, str) else word for pair in fields.items() for word in pair
    ]


def test_an_event_is_its_body_and_no_more() -> None:
    assert to_fields(message(), "q") == {"body": b"{}"}


def test_a_body_alone_is_json_for_this_queue() -> None:
    found = to_message("q", "1-0/q", [b"body", b"{}"])
    assert found["body"] == b"{}"
    assert (found["content-type"], found["content-encoding"]) == ("application/json", "utf-8")
    assert found["headers"] == {}
    assert found["properties"]["delivery_info"] == {"exchange": "", "routing_key": "q"}


@given(
    body=st.binary(max_size=50),
    kind=st.none() | texts,
    headers=st.dictionaries(texts.filter(lambda name: name != DELIVERIES), values, max_size=3),
    properties=st.dictionaries(st.sampled_from(["reply_to", "correlation_id", "x"]), texts),
    exchange=texts,
    key=texts,
)
def test_what_is_sent_arrives(
    body: bytes, kind: str | None, headers: Any, properties: Any, exchange: str, key: str
) -> None:
    info = {"exchange": exchange, "routing_key": key}
    sent = message(body=body, headers=headers, properties=properties | {"delivery_info": info})
    sent["content-type"] = sent["content-encoding"] = kind
    if any("__type__" in json.dumps(part) for part in (headers, properties)):
        return
    found = to_message("q", "1-0/q", flat(to_fields(sent, "q")))
    for name in ("body", "content-type", "content-encoding", "headers"):
        assert found[name] == sent[name]
    assert found["properties"] == properties | {"delivery_info": info, "delivery_tag": "1-0/q"}


names = st.sampled_from([b"body", b"meta", b"envelope", b"deliveries"]) | st.binary(max_size=5)
contents = (
    st.binary(max_size=30)
    | values.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("headers", "properties", "content-type", "content-encoding", "body"), values
        ),
    ).map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda kind, value: json.dumps(
            {"headers": {"x": {"__type__": kind, "__value__": value}}}
        ).encode(),
        st.sampled_from(["decimal", "uuid", "datetime", "date", "time", "bytes", "base64", 3]),
        values,
    )
)


@given(pairs=st.lists(st.tuples(names, contents), max_size=4), before=st.integers(0, 9))
def test_nothing_in_an_entry_raises(pairs: list[tuple[bytes, bytes]], before: int) -> None:
    fields = [word for pair in pairs for word in pair]
    found = to_message("q", "1-0/q", fields, before)
    assert isinstance(found["body"], bytes)
    assert isinstance(found["headers"], dict)
    assert isinstance(found["properties"]["delivery_info"]["exchange"], str)
    assert found["headers"].get(DELIVERIES, 0) >= before


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([b"other", b"x"], "unknown field"),
        ([b"meta", b"{}"], "no field body"),
        ([b"body", b"x", b"meta", b"{"], "meta is no JSON"),
        ([b"body", b"x", b"meta", b"3"], "meta is no JSON object"),
        ([b"body", b"x", b"meta", b'{"content-type": 3}'], "content-type is no string"),
        ([b"envelope", b'{"properties": []}'], "properties is no JSON object"),
        ([b"envelope", b'{"properties": {}}'], "body is no string"),
        (
            [b"envelope", b'{"body": "", "properties": {"body_encoding": "rot13"}}'],
            "body_encoding 'rot13' is not known",
        ),
        ([b"envelope", b'{"body": "!", "properties": {"body_encoding": "base64"}}'], "body: "),
    ],
)
def test_what_is_no_message_says_why_and_keeps_all_there_was(fields: list[bytes], why: str) -> None:
    found = to_message("q", "1-0/q", fields, 2)
    assert why in found["headers"][UNDECODABLE]
    assert found["headers"][DELIVERIES] == 2
    assert all(value in found["body"] for value in fields[1::2])


@pytest.mark.parametrize("encoding", [None, "utf-8", "base64"])
def test_an_envelope_of_stock_kombu_is_opened(encoding: str | None) -> None:
    body = base64.b64encode(b"{}").decode() if encoding == "base64" else "{}"
    info = {"exchange": "e", "routing_key": "k"}
    envelope: dict[str, Any] = {
        "body": body,
        "headers": [],
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "properties": {"delivery_info": info, "delivery_tag": "theirs"},
    }
    if encoding:
        envelope["properties"]["body_encoding"] = encoding
    found = to_message("q", "1-0/q", [b"envelope", json.dumps(envelope).encode()])
    assert (found["body"], found["headers"]) == (b"{}", {})
    assert found["properties"] == {"delivery_info": info, "delivery_tag": "1-0/q"}


def test_the_deliveries_of_a_message_that_was_put_back_count_on() -> None:
    fields = [b"body", b"x", b"deliveries", b"3"]
    assert to_message("q", "1-0/q", fields, 1)["headers"][DELIVERIES] == 4


@pytest.mark.parametrize("count", [b"", b"-1", b"x", b"9" * 10, b"\xb2"])
def test_a_count_that_is_no_count_is_none(count: bytes) -> None:
    fields = [b"body", b"x", b"deliveries", count]
    assert to_message("q", "1-0/q", fields)["headers"] == {}


@pytest.mark.parametrize("fields", [[b"body", b"{}"], [b"body", b"{}", b"meta", b"{}"]])
@pytest.mark.parametrize("before", [0, 1, 7])
def test_a_message_says_how_often_it_was_delivered_before(fields: list[bytes], before: int) -> None:
    """Also as PHP writes it, with a body and no more: or it would be tried for ever."""
    found = to_message("q", "1-0/q", fields, before)
    assert found["headers"] == ({DELIVERIES: before} if before else {})
    assert found["properties"]["delivery_tag"] == "1-0/q"
    assert (found["content-type"], found["content-encoding"]) == ("application/json", "utf-8")


@pytest.mark.parametrize("copied", [1, 99, "x"])
def test_a_producer_that_copies_the_count_of_what_it_consumed_does_not_count(copied: Any) -> None:
    meta = json.dumps({"headers": {DELIVERIES: copied, "kept": 1}}).encode()
    fields = [b"body", b"{}", b"meta", meta]
    assert to_message("q", "1-0/q", fields)["headers"] == {"kept": 1}
    assert to_message("q", "1-0/q", fields, 2)["headers"] == {"kept": 1, DELIVERIES: 2}


@pytest.mark.parametrize("count", ["0", "7", "9" * 9])
def test_a_count_of_up_to_nine_digits_counts(count: str) -> None:
    fields = [b"body", b"x", b"deliveries", count.encode()]
    assert to_message("q", "1-0/q", fields)["headers"].get(DELIVERIES, 0) == int(count)


@pytest.mark.parametrize(
    "info",
    [None, 3, {}, {"exchange": "e"}, {"routing_key": "k"}, {"exchange": 1, "routing_key": "k"}],
)
def test_where_a_message_does_not_say_its_way_it_came_to_this_queue(info: Any) -> None:
    meta = json.dumps({"properties": {"delivery_info": info}}).encode()
    found = to_message("q", "1-0/q", [b"body", b"x", b"meta", meta])
    assert found["properties"]["delivery_info"] == {"exchange": "", "routing_key": "q"}


@pytest.mark.parametrize(
    ("info", "kept"),
    [
        ({"exchange": "", "routing_key": "q"}, False),
        ({}, False),
        ({"exchange": "", "routing_key": "other"}, True),
        ({"exchange": "e", "routing_key": "q"}, True),
    ],
)
def test_only_another_way_than_the_usual_one_is_written_down(
    info: dict[str, str], kept: bool
) -> None:
    sent = message(properties={"delivery_info": info, "delivery_mode": 2, "body_encoding": "x"})
    fields = to_fields(sent, "q")
    assert set(fields) == ({"body", "meta"} if kept else {"body"})
    if kept:
        assert json.loads(fields["meta"]) == {"properties": {"delivery_info": info}}


@pytest.mark.parametrize(
    ("changes", "meta"),
    [
        ({"content-type": "text/plain"}, {"content-type": "text/plain"}),
        ({"content-encoding": "binary"}, {"content-encoding": "binary"}),
        ({"headers": {"a": 1}}, {"headers": {"a": 1}}),
        ({"properties": {"reply_to": "r"}}, {"properties": {"reply_to": "r"}}),
    ],
)
def test_only_what_is_not_as_usual_is_written_down(
    changes: dict[str, Any], meta: dict[str, Any]
) -> None:
    assert json.loads(to_fields(message(**changes), "q")["meta"]) == meta


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([b"envelope", b"[]"], "the envelope is no JSON object"),
        ([b"envelope", b'{"body": 1, "properties": {}}'], "envelope: body is no string"),
        ([b"envelope", b'{"body": "", "properties": {}, "headers": 3}'], "envelope: headers is no"),
        ([b"body", b"x", b"meta", b'{"properties": "x"}'], "meta: properties is no JSON object"),
        ([b"body", b"x", b"meta", b'{"content-encoding": 1}'], "meta: content-encoding is no"),
        ([b"body", b"x", b"zeta", b"1", b"alpha", b"2"], "unknown field b'alpha'"),
        ([b"envelope", b"{}", b"body", b"x"], "unknown field b'envelope'"),
        ([b"x" * 99, b"1"], f"unknown field {b'x' * 60!r}"),
        ([b"envelope", b'{"body": "YQ==!", "properties": {"body_encoding": "base64"}}'], "body: "),
        (
            [b"envelope", b'{"body": "\\ud800", "properties": {"body_encoding": "utf-8"}}'],
            "envelope",
        ),
    ],
)
def test_each_way_of_being_no_message_is_told(fields: list[bytes], why: str) -> None:
    found = to_message("q", "1-0/q", fields)
    assert why in found["headers"][UNDECODABLE]
    assert (found["content-type"], found["content-encoding"]) == (
        "application/octet-stream",
        "binary",
    )


def test_a_name_without_a_value_is_no_field() -> None:
    assert to_message("q", "t", [b"body", b"x", b"odd"])["body"] == b"x"


def test_all_there_was_is_the_only_value_or_lines_of_names_and_values() -> None:
    assert to_message("q", "t", [b"other", b"x"])["body"] == b"x"
    assert to_message("q", "t", [b"a", b"x", b"b", b"y"])["body"] == b"a=x\nb=y"


@pytest.mark.parametrize(
    ("errors", "headers", "why"),
    [
        ([], {}, ""),
        ([], {"other": 1}, ""),
        ([], {UNDECODABLE: "no JSON"}, "no JSON"),
        ([], {UNDECODABLE: "x" * 400}, "x" * 300),
        ([], {UNDECODABLE: ""}, f"its header {UNDECODABLE} is '', which is no text"),
        ([], {UNDECODABLE: 17}, f"its header {UNDECODABLE} is 17, which is no text"),
        (
            [],
            {UNDECODABLE: [1] * 99},
            f"its header {UNDECODABLE} is {str([1] * 99)[:60]}, which is no text",
        ),
        ([(None, ValueError("broken"))], {}, "broken"),
        ([(None, ValueError("x" * 400)), (None, 1)], {UNDECODABLE: "y"}, "x" * 300),
    ],
)
def test_why_a_message_cannot_be_read(errors: list[Any], headers: Any, why: str) -> None:
    """Its headers are the sender's."""
    assert why_undecodable(SimpleNamespace(errors=errors, headers=headers)) == why
