"""Counters and latencies for Prometheus; one more plug-in of the dispatcher.

Every worker writes to files named by its slot, not by its process id: a worker that replaces
another goes on counting in the same file, so recycling leaves nothing behind that each scrape
would have to read. Labels are few by construction: route, backend, status class, fixed words.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import prometheus_client as prometheus
from prometheus_client import multiprocess, values

from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.reload import Reloader

__all__ = ["Metrics", "freshness", "prepare", "scrape"]

_FOLDER = "metrics"
_FRESHNESS = "bridge_freshness"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def prepare(state_dir: Path) -> None:
    """Begin with empty files; called once, before the first worker starts."""
    folder = state_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.db"):
        file.unlink()


def scrape(state_dir: Path) -> bytes:
    """The sum over all workers in Prometheus' text format."""
    registry = prometheus.CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(state_dir / _FOLDER))  # type: ignore[no-untyped-call]
    return prometheus.generate_latest(registry)


def freshness(state_dir: Path) -> dict[str, int]:
    """How many requests of visitors who had to see their own edits ended in which way; the sum
    over all workers, empty where there was none."""
    if not (state_dir / _FOLDER).is_dir():
        return {}
    registry = prometheus.CollectorRegistry()
    collector = multiprocess.MultiProcessCollector(registry, str(state_dir / _FOLDER))  # type: ignore[no-untyped-call]
    counts: dict[str, int] = {}
    for family in collector.collect():  # type: ignore[no-untyped-call]
        for sample in family.samples if family.name == _FRESHNESS else ():
            if sample.name == f"{_FRESHNESS}_total":
                counts[sample.labels["outcome"]] = int(sample.value)
    return dict(sorted(counts.items()))


class Metrics(Hooks):
    """The metrics of the worker in `slot`."""

    def __init__(self, state_dir: Path, slot: int) -> None:
        folder = state_dir / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        values.ValueClass = values.MultiProcessValue(process_identifier=lambda: slot)  # type: ignore[no-untyped-call]
        registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "bridge_requests_total",
            "Responses, by who answered",
            ("route", "backend", "status"),
            registry=registry,
        )
        self._fallbacks = prometheus.Counter(
            "bridge_fallbacks_total",
            "Requests that legacy answered instead of Python",
            ("route", "reason"),
            registry=registry,
        )
        self._aborted = prometheus.Counter(
            "bridge_aborted_total",
            "Responses cut short, by who did it",
            ("backend", "by"),
            registry=registry,
        )
        self._freshness = prometheus.Counter(
            _FRESHNESS,
            "Requests of visitors who had to see their own edits, by how the mirror had them",
            ("outcome",),
            registry=registry,
        )
        self._seconds = prometheus.Histogram(
            "bridge_request_seconds",
            "Time from request to the end of the response",
            ("backend",),
            buckets=_BUCKETS,
            registry=registry,
        )
        self._loads = prometheus.Counter(
            "bridge_route_loads_total", "Loads of routes.yaml", ("result",), registry=registry
        )
        self._error = prometheus.Gauge(
            "bridge_routes_broken",
            "1 while a worker runs an old table because routes.yaml is broken",
            multiprocess_mode="max",
            registry=registry,
        )
        self._generation = prometheus.Gauge(
            "bridge_routes_generation",
            "Generation of the routing table, per worker slot",
            registry=registry,
        )

        # Looking up labels costs more than counting.
        self._usual = lru_cache(maxsize=4096)(self._labelled)

    def after_response(self, outcome: Outcome) -> None:
        requests, seconds = self._usual(
            outcome.route or "-", outcome.backend, f"{outcome.status // 100}xx"
        )
        requests.inc()
        seconds.observe(outcome.seconds)
        if outcome.fallback:
            self._fallbacks.labels(outcome.route, outcome.fallback).inc()
        if outcome.freshness:
            self._freshness.labels(outcome.freshness).inc()
        if outcome.aborted:
            by = "visitor" if outcome.aborted == "visitor left" else "backend"
            self._aborted.labels(outcome.backend, by).inc()

    def _labelled(
        self, route: str, backend: str, status: str
    ) -> tuple[prometheus.Counter, prometheus.Histogram]:
        return self._requests.labels(route, backend, status), self._seconds.labels(backend)

    def on_reload(self, reloader: Reloader) -> None:
        """For `Reloader`'s on_change."""
        self._loads.labels("broken" if reloader.error else "good").inc()
        self._error.set(1 if reloader.error else 0)
        self._generation.set(reloader.table().generation)
