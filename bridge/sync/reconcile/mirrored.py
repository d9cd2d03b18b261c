"""What MongoDB holds of one entity: keys and versions of all of it, or what is under some keys.

Only what a majority has. Reading it for visitors is `bridge.sync.store`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from bridge.sync.documents import Document
from bridge.sync.mongodb import MAJORITY, away
from bridge.sync.reconcile.checksums import Sums, add_all, alive, in_buckets, of_cursor, version_in
from bridge.sync.reconcile.doubts import State

__all__ = ["Found", "Mirrored"]

Progress = Callable[[int], None]
AT_ONCE = 500
"""Keys of one question."""
MOST_FOREIGN = 100
"""Of so many the `_id` is kept, to be shown."""


@dataclass(frozen=True, slots=True)
class Found:
    """What MongoDB has under a key. document: all of it where that was asked for, else what is
    needed to know its state."""

    state: State
    document: Document


@dataclass
class Foreign:
    """Documents whose `_id` is no text: they are no mirrored ones, and nobody's repair."""

    count: int = 0
    ids: list[Any] = field(default_factory=list)

    def __call__(self, id: Any) -> None:
        self.count += 1
        if len(self.ids) < MOST_FOREIGN:
            self.ids.append(id)


class Mirrored:
    """One collection. Every method raises ServerAway."""

    def __init__(self, database: Database[Document], collection: str) -> None:
        self._collection: Collection[Document] = database.get_collection(
            collection,
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=MAJORITY,
        )

    def __repr__(self) -> str:
        return f"<Mirrored {self._collection.name}>"

    def count(self) -> int:
        """About how many documents there are, for a progress bar."""
        with _errors():
            return self._collection.estimated_document_count()

    def sums(self, progress: Progress, foreign: Foreign, chunk: int) -> Sums:
        """All documents that are alive. `progress` is told how many more were looked at."""
        sums = Sums()
        with _errors():
            add_all(sums, self._batches(foreign, chunk), progress)
        return sums

    def keys(
        self, buckets: frozenset[int], progress: Progress, chunk: int
    ) -> Iterator[tuple[str, int]]:
        """Key and version of the documents that are alive and in these buckets."""
        with _errors():
            yield from in_buckets(self._batches(Foreign(), chunk), buckets, progress)

    def find(self, keys: Sequence[str], *, whole: bool = False) -> dict[str, Found]:
        """What is under these keys, tombstones included."""
        projection = None if whole else {"_v": 1, "_del": 1, "_parent": 1}
        found: dict[str, Found] = {}
        with _errors():
            for start in range(0, len(keys), AT_ONCE):
                some = list(keys[start : start + AT_ONCE])
                for document in self._collection.find({"_id": {"$in": some}}, projection):
                    state = State(version_in(document), document.get("_del") is not True)
                    found[document["_id"]] = Found(state, document)
        return found

    def bury(self, key: str, found: Found) -> bool:
        """Put a tombstone of the same version in the place of exactly this document; whether it
        was still there."""
        tombstone = [
            {
                "$replaceWith": {
                    "_id": "$_id",
                    "_v": "$_v",
                    "_del": True,
                    "_parent": "$_parent",
                    "_at": "$$NOW",
                }
            }
        ]
        same = {"_id": key, "_v": found.document.get("_v"), **alive()}
        with _errors():
            return self._collection.update_one(same, tombstone).modified_count == 1

    def _batches(self, foreign: Foreign, chunk: int) -> Iterator[list[tuple[str, int]]]:
        cursor = self._collection.find(alive(), {"_v": 1}).batch_size(chunk)
        with cursor:
            yield from of_cursor(cursor, chunk, foreign)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        raise away(error) from error
