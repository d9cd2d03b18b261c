"""What to say when a server does not answer and a person waits, or sync.yaml mirrors nothing."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from bridge.errors import BridgeError, ServerAway, ServerMissing
from bridge.queue.broker.connection import connect as connect_broker
from bridge.queue.broker.connection import kind_of
from bridge.settings import Settings, redact_url
from bridge.sync import indexes
from bridge.sync.documents import Mirror
from bridge.sync.mongodb import connect

__all__ = ["broker_missing", "check_broker", "check_mongodb", "mongodb_missing", "no_entities"]


def no_entities(settings: Settings) -> BridgeError:
    """What to say when sync.yaml does not say what to mirror, or is not there."""
    if not os.path.lexists(settings.sync):
        where = os.path.abspath(settings.sync)
        return BridgeError(
            f"there is no sync.yaml ({where}): `bridgectl example site` writes one, "
            "`bridgectl sync propose` makes one of the database; BRIDGE_SYNC names another place"
        )
    return BridgeError(
        f"{settings.sync} declares nothing to mirror: write under `entities:` the name that the "
        "events have and the collection for it, for example `project: {collection: projects}`"
    )


def check_broker(url: str) -> None:
    """Raises ServerMissing when the broker does not answer, BridgeError for a wrong URL."""
    try:
        connect_broker(url).release()
    except ServerAway as error:
        raise broker_missing(url, error) from error


def broker_missing(url: str, error: object) -> ServerMissing:
    """What to say when the broker does not answer and a person waits."""
    name, start = kind_of(url).server(url)
    return ServerMissing(name, redact_url(url), start, error)


def mongodb_missing(url: str, error: Exception) -> ServerMissing:
    """What to say when MongoDB does not answer at the start."""
    return ServerMissing("MongoDB", redact_url(url), _mongod(url), error)


def check_mongodb(settings: Settings, mirror: Mirror) -> None:
    """See that it answers and has the indexes, however long making them takes. Raises
    ServerMissing, and BridgeError for an index that is in the way."""
    try:
        with connect(settings.mongodb_url, answer=None) as unhurried:
            indexes.ensure(unhurried.get_default_database(), mirror)
    except ServerAway as error:
        raise mongodb_missing(settings.mongodb_url, error) from error


def _mongod(url: str) -> str:
    try:
        # A URL of several hosts has no one port.
        port = urlsplit(url.split(",")[0]).port or 27017
    except ValueError:
        port = 27017
    return f"mongod --replSet rs0 --port {port} --dbpath DIRECTORY"
