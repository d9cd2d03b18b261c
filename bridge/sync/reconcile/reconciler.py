"""Prove that SQL and MongoDB hold the same, or list what differs.

For one entity:

1. sum up both sides, side by side            `checksums`, `sqlsums`, `mirrored`
2. list the keys of the buckets that differ
3. compare contents, where that was asked for  `contents`
4. look at each doubtful key again until lag cannot explain it any more   `doubts`
5. repair, where that was asked for, and look again   `repair`

Nothing is locked and nothing has to stand still: visitors edit meanwhile.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeVar

import bson
import sqlalchemy as sql
from pymongo.database import Database

from bridge.sync.documents import Document, Mirror
from bridge.sync.guard import Encoded, make_ready
from bridge.sync.pace import Pace, Stopped
from bridge.sync.reconcile.checksums import NO_VERSION, Sums
from bridge.sync.reconcile.contents import first_difference
from bridge.sync.reconcile.doubts import KINDS, Doubt, State, look
from bridge.sync.reconcile.findings import Difference, Result
from bridge.sync.reconcile.mirrored import Foreign, Mirrored
from bridge.sync.reconcile.repair import Repair
from bridge.sync.reconcile.sides import Look, Sides

__all__ = ["Asked", "Reconciler"]

T = TypeVar("T")
U = TypeVar("U")

MOST_KEYS = 200_000
"""Differing keys of one entity that are looked at one by one. Where there are more, a snapshot
is the better repair."""
MOST_LISTED = 500_000
"""Rows of the buckets whose keys are in memory at a time."""
DEEP_ROWS = 500
PATIENCE = 10
"""How many times `wait` an outbox that stands still is waited for."""

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how many rows of it are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How to reconcile. rate: rows a second of each side, 0 for as fast as it goes. wait: seconds
    that a difference must last. deep: whether contents are compared. repair: None: only list."""

    rate: float = 0.0
    wait: float = 30.0
    deep: bool = False
    repair: Repair | None = None


