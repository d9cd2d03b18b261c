"""The mirror as Ming sees it: projects and releases, declared once, read only.

For a site whose Python code is built on Ming already. Indexes are declared in sync.yaml, not
here, where they would be made a second time. What a page looks like is left to the views.
"""

# Ming's annotations cover a part of it.
# mypy: allow-untyped-calls

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

from ming import schema
from ming.datastore import create_datastore
from ming.odm import FieldProperty, MappedClass, Mapper, ThreadLocalODMSession
from ming.odm.odmsession import SessionExtension
from ming.session import Session

from bridge.settings import Settings

__all__ = ["Project", "Release", "alive", "session"]

# A MongoDB that is down must cost a visitor little: the legacy side answers instead.
OPTIONS: Mapping[str, Any] = {
    "serverSelectionTimeoutMS": 300,
    "connectTimeoutMS": 300,
    "socketTimeoutMS": 2000,
    "connect_retry": 0,
    "auto_ensure_indexes": False,
}


class Mirror(Session):
    """Connects at the first read, and anew in a forked child, which must not share a client."""

    def __init__(self) -> None:
        super().__init__()
        self._connected: tuple[int, str] | None = None

    @property
    def db(self) -> Any:
        """The database of BRIDGE_MONGODB_URL."""
        # Only the one variable is looked at per read: Settings reads files of secrets as well.
        wanted = (os.getpid(), os.environ.get("BRIDGE_MONGODB_URL", ""))
        if self._connected != wanted:
            self.bind = create_datastore(Settings.from_environ().mongodb_url, **OPTIONS)
            self._connected = wanted
        return super().db


class ReadOnly(SessionExtension):
    """A document written from here would lose its version, and with it the edits that follow."""

    def before_flush(self, obj: object = None) -> NoReturn:
        """Refuse."""
        raise TypeError("the mirror is written by the bridge's worker alone")


session = ThreadLocalODMSession(Mirror(), extensions=[ReadOnly])
"""One for each handler thread. It keeps what it has read until `session.close()`, so close it
before the answer, or the thread's next visitor gets the old state."""


class Project(MappedClass):
    """A project; `_id` is its name."""

    class __mongometa__:
        session = session
        name = "projects"

    _id = FieldProperty(schema.String)
    _v = FieldProperty(schema.Int)
    name = FieldProperty(schema.String(required=True))
    summary = FieldProperty(schema.String(required=True))
    description = FieldProperty(schema.String(required=True))
    section = FieldProperty(schema.String(required=True))
    homepage = FieldProperty(schema.String(required=True))
    maintainer = FieldProperty(schema.String(required=True))
    version = FieldProperty(schema.String(required=True))
    size_kb = FieldProperty(schema.Int(required=True))
    updated = FieldProperty(schema.DateTime(required=True))
    downloads = FieldProperty(schema.Int(required=True))
    license = FieldProperty(schema.String)


class Release(MappedClass):
    """A release; `_id` is project/version/architecture."""

    class __mongometa__:
        session = session
        name = "releases"

    _id = FieldProperty(schema.String)
    _v = FieldProperty(schema.Int)
    project = FieldProperty(schema.String(required=True))
    version = FieldProperty(schema.String(required=True))
    architecture = FieldProperty(schema.String(required=True))
    filename = FieldProperty(schema.String(required=True))
    size = FieldProperty(schema.Int(required=True))
    sha256 = FieldProperty(schema.String(required=True))
    published = FieldProperty(schema.DateTime(required=True))


Mapper.compile_all()


def alive(model: type[Any], where: Mapping[str, Any]) -> Any:
    """Ming's cursor over the documents that are not tombstones."""
    return model.query.find({**where, "_del": {"$ne": True}})
