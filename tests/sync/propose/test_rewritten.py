"""What a rewrite would change is what it then changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from bridge.queue.sql.database import connect
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.propose.rewritten import rewritten, summary
from bridge.sync.sql.source import SqlSource
from tests.minimal_sync import mirror_of

SYNC = """\
version: 1
entities:
  order:
    collection: orders
    source: {table: orders, key: id, version: ver}
    children: {lines: {entity: line, key: number}}
  line:
    collection: lines
    source: {table: order_lines, key: [order_id, number], version: ver, columns: {number: number, price: price}}
"""  # noqa: E501

OLD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(-5, 5), st.text("ab1", max_size=2)
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sql.Engine]:
    """Three orders with a line each."""
    made = connect(f"sqlite:///{tmp_path / 'site.sqlite'}")
    with made.begin() as connection:
        for statement in (
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, size INTEGER, ver INTEGER)",
            "CREATE TABLE order_lines (order_id INTEGER, number INTEGER, price DECIMAL(9, 2), "
            "ver INTEGER, PRIMARY KEY (order_id, number))",
            "INSERT INTO orders VALUES (1, 10, 1), (2, 20, 1), (3, 30, 1)",
            "INSERT INTO order_lines VALUES (1, 1, 5, 1), (2, 1, 5, 1), (3, 1, 5, 1)",
        ):
            connection.exec_driver_sql(statement)
    yield made
    made.dispose()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    """Orders with their lines."""
    return mirror_of(tmp_path, SYNC)


def load(engine: sql.Engine, mirror: Mirror, database: Database[Any]) -> None:
    """Write every row, whatever is there of the same version."""
    events = SqlSource(engine, "order", mirror, rewrite=True).chunk(None, 100).events
    assert not apply(database, mirror, events).failed


@settings(
    deadline=None,
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(OLD, min_size=3, max_size=3), st.lists(OLD, min_size=3, max_size=3))
def test_what_would_change_is_what_changes(
    engine: sql.Engine,
    mirror: Mirror,
    clean_mongodb: Database[Any],
    sizes: list[Any],
    prices: list[Any],
) -> None:
    """Value for value and type for type, of parents and of their children."""
    load(engine, mirror, clean_mongodb)
    good = {name: list(clean_mongodb[name].find(sort=["_id"])) for name in ("orders", "lines")}
    for number, (size, price) in enumerate(zip(sizes, prices, strict=True), 1):
        clean_mongodb.orders.update_one({"_id": str(number)}, {"$set": {"size": size}})
        clean_mongodb.lines.update_one({"_id": f"{number}/1"}, {"$set": {"price": price}})
    before = {name: list(clean_mongodb[name].find(sort=["_id"])) for name in ("orders", "lines")}

    found = {one.entity: one for one in rewritten(engine, clean_mongodb, mirror, "order", 0)}

    for entity, name in (("order", "orders"), ("line", "lines")):
        one = found[entity]
        differ = sum(
            repr(was) != repr(is_) for was, is_ in zip(before[name], good[name], strict=True)
        )
        assert (one.changed, one.same) == (differ, 3 - differ)
        assert sum(change.documents for change in one.changes.values()) == differ
        assert list(clean_mongodb[name].find(sort=["_id"])) == before[name]
        assert f"{differ} documents would change" in summary(one)
    load(engine, mirror, clean_mongodb)
    again = rewritten(engine, clean_mongodb, mirror, "order", 0)
    assert all(one.changed == 0 and not one.changes for one in again)


def test_no_more_rows_are_read_than_asked_for(
    engine: sql.Engine, mirror: Mirror, clean_mongodb: Database[Any]
) -> None:
    """And it says so."""
    load(engine, mirror, clean_mongodb)
    clean_mongodb.orders.update_many({}, {"$set": {"size": "x"}})
    order, _ = rewritten(engine, clean_mongodb, mirror, "order", 2)
    assert (order.rows, order.changed, order.all) == (2, 2, False)
    assert "of the first 2 rows" in summary(order)


def test_documents_of_another_version_or_none_are_counted_apart(
    engine: sql.Engine, mirror: Mirror, clean_mongodb: Database[Any]
) -> None:
    """Their next event changes them, whatever is done here."""
    load(engine, mirror, clean_mongodb)
    clean_mongodb.orders.update_one({"_id": "1"}, {"$set": {"_v": 0}})
    clean_mongodb.orders.delete_one({"_id": "2"})
    order, _ = rewritten(engine, clean_mongodb, mirror, "order", 0)
    assert (order.other, order.missing, order.same, order.changed) == (1, 1, 1, 0)


def test_documents_under_a_key_that_is_written_otherwise_now_are_counted(
    mariadb_url: str, tmp_path: Path, clean_mongodb: Database[Any]
) -> None:
    """A snapshot makes the new ones, and leaves these to people."""
    engine = connect(mariadb_url)
    text = (
        "version: 1\nentities:\n  t: {collection: t, source: {table: t, key: id, version: ver}}\n"
    )
    mirror = mirror_of(tmp_path, text)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t (id INT(8) ZEROFILL PRIMARY KEY, ver INT)")
            connection.exec_driver_sql("INSERT INTO t VALUES (42, 1), (43, 1)")
        clean_mongodb.t.insert_many(
            [{"_id": "00000042", "_v": 1, "id": "00000042"}, {"_id": "43", "_v": 1, "id": 43}]
        )
        [one] = rewritten(engine, clean_mongodb, mirror, "t", 0)
    finally:
        engine.dispose()
    assert (one.old_keys, one.old_key, one.missing, one.same) == (1, "00000042", 1, 1)
    assert "1 stay under a key that no row has now, such as '00000042'" in summary(one)
