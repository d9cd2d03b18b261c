"""From a database to a mirror, as an operator types it: sync propose, types, init; check with the
database; what snapshot --rewrite would change; and what doctor says of types."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pymongo.database import Database

from bridge.cli import main
from bridge.queue.sql.database import connect
from stack.ports import free_port
from tests.proxy.site import TOP

Bridge = Callable[..., "Done"]
Db = Database[dict[str, Any]]

TABLES = (
    "CREATE TABLE people (id INTEGER PRIMARY KEY, nick VARCHAR(50) NOT NULL UNIQUE, "
    "born DATETIME, ver INTEGER NOT NULL)",
    "INSERT INTO people VALUES (1, 'ann', '2005-03-01 10:00:00', 1), (2, 'bob', NULL, 1)",
    "CREATE TABLE log (line TEXT)",
)


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A site with people, and no sync.yaml yet."""
    url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    run(url, *TABLES)
    (tmp_path / "routes.yaml").write_text(f"{TOP}  []\n")
    return {
        "BRIDGE_ROUTES": str(tmp_path / "routes.yaml"),
        "BRIDGE_BROKER_URL": f"redis+streams://127.0.0.1:{free_port()}/0",
        "BRIDGE_MONGODB_URL": f"mongodb://127.0.0.1:{free_port()}/x?serverSelectionTimeoutMS=200",
        "BRIDGE_SQL_URL": url,
        "BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "BRIDGE_SYNC": str(tmp_path / "sync.yaml"),
    }


