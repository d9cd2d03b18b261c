"""Follows MongoDB's change stream and tells the cache what changed, and that nothing else did.

One daemon thread and one connection of its own for each process. The stream is that of the
database, cut down by the server to the mirrored collections and to key, version and time.

The steps: (1) ask the primary for the time, (2) open the stream at that time, or behind the last
event seen, (3) look, (4) apply what came, (5) confirm, when the look came to the stream's end and
that is not before (1); then (3) again.

Raw commands instead of the driver's ChangeStream: only they tell where a batch ends, and a look
that came to the end is what `confirm` may rely on. They go to the primary; when that moves, the
cursor is unknown there and the stream is opened again behind the last event. A primary that is
cut off from its majority but not from us goes on confirming until it steps down: up to 10 s
(electionTimeoutMillis).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import NotPrimaryError, OperationFailure, PyMongoError

from bridge.sync.cache.frozen import NEVER, Document
from bridge.sync.cache.memory import Cache, Change

__all__ = ["FollowCounters", "Follower"]

log = structlog.get_logger("bridge.cache")

BATCH = 1000
"""Events of one look at most; fewer mean that the look came to the stream's end."""
AWAIT = 0.25
"""Seconds that the server waits for an event before it says that there is none."""
AWAIT_FIRST = 0.01
"""The same for the first look, which everybody waits for."""
SPACING = 0.005
"""Seconds between looks while events pour in: 200 looks a second instead of thousands."""
FIRST_DELAY, LONGEST_DELAY = 0.05, 0.5

_WRITES = frozenset({"insert", "update", "replace", "delete"})


@dataclass(slots=True)
class FollowCounters:
    """events: changes seen. opened: streams opened at a new beginning, each with a flush.
    resumed: streams opened behind the last event. failures: looks that failed. dropped: drops
    and renames of collections, each with a flush."""

    events: int = 0
    opened: int = 0
    resumed: int = 0
    failures: int = 0
    dropped: int = 0


class _Lost(Exception):
    """The stream cannot go on behind the last event."""


