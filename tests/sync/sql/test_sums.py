"""The keys and versions of SQL's rows, and their sums: as the database and as Python count them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from bridge.queue.sql.database import connect
from bridge.sync.checksums import BUCKETS, Sums, bucket_of
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.sql.source import SqlSource
from bridge.sync.sql.sums import KeyedRows


def sums_of(rows: dict[str, int]) -> Sums:
    sums = Sums()
    for key, version in rows.items():
        sums.add(key, version)
    return sums


SYNC = """\
version: 1
entities:
  text: {collection: texts, source: {table: texts, key: name, version: ver, deleted: gone}}
  number: {collection: numbers, source: {table: numbers, key: [a, b], version: ver}}
  asked:
    collection: asked
    source: {query: "SELECT a, b, ver FROM numbers -- all", key: [a, b], version: ver}
  money: {collection: money, source: {table: money, key: amount, version: ver}}
  parent:
    collection: parents
    source: {table: parents, key: name, version: ver, deleted: gone}
    children: {members: {entity: member, key: id}}
  member:
    collection: members
    source: {table: members, key: [parent, id], version: id, deleted: gone}
"""
NAMES = [
    "vim",
    "Été",
    "日本語",
    "a/b",
    "'; --",
    "back\\slash",
    "100%",
    "smile 😀",
    "x y",
    "%(a)s :b",
]


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sql.Engine]:
    fixture = {"mariadb": "mariadb_url", "postgresql": "postgres_url"}.get(request.param)
    url = request.getfixturevalue(fixture) if fixture else f"sqlite:///{tmp_path / 'site.sqlite'}"
    engine = connect(url)
    binary = " COLLATE utf8mb4_bin" if request.param == "mariadb" else ""
    with engine.begin() as connection:
        for words in (
            f"CREATE TABLE texts (name VARCHAR(99){binary} PRIMARY KEY, ver BIGINT, gone SMALLINT)",
            "CREATE TABLE numbers (a INTEGER, b INTEGER, ver BIGINT, PRIMARY KEY (a, b))",
            "CREATE TABLE money (amount DECIMAL(8,2) PRIMARY KEY, ver BIGINT)",
            "CREATE TABLE parents (name VARCHAR(20) PRIMARY KEY, ver BIGINT, gone TIMESTAMP NULL)",
            "CREATE TABLE members (parent VARCHAR(20), id INTEGER, gone SMALLINT, "
            "PRIMARY KEY (parent, id))",
        ):
            connection.execute(sql.text(words))
    yield engine
    engine.dispose()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    (tmp_path / "sync.yaml").write_text(SYNC)
    return Mirror(load(tmp_path / "sync.yaml"))


def insert(engine: sql.Engine, table: str, rows: list[tuple[Any, ...]]) -> None:
    names = [f"v{n}" for n in range(len(rows[0]))]
    words = sql.text(f"INSERT INTO {table} VALUES ({', '.join(f':{name}' for name in names)})")
    with engine.begin() as connection:
        connection.execute(words, [dict(zip(names, row, strict=True)) for row in rows])


def check(engine: sql.Engine, mirror: Mirror, name: str, expected: dict[str, int]) -> None:
    """Sums, keys and states of an entity, in chunks of several sizes."""
    for chunk in (3, 1000):
        rows = KeyedRows(engine, name, mirror)
        found = rows.sums(chunk=chunk)
        assert found.rows == len(expected)
        assert found.differing(sums_of(expected)) == []
        some = frozenset(bucket_of(key) for key in list(expected)[::2])
        listed = {one.key: one.version for one in rows.keys(some, chunk=chunk)}
        assert listed == {key: v for key, v in expected.items() if bucket_of(key) in some}
    told, _ = rows.states([*expected, "nobody", "1/2/3", ""])
    assert {key: one.state.version for key, one in told.items() if one.state.alive} == expected


def test_text_keys_are_summed_up_as_python_does(engine: sql.Engine, mirror: Mirror) -> None:
    rows = [(name, n * 10**17, 0 if n % 3 else None) for n, name in enumerate(NAMES)]
    insert(engine, "texts", [*rows, ("gone", 5, 1)])

    check(engine, mirror, "text", {name: version for name, version, _ in rows})


def test_composite_keys_of_numbers_are_summed_up_as_python_does(
    engine: sql.Engine, mirror: Mirror
) -> None:
    rows = [(a, b, a * b + 1000) for a in (-12, 0, 7, 123456) for b in (0, 1, 10, 2)]
    insert(engine, "numbers", rows)
    expected = {f"{a}/{b}": version for a, b, version in rows}

    check(engine, mirror, "number", expected)
    check(engine, mirror, "asked", expected)


def test_keys_that_only_python_can_write_are_read(engine: sql.Engine, mirror: Mirror) -> None:
    insert(engine, "money", [("1.25", 1), ("12.75", 2)])

    check(engine, mirror, "money", {"1.25": 1, "12.75": 2})


def test_children_have_the_version_of_their_parent(engine: sql.Engine, mirror: Mirror) -> None:
    insert(engine, "parents", [("a", 3, None), ("b", 9, None), ("gone", 4, "2026-01-01 00:00:00")])
    members = [("a", 1, 0), ("a", 2, 1), ("b", 1, 0), ("gone", 1, 0), ("nobody", 1, 0)]
    insert(engine, "members", members)

    check(engine, mirror, "parent", {"a": 3, "b": 9})
    check(engine, mirror, "member", {"a/1": 3, "b/1": 9})


def test_an_empty_table_has_empty_sums(engine: sql.Engine, mirror: Mirror) -> None:
    check(engine, mirror, "text", {})
    check(engine, mirror, "number", {})


def test_there_are_as_many_buckets_as_three_digits_have_values() -> None:
    assert max(bucket_of(str(n)) for n in range(50_000)) == BUCKETS - 1


COLUMNS = {
    "mariadb": {
        "VARCHAR(20) CHARACTER SET latin1": ["vim", "Été", "x y"],
        "CHAR(10)": ["vim", "a b"],
        "INT UNSIGNED ZEROFILL": [7, 12],
        "BIGINT UNSIGNED": [7, 2**63 - 1],
        "TINYINT(1)": [0, 1],
        "VARBINARY(20)": [b"vim", "é".encode()],
        "DATE": ["2026-01-31", "2026-02-01"],
        "DATETIME(3)": ["2026-01-31 10:00:00", "2026-01-31 10:00:00.250"],
        "DECIMAL(20,0)": ["7", "12345678901234567890"],
        "DOUBLE": [1.5, 7],
    },
    "postgresql": {
        "CHAR(10)": ["vim", "a b"],
        "UUID": ["00000000-0000-0000-0000-0000000000aa"],
        "TIMESTAMP": ["2026-01-31 10:00:00", "2026-01-31 10:00:00.25"],
        "NUMERIC(20,2)": ["7.10", "12345678.90"],
        "SMALLINT": [7, -3],
        "TEXT": ["vim", "Été"],
    },
}


@pytest.mark.parametrize("engine", ["mariadb", "postgresql"], indirect=True)
def test_keys_of_every_type_are_the_keys_of_the_events(engine: sql.Engine, mirror: Mirror) -> None:
    server = "postgresql" if engine.dialect.name == "postgresql" else "mariadb"
    for kind, values in COLUMNS[server].items():
        engine.dispose()  # the driver remembers the types of a statement
        with engine.begin() as connection:
            connection.execute(sql.text("DROP TABLE texts"))
            words = f"CREATE TABLE texts (name {kind} PRIMARY KEY, ver BIGINT, gone SMALLINT)"
            connection.execute(sql.text(words))
        insert(engine, "texts", [(value, n, 0) for n, value in enumerate(values)])
        mirror.learn("text", None)
        events = SqlSource(engine, "text", mirror).chunk(None, 100).events

        assert len(events) == len(values), kind
        check(engine, mirror, "text", {event.key: event.version for event in events})


@pytest.mark.parametrize("engine", ["mariadb", "postgresql"], indirect=True)
def test_the_database_itself_sums_up_texts_and_numbers(engine: sql.Engine, mirror: Mirror) -> None:
    for name in ("text", "number", "money", "parent", "member"):
        assert KeyedRows(engine, name, mirror)._look().server
    assert not KeyedRows(engine, "asked", mirror)._look().server
