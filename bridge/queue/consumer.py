"""Take events from the queue in batches, hand them on, acknowledge what came of them.

One message never harms another: what is no event, or what the receiver rejects, goes to the dead
letters and its neighbours go on. A broker that is away is waited for. What came of a message is
remembered until the broker has heard it, over reconnects too, so that an outage between the work
and the acknowledgement costs at most a repetition, which the version guard makes harmless.
"""

# Most of what kombu offers has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Consumer as KombuConsumer
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway, UndecodableMessage
from bridge.queue import broker
from bridge.queue.deadletter import DeadLetter, DeadLetters
from bridge.queue.envelope import UNDECODABLE
from bridge.queue.events import Event, Rejected
from bridge.settings import redact_url

__all__ = ["Consumer", "ConsumerCounters", "Handle", "Stopped"]

IDLE_WAIT = 0.5
"""Seconds that one look at an empty queue takes; a stop is noticed between two."""
RESTORE_EVERY = 15.0
"""Seconds between two looks for what killed workers held."""


class Stopped(BridgeError):
    """Raised by a receiver that was told to stop before it could use its events."""


Handle = Callable[[Sequence[Event]], Sequence[Rejected]]
"""Uses events, at most one of an entity, and returns those that it can never use. An exception
means that none of them counts as used: they go back to the queue and it passes through."""


@dataclass(slots=True)
class ConsumerCounters:
    """What a consumer did since it started; written by its thread, read by any.

    received: messages taken. superseded: events for which a newer one of the same entity was
    in the same batch. dead: messages put to the dead letters.
    """

    received: int = 0
    superseded: int = 0
    dead: int = 0


@dataclass(slots=True)
class _Outcome:
    """What came of one message, until the broker knows it."""

    message: Any
    letter: DeadLetter | None = None


