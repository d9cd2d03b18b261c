"""What `bench.queue` compares: queues with a way in, a way out, and a count of what is left.

Each is what a program would use: Kombu's producers and consumers where there is Kombu. An object
here is only a description, so that it can be sent to the process in which it works.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.messaging import Consumer, Producer

from bridge.queue.broker import connection as broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.streams import url as redisurl

__all__ = ["Contender", "Publish", "RabbitMQQueue", "Receive", "StockKombu", "Streams", "Take"]

PATIENCE = 30.0
"""Seconds without any message after which a consumer gives up."""
PREFETCH = 400
"""Messages that RabbitMQ sends ahead; without a limit it would send all of them."""
BATCH_WAIT = 0.005
"""Seconds that a batch of RabbitMQ's waits for more."""
STOCK = "kombu.transport.redis:Transport"
"""By its path: `redis` as a name may be something else by now."""

Publish = Callable[[Sequence[str]], None]
"""Puts texts on the queue and returns when they are there."""
Receive = Callable[[Any], None]
"""Is called with the body of every message, as bytes or text, before it is acknowledged."""
Take = Callable[[], bool]
"""Receives and acknowledges once, one message or a batch. False when it found nothing."""


@dataclass(frozen=True)
class Contender(ABC):
    """One queue. url: of its server. queue: its name. batch: messages of one step."""

    url: str
    queue: str
    batch: int = 1
    poll: float | None = None
    """Seconds between two looks at an empty queue, where nobody wakes the consumer."""

    @abstractmethod
    def publisher(self) -> contextlib.AbstractContextManager[Publish]:
        """An open connection of a producer."""

    @abstractmethod
    def consumer(self, receive: Receive) -> contextlib.AbstractContextManager[Take]:
        """An open connection of a consumer."""

    @abstractmethod
    def left(self) -> int:
        """Messages that are not acknowledged, or in any other way still there."""

    def prepare(self) -> None:  # noqa: B027  # most queues need nothing
        """Make what must be there before the first message."""


class StockKombu(Contender):
    """Kombu's own `redis://`, as Celery uses it: BRPOP, and an acknowledgement each."""

    def connect(self) -> Connection:
        return Connection(self.url, transport=STOCK)

    @contextlib.contextmanager
    def publisher(self) -> Iterator[Publish]:
        with self.connect() as connection:
            producer = Producer(connection.default_channel)

            def publish(bodies: Sequence[str]) -> None:
                for body in bodies:
                    producer.publish(
                        body,
                        exchange="",
                        routing_key=self.queue,
                        content_type="application/json",
                        content_encoding="utf-8",
                    )

            yield publish

    @contextlib.contextmanager
    def consumer(self, receive: Receive) -> Iterator[Take]:
        with self.connect() as connection, _consuming(connection, self.queue, receive) as take:
            yield take

    def left(self) -> int:
        with redis.Redis.from_url(self.url) as client:
            counts: list[Any] = [client.llen(self.queue), client.hlen("unacked")]
            return sum(counts)


class Streams(Contender):
    """Ours: `redis+streams://`."""

    @contextlib.contextmanager
    def publisher(self) -> Iterator[Publish]:
        with _publishing(self) as publish:
            yield publish

    @contextlib.contextmanager
    def consumer(self, receive: Receive) -> Iterator[Take]:
        options = {"batch": self.batch}
        with (
            Connection(redisurl.kombu_url(self.url), transport_options=options) as connection,
            _consuming(connection, self.queue, receive) as take,
        ):
            yield take

    def left(self) -> int:
        with redis.Redis.from_url(self.url) as client:
            length: Any = client.xlen(self.queue)
            groups: Any = client.xinfo_groups(self.queue) if length is not None else []
            return int(length) + sum(int(group["pending"]) for group in groups)


class RabbitMQQueue(Contender):
    """A quorum queue; the publisher waits until a batch is confirmed, and a consumer acknowledges
    a batch at once."""

    @contextlib.contextmanager
    def publisher(self) -> Iterator[Publish]:
        with _publishing(self) as publish:
            yield publish

    @contextlib.contextmanager
    def consumer(self, receive: Receive) -> Iterator[Take]:
        got: list[Any] = []

        def on_message(message: Any) -> None:
            receive(message.body)
            got.append(message)

        with broker.connect(self.url) as connection:
            connection.declare(self.queue)
            queue = Queue(self.queue, no_declare=True)
            consumer = Consumer(connection.channel, queues=[queue], on_message=on_message)
            consumer.qos(prefetch_count=PREFETCH)
            consumer.consume()

            def take() -> bool:
                wait = PATIENCE
                with contextlib.suppress(TimeoutError):
                    while len(got) < self.batch:
                        connection.connection.drain_events(timeout=wait)
                        wait = BATCH_WAIT
                if not got:
                    return False
                # One for all. Of many at a time RabbitMQ keeps some in the channel, and forgets
                # them when it is closed: the messages would come again.
                got[-1].ack(multiple=True)
                got.clear()
                return True

            yield take

    def left(self) -> int:
        # Closing its connection has put back what a consumer did not acknowledge.
        with broker.connect(self.url) as connection:
            connection.declare(self.queue)
            return connection.length(self.queue)


@contextlib.contextmanager
def _publishing(contender: Contender) -> Iterator[Publish]:
    """Our own publisher, in batches."""
    with Publisher(contender.url, queue=contender.queue) as publisher:

        def publish(bodies: Sequence[str]) -> None:
            for start in range(0, len(bodies), contender.batch):
                publisher.send(bodies[start : start + contender.batch])

        yield publish


@contextlib.contextmanager
def _consuming(connection: Connection, name: str, receive: Receive) -> Iterator[Take]:
    def on_message(message: Any) -> None:
        receive(message.body)
        message.ack()

    queue = Queue(name, routing_key=name)
    Consumer(connection.default_channel, queues=[queue], on_message=on_message).consume()

    def take() -> bool:
        try:
            connection.drain_events(timeout=PATIENCE)
        except TimeoutError:
            return False
        return True

    yield take
