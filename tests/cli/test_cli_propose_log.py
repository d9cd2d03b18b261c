"""`bridgectl sync propose --from log`: what the server lacks is said, each with what mends it, and
the file is one that `bridgectl check` takes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bridge.cli import cli
from stack.mariadb import MariaDB
from tests.sync.log.site import LOG_OPTIONS, TABLES

MORE = ("CREATE TABLE visits (hits INT)",)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB with a log, whose settings these tests change."""
    options = [*LOG_OPTIONS, "--skip-name-resolve", "--expire-logs-days=7"]
    with MariaDB(tmp_path_factory.mktemp("proposed"), options=options, grants=True) as made:
        yield made


@pytest.fixture
def url(server: MariaDB) -> Iterator[str]:
    made = server.create_database("shop")
    server.execute("USE shop", *TABLES, *MORE)
    yield made
    server.drop_database("shop")


@pytest.fixture
def sync(tmp_path: Path) -> Path:
    return tmp_path / "sync.yaml"


def bridge(sync: Path, url: str, *words: str, expect: int = 0) -> Result:
    unset = {name: None for name in os.environ if name.startswith("BRIDGE_")}
    env = {
        **unset,
        "BRIDGE_ROUTES": str(sync.parent / "routes.yaml"),
        "BRIDGE_SYNC": str(sync),
        "BRIDGE_SQL_URL": url,
        "BRIDGE_STATE_DIR": str(sync.parent),
    }
    done = CliRunner().invoke(cli, words, env=env)
    assert done.exit_code == expect, done.output
    return done


def test_a_server_that_lacks_nothing_gets_a_file_and_no_words(sync: Path, url: str) -> None:
    printed = bridge(sync, url, "sync", "propose", "--from", "log")

    assert "missing" not in printed.stderr
    assert "better" not in printed.stderr
    sync.write_text(printed.stdout, encoding="utf-8")
    assert "columns of 2 tables were checked" in bridge(sync, url, "check", "--strict").stdout


def test_what_is_written_is_what_check_takes(sync: Path, url: str) -> None:
    told = bridge(sync, url, "sync", "propose", "--from", "log", "--write").stderr
    found = json.loads(bridge(sync, url, "sync", "propose", "--from", "log", "-o", "json").stdout)

    assert "bridgectl capture" in told
    assert "bridgectl snapshot" in told
    assert "sync triggers" not in told
    text = sync.read_text(encoding="utf-8")
    assert text.count("log: true") == 2
    assert {one["source"]["log"] for one in found["entities"].values()} == {True}
    assert "visits" in text, "a table without a key is named"
    assert "ON DELETE CASCADE" in text or "foreign key" in text
    bridge(sync, url, "check", "--strict")


def test_settings_that_are_missing_are_said_with_what_mends_them(
    sync: Path, url: str, server: MariaDB
) -> None:
    server.execute(
        "SET GLOBAL binlog_format = MIXED",
        "SET GLOBAL binlog_row_metadata = NO_LOG",
        "SET GLOBAL binlog_expire_logs_seconds = 3600",
    )
    try:
        told = bridge(sync, url, "sync", "propose", "--from", "log").stderr.splitlines()
    finally:
        server.execute(
            "SET GLOBAL binlog_format = ROW",
            "SET GLOBAL binlog_row_metadata = FULL",
            "SET GLOBAL binlog_expire_logs_seconds = 604800",
        )

    missing = [line for line in told if line.startswith("bridge: missing:")]
    better = [line for line in told if line.startswith("bridge: better:")]
    assert ["SET GLOBAL binlog_format = ROW" in line for line in missing] == [True, False]
    assert ["SET GLOBAL binlog_row_metadata = FULL" in line for line in missing] == [False, True]
    [advice] = better
    assert "SET GLOBAL binlog_expire_logs_seconds = 604800" in advice


def test_the_statement_that_is_printed_gives_the_right_that_is_missing(
    sync: Path, url: str, server: MariaDB
) -> None:
    server.execute(
        "CREATE USER reader@'127.0.0.1' IDENTIFIED BY 'pw'",
        "GRANT SELECT ON shop.* TO reader@'127.0.0.1'",
    )
    own = url.replace("root@", "reader:pw@")
    assert own != url
    try:
        [told] = [
            line
            for line in bridge(sync, own, "sync", "propose", "--from", "log").stderr.splitlines()
            if line.startswith("bridge: missing:")
        ]
        server.execute(told.rpartition(": ")[2])
        again = bridge(sync, own, "sync", "propose", "--from", "log").stderr
    finally:
        server.execute("DROP USER reader@'127.0.0.1'")

    assert "reader@127.0.0.1 may not read the log" in told
    assert "missing" not in again


def test_a_version_column_is_for_triggers(sync: Path, url: str) -> None:
    words = ("sync", "propose", "--from", "log", "--version", "size")

    assert "the log gives the versions" in bridge(sync, url, *words, expect=2).stderr


def test_a_database_without_a_log_is_refused(sync: Path, tmp_path: Path) -> None:
    (tmp_path / "site.sqlite").touch()
    url = f"sqlite:///{tmp_path / 'site.sqlite'}"

    said = bridge(sync, url, "sync", "propose", "--from", "log", expect=1)

    assert "MariaDB" in str(said.exception)
    assert not sync.exists()
