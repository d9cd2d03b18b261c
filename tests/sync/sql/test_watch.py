"""A table that changes while a worker runs: noticed before the next event is applied."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sql
import structlog
from pymongo.database import Database

from bridge.errors import BridgeError, ServerMissing
from bridge.queue.broker import connection as broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.consumer.dead_letters import DeadLetters
from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.settings import Settings
from bridge.sync.worker import run_worker
from stack.ports import free_port
from tests.sync.reconcile.site import in_background, run_a_worker

WaitFor = Callable[..., Any]
SYNC = """\
version: 1
entities:
  thing: {collection: things, source: {table: things, key: id, version: ver}}
  other: {collection: others, source: {table: others, key: id, version: ver}}
"""


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sql.Engine]:
    """Two tables in a database of each kind."""
    fixture = {"mariadb": "mariadb_url", "postgresql": "postgres_url"}.get(request.param)
    url = request.getfixturevalue(fixture) if fixture else f"sqlite:///{tmp_path / 'site.sqlite'}"
    made = connect(url)
    run(
        made,
        "CREATE TABLE things (id INTEGER PRIMARY KEY, ver BIGINT, size VARCHAR(20))",
        "CREATE TABLE others (id INTEGER PRIMARY KEY, ver BIGINT, size VARCHAR(20))",
    )
    yield made
    made.dispose()


@pytest.fixture
def settings(
    engine: sql.Engine, tmp_path: Path, redis_url: str, clean_redis: redis.Redis, mongodb_url: str
) -> Settings:
    """A worker's."""
    sync = tmp_path / "sync.yaml"
    sync.write_text(SYNC)
    url = engine.url.render_as_string(hide_password=False)
    return Settings(
        tmp_path / "routes.yaml", redis_url, mongodb_url, tmp_path, sync=sync, sql_url=url
    )


def run(engine: sql.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def retype(engine: sql.Engine, table: str, kind: str) -> None:
    run(
        engine,
        f"DROP TABLE {table}",
        f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, ver BIGINT, size {kind})",
    )


def publish(settings: Settings, entity: str, key: str, version: int) -> None:
    with Publisher(settings.broker_url) as publisher:
        data = {"id": key, "size": "12"}
        publisher.publish(Event(entity, "changed", key, version, data))


def dead(settings: Settings) -> int:
    with broker.connect(settings.broker_url) as connection:
        return len(DeadLetters(connection))


def test_events_that_come_after_a_change_have_its_types(
    engine: sql.Engine, settings: Settings, clean_mongodb: Database[Any], wait_for: WaitFor
) -> None:
    """Those before keep theirs until they are written again."""
    things = clean_mongodb.things
    with in_background(run_a_worker(settings)):
        publish(settings, "thing", "1", 1)
        assert wait_for(lambda: things.find_one({"_id": "1"}))["size"] == "12"
        for number, (kind, value) in enumerate((("INTEGER", 12), ("DOUBLE PRECISION", 12.0)), 2):
            retype(engine, "things", kind)
            publish(settings, "thing", str(number), 1)
            found = wait_for(lambda number=number: things.find_one({"_id": str(number)}))
            assert (type(found["size"]), found["size"]) == (type(value), value)


def test_a_table_that_does_not_fit_holds_up_its_own_entity_only(
    engine: sql.Engine, settings: Settings, clean_mongodb: Database[Any], wait_for: WaitFor
) -> None:
    """Its events wait and are applied when it fits again; none becomes a dead letter."""
    with in_background(run_a_worker(settings)):
        publish(settings, "thing", "1", 1)
        wait_for(lambda: clean_mongodb.things.find_one({"_id": "1"}))
        run(engine, "DROP TABLE things")
        for key in ("2", "3", "2"):
            publish(settings, "thing", key, 2)
        publish(settings, "other", "1", 1)
        wait_for(lambda: clean_mongodb.others.find_one({"_id": "1"}))
        assert clean_mongodb.things.count_documents({}) == 1
        said = clean_mongodb.bridge_state.find_one({"_id": "types"}) or {}
        assert (said["thing"]["waits"] != "", said["other"]["waits"]) == (True, "")

        run(engine, "CREATE TABLE things (id INTEGER PRIMARY KEY, ver BIGINT, size INTEGER)")
        wait_for(lambda: clean_mongodb.things.count_documents({"size": 12}) == 2, bound=20)
    assert dead(settings) == 0


def test_a_worker_without_the_database_of_its_tables_says_what_it_needs(
    settings: Settings,
) -> None:
    """Types cannot be guessed."""
    object.__setattr__(settings, "sql_url", "")
    with pytest.raises(BridgeError, match="set BRIDGE_SQL_URL for the worker, too: the types of"):
        run_worker(settings, stop=_stopped(), log=structlog.get_logger())


def test_a_worker_whose_database_does_not_answer_says_so_at_its_start(settings: Settings) -> None:
    """Later it waits."""
    object.__setattr__(settings, "sql_url", f"mysql://root@127.0.0.1:{free_port()}/x")
    with pytest.raises(ServerMissing, match="the SQL database"):
        run_worker(settings, stop=_stopped(), log=structlog.get_logger())


def _stopped() -> threading.Event:
    stop = threading.Event()
    stop.set()
    return stop
