"""Connections to the broker, and the names of its queues.

`redis://` and `rediss://` URLs get `bridge.queue.redis_lists`; every other URL gets the transport
that Kombu has for it.
"""

# Most of what kombu offers has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import random
import ssl
from typing import Any
from urllib.parse import urlsplit

from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError

from bridge.errors import BridgeError, ServerAway
from bridge.queue import redis_lists
from bridge.settings import redact_url

__all__ = [
    "DEAD_QUEUE",
    "EVENTS_QUEUE",
    "backoff",
    "connect",
    "declare",
    "queue",
    "trouble",
]

EVENTS_QUEUE = "bridge.events"
"""All events of all entities; on Redis a list of this name."""
DEAD_QUEUE = "bridge.events.dead"
"""What could not be used, see `bridge.queue.deadletter`."""

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0


def connect(url: str) -> Connection:
    """An open connection with its default channel, made with one try of a few seconds.

    Raises BridgeError for a URL that cannot be used, and ServerAway when the broker does not
    answer or lets nobody in.
    """
    options: dict[str, Any] = {"connect_timeout": 3}
    if not (scheme := urlsplit(url).scheme):
        # Kombu would take it for the name of a RabbitMQ host.
        raise BridgeError(f"broker URL {redact_url(url)!r} cannot be used: it has no scheme")
    if scheme in ("redis", "rediss"):
        options |= {
            "transport": redis_lists.Transport,
            "transport_options": dict(redis_lists.TRANSPORT_OPTIONS),
        }
        if scheme == "rediss":
            options["ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    try:
        connection = Connection(url, **options)
        errors = trouble(connection)
    except (KeyError, ValueError, ImportError) as error:
        raise BridgeError(f"broker URL {redact_url(url)} cannot be used: {error}") from error
    try:
        connection.ensure_connection(
            max_retries=1, interval_start=0, interval_step=0, reraise_as_library_errors=False
        )
        # Opened here, so that opening it later cannot fail at another place.
        _ = connection.default_channel
    except errors as error:
        connection.release()
        raise ServerAway(f"{type(error).__name__}: {error}") from error
    return connection


def trouble(connection: Connection) -> tuple[type[BaseException], ...]:
    """Errors that mean: the broker is away or in no state to work, try again later.

    Kombu counts KeyError among its connection errors. Here it is none: a mistake in our own
    code must not look like an outage.
    """
    errors = (*connection.connection_errors, *connection.channel_errors, OperationalError)
    return tuple(error for error in errors if error is not KeyError)


def queue(name: str) -> Queue:
    """The durable queue `name`, reached by the default exchange."""
    return Queue(name, routing_key=name, durable=True)


def declare(channel: Any, name: str) -> None:
    """Make sure that the queue is there; on Redis there is nothing to do."""
    queue(name)(channel).declare()


def backoff(attempt: int) -> float:
    """Seconds to wait after the failure number `attempt`, counted from 0.

    Doubles up to LONGEST_DELAY, with jitter so that workers do not come back as one.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(attempt, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311  # spreads load, guards nothing
