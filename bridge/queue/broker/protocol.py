"""What brokers do differently.

There is one class for each kind: in `redis_streams`, `rabbitmq` and, for whatever else Kombu
knows, `any_kombu`. `bridge.queue.broker.connection` chooses one by the URL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import redis
from kombu.connection import Connection

__all__ = ["DEAD_QUEUE", "DEAD_SECONDS", "EVENTS_QUEUE", "Broker", "Counts", "Shelf"]

EVENTS_QUEUE = "bridge.events"
"""All events of all entities; on Redis a stream of this name."""
DEAD_QUEUE = "bridge.events.dead"
"""What could not be used, see `bridge.queue.consumer.dead_letters`."""
DEAD_SECONDS = 30 * 24 * 3600
"""Dead letters are kept for so long."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages. ready: events that nobody holds. held: those that a worker holds, None where the
    broker does not say. dead: dead letters."""

    ready: int
    held: int | None
    dead: int


class Shelf(Protocol):
    """The messages of a queue, each with its place, which names it while the shelf is open."""

    def __iter__(self) -> Iterator[tuple[Any, Any]]: ...

    def remove(self, places: Sequence[Any]) -> None:
        """Throw these away for good."""


class Broker(Protocol):
    """A connection to a broker, for one thread; what most brokers do alike is done here. Every
    method raises one of `errors` when the broker is away, or in no state to work."""

    connection: Connection
    channel: Any
    """The connection's default channel."""
    errors: tuple[type[BaseException], ...]
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

    def open(self, tries: int) -> None:
        """Connect, with so many tries besides the first."""

    def release(self) -> None:
        """Close it; the broker delivers to others what was not acknowledged."""

    def drop(self) -> None:
        """Close it when it is in trouble, without waiting for the broker's consent."""

    def declare(self, queue: str) -> None:
        """Make sure that the durable queue is there."""

    def publish(
        self, queue: str, bodies: Sequence[bytes | str], headers: Mapping[str, str] | None = None
    ) -> None:
        """Put JSON texts on a queue and return when the broker has confirmed all of them; after an
        error any of them may be there."""

    # Looking at a queue.

    def counts(self) -> Counts:
        """How long the queues are, without making what is not there."""

    def length(self, queue: str) -> int:
        """Messages of a queue that is there."""

    def oldest(self, queue: str) -> float | None:
        """When the oldest message was published, in seconds since 1970 by our clock; inf when
        there is none, None where the broker cannot say."""
        return None

    def browse(self, queue: str) -> AbstractContextManager[Shelf]:
        """Look at all messages; they stay, but for what is removed."""

    def after(self, queue: str, place: bytes) -> Iterator[tuple[bytes, Any]] | None:
        """Place and body of the messages behind `place`, of all when that is empty; None where
        a message has no place that lasts."""
        return None

    def is_there(self, queue: str, place: bytes) -> bool:
        """Whether the message at a place of `after` is still there."""
        return True

    def bodies(self, queue: str) -> Iterator[Any]:
        """The body of every message; others may not see them meanwhile, and nothing is lost."""

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

    def fill(self, inbox: Sized, most: int, wait: float, more: float) -> None:
        """Wait up to `wait` seconds for a message, then up to `more` for others while they come,
        until `receive` has made the inbox `most` long."""

    def busy(self) -> AbstractContextManager[None]:
        """Inside, the caller does not use the connection, for however long."""
        return nullcontext()

    def acknowledge(self, done: list[Any], kept: Iterable[Any]) -> None:
        """These messages are done. kept: what else is delivered, and is not."""

    def give_back(self, kept: Iterable[Any]) -> None:
        """Take no more. kept: what is delivered by the time that it is asked for."""

    def read_rest(self, most: int) -> None:
        """After trouble, receive what was sent to us before it, as far as it can be had."""
