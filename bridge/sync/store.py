"""What handlers read the mirror with: from this process's memory, or else from MongoDB.

    store = Store.from_environ()
    project = store.get("project", "apache2")          # None when there is none
    newest = store.find("release", {"project": "apache2"}, sort=["-published"], limit=10)

Documents are read-only mappings with `_id`, `_v` (the version) and the site's own fields; deleted
ones are never seen. Once this process has heard of a version, it never shows an older one. What is
cached is at most `bound` seconds (2 s) behind MongoDB's majority, whatever fails. To the visitor
who made an edit it is shown at once (`bridge.sync.freshness`), or legacy answers.

The steps of `get`: (1) the cache, (2) what this visitor wrote, (3) one read for all who ask,
(4) from the primary, when what came is older than what was heard.

Of an entity that comes from the database's log nobody knows which documents a visitor wrote, only
how far the log went (`Wanted.end`). Once MongoDB has come so far, memory counts for this visitor as
soon as the change stream was looked at after that moment; until then the primary is read.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from time import monotonic
from types import EllipsisType
from typing import Any, NamedTuple

from bridge import counts as counted
from bridge import shadow
from bridge.errors import BridgeError, ServerAway, UseLegacy
from bridge.reasons import Reason
from bridge.settings import Settings
from bridge.sync import freshness
from bridge.sync.cache.flights import Flights
from bridge.sync.cache.follower import Follower
from bridge.sync.cache.frozen import NEVER, Document, Frozen, freeze
from bridge.sync.cache.memory import Cache, Fill, Stats
from bridge.sync.documents import Mirror
from bridge.sync.freshness import Gate, Keys, Wanted
from bridge.sync.models import Entity
from bridge.sync.probe import Probe, gated_entities
from bridge.sync.queries import query
from bridge.sync.reads import NEWEST, Reads

__all__ = ["Store"]

PAUSE = 0.005
"""Seconds before a primary is asked again that does not have yet what was heard."""

_wanted = freshness.wanted.get


class _Running(NamedTuple):
    """What a store has in the process that uses it."""

    reads: Reads
    follower: Follower | None
    gate: Gate
    probe: Probe


class Store:
    """Reads of the mirror, for all threads of a process; one for each process is enough.

    cache: another one than the default, or None for none.
    read_preference: PyMongo's name of it.
    max_staleness: seconds that a secondary may be behind, 90 at least.
    patience: seconds that a read waits for MongoDB, at most.

    It connects with the first read that memory cannot answer, and anew in a forked child.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        mirror: Mirror | None = None,
        cache: Cache | EllipsisType | None = ...,
        read_preference: str = "nearest",
        max_staleness: float = 90.0,
        patience: float = 0.3,
    ) -> None:
        self._settings = Settings.from_environ() if settings is None else settings
        self._mirror = mirror
        self._follows = cache is not None
        # Without a follower nothing confirms it, so it keeps nothing.
        self._cache = cache if isinstance(cache, Cache) else Cache()
        self._preference, self._max_staleness = read_preference, max_staleness
        self._patience = patience
        self._now: _Running | None = None
        self._starting = threading.Lock()
        self._flights: Flights[tuple[Fill, Frozen]] = Flights()
        _stores.add(self)

    @classmethod
    def from_environ(cls) -> Store:
        """That of the BRIDGE_* environment."""
        return cls(Settings.from_environ())

    def __repr__(self) -> str:
        return f"<Store: {self._cache!r}>"

    def get(self, entity: str, key: str) -> Document | None:
        """The document of this key, None when there is none. Raises ServerAway, BridgeError for an
        entity that sync.yaml does not have, and UseLegacy("freshness") when the visitor's own edit
        is not there in time."""
        want = _wanted()
        if want is None:  # (1), in these lines and no call: it is what nearly every read does
            cache = self._cache
            until = cache.until  # before the entry: see bridge.sync.cache.memory
            try:
                entry = cache.shelves[entity].get(key)
            except KeyError:
                entry = None
            if entry is not None:
                now = monotonic()
                if now < until and now < entry.expires:
                    entry.used = True
                    cache.hits += 1
                    document = entry.document
                    if document is None:
                        cache.negative_hits += 1
                    return document
            return self._miss(entity, key).document
        document = self._visitors(want, entity, key)
        shadow.read(entity, key, _version(document))
        return document

    def get_many(self, entity: str, keys: Sequence[str]) -> dict[str, Document]:
        """The documents of those keys that there are, in the order of `keys`; what is not cached
        comes with one query. Raises as `get`."""
        self._entity(entity)
        cache, found = self._cache, dict[str, Document | None]()
        missing: list[str] = []
        want = _wanted()
        heard = want is None or self._has_heard(want, entity)
        for key in dict.fromkeys(keys):
            if want is not None and self._least(want, entity, key) != NEVER:
                found[key] = self._visitors(want, entity, key)
                continue
            if not heard or (entry := cache.get(entity, key)) is None:
                missing.append(key)
                continue
            found[key] = entry.document
            cache.hits += 1
            cache.negative_hits += entry.document is None
        if missing:
            found |= self._fill_many(entity, missing, newest=not heard)
        if want is not None:
            for key, document in found.items():
                shadow.read(entity, key, _version(document))
        return {key: document for key in keys if (document := found[key]) is not None}

    def find(
        self,
        entity: str,
        where: Mapping[str, Any],
        *,
        sort: Sequence[str] = (),
        skip: int = 0,
        limit: int = 100,
        fields: Sequence[str] = (),
    ) -> list[Document]:
        """The documents that `where` describes, always from MongoDB.

        where: field to a value, {"$in": [...]}, or a range ({"$gte": a, "$lt": b}). An index of
            sync.yaml, or that of `_id`, must answer it.
        sort: fields; `-` in front is descending.
        fields: those that come besides `_id` and `_v`; () is all.

        Raises as `get`, and BridgeError with the index to declare.
        """
        declared = [index.keys for index in self._entity(entity).indexes]
        if entity in self._the_mirror.parent_of:
            declared.append([("_parent", 1), ("_v", 1)])
        asked = query(entity, declared, where, sort, skip, limit, fields)
        collection = self._entity(entity).collection
        running = self._running()
        want = _wanted()
        heard = want is None or self._has_heard(want, entity)
        primary = want is not None and self._ensure(want, entity, running)
        moment = self._moment(self._cache.moment(entity)) if heard else NEWEST
        found = running.reads.find(collection, asked, moment, primary=primary)
        documents = [document for raw in found if (document := freeze(raw).document) is not None]
        if want is not None:
            for document in documents:
                shadow.read(entity, document["_id"], _version(document))
        return documents

    def stats(self) -> Stats:
        """Counts of this process; what the cache does, and what it holds."""
        return self._cache.stats()

    def close(self) -> None:
        """Close this process's connections; the next read opens new ones."""
        with self._starting:
            running, self._now = self._now, None
        if running is not None:
            if running.follower is not None:
                running.follower.stop()
            running.reads.close()
            running.probe.close()
            self._cache.restart(0)

    # (2)

    def _visitors(self, want: Wanted, entity: str, key: str) -> Document | None:
        least = self._least(want, entity, key)
        heard = self._has_heard(want, entity)
        entry = self._cache.get(entity, key) if heard else None
        if entry is not None and entry.version >= least:
            self._cache.hits += 1
            self._cache.negative_hits += entry.document is None
            if least != NEVER and key in want.of(entity):
                want.note(entity, key, "at_once")
            return entry.document
        if least == NEVER and heard:
            return self._miss(entity, key).document
        self._ensure(want, entity, self._running())
        found = self._primary(entity, key, newest=not heard)
        if least != NEVER and found.version < (want.version(entity, key) or 0):
            raise UseLegacy(Reason.FRESHNESS)
        return found.document

    def _least(self, want: Wanted, entity: str, key: str) -> int:
        """The version that the visitor must see at least, NEVER where any will do. A child has
        the version of its parent."""
        least = want.version(entity, key)
        found = NEVER if least is None else least
        if (parent := self._the_mirror.parent_of.get(entity)) is not None:
            for name, version in want.of(parent).items():
                if key.startswith(f"{name}/"):
                    found = max(found, version)
        return found

    def _has_heard(self, want: Wanted, entity: str) -> bool:
        """Whether memory knows everything of an entity up to the end of the log that the visitor
        must see. Waits until MongoDB has come so far. Raises UseLegacy."""
        if want.end is None or entity not in (running := self._running()).gate.log:
            return True
        since = want.since(entity)
        if since is None:
            if not running.gate.ensure(want, [entity]):
                raise UseLegacy(Reason.FRESHNESS)
            since = want.since(entity)
            assert since is not None
        return self._cache.looked >= since

    def _ensure(self, want: Wanted, entity: str, running: _Running) -> bool:
        """Wait until MongoDB holds what the visitor wrote of this entity or its parent. Whether
        there was something. Raises UseLegacy."""
        parent = self._the_mirror.parent_of.get(entity, "")
        if not want.of(entity) and not want.of(parent):
            return False
        if not running.gate.ensure(want, [entity]):
            raise UseLegacy(Reason.FRESHNESS)
        return True

    # (3)

    def _miss(self, entity: str, key: str) -> Frozen:
        self._entity(entity)
        self._cache.misses += 1
        read = partial(self._fill, entity, key)
        answer, ours = self._flights.join((entity, key), read, self._patience)
        if answer is None:
            raise ServerAway(f"MongoDB did not answer within {self._patience:g} s")
        fill, found = answer
        if ours or self._cache.admits(fill, found.version):
            return found
        # While we waited for another's read, something newer was heard.
        return self._fill(entity, key)[1]

    def _fill(self, entity: str, key: str) -> tuple[Fill, Frozen]:
        running = self._running()
        collection = self._entity(entity).collection
        fill = self._cache.begin(entity, key)
        found = freeze(running.reads.one(collection, key, self._moment(fill.moment)))
        if self._cache.admits(fill, found.version):
            self._cache.keep(fill, found)
            return fill, found
        return self._primary_fill(entity, key)

    def _fill_many(
        self, entity: str, keys: Sequence[str], *, newest: bool = False
    ) -> dict[str, Document | None]:
        cache, running = self._cache, self._running()
        collection = self._entity(entity).collection
        cache.misses += len(keys)
        fills = cache.begin_many(entity, keys)
        moment = NEWEST if newest else self._moment(max(fill.moment for fill in fills))
        raws = running.reads.many(collection, keys, moment)
        found: dict[str, Document | None] = {}
        for key, fill in zip(keys, fills, strict=True):
            frozen = freeze(raws.get(key))
            if cache.admits(fill, frozen.version):
                cache.keep(fill, frozen)
            else:
                frozen = self._primary(entity, key, newest=newest)
            found[key] = frozen.document
        return found

    def _moment(self, heard: int) -> int:
        """How new an answer has to be: as what was heard, if all was heard that there is."""
        return NEWEST if self._follows and monotonic() >= self._cache.until else heard

    # (4)

    def _primary(self, entity: str, key: str, *, newest: bool = False) -> Frozen:
        return self._primary_fill(entity, key, newest=newest)[1]

    def _primary_fill(self, entity: str, key: str, *, newest: bool = False) -> tuple[Fill, Frozen]:
        """What the primary has, which is not older than what was heard before it was asked; but
        while it is asked, something newer may be heard. newest: it has all that a majority
        holds now, whatever was heard."""
        running = self._running()
        collection = self._entity(entity).collection
        deadline = monotonic() + self._patience
        while True:
            fill = self._cache.begin(entity, key, newest=True)
            moment = NEWEST if newest else self._moment(fill.moment)
            raw = running.reads.one(collection, key, moment, primary=True)
            found = freeze(raw)
            if self._cache.admits(fill, found.version):
                self._cache.keep(fill, found)
                return fill, found
            if monotonic() >= deadline:
                text = f"of {entity} {key[:100]} MongoDB has an older version than it announced"
                raise ServerAway(text)
            time.sleep(PAUSE)

    # What there is in this process.

    @property
    def _the_mirror(self) -> Mirror:
        if self._mirror is None:
            self._mirror = Mirror.of(self._settings)
        return self._mirror

    def _entity(self, name: str) -> Entity:
        entities = self._the_mirror.entities
        try:
            return entities[name]
        except KeyError:
            known = ", ".join(sorted(entities)) or "none"
            text = f"sync.yaml has no entity {name}; it has: {known}"
            raise BridgeError(text) from None

    def _running(self) -> _Running:
        running = self._now
        if running is None:
            with self._starting:
                running = self._now
                if running is None:
                    running = self._now = self._start()
        return running

    def _start(self) -> _Running:
        url, mirror, cache = self._settings.mongodb_url, self._the_mirror, self._cache
        follower: Follower | None = None
        reads = Reads(
            url,
            preference=self._preference,
            max_staleness=self._max_staleness,
            patience=self._patience,
            cluster_time=lambda: follower.cluster_time if follower is not None else None,
        )
        if self._follows:
            names = {entity.collection: name for name, entity in mirror.entities.items()}
            follower = Follower(url, names, cache)
            follower.start()
            freshness.offer(cache)
        probe = Probe(url, mirror.file, limit=self._patience)
        gate = Gate(
            Keys(()),
            probe,
            gated_entities(mirror.file),
            log=probe.of_log,
            look_at_log=probe.applied,
            watch=lambda: cache if follower is not None else None,
        )
        return _Running(reads, follower, gate, probe)

    def _after_fork(self) -> None:
        """Connections, threads and locks are the parent's; the child begins without."""
        if self._now is not None:
            # Not closed, which would end the parent's, and not freed, which would warn.
            _of_parents.append(self._now)
        self._now = None
        self._starting = threading.Lock()
        self._flights = Flights()
        self._cache.after_fork()


def _version(document: Document | None) -> int | None:
    return None if document is None else document.get("_v")


_stores: weakref.WeakSet[Store] = weakref.WeakSet()
_of_parents: list[object] = []


def _forked() -> None:
    for store in list(_stores):
        store._after_fork()


def _counts() -> Counter[str]:
    """What the caches of this process have done and hold, together."""
    counts: Counter[str] = Counter()
    for store in list(_stores):
        counts.update(dataclasses.asdict(store.stats()))
    return counts


def _close_all() -> None:
    for store in list(_stores):
        store.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_close_all)
counted.offer("cache", _counts)
