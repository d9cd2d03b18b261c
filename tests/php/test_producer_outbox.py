"""enqueue(): the row is there when the change is, over every driver, mode and charset."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, create_engine, text

from stack.mariadb import MariaDB
from stack.php import php_program
from stack.ports import free_port
from stack.postgres import Postgres
from stack.redis import Redis
from tests.php.page_site import SQL, Page, event_on, events_on

HARD = "k\u00e9y/\u20ac/\U0001f600'\"\\;--"
"""A key with characters that Latin-1 lacks, and with those that a quotation must escape."""
STATE = {"text": "caf\u00e9 \u20ac \U0001f600 '\"\\ \0 ?", "n": 1, "f": 1.0, "path": "$PATH"}
ENQUEUE = "$ok = $bridge->enqueue($db, 'project', 'changed', $key, 7, $data);"


@dataclass
class Database:
    """An empty outbox, how PHP opens it as $db, and how the test reads it."""

    kind: str
    opened: str
    engine: Engine

    def rows(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT * FROM bridge_outbox ORDER BY id"))
            return [dict(row._mapping) for row in found]

    def row(self) -> dict[str, Any]:
        [row] = self.rows()
        return row

    @property
    def is_mysqli(self) -> bool:
        return self.kind.startswith("mysqli")

    @property
    def begin(self) -> str:
        return "$db->begin_transaction();" if self.is_mysqli else "$db->beginTransaction();"

    @property
    def roll_back(self) -> str:
        return "$db->rollback();"


def make_outbox(engine: Engine, dialect: str) -> Engine:
    """Run the file of SQL that the site's owner would run; twice, as it says."""
    content = (SQL / f"outbox.{dialect}.sql").read_text(encoding="utf-8")
    lines = [line.split("--")[0] for line in content.splitlines()]
    statements = [one for one in "\n".join(lines).split(";") if one.strip()]
    with engine.begin() as connection:
        for statement in statements * 2:
            connection.exec_driver_sql(statement)
    return engine


def pdo(dsn: str, user: str = "postgres", **attributes: str) -> str:
    words = "".join(f"PDO::ATTR_{name} => {value}, " for name, value in attributes.items())
    return f"$db = new PDO('{dsn}', '{user}', '', array({words}));"


KINDS = [
    "sqlite",
    "mysql utf8mb4",
    "mysql latin1",
    "mysql latin1 emulated",
    "mysql sjis by SET NAMES",
    "mysql no backslash escapes",
    "mysqli utf8mb4",
    "mysqli latin1",
    "pgsql utf8",
    "pgsql latin1",
    "pgsql latin1 emulated",
]


