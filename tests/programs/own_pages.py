"""A page of Python for a post of WordPress, as it would be written for the first flip: its title,
and the comments that may be seen. Legacy has the same page, with more on it."""

from __future__ import annotations

from html import escape
from typing import Any

from pymongo import MongoClient
from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy
from bridge.settings import Settings
from bridge.sync.store import Store

PYTHON = "X-Answered-By"
"""The header that says that Python has answered."""

store = Store.from_environ()
_clients: list[MongoClient[dict[str, Any]]] = []


def by_store(request: Request, post: int) -> Response:
    """From the cache of this process, and by a query."""
    comments = store.find("wp_comments", {"comment_post_ID": post}, limit=1000)
    return _shown(store.get("wp_posts", str(post)), comments)


def by_pymongo(request: Request, post: int) -> Response:
    """From MongoDB's primary, by code that knows nothing of the bridge."""
    if not _clients:
        url = Settings.from_environ().mongodb_url
        _clients.append(MongoClient(url, serverSelectionTimeoutMS=1000))
    database = _clients[0].get_default_database()
    found = database.wp_posts.find_one({"_id": str(post), "_del": {"$ne": True}})
    return _shown(found, list(database.wp_comments.find({"comment_post_ID": post})))


def _shown(post: Any, comments: list[Any]) -> Response:
    if post is None or (post["post_type"], post["post_status"]) != ("post", "publish"):
        raise UseLegacy("no post that everybody may see")
    texts = [one["comment_content"] for one in comments if one["comment_approved"] == "1"]
    lines = "".join(f"<li>{escape(one)}</li>" for one in texts)
    page = f"<title>{escape(post['post_title'])}</title><ul>{lines}</ul>"
    return Response(page, mimetype="text/html", headers={PYTHON: "python"})
