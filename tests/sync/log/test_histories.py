"""Tables of MariaDB that keep their history, whose rows of the past are in the log, too; and what
looks like a table and has no rows of its own."""

from __future__ import annotations

import pytest

from bridge.errors import BridgeError
from stack.waiting import wait_for
from tests.sync.log.site import LogSite

SYNC = """\
version: 1
entities:
  price: {collection: prices, source: {table: prices, key: id, log: true}}
  offer: {collection: offers, source: {table: offers, key: id, log: true}}
"""
BY_TRANSACTION = (
    "ab BIGINT UNSIGNED AS ROW START, bis BIGINT UNSIGNED AS ROW END, "
    "PERIOD FOR SYSTEM_TIME (ab, bis), "
)
BY_TIME = BY_TRANSACTION.replace("BIGINT UNSIGNED", "TIMESTAMP(6)")
EDITS = (
    "UPDATE prices SET euro = 2 WHERE id = 1",
    "DELETE FROM prices WHERE id = 2",
    "UPDATE prices SET id = 9 WHERE id = 3",
    "REPLACE INTO prices (id, euro) VALUES (4, 44)",
    "DELETE FROM prices WHERE id = 5",
    "INSERT INTO prices (id, euro) VALUES (5, 55)",
    "INSERT INTO prices (id, euro) VALUES (6, 66) ON DUPLICATE KEY UPDATE euro = 67",
    "DELETE HISTORY FROM prices",
    "UPDATE prices SET euro = 3 WHERE id = 1",
)


@pytest.mark.parametrize("named", ["", BY_TIME, BY_TRANSACTION], ids=["hidden", "time", "number"])
def test_only_what_is_valid_is_mirrored(log_site: LogSite, named: str) -> None:
    site = log_site
    site.write_sync(SYNC)
    site.sql(
        f"CREATE TABLE prices (id INT PRIMARY KEY, euro INT, {named} KEY (euro)) "
        "WITH SYSTEM VERSIONING",
        "CREATE TABLE offers (id INT PRIMARY KEY, price INT, FOREIGN KEY (price) "
        "REFERENCES prices (id) ON DELETE CASCADE)",
        "INSERT INTO prices (id, euro) VALUES (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)",
        "INSERT INTO offers VALUES (21, 2), (51, 5), (61, 6)",
    )
    site.load()
    with site.capturing():
        for edit in EDITS:
            site.sql(edit)
            site.caught_up()
            wait_for(lambda: not site.kept.read().dirty, bound=20, what="every mark healed")

            assert site.differences("price") == [], edit
            assert site.differences("offer") == [], edit


def test_a_history_may_begin_and_end(log_site: LogSite) -> None:
    site = log_site
    site.write_sync(SYNC)
    site.sql(
        "CREATE TABLE prices (id INT PRIMARY KEY, euro INT)",
        "CREATE TABLE offers (id INT PRIMARY KEY)",
        "INSERT INTO prices VALUES (1, 1), (2, 1), (3, 1)",
    )
    site.load()
    for edit in (
        "ALTER TABLE prices ADD SYSTEM VERSIONING",
        "UPDATE prices SET euro = 2",
        "DELETE FROM prices WHERE id = 2",
        "ALTER TABLE prices DROP SYSTEM VERSIONING",
        "UPDATE prices SET euro = 3",
        "DELETE FROM prices WHERE id = 1",
    ):
        site.sql(edit)
    with site.capturing():
        site.caught_up()
        wait_for(lambda: not site.kept.read().dirty, bound=20, what="every mark healed")

        assert site.differences("price") == []


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("CREATE VIEW prices AS SELECT * FROM offers", "prices is a view, and the log"),
        (
            "CREATE TABLE prices (id INT PRIMARY KEY) ENGINE=MERGE UNION=(offers)",
            "prices is of MRG_MyISAM, and the log",
        ),
    ],
)
def test_what_has_no_rows_of_its_own_is_refused(log_site: LogSite, made: str, told: str) -> None:
    log_site.write_sync(SYNC)
    log_site.sql("CREATE TABLE offers (id INT PRIMARY KEY) ENGINE=MyISAM", made)
    with pytest.raises(BridgeError, match=told):
        log_site.load("price")
