"""Write events to MongoDB so that an older version never wins.

One bulk write for a batch, unordered, acknowledged by a majority and journalled. A document that
MongoDB refuses is named in the result and harms no other. An outage is an exception, never a
refusal. Who calls this again, and when, is left to the caller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.errors import BSONError
from pymongo import MongoClient, ReadPreference, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from bridge.errors import BridgeError, ServerAway
from bridge.queue.events import Event, Rejected
from bridge.settings import redact_url

__all__ = [
    "COLLECTIONS",
    "TOMBSTONE_SECONDS",
    "Applied",
    "Document",
    "apply",
    "connect",
    "ensure_indexes",
    "versions",
]

Document = dict[str, Any]

COLLECTIONS: Mapping[str, str] = {"project": "projects", "release": "releases"}
"""Entity to collection: what is mirrored where."""

TOMBSTONE_SECONDS = 35 * 24 * 3600
"""A tombstone must outlive the longest replay, or a late old version would bring back the dead."""

WRITE_CONCERN = WriteConcern(w="majority", j=True, wtimeout=10_000)
"""`wtimeout` in milliseconds: a majority that is gone is an outage, not a hang."""

INDEX_CONFLICTS = frozenset({85, 86})  # IndexOptionsConflict, IndexKeySpecsConflict

# Errors of the server with one write that say nothing about its document
# (src/mongo/base/error_codes.yml).
SERVERS_FAULT = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        13,  # Unauthorized
        18,  # AuthenticationFailed
        24,  # LockTimeout
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        112,  # WriteConflict
        189,  # PrimarySteppedDown
        262,  # ExceededTimeLimit
        9001,  # SocketException
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
    }
)
# Errors with a whole command that one of its documents causes.
DOCUMENTS_FAULT = frozenset(
    {
        2,  # BadValue
        9,  # FailedToParse
        14,  # TypeMismatch
        15,  # Overflow: nested too deeply
        22,  # InvalidBSON
        10334,  # BSONObjectTooLarge
        17419,  # the resulting document is too large
    }
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of a batch.

    applied: events of which MongoDB now holds this version or a newer one.
    failed: events that can never be written.
    written: how many documents changed. stale: how many were as new already.
    """

    applied: tuple[Event, ...] = ()
    failed: tuple[Rejected, ...] = ()
    written: int = 0
    stale: int = 0


def connect(url: str, *, patience: float = 2.0) -> MongoClient[Document]:
    """A client for the database that `url` names in its path; it connects when it is used.

    patience: seconds that one operation waits for a server that is away.
    Raises BridgeError for a URL that cannot be used or names no database.
    """
    milliseconds = int(patience * 1000)
    try:
        if not parse_uri(url, validate=False, warn=False)["database"]:
            raise ConfigurationError("it names no database; end its path with one, as in /bridge")
        return MongoClient(
            url,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=30_000,
            appname="bridge",
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise BridgeError(f"MongoDB URL {redact_url(url)} cannot be used: {error}") from None


def ensure_indexes(database: Database[Document]) -> None:
    """Create the indexes that the mirror needs; does nothing where they are.

    Raises ServerAway, or BridgeError where an index of the same name has other options.
    """
    try:
        for collection in COLLECTIONS.values():
            database[collection].create_index(
                "_at",
                name="bridge_tombstones",
                expireAfterSeconds=TOMBSTONE_SECONDS,
                partialFilterExpression={"_del": True},
            )
        database[COLLECTIONS["release"]].create_index("project", name="bridge_project")
    except OperationFailure as error:
        if error.code not in INDEX_CONFLICTS:
            raise _away(error) from error
        raise BridgeError(
            f"MongoDB has an index that is in the way: {_reason(error)} Drop it and start again."
        ) from error
    except PyMongoError as error:
        raise _away(error) from error


def apply(database: Database[Document], events: Sequence[Event]) -> Applied:
    """Write events; of two versions of one entity the higher one wins, in whatever order.

    Raises ServerAway when MongoDB does not answer, or cannot write for a reason that is not in
    the documents. Part of the events may then be written: call again with all of them.
    """
    groups: dict[str, list[Event]] = {}
    failed: list[Rejected] = []
    for event in events:
        if (name := COLLECTIONS.get(event.entity)) is None:
            known = ", ".join(sorted(COLLECTIONS))
            failed.append(Rejected(event, f"{event.entity} is mirrored nowhere; known: {known}"))
        else:
            groups.setdefault(name, []).append(event)
    total = Applied(failed=tuple(failed))
    for name, members in groups.items():
        collection = database.get_collection(name, write_concern=WRITE_CONCERN)
        total = _add(total, _write(collection, members))
    return total


def versions(
    database: Database[Document], identities: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], int]:
    """The version that a majority of MongoDB holds of each (entity, key) that it knows.

    Raises ServerAway.
    """
    groups: dict[str, list[str]] = {}
    for entity, key in identities:
        if entity in COLLECTIONS:
            try:
                key.encode()
            except UnicodeEncodeError:
                continue  # a key that is no text; MongoDB has none
            groups.setdefault(entity, []).append(key)
    found: dict[tuple[str, str], int] = {}
    try:
        for entity, keys in groups.items():
            collection = database.get_collection(
                COLLECTIONS[entity],
                read_concern=ReadConcern("majority"),
                read_preference=ReadPreference.PRIMARY,
            )
            for document in collection.find({"_id": {"$in": keys}}, {"_v": 1}):
                if isinstance(version := document.get("_v"), int):
                    found[entity, document["_id"]] = version
    except PyMongoError as error:
        raise _away(error) from error
    return found


