"""The tables of `bench.log`, and what is done with them: one of 6 columns, and one of the 23 of
WordPress's wp_posts."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sql

__all__ = ["CHANGES", "COLUMNS", "KEY", "LOG", "TABLES", "insert", "say", "single", "statements"]

LOG = ("--log-bin=bin", "--server-id=7", "--binlog-format=ROW", "--binlog-row-metadata=FULL")
TABLES = {
    "six": """
CREATE TABLE six (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, project INT NOT NULL,
    name VARCHAR(100) NOT NULL, size INT UNSIGNED, updated DATETIME NOT NULL,
    active TINYINT(1) NOT NULL
) CHARACTER SET utf8mb4
""",
    "posts": """
CREATE TABLE posts (
    ID BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, post_author BIGINT UNSIGNED NOT NULL,
    post_date DATETIME NOT NULL, post_date_gmt DATETIME NOT NULL, post_content LONGTEXT NOT NULL,
    post_title TEXT NOT NULL, post_excerpt TEXT NOT NULL, post_status VARCHAR(20) NOT NULL,
    comment_status VARCHAR(20) NOT NULL, ping_status VARCHAR(20) NOT NULL,
    post_password VARCHAR(255) NOT NULL, post_name VARCHAR(200) NOT NULL, to_ping TEXT NOT NULL,
    pinged TEXT NOT NULL, post_modified DATETIME NOT NULL, post_modified_gmt DATETIME NOT NULL,
    post_content_filtered LONGTEXT NOT NULL, post_parent BIGINT UNSIGNED NOT NULL,
    guid VARCHAR(255) NOT NULL, menu_order INT NOT NULL, post_type VARCHAR(20) NOT NULL,
    post_mime_type VARCHAR(100) NOT NULL, comment_count BIGINT NOT NULL
) CHARACTER SET utf8mb4
""",
}
COLUMNS = {"six": 6, "posts": 23}
CHANGES = ("insert", "update", "delete")
_STATEMENT = 100
"""Rows of a statement."""
_MOMENT = "'2024-01-01' + INTERVAL MOD(seq, 20000) * 37 MINUTE"
_ROWS_OF = {
    "six": f"""seq, MOD(seq, 97), CONCAT('Näme ', seq), IF(MOD(seq, 5), seq * 13, NULL), {_MOMENT},
    MOD(seq, 2)""",
    "posts": f"""seq, MOD(seq, 9), {_MOMENT}, {_MOMENT},
    REPEAT('A paragraph of a post – with a dash. ', 10 + MOD(seq, 30)),
    CONCAT('Title of post ', seq), '', 'publish', 'open', 'open', '',
    CONCAT('title-of-post-', seq), '', '', {_MOMENT}, {_MOMENT}, '', 0,
    CONCAT('https://example.org/?p=', seq), 0, 'post', '', MOD(seq, 50)""",
}
"""The values of a row, of its number `seq`."""
_UPDATE = {
    "six": "UPDATE six SET size = id, updated = updated + INTERVAL 1 DAY",
    "posts": "UPDATE posts SET comment_count = comment_count + 1, "
    "post_modified = post_modified + INTERVAL 1 DAY",
}
KEY = {"six": "id", "posts": "ID"}


def statements(table: str, change: str, first: int, count: int) -> Iterator[str]:
    """Change `count` rows with the numbers from `first` on, a hundred with each statement."""
    for one in range(first, first + count, _STATEMENT):
        last = min(one + _STATEMENT, first + count) - 1
        yield _statement(table, change, one, last)


def insert(table: str, number: int) -> str:
    """Insert one row."""
    return f"INSERT INTO {table} SELECT {_ROWS_OF[table].replace('seq', str(number))}"


def single(table: str, first: int, count: int, reads: int = 0) -> Iterator[str]:
    """Insert rows one by one, update each, and delete each again; before each of these, read so
    many rows by their keys."""
    for change in CHANGES:
        for one in range(first, first + count):
            for read in range(reads):
                # While rows go, those of before are read that are not there: as much work.
                yield f"SELECT * FROM {table} WHERE {KEY[table]} = {max(first, one - read)}"
            yield insert(table, one) if change == "insert" else _statement(table, change, one, one)


def _statement(table: str, change: str, first: int, last: int) -> str:
    where = f"WHERE {KEY[table]} BETWEEN {first} AND {last}"
    if change == "insert":
        return f"INSERT INTO {table} SELECT {_ROWS_OF[table]} FROM seq_{first}_to_{last}"
    return f"{_UPDATE[table]} {where}" if change == "update" else f"DELETE FROM {table} {where}"


def say(engine: sql.Engine, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
