"""The forge as a running site: PHP over SQLite or MariaDB, its queue, and its mirror."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import requests
from pymongo import MongoClient
from pymongo.database import Database
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from bridge.errors import UseLegacy
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.store import Store
from examples.forge.consumer import other_ways, views
from stack.nginx import NginxPhp
from stack.php import PhpServer, run_php
from stack.process import REPOSITORY
from stack.waiting import wait_for

LEGACY = Path(views.__file__).parent.parent / "legacy"
QUEUE = "bridge.events"
MIRROR = Mirror(load(REPOSITORY / "sync.yaml"))

ROUTES = Map(
    [
        Rule("/", endpoint=views.projects),
        Rule("/projects", endpoint=views.projects),
        Rule("/project/<name>", endpoint=views.project),
        Rule("/project/<name>/releases", endpoint=views.releases),
        Rule("/pymongo/project/<name>", endpoint=other_ways.project_by_pymongo),
        Rule("/ming/project/<name>", endpoint=other_ways.project_by_ming),
        Rule("/ming/project/<name>/releases", endpoint=other_ways.releases_by_ming),
        Rule("/download/<name>/<filename>", endpoint=views.download),
        Rule("/index.php", endpoint=views.old_address),
    ],
    strict_slashes=False,
    merge_slashes=False,
    redirect_defaults=False,
)
# What differs between servers and is no part of the page.
TRANSPORT_HEADERS = {"connection", "date", "host", "keep-alive", "server", "x-powered-by"}


@dataclass(frozen=True)
class Answer:
    """A response as far as a visitor can see it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Declined(Exception):
    """The Python side left the request to the legacy side."""


@Request.application
def python_app(request: Request) -> Response:
    """The views behind routes as in routes.yaml; a declined request is status 421."""
    try:
        view, values = ROUTES.bind_to_environ(request.environ).match()
        return view(request, **values)
    except (UseLegacy, NotFound) as reason:
        return Response(str(reason), 421)


def ask_python(path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> Answer:
    """The Python side's answer. Raises Declined."""
    # With a cookie jar the client would replace a Cookie header.
    answer = Client(python_app, use_cookies=False).open(
        path, method=method, headers=dict(headers or {})
    )
    if answer.status_code == 421:
        raise Declined(answer.text)
    return Answer(answer.status_code, _visible(answer.headers.items()), answer.data)


def _visible(headers: Any) -> list[tuple[str, str]]:
    pairs = ((name.lower(), value) for name, value in headers)
    return sorted(pair for pair in pairs if pair[0] not in TRANSPORT_HEADERS)


@dataclass
class Site:
    """One running forge, loaded, whose events go to a queue and from there to MongoDB."""

    server: PhpServer | NginxPhp
    environment: Mapping[str, str]
    bridge_environment: Mapping[str, str]
    queue: redis.Redis
    database: Database[dict[str, Any]]
    name: str

    @property
    def url(self) -> str:
        return self.server.url

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """The legacy side's answer, as it was on the wire."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return Answer(answer.status, _visible(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def run(self, script: str, *arguments: str) -> str:
        """Run a script of legacy/bin with the site's settings."""
        return run_php(LEGACY / "bin" / script, *arguments, env=self.environment)

    def take_events(self) -> list[Event]:
        """Take everything from the queue, oldest first."""
        entries: Any = self.queue.xrange(QUEUE)
        if entries:
            self.queue.xdel(QUEUE, *(name for name, _ in entries))
        return [Event.parse(fields[b"body"]) for _, fields in entries]

    def bridge(self, *words: str) -> str:
        """Run `bridge` on this site; what it says."""
        inherited = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            env={**inherited, **self.bridge_environment},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fill_mirror(self) -> list[Event]:
        """Bring MongoDB up to what was published, as the bridge's worker does."""
        taken = self.take_events()
        self.mirror(taken)
        return taken

    def mirror(self, events: list[Event]) -> None:
        """Write events to MongoDB."""
        assert apply(self.database, MIRROR, events).failed == ()

    def mirror_next(self) -> Event:
        """Wait for the one next event and mirror it: php-fpm publishes after the answer."""
        [event] = wait_for(self.fill_mirror, what="an event")
        return event

    def project(self, name: str) -> dict[str, Any]:
        """The mirrored project."""
        found = self.database["projects"].find_one({"_id": name})
        assert found is not None
        return found

    def names(self) -> list[str]:
        """The names of all mirrored projects, in order."""
        return [row["_id"] for row in self.database["projects"].find().sort("_id")]

    def releases(self, project: str | None = None) -> list[dict[str, Any]]:
        """Mirrored releases, of one project or of all."""
        chosen = {} if project is None else {"project": project}
        return list(self.database["releases"].find(chosen).sort("_id"))

    def largest_project(self) -> str:
        """The project with the most releases."""
        groups = [{"$sortByCount": "$project"}, {"$sort": {"count": -1, "_id": 1}}]
        return str(next(iter(self.database["releases"].aggregate(groups)))["_id"])

    def login(self, user: str = "maintainer", password: str = "secret") -> requests.Session:
        """A visitor who has sent the login form. The caller closes the session."""
        visitor = requests.Session()
        form = {"user": user, "password": password, "token": token_of(visitor, self.url + "/login")}
        answer = visitor.post(self.url + "/login", form, allow_redirects=False)
        assert answer.status_code == 303, answer.text
        return visitor

    def edit(
        self, visitor: requests.Session, name: str, **changes: str | bytes
    ) -> requests.Response:
        """Send the edit form with some fields changed; `save` waits for the event as well."""
        address = f"{self.url}/project/{name}/edit"
        now = self.project(name)
        fields = ("summary", "description", "section", "homepage", "maintainer", "license")
        form = {field: now[field] or "" for field in fields}
        form |= {"token": token_of(visitor, address), **changes}
        return visitor.post(address, form, allow_redirects=False)

    def save(
        self, visitor: requests.Session, name: str, **changes: str
    ) -> tuple[requests.Response, Event]:
        """Edit a project with success, and mirror its event."""
        answer = self.edit(visitor, name, **changes)
        assert answer.status_code == 303, answer.text
        return answer, self.mirror_next()


@contextlib.contextmanager
def reading(
    patch: pytest.MonkeyPatch, environment: Mapping[str, str], **options: Any
) -> Iterator[Store]:
    """Let the views read the mirror of BRIDGE_* in `environment`. options: of the Store."""
    patch.delenv("FORGE_MIRROR", raising=False)
    for name, value in environment.items():
        patch.setenv(name, value)
    store = Store(Settings.from_environ(environment), **options)
    patch.setattr(views, "store", store)
    try:
        yield store
    finally:
        store.close()


def token_of(visitor: requests.Session, address: str) -> str:
    """The token in the last form of a page."""
    found = re.findall(r'name="token" value="([0-9a-f]+)"', visitor.get(address).text)
    return str(found[-1])


def mongo_client(url: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(url, serverSelectionTimeoutMS=5000)


def run_failing(script: str, environment: Mapping[str, str], *arguments: str) -> str:
    """What a script of legacy/bin says when it ends with another status than 0."""
    try:
        run_php(LEGACY / "bin" / script, *arguments, env=environment)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    raise AssertionError(f"{script} ended with status 0")
