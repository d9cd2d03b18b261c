"""Whatever happens to the server, its log or the network: never a silent gap, never the changes of
another history. Each ends in going on rightly, or in a clear stop."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
from pymongo.database import Database

from bridge.sync.log import capture
from bridge.sync.log.capture import run_capture
from bridge.sync.log.position import position_of_version
from stack.mariadb import MariaDB
from stack.waiting import wait_for
from tests.cutting import Cutting
from tests.sync.log.site import LOG_OPTIONS, LogSite
from tests.sync.log.torn import tear
from tests.sync.reconcile.site import in_background


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MariaDB]:
    """A MariaDB of this test's own, to be stopped."""
    options = [*LOG_OPTIONS, "--sync-binlog=1"]
    with MariaDB(tmp_path / "mariadb", options=options, grants=True) as made:
        yield made


@pytest.fixture
def site(
    server: MariaDB,
    mongodb_url: str,
    clean_mongodb: Database[dict[str, Any]],
    tmp_path: Path,
) -> Iterator[LogSite]:
    """Three projects are loaded."""
    folder = tmp_path / "site"
    folder.mkdir()
    made = LogSite(server, "shop", mongodb_url, clean_mongodb, folder)
    made.projects("vim", "git", "php")
    made.load()
    yield made
    made.engine.dispose()


