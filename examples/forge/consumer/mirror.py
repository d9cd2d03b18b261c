"""Reads projects and releases from MongoDB, where the bridge's worker keeps them.

Read-only. A deleted document is a tombstone with `_del`, and every read here leaves those out.
What a page looks like is the business of `views`.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping
from typing import Any

from pymongo import ASCENDING, DESCENDING, MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from bridge.settings import Settings

__all__ = ["close", "project", "projects", "release_of_file", "releases"]

Document = Mapping[str, Any]

# A MongoDB that is down must cost a visitor little: the legacy side answers instead.
OPTIONS: Mapping[str, Any] = {
    "serverSelectionTimeoutMS": 300,
    "connectTimeoutMS": 300,
    "socketTimeoutMS": 2000,
}
NOT_DELETED: Mapping[str, Any] = {"_del": {"$ne": True}}

# A client must not be used in a forked child: one per process, and per URL for tests.
_databases: dict[tuple[int, str], Database[dict[str, Any]]] = {}
_lock = threading.Lock()


def project(name: str) -> Document | None:
    """The project of this name."""
    return _collection("projects").find_one({"_id": name, **NOT_DELETED})


def projects(skip: int, limit: int) -> list[Document]:
    """At most `limit` projects after the first `skip`, by name, in the order of its bytes."""
    found = _collection("projects").find(
        NOT_DELETED, projection=["name", "summary", "version", "updated"]
    )
    # A project's key is its name, so the index on `_id` is already in this order.
    return list(found.sort("_id", ASCENDING).skip(skip).limit(limit))


def releases(name: str, skip: int, limit: int) -> list[Document]:
    """At most `limit` releases of a project after the first `skip`, newest first."""
    order = [("published", DESCENDING), ("version", ASCENDING), ("architecture", ASCENDING)]
    found = _collection("releases").find({**_keys_of(name), **NOT_DELETED})
    return list(found.sort(order).skip(skip).limit(limit))


def release_of_file(name: str, filename: str) -> Document | None:
    """The release of a project that has a file of this name."""
    return _collection("releases").find_one({**_keys_of(name), **NOT_DELETED, "filename": filename})


def close() -> None:
    """Close this process's connections; the next read opens new ones."""
    with _lock:
        for key in [key for key in _databases if key[0] == os.getpid()]:
            _databases.pop(key).client.close()


def _keys_of(name: str) -> dict[str, Any]:
    """All keys `name/version/architecture` of a project: "0" is the character after "/"."""
    return {"_id": {"$gte": f"{name}/", "$lt": f"{name}0"}}


def _collection(name: str) -> Collection[dict[str, Any]]:
    # Only the one variable is looked at per read: Settings reads files of secrets as well.
    key = (os.getpid(), os.environ.get("BRIDGE_MONGODB_URL", ""))
    database = _databases.get(key)
    if database is None:
        with _lock:
            database = _databases.get(key)
            if database is None:
                url = Settings.from_environ().mongodb_url
                client: MongoClient[dict[str, Any]] = MongoClient(url, **OPTIONS)
                database = _databases[key] = client.get_default_database("bridge")
    return database[name]


def _after_fork() -> None:
    global _lock
    # Another thread of the parent may have held it at the fork.
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close)
