"""Parents with their children: all documents of one version of a parent, or none of them.

A version of a parent names all of its children, so writing it is also removing those that it no
longer names. That is several documents, and any step could be the last one of this program: a late
worker that dies after it has written a child of an old version would leave that child for ever.
So it is one transaction. It reads the parent's version from a snapshot, writes nothing where that
is as new, and else writes the parent, the children and the tombstones of the vanished. Two workers
with one parent both write the parent's document, so MongoDB lets only one of them commit.

MongoDB keeps the transaction of a program that was killed for a minute or more, and with it its
documents. Whoever meets it ends it sooner: ours take milliseconds from one command to the next.
"""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pymongo import ReadPreference, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from bridge.errors import ServerAway
from bridge.queue.events import Rejected
from bridge.sync.documents import Document
from bridge.sync.guard import BatchResult, Ready, guarded, newer, sweep
from bridge.sync.mongodb import (
    APP_NAME,
    DRIVER_REFUSES,
    MAJORITY,
    as_outage,
    documents_fault,
    message_of,
    servers_fault,
)
from bridge.sync.twins import is_double, settle

__all__ = ["write_families"]

MOST_DOCUMENTS = 2000
MOST_BYTES = 8 * 1024 * 1024
"""Of one transaction, unless one event alone has more: it must end well within a minute, and all
of it is in MongoDB's cache until then."""
TRIES = 5
"""Of a transaction that meets another one; then it is split in two."""
TRIES_ALONE = 40
DUPLICATE_KEY = 11000
ABANDONED = 5.0
"""Seconds without a command after which the program of a transaction is taken for dead. If it was
only slow, it finds its transaction gone and tries again."""


class _MetAnother(Exception):
    """Another transaction has written the same documents meanwhile."""


class _Refused(Exception):
    """MongoDB refuses one of the documents."""


class _Doubled(_Refused):
    """A document has a value of a unique index of `collection` that another one has, too."""

    def __init__(self, collection: str, error: BulkWriteError) -> None:
        super().__init__(str(_first(error).get("errmsg"))[:500])
        self.collection = collection


def write_families(database: Database[Document], families: Sequence[Ready]) -> BatchResult:
    """Write events with children. Raises ServerAway; part of them may then be written."""
    total = BatchResult()
    try:
        with database.client.start_session() as session:
            for portion in _portions(families):
                total += _write(session, database, portion)
    except PyMongoError as error:
        raise as_outage(error) from error
    return total


def _portions(families: Sequence[Ready]) -> Iterator[list[Ready]]:
    portion: list[Ready] = []
    documents = size = 0
    for family in families:
        more = 1 + len(family.children)
        bigger = family.own.size + sum(child.size for child in family.children)
        if portion and (documents + more > MOST_DOCUMENTS or size + bigger > MOST_BYTES):
            yield portion
            portion, documents, size = [], 0, 0
        portion.append(family)
        documents, size = documents + more, size + bigger
    if portion:
        yield portion


def _write(
    session: ClientSession, database: Database[Document], families: Sequence[Ready]
) -> BatchResult:
    """One transaction; two smaller ones where it is refused, or meets others too often."""
    alone = len(families) == 1
    doubled: set[str] = set()  # collections whose documents may be like others
    for tries in range(TRIES_ALONE if alone else TRIES):
        if tries:
            # Both must not come back at the same moment.
            time.sleep(random.uniform(0, min(0.002 * 2**tries, 0.1)))  # noqa: S311 - no secret
        try:
            written = _transaction(session, database, families, doubled)
        except _MetAnother:
            continue
        except _Doubled as error:
            if error.collection not in doubled:
                doubled.add(error.collection)
                continue
            if alone:
                return _not_ours(families[0], error)
            break
        except _Refused as error:
            if alone:
                why = f"MongoDB refuses it: {error}"
                return BatchResult(failed=(Rejected(families[0].event, why),))
            break
        for name in doubled:
            settle(database[name], _keys_in(name, families))
        events = tuple(family.event for family in families)
        return BatchResult(events, (), written, len(families) - written, len(doubled))
    if alone:
        _end_abandoned(database)
        raise ServerAway(f"{TRIES_ALONE} transactions in a row met others with the same documents")
    half = len(families) // 2
    first = _write(session, database, families[:half])
    return first + _write(session, database, families[half:])


def _not_ours(family: Ready, error: _Doubled) -> BatchResult:
    why = (
        f"MongoDB refuses it: {error}. That index is not the mirror's: drop it, and write it in "
        "sync.yaml under `indexes:` as {fields: […], unique: true}"
    )
    return BatchResult(failed=(Rejected(family.event, why),))


