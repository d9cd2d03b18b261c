"""The triggers for code that cannot change: rows of the outbox, with versions that only grow."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from page_site import SQL
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError

TABLE = (
    "CREATE TABLE projects (name VARCHAR(128) NOT NULL PRIMARY KEY, summary VARCHAR(255) NOT NULL,"
    " homepage VARCHAR(255), downloads BIGINT NOT NULL, ver BIGINT NOT NULL DEFAULT 1)"
)
INSERT = "INTO projects (name, summary, homepage, downloads) VALUES ('{}', '{}', NULL, 5)"


class Forge:
    """A table with the triggers on it, and the outbox they fill."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.dialect = engine, engine.dialect.name

    def run(self, *statements: str) -> None:
        """In one transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def events(self) -> list[tuple[str, str, int]]:
        """Key, change and version of each row of the outbox."""
        return [
            (row["aggregateid"], row["type"].removeprefix("project."), row["ver"])
            for row in self.outbox()
        ]

    def outbox(self) -> list[dict[str, Any]]:
        return self._rows("SELECT * FROM bridge_outbox ORDER BY id")

    def versions(self) -> dict[str, int]:
        """The version of each project, as its own row has it."""
        return {row["name"]: row["ver"] for row in self._rows("SELECT name, ver FROM projects")}

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(text(sql))]


def statements(name: str) -> list[str]:
    """The statements of a file of SQL, as the database's own client splits them."""
    content = (SQL / name).read_text(encoding="utf-8")
    content = re.sub(r"--.*", "", content)
    if "DELIMITER" in content:
        before, inner, _ = re.split(r"DELIMITER .*\n", content)
        parts = before.split(";") + inner.split("//")
    elif "sqlite" in name:
        parts = re.findall(r"(?s)\s*(CREATE TRIGGER.*?END;|[^;]+;)", content)
    else:
        parts = re.findall(r"(?s)(?:[^;$]|\$\$.*?\$\$)+;", content)
    return [
        part.strip().rstrip(";") + (";" if "END;" in part else "") for part in parts if part.strip()
    ]


@pytest.fixture(params=["sqlite", "mariadb", "mariadb over latin1", "postgresql"])
def forge(request: pytest.FixtureRequest) -> Iterator[Forge]:
    """The files run twice, as somebody who is not sure would run them."""
    kind = request.param
    if kind == "sqlite":
        engine = create_engine(f"sqlite:///{request.getfixturevalue('tmp_path')}/site.sqlite")
        dialect = "sqlite"
    elif kind == "postgresql":
        engine, dialect = create_engine(request.getfixturevalue("postgres_url")), "postgresql"
    else:
        url = request.getfixturevalue("mariadb_url")
        engine, dialect = create_engine(url), "mysql"
        if "latin1" in kind:
            engine = create_engine(url.replace("utf8mb4", "latin1"))
    files = [f"outbox.{dialect}.sql", f"triggers.{dialect}.sql"] * 2
    with engine.begin() as connection:
        connection.exec_driver_sql(
            TABLE + (" DEFAULT CHARSET=utf8mb4" if dialect == "mysql" else "")
        )
        for file in files:
            for statement in statements(file):
                connection.exec_driver_sql(statement)
    yield Forge(engine)
    engine.dispose()


def test_an_insert_an_update_and_a_deletion_are_events_with_growing_versions(
    forge: Forge,
) -> None:
    forge.run("INSERT " + INSERT.format("vim", "editor"))
    forge.run("UPDATE projects SET summary = 'an editor' WHERE name = 'vim'")
    assert forge.versions() == {"vim": 2}
    forge.run("DELETE FROM projects WHERE name = 'vim'")

    assert forge.events() == [("vim", "changed", 1), ("vim", "changed", 2), ("vim", "deleted", 3)]


def test_the_payload_is_the_full_state(forge: Forge) -> None:
    before = time.time() * 1000
    forge.run("INSERT " + INSERT.format("vim", "it''s \"caf\u00e9\""))

    [row] = forge.outbox()
    assert json.loads(row["payload"]) == {
        "name": "vim",
        "summary": 'it\'s "café"',
        "homepage": None,
        "downloads": 5,
    }
    assert (row["aggregatetype"], row["attempts"], row["next_try"]) == ("project", 0, 0)
    assert before - 2 <= row["created_at"] <= time.time() * 1000 + 2


def test_a_deletion_has_no_payload(forge: Forge) -> None:
    forge.run("INSERT " + INSERT.format("vim", ""), "DELETE FROM projects")

    assert [row["payload"] is None for row in forge.outbox()] == [False, True]


