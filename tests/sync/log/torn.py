"""A log whose server ended while it wrote a transaction."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from bridge.sync.log.format import HEADER, Kind

__all__ = ["tear"]


def tear(file: Path, like: int, cut: int) -> None:
    """Write the beginning of a transaction behind the last one.

    file: of the log.
    like: which transaction of it is copied, counted from the end, from 1 on.
    cut: bytes that are missing of its last event before the commit.
    """
    raw = file.read_bytes()
    events = list(_events(raw))
    begins = [at for at, one in enumerate(events) if one[4] == Kind.MARIADB_GTID]
    (last,) = struct.unpack_from("<Q", events[begins[-1]], HEADER)
    copied = events[begins[-like] :]
    end = next(at for at, one in enumerate(copied) if one[4] == Kind.XID)
    place, torn = len(raw), b""
    for number, one in enumerate(copied[:end]):
        event = bytearray(one)
        if number == 0:
            struct.pack_into("<Q", event, HEADER, last + 1)
        place += len(event)
        struct.pack_into("<I", event, 13, place)
        struct.pack_into("<I", event, len(event) - 4, crc32(event[:-4]))
        torn += event
    with file.open("ab") as stream:
        stream.write(torn[: len(torn) - cut])


def _events(raw: bytes) -> Iterator[bytes]:
    at = 4
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at + 9)
        yield raw[at : at + size]
        at += size