def _write(collection: Collection[Document], events: Sequence[Event]) -> Applied:
    """Write the events of one collection; one by one where the bulk fails as a whole."""
    try:
        result = collection.bulk_write([_update(event) for event in events], ordered=False)
    except BulkWriteError as error:
        return _sort_out(events, error)
    except OperationFailure as error:
        if error.code not in DOCUMENTS_FAULT:
            raise _away(error) from error
        cause: Exception = error
    except (DocumentTooLarge, BSONError, OverflowError, UnicodeError) as error:
        # The driver refuses the bulk before a byte is sent.
        cause = error
    except PyMongoError as error:
        raise _away(error) from error
    else:
        written = result.modified_count + result.upserted_count
        return Applied(tuple(events), (), written, len(events) - written)
    if len(events) == 1:
        return Applied(failed=(Rejected(events[0], f"MongoDB refuses it: {_reason(cause)}"),))
    total = Applied()
    for event in events:
        total = _add(total, _write(collection, [event]))
    return total


def _sort_out(events: Sequence[Event], error: BulkWriteError) -> Applied:
    details: Mapping[str, Any] = error.details or {}
    if details.get("writeConcernErrors"):
        raise _away(error) from error
    refused: dict[int, str] = {}
    for found in details.get("writeErrors", ()):
        if found.get("code") in SERVERS_FAULT:
            raise _away(error) from error
        refused[found["index"]] = f"MongoDB refuses it: {str(found.get('errmsg'))[:500]}"
    applied = tuple(event for index, event in enumerate(events) if index not in refused)
    failed = tuple(Rejected(events[index], why) for index, why in sorted(refused.items()))
    written = int(details.get("nModified", 0)) + int(details.get("nUpserted", 0))
    return Applied(applied, failed, written, len(applied) - written)


def _update(event: Event) -> UpdateOne:
    """The guarded write.

    The filter is `_id` alone: with the guard in the filter, two first inserts would race. The
    guard reads `_v` of what is there. `$literal` keeps values such as "$PATH" what they are.
    """
    document: Document = {"_id": event.key, "_v": event.version}
    if event.change == "deleted":
        document["_del"] = True
    else:
        document |= event.data or {}
    return UpdateOne(
        {"_id": event.key},
        [
            {
                "$replaceWith": {
                    "$cond": [
                        {"$lt": [{"$ifNull": ["$_v", -1]}, event.version]},
                        {"$mergeObjects": [{"$literal": document}, {"_at": "$$NOW"}]},
                        "$$ROOT",
                    ]
                }
            }
        ],
        upsert=True,
    )


def _add(one: Applied, other: Applied) -> Applied:
    return Applied(
        one.applied + other.applied,
        one.failed + other.failed,
        one.written + other.written,
        one.stale + other.stale,
    )


def _reason(error: Exception) -> str:
    """Its text without the reply of the server, or the state of every server, behind it."""
    details = error.details if isinstance(error, OperationFailure) else None
    text = str((details or {}).get("errmsg") or error)
    return text.partition(", Timeout:")[0][:500]


def _away(error: PyMongoError) -> ServerAway:
    return ServerAway(f"{type(error).__name__}: {_reason(error)}")
