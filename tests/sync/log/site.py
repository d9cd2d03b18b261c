"""A site whose changes are read from its database's log, and its mirror: for tests of loading and
of reconciling it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sql
import structlog
from pymongo.database import Database

from bridge.queue.sql.database import connect
from bridge.settings import Settings
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.log.capture import run_capture
from bridge.sync.log.kept import KeptLog
from bridge.sync.log.position import Gtid, Position
from bridge.sync.log.snapshots import Readings
from bridge.sync.reconcile.findings import ReconcileResult
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.snapshot import load as snapshot
from bridge.sync.snapshot.load import Progress, SnapshotOptions, SnapshotResult
from bridge.sync.sql.source import SqlSource
from stack.mariadb import MariaDB
from stack.waiting import wait_for
from tests.sync.reconcile.site import in_background

__all__ = ["LOG_OPTIONS", "LogSite"]

LOG_OPTIONS = [
    "--log-bin=bin",
    "--server-id=7",
    "--binlog-format=ROW",
    "--binlog-row-metadata=FULL",
]
NO_BROKER = "redis+streams://127.0.0.1:1/0"
SYNC = """\
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name, log: true}
  release:
    collection: releases
    source: {table: releases, key: [project, version], log: true, deleted: gone}
"""
TABLES = (
    "CREATE TABLE projects (name VARCHAR(100) PRIMARY KEY, title VARCHAR(200), size INT)",
    "CREATE TABLE releases (project VARCHAR(100), version INT, file VARCHAR(100), "
    "gone TINYINT NOT NULL DEFAULT 0, PRIMARY KEY (project, version), "
    "FOREIGN KEY (project) REFERENCES projects (name) ON DELETE CASCADE)",
)


class LogSite:
    """Both sides. said: what loads have told."""

    def __init__(
        self,
        server: MariaDB,
        name: str,
        mongodb_url: str,
        database: Database[dict[str, Any]],
        folder: Path,
    ) -> None:
        url = server.create_database(name)
        self.server, self.name, self.database = server, name, database
        self.engine = connect(url)
        sync = folder / "sync.yaml"
        self.settings = Settings(
            folder / "routes.yaml", NO_BROKER, mongodb_url, folder, sync=sync, sql_url=url
        )
        self.write_sync(SYNC)
        self.said: list[str] = []
        self.kept = KeptLog(database)
        self.sql(*TABLES)

    def close(self) -> None:
        """Let go of the database, and remove it."""
        self.engine.dispose()
        self.server.drop_database(self.name)

    def moved_to(self, server: MariaDB) -> LogSite:
        """The same, whose database is on another server now."""
        moved = copy.copy(self)
        url = f"{server.url.rpartition('/')[0]}/{self.name}"
        moved.server, moved.engine = server, connect(url)
        moved.settings = replace(self.settings, sql_url=url)
        return moved

    def write_sync(self, text: str) -> None:
        self.settings.sync.write_text(text)

    @property
    def mirror(self) -> Mirror:
        return Mirror.of(self.settings)

    def sql(self, *statements: str, **values: Any) -> None:
        """Run statements in one transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sql.text(statement), values)

    def unlogged(self, *statements: str) -> None:
        """Run statements that the log does not tell of."""
        self.server.execute(f"USE {self.name}", "SET SESSION sql_log_bin = 0", *statements)

    def projects(self, *names: str) -> None:
        """Insert projects, each with a transaction of its own and two releases."""
        for name in names:
            self.sql(
                "INSERT INTO projects VALUES (:n, :t, 1)",
                "INSERT INTO releases (project, version, file) VALUES (:n, 1, 'f'), (:n, 2, 'f')",
                n=name,
                t=name.title(),
            )

    def load(
        self,
        *names: str,
        stop: threading.Event | None = None,
        show: Callable[[Progress], None] = lambda progress: None,
        **options: Any,
    ) -> dict[str, SnapshotResult]:
        """The results by entity."""
        made = SnapshotOptions(**{"chunk": 3, "max_lag": 0, "max_waiting": 0} | options)
        stop = stop or threading.Event()
        found = snapshot.run(self.settings, names, made, stop=stop, say=self.said.append, show=show)
        return {one.entity: one for one in found}

    def end(self) -> Gtid | None:
        """The last transaction of the log."""
        [(found,)] = self.server.execute("SELECT @@gtid_binlog_pos")
        return Gtid.parse(found)

    def position(self) -> Position:
        position = self.kept.read().position
        assert position is not None
        return position

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """A process that reads the log runs; at the end all of it is in MongoDB."""
        settings, ended = self.settings, threading.Event()

        def run(stop: threading.Event) -> None:
            try:
                run_capture(settings, stop=stop, log=structlog.get_logger())
            finally:
                ended.set()

        def is_there() -> bool:
            position = self.kept.read().position
            return ended.is_set() or (position is not None and position.reaches(end))

        with in_background(run):
            yield
            end = self.end()
            wait_for(is_there, bound=30, what="the end of the log")

    def caught_up(self) -> None:
        """Wait until MongoDB has all that is in the log now."""
        end = self.end()

        def is_there() -> bool:
            position = self.kept.read().position
            return position is not None and position.reaches(end)

        wait_for(is_there, bound=30, what=f"the mirror at {end}")

    def source(self, name: str) -> SqlSource:
        """The rows of an entity."""
        reading = Readings(self.position())
        return SqlSource(self.engine, name, self.mirror, reading=reading)

    def reconcile(
        self, name: str = "project", *, wait: float = 0.5, **asked: Any
    ) -> ReconcileResult:
        """Reconcile one entity."""
        how = ReconcileOptions(wait=wait, **asked)
        return Reconciler(self.engine, self.database, self.mirror, how).run(name)

    def differences(self, name: str = "project", **asked: Any) -> list[tuple[str, str]]:
        """Kind and key of everything that differs, in its contents, too."""
        return [(one.kind, one.key) for one in self.reconcile(name, deep=True, **asked).differences]

    def apply(self, *events: Any) -> None:
        """What a worker does."""
        assert not apply(self.database, self.mirror, events).failed

    def documents(self, collection: str = "projects") -> dict[str, Any]:
        """Key to title, or to None for a tombstone."""
        return {
            one["_id"]: None if one.get("_del") else one.get("title", one.get("file"))
            for one in self.database[collection].find()
        }

    def versions(self, collection: str = "projects") -> dict[str, int]:
        return {one["_id"]: one["_v"] for one in self.database[collection].find()}

    def rows(self) -> dict[str, str]:
        """Key to title, of the projects in SQL."""
        with self.engine.connect() as connection:
            found = connection.exec_driver_sql("SELECT name, title FROM projects")
            return {row.name: row.title for row in found}

    def is_equal(self) -> bool:
        """Whether MongoDB has the projects that SQL has, and no others."""
        alive = {key: found for key, found in self.documents().items() if found is not None}
        return alive == self.rows()
