"""A broker of any kind that Kombu knows, by what all of its transports can do.

What Redis and RabbitMQ do otherwise is in `redis_streams` and `rabbitmq`; which of the three it is
`bridge.queue.broker.connection` chooses by the URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

import redis
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError
from kombu.messaging import Consumer, Producer

from bridge.queue import unpack

__all__ = [
    "CONNECT_SECONDS",
    "DEAD_QUEUE",
    "DEAD_SECONDS",
    "EVENTS_QUEUE",
    "Broker",
    "Counts",
    "Shelf",
    "put",
]

EVENTS_QUEUE = "bridge.events"
"""All events of all entities; on Redis a stream of this name."""
DEAD_QUEUE = "bridge.events.dead"
"""What could not be used, see `bridge.queue.consumer.dead_letters`."""
DEAD_SECONDS = 30 * 24 * 3600
"""Dead letters are kept for so long."""
CONNECT_SECONDS = 3
NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages. ready: events that nobody holds. held: those that a worker holds, None where the
    broker does not say. dead: dead letters."""

    ready: int
    held: int | None
    dead: int


def put(
    producer: Producer, queue: str, text: bytes, headers: Mapping[str, str], **how: Any
) -> None:
    """Publish one message.

    queue: its name.
    text: JSON in UTF-8.
    """
    producer.publish(
        text,
        exchange="",
        routing_key=queue,
        headers=dict(headers),
        content_type="application/json",
        content_encoding="utf-8",
        **how,
    )


