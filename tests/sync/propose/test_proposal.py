"""A proposal of real tables: what their rows say, and that the mirror takes it as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.queue.sql.database import connect, reading
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.propose.draft import Draft
from bridge.sync.propose.proposal import Proposal, ProposalOptions, propose
from bridge.sync.propose.written import written
from bridge.sync.sql.learn import learn

MIXED = ["grün".encode(), b"gr\xfcn"]


@pytest.fixture(params=["mariadb_url", "postgres_url", "sqlite"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sql.Engine]:
    """An empty database of each kind."""
    url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    if request.param != "sqlite":
        url = request.getfixturevalue(request.param)
    made = connect(url)
    yield made
    made.dispose()


@pytest.fixture
def mariadb_engine(mariadb_url: str) -> Iterator[sql.Engine]:
    """An empty database of MariaDB."""
    made = connect(mariadb_url)
    yield made
    made.dispose()


def run(engine: sql.Engine, *statements: Any, **values: Any) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sql.text(statement), values)


def entity(found: Proposal, name: str) -> Draft:
    [one] = [one for one in found.entities if one.name == name]
    return one


def kinds(one: Draft) -> set[str]:
    return {note.kind for note in one.notes} - {"rows"}


def fill(engine: sql.Engine, table: str, column: str, values: list[bytes]) -> None:
    """A row for each of these bytes, as they are."""
    with engine.begin() as connection:
        for number, raw in enumerate(values, 1):
            text = f"INSERT INTO {table} (id, {column}) VALUES ({number}, X'{raw.hex()}')"
            if engine.dialect.name == "postgresql":
                text = text.replace("X'", r"'\x")
            connection.exec_driver_sql(text)


def test_what_is_proposed_fits_the_database_it_is_of(engine: sql.Engine, tmp_path: Path) -> None:
    """Keys, indexes, and columns that no field can be called as."""
    run(
        engine,
        "CREATE TABLE people (id INTEGER PRIMARY KEY, nick VARCHAR(50) NOT NULL UNIQUE)",
        'CREATE TABLE "Odd names" (_id INTEGER PRIMARY KEY, "a.b" INTEGER, "$c" INTEGER)'.replace(
            '"', "`" if engine.dialect.name == "mysql" else '"'
        ),
        "CREATE TABLE visits (person INTEGER NOT NULL, day DATE NOT NULL, hits INTEGER, "
        "PRIMARY KEY (person, day), FOREIGN KEY (person) REFERENCES people (id))",
        "CREATE TABLE log (line VARCHAR(50))",
    )

    found = propose(engine, [], ProposalOptions())

    (tmp_path / "sync.yaml").write_text(written(found, "there"), encoding="utf-8")
    mirror = Mirror(load(tmp_path / "sync.yaml"))
    with reading(engine) as connection:
        types = {name: learn(connection, mirror, name) for name in mirror.entities}
    assert set(types) == {"people", "odd_names", "visits"}
    assert entity(found, "people").said["indexes"] == [{"fields": ["nick"], "unique": True}]
    assert entity(found, "visits").said["source"]["key"] == ["person", "day"]
    columns = entity(found, "odd_names").said["source"]["columns"]
    assert columns == {"id": "_id", "a_b": "a.b", "c": "$c"}
    assert [(one.table, one.note.kind) for one in found.left_out] == [("log", "no-key")]


def test_a_table_that_is_named_and_not_there_is_told_with_the_nearest(engine: sql.Engine) -> None:
    """A typing error is the most likely cause."""
    run(engine, "CREATE TABLE people (id INTEGER PRIMARY KEY)")
    with pytest.raises(BridgeError, match="no table peple: did you mean `people`"):
        propose(engine, ["peple"], ProposalOptions())
    assert [one.name for one in propose(engine, ["people"], ProposalOptions()).entities] == [
        "people"
    ]


def test_bytes_that_are_text_are_found(engine: sql.Engine) -> None:
    """By all of their values; one that is none is enough against it."""
    kind = {"mysql": "BLOB", "sqlite": "BLOB"}.get(engine.dialect.name, "BYTEA")
    texts = [f"Grüße aus der Stadt {n}".encode() for n in range(9)]
    for name, values in (
        ("letters", texts), ("pictures", [*texts, b"\x89PNG\r\n\x1a\n\0\0\0"]),
        ("few", [b"\x41\x42\x43\x44"]), ("empty", []),
    ):  # fmt: skip
        run(engine, f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, body {kind})")
        fill(engine, name, "body", values)

    found = propose(engine, [], ProposalOptions())

    assert entity(found, "letters").said["fields"] == {
        "body": {"text": {"stored": "utf-8", "column": "binary"}}
    }
    for name in ("pictures", "few", "empty"):
        assert "fields" not in entity(found, name).said
    assert kinds(entity(found, "few")) == kinds(entity(found, "pictures")) == {"charset"}


@pytest.mark.parametrize(
    ("values", "proposed", "told"),
    [
        (["grün".encode(), b"plain"], True, {"charset"}),
        ([b"gr\xfcn", b"plain"], False, set()),
        (MIXED, False, {"charset"}),
        (["grün".encode()] * 9 + [b"gr\xfcn"], True, {"charset"}),
        ([b"plain"], False, set()),
    ],
)
def test_utf8_in_latin1_columns_is_found(
    mariadb_engine: sql.Engine, values: list[bytes], *, proposed: bool, told: set[str]
) -> None:
    """Where nine of ten texts that are not ASCII are; a mixture is told."""
    run(mariadb_engine, "CREATE TABLE t (id INT PRIMARY KEY, body VARCHAR(90)) CHARSET latin1")
    fill(mariadb_engine, "t", "body", values)

    [one] = propose(mariadb_engine, [], ProposalOptions()).entities

    wanted = {"fields": {"body": {"text": {"stored": "utf-8", "column": "latin1"}}}}
    assert {name: one.said[name] for name in one.said if name == "fields"} == (
        wanted if proposed else {}
    )
    assert kinds(one) == told


def test_the_newest_rows_are_looked_at_too(mariadb_engine: sql.Engine) -> None:
    """What a program writes today need not be what it wrote in 2005."""
    run(
        mariadb_engine,
        "CREATE TABLE t (id INT PRIMARY KEY, body VARCHAR(90)) CHARSET latin1",
        "INSERT INTO t SELECT seq, 'plain' FROM seq_1_to_3000",
        "UPDATE t SET body = X'6772C3BC6E' WHERE id > 2990",
    )
    [one] = propose(mariadb_engine, [], ProposalOptions(rows=1000)).entities
    assert "fields" in one.said
    [rows] = [note.text for note in one.notes if note.kind == "rows"]
    assert rows.startswith("its first and newest 2,000 of about")
    [one] = propose(mariadb_engine, [], ProposalOptions(rows=0)).entities
    assert "fields" not in one.said
    assert not one.notes


def test_dates_and_values_that_do_not_fit_are_counted(mariadb_engine: sql.Engine) -> None:
    """With an example, and what becomes of them."""
    run(
        mariadb_engine,
        "SET SESSION sql_mode = ''",
        "CREATE TABLE t (id INT PRIMARY KEY, born DATETIME NOT NULL, seen TIMESTAMP NULL)",
        "INSERT INTO t VALUES (1, 0, NULL), (2, '2005-03-00', '2005-03-01'), (3, '2005-03-01', 0)",
    )
    found = propose(mariadb_engine, [], ProposalOptions())
    texts = [note.text for note in found.entities[0].notes if note.kind in ("zero-date", "misfit")]
    assert any("`born`: 1 of 3 are zero dates" in text for text in texts)
    assert any(
        "`born`: 1 of 3 values do not fit" in text and "2005-03-00" in text for text in texts
    )
    assert found.timestamps == {"t": ["seen"]}
    assert "# zone: Europe/Berlin" in written(found, "there")


def test_rows_that_are_larger_than_a_document_raise_the_limit(engine: sql.Engine) -> None:
    """The file says so, and the next worker takes them."""
    kind = "LONGTEXT" if engine.dialect.name == "mysql" else "TEXT"
    run(engine, f"CREATE TABLE t (id INTEGER PRIMARY KEY, body {kind})")
    run(engine, "INSERT INTO t VALUES (1, :body)", body="x" * 1_200_000)
    found = propose(engine, [], ProposalOptions())
    assert "max_document: 16MiB" in written(found, "there")
    assert kinds(found.entities[0]) == {"large"}


def test_engines_cascades_and_caches_are_told(mariadb_engine: sql.Engine) -> None:
    """What a trigger does not see, or a crash tears apart."""
    run(
        mariadb_engine,
        "CREATE TABLE p (id INT PRIMARY KEY, version INT NOT NULL, user_password VARCHAR(9))",
        "CREATE TABLE c (id INT PRIMARY KEY, p INT, "
        "FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
        "CREATE TABLE object_cache (id INT PRIMARY KEY) ENGINE=MyISAM",
    )
    found = propose(mariadb_engine, [], ProposalOptions())
    assert kinds(entity(found, "p")) == {"version", "secret"}
    assert kinds(entity(found, "c")) == {"cascade"}
    assert kinds(entity(found, "object_cache")) == {"engine", "churn"}


def test_for_the_log_only_what_the_log_does_not_show_is_told(mariadb_engine: sql.Engine) -> None:
    """And not what is so with triggers, or with rows that PHP sends."""
    run(
        mariadb_engine,
        "CREATE TABLE p (id INT PRIMARY KEY, version INT NOT NULL, seen TIMESTAMP NULL)",
        "CREATE TABLE c (id INT PRIMARY KEY, p INT, "
        "FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
        "CREATE TABLE words (id INT PRIMARY KEY) ENGINE=MyISAM",
        "CREATE TABLE loose (line VARCHAR(50))",
        "CREATE TABLE halves (half FLOAT PRIMARY KEY)",
    )
    found = propose(mariadb_engine, [], ProposalOptions(log=True))
    assert kinds(entity(found, "p")) == set()
    [cascade] = [note.text for note in entity(found, "c").notes if note.kind == "cascade"]
    assert cascade.startswith("rows change with those of p (ON DELETE CASCADE), which the log")
    assert kinds(entity(found, "words")) == {"engine"}
    assert {one.table: one.note.kind for one in found.left_out} == {
        "loose": "no-key", "halves": "no-key",
    }  # fmt: skip
    text = written(found, "there")
    assert not re.search("query:|zone:|trigger|outbox", text)


def test_types_without_a_rule_are_dropped_and_full_text_is_no_index(
    mariadb_engine: sql.Engine,
) -> None:
    """Geometry has none."""
    run(
        mariadb_engine,
        "CREATE TABLE t (id INT PRIMARY KEY, place GEOMETRY NOT NULL, body TEXT, "
        "SPATIAL INDEX (place), FULLTEXT INDEX (body), INDEX (body(20)))",
    )
    [one] = propose(mariadb_engine, [], ProposalOptions()).entities
    assert one.said["drop"] == ["place"]
    assert "indexes" not in one.said


def test_odd_types_of_postgresql_are_proposed(postgres_url: str) -> None:
    """Those that no index of MongoDB can have are left without one."""
    engine = connect(postgres_url)
    try:
        run(
            engine,
            "CREATE TYPE mood AS ENUM ('sad', 'ok')",
            "CREATE DOMAIN word AS VARCHAR(20) NOT NULL",
            "CREATE TABLE t (id UUID PRIMARY KEY, tags TEXT[], m mood, w word, span INT4RANGE, "
            "net INET, body JSONB, words TSVECTOR, at TIMESTAMPTZ(6) NOT NULL UNIQUE, p POINT)",
            "CREATE INDEX ON t USING gin (tags)",
            "CREATE INDEX ON t USING gist (span)",
            "CREATE INDEX ON t (lower(w))",
            "CREATE UNIQUE INDEX ON t (w) WHERE m = 'ok'",
            "INSERT INTO t VALUES ('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{a}', 'ok', 'x', "
            "'[1,3)', '10.0.0.1/8', '{\"a\": 1}', 'a b', 'infinity', '(1,2)')",
        )
        [one] = propose(engine, [], ProposalOptions()).entities
    finally:
        engine.dispose()
    assert one.said["indexes"] == ["at", "w"]
    assert "drop" not in one.said
    assert kinds(one) == {"misfit"}
