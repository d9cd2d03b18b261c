"""Looks at MongoDB's primary for what visitors wrote: the eyes of `bridge.sync.freshness.Gate`.

Short reads by `_id` of what a majority holds, with a time limit for each look: somebody waits
for the page. The decision what to do without an answer is the gate's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import structlog
from pymongo import ReadPreference
from pymongo.collection import Collection as MongoCollection
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from bridge.errors import BridgeError, ServerAway
from bridge.files import write_atomically
from bridge.settings import Settings
from bridge.sync import entities as syncfile
from bridge.sync.freshness import Entry, Gate, Keys
from bridge.sync.gtid import Gtid
from bridge.sync.models import File
from bridge.sync.mongodb import as_outage, connect
from bridge.sync.reached import LOG, Applied

__all__ = ["Probe", "gate_of", "gated_entities", "kept_gate", "logged_entities"]

log = structlog.get_logger("bridge.freshness")

_LIMIT = 0.3  # seconds for one look
_SILENT = 30_000  # ms after which whoever reads the log is gone; it says something every 3 s

Document = dict[str, Any]


def gate_of(settings: Settings, keep: Path | None = None) -> Gate:
    """The gate of `settings.freshness_keys` for the mirror that sync.yaml describes; it connects
    when it is first needed. What it needs of sync.yaml is kept in the file `keep`. Raises
    ConfigError for sync.yaml."""
    file = syncfile.load(settings.sync)
    collections, entities = _collections(file), gated_entities(file)
    of_log = logged_entities(file)
    if keep is not None:
        names = {name: sorted(children) for name, children in entities.items()}
        kept = {"collections": collections, "entities": names, "log": sorted(of_log)}
        try:
            write_atomically(keep, json.dumps(kept))
        except OSError as error:
            log.warning("cannot keep what is mirrored", error=str(error))
    return _gate(settings, collections, entities, of_log)


def kept_gate(settings: Settings, kept: Path) -> Gate | None:
    """The gate as `gate_of` has kept it, None where it has not."""
    try:
        raw = json.loads(kept.read_text(encoding="utf-8"))
        entities = {name: frozenset(children) for name, children in raw["entities"].items()}
        # Whoever knew nothing of the log has kept nothing of it.
        return _gate(settings, dict(raw["collections"]), entities, raw.get("log", ()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _gate(
    settings: Settings,
    collections: Mapping[str, str],
    entities: Mapping[str, frozenset[str]],
    of_log: Iterable[str],
) -> Gate:
    probe = Probe(settings.mongodb_url, collections, of_log)
    keys = Keys(settings.freshness_keys)
    return Gate(keys, probe, entities, log=probe.of_log, look_at_log=probe.applied)


def _collections(file: File) -> dict[str, str]:
    return {name: entity.collection for name, entity in file.entities.items()}


def gated_entities(file: File) -> dict[str, frozenset[str]]:
    """The entities that events are about, and the children of each. Children have no events."""
    children = {
        name: frozenset(child.entity for child in entity.children.values())
        for name, entity in file.entities.items()
    }
    of_others = frozenset[str]().union(*children.values())
    return {name: mine for name, mine in children.items() if name not in of_others}


def logged_entities(file: File) -> frozenset[str]:
    """The entities whose changes and versions come from the database's own log."""
    sources = {name: entity.source for name, entity in file.entities.items()}
    return frozenset(name for name, source in sources.items() if source and source.log is True)


class Probe:
    """Asks the MongoDB of `url` which entries it holds. For many threads.

    where: sync.yaml, or the collection of each entity.
    of_log: which of them come from the log, where `where` does not say it.
    limit: seconds that one look may take.
    """

    def __init__(
        self,
        url: str,
        where: File | Mapping[str, str],
        of_log: Iterable[str] = (),
        *,
        limit: float = _LIMIT,
    ) -> None:
        self._url, self._limit = url, limit
        self._collections = _collections(where) if isinstance(where, File) else where
        self.of_log = logged_entities(where) if isinstance(where, File) else frozenset(of_log)
        # Of each entity one name, however much is kept of it.
        names = [f"{kind}.{name}.since" for kind in ("dirty", "stopped") for name in self.of_log]
        fields = ["position.gtid", "position.epoch", "follows", "problem", *names]
        silent = {"$not": {"$lt": [{"$subtract": ["$$NOW", "$beat"]}, _SILENT]}}
        never = {"$eq": [{"$type": "$beat"}, "missing"]}
        self._fields = {**dict.fromkeys(fields, 1), "silent": {"$or": [never, silent]}}
        self._lock = threading.Lock()
        self._database: Database[Document] | None = None

    def __call__(self, entries: Sequence[Entry]) -> set[Entry]:
        """Those that a majority holds. Raises ServerAway."""
        found: set[Entry] = set()
        with self._looking():
            for entity in {entry.entity for entry in entries}:
                asked = [entry for entry in entries if entry.entity == entity]
                versions = self._versions(entity, [entry.key for entry in asked])
                for entry in asked:
                    if versions.get(entry.key, -1) >= entry.version:
                        found.add(entry)
        return found

    def applied(self) -> Applied:
        """How far a majority has come with the log. Raises ServerAway."""
        with self._looking():
            found = self._collection(syncfile.STATE).find_one({"_id": LOG}, self._fields) or {}
            # Where nobody reads on, it may be that the log is another one.
            reads = not (found.get("problem") or found.get("silent"))
            position = (found.get("position") or {}) if reads else {}
            dirty, stopped = (
                frozenset(name for name, one in (found.get(kind) or {}).items() if one)
                for kind in ("dirty", "stopped")
            )
            # The position says nothing of an entity whose changes are not applied yet.
            stopped |= self.of_log.difference(found.get("follows") or ())
            gtid = Gtid.parse(str(position.get("gtid") or ""))
            return Applied(gtid, int(position.get("epoch") or 0), dirty, stopped)

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Inside, all that goes wrong is ServerAway, a wrong URL too: legacy can answer."""
        try:
            with pymongo.timeout(self._limit):
                yield
        except (PyMongoError, BridgeError) as error:
            gone = as_outage(error) if isinstance(error, PyMongoError) else ServerAway(str(error))
            log.warning("freshness.look_failed", cause=str(gone))
            raise gone from error

    def close(self) -> None:
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.client.close()

    def _versions(self, entity: str, keys: Sequence[str]) -> Mapping[str, int]:
        collection = self._collection(self._collections[entity])
        documents = collection.find({"_id": {"$in": list(keys)}}, {"_v": 1})
        return {
            document["_id"]: document["_v"]
            for document in documents
            if isinstance(document.get("_v"), int)
        }

    def _collection(self, name: str) -> MongoCollection[Document]:
        database = self._database
        if database is None:
            with self._lock:
                database = self._database
                if database is None:
                    client = connect(self._url, patience=self._limit, answer=self._limit)
                    database = self._database = client.get_default_database()
        return database.get_collection(
            name,
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
        )
