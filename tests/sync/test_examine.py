"""What `bridgectl doctor` finds in sources, outbox, collections; and the mirror without a proxy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from click.testing import CliRunner, Result
from pymongo.database import Database

from bridge.cli import cli
from bridge.errors import BridgeError, ServerMissing
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.sync import examine, indexes
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from stack.mariadb import MariaDB
from stack.ports import free_port
from tests.minimal_sync import write_sync

Db = Database[dict[str, Any]]
Bridge = Callable[..., Result]

SYNC = """\
version: 1
entities:
  item:
    collection: items
    source: {table: items, key: KEY, version: ver}
    indexes: [{fields: [name], unique: true}]
"""


def sync(folder: Path, key: str = "id") -> Path:
    return write_sync(folder, SYNC.replace("KEY", key))


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sql.Engine]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    else:
        url = request.getfixturevalue({"mariadb": "mariadb_url"}.get(request.param, "postgres_url"))
    engine = connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE items (id INTEGER PRIMARY KEY, name VARCHAR(50), code VARCHAR(50) UNIQUE,"
            " part INTEGER, ver BIGINT)"
        )
        connection.exec_driver_sql("CREATE VIEW seen AS SELECT * FROM items")
        connection.exec_driver_sql("INSERT INTO items VALUES (1,'a','a',1,1), (2,'b','b',1,1)")
    yield engine
    engine.dispose()


def found(engine: sql.Engine, folder: Path, key: str = "id") -> list[tuple[str, str]]:
    """State and words of the findings about the source."""
    mirror = Mirror(load(sync(folder, key)))
    return [(one.state, f"{one.says} {one.do}") for one in examine.sources(engine, mirror)]


@pytest.mark.parametrize("key", ["id", "code", "[id, part]", "[part, code]"])
def test_a_source_with_a_unique_key_is_well(engine: sql.Engine, tmp_path: Path, key: str) -> None:
    [(state, says)] = found(engine, tmp_path, key)

    assert (state, "its key is unique" in says) == ("ok", True)


@pytest.mark.parametrize("key", ["name", "[name, part]"])
def test_a_key_that_two_rows_may_have_is_bad(engine: sql.Engine, tmp_path: Path, key: str) -> None:
    [(state, says)] = found(engine, tmp_path, key)

    assert state == "bad"
    assert "neither the primary key nor unique" in says
    assert "ADD UNIQUE" in says


def test_rows_without_a_version_are_counted(engine: sql.Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE items SET ver = NULL WHERE id = 2")
    [(state, says)] = found(engine, tmp_path)

    assert (state, "1 row has no version" in says) == ("bad", True)


def test_a_table_or_a_column_that_is_not_there_is_named(engine: sql.Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP VIEW seen")
        connection.exec_driver_sql("DROP TABLE items")
    [(state, says)] = found(engine, tmp_path)

    assert (state, "items cannot be read" in says) == ("bad", True)
    assert "no such table" in says


def test_a_right_that_is_missing_comes_with_its_grant(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with MariaDB(tmp_path_factory.mktemp("granting"), grants=True) as server:
        root = connect(f"mysql://root@{server.address}/shop")
        server.execute("CREATE DATABASE shop")
        Outbox(root).create()
        server.execute(
            "CREATE TABLE shop.items (id INT PRIMARY KEY, name TEXT, ver BIGINT NOT NULL)",
            "CREATE USER u@'%' IDENTIFIED BY 'pw'",
            "GRANT SELECT, INSERT ON shop.bridge_outbox TO u@'%'",
        )
        engine = connect(f"mysql://u:pw@{server.address}/shop")
        [(state, says)] = found(engine, tmp_path)
        assert state == "bad"
        assert "GRANT SELECT ON `shop`.`items` TO 'u'@'localhost'" in says
        lacking = [one.do for one in examine.rights(Outbox(engine))]
        assert lacking == [
            "GRANT UPDATE ON `shop`.`bridge_outbox` TO 'u'@'localhost'",
            "GRANT DELETE ON `shop`.`bridge_outbox` TO 'u'@'localhost'",
        ]
        server.execute("GRANT SELECT ON shop.items TO u@'%'")
        server.execute("GRANT UPDATE, DELETE ON shop.bridge_outbox TO u@'%'")
        assert [state for state, _ in found(engine, tmp_path)] == ["ok"]
        assert list(examine.rights(Outbox(engine))) == []
        engine.dispose()
        root.dispose()


@pytest.fixture
def bridge(tmp_path: Path, redis_url: str, mongodb_url: str) -> Bridge:
    """bridge(*words, expect=0): with a sync.yaml, a database, and no routes.yaml."""
    engine = connect(f"sqlite:///{tmp_path / 'site.sqlite'}")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE items (id INTEGER PRIMARY KEY, name, ver NOT NULL)"
        )
    Outbox(engine).create()
    engine.dispose()
    sync(tmp_path)
    unset = {name: None for name in os.environ if name.startswith("BRIDGE_")}
    env = {
        **unset,
        "BRIDGE_ROUTES": str(tmp_path / "routes.yaml"),
        "BRIDGE_BROKER_URL": redis_url,
        "BRIDGE_MONGODB_URL": mongodb_url,
        "BRIDGE_SQL_URL": f"sqlite:///{tmp_path / 'site.sqlite'}",
    }

    def _bridge(*words: str, expect: int = 0, **more: str) -> Result:
        done = CliRunner().invoke(cli, words, env={**env, **more})
        assert done.exit_code == expect, done.output
        return done

    return _bridge


def test_the_mirror_alone_needs_no_routes(bridge: Bridge) -> None:
    said = bridge("check").stdout
    assert "routes.yaml is not there: the mirror alone is checked" in said
    assert "sync.yaml is good: item" in said
    assert json.loads(bridge("check", "-o", "json").stdout)["ok"] is True
    findings = json.loads(bridge("doctor", "-o", "json").stdout)
    assert {one["state"] for one in findings} == {"ok", "note"}
    assert [one["what"] for one in findings if one["state"] == "note"] == ["routes.yaml"]
    assert "source of item" in {one["what"] for one in findings}


def test_an_index_of_somebody_elses_and_twins_are_named(
    bridge: Bridge, tmp_path: Path, clean_mongodb: Db
) -> None:
    indexes.run(clean_mongodb, Mirror(load(tmp_path / "sync.yaml")))
    clean_mongodb.items.insert_many(
        [{"_id": "1", "_v": 1, "name": "x"}, {"_id": "2", "_v": 1, "name": "x", "_twin": "2"}]
    )
    clean_mongodb.items.create_index("code", unique=True, sparse=True, name="theirs")

    said = " ".join(bridge("doctor", expect=1).stdout.split())
    assert "item '2' and '1' have the same name" in said
    assert 'dropIndex("theirs")' in said


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("sqlite:///@/nowhere.sqlite", BridgeError, "is not there: no file"),
        ("mysql://root@127.0.0.1:PORT/shop", ServerMissing, "nothing takes connections"),
    ],
)
def test_every_verb_that_needs_the_database_says_the_same_of_it(
    bridge: Bridge, tmp_path: Path, url: str, kind: type, says: str
) -> None:
    url = url.replace("@/", f"{tmp_path}/").replace("PORT", str(free_port()))
    for verb in ("snapshot", "reconcile", "relay"):
        done = bridge(verb, expect=1, BRIDGE_SQL_URL=url)
        assert type(done.exception) is kind
        assert says in str(done.exception)
    findings = json.loads(bridge("doctor", "-o", "json", expect=1, BRIDGE_SQL_URL=url).stdout)
    assert any(says in one["says"] for one in findings)