@pytest.fixture
def lasting(log_site: LogSite) -> LogSite:
    """Three projects are loaded, from a server that others use, too."""
    log_site.projects("vim", "git", "php")
    log_site.load()
    return log_site


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stopped the reading is looked at again sooner."""
    monkeypatch.setattr(capture, "AGAIN", 0.3)


@contextmanager
def reading(site: LogSite) -> Iterator[None]:
    """A process that reads the log, whatever becomes of it."""

    def run(stop: threading.Event) -> None:
        run_capture(site.settings, stop=stop, log=structlog.get_logger())

    with in_background(run):
        yield


def problem(site: LogSite) -> str:
    """Why nobody reads on."""
    return wait_for(lambda: site.kept.read().problem, bound=30, what="a clear stop")


def healed_by_a_load(site: LogSite) -> None:
    """The command that is named heals it, and the log is read on from there."""
    assert site.kept.read().do == "bridgectl snapshot"
    site.load()
    site.sql("INSERT INTO projects VALUES ('after', 'After', 1)")
    site.caught_up()
    assert site.is_equal()
    assert {position_of_version(one)[0] for one in site.versions().values()} == {2}


def test_a_server_that_is_killed_and_comes_back_is_read_on(site: LogSite) -> None:
    with reading(site):
        site.sql("UPDATE projects SET title = 'before' WHERE name = 'vim'")
        site.caught_up()
        site.server.kill()
        site.server.start()
        site.sql("UPDATE projects SET title = 'after' WHERE name = 'git'")
        site.caught_up()

        assert site.is_equal()


def test_files_of_the_log_that_follow_each_other_are_read_through(lasting: LogSite) -> None:
    with reading(lasting):
        for number in range(5):
            lasting.sql("UPDATE projects SET size = :n", n=number)
            lasting.server.execute("FLUSH BINARY LOGS")
        lasting.caught_up()

        assert lasting.differences() == []


@pytest.mark.parametrize("runs", [True, False], ids=["while it is read", "while nobody reads"])
def test_a_log_that_was_begun_anew_is_another_one(site: LogSite, runs: bool) -> None:
    """The same statements again, so that numbers and places come again, too."""
    with reading(site):
        site.caught_up()
        if runs:
            site.server.execute("RESET MASTER")
            site.sql("UPDATE projects SET title = 'unseen'")
    if not runs:
        site.server.execute("RESET MASTER")
        for number in range(40):
            site.sql("UPDATE projects SET title = :t", t=f"unseen {number}")
    with reading(site):
        assert "the log" in problem(site) or "the place in its log" in problem(site)
        assert "unseen" not in " ".join(map(str, site.documents().values()))
        healed_by_a_load(site)


def test_a_log_that_was_thrown_away_stops_the_reading(site: LogSite) -> None:
    with reading(site):
        site.caught_up()
    site.sql("UPDATE projects SET title = 'unread'")
    site.server.execute("FLUSH BINARY LOGS", "FLUSH BINARY LOGS")

    def is_gone() -> bool:
        """The server keeps what somebody reads, and a while longer."""
        [*_, (last, *_)] = site.server.execute("SHOW BINARY LOGS")
        site.server.execute(f"PURGE BINARY LOGS TO '{last}'")
        return len(site.server.execute("SHOW BINARY LOGS")) == 1

    wait_for(is_gone, bound=60, interval=0.5, what="the log thrown away")
    with reading(site):
        assert "thrown away" in problem(site) or "nothing is there" in problem(site)
        healed_by_a_load(site)


def test_a_server_that_was_restored_from_a_backup_is_another_history(
    site: LogSite, tmp_path: Path
) -> None:
    """Its log has the same files, and goes on with other transactions of the same numbers."""
    site.server.stop()
    shutil.copytree(site.server.data, tmp_path / "backup")
    site.server.start()
    with reading(site):
        site.sql("INSERT INTO projects VALUES ('lost', 'Lost', 1)")
        site.caught_up()
    site.server.stop()
    shutil.rmtree(site.server.data)
    shutil.copytree(tmp_path / "backup", site.server.data)
    site.server.start()
    for number in range(5):
        site.sql("UPDATE projects SET title = :t", t=f"other {number}")
    with reading(site):
        problem(site)
        assert "lost" in site.documents()
        healed_by_a_load(site)
        assert site.documents()["lost"] is None


def test_a_replica_that_takes_over_is_another_log_and_is_loaded(
    site: LogSite, tmp_path: Path
) -> None:
    """It has the same transactions, with the same numbers, in files of its own; the site writes to
    it now, and the old server is gone."""
    options = [*LOG_OPTIONS, "--server-id=8", "--log-slave-updates"]
    with MariaDB(tmp_path / "replica", options=options, grants=True) as replica:
        replica.execute(
            f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={site.server.port}, "
            "MASTER_USER='root', MASTER_USE_GTID=slave_pos",
            "START SLAVE",
        )
        with reading(site):
            site.projects("late")
            site.caught_up()
        end = str(site.end())
        wait_for(lambda: replica.execute("SELECT @@gtid_slave_pos") == [(end,)], what="the replica")
        replica.execute("STOP SLAVE", "RESET SLAVE ALL")
        site.server.stop()
        moved = site.moved_to(replica)
        moved.sql("UPDATE projects SET title = 'unseen' WHERE name = 'vim'")
        with reading(moved):
            assert "where it was read last" in problem(moved)
            assert "unseen" not in moved.documents().values()
            healed_by_a_load(moved)
        moved.engine.dispose()


def test_clocks_that_go_back_change_nothing(lasting: LogSite) -> None:
    with reading(lasting):
        lasting.server.execute(
            f"USE {lasting.name}",
            "SET SESSION timestamp = 1000000",
            "UPDATE projects SET title = 'long ago'",
            "SET SESSION timestamp = 4000000000",
            "UPDATE projects SET title = 'far away' WHERE name = 'vim'",
            "SET SESSION timestamp = 2",
            "UPDATE projects SET title = 'at first' WHERE name = 'git'",
        )
        lasting.caught_up()

        assert lasting.differences() == []


def test_a_second_domain_stops_the_reading(site: LogSite) -> None:
    with reading(site):
        site.caught_up()
        site.server.execute(
            f"USE {site.name}",
            "SET SESSION gtid_domain_id = 7",
            "UPDATE projects SET title = 'elsewhere'",
        )
        assert "gtid_domain_id" in problem(site)
        assert "elsewhere" not in site.documents().values()


@pytest.mark.parametrize(
    ("setting", "good"),
    [
        ("binlog_format = MIXED", "binlog_format = ROW"),
        ("binlog_row_image = MINIMAL", "binlog_row_image = FULL"),
        ("binlog_row_metadata = NO_LOG", "binlog_row_metadata = FULL"),
    ],
)
def test_a_server_with_a_wrong_setting_is_not_read_until_it_is_mended(
    lasting: LogSite, setting: str, good: str
) -> None:
    lasting.server.execute(f"SET GLOBAL {setting}")
    with reading(lasting):
        try:
            assert f"SET GLOBAL {good}" in problem(lasting)
        finally:
            lasting.server.execute(f"SET GLOBAL {good}")
        lasting.engine.dispose()  # sessions keep what they began with
        lasting.sql("UPDATE projects SET title = 'after'")
        lasting.caught_up()

        assert lasting.is_equal()
        assert lasting.kept.read().problem == ""


def test_what_a_session_has_written_in_another_way_is_passed_by_a_load(site: LogSite) -> None:
    """It stays in the log, whatever the settings of the server are."""
    with reading(site):
        site.caught_up()
        site.server.execute(
            f"USE {site.name}",
            "SET SESSION gtid_seq_no = 1",
            "UPDATE projects SET size = 7",
        )
        assert "has no higher number" in problem(site)
        healed_by_a_load(site)


def test_a_second_process_waits_and_reads_on_when_the_first_one_is_gone(lasting: LogSite) -> None:
    with reading(lasting):
        lasting.caught_up()
        second = reading(lasting)
        second.__enter__()
        lasting.sql("UPDATE projects SET title = 'one'")
        lasting.caught_up()
    try:
        lasting.sql("UPDATE projects SET title = 'two'")
        lasting.caught_up()
        assert lasting.is_equal()
    finally:
        second.__exit__(None, None, None)


@pytest.mark.parametrize("first", range(0, 4000, 500))
def test_a_network_that_is_cut_anywhere_loses_nothing(
    lasting: LogSite, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections end after ever more bytes of the server's, in the middle of greetings, headers
    and rows."""
    way = Cutting(lasting.server.port, [first + 37 * number for number in range(14)])
    url = lasting.settings.sql_url.replace(str(lasting.server.port), str(way.port))
    monkeypatch.setattr("bridge.queue.waiting.FIRST_DELAY", 0.001)
    monkeypatch.setattr("bridge.queue.waiting.LONGEST_DELAY", 0.01)
    for number in range(6):
        lasting.sql("UPDATE projects SET title = :t", t=f"title {number}")
        lasting.sql("REPLACE INTO projects VALUES ('emacs', :t, 2)", t=f"emacs {number}")
    settings = replace(lasting.settings, sql_url=url)

    def run(stop: threading.Event) -> None:
        run_capture(settings, stop=stop, log=structlog.get_logger())

    try:
        with in_background(run):
            lasting.caught_up()
            assert lasting.is_equal()
    finally:
        way.close()


