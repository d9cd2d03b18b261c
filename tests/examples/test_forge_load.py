"""The script that fills the forge, and the forge with its queue away."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
import redis
import requests

from bridge.queue.events import Event
from stack.php import PhpServer, run_php
from stack.ports import free_port
from stack.redis import Redis
from tests.examples.forge_site import LEGACY, run_failing, token_of

STANZAS = """\
Package: libodd1
Status: install ok installed
Source: odd++ (1:2.0-1)
Section: libs
Installed-Size: 10
Maintainer: Ödd <odd@example.org>
Architecture: amd64
Version: 1:2.0-1+b1
Description: odd library
 First line.
 .
  - indented

Package: odd++
Status: install ok installed
Installed-Size: 5
Architecture: all
Version: 1:2.0-1
Homepage: https://example.org/odd
Description: odd programs

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1
Description: removed
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Settings of a forge of its own that publishes nothing."""
    return {"FORGE_DATA_DIR": str(tmp_path / "site"), "FORGE_REDIS_PORT": ""}


@pytest.fixture
def stanzas(tmp_path: Path) -> str:
    path = tmp_path / "status"
    path.write_text(STANZAS, encoding="utf-8")
    return str(path)


def rows(environment: dict[str, str], sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(Path(environment["FORGE_DATA_DIR"]) / "forge.sqlite")
    try:
        with connection:
            return connection.execute(sql).fetchall()
    finally:
        connection.close()


def load(environment: dict[str, str], *arguments: str) -> str:
    return run_php(LEGACY / "bin" / "load.php", *arguments, env=environment)


def test_a_source_package_is_a_project_and_its_packages_are_releases(
    environment: dict[str, str], stanzas: str
) -> None:
    assert load(environment, "--from", stanzas) == "1 projects and 2 releases added\n"
    assert rows(environment, "SELECT name, summary, version, size_kb, ver FROM projects") == [
        ("odd++", "odd programs", "1:2.0-1", 15, 1)
    ]
    assert rows(environment, "SELECT version, architecture, filename FROM releases ORDER BY 1") == [
        ("1:2.0-1", "all", "odd++_2.0-1_all.deb"),
        ("libodd1_1:2.0-1+b1", "amd64", "libodd1_2.0-1+b1_amd64.deb"),
    ]


def test_loading_again_adds_nothing_and_keeps_edits(
    environment: dict[str, str], stanzas: str
) -> None:
    load(environment, "--from", stanzas)
    rows(environment, "UPDATE projects SET summary = 'edited', ver = 2")
    assert load(environment, "--from", stanzas) == "0 projects and 0 releases added\n"
    assert rows(environment, "SELECT summary, ver FROM projects") == [("edited", 2)]


def test_two_loads_give_the_same_rows(
    environment: dict[str, str], stanzas: str, tmp_path: Path
) -> None:
    other = {"FORGE_DATA_DIR": str(tmp_path / "other")}
    load(environment, "--from", stanzas)
    load(other, "--from", stanzas)
    for sql in ("SELECT * FROM projects", "SELECT * FROM releases"):
        assert rows(environment, sql) == rows(other, sql)


def test_a_file_that_is_not_there_is_said_so(environment: dict[str, str]) -> None:
    assert "cannot read /no/such/file" in run_failing(
        "load.php", environment, "--from", "/no/such/file"
    )


def edit_once(environment: dict[str, str], directory: Path) -> None:
    """Log in and empty every field of the project odd++."""
    with (
        PhpServer(
            directory / "php", LEGACY / "htdocs", router=LEGACY / "router.php", env=environment
        ) as server,
        requests.Session() as visitor,
    ):
        token = token_of(visitor, server.url + "/login")
        form = {"user": "maintainer", "password": "secret", "token": token}
        visitor.post(server.url + "/login", form)
        address = f"{server.url}/project/odd++/edit"
        fields = ("summary", "description", "section", "homepage", "maintainer", "license")
        edit = {**dict.fromkeys(fields, ""), "token": token_of(visitor, address)}
        answer = visitor.post(address, edit, allow_redirects=False)
        assert answer.status_code == 303


@pytest.mark.parametrize("queue", ["none", "down"])
def test_edits_are_saved_without_a_queue(
    environment: dict[str, str], stanzas: str, tmp_path: Path, queue: str
) -> None:
    environment["FORGE_REDIS_PORT"] = str(free_port()) if queue == "down" else ""
    load(environment, "--from", stanzas)
    edit_once(environment, tmp_path)
    assert rows(environment, "SELECT summary, ver FROM projects") == [("", 2)]
    assert rows(environment, "SELECT * FROM bridge_outbox") == []


@pytest.mark.parametrize("queue", ["none", "down"])
def test_with_the_outbox_an_edit_is_noted_in_its_transaction(
    environment: dict[str, str], stanzas: str, tmp_path: Path, queue: str
) -> None:
    environment["FORGE_REDIS_PORT"] = str(free_port()) if queue == "down" else ""
    environment["FORGE_OUTBOX"] = "1"
    load(environment, "--from", stanzas)
    edit_once(environment, tmp_path)
    [(key, kind, ver, payload, waits)] = rows(
        environment,
        "SELECT aggregateid, type, ver, payload, next_try - created_at FROM bridge_outbox",
    )
    assert (key, kind, ver) == ("odd++", "project.changed", 2)
    assert json.loads(str(payload))["summary"] == ""
    assert waits == 1000 if queue == "down" else waits < 0


def test_an_edit_that_the_outbox_does_not_take_is_not_saved(
    environment: dict[str, str], stanzas: str, tmp_path: Path
) -> None:
    environment["FORGE_OUTBOX"] = "1"
    load(environment, "--from", stanzas)
    rows(environment, "DROP TABLE bridge_outbox")
    with pytest.raises(AssertionError):
        edit_once(environment, tmp_path)
    assert rows(environment, "SELECT summary, ver FROM projects") == [("odd programs", 1)]


def test_with_the_outbox_an_edit_is_published_at_once_too(
    environment: dict[str, str],
    stanzas: str,
    tmp_path: Path,
    redis_server: Redis,
    clean_redis: redis.Redis,
) -> None:
    environment["FORGE_OUTBOX"] = "1"
    environment["FORGE_REDIS_PORT"] = str(redis_server.port)
    environment["FORGE_REDIS_TIMEOUT_MS"] = "5000"
    load(environment, "--from", stanzas)
    edit_once(environment, tmp_path)
    [(_, fields)] = clean_redis.xrange("bridge.events")
    event = Event.parse(fields[b"body"])
    assert (event.key, event.version) == ("odd++", 2)
    assert rows(environment, "SELECT ver FROM bridge_outbox") == [(2,)]
