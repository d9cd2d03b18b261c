"""The numbers that `/metrics` shows: what they are called, and how those of all workers are added.

Counting is `bridge.proxy.telemetry.metrics`', the cells in shared memory are
`bridge.proxy.telemetry.cells`'. Labels are few by construction: route, backend, status class, fixed
words.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

from bridge.errors import StateUnreadable
from bridge.prometheus import Kind, family, header, page, sample
from bridge.proxy.telemetry.cells import Reader, Series

__all__ = [
    "BUCKETS",
    "FOLDER",
    "KINDS",
    "answered",
    "breakers",
    "by_two",
    "freshness",
    "log_ends",
    "loops",
    "odd_lines",
    "prepare",
    "scrape",
]

FOLDER = "metrics"
BUCKETS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30),
)


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a metric is shown. `per_slot`: each worker's value by itself; `most`: the largest."""

    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    per_slot: bool = False
    most: bool = False


REQUESTS = "bridge_requests_total"
FALLBACKS = "bridge_fallbacks_total"
FRESHNESS = "bridge_freshness_total"
LOG_END = "bridge_log_end_total"
ASKED = "bridge_log_end_seconds"
ABORTED = "bridge_aborted_total"
SECONDS = "bridge_request_seconds"
STAGES = "bridge_stage_seconds"
FAILED = "bridge_backend_failures_total"
LOOPS = "bridge_redirect_loops_total"
ODD = "bridge_legacy_odd_lines_total"
LOOPS_SEEN = "bridge_redirect_loops_seen_total"
BREAKER = "bridge_breaker_open"
OPENED = "bridge_breaker_opened_total"
IN_FLIGHT = "bridge_in_flight"
CONNECTIONS = "bridge_backend_connections"
DOWN = "bridge_backend_server_down"
HANDLERS = "bridge_handlers"
VISITORS = "bridge_visitors"
WORKERS = "bridge_workers"
UNWATCHED = "bridge_routes_unwatched"
LOADS = "bridge_route_loads_total"
BROKEN = "bridge_routes_broken"
GENERATION = "bridge_routes_generation"
CACHE_READS = "bridge_cache_reads_total"
CACHE_CHANGES = "bridge_cache_changes_total"
CACHE_ENTRIES = "bridge_cache_entries"
CACHE_BYTES = "bridge_cache_bytes"
LAST_ERROR = "bridge_routes_last_error"
COPIES = "bridge_shadow_copies_total"
SHADOW = "bridge_shadow_total"
SHADOW_DROPPED = "bridge_shadow_dropped_total"
SHADOW_STARTS = "bridge_shadow_starts_total"
SHADOW_WAITING = "bridge_shadow_waiting"
SHADOW_BYTES = "bridge_shadow_bytes"

