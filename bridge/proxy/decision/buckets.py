"""Sticky shares: which visitors Python answers at N percent.

Pure. A visitor's bucket is a number from 0 to 99,999 that depends only on the group and the
visitor's key, so it is the same in every worker and on every machine. A share of N percent
takes the lowest buckets, so whoever is in at 10% is still in at 20%, and whoever left at 5%
comes back at 10%. Where the key comes from is `bridge.proxy.decision.decide`'s business.
"""

from __future__ import annotations

from hashlib import sha256

__all__ = ["ALL", "bucket", "inside"]

ALL = 100_000
"""Number of buckets, and the share that means everybody, in thousandths of a percent."""


def bucket(group: str, key: str) -> int:
    """Bucket of the visitor `key` in `group`: an integer from 0 to 99,999.

    The first 32 bits of SHA-256 are mapped to the range by multiplication, which has no modulo
    bias. This function must never change: every visitor would move.
    """
    hash32 = int.from_bytes(sha256(f"{group}\0{key}".encode()).digest()[:4], "big")
    return (hash32 * ALL) >> 32


def inside(bucket: int, share: int) -> bool:
    """Whether `bucket` is within `share`, in thousandths of a percent (10% is 10,000)."""
    return bucket < share
