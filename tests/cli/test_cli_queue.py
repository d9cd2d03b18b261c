"""bridgectl dead, status, relay and worker, as an operator types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
import sqlalchemy as sql
from pymongo.database import Database

from bridge.queue.broker import connection as broker
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import Event
from bridge.queue.sql.outbox import Outbox, connect
from stack.ports import free_port
from tests.minimal_sync import write_sync

Bridge = Callable[..., subprocess.CompletedProcess[str]]
Db = Database[dict[str, Any]]


@pytest.fixture
def env(tmp_path: Path, redis_url: str, mongodb_url: str) -> dict[str, str]:
    """What an operator of this test's own site has in the environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    return {
        **kept,
        "BRIDGE_BROKER_URL": redis_url,
        "BRIDGE_MONGODB_URL": mongodb_url,
        "BRIDGE_ROUTES": str(tmp_path / "routes.yaml"),  # the mirror alone
        "BRIDGE_STATE_DIR": str(tmp_path / "state"),
        "BRIDGE_SYNC": str(write_sync(tmp_path)),
    }


@pytest.fixture
def bridge(env: dict[str, str]) -> Bridge:
    """bridge(*words, expect=0, **env): no traceback, this exit code."""

    def _bridge(*words: str, expect: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "bridge", *words]
        done = subprocess.run(
            command, env={**env, **more}, capture_output=True, text=True, timeout=60
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == expect, done.stderr + done.stdout
        return done

    return _bridge


@pytest.fixture
def outbox(tmp_path: Path, env: dict[str, str]) -> Outbox:
    """An empty outbox in a SQLite file, which `env` names."""
    env["BRIDGE_SQL_URL"] = f"sqlite:///{tmp_path / 'site.sqlite'}"
    made = Outbox(connect(env["BRIDGE_SQL_URL"]))
    made.create()
    return made


def put(url: str, *letters: DeadLetter) -> None:
    with broker.connect(url) as connection:
        found = DeadLetters(connection)
        for letter in letters:
            found.put(letter)


def letter(name: str, **fields: Any) -> DeadLetter:
    event = Event("project", "changed", name, 3, {"n": 1}).to_json().encode()
    usual: dict[str, Any] = {
        "id": name,
        "raw": event,
        "part": "body",
        "error": "refused",
        "first_time": "2026-01-01T00:00:00Z",
        "last_time": "2026-01-02T00:00:00Z",
        "count": 1,
        "entity": "project",
        "key": name,
        "version": "3",
    }
    return DeadLetter(**usual | fields)


def add_row(outbox: Outbox, key: str, version: int, payload: str = '{"n":1}') -> None:
    row = {"entity": "project", "key": key, "change": "changed", "payload": payload}
    with outbox.engine.begin() as connection:
        outbox.add(connection, [row | {"version": version}])


def rows(outbox: Outbox) -> int:
    with outbox.engine.begin() as connection:
        return int(
            connection.execute(sql.select(sql.func.count()).select_from(outbox.table)).scalar_one()
        )


def test_the_list_shows_those_that_are_meant(bridge: Bridge, redis_url: str) -> None:
    put(redis_url, letter("vim"), letter("git", error="too large"))

    shown = json.loads(bridge("dead", "list", "--error", "LARGE", "-o", "json").stdout)
    assert [(one["id"], one["error"], one["count"]) for one in shown] == [("git", "too large", 1)]
    assert "vim" in bridge("dead", "list").stdout
    assert json.loads(bridge("dead", "list", "--since", "1h", "-o", "json").stdout) == []


def test_one_letter_is_shown_whole_and_cannot_speak_to_the_terminal(
    bridge: Bridge, redis_url: str
) -> None:
    put(redis_url, letter("vim", raw=b"\x1b[31mred\xff\n", part="envelope"))

    text = bridge("dead", "show", "vim").stdout
    assert "\\x1b[31mred\\xff" in text
    assert "\x1b" not in text
    assert json.loads(bridge("dead", "show", "vim", "-o", "json").stdout)["entity"] == "project"
    assert "bridgectl dead list" in bridge("dead", "show", "nobody", expect=1).stderr


def test_a_retry_needs_to_be_told_which(bridge: Bridge, redis_url: str) -> None:
    put(redis_url, letter("vim"), letter("git"))

    assert "--all" in bridge("dead", "retry", expect=2).stderr
    assert "--all" in bridge("dead", "drop", expect=2).stderr
    assert "1 put back" in bridge("dead", "retry", "vim").stdout
    done = json.loads(bridge("dead", "retry", "--all", "-o", "json").stdout)
    assert done == {"retried": 1, "left": 0}
    bridge("dead", "retry", "--all", expect=1)


@pytest.mark.parametrize("word", ["yesterday", "2026-13-01", "-3h"])
def test_a_time_that_is_none_is_named(bridge: Bridge, word: str) -> None:
    assert "is no time" in bridge("dead", "list", f"--since={word}", expect=2).stderr


def test_dropping_takes_the_row_of_the_outbox_too(
    bridge: Bridge, redis_url: str, outbox: Outbox
) -> None:
    put(redis_url, letter("vim"))
    add_row(outbox, "vim", 3)
    add_row(outbox, "vim", 4)

    done = json.loads(bridge("dead", "drop", "vim", "-o", "json").stdout)
    assert done == {"dropped": ["vim"], "outbox_rows": 1}
    assert rows(outbox) == 1
    bridge("dead", "drop", "vim", expect=1)


def test_a_broker_that_is_away_is_named_with_what_to_do(bridge: Bridge) -> None:
    url = f"redis://:hush@127.0.0.1:{free_port()}/0"

    for words in (["dead", "list"], ["dead", "retry", "--all"], ["worker"]):
        said = bridge(*words, expect=4, BRIDGE_BROKER_URL=url).stderr
        assert "redis-server --port" in said
        assert "hush" not in said


def test_the_status_says_what_waits_and_that_nobody_works(
    bridge: Bridge, redis_url: str, outbox: Outbox, clean_redis: redis.Redis
) -> None:
    put(redis_url, letter("vim"))
    clean_redis.xadd(broker.EVENTS_QUEUE, {"body": b"1"})
    add_row(outbox, "vim", 3)

    found = json.loads(bridge("status", "-o", "json").stdout)
    assert (found["ready"], found["held"], found["dead"], found["rows"]) == (1, 0, 1, 1)
    assert 0 <= found["lag"] < 60
    assert found["errors"] == {}
    text = bridge("status").stdout
    assert "bridgectl worker" in text
    assert "bridgectl dead list" in text


def test_the_status_tells_what_it_knows_when_something_is_away(
    bridge: Bridge, outbox: Outbox
) -> None:
    add_row(outbox, "vim", 3)
    url = f"redis://127.0.0.1:{free_port()}/0"

    found = json.loads(bridge("status", "-o", "json", expect=1, BRIDGE_BROKER_URL=url).stdout)
    assert (found["ready"], found["rows"]) == (None, 1)
    assert "refused" in found["errors"]["broker"]


def test_a_wrong_sync_yaml_is_named_with_its_places(bridge: Bridge, env: dict[str, str]) -> None:
    Path(env["BRIDGE_SYNC"]).write_text("version: 1\noutbx: {}\n")

    for words in (["relay"], ["status"], ["check"]):
        said = bridge(*words, expect=3).stderr
        assert "sync.yaml:2:1: error: unknown key `outbx`" in said
        assert "did you mean `outbox`?" in said


def test_a_relay_with_nothing_to_do_says_what_to_set(bridge: Bridge) -> None:
    assert "BRIDGE_SQL_URL" in bridge("relay", expect=1).stderr


def test_a_relay_without_its_table_says_where_it_is_made(bridge: Bridge, tmp_path: Path) -> None:
    (tmp_path / "empty.sqlite").touch()
    said = bridge("relay", expect=1, BRIDGE_SQL_URL=f"sqlite:///{tmp_path / 'empty.sqlite'}").stderr
    assert "php/sql/outbox.sqlite.sql" in said


def test_worker_and_relay_carry_a_row_to_mongodb_and_show_it(
    bridge: Bridge,
    env: dict[str, str],
    outbox: Outbox,
    clean_mongodb: Db,
    wait_for: Callable[..., Any],
) -> None:
    port = free_port()
    env["BRIDGE_OPERATOR_TOKEN"] = "token"
    add_row(outbox, "vim", 3)
    command = [sys.executable, "-m", "bridge"]
    running = [
        subprocess.Popen([*command, *words], env=env, stderr=subprocess.PIPE)
        for words in (["worker"], ["relay", "--operator", f"127.0.0.1:{port}"])
    ]
    try:
        wait_for(lambda: clean_mongodb.projects.find_one({"_id": "vim", "_v": 3}), 20)
        wait_for(lambda: rows(outbox) == 0, 20)
        freed = wait_for(lambda: [
            one["totals"]["freed"]
            for one in json.loads(bridge("status", "-o", "json").stdout)["processes"]
            if one["totals"].get("freed")
        ], 20)  # fmt: skip
        assert freed == [1]
        headers = {"Authorization": "Bearer token"}
        url = f"http://127.0.0.1:{port}"
        text = requests.get(f"{url}/metrics", headers=headers, timeout=5).text
        assert "bridge_lag_seconds 0.0" in text
        assert "bridge_dead_letters 0.0" in text
        assert 'outcome="freed"' in text
        assert requests.get(f"{url}/health", headers=headers, timeout=5).text == "ok\n"
        event = Event("project", "changed", "git", 1, {"n": 2}).to_json()
        kind = {"Content-Type": "application/cloudevents+json"}
        sent = requests.post(f"{url}/events", event, headers=headers | kind, timeout=5)
        assert (sent.status_code, sent.json()) == (202, {"accepted": 1})
        wait_for(lambda: clean_mongodb.projects.find_one({"_id": "git", "_v": 1}), 20)
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        ends = [process.communicate(timeout=20)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    assert json.loads(bridge("status", "-o", "json").stdout)["processes"] == []
