"""MongoDB as the sync uses it: the connection, how a write is acknowledged, whose fault an error
is, and how a document is read that anybody may have written.

An outage must never be taken for a wrong document, or good events would end as dead letters; and a
wrong document never for an outage, or a worker would wait for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError, InvalidBSON
from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DocumentTooLarge,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import parse_uri

from bridge.errors import BridgeError, ServerAway
from bridge.settings import redact_text, redact_url

__all__ = [
    "APP_NAME",
    "DRIVER_REFUSES",
    "MAJORITY",
    "TOLERANT",
    "TOMBSTONE_SECONDS",
    "as_outage",
    "connect",
    "decode",
    "documents_fault",
    "has_doubles",
    "majority",
    "message_of",
    "outages",
    "ping",
    "servers_fault",
]

APP_NAME = "bridge"
"""What MongoDB's log and its list of operations call us."""

TOMBSTONE_SECONDS = 35 * 24 * 3600
"""A tombstone must outlive the longest replay, or a late old version would bring back the dead."""

MAJORITY = WriteConcern(w="majority", j=True, wtimeout=10_000)
"""`wtimeout` in milliseconds: a majority that is gone is an outage, not a hang."""

DRIVER_REFUSES = (DocumentTooLarge, BSONError, OverflowError, UnicodeError, RecursionError)
"""What the driver raises for a document before a byte of it is sent."""

TOLERANT: CodecOptions[dict[str, Any]] = CodecOptions(
    unicode_decode_error_handler="surrogateescape",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""For what anybody may have written: no year and no text is too strange to be read."""


class _Double(ValueError):
    pass


class _Once(dict[str, Any]):
    """Refuses a second value."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            raise _Double(name)
        super().__setitem__(name, value)


_STRICT = TOLERANT.with_options(document_class=_Once)

# Errors of the server with one write that say nothing about its document
# (src/mongo/base/error_codes.yml).
_SERVERS_FAULT = frozenset(
    {
        6,  # HostUnreachable
        7,  # HostNotFound
        13,  # Unauthorized
        18,  # AuthenticationFailed
        24,  # LockTimeout
        50,  # MaxTimeMSExpired
        64,  # WriteConcernFailed
        89,  # NetworkTimeout
        91,  # ShutdownInProgress
        112,  # WriteConflict
        189,  # PrimarySteppedDown
        262,  # ExceededTimeLimit
        9001,  # SocketException
        10107,  # NotWritablePrimary
        11600,  # InterruptedAtShutdown
        11601,  # Interrupted
        11602,  # InterruptedDueToReplStateChange
        13435,  # NotPrimaryNoSecondaryOk
        13436,  # NotPrimaryOrSecondary
        14031,  # OutOfDiskSpace
    }
)
# Errors with a whole command that one of its documents causes.
_DOCUMENTS_FAULT = frozenset(
    {
        2,  # BadValue
        9,  # FailedToParse
        14,  # TypeMismatch
        15,  # Overflow: nested too deeply
        22,  # InvalidBSON
        10334,  # BSONObjectTooLarge
        17419,  # the resulting document is too large
    }
)


def connect(
    url: str, *, patience: float = 2.0, answer: float | None = 30.0
) -> MongoClient[dict[str, Any]]:
    """A client for the database that `url` names in its path; it connects when it is used.

    patience: seconds that one operation waits for a server that is away. answer: seconds that it
    waits for an answer of one that is there, None for as long as it takes.
    Raises BridgeError for a URL that cannot be used or names no database.
    """
    milliseconds = int(patience * 1000)
    try:
        if not parse_uri(url, validate=False, warn=False)["database"]:
            raise ConfigurationError("it names no database; end its path with one, as in /bridge")
        return MongoClient(
            url,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=None if answer is None else int(answer * 1000),
            appname=APP_NAME,
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        why = redact_text(error, url)
        raise BridgeError(f"MongoDB URL {redact_url(url)} cannot be used: {why}") from None


def ping(url: str) -> None:
    """Ask whether it answers and has a primary, for two seconds at most. Raises ServerAway when
    not, and BridgeError for a URL that cannot be used."""
    with connect(url, answer=2.0) as client, outages():
        client.admin.command("ping")


def majority(database: Database[Any], name: str, **more: Any) -> Collection[Any]:
    """A collection, of which the primary is asked for what a majority has. more: options."""
    return database.get_collection(
        name, read_concern=ReadConcern("majority"), read_preference=ReadPreference.PRIMARY, **more
    )


def documents_fault(error: OperationFailure) -> bool:
    """Whether a command failed because of one of its documents."""
    return error.code in _DOCUMENTS_FAULT


def servers_fault(error: BulkWriteError) -> bool:
    """Whether a bulk failed, in part or as a whole, for a reason that is not in its documents."""
    details = error.details or {}
    return bool(details.get("writeConcernErrors")) or any(
        found.get("code") in _SERVERS_FAULT for found in details.get("writeErrors", ())
    )


def message_of(error: Exception) -> str:
    """Its text without the reply of the server, or the state of every server, behind it."""
    details = error.details if isinstance(error, OperationFailure) else None
    text = str((details or {}).get("errmsg") or error)
    return text.partition(", Timeout:")[0][:500]


def as_outage(error: PyMongoError) -> ServerAway:
    """The same as an outage, which callers wait for."""
    return ServerAway(f"{type(error).__name__}: {message_of(error)}")


@contextmanager
def outages() -> Iterator[None]:
    """Inside, what the driver raises is an outage."""
    try:
        yield
    except PyMongoError as error:
        raise as_outage(error) from error


def decode(raw: bytes) -> dict[str, Any]:
    """A document of MongoDB, whatever is in it."""
    return bson.decode(raw, TOLERANT)


def has_doubles(raw: bytes) -> bool:
    """Whether a field is there twice, at any level. Drivers show the last one of them, and MongoDB
    6.0 ends when it is to update such a document."""
    try:
        bson.decode(raw, _STRICT)
    except (_Double, InvalidBSON):
        return True
    return False
