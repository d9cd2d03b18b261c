"""The in-memory cache of one process: bounded, versioned, and honest about what it knows.

Pure: no servers; the clock and the randomness are given. `bridge.sync.cache.follower` says what
changed (`apply`), and that nothing else did (`confirm`); `bridge.sync.store` reads MongoDB and
fills.

*Floors.* What the change stream said last about a key: a fill below it is not kept. Without, this
would go wrong: A reads v7, B writes v8 and A hears of it, A stores v7. Floors are bounded in
number and age. When one goes, its moment becomes `since`: every later read has to be at least as
new as that (MongoDB's afterClusterTime), so that no secondary, however late, can answer with what
the forgotten floor would have refused. A floor whose version is not known (a document deleted or
changed by hand, or repaired in the same version) refuses every fill that began before it.

*Continuity.* What is cached counts until `until`, which the follower moves on with each look at
the stream. It is compared when a value is read: a follower that hangs or died makes the cache
useless within `bound` seconds, never stale. Of what a majority held before `looked` everything is
known.

*Hits take no lock.* `Store.get` reads `until`, then `shelves`, then the clock, in this order. It
relies on a look into a dict by a string being one step under the GIL, and on an CacheEntry never
being changed once it is in `shelves`, but for `used` and `live`, which only eviction looks at.
Counts of hits may lose one where threads meet.
"""

from __future__ import annotations

import math
import random as _random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from bridge.sync.cache.frozen import NEVER, Frozen

__all__ = ["Cache", "CacheEntry", "Change", "Fill", "Slot", "Stats"]

Slot = tuple[str, str]
"""Entity and key."""

OVERHEAD = 340
"""Bytes of an entry besides its document: itself, slot, key, and places in the dict and the ring;
measured with 100,000 of them."""

JITTER = 0.1
"""Share of the TTL by which entries differ, so that what came together does not go together."""


class Change(NamedTuple):
    """One event of the change stream. version: after it, NEVER when the event does not say it.
    exact: it may be the version of before, with other content. moment: its cluster time as one
    number, seconds << 32 | counter."""

    entity: str
    key: str
    version: int
    moment: int
    exact: bool = False


class Fill(NamedTuple):
    """Taken before MongoDB is read, given back with what was found. moment: the answer has to be
    at least as new."""

    slot: Slot
    generation: int
    sequence: int
    moment: int


class _Floor(NamedTuple):
    """version: the last one heard of, or NEVER. exact: fills that began before the event of this
    number do not count, whatever their version. sequence: the last event's own number."""

    version: int
    exact: int
    sequence: int
    moment: int


