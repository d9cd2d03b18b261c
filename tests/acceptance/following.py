"""Whether what a process reads through its cache is as new as promised, from outside of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Self

from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.fault_edits import WATCHED
from tests.acceptance.fault_site import FaultSite

BOUND = 2.0
"""Seconds that what is cached may be behind."""


MODULE = "tests.acceptance.reading_process"


class Read(NamedTuple):
    """See `reading_process`."""

    begin: float
    end: float
    key: str
    version: int | None
    heard: int | None
    hit: bool


@dataclass(frozen=True)
class Verdict:
    """reads: with an answer. hits: from memory. away: without an answer in time. old: older than
    what a majority was seen to hold `BOUND` seconds before. unheard: older than what the process
    had heard of. backwards: older than what an earlier read had. gap: longest time in seconds
    without an answer. behind: most seconds that any answer was older than the majority's."""

    reads: int
    hits: int
    away: int
    old: list[Read]
    unheard: list[Read]
    backwards: list[Read]
    gap: float
    behind: float


class Following:
    """A process that reads the watched pages, and a thread that looks at the primary for what is
    true. A context manager; `verdict` may be asked at any time.

    entries: what the cache of the process holds at most.
    """

    def __init__(self, site: FaultSite, *, entries: int = 6) -> None:
        self._site, self._entries = site, entries
        self.file = site.folder / f"reads{monotonic()}.jsonl"
        self._held: dict[str, tuple[list[float], list[int]]] = {key: ([], []) for key in WATCHED}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        inherited = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
        self._errors = self.file.with_suffix(".err").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE, str(self.file), str(self._entries), *WATCHED],
            env={**inherited, **self._site.env, "PYTHONPATH": str(REPOSITORY)},
            cwd=REPOSITORY,
            stderr=self._errors,
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._process.kill()
        self._process.wait()
        self._thread.join(10)
        self._errors.close()

    def wait_for_answers(self, bound: float = 20.0) -> None:
        """Wait until a read that begins from now on is answered from memory."""
        now = monotonic()
        wait_for(
            lambda: any(one.begin > now and one.hit and one.version for one in self._reads(2000)),
            bound,
            "an answer from memory",
        )

    def _look(self) -> None:
        while not self._stop.is_set():
            try:
                with self._site.mongodb.client(
                    serverSelectionTimeoutMS=300, socketTimeoutMS=1000
                ) as client:
                    pages = client.get_default_database().get_collection(
                        "pages", read_concern=ReadConcern("majority")
                    )
                    while not self._stop.wait(0.02):
                        found = list(pages.find({"_id": {"$in": WATCHED}}, {"_v": 1}))
                        now = monotonic()
                        for one in found:
                            times, versions = self._held[one["_id"]]
                            if not versions or one["_v"] > versions[-1]:
                                times.append(now)
                                versions.append(one["_v"])
            except PyMongoError:
                self._stop.wait(0.05)

    def _reads(self, last: int | None = None) -> list[Read]:
        if not self.file.exists():
            return []
        lines = self.file.read_text().split("\n")[:-1]
        return [Read(*json.loads(line)) for line in (lines if last is None else lines[-last:])]

    def verdict(self) -> Verdict:
        """What is to be said of all reads so far."""
        assert self._process.poll() is None, self.file.with_suffix(".err").read_text()
        reads = self._reads()
        answered = [one for one in reads if one.version is not None]
        ends = sorted(one.end for one in answered)
        behind = 0.0
        for one in answered:
            times, versions = self._held[one.key]
            # When the next version after that of the answer was seen to be a majority's.
            newer = bisect_right(versions, one.version or 0)
            if newer < len(times):
                behind = max(behind, one.begin - times[newer])
        return Verdict(
            reads=len(answered),
            hits=sum(one.hit for one in answered),
            away=len(reads) - len(answered),
            old=[
                one for one in answered if (one.version or 0) < self._at(one.key, one.begin - BOUND)
            ],
            unheard=[one for one in answered if (one.version or 0) < (one.heard or 0)],
            backwards=_backwards(answered),
            gap=max((later - one for one, later in pairwise(ends)), default=0.0),
            behind=behind,
        )

    def _at(self, key: str, moment: float) -> int:
        """The version that a majority was seen to hold by then."""
        times, versions = self._held[key]
        found = bisect_right(times, moment)
        return versions[found - 1] if found else 0


def _backwards(reads: Sequence[Read]) -> list[Read]:
    """Reads older than one that had ended before they began."""
    wrong: list[Read] = []
    for key in WATCHED:
        ended = sorted((one for one in reads if one.key == key), key=lambda one: one.end)
        index, newest = 0, 0
        for one in sorted(ended, key=lambda one: one.begin):
            while index < len(ended) and ended[index].end < one.begin:
                newest = max(newest, ended[index].version or 0)
                index += 1
            if (one.version or 0) < newest:
                wrong.append(one)
    return wrong
