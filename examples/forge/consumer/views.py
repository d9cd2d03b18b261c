"""The pages that Python answers: project, releases, project list, download redirect.

They read the mirror through `bridge.sync.Store`. Each view gives the same bytes as the PHP page
under the same URL, or declines with UseLegacy. It declines whenever it is not sure: what is not in
MongoDB (PHP shows its own 404), a query that PHP might read differently, and every visitor with a
session cookie on a page that shows who is logged in. A MongoDB that fails raises; the dispatcher
lets the legacy side answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy
from bridge.sync.store import Store
from examples.forge.consumer.format import (
    escape,
    is_web_address,
    show_number,
    show_time,
    url_part,
)

__all__ = [
    "download",
    "old_address",
    "project",
    "project_page",
    "projects",
    "releases",
    "releases_page",
    "visitor_without_session",
]

PROJECTS_PER_PAGE = 25
RELEASES_PER_PAGE = 10
SESSION_COOKIE = "PHPSESSID"
PROJECT_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,127}")
FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,199}")
PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,6}")

# One for the process, whatever thread reads: it connects at the first read.
store = Store.from_environ()

templates = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates"), encoding="utf-8"),
    autoescape=True,
    # Runs before Jinja's own escaping and marks the text as done: PHP's entities stay.
    finalize=escape,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    auto_reload=False,
)
templates.filters.update(number=show_number, time=show_time, url=url_part)
templates.tests["web_address"] = is_web_address


def project(request: Request, name: str) -> Response:
    """`/project/<name>`: one project."""
    visitor_without_session(request)
    return _project(name)


def releases(request: Request, name: str) -> Response:
    """`/project/<name>/releases`, with `?p=N`: its releases, newest first."""
    visitor_without_session(request)
    return _releases(name, _asked_page(_plain_query(request, {"p"})))


def projects(request: Request) -> Response:
    """`/` and `/projects`, with `?p=N`: all projects by name."""
    visitor_without_session(request)
    return _projects(_asked_page(_plain_query(request, {"p"})))


def download(request: Request, name: str, filename: str) -> Response:
    """`/download/<name>/<filename>`: 302 to the mirror (FORGE_MIRROR, default this site).

    It shows nobody's name, so visitors with a session get it from here too.
    """
    if not PROJECT_NAME.fullmatch(name) or not FILENAME.fullmatch(filename):
        raise UseLegacy("no such name")
    if not store.find("release", {"project": name, "filename": filename}, limit=1):
        raise UseLegacy("not in MongoDB")
    base = os.environ.get("FORGE_MIRROR", "").rstrip("/")
    location = f"{base}/mirror/{url_part(name)}/{url_part(filename)}"
    page = templates.get_template("redirect.html").render(location=location)
    return Response(page, 302, {"Location": location}, mimetype="text/html")


def old_address(request: Request) -> Response:
    """`/index.php?page=project&name=bash`: the addresses from before the pretty ones.

    `page` is project, releases or projects; search and all others are declined.
    """
    visitor_without_session(request)
    query = _plain_query(request, {"page", "name", "p"})
    name = query.get("name", "")
    match query.get("page"):
        case "project":
            return _project(name)
        case "releases":
            return _releases(name, _asked_page(query))
        case "projects":
            return _projects(_asked_page(query))
    raise UseLegacy("page of the legacy side")


def project_page(document: Any) -> Response:
    """The page of one project, from whatever has its fields."""
    return _page("project.html", project=document)


def releases_page(document: Any, rows: Sequence[Any], number: int) -> Response:
    """Page `number` of a project's releases. One row more than is shown: there is a next page."""
    shown, more = rows[:RELEASES_PER_PAGE], len(rows) > RELEASES_PER_PAGE
    return _page("releases.html", project=document, releases=shown, number=number, more=more)


def visitor_without_session(request: Request) -> None:
    """Decline visitors who may be logged in: the page header says who, and only PHP knows."""
    if SESSION_COOKIE in request.headers.get("Cookie", ""):
        raise UseLegacy("logged-in visitor")


def _project(name: str) -> Response:
    return project_page(_known_project(name))


def _releases(name: str, number: int) -> Response:
    found = _known_project(name)
    rows = store.find(
        "release",
        {"project": name},
        sort=["-published", "version", "architecture"],
        skip=(number - 1) * RELEASES_PER_PAGE,
        limit=RELEASES_PER_PAGE + 1,
    )
    if not rows and number != 1:
        raise UseLegacy("not in MongoDB")
    return releases_page(found, rows, number)


def _projects(number: int) -> Response:
    rows = store.find(
        "project",
        {},
        sort=["_id"],
        skip=(number - 1) * PROJECTS_PER_PAGE,
        limit=PROJECTS_PER_PAGE + 1,
        fields=["name", "summary", "version", "updated"],
    )
    if not rows:
        # Also the first page: a mirror without any project is one that was not filled yet.
        raise UseLegacy("not in MongoDB")
    shown, more = rows[:PROJECTS_PER_PAGE], len(rows) > PROJECTS_PER_PAGE
    return _page("projects.html", projects=shown, number=number, more=more)


def _known_project(name: str) -> Mapping[str, Any]:
    if not PROJECT_NAME.fullmatch(name):
        raise UseLegacy("no such name")
    if (found := store.get("project", name)) is None:
        raise UseLegacy("not in MongoDB")
    return found


def _page(template: str, **values: object) -> Response:
    return Response(templates.get_template(template).render(values), mimetype="text/html")


def _plain_query(request: Request, known: set[str]) -> dict[str, str]:
    """The query's parameters; declines all but `known` names, each once, without tricks.

    PHP lets the last of two equal names win and reads `p[]`, `p.x` and `p%5B%5D` in its own
    way: such queries are its own to answer.
    """
    values: dict[str, str] = {}
    if not request.query_string:
        return values
    for pair in request.query_string.decode("latin-1").split("&"):
        name, equals, value = pair.partition("=")
        if name not in known or name in values or not equals:
            raise UseLegacy("unfamiliar query")
        values[name] = unquote_plus(value)
    return values


def _asked_page(query: dict[str, str]) -> int:
    asked = query.get("p", "1")
    if not PAGE_NUMBER.fullmatch(asked):
        raise UseLegacy("no such page number")
    return int(asked)
