"""A visitor sees their own edit: the gate that waits for what their cookie says.

The visitor who saved something has a signed cookie (`bridge.sync.tokens`). In it PHP names the
entity and the version, and the bridge says how far the database's log went when PHP had answered
(`bridge.sync.marker`). Before Python answers that visitor, the gate makes sure that the mirror
holds this version, or has come so far: at once, after a short wait, by a look at MongoDB's primary,
or else legacy answers this one request.

Nothing here talks to a server or imports a driver: looking is `bridge.sync.probe`, which is
handed to the gate; waiting is done by whoever follows the change stream (`offer`).
"""

from __future__ import annotations

import contextvars
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Literal, Protocol

from bridge.errors import ServerAway
from bridge.sync.reached import LookAtLog, Reached, nothing_applied
from bridge.sync.tokens import (
    COOKIE,
    LIFETIME,
    MAX_BYTES,
    MAX_ENTRIES,
    SKEW,
    Entry,
    Keys,
    LogEnd,
    newest,
)

__all__ = [
    "COOKIE",
    "LIFETIME",
    "MAX_BYTES",
    "MAX_ENTRIES",
    "OUTCOMES",
    "PATIENCE",
    "SETTLING",
    "SKEW",
    "Entry",
    "Gate",
    "Keys",
    "Outcome",
    "Wanted",
    "Watch",
    "offer",
    "offered",
    "wanted",
]

PATIENCE: Final = 0.1
"""Seconds that a request waits for the mirror to catch up."""
SETTLING: Final = 3.0
"""Seconds after which every process has heard of a write (the cache's bound is 2 s) and the
cookie may be ended: another process could still show the old version to a visitor without it."""

