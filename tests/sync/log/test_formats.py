"""Whatever a table of a real server is like, the log says of it what SELECT says, or it is refused
by name."""

from __future__ import annotations

import itertools
import math
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.sync.log.format import Kind
from bridge.sync.log.stream import Change, Stopped, Unreadable
from stack.mariadb import MariaDB
from tests.sync.log.logged import Logged
from tests.sync.log.reading import raw_since

_numbers = itertools.count(1)


@pytest.fixture
def site(logged_mariadb: MariaDB) -> Iterator[Logged]:
    name = f"formats_{next(_numbers)}"
    made = Logged(logged_mariadb.create_database(name))
    yield made
    made.engine.dispose()
    logged_mariadb.drop_database(name)


OLD = (
    "SET GLOBAL mysql56_temporal_format = OFF",
    "SET GLOBAL mysql56_temporal_format = ON",
)


def make_old(site: Logged, columns: str) -> None:
    site.run(OLD[0])
    try:
        site.run(f"CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, {columns})")
    finally:
        site.run(OLD[1])


def test_moments_of_before_mysql_5_6_are_read(site: Logged) -> None:
    """A table keeps their format until it is written anew."""
    make_old(site, "d DATETIME, s TIMESTAMP NULL, t TIME, more VARCHAR(9)")
    site.run(
        "SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'",
        "INSERT INTO t VALUES (1, 1, '2024-01-31 12:34:56', '2024-01-31 12:34:56', '838:59:59', 1)",
        "INSERT INTO t VALUES (2, 1, '0000-00-00', 0, '-838:59:59', 'b'),"
        " (3, 1, '2005-03-00 23:59:59', '2038-01-19 03:14:07', '-00:00:01', 'c'),"
        " (4, 1, '9999-12-31 23:59:59', '1970-01-01 00:00:01', 0, 'd'), (5, 1, 0, NULL, NULL, 'e')",
        "UPDATE t SET d = '1000-01-01', t = '00:09:00' WHERE id = 2",
    )
    mirror = site.mirror("t")
    assert site.differences(mirror) == []
    assert len(site.rows(mirror, "e0")) == 5


@pytest.mark.parametrize("kind", ["DATETIME(3)", "TIMESTAMP(6) NULL", "TIME(1)"])
@pytest.mark.parametrize("columns", [{}, {"id": "id", "v": "v"}], ids=["wanted", "unwanted"])
def test_their_fractions_are_refused_by_name(
    site: Logged, kind: str, columns: dict[str, str]
) -> None:
    """Also in a column that nobody wants: what is behind it could not be found. Written anew, the
    table is read."""
    make_old(site, f"d {kind}, v INT")
    site.run("INSERT INTO t VALUES (1, 1, '2024-01-31 12:34:56', 7)")
    found = site.found(site.mirror("t", columns=columns))
    assert not any(isinstance(one, Change) for one in found)
    [why] = {one.why for one in found if isinstance(one, Stopped)}
    assert "has a column d that is" in why
    assert "`ALTER TABLE … FORCE` writes the table anew" in why

    site = Logged(str(site.engine.url))
    site.run("ALTER TABLE t FORCE", "UPDATE t SET v = 8")
    assert site.differences(site.mirror("t", columns=columns)) == []


@pytest.mark.parametrize("wrap", ["ON", "OFF"])
def test_compressed_columns_are_read(site: Logged, wrap: str) -> None:
    """Short values, which are not deflated, and long ones; with the wrapper of zlib and without."""
    site.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, "
        "a VARCHAR(3000) COMPRESSED CHARACTER SET latin1, b TEXT COMPRESSED, c BLOB COMPRESSED, "
        "d VARBINARY(255) COMPRESSED, e LONGTEXT COMPRESSED CHARACTER SET utf8mb4)"
    )
    rows = []
    for number, size in enumerate((0, 1, 9, 30, 100, 255, 3000), 1):
        short = min(size, 255)
        rows.append(
            f"INSERT INTO t VALUES ({number}, 1, REPEAT('é', {size}), REPEAT('b', {size}), "
            f"REPEAT(x'ff00', {size}), REPEAT(x'00', {short}), REPEAT('日本', {size}))"
        )
    site.run(
        f"SET column_compression_zlib_wrap = {wrap}, column_compression_threshold = 0",
        *rows,
        "SET column_compression_threshold = 100",
        *(one.replace("VALUES (", "VALUES (1") for one in rows),
        "INSERT INTO t (id) VALUES (99)",
        "UPDATE t SET b = REPEAT('x', 500) WHERE id = 3",
    )
    mirror = site.mirror("t")
    assert site.differences(mirror) == []
    assert len(site.rows(mirror, "e0")) == 15


