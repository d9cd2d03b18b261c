"""The guarded write: what MongoDB is told, so that an older version never wins.

Pure. Every document is encoded once, here, which shows its size and whether it can be stored at
all before any other one is sent along with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import bson
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo import UpdateMany, UpdateOne

from bridge.errors import UndecodableMessage, UnusableEvent
from bridge.queue.events import Event, Rejected
from bridge.sync.bare import without_version
from bridge.sync.checksums import is_dead
from bridge.sync.documents import Document, Mirror, Write
from bridge.sync.models import TWIN
from bridge.sync.mongodb import DRIVER_REFUSES, decode

__all__ = ["BatchResult", "Encoded", "Ready", "guarded", "is_held", "make_ready", "newer", "sweep"]


class Encoded(NamedTuple):
    """One guarded write. document: whole, with the time of this program as `_at`."""

    collection: str
    key: str
    version: int
    rewrite: bool
    document: RawBSONDocument

    @property
    def size(self) -> int:
        """Bytes of BSON."""
        return len(self.document.raw)


class Ready(NamedTuple):
    """What one event is to do, encoded. child_collections: those with children of this entity,
    empty where it has none by its nature."""

    event: Event
    own: Encoded
    children: tuple[Encoded, ...]
    child_collections: tuple[str, ...]


def make_ready(mirror: Mirror, events: Sequence[Event]) -> tuple[list[Ready], list[Rejected]]:
    """The writes of events, and those events that can never be written."""
    moment = datetime.now(UTC)
    limit = mirror.file.max_document
    ready: list[Ready] = []
    failed: list[Rejected] = []
    for event in events:
        try:
            _, own, children, collections = mirror.prepare(event)
            ready.append(
                Ready(
                    event,
                    _encode(own, moment, limit),
                    tuple([_encode(child, moment, limit) for child in children]),
                    collections,
                )
            )
        except (UnusableEvent, UndecodableMessage) as error:
            failed.append(Rejected(event, str(error)))
    return ready, failed


def _encode(write: Write, moment: datetime, limit: int) -> Encoded:
    """Raises UnusableEvent for a document that BSON cannot hold, or of more than `limit` bytes."""
    try:
        raw = bson.encode({**write.document, "_at": moment})
    except DRIVER_REFUSES as error:
        raise UnusableEvent(f"{_name(write)} cannot be stored: {str(error)[:300]}") from None
    if len(raw) > limit:
        raise UnusableEvent(
            f"{_name(write)} has {len(raw)} bytes, more than {limit}; "
            "leave fields out, or raise max_document in sync.yaml"
        )
    document = RawBSONDocument(raw, DEFAULT_RAW_BSON_OPTIONS)
    return Encoded(write.collection, write.key, write.version, write.rewrite, document)


def _name(write: Write) -> str:
    key = ascii(write.key)
    key = key if len(key) <= 80 else key[:77] + "..."
    return f"the document {key} of {write.collection}"


def is_held(ready: Ready, raw: bytes | None) -> bool:
    """Whether MongoDB holds what an event says, in whatever version. raw: what it has under the
    key, None where there is nothing."""
    if ready.event.data is None:
        return raw is None or is_dead(decode(raw))
    return raw is not None and without_version(raw) == without_version(
        bytes(ready.own.document.raw)
    )


def newer(write: Encoded, held: Mapping[str, Any] | None) -> bool:
    """Whether the guard lets this write replace what MongoDB holds; held: `_v` and `_del` of it,
    None where there is nothing.

    What has a version that is no number is somebody else's, and stays.
    """
    version = None if held is None else held.get("_v")
    if held is None or version is None:
        return True
    if isinstance(version, bool) or not isinstance(version, int | float):
        return False
    return version < write.version or (
        write.rewrite and version == write.version and held.get("_del") is not True
    )


def guarded(write: Encoded, *, twin: bool = False) -> UpdateOne:
    """Put the document where nothing is or something older. twin: with the mark that lets it
    have the same as another one in a unique index.

    The filter is `_id` alone: with the guard in the filter, two first inserts would race. The
    guard reads `_v` of what is there. `$literal` keeps values such as "$PATH" what they are.
    """
    held: Document = {"$ifNull": ["$_v", -1]}
    guard: Document = {"$lt": [held, write.version]}
    if write.rewrite:
        same = {"$and": [{"$eq": [held, write.version]}, {"$ne": ["$_del", True]}]}
        guard = {"$or": [guard, same]}
    new: list[Document] = [{"$literal": write.document}, {"_at": "$$NOW"}]
    if twin:
        new.append({TWIN: {"$literal": write.key}})
    return UpdateOne(
        {"_id": write.key},
        [{"$replaceWith": {"$cond": [guard, {"$mergeObjects": new}, "$$ROOT"]}}],
        upsert=True,
    )


def sweep(parent: Encoded, children: Sequence[Encoded]) -> UpdateMany:
    """Turn those children of `parent` into tombstones that its version does not name any more.

    children: those that it names, all of one collection and written already. They have the
    parent's version, so what is older has vanished. A rewrite also removes what should never have
    had this version.
    """
    older: Document = {"$lt": parent.version}
    names: Document = {}
    if parent.rewrite:
        older = {"$lte": parent.version}
        names = {"_id": {"$nin": [child.key for child in children]}}
    tombstone = {
        "_id": "$_id",
        "_v": parent.version,
        "_del": True,
        "_parent": "$_parent",
        "_at": "$$NOW",
    }
    return UpdateMany(
        {"_parent": parent.key, "_v": older, "_del": {"$ne": True}, **names},
        [{"$replaceWith": tombstone}],
    )


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What came of a batch.

    applied: events of which MongoDB now holds this version or a newer one.
    failed: events that can never be written.
    written: how many events changed MongoDB. stale: of how many it had this version or a newer
    one already. Children are not counted. doubled: how many writes met another document with the
    same value of a unique index, and were made nevertheless (`bridge.sync.twins`).
    """

    applied: tuple[Event, ...] = ()
    failed: tuple[Rejected, ...] = ()
    written: int = 0
    stale: int = 0
    doubled: int = 0

    def __add__(self, other: BatchResult) -> BatchResult:
        return BatchResult(
            self.applied + other.applied,
            self.failed + other.failed,
            self.written + other.written,
            self.stale + other.stale,
            self.doubled + other.doubled,
        )
