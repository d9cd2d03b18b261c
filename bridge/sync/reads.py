"""Reads the mirror for `bridge.sync.store`: what a majority holds, at least as new as a moment,
within a time limit. Every failure of MongoDB is ServerAway: the legacy side can answer.

A read that cannot be had in time from the nearest member is repeated on the primary. Without a
moment (NEWEST) the primary is asked for its time first: a member that has just been started or
elected answers with what it knows to be a majority's, and that can be old.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pymongo
from bson.timestamp import Timestamp
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import NotPrimaryError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import Primary, make_read_preference

from bridge.errors import BridgeError
from bridge.sync.mongodb import as_outage, connect, message_of
from bridge.sync.queries import Query

__all__ = ["NEWEST", "Raw", "Reads"]

Raw = Mapping[str, Any]
Answer = TypeVar("Answer")

NEWEST = -1
"""The moment of a read that has to see all that a majority holds when it begins."""
FIRST_SHARE = 0.5
"""Share of the time that a member other than the primary gets."""


class Reads:
    """One client, for many threads; it connects with the first read.

    preference: PyMongo's name of a read preference.
    max_staleness: seconds that a secondary may be behind; not less than 90 (MongoDB's own limit).
    patience: seconds for one read.
    cluster_time: the newest $clusterTime that this process knows.

    Raises BridgeError for a URL that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        preference: str,
        max_staleness: float,
        patience: float,
        cluster_time: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        mode = preference[:1].lower() + preference[1:]
        self._near: Any = Primary()
        if mode != "primary":
            self._near = make_read_preference(
                pymongo.read_preferences.read_pref_mode_from_name(mode),
                tag_sets=None,
                max_staleness=int(max_staleness),
            )
        self._patience, self._cluster_time = patience, cluster_time
        self._client: MongoClient[dict[str, Any]] = connect(url, patience=patience)
        self._database = self._client.get_default_database()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def one(self, collection: str, key: str, moment: int, *, primary: bool = False) -> Raw | None:
        """The document of a key, tombstones included.

        moment: the cluster time that it must be as new as, like that of `Fill`; or NEWEST.
        primary: whether only the primary is asked.
        """
        return self._read(
            collection, moment, primary, lambda c, s: c.find_one({"_id": key}, session=s)
        )

    def many(
        self, collection: str, keys: Sequence[str], moment: int, *, primary: bool = False
    ) -> dict[str, Raw]:
        """The documents of these keys, tombstones included.

        moment, primary: as for `one`.
        """

        def read(c: Collection[dict[str, Any]], s: ClientSession) -> dict[str, Raw]:
            return {found["_id"]: found for found in c.find({"_id": {"$in": keys}}, session=s)}

        return self._read(collection, moment, primary, read)

    def find(
        self, collection: str, query: Query, moment: int, *, primary: bool = False
    ) -> list[Raw]:
        """What a query finds.

        moment, primary: as for `one`.
        """

        def read(c: Collection[dict[str, Any]], s: ClientSession) -> list[Raw]:
            return list(
                c.find(
                    query.filter,
                    query.projection,
                    sort=query.sort or None,
                    skip=query.skip,
                    limit=query.limit,
                    hint=query.index,
                    session=s,
                )
            )

        return self._read(collection, moment, primary, read)

    def _read(
        self,
        name: str,
        moment: int,
        primary: bool,
        read: Callable[[Collection[dict[str, Any]], ClientSession], Answer],
    ) -> Answer:
        deadline = time.monotonic() + self._patience
        try:
            if not primary and moment != NEWEST and not isinstance(self._near, Primary):
                try:
                    return self._ask(name, moment, self._near, self._patience * FIRST_SHARE, read)
                except PyMongoError:
                    # It hangs, or is too far behind the moment. Where there is no server to
                    # choose, PyMongo has waited for half a second, whatever it was told.
                    if time.monotonic() >= deadline:
                        raise
            left = max(deadline - time.monotonic(), 0.01)
            return self._ask(name, moment, Primary(), left, read)
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and "hint provided" in message_of(error):
                text = f"{name} has not all the indexes of sync.yaml: run `bridgectl sync init`"
                raise BridgeError(text) from error
            raise as_outage(error) from error

    def _ask(
        self,
        name: str,
        moment: int,
        preference: Any,
        seconds: float,
        read: Callable[[Collection[dict[str, Any]], ClientSession], Answer],
    ) -> Answer:
        collection = self._database.get_collection(
            name, read_preference=preference, read_concern=ReadConcern("majority")
        )
        with pymongo.timeout(seconds), self._client.start_session() as session:
            if moment == NEWEST:
                hello = self._database.command("hello", session=session)
                if not hello["isWritablePrimary"]:
                    raise NotPrimaryError("the member that was asked is no primary")
            elif moment:
                if (known := self._cluster_time()) is not None:
                    session.advance_cluster_time(known)
                session.advance_operation_time(Timestamp(moment >> 32, moment & 0xFFFFFFFF))
            return read(collection, session)