class Broker:
    """A connection to a broker, for one thread. Every method raises one of `errors` when the
    broker is away, or in no state to work.

    channel: the connection's default channel.
    errors: types of exceptions.

    Raises KeyError, ValueError, TypeError or ImportError for a URL that cannot be used.
    """

    redis_client: redis.Redis | None = None
    """The client of the Redis that it is."""
    has_lists: ClassVar[bool] = False
    """Whether stock Kombu keeps its queues there as lists."""
    has_members: ClassVar[bool] = False
    """Whether a queue has members on several nodes."""

    @classmethod
    def server(cls, url: str) -> tuple[str, str]:
        """What to call the server of `url`, and how to start it."""
        return "the broker", "start the broker that BRIDGE_BROKER_URL names"

    def __init__(self, url: str, *, consumes: bool = False, **options: Any) -> None:
        self.connection = self._connection(url, options)
        errors = (
            *self.connection.connection_errors,
            *self.connection.channel_errors,
            OperationalError,
        )
        # Some of Kombu's transports count KeyError among their connection errors. Here it is none:
        # a mistake in our own code must not look like an outage.
        self.errors = tuple(error for error in errors if error is not KeyError)
        self.channel: Any = None
        self._consumer: Consumer | None = None

    def _connection(self, url: str, options: dict[str, Any]) -> Connection:
        if not urlsplit(url).scheme:
            # Kombu would take it for the name of a RabbitMQ host.
            raise ValueError("it has no scheme")
        return Connection(url, connect_timeout=CONNECT_SECONDS)

    def open(self, tries: int) -> None:
        """Connect, with so many tries besides the first."""
        self.connection.ensure_connection(
            max_retries=tries,
            interval_start=0,
            interval_step=0,
            reraise_as_library_errors=False,
        )
        self._prepare()
        # Opened here, so that opening it later cannot fail at another place.
        self.channel = self._plain(self.connection.default_channel)

    def _prepare(self) -> None:
        """What is to be done before there is a channel."""

    def _plain(self, channel: Any) -> Any:
        # The bytes as they were sent: what is no UTF-8 must not look like a lost connection.
        channel.auto_decode = False
        unpack.limit(channel)
        return channel

    def release(self) -> None:
        """Close it; the broker delivers to others what was not acknowledged."""
        self.connection.release()

    def drop(self) -> None:
        """Close it when it is in trouble, without waiting for the broker's consent."""
        self.connection.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def _queue(self, name: str) -> Queue:
        """The durable queue `name`, reached by the default exchange."""
        return Queue(name, routing_key=name, durable=True, queue_arguments=self._arguments(name))

    def _arguments(self, name: str) -> dict[str, Any] | None:
        return None

    def declare(self, queue: str) -> None:
        """Make sure that the durable queue is there."""
        self._queue(queue)(self.channel).declare()

    def publish(
        self, queue: str, bodies: Sequence[bytes | str], headers: Mapping[str, str] | None = None
    ) -> None:
        """Put JSON texts on a queue and return when the broker has confirmed all of them; after an
        error any of them may be there."""
        # All are encoded before the first is sent.
        texts = [body.encode() if isinstance(body, str) else body for body in bodies]
        self._publish(queue, texts, headers or {})

    def _publish(self, queue: str, texts: Sequence[bytes], headers: Mapping[str, str]) -> None:
        producer = Producer(self.channel)
        for text in texts:
            put(producer, queue, text, headers)

    # Looking at a queue.

    def counts(self) -> Counts:
        """How long the queues are, without making what is not there."""
        return Counts(self._count(EVENTS_QUEUE) or 0, None, self._count(DEAD_QUEUE) or 0)

    def _count(self, queue: str) -> int | None:
        """Messages of a queue that nobody holds, None where there is no such queue."""
        channel: Any = self.connection.channel()
        try:
            found = int(channel.queue_declare(queue, passive=True).message_count)
        except self.connection.channel_errors as error:
            if getattr(error, "reply_code", 0) not in (NOT_FOUND, str(NOT_FOUND)):
                raise
            return None
        found = self._counted(channel, queue, found)
        # Not after an error: a broker that hangs would be waited for once more.
        channel.close()
        return found

    def _counted(self, channel: Any, queue: str, found: int) -> int:
        return found

    def length(self, queue: str) -> int:
        """Messages of a queue that is there."""
        return int(self.channel.queue_declare(queue, passive=True).message_count)

    def oldest(self, queue: str) -> float | None:
        """When the oldest message was published, in seconds since 1970 by our clock; inf when
        there is none, None where the broker cannot say."""
        return None

    def browse(self, queue: str) -> Shelf:
        """Look at all messages; they stay, but for what is removed."""
        return Shelf(self._plain(self.connection.channel()), queue)

    def after(self, queue: str, place: bytes) -> Iterator[tuple[bytes, Any]] | None:
        """Place and body of the messages behind `place`, of all when that is empty; None where
        a message has no place that lasts."""
        return None

    def is_there(self, queue: str, place: bytes) -> bool:
        """Whether the message at a place of `after` is still there."""
        return True

    def bodies(self, queue: str) -> Iterator[Any]:
        """The body of every message; others may not see them meanwhile, and nothing is lost."""
        with self.connection.channel() as channel:  # its end gives everything back
            self._plain(channel)
            while (message := channel.basic_get(queue)) is not None:
                yield message.body

    def trim(self, queue: str, seconds: float) -> None:
        """Delete what is older, where the broker does not do that by itself."""

    def take_list(self, name: str, queue: str, limit: int) -> int:
        """Move up to `limit` elements of a list of stock Kombu's to a queue, oldest first; how
        many. Only a Redis has lists."""
        return 0

    # Consuming.

    def consume(self, queue: str, receive: Callable[[Any], None], ahead: int) -> None:
        """Begin to take messages. ahead: how many may come before others are acknowledged, where
        the broker would send all at once."""
        consumer = self._consumer = Consumer(
            self.channel, queues=[self._queue(queue)], on_message=receive
        )
        # Kombu could not unpack it, or its text is no UTF-8: for us a message like any other.
        consumer.on_decode_error = lambda message, _error: receive(message)
        consumer.qos(prefetch_count=ahead)
        consumer.consume()

    def fill(self, inbox: Sized, most: int, wait: float, more: float) -> None:
        """Wait for messages, which `receive` puts into the inbox.

        most: so many in the inbox are enough.
        wait, more: seconds for the first message, and for others while they come.
        """
        end = None
        while len(inbox) < most:
            if not self._drain(wait):
                return
            end = end or monotonic() + more
            wait = 0.0001
            if monotonic() >= end:
                return

    def _drain(self, wait: float) -> bool:
        """Whether something came."""
        try:
            self.connection.drain_events(timeout=wait)
        except TimeoutError:
            return False
        except KeyError as error:
            # Kombu's pollers after a reconnect; our own code has no part in this call.
            raise OperationalError(f"Kombu's poller has lost {error}") from error
        return True

    def busy(self) -> AbstractContextManager[None]:
        """Inside, the caller does not use the connection, for however long."""
        return nullcontext()

    def acknowledge(self, done: list[Any], kept: Iterable[Any]) -> None:
        """These messages are done. kept: what else is delivered, and is not."""
        for message in done:
            message.ack()

    def give_back(self, kept: Iterable[Any]) -> None:
        """Take no more. kept: what is delivered by the time that it is asked for."""

    def read_rest(self, most: int) -> None:
        """After trouble, receive what was sent to us before it, as far as it can be had."""


class Shelf:
    """The messages of a queue, each with its place, which names it while the shelf is open.

    For transports that cannot look without taking: everything is taken, and what was not removed
    goes back at the end. Meanwhile nobody else sees it.
    """

    def __init__(self, channel: Any, queue: str) -> None:
        self._channel, self._queue = channel, queue
        self._taken: dict[Any, Any] = {}

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        while (got := self._channel.basic_get(self._queue)) is not None:
            message = self._channel.message_to_python(got)
            self._taken[message.delivery_tag] = message
            yield message.delivery_tag, message

    def remove(self, places: Sequence[Any]) -> None:
        """Throw these away for good."""
        for tag in places:
            self._taken.pop(tag).ack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for message in self._taken.values():
            message.requeue()
        self._channel.close()
