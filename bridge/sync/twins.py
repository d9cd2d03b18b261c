"""Twins: two documents with one value of a unique index, for a moment or for good.

The site's database decides what is unique. Its rows become documents one by one and in any order,
so where two rows swap a value, both documents have it for a while; and where the database takes
for two values what MongoDB takes for one, they have it for good. No document is refused for that.
A unique index of the mirror ends with the field `_twin`, which no document has but those that
MongoDB would refuse: they are written with their key in it, and so are like no other.

The mark is taken off as soon as nobody else has the value: by the write that made it, by a worker
every few seconds (`TwinWatch`), and by the next version of the document, which is written
without it. Of the documents with one value all but one have it, so `find` knows all twins from the
marks.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError
from bridge.settings import Settings
from bridge.sync.documents import Document, Mirror
from bridge.sync.entities import load
from bridge.sync.models import TWIN, File, Index
from bridge.sync.mongodb import MAJORITY, connect, has_doubles, outages, servers_fault
from bridge.units import in_portions

__all__ = [
    "Twin",
    "TwinWatch",
    "find",
    "is_double",
    "left",
    "look",
    "mark_doubles",
    "settle",
    "status_row",
]

DUPLICATE_KEY = 11000
MARKED: Document = {TWIN: {"$exists": True}}
TWINS_PER_STEP = 500
EVERY = 5.0
"""Seconds between two looks of a worker."""
SHARE = 20
"""Of a worker's time, looking takes one part in so many."""
QUIET = 600.0
"""Seconds for which the same twins are logged once."""
MOST_SHOWN = 20
MOST_LOOKED_AT = 1000
"""Marks that `find` follows in one collection."""


@dataclass(frozen=True, slots=True)
class Twin:
    """Two documents of an entity, by their keys, that have the same in the fields of one unique
    index."""

    entity: str
    fields: tuple[str, ...]
    key: str
    other: str

    def __str__(self) -> str:
        same = ", ".join(self.fields)
        return f"{self.entity} {self.key!a} and {self.other!a} have the same {same}"


def is_double(found: Mapping[str, Any]) -> bool:
    """Whether this error of one write says that another document has a value of a unique index;
    false where it is the key itself."""
    return found.get("code") == DUPLICATE_KEY and found.get("keyPattern") != {"_id": 1}


def settle(collection: Collection[Document], keys: Sequence[Any] | None = None) -> int:
    """Take the mark off those that have a value for themselves by now; how many keep it.

    keys: those to look at, all by default. Raises ServerAway.
    """
    ours = collection.with_options(write_concern=MAJORITY, read_preference=ReadPreference.PRIMARY)
    with outages():
        return sum(_take_off(ours, some) for some in _marked(ours, keys))


def _marked(
    collection: Collection[Document], keys: Sequence[Any] | None
) -> Iterator[list[Document]]:
    if keys is not None:
        for some in in_portions(keys, TWINS_PER_STEP):
            which = MARKED | {"_id": {"$in": list(some)}}
            yield list(collection.find(which, {"_v": 1}))
        return
    some = list(collection.find(MARKED, {"_v": 1, TWIN: 1}).sort(TWIN, 1).limit(TWINS_PER_STEP))
    while some:
        yield some
        beyond = {TWIN: {"$gt": some[-1][TWIN]}}
        some = list(collection.find(beyond, {"_v": 1, TWIN: 1}).sort(TWIN, 1).limit(TWINS_PER_STEP))


def _take_off(collection: Collection[Document], some: Sequence[Document]) -> int:
    # With the version: a document that was written since has its own mark, or none.
    writes = [
        UpdateOne(MARKED | {"_id": one["_id"], "_v": one.get("_v")}, {"$unset": {TWIN: ""}})
        for one in some
    ]
    if not writes:
        return 0
    try:
        collection.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        if servers_fault(error):
            raise
        return len((error.details or {}).get("writeErrors", ()))
    return 0


def mark_doubles(collection: Collection[Document], fields: Sequence[str]) -> int:
    """Mark all but one of the documents that have the same in these fields, so that a unique
    index can be made; how many. Raises PyMongoError."""
    there: Document = {field: {"$exists": True} for field in fields}
    alone: Document = there | {TWIN: {"$exists": False}}
    pipeline: list[Document] = [
        {"$match": alone},
        *(  # each member of a list is a value
            {"$unwind": {"path": f"${field}", "preserveNullAndEmptyArrays": True}}
            for field in fields
        ),
        {
            "$group": {
                "_id": {f"f{n}": f"${field}" for n, field in enumerate(fields)},
                "ids": {"$addToSet": "$_id"},
            }
        },
        {"$match": {"ids.1": {"$exists": True}}},
    ]
    marked = 0
    for group in collection.aggregate(pipeline, allowDiskUse=True):
        others = _without_doubles(collection, group["ids"][1:])
        mark: list[Document] = [{"$set": {TWIN: "$_id"}}]
        for some in in_portions(others, TWINS_PER_STEP):
            these = {"_id": {"$in": list(some)}}
            marked += collection.update_many(these, mark).modified_count
    return marked