def test_columns_that_are_computed_or_hidden_are_read(site: Logged) -> None:
    """The log has computed ones too, wherever they stand; hidden ones only where they are named."""
    site.run(
        "CREATE TABLE t (v INT AS (id * 2) VIRTUAL, p VARCHAR(20) AS (CONCAT('p', id)) PERSISTENT,"
        " id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, h INT INVISIBLE DEFAULT 5,"
        " w VARCHAR(20) AS (UPPER(x)) VIRTUAL, x VARCHAR(20), KEY (w))",
        "INSERT INTO t (id, x) VALUES (1, 'a'), (2, 'b'), (3, NULL)",
        "UPDATE t SET x = 'c' WHERE id = 1",
        "UPDATE t SET id = 9, h = 6 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
    )
    assert site.differences(site.mirror("t")) == []
    named = {name: name for name in ("id", "h", "w", "v")}
    assert site.differences(site.mirror("t", columns=named)) == []
    found = site.found(site.mirror("t"))
    gone = [one.key for one in found if isinstance(one, Change) and one.data is None]
    assert gone == ["2", "3"]


def test_any_address_and_any_number_is_printed_as_select_prints_it(site: Logged) -> None:
    chance = random.Random(11)

    def groups() -> bytes:
        usual = (0, 0, 0, 0, 1, 0xFFFF, chance.randrange(0x10000))
        return struct.pack(">8H", *(chance.choice(usual) for _ in range(8)))

    def number() -> float:
        bits: float = struct.unpack("<f", chance.randbytes(4))[0]
        return bits if math.isfinite(bits) else round(chance.uniform(-1e7, 1e7), 3)

    rows = [
        f"({id_}, 1, x'{groups().hex()}', x'{groups().hex()}', x'{groups()[:4].hex()}', "
        f"{number():.17e}, {number():.17e})"
        for id_ in range(1000)
    ]
    site.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT, a INET6, u UUID, i INET4, f FLOAT, "
        "d DOUBLE)",
        f"INSERT INTO t VALUES {', '.join(rows)}",
    )
    assert site.differences(site.mirror("t")) == []


def test_a_partitioned_table_is_read(site: Logged) -> None:
    site.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, v TEXT)"
        " PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (10),"
        " PARTITION b VALUES LESS THAN MAXVALUE)",
        "INSERT INTO t VALUES (1, 1, 'one'), (20, 1, 'two')",
        "UPDATE t SET id = id + 15",
        "DELETE FROM t WHERE id = 35",
    )
    assert site.differences(site.mirror("t")) == []


@pytest.mark.parametrize("width", [7, 8, 9, 250, 251, 300, 1000])
def test_a_table_of_any_width_is_read(site: Logged, width: int) -> None:
    """With a NULL in each of its columns in turn."""
    names = [f"c{number}" for number in range(width - 2)]
    site.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, "
        + ", ".join(f"{name} SMALLINT DEFAULT 1" for name in names)
        + ")",
        "INSERT INTO t (id) VALUES (0)",
        *(f"INSERT INTO t (id, {one}) VALUES ({n}, NULL)" for n, one in enumerate(names[-20:], 1)),
        f"UPDATE t SET {names[0]} = NULL, {names[-1]} = 7",
    )
    assert site.differences(site.mirror("t")) == []


NAMES = ("Name", "näme", "a`b", "a b", "straße", "ver.1", "日本", "a%b", 'q"q', "x" * 60)


def test_names_of_all_kinds_are_found(site: Logged) -> None:
    """Of tables and of columns, also where two would be one to Python."""
    quoted = ["`" + name.replace("`", "``") + "`" for name in (*NAMES, "STRASSE")]
    columns = ", ".join(f"{name} INT" for name in quoted)
    tables = [name for name in NAMES if "." not in name]
    for table in tables:
        name = "`" + table.replace("`", "``") + "`"
        site.run(
            f"CREATE TABLE {name} (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, {columns})",
            f"INSERT INTO {name} VALUES (1, 1, {', '.join(map(str, range(len(quoted))))})",
        )
    usable = {f"f{n}": name for n, name in enumerate((*NAMES, "STRASSE"))}
    mirror = site.mirror(*tables, columns={"id": "id", **usable})
    assert site.differences(mirror) == []
    assert len(site.found(mirror)) >= len(tables)


def test_two_entities_of_one_table_are_both_read(site: Logged) -> None:
    site.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, v TEXT)",
        "INSERT INTO t VALUES (1, 1, 'one'), (2, 1, 'two')",
        "UPDATE t SET v = 'three' WHERE id = 2",
    )
    mirror = site.mirror("t", "t")
    assert site.differences(mirror) == []
    versions: dict[str, list[int]] = {}
    for one in site.found(mirror):
        if isinstance(one, Change):
            versions.setdefault(one.entity, []).append(one.version)
    assert versions["e0"] == versions["e1"]
    assert sorted(set(versions["e0"])) == versions["e0"]


