"""One request with legacy's answer, as bytes from a worker to the shadow process. Pure.

A frame is a mark, the lengths of the two parts that follow, a JSON object, and the body. The
reader takes nothing on trust: what is no frame ends the connection.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Any

from bridge.errors import BridgeError
from bridge.proxy.request.head import Headers

__all__ = ["LARGEST_BODY", "Copied", "Frames", "NoFrame", "frame"]

LARGEST_BODY = 16 * 2**20
"""Bytes of a body that a frame may have; no route may ask for more to be kept."""
_LARGEST_HEAD = 2**20  # bytes; legacy's head and the visitor's are far smaller
_MARK = b"BRS1"
_START = struct.Struct(">4sII")


class NoFrame(BridgeError):
    """Bytes that no worker of this version sends."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What a visitor asked, and what they were answered.

    route: its name. digest: of the table that the worker ran.
    method, target, host, headers, scheme, peer: the request as it came; `target` is raw, `peer` the
        address of the connection, empty for a unix socket.
    status, reason, answer: status line and headers as the visitor got them.
    length, sha256: of the whole body; the second is empty where the body is here.
    body: as it was sent; empty where `whole` is false.
    at: when it was over, in Unix seconds.
    """

    route: str
    digest: str
    method: str
    target: str
    host: str
    headers: Headers
    scheme: str
    peer: str
    status: int
    reason: str
    answer: Headers
    length: int
    sha256: str
    whole: bool
    at: float
    body: bytes = b""


_KINDS = {
    **dict.fromkeys(
        ("route", "digest", "method", "target", "host", "scheme", "peer", "reason", "sha256"), str
    ),
    **dict.fromkeys(("headers", "answer"), list),
    **dict.fromkeys(("status", "length"), int),
    "whole": bool,
    "at": float,
}


def frame(copied: Copied) -> bytes:
    """Its bytes."""
    fields = asdict(copied)
    body = fields.pop("body")
    head = json.dumps(fields).encode("ascii")
    return b"".join((_START.pack(_MARK, len(head), len(body)), head, body))


class Frames:
    """Reads the frames of one connection as their bytes come."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._needed = _START.size  # bytes until there is something to look at

    def feed(self, data: bytes) -> list[Copied]:
        """The copies that are complete now. Raises NoFrame; then nothing more can be read."""
        held = self._held
        held += data
        found = []
        while len(held) >= self._needed:
            mark, head, body = _START.unpack_from(held)
            if mark != _MARK or head > _LARGEST_HEAD or body > LARGEST_BODY:
                raise NoFrame(
                    "what came is no copy of a request; restart the workers, they may be of "
                    "another version"
                )
            end = _START.size + head + body
            if len(held) < end:
                self._needed = end
                break
            text = bytes(held[_START.size : _START.size + head])
            found.append(_copied(text, bytes(held[_START.size + head : end])))
            del held[:end]
            self._needed = _START.size
        return found


def _copied(text: bytes, body: bytes) -> Copied:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise NoFrame("the head of a copy is no JSON") from None
    if not isinstance(fields, dict) or fields.keys() != _KINDS.keys():
        raise NoFrame("the head of a copy has other fields")
    for name, kind in _KINDS.items():
        if type(fields[name]) is not kind:
            raise NoFrame(f"{name} of a copy is of another kind")
    for name in ("headers", "answer"):
        fields[name] = _headers(fields[name])
    copied = Copied(**fields, body=body)
    if len(body) != (copied.length if copied.whole else 0):
        raise NoFrame("the body of a copy has another length than it says")
    return copied


def _headers(pairs: list[Any]) -> Headers:
    for pair in pairs:
        if type(pair) is not list or [type(text) for text in pair] != [str, str]:
            raise NoFrame("a header of a copy is no pair of texts")
    return [(name, value) for name, value in pairs]