KINDS = {
    COPIES: _Kind(
        "counter",
        "Answers of legacy that were to be compared, by what became of their copies",
        ("route", "result"),
    ),
    SHADOW: _Kind("counter", "Comparisons, by their kind", ("route", "kind")),
    SHADOW_DROPPED: _Kind("counter", "Copies that the shadow did not compare, by why", ("why",)),
    SHADOW_STARTS: _Kind("counter", "How often the shadow was started"),
    SHADOW_WAITING: _Kind("gauge", "Copies that wait in the shadow"),
    SHADOW_BYTES: _Kind("gauge", "Bytes of memory that the shadow has"),
    REQUESTS: _Kind("counter", "Responses, by who answered", ("route", "backend", "status")),
    FALLBACKS: _Kind(
        "counter", "Requests that legacy answered instead of Python", ("route", "reason")
    ),
    FRESHNESS: _Kind(
        "counter",
        "Requests of visitors who had to see their own edits, by how the mirror had them",
        ("outcome",),
    ),
    LOG_END: _Kind(
        "counter",
        "Answers of legacy before which the database was asked where its log ends, by what it said",
        ("outcome",),
    ),
    ASKED: _Kind("histogram", "Time that such an answer was held up"),
    ABORTED: _Kind("counter", "Responses cut short, by who did it", ("backend", "by")),
    FAILED: _Kind(
        "counter",
        "Requests that a backend gave no answer to, by the stage in which it failed",
        ("backend", "stage"),
    ),
    LOOPS: _Kind(
        "counter",
        "Redirect loops that were stopped, by the routes that sent visitors to each other",
        ("routes",),
    ),
    ODD: _Kind(
        "counter",
        "Lines of a backend's answers that were no headers, and were dropped",
        ("backend", "line"),
    ),
    LOOPS_SEEN: _Kind(
        "counter",
        "Redirect loops that were seen and not stopped: of legacy alone, or of visitors who take "
        "no cookies",
        ("routes",),
    ),
    SECONDS: _Kind("histogram", "Time from request to the end of the response", ("backend",)),
    STAGES: _Kind(
        "histogram",
        "Time of a stage: wait (for a connection), connect, first_byte, handler",
        ("backend", "stage"),
    ),
    BREAKER: _Kind(
        "gauge",
        "Workers that leave a route's Python side alone now, by why",
        ("route", "cause"),
    ),
    OPENED: _Kind(
        "counter",
        "How often a worker began to leave a route's Python side alone",
        ("route", "cause"),
    ),
    WORKERS: _Kind("gauge", "Workers that serve"),
    IN_FLIGHT: _Kind("gauge", "Requests that are being answered"),
    LOADS: _Kind("counter", "Loads of routes.yaml", ("result",)),
    BROKEN: _Kind(
        "gauge", "1 while a worker runs an old table because routes.yaml is broken", most=True
    ),
    UNWATCHED: _Kind("gauge", "Workers that do not notice changes of routes.yaml any more"),
    CONNECTIONS: _Kind(
        "gauge", "Connections to a backend, and requests that wait for one", ("backend", "state")
    ),
    DOWN: _Kind(
        "gauge", "Workers that leave a server of a backend alone now", ("backend", "server")
    ),
    HANDLERS: _Kind("gauge", "Handlers that run or wait for a thread"),
    VISITORS: _Kind("gauge", "Connections of visitors"),
    CACHE_READS: _Kind(
        "counter", "Reads of the mirror by key, by where the answer was", ("result",)
    ),
    CACHE_CHANGES: _Kind("counter", "What happened to cached answers", ("what",)),
    CACHE_ENTRIES: _Kind("gauge", "Answers in the caches of the mirror"),
    CACHE_BYTES: _Kind("gauge", "Bytes of them"),
    GENERATION: _Kind("gauge", "Generation of the routing table, per worker slot", per_slot=True),
}


def prepare(state_dir: Path) -> None:
    """Begin with empty files; called once, before the first worker starts."""
    folder = state_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("names", "cells", "error"):
        for file in folder.glob(f"*.{suffix}"):
            file.unlink()


class _Total:
    """One series, added up over the slots, and how its samples are named."""

    __slots__ = ("cells", "kind", "labels", "name", "samples", "slots")

    def __init__(self, name: str, kind: _Kind, labels: tuple[str, ...], count: int) -> None:
        self.name, self.kind, self.labels = name, kind, labels
        self.cells = [0.0] * count
        self.slots = 0  # that have it
        names = (*kind.labels, "slot") if kind.per_slot else kind.labels
        given = dict(zip(names, labels, strict=True))
        if kind.kind == "histogram":
            bounds = (*map(str, map(float, BUCKETS)), "+Inf")
            self.samples = [sample(f"{name}_bucket", given | {"le": bound}) for bound in bounds]
            self.samples += [sample(f"{name}_count", given), sample(f"{name}_sum", given)]
        else:
            self.samples = [sample(name, given)]

    def lines(self) -> list[str]:
        if len(self.samples) == 1:
            return [f"{self.samples[0]} {self.cells[0]}"]
        *counts, total = self.cells
        values = list(accumulate(counts))
        return list(map("{} {}".format, self.samples, (*values, values[-1], total)))


