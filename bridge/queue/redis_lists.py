"""Kombu's own `redis://` transport, made safe against messages that are no envelopes.

What this does not change: BRPOP takes a message off its list, and only a second command notes it
among the unacknowledged ones. A worker that is killed between the two loses that message for
good; so does a Redis that is killed between its BRPOP and our reading of the reply. Whoever
cannot bear that must re-publish the entity, and the version guard makes that harmless.

What it does change, each at the smallest seam of kombu 5.7 (`kombu/transport/redis.py`):

1. `Client.parse_response` and `Channel._get`: what was popped is normalised before Kombu
   decodes it.
2. `QoS`: where the note among the unacknowledged cannot be written, because Redis just went away
   or is full, the message in hand is still delivered; and a full Redis can still be emptied.
3. The keys of the unacknowledged messages are ours alone: another Kombu application on the same
   database would otherwise restore our messages by its own clock, and we its.
"""

# Most of what kombu offers has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from queue import Empty
from typing import Any

import redis
from kombu.transport import redis as stock
from kombu.transport.virtual import QoS as VirtualQoS

from bridge.queue.envelope import normalise

__all__ = ["TRANSPORT_OPTIONS", "Channel", "Transport"]

VISIBILITY_TIMEOUT = 60
"""Seconds after which the messages of a killed worker go back to their list. A message that its
worker still holds then arrives twice, and the version guard drops one."""

TRANSPORT_OPTIONS: dict[str, Any] = {
    "visibility_timeout": VISIBILITY_TIMEOUT,
    "unacked_key": "bridge.unacked",
    "unacked_index_key": "bridge.unacked.index",
    "unacked_mutex_key": "bridge.unacked.mutex",
    "unacked_mutex_expire": 30,
    "socket_connect_timeout": 3.0,
    "socket_timeout": 10.0,
    "socket_keepalive": True,
}

logger = logging.getLogger(__name__)


class Client(redis.Redis):
    """A Redis client for which all that BRPOP brings is an envelope."""

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        response = super().parse_response(connection, command_name, **options)
        if command_name != "BRPOP" or not response:
            return response
        key, raw = response
        # Lists of other priorities than 0 have a suffix after Kombu's separator.
        return [key, normalise(raw, key.decode("utf-8", "replace").rsplit(Channel.sep, 1)[0])]


class QoS(stock.QoS):
    """Bookkeeping of what is delivered and not acknowledged."""

    def append(self, message: Any, delivery_tag: str) -> None:
        try:
            super().append(message, delivery_tag)
        except (redis.RedisError, OSError) as error:
            logger.warning("a message in hand could not be noted as unacknowledged: %s", error)
            VirtualQoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        # Kombu does this in a MULTI, of which a full Redis takes nothing, not even deletions.
        with self.channel.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            pipe.hdel(self.unacked_key, delivery_tag).zrem(self.unacked_index_key, delivery_tag)
            pipe.execute()
        VirtualQoS.ack(self, delivery_tag)

    def restore_visible(self, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        try:
            super().restore_visible(start, num, interval)
        except redis.ResponseError as error:
            # It needs a lock, which a full Redis does not give. Consuming goes on.
            logger.warning("messages of killed workers could not be restored: %s", error)


class Channel(stock.Channel):
    """A channel on which nothing that was popped is lost for being undecodable."""

    QoS = QoS

    tags_outlive_connections = True
    """A message may be acknowledged on another connection than it came on."""

    def _get_client(self) -> type[redis.Redis]:
        stock_client = super()._get_client()
        if stock_client is not redis.Redis:
            raise ValueError("global_keyprefix is not supported")
        return Client

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        with self.conn_or_acquire() as client:
            for priority in self.priority_steps:
                raw = client.rpop(self._q_for_pri(queue, priority))
                if raw is not None:
                    envelope: dict[str, Any] = json.loads(normalise(raw, queue))
                    return envelope
        raise Empty

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for priority in self.priority_steps:
                pipe.llen(self._q_for_pri(queue, priority))
            return sum(pipe.execute())

    def restore_overdue(self) -> None:
        """Put back what killed workers held; Kombu by itself does it only while idle."""
        self.qos.restore_visible(num=100, interval=1)

    def give_back(self, tags: Iterable[str]) -> None:
        """Put unacknowledged messages back to their lists, to be taken again first."""
        for tag in tags:
            self.qos.restore_by_tag(tag)

    def abandon(self) -> None:
        """Make `close` drop the sockets without a word to Redis, which does not answer."""
        self.do_restore = False
        self._in_poll = False


class Transport(stock.Transport):
    """`redis://` and `rediss://` for the bridge."""

    Channel = Channel

    brpop_timeout = 0.25  # type: ignore[assignment]  # Redis takes fractions since 6.0
    """Seconds; closing a channel waits for the end of the BRPOP that is under way."""
