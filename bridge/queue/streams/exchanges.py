"""The exchanges of `bridge.queue.streams` and their bindings, kept in Redis.

Kombu's virtual transports know only the exchanges that their own connection declared; a program
that merely publishes by the name of an exchange would take a topic for a direct one, and its
messages would vanish. Here every program sees the same.
"""

from __future__ import annotations

from typing import Any

import redis

__all__ = ["Binding", "Exchanges"]

Binding = tuple[str, str, str]
"""Routing key, pattern (of a topic exchange, else empty), queue."""

_SEPARATOR = "\x06\x16"


class Exchanges:
    """The exchanges under one key prefix. Every method raises redis.RedisError."""

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self._client: Any = client
        self._types = f"{prefix}bridge.exchanges"
        self._prefix = f"{prefix}bridge.bindings."

    def type_of(self, exchange: str) -> str | None:
        """direct, topic or fanout; None for an exchange that nobody declared."""
        found = self._client.hget(self._types, exchange)
        return None if found is None else found.decode()

    def declare(self, exchange: str, type: str) -> str:
        """The type that the exchange has: this one, where it had none."""
        # Looked at first: a full Redis still answers questions.
        if (there := self.type_of(exchange)) is not None:
            return there
        self._client.hsetnx(self._types, exchange, type)
        return self.type_of(exchange) or type

    def delete(self, exchange: str) -> None:
        """Forget the exchange and its bindings; the queues stay."""
        self._client.delete(self._prefix + exchange)
        self._client.hdel(self._types, exchange)

    def bind(self, exchange: str, binding: Binding) -> None:
        """Lead messages of the exchange to a queue."""
        key, member = self._prefix + exchange, _SEPARATOR.join(binding)
        if not self._client.sismember(key, member):
            self._client.sadd(key, member)

    def unbind(self, exchange: str, binding: Binding) -> None:
        """The opposite of `bind`."""
        self._client.srem(self._prefix + exchange, _SEPARATOR.join(binding))

    def bindings(self, exchange: str) -> list[Binding]:
        """All bindings of the exchange."""
        rows = (
            member.decode("utf-8", "replace").split(_SEPARATOR)
            for member in self._client.smembers(self._prefix + exchange)
        )
        return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]

    def forget_queue(self, queue: str) -> None:
        """Remove every binding that leads to the queue, whoever made it: a publisher would
        otherwise make the queue anew, and nobody would read it."""
        for exchange in self._client.hkeys(self._types):
            name = exchange.decode()
            for binding in self.bindings(name):
                if binding[2] == queue:
                    self.unbind(name, binding)