@pytest.mark.parametrize("cut", [0, 1, 40], ids=["between events", "in an event", "in another one"])
@pytest.mark.parametrize("most", [1, 1000], ids=["applied", "not applied yet"])
def test_a_transaction_in_which_the_server_ended_did_not_happen(
    site: LogSite, monkeypatch: pytest.MonkeyPatch, cut: int, most: int
) -> None:
    """Whatever of it was read, and whatever has its number then."""
    monkeypatch.setattr(capture, "MOST", most)
    site.sql("UPDATE projects SET title = 'torn'")
    with reading(site):
        site.sql("UPDATE projects SET title = 'kept'")
        site.caught_up()
        site.server.kill()
        tear(max(site.server.data.glob("bin.[0-9]*")), 2, cut)
        site.server.start()
        site.sql("INSERT INTO projects VALUES ('next', 'Next', 1)")
        site.sql("UPDATE projects SET size = 7 WHERE name = 'git'")
        site.caught_up()
        wait_for(lambda: not site.kept.read().dirty, bound=30, what="every mark healed")

        assert site.differences() == []
        assert site.documents()["git"] == "kept"


def test_a_file_that_cannot_be_read_is_not_passed_over_where_something_would_be_missing(
    site: LogSite,
) -> None:
    """The next file says that a transaction was before it which nobody has read."""
    with reading(site):
        site.caught_up()
    site.sql("UPDATE projects SET title = 'unread'")
    site.server.stop()
    file = max(site.server.data.glob("bin.[0-9]*"))
    raw = bytearray(file.read_bytes())
    raw[raw.rindex(b"unread")] ^= 1
    file.write_bytes(raw)
    site.server.start()
    with reading(site):
        assert "does not have the log" in problem(site) or "damaged" in problem(site)
        assert "unread" not in site.documents().values()
