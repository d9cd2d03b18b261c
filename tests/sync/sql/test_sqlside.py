"""Reading an entity from the site's database, on every kind of database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway
from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.sync.documents import Mirror
from bridge.sync.models import File
from bridge.sync.sql.source import Chunk, SqlSource

PROJECTS = {"table": "projects", "key": "name", "version": "ver"}
RELEASES = {"table": "releases", "key": ["project", "version", "architecture"], "version": "ver"}


def mirror_of(**entities: Any) -> Mirror:
    """sync.yaml with these entities, each a source or an entity with one."""
    written: dict[str, Any] = {}
    for name, entity in entities.items():
        whole = entity if "source" in entity else {"source": entity}
        written[name] = {"collection": f"{name}s", **whole}
    return Mirror(File.model_validate({"version": 1, "entities": written}))


@pytest.fixture(scope="module", params=["sqlite", "mariadb", "postgresql"])
def database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A database of each kind for all tests here: to make one takes longer than most of them."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'site.sqlite'}"
        return
    server = request.getfixturevalue({"postgresql": "postgres"}.get(request.param, request.param))
    yield server.create_database("test_sqlside")
    server.drop_database("test_sqlside")


@pytest.fixture
def engine(database_url: str) -> Iterator[sql.Engine]:
    """An empty database of each kind."""
    made = connect(database_url)
    yield made
    tables = sql.MetaData()
    tables.reflect(made)
    tables.drop_all(made)
    made.dispose()


@pytest.fixture
def sqlite(tmp_path: Any) -> Iterator[sql.Engine]:
    """An empty SQLite, for what is the same on all."""
    made = connect(f"sqlite:///{tmp_path / 'site.sqlite'}")
    yield made
    made.dispose()


def run(engine: sql.Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def make_projects(engine: sql.Engine, *rows: tuple[str, int, str]) -> None:
    """A table of projects: name, ver, title."""
    run(
        engine,
        "CREATE TABLE projects (name VARCHAR(64) NOT NULL PRIMARY KEY, ver BIGINT NOT NULL, "
        "title VARCHAR(64))",
    )
    table = sql.table("projects", sql.column("name"), sql.column("ver"), sql.column("title"))
    if rows:
        with engine.begin() as connection:
            names = ("name", "ver", "title")
            connection.execute(
                sql.insert(table), [dict(zip(names, row, strict=True)) for row in rows]
            )


def make_releases(engine: sql.Engine, *rows: str) -> None:
    run(
        engine,
        "CREATE TABLE releases (project VARCHAR(64) NOT NULL, version VARCHAR(64) NOT NULL, "
        "architecture VARCHAR(64) NOT NULL, size BIGINT NOT NULL, ver BIGINT NOT NULL, "
        "PRIMARY KEY (project, version, architecture))",
        *(f"INSERT INTO releases VALUES ({row})" for row in rows),
    )


def walk(source: SqlSource, size: int) -> Iterator[Chunk]:
    position = None
    while (chunk := source.chunk(position, size)).last is not None:
        yield chunk
        position = chunk.last


def walked(source: SqlSource, size: int) -> list[Event]:
    return [event for chunk in walk(source, size) for event in chunk.events]


def test_a_row_becomes_the_event_of_its_state(engine: sql.Engine) -> None:
    """All columns but the version, under their own names."""
    make_projects(engine, ("vim", 7, "Vi, improved"))
    [event] = SqlSource(engine, "project", mirror_of(project=PROJECTS)).chunk(None, 10).events
    assert (event.entity, event.change, event.key, event.version) == (
        "project",
        "changed",
        "vim",
        7,
    )
    assert event.data == {"name": "vim", "title": "Vi, improved"}
    assert not event.rewrite


def test_chunks_meet_every_row_once(engine: sql.Engine) -> None:
    """Whatever the size of the chunks."""
    names = sorted(f"p{n:03}" for n in range(25))
    make_projects(engine, *((name, 1, "é") for name in names))
    source = SqlSource(engine, "project", mirror_of(project=PROJECTS))
    assert source.count() == 25
    for size in (1, 7, 25, 26):
        assert [event.key for event in walked(source, size)] == names


def test_chunks_of_a_composite_key_meet_every_row_once(engine: sql.Engine) -> None:
    """In the order of the columns, not of the joined text."""
    rows = [f"'{p}', '{v}', '{a}', 1, 1" for p in "abc" for v in ("1", "1/2", "2") for a in "xy"]
    make_releases(engine, *rows)
    source = SqlSource(engine, "release", mirror_of(release=RELEASES))
    expected = sorted(f"{p}/{v}/{a}" for p in "abc" for v in ("1", "1%2F2", "2") for a in "xy")
    for size in (1, 4, 18):
        assert sorted(event.key for event in walked(source, size)) == expected


def test_a_position_is_json(engine: sql.Engine) -> None:
    """So that it can be kept anywhere."""
    run(
        engine,
        "CREATE TABLE things (day DATE NOT NULL, price DECIMAL(9,2) NOT NULL, n INT NOT NULL, "
        "ver INT NOT NULL, PRIMARY KEY (day, price, n))",
        *(f"INSERT INTO things VALUES ('2024-01-0{n}', {n}.50, {n}, 1)" for n in range(1, 5)),
    )
    source = {"table": "things", "key": ["day", "price", "n"], "version": "ver"}
    reader = SqlSource(engine, "thing", mirror_of(thing=source))
    position, met = None, []
    while (chunk := reader.chunk(position, 1)).last is not None:
        position = json.loads(json.dumps(chunk.last))
        met += [event.key for event in chunk.events]
    assert len(met) == 4
    assert sorted(event.key for event in reader.rows_by_keys(met)[0]) == sorted(met)


def test_rows_are_found_by_their_key_text(engine: sql.Engine) -> None:
    """Each once, and what is not there is not given."""
    make_projects(engine, ("vim", 1, "a"), ("emacs", 2, "b"), ("ed", 3, "c"))
    source = SqlSource(engine, "project", mirror_of(project=PROJECTS))
    found = source.rows_by_keys(["vim", "nano", "ed", "ed"])[0]
    assert sorted((event.key, event.version) for event in found) == [("ed", 3), ("vim", 1)]


def test_keys_that_the_database_takes_for_equal_are_not_equal(engine: sql.Engine) -> None:
    """A collation of MySQL does not care for case or spaces at the end."""
    make_projects(engine, ("vim", 1, "a"))
    source = SqlSource(engine, "project", mirror_of(project=PROJECTS))
    assert source.rows_by_keys(["VIM", "vim ", "vım", "vim\0", "vim\udcff"])[0] == []


def test_numbers_are_found_by_their_digits_only(engine: sql.Engine) -> None:
    """`12x` is no number, though MySQL would take it for 12."""
    run(
        engine,
        "CREATE TABLE users (id BIGINT PRIMARY KEY, ver INT NOT NULL)",
        "INSERT INTO users VALUES (12, 1), (0, 1), (-5, 1)",
    )
    source = SqlSource(engine, "user", mirror_of(user=PROJECTS | {"table": "users", "key": "id"}))
    wrong = ["12x", "012", "12.0", " 12", "+12", "", "x", "9" * 30, "-0"]
    found = source.rows_by_keys(["12", "0", "-5", *wrong])[0]
    assert sorted(event.key for event in found) == ["-5", "0", "12"]
    assert source.rows_by_keys(wrong)[0] == []


def test_a_key_whose_parts_hold_slashes_is_found(engine: sql.Engine) -> None:
    """No two rows have the same text."""
    make_releases(engine, "'a/b', 'c', 'd', 1, 1", "'a', 'b/c', 'd', 2, 1", "'a', 'b', 'c', 3, 1")
    source = SqlSource(engine, "release", mirror_of(release=RELEASES))
    found = source.rows_by_keys(["a%2Fb/c/d", "a/b%2Fc/d", "a/b/c"])[0]
    assert sorted((event.key, event.data and event.data["size"]) for event in found) == [
        ("a%2Fb/c/d", 1),
        ("a/b%2Fc/d", 2),
        ("a/b/c", 3),
    ]


def test_of_a_key_that_no_row_can_have_nothing_is_known(engine: sql.Engine) -> None:
    """It is not among those that are not there."""
    make_releases(engine, "'a', 'b', 'c', 3, 1")
    source = SqlSource(engine, "release", mirror_of(release=RELEASES))
    there, unlookable, _ = source.existing(["a/b/c", "a/b", "a/b/c/d", "x/y/z"])
    assert there == {"a/b/c"}
    assert set(unlookable) == {"a/b", "a/b/c/d"}


def test_an_empty_table_has_no_keys(engine: sql.Engine) -> None:
    make_projects(engine)
    source = SqlSource(engine, "project", mirror_of(project=PROJECTS))
    assert source.rows_by_keys(["vim"])[0] == []
    assert source.chunk(None, 10) == Chunk([], [], None, 0)


def test_a_row_marked_as_deleted_is_a_deletion(engine: sql.Engine) -> None:
    """Whatever the column is: a number, or the moment of the deletion."""
    run(
        engine,
        "CREATE TABLE things (id INT PRIMARY KEY, ver INT NOT NULL, gone INT, gone_at TIMESTAMP "
        "NULL)",
        "INSERT INTO things VALUES (1, 1, 0, NULL), (2, 2, 1, '2024-01-02 03:04:05'), "
        "(3, 3, NULL, NULL)",
    )
    for column in ("gone", "gone_at"):
        source = {"table": "things", "key": "id", "version": "ver", "deleted": column}
        chunk = SqlSource(engine, "thing", mirror_of(thing=source)).chunk(None, 10)
        assert [event.change for event in chunk.events] == ["changed", "deleted", "changed"]
        assert chunk.events[1].data is None
        assert column not in (chunk.events[0].data or {})


def test_columns_can_be_chosen_and_renamed(engine: sql.Engine) -> None:
    """Field to column; the key column need not be among them."""
    make_projects(engine, ("vim", 1, "Vi"))
    source = PROJECTS | {"columns": {"label": "title", "also": "title"}}
    [event] = SqlSource(engine, "project", mirror_of(project=source)).rows_by_keys(["vim"])[0]
    assert event.data == {"label": "Vi", "also": "Vi"}


def test_a_query_can_be_the_source(engine: sql.Engine) -> None:
    """With a comment at its end, a colon, a percent sign and a semicolon."""
    make_projects(engine, ("vim", 1, "a:b"), ("ed", 2, "50%"))
    query = (
        "SELECT p.name AS n, p.ver, p.title FROM projects p "
        "WHERE p.title LIKE '%:b' OR p.title LIKE '50%' -- both :of them\n;"
    )
    source = {"query": query, "key": "n", "version": "ver"}
    reader = SqlSource(engine, "project", mirror_of(project=source))
    assert reader.count() == 2
    assert [event.data for event in walked(reader, 1)] == [
        {"n": "ed", "title": "50%"},
        {"n": "vim", "title": "a:b"},
    ]
    assert [event.version for event in reader.rows_by_keys(["vim"])[0]] == [1]


def test_values_become_what_json_has(engine: sql.Engine) -> None:
    """Dates as ISO 8601, decimals as text, bytes as base64."""
    blob = "BYTEA" if engine.dialect.name == "postgresql" else "BLOB"
    run(
        engine,
        f"CREATE TABLE things (id INT PRIMARY KEY, ver DECIMAL(20,0) NOT NULL, price DECIMAL(9,2), "
        f"day DATE, raw {blob})",
        "INSERT INTO things VALUES (1, 4, 12.50, '2024-01-02', 'abc')",
    )
    source = {"table": "things", "key": "id", "version": "ver"}
    [event] = SqlSource(engine, "thing", mirror_of(thing=source)).chunk(None, 5).events
    price: Any = 12.5 if engine.dialect.name == "sqlite" else "12.50"
    assert event.version == 4
    assert event.data == {"id": 1, "price": price, "day": "2024-01-02", "raw": "YWJj"}


PARENT = {
    "source": PROJECTS,
    "children": {"releases": {"entity": "release", "key": ["version", "architecture"]}},
}


def test_an_entity_comes_with_its_children(engine: sql.Engine) -> None:
    """In the order of their key; an empty list where there are none."""
    make_projects(engine, ("ed", 1, "a"), ("vim", 2, "b"))
    make_releases(
        engine, "'vim', '2', 'arm', 5, 9", "'vim', '1', 'x86', 6, 9", "'vi', '1', 'x', 0, 1"
    )
    mirror = mirror_of(project=PARENT, release=RELEASES)
    ed, vim = SqlSource(engine, "project", mirror).chunk(None, 10).events
    assert ed.data == {"name": "ed", "title": "a", "releases": []}
    assert vim.data
    assert vim.data["releases"] == [
        {"project": "vim", "version": "1", "architecture": "x86", "size": 6},
        {"project": "vim", "version": "2", "architecture": "arm", "size": 5},
    ]
    assert len(mirror.prepare(vim).children) == 2
    assert SqlSource(engine, "project", mirror).rows_by_keys(["vim"])[0][0].data == vim.data


def test_children_marked_as_deleted_are_left_out(engine: sql.Engine) -> None:
    make_projects(engine, ("vim", 2, "b"))
    make_releases(engine, "'vim', '1', 'x86', 6, 9", "'vim', '2', 'x86', 6, 9")
    run(
        engine,
        "ALTER TABLE releases ADD gone INT",
        "UPDATE releases SET gone = 1 WHERE version = '2'",
    )
    mirror = mirror_of(project=PARENT, release=RELEASES | {"deleted": "gone"})
    [vim] = SqlSource(engine, "project", mirror).chunk(None, 10).events
    assert vim.data
    assert [one["version"] for one in vim.data["releases"]] == ["1"]


def test_children_are_of_the_moment_of_their_parent(engine: sql.Engine) -> None:
    """An edit that is committed between the two questions is in neither of them."""
    make_projects(engine, ("vim", 1, "b"))
    make_releases(engine, "'vim', '1', 'x86', 6, 9")
    if engine.dialect.name == "sqlite":
        run_raw(engine, "PRAGMA journal_mode = WAL")
    writer = connect(str(engine.url.render_as_string(hide_password=False)))
    asked: list[str] = []

    def edit_once(
        connection: Any, cursor: Any, statement: str, values: Any, context: Any, many: bool
    ) -> None:
        if "FROM releases" in statement and "LIMIT" not in statement and not asked:
            asked.append(statement)
            run(
                writer,
                "UPDATE projects SET ver = 2",
                "INSERT INTO releases VALUES ('vim', '2', 'x86', 6, 9)",
            )

    sql.event.listen(engine, "before_cursor_execute", edit_once)
    source = SqlSource(engine, "project", mirror_of(project=PARENT, release=RELEASES))
    [before] = source.chunk(None, 10).events
    [after] = source.chunk(None, 10).events
    writer.dispose()
    found = [(e.version, len((e.data or {})["releases"])) for e in (before, after)]
    assert asked
    assert found == [(1, 1), (2, 2)]


def run_raw(engine: sql.Engine, statement: str) -> None:
    raw = engine.raw_connection()
    raw.cursor().execute(statement)
    raw.close()


def test_children_belong_to_whom_the_database_says(mariadb_url: str) -> None:
    """A foreign key of a case-insensitive collation takes VIM for vim, and so does PHP's query."""
    engine = connect(mariadb_url)
    make_projects(engine, ("ed", 1, "a"), ("vim", 2, "b"))
    make_releases(engine, "'VIM', '1', 'x86', 6, 9", "'ed', '1', 'x86', 6, 9")
    mirror = mirror_of(project=PARENT, release=RELEASES)
    chunk = SqlSource(engine, "project", mirror).chunk(None, 10)
    engine.dispose()
    found = {event.key: len((event.data or {})["releases"]) for event in chunk.events}
    assert found == {"ed": 1, "vim": 1}


