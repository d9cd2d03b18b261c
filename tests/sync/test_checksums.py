"""Sums of keys and versions: the same from every side, and different for every difference."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st

from bridge.queue.sql.database import connect
from bridge.sync.checksums import (
    BUCKETS,
    NO_VERSION,
    Sums,
    add_all,
    alive,
    bucket_of,
    is_dead,
    is_text,
    listed,
    of_cursor,
    sum_of,
    version_in,
)
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.sql.source import SqlSource
from bridge.sync.sql.sums import KeyedRows

KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
ROWS = st.dictionaries(KEYS, st.integers(0, 2**63 - 1), max_size=30)


def sums_of(rows: dict[str, int]) -> Sums:
    sums = Sums()
    for key, version in rows.items():
        sums.add(key, version)
    return sums


def test_the_sums_are_those_of_md5() -> None:
    # printf vim | md5sum; printf 'vim\n7' | md5sum
    assert bucket_of("vim") == 0xF89
    assert sum_of("vim", 7) == 0x5D4922BC9063


@given(rows=ROWS, data=st.data())
def test_every_single_difference_shows(rows: dict[str, int], data: st.DataObject) -> None:
    key = data.draw(KEYS)
    other = dict(rows)
    if key in other and data.draw(st.booleans()):
        del other[key]
    else:
        version = data.draw(st.integers(0, 2**63 - 1).filter(lambda v: v != rows.get(key)))
        other[key] = version

    assert sums_of(rows).differing(sums_of(other)) == [bucket_of(key)]


@given(rows=ROWS)
def test_the_order_of_the_rows_does_not_matter(rows: dict[str, int]) -> None:
    other = dict(reversed(rows.items()))
    assert sums_of(rows).differing(sums_of(other)) == []


def test_two_rows_that_are_one_version_behind_cancel_out_with_crcs_and_not_here() -> None:
    def crcs(rows: dict[str, int]) -> int:
        """The sum that would be simpler, and does not work."""
        found = 0
        for key, version in rows.items():
            found ^= zlib.crc32(f"{key}\n{version}".encode())
        return found

    in_sql = {"aaa": 5, "bbb": 5}
    in_mongodb = {"aaa": 4, "bbb": 4}

    assert crcs(in_sql) == crcs(in_mongodb)
    assert sum(map(sum_of, *zip(*in_sql.items(), strict=True))) != sum(
        map(sum_of, *zip(*in_mongodb.items(), strict=True))
    )
    assert sums_of(in_sql).differing(sums_of(in_mongodb))


def test_documents_without_a_usable_version_are_below_every_version() -> None:
    for wrong in ({}, {"_v": None}, {"_v": "7"}, {"_v": True}, {"_v": 1.5}):
        assert version_in(wrong) == NO_VERSION
    assert version_in({"_v": 7.0}) == 7


def test_documents_with_other_ids_than_text_are_set_apart() -> None:
    foreign: list[Any] = []
    found = list(of_cursor([{"_id": 1, "_v": 1}, {"_id": "a", "_v": 2}], 10, foreign.append))
    assert found == [[("a", 2)]]
    assert foreign == [1]


def test_the_first_and_the_last_bucket_are_compared_like_the_others() -> None:
    for bucket in (0, 1, BUCKETS - 1):
        for count, total in ((1, 0), (0, 1), (1, 1)):
            sums = Sums()
            sums.add_bucket(bucket, count, total)
            assert sums.differing(Sums()) == Sums().differing(sums) == [bucket]
            assert sums.rows == count
            sums.add_bucket(bucket, count, total)
            assert (sums.counts[bucket], sums.sums[bucket]) == (2 * count, 2 * total)


def test_keys_that_are_no_utf_8_have_a_bucket_and_a_sum_too() -> None:
    assert bucket_of("\udcff") == bucket_of(b"\xff".decode("utf-8", "surrogateescape"))
    assert sum_of("\udcff", 1) != sum_of("\udcfe", 1)


def test_a_row_is_listed_as_it_is_summed_up() -> None:
    found = listed("vim", 7, "odd")
    assert (found.key, found.version, found.wrong) == ("vim", 7, "odd")
    assert (found.bucket, found.sum) == (bucket_of("vim"), sum_of("vim", 7))
    assert listed("vim", 7).wrong == ""


@pytest.mark.parametrize(
    ("deleted", "dead"),
    [
        (True, True),
        ([1, True], True),
        ([], False),
        ([1], False),
        (False, False),
        (None, False),
        (1, False),
        ("true", False),
        ([[True]], False),
    ],
)
def test_what_is_dead_is_what_mongodb_does_not_find(deleted: Any, dead: bool) -> None:
    assert is_dead({"_del": deleted}) is dead
    assert not is_dead({})
    assert alive() == {"_del": {"$ne": True}}


@pytest.mark.parametrize(
    ("id", "text"),
    [("a", True), ("", True), ("é", True), ("\ud800", False), (1, False), (b"a", False)],
)
def test_a_key_is_a_text_of_utf_8(id: Any, text: bool) -> None:
    assert is_text(id) is text


@pytest.mark.parametrize(
    ("version", "read"), [(7, 7), (0, 0), (7.0, 7), (2**63 - 1, 2**63 - 1), (False, -1), ([7], -1)]
)
def test_a_version_is_a_whole_number(version: Any, read: int) -> None:
    assert version_in({"_v": version}) == read


@given(rows=ROWS, size=st.integers(1, 8))
def test_all_rows_of_a_cursor_come_in_batches_of_a_size(rows: dict[str, int], size: int) -> None:
    documents = [{"_id": key, "_v": version} for key, version in rows.items()]
    batches = list(of_cursor(documents, size, pytest.fail))
    assert [row for batch in batches for row in batch] == list(rows.items())
    assert all(len(batch) == size for batch in batches[:-1])
    assert all(batches)
    sums, told = Sums(), list[int]()
    add_all(sums, batches, told.append)
    assert told == [len(batch) for batch in batches]
    assert sums.differing(sums_of(rows)) == []


def test_nobody_need_be_told_of_progress() -> None:
    sums = Sums()
    add_all(sums, [[("a", 1)], [("b", 2), ("c", 3)]])
    assert sums.rows == 3


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
