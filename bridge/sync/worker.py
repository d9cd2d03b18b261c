"""The worker: events from the queue into MongoDB, acknowledged after they are there.

MongoDB or the broker going away is waited for, without end: nothing is acknowledged, and no
message is blamed. Only at the start a missing server is an error, because then the URL may be
wrong. `bridge worker` calls `run_worker`.
"""

# Most of what kombu offers has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from pymongo.database import Database
from pymongo.errors import PyMongoError
from structlog.typing import FilteringBoundLogger

from bridge.errors import ServerAway, ServerMissing
from bridge.queue import broker, redisurl
from bridge.queue.consumer import Consumer, ConsumerCounters, Stopped
from bridge.queue.events import Event, Rejected
from bridge.settings import Settings, redact_url
from bridge.sync import apply as mongodb
from bridge.sync.apply import Document

__all__ = ["Counters", "broker_missing", "check_broker", "mongodb_missing", "run_worker"]


@dataclass(slots=True)
class Counters(ConsumerCounters):
    """What a worker did since it started; written by its thread, read by any.

    applied: events that changed MongoDB. stale: events of which MongoDB had this version or a
    newer one already. Every message received ends as one of applied, stale, superseded or dead.
    """

    applied: int = 0
    stale: int = 0


def run_worker(
    settings: Settings,
    *,
    stop: threading.Event,
    log: FilteringBoundLogger,
    counters: Counters | None = None,
) -> Counters:
    """Mirror events until `stop` is set; return what was done.

    After `stop` the batch in hand is written and acknowledged, or given back to the queue where
    MongoDB is away; that takes a few seconds at most.

    Raises ServerMissing when a server does not answer at the start, after one try of a few
    seconds, and BridgeError for a URL that cannot be used.
    """
    counters = Counters() if counters is None else counters
    with mongodb.connect(settings.mongodb_url) as client:
        check_broker(settings.broker_url)
        database: Database[Document] = client.get_default_database()
        try:
            client.admin.command("ping")
            mongodb.ensure_indexes(database)
        except (PyMongoError, ServerAway) as error:
            raise mongodb_missing(settings.mongodb_url, error) from error
        writer = _Writer(database, counters, stop, log)
        log.info("worker.started", mongodb=redact_url(settings.mongodb_url))
        Consumer(settings.broker_url, writer, log=log, counters=counters).run(stop)
    log.info("worker.stopped", applied=counters.applied, stale=counters.stale, dead=counters.dead)
    return counters


class _Writer:
    """Writes batches to MongoDB, however long it is away."""

    def __init__(
        self,
        database: Database[Document],
        counters: Counters,
        stop: threading.Event,
        log: FilteringBoundLogger,
    ) -> None:
        self._database, self._counters, self._stop, self._log = database, counters, stop, log

    def __call__(self, events: Sequence[Event]) -> Sequence[Rejected]:
        """Write, or raise Stopped when told to stop while MongoDB is away."""
        failures = 0
        while True:
            try:
                result = mongodb.apply(self._database, events)
                break
            except ServerAway as error:
                delay = broker.backoff(failures)
                failures += 1
                self._log.warning("mongodb.waiting", cause=str(error), seconds=round(delay, 1))
                if self._stop.wait(delay):
                    raise Stopped("stopped while MongoDB is away") from error
        if failures:
            self._log.info("mongodb.back", failures=failures)
        self._counters.applied += result.written
        self._counters.stale += result.stale
        return result.failed


def check_broker(url: str) -> None:
    """Raises ServerMissing when the broker does not answer, BridgeError for a wrong URL."""
    try:
        broker.connect(url).release()
    except ServerAway as error:
        raise broker_missing(url, error) from error


def broker_missing(url: str, error: object) -> ServerMissing:
    """What to say when the broker does not answer and a person waits."""
    name, start = _broker_command(url)
    return ServerMissing(name, redact_url(url), start, error)


def mongodb_missing(url: str, error: Exception) -> ServerMissing:
    """What to say when MongoDB does not answer at the start."""
    return ServerMissing("MongoDB", redact_url(url), _mongod(url), error)


def _broker_command(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    if not redisurl.is_redis(url):
        if parts.scheme in ("amqp", "amqps", "pyamqp"):
            return "RabbitMQ", "systemctl start rabbitmq-server"
        return "the broker", "start the broker that BRIDGE_BROKER_URL names"
    keep = "--appendonly yes --maxmemory-policy noeviction"
    return "Redis", f"redis-server --port {parts.port or 6379} {keep}"


def _mongod(url: str) -> str:
    # A URL of several hosts has no one port.
    port = urlsplit(url.split(",")[0]).port or 27017
    return f"mongod --replSet rs0 --port {port} --dbpath DIRECTORY"