class Follower:
    """Keeps `cache` in step with the MongoDB of `url`.

    collections: collection to entity, what is followed. `stop` ends it; it cannot be started
    again. In a forked child there must be a new one.
    """

    def __init__(self, url: str, collections: Mapping[str, str], cache: Cache) -> None:
        self.counters = FollowCounters()
        self.cluster_time: Mapping[str, Any] | None = None
        """The newest $clusterTime seen, for sessions of other clients."""
        self._url, self._entities, self._cache = url, dict(collections), cache
        self._token: Mapping[str, Any] | None = None
        self._newest = self._start = 0
        self._progress = self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge-cache", daemon=True)

    def start(self) -> None:
        """Begin to follow; MongoDB may be away."""
        self._thread.start()

    def stop(self, bound: float = 2.0) -> None:
        """End, and wait at most `bound` seconds for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(bound)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        # A hanging server must be given up within the bound, and a look takes AWAIT.
        milliseconds = int(max(self._cache.bound / 2, AWAIT * 2) * 1000)
        client: MongoClient[dict[str, Any]] = MongoClient(
            self._url,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=milliseconds,
            maxPoolSize=2,
            appname="bridge-cache",
        )
        delay = FIRST_DELAY
        with client:
            while not self._stop.is_set():
                self._progress = False
                cause: Exception | None = None
                try:
                    self._follow(client.get_default_database("bridge"))
                except _Lost as error:
                    self._token, cause = None, error
                except PyMongoError as error:
                    cause = error
                    if isinstance(error, OperationFailure) and not self._progress:
                        # Behind the last event there is no way on: history lost, event too large.
                        self._token = None
                except Exception as error:
                    # Whatever it is, a thread that has died would leave the cache off for good.
                    self._token, cause = None, error
                if cause is None or self._stop.is_set():
                    continue
                self.counters.failures += 1
                delay = FIRST_DELAY if self._progress else min(delay * 2, LONGEST_DELAY)
                if not self._failing:  # said once, however long it lasts
                    self._failing = True
                    text = f"{type(cause).__name__}: {cause}".partition(", Timeout:")[0][:300]
                    _say("cache.stream_failed", cause=text, lost=self._token is None)
                self._stop.wait(delay)

    def _follow(self, database: Database[dict[str, Any]]) -> None:
        with database.client.start_session(causal_consistency=False) as session:
            cursor = self._open(database, session)
            self._digest(cursor["firstBatch"])
            number = cursor["id"]
            collection = str(cursor["ns"]).partition(".")[2]
            patience = AWAIT_FIRST
            while not self._stop.is_set():
                if not number:
                    raise _Lost("the database was dropped")
                looked = time.monotonic()  # (3)
                command = {
                    "getMore": number,
                    "collection": collection,
                    "batchSize": BATCH,
                    "maxTimeMS": int(patience * 1000),
                }
                patience = AWAIT
                reply = self._command(database, command, session)
                if self._stop.is_set():
                    return  # who stopped us may have begun anew; ours would be out of order
                cursor = reply["cursor"]
                batch = cursor["nextBatch"]
                self._digest(batch)  # (4)
                # After the batch is applied: a failure in it must not skip it.
                self._token = cursor.get("postBatchResumeToken", self._token)
                self._newest = max(self._newest, _moment(reply["operationTime"]))
                self._progress = True
                if len(batch) < BATCH:
                    # A primary that has just been started or elected may not know yet what is a
                    # majority's; a URL of one member may lead to one that is no primary any more.
                    if self._position() >= self._start and database.client.is_primary:
                        self._cache.confirm(looked)  # (5)
                        if self._failing:
                            self._failing = False
                            _say("cache.stream_back", failures=self.counters.failures)
                    early = looked + SPACING - time.monotonic()
                    if batch and early > 0:
                        self._stop.wait(early)
                number = cursor["id"]

    def _position(self) -> int:
        """The moment up to which the stream has been read. Tokens begin with it: 82 for a time,
        then seconds and counter."""
        text = str((self._token or {}).get("_data", ""))
        try:
            return int(text[2:18], 16) if text.startswith("82") else 0
        except ValueError:
            return 0

    def _open(
        self, database: Database[dict[str, Any]], session: ClientSession
    ) -> Mapping[str, Any]:
        """(1) and (2)"""
        hello = self._command(database, {"hello": 1}, session)
        start = hello.get("operationTime")
        if not isinstance(start, Timestamp):
            raise _Lost("this MongoDB has no change streams: it must be a replica set")
        if not hello["isWritablePrimary"]:
            raise NotPrimaryError("the member that was asked is no primary")
        self._start = _moment(start)
        if self._start < self._newest:
            self._newest = 0
            raise _Lost("MongoDB's time went back: it has another history now")
        stream: dict[str, Any] = {}
        if self._token is not None:
            stream["resumeAfter"] = self._token
            self.counters.resumed += 1
        else:
            stream["startAtOperationTime"] = start
            self._cache.restart(self._start)
            self.counters.opened += 1
        command = {
            "aggregate": 1,
            "pipeline": [{"$changeStream": stream}, *_pipeline(list(self._entities))],
            "cursor": {"batchSize": BATCH},
        }
        cursor: Mapping[str, Any] = self._command(database, command, session)["cursor"]
        return cursor

    def _command(
        self, database: Database[dict[str, Any]], command: dict[str, Any], session: ClientSession
    ) -> Mapping[str, Any]:
        reply = database.command(command, session=session)
        self.cluster_time = reply.get("$clusterTime", self.cluster_time)
        return reply

    def _digest(self, events: Sequence[Document]) -> None:
        changes: list[Change] = []
        for event in events:
            self.counters.events += 1
            moment = _moment(event["clusterTime"])
            if event["operationType"] in _WRITES:
                entity = self._entities.get(event["ns"]["coll"])
                key = event["documentKey"]["_id"]
                if entity is not None and isinstance(key, str):
                    changes.append(_change(event, entity, key, moment))
                continue
            # A collection, or all of them, is gone or another one now; versions may begin anew.
            self._cache.apply(changes)
            changes = []
            self._cache.restart(moment)
            self.counters.dropped += 1
        if changes:
            self._cache.apply(changes)


def _pipeline(collections: list[str]) -> list[dict[str, Any]]:
    """What the server sends: changes of these collections, as little as possible of each."""
    mirrored = {"$in": collections}
    whole = {"operationType": {"$in": ["dropDatabase", "invalidate"]}}
    return [
        {"$match": {"$or": [{"ns.coll": mirrored}, {"to.coll": mirrored}, whole]}},
        {
            "$project": {
                "operationType": 1,
                "ns.coll": 1,
                "documentKey._id": 1,
                "clusterTime": 1,
                "v": {"$ifNull": ["$fullDocument._v", "$updateDescription.updatedFields._v"]},
            }
        },
    ]


def _change(event: Document, entity: str, key: str, moment: int) -> Change:
    """What one write means. An insert, or an update of the version, is a new version. An update
    that leaves the version as it is and a replacement may be a repair in the same version."""
    version = event.get("v")
    if not isinstance(version, int) or event["operationType"] == "delete":
        return Change(entity, key, NEVER, moment, True)
    return Change(entity, key, version, moment, event["operationType"] == "replace")


def _say(what: str, **more: Any) -> None:
    # Standard error may be closed; that must not end the thread.
    with contextlib.suppress(OSError, ValueError):
        log.warning(what, **more)


def _moment(timestamp: Timestamp) -> int:
    return timestamp.time << 32 | timestamp.inc
