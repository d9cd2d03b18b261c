"""Connections to the broker, and its queues.

A Redis URL gets `bridge.queue.streams`, in whichever form it is written; `amqp://` is RabbitMQ
with quorum queues and publisher confirms. Every other URL gets the transport that Kombu has.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from bridge.errors import BridgeError, ServerAway
from bridge.queue import streams, unpack
from bridge.queue.broker import rabbitmq as amqp
from bridge.queue.streams import url as redisurl
from bridge.settings import redact_text, redact_url

__all__ = [
    "DEAD_QUEUE",
    "EVENTS_QUEUE",
    "backoff",
    "connect",
    "declare",
    "drop",
    "is_streams",
    "oldest",
    "queue",
    "trouble",
]

EVENTS_QUEUE = "bridge.events"
"""All events of all entities; on Redis a stream of this name."""
DEAD_QUEUE = "bridge.events.dead"
"""What could not be used, see `bridge.queue.consumer.dead_letters`."""

URL_OPTIONS: dict[str, Callable[[str], Any]] = {
    "heartbeat": float,
    "reclaim_idle": float,
    "reclaim_every": float,
    "global_keyprefix": str,
}
"""What `bridge.queue.streams` takes from a URL too; seconds, see
`bridge.queue.streams.group.Limits`."""
DEAD_SECONDS = 30 * 24 * 3600
"""Dead letters are kept for so long."""
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
CONNECT_SECONDS = 3


def connect(url: str, *, amqp_heartbeat: int = 0, **transport_options: Any) -> Connection:
    """An open connection with its default channel, made with one try of a few seconds.

    amqp_heartbeat: seconds, for a caller that uses `bridge.queue.broker.rabbitmq.Pulse`.
    transport_options: for `bridge.queue.streams`; of them RabbitMQ gets `socket_timeout`, other
    transports none. Those of URL_OPTIONS may also stand in the URL of a Redis, as in
    redis://127.0.0.1/0?reclaim_idle=60.
    Raises BridgeError for a URL that cannot be used, and ServerAway when the broker does not
    answer or lets nobody in.
    """
    options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    try:
        if redisurl.is_redis(url):
            streams.register()
            url, from_url = _split_options(url)
            options["transport_options"] = from_url | transport_options
            # Raises ValueError for what redis-py cannot use; Kombu would find out much later.
            redisurl.client(url).close()
            connection = Connection(redisurl.kombu_url(url), **options)
        else:
            if not (scheme := urlsplit(url).scheme):
                # Kombu would take it for the name of a RabbitMQ host.
                raise ValueError("it has no scheme")
            if scheme in ("amqp", "amqps", "pyamqp"):
                options["heartbeat"] = amqp_heartbeat
            if scheme == "amqps":
                # Checks the name in the certificate too; None means the host of the URL.
                options["ssl"] = {"server_hostname": None}
            connection = Connection(url, **options)
        errors = trouble(connection)
    except (KeyError, ValueError, TypeError, ImportError) as error:
        why = redact_text(error, url)
        # Not `from error`: its text, in a traceback, may hold a password.
        raise BridgeError(f"broker URL {redact_url(url)!r} cannot be used: {why}") from None
    try:
        connection.ensure_connection(
            # Kombu takes several URLs, with ; between them: each has one try.
            max_retries=url.count(";"),
            interval_start=0,
            interval_step=0,
            reraise_as_library_errors=False,
        )
        if amqp.is_amqp(connection):
            amqp.prepare(connection, transport_options.get("socket_timeout", amqp.PATIENCE))
        # Opened here, so that opening it later cannot fail at another place.
        channel: Any = connection.default_channel
        # The bytes as they were sent: what is no UTF-8 must not look like a lost connection.
        channel.auto_decode = False
        unpack.limit(channel)
    except errors as error:
        drop(connection)
        raise ServerAway(redact_text(f"{type(error).__name__}: {error}", url)) from error
    return connection


def _split_options(url: str) -> tuple[str, dict[str, Any]]:
    """The URL without our options, and the options. Raises ValueError."""
    base, mark, query = url.partition("?")
    if not mark:
        return url, {}
    ours, rest = {}, []
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in URL_OPTIONS:
            ours[name] = URL_OPTIONS[name](value)
        else:
            rest.append((name, value))
    return f"{base}?{urlencode(rest)}" if rest else base, ours


def trouble(connection: Connection) -> tuple[type[BaseException], ...]:
    """Errors that mean: the broker is away or in no state to work, try again later.

    Some of Kombu's transports count KeyError among their connection errors. Here it is none: a
    mistake in our own code must not look like an outage.
    """
    errors = (*connection.connection_errors, *connection.channel_errors, OperationalError)
    return tuple(error for error in errors if error is not KeyError)


def drop(connection: Connection) -> None:
    """Close a connection that is in trouble, without waiting for the broker's consent."""
    if amqp.is_amqp(connection):
        connection.collect()
    else:
        connection.release()


def is_streams(channel: Any) -> bool:
    """Whether the channel is one of `bridge.queue.streams`."""
    return isinstance(channel, streams.Channel)


def queue(connection: Connection, name: str) -> Queue:
    """The durable queue `name`, reached by the default exchange; on RabbitMQ a quorum queue."""
    arguments: dict[str, Any] | None = None
    if amqp.is_amqp(connection):
        arguments = {"x-queue-type": "quorum"} | amqp.no_limit(connection)
        if name.endswith(".dead"):
            arguments["x-message-ttl"] = DEAD_SECONDS * 1000
    return Queue(name, routing_key=name, durable=True, queue_arguments=arguments)


def declare(connection: Connection, channel: Any, name: str) -> None:
    """Make sure that the queue is there."""
    queue(connection, name)(channel).declare()


def oldest(connection: Connection, name: str) -> float | None:
    """When the oldest message of a queue was published, in seconds since 1970 by our clock; inf
    when there is none, None where the broker cannot say. Raises redis-py's errors."""
    channel: Any = connection.default_channel
    if not is_streams(channel):
        return None
    words = "XRANGE", channel.key_of(name), "-", "+", "COUNT", 1
    first = list(channel.client.execute_command(*words))
    if not first:
        return float("inf")
    seconds, micro = channel.client.time()
    age = seconds + micro / 1e6 - int(first[0][0].split(b"-")[0]) / 1000
    return time.time() - float(age)


def backoff(attempt: int) -> float:
    """Seconds to wait after the failure number `attempt`, counted from 0.

    Doubles up to LONGEST_DELAY, with jitter so that workers do not come back as one.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311  # spreads load, guards nothing
