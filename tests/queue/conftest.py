"""A consumer on a thread of its own, whose receiver notes what it got."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import structlog

from bridge.queue.broker import connection as broker
from bridge.queue.consumer.consumer import Consumer
from bridge.queue.events import Event, Rejected


class Receiver:
    """Notes every batch; rejects the versions in `rejects`."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.rejects: set[int] = set()

    def __call__(self, events: Sequence[Event]) -> list[Rejected]:
        self.batches.append(list(events))
        return [Rejected(event, "no") for event in events if event.version in self.rejects]

    @property
    def versions(self) -> list[int]:
        return [event.version for batch in self.batches for event in batch]


class Running:
    """A consumer that runs."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.counters = consumer.counters
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.consumer.run(self._stop)
        except BaseException as error:
            self.error = error

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


Start = Callable[..., Running]


def memory_broker() -> str:
    """The URL of Kombu's broker in memory, emptied: a process has only one."""
    with broker.connect("memory://") as connection:
        channel: Any = connection.channel
        for queue in (broker.DEAD_QUEUE, broker.EVENTS_QUEUE):
            connection.declare(queue)
            channel.queue_purge(queue)
    return "memory://"


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def start() -> Iterator[Start]:
    """start(broker_url, receiver, **options) -> Running; stopped at the end of the test."""
    running: list[Running] = []

    def _start(broker_url: str, handle: Callable[..., object], **options: object) -> Running:
        log = structlog.get_logger()
        running.append(Running(Consumer(broker_url, handle, log=log, **options)))  # type: ignore[arg-type]
        return running[-1]

    yield _start
    for one in running:
        one.stop()
