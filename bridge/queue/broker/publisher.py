"""The Python end that publishes events: the relay, the HTTP ingest, tools and tests.

Sites do it with the PHP producer, `php/BridgeProducer.php`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from bridge.queue.broker.connection import EVENTS_QUEUE, Link
from bridge.queue.events import MAX_EVENT_BYTES, Event

__all__ = ["Publisher"]

PATIENCE = 5.0
"""Seconds. Whoever publishes has a caller who waits."""


class Publisher:
    """Publishes over one connection, opened when it is needed and again after an outage.

    max_event: bytes of the largest event. For one thread. Raises BridgeError for a URL that cannot
    be used.
    """

    def __init__(
        self, broker_url: str, *, queue: str = EVENTS_QUEUE, max_event: int = MAX_EVENT_BYTES
    ) -> None:
        self._queue, self._max_event = queue, max_event
        self._link = Link(broker_url, lambda broker: broker.declare(queue), socket_timeout=PATIENCE)

    def publish(self, event: Event) -> None:
        """Put one event on the queue, see `publish_many`."""
        self.publish_many([event])

    def publish_many(self, events: Sequence[Event]) -> None:
        """Put events on the queue and return when the broker has confirmed all of them.

        Raises UndecodableMessage when one is too large, and nothing is sent then; and ServerAway
        when the broker does not take them: any of them may then be on the queue nevertheless.
        """
        self.send([event.to_json(self._max_event) for event in events])

    def send(self, bodies: Sequence[bytes | str]) -> None:
        """Like `publish_many`, for texts of events that were made elsewhere."""
        self._link.do(lambda broker: broker.publish(self._queue, bodies))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._link.close()

    def __enter__(self) -> Self:
        self._link.do(lambda broker: None)
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
