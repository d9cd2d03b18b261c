"""What MongoDB holds of one entity: keys and versions of all of it, or what is under some keys.

Only what a majority has, and whatever it is: nothing that anybody has written there may end a
comparison. Reading it for visitors is `bridge.sync.store`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database

from bridge.sync import checksums
from bridge.sync.checksums import (
    NO_VERSION,
    Listed,
    Sums,
    alive,
    is_dead,
    is_text,
    version_in,
)
from bridge.sync.documents import Document
from bridge.sync.doubts import KeyState
from bridge.sync.mongodb import MAJORITY, TOLERANT, decode, has_doubles, majority, outages
from bridge.sync.sql.moments import ONE_VERSION
from bridge.units import in_portions

__all__ = ["DocumentState", "Mirrored"]

Progress = Callable[[int], None]
KEYS_PER_QUESTION = 500
"""Keys of one question."""
MOST_FOREIGN = 100
"""Of so many the `_id` is kept, to be shown."""


@dataclass(frozen=True, slots=True)
class DocumentState:
    """What MongoDB has under a key. document: all of it where that was asked for, else what is
    needed to know its state. raw: all of it as BSON, where that was asked for."""

    state: KeyState
    document: Document
    raw: bytes = b""


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
    """One collection. newest: of an entity of the log, a version that none can be above: then all
    up to it are counted and listed as one, because its rows say nothing of theirs.

    Every method raises ServerAway.
    """

    def __init__(
        self,
        database: Database[Document],
        collection: str,
        newest: Callable[[], int] | None = None,
    ) -> None:
        self._newest = newest
        self._collection: Collection[Document] = majority(
            database, collection, codec_options=TOLERANT, write_concern=MAJORITY
        )
        options = TOLERANT.with_options(document_class=RawBSONDocument)
        self._raw: Collection[Any] = self._collection.with_options(options)

    def __repr__(self) -> str:
        return f"<Mirrored {self._collection.name}>"

    def count(self) -> int:
        """About how many documents there are, for a progress bar."""
        with outages():
            return self._collection.estimated_document_count()

    def sums(self, progress: Progress, foreign: Foreign, chunk: int) -> Sums:
        """All documents that are alive. `progress` is told how many more were looked at."""
        sums = Sums()
        with outages():
            checksums.add_all(sums, self._batches(foreign, chunk), progress)
        return sums

    def keys(self, buckets: frozenset[int], progress: Progress, chunk: int) -> Iterator[Listed]:
        """The documents that are alive and in these buckets."""
        with outages():
            for batch in self._batches(Foreign(), chunk):
                for key, version in batch:
                    one = checksums.listed(key, version)
                    if one.bucket in buckets:
                        yield one
                progress(len(batch))

    def find(self, keys: Sequence[str]) -> dict[str, DocumentState]:
        """The states of what is under these keys, tombstones included."""
        projection = {"_v": 1, "_del": 1, "_parent": 1}
        found: dict[str, DocumentState] = {}
        with outages():
            for some in _portions(keys):
                for document in self._collection.find({"_id": {"$in": some}}, projection):
                    found[document["_id"]] = DocumentState(_state(document), document)
        return found

    def whole(self, keys: Sequence[str]) -> dict[str, DocumentState]:
        """All of what is under these keys, tombstones included."""
        return {one.document["_id"]: one for one in map(_found, self.raws(keys))}

    def raws(self, keys: Sequence[str]) -> Iterator[bytes]:
        """The same, undecoded."""
        with outages():
            for some in _portions(keys):
                for raw in self._raw.find({"_id": {"$in": some}}):
                    yield bytes(raw.raw)  # a view of the whole answer, where it is long

    def doubled(self, keys: Sequence[str]) -> set[str]:
        """Those of these keys whose document holds a field twice, which nobody must update."""
        return {decode(raw)["_id"] for raw in self.raws(keys) if has_doubles(raw)}

    def tombstones(self, chunk: int) -> Iterator[list[DocumentState]]:
        """All that is deleted and can be a mirrored one, `chunk` at a time."""
        some: list[DocumentState] = []
        with outages(), self._raw.find({"_del": True}).batch_size(chunk) as cursor:
            for raw in cursor:
                one = _found(bytes(raw.raw))
                if is_text(one.document["_id"]):
                    some.append(one)
                if len(some) >= chunk:
                    yield some
                    some = []
        yield some

    def children_of(self, parents: Sequence[str]) -> list[str]:
        """The keys of the documents that are alive and name one of these as their parent."""
        found: list[str] = []
        with outages():
            for some in _portions(parents):
                these = {"_parent": {"$in": some}, **alive()}
                found += [one["_id"] for one in self._collection.find(these, {"_id": 1})]
        return [id for id in found if is_text(id)]

    def bury(self, key: str, found: DocumentState) -> bool:
        """Put a tombstone of the same version in the place of exactly this document; whether it
        was still there."""
        fields = {"_id": "$_id", "_v": "$_v", "_del": True, "_parent": "$_parent", "_at": "$$NOW"}
        return self._replace({"_id": key, **alive()}, found, fields)

    def mend(self, key: str, found: DocumentState, *, child: bool) -> bool:
        """Make of a tombstone that is not as it must be one of the same version that is; whether
        it was still there. Nothing that is alive is touched."""
        fields: Document = {"_id": "$_id", "_v": "$_v", "_del": True, "_at": "$$NOW"}
        if child and isinstance(found.document.get("_parent"), str):
            fields["_parent"] = "$_parent"
        return self._replace({"_id": key, "_del": True}, found, fields)

    def _replace(self, which: Document, found: DocumentState, fields: Document) -> bool:
        same = {**which, "_v": found.document.get("_v")}
        with outages():
            done = self._collection.update_one(same, [{"$replaceWith": fields}])
            return done.modified_count == 1

    def _batches(self, foreign: Foreign, chunk: int) -> Iterator[list[tuple[str, int]]]:
        newest = None if self._newest is None else self._newest()
        with self._collection.find(alive(), {"_v": 1}).batch_size(chunk) as cursor:
            for batch in checksums.of_cursor(cursor, chunk, foreign):
                if newest is None:
                    yield batch
                else:
                    yield [(key, _as_one(version, newest)) for key, version in batch]


def _as_one(version: int, newest: int) -> int:
    return ONE_VERSION if NO_VERSION < version <= newest else version


def _state(document: Document) -> KeyState:
    return KeyState(version_in(document), not is_dead(document))


def _found(raw: bytes) -> DocumentState:
    document = decode(raw)
    return DocumentState(_state(document), document, raw)


def _portions(keys: Sequence[str]) -> Iterator[list[str]]:
    """What can be asked for: a key that is no text of UTF-8 is under no document of ours."""
    for some in in_portions(keys, KEYS_PER_QUESTION):
        yield [key for key in some if is_text(key)]
