"""Keys that are floating-point numbers of SQLite, which it prints otherwise than it keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.queue.events import Event
from tests.sync.triggers.trigger_site import Mongo, Site

SYNC = """\
version: 1
entities:
  thing: {collection: things, source: {table: things, key: k}}
"""


@pytest.fixture(params=["REAL", "NUMERIC", "DATETIME", "INT", "BLOB", ""])
def site(request: pytest.FixtureRequest, clean_mongodb: Mongo, tmp_path: Path) -> Iterator[Site]:
    made = Site(f"sqlite:///{tmp_path / 'site.sqlite'}", clean_mongodb, tmp_path, SYNC)
    made.run(f"CREATE TABLE things (k {request.param} PRIMARY KEY, n INT)")
    made.triggers.apply([])
    yield made
    made.engine.dispose()


@pytest.mark.parametrize(
    "number", ["0.5", "-1.25", "0.1", "999999999999999.0", "123456.789", "0.0001"]
)
def test_a_number_that_sqlite_prints_whole_is_a_key(site: Site, number: str) -> None:
    site.run(f"INSERT INTO things VALUES ({number}, 1)")
    site.pump()
    site.assert_equal()
    site.run("UPDATE things SET n = 2")
    site.pump()
    site.assert_equal()
    site.run("DELETE FROM things")
    site.pump()
    site.assert_equal()


@pytest.mark.parametrize("number", ["1.2345678901234567e30", "0.00001", "1e300", "-3e-7"])
def test_a_number_that_sqlite_prints_otherwise_is_never_taken_for_deleted(
    site: Site, number: str
) -> None:
    """Nobody finds it again by what a trigger notes of it."""
    site.run(f"INSERT INTO things VALUES ({number}, 1)")
    found = site.take()

    assert [Event.parse(one) for one in found.events] == []
    assert len(found.dead) == 1
