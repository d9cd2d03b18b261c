"""What the log does not show is found, and mended, while visitors write."""

from __future__ import annotations

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
