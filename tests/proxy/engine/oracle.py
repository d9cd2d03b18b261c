"""A strict reader of HTTP/1.1, written from RFC 9112 and sharing no code with the bridge.

What the bridge writes has to pass it, on either side: it forgives nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["Malformed", "Message", "answers_in", "requests_in"]

_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e\x80-\xff]+) HTTP/1\.1")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
_LENGTH = re.compile(rb"[0-9]{1,18}")


class Malformed(ValueError):
    """Two readers could read this differently."""


@dataclass
class Message:
    """A request or an answer: `start` are the method and the target, or the status alone."""

    start: tuple[bytes, ...]
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    interim: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.start[0])

    def all(self, name: bytes) -> list[bytes]:
        """Every value of the field `name` (small letters), in order."""
        return [value for key, value in self.headers if key.lower() == name]


def requests_in(raw: bytes) -> tuple[list[Message], bytes]:
    """The complete requests in `raw`, and the bytes of one that is not complete."""
    found: list[Message] = []
    while raw:
        cut = _head(raw, _REQUEST)
        if cut is None:
            break
        message, rest = cut
        lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
        if codings:
            if codings != [b"chunked"] or lengths:
                raise Malformed(f"framing {codings} {lengths}")
            body = _chunks(rest)
        elif lengths:
            body = _counted(rest, lengths)
        else:
            body = b"", rest
        if body is None:
            break
        message.body, raw = body
        found.append(message)
    return found, raw


def answers_in(raw: bytes, methods: list[bytes], *, ended: bool) -> tuple[list[Message], bytes]:
    """The complete answers in `raw` to requests of these methods, and what is left over.

    `ended` says that the connection has ended cleanly, which may be the end of a body.
    """
    found: list[Message] = []
    interim: list[Message] = []
    while raw:
        cut = _head(raw, _STATUS)
        if cut is None:
            break
        message, rest = cut
        if message.status < 200:
            if message.all(b"content-length") or message.all(b"transfer-encoding"):
                raise Malformed("an interim answer with a body")
            interim.append(message)
            raw = rest
            continue
        if len(found) > len(methods):
            raise Malformed("an answer that nobody asked for")
        method = methods[len(found)] if len(found) < len(methods) else b"GET"
        lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
        if codings and (codings != [b"chunked"] or (lengths and method != b"HEAD")):
            raise Malformed(f"framing {codings} {lengths}")
        if lengths and (len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
            raise Malformed(f"lengths {lengths}")
        body: tuple[bytes, bytes] | None
        if method == b"HEAD" or message.status in (204, 304):
            body = b"", rest
        elif codings:
            body = _chunks(rest)
        elif lengths:
            body = _counted(rest, lengths)
        else:
            body = (rest, b"") if ended else None
        if body is None:
            break
        message.body, raw = body
        message.interim, interim = interim, []
        found.append(message)
    return found, raw


def _head(raw: bytes, first: re.Pattern[bytes]) -> tuple[Message, bytes] | None:
    head, end, rest = raw.partition(b"\r\n\r\n")
    if not end:
        return None
    line, *lines = head.split(b"\r\n")
    start = first.fullmatch(line)
    if not start:
        raise Malformed(f"first line {line[:80]!r}")
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        found = _FIELD.fullmatch(line)
        if not found:
            raise Malformed(f"field {line[:80]!r}")
        headers.append((found[1], found[2]))
    return Message(start.groups(), headers), rest


def _counted(rest: bytes, lengths: list[bytes]) -> tuple[bytes, bytes] | None:
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Malformed(f"lengths {lengths}")
    size = int(lengths[0])
    return (rest[:size], rest[size:]) if len(rest) >= size else None


def _chunks(rest: bytes) -> tuple[bytes, bytes] | None:
    pieces: list[bytes] = []
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        if not _SIZE.fullmatch(line):
            raise Malformed(f"chunk size {line[:40]!r}")
        size = int(line, 16)
        if not size:
            break
        if len(rest) < size + 2:
            return None
        if rest[size : size + 2] != b"\r\n":
            raise Malformed("a chunk that does not end")
        pieces.append(rest[:size])
        rest = rest[size + 2 :]
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        if not line:
            return b"".join(pieces), rest
        if not _FIELD.fullmatch(line):
            raise Malformed(f"trailer {line[:40]!r}")
