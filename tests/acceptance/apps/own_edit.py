"""Three ways to read one document from the mirror; a fourth, in PHP, is `php/pages/thing.php`."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient
from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy
from bridge.settings import Settings
from bridge.sync.store import Store

store = Store.from_environ()
_clients: list[MongoClient[dict[str, Any]]] = []


def by_key(request: Request) -> Response:
    """From the cache of this process."""
    return _shown(store.get("thing", request.args["name"]))


def by_query(request: Request) -> Response:
    """From MongoDB, by Store."""
    return _shown(next(iter(store.find("thing", {"_id": request.args["name"]})), None))


def by_pymongo(request: Request) -> Response:
    """From MongoDB's primary, by code that knows nothing of the bridge; its route has `reads`."""
    if not _clients:
        url = Settings.from_environ().mongodb_url
        _clients.append(MongoClient(url, serverSelectionTimeoutMS=1000))
    things = _clients[0].get_default_database().things
    return _shown(things.find_one({"_id": request.args["name"]}))


def _shown(document: Any) -> Response:
    if document is None:
        raise UseLegacy("not in MongoDB")
    return Response(f"python {document['_v']} {document['text']}", mimetype="text/plain")
