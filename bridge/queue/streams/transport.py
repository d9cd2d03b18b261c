"""The transport and its URLs, registered with Kombu."""

from __future__ import annotations

import os
import secrets
import socket
from queue import Empty
from time import monotonic, sleep
from typing import Any
from weakref import WeakKeyDictionary

import redis
from kombu.transport import TRANSPORT_ALIASES, _transport_cache, virtual
from kombu.transport import redis as stock

from bridge.queue.streams import url as redisurl
from bridge.queue.streams.channel import Channel
from bridge.queue.streams.delivery import QoS

__all__ = ["Channel", "QoS", "Transport", "register"]


_names: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()
"""Of each of Kombu's Connections: the process that made it, and its name there."""


class Transport(virtual.Transport):
    """Redis Streams for Kombu."""

    Channel = Channel

    can_parse_url = True
    polling_interval = None  # Redis does the waiting
    default_port = 6379
    driver_type, driver_name = "redis", "redis+streams"
    # A lost connection, and a server that is starting, or is no master any more.
    connection_errors = (
        *virtual.Transport.connection_errors,
        *(OSError, redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError),
    )
    channel_errors = (
        *virtual.Transport.channel_errors,
        *(redis.ResponseError, redis.DataError, redis.InvalidResponse),
    )
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic", "fanout"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.url, self.url_options = redisurl.of_connection(client)
        # After a reconnect the same Connection recovers what it lost on the way. Not after a
        # fork: two processes of one name would take each other's messages for their own.
        pid, name = _names.get(client, (0, ""))
        if pid != os.getpid():
            name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
            _names[client] = os.getpid(), name
        self.name = name

    def establish_connection(self) -> Any:
        channel = self.create_channel(self)
        try:
            channel.client.ping()
        except BaseException:
            channel.close()
            raise
        self._avail_channels.append(channel)
        return self

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:
        cycle: Any = self.cycle
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = None if end is None else max(0.0, end - monotonic())
            try:
                cycle.get(self._deliver, timeout=left)
                return
            except Empty:
                if end is not None and monotonic() >= end:
                    raise TimeoutError("no message in time") from None
            if not any(c._consumers and c.qos.can_consume() for c in self.channels):
                # Somebody else must act first; do not look for it all the time.
                sleep(0.01 if left is None else min(0.01, left))

    def driver_version(self) -> str:
        return str(redis.__version__)

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return self.url if include_password else redisurl.hidden(self.url, mask)


class _RedisByUrl(stock.Transport):
    """Kombu cuts URLs at their `+` and looks for a transport `redis`: this is it. Whatever is
    not `redis+…streams://` gets Kombu's own, as before."""

    def __new__(cls, client: Any, **kwargs: Any) -> Any:
        scheme = str(client.hostname or "").partition("://")[0]
        if scheme in ("streams", "sentinel+streams"):
            return Transport(client, **kwargs)
        return super().__new__(cls)


def register() -> None:
    """Make `redis+streams://` and its relatives known to Kombu; importing the package does."""
    for name in ("redis", "rediss"):
        TRANSPORT_ALIASES[name] = f"{__name__}:_RedisByUrl"
        _transport_cache.pop(name, None)
        # What Kombu looks for when it switches to the next of several URLs.
        for kind in ("streams", "sentinel+streams"):
            TRANSPORT_ALIASES[f"{name}+{kind}"] = f"{__name__}:Transport"


register()
