"""Readers in several processes, a writer, and everything between them failing: nothing stale.

Two promises, checked on each value that a reader is given. (1) It is not older than what its
process had heard of the key before it asked. (2) Nothing newer was held by MongoDB's majority for
`bound` seconds or longer when the reader asked. The second compares the moment at which the
writer had the acknowledgement of a newer version with the moment at which the reader called; both
are of the machine's monotonic clock, so a slow machine needs no allowance.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BridgeError, ServerAway
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.apply import apply
from bridge.sync.cache.memory import Cache, Fill
from bridge.sync.store import Store
from stack.mongod import Mongod
from stack.waiting import wait_for
from tests.minimal_sync import mirror_of
from tests.sync.link import Link

KEYS = [f"k{number}" for number in range(8)]
BOUND = 0.8
DELETED_EVERY = 7
"""Versions that are a deletion."""
NEVER_DELETED = 10**9


class Endless(Cache):
    """Counts for ever what was confirmed once."""

    def confirm(self, looked: float) -> None:
        super().confirm(looked)
        self.until = math.inf


class WithoutFloors(Cache):
    """Takes whatever was read."""

    def _admits(self, fill: Fill, version: int) -> bool:
        return True


@dataclass
class Seen:
    """What the threads of one process were given. last: (key, version) to the last moment at
    which `get` was called and gave it. gone: the last call of each run of Nones, as (key, called,
    returned). older: breaches of the first promise."""

    last: dict[tuple[str, int], float] = field(default_factory=dict)
    gone: list[tuple[str, float, float]] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    gets: int = 0
    hits: int = 0
    away: int = 0


def read(url: str, folder: Path, kind: type[Cache], ready: Any, stop: Any, results: Any) -> None:
    """A process of readers."""
    settings = Settings(folder / "routes.yaml", "", url, folder, sync=folder / "sync.yaml")
    store = Store(settings, cache=kind(bound=BOUND), patience=0.2)
    answer_late(store)
    seen = [Seen() for _ in range(3)]
    threads = [threading.Thread(target=read_on, args=(store, one, stop)) for one in seen]
    for thread in threads:
        thread.start()
    wait_for(lambda: store.stats().hits, what="a hit")
    ready.release()
    for thread in threads:
        thread.join()
    seen[0].hits = store.stats().hits
    results.put(seen)
    store.close()


def answer_late(store: Store) -> None:
    """Let some answers of MongoDB come so late that the next change overtakes them."""
    reads = store._running().reads
    real = reads.one
    numbers = itertools.count()

    def one(collection: str, key: str, *args: Any, **options: Any) -> Any:
        answer = real(collection, key, *args, **options)
        if next(numbers) % 5 == 0 and answer is not None:
            store._cache.wait("project", key, answer["_v"] + 1, 0.1)
        return answer

    reads.one = one  # type: ignore[method-assign]


def read_on(store: Store, seen: Seen, stop: Any) -> None:
    pause = threading.Event()
    runs: dict[str, tuple[float, float]] = {}  # of Nones: called, returned
    while not stop.is_set():
        for key in KEYS:
            heard = store._cache.knows("project", key) or -1
            called = time.monotonic()
            try:
                document = store.get("project", key)
            except ServerAway:
                seen.away += 1
                continue
            seen.gets += 1
            if document is None:
                runs[key] = called, time.monotonic()
                continue
            if (run := runs.pop(key, None)) is not None:
                seen.gone.append((key, *run))
            version = document["_v"]
            seen.last[key, version] = called
            if version < heard and len(seen.older) < 5:
                seen.older.append(f"{key}: given {version}, heard of {heard}")
        pause.wait(0.0005)
    seen.gone += [(key, *run) for key, run in runs.items()]


class Writer:
    """Raises versions of all keys, one by one, and notes when a majority has them."""

    def __init__(self, mongod: Mongod, folder: Path, deleted_every: int) -> None:
        self._deleted_every = deleted_every
        self.began: dict[tuple[str, int], float] = {}
        self.acknowledged: dict[tuple[str, int], float] = {}
        self._mirror = mirror_of(folder)
        self._client = mongod.client()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._error: BaseException | None = None

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self._client.close()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            version = 0
            while not self._stop.is_set():
                version += 1
                for key in KEYS:
                    self._write(key, version)
        except BaseException as error:
            self._error = error

    def _write(self, key: str, version: int) -> None:
        gone = version % self._deleted_every == 0
        data = None if gone else {"name": key, "version": version}
        event = Event("project", "deleted" if gone else "changed", key, version, data)
        self.began[key, version] = time.monotonic()
        while not self._stop.is_set():
            try:
                done = apply(self._client.get_default_database(), self._mirror, [event])
            except BridgeError:
                self._stop.wait(0.02)
                continue
            assert not done.failed
            self.acknowledged[key, version] = time.monotonic()
            return

    def stale(self, seen: Seen) -> float:
        """The longest time in seconds for which something newer was there already."""
        worst = 0.0
        for (key, version), called in seen.last.items():
            worst = max(worst, called - self._newer(key, version))
        for key, called, returned in seen.gone:
            # None was right until the version behind the last deletion that had begun.
            deletions = [
                version
                for (name, version), began in self.began.items()
                if name == key and version % self._deleted_every == 0 and began <= returned
            ]
            worst = max(worst, called - self._newer(key, max(deletions, default=0)))
        return worst

    def _newer(self, key: str, version: int) -> float:
        """When the next version was acknowledged, endlessly late when it was not."""
        return self.acknowledged.get((key, version + 1), math.inf)


@dataclass
class Site:
    """One MongoDB, reached by the readers through a link."""

    mongod: Mongod
    link: Link
    folder: Path


@pytest.fixture(scope="module")
def mongod_to_kill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    with Mongod(tmp_path_factory.mktemp("mongod_to_kill")) as mongod:
        yield mongod


@pytest.fixture
def site(mongod_to_kill: Mongod, tmp_path: Path) -> Iterator[Site]:
    mongod_to_kill.start()
    with mongod_to_kill.client() as client:
        client.drop_database("bridge")
    with Link(mongod_to_kill.port) as link:
        yield Site(mongod_to_kill, link, tmp_path)


def run(
    site: Site,
    kind: type[Cache],
    trouble: Callable[[Site, Writer], None],
    processes: int,
    deleted_every: int = DELETED_EVERY,
) -> tuple[Writer, list[Seen]]:
    """Readers and a writer while `trouble` happens; what they saw."""
    context = multiprocessing.get_context("spawn")
    ready, stop, results = context.Semaphore(0), context.Event(), context.Queue()
    with Writer(site.mongod, site.folder, deleted_every) as writer:
        wait_for(lambda: ("k7", 1) in writer.acknowledged, what="the first writes")
        readers = [
            context.Process(
                target=read,
                args=(site.link.url("bridge"), site.folder, kind, ready, stop, results),
            )
            for _ in range(processes)
        ]
        for reader in readers:
            reader.start()
        try:
            assert all(ready.acquire(timeout=30) for _ in readers)
            trouble(site, writer)
        finally:
            site.link.thaw()
            stop.set()
            found = [seen for _ in readers for seen in results.get(timeout=30)]
            for reader in readers:
                reader.join(10)
    return writer, found


def rounds(writer: Writer, count: int) -> None:
    """Let the writer get on by so many versions of every key."""
    reached = len(writer.acknowledged) + count * len(KEYS)
    wait_for(lambda: len(writer.acknowledged) >= reached, bound=30, what="more writes")


def pass_by(seconds: float) -> None:
    begin = time.monotonic()
    wait_for(lambda: time.monotonic() - begin > seconds, bound=60, what="time to pass")


def nothing(_: Site, writer: Writer) -> None:
    rounds(writer, 40)


def freeze_the_link(site: Site, writer: Writer) -> None:
    rounds(writer, 20)
    site.link.freeze()
    pass_by(1.5 * BOUND)
    rounds(writer, 2)
    site.link.thaw()
    rounds(writer, 10)


def cut_the_link(site: Site, writer: Writer) -> None:
    for _ in range(4):
        rounds(writer, 5)
        site.link.cut()


def stop_and_continue(site: Site, writer: Writer) -> None:
    site.mongod.signal(signal.SIGSTOP)
    pass_by(1.5 * BOUND)
    site.mongod.signal(signal.SIGCONT)
    rounds(writer, 10)


def kill_and_start(site: Site, writer: Writer) -> None:
    site.mongod.kill()
    site.mongod.start()
    rounds(writer, 20)


TROUBLES = [nothing, freeze_the_link, cut_the_link, stop_and_continue, kill_and_start]


def everything(site: Site, writer: Writer) -> None:
    for trouble in TROUBLES:
        trouble(site, writer)


def check(site: Site, trouble: Callable[[Site, Writer], None], processes: int) -> None:
    writer, found = run(site, Cache, trouble, processes)
    assert [breach for seen in found for breach in seen.older] == []
    worst = max(writer.stale(seen) for seen in found)
    print(
        f"{trouble.__name__}: {len(writer.acknowledged)} writes, "
        f"{sum(seen.gets for seen in found)} gets, {sum(seen.hits for seen in found)} hits, "
        f"{sum(seen.away for seen in found)} refused, stale for {worst * 1000:.1f} ms at most"
    )
    assert worst < BOUND
    assert sum(seen.hits for seen in found) > 0


def test_no_reader_is_given_anything_stale_whatever_fails(site: Site) -> None:
    check(site, everything, 2)


@pytest.mark.long
@pytest.mark.parametrize("trouble", [*TROUBLES, everything])
def test_no_reader_is_given_anything_stale_for_long(
    site: Site, trouble: Callable[[Site, Writer], None]
) -> None:
    def often(site: Site, writer: Writer) -> None:
        for _ in range(5):
            trouble(site, writer)

    often.__name__ = f"5 x {trouble.__name__}"
    check(site, often, 3)


@pytest.mark.long
def test_a_cache_that_trusts_a_lost_stream_is_caught(site: Site) -> None:
    # Of what is gone it cannot be told how old the answer is.
    writer, found = run(site, Endless, freeze_the_link, 1, NEVER_DELETED)
    assert max(writer.stale(seen) for seen in found) >= BOUND


def test_a_cache_without_floors_is_caught(site: Site) -> None:
    _, found = run(site, WithoutFloors, nothing, 1)
    assert [breach for seen in found for breach in seen.older]