def opened(kind: str, server: MariaDB | Postgres | None, name: str) -> str:
    """PHP that opens the database as $db."""
    if isinstance(server, MariaDB):
        charset = "latin1" if "latin1" in kind else "utf8mb4"
        if kind.startswith("mysqli"):
            return (
                "mysqli_report(MYSQLI_REPORT_OFF);"
                f"$db = new mysqli('127.0.0.1', 'root', '', '{name}', {server.port});"
                f"$db->set_charset('{charset}');"
            )
        dsn = server.dsn_of(name).replace("utf8mb4", charset)
        code = pdo(dsn, "root", EMULATE_PREPARES="true" if "emulated" in kind else "false")
        if "sjis" in kind:
            code = pdo(dsn, "root", EMULATE_PREPARES="true") + "$db->exec('SET NAMES sjis');"
        if "backslash" in kind:
            code = pdo(dsn, "root", EMULATE_PREPARES="true")
            code += "$db->exec(\"SET sql_mode = 'NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES'\");"
        return code
    assert isinstance(server, Postgres)
    dsn = server.dsn.replace(f"dbname={server.database}", f"dbname={name}")
    code = pdo(dsn, EMULATE_PREPARES="true" if "emulated" in kind else "false")
    return code + ("$db->exec('SET client_encoding TO LATIN1');" if "latin1" in kind else "")


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The same outbox on each database, driver and charset."""
    kind = request.param
    if kind == "sqlite":
        path = tmp_path / "site.sqlite"
        engine = make_outbox(create_engine(f"sqlite:///{path}"), "sqlite")
        code = pdo(f"sqlite:{path}")
    elif kind.startswith("pgsql"):
        if "pdo_pgsql" not in run_php_modules():
            pytest.skip("PHP has no pdo_pgsql: apt-get install php-pgsql")
        url = request.getfixturevalue("postgres_url")
        engine = make_outbox(create_engine(url), "postgresql")
        code = opened(kind, request.getfixturevalue("postgres"), url.rsplit("/", 1)[1])
    else:
        url = request.getfixturevalue("mariadb_url")
        engine = make_outbox(create_engine(url), "mysql")
        name = url.rsplit("/", 1)[1].split("?")[0]
        code = opened(kind, request.getfixturevalue("mariadb"), name)
    yield Database(kind, code, engine)
    engine.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    path = tmp_path / "site.sqlite"
    engine = make_outbox(create_engine(f"sqlite:///{path}"), "sqlite")
    yield Database("sqlite", pdo(f"sqlite:{path}"), engine)
    engine.dispose()


def run_php_modules() -> str:
    """What `php -m` lists."""
    return subprocess.run([php_program(), "-m"], capture_output=True, text=True).stdout


def values(key: str = HARD) -> str:
    """PHP that sets $key and $data, whatever characters they have."""
    packed = json.dumps({"key": key, "data": STATE}).encode().hex()
    return (
        f"$given = json_decode(pack('H*', '{packed}'), true);"
        " $key = $given['key']; $data = $given['data'];"
    )


def test_a_committed_change_is_a_row_with_all_of_it(page: Page, database: Database) -> None:
    before = time.time() * 1000
    printed = page(
        database.opened + values() + database.begin + ENQUEUE + "$db->commit();"
        "var_dump($ok, $bridge->error());"
    )

    assert printed == 'bool(true)\nstring(0) ""\n'
    row = database.row()
    assert (row["aggregatetype"], row["aggregateid"], row["type"], row["ver"]) == (
        "project",
        HARD,
        "project.changed",
        7,
    )
    payload = json.loads(row["payload"])
    assert repr(sorted(payload.items())) == repr(sorted(STATE.items()))
    assert row["payload"].isascii()
    assert before - 1 <= row["created_at"] <= time.time() * 1000 + 1
    assert row["next_try"] == row["created_at"] + 1000
    assert (row["published_at"], row["applied_at"], row["attempts"]) == (None, None, 0)


@pytest.mark.parametrize("database", ["mysql utf8mb4", "mysqli utf8mb4"], indirect=True)
def test_the_times_of_a_row_are_by_the_clock_of_the_database(
    page: Page, database: Database
) -> None:
    """Those of web servers differ, and the relay has another."""
    set_clock = "SET timestamp = 1000000000.25"
    call = f"$db->query('{set_clock}');" if database.is_mysqli else f"$db->exec('{set_clock}');"
    page(database.opened + call + values() + ENQUEUE)

    row = database.row()
    assert (row["created_at"], row["next_try"]) == (1_000_000_000_250, 1_000_000_001_250)


def test_a_deletion_has_no_payload(page: Page, database: Database) -> None:
    page(
        database.opened
        + database.begin
        + "$bridge->enqueue($db, 'project', 'deleted', 'vim', '9223372036854775807');"
        + "$db->commit();"
    )

    row = database.row()
    assert (row["aggregateid"], row["type"], row["payload"]) == ("vim", "project.deleted", None)
    assert row["ver"] == 2**63 - 1


def test_a_change_that_is_rolled_back_leaves_no_row(page: Page, database: Database) -> None:
    printed = page(
        database.opened
        + values()
        + database.begin
        + ENQUEUE
        + database.roll_back
        + "var_dump($ok);"
    )

    assert printed == "bool(true)\n"
    assert database.rows() == []


def test_a_table_that_is_missing_is_false_and_never_a_warning(
    page: Page, database: Database
) -> None:
    if not database.is_mysqli:
        modes = ["PDO::ERRMODE_SILENT", "PDO::ERRMODE_WARNING", "PDO::ERRMODE_EXCEPTION"]
        modes = [f"$db->setAttribute(PDO::ATTR_ERRMODE, {mode});" for mode in modes]
    else:
        flags = ["OFF", "ERROR", "ERROR | MYSQLI_REPORT_STRICT", "ALL"]
        modes = [f"mysqli_report(MYSQLI_REPORT_{flag});" for flag in flags]
    for mode in modes:
        printed = page(
            database.opened
            + values()
            + mode
            + database.begin
            + ENQUEUE
            + "var_dump($ok); echo strpos($bridge->error(), 'missing') > 0;"
            + database.roll_back,
            outbox_table="missing",
        )
        assert printed == "bool(false)\n1", mode


def test_the_row_and_the_event_at_once(
    page: Page, database: Database, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    """After the commit, the fast path brings what is in the rows."""
    printed = page(
        database.opened
        + values()
        + database.begin
        + ENQUEUE
        + "$bridge->enqueue($db, 'project', 'deleted', 'vim', 8);"
        + "$db->commit(); var_dump($bridge->afterCommit(), $bridge->error());",
        port=redis_server.port,
        timeout_ms=5000,
    )

    assert printed == 'bool(true)\nstring(0) ""\n'
    changed, deleted = events_on(clean_redis)
    assert (changed.key, changed.version, changed.data) == (HARD, 7, STATE)
    assert (deleted.key, deleted.change, deleted.version) == ("vim", "deleted", 8)
    assert len(database.rows()) == 2


def test_after_a_rollback_nothing_is_sent(
    page: Page, sqlite: Database, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    printed = page(
        sqlite.opened
        + values()
        + sqlite.begin
        + ENQUEUE
        + "$db->rollBack(); $bridge->afterRollback(); var_dump($bridge->afterCommit());",
        port=redis_server.port,
    )

    assert printed == "bool(true)\n"
    assert events_on(clean_redis) == []


def test_what_was_sent_is_not_sent_again(
    page: Page, sqlite: Database, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    page(
        sqlite.opened + values() + ENQUEUE + "$bridge->afterCommit(); $bridge->afterCommit();",
        port=redis_server.port,
    )

    assert event_on(clean_redis).version == 7


def test_without_the_fast_path_the_relay_looks_at_once(
    page: Page, sqlite: Database, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    printed = page(
        sqlite.opened + values() + ENQUEUE + "var_dump($bridge->afterCommit());",
        port=redis_server.port,
        fast=False,
    )

    assert printed == "bool(true)\n"
    assert sqlite.row()["next_try"] == 0
    assert events_on(clean_redis) == []


def test_with_redis_down_the_row_is_still_there_and_nothing_is_spooled(
    page: Page, sqlite: Database, tmp_path: Path
) -> None:
    printed = page(
        sqlite.opened + values() + ENQUEUE + "var_dump($ok, $bridge->afterCommit());"
        "echo $bridge->error();",
        port=free_port(),
        spool_dir=str(tmp_path / "spool"),
    )

    assert printed.startswith("bool(true)\nbool(false)\nno connection to")
    assert len(sqlite.rows()) == 1
    assert not (tmp_path / "spool").exists()


def test_a_very_large_transaction_is_left_to_the_relay(
    page: Page, sqlite: Database, clean_redis: redis.Redis, redis_server: Redis
) -> None:
    """What enqueue() remembers has a limit of 8 MiB; the rows have none."""
    page(
        sqlite.opened + "$db->beginTransaction(); for ($n = 0; $n < 20; $n++)"
        " $bridge->enqueue($db, 'project', 'changed', 'k', $n, array('t' => str_repeat('x',"
        " 1000000))); $db->commit(); $bridge->afterCommit();",
        port=redis_server.port,
        timeout_ms=5000,
    )

    assert len(sqlite.rows()) == 20
    assert [event.version for event in events_on(clean_redis)] == list(range(8))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("$db, 'Project', 'changed', 'k', 1, array()", "entity must be"),
        ("$db, 'project', 'changed', 'k', 1, array('x' => NAN)", "data.x is NAN or INF"),
        ("$db, 'project', 'changed', 'k', 1, 'text'", "data must be an array"),
        ("null, 'project', 'deleted', 'k', 1", "must be a PDO or a mysqli object"),
    ],
)
def test_what_cannot_be_a_row_is_false_with_the_reason(
    page: Page, sqlite: Database, arguments: str, error: str
) -> None:
    printed = page(
        sqlite.opened + f"var_dump($bridge->enqueue({arguments})); echo $bridge->error();"
    )

    assert printed.startswith("bool(false)\n")
    assert error in printed
    assert sqlite.rows() == []


@pytest.mark.parametrize("table", ["bridge outbox", "x; DROP TABLE y", "", "1a", "a.b.c", "é"])
def test_a_name_of_a_table_is_letters_digits_and_underscores(
    page: Page, sqlite: Database, table: str
) -> None:
    printed = page(
        sqlite.opened + values() + ENQUEUE + "var_dump($ok); echo $bridge->error();",
        outbox_table=table,
    )

    assert printed.startswith("bool(false)\noutbox_table must be")


def test_the_table_may_have_another_name_and_a_schema(page: Page, sqlite: Database) -> None:
    page(sqlite.opened + values() + ENQUEUE, outbox_table="main.bridge_outbox")

    assert sqlite.row()["ver"] == 7


def test_it_throws_where_the_site_wants_that(page: Page, sqlite: Database) -> None:
    printed = page(
        sqlite.opened + values() + "try {" + ENQUEUE + "} catch (RuntimeException $e) {"
        " echo get_class($e), ': ', $e->getMessage(); }",
        outbox_table="missing",
        throw=True,
    )

    assert printed.startswith("RuntimeException: The change is not in the outbox: ")
    assert "missing" in printed


def test_a_locked_database_is_false_and_the_page_can_roll_back(
    page: Page, sqlite: Database, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "site.sqlite", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        printed = page(
            sqlite.opened
            + "$db->setAttribute(PDO::ATTR_TIMEOUT, 0);"
            + values()
            + sqlite.begin
            + ENQUEUE
            + "var_dump($ok, $db->rollBack()); echo $bridge->error();"
        )
    finally:
        other.close()

    assert printed.startswith("bool(false)\nbool(true)\n")
    assert "locked" in printed


def test_text_in_latin_1_becomes_readable(page: Page, sqlite: Database) -> None:
    page(
        sqlite.opened
        + r"""$bridge->enqueue($db, 'project', 'changed', "caf\xe9", 1, array("\x80" => "\xfc"));"""
    )

    row = sqlite.row()
    assert row["aggregateid"] == "café"
    assert json.loads(row["payload"]) == {"€": "ü"}
