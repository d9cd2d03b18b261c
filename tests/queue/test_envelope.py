"""Whatever stands on the list, Kombu gets an envelope that it can read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import Channel, Message

from bridge.queue.envelope import UNDECODABLE, normalise

GOOD: dict[str, Any] = {
    "body": "text",
    "headers": {},
    "properties": {"delivery_tag": "t", "delivery_info": {"exchange": "", "routing_key": "q"}},
}


class Codecs(Channel):
    """The part of a channel that decodes bodies, without a connection."""

    def __init__(self) -> None:
        pass


def read(raw: bytes) -> Any:
    """The message that Kombu makes of it."""
    return Message(json.loads(normalise(raw, "q")), channel=Codecs())


def without(part: str, name: str) -> bytes:
    inner = {key: value for key, value in GOOD[part].items() if key != name}
    return json.dumps(GOOD | {part: inner}).encode()


GARBAGE = {
    "empty": b"",
    "no JSON": b'O:8:"stdClass":0:{}',
    "no UTF-8": b"\xff\xfe\x00",
    "a list": b"[]",
    "a number": b"3",
    "null": b"null",
    "too deep": b"[" * 50_000,
    "an event without an envelope": b'{"specversion":"1.0"}',
    "Kombu's own type marker": b'{"__type__":"x","__value__":1}',
    "properties as a list": json.dumps(GOOD | {"properties": []}).encode(),
    "no properties": b'{"body":"text"}',
    "no delivery tag": without("properties", "delivery_tag"),
    "a list as delivery tag": b'{"body":"","properties":{"delivery_tag":[],"delivery_info":{}}}',
    "no delivery info": without("properties", "delivery_info"),
    "no body": json.dumps({"properties": GOOD["properties"]}).encode(),
    "half a character": json.dumps(GOOD | {"body": "\ud800"}).encode(),
    "compressed": json.dumps(GOOD | {"headers": {"compression": "application/x-gzip"}}).encode(),
    "invalid base64": json.dumps(
        GOOD | {"properties": GOOD["properties"] | {"body_encoding": "base64"}, "body": "!!!"}
    ).encode(),
    "an unknown encoding": json.dumps(
        GOOD | {"properties": GOOD["properties"] | {"body_encoding": "rot13"}}
    ).encode(),
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_arrives_whole_and_marked(raw: bytes) -> None:
    message = read(raw)

    assert (message.body or b"") == raw
    assert message.headers[UNDECODABLE]
    assert not message.errors


@given(st.binary())
def test_any_bytes_arrive(raw: bytes) -> None:
    message = read(raw)

    assert (message.body or b"") == raw
    assert message.delivery_info == {"exchange": "", "routing_key": "q"}


@pytest.mark.parametrize("headers", [{}, [], None])
def test_a_plain_body_arrives_as_it_is(headers: object) -> None:
    message = read(json.dumps(GOOD | {"body": "“é”", "headers": headers}).encode())

    assert message.body == "“é”".encode()
    assert UNDECODABLE not in message.headers


def test_a_base64_body_is_decoded() -> None:
    properties = GOOD["properties"] | {"body_encoding": "base64"}
    body = base64.b64encode(b"\x00text").decode()

    assert read(json.dumps(GOOD | {"properties": properties, "body": body}).encode()).body == (
        b"\x00text"
    )


def test_two_messages_with_one_delivery_tag_get_two() -> None:
    raw = json.dumps(GOOD).encode()

    assert read(raw).delivery_tag != read(raw).delivery_tag


def test_a_message_goes_back_to_the_list_that_it_came_from() -> None:
    properties = GOOD["properties"] | {"delivery_info": {"exchange": "e", "routing_key": "other"}}

    message = read(json.dumps(GOOD | {"properties": properties}).encode())

    assert message.delivery_info == {"exchange": "", "routing_key": "q"}
