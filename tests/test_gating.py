"""The gate and the marker that a worker has, by its settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import BridgeError
from bridge.gating import gate_of, start_gate
from bridge.settings import Settings
from tests.minimal_sync import MINIMAL, write_sync

LOGGED = """\
version: 1
entities:
  page: {collection: pages, source: {table: pages, key: id, log: true}}
"""
KEYS = (("a1", "0123456789abcdef"),)
URL = "mysql://root@127.0.0.1:1/site"


def settings(folder: Path, text: str = LOGGED, url: str = URL) -> Settings:
    sync = write_sync(folder, text)
    return Settings(
        folder / "routes.yaml", "", "mongodb://127.0.0.1:1/bridge", folder,
        sync=sync, sql_url=url, freshness_keys=KEYS,
    )  # fmt: skip


def test_answers_are_marked_where_something_comes_from_the_log(tmp_path: Path) -> None:
    for gate in (gate_of(settings(tmp_path)), start_gate(settings(tmp_path))[0]):
        assert gate is not None
        assert (gate.log, gate.marker is not None) == ({"page"}, True)


def test_answers_are_not_marked_where_nothing_does(tmp_path: Path) -> None:
    gate = gate_of(settings(tmp_path, MINIMAL))
    assert gate is not None
    assert (gate.log, gate.marker) == (frozenset(), None)


def test_a_worker_that_cannot_ask_the_database_says_so_and_serves(tmp_path: Path) -> None:
    with capture_logs() as logs:
        for url in ("", "postgresql://root@127.0.0.1:1/site"):
            gate, broken = start_gate(settings(tmp_path, url=url))
            assert gate is not None
            assert (gate.marker, broken) == (None, "")
    first, second = logs
    assert (first["log_level"], first["entities"]) == ("warning", "page")
    assert (second["log_level"], "MariaDB and MySQL" in second["cause"]) == ("error", True)
    with pytest.raises(BridgeError, match="MariaDB and MySQL"):
        gate_of(settings(tmp_path, url="postgresql://root@127.0.0.1:1/site"))


def test_while_sync_yaml_is_broken_answers_are_marked_for_the_last_good_one(
    tmp_path: Path,
) -> None:
    start_gate(settings(tmp_path))
    gate, broken = start_gate(settings(tmp_path, "nonsense"))
    assert gate is not None
    assert broken
    assert (gate.log, gate.marker is not None) == ({"page"}, True)


def test_without_keys_no_driver_of_a_database_is_loaded(tmp_path: Path) -> None:
    write_sync(tmp_path, LOGGED)
    code = (
        "import sys; from bridge.gating import start_gate; from bridge.settings import Settings;"
        "found = start_gate(Settings.from_environ());"
        "print(found, [m for m in ('pymongo', 'pymysql', 'sqlalchemy') if m in sys.modules])"
    )
    env = {"BRIDGE_SYNC": str(tmp_path / "sync.yaml"), "BRIDGE_SQL_URL": URL}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    assert done.stdout.strip() == "(None, '') []"
