"""What MongoDB shows while everything is killed: its change stream, read from the beginning, and
what follows from it.

`Seen` is pure: it is given the changes. It knows of each document whether its version or its
counter ever went down, and of the document `log` what stood in it at each moment.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pymongo import MongoClient
from pymongo.errors import CollectionInvalid, PyMongoError

from bench.kill_log.editor import Made
from bench.kill_log.site import ENTITIES
from bridge.sync.entities import STATE
from bridge.sync.log.kept import LOG
from stack.errors import LoadFailed
from stack.mongod import Mongod

__all__ = ["Seen", "Watcher"]

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Moment:
    """The document `log` from one moment on. at: in Unix seconds."""

    at: float
    sequence: int
    dirty: Document
    stopped: Document
    loads: Document

    def has(self, made: Made) -> bool:
        """Whether it says of an edit that its rows are not as the log says, or that they were
        loaded since."""
        load = self.loads.get(made.entity) or {}
        if load.get("sequence", -1) >= made.sequence or self.stopped.get(made.entity):
            return True
        mark = self.dirty.get(made.entity)
        if not mark or mark["sequence"] < made.sequence:
            return False
        keys = mark["keys"]
        if keys is None:
            return True
        return made.field != "" and made.value in [str(one) for one in keys.get(made.field, ())]


@dataclass
class Seen:
    """What the changes said. writes: of documents. backwards: of them, those whose version or
    counter was below an earlier one of the same document, or that removed it; told: the first few
    of these, in words."""

    writes: int = 0
    backwards: int = 0
    told: list[str] = field(default_factory=list)
    last: dict[tuple[str, str], int] = field(default_factory=dict)
    _highest: dict[tuple[str, str, str], int] = field(default_factory=dict)
    _moments: list[_Moment] = field(default_factory=list)
    _collections: frozenset[str] = frozenset(one.collection for one in ENTITIES.values())
    _counting: frozenset[str] = frozenset(one.collection for one in ENTITIES.values() if one.counts)

    def note(self, change: Document) -> None:
        """The next change of the stream."""
        collection = change.get("ns", {}).get("coll", "")
        if collection == STATE:
            if change.get("documentKey", {}).get("_id") == LOG:
                self._note_log(change)
        elif collection in self._collections and "documentKey" in change:
            self._note_document(collection, change)

    def _note_document(self, collection: str, change: Document) -> None:
        key, kind = str(change["documentKey"]["_id"]), change["operationType"]
        self.writes += 1
        if kind == "delete":
            self._count(f"{collection} {key} is gone")
            return
        if kind == "update":
            values = change["updateDescription"]["updatedFields"]
        else:
            values = change["fullDocument"]
        if "_v" in values:
            self.last[collection, key] = values["_v"]
        for name in ("_v", "n") if collection in self._counting else ("_v",):
            value = values.get(name)
            if not isinstance(value, int):
                continue
            highest = self._highest.get((collection, key, name), -1)
            if value < highest:
                self._count(f"{collection} {key}: {name} from {highest} to {value}")
            self._highest[collection, key, name] = max(value, highest)

    def _count(self, what: str) -> None:
        self.backwards += 1
        if len(self.told) < 20:
            self.told.append(what)

    def _note_log(self, change: Document) -> None:
        found = change.get("fullDocument")
        if found is None:
            raise LoadFailed(f"the document {LOG} is not shown: {change}")
        gtid = str((found.get("position") or {}).get("gtid") or "")
        moment = _Moment(
            change["wallTime"].timestamp(),
            int(gtid.rpartition("-")[2] or 0),
            _without_none(found.get("dirty")),
            _without_none(found.get("stopped")),
            found.get("loads") or {},
        )
        if self._moments and moment.sequence < self._moments[-1].sequence:
            self._count(f"the place in the log: {self._moments[-1].sequence} to {moment.sequence}")
        self._moments.append(moment)

    # What follows.

    @property
    def sequence(self) -> int:
        """How far the log was applied last."""
        return self._moments[-1].sequence if self._moments else 0

    def unmarked(self, made: Iterable[Made]) -> list[Made]:
        """Edits of which nothing was said in the moment in which the log was said to be applied up
        to them."""
        sequences = [one.sequence for one in self._moments]
        missed = []
        for one in made:
            at = bisect_left(sequences, one.sequence)
            if at == len(sequences) or not self._moments[at].has(one):
                missed.append(one)
        return missed

    def unhealed(self) -> list[str]:
        """The entities that are marked now, or stopped."""
        if not self._moments:
            return []
        return sorted({**self._moments[-1].dirty, **self._moments[-1].stopped})

    def healed_after(self, since: float) -> float:
        """For how many seconds a mark stood at the longest after a moment in Unix seconds."""
        began: dict[str, float] = {}
        longest = 0.0
        for moment in self._moments:
            for name in list(began):
                if name not in moment.dirty:
                    longest = max(longest, moment.at - max(since, began.pop(name)))
            for name in moment.dirty:
                began.setdefault(name, moment.at)
        if began:
            end = self._moments[-1].at
            longest = max(longest, *(end - max(since, one) for one in began.values()))
        return longest


def _without_none(found: Document | None) -> Document:
    return {name: one for name, one in (found or {}).items() if one}


class Watcher:
    """Reads the change stream of the mirror from its beginning, over every kill of MongoDB. seen:
    what it said; it is whole when the watcher has stopped."""

    def __init__(self, mongod: Mongod) -> None:
        self._mongod, self._stop = mongod, threading.Event()
        self.seen, self.error = Seen(), ""
        self._token: Any = None
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self._ready = threading.Event()

    def start(self) -> None:
        """Begin, before anything is written. Raises LoadFailed."""
        with self._mongod.client() as client, suppress(CollectionInvalid):
            # So that the stream shows the document as it was at each change.
            client.get_default_database().create_collection(
                STATE, changeStreamPreAndPostImages={"enabled": True}
            )
        self._thread.start()
        if not self._ready.wait(30):
            raise LoadFailed(f"the change stream did not open: {self.error}")

    @property
    def alive(self) -> bool:
        """Whether it reads, or tries to."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._mongod.client() as client:
                    self._read(client)
            except PyMongoError as error:
                self.error = str(error)
                self._stop.wait(0.2)
            except Exception as error:
                self.error = f"{type(error).__name__}: {error}"
                break

    def _read(self, client: MongoClient[dict[str, Any]]) -> None:
        with client.get_default_database().watch(
            resume_after=self._token, full_document="whenAvailable", max_await_time_ms=200
        ) as stream:
            self._token = stream.resume_token or self._token
            self._ready.set()
            while not self._stop.is_set():
                change = stream.try_next()
                if change is not None:
                    self.seen.note(change)
                self._token = stream.resume_token
