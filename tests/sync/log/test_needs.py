"""What a server must have so that its log can be read, and what its log does not show."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.queue.sql.database import connect, reading
from bridge.sync.log.cascades import Cascade
from bridge.sync.log.needs import Facts, cascades, check, look, missing
from bridge.sync.types import catalog
from bridge.sync.types.column import ForeignKey
from stack.mariadb import MariaDB

GOOD = {
    "log_bin": "ON",
    "binlog_format": "ROW",
    "binlog_row_image": "FULL",
    "binlog_row_metadata": "FULL",
    "gtid_binlog_pos": "0-1-5",
    "binlog_expire_logs_seconds": "864000",
    "version": "10.11.19-MariaDB-log",
}
GRANT = "GRANT SELECT, REPLICATION SLAVE ON *.* TO `reader`@`%`"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """A MariaDB with a log, and with users and their rights."""
    words = ["--log-bin=bin", "--server-id=7", "--binlog-format=ROW", "--binlog-row-metadata=FULL"]
    folder = tmp_path_factory.mktemp("rights")
    with MariaDB(folder, grants=True, options=[*words, "--skip-name-resolve"]) as made:
        yield made


def facts_at(url: str) -> Facts:
    engine = connect(url)
    try:
        with reading(engine) as connection:
            return look(connection)
    finally:
        engine.dispose()


@contextmanager
def reading_as(server: MariaDB, user: str, database: str) -> Iterator[sql.Connection]:
    engine = connect(server.url_of(database).replace("//root@", f"//{user}@"))
    try:
        with reading(engine) as connection:
            yield connection
    finally:
        engine.dispose()


def cascades_of(connection: sql.Connection, database: str) -> list[Cascade]:
    return [one for one in cascades(connection) if one.child[0] == database]


def says(settings: dict[str, str], *grants: str) -> list[str]:
    found = missing(Facts(settings, grants or (GRANT,), "reader@%"))
    return [f"{need.says}: {need.do}" for need in found]


def test_a_server_that_has_it_all_needs_nothing() -> None:
    assert says(GOOD) == []
    check(Facts(GOOD, (GRANT,), "reader@%"))


@pytest.mark.parametrize(
    ("name", "value", "told", "statement"),
    [
        ("log_bin", "OFF", "writes no log", "log_bin = mysql-bin"),
        ("binlog_format", "MIXED", "changes come as statements", "SET GLOBAL binlog_format = ROW"),
        ("binlog_format", "STATEMENT", "is STATEMENT", "SET GLOBAL binlog_format = ROW"),
        ("binlog_row_image", "MINIMAL", "parts of rows", "SET GLOBAL binlog_row_image = FULL"),
        ("binlog_row_image", "NOBLOB", "parts of rows", "SET GLOBAL binlog_row_image = FULL"),
        ("binlog_row_image", "FULL_NODUP", "parts of rows", "SET GLOBAL binlog_row_image = FULL"),
        ("binlog_row_metadata", "NO_LOG", "names no columns", "binlog_row_metadata = FULL"),
        ("binlog_row_metadata", "MINIMAL", "names no columns", "binlog_row_metadata = FULL"),
        ("binlog_row_value_options", "PARTIAL_JSON", "parts of JSON", "value_options = ''"),
        ("binlog_transaction_compression", "ON", "compressed", "transaction_compression = OFF"),
        ("gtid_binlog_pos", "0-1-5,3-1-2", "2 domains", "DELETE_DOMAIN_ID"),
    ],
)
def test_what_is_missing_comes_with_what_mends_it(
    name: str, value: str, told: str, statement: str
) -> None:
    (found,) = says(GOOD | {name: value})

    assert told in found
    assert statement in found
    with pytest.raises(BridgeError, match=told):
        check(Facts(GOOD | {name: value}, (GRANT,), "reader@%"))


def test_a_server_that_cannot_write_names_is_told_from_which_version_on_it_can() -> None:
    older = {name: value for name, value in GOOD.items() if name != "binlog_row_metadata"}

    (found,) = says(older | {"version": "10.4.1-MariaDB"})

    assert "10.4.1-MariaDB" in found
    assert "since 10.5" in found


def test_mysql_needs_numbers_of_transactions() -> None:
    mysql = GOOD | {"version": "8.0.36", "gtid_mode": "OFF"}

    assert "have no number" in says(mysql)[0]
    assert says(mysql | {"gtid_mode": "ON"}) == []


def test_a_log_that_is_thrown_away_soon_is_no_more_than_advice() -> None:
    soon = Facts(GOOD | {"binlog_expire_logs_seconds": "43200"}, (GRANT,), "reader@%")

    (need,) = missing(soon)

    assert need.is_advice
    assert "0.5 days" in need.says
    check(soon)


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT ALL PRIVILEGES ON *.* TO `reader`@`%`",
        "GRANT SELECT, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `reader`@`%`",
        "GRANT REPLICATION REPLICA ON *.* TO `reader`@`%`",
    ],
)
def test_rights_that_are_enough(grant: str) -> None:
    assert says(GOOD, grant) == []


@pytest.mark.parametrize(
    "grant",
    [
        "GRANT USAGE ON *.* TO `o'neill`@`%`",
        "GRANT ALL PRIVILEGES ON `shop`.* TO `o'neill`@`%`",
        "GRANT SELECT, REPLICATION CLIENT ON *.* TO `o'neill`@`%`",
    ],
)
def test_rights_that_are_not_enough_come_with_the_grant(grant: str) -> None:
    found = missing(Facts(GOOD, (grant,), "o'neill@%"))

    assert [need.do for need in found] == ["GRANT REPLICATION SLAVE ON *.* TO 'o''neill'@'%'"]


def test_a_real_server_with_a_log_is_as_it_must_be(server: MariaDB) -> None:
    facts = facts_at(server.url)

    assert facts.is_mariadb
    assert [need.says for need in missing(facts) if not need.is_advice] == []


def test_a_real_server_without_one_is_not(mariadb: MariaDB) -> None:
    """It has no tables of rights either."""
    found = [need.says for need in missing(facts_at(mariadb.url))]

    assert "the server writes no log" in found
    assert not any("may not read" in one for one in found)


def test_the_statements_that_are_named_are_those_that_help(server: MariaDB) -> None:
    """A real user without the right, on a server with wrong settings; then all is as it must be."""
    server.execute(
        "CREATE OR REPLACE USER 'rea der'@'127.0.0.1'",
        "SET GLOBAL binlog_format = MIXED",
        "SET GLOBAL binlog_row_image = MINIMAL",
        "SET GLOBAL binlog_row_metadata = MINIMAL",
    )
    url = f"mysql+pymysql://rea%20der@{server.address}/"

    def lacking() -> list[str]:
        found = missing(facts_at(url))
        return [need.do.partition(";")[0] for need in found if not need.is_advice]

    statements = lacking()
    server.execute(*statements)

    assert len(statements) == 4
    assert lacking() == []


def test_cascades_are_found_and_quiet_rules_are_not(server: MariaDB) -> None:
    here = "needs"
    engine = connect(server.create_database(here))
    with engine.begin() as connection:
        for statement in (
            "CREATE TABLE a (x INT, y INT, PRIMARY KEY (x, y))",
            "CREATE TABLE b (id INT PRIMARY KEY, ax INT, ay INT, CONSTRAINT one FOREIGN KEY "
            "(ax, ay) REFERENCES a (x, y) ON DELETE CASCADE)",
            "CREATE TABLE c (id INT PRIMARY KEY, b INT, CONSTRAINT two FOREIGN KEY (b) "
            "REFERENCES b (id) ON DELETE SET NULL ON UPDATE CASCADE)",
            "CREATE TABLE d (id INT PRIMARY KEY, b INT, FOREIGN KEY (b) REFERENCES b (id))",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    with reading_as(server, "root", here) as connection:
        assert cascades_of(connection, here) == [
            Cascade(
                ("needs", "a"), ("needs", "b"), ("x", "y"), ("ax", "ay"), "CASCADE", "RESTRICT"
            ),
            Cascade(("needs", "b"), ("needs", "c"), ("id",), ("b",), "SET NULL", "CASCADE"),
        ]


RULES = ("", "CASCADE", "SET NULL", "NO ACTION", "RESTRICT")
ODD_NAMES = ("plain", "with``tick", 'with"quote', "Käse (x) ON DELETE CASCADE", "it's, so")


def test_who_may_only_read_sees_the_same_cascades_as_who_may_all(server: MariaDB) -> None:
    """Every rule, names that look like rules, and a comment that looks like a foreign key."""
    server.create_database("seen")
    lie = "CONSTRAINT `fk 0` FOREIGN KEY (`a`) REFERENCES `p` (`id`)"
    statements = ["USE seen", f"CREATE TABLE p (id INT PRIMARY KEY COMMENT '\n{lie},\n')"]
    for number, (deletes, updates) in enumerate(itertools.product(RULES, RULES)):
        name = f"fk {number} {ODD_NAMES[number % len(ODD_NAMES)]}"
        rules = "".join(
            f" ON {word} {rule}"
            for word, rule in (("DELETE", deletes), ("UPDATE", updates))
            if rule
        )
        statements.append(
            f"CREATE TABLE `c{number}` (id INT PRIMARY KEY, a INT COMMENT '\n{lie}', "
            f"CONSTRAINT `{name}` FOREIGN KEY (a) REFERENCES p (id){rules})"
        )
    server.execute(
        *statements,
        "CREATE USER reads_only@'127.0.0.1'",
        "GRANT SELECT ON seen.* TO reads_only@'127.0.0.1'",
    )
    rows = server.execute(
        "SELECT TABLE_NAME, DELETE_RULE, UPDATE_RULE FROM information_schema."
        "REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = 'seen'"
    )
    quiet = {"RESTRICT", "NO ACTION"}
    expected = {tuple(row) for row in rows if not {row[1], row[2]} <= quiet}
    assert len(rows) == len(RULES) ** 2

    for user in ("root", "reads_only"):
        with reading_as(server, user, "seen") as connection:
            seen = cascades_of(connection, "seen")
            foreign = catalog.read(connection, "c6")
        assert {(one.child[1], one.deletes, one.updates) for one in seen} == expected
        assert foreign is not None
        assert foreign.foreign == (ForeignKey(("a",), "p", "CASCADE", "CASCADE"),)


def test_a_foreign_key_whose_rules_cannot_be_made_out_counts_as_a_cascade(server: MariaDB) -> None:
    server.create_database("odd")
    server.execute(
        "USE odd",
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE c (id INT PRIMARY KEY, p INT, "
        "CONSTRAINT `two\nlines` FOREIGN KEY (p) REFERENCES p (id))",
    )

    with reading_as(server, "root", "odd") as connection:
        (found,) = cascades_of(connection, "odd")

    assert (found.child[1], found.deletes, found.updates) == ("c", "CASCADE", "CASCADE")
