"""What is counted about requests, for Prometheus; one more plug-in of the dispatcher.

Workers count in shared memory, by slot (`bridge.proxy.telemetry.cells`); the operator's listener
adds the slots up when it is asked (`bridge.proxy.telemetry.scrape`).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bridge.files import write_atomically
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.telemetry import cells as counters
from bridge.proxy.telemetry import scrape as shown
from bridge.proxy.telemetry.cells import Cells, Histogram
from bridge.reasons import Stage

__all__ = ["Metrics", "State", "clear", "take_slot"]

_ERROR_LENGTH = 200  # characters of the first line
_MOST_LOOPS = 200  # that are counted by name in a slot
_MOST_ODD = 100  # likewise


@dataclass(frozen=True, slots=True)
class State:
    """What there is in a worker at this moment.

    `backends`: of each the connections that are active and idle, and the requests that wait.
    `breakers`: by route and cause, whether it is open, and how often it has opened. `cache`: what
    the mirror's cache has done and holds, as `bridge.sync.cache.memory.Stats` names it. `watches`:
    whether changes of routes.yaml are noticed. `alone`: by backend, which of its servers are left
    alone, and why. `copies`: by route and result, legacy's answers that were to be compared.
    """

    visitors: int
    in_flight: int
    handlers: int
    backends: Mapping[str, tuple[int, int, int]]
    breakers: Mapping[tuple[str, str], tuple[bool, int]]
    cache: Mapping[str, int] = field(default_factory=dict)
    watches: bool = True
    alone: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    copies: Mapping[tuple[str, str], int] = field(default_factory=dict)


_Usual = tuple[int, Histogram]


def clear(state_dir: Path) -> None:
    """What workers that are gone had is gone too, also if they could not say so; what they have
    counted stays."""
    for slot in counters.free_slots(state_dir / shown.FOLDER):
        Metrics(state_dir, slot).close()


def take_slot(state_dir: Path) -> int:
    """A slot that this process has alone, until it ends."""
    return counters.take_slot(state_dir / shown.FOLDER)


class Metrics(Hooks):
    """The metrics of the worker in `slot`. Thread-safe."""

    def __init__(self, state_dir: Path, slot: int) -> None:
        self._folder, self._slot = state_dir / shown.FOLDER, slot
        self._cells = Cells(self._folder, slot)
        self._lock = threading.Lock()
        self._usual: dict[tuple[str, str, int], _Usual] = {}
        self._legacy: dict[str, tuple[Histogram, Histogram, Histogram]] = {}
        self._handler: Histogram | None = None
        self._log_end: Histogram | None = None
        known = self._cells.known()
        self._loops = {
            labels[0] for name, labels, _ in known if name in (shown.LOOPS, shown.LOOPS_SEEN)
        }
        self._odd = {labels[1] for name, labels, _ in known if name == shown.ODD}
        self._reached: dict[tuple[str, ...], int] = {}
        self._backends: set[str] = set()
        self._alone: set[tuple[str, str]] = set()  # that ever were
        self._set_to_zero()

    def _set_to_zero(self) -> None:
        """Forget what the worker before this one had."""
        for name, _, index in self._cells.known():
            if (kind := shown.KINDS.get(name)) and kind.kind == "gauge":
                self._cells.values[index] = 0

    def after_response(self, outcome: Outcome) -> None:
        key = outcome.route, outcome.backend, outcome.status // 100
        with self._lock:
            usual = self._usual.get(key) or self._labelled(key)
            self._cells.values[usual[0]] += 1
            usual[1].observe(outcome.seconds)
            if outcome.legacy:
                self._legacy_stages(outcome)
            if outcome.handler >= 0:
                handler = self._handler
                if handler is None:
                    handler = self._handler = self._stage(PYTHON, Stage.HANDLER)
                handler.observe(outcome.handler)
            if outcome.fallback:
                self._add(shown.FALLBACKS, outcome.route, outcome.fallback)
            if outcome.freshness:
                self._add(shown.FRESHNESS, outcome.freshness)
            if outcome.log_end:
                self._add(shown.LOG_END, outcome.log_end)
                if self._log_end is None:
                    self._log_end = self._cells.histogram(shown.ASKED, (), shown.BUCKETS)
                self._log_end.observe(outcome.asked)
            if outcome.loop:
                name = _few(outcome.loop, self._loops, _MOST_LOOPS)
                self._add(shown.LOOPS if outcome.status == 508 else shown.LOOPS_SEEN, name)
            for line in outcome.odd:
                self._add(shown.ODD, outcome.legacy, _few(line, self._odd, _MOST_ODD))
            if outcome.aborted:
                self._add(shown.ABORTED, outcome.backend, outcome.aborted_by)

    def _legacy_stages(self, outcome: Outcome) -> None:
        name = outcome.legacy
        stages = self._legacy.get(name)
        if stages is None:
            stages = self._legacy[name] = (
                self._stage(name, Stage.WAIT),
                self._stage(name, Stage.CONNECT),
                self._stage(name, Stage.FIRST_BYTE),
            )
        if outcome.wait >= 0:
            stages[0].observe(outcome.wait)
        if outcome.connect >= 0:
            stages[1].observe(outcome.connect)
        if outcome.first_byte >= 0:
            stages[2].observe(outcome.first_byte)
        if outcome.stage:
            self._add(shown.FAILED, name, outcome.stage)

    def _stage(self, backend: str, stage: Stage) -> Histogram:
        return self._cells.histogram(shown.STAGES, (backend, stage), shown.BUCKETS)

    def _labelled(self, key: tuple[str, str, int]) -> _Usual:
        route, backend, status = key
        found = (
            self._cells.index(shown.REQUESTS, (route or "-", backend, f"{status}xx")),
            self._cells.histogram(shown.SECONDS, (backend,), shown.BUCKETS),
        )
        self._usual[key] = found
        return found

    def _add(self, name: str, *labels: str, by: float = 1) -> None:
        self._cells.values[self._cells.index(name, labels)] += by

    def _set(self, name: str, *labels: str, to: float) -> None:
        self._cells.values[self._cells.index(name, labels)] = to

    def state(self, state: State) -> None:
        """Show what there is at this moment."""
        with self._lock:
            self._set(shown.WORKERS, to=1)
            self._set(shown.UNWATCHED, to=not state.watches)
            self._set(shown.VISITORS, to=state.visitors)
            self._set(shown.IN_FLIGHT, to=state.in_flight)
            self._set(shown.HANDLERS, to=state.handlers)
            # A backend that is no longer in the table has no connections.
            gone = dict.fromkeys(self._backends - state.backends.keys(), (0, 0, 0))
            self._backends.update(state.backends)
            for backend, counts in {**state.backends, **gone}.items():
                for what, count in zip(("active", "idle", "waiting"), counts, strict=True):
                    self._set(shown.CONNECTIONS, backend, what, to=count)
            alone = {(name, url) for name, urls in state.alone.items() for url in urls}
            self._alone |= alone
            for server in self._alone:
                self._set(shown.DOWN, *server, to=server in alone)
            for key, (is_open, opened) in state.breakers.items():
                self._set(shown.BREAKER, *key, to=is_open)
                self._up_to(shown.OPENED, *key, now=opened)
            for key, count in state.copies.items():
                self._up_to(shown.COPIES, *key, now=count)
            if state.cache:
                self._cache(state.cache)

    def _cache(self, cache: Mapping[str, int]) -> None:
        reads = {
            "hit": cache["hits"] - cache["negative_hits"],
            "nothing": cache["negative_hits"],
            "miss": cache["misses"],
        }
        for result, count in reads.items():
            self._up_to(shown.CACHE_READS, result, now=count)
        for what in ("fills", "rejected", "evicted", "invalidated", "flushes"):
            self._up_to(shown.CACHE_CHANGES, what, now=cache[what])
        self._set(shown.CACHE_ENTRIES, to=cache["entries"])
        self._set(shown.CACHE_BYTES, to=cache["bytes"])

    def _up_to(self, name: str, *labels: str, now: int) -> None:
        """Count what has come since the last time; `now` counts from the start of this process."""
        key = name, *labels
        self._add(name, *labels, by=max(0, now - self._reached.get(key, 0)))
        self._reached[key] = now

    def leave(self) -> None:
        """The worker ends: what it had is gone, what it counted stays."""
        with self._lock:
            self._set_to_zero()

    def close(self) -> None:
        """Give the files back; nothing is counted any more."""
        with self._lock:
            self._cells.close()

    def on_reload(self, reloader: Reloader) -> None:
        """For `Reloader`'s on_change."""
        with self._lock:
            self._add(shown.LOADS, "broken" if reloader.error else "good")
            self._set(shown.BROKEN, to=1 if reloader.error else 0)
            self._set(shown.GENERATION, to=reloader.table().generation)
        if reloader.error:
            first = (str(reloader.error).splitlines() or [""])[0][:_ERROR_LENGTH]
            content = json.dumps([round(time.time(), 3), first])
            write_atomically(self._folder / f"{self._slot}.error", content)


def _few(name: str, known: set[str], most: int) -> str:
    """`name`, or `others` when `known` has very many names."""
    if name not in known:
        if len(known) >= most:
            return "others"
        known.add(name)
    return name