def test_a_composite_parent_has_children_too(engine: sql.Engine) -> None:
    run(
        engine,
        "CREATE TABLE a (x INT, y INT, ver INT, PRIMARY KEY (x, y))",
        "CREATE TABLE b (x INT, y INT, n INT, ver INT, PRIMARY KEY (x, y, n))",
        "INSERT INTO a VALUES (1, 1, 1), (1, 2, 1), (2, 1, 1)",
        "INSERT INTO b VALUES (1, 2, 7, 1), (2, 1, 8, 1), (2, 1, 9, 1), (2, 2, 9, 1)",
    )
    mirror = mirror_of(
        a={
            "source": {"table": "a", "key": ["x", "y"], "version": "ver"},
            "children": {"bs": {"entity": "b", "key": "n"}},
        },
        b={"table": "b", "key": ["x", "y", "n"], "version": "ver"},
    )
    events = walked(SqlSource(engine, "a", mirror), 2)
    assert {e.key: [b["n"] for b in (e.data or {})["bs"]] for e in events} == {
        "1/1": [],
        "1/2": [7],
        "2/1": [8, 9],
    }


def test_a_row_without_a_version_is_a_bad_one_and_harms_no_other(engine: sql.Engine) -> None:
    """It is given as JSON, with the reason."""
    run(
        engine,
        "CREATE TABLE projects (name VARCHAR(64) NOT NULL PRIMARY KEY, ver BIGINT)",
        "INSERT INTO projects VALUES ('a', 1), ('b', NULL), ('c', -3), ('', 1), ('z', 1)",
    )
    chunk = SqlSource(engine, "project", mirror_of(project=PROJECTS)).chunk(None, 10)
    assert [event.key for event in chunk.events] == ["", "a", "z"]
    assert sorted(bad.key for bad in chunk.bad) == ["b", "c"]
    [b] = [bad for bad in chunk.bad if bad.key == "b"]
    assert b.raw == b'{"name":"b"}'
    assert "projects: the version is 'None'" in b.error