def _keys_in(collection: str, families: Sequence[Ready]) -> list[str]:
    """The keys of the documents of this collection."""
    return [
        one.key
        for family in families
        for one in (family.own, *family.children)
        if one.collection == collection
    ]


def _end_abandoned(database: Database[Document]) -> None:
    """End transactions of ours that nobody goes on with. Where we may not, MongoDB does it."""
    ours: list[Document] = [
        {"$currentOp": {"idleSessions": True, "allUsers": False}},
        {
            "$match": {
                "type": "idleSession",
                "appName": APP_NAME,
                "transaction.timeInactiveMicros": {"$gt": int(ABANDONED * 1e6)},
            }
        },
    ]
    admin = database.client.admin
    try:
        sessions = [{"id": found["lsid"]["id"]} for found in admin.aggregate(ours)]
        if sessions:
            admin.command("killSessions", sessions)
    except OperationFailure:
        return


def _transaction(
    session: ClientSession,
    database: Database[Document],
    families: Sequence[Ready],
    doubled: Collection[str],
) -> int:
    """How many events were newer than what MongoDB held. doubled: collections whose documents
    are written with the mark of twins. Raises _MetAnother, _Refused, _Doubled, PyMongoError."""
    session.start_transaction(
        read_concern=ReadConcern("snapshot"),
        write_concern=MAJORITY,
        read_preference=ReadPreference.PRIMARY,
    )
    try:
        newest = _newest(session, database, families)
        for name, writes in _by_collection(newest, doubled).items():
            try:
                # In their order: a child must have the new version before old ones are swept.
                database[name].bulk_write(writes, ordered=True, session=session)
            except BulkWriteError as error:
                if is_double(_first(error)):
                    raise _Doubled(name, error) from error
                raise
        session.commit_transaction()
    except (PyMongoError, *DRIVER_REFUSES) as error:
        if session.in_transaction:
            session.abort_transaction()
        raise _meaning(error) from error
    except BaseException:
        if session.in_transaction:
            session.abort_transaction()
        raise
    return len(newest)


def _newest(
    session: ClientSession, database: Database[Document], families: Sequence[Ready]
) -> list[Ready]:
    """Of each entity the newest event, where it is newer than what MongoDB holds."""
    newest: dict[tuple[str, str], Ready] = {}
    for family in families:
        place = family.own.collection, family.own.key
        other = newest.get(place)
        if other is None or _order(other) < _order(family):
            newest[place] = family
    keys: dict[str, list[str]] = {}
    for name, key in newest:
        keys.setdefault(name, []).append(key)
    held = {
        (name, document["_id"]): document
        for name, wanted in keys.items()
        for document in database[name].find(
            {"_id": {"$in": wanted}}, {"_v": 1, "_del": 1}, session=session
        )
    }
    return [family for place, family in newest.items() if newer(family.own, held.get(place))]


def _order(family: Ready) -> tuple[int, bool]:
    return family.own.version, family.own.rewrite


def _by_collection(
    families: Sequence[Ready], doubled: Collection[str]
) -> dict[str, list[UpdateOne | UpdateMany]]:
    """The writes of each collection: parents first, so that a meeting with another transaction
    shows early."""
    writes: dict[str, list[UpdateOne | UpdateMany]] = {}
    for family in families:
        own = guarded(family.own, twin=family.own.collection in doubled)
        writes.setdefault(family.own.collection, []).append(own)
    for family in families:
        for child in family.children:
            inner = guarded(child, twin=child.collection in doubled)
            writes.setdefault(child.collection, []).append(inner)
    for family in families:
        for name in family.child_collections:
            named = [child for child in family.children if child.collection == name]
            writes.setdefault(name, []).append(sweep(family.own, named))
    return writes


def _meaning(error: Exception) -> Exception:
    """Of an error inside a transaction: to be tried again, a document's fault, or an outage."""
    if isinstance(error, DRIVER_REFUSES):
        return _Refused(message_of(error))
    if isinstance(error, BulkWriteError):
        found = _first(error)
        first_inserts_met = found.get("keyPattern") == {"_id": 1}
        if found.get("code") == DUPLICATE_KEY and first_inserts_met:
            return _MetAnother()
        return error if servers_fault(error) else _Refused(str(found.get("errmsg"))[:500])
    if isinstance(error, OperationFailure):
        if error.has_error_label("TransientTransactionError"):
            return _MetAnother()
        if documents_fault(error):
            return _Refused(message_of(error))
    return error


def _first(error: BulkWriteError) -> Mapping[str, Any]:
    """One error ends a transaction."""
    found: Mapping[str, Any] = ((error.details or {}).get("writeErrors") or [{}])[0]
    return found