def _without_doubles(collection: Collection[Document], ids: Sequence[Any]) -> list[Any]:
    """Without documents that have a field twice: MongoDB 6.0 would end at their update."""
    raw = collection.with_options(CodecOptions(document_class=RawBSONDocument))
    kept: list[Any] = []
    for some in in_portions(ids, TWINS_PER_STEP):
        found = raw.find({"_id": {"$in": list(some)}})
        kept += [one["_id"] for one in found if not has_doubles(bytes(one.raw))]
    return kept


def left(database: Database[Document], mirror: Mirror | File, entity: str) -> list[Twin]:
    """The twins of one entity that no taking off of marks ends; some of them, where they are
    many. Raises ServerAway."""
    if entity not in _with_unique(mirror) or not settle(
        database[mirror.entities[entity].collection]
    ):
        return []
    return find(database, mirror, only=entity)


def find(
    database: Database[Document], mirror: Mirror | File, limit: int = MOST_SHOWN, *, only: str = ""
) -> list[Twin]:
    """The twins there are now.

    limit: how many at most.
    only: of this entity; empty for all.

    Raises ServerAway.
    """
    twins: list[Twin] = []
    for name, indexes in _with_unique(mirror).items():
        if only not in ("", name):
            continue
        collection = database[mirror.entities[name].collection].with_options(
            read_preference=ReadPreference.PRIMARY
        )
        with outages():
            for document in collection.find(MARKED).limit(MOST_LOOKED_AT):
                for index in indexes:
                    if (other := _other(collection, index, document)) is not None:
                        fields = tuple(field for field, _ in index.named)
                        twins.append(Twin(name, fields, str(document["_id"]), other))
                if len(twins) >= limit:
                    return twins[:limit]
    return twins


def look(settings: Settings) -> list[Twin]:
    """The same, for a person who asks; none where MongoDB does not answer at once. Raises
    ConfigError."""
    mirror = load(settings.sync)
    if not _with_unique(mirror):
        return []
    with suppress(BridgeError), connect(settings.mongodb_url, patience=1.0, answer=2.0) as client:
        return find(client.get_default_database(), mirror)
    return []


def _with_unique(mirror: Mirror | File) -> dict[str, list[Index]]:
    """The unique indexes of each entity that has some."""
    found = {
        name: [index for index in entity.indexes if index.unique]
        for name, entity in mirror.entities.items()
    }
    return {name: indexes for name, indexes in found.items() if indexes}


_NOTHING = object()


def _other(collection: Collection[Document], index: Index, document: Document) -> str | None:
    """The key of another document with the same in this index; None where there is none."""
    same: Document = {"_id": {"$ne": document["_id"]}}
    for field, _ in index.named:
        value = _value(document, field)
        if value is _NOTHING:
            return None
        # Of a list each member is a value of the index.
        same[field] = {"$in": value} if isinstance(value, list) else {"$eq": value, "$exists": True}
    found = collection.find_one(same, {"_id": 1})
    return None if found is None else str(found["_id"])


def _value(document: Any, field: str) -> Any:
    for step in field.split("."):
        if not isinstance(document, Mapping) or step not in document:
            return _NOTHING
        document = document[step]
    return document


def status_row(twins: Sequence[Twin], limit: int = MOST_SHOWN) -> dict[str, str]:
    """A row of `bridgectl status`: what, is, note."""
    count = f"{len(twins)} or more" if len(twins) >= limit else str(len(twins))
    some = "; ".join(map(str, twins[:3])) + (" …" if len(twins) > 3 else "")
    return {"what": "same unique value", "is": count, "note": some}


class TwinWatch:
    """Takes marks off on a thread of a worker, and logs the twins that stay. For whoever enters it;
    does nothing where sync.yaml has no unique index.

    every: seconds between two looks, at least.
    """

    def __init__(
        self,
        settings: Settings,
        mirror: Mirror,
        log: FilteringBoundLogger,
        *,
        every: float = EVERY,
    ) -> None:
        self._settings, self._mirror, self._log, self._every = settings, mirror, log, every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="twins", daemon=True)
        self._told: list[Twin] = []
        self._tell_at = 0.0

    def __enter__(self) -> TwinWatch:
        if _with_unique(self._mirror):
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _run(self) -> None:
        with connect(self._settings.mongodb_url) as client:
            database = client.get_default_database()
            pause = self._every
            while not self._stop.wait(pause):
                began = monotonic()
                try:
                    self._turn(database)
                except BridgeError:
                    pass  # MongoDB is away; whoever writes says so
                except Exception as error:
                    # A mistake of ours must not end the thread; its text may show data.
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    cause = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
                    self._log.error("twins.failed", cause=cause)
                pause = max(self._every, SHARE * (monotonic() - began))

    def _turn(self, database: Database[Document]) -> None:
        left = sum(
            settle(database[self._mirror.entities[name].collection])
            for name in _with_unique(self._mirror)
        )
        twins = find(database, self._mirror) if left else []
        if not twins:
            if self._told:
                self._log.info("twins.gone")
            self._told = []
            return
        if twins != self._told or monotonic() > self._tell_at:
            self._told, self._tell_at = twins, monotonic() + QUIET
            self._log.warning(
                "twins.same_value",
                documents=left,
                some=[str(one) for one in twins[:5]],
                do="both are kept; it ends when one of the rows changes. If SQL holds both for "
                "good, the index is not unique there: remove `unique: true` in sync.yaml",
            )