def test_who_comes_back_goes_on_counting(forge: Forge) -> None:
    for _ in range(3):
        forge.run("INSERT " + INSERT.format("vim", ""))
        forge.run("DELETE FROM projects WHERE name = 'vim'")
    forge.run("INSERT " + INSERT.format("vim", ""))

    versions = [version for _, _, version in forge.events()]
    assert versions == list(range(1, 8))
    assert forge.versions() == {"vim": 7}


def test_a_row_from_before_the_triggers_goes_on_counting_after_its_deletion(
    forge: Forge,
) -> None:
    forge.run("INSERT " + INSERT.format("vim", ""))
    forge.run("DELETE FROM bridge_versions", "DELETE FROM bridge_outbox")
    forge.run("UPDATE projects SET downloads = 6", "UPDATE projects SET downloads = 7")
    forge.run("DELETE FROM projects", "INSERT " + INSERT.format("vim", ""))

    assert [version for _, _, version in forge.events()] == [2, 3, 4, 5]


def test_a_new_key_is_a_deletion_and_another_entity(forge: Forge) -> None:
    forge.run("INSERT " + INSERT.format("vi", ""), "INSERT " + INSERT.format("vim", ""))
    forge.run("DELETE FROM projects WHERE name = 'vim'", "DELETE FROM bridge_outbox")
    forge.run("UPDATE projects SET name = 'vim' WHERE name = 'vi'")

    assert forge.events() == [("vi", "deleted", 2), ("vim", "changed", 3)]
    forge.run("INSERT " + INSERT.format("vi", ""))
    assert forge.versions() == {"vim": 3, "vi": 3}


def test_many_rows_in_one_statement_are_many_events(forge: Forge) -> None:
    forge.run("INSERT " + INSERT.format("a", ""), "INSERT " + INSERT.format("b", ""))
    forge.run("UPDATE projects SET downloads = downloads + 1")

    assert sorted(forge.events()[2:]) == [("a", "changed", 2), ("b", "changed", 2)]


@pytest.mark.parametrize("forge", ["sqlite", "mariadb"], indirect=True)
def test_replace_is_newer_than_what_it_replaced(forge: Forge) -> None:
    forge.run("INSERT " + INSERT.format("vim", "1"))
    forge.run("UPDATE projects SET summary = '2'", "UPDATE projects SET summary = '3'")
    forge.run("REPLACE " + INSERT.format("vim", "4"))

    newest = max(forge.outbox(), key=lambda row: row["ver"])
    assert newest["type"] == "project.changed"
    assert json.loads(newest["payload"])["summary"] == "4"
    assert forge.versions() == {"vim": newest["ver"]}
    assert newest["ver"] > 3
    versions = [version for _, _, version in forge.events()]
    assert len(versions) == len(set(versions))


def test_insert_or_update_raises_the_version(forge: Forge) -> None:
    on_conflict = (
        " ON DUPLICATE KEY UPDATE summary = 'new'"
        if forge.dialect == "mysql"
        else " ON CONFLICT (name) DO UPDATE SET summary = 'new'"
    )
    forge.run("INSERT " + INSERT.format("vim", ""))
    forge.run("INSERT " + INSERT.format("vim", "") + on_conflict)

    assert forge.events()[1][:2] == ("vim", "changed")
    assert forge.versions()["vim"] == forge.events()[1][2] >= 2
    assert json.loads(forge.outbox()[1]["payload"])["summary"] == "new"


def test_a_statement_that_fails_leaves_no_event(forge: Forge) -> None:
    forge.run("INSERT " + INSERT.format("vim", ""))
    with pytest.raises(IntegrityError):
        forge.run("INSERT " + INSERT.format("vim", ""))

    assert len(forge.events()) == 1
    assert forge.versions() == {"vim": 1}


@pytest.mark.parametrize("forge", ["sqlite"], indirect=True)
def test_recursive_triggers_of_sqlite_do_not_run_for_ever(forge: Forge) -> None:
    forge.run(
        "PRAGMA recursive_triggers = ON",
        "INSERT " + INSERT.format("vim", ""),
        "UPDATE projects SET downloads = 6",
        "REPLACE " + INSERT.format("vim", "again"),
    )

    assert forge.events() == [
        ("vim", "changed", 1),
        ("vim", "changed", 2),
        ("vim", "deleted", 3),
        ("vim", "changed", 4),
    ]
    assert forge.versions() == {"vim": 4}