class Consumer:
    """Hands the events of a queue to `handle`, in one thread.

    broker_url: any URL that Kombu knows. batch_size: the most messages of one batch.
    batch_wait: seconds that a batch waits for more after its first message.
    """

    def __init__(
        self,
        broker_url: str,
        handle: Handle,
        *,
        log: FilteringBoundLogger,
        counters: ConsumerCounters | None = None,
        queue: str = broker.EVENTS_QUEUE,
        dead_queue: str = broker.DEAD_QUEUE,
        batch_size: int = 200,
        batch_wait: float = 0.02,
    ) -> None:
        self.counters = ConsumerCounters() if counters is None else counters
        self._url, self._handle, self._log = broker_url, handle, log
        self._queue, self._dead_queue = queue, dead_queue
        self._batch_size, self._batch_wait = batch_size, batch_wait
        self._inbox: list[Any] = []
        self._outcomes: list[_Outcome] = []
        self._failures = 0
        self._restored_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop` is set, then acknowledge or give back what is in hand.

        Raises BridgeError for a URL that cannot be used, and what `handle` raises, except
        Stopped. A broker that is away is waited for, without end.
        """
        while not stop.is_set():
            try:
                connection = broker.connect(self._url)
            except ServerAway as error:
                self._wait(stop, str(error))
                continue
            channel = connection.default_channel
            try:
                self._work(connection, channel, stop)
            except broker.trouble(connection) as error:
                _abandon(connection, channel)
                self._wait(stop, f"{type(error).__name__}: {error}")
            except BaseException:
                self._leave(connection, channel)
                raise
            else:
                self._leave(connection, channel)
                break
        if self._outcomes or self._inbox:
            # The broker brings them again: after VISIBILITY_TIMEOUT on Redis, else at once.
            self._log.warning(
                "queue.stopped_without_broker",
                unacknowledged=len(self._outcomes) + len(self._inbox),
            )

    def _work(self, connection: Connection, channel: Any, stop: threading.Event) -> None:
        letters = DeadLetters(channel, queue=self._dead_queue, events_queue=self._queue)
        self._keep_what_counts(channel)
        self._settle(channel, letters)
        kombu_consumer = KombuConsumer(
            channel,
            queues=[broker.queue(self._queue)],
            on_message=self._inbox_append,
        )
        # Kombu could not unpack it, or its text is no UTF-8: for us a message like any other.
        kombu_consumer.on_decode_error = lambda message, _error: self._inbox_append(message)
        if not _outlives(channel):
            kombu_consumer.qos(prefetch_count=self._batch_size)
        kombu_consumer.consume()
        self._log.info("queue.connected", broker=redact_url(self._url), queue=self._queue)
        try:
            while not stop.is_set():
                try:
                    self._restore_overdue(channel)
                    self._collect(connection)
                finally:
                    # After a failure too: what was received can be used without the broker.
                    self._process()
                self._settle(channel, letters)
                self._failures = 0
        except Stopped:
            self._settle(channel, letters)

    def _inbox_append(self, message: Any) -> None:
        self._inbox.append(message)
        self.counters.received += 1

    def _collect(self, connection: Connection) -> None:
        """Fill the inbox: up to `batch_size` messages, or until `batch_wait` is over."""
        end = None
        while len(self._inbox) < self._batch_size:
            if end is None:
                wait = IDLE_WAIT
                if self._inbox:
                    end, wait = monotonic() + self._batch_wait, self._batch_wait
            elif (wait := end - monotonic()) <= 0:
                return
            try:
                connection.drain_events(timeout=wait)
            except TimeoutError:
                return
            except KeyError as error:
                # Kombu's poller after a reconnect; our own code has no part in this call.
                raise OperationalError(f"Kombu's poller has lost {error}") from error

    def _process(self) -> None:
        """Turn the inbox into outcomes; what is left in it after an exception was not used."""
        groups: dict[tuple[str, str], list[tuple[Event, Any]]] = {}
        try:
            for message in self._inbox:
                try:
                    event = _event(message)
                except UndecodableMessage as error:
                    self._bury(message, str(error))
                else:
                    groups.setdefault(event.identity, []).append((event, message))
            for group in groups.values():
                group.sort(key=lambda member: member[0].version)
            while groups:
                # Newest first; an older one has its turn only where the newer is rejected.
                newest = {identity: group[-1] for identity, group in groups.items()}
                rejected = self._handle([event for event, _ in newest.values()])
                errors = {found.event.identity: found.error for found in rejected}
                for identity, (_, message) in newest.items():
                    if identity in errors:
                        self._bury(message, errors[identity])
                        groups[identity].pop()
                    else:
                        group = groups.pop(identity)
                        self.counters.superseded += len(group) - 1
                        self._outcomes.extend(_Outcome(message) for _, message in group)
                groups = {identity: group for identity, group in groups.items() if group}
        finally:
            self._inbox[:] = [message for group in groups.values() for _, message in group]

    def _bury(self, message: Any, error: str) -> None:
        letter = DeadLetter.from_message(message, error)
        self._log.warning("queue.dead_letter", error=letter.error, bytes=len(letter.raw))
        self._outcomes.append(_Outcome(message, letter))

    def _settle(self, channel: Any, letters: DeadLetters) -> None:
        """Tell the broker every outcome, each dead letter before its acknowledgement."""
        # Those without a letter first: a full broker takes acknowledgements, but no letters.
        self._outcomes.sort(key=lambda outcome: outcome.letter is not None)
        while self._outcomes:
            outcome = self._outcomes[0]
            if outcome.letter is not None:
                letters.put(outcome.letter)
                outcome.letter = None
                self.counters.dead += 1
            channel.basic_ack(outcome.message.delivery_tag)
            del self._outcomes[0]

    def _keep_what_counts(self, channel: Any) -> None:
        """On a new connection: forget outcomes of messages that the broker delivers again."""
        if not _outlives(channel):
            self._outcomes.clear()
            self._inbox.clear()

    def _restore_overdue(self, channel: Any) -> None:
        if _outlives(channel) and monotonic() - self._restored_at > RESTORE_EVERY:
            channel.restore_overdue()
            self._restored_at = monotonic()

    def _leave(self, connection: Connection, channel: Any) -> None:
        """Give back what was not used, and close. Kombu gives back what came meanwhile."""
        try:
            if _outlives(channel):
                channel.give_back([message.delivery_tag for message in self._inbox])
            self._inbox.clear()
            connection.release()
        except broker.trouble(connection) as error:
            self._log.warning("queue.not_given_back", messages=len(self._inbox), cause=str(error))
            _abandon(connection, channel)

    def _wait(self, stop: threading.Event, cause: str) -> None:
        delay = broker.backoff(self._failures)
        self._failures += 1
        self._log.warning(
            "queue.waiting", broker=redact_url(self._url), cause=cause, seconds=round(delay, 1)
        )
        stop.wait(delay)


def _outlives(channel: Any) -> bool:
    """Whether a message may be acknowledged on another connection than it came on."""
    return bool(getattr(channel, "tags_outlive_connections", False))


def _abandon(connection: Connection, channel: Any) -> None:
    """Close without a word to a broker that does not answer."""
    if _outlives(channel):
        channel.abandon()
    connection.release()


def _event(message: Any) -> Event:
    if (why := message.headers.get(UNDECODABLE)) is not None:
        raise UndecodableMessage(why)
    body = message.body
    return Event.parse(body if isinstance(body, str) else bytes(body or b""))
