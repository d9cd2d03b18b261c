"""The Python end that publishes events, for tools and tests; sites do it with the PHP producer."""

# Most of what kombu offers has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

from types import TracebackType
from typing import Self

from kombu.messaging import Producer

from bridge.queue import broker
from bridge.queue.events import Event

__all__ = ["Publisher"]


class Publisher:
    """Publishes events over one connection, which it opens at once. For one thread.

    Raises BridgeError for a URL that cannot be used, and ServerAway when the broker is away.
    """

    def __init__(self, broker_url: str, *, queue: str = broker.EVENTS_QUEUE) -> None:
        self._queue = queue
        self._connection = broker.connect(broker_url)
        channel = self._connection.default_channel
        broker.declare(channel, queue)
        self._producer = Producer(channel)

    def publish(self, event: Event) -> None:
        """Put one event on the queue.

        Raises UndecodableMessage when it is too large, and Kombu's errors when the broker does
        not take it; it may then have taken it nevertheless.
        """
        self._producer.publish(
            event.to_json(),
            exchange="",
            routing_key=self._queue,
            content_type="application/json",
            content_encoding="utf-8",
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
