"""bridgectl reconcile, as an operator types it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from pymongo.database import Database

from bridge.cli import main
from bridge.queue.sql.database import connect
from stack.ports import free_port

Bridge = Callable[..., "Done"]
Db = Database[dict[str, Any]]

SYNC = """\
version: 1
entities:
  project: {collection: projects, source: {table: projects, key: name, version: ver}}
  person: {collection: people, source: {table: people, key: id, version: ver}}
  note: {collection: notes}
"""


@pytest.fixture
def env(tmp_path: Path, redis_url: str, mongodb_url: str, clean_mongodb: Db) -> dict[str, str]:
    """Two projects and a person, the same on both sides."""
    url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    engine = connect(url)
    with engine.begin() as connection:
        for words in (
            "CREATE TABLE projects (name TEXT PRIMARY KEY, ver INTEGER)",
            "INSERT INTO projects VALUES ('vim', 3), ('git', 4)",
            "CREATE TABLE people (id INTEGER PRIMARY KEY, ver INTEGER)",
            "INSERT INTO people VALUES (1, 1)",
        ):
            connection.exec_driver_sql(words)
    engine.dispose()
    at = datetime.now(UTC)
    clean_mongodb.projects.insert_many(
        [
            {"_id": "vim", "_v": 3, "name": "vim", "_at": at},
            {"_id": "git", "_v": 4, "name": "git", "_at": at},
        ]
    )
    clean_mongodb.people.insert_one({"_id": "1", "_v": 1, "id": 1, "_at": at})
    (tmp_path / "sync.yaml").write_text(SYNC)
    return {
        "BRIDGE_ROUTES": str(tmp_path / "routes.yaml"),
        "BRIDGE_BROKER_URL": redis_url,
        "BRIDGE_MONGODB_URL": mongodb_url,
        "BRIDGE_SQL_URL": url,
        "BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "BRIDGE_SYNC": str(tmp_path / "sync.yaml"),
    }


class Done(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


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
        assert (ended.value.code or 0) == expect, done
        return done

    return _bridge


def test_equal_sides_are_told_to_people_and_to_programs(bridge: Bridge) -> None:
    shown = bridge("reconcile").stdout
    assert "project" in shown
    assert "nothing" in shown
    assert "cannot be checked: no source" in shown

    told = json.loads(bridge("reconcile", "project", "--deep", "-o", "json").stdout)
    assert told["equal"]
    assert told["rows"] == 2
    [project] = told["entities"]
    assert (project["entity"], project["collection"]) == ("project", "projects")
    assert project["rows"] == project["documents"] == project["compared"] == 2
    assert project["differences"] == []
    assert told["unchecked"] == {"note": "no source in sync.yaml"}


def test_differences_are_shown_and_kept_for_the_status(bridge: Bridge, clean_mongodb: Db) -> None:
    clean_mongodb.projects.update_one({"_id": "vim"}, {"$set": {"_v": 1}})
    clean_mongodb.projects.insert_one({"_id": "evil\x1b[2J", "_v": 1})

    shown = bridge("reconcile", "--wait", "0s", expect=1).stdout
    assert "1 behind, 1 orphan" in shown
    assert "MongoDB has an older version" in shown
    assert "\x1b" not in shown

    told = json.loads(bridge("reconcile", "--wait", "0s", "-o", "json", expect=1).stdout)
    assert [one["counts"] for one in told["entities"]] == [{"behind": 1, "orphan": 1}, {}]
    [vim, evil] = told["entities"][0]["differences"]
    assert (vim["key"], vim["kind"], vim["sql"], vim["mongodb"]) == ("vim", "behind", 3, 1)
    assert (evil["key"], evil["sql"]) == ("evil\x1b[2J", None)

    limited = bridge("reconcile", "--wait", "0s", "--limit", "1", expect=1).stdout
    assert "1 more" in limited

    # This site has no outbox, which the status says, too.
    state = json.loads(bridge("status", "-o", "json", expect=1).stdout)["reconciled"]
    assert [(one["entity"], one["differences"]) for one in state] == [
        ("person", {}),
        ("project", {"behind": 1, "orphan": 1}),
    ]
    assert "reconciled: project" in bridge("status", expect=1).stdout


def test_both_values_are_shown_to_whoever_asks(bridge: Bridge, clean_mongodb: Db) -> None:
    clean_mongodb.people.update_one({"_id": "1"}, {"$set": {"id": "1\x1b[2J"}})

    hidden = bridge("reconcile", "person", "--deep", "--wait", "0s", expect=1).stdout
    shown = bridge("reconcile", "person", "--values", "--wait", "0s", expect=1).stdout
    told = json.loads(
        bridge("reconcile", "person", "--values", "--wait", "0s", "-o", "json", expect=1).stdout
    )

    assert "id is a text, not a whole number" in hidden
    assert "integer 1" not in hidden
    assert "integer 1" in shown
    assert 'text "1' in shown
    assert "\x1b" not in shown
    [person] = told["entities"][0]["differences"]
    assert person["values"] == [{"field": "id", "sql": "integer 1", "mongodb": 'text "1\\x1b[2J"'}]
    kept = clean_mongodb.bridge_state.find_one({"_id": "reconcile:person"})
    assert kept is not None
    assert "integer 1" not in str(kept)


@pytest.mark.parametrize(
    ("words", "change", "kind"),
    [
        ("INSERT INTO projects VALUES (NULL, 1), (NULL, 2)", {}, "2 nameless"),
        ("INSERT INTO people VALUES (2, NULL)", {}, "1 unusable"),
        ("", {"_id": 5, "_v": 1}, "1 foreign"),
        ("", {"_id": "007", "_v": 1}, "1 unlookable"),
        ("", {"_id": "9", "_v": 1, "_del": True}, "1 tombstone"),
    ],
)
def test_whatever_does_not_add_up_ends_with_1(
    bridge: Bridge, env: dict[str, str], clean_mongodb: Db, words: str, change: Any, kind: str
) -> None:
    if words:
        engine = connect(env["BRIDGE_SQL_URL"])
        with engine.begin() as connection:
            connection.exec_driver_sql(words)
        engine.dispose()
    if change:
        clean_mongodb.people.insert_one(change)

    shown = bridge("reconcile", "--deep", "--wait", "0s", expect=1).stdout

    assert kind in shown
    assert kind in bridge("status", expect=1).stdout


def test_without_a_worker_repairing_says_what_is_left(bridge: Bridge, clean_mongodb: Db) -> None:
    clean_mongodb.projects.delete_one({"_id": "vim"})

    shown = bridge("reconcile", "--repair", "--wait", "300ms", expect=1).stdout

    assert "does a `bridgectl worker` run?" in shown


def test_unknown_and_uncheckable_entities_are_named(bridge: Bridge) -> None:
    assert "did you mean" in bridge("reconcile", "projct", expect=2).stderr.lower()
    assert "no source" in bridge("reconcile", "note", expect=1).stderr
    assert "--wait" in bridge("reconcile", "--wait", "soon", expect=2).stderr


def test_servers_that_are_missing_are_named_without_their_passwords(bridge: Bridge) -> None:
    port = free_port()
    sql_url = f"mysql://root:hush@127.0.0.1:{port}/shop"
    mongodb_url = f"mongodb://root:hush@127.0.0.1:{port}/bridge"
    broker_url = f"redis+streams://:hush@127.0.0.1:{port}/0"

    missing = [
        bridge("reconcile", expect=4, BRIDGE_SQL_URL=sql_url).stderr,
        bridge("reconcile", expect=4, BRIDGE_MONGODB_URL=mongodb_url).stderr,
        bridge("reconcile", "--repair", expect=4, BRIDGE_BROKER_URL=broker_url).stderr,
    ]

    for text, name in zip(missing, ("the SQL database", "MongoDB", "Redis"), strict=True):
        assert f"{name} does not answer" in text
        assert "hush" not in text
    assert "BRIDGE_SQL_URL" in bridge("reconcile", expect=1, BRIDGE_SQL_URL="").stderr