def test_rows_without_a_key_are_bad_ones_of_the_first_chunk(engine: sql.Engine) -> None:
    """They have no place in the order."""
    run(
        engine,
        "CREATE TABLE projects (name VARCHAR(64), ver BIGINT)",
        "INSERT INTO projects VALUES ('a', 1), (NULL, 1), ('b', 1)",
    )
    source = SqlSource(engine, "project", mirror_of(project=PROJECTS))
    chunks = list(walk(source, 1))
    assert [[event.key for event in chunk.events] for chunk in chunks] == [["a"], ["b"]]
    assert [bad.error for chunk in chunks for bad in chunk.bad] == [
        "projects: a key column is NULL"
    ]


def test_text_that_is_no_utf8_makes_a_bad_row_and_the_walk_goes_on(sqlite: sql.Engine) -> None:
    """SQLite keeps any bytes as text; in a field they stay what they are."""
    run(
        sqlite,
        "CREATE TABLE projects (name TEXT PRIMARY KEY, ver INT, title TEXT)",
        "INSERT INTO projects VALUES ('a', 1, CAST(x'ff' AS TEXT)), (CAST(x'62ff' AS TEXT), 1, ''),"
        "('c', 1, 'good')",
    )
    chunks = list(walk(SqlSource(sqlite, "project", mirror_of(project=PROJECTS)), 1))
    assert [event.key for chunk in chunks for event in chunk.events] == ["a", "c"]
    assert [bad.raw for chunk in chunks for bad in chunk.bad] == [b'{"name":"b\xff","title":""}']


