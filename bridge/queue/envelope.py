"""What stands on a Redis list: the envelope that Kombu's `redis://` transport reads and writes.

Kombu takes a message off the list first and decodes it afterwards; one that it cannot decode is
gone, and its error looks like an outage. So every message passes `normalise` before Kombu sees
it. What is no envelope is put into one of our own, whole, with the header UNDECODABLE: it then
travels, is kept and is restored like any other, until the consumer puts it to the dead letters.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_EVENT_BYTES, load_json

__all__ = ["COUNT", "FIRST_TIME", "UNDECODABLE", "normalise"]

UNDECODABLE = "bridge-undecodable"
"""Header: why the body, which is the whole raw message, is no envelope."""
FIRST_TIME = "bridge-first-time"
"""Header of a retried dead letter: when it first became one."""
COUNT = "bridge-count"
"""Header of a retried dead letter: how often it became one, in decimal digits."""

MAX_ENVELOPE_BYTES = 8 * MAX_EVENT_BYTES
"""An event inside an envelope is escaped twice, which makes seven bytes of two at the worst."""


def normalise(raw: bytes, queue: str) -> str:
    """The envelope, as JSON, in which Kombu reads the message `raw` from the list `queue`.

    The delivery tag is always a new one, because two messages with one tag would share one
    place in Kombu's bookkeeping; and the routing key is the list's name, because that is where
    Kombu puts back what was not acknowledged. Never raises.
    """
    try:
        body, encoding, headers = _open(raw)
    except UndecodableMessage as error:
        body, encoding = base64.b64encode(raw).decode("ascii"), "base64"
        headers = {UNDECODABLE: str(error)}
    return json.dumps(
        {
            "body": body,
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": headers,
            "properties": {
                "body_encoding": encoding,
                "delivery_tag": uuid.uuid4().hex,
                "delivery_mode": 2,
                "priority": 0,
                "delivery_info": {"exchange": "", "routing_key": queue},
            },
        }
    )


def _open(raw: bytes) -> tuple[str, str | None, dict[str, str]]:
    """Body, its encoding and the headers that matter to us."""
    envelope = load_json(raw, MAX_ENVELOPE_BYTES)
    if not isinstance(envelope, dict):
        raise UndecodableMessage("the envelope is no JSON object")
    properties = envelope.get("properties")
    if not isinstance(properties, dict):
        raise UndecodableMessage("envelope: properties is no JSON object")
    if not isinstance(tag := properties.get("delivery_tag"), str) or not tag:
        raise UndecodableMessage("envelope: properties.delivery_tag is no string")
    if not isinstance(properties.get("delivery_info"), dict):
        raise UndecodableMessage("envelope: properties.delivery_info is no JSON object")
    headers = envelope.get("headers")
    # PHP writes an empty array as [].
    headers = headers if isinstance(headers, dict) else {}
    if "compression" in headers:
        raise UndecodableMessage("envelope: compressed bodies are not accepted")
    body, encoding = _body(envelope, properties)
    ours = {
        name: value
        for name in (UNDECODABLE, FIRST_TIME, COUNT)
        if isinstance(value := headers.get(name), str)
    }
    return body, encoding, ours


def _body(envelope: dict[str, Any], properties: dict[str, Any]) -> tuple[str, str | None]:
    body, encoding = envelope.get("body"), properties.get("body_encoding")
    if not isinstance(body, str):
        raise UndecodableMessage("envelope: body is no string")
    if encoding not in (None, "utf-8", "base64"):
        raise UndecodableMessage(f"envelope: body_encoding {ascii(encoding)[:60]} is not known")
    try:
        if encoding == "base64":
            base64.b64decode(body.encode("ascii"), validate=True)
        else:
            body.encode("utf-8")
    except ValueError as error:
        raise UndecodableMessage(f"envelope: body: {error}") from None
    return body, encoding
