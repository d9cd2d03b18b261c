"""What is left of a document without what only says when it was written. Pure: on BSON's bytes.

Where two are equal so, and one of them is ours, the documents say the same. Unequal ones may, too.
"""

from __future__ import annotations

__all__ = ["without_time", "without_version"]

_BEFORE_TIME = -9
"""A moment is 8 bytes of BSON, and every document ends with one more."""
_VERSIONS = {b"\x12_v\0": 12, b"\x10_v\0": 8}
"""Whole numbers of 64 and 32 bits: type, name, and bytes of both with the value."""


def without_time(raw: bytes) -> bytes:
    """A document without the value of its last field, which is `_at` in what we write."""
    return raw[:_BEFORE_TIME]


def without_version(raw: bytes) -> bytes:
    """The same without its `_v`, too, where that is what we write."""
    if raw[4:9] == b"\x02_id\0":
        at = 13 + int.from_bytes(raw[9:13], "little")
        if (size := _VERSIONS.get(raw[at : at + 4], 0)) != 0:
            # Its length, which is in front, hangs on the size of the version.
            return raw[4:at] + raw[at + size : _BEFORE_TIME]
    return without_time(raw)
