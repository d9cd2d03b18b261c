"""What the log does not show is found, and mended, while visitors write."""

from __future__ import annotations

from uuid import UUID

import pytest

from stack.waiting import wait_for
from tests.sync.log.site import LogSite

TREE = (
    "CREATE TABLE trees (id INT PRIMARY KEY, title VARCHAR(20)) ENGINE=InnoDB",
    "CREATE TABLE boughs (id INT PRIMARY KEY, tree INT, title VARCHAR(20), FOREIGN KEY (tree) "
    "REFERENCES trees (id) ON DELETE CASCADE ON UPDATE CASCADE) ENGINE=InnoDB",
    "CREATE TABLE leaves (id INT PRIMARY KEY, bough INT, title VARCHAR(20), FOREIGN KEY (bough) "
    "REFERENCES boughs (id) ON DELETE SET NULL) ENGINE=InnoDB",
)
SYNC = """\
version: 1
entities:
  bough: {collection: boughs, source: {table: boughs, key: id, log: true}}
  leaf: {collection: leaves, source: {table: leaves, key: id, log: true}}
"""


@pytest.fixture
def tree(log_site: LogSite) -> LogSite:
    """Boughs and leaves are mirrored, and the trees that they hang on are not."""
    log_site.write_sync(SYNC)
    log_site.sql(
        *TREE,
        "INSERT INTO trees VALUES (1, 'oak'), (2, 'elm'), (3, 'ash')",
        "INSERT INTO boughs VALUES (11, 1, 'a'), (12, 1, 'b'), (21, 2, 'c'), (31, 3, 'd')",
        "INSERT INTO leaves VALUES (111, 11, 'x'), (211, 21, 'y'), (311, 31, 'z')",
    )
    log_site.load()
    return log_site


def settle(site: LogSite) -> None:
    """Until nothing is marked any more."""
    wait_for(lambda: not site.kept.read().dirty, bound=20, what="every mark healed")


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM trees WHERE id = 1",
        "DELETE FROM trees",
        "UPDATE trees SET id = 7 WHERE id = 2",
        "REPLACE INTO trees VALUES (3, 'beech')",
        "DELETE FROM boughs WHERE id = 21",
        "UPDATE boughs SET tree = 2 WHERE tree = 1",
    ],
)
def test_what_a_foreign_key_does_is_found_and_mended(tree: LogSite, statement: str) -> None:
    with tree.capturing():
        tree.sql(statement)
        tree.caught_up()
        settle(tree)

        for name in ("bough", "leaf"):
            assert tree.differences(name) == []


def test_a_change_that_moves_nobody_marks_nobody(tree: LogSite) -> None:
    with tree.capturing():
        tree.sql("UPDATE trees SET title = 'fir'", "INSERT INTO trees VALUES (9, 'yew')")
        tree.caught_up()

        assert tree.kept.read().dirty == {}


@pytest.mark.parametrize(
    "statements",
    [
        ["TRUNCATE TABLE leaves"],
        ["ALTER TABLE leaves ADD COLUMN size INT NOT NULL DEFAULT 7"],
        ["ALTER TABLE leaves MODIFY title VARCHAR(20) CHARACTER SET latin1"],
        ["CREATE OR REPLACE TABLE leaves (id INT PRIMARY KEY, bough INT, title VARCHAR(20))"],
        ["CREATE TABLE other LIKE leaves", "INSERT INTO other VALUES (5, NULL, 'n')",
         "RENAME TABLE leaves TO gone, other TO leaves"],
        ["DROP TABLE leaves", TREE[2], "INSERT INTO leaves VALUES (1, NULL, 'new')"],
        ["SET SESSION binlog_format = STATEMENT", "UPDATE leaves SET title = 'said'",
         "SET SESSION binlog_format = ROW"],
        *(
            [f"SET SESSION binlog_row_image = {image}", "UPDATE leaves SET title = 'half'",
             "DELETE FROM leaves WHERE id = 211", "UPDATE leaves SET id = 7 WHERE id = 311"]
            for image in ("MINIMAL", "NOBLOB")
        ),
    ],
)  # fmt: skip
def test_what_comes_in_words_is_found_and_mended(tree: LogSite, statements: list[str]) -> None:
    with tree.capturing():
        tree.server.execute(f"USE {tree.name}", *statements)
        tree.caught_up()
        settle(tree)

        assert tree.differences("leaf") == []
        tree.sql("INSERT INTO leaves (id, title) VALUES (999, 'after')")
        tree.caught_up()
        assert tree.documents("leaves")["999"] == "after"
        assert tree.differences("leaf") == []


def test_parts_of_rows_may_be_of_those_that_others_hang_on(tree: LogSite) -> None:
    with tree.capturing():
        tree.server.execute(
            f"USE {tree.name}", "SET SESSION binlog_row_image = MINIMAL", "DELETE FROM trees"
        )
        tree.caught_up()
        settle(tree)

        for name in ("bough", "leaf"):
            assert tree.differences(name) == []


def test_a_table_that_is_gone_holds_up_no_other(tree: LogSite) -> None:
    with tree.capturing():
        tree.sql("DROP TABLE leaves")
        tree.caught_up()
        tree.sql("UPDATE trees SET id = 7 WHERE id = 2", "DELETE FROM trees WHERE id = 1")
        tree.caught_up()
        wait_for(
            lambda: list(tree.kept.read().dirty) == ["leaf"], bound=20, what="all others healed"
        )

        assert tree.differences("bough") == []


KEYED = """\
version: 1
entities:
  child: {collection: children, source: {table: children, key: [of, at], log: true}}
"""


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("INT", ["1", "2", "3", "9"]),
        ("DATE", ["'2020-01-01'", "'2021-01-01'", "'2022-01-01'", "'2029-01-01'"]),
        ("UUID", [f"'{UUID(int=number)}'" for number in (1, 2, 3, 9)]),
        ("VARCHAR(9)", ["'Vim'", "'Git'", "'Ärger'", "'new'"]),
        ("VARCHAR(9) COLLATE utf8mb4_bin", ["'Vim'", "'git'", "'php'", "'new'"]),
        ("ENUM('a', 'b', 'c', 'd')", ["'a'", "'b'", "'c'", "'d'"]),
        ("DECIMAL(5, 1)", ["1", "2.5", "3", "9"]),
    ],
)
@pytest.mark.parametrize("change", ["UPDATE parents SET id = {3}", "DELETE FROM parents"])
def test_what_is_in_the_key_of_a_row_follows_what_it_refers_to(
    log_site: LogSite, kind: str, values: list[str], change: str
) -> None:
    """Also where both are written in another way."""
    site = log_site
    site.write_sync(KEYED)
    site.sql(
        f"CREATE TABLE parents (id {kind} PRIMARY KEY) CHARACTER SET utf8mb4",
        f"CREATE TABLE children (of {kind}, at INT, PRIMARY KEY (of, at), FOREIGN KEY (of) "
        "REFERENCES parents (id) ON DELETE CASCADE ON UPDATE CASCADE) CHARACTER SET utf8mb4",
        *(f"INSERT INTO parents VALUES ({value})" for value in values[:3]),
        f"INSERT INTO children SELECT id, 1 FROM parents UNION SELECT {values[1]}, 2",
    )
    if kind == "VARCHAR(9)":
        site.sql("UPDATE children SET of = UPPER(of) WHERE at = 1")
    site.load()
    with site.capturing():
        site.sql(f"{change} WHERE id = {{1}}".format(*values))
        site.caught_up()
        settle(site)

        assert site.differences("child") == []
