"""The side of a channel that publishes, and that makes queues and leads exchanges to them.

What it does not offer it refuses: a priority that is ignored is a promise broken in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import redis
from kombu.transport import virtual
from kombu.transport.base import to_rabbitmq_queue_arguments
from kombu.transport.virtual import NotEquivalentError

from bridge.errors import NotOffered
from bridge.queue.streams.contents import Contents
from bridge.queue.streams.entry import to_fields
from bridge.queue.streams.exchanges import Binding, Exchanges
from bridge.queue.streams.group import Group

__all__ = ["RoutingChannel"]

_REFUSED_ARGUMENTS = frozenset(
    {
        *("x-max-priority", "x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"),
        *("x-overflow", "x-dead-letter-exchange", "x-dead-letter-routing-key"),
        *("x-delivery-limit", "x-single-active-consumer"),
    }
)


class RoutingChannel(virtual.Channel):
    """Publishes to streams. A subclass sets `client`, `contents`, `group` and `exchanges`."""

    supports_fanout = True
    body_encoding = None
    global_keyprefix = ""

    client: redis.Redis
    contents: Contents
    group: Group
    exchanges: Exchanges

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        self._puts: list[tuple[str, Mapping[str, Any]]] | None = None
        self._auto_delete: set[str] = set()

    # Publishing.

    def prepare_message(
        self,
        body: Any,
        priority: int | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
    ) -> Any:
        if priority:
            raise NotOffered("a priority inside a queue; use a queue of its own for what is urgent")
        if properties and properties.get("expiration") is not None:
            raise NotOffered("a time to live per message; let the consumer look at its age")
        return super().prepare_message(
            body, priority, content_type, content_encoding, headers, properties
        )

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """What is published inside goes to Redis in one transaction at the end: all or nothing.
        Raises redis.RedisError at the end; all of it may then be there nevertheless."""
        if self._puts is not None:
            yield
            return
        self._puts = []
        try:
            yield
            puts = self._puts
        finally:
            self._puts = None
        self.contents.add(puts)

    def basic_publish(self, message: Any, exchange: str, routing_key: str, **kwargs: Any) -> Any:
        if kwargs.get("mandatory") or kwargs.get("immediate"):
            raise NotOffered("mandatory and immediate; declare the queue before publishing")
        # An exchange may lead to several queues.
        with self.publishing():
            return super().basic_publish(message, exchange, routing_key, **kwargs)

    def _put(self, queue: str, message: Mapping[str, Any], **kwargs: Any) -> None:
        fields = to_fields(message, queue)
        with self.publishing():
            assert self._puts is not None
            self._puts.append((queue, fields))

    def _put_fanout(
        self, exchange: str, message: Mapping[str, Any], routing_key: str, **kwargs: Any
    ) -> None:
        for queue in sorted({queue for _, _, queue in self.get_table(exchange)}):
            self._put(queue, message)

    # Queues and bindings.

    def exchange_declare(
        self,
        exchange: str | None = None,
        type: str = "direct",
        durable: bool = False,
        auto_delete: bool = False,
        arguments: Any = None,
        nowait: bool = False,
        passive: bool = False,
    ) -> None:
        type = type or "direct"
        exchange = exchange or f"amq.{type}"
        if type not in self.exchange_types:
            raise NotOffered(f"exchanges of type {type}; there are direct, topic and fanout")
        if passive:
            self.typeof(exchange)
        elif (there := self.exchanges.declare(exchange, type)) != type:
            raise NotEquivalentError(f"exchange {exchange!r} is there and of type {there}")
        super().exchange_declare(
            exchange, type, durable, auto_delete, arguments, nowait=nowait, passive=passive
        )

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:
        # Kombu's own would delete the queues that are empty at the moment.
        if not (if_unused and self.get_table(exchange)):
            self.exchanges.delete(exchange)
            self.state.exchanges.pop(exchange, None)

    def typeof(self, exchange: str, default: str = "direct") -> Any:
        if exchange and exchange not in self.state.exchanges:
            known = self.exchanges.type_of(exchange)
            if known is None or known not in self.exchange_types:
                return self.exchange_types[default]
            self._know(exchange, known)
        return super().typeof(exchange, default)

    def _know(self, exchange: str, type: str) -> None:
        facts = {"type": type, "durable": True, "auto_delete": False, "arguments": {}, "table": []}
        self.state.exchanges.setdefault(exchange, facts)

    def get_table(self, exchange: str) -> list[Binding]:
        return self.exchanges.bindings(exchange)

    def prepare_queue_arguments(self, arguments: Any, **kwargs: Any) -> Any:
        return to_rabbitmq_queue_arguments(arguments, **kwargs)

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:
        if refused := sorted(set(kwargs.get("arguments") or ()) & _REFUSED_ARGUMENTS):
            raise NotOffered(f"{', '.join(refused)} of a queue; leave it out")
        declared = super().queue_declare(queue, passive, **kwargs)
        if kwargs.get("auto_delete"):
            self._auto_delete.add(declared.queue)
        return declared

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Any = None,
        **kwargs: Any,
    ) -> None:
        exchange = exchange or "amq.direct"
        # Always: what this connection did once may be gone with the data of Redis.
        binding = self._binding(queue, exchange, routing_key, arguments)
        self._know(exchange, self.exchanges.declare(exchange, self.typeof(exchange).type))
        self.exchanges.bind(exchange, binding)

    def queue_unbind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: Any = None,
        **kwargs: Any,
    ) -> None:
        exchange = exchange or "amq.direct"
        self.exchanges.unbind(exchange, self._binding(queue, exchange, routing_key, arguments))

    def _binding(self, queue: str, exchange: str, routing_key: str, arguments: Any) -> Binding:
        made = self.typeof(exchange).prepare_bind(queue, exchange, routing_key, arguments)
        return made[0] or "", made[1] or "", made[2] or ""

    def queue_delete(
        self, queue: str, if_unused: bool = False, if_empty: bool = False, **kwargs: Any
    ) -> None:
        if if_empty and self._size(queue):
            return
        if if_unused and self._has_queue(queue) and self._is_used(queue):
            return
        self.exchanges.forget_queue(queue)
        self.client.delete(self.key_of(queue))

    def _is_used(self, queue: str) -> bool:
        return queue in self._active_queues or self.group.has_others(queue)

    def _new_queue(self, queue: str, **kwargs: Any) -> None:
        self.group.create(queue)

    def _has_queue(self, queue: str, **kwargs: Any) -> bool:
        return bool(self.client.exists(self.key_of(queue)))

    def _size(self, queue: str) -> int:
        return self.group.ready(queue)

    def key_of(self, queue: str) -> str:
        """The Redis key of a queue's stream."""
        return self.global_keyprefix + queue