def run(url: str, *statements: str) -> None:
    engine = connect(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def bridge(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bridge:
    """bridge(*words, expect=0, **env) -> Done: this exit code."""

    def _bridge(*words: str, expect: int = 0, **more: str) -> Done:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["bridge", *words])
            for name, value in {**env, **more}.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        done = Done(*capsys.readouterr())
        assert (ended.value.code or 0) == expect, done.stderr
        return done

    return _bridge


def test_what_propose_prints_is_what_check_takes(
    bridge: Bridge, env: dict[str, str], tmp_path: Path
) -> None:
    """Printed, written, or as data."""
    printed = bridge("sync", "propose").stdout
    told = bridge("sync", "propose", "--write").stderr
    assert (tmp_path / "sync.yaml").read_text(encoding="utf-8") == printed
    assert "bridgectl sync init" in told
    assert "- log: it has no primary key" in printed
    data = json.loads(bridge("sync", "propose", "-o", "json").stdout)
    assert list(data["entities"]) == ["people"]
    assert "columns of 1 table were checked" in bridge("check").stdout


def test_propose_never_writes_over_a_file_unless_forced(bridge: Bridge, tmp_path: Path) -> None:
    """What people wrote by hand stays."""
    path = tmp_path / "sync.yaml"
    path.write_text("version: 1\n")
    assert "--force" in bridge("sync", "propose", "--write", expect=1).stderr
    assert path.read_text() == "version: 1\n"
    bridge("sync", "propose", "--write", "--force")
    assert "people" in path.read_text()
    bridge("sync", "propose", "--force", expect=2)


def test_propose_replaces_an_empty_file_that_the_shell_has_made(
    bridge: Bridge, tmp_path: Path
) -> None:
    """`bridgectl sync propose > sync.yaml` makes it before we run."""
    (tmp_path / "sync.yaml").write_text("")
    assert "people" in bridge("sync", "propose").stdout


def test_propose_takes_the_version_that_is_named(bridge: Bridge) -> None:
    """In the tables that have it."""
    assert "version: ver}" in bridge("sync", "propose", "--version", "ver").stdout
    assert "`ver` may be a version" in bridge("sync", "propose").stdout


def test_a_database_that_is_not_there_is_told(bridge: Bridge) -> None:
    """With what to set, or to start."""
    assert "set BRIDGE_SQL_URL" in bridge("sync", "propose", expect=1, BRIDGE_SQL_URL="").stderr
    away = f"mysql://root@127.0.0.1:{free_port()}/x"
    bridge("sync", "propose", expect=4, BRIDGE_SQL_URL=away)


def test_types_shows_what_each_column_becomes(bridge: Bridge, tmp_path: Path) -> None:
    """With sync.yaml's own word where it has one."""
    bridge("sync", "propose", "--write")
    rows = json.loads(bridge("sync", "types", "-o", "json").stdout)
    found = {row["field"]: (row["document"], row["key"]) for row in rows}
    assert found["id"][0] == "64-bit integer"
    assert found["id"][1]
    assert found["born"] == ("moment, UTC, milliseconds", "")
    path = tmp_path / "sync.yaml"
    more = "people:\n    drop: [ver]\n    fields: {born: {type: string, as: b}}\n    coll"
    path.write_text(path.read_text().replace("people:\n    coll", more))
    rows = json.loads(bridge("sync", "types", "people", "-o", "json").stdout)
    found = {row["field"]: (row["document"], row["misfit"]) for row in rows}
    assert found["b"] == ("string", "dead letter")
    assert found["ver"][0] == "dropped"
    bridge("sync", "types", "nobody", expect=2)


def test_check_names_columns_that_are_not_there_with_their_place(
    bridge: Bridge, tmp_path: Path
) -> None:
    """And fields that no column becomes, as warnings."""
    (tmp_path / "sync.yaml").write_text(
        "version: 1\n"
        "entities:\n"
        "  person:\n"
        "    collection: people\n"
        "    source: {table: people, key: id, version: verr}\n"
        "    fields: {nik: string}\n"
        "  line:\n"
        "    collection: lines\n"
        "    source: {table: lok, key: id, version: ver}\n"
    )
    done = bridge("check", expect=3)
    assert "sync.yaml:5:47: error: people has no column verr; did you mean `ver`?" in done.stderr
    assert "sync.yaml:9:21: error: the database has no table lok" in done.stderr
    assert "sync.yaml:6:14: warning: no column of people becomes `nik`" in done.stderr
    assert "did you mean `nick`?" in done.stderr
    assert "were not checked, as you said" in bridge("check", "--no-sql").stdout
    assert "BRIDGE_SQL_URL is not set" in bridge("check", BRIDGE_SQL_URL="").stdout
    bridge("check", "--sql", expect=1, BRIDGE_SQL_URL="")
    away = f"mysql://root@127.0.0.1:{free_port()}/x"
    assert "were not checked: the SQL database" in bridge("check", BRIDGE_SQL_URL=away).stdout
    bridge("check", "--sql", expect=4, BRIDGE_SQL_URL=away)


def test_check_names_types_that_have_no_rule(
    bridge: Bridge, mariadb_url: str, tmp_path: Path
) -> None:
    """Unless they are dropped."""
    run(mariadb_url, "CREATE TABLE t (id INT PRIMARY KEY, place POINT)")
    text = "version: 1\nentities:\n  t: {collection: t, source: {table: t, key: id}}\n"
    (tmp_path / "sync.yaml").write_text(text)
    done = bridge("check", expect=3, BRIDGE_SQL_URL=mariadb_url)
    assert "sync.yaml:3:" in done.stderr
    assert "column place of which the type, point, has no rule" in done.stderr
    (tmp_path / "sync.yaml").write_text(
        text.replace("collection: t,", "collection: t, drop: [place],")
    )
    bridge("check", BRIDGE_SQL_URL=mariadb_url)


def test_from_a_proposal_to_documents(
    bridge: Bridge, redis_url: str, mongodb_url: str, clean_mongodb: Db
) -> None:
    """Each step says which is next."""
    servers = {"BRIDGE_BROKER_URL": redis_url, "BRIDGE_MONGODB_URL": mongodb_url}
    bridge("sync", "propose", "--write", "--version", "ver")
    done = bridge("sync", "init", **servers)
    assert "bridge_nick" in done.stdout
    assert "next: bridgectl worker; bridgectl relay; bridgectl snapshot; " in done.stderr
    bridge("snapshot", "--max-lag", "0s", **servers)
    assert clean_mongodb.people.count_documents({}) == 2
    assert json.loads(bridge("reconcile", "--deep", "-o", "json", **servers).stdout)


def test_what_comes_from_the_log_needs_no_worker_and_no_relay(
    bridge: Bridge, mongodb_url: str, tmp_path: Path
) -> None:
    """They are named where another entity needs them."""
    log = "{collection: a, source: {table: a, key: id, log: true}}"
    for others, way in (
        ("", "capture; bridgectl snapshot"),
        ("  b: {collection: b}\n", "capture; bridgectl worker; bridgectl relay"),
        (
            "  b: {collection: b, source: {table: b, key: id}}\n",
            "sync triggers --apply; bridgectl capture; bridgectl worker",
        ),
        (
            "  b: {collection: b, source: {table: b, key: id, version: v, log: compare}}\n",
            "capture; bridgectl worker; bridgectl relay",
        ),
    ):
        text = f"version: 1\nentities:\n  a: {log}\n{others}"
        (tmp_path / "sync.yaml").write_text(text)
        done = bridge("sync", "init", BRIDGE_MONGODB_URL=mongodb_url)
        assert f"next: bridgectl {way}" in done.stderr


def test_what_rewriting_would_change_is_shown_and_nothing_is(
    bridge: Bridge, redis_url: str, mongodb_url: str, clean_mongodb: Db
) -> None:
    """Field by field, old type and new; then it is made so, and nothing is left to change."""
    servers = {"BRIDGE_BROKER_URL": redis_url, "BRIDGE_MONGODB_URL": mongodb_url}
    bridge("sync", "propose", "--write", "--version", "ver")
    old = [
        {"_id": "1", "_v": 1, "id": "1", "nick": "ann", "born": "2005-03-01 10:00:00"},
        {"_id": "2", "_v": 0, "id": "2", "nick": "bob", "born": None},
    ]
    clean_mongodb.people.insert_many(old)

    shown = bridge("snapshot", "--rewrite", "--dry-run", "-o", "json", **servers)

    [found] = json.loads(shown.stdout)
    changes = {(one["field"], one["was"], one["becomes"]): one for one in found["changes"]}
    assert set(changes) == {("id", "text", "integer"), ("born", "text", "datetime")}
    assert (found["changed"], found["other"], found["same"], found["all"]) == (1, 1, 0, True)
    assert changes["born", "text", "datetime"]["before"] == "'2005-03-01 10:00:00'"
    assert "1 documents would change" in shown.stderr
    assert list(clean_mongodb.people.find({}, sort=["_id"])) == old

    bridge("snapshot", "--rewrite", "--max-lag", "0s", **servers)
    one = clean_mongodb.people.find_one({"_id": "1"}) or {}
    assert (one["id"], one["born"]) == (1, datetime(2005, 3, 1, 10))
    after = bridge("snapshot", "--rewrite", "--dry-run", "-o", "json", **servers)
    assert [one["changes"] for one in json.loads(after.stdout)] == [[]]
    bridge("snapshot", "--dry-run", expect=2, **servers)


def doctor(bridge: Bridge, **servers: str) -> list[dict[str, str]]:
    """What it says of types; it finds other things, too."""
    done = bridge("doctor", "-o", "json", expect=1, **servers)
    return [one for one in json.loads(done.stdout) if one["what"].startswith("types of")]


def test_doctor_says_whether_the_workers_go_by_the_types_of_now(
    bridge: Bridge, env: dict[str, str], mongodb_url: str, clean_mongodb: Db
) -> None:
    """They keep in MongoDB by what they go."""
    servers = {"BRIDGE_MONGODB_URL": mongodb_url}
    bridge("sync", "propose", "--write")
    [found] = doctor(bridge, **servers)
    assert (found["state"], found["says"]) == ("ok", "4 columns are known")
    state = {"_id": "types", "people": {"digest": "old", "at": datetime(2026, 1, 1), "waits": ""}}
    clean_mongodb.bridge_state.insert_one(state)
    [found] = doctor(bridge, **servers)
    assert found["state"] == "note"
    assert "has changed since the workers read it (2026-01-01 00:00 UTC)" in found["says"]
    clean_mongodb.bridge_state.update_one({}, {"$set": {"people.waits": "it does not fit"}})
    [found] = doctor(bridge, **servers)
    assert (found["state"], found["says"]) == ("bad", "its events wait: it does not fit")
    run(env["BRIDGE_SQL_URL"], "ALTER TABLE people RENAME COLUMN id TO number")
    [found] = doctor(bridge, **servers)
    assert found["state"] == "bad"
    assert "has no column id" in found["says"]


@pytest.mark.slow
def test_doctor_names_zones_and_character_sets_that_nobody_named(
    bridge: Bridge, mariadb_url: str, tmp_path: Path
) -> None:
    """With what to write."""
    run(
        mariadb_url,
        "CREATE TABLE t (id INT PRIMARY KEY, seen TIMESTAMP NULL, body TEXT) CHARSET latin1",
        "INSERT INTO t VALUES (1, NULL, X'6772C3BC6E')",
    )
    path = tmp_path / "sync.yaml"
    text = "version: 1\nentities:\n  t: {collection: t, source: {table: t, key: id}}\n"
    path.write_text(text)
    found = doctor(bridge, BRIDGE_SQL_URL=mariadb_url)
    assert [one["state"] for one in found] == ["ok", "note", "note"]
    assert "TIMESTAMP without a zone: seen" in found[1]["says"]
    assert "body says latin1 and holds utf-8" in found[2]["says"]
    path.write_text(text.replace("key: id", "key: id, log: true"))
    told = [one["says"] for one in doctor(bridge, BRIDGE_SQL_URL=mariadb_url)]
    assert not [says for says in told if "without a zone" in says], "the log is in UTC"
    assert [says for says in told if "body says latin1" in says]
    path.write_text(
        text.replace("version: 1", "version: 1\nzone: UTC").replace(
            "collection: t,", "collection: t, fields: {body: {text: {stored: utf-8}}},"
        )
    )
    assert [one["state"] for one in doctor(bridge, BRIDGE_SQL_URL=mariadb_url)] == ["ok"]
