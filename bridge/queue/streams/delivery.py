"""Messages that a channel of `bridge.queue.streams` has delivered, until Redis knows their end.

Acknowledgements are sent together: at the end of a batch, when a hundred are due, or when the
next batch is fetched. One that is still waiting when a process dies costs a repetition.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from kombu.message import Message as KombuMessage
from kombu.transport import virtual

from bridge.queue.unpack import HEADER, Limited

__all__ = ["Message", "QoS", "tag_of", "untag"]

ACK_WITHIN = 0.05
"""Seconds that an acknowledgement waits for others at most, while the channel is in use."""


class Message(virtual.Message, Limited):
    """A message from a stream; its body is bytes."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        properties = payload["properties"]
        self._raw = payload
        headers = payload["headers"]
        if HEADER in headers:
            self.unpacked = channel.unpacked
            begin: Any = Limited.__init__
        else:
            begin = KombuMessage.__init__  # nearly always
        begin(
            self,
            body=payload["body"],
            channel=channel,
            delivery_tag=properties["delivery_tag"],
            content_type=payload["content-type"],
            content_encoding=payload["content-encoding"],
            headers=headers,
            properties=properties,
            delivery_info=properties["delivery_info"],
            **kwargs,
        )


class QoS(virtual.QoS):
    """What is delivered and not acknowledged, and acknowledgements on their way to Redis.

    A delivery tag is `entry id/queue`.
    """

    def __init__(self, channel: Any, prefetch_count: int = 0) -> None:
        super().__init__(channel, prefetch_count)
        # It would keep the channel until the end of the process, and restore nothing.
        self._on_collect.cancel()
        self._lock = threading.RLock()
        self._held: dict[str, Any] = {}
        self._acked: dict[str, list[bytes]] = {}
        self._acked_count, self._acked_since = 0, 0.0

    def can_consume(self) -> bool:
        return not self.prefetch_count or len(self._held) < self.prefetch_count

    def can_consume_max_estimate(self) -> int | None:
        return max(self.prefetch_count - len(self._held), 0) if self.prefetch_count else None

    def append(self, message: Any, delivery_tag: str) -> None:
        self._held[delivery_tag] = message

    def get(self, delivery_tag: str) -> Any:
        return self._held[delivery_tag]

    def holds(self, queue: str, id: bytes) -> bool:
        """Whether this entry is with the program, or acknowledged and not yet gone."""
        with self._lock:
            return tag_of(queue, id) in self._held or id in self._acked.get(queue, ())

    def ack(self, delivery_tag: str) -> None:
        with self._lock:
            if self._held.pop(delivery_tag, None) is None:
                return
            queue, id = untag(delivery_tag)
            self._acked.setdefault(queue, []).append(id)
            self._acked_count += 1
            if self._acked_count == 1:
                self._acked_since = time.monotonic()
            alone = not self._held and not self.channel.is_delivering
            many = self._acked_count >= self.channel.batch
            if alone or many or time.monotonic() - self._acked_since > ACK_WITHIN:
                self.flush()

    def ack_up_to(self, delivery_tag: str) -> None:
        """Acknowledge everything that was delivered before this one, and it too."""
        if delivery_tag in self._held:
            for tag in list(self._held):
                self.ack(tag)
                if tag == delivery_tag:
                    return

    def settle(self) -> None:
        """The end of a batch: with nothing held there is nothing to wait for."""
        if not self._held:
            self.flush()

    def flush(self) -> None:
        """Send what is acknowledged. Raises redis.RedisError, and keeps it then."""
        with self._lock:
            if self._acked_count:
                self.channel.group.ack(self._acked)
                self._acked.clear()
                self._acked_count = 0

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Raises redis.RedisError, and the message is still held then."""
        if not requeue:
            self.ack(delivery_tag)
        elif delivery_tag in self._held:
            self._put_back(delivery_tag, counted=True)

    def restore_unacked(self) -> list[Any]:
        """Put back what is held, in its order; the delivery is not counted."""
        for tag in list(self._held):
            self._put_back(tag, counted=False)
        return []

    def _put_back(self, tag: str, *, counted: bool) -> None:
        self.channel.group.put_back([untag(tag)], counted=counted)
        self._held.pop(tag, None)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """What the program still held when it ends comes back by itself, see `Channel.close`."""


def tag_of(queue: str, id: bytes) -> str:
    """The delivery tag of an entry: its id, `/`, its queue."""
    return f"{id.decode('ascii')}/{queue}"


def untag(tag: str) -> tuple[str, bytes]:
    """Queue and entry id of a delivery tag."""
    id, _, queue = tag.partition("/")
    return queue, id.encode("ascii")
