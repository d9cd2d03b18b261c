"""What stands in a stream: the fields of one entry, and the Kombu message they are.

An entry has a field `body`, the bytes of the message, and, where they are not the usual ones, a
field `meta`: a JSON object with `content-type`, `content-encoding`, `headers`, `properties`. A
PHP producer needs `XADD queue * body <json>` and no more. An entry with the one field `envelope`
is a message as Kombu's stock `redis://` transport writes it on a list; `bridgectl relay` moves
those. `deliveries` counts the deliveries of a message that was put back.

Never raises: what cannot be read becomes a message with the header UNDECODABLE whose body is
all there was, so that it travels, is counted and ends in the dead letters like any other.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from kombu.utils.json import dumps, loads

from bridge.errors import UndecodableMessage
from bridge.queue.events import LARGEST_EVENT_BYTES, load_json

__all__ = ["DELIVERIES", "UNDECODABLE", "to_fields", "to_message", "why_undecodable"]

UNDECODABLE = "bridge-undecodable"
"""Header: why the body, which is the whole raw entry, is no message."""
DELIVERIES = "x-delivery-count"
"""Header, an integer: how often the message was delivered before; the name is RabbitMQ's."""

JSON, UTF8 = "application/json", "utf-8"
MAX_ENVELOPE_BYTES = 4 * LARGEST_EVENT_BYTES
"""An event inside an envelope is escaped twice, which makes seven bytes of two at the worst."""
_NOT_KEPT = frozenset({"delivery_tag", "body_encoding", "priority", "delivery_mode"})


def to_fields(message: Mapping[str, Any], queue: str) -> dict[str, bytes | str]:
    """The fields of the entry that carries the Kombu message to `queue`."""
    fields: dict[str, bytes | str] = {"body": message["body"]}
    meta: dict[str, Any] = {}
    if (kind := message.get("content-type")) != JSON:
        meta["content-type"] = kind
    if (encoding := message.get("content-encoding")) != UTF8:
        meta["content-encoding"] = encoding
    if headers := message.get("headers"):
        meta["headers"] = headers
    properties = {k: v for k, v in message["properties"].items() if k not in _NOT_KEPT}
    info = properties.pop("delivery_info", {})
    route = info.get("exchange", ""), info.get("routing_key", queue)
    if route != ("", queue):
        properties["delivery_info"] = {"exchange": route[0], "routing_key": route[1]}
    if properties:
        meta["properties"] = properties
    if meta:
        fields["meta"] = dumps(meta)
    return fields


def to_message(queue: str, tag: str, fields: Sequence[bytes], before: int = 0) -> dict[str, Any]:
    """The Kombu message in an entry of the stream `queue`.

    tag: its delivery tag.
    fields: names and values in turn, as Redis sends them.
    before: how often it was delivered before.
    """
    if len(fields) == 2 and fields[0] == b"body":
        # What nearly all entries are; every microsecond here is paid for each event.
        return {
            "body": fields[1],
            "content-type": JSON,
            "content-encoding": UTF8,
            "headers": {DELIVERIES: before} if before else {},
            "properties": {
                "delivery_tag": tag,
                "delivery_info": {"exchange": "", "routing_key": queue},
            },
        }
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        if (earlier := named.pop(b"deliveries", None)) is not None:
            before += _count(earlier)
        stock = set(named) == {b"envelope"}
        message = _open(named[b"envelope"]) if stock else _plain(named)
    except UndecodableMessage as error:
        message = {
            "body": _raw(named),
            "content-type": "application/octet-stream",
            "content-encoding": "binary",
            "headers": {UNDECODABLE: str(error)},
            "properties": {},
        }
    # A producer that copies the headers of what it consumed must not copy the count.
    message["headers"].pop(DELIVERIES, None)
    if before:
        message["headers"][DELIVERIES] = before
    properties = message["properties"]
    properties["delivery_tag"] = tag
    info = properties.get("delivery_info")
    if not isinstance(info, dict) or not all(
        isinstance(info.get(name), str) for name in ("exchange", "routing_key")
    ):
        properties["delivery_info"] = {"exchange": "", "routing_key": queue}
    return message


def why_undecodable(message: Any) -> str:
    """Why this Kombu message cannot be read; empty where it can. Its headers are the sender's:
    any of them may be anything."""
    if message.errors:
        return str(message.errors[0][1])[:300]
    if (why := message.headers.get(UNDECODABLE)) is None:
        return ""
    if isinstance(why, str) and why:
        return why[:300]
    return f"its header {UNDECODABLE} is {ascii(why)[:60]}, which is no text"


def _plain(named: dict[bytes, bytes]) -> dict[str, Any]:
    if unknown := set(named) - {b"body", b"meta"}:
        raise UndecodableMessage(f"the entry has an unknown field {min(unknown)[:60]!r}")
    if b"body" not in named:
        raise UndecodableMessage("the entry has no field body")
    meta: Any = {}
    if b"meta" in named:
        try:
            meta = loads(named[b"meta"])
        except Exception as error:
            # Kombu makes dates, numbers and bytes of what says it is one, and fails in many ways.
            raise UndecodableMessage(f"meta is no JSON: {error!r}"[:300]) from None
    return _message(meta, "meta", named[b"body"], JSON, UTF8)


def _open(raw: bytes) -> dict[str, Any]:
    """The message in an envelope of Kombu's stock Redis transport."""
    envelope = load_json(raw, MAX_ENVELOPE_BYTES)
    if not isinstance(envelope, dict):
        raise UndecodableMessage("the envelope is no JSON object")
    if not isinstance(properties := envelope.get("properties"), dict):
        raise UndecodableMessage("envelope: properties is no JSON object")
    body, encoding = envelope.get("body"), properties.pop("body_encoding", None)
    if not isinstance(body, str):
        raise UndecodableMessage("envelope: body is no string")
    if encoding not in (None, "utf-8", "base64"):
        raise UndecodableMessage(f"envelope: body_encoding {ascii(encoding)[:60]} is not known")
    try:
        if encoding == "base64":
            data = base64.b64decode(body.encode("ascii"), validate=True)
        else:
            data = body.encode("utf-8")
    except ValueError as error:
        raise UndecodableMessage(f"envelope: body: {error}") from None
    return _message(envelope, "envelope", data, None, None)


def _message(
    meta: Any, what: str, body: bytes, kind: str | None, encoding: str | None
) -> dict[str, Any]:
    if not isinstance(meta, dict):
        raise UndecodableMessage(f"{what} is no JSON object")
    parts: dict[str, dict[str, Any]] = {}
    for name in ("headers", "properties"):
        # PHP writes an empty array as [].
        part = meta.get(name) or {}
        if not isinstance(part, dict):
            raise UndecodableMessage(f"{what}: {name} is no JSON object")
        parts[name] = part
    for name in ("content-type", "content-encoding"):
        if not isinstance(meta.get(name), str | None):
            raise UndecodableMessage(f"{what}: {name} is no string")
    return {
        "body": body,
        "content-type": meta.get("content-type", kind),
        "content-encoding": meta.get("content-encoding", encoding),
        **parts,
    }


def _count(digits: bytes) -> int:
    return int(digits) if digits.isdigit() and len(digits) < 10 else 0


def _raw(named: dict[bytes, bytes]) -> bytes:
    """All there is: the value of the only field, or lines of name=value."""
    if len(named) == 1:
        return next(iter(named.values()))
    return b"\n".join(name + b"=" + value for name, value in named.items())