YES_AND_NO = (
    ("TINYINT(1)", "0", "1"),
    ("BIT(1)", "0", "1"),
    ("BIT(9)", "0", "256"),
    ("DECIMAL(9,2)", "0", "0.01"),
    ("DECIMAL(9,2) ZEROFILL", "0", "10"),
    ("DOUBLE", "0", "0.5"),
    ("VARCHAR(9)", "''", "'yes'"),
    ("VARCHAR(9)", "'no'", "'1'"),
    ("CHAR(1)", "'0'", "'Y'"),
    ("ENUM('N','Y')", "'N'", "'Y'"),
    ("SET('a','b')", "''", "'a,b'"),
    ("BINARY(2)", "x''", "x'01'"),
    ("VARBINARY(9)", "'0'", "'1'"),
    ("DATE", "'0000-00-00'", "'2024-01-31'"),
    ("DATETIME", "'0000-00-00'", "'2024-01-31'"),
    ("DATETIME(3)", "NULL", "'2024-01-31'"),
    ("TIMESTAMP NULL", "NULL", "'2024-01-31'"),
    ("TIME", "'00:00:00'", "'-00:00:01'"),
    ("TIME(2)", "'00:00:00'", "'00:00:00.01'"),
    ("YEAR", "'0000'", "2024"),
)


def test_a_row_that_stands_for_a_deletion_is_one_to_both(site: Logged) -> None:
    """Whatever the type of the column is that says so."""
    tables = [f"t{number}" for number in range(len(YES_AND_NO))]
    for table, (kind, no, yes) in zip(tables, YES_AND_NO, strict=True):
        site.run(
            "SET sql_mode = 'ALLOW_INVALID_DATES'",
            f"CREATE TABLE {table} (id INT PRIMARY KEY, ver BIGINT DEFAULT 1, gone {kind})",
            f"INSERT INTO {table} VALUES (1, 1, {no}), (2, 1, {yes}), (3, 1, NULL)",
        )
    mirror = site.mirror(*tables, deleted="gone")
    by_log: dict[str, set[str]] = {}
    for one in site.found(mirror):
        if isinstance(one, Change) and one.data is None:
            by_log.setdefault(one.entity, set()).add(one.key)
    for name, case in zip(mirror.entities, YES_AND_NO, strict=True):
        by_select = {one.key for one in site.rows(mirror, name) if one.data is None}
        assert by_log[name] == by_select == {"2"}, case


def test_a_column_that_is_another_now_stops_its_entity_by_name(site: Logged) -> None:
    """The log is behind the table."""
    site.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, v INT)",
        "INSERT INTO t VALUES (1, 1, 20240131)",
        "ALTER TABLE t MODIFY v DATE NULL",
    )
    told = [one for one in site.found(site.mirror("t")) if isinstance(one, Stopped)]
    why = "has a column v that is date, and the log has kind 3 there"
    assert [one.why for one in told] == [why]


def test_a_text_that_is_none_is_told_with_its_column(site: Logged) -> None:
    """SELECT cannot read it either."""
    site.run(
        "CREATE TABLE t (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1,"
        " v VARCHAR(9) CHARACTER SET ucs2)",
        "INSERT INTO t VALUES (1, 1, _ucs2 x'd8000061'), (2, 1, 'ok')",
    )
    found = site.found(site.mirror("t"))
    assert [type(one) for one in found if not isinstance(one, Change)][-1] is Unreadable
    [told] = [one.error for one in found if isinstance(one, Unreadable)]
    assert told.startswith("the column v cannot be read: its bytes are no ucs2")
    assert [one.key for one in found if isinstance(one, Change)] == ["2"]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A server that compresses its log, has no checksums and writes names in small letters."""
    words = [
        "--log-bin=bin",
        "--server-id=7",
        "--binlog-format=ROW",
        "--binlog-row-metadata=FULL",
        "--log-bin-compress=ON",
        "--log-bin-compress-min-len=200",
        "--binlog-checksum=NONE",
        "--lower-case-table-names=1",
    ]
    folder: Path = tmp_path_factory.mktemp("odd")
    with MariaDB(folder, options=words) as server:
        yield server


def test_a_compressed_log_is_read(odd: MariaDB) -> None:
    """Events above and below the threshold, and statements."""
    site = Logged(odd.create_database("odd"))
    site.run(
        "CREATE TABLE Mixed (id INT PRIMARY KEY, ver BIGINT NOT NULL DEFAULT 1, v TEXT)",
        "INSERT INTO Mixed VALUES (1, 1, 'short'), (2, 1, NULL)",
        "INSERT INTO Mixed VALUES (3, 1, REPEAT('long ', 9000)), (4, 1, REPEAT('x', 300))",
        "UPDATE Mixed SET v = REPEAT('é', 400)",
        "UPDATE Mixed SET id = id + 100 WHERE id > 2",
        "UPDATE Mixed SET v = 'short' WHERE id = 1",
        "DELETE FROM Mixed WHERE id = 2",
        "DELETE FROM Mixed WHERE id = 104",
        f"ALTER TABLE Mixed COMMENT '{'c' * 300}'",
        "INSERT INTO Mixed VALUES (7, 1, 'x'), (8, 1, 'y')",
        "DELETE FROM Mixed WHERE id = 7",
    )
    mirror = site.mirror("mixed")
    assert site.differences(mirror) == []
    kinds = {raw[4] for raw in raw_since(site.engine, site.began)}
    assert {Kind.WRITE_1, Kind.WRITE_COMPRESSED_1, Kind.UPDATE_COMPRESSED_1} <= kinds
    assert {Kind.QUERY, Kind.QUERY_COMPRESSED, Kind.DELETE_1, Kind.DELETE_COMPRESSED_1} <= kinds
    site.engine.dispose()
