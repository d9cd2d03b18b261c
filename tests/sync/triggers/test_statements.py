"""Whatever statement the site uses: what it did is in MongoDB, and it notices nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from tests.sync.triggers.trigger_site import DIALECTS, Mongo, Site, url_for

SYNC = """\
version: 1
entities:
  thing: {collection: things, source: {table: things, key: id}}
  pair: {collection: pairs, source: {table: pairs, key: [name, day]}}
  word: {collection: words, source: {table: words, key: word}}
"""
AUTO = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "mysql": "INT AUTO_INCREMENT PRIMARY KEY",
    "postgresql": "SERIAL PRIMARY KEY",
}
ROWS = [
    "INSERT INTO things (name, n) VALUES ('a', 1), ('b', 2), ('c', 3)",
    "INSERT INTO pairs VALUES ('x/y', '2024-01-31', 'm', 1), ('%2F', '2024-02-29', 'n', 2)",
    "INSERT INTO words VALUES ('vim', 1), ('emacs', 2)",
]


def tables(dialect: str) -> list[str]:
    word = {"sqlite": "VARCHAR(50) COLLATE NOCASE"}.get(dialect, "VARCHAR(50)")
    return [
        f"CREATE TABLE things (id {AUTO[dialect]}, name VARCHAR(50) UNIQUE, n INT)",
        "CREATE TABLE pairs (name VARCHAR(50) NOT NULL, day DATE NOT NULL, code VARCHAR(9) UNIQUE,"
        " n INT, PRIMARY KEY (name, day))",
        f"CREATE TABLE words (word {word} NOT NULL PRIMARY KEY, n INT)",
    ]


@pytest.fixture(params=DIALECTS)
def site(request: pytest.FixtureRequest, clean_mongodb: Mongo, tmp_path: Path) -> Iterator[Site]:
    made = Site(url_for(request, request.param), clean_mongodb, tmp_path, SYNC)
    made.begin(*tables(made.dialect))
    made.run(*ROWS)
    made.pump()
    yield made
    made.engine.dispose()


def only(*kinds: str) -> Callable[..., None]:
    return pytest.mark.parametrize("site", kinds, indirect=True)


EVERYWHERE = {
    "one row": "INSERT INTO things (name, n) VALUES ('d', 4)",
    "many rows": "INSERT INTO things (name, n) VALUES ('d', 4), ('e', 5)",
    "rows of another table": "INSERT INTO things (name, n) SELECT name, n FROM pairs",
    "an update": "UPDATE things SET n = n + 1",
    "an update of nothing": "UPDATE things SET n = n",
    "an update of a key": "UPDATE things SET id = id + 100",
    "an update of part of a key": "UPDATE pairs SET day = '2024-03-01' WHERE n = 1",
    "an update of a key's case": "UPDATE words SET word = 'VIM' WHERE word = 'vim'",
    "a deletion": "DELETE FROM things WHERE n = 2",
    "everything deleted": "DELETE FROM pairs",
}


@pytest.mark.parametrize("statement", EVERYWHERE.values(), ids=EVERYWHERE)
def test_what_every_database_has_is_noted(site: Site, statement: str) -> None:
    site.run(statement)

    assert site.notes()
    site.pump()
    site.assert_equal()


MYSQL = {
    "replace": "REPLACE INTO things (id, name, n) VALUES (1, 'new', 9)",
    "replace of another row": "REPLACE INTO things (id, name, n) VALUES (7, 'b', 9)",
    "replace of two rows": "REPLACE INTO things (id, name, n) VALUES (1, 'b', 9)",
    "insert or update": "INSERT INTO things (name, n) VALUES ('b', 9), ('z', 1) "
    "ON DUPLICATE KEY UPDATE n = 77",
    "insert or update of the key": "INSERT INTO things (id, name, n) VALUES (1, 'q', 9) "
    "ON DUPLICATE KEY UPDATE id = 50, n = 78",
    "insert ignore": "INSERT IGNORE INTO things (name, n) VALUES ('b', 9), ('z', 1)",
    "update ignore into a taken key": "UPDATE IGNORE things SET id = 2 WHERE id = 1",
    "update ignore into a taken value": "UPDATE IGNORE things SET name = 'b' WHERE id <> 2",
    "update ignore of a part of a key": "UPDATE IGNORE pairs SET name = 'same', day = '2024-01-01'",
    "update of two tables": "UPDATE things t, pairs p SET t.n = 5, p.n = 6 WHERE t.n = p.n",
    "deletion from two tables": "DELETE t, p FROM things t JOIN pairs p ON t.n = p.n",
    "a key's case": "UPDATE words SET word = 'Vim' WHERE word = 'VIM'",
}


@only("mariadb")
@pytest.mark.parametrize("statement", MYSQL.values(), ids=MYSQL)
def test_what_only_mysql_has_is_noted_or_did_nothing(site: Site, statement: str) -> None:
    site.run(statement)

    site.pump()
    site.assert_equal()


SQLITE = {
    "replace": "REPLACE INTO things (id, name, n) VALUES (1, 'new', 9)",
    "replace of another row": "REPLACE INTO things (name, n) VALUES ('b', 9)",
    "replace of two rows": "REPLACE INTO things (id, name, n) VALUES (1, 'b', 9)",
    "replace of the same word": "REPLACE INTO words VALUES ('VIM', 9)",
    "replace in a composite key": "REPLACE INTO pairs VALUES ('new', '2024-05-05', 'm', 9)",
    "update or replace": "UPDATE OR REPLACE things SET name = 'b' WHERE id = 1",
    "update or replace of the key": "UPDATE OR REPLACE things SET id = 2 WHERE id = 1",
    "insert or ignore": "INSERT OR IGNORE INTO things (name, n) VALUES ('b', 9), ('z', 1)",
    "update or ignore": "UPDATE OR IGNORE things SET name = 'b'",
    "insert or update": "INSERT INTO things (name, n) VALUES ('b', 9) "
    "ON CONFLICT (name) DO UPDATE SET n = 77",
}


@only("sqlite")
@pytest.mark.parametrize("recursive", ["OFF", "ON"])
@pytest.mark.parametrize("statement", SQLITE.values(), ids=SQLITE)
def test_what_only_sqlite_has_is_noted_or_did_nothing(
    site: Site, statement: str, recursive: str
) -> None:
    with site.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA recursive_triggers = {recursive}")
        connection.commit()
    site.run(statement)

    site.pump()
    site.assert_equal()


@only("postgresql")
def test_truncate_is_noted_row_by_row(site: Site) -> None:
    site.run("TRUNCATE things, pairs")

    assert len(site.notes()) == 5
    site.pump()
    site.assert_equal()
    assert site.keys("things") == set()


@only("postgresql", "sqlite")
def test_an_insert_or_update_of_a_conflict_is_noted(site: Site) -> None:
    site.run(
        "INSERT INTO pairs VALUES ('q', '2024-02-02', 'm', 5) ON CONFLICT (code) DO UPDATE "
        "SET name = 'moved'",
        "INSERT INTO things (name, n) VALUES ('b', 9) ON CONFLICT DO NOTHING",
    )

    site.pump()
    site.assert_equal()
    assert "moved/2024-01-31" in site.keys("pairs")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_a_foreign_key_does_is_noted(
    request: pytest.FixtureRequest, kind: str, clean_mongodb: Mongo, tmp_path: Path
) -> None:
    sync = "version: 1\nentities: {part: {collection: parts, source: {table: parts, key: id}}}"
    site = Site(url_for(request, kind), clean_mongodb, tmp_path, sync)
    if kind == "sqlite":

        @sql.event.listens_for(site.engine, "connect")
        def _(connection: Any, record: Any) -> None:
            connection.execute("PRAGMA foreign_keys = ON")

    site.begin(
        "CREATE TABLE owners (id INT PRIMARY KEY)",
        "CREATE TABLE parts (id INT NOT NULL PRIMARY KEY, "
        "owner INT REFERENCES owners (id) ON DELETE CASCADE ON UPDATE CASCADE, "
        "other INT REFERENCES owners (id) ON DELETE SET NULL)",
        "INSERT INTO owners VALUES (1), (2), (3)",
        "INSERT INTO parts VALUES (1, 1, 3), (2, 2, NULL), (3, 2, 3)",
    )
    site.run(
        "DELETE FROM owners WHERE id = 1",
        "UPDATE owners SET id = 20 WHERE id = 2",
        "DELETE FROM owners WHERE id = 3",
    )

    site.pump()
    site.assert_equal()
    assert site.keys("parts") == {"2", "3"}
    assert clean_mongodb["parts"].find_one({"_id": "3"}, {"owner": 1, "other": 1}) == {
        "_id": "3",
        "owner": 20,
        "other": None,
    }
    site.engine.dispose()


def test_what_was_rolled_back_was_never_noted(site: Site) -> None:
    site.run("UPDATE things SET n = 100", "DELETE FROM pairs", rollback=True)

    assert site.notes() == []


def test_a_statement_that_fails_notes_nothing(site: Site) -> None:
    with pytest.raises(sql.exc.IntegrityError):
        site.run("INSERT INTO things (name, n) VALUES ('z', 1), ('b', 2)")

    assert site.notes() == []


def test_a_key_that_returns_has_a_higher_version_than_its_tombstone(site: Site) -> None:
    versions = []
    for n in range(3):
        site.run("DELETE FROM things WHERE id = 1")
        [gone] = site.pump()
        site.run(f"INSERT INTO things (id, name, n) VALUES (1, 'back', {n})")
        [back] = site.pump()
        versions += [gone.version, back.version]
        site.assert_equal()

    assert versions == sorted(set(versions))


def test_two_rows_that_swap_a_unique_value_are_both_right(site: Site) -> None:
    site.run(
        "UPDATE things SET name = 'tmp' WHERE name = 'a'",
        "UPDATE things SET name = 'a' WHERE name = 'b'",
        "UPDATE things SET name = 'b' WHERE name = 'tmp'",
    )

    site.pump()
    site.assert_equal()


def test_several_changes_of_a_row_are_one_event(site: Site) -> None:
    site.run(*["UPDATE things SET n = n + 1 WHERE id = 1"] * 5)

    assert len(site.notes()) == 5
    [event] = site.pump()
    assert event.data is not None
    assert event.data["n"] == 6


def test_the_id_that_the_site_asks_for_is_its_own(site: Site) -> None:
    """The outbox has automatic ids, too."""
    insert = "INSERT INTO things (name, n) VALUES ('d', 4)"
    ask = {
        "mysql": "SELECT LAST_INSERT_ID()",
        "sqlite": "SELECT last_insert_rowid()",
        "postgresql": "SELECT currval(pg_get_serial_sequence('things', 'id'))",
    }[site.dialect]
    with site.engine.begin() as connection:
        done = connection.exec_driver_sql(insert)
        assert done.rowcount == 1
        given = connection.exec_driver_sql(ask).scalar_one()
        right = connection.exec_driver_sql("SELECT id FROM things WHERE name = 'd'").scalar_one()
        if site.dialect != "postgresql":
            assert done.lastrowid == right
    assert given == right


@only("mariadb")
def test_an_insert_without_an_automatic_id_gives_none(site: Site) -> None:
    with site.engine.begin() as connection:
        done = connection.exec_driver_sql("INSERT INTO words VALUES ('ed', 3)")
        assert (done.lastrowid, done.rowcount) == (0, 1)
        done = connection.exec_driver_sql("UPDATE words SET n = 5 WHERE n < 3")
        assert done.rowcount == 2


@only("mariadb")
@pytest.mark.parametrize(
    "mode", ["", "STRICT_ALL_TABLES,ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES", "ORACLE"]
)
def test_whatever_the_sessions_mode_is_the_triggers_do_the_same(site: Site, mode: str) -> None:
    with site.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql(f"SET SESSION sql_mode = '{mode}'")
        connection.exec_driver_sql("SET NAMES latin1")
        connection.exec_driver_sql("INSERT INTO words VALUES ('caf\u00e9', 1)")
        connection.detach()

    site.pump()
    site.assert_equal()


@only("postgresql")
def test_whatever_the_sessions_settings_are_the_triggers_do_the_same(site: Site) -> None:
    with site.engine.connect() as connection, connection.begin():
        connection.exec_driver_sql("SET DateStyle = 'German'")
        connection.exec_driver_sql("SET search_path = pg_temp")
        connection.exec_driver_sql("INSERT INTO public.pairs VALUES ('new', '2024-12-24', NULL, 1)")
        connection.detach()

    assert site.notes() == [("pair", "new/2024-12-24")]
    site.pump()
    site.assert_equal()


@only("postgresql")
def test_a_role_of_the_site_needs_no_right_on_the_outbox(site: Site) -> None:
    site.run("CREATE ROLE visitor", "GRANT SELECT, UPDATE ON things TO visitor")
    try:
        site.run("SET LOCAL ROLE visitor", "UPDATE things SET n = 50 WHERE id = 1")
        site.pump()
        site.assert_equal()
    finally:
        site.run("DROP OWNED BY visitor", "DROP ROLE visitor")


@pytest.mark.parametrize("kind", ["mariadb"])
def test_bytes_that_are_no_text_do_not_fail_the_sites_statement(
    request: pytest.FixtureRequest, kind: str, clean_mongodb: Mongo, tmp_path: Path
) -> None:
    """A key of bytes that sync.yaml says are UTF-8, under a strict mode."""
    sync = """\
version: 1
entities:
  page:
    collection: pages
    source: {table: pages, key: title}
    fields: {title: {text: {stored: utf-8, column: binary}}}
"""
    site = Site(url_for(request, kind), clean_mongodb, tmp_path, sync)
    site.begin("CREATE TABLE pages (title VARBINARY(100) NOT NULL PRIMARY KEY, n INT)")
    site.run(
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES'",
        "INSERT INTO pages VALUES (X'FF41', 1), ('caf\u00e9', 2)",
        "UPDATE pages SET n = 3",
    )

    site.pump()
    assert site.keys("pages") == {"caf\u00e9"}
    site.engine.dispose()