def test_a_missing_table_is_named_with_what_to_write(engine: sql.Engine) -> None:
    source = SqlSource(engine, "project", mirror_of(project=PROJECTS))
    with pytest.raises(BridgeError, match=r"entity project: projects cannot be read.*source: tab"):
        source.chunk(None, 1)


def test_a_missing_column_is_named_with_those_that_are_there(engine: sql.Engine) -> None:
    make_projects(engine)
    for key, wrong in (("key", "nam"), ("version", "vers"), ("deleted", "gone")):
        source = SqlSource(engine, "project", mirror_of(project=PROJECTS | {key: wrong}))
        match = rf"projects has no column {wrong}; .*name, ver, title. Write in sync.yaml .*{key}:"
        with pytest.raises(BridgeError, match=match):
            source.count()


def test_a_key_that_mysql_sorts_otherwise_than_it_compares_is_read_as_text(
    mariadb_url: str,
) -> None:
    """Rows would be passed over. Of a query nobody knows the type; it is refused there."""
    engine = connect(mariadb_url)
    run(
        engine,
        "CREATE TABLE kinds (k ENUM('z', 'b', 'a') PRIMARY KEY, ver INT NOT NULL)",
        "INSERT INTO kinds VALUES ('a', 1), ('b', 1), ('z', 1)",
    )
    source = {"key": "k", "version": "ver"}
    query = {"query": "SELECT * FROM kinds"}
    with pytest.raises(BridgeError, match=r"the key column k of .* is an ENUM or a SET.*CAST"):
        SqlSource(engine, "kind", mirror_of(kind=source | query)).count()
    for place in ({"table": "kinds"}, {"query": "SELECT CAST(k AS CHAR) AS k, ver FROM kinds"}):
        reader = SqlSource(engine, "kind", mirror_of(kind=source | place))
        assert [event.key for event in walked(reader, 1)] == ["a", "b", "z"]
    engine.dispose()


