"""Looks at MongoDB's primary for what visitors wrote: the eyes of `bridge.sync.freshness.Gate`.

Short reads by `_id` of what a majority holds, with a time limit for each look: somebody waits
for the page. The decision what to do without an answer is the gate's.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pymongo
import structlog
from pymongo import ReadPreference
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from bridge.errors import BridgeError, ServerAway
from bridge.settings import Settings
from bridge.sync import entities as syncfile
from bridge.sync.freshness import Entry, Gate, Keys
from bridge.sync.models import File
from bridge.sync.mongodb import away, connect

__all__ = ["Probe", "gate_of", "gated_entities"]

log = structlog.get_logger("bridge.freshness")

_LIMIT = 0.3  # seconds for one look

Document = dict[str, Any]


def gate_of(settings: Settings) -> Gate:
    """The gate of `settings.freshness_keys` for the mirror that sync.yaml describes; it connects
    when it is first needed.

    Raises ConfigError for sync.yaml.
    """
    file = syncfile.load(settings.sync)
    return Gate(
        Keys(settings.freshness_keys), Probe(settings.mongodb_url, file), gated_entities(file)
    )


def gated_entities(file: File) -> dict[str, frozenset[str]]:
    """The entities that events are about, and the children of each. Children have no events."""
    children = {
        name: frozenset(child.entity for child in entity.children.values())
        for name, entity in file.entities.items()
    }
    of_others = frozenset[str]().union(*children.values())
    return {name: mine for name, mine in children.items() if name not in of_others}


class Probe:
    """Asks the MongoDB of `url` which entries it holds; `file` says where. For many threads."""

    def __init__(self, url: str, file: File, *, limit: float = _LIMIT) -> None:
        """limit: seconds that one look may take."""
        self._url, self._limit = url, limit
        self._collections = {name: entity.collection for name, entity in file.entities.items()}
        self._lock = threading.Lock()
        self._database: Database[Document] | None = None

    def __call__(self, entries: Sequence[Entry]) -> set[Entry]:
        """Those that a majority holds. Raises ServerAway."""
        found: set[Entry] = set()
        try:
            with pymongo.timeout(self._limit):
                for entity in {entry.entity for entry in entries}:
                    asked = [entry for entry in entries if entry.entity == entity]
                    versions = self._versions(entity, [entry.key for entry in asked])
                    for entry in asked:
                        if versions.get(entry.key, -1) >= entry.version:
                            found.add(entry)
        except (PyMongoError, BridgeError) as error:  # a wrong URL too: legacy can answer
            gone = away(error) if isinstance(error, PyMongoError) else ServerAway(str(error))
            log.warning("freshness.look_failed", cause=str(gone))
            raise gone from error
        return found

    def close(self) -> None:
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.client.close()

    def _versions(self, entity: str, keys: Sequence[str]) -> Mapping[str, int]:
        documents = self._collection(entity).find({"_id": {"$in": list(keys)}}, {"_v": 1})
        return {
            document["_id"]: document["_v"]
            for document in documents
            if isinstance(document.get("_v"), int)
        }

    def _collection(self, entity: str) -> MongoCollection[Document]:
        database = self._database
        if database is None:
            with self._lock:
                database = self._database
                if database is None:
                    client = connect(self._url, patience=self._limit, answer=self._limit)
                    database = self._database = client.get_default_database()
        return database.get_collection(
            self._collections[entity],
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )
