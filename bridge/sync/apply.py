"""Write events to MongoDB so that an older version never wins.

One bulk write for a batch, unordered, acknowledged by a majority and journalled; entities with
children go in transactions (`bridge.sync.families`). A document that MongoDB refuses is named in
the result and harms no other. An outage is an exception, never a refusal. Who calls this again,
and when, is left to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from bridge.queue.events import Event, Rejected
from bridge.sync.documents import Document, Mirror
from bridge.sync.families import write_families
from bridge.sync.guard import BatchResult, Ready, guarded, make_ready, newer
from bridge.sync.models import TWIN
from bridge.sync.mongodb import (
    DRIVER_REFUSES,
    MAJORITY,
    as_outage,
    connect,
    documents_fault,
    message_of,
    outages,
    servers_fault,
)
from bridge.sync.twins import is_double, settle
from bridge.units import in_portions

__all__ = ["BatchResult", "Document", "apply", "connect", "load", "versions"]

MOST_KEYS = 5000
"""Of one question; the longest keys make that 5 MiB, and MongoDB takes 16."""


def apply(database: Database[Document], mirror: Mirror, events: Sequence[Event]) -> BatchResult:
    """Write events; of two versions of one entity the higher one wins, in whatever order. Raises
    ServerAway when MongoDB does not answer, or cannot write for a reason that is not in the
    documents. Part of the events may then be written: call again with all of them."""
    return _apply(database, mirror, events, _write)


def load(database: Database[Document], mirror: Mirror, events: Sequence[Event]) -> BatchResult:
    """As `apply`, and much faster where MongoDB holds nothing yet: for a first load.

    What is new is inserted, which succeeds only where nothing is; what is not is left alone, or
    written as `apply` does. Raises ServerAway.
    """
    return _apply(database, mirror, events, _load)


def _apply(
    database: Database[Document],
    mirror: Mirror,
    events: Sequence[Event],
    write: Callable[[Collection[Document], Sequence[Ready]], BatchResult],
) -> BatchResult:
    ready, failed = make_ready(mirror, events)
    total = BatchResult(failed=tuple(failed))
    plain: dict[str, list[Ready]] = {}
    families: list[Ready] = []
    for one in ready:
        if one.child_collections:
            families.append(one)
        else:
            plain.setdefault(one.own.collection, []).append(one)
    for name, members in plain.items():
        total += write(database.get_collection(name, write_concern=MAJORITY), members)
    if families:
        total += write_families(database, families)
    return total


def versions(
    database: Database[Document], mirror: Mirror, identities: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """The version that a majority of MongoDB holds of each (entity, key) that it knows.

    Where it holds a version of a parent, it holds that of its children, too. Entities that no
    event of their own can change have none here. Raises ServerAway.
    """
    groups: dict[str, dict[str, list[str]]] = {}
    for entity, key in identities:
        if entity in mirror.entities and entity not in mirror.parent_of:
            try:
                key.encode()
                written = mirror.key_of(entity, key)
            except ValueError:
                continue  # no text, or no key of a row; MongoDB has none
            groups.setdefault(entity, {}).setdefault(written, []).append(key)
    found: dict[tuple[str, str], int] = {}
    for entity, keys in groups.items():
        for written, held in _held(database[mirror.collection_of(entity)], list(keys)).items():
            if isinstance(version := held.get("_v"), int):
                found |= {(entity, key): version for key in keys[written]}
    return found


def _held(collection: Collection[Document], keys: Sequence[str]) -> dict[str, Document]:
    """`_v` and `_del` of what a majority has. Raises ServerAway."""
    majority = collection.with_options(
        read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY
    )
    with outages():
        return {
            document["_id"]: document
            for some in in_portions(keys, MOST_KEYS)
            for document in majority.find({"_id": {"$in": some}}, {"_v": 1, "_del": 1})
        }


def _write(collection: Collection[Document], batch: Sequence[Ready]) -> BatchResult:
    """Write the documents of one collection; in halves where the bulk fails as a whole."""
    try:
        result = collection.bulk_write([guarded(one.own) for one in batch], ordered=False)
    except BulkWriteError as error:
        return _sort_out(collection, batch, error)
    except OperationFailure as error:
        if not documents_fault(error):
            raise as_outage(error) from error
        cause: Exception = error
    except DRIVER_REFUSES as error:
        cause = error
    except PyMongoError as error:
        raise as_outage(error) from error
    else:
        written = result.modified_count + result.upserted_count
        return BatchResult(tuple(one.event for one in batch), (), written, len(batch) - written)
    if len(batch) == 1:
        return BatchResult(
            failed=(Rejected(batch[0].event, f"MongoDB refuses it: {message_of(cause)}"),)
        )
    half = len(batch) // 2
    return _write(collection, batch[:half]) + _write(collection, batch[half:])


def _sort_out(
    collection: Collection[Document], batch: Sequence[Ready], error: BulkWriteError
) -> BatchResult:
    details, refused = _refused(error)
    doubles = [batch[index] for index, found in refused.items() if is_double(found)]
    wrong = {index: found for index, found in refused.items() if not is_double(found)}
    done = _counted(batch, refused, wrong, details)
    return done + _write_doubles(collection, doubles) if doubles else done


def _write_doubles(collection: Collection[Document], batch: Sequence[Ready]) -> BatchResult:
    """Write documents that have a value of a unique index that another one has, too."""
    marked = [guarded(one.own, twin=True) for one in batch]
    try:
        result = collection.bulk_write(marked, ordered=False)
    except BulkWriteError as error:
        # Only an index that is not the mirror's can refuse them now.
        details, refused = _refused(error)
        done = _counted(batch, refused, refused, details)
    except PyMongoError as error:
        raise as_outage(error) from error
    else:
        written = result.modified_count + result.upserted_count
        done = BatchResult(tuple(one.event for one in batch), (), written, len(batch) - written)
    settle(collection, [one.own.key for one in batch])
    return done + BatchResult(doubled=len(batch))


def _refused(error: BulkWriteError) -> tuple[Mapping[str, Any], dict[int, Mapping[str, Any]]]:
    """What the bulk did, and the errors by the number of their write. Raises ServerAway."""
    if servers_fault(error):
        raise as_outage(error) from error
    details: Mapping[str, Any] = error.details or {}
    return details, {found["index"]: found for found in details.get("writeErrors", ())}


def _counted(
    batch: Sequence[Ready],
    refused: Mapping[int, Mapping[str, Any]],
    wrong: Mapping[int, Mapping[str, Any]],
    details: Mapping[str, Any],
) -> BatchResult:
    """What came of a bulk in which some were refused, and those of them that are wrong."""
    applied = tuple(one.event for index, one in enumerate(batch) if index not in refused)
    failed = tuple(Rejected(batch[index].event, _why(found)) for index, found in wrong.items())
    written = int(details.get("nModified", 0)) + int(details.get("nUpserted", 0))
    return BatchResult(applied, failed, written, len(applied) - written)


def _why(found: Mapping[str, Any]) -> str:
    text = f"MongoDB refuses it: {str(found.get('errmsg'))[:500]}"
    if is_double(found) and TWIN not in found.get("keyPattern", {}):
        text += (
            ". That index is not the mirror's: drop it, write it in sync.yaml under `indexes:` as "
            "{fields: […], unique: true}, run `bridgectl sync init`, and `bridgectl dead retry`"
        )
    return text


def _load(collection: Collection[Document], batch: Sequence[Ready]) -> BatchResult:
    held = _held(collection, [one.own.key for one in batch])
    new = [one for one in batch if one.own.key not in held]
    rest = [one for one in batch if one.own.key in held]
    older = [one for one in rest if newer(one.own, held[one.own.key])]
    stale = [one for one in rest if not newer(one.own, held[one.own.key])]
    total = BatchResult(tuple(one.event for one in stale), (), 0, len(stale))
    if new:
        inserted, refused = _insert(collection, new)
        total += inserted
        older += refused
    return total + _write(collection, older) if older else total


def _insert(
    collection: Collection[Document], batch: Sequence[Ready]
) -> tuple[BatchResult, list[Ready]]:
    """Insert what is not there; also give back those that MongoDB refuses, for whatever reason:
    the guarded write finds out."""
    try:
        collection.insert_many([one.own.document for one in batch], ordered=False)
        refused: set[int] = set()
    except BulkWriteError as error:
        if servers_fault(error):
            raise as_outage(error) from error
        refused = {found["index"] for found in (error.details or {}).get("writeErrors", ())}
    except OperationFailure as error:
        if not documents_fault(error):
            raise as_outage(error) from error
        refused = set(range(len(batch)))
    except DRIVER_REFUSES:
        refused = set(range(len(batch)))
    except PyMongoError as error:
        raise as_outage(error) from error
    done = tuple(one.event for index, one in enumerate(batch) if index not in refused)
    left = [one for index, one in enumerate(batch) if index in refused]
    return BatchResult(done, (), len(done), 0), left
