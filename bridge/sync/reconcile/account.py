"""The books of reconciling: what the sums of both sides say, and whether keys explain it. Pure.

Where the sums of a bucket differ its keys are listed, and each key that the two lists have
otherwise is a doubt. Two things must not pass as equal: a bucket whose numbers those keys do not
explain (it is *open*), and a key that is settled because it was not found where it was listed (it
is *suspected*): asking by key may be blind where listing is not. Both may also be an edit of that
moment. So the same buckets are counted and listed once more: what was edited has moved, and what
stands still while its numbers contradict each other is a difference that nobody can explain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bridge.sync.checksums import Listed, Sums, bucket_of, sum_of
from bridge.sync.doubts import Pair

__all__ = ["Account", "KeyEntry"]


class KeyEntry(NamedTuple):
    """What both sides list under one key: the versions of its rows, mostly one, and that of its
    document, None where there is none."""

    rows: tuple[int, ...]
    document: int | None

    @property
    def more(self) -> int:
        """How many more rows than documents."""
        return len(self.rows) - (self.document is not None)

    def denied_by(self, pair: Pair) -> bool:
        """Whether a side that lists the key knows nothing of it when it is asked."""
        no_row = pair.sql is None or not pair.sql.row
        return (bool(self.rows) and no_row) or (self.document is not None and pair.mongodb is None)


class Account:
    """The sums of one moment, and what was listed after it.

    entries: those keys that the two lists have otherwise. wrong: rows of which no event can be
    made, by key, with the reason. odd: keys that the database counts under another text than ours.
    """

    def __init__(self, rows: Sums, documents: Sums) -> None:
        self.rows, self.documents = rows, documents
        self.differing = rows.differing(documents)
        self.entries: dict[str, KeyEntry] = {}
        self.wrong: dict[str, str] = {}
        self.odd: set[str] = set()
        self._listed = Sums(), Sums()
        self._doubted: set[int] = set()
        self._entered: set[int] = set()

    def __repr__(self) -> str:
        return f"<Account of {self.rows.rows} rows and {self.documents.rows} documents>"

    def enter(
        self, buckets: Iterable[int], rows: Iterable[Listed], documents: Iterable[Listed]
    ) -> list[str]:
        """Take the lists of these buckets; the keys that are in doubt."""
        in_sql: dict[str, tuple[int, ...]] = {}
        places: dict[str, int] = {}
        for row in rows:
            self._listed[0].add_bucket(row.bucket, 1, row.sum)
            if row.wrong:
                self.wrong[row.key] = row.wrong
            elif (row.bucket, row.sum) != (bucket_of(row.key), sum_of(row.key, row.version)):
                self.odd.add(row.key)
                self._doubted |= {row.bucket, bucket_of(row.key)}
            in_sql[row.key] = (*in_sql.get(row.key, ()), row.version)
            places[row.key] = row.bucket
        in_mongodb: dict[str, int] = {}
        for document in documents:
            self._listed[1].add_bucket(document.bucket, 1, document.sum)
            in_mongodb[document.key] = document.version
            places.setdefault(document.key, document.bucket)
        self._entered |= set(buckets)
        doubtful = []
        for key, bucket in places.items():
            entry = KeyEntry(in_sql.get(key, ()), in_mongodb.get(key))
            if entry.rows != (entry.document,):
                self._doubted.add(bucket)
                doubtful.append(key)
                self.entries[key] = entry
        return doubtful

    def differs(self, bucket: int) -> bool:
        """Whether the sums of a bucket do."""
        rows, documents = self.rows, self.documents
        return (rows.counts[bucket], rows.sums[bucket]) != (
            documents.counts[bucket],
            documents.sums[bucket],
        )

    def more(self, bucket: int) -> int:
        """How many more rows than documents the sums have in a bucket."""
        return self.rows.counts[bucket] - self.documents.counts[bucket]

    def missed(self, bucket: int) -> int:
        """How many of these the lists do not show."""
        rows, documents = self._listed
        return self.more(bucket) - (rows.counts[bucket] - documents.counts[bucket])

    def open(self) -> set[int]:
        """Buckets whose difference the listed keys do not explain."""
        return {
            bucket
            for bucket in self._entered
            if self.differs(bucket) and (self.missed(bucket) or bucket not in self._doubted)
        }

    def explained(self, resolved: Iterable[int]) -> int:
        """How many more rows than documents the listed keys show; of buckets that were open the
        sums count, where a later round has resolved them."""
        rows, documents = self._listed
        found = sum(
            rows.counts[bucket] - documents.counts[bucket] for bucket in self._entered - self.open()
        )
        return found + sum(self.more(bucket) for bucket in resolved)

    def stands_still(self, bucket: int, before: Account) -> bool:
        """Whether both sides list in a bucket just what they listed before."""
        return all(
            (now.counts[bucket], now.sums[bucket]) == (then.counts[bucket], then.sums[bucket])
            for now, then in zip(self._listed, before._listed, strict=True)
        )

    def suspected(self, settled: Mapping[str, Pair]) -> set[str]:
        """Those of the settled keys that were listed, and then were not found."""
        return {
            key
            for key, pair in settled.items()
            if (entry := self.entries.get(key)) is not None and entry.denied_by(pair)
        }