class CacheEntry:
    """One cached answer; its `document` is None when there is none.

    size: bytes of Python's objects.
    expires: seconds, by the clock of the cache.
    """

    __slots__ = ("document", "expires", "live", "size", "slot", "used", "version")

    def __init__(self, slot: Slot, found: Frozen, size: int, expires: float) -> None:
        self.slot, self.document, self.version = slot, found.document, found.version
        self.size, self.expires = size, expires
        self.used, self.live = False, True


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the start of the process; `entries`, `bytes` and `floors` are of now.

    hits: answers from memory, negative_hits: those of them that say that there is none.
    fills: answers kept, rejected: answers not kept because they could be old already.
    flushes: how often everything was thrown away.
    """

    hits: int
    negative_hits: int
    misses: int
    fills: int
    rejected: int
    evicted: int
    invalidated: int
    flushes: int
    entries: int
    bytes: int
    floors: int
    followed: int


class Cache:
    """Answers by entity and key.

    max_entries, max_bytes: what it holds at most; bytes are those of Python's objects.
    ttl: seconds, the last resort against errors of our own.
    max_floors, floor_seconds: how many floors, and how old.
    bound: seconds that cached answers count after the last look at the stream.
    """

    def __init__(
        self,
        *,
        max_entries: int = 100_000,
        max_bytes: int = 256 * 1024 * 1024,
        ttl: float = 600.0,
        max_floors: int = 20_000,
        floor_seconds: float = 120.0,
        bound: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._max_entries, self._max_bytes, self._ttl = max_entries, max_bytes, ttl
        self._max_floors, self._floor_seconds = max_floors, floor_seconds
        self.bound, self._clock, self._random = bound, clock, random
        self._empty()

    def _empty(self) -> None:
        self._lock = threading.Lock()
        self._heard = threading.Condition(self._lock)
        self._waiting = 0
        # By entity, then by key: a tuple of both would have to be made for each read.
        self.shelves: dict[str, dict[str, CacheEntry]] = {}
        self._count = 0
        self.until = self.looked = -math.inf
        self._ring: deque[CacheEntry] = deque()  # second chance: eviction looks at its left end
        self._bytes = self._dead_bytes = 0
        self._floors: dict[Slot, _Floor] = {}
        self._ages: deque[tuple[Slot, int, float]] = deque()  # slot, sequence, born
        self._newest: dict[str, int] = {}  # entity to the moment of its last event
        self._since = 0
        self._generation = self._sequence = self._forgotten = 0
        self.hits = self.negative_hits = self.misses = 0
        self._fills = self._rejected = self._evicted = 0
        self._invalidated = self._flushes = self._followed = 0

    def after_fork(self) -> None:
        """Start anew in a forked child: nobody follows the stream here, and a thread that is no
        more may have held the lock."""
        self._empty()

    def __repr__(self) -> str:
        state = "confirmed" if self._clock() < self.until else "unconfirmed"
        return f"<Cache: {self._count} entries, {self._bytes} bytes, {state}>"

    # For those who read.

    def get(self, entity: str, key: str) -> CacheEntry | None:
        """The cached answer, None when there is none that counts. `Store.get` has these lines
        within itself."""
        until = self.until
        entry = self._entry(entity, key)
        if entry is None or not (now := self._clock()) < until or now >= entry.expires:
            return None
        entry.used = True
        return entry

    def begin(self, entity: str, key: str, *, newest: bool = False) -> Fill:
        """To be called before MongoDB is read.

        What is known of the key's version need not be waited for, since an answer below it is
        refused. newest: wait for it all the same.
        """
        with self._lock:
            return self._begin((entity, key), newest)

    def begin_many(self, entity: str, keys: Iterable[str]) -> list[Fill]:
        """The same for many keys at once, in their order."""
        with self._lock:
            return [self._begin((entity, key), False) for key in keys]

    def moment(self, entity: str) -> int:
        """What a read of many documents of an entity has to be at least as new as."""
        with self._lock:
            return max(self._since, self._newest.get(entity, 0))

    def admits(self, fill: Fill, version: int) -> bool:
        """Whether an answer of this version is not older than what was heard of its key."""
        with self._lock:
            return self._admits(fill, version)

    def keep(self, fill: Fill, found: Frozen) -> bool:
        """Keep what was read after `begin`, if nothing newer was heard of, no flush came between,
        and the stream is confirmed. Whether it was kept."""
        with self._lock:
            now = self._clock()
            size = found.size + OVERHEAD + len(fill.slot[1])
            old = self._entry(*fill.slot)
            if (
                fill.generation != self._generation
                or not now < self.until
                or not self._admits(fill, found.version)
                or (old is not None and old.version > found.version)
                # One that pushes half of the others out is better read again.
                or size > self._max_bytes / 2
            ):
                self._rejected += 1
                return False
            if old is not None:
                self._remove(old)
            ttl = self._ttl * (1 + JITTER * (2 * self._random() - 1))
            entry = CacheEntry(fill.slot, found, size, now + ttl)
            self._shelve(entry)
            self._ring.append(entry)
            self._fills += 1
            self._evict()
            return True

    def knows(self, entity: str, key: str) -> int | None:
        """The highest version that a majority is known to hold; None when nothing is known."""
        entry, floor = self._entry(entity, key), self._floors.get((entity, key))
        version = max(entry.version if entry else NEVER, floor.version if floor else NEVER)
        return None if version == NEVER else version

    def wait(self, entity: str, key: str, version: int, seconds: float) -> bool:
        """Whether `knows` has this version, or a higher one, within so many seconds."""

        def known() -> bool:
            found = self.knows(entity, key)
            return found is not None and found >= version

        with self._heard:
            self._waiting += 1
            try:
                return self._heard.wait_for(known, seconds)
            finally:
                self._waiting -= 1

    # For who follows the stream.

    def apply(self, changes: Iterable[Change]) -> None:
        """What the stream said, in its order: the last word on a key is the right one."""
        with self._lock:
            now = self._clock()
            for change in changes:
                self._apply(change, now)
            self._forget(now)
            if self._waiting:
                self._heard.notify_all()

    def confirm(self, looked: float) -> None:
        """All that a majority held at `looked` (this cache's clock) has been applied. When the
        last confirmation no longer counts, everything is thrown away first."""
        with self._lock:
            if self.until != -math.inf and self._clock() >= self.until:
                self._flush()
            self.until = max(self.until, looked + self.bound)
            self.looked = max(self.looked, looked)

    def restart(self, moment: int) -> None:
        """The stream starts anew at `moment`: what was heard before says nothing any more."""
        with self._lock:
            self.until = self.looked = -math.inf
            self._floors.clear()
            self._ages.clear()
            self._newest.clear()
            self._since = moment
            self._sequence += 1
            self._forgotten = self._sequence
            self._flush()

    def flush(self) -> None:
        """Throw every cached answer away."""
        with self._lock:
            self._flush()

    def stats(self) -> Stats:
        """Counts so far."""
        with self._lock:
            return Stats(
                hits=self.hits,
                negative_hits=self.negative_hits,
                misses=self.misses,
                fills=self._fills,
                rejected=self._rejected,
                evicted=self._evicted,
                invalidated=self._invalidated,
                flushes=self._flushes,
                entries=self._count,
                bytes=self._bytes,
                floors=len(self._floors),
                followed=self._followed,
            )

    def _entry(self, entity: str, key: str) -> CacheEntry | None:
        shelf = self.shelves.get(entity)
        return None if shelf is None else shelf.get(key)

    # All below is called with the lock held.

    def _shelve(self, entry: CacheEntry) -> None:
        entity, key = entry.slot
        self.shelves.setdefault(entity, {})[key] = entry
        self._count += 1
        self._bytes += entry.size

    def _unshelve(self, entry: CacheEntry) -> None:
        entity, key = entry.slot
        del self.shelves[entity][key]
        entry.live = False
        self._count -= 1
        self._bytes -= entry.size

    def _begin(self, slot: Slot, newest: bool) -> Fill:
        floor, moment = self._floors.get(slot), self._since
        if floor is not None and (newest or floor.exact):
            moment = max(moment, floor.moment)
        return Fill(slot, self._generation, self._sequence, moment)

    def _admits(self, fill: Fill, version: int) -> bool:
        if fill.sequence < self._forgotten:
            return False
        floor = self._floors.get(fill.slot)
        return floor is None or (version >= floor.version and fill.sequence >= floor.exact)

    def _apply(self, change: Change, now: float) -> None:
        self._sequence = sequence = self._sequence + 1
        self._followed += 1
        entity, key, version, moment, exact = change
        slot = (entity, key)
        unknown = version == NEVER
        if exact or unknown:
            refused = sequence
        else:
            old = self._floors.get(slot)
            refused = old.exact if old else 0
        entry = self._entry(entity, key)
        if entry is not None and (
            unknown or entry.version < version or (exact and entry.version == version)
        ):
            self._remove(entry)
            self._invalidated += 1
        self._floors[slot] = _Floor(version, refused, sequence, moment)
        self._ages.append((slot, sequence, now))
        self._newest[entity] = moment
        if len(self._ages) > self._max_floors:
            self._forget_oldest()

    def _forget(self, now: float) -> None:
        while self._ages and now - self._ages[0][2] > self._floor_seconds:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        slot, sequence, _ = self._ages.popleft()
        floor = self._floors.get(slot)
        if floor is None or floor.sequence != sequence:
            return  # heard of again since
        del self._floors[slot]
        self._since = max(self._since, floor.moment)
        self._forgotten = sequence

    def _flush(self) -> None:
        self._generation += 1
        self._flushes += 1
        self.shelves.clear()
        self._count = 0
        self._ring.clear()
        self._bytes = self._dead_bytes = 0

    def _remove(self, entry: CacheEntry) -> None:
        """Off its shelf; the ring still has it until the hand comes by, or it is made anew: before
        what is only there has more than an eighth of the bytes that count."""
        self._unshelve(entry)
        self._dead_bytes += entry.size
        if self._dead_bytes > self._bytes / 8:
            self._ring = deque(entry for entry in self._ring if entry.live)
            self._dead_bytes = 0

    def _evict(self) -> None:
        while self._count > self._max_entries or self._bytes > self._max_bytes:
            entry = self._ring.popleft()
            if not entry.live:
                self._dead_bytes -= entry.size
            elif entry.used:
                entry.used = False
                self._ring.append(entry)
            else:
                self._unshelve(entry)
                self._evicted += 1
