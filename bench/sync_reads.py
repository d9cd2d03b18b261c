"""How fast a page gets a document: the parts of `bench.sync` that read.

Each way is a process of its own, new in each round, that reads the same documents in the same
order and uses one field of each. The sum of that field is checked, so that nobody can be fast by
handing out something else.
"""

from __future__ import annotations

import contextlib
import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bson
from pymemcache.client.base import PooledClient
from pymongo import MongoClient
from pymongo.collection import Collection

from bench.queue_programs import Program, running
from bench.report import BenchmarkFailed
from bench.sync_forge import SYNC
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.mongodb import connect
from bridge.sync.store import Store
from stack.errors import TimedOut
from stack.memcached import Memcached
from stack.waiting import wait_for

__all__ = [
    "DOCUMENTS",
    "READS",
    "Reads",
    "check_follows",
    "check_sum",
    "megabytes",
    "settings_for",
]

DOCUMENTS = 10_000
READS = {
    "cache": 300_000,
    "memcached": 10_000,
    "cache_zipf": 300_000,
    "memcached_zipf": 10_000,
    "find_one": 3000,
    "store_uncached": 3000,
}
"""Ways to read, and how many documents each reads in a round for each second of load. Every
document is read as often as any other; with `_zipf` as pages of sites are, few often and most
seldom."""
SEED = 7
FILLED = 60.0
"""Seconds in which a cache must hold what has been read."""
FRESH = 5.0
"""Seconds in which a cache that follows must show a write, on however busy a machine."""

Work = Callable[[], Any]


@dataclass(frozen=True)
class Reads:
    """The documents of `projects` in a MongoDB, and the same in a memcached."""

    mongodb_url: str
    memcached: Memcached
    projects: Sequence[Event]

    @property
    def keys(self) -> list[str]:
        """The keys that are read."""
        return [event.key for event in self.projects]

    def prepare(self) -> None:
        """Give memcached what MongoDB holds, document for document. Raises BenchmarkFailed."""
        with (
            connect(self.mongodb_url) as client,
            contextlib.closing(_memcached(self.memcached.port)) as cache,
        ):
            found = client.get_default_database()["projects"].find({"_id": {"$in": self.keys}})
            documents = {document["_id"]: document for document in found}
            for key, document in documents.items():
                cache.set(_name(key), document, noreply=False)
            for key in self.keys:
                if cache.get(_name(key)) != documents.get(key):
                    raise BenchmarkFailed(f"memcached has another {key} than MongoDB")

    def measure(self, way: str, seconds: int) -> tuple[float, float]:
        """µs of one read, by the clock and of the reader's own processor time. Raises
        BenchmarkFailed."""
        main = WAYS[way.removesuffix("_zipf")]
        place = self.memcached.port if main is from_memcached else self.mongodb_url
        order = order_of(self.keys, READS[way] * seconds, zipf=way.endswith("_zipf"))
        more = [self.projects[0]] if main is cached else []
        with running(Program(main, place, self.keys, order, *more)) as [reader]:
            reader.go()
            micros, cpu, total = reader.result()
        downloads = {event.key: (event.data or {})["downloads"] for event in self.projects}
        check_sum(way, total, downloads, order)
        return float(micros), float(cpu)


def check_sum(what: str, total: int, downloads: Mapping[str, int], order: Sequence[str]) -> None:
    """Raises BenchmarkFailed unless `total` is that of the documents that were to be read."""
    if total != (wanted := sum(downloads[key] for key in order)):
        raise BenchmarkFailed(f"{what}: what was read adds up to {total}, not to {wanted}")


def megabytes(mongodb_url: str, keys: Sequence[str]) -> float:
    """MB of memory that a process needs more when all of `keys` are in its cache.

    Raises BenchmarkFailed when the cache does not hold them all.
    """
    sizes = []
    for some in (keys[:1], keys):
        with running(Program(resident, mongodb_url, some)) as [program]:
            program.go()
            sizes.append(program.result())
    return float(sizes[1] - sizes[0]) / 1e6


def settings_for(mongodb_url: str) -> Settings:
    """Those of a process that only reads."""
    return Settings(
        routes=Path(),
        broker_url="",
        mongodb_url=mongodb_url,
        state_dir=Path(),
        sync=SYNC,
    )


@contextlib.contextmanager
def cached(
    mongodb_url: str, keys: Sequence[str], order: Sequence[str], edited: Event
) -> Iterator[Work]:
    """Store.get of documents that are in its cache, which follows MongoDB all the time.

    edited: one of them, of which a new version is written at the end, to be seen.
    """
    with contextlib.closing(Store(settings_for(mongodb_url))) as store:
        _fill(store, keys)
        before = store.stats()

        def work() -> tuple[float, float, int]:
            found = _timed(store.get, order)
            after = store.stats()
            if after.misses != before.misses:
                raise BenchmarkFailed("not all of the documents were in the cache")
            check_follows(store, mongodb_url, edited)
            return found

        yield work


