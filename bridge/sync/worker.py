"""The worker: events from the queue into MongoDB, acknowledged after they are there.

MongoDB or the broker going away is waited for, without end: nothing is acknowledged, and no
message is blamed. Only at the start a missing server is an error, because then the URL may be
wrong. `bridgectl worker` calls `run_worker`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pymongo.database import Database
from pymongo.errors import PyMongoError
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway, ServerMissing
from bridge.queue.consumer.consumer import Consumer, ConsumerCounters
from bridge.queue.events import Event, Rejected
from bridge.queue.waiting import Patience
from bridge.settings import Settings, redact_url
from bridge.sync import indexes, twins
from bridge.sync.apply import apply
from bridge.sync.documents import Document, Mirror
from bridge.sync.mongodb import connect
from bridge.sync.reconcile.heard import Heard
from bridge.sync.reconcile.schedule import Scheduled
from bridge.sync.server_errors import check_broker, mongodb_missing, no_entities
from bridge.sync.sql.watch import TypeWatch
from bridge.sync.state import State

__all__ = ["Counters", "run_worker"]

T = TypeVar("T")

WAIT = 5.0
"""Seconds until events are tried again whose table does not fit sync.yaml."""


@dataclass(slots=True)
class Counters(ConsumerCounters):
    """What a worker did since it started; written by its thread, read by any.

    applied: events that changed MongoDB. stale: events of which MongoDB had this version or a
    newer one already. Every message received ends as one of applied, stale, compared, superseded
    or dead.
    doubled: writes that met another document with the same value of a unique index, and were made.
    compared, differing, unchecked: of entities whose source is the log, see
    `bridge.sync.reconcile.heard`.
    """

    applied: int = 0
    stale: int = 0
    doubled: int = 0
    compared: int = 0
    differing: int = 0
    unchecked: int = 0


def run_worker(
    settings: Settings,
    *,
    stop: threading.Event,
    log: FilteringBoundLogger,
    counters: Counters | None = None,
) -> Counters:
    """Mirror events until `stop` is set; return what was done.

    stop: then the batch in hand is written and acknowledged, or given back to the queue where
        MongoDB is away; that takes a few seconds at most.
    counters: what is counted in; by default new ones.

    Raises ServerMissing when a server does not answer at the start, after one try of a few
    seconds, ConfigError for a wrong sync.yaml, and BridgeError for a URL that cannot be used, an
    index that is in the way, or a sync.yaml that declares no entities.
    """
    counters = Counters() if counters is None else counters
    mirror = Mirror.of(settings)
    if not mirror.entities:
        raise no_entities(settings)
    with connect(settings.mongodb_url) as client:
        check_broker(settings.broker_url)
        database: Database[Document] = client.get_default_database()
        try:
            _check_transactions(client.admin.command("hello"), mirror, settings)
            indexes.ensure(database, mirror)
        except (PyMongoError, ServerAway) as error:
            raise mongodb_missing(settings.mongodb_url, error) from error
        watch = TypeWatch(settings.sql_url, mirror, State(database), log)
        try:
            watch.start()
        except ServerAway as error:
            where = redact_url(settings.sql_url)
            text = f"{error} ({where})"
            raise ServerMissing("the SQL database", where, "", error, text=text) from error
        heard = Heard(settings.sql_url, database, mirror, counters, log)
        writer = _Writer(database, mirror, watch, heard, counters, stop, log)
        log.info("worker.started", mongodb=redact_url(settings.mongodb_url))
        scheduled = Scheduled(settings, mirror, log)
        scheduled.start()
        try:
            with twins.TwinWatch(settings, mirror, log), heard:
                Consumer(
                    settings.broker_url,
                    writer,
                    log=log,
                    counters=counters,
                    max_event=mirror.file.max_event,
                ).run(stop)
        finally:
            scheduled.stop()
            watch.close()
    log.info("worker.stopped", applied=counters.applied, stale=counters.stale, dead=counters.dead)
    return counters


@dataclass
class _Writer:
    """Writes batches to MongoDB, however long it is away."""

    _database: Database[Document]
    _mirror: Mirror
    _watch: TypeWatch
    _heard: Heard
    _counters: Counters
    _stop: threading.Event
    _log: FilteringBoundLogger

    def __call__(self, events: Sequence[Event]) -> Sequence[Rejected]:
        """Write, or raise Stopped when told to stop while a server is away."""
        waiting = self._patiently(
            "sql", lambda: self._watch.look({event.entity for event in events})
        )
        later = [
            Rejected(event, waiting[event.entity], WAIT)
            for event in events
            if event.entity in waiting
        ]
        ready = [event for event in events if event.entity not in waiting] if later else events
        ready, refused = self._patiently("mongodb", lambda: self._heard.take(ready))
        result = self._patiently("mongodb", lambda: apply(self._database, self._mirror, ready))
        self._counters.applied += result.written
        self._counters.stale += result.stale
        self._counters.doubled += result.doubled
        return [*refused, *result.failed, *later]

    def _patiently(self, server: str, attempt: Callable[[], T]) -> T:
        """Try until the server answers. Raises Stopped."""

        def tell(error: ServerAway, failures: int, seconds: float) -> None:
            self._log.warning(f"{server}.waiting", cause=str(error), seconds=round(seconds, 1))

        def back(failures: int) -> None:
            self._log.info(f"{server}.back", failures=failures)

        return Patience(self._stop).until(attempt, tell, back)


def _check_transactions(hello: Mapping[str, Any], mirror: Mirror, settings: Settings) -> None:
    if mirror.parent_of and "setName" not in hello and hello.get("msg") != "isdbgrid":
        raise BridgeError(
            f"the MongoDB at {redact_url(settings.mongodb_url)} is no replica set, and entities "
            "with children are written in transactions, which only a replica set has; one member "
            "is enough: start it with --replSet rs0 and call rs.initiate()"
        )