Outcome = Literal["at_once", "waited", "primary", "legacy"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("at_once", "waited", "primary", "legacy")
"""How the mirror had what a visitor wrote, the best first."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.02  # seconds between two looks at the primary


class Wanted:
    """What one visitor's cookie asks for, and how each of it was had; one for each request.

    Used by the request's thread and its handler's. Store asks `version` or `of` for what a
    handler reads, and says `note` when it has it. Of an entity of the log it asks `since`.
    """

    __slots__ = ("_had_for", "_how", "_lock", "_since", "_versions", "end", "entries")

    def __init__(self, entries: Sequence[Entry], end: LogEnd | None = None) -> None:
        self.entries, self.end = tuple(entries), end
        self._versions: dict[str, dict[str, int]] = {}
        for entry in entries:
            self._versions.setdefault(entry.entity, {})[entry.key] = entry.version
        self._how: dict[tuple[str, str], Outcome] = {}
        self._since: dict[str, float] = {}
        self._had_for = 0.0  # seconds that this process has known all of the end for
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        count = len(self.entries) + (self.end is not None)
        return f"<Wanted: {len(self._how)} of {count} looked at>"

    def version(self, entity: str, key: str) -> int | None:
        """The version of this one that the visitor must see at least, or None."""
        versions = self._versions.get(entity)
        return None if versions is None else versions.get(key)

    def of(self, entity: str) -> Mapping[str, int]:
        """Key to version: all that is wanted of one kind of entity."""
        return self._versions.get(entity, {})

    def since(self, entity: str) -> float | None:
        """The moment (`time.monotonic()`) at which MongoDB is known to have held all of this
        entity up to `end`: what was read before may be older. None: that was not looked at."""
        return self._since.get(entity)

    def note(self, entity: str, key: str, how: Outcome) -> None:
        """Say how a wanted entry was had, or that it was not (`legacy`). The first look counts:
        the second one always finds it at once."""
        with self._lock:
            if how == "legacy":
                self._how[entity, key] = how
            else:
                self._how.setdefault((entity, key), how)

    def note_end(
        self, entities: Collection[str], how: Outcome, since: float = 0.0, had_for: float = 0.0
    ) -> None:
        """Say how the end of the log was had for these entities, or that it was not (`legacy`).

        since: as `since` gives it, in seconds of a monotonic clock.
        had_for: seconds for which this process has known that no entity lacks anything of it.
        """
        self.note("", "", how)
        with self._lock:
            if how != "legacy":
                self._since.update(dict.fromkeys(entities, since))
                self._had_for = had_for

    @property
    def refused(self) -> bool:
        """Whether something could not be had, so that legacy must answer."""
        return "legacy" in self._how.values()

    def settled(self, now: float) -> bool:
        """Whether the visitor needs the cookie no longer: all of it was had for this answer,
        and was written long enough ago (SETTLING) for every process to have heard of it."""
        had = not self.refused and all((e.entity, e.key) in self._how for e in self.entries)
        if self.end is not None and self._had_for < SETTLING:
            return False
        return had and all(now - entry.time >= SETTLING for entry in self.entries)

    @property
    def outcome(self) -> Outcome | None:
        """How all that was looked at was had: as the last of it. None when nothing was."""
        return max(tuple(self._how.values()), key=OUTCOMES.index, default=None)

    def context(self) -> contextvars.Context:
        """A fresh context in which `wanted` is this; to run a handler in."""
        context = contextvars.Context()
        context.run(wanted.set, self)
        return context


wanted: ContextVar[Wanted | None] = ContextVar("bridge_wanted", default=None)
"""What the visitor wants to see whose request the handler of this context answers."""


class Watch(Protocol):
    """Whoever hears of writes to the mirror as they happen: Store's follower."""

    def knows(self, entity: str, key: str) -> int | None:
        """The highest version that a majority is known to hold, or None: nothing is known."""

    def wait(self, entity: str, key: str, version: int, seconds: float) -> bool:
        """Wait until a version, or a newer one, is known; False when it is not within `seconds`.

        entity, key, version: as in an `Entry`.
        """


_offered: weakref.ref[Watch] | None = None


def offer(watch: Watch) -> None:
    """Let every gate of this process wait by `watch` instead of asking MongoDB again and again.

    It is not kept alive. The last one counts; a forked process must offer its own.
    """
    global _offered
    _offered = weakref.ref(watch)


def offered() -> Watch | None:
    """The watch of this process, if there is one."""
    return _offered() if _offered is not None else None


Look = Callable[[Sequence[Entry]], Collection[Entry]]
"""Which of these entries does a majority of MongoDB hold, in that version or a newer one? Raises
ServerAway."""


class Gate:
    """Ensures before a handler runs that what it reads is as new as its visitor's own edits.

    entities: what sync.yaml mirrors, and the children of each; other entries are ignored.
    log: which of them come from the database's log.
    look_at_log: says how far the mirror has come with it.
    watch: the watch to wait by, or None; then the primary is asked again and again.
    patience: the longest wait in seconds.
    """

    cookie: str = COOKIE
    marker: Any = None
    """What marks the answers of legacy (`bridge.proxy.gate.Marker`), where something does."""

    def __init__(
        self,
        keys: Keys,
        look: Look,
        entities: Mapping[str, Collection[str]],
        *,
        log: Collection[str] = (),
        look_at_log: LookAtLog = nothing_applied,
        watch: Callable[[], Watch | None] = offered,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self._look, self._entities = keys, look, entities
        self._watch, self._patience, self._clock = watch, patience, clock
        self.log, self._look_at_log = frozenset(log), look_at_log
        self._reached = Reached()

    def wanted(self, cookies: Iterable[str]) -> Wanted | None:
        """What the values of the visitor's cookies `bv` ask for, or None for nothing."""
        found = self._keys.read_all(cookies, self._clock())
        entries = newest(entry for entry in found.entries if entry.entity in self._entities)
        end = found.end if self.log else None
        return Wanted(entries, end) if entries or end else None

    def ensure(self, wanted: Wanted, reads: Collection[str]) -> bool:
        """Whether the mirror holds all that is wanted of the entities `reads`, or of parents of
        theirs. It is noted in `wanted`, how. Takes `patience` and two looks at most."""
        missing = [entry for entry in wanted.entries if self._concerns(entry, reads)]
        deadline = time.monotonic() + self._patience
        try:
            watch = self._watch()
            if watch is not None:
                missing = self._by_watch(watch, wanted, missing, reads, deadline)
            if missing:
                self._by_looking(wanted, missing, deadline)
        except ServerAway:
            for entry in missing:
                wanted.note(entry.entity, entry.key, "legacy")
        if wanted.end is not None and not wanted.refused:
            of_log = self.log.intersection(reads)
            if of_log:
                self._follow(wanted, wanted.end, of_log, deadline)
        return not wanted.refused

    def _follow(self, wanted: Wanted, end: LogEnd, of_log: frozenset[str], deadline: float) -> None:
        """Wait until the mirror has come to the end that the log had, and lacks nothing of these
        entities. One that it does not follow is not waited for, nor an end that nobody knows."""
        if end.gtid is None:
            wanted.note_end(of_log, "legacy")
            return
        how: Outcome = "at_once"
        pause = _FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                found = self._look_at_log()
            except ServerAway:
                break
            now = time.monotonic()  # what is read from now on has all that was found
            self._reached.see(found, began, now)
            if found.stopped & of_log:
                break
            if found.reaches(end.gtid) and not found.dirty & of_log:
                since = self._reached.since(end.gtid, now)
                had_for = 0.0 if found.lacks else now - since
                wanted.note_end(of_log, how, since, had_for)
                return
            if (seconds := deadline - now) <= 0:
                break
            time.sleep(min(pause, seconds))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            how = "waited"
        wanted.note_end(of_log, "legacy")

    def _concerns(self, entry: Entry, reads: Collection[str]) -> bool:
        return entry.entity in reads or self._read_children(entry, reads)

    def _read_children(self, entry: Entry, reads: Collection[str]) -> bool:
        return any(child in reads for child in self._entities.get(entry.entity, ()))

    def _by_watch(
        self,
        watch: Watch,
        wanted: Wanted,
        entries: Sequence[Entry],
        reads: Collection[str],
        deadline: float,
    ) -> list[Entry]:
        """What is left for looking, which the watch cannot tell.

        The primary is asked before waiting: a watch that began after the write would never hear
        of it.
        """
        # Of one transaction the stream tells the parent first: its children may be unheard of.
        left = [entry for entry in entries if self._read_children(entry, reads)]
        unknown: list[Entry] = []
        for entry in entries:
            if entry in left:
                continue
            known = watch.knows(entry.entity, entry.key)
            if known is not None and known >= entry.version:
                wanted.note(entry.entity, entry.key, "at_once")
            else:
                unknown.append(entry)
        if not unknown:
            return left
        late = self._noted(wanted, unknown, self._look(unknown), "primary")
        unheard: list[Entry] = []
        for entry in late:
            seconds = deadline - time.monotonic()
            if seconds > 0 and watch.wait(entry.entity, entry.key, entry.version, seconds):
                wanted.note(entry.entity, entry.key, "waited")
            else:
                unheard.append(entry)
        if unheard:
            for entry in self._noted(wanted, unheard, self._look(unheard), "primary"):
                wanted.note(entry.entity, entry.key, "legacy")
        return left

    def _by_looking(
        self,
        wanted: Wanted,
        entries: Sequence[Entry],
        deadline: float,
    ) -> None:
        missing = self._noted(wanted, entries, self._look(entries), "at_once")
        pause = _FIRST_PAUSE
        while missing and (seconds := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, seconds))
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            missing = self._noted(wanted, missing, self._look(missing), "waited")
        for entry in missing:
            wanted.note(entry.entity, entry.key, "legacy")

    @staticmethod
    def _noted(
        wanted: Wanted, entries: Sequence[Entry], found: Collection[Entry], how: Outcome
    ) -> list[Entry]:
        """Note what was found; return the rest."""
        for entry in entries:
            if entry in found:
                wanted.note(entry.entity, entry.key, how)
        return [entry for entry in entries if entry not in found]
