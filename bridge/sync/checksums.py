"""Counts and sums of the keys and versions of many rows, small enough to be compared.

A row falls into one of 4096 buckets by its key alone, because SQL and MongoDB put keys in
different orders: there are no ranges that both sides could be asked for. Two buckets with the
same count and sum hold the same keys at the same versions. What differs in them is found by
`bridge.sync.reconcile.account`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import md5
from typing import Any, NamedTuple

from bridge.sync.documents import Document

__all__ = [
    "BUCKETS",
    "NO_VERSION",
    "Listed",
    "Sums",
    "add_all",
    "alive",
    "bucket_of",
    "is_dead",
    "is_text",
    "listed",
    "of_cursor",
    "sum_of",
    "version_in",
]

BUCKETS = 4096
"""Three hexadecimal digits."""

NO_VERSION = -1
"""Of a document without a usable `_v`: below every version, as the guarded write has it."""


def bucket_of(key: str) -> int:
    """The bucket of a key: the first 12 bits of the MD5 of its UTF-8."""
    found = md5(key.encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
    return found[0] << 4 | found[1] >> 4


def sum_of(key: str, version: int) -> int:
    """What a row adds to its bucket: the first 48 bits of the MD5 of key, newline, version.

    A CRC would not do: it is linear, so two rows that are both one version behind can cancel
    each other out.
    """
    raw = f"{key}\n{version}".encode("utf-8", "surrogateescape")
    return int.from_bytes(md5(raw, usedforsecurity=False).digest()[:6], "big")


class Listed(NamedTuple):
    """One row or document that is alive. bucket, sum: as they were counted in the sums, which of
    rows the database may have done. wrong: why no event can be made of the row."""

    key: str
    version: int
    bucket: int
    sum: int
    wrong: str = ""


def listed(key: str, version: int, wrong: str = "") -> Listed:
    """A row or document that is counted here."""
    return Listed(key, version, bucket_of(key), sum_of(key, version), wrong)


class Sums:
    """How many rows each bucket has, and the sum of what they add to it."""

    __slots__ = ("counts", "sums")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.sums = [0] * BUCKETS

    def __repr__(self) -> str:
        used = sum(1 for count in self.counts if count)
        return f"<Sums of {self.rows} rows in {used} buckets>"

    @property
    def rows(self) -> int:
        """How many rows there are in all buckets."""
        return sum(self.counts)

    def add(self, key: str, version: int) -> None:
        """Count one row."""
        bucket = bucket_of(key)
        self.counts[bucket] += 1
        self.sums[bucket] += sum_of(key, version)

    def add_bucket(self, bucket: int, count: int, total: int) -> None:
        """Count rows of one bucket that somebody else has summed up."""
        self.counts[bucket] += count
        self.sums[bucket] += total

    def differing(self, other: Sums) -> list[int]:
        """The buckets in which the two sides do not hold the same."""
        return [
            bucket
            for bucket in range(BUCKETS)
            if self.counts[bucket] != other.counts[bucket]
            or self.sums[bucket] != other.sums[bucket]
        ]


def alive() -> Document:
    """What MongoDB's documents that are not deleted are found by."""
    return {"_del": {"$ne": True}}


def is_dead(document: Document) -> bool:
    """Whether `alive` leaves a document out. For MongoDB a list with true in it is true."""
    found = document.get("_del")
    return found is True or (isinstance(found, list) and any(one is True for one in found))


def is_text(id: Any) -> bool:
    """Whether an `_id` can be the key of an event: a text of UTF-8."""
    if type(id) is not str:
        return False
    try:
        id.encode()
    except UnicodeEncodeError:
        return False
    return True


def version_in(document: Document) -> int:
    """The version of a document, NO_VERSION where it has none that is a whole number."""
    found = document.get("_v")
    if isinstance(found, float) and found.is_integer():
        return int(found)
    return int(found) if isinstance(found, int) and not isinstance(found, bool) else NO_VERSION


def add_all(
    sums: Sums,
    batches: Iterable[list[tuple[str, int]]],
    progress: Callable[[int], None] = lambda rows: None,
) -> None:
    """Count every row of the batches; `progress` is told the rows of each."""
    for batch in batches:
        add = sums.add
        for key, version in batch:
            add(key, version)
        progress(len(batch))


def of_cursor(
    cursor: Iterable[Document], size: int, foreign: Callable[[Any], None]
) -> Iterator[list[tuple[str, int]]]:
    """Keys and versions of MongoDB's documents, `size` at a time; `foreign` is given each `_id`
    that is no text of UTF-8 and so cannot be ours."""
    batch: list[tuple[str, int]] = []
    for document in cursor:
        key = document["_id"]
        if not is_text(key):
            foreign(key)
            continue
        batch.append((key, version_in(document)))
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
