"""The broker that is RabbitMQ: quorum queues, publisher confirms, and a heart that beats."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from typing import Any, Self

from kombu.connection import Connection

from bridge.queue.broker import amqp
from bridge.queue.broker import broker as base
from bridge.queue.streams.url import scheme_of

__all__ = ["SCHEMES", "RabbitMQ"]

SCHEMES = ("amqp", "amqps", "pyamqp")
RETURN_SECONDS = 5.0
"""So long may RabbitMQ take to have a letter back that was looked at."""
RESOURCE_LOCKED = 405
LOCK_SECONDS = 10.0
"""So long does one wait who wants to look at a queue while somebody else does."""
SHORTEST_WAIT = 0.0001
"""Seconds. py-amqp spins on less when a frame is cut in two."""


class RabbitMQ(base.Broker):
    """See `Broker`.

    consumes: whether it shows RabbitMQ that it is alive, once it consumes.
    socket_timeout: seconds that RabbitMQ may take for an answer.
    """

    has_members = True

    def __init__(
        self,
        url: str,
        *,
        consumes: bool = False,
        socket_timeout: float = amqp.PATIENCE,
        **options: Any,
    ) -> None:
        super().__init__(url, heartbeat=amqp.HEARTBEAT if consumes else 0)
        self._patience = socket_timeout
        self._confirms: amqp.Confirms | None = None
        self._heartbeats: amqp.Heartbeats | None = None

    @classmethod
    def server(cls, url: str) -> tuple[str, str]:
        return "RabbitMQ", "systemctl start rabbitmq-server"

    def _connection(self, url: str, options: dict[str, Any]) -> Connection:
        if scheme_of(url) == "amqps":
            # Checks the name in the certificate too; None means the host of the URL.
            options["ssl"] = {"server_hostname": None}
        return Connection(url, connect_timeout=base.CONNECT_SECONDS, **options)

    def _prepare(self) -> None:
        amqp.prepare(self.connection, self._patience)

    def release(self) -> None:
        self._end_heartbeats()
        self.connection.release()

    def drop(self) -> None:
        self._end_heartbeats()
        self.connection.collect()

    def _end_heartbeats(self) -> None:
        if self._heartbeats is not None:
            self._heartbeats.close()
            self._heartbeats = None

    def _arguments(self, name: str) -> dict[str, Any]:
        arguments = {"x-queue-type": "quorum"} | amqp.no_limit(self.connection)
        if name.endswith(".dead"):
            arguments["x-message-ttl"] = base.DEAD_SECONDS * 1000
        return arguments

    def _publish(self, queue: str, texts: Sequence[bytes], headers: Mapping[str, str]) -> None:
        confirms = self._confirms
        if confirms is None or not confirms.channel.is_open:
            confirms = amqp.Confirms(self.connection)
        # After an error nobody knows which numbers are still to come: not this channel again.
        self._confirms = None
        confirms.publish(queue, texts, headers)
        self._confirms = confirms

    def counts(self) -> base.Counts:
        found = super().counts()
        if found.ready and found.dead:
            self._look(base.DEAD_QUEUE)
        return found

    def _counted(self, channel: Any, queue: str, found: int) -> int:
        """A quorum queue without a majority says that it is empty. So of one that says so a
        message is asked for, which only a majority can answer; one that comes nevertheless is
        given back, and that is one delivery more of it."""
        if not found and (message := channel.basic_get(queue)) is not None:
            found = 1 + int(message.delivery_info["message_count"])
            channel.basic_reject(message.delivery_tag, requeue=True)
        return found

    def _look(self, queue: str) -> None:
        """See whether the messages can be had, by one of them; nothing is done where somebody
        looks already."""
        try:
            with self.browse(queue) as shelf:
                next(iter(shelf), None)
        except self.connection.channel_errors as error:
            if getattr(error, "reply_code", 0) != RESOURCE_LOCKED:
                raise

    def browse(self, queue: str) -> base.Shelf:
        errors = self.connection.channel_errors
        return _LockedShelf(self._plain(self.connection.channel()), queue, errors)

    def consume(self, queue: str, receive: Callable[[Any], None], ahead: int) -> None:
        self._heartbeats = amqp.Heartbeats(self.connection)
        super().consume(queue, receive, ahead)

    def fill(self, inbox: Sized, most: int, wait: float, more: float) -> None:
        super().fill(inbox, most, wait or SHORTEST_WAIT, more)

    def _drain(self, wait: float) -> bool:
        if not (came := super()._drain(wait)):
            assert self._heartbeats is not None
            self._heartbeats.check(self.channel)
        return came

    def busy(self) -> AbstractContextManager[None]:
        assert self._heartbeats is not None
        return self._heartbeats.busy()

    def acknowledge(self, done: list[Any], kept: Iterable[Any]) -> None:
        """In one word, as far as that is true."""
        done.sort(key=_tag)
        first_kept = min(map(_tag, kept), default=None)
        upto = len(done)
        if first_kept is not None:
            upto = sum(1 for message in done if _tag(message) < first_kept)
        if upto:
            done[upto - 1].ack(multiple=True)
        super().acknowledge(done[upto:], ())

    def give_back(self, kept: Iterable[Any]) -> None:
        # Reads what is on its way to us; then all of it goes back, the oldest first.
        assert self._consumer is not None
        self._consumer.cancel()
        for message in sorted(kept, key=_tag):
            message.requeue()

    def read_rest(self, most: int) -> None:
        try:
            for _ in range(most):
                if self._consumer is None or not self.connection.connected:
                    return
                self.connection.drain_events(timeout=0.05)
        except (*self.connection.connection_errors, *self.connection.channel_errors):
            return  # there is no more


def _tag(message: Any) -> int:
    return int(message.delivery_tag)


class _LockedShelf(base.Shelf):
    """The others wait for their turn instead of finding nothing. The lock is a queue that belongs
    to the connection and ends with it, however that ends."""

    def __init__(self, channel: Any, queue: str, errors: Any) -> None:
        super().__init__(channel, queue)
        self._errors = errors

    def __enter__(self) -> Self:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                self._channel.queue_declare(f"{self._queue}.lock", exclusive=True)
                return self
            except self._errors as error:
                if error.reply_code != RESOURCE_LOCKED or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def __exit__(self, *error: object) -> None:
        for message in self._taken.values():
            message.requeue()
        # RabbitMQ takes its time; the next one to look must find all of them.
        end = time.monotonic() + RETURN_SECONDS
        while self._count() < len(self._taken) and time.monotonic() < end:
            time.sleep(0.005)
        self._channel.queue_delete(f"{self._queue}.lock")
        self._channel.close()

    def _count(self) -> int:
        return int(self._channel.queue_declare(self._queue, passive=True).message_count)
