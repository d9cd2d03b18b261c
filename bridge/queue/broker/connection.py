"""Connections to the broker: which of the kinds it is, and one that opens itself again.

A Redis URL gets `bridge.queue.streams`, in whichever form it is written; `amqp://` is RabbitMQ
with quorum queues and publisher confirms. Every other URL gets the transport that Kombu has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

from bridge.errors import BridgeError, ServerAway
from bridge.queue.broker.broker import DEAD_QUEUE, EVENTS_QUEUE, Broker
from bridge.queue.broker.rabbitmq import SCHEMES, RabbitMQ
from bridge.queue.broker.redis_streams import Streams
from bridge.queue.streams import url as redisurl
from bridge.settings import redact_text, redact_url

__all__ = ["DEAD_QUEUE", "EVENTS_QUEUE", "Broker", "Link", "connect", "kind_of"]

T = TypeVar("T")


def kind_of(url: str) -> type[Broker]:
    """Which kind of broker `url` names."""
    if redisurl.is_redis(url):
        return Streams
    return RabbitMQ if redisurl.scheme_of(url) in SCHEMES else Broker


def connect(url: str, *, consumes: bool = False, **options: Any) -> Broker:
    """An open connection, made with one try of a few seconds.

    consumes: whether it is for `Broker.consume`.
    options: for `bridge.queue.streams`; of them RabbitMQ gets `socket_timeout`, others none.

    Raises BridgeError for a URL that cannot be used, and ServerAway when the broker does not
    answer or lets nobody in.
    """
    try:
        broker = kind_of(url)(url, consumes=consumes, **options)
    except (KeyError, ValueError, TypeError, ImportError) as error:
        why = redact_text(error, url)
        # Not `from error`: its text, in a traceback, may hold a password.
        raise BridgeError(f"broker URL {redact_url(url)!r} cannot be used: {why}") from None
    try:
        broker.open(tries=url.count(";"))  # Kombu takes several URLs: each has one try
    except broker.errors as error:
        broker.drop()
        raise ServerAway(redact_text(f"{type(error).__name__}: {error}", url)) from error
    return broker


class Link:
    """A connection that is opened when it is needed, and again after an outage; for one thread.

    opened: called with each new connection before its first use.
    options: as for `connect`.
    """

    def __init__(
        self,
        url: str,
        opened: Callable[[Broker], None] = lambda broker: None,
        **options: Any,
    ) -> None:
        self._url, self._opened, self._options = url, opened, options
        self._broker: Broker | None = None

    def do(self, use: Callable[[Broker], T]) -> T:
        """What `use` makes of the connection. Raises ServerAway when the broker fails meanwhile;
        part of it may be done then. Raises BridgeError for a URL that cannot be used."""
        is_new = self._broker is None
        broker = self._broker = self._broker or connect(self._url, **self._options)
        try:
            if is_new:
                self._opened(broker)
            return use(broker)
        except broker.errors as error:
            self._broker = None
            # Without waiting for a broker that may hang.
            broker.drop()
            raise ServerAway(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