class Reconciler:
    """Reconciles entities of one sync.yaml.

    lag: the age in seconds of the oldest change that the outbox holds, 0 when it is empty.
    progress: see `Progress`. `run` raises Stopped when `stop` is set, ServerAway when a server
    does not answer, and BridgeError for what sync.yaml or the database has wrong.
    """

    def __init__(
        self,
        engine: sql.Engine,
        database: Database[Document],
        mirror: Mirror,
        asked: Asked,
        *,
        lag: Callable[[], float] = lambda: 0.0,
        stop: threading.Event | None = None,
        progress: Progress = lambda what, done, total: None,
    ) -> None:
        self._engine, self._database, self._mirror, self._asked = engine, database, mirror, asked
        self._lag, self._progress = lag, progress
        self._stop = stop or threading.Event()
        self._halt = threading.Event()
        self._deep: dict[str, dict[str, str]] = {}  # entity to what deep looks made doubtful
        self._compared: Counter[str] = Counter()

    def checkable(self) -> tuple[list[str], dict[str, str]]:
        """The entities that can be reconciled, parents first, and why the others cannot."""
        names, not_these = [], {}
        for name, entity in self._mirror.entities.items():
            parent = self._mirror.parent_of.get(name)
            if entity.source is None:
                not_these[name] = "no source in sync.yaml"
            elif parent is not None and self._mirror.entities[parent].source is None:
                not_these[name] = f"its versions are those of {parent}, which has no source"
            else:
                names.append(name)
        return sorted(names, key=lambda name: name in self._mirror.parent_of), not_these

    def run(self, name: str) -> Result:
        """Reconcile one entity."""
        began = monotonic()
        sides = Sides(self._engine, self._database, self._mirror, name)
        result = Result(name)
        foreign = Foreign()
        doubtful = self._sum_up(sides, result, foreign)
        if self._asked.deep:
            doubtful |= self._compare(sides, result)
        doubts, looks = self._settle(sides, doubtful, began)
        if self._asked.repair and doubts:
            doubts, looks = self._repair(sides, doubts, looks, result)
        result.differences = [*_listed(doubts, looks), *_beside(sides, foreign)]
        result.seconds = monotonic() - began
        return result

    # 1 and 2.

    def _sum_up(self, sides: Sides, result: Result, foreign: Foreign) -> dict[str, bool]:
        """The keys that may differ, each with whether its content is in doubt."""
        total = max(sides.rows.count(), sides.mirrored.count())
        began = monotonic()
        ours, theirs = self._paces(f"{sides.name}: sums", total)
        in_sql, in_mongodb = self._both(
            lambda: sides.rows.sums(ours, ours.at_once),
            lambda: sides.mirrored.sums(theirs, foreign, theirs.at_once),
        )
        result.rows, result.documents = in_sql.rows, in_mongodb.rows + foreign.count
        result.summing = monotonic() - began
        differing = in_sql.differing(in_mongodb)
        doubtful: dict[str, bool] = {}
        for buckets in _slices(differing, in_sql, in_mongodb):
            for key in self._unlike(sides, buckets):
                if len(doubtful) >= MOST_KEYS:
                    result.more = True
                    return doubtful
                doubtful[key] = False
        return doubtful

    def _unlike(self, sides: Sides, buckets: frozenset[int]) -> Iterator[str]:
        """The keys of these buckets that the two sides have different versions of."""
        theirs, ours = self._paces(f"{sides.name}: keys", sides.mirrored.count())
        in_sql, in_mongodb = self._both(
            lambda: dict(sides.rows.keys(buckets, ours, ours.at_once)),
            lambda: dict(sides.mirrored.keys(buckets, theirs, theirs.at_once)),
        )
        for key, version in in_sql.items():
            if in_mongodb.pop(key, None) != version:
                yield key
        yield from in_mongodb

    # 3.

    def _compare(self, sides: Sides, result: Result) -> dict[str, bool]:
        """The keys whose contents differ at equal versions. Children are compared with their
        parents: that is one event."""
        if sides.name not in self._deep:
            self._compare_all(sides)
        result.compared = self._compared[sides.name]
        return dict.fromkeys(self._deep.pop(sides.name, {}), True)

    def _compare_all(self, sides: Sides) -> None:
        owner, mirror = sides.owner, self._mirror
        family = [owner, *(name for name, parent in mirror.parent_of.items() if parent == owner)]
        self._deep |= {name: {} for name in family}
        places = {mirror.collection_of(name): name for name in family}
        pace, _ = self._paces(f"{owner}: contents", sides.source.count())
        position = None
        while True:
            chunk = sides.source.chunk(position, DEEP_ROWS)
            ready, rejected = make_ready(mirror, chunk.events)
            for key in (*(bad.key for bad in chunk.bad), *(one.event.key for one in rejected)):
                self._deep[owner][key] = "unusable"
            writes: dict[str, dict[str, Encoded]] = {}
            for one in ready:
                for write in (one.own, *one.children):
                    writes.setdefault(places[write.collection], {})[write.key] = write
            for name, expected in writes.items():
                self._compare_some(name, expected)
            pace(chunk.rows)
            if chunk.rows < DEEP_ROWS:
                return
            position = chunk.last

    def _compare_some(self, name: str, expected: Mapping[str, Encoded]) -> None:
        """What has another version is not for us: the sums show it."""
        collection = self._mirror.collection_of(name)
        found = Mirrored(self._database, collection).find(list(expected), whole=True)
        for key, held in found.items():
            write = expected[key]
            if held.state == State(write.version):
                self._compared[name] += 1
                if difference := first_difference(bson.decode(write.document.raw), held.document):
                    self._deep[name][key] = difference

    # 4.

    def _settle(
        self, sides: Sides, doubtful: Mapping[str, bool], began: float
    ) -> tuple[dict[str, Doubt], dict[str, Look]]:
        """What is left of the doubts when everything had its time."""
        keys, whole = list(doubtful), {key for key, content in doubtful.items() if content}
        doubts, looks = self._look(sides, keys, {}, whole)
        # What no event can be made of is no matter of time.
        lacking = [key for key, one in doubts.items() if one.kind in ("missing", "behind")]
        more, found = self._look(sides, lacking, doubts, set(lacking))
        doubts = {key: one for key, one in doubts.items() if key not in set(lacking)} | more
        looks |= found
        return self._wait(sides, doubts, looks, whole, began)

    def _wait(
        self,
        sides: Sides,
        doubts: dict[str, Doubt],
        looks: dict[str, Look],
        whole: set[str],
        began: float,
    ) -> tuple[dict[str, Doubt], dict[str, Look]]:
        wait_for, delay = self._asked.wait, 0.1
        while True:
            now = monotonic()
            open_ = [key for key, one in doubts.items() if one.kind != "unusable"]
            young = any(now - doubts[key].since < wait_for for key in open_)
            if not open_ or not (young or self._lags(now, began)):
                return doubts, looks
            self._progress(f"{sides.name}: waiting for {len(open_)} keys", 0, 0)
            if self._stop.wait(delay):
                raise Stopped("stopped")
            started = monotonic()
            left, found = self._look(sides, open_, doubts, whole)
            for key in open_:
                del doubts[key]
            doubts |= left
            looks |= found
            # Looking must not become the load that it waits for.
            delay = max(min(delay * 1.5, 2.0, max(wait_for / 3, 0.1)), 2 * (monotonic() - started))

    def _lags(self, now: float, began: float) -> bool:
        """Whether the outbox still holds changes from before the start, within reason."""
        if now - began >= PATIENCE * self._asked.wait:
            return False
        return self._lag() > now - began

    def _look(
        self,
        sides: Sides,
        keys: Sequence[str],
        doubts: Mapping[str, Doubt],
        whole: set[str],
    ) -> tuple[dict[str, Doubt], dict[str, Look]]:
        """The doubts that another look at these keys leaves, and what was seen."""
        left: dict[str, Doubt] = {}
        looks: dict[str, Look] = {}
        for start in range(0, len(keys), DEEP_ROWS):
            self._check()
            some = keys[start : start + DEEP_ROWS]
            for key, seen in sides.look(some, whole).items():
                if (doubt := look(doubts.get(key), seen.pair, monotonic())) is not None:
                    left[key], looks[key] = doubt, seen
        return left, looks

    # 5.

    def _repair(
        self, sides: Sides, doubts: dict[str, Doubt], looks: dict[str, Look], result: Result
    ) -> tuple[dict[str, Doubt], dict[str, Look]]:
        assert self._asked.repair
        before = Counter(one.kind for one in doubts.values())
        kinds = {key: one.kind for key, one in doubts.items()}
        notes = self._asked.repair.send(sides, looks, kinds, result.documents)
        sent = [key for key in doubts if key not in notes]
        whole = {key for key in sent if doubts[key].kind == "different"}
        now = monotonic()
        again = {
            key: Doubt(doubts[key].kind, doubts[key].first, now, looks[key].pair) for key in sent
        }
        left, found = self._wait(sides, again, {key: looks[key] for key in sent}, whole, now)
        for key in left:
            notes[key] = found[key].detail or "sent, and not there yet: does a `bridge worker` run?"
        doubts = {key: left.get(key, doubts[key]) for key in notes}
        after = Counter(one.kind for one in doubts.values())
        result.repaired = {kind: n for kind in KINDS if (n := before[kind] - after[kind]) > 0}
        seen = {key: found.get(key, looks[key]) for key in notes}
        return doubts, {
            key: Look(one.pair, one.owner, one.found, notes[key]) for key, one in seen.items()
        }

    # Two sides at once.

    def _both(self, one: Callable[[], T], other: Callable[[], U]) -> tuple[T, U]:
        """Run both at the same time; an error of one ends the other."""
        with ThreadPoolExecutor(2, "reconcile") as pool:
            first: Future[T] = pool.submit(one)
            second: Future[U] = pool.submit(other)
            try:
                running: set[Future[Any]] = {first, second}
                while running:
                    done, running = wait(running, 0.2, FIRST_EXCEPTION)
                    self._check()
                    for future in done:
                        future.result()
            except BaseException:
                self._halt.set()
                raise
            return first.result(), second.result()

    def _paces(self, what: str, total: int) -> tuple[Pace, Pace]:
        """One that shows its progress, and one for the other side."""
        done = 0

        def tell(rows: int) -> None:
            nonlocal done
            done += rows
            self._progress(what, done, total)

        self._halt = threading.Event()
        return Pace(self._asked.rate, self._halt, tell), Pace(self._asked.rate, self._halt)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped("stopped")


