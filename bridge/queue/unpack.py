"""Bodies that Kombu's `compression` header says are packed, unpacked up to a limit.

Kombu unpacks whatever it is sent, however large that becomes: a few hundred bytes can be
gigabytes. Here a body that becomes too large is one that cannot be read, like any other garbage.
Only what can be unpacked piece by piece is: gzip, bzip2 and lzma, by all the names Kombu has.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Mapping
from typing import Any

from kombu.message import Message

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_EVENT_BYTES

__all__ = ["Limited", "limit", "unpack"]

HEADER = "compression"
_MEMORY = 64 * 1024 * 1024
"""Bytes that lzma may ask for a dictionary, which is the sender's choice."""
_OPENERS: Mapping[str, Any] = {
    "application/x-gzip": zlib.decompressobj,
    "application/x-bz2": bz2.BZ2Decompressor,
    "application/x-lzma": lambda: lzma.LZMADecompressor(memlimit=_MEMORY),
}
_NAMES = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
}


def unpack(body: bytes, name: object, most: int) -> bytes:
    """What is packed in `body`, of `most` bytes at most. name: what the header says. Raises
    UndecodableMessage."""
    kind = str(name)
    if (opener := _OPENERS.get(_NAMES.get(kind, kind))) is None:
        known = "send it with gzip, bzip2 or lzma, or as it is"
        raise UndecodableMessage(f"compression {ascii(kind)[:60]} is not known here; {known}")
    opened = opener()
    try:
        # One byte more than allowed tells whether there is more.
        unpacked: bytes = opened.decompress(body, most + 1)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise UndecodableMessage(f"it cannot be unpacked: {error}") from None
    if len(unpacked) > most:
        raise UndecodableMessage(f"it is more than {most} bytes when it is unpacked")
    if not opened.eof:
        raise UndecodableMessage("it cannot be unpacked: its end is missing")
    return unpacked


class Limited(Message):
    """A message whose body is unpacked up to `unpacked` bytes. One that cannot be has that among
    its `errors`, as Kombu does it, and its body as it came."""

    unpacked = MAX_EVENT_BYTES

    def __init__(self, body: Any = None, *, headers: Any = None, **kwargs: Any) -> None:
        plain = headers or {}
        if name := plain.get(HEADER):
            # Kombu must not find it.
            plain = {key: value for key, value in plain.items() if key != HEADER}
            packed = body.encode() if isinstance(body, str) else bytes(body or b"")
            try:
                body = unpack(packed, name, self.unpacked)
            except UndecodableMessage:
                self.errors = [sys.exc_info()]
        super().__init__(body, headers=plain, **kwargs)
        if name:
            self.headers = headers


def limit(channel: Any) -> None:
    """Make a channel of any of Kombu's transports give messages that are unpacked up to a limit."""
    kind = channel.Message
    if not issubclass(kind, Limited):
        # Kombu's own reads what its broker has, and calls the next for what they all do.
        channel.Message = type(kind.__name__, (kind, Limited), {})
