"""A channel of `bridge.queue.streams`: what Kombu asks of a virtual channel, on Redis Streams.

Here is consuming; publishing, queues and exchanges are in `bridge.queue.streams.routing`, the
commands to Redis in `bridge.queue.streams.group`, what is delivered and not acknowledged in
`bridge.queue.streams.delivery`.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from queue import Empty
from typing import Any

import redis

from bridge.errors import NotOffered
from bridge.queue.streams import url as redisurl
from bridge.queue.streams.contents import Contents
from bridge.queue.streams.delivery import Message, QoS, tag_of
from bridge.queue.streams.entry import to_message
from bridge.queue.streams.exchanges import Exchanges
from bridge.queue.streams.group import Group, Limits, StreamEntry
from bridge.queue.streams.routing import RoutingChannel

__all__ = ["LONGEST_WAIT", "Channel"]

LONGEST_WAIT = 1.0
"""Seconds that one look at empty queues takes at most: timers run between two of them."""

logger = logging.getLogger(__name__)


class Channel(RoutingChannel):
    """A channel of the transport. For one thread; acknowledging is allowed from others."""

    Message = Message
    QoS = QoS

    batch = 100
    batch_bytes = largest = 0
    unpacked = 64 * 1024 * 1024
    consumer_group = "bridge"
    consumer_name = ""
    heartbeat, reclaim_idle, reclaim_every = 30.0, 30.0, 5.0
    socket_timeout = redisurl.SOCKET_TIMEOUT
    socket_connect_timeout = redisurl.CONNECT_TIMEOUT
    from_transport_options = (
        *("batch", "batch_bytes", "largest", "unpacked"),
        *("global_keyprefix", "consumer_group", "consumer_name"),
        *("heartbeat", "reclaim_idle", "reclaim_every"),
        *("socket_timeout", "socket_connect_timeout"),
        *RoutingChannel.from_transport_options,
    )

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        if "priority_steps" in connection.client.transport_options:
            raise NotOffered("priorities inside a queue; use a queue for each")
        self.is_delivering = False
        # By queue: consumer tag, no_ack, callback. Kombu's own table is the whole connection's.
        self._receivers: dict[str, list[tuple[str, bool, Any]]] = {}
        self._fetched: deque[StreamEntry] = deque()
        limits = Limits(
            self.heartbeat, self.reclaim_idle, self.reclaim_every, self.batch_bytes, self.largest
        )
        self.client = redisurl.client(
            connection.url,
            **{
                "socket_timeout": self.socket_timeout,
                "socket_connect_timeout": self.socket_connect_timeout,
                **connection.url_options,
            },
        )
        self._longest_wait = min(LONGEST_WAIT, (self._patience() or 2 * LONGEST_WAIT) / 2)
        self.contents = Contents(self.client, self.global_keyprefix)
        self.exchanges = Exchanges(self.client, self.global_keyprefix)
        self.group = Group(
            self.client,
            group=self.consumer_group,
            name=f"{self.consumer_name or connection.name}-{self.channel_id}",
            prefix=self.global_keyprefix,
            limits=limits,
        )
        # A channel that was dropped and not closed must not look alive for ever.
        weakref.finalize(self, self.group.fall_silent).atexit = False

    def _patience(self) -> float | None:
        """Seconds that the client waits for a reply; the URL may say so too."""
        given = self.client.connection_pool.connection_kwargs.get("socket_timeout")
        return None if given is None else float(given)

    # What streams can do and queues of other brokers cannot.

    def browse(self, queue: str) -> Iterator[tuple[bytes, Any]]:
        """StreamEntry id and message of every entry, oldest first; nothing is taken."""
        for entry in self.contents.browse(queue):
            yield entry.id, self.Message(self._payload(entry), channel=self)

    def _purge(self, queue: str) -> int:
        return self.group.purge(queue)

    # Consuming.

    def basic_consume(
        self, queue: str, no_ack: bool, callback: Any, consumer_tag: str, **kwargs: Any
    ) -> None:
        if refused := sorted(set(kwargs.get("arguments") or ()) & {"x-priority"}):
            raise NotOffered(f"{refused[0]} of a consumer")
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        self._receivers.setdefault(queue, []).append((consumer_tag, no_ack, callback))

    def basic_cancel(self, consumer_tag: str) -> None:
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None:
            return
        left = [one for one in self._receivers.pop(queue, []) if one[0] != consumer_tag]
        if left:
            self._receivers[queue] = left
            return
        self._give_back([entry for entry in self._fetched if entry.stream == queue])
        if queue in self._auto_delete:
            self._auto_delete.discard(queue)
            self.queue_delete(queue, if_unused=True)

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        try:
            entry = self._get_entry(queue)
        except Empty:
            return None
        return self._hold(entry, no_ack)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        if multiple:
            self.qos.ack_up_to(delivery_tag)
        else:
            self.qos.ack(delivery_tag)

    def drain_events(self, timeout: float | None = None, callback: Any = None) -> Any:
        if not self.qos.can_consume():
            self.qos.flush()
        return super().drain_events(timeout, callback)

    def _get_entry(self, queue: str) -> StreamEntry:
        self.qos.flush()
        for entry in self._fetched:
            if entry.stream == queue:
                self._fetched.remove(entry)
                return entry
        found = self.group.fetch([queue], count=1, wait=0, in_hand=self._in_hand)
        if not found:
            raise Empty
        # What was recovered may be more than was asked for.
        self._fetched.extend(found[1:])
        return found[0]

    def _get_many(self, queues: Sequence[str], timeout: float | None = None) -> None:
        """Deliver one batch. Raises Empty when nothing came in time."""
        self.qos.flush()
        if any(entry.stream not in self._receivers for entry in self._fetched):
            # Its consumer was cancelled when Redis was away, or basic_get recovered it.
            self._give_back([e for e in self._fetched if e.stream not in self._receivers])
        if not self._fetched:
            room = self.qos.can_consume_max_estimate()
            count = self.batch if room is None else max(1, min(room, self.batch))
            others = sum(1 for channel in self.connection.channels if channel._consumers) > 1
            longest = self._longest_wait
            wait = longest if timeout is None else min(timeout, longest)
            self._fetched.extend(
                self.group.fetch(
                    list(dict.fromkeys(queues)),
                    count=count,
                    wait=min(wait, 0.02) if others else wait,
                    in_hand=self._in_hand,
                )
            )
            if not self._fetched:
                raise Empty
        self.is_delivering = True
        try:
            # After an exception the rest is delivered next time.
            while self._fetched and self.qos.can_consume():
                entry = self._fetched[0]
                if (receivers := self._receivers.get(entry.stream)) is None:
                    break
                _, no_ack, callback = receivers[-1]
                message = self._hold(entry, no_ack)
                self._fetched.popleft()
                callback(message)
        finally:
            self.is_delivering = False
        self.qos.settle()

    def _hold(self, entry: StreamEntry, no_ack: bool) -> Any:
        message = self.Message(self._payload(entry), channel=self)
        self.qos.append(message, message.delivery_tag)
        if no_ack:
            self.qos.ack(message.delivery_tag)
        return message

    def _payload(self, entry: StreamEntry) -> dict[str, Any]:
        return to_message(entry.stream, tag_of(entry.stream, entry.id), entry.fields, entry.before)

    def _in_hand(self, queue: str, id: bytes) -> bool:
        return self.qos.holds(queue, id) or any(
            entry.id == id and entry.stream == queue for entry in self._fetched
        )

    def _give_back(self, entries: Sequence[StreamEntry]) -> None:
        for entry in entries:
            self.group.put_back([(entry.stream, entry.id)], counted=False)
            self._fetched.remove(entry)

    def close(self) -> None:
        """Acknowledge what is acknowledged, put back the rest, and say that we are gone.

        Where Redis does not answer, others take the rest over when the heartbeat has ended.
        """
        if self.closed:
            return
        if self.group.forked:
            # All of it is the parent's, the sockets too.
            self._consumers.clear()
            super().close()
            return
        try:
            self.qos.flush()
            # What was delivered is older than what was only fetched.
            self.qos.restore_unacked()
            self._give_back(list(self._fetched))
            for consumer_tag in list(self._consumers):
                self.basic_cancel(consumer_tag)
            self.group.close(gone=True)
        except (redis.RedisError, OSError) as error:
            logger.warning("closing without Redis, others will take over: %s", error)
            self._consumers.clear()
            self.group.close(gone=False)
        super().close()
        self.client.close()
