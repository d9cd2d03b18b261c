"""Take events from the queue in batches, hand them on, acknowledge what came of them.

One message never harms another: what is no event, or what the receiver rejects, goes to the dead
letters and its neighbours go on. A batch that fails as a whole is tried one by one, and what
fails alone is tried again later, a few times. A broker that is away is waited for; what was in
hand comes again then, which the version guard makes harmless.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import chain, count
from time import monotonic, sleep
from typing import Any

from structlog.typing import FilteringBoundLogger

from bridge.errors import ServerAway, Stopped, UndecodableMessage
from bridge.queue.broker.connection import DEAD_QUEUE, EVENTS_QUEUE, Broker, Link
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import MAX_EVENT_BYTES, Event, Rejected
from bridge.queue.streams.entry import DELIVERIES, why_undecodable
from bridge.queue.waiting import Patience, retry_wait
from bridge.settings import redact_url

__all__ = ["MAX_DELIVERIES", "Consumer", "ConsumerCounters", "Handle"]

IDLE_WAIT = 0.5
"""Seconds that one look at an empty queue takes; a stop is noticed between two."""
MAX_DELIVERIES = 5
"""So often is a message tried: over the deaths of workers, and over failures of the receiver."""
MOST_INTERRUPTED = 100_000
BATCH_BYTES = 64 * 1024 * 1024
"""Of one batch, more or less, where events may be larger than usual."""
MOST_LATER = 1000
"""Messages that wait for another try; a receiver that fails with more is broken as a whole."""


Handle = Callable[[Sequence[Event]], Sequence[Rejected]]
"""Uses events, at most one of an entity, and returns those that it cannot use. Waits by
itself for a server that is away. Raises Stopped when it was told to stop before it could use
them; another exception means that it failed: its events are tried again."""


@dataclass(slots=True)
class ConsumerCounters:
    """What a consumer did since it started; written by its thread, read by any.

    received: messages taken. superseded: events for which a newer one of the same entity was
    in the same batch. retried: tries that failed and are repeated. dead: messages put to the
    dead letters.
    """

    received: int = 0
    superseded: int = 0
    retried: int = 0
    dead: int = 0


@dataclass(slots=True)
class _Held:
    """One message in hand. event: None until it is read. tries: deliveries that came to nothing.
    letter: set when it is to be buried. put_off: whether it waits without a fault of its own."""

    message: Any
    event: Event | None = None
    tries: int = 0
    letter: DeadLetter | None = None
    put_off: bool = False


class Consumer:
    """Hands the events of a queue to `handle`, in one thread.

    broker_url: any URL that Kombu knows.
    batch_size: the most messages of one batch.
    batch_wait: seconds that a batch waits for more after its first message, at most; it does not
        wait while there are none.
    retry_wait: seconds until the next try, by the number of tries.
    transport_options: for `bridge.queue.streams`.
    max_event: bytes of the largest event; of larger ones than usual a batch has fewer.
    """

    def __init__(
        self,
        broker_url: str,
        handle: Handle,
        *,
        log: FilteringBoundLogger,
        counters: ConsumerCounters | None = None,
        queue: str = EVENTS_QUEUE,
        dead_queue: str = DEAD_QUEUE,
        batch_size: int = 200,
        batch_wait: float = 0.02,
        retry_wait: Callable[[int], float] = lambda tries: retry_wait(tries, 15.0),
        transport_options: dict[str, Any] | None = None,
        max_event: int = MAX_EVENT_BYTES,
    ) -> None:
        self.counters = ConsumerCounters() if counters is None else counters
        self._url, self._handle, self._log = broker_url, handle, log
        self._queue, self._dead_queue = queue, dead_queue
        self._batch_size, self._batch_wait, self._retry_wait = batch_size, batch_wait, retry_wait
        # One name over all reconnects: what got lost on the way to it comes to it again.
        name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        options = {"consumer_name": name, "batch": batch_size, "unpacked": MAX_EVENT_BYTES}
        self._options: dict[str, Any] = options | (transport_options or {})
        self._max_event = max_event
        # What RabbitMQ sends ahead; only where large events were asked for are they counted so.
        self._prefetch = 2 * batch_size + MOST_LATER
        if max_event > MAX_EVENT_BYTES:
            self._options["batch_bytes"] = BATCH_BYTES
            self._options["largest"] = max_event
            self._prefetch = min(self._prefetch, max(2, 2 * BATCH_BYTES // max_event))
        self._inbox: list[_Held] = []
        self._later: list[tuple[float, int, _Held]] = []
        self._put_off = 0  # of those
        self._numbers = count()
        self._interrupted: Counter[bytes] = Counter()
        # The last batch: its acknowledgements may get lost on their way.
        self._settled: list[_Held] = []
        self._patience = Patience(threading.Event())

    def run(self, stop: threading.Event) -> None:
        """Consume until `stop` is set, then acknowledge or give back what is in hand. Raises
        BridgeError for a URL that cannot be used. A broker that is away is waited for, without
        end."""
        self._patience = Patience(stop)
        with Link(self._url, consumes=True, **self._options) as link, suppress(Stopped):
            self._patience.until(
                lambda: link.do(lambda broker: self._work(broker, stop)), self._tell
            )

    def _tell(self, error: ServerAway, failures: int, seconds: float) -> None:
        self._log.warning(
            "queue.waiting",
            broker=redact_url(self._url),
            cause=str(error),
            seconds=round(seconds, 1),
        )

    def _work(self, broker: Broker, stop: threading.Event) -> None:
        """Consume until `stop` is set, or the receiver raises Stopped."""
        try:
            letters = DeadLetters(broker, queue=self._dead_queue, events_queue=self._queue)
            broker.consume(self._queue, self._receive, self._prefetch)
            self._log.info("queue.connected", broker=redact_url(self._url), queue=self._queue)
            with suppress(Stopped):
                while not stop.is_set():
                    self._collect(broker)
                    with broker.busy():
                        done = self._use()
                    self._settle(broker, done, letters)
                    self._patience.failures = 0
            broker.give_back(held.message for held in self._waiting())
        except broker.errors:
            broker.read_rest(MOST_LATER)
            self._forget()
            raise
        self._forget()

    def _receive(self, message: Any) -> None:
        self._inbox.append(_Held(message))
        self.counters.received += 1

    def _collect(self, broker: Broker) -> None:
        """Fill the inbox with what is there, or wait for something."""
        now = monotonic()
        while self._later and self._later[0][0] <= now:
            held = heappop(self._later)[2]
            self._put_off -= held.put_off
            held.put_off = False
            self._inbox.append(held)
        wait = 0.0 if self._inbox else IDLE_WAIT
        if self._later and wait:
            wait = min(wait, max(self._later[0][0] - now, 0.001))
        if self._put_off < MOST_LATER:
            broker.fill(self._inbox, self._batch_size, wait, self._batch_wait)
        elif not self._inbox:
            # So much waits for something that no more is taken until some of it is done.
            sleep(wait)

    def _use(self) -> list[_Held]:
        """Hand on what is in the inbox; what is done, with its letter where it is to be buried.
        Raises Stopped; nothing of the inbox is done then."""
        done: list[_Held] = []
        groups: dict[tuple[str, str], list[_Held]] = {}
        for held in self._inbox:
            if (event := self._read(held)) is None:
                done.append(held)
            else:
                groups.setdefault(event.identity, []).append(held)
        for group in groups.values():
            if len(group) > 1:
                group.sort(key=_version)
        while groups:
            # Newest first; an older one has its turn only where the newer is rejected.
            newest = {identity: group[-1] for identity, group in groups.items()}
            errors = self._hand_on(list(newest.values()))
            for identity, held in newest.items():
                error = errors.get(id(held), "")
                if error is None:
                    groups[identity].pop()  # tried again later
                elif error:
                    self._bury(held, error)
                    done.append(groups[identity].pop())
                else:
                    group = groups.pop(identity)
                    self.counters.superseded += len(group) - 1
                    done += group
            groups = {identity: group for identity, group in groups.items() if group}
        self._inbox.clear()
        return done

    def _read(self, held: _Held) -> Event | None:
        """The event, or None when the message is to be buried."""
        if held.event is None:
            try:
                held.event = _event(held.message, self._max_event)
                held.tries = self._tries_before(held.message)
            except UndecodableMessage as error:
                self._bury(held, str(error))
                return None
            if held.tries >= MAX_DELIVERIES:
                self._bury(
                    held,
                    f"it was delivered {held.tries} times and nobody got to its end; "
                    "it may be what kills its workers",
                )
                return None
        return held.event

    def _hand_on(self, batch: list[_Held]) -> dict[int, str | None]:
        """What went wrong, by the id of what is held: the error, or None to try it again."""
        events = [held.event for held in batch if held.event is not None]
        try:
            rejected = self._handle(events)
        except Stopped:
            raise
        except Exception as error:
            if len(batch) > 1:
                self._log.warning("queue.batch_failed", events=len(batch), error=repr(error))
                wrong: dict[int, str | None] = {}
                for held in batch:
                    wrong |= self._hand_on([held])
                return wrong
            return {id(batch[0]): self._again(batch[0], error)}
        if not rejected:
            return {}
        errors = {found.event.identity: found for found in rejected}
        wrong = {}
        for held in batch:
            if held.event is not None and (found := errors.get(held.event.identity)):
                if found.wait:
                    self._postpone(held, found.wait)
                wrong[id(held)] = None if found.wait else found.error
        return wrong

    def _postpone(self, held: _Held, seconds: float) -> None:
        """Keep for another try; nothing is wrong with it."""
        held.put_off = True
        self._put_off += 1
        heappush(self._later, (monotonic() + seconds, next(self._numbers), held))

    def _again(self, held: _Held, error: Exception) -> str | None:
        """Keep for another try; after too many, what to bury it with."""
        held.tries += 1
        text = f"{type(error).__name__}: {error}"
        if held.tries >= MAX_DELIVERIES:
            return f"failed {held.tries} times, the last time with {text}"
        if len(self._later) - self._put_off >= MOST_LATER:
            return f"failed with {text}, and so did {MOST_LATER} others"
        wait = self._retry_wait(held.tries)
        self._log.warning(
            "queue.retry", error=text[:300], tries=held.tries, seconds=round(wait), exc_info=error
        )
        heappush(self._later, (monotonic() + wait, next(self._numbers), held))
        self.counters.retried += 1
        return None

    def _bury(self, held: _Held, error: str) -> None:
        letter = held.letter = DeadLetter.from_message(held.message, error)
        self._log.warning(
            "queue.dead_letter", letter=letter.id, error=letter.error, bytes=len(letter.raw)
        )

    def _settle(self, broker: Broker, done: list[_Held], letters: DeadLetters) -> None:
        """Tell the broker, each dead letter before its acknowledgement."""
        if not done:
            return
        if self._interrupted:
            for held in self._settled:
                self._interrupted.pop(_fingerprint(held.message), None)
        self._settled = done
        buried = [held for held in done if held.letter is not None]
        # Those without a letter first: a full broker takes acknowledgements, but no letters.
        broker.acknowledge(
            [held.message for held in done if held.letter is None],
            (held.message for held in chain(self._waiting(), buried)),
        )
        for held in buried:
            assert held.letter is not None
            letters.put(held.letter)
            self.counters.dead += 1
            held.message.ack()

    def _waiting(self) -> Iterable[_Held]:
        """What is delivered, and neither handed on to its end nor given up."""
        yield from self._inbox
        for _, _, held in self._later:
            yield held

    def _tries_before(self, message: Any) -> int:
        """Deliveries that ended with the death of a worker. RabbitMQ also counts those that
        ended with a connection: where it was ours, it is not the message's fault."""
        before = message.headers.get(DELIVERIES, 0)
        if not isinstance(before, int) or before <= 0:
            return 0
        return max(0, before - self._interrupted[_fingerprint(message)])

    def _forget(self) -> None:
        """The connection is gone: the broker delivers again what was in hand."""
        if len(self._interrupted) > MOST_INTERRUPTED:
            self._interrupted.clear()  # others got them
        for held in (*self._waiting(), *self._settled):
            self._interrupted[_fingerprint(held.message)] += 1
        self._inbox.clear()
        self._later.clear()
        self._put_off = 0
        self._settled = []


def _version(held: _Held) -> tuple[int, bool]:
    # A rewrite does what the same version without it does, and more.
    return (held.event.version, held.event.rewrite) if held.event is not None else (-1, False)


def _fingerprint(message: Any) -> bytes:
    body = message.body
    raw = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body or b"")
    return hashlib.sha256(raw).digest()


def _event(message: Any, limit: int) -> Event:
    if why := why_undecodable(message):
        raise UndecodableMessage(why)
    body = message.body
    return Event.parse(body if isinstance(body, str | bytes) else bytes(body or b""), limit)
