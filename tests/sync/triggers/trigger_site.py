"""A site whose tables have the bridge's triggers, and both sides of its mirror.

`pump` does what a relay and a worker do, without a broker between them, so that a test says when.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from pymongo.database import Database

from bridge.queue.events import Event
from bridge.queue.relay.touched import Resolution, resolve
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.reconcile.findings import ReconcileResult
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.sql.source import SqlSource
from bridge.sync.touched import Fetcher
from bridge.sync.triggers.commands import Triggers, TriggerState

DIALECTS = ["sqlite", "mariadb", "postgresql"]

Mongo = Database[dict[str, Any]]


def url_for(request: pytest.FixtureRequest, kind: str) -> str:
    """The URL of an empty database of this kind."""
    if kind == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path') / 'site.sqlite'}"
    fixture = {"mariadb": "mariadb_url", "postgresql": "postgres_url"}[kind]
    return str(request.getfixturevalue(fixture))


class Site:
    """engine: of the site's database. sync: the text of sync.yaml."""

    def __init__(self, url: str, database: Mongo, folder: Path, sync: str) -> None:
        self.path = folder / "sync.yaml"
        self.path.write_text(sync, encoding="utf-8")
        self.mirror, self.database = Mirror(load(self.path)), database
        self.engine = connect(url)
        self.dialect = self.engine.dialect.name.replace("mariadb", "mysql")
        self.outbox = Outbox(self.engine)
        self.fetch = Fetcher(self.engine, self.mirror, "/site")

    @property
    def triggers(self) -> Triggers:
        return Triggers(self.engine, self.mirror, self.outbox)

    def begin(self, *tables: str) -> list[TriggerState]:
        """Make the tables and their triggers, and load what is there."""
        self.run(*tables)
        made = self.triggers.apply([])
        self.load()
        return made

    def load(self) -> None:
        """What a snapshot does."""
        for name in self.entities:
            self.apply(SqlSource(self.engine, name, self.mirror).chunk(None, 100_000).events)

    @property
    def entities(self) -> list[str]:
        return [name for name in self.mirror.entities if name not in self.mirror.parent_of]

    def run(self, *statements: str, rollback: bool = False) -> None:
        """Run statements in one transaction, as the site does."""
        with self.engine.connect() as connection:
            raw = connection.execution_options(no_parameters=True)
            with raw.begin() as transaction:
                for statement in statements:
                    raw.exec_driver_sql(statement)
                if rollback:
                    transaction.rollback()

    def execute(self, statement: Any, *rows: Any) -> None:
        """Run one statement of SQLAlchemy's in a transaction."""
        with self.engine.begin() as connection:
            connection.execute(statement, *rows)

    def notes(self) -> list[tuple[str, str]]:
        """Entity and key of every note in the outbox, in order."""
        table = self.outbox.table
        with self.engine.begin() as connection:
            rows = connection.execute(sql.select(table).order_by(table.c.id)).all()
        assert {row.type for row in rows} <= {f"{row.aggregatetype}.touched" for row in rows}
        return [(row.aggregatetype, row.aggregateid) for row in rows]

    def take(self) -> Resolution:
        """Fetch what is noted, and forget the notes."""
        found = Resolution()
        while rows := self.outbox.claim(500, 30.0):
            one = resolve(rows, self.fetch)
            assert not one.waiting, one.waiting
            if one.others:
                with self.engine.begin() as connection:
                    self.outbox.note(connection, one.others)
            self.outbox.free(rows)
            found.events.extend(one.events)
            found.dead.extend(one.dead)
        return found

    def pump(self) -> list[Event]:
        """Bring everything that is noted to MongoDB; the events."""
        found = self.take()
        assert not found.dead, found.dead
        events = [Event.parse(one) for one in found.events]
        self.apply(events)
        return events

    def apply(self, events: Sequence[Event]) -> None:
        """What a worker does."""
        applied = apply(self.database, self.mirror, events)
        assert not applied.failed, applied.failed

    def reconcile(self, name: str) -> ReconcileResult:
        """Both sides, with their contents."""
        asked = ReconcileOptions(wait=0.0, deep=True)
        return Reconciler(self.engine, self.database, self.mirror, asked).run(name)

    def assert_equal(self) -> None:
        """MongoDB holds what SQL has, by the proof of `bridgectl reconcile --deep`."""
        for name in self.mirror.entities:
            result = self.reconcile(name)
            assert not result.differences, (name, result.differences)

    def keys(self, collection: str) -> set[str]:
        """What is alive in MongoDB."""
        return {one["_id"] for one in self.database[collection].find({"_del": {"$exists": False}})}