def _slices(buckets: Sequence[int], *sides: Sums) -> Iterator[frozenset[int]]:
    """The buckets in portions that do not have too many rows."""
    some: set[int] = set()
    rows = 0
    for bucket in buckets:
        more = sum(side.counts[bucket] for side in sides)
        if some and rows + more > MOST_LISTED:
            yield frozenset(some)
            some, rows = set(), 0
        some.add(bucket)
        rows += more
    if some:
        yield frozenset(some)


def _listed(doubts: Mapping[str, Doubt], looks: Mapping[str, Look]) -> Iterator[Difference]:
    """What is left, kind by kind and in the order of the keys."""
    kinds = list(KINDS)
    for key, doubt in sorted(doubts.items(), key=lambda item: (kinds.index(item[1].kind), item[0])):
        pair, detail = looks[key].pair, looks[key].detail
        yield Difference(key, doubt.kind, _version(pair.sql), _version(pair.mongodb), detail)


def _version(state: State | None) -> int | None:
    return None if state is None or state.version <= NO_VERSION else state.version


def _beside(sides: Sides, foreign: Foreign) -> Iterator[Difference]:
    """What has no key that could be compared."""
    if nameless := sides.rows.without_key():
        text = f"{nameless:,} rows have NULL in a column of the key"
        yield Difference("", "unusable", detail=text)
    for id in foreign.ids:
        text = f"its _id is no text, so it is not the mirror's: {foreign.count:,} such documents"
        yield Difference(repr(id), "orphan", detail=text)
