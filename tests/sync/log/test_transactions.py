"""What of a real server's transactions is told as changes: what was committed, and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from bridge.sync.documents import Mirror
from bridge.sync.log.position import Position, position_of_version
from bridge.sync.log.stream import Change, Concerned, Found, Stream
from stack.mariadb import MariaDB
from tests.sync.log.logged import Logged
from tests.sync.log.reading import raw_since, readers_of

_numbers = itertools.count(1)
Told = list[tuple[str, int]]


@pytest.fixture
def site(logged_mariadb: MariaDB) -> Iterator[Logged]:
    name = f"transactions_{next(_numbers)}"
    made = Logged(logged_mariadb.create_database(name))
    for table, engine in (("safe", "InnoDB"), ("plain", "MyISAM")):
        made.run(
            f"CREATE TABLE {table} (id INT PRIMARY KEY, ver BIGINT DEFAULT 1, v INT) "
            f"ENGINE={engine}",
            f"INSERT INTO {table} VALUES (1, 1, 0), (2, 1, 0)",
        )
    made = Logged(str(made.engine.url))
    yield made
    made.engine.dispose()
    logged_mariadb.drop_database(name)


def values(found: Sequence[Found]) -> dict[tuple[str, str], int]:
    """By entity and key, what the changes leave."""
    return {
        (one.entity, one.key): one.data["v"]
        for one in found
        if isinstance(one, Change) and one.data is not None
    }


def really(site: Logged, mirror: Mirror) -> dict[tuple[str, str], int]:
    return {
        (name, one.key): one.data["v"]
        for name in mirror.entities
        for one in site.rows(mirror, name)
        if one.data is not None
    }


def concerned(found: Sequence[Found]) -> list[tuple[tuple[str, ...] | None, str]]:
    return [(one.tables, one.why) for one in found if isinstance(one, Concerned)]


def test_what_xa_prepares_is_told_when_it_is_committed(site: Logged) -> None:
    """Not its rows, which nobody has any more, but its tables."""
    site.run(
        "XA START 'one', 'branch', 7",
        "UPDATE safe SET v = 1",
        "XA END 'one', 'branch', 7",
        "XA PREPARE 'one', 'branch', 7",
    )
    mirror = site.mirror("safe", "plain")
    assert site.found(mirror) == []
    site.run("XA COMMIT 'one', 'branch', 7")
    assert concerned(site.found(mirror)) == [(("safe",), "XA COMMIT")]
    assert values(site.found(mirror)) == {}


def test_what_xa_rolls_back_is_not_told(site: Logged) -> None:
    site.run(
        "XA START 'two'",
        "UPDATE safe SET v = 1",
        "XA END 'two'",
        "XA PREPARE 'two'",
        "XA ROLLBACK 'two'",
        "UPDATE safe SET v = 2 WHERE id = 1",
    )
    mirror = site.mirror("safe")
    assert concerned(site.found(mirror)) == []
    assert values(site.found(mirror)) == {("e0", "1"): 2}


def test_after_a_restart_nobody_knows_what_xa_had_prepared(site: Logged) -> None:
    """Then it may have been any table; so also where it was read for nobody."""
    site.run("XA START 'three'", "UPDATE safe SET v = 1", "XA END 'three'", "XA PREPARE 'three'")
    again = Logged(str(site.engine.url))
    site.run("XA COMMIT 'three'")
    mirror = site.mirror("safe")
    [(tables, why)] = concerned(again.found(mirror))
    assert (tables, why) == (None, "XA COMMIT of what was prepared earlier")

    stream = Stream(Position(1, None), lambda shape: ())
    prepared, committed = split(site, again)
    for raw in prepared:
        stream.feed(raw)
    stream.follow(readers_of(site.engine, mirror))
    told = [one for raw in committed for one in stream.feed(raw)]
    assert concerned(told) == [(None, "XA COMMIT of what was prepared earlier")]


def split(site: Logged, again: Logged) -> tuple[list[bytes], list[bytes]]:
    """What the log had before a place, and has after it."""
    every, later = (list(raw_since(one.engine, one.began)) for one in (site, again))
    rest = later[-2:]
    assert every[-2:] == rest
    return every[:-2], rest


def test_xa_in_one_phase_is_a_transaction_like_others(site: Logged) -> None:
    site.run(
        "XA START 'four'", "UPDATE safe SET v = 4", "XA END 'four'", "XA COMMIT 'four' ONE PHASE"
    )
    mirror = site.mirror("safe")
    assert values(site.found(mirror)) == really(site, mirror)


ROLLED_BACK = (
    ("BEGIN", "UPDATE safe SET v = 1", "ROLLBACK"),
    ("BEGIN", "UPDATE safe SET v = 1", "UPDATE plain SET v = 1", "ROLLBACK"),
    ("BEGIN", "UPDATE plain SET v = 1", "UPDATE safe SET v = 1", "ROLLBACK"),
    (
        "BEGIN",
        "UPDATE safe SET v = 1 WHERE id = 1",
        "SAVEPOINT a",
        "UPDATE safe SET v = 2",
        "ROLLBACK TO a",
        "COMMIT",
    ),
    (
        "BEGIN",
        "UPDATE plain SET v = 1",
        "SAVEPOINT `to b`",
        "UPDATE safe SET v = 2",
        "UPDATE plain SET v = 3",
        "ROLLBACK TO `to b`",
        "UPDATE safe SET v = 4 WHERE id = 1",
        "COMMIT",
    ),
    ("CREATE TEMPORARY TABLE x (a INT)", "BEGIN", "UPDATE safe SET v = 1",
     "DROP TEMPORARY TABLE x", "ROLLBACK"),
    ("CREATE TRIGGER g AFTER UPDATE ON safe FOR EACH ROW UPDATE plain SET v = 9 WHERE id = NEW.id",
     "BEGIN", "SAVEPOINT s", "UPDATE safe SET v = 5", "ROLLBACK TO s", "COMMIT"),
    ("CREATE TRIGGER g AFTER UPDATE ON safe FOR EACH ROW UPDATE plain SET v = 9 WHERE id = NEW.id",
     "BEGIN", "UPDATE safe SET v = 5", "ROLLBACK"),
)  # fmt: skip


@pytest.mark.parametrize("direct", ["ON", "OFF"])
@pytest.mark.parametrize("statements", ROLLED_BACK)
def test_what_is_rolled_back_is_not_told_or_its_table_is(
    site: Logged, statements: tuple[str, ...], direct: str
) -> None:
    """Of tables of both kinds, whose engine keeps its rows and whose takes them back."""
    site.run(f"SET binlog_direct_non_transactional_updates = {direct}", *statements)
    mirror = site.mirror("safe", "plain")
    found = site.found(mirror)
    told = {table for tables, _ in concerned(found) for table in tables or ()}
    state = dict.fromkeys(really(site, mirror), 0) | values(found)
    wrong = {identity[0] for identity, v in really(site, mirror).items() if state[identity] != v}
    assert wrong <= {name for name, one in (("e0", "safe"), ("e1", "plain")) if one in told}
    if not wrong:
        assert told <= {"safe", "plain"}


def test_a_failed_statement_leaves_what_its_table_keeps(site: Logged) -> None:
    site.run("CREATE UNIQUE INDEX u ON plain (v, id)", "UPDATE plain SET v = id")
    with pytest.raises(Exception, match="Duplicate entry"):
        site.run("INSERT INTO plain VALUES (5, 1, 5), (6, 1, 6), (5, 1, 7)")
    mirror = site.mirror("plain")
    assert values(site.found(mirror)) == really(site, mirror)


def test_each_change_of_a_row_has_a_higher_version_than_the_one_before(site: Logged) -> None:
    """Within a transaction, and from one to the next; entities count each for themselves."""
    site.run(
        "BEGIN",
        "UPDATE safe SET v = 1",
        "UPDATE plain SET v = 1",
        "UPDATE safe SET v = 2",
        "UPDATE safe SET id = id + 10",
        "DELETE FROM safe WHERE id = 11",
        "COMMIT",
        "REPLACE INTO safe VALUES (12, 1, 5), (11, 1, 6)",
    )
    mirror = site.mirror("safe", "plain")
    changes = [one for one in site.found(mirror) if isinstance(one, Change)]
    of_safe = [one.version for one in changes if one.entity == "e0"]
    assert of_safe == sorted(of_safe)
    for key in {one.key for one in changes}:
        mine = [one.version for one in changes if (one.entity, one.key) == ("e0", key)]
        assert len(set(mine)) == len(mine)
    rows = [position_of_version(one) for one in of_safe]
    assert {row[0] for row in rows} == {1}
    assert [row for _, sequence, row in rows if sequence == rows[-1][1]] == [0, 1]
    assert values([one for one in changes if one.entity == "e0"])["e0", "12"] == 5
    assert site.differences(mirror) == []


def test_statements_that_come_in_words_concern_what_they_name(site: Logged) -> None:
    """TRUNCATE and definitions; of what a session writes as statements, any table."""
    site.run("TRUNCATE safe", "SET STATEMENT lock_wait_timeout = 3 FOR ALTER TABLE plain ADD w INT")
    site.run(
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET binlog_format = STATEMENT",
        "INSERT INTO safe VALUES (7, 1, 7)",
    )
    mirror = site.mirror("safe", "plain")
    told = [one for one in site.found(mirror) if isinstance(one, Concerned)]
    here = site.engine.url.database or ""
    touched = [
        tuple(table for table in ("safe", "plain", "other") if one.touches(here, table))
        for one in told
    ]
    assert touched == [("safe",), ("plain",), ("safe", "plain", "other")]
