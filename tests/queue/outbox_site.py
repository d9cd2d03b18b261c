"""Outboxes in every database, and a relay on a thread of its own, for the tests of the relay."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sql
import structlog

from bridge.errors import ServerAway
from bridge.queue.relay.plan import Timing
from bridge.queue.relay.relay import Relay
from bridge.queue.sql.outbox import Outbox, connect

DIALECTS = ["sqlite", "mariadb", "postgresql"]
SERVERS = ["mariadb", "postgresql"]
QUICK = Timing(lease=1.0, idle=0.02, first_look=0.05, again=0.3, dead_look=0.3, quiet=0.0)
"""Waits of a relay in a test."""


def url_of(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database of the kind that the fixture's parameter names."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path') / 'site.sqlite'}"
    fixture = {"mariadb": "mariadb_url", "postgresql": "postgres_url"}[request.param]
    return str(request.getfixturevalue(fixture))


def engine_for(request: pytest.FixtureRequest) -> Iterator[sql.Engine]:
    """An engine for `url_of`, for a fixture to `yield from`."""
    engine = connect(url_of(request))
    yield engine
    engine.dispose()


def outbox_in(engine: sql.Engine, **options: Any) -> Outbox:
    """An empty outbox."""
    outbox = Outbox(engine, **options)
    outbox.create()
    return outbox


def change(
    key: str = "vim", version: int = 1, payload: str | None = '{"n":1}', entity: str = "project"
) -> dict[str, Any]:
    """What `Outbox.add` takes; a deletion where payload is None."""
    kind = "deleted" if payload is None else "changed"
    return {
        "entity": entity,
        "key": key,
        "change": kind,
        "payload": payload,
        "version": version,
    }


def add(outbox: Outbox, *rows: dict[str, Any]) -> None:
    """Insert rows in one transaction."""
    with outbox.engine.begin() as connection:
        outbox.add(connection, rows)


def insert(outbox: Outbox, **columns: Any) -> int:
    """Insert a row as a site could, whatever its columns hold; its id."""
    columns = {
        "aggregatetype": "project",
        "aggregateid": "vim",
        "type": "project.changed",
        "payload": "{}",
        "ver": 1,
        "created_at": 1_700_000_000_000,
    } | columns
    with outbox.engine.begin() as connection:
        made = connection.execute(outbox.table.insert().values(**columns))
        return int(made.inserted_primary_key[0])


def rows_of(outbox: Outbox) -> list[Any]:
    """All rows, by id."""
    with outbox.engine.begin() as connection:
        return list(connection.execute(sql.select(outbox.table).order_by(outbox.table.c.id)))


def make_due(outbox: Outbox) -> None:
    """Every row is to be looked at now."""
    with outbox.engine.begin() as connection:
        connection.execute(outbox.table.update().values(next_try=0))


class MongoDouble:
    """What MongoDB holds, for tests that are not about MongoDB."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], int] = {}
        self.away = False
        self.asked = 0

    def __call__(self, identities: Sequence[tuple[str, str]]) -> Mapping[tuple[str, str], int]:
        self.asked += 1
        if self.away:
            raise ServerAway("MongoDB is away")
        return {one: self.held[one] for one in identities if one in self.held}


class Log:
    """Keeps what a relay logs."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.logger: Any = structlog.wrap_logger(
            None, processors=[self._keep], wrapper_class=structlog.make_filtering_bound_logger(0)
        )

    def _keep(self, logger: Any, method: str, event: Any) -> Any:
        self.lines.append(dict(event) | {"level": method})
        raise structlog.DropEvent

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of this event."""
        return [line for line in self.lines if line["event"] == event]

    def causes(self, source: str = "") -> list[str]:
        """Why sources waited."""
        return [one["cause"] for one in self.of("relay.waiting") if source in one["source"]]


@contextmanager
def running(relay: Relay) -> Iterator[Relay]:
    """The relay on a thread; what it raises is raised at the end."""
    stop, errors = threading.Event(), []

    def run() -> None:
        try:
            relay.run(stop)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield relay
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()
    if errors:
        raise errors[0]