class _Sums:
    """Adds up the slots of one state directory, again and again. Thread-safe."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._reader = Reader(state_dir / FOLDER)
        self._totals: dict[tuple[str, tuple[str, ...]], _Total] = {}
        self._parts: dict[int, tuple[list[Series], list[tuple[_Total, int, int] | None]]] = {}
        self._lock = threading.Lock()

    def look(self) -> list[_Total]:
        """Every series that any slot has."""
        with self._lock:
            for total in self._totals.values():
                total.slots, total.cells = 0, [0.0] * len(total.cells)
            try:
                for slot, series, cells in self._reader.read():
                    self._add(slot, series, cells)
            except PermissionError:
                raise StateUnreadable(self._state_dir) from None
            return [total for total in self._totals.values() if total.slots]

    def _add(self, slot: int, series: list[Series], cells: memoryview[float]) -> None:
        known = self._parts.get(slot)
        if known is None or known[0] is not series:
            known = self._parts[slot] = series, []
        parts = known[1]
        parts += [self._part(slot, one) for one in series[len(parts) :]]
        for part in parts:
            if part is None:
                continue
            total, start, count = part
            total.slots += 1
            if count == 1 and not total.kind.most:
                total.cells[0] += cells[start]
            else:
                join = max if total.kind.most else float.__add__
                total.cells = list(map(join, total.cells, cells[start : start + count]))

    def _part(self, slot: int, series: Series) -> tuple[_Total, int, int] | None:
        name, labels, start, count = series
        kind = KINDS.get(name)
        if kind is None:
            return None  # from another version
        key = name, (*labels, str(slot)) if kind.per_slot else labels
        total = self._totals.get(key)
        if total is None:
            total = self._totals[key] = _Total(name, kind, key[1], count)
        return total, start, count


@lru_cache(maxsize=4)
def _sums(state_dir: Path) -> _Sums:
    """Kept, so that the names of series are read once."""
    return _Sums(state_dir)


def scrape(state_dir: Path) -> bytes:
    """The sum over all workers in Prometheus' text format."""
    found: dict[str, list[_Total]] = defaultdict(list)
    for total in _sums(state_dir).look():
        # A slot without a worker has no generation.
        if not total.kind.per_slot or total.cells[0]:
            found[total.name].append(total)
    lines: list[str] = []
    for name, kind in KINDS.items():
        if totals := found.get(name):
            lines += header(name, kind.kind, kind.text)
            for total in totals:
                lines += total.lines()
    lines += _last_errors(state_dir)
    return page(lines)


def _last_errors(state_dir: Path) -> list[str]:
    """When each slot last failed to load routes.yaml, and why; one small file per slot."""
    samples = []
    for file in sorted((state_dir / FOLDER).glob("*.error")):
        try:
            when, error = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        samples.append(({"error": error, "slot": file.stem}, when))
    text = "When a worker last failed to load routes.yaml, in Unix seconds, and why"
    return family(LAST_ERROR, "gauge", text, samples) if samples else []


def unwatched(state_dir: Path) -> int:
    """How many workers do not notice changes of routes.yaml any more."""
    totals = (total for total in _sums(state_dir).look() if total.name == UNWATCHED)
    return int(sum(total.cells[0] for total in totals))


def freshness(state_dir: Path) -> dict[str, int]:
    """How many requests of visitors who had to see their own edits ended in which way; the sum
    over all workers, empty where there was none."""
    return _counts(state_dir, FRESHNESS)


def log_ends(state_dir: Path) -> dict[str, int]:
    """How often the database was asked where its log ends, by what became of it; the sum over all
    workers, empty where it never was."""
    return _counts(state_dir, LOG_END)


def loops(state_dir: Path) -> dict[str, int]:
    """How many redirect loops were stopped, by the routes that sent visitors to each other
    (`bridge.proxy.decision.loopguard.loop_name`); the sum over all workers."""
    return _counts(state_dir, LOOPS)


def odd_lines(state_dir: Path) -> dict[tuple[str, str], int]:
    """How many lines of a backend's answers were dropped because they were no headers, by the
    backend and how they began; the sum over all workers."""
    return by_two(state_dir, ODD)


def answered(state_dir: Path) -> dict[tuple[str, str], int]:
    """By route (`-` where none took it) and backend: how many requests it answered; the sum over
    all workers."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for total in _sums(state_dir).look():
        if total.name == REQUESTS:
            route, backend, _ = total.labels
            found[route, backend] += int(total.cells[0])
    return dict(sorted(found.items()))


def by_two(state_dir: Path, name: str) -> dict[tuple[str, str], int]:
    """The metric `name` (FALLBACKS, FAILED) by its two labels; the sum over all workers."""
    totals = (total for total in _sums(state_dir).look() if total.name == name)
    counts = {(total.labels[0], total.labels[1]): int(total.cells[0]) for total in totals}
    return {key: counts[key] for key in sorted(counts) if counts[key]}


def loops_seen(state_dir: Path) -> dict[str, int]:
    """As `loops`, of those that were seen and not stopped."""
    return _counts(state_dir, LOOPS_SEEN)


def breakers(state_dir: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """By route and cause (`failures` or `redirect-loop`): how many workers leave its Python side
    alone now, and how often one began to. Those that never opened are left out."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for total in _sums(state_dir).look():
        if total.name in (BREAKER, OPENED):
            route, cause = total.labels
            now, opened = found.get((route, cause), (0, 0))
            value = int(total.cells[0])
            found[route, cause] = (value, opened) if total.name == BREAKER else (now, value)
    return {key: found[key] for key in sorted(found) if any(found[key])}


def _counts(state_dir: Path, name: str) -> dict[str, int]:
    totals = (total for total in _sums(state_dir).look() if total.name == name)
    return dict(sorted((total.labels[0], int(total.cells[0])) for total in totals))
