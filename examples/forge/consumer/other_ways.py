"""The project and release pages once more: read with PyMongo alone, and with Ming.

`views` reads through `bridge.sync.Store`, which is shorter and faster. These are for code that
is there already. Three things are theirs to do that the Store does by itself: leave out
tombstones (`_del`), bound the time that a MongoDB which is away costs, and have `reads` on the
route, so that a visitor's own edit is in MongoDB before the handler runs.
"""

# Ming is annotated in part.
# mypy: allow-untyped-calls

from __future__ import annotations

import atexit
import contextlib
import functools
import os
from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy
from bridge.settings import Settings
from examples.forge.consumer.models import Project, Release, alive, session
from examples.forge.consumer.views import project_page, releases_page, visitor_without_session

__all__ = ["project_by_ming", "project_by_pymongo", "releases_by_ming"]

NEWEST_FIRST = [("published", -1), ("version", 1), ("architecture", 1)]


def project_by_pymongo(request: Request, name: str) -> Response:
    """`/project/<name>`, read with a client of its own."""
    visitor_without_session(request)
    found = _database().projects.find_one({"_id": name, "_del": {"$ne": True}})
    if found is None:
        raise UseLegacy("not in MongoDB")
    return project_page(found)


def project_by_ming(request: Request, name: str) -> Response:
    """`/project/<name>`, read as a Ming object."""
    visitor_without_session(request)
    with _one_visitor():
        found = alive(Project, {"_id": name}).first()
        if found is None:
            raise UseLegacy("not in MongoDB")
        return project_page(found)


def releases_by_ming(request: Request, name: str) -> Response:
    """`/project/<name>/releases`, the first page, read as Ming objects."""
    visitor_without_session(request)
    with _one_visitor():
        found = alive(Project, {"_id": name}).first()
        if found is None or request.query_string:
            raise UseLegacy("not in MongoDB, or not the first page")
        rows = alive(Release, {"project": name}).sort(NEWEST_FIRST).limit(11).all()
        return releases_page(found, rows, number=1)


def _database() -> Database[dict[str, Any]]:
    # Only the one variable is looked at per read: Settings reads files of secrets as well.
    return _connected(os.getpid(), os.environ.get("BRIDGE_MONGODB_URL", ""))


# A client must not be used in a forked child: one for each process.
@functools.cache
def _connected(process: int, url: str) -> Database[dict[str, Any]]:
    client: MongoClient[dict[str, Any]] = MongoClient(
        url or Settings.from_environ().mongodb_url,
        # A MongoDB that is down must cost a visitor little: the legacy side answers instead.
        serverSelectionTimeoutMS=300,
        connectTimeoutMS=300,
        socketTimeoutMS=2000,
    )
    atexit.register(client.close)
    return client.get_default_database("bridge")


@contextlib.contextmanager
def _one_visitor() -> Iterator[None]:
    """The session forgets what it has read when the page is made."""
    try:
        yield
    finally:
        session.close()
