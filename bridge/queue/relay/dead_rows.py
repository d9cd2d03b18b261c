"""Which events are among the dead letters, so that the relay does not publish them again.

Of each letter only two hashes are kept. A stream is read on from where the last look ended;
RabbitMQ can only be asked by taking all letters and giving them back, so that is done when their
number is another one, and else seldom.
"""

from __future__ import annotations

from hashlib import blake2b
from time import monotonic
from typing import Any

from bridge.errors import UndecodableMessage
from bridge.queue.broker.broker import Broker
from bridge.queue.consumer.dead_letters import DeadLetter
from bridge.queue.sql.outbox import Row

__all__ = ["DeadRows"]

MOST_LETTERS = 100_000
"""Letters that are known of; of more, the newest."""
_NOBODY = ("", "", "")
SOON = 5.0
"""Seconds between two looks at RabbitMQ at least."""


class DeadRows:
    """The events among the dead letters of one queue. every: seconds between two looks at a
    broker that is no Redis."""

    def __init__(self, queue: str, *, every: float = 600.0) -> None:
        self._queue, self._every = queue, every
        self._places: dict[bytes, bytes] = {}
        self._unnamed = False
        self._last, self._look_at, self._soon_at, self._count = b"", 0.0, 0.0, -1

    def __len__(self) -> int:
        return len(self._places)

    def forget(self) -> None:
        """Begin anew: the broker may be another one, or have lost what it had."""
        self._places.clear()
        self._unnamed = False
        self._last, self._count = b"", -1

    def look(self, broker: Broker) -> None:
        """Read the letters that came since. Raises the broker's errors."""
        if (news := broker.after(self._queue, self._last)) is not None:
            for place, body in news:
                self._keep(body, place)
                self._last = place
            return
        now = monotonic()
        if now < min(self._look_at, self._soon_at):
            return
        broker.declare(self._queue)
        count = broker.length(self._queue)
        if count != self._count or now >= self._look_at:
            self._places.clear()
            for body in broker.bodies(self._queue):
                self._keep(body, b"")
            self._count, self._look_at = count, now + self._every
        self._soon_at = now + min(SOON, self._every)

    def has(self, broker: Broker, row: Row, source: str) -> bool:
        """Whether the event of this row is a dead letter, as of the last `look`."""
        if not self._places:
            return False
        names = [_name(row.entity, row.key, str(row.version))]
        if self._unnamed:
            names.append(_hash(row.event(source)))
        for name in names:
            if (place := self._places.get(name)) is None:
                continue
            if not place or broker.is_there(self._queue, place):
                return True
            del self._places[name]  # dropped, or tried again
        return False

    def _keep(self, text: Any, place: bytes) -> None:
        try:
            letter = DeadLetter.from_json(text)
        except UndecodableMessage:
            return  # somebody else's
        about = letter.entity, letter.key, letter.version
        self._unnamed |= about == _NOBODY
        for name in (_hash(letter.raw), *([_name(*about)] if about != _NOBODY else [])):
            self._places.pop(name, None)
            self._places[name] = place
        while len(self._places) > 2 * MOST_LETTERS:
            del self._places[next(iter(self._places))]


def _hash(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=16).digest()


def _name(entity: str, key: str, version: str) -> bytes:
    return _hash("\0".join((entity, key, version)).encode("utf-8", "backslashreplace"))
