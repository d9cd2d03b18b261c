"""What is read in a consistent snapshot is of the place in the log that it says."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.database import connect
from bridge.sync.log import snapshots
from bridge.sync.log.position import LAST_ROW, Gtid, Position, version
from bridge.sync.log.snapshots import Readings, consistent
from bridge.sync.sql.source import SqlSource
from stack.waiting import wait_for
from tests.sync.log.site import LogSite
from tests.sync.reconcile.site import in_background


@pytest.fixture
def site(log_site: LogSite) -> LogSite:
    log_site.sql("CREATE TABLE counter (n INT NOT NULL)", "INSERT INTO counter VALUES (0)")
    return log_site


def test_each_place_is_that_of_its_rows_while_others_write(site: LogSite) -> None:
    """Every transaction counts by one, so what was counted says which one it was."""

    def count(stop: threading.Event) -> None:
        with connect(site.settings.sql_url).connect() as connection:
            while not stop.is_set():
                with connection.begin():
                    connection.exec_driver_sql("UPDATE counter SET n = n + 1")

    end = site.end()
    assert end is not None
    seen = set()
    with in_background(count):
        while len(seen) < 200:
            with consistent(site.engine) as (connection, place):
                n = connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
            assert place.gtid is not None
            assert place.gtid.sequence == end.sequence + n
            seen.add(n)


def test_a_reading_has_the_version_of_its_place(site: LogSite) -> None:
    end = site.end()
    assert end is not None
    readings = Readings(Position(3, None))

    with readings(site.engine) as (_, found):
        assert found == version(3, end.sequence, LAST_ROW)
    assert readings.newest(site.engine) == found


def test_a_place_that_has_not_moved_is_not_asked_for_again(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    ask = snapshots.gtid_at

    def gtid_at(*place: Any) -> str:
        asked.append(place)
        return ask(*place)

    monkeypatch.setattr(snapshots, "gtid_at", gtid_at)
    readings = Readings(Position(1, None))
    versions = []
    for _ in range(3):
        with readings(site.engine) as (_, found):
            versions.append(found)

    assert len(asked) == len(set(versions)) == 1
    site.sql("UPDATE counter SET n = n + 1")
    with readings(site.engine) as (_, found):
        assert found > versions[0]


def test_nobody_waits_for_a_reading(site: LogSite) -> None:
    with consistent(site.engine) as (connection, _):
        connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
        site.sql("SET SESSION innodb_lock_wait_timeout = 1", "UPDATE counter SET n = 7")
        found = connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
    assert found == 0


@pytest.mark.parametrize("gtid", ["9-7-1", "0-7-999999999"])
def test_a_log_that_cannot_be_that_of_the_position_is_told(
    site: LogSite, gtid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "VISIBLE", 0.05)
    readings = Readings(Position(1, Gtid.parse(gtid)))

    with pytest.raises(BridgeError, match="another log"), readings(site.engine):
        pass
    with pytest.raises(BridgeError, match="another log"):
        readings.newest(site.engine)


def test_what_waits_for_a_replica_is_waited_for_and_is_no_other_log(site: LogSite) -> None:
    """The log says it, and so does whoever reads that, before anybody can read the rows."""
    site.server.execute(
        "SET GLOBAL rpl_semi_sync_master_timeout = 3600000",
        "SET GLOBAL rpl_semi_sync_master_wait_point = AFTER_SYNC",
        "SET GLOBAL rpl_semi_sync_master_wait_no_slave = 1",
        "SET GLOBAL rpl_semi_sync_master_enabled = 1",
    )
    before = site.end()
    writing = threading.Thread(target=site.sql, args=["UPDATE counter SET n = 7"])
    writing.start()
    try:
        end = wait_for(lambda: None if (now := site.end()) == before else now)
        readings = Readings(Position(1, end))
        with (
            pytest.raises(ServerAway, match="does not show yet"),
            readings(site.engine),
        ):
            pass
    finally:
        site.server.execute("SET GLOBAL rpl_semi_sync_master_enabled = 0")
        writing.join()
    with readings(site.engine) as (connection, _):
        assert connection.exec_driver_sql("SELECT n FROM counter").scalar_one() == 7


def test_a_second_domain_is_told(site: LogSite) -> None:
    site.server.execute(
        f"USE {site.name}", "SET SESSION gtid_domain_id = 5", "UPDATE counter SET n = n + 1"
    )
    try:
        with pytest.raises(BridgeError, match="more than one domain"), consistent(site.engine):
            pass
    finally:
        site.server.execute("RESET MASTER")


def test_another_database_than_mariadb_or_mysql_is_told() -> None:
    with (
        pytest.raises(BridgeError, match="reads the log of MariaDB or MySQL"),
        consistent(connect("sqlite://")),
    ):
        pass


def test_a_table_that_is_altered_meanwhile_is_read_anew(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.projects("p01")
    site.load("project")
    source = site.source("project")
    source.chunk(None, 10)
    altered: list[bool] = []

    class Altering(Readings):
        def version(self, gtid: Gtid | None) -> int:
            """After the snapshot has begun, and before the table is read."""
            if not altered:
                altered.append(True)
                site.sql("ALTER TABLE projects ADD extra INT NOT NULL DEFAULT 4")
            return super().version(gtid)

    source = SqlSource(site.engine, "project", site.mirror, reading=Altering(site.position()))

    [event] = source.chunk(None, 10).events
    assert event.data is not None
    assert event.data["extra"] == 4


def test_rows_of_the_log_cannot_be_read_without_a_place(site: LogSite) -> None:
    source = SqlSource(site.engine, "project", site.mirror)

    assert source.count() == 0
    with pytest.raises(BridgeError, match="run `bridgectl snapshot project`"):
        source.chunk(None, 10)


def test_a_table_that_is_altered_all_the_time_is_waited_for(site: LogSite) -> None:
    site.projects("p01")

    class Altering(Readings):
        def version(self, gtid: Gtid | None) -> int:
            site.sql(
                "ALTER TABLE projects MODIFY size BIGINT", "ALTER TABLE projects MODIFY size INT"
            )
            return super().version(gtid)

    source = SqlSource(site.engine, "project", site.mirror, reading=Altering(Position(1, None)))
    with pytest.raises(ServerAway, match="alters the table of project"):
        source.chunk(None, 10)
