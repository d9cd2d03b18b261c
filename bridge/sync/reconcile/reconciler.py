"""Prove that SQL and MongoDB hold the same, or list what differs.

For one entity:

1. sum up both sides, side by side            `checksums`, `sums`, `mirrored`
2. list the keys of the buckets that differ    `account`
3. compare contents, where that was asked for  `deep`, `contents`
4. look at each doubtful key again until lag cannot explain it any more   `doubts`
5. count and list once more what the keys do not explain
6. repair, where that was asked for, and look again   `repair`

Nothing is locked and nothing has to stand still: visitors edit meanwhile.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import sqlalchemy as sql
from pymongo.database import Database

from bridge.errors import Stopped
from bridge.sync.checksums import Listed, Sums
from bridge.sync.documents import Document, Mirror
from bridge.sync.doubts import KINDS, TOLD, Doubt, Pair, look, look_at_log
from bridge.sync.log.progress import Progress
from bridge.sync.pace import Pace
from bridge.sync.reconcile import listing
from bridge.sync.reconcile.account import Account
from bridge.sync.reconcile.confirm import Confirmation
from bridge.sync.reconcile.deep import Deep
from bridge.sync.reconcile.findings import ReconcileResult
from bridge.sync.reconcile.mirrored import Foreign
from bridge.sync.reconcile.repair import Repair
from bridge.sync.reconcile.sides import KeySnapshot, Sides
from bridge.units import in_portions

__all__ = ["ReconcileOptions", "Reconciler"]

T = TypeVar("T")
U = TypeVar("U")

MOST_KEYS = 200_000
"""Differing keys of one entity that are looked at one by one. Where there are more, a snapshot
is the better repair."""
MOST_LISTED = 500_000
"""Rows of the buckets whose keys are in memory at a time."""
KEYS_PER_STEP = 500
PATIENCE = 10
"""How many times `wait` an outbox that stands still is waited for."""

Tell = Callable[[str, int, int], None]
"""Is told what is being done, how many rows of it are done, and of how many."""


@dataclass(frozen=True, slots=True)
class ReconcileOptions:
    """How to reconcile. rate: rows a second of each side, 0 for as fast as it goes. wait: seconds
    that a difference must last. deep: whether contents are compared, and tombstones examined.
    values: whether differences of contents come with both values. repair: None: only list."""

    rate: float = 0.0
    wait: float = 30.0
    deep: bool = False
    values: bool = False
    repair: Repair | None = None


class Reconciler:
    """Reconciles entities of one sync.yaml.

    asked: what is compared, how fast, and whether it is repaired.
    lag: the age in seconds of the oldest change that the outbox holds, 0 when it is empty.
    progress: see `Tell`.

    `run` raises Stopped when `stop` is set, ServerAway when a server does not answer, and
    BridgeError for what sync.yaml or the database has wrong.
    """

    def __init__(
        self,
        engine: sql.Engine,
        database: Database[Document],
        mirror: Mirror,
        asked: ReconcileOptions,
        *,
        lag: Callable[[], float] = lambda: 0.0,
        stop: threading.Event | None = None,
        progress: Tell = lambda what, done, total: None,
    ) -> None:
        self._engine, self._database, self._mirror, self._asked = engine, database, mirror, asked
        self._lag, self._progress = lag, progress
        self._stop = stop or threading.Event()
        self._halt = threading.Event()
        self._deep: dict[str, Deep] = {}  # by owner, as long as an entity of it may be asked for
        self._settled: dict[str, Pair] = {}

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

    def run(self, name: str) -> ReconcileResult:
        """Reconcile one entity."""
        began = monotonic()
        sides = Sides(self._engine, self._database, self._mirror, name)
        result = ReconcileResult(name)
        foreign = Foreign()
        self._settled = {}
        account = self._sum_up(sides, foreign)
        result.rows = account.rows.rows
        result.documents = account.documents.rows + foreign.count
        result.summing = monotonic() - began
        keys, result.more = self._list(sides, account, account.differing)
        doubtful = dict.fromkeys(keys, False)
        if self._asked.deep:
            doubtful |= dict.fromkeys(self._compare(sides, result), True)
        doubts, looks = self._settle(sides, doubtful, began)
        confirmation = None if result.more else self._confirm(sides, account, doubts, looks)
        if self._asked.repair and doubts:
            doubts, looks = self._repair(sides, doubts, looks, result)
        result.differences = [
            *listing.listed(doubts, looks, values=self._asked.values),
            *(confirmation.differences if confirmation else ()),
            *listing.nameless_rows(sides.rows.without_key()),
            *listing.foreign_documents(foreign),
        ]
        riddles = confirmation.riddles if confirmation else set()
        result.explained = account.explained(account.open() - riddles) - foreign.count
        if not (result.adds_up or result.differences or result.more):
            result.differences.append(listing.not_adding_up(result))
        result.seconds = monotonic() - began
        return result

    # 1 and 2.

    def _sum_up(self, sides: Sides, foreign: Foreign) -> Account:
        total = max(sides.rows.count(), sides.mirrored.count())
        ours, theirs = self._paces(f"{sides.name}: sums", total)
        rows, documents = self._both(
            lambda: sides.rows.sums(ours, ours.at_once),
            lambda: sides.mirrored.sums(theirs, foreign, theirs.at_once),
        )
        return Account(rows, documents)

    def _list(
        self, sides: Sides, account: Account, buckets: Sequence[int]
    ) -> tuple[list[str], bool]:
        """The keys of these buckets that may differ, and whether there are too many of them."""
        doubtful: list[str] = []
        for some in _slices(buckets, account.rows, account.documents):
            theirs, ours = self._paces(f"{sides.name}: keys", sides.mirrored.count())
            in_sql = partial(sides.rows.keys, some, ours, ours.at_once)
            in_mongodb = partial(sides.mirrored.keys, some, theirs, theirs.at_once)
            rows, documents = self._both(
                partial(list[Listed], in_sql()), partial(list[Listed], in_mongodb())
            )
            doubtful += account.enter(some, rows, documents)
            if len(doubtful) + len(account.odd) > MOST_KEYS:
                return doubtful[:MOST_KEYS], True
        return doubtful, False

    # 3.

    def _compare(self, sides: Sides, result: ReconcileResult) -> dict[str, None]:
        """The keys that a look at whole documents makes doubtful. Children are compared with
        their parents: that is one event."""
        owner, name = sides.owner, sides.name
        deep = self._deep.get(owner)
        if deep is None or name not in deep.doubtful:
            deep = self._deep[owner] = Deep(self._database, self._mirror, owner)
            pace, _ = self._paces(f"{owner}: contents", sides.source.count())
            deep.compare(sides, pace)
        pace, _ = self._paces(f"{name}: tombstones", 0)
        deep.examine(sides, pace)
        result.compared = deep.compared[name]
        result.more = result.more or deep.more
        return deep.doubtful.pop(name)

    # 4.

    def _settle(
        self, sides: Sides, doubtful: Mapping[str, bool], began: float
    ) -> tuple[dict[str, Doubt], dict[str, KeySnapshot]]:
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
        looks: dict[str, KeySnapshot],
        whole: set[str],
        began: float,
    ) -> tuple[dict[str, Doubt], dict[str, KeySnapshot]]:
        wait_for, delay = self._asked.wait, 0.1
        while True:
            now = monotonic()
            open_ = [key for key, one in doubts.items() if one.kind not in TOLD]
            if sides.log is not None:
                open_ = [key for key in open_ if not doubts[key].is_certain]
                if not open_ or now - began > PATIENCE * wait_for:
                    return doubts, looks | _uncertain(open_, looks, sides.log)
            else:
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
        return now - began < PATIENCE * self._asked.wait and self._lag() > now - began

    def _look(
        self,
        sides: Sides,
        keys: Sequence[str],
        doubts: Mapping[str, Doubt],
        whole: set[str],
    ) -> tuple[dict[str, Doubt], dict[str, KeySnapshot]]:
        """The doubts that another look at these keys leaves, and what was seen."""
        left: dict[str, Doubt] = {}
        looks: dict[str, KeySnapshot] = {}
        for some in in_portions(keys, KEYS_PER_STEP):
            self._check()
            # MongoDB's place in the log first, then MongoDB, then SQL.
            reached = None if sides.log is None else sides.log.reached()
            for key, seen in sides.look(some, whole).items():
                held, now = doubts.get(key), monotonic()
                if reached is None:
                    doubt = look(held, seen.pair, now, beside=sides.beside)
                else:
                    doubt = look_at_log(held, seen.pair, now, reached)
                if doubt is None:
                    self._settled[key] = seen.pair
                else:
                    left[key], looks[key] = doubt, seen
                    self._settled.pop(key, None)
        return left, looks

    # 5.

    def _confirm(
        self,
        sides: Sides,
        account: Account,
        doubts: dict[str, Doubt],
        looks: dict[str, KeySnapshot],
    ) -> Confirmation:
        """What is equal by its keys and not by its numbers. Doubts that come up on the way are
        added to the others."""

        def enter(again: Account, buckets: Sequence[int]) -> bool:
            keys, too_many = self._list(sides, again, buckets)
            new = {key: False for key in keys if key not in doubts}
            left, found = self._settle(sides, new, monotonic())
            doubts.update(left)
            looks.update(found)
            return not too_many

        confirmation = Confirmation(lambda: self._sum_up(sides, Foreign()), enter, self._settled)
        confirmation.run(account)
        return confirmation

    # 6.

    def _repair(
        self,
        sides: Sides,
        doubts: dict[str, Doubt],
        looks: dict[str, KeySnapshot],
        result: ReconcileResult,
    ) -> tuple[dict[str, Doubt], dict[str, KeySnapshot]]:
        assert self._asked.repair
        before = Counter(one.kind for one in doubts.values())
        kinds = {key: one.kind for key, one in doubts.items()}
        notes = self._asked.repair.send(sides, looks, kinds, result.documents)
        sent = [key for key in doubts if key not in notes]
        whole = {key for key in sent if doubts[key].kind in ("different", "tombstone")}
        now = monotonic()
        again = {
            key: replace(doubts[key], since=now, latest=looks[key].pair, is_certain=False)
            for key in sent
        }
        left, found = self._wait(sides, again, {key: looks[key] for key in sent}, whole, now)
        late = "sent, and not there yet: does a `bridgectl worker` run?"
        if sides.log is not None:
            late = "written, and something newer was there: ask again"
        notes |= {key: found[key].detail or late for key in left}
        doubts = {key: left.get(key, doubts[key]) for key in notes}
        after = Counter(one.kind for one in doubts.values())
        result.repaired = {kind: n for kind in KINDS if (n := before[kind] - after[kind]) > 0}
        seen = {key: found.get(key, looks[key]) for key in notes}
        return doubts, {key: replace(one, detail=notes[key]) for key, one in seen.items()}

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


def _uncertain(
    keys: Sequence[str], looks: Mapping[str, KeySnapshot], log: Progress
) -> dict[str, KeySnapshot]:
    """What was seen of keys of which the log does not say yet that lag explains nothing."""
    if not keys:
        return {}
    text = f"MongoDB has come to {log.position()} in the log, and SQL is further: does "
    text += "`bridgectl capture` run?"
    seen = {key: looks[key] for key in keys}
    return {
        key: replace(one, detail=f"{one.detail}; {text}" if one.detail else text)
        for key, one in seen.items()
    }


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
