"""`bridgectl worker --capture`: one process that takes events and reads the log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from pymongo.database import Database

from bridge.queue.broker.publisher import Publisher
from bridge.queue.events import Event
from stack.mariadb import MariaDB
from stack.ports import free_port
from stack.waiting import wait_for
from tests.sync.log.site import LOG_OPTIONS, LogSite

NOTE = "  note: {collection: notes}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    folder = tmp_path_factory.mktemp("captured")
    with MariaDB(folder, options=LOG_OPTIONS, grants=True) as made:
        yield made


@pytest.fixture
def site(
    server: MariaDB,
    mongodb_url: str,
    clean_mongodb: Database[dict[str, Any]],
    tmp_path: Path,
) -> Iterator[LogSite]:
    """Projects come from the log, notes over the queue."""
    made = LogSite(server, "shop", mongodb_url, clean_mongodb, tmp_path)
    made.write_sync(made.settings.sync.read_text() + NOTE)
    made.projects("vim")
    made.load()
    yield made
    made.close()


@pytest.fixture
def env(site: LogSite, redis_url: str, clean_redis: redis.Redis) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BRIDGE_")}
    return {
        **kept,
        "BRIDGE_BROKER_URL": redis_url,
        "BRIDGE_MONGODB_URL": site.settings.mongodb_url,
        "BRIDGE_ROUTES": str(site.settings.routes),
        "BRIDGE_SQL_URL": site.settings.sql_url,
        "BRIDGE_STATE_DIR": str(site.settings.state_dir / "state"),
        "BRIDGE_SYNC": str(site.settings.sync),
    }


@contextmanager
def running(env: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bridge", "worker", "--capture", *words]
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def test_both_work_and_are_shown_and_end_together(site: LogSite, env: dict[str, str]) -> None:
    port = free_port()
    with running(env, "--operator", f"127.0.0.1:{port}") as process:
        wait_for(lambda: (site.kept.read().position or 0) and is_read(env), bound=60)
        site.sql("UPDATE projects SET title = 'by the log'")
        with Publisher(env["BRIDGE_BROKER_URL"]) as publisher:
            publisher.publish(Event("note", "changed", "1", 1, {"text": "by the queue"}))
        wait_for(lambda: site.documents()["vim"] == "by the log", bound=30)
        wait_for(lambda: site.database.notes.find_one({"_id": "1"}), bound=30)

        def shown() -> str:
            found = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
            wanted = [
                f'{{outcome="applied",process="{kind}-{process.pid}"}} 1.0'
                for kind in ("capture", "worker")
            ]
            return found if all(one in found for one in [*wanted, "bridge_log_up 1.0"]) else ""

        wait_for(shown, bound=30, what="the numbers of both")
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        said = process.stderr.read() if process.stderr else ""
    assert "capture.stopped" in said
    assert "worker.stopped" in said
    assert not is_read(env)


def is_read(env: dict[str, str]) -> bool:
    """Whether `bridgectl status` knows of one who reads the log."""
    command = [sys.executable, "-m", "bridge", "status", "-o", "json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)["log"]["silent"] is None


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"BRIDGE_SYNC": "notes.yaml"}, 1, "no entity of sync.yaml is read from the log"),
        ({"BRIDGE_BROKER_URL": "redis+streams://127.0.0.1:1/0"}, 4, "127.0.0.1:1/0"),
    ],
)
def test_what_ends_one_ends_both_and_is_the_exit_code(
    env: dict[str, str], tmp_path: Path, change: dict[str, str], code: int, says: str
) -> None:
    """The worker could go on without a log, and the reader without a queue."""
    (tmp_path / "notes.yaml").write_text(f"version: 1\nentities:\n{NOTE}")
    change = {name: one.replace("notes", f"{tmp_path}/notes") for name, one in change.items()}
    with running({**env, **change}) as process:
        _, said = process.communicate(timeout=60)

    assert process.returncode == code, said
    assert says in said
    assert "Traceback" not in said
