"""The Python end that publishes events: the relay, the HTTP ingest, tools and tests.

Sites do it with the PHP producer, `php/BridgeProducer.php`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from types import TracebackType
from typing import Any, Self

from kombu.connection import Connection
from kombu.messaging import Producer

from bridge.errors import ServerAway
from bridge.queue.broker import connection as broker
from bridge.queue.broker import rabbitmq as amqp
from bridge.queue.events import MAX_EVENT_BYTES, Event

__all__ = ["Publisher", "publish_bodies"]

PATIENCE = 5.0
"""Seconds. Whoever publishes has a caller who waits."""


def publish_bodies(
    connection: Connection,
    queue: str,
    bodies: Sequence[bytes | str],
    headers: Mapping[str, str] | None = None,
) -> None:
    """Put JSON texts on a queue and return when the broker has confirmed all of them.

    On Redis that is one transaction; RabbitMQ confirms them as one batch. Raises Kombu's errors;
    any of them may then be there.
    """
    # All are encoded before the first is sent.
    texts = [body.encode() if isinstance(body, str) else body for body in bodies]
    if amqp.is_amqp(connection):
        amqp.publish(connection, queue, texts, headers or {})
        return
    channel: Any = connection.default_channel
    producer = Producer(channel)
    with channel.publishing() if broker.is_streams(channel) else nullcontext():
        for text in texts:
            producer.publish(
                text,
                exchange="",
                routing_key=queue,
                headers=dict(headers or {}),
                content_type="application/json",
                content_encoding="utf-8",
            )


class Publisher:
    """Publishes over one connection, opened when it is needed and again after an outage.

    max_event: bytes of the largest event. For one thread. Raises BridgeError for a URL that cannot
    be used.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        queue: str = broker.EVENTS_QUEUE,
        max_event: int = MAX_EVENT_BYTES,
    ) -> None:
        self._url, self._queue, self._max_event = broker_url, queue, max_event
        self._connection: Connection | None = None

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
        connection = self._open()
        try:
            publish_bodies(connection, self._queue, bodies)
        except broker.trouble(connection) as error:
            self._connection = None
            broker.drop(connection)
            raise ServerAway(f"{type(error).__name__}: {error}") from error

    def _open(self) -> Connection:
        if self._connection is None:
            connection = broker.connect(self._url, socket_timeout=PATIENCE)
            try:
                broker.declare(connection, connection.default_channel, self._queue)
            except broker.trouble(connection) as error:
                broker.drop(connection)
                raise ServerAway(f"{type(error).__name__}: {error}") from error
            self._connection = connection
        return self._connection

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