def test_a_wrong_query_is_an_error_of_sync_yaml(engine: sql.Engine) -> None:
    wrong = {"query": "SELEC 1", "key": "a", "version": "b"}
    with pytest.raises(BridgeError, match="the query of thing cannot be read"):
        SqlSource(engine, "thing", mirror_of(thing=wrong)).count()


def test_a_database_that_is_away_is_told_apart_from_a_wrong_file() -> None:
    engine = connect("mysql://root@127.0.0.1:1/none")
    with pytest.raises(ServerAway, match="the SQL database"):
        SqlSource(engine, "project", mirror_of(project=PROJECTS)).count()


def test_an_entity_without_a_source_says_what_to_write() -> None:
    engine = connect("sqlite://")
    mirror = Mirror(
        File.model_validate({"version": 1, "entities": {"project": {"collection": "projects"}}})
    )
    with pytest.raises(BridgeError, match=r"entity project has no source: write in sync\.yaml"):
        SqlSource(engine, "project", mirror)
    with pytest.raises(BridgeError, match=r"sync\.yaml has no entity user; it has: project"):
        SqlSource(engine, "user", mirror)


def test_reading_waits_for_no_writer_and_no_writer_waits(engine: sql.Engine) -> None:
    """Neither the site nor the snapshot may stop the other."""
    make_projects(engine, ("vim", 1, "a"))
    make_releases(engine, "'vim', '1', 'x86', 6, 9")
    if engine.dialect.name == "sqlite":
        run_raw(engine, "PRAGMA journal_mode = WAL")
    source = SqlSource(engine, "project", mirror_of(project=PARENT, release=RELEASES))
    other = connect(str(engine.url.render_as_string(hide_password=False)))
    with other.begin() as connection:
        connection.exec_driver_sql("UPDATE projects SET ver = 2 WHERE name = 'vim'")
        assert [event.version for event in source.chunk(None, 10).events] == [1]
    assert [event.version for event in source.chunk(None, 10).events] == [2]
    other.dispose()