@contextlib.contextmanager
def uncached(mongodb_url: str, keys: Sequence[str], order: Sequence[str]) -> Iterator[Work]:
    """Store.get without a cache."""
    with contextlib.closing(Store(settings_for(mongodb_url), cache=None)) as store:
        store.get("project", keys[0])
        yield lambda: _timed(store.get, order)


@contextlib.contextmanager
def find_one(mongodb_url: str, keys: Sequence[str], order: Sequence[str]) -> Iterator[Work]:
    """PyMongo alone, as a page without the bridge would read."""
    client: MongoClient[dict[str, Any]]
    with MongoClient(mongodb_url) as client:
        collection: Collection[dict[str, Any]] = client.get_default_database()["projects"]
        collection.find_one({"_id": keys[0]})
        yield lambda: _timed(lambda _, key: collection.find_one({"_id": key}), order)


@contextlib.contextmanager
def from_memcached(port: int, keys: Sequence[str], order: Sequence[str]) -> Iterator[Work]:
    """pymemcache on the same machine, with a client that threads may share."""
    with contextlib.closing(_memcached(port)) as client:
        client.get(_name(keys[0]))
        yield lambda: _timed(lambda _, key: client.get(_name(key)), order)


WAYS: Mapping[str, Callable[..., contextlib.AbstractContextManager[Work]]] = {
    "cache": cached,
    "store_uncached": uncached,
    "find_one": find_one,
    "memcached": from_memcached,
}


@contextlib.contextmanager
def resident(mongodb_url: str, keys: Sequence[str]) -> Iterator[Work]:
    """Bytes of this process when the documents are in its cache."""
    with contextlib.closing(Store(settings_for(mongodb_url))) as store:

        def work() -> int:
            _fill(store, keys)
            gc.collect()
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
            raise BenchmarkFailed("/proc/self/status has no VmRSS")

        yield work


def _timed(get: Callable[[str, str], Any], order: Sequence[str]) -> tuple[float, float, int]:
    """µs a read by the clock, µs of this process's processor time, and the sum of what was read.

    get: called with entity and key, so that Store.get needs nothing around it: half a microsecond
    would show that.
    """
    total = 0
    begin, used = time.perf_counter_ns(), time.process_time_ns()
    for key in order:
        total += get("project", key)["downloads"]
    used, took = time.process_time_ns() - used, time.perf_counter_ns() - begin
    return took / 1000 / len(order), used / 1000 / len(order), total


def order_of(keys: Sequence[str], count: int, *, zipf: bool = False) -> list[str]:
    """Which documents are read, one after the other; the same for every way.

    zipf: the n-th most read one is read 1/n as often as the first; which it is, is chance.
    """
    chance = random.Random(SEED)
    if not zipf:
        return chance.choices(keys, k=count)
    ranks = [1 / rank for rank in range(1, len(keys) + 1)]
    return chance.choices(chance.sample(keys, len(keys)), weights=ranks, k=count)


def _fill(store: Store, keys: Sequence[str]) -> None:
    """Read all of them until all are cached: until it follows, a cache keeps nothing.

    Raises BenchmarkFailed.
    """

    def filled() -> bool:
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            if len(store.get_many("project", some)) != len(some):
                raise BenchmarkFailed("MongoDB does not hold the documents")
        return store.stats().entries == len(keys)

    try:
        wait_for(filled, FILLED, interval=0.1)
    except TimedOut:
        text = f"the cache has {store.stats().entries} of {len(keys)} documents"
        raise BenchmarkFailed(f"{text} after {FILLED:g} s") from None


def check_follows(store: Store, mongodb_url: str, event: Event) -> None:
    """Raises BenchmarkFailed unless the cache sees a write soon: one that does not follow is
    fast and worth nothing."""
    key, mirror = event.key, Mirror.of(settings_for(mongodb_url))
    version = (store.get("project", key) or {})["_v"] + 1
    with connect(mongodb_url) as client:
        newer = [replace(event, version=version)]
        if apply(client.get_default_database(), mirror, newer).written != 1:
            raise BenchmarkFailed(f"{key} could not be written")
    try:
        wait_for(lambda: (store.get("project", key) or {}).get("_v") == version, FRESH)
    except TimedOut:
        raise BenchmarkFailed(f"the cache did not see a write within {FRESH:g} s") from None


class _Bson:
    """What pymemcache calls for values: documents as BSON, as MongoDB has them."""

    def serialize(self, key: object, value: dict[str, Any]) -> tuple[bytes, int]:
        return bson.encode(value), 1

    def deserialize(self, key: object, value: bytes, flags: int) -> dict[str, Any]:
        return bson.decode(value)


def _memcached(port: int) -> Any:
    # Handlers run on threads, and a Client is for one of them alone; a Store is for all.
    return PooledClient(("127.0.0.1", port), serde=_Bson(), no_delay=True)


def _name(key: str) -> str:
    return f"project/{key}"
