"""A site with projects, their releases and people, in SQL and in MongoDB, for the tests of
reconciling: damage either side, and ask what differs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sql
import structlog
from pymongo.database import Database

from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.settings import Settings
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.reconcile.findings import ReconcileResult
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.sql.source import SqlSource
from bridge.sync.worker import run_worker

SYNC = """\
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name, version: ver, deleted: gone}
    schema: {type: object, properties: {title: {type: [string, "null"], maxLength: 60}}}
    children:
      releases: {entity: release, key: [version, architecture]}
  release:
    collection: releases
    source: {table: releases, key: [project, version, architecture], version: ver}
  person:
    collection: people
    source: {table: people, key: id, version: ver}
  visit:
    collection: visits
    source: {table: visits, key: [day, path], version: ver, deleted: deleted_at}
  note: {collection: notes}
"""

TABLES = [
    "CREATE TABLE projects (name VARCHAR(100) PRIMARY KEY, title VARCHAR(200), size INTEGER, "
    "ver BIGINT NOT NULL, gone SMALLINT DEFAULT 0)",
    "CREATE TABLE releases (project VARCHAR(100), version VARCHAR(50), architecture VARCHAR(20), "
    "file VARCHAR(100), ver BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (project, version, "
    "architecture))",
    "CREATE TABLE people (id INTEGER PRIMARY KEY, title VARCHAR(200), ver BIGINT)",
    "CREATE TABLE visits (day INTEGER, path VARCHAR(100), hits INTEGER, ver BIGINT NOT NULL, "
    "deleted_at TIMESTAMP NULL, PRIMARY KEY (day, path))",
]


class Site:
    """Both sides. engine: of the SQL database; database: the mirror."""

    def __init__(self, url: str, database: Database[dict[str, Any]], folder: Path) -> None:
        folder.joinpath("sync.yaml").write_text(SYNC)
        self.mirror = Mirror(load(folder / "sync.yaml"))
        self.engine, self.database = connect(url), database
        self.sql(*TABLES)

    def sql(self, *statements: str, **values: Any) -> None:
        """Run statements in one transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sql.text(statement), values)

    def rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows."""
        columns = list(rows[0])
        names = ", ".join(f":{name}" for name in columns)
        with self.engine.begin() as connection:
            connection.execute(
                sql.text(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({names})"), rows
            )

    def projects(self, *names: str, version: int = 1, **columns: Any) -> None:
        """Insert projects, each with two releases."""
        self.rows(
            "projects",
            [{"name": n, "title": n.title(), "size": 1, "ver": version} | columns for n in names],
        )
        self.rows(
            "releases",
            [
                {"project": name, "version": f"{version}.{n}", "architecture": "x86", "file": "f"}
                for name in names
                for n in (0, 1)
            ],
        )

    def events(self, *entities: str) -> list[Event]:
        """The event of every row."""
        names = entities or ("project", "person", "visit")
        return [event for name in names for event in self.source(name).chunk(None, 100_000).events]

    def source(self, name: str) -> SqlSource:
        """The rows of an entity."""
        return SqlSource(self.engine, name, self.mirror)

    def mirror_all(self, *entities: str) -> None:
        """Make MongoDB equal."""
        self.apply(*self.events(*entities))

    def apply(self, *events: Event) -> None:
        """What a worker does."""
        apply(self.database, self.mirror, events)

    def reconcile(
        self, name: str = "project", *, wait: float = 0.0, **asked: Any
    ) -> ReconcileResult:
        """Reconcile one entity."""
        how = ReconcileOptions(wait=wait, **asked)
        return Reconciler(self.engine, self.database, self.mirror, how).run(name)

    def differences(self, name: str = "project", **asked: Any) -> list[tuple[str, str]]:
        """Kind and key of everything that differs."""
        return [(one.kind, one.key) for one in self.reconcile(name, **asked).differences]


@contextmanager
def in_background(do: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `do` on a thread until the end of the context; raise what it raised."""
    stop, errors = threading.Event(), []

    def run() -> None:
        try:
            do(stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def settings_of(
    site: Site, folder: Path, *, broker_url: str, mongodb_url: str, more: str = ""
) -> Settings:
    """The settings of a worker or a command of this site. more: further lines of sync.yaml."""
    sync = folder / "sync.yaml"
    sync.write_text(SYNC + more)
    url = site.engine.url.render_as_string(hide_password=False)
    return Settings(folder / "routes.yaml", broker_url, mongodb_url, folder, sync=sync, sql_url=url)


def run_a_worker(settings: Settings) -> Callable[[threading.Event], None]:
    """For `in_background`: a worker."""

    def run(stop: threading.Event) -> None:
        run_worker(settings, stop=stop, log=structlog.get_logger())

    return run
