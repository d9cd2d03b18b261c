"""What `bridgectl doctor` says of the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bridge.findings import Finding
from bridge.sync.examine import log
from bridge.sync.log import findings as looking
from bridge.sync.log.kept import Dirty, Halted, Tally
from bridge.sync.reconcile import results as reconciled
from bridge.sync.state import Owner, State
from stack.ports import free_port
from stack.waiting import wait_for
from tests.sync.log.site import LogSite

Told = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that is behind is not waited for."""
    monkeypatch.setattr(looking, "PATIENCE", 0.0)


def found(site: LogSite, **other: Any) -> list[Finding]:
    return list(log(replace(site.settings, **other)))


def bad(site: LogSite) -> Told:
    """What is wrong, and what to do."""
    return [(one.says, one.do) for one in found(site) if one.state == "bad"]


@pytest.fixture
def read(log_site: LogSite) -> Callable[..., None]:
    """Somebody reads; said: what they say."""
    log_site.projects("vim")
    log_site.load()
    owner = Owner.me()

    def keep(**said: Any) -> None:
        log_site.kept.take(owner, 1)
        position = replace(log_site.position(), gtid=log_site.end(), time=int(time.time()))
        log_site.kept.keep(owner, position, **said)

    keep()
    return keep


def test_a_site_without_the_log_is_told_nothing(log_site: LogSite) -> None:
    log_site.write_sync("version: 1\nentities: {note: {collection: notes}}\n")

    assert found(log_site) == []


def test_before_anybody_reads_the_command_is_named(log_site: LogSite) -> None:
    assert bad(log_site) == [("nobody has read it yet", "bridgectl capture")]


def test_a_log_that_is_read_to_its_end_is_well(log_site: LogSite) -> None:
    log_site.projects("vim")
    log_site.load()
    with log_site.capturing():
        log_site.caught_up()
        wait_for(lambda: not [one for one in found(log_site) if one.state == "bad"], bound=30)
        says = [one.says for one in found(log_site)]

    assert "can be read" in says
    assert any(one.startswith("all applied, up to 0-7-") for one in says)


def test_a_reader_that_is_behind_for_a_moment_is_waited_for(
    log_site: LogSite, read: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PATIENCE", 60.0)
    monkeypatch.setattr(looking, "sleep", lambda seconds: read())
    log_site.sql("UPDATE projects SET title = 'unread'")

    assert bad(log_site) == []


def test_one_that_stays_behind_is_not_well(log_site: LogSite, read: Callable[..., None]) -> None:
    log_site.sql("UPDATE projects SET title = 'unread'")

    [(says, do)] = bad(log_site)

    assert says.endswith(f"it ends at {log_site.end()}: 1 behind")
    assert "bridgectl status" in do


def test_a_log_that_nobody_reads_any_more_is_bad_news(log_site: LogSite) -> None:
    log_site.projects("vim")
    log_site.load()
    with log_site.capturing():
        log_site.caught_up()

    [(says, do)] = bad(log_site)

    assert says.startswith("nobody has read the log for")
    assert do == "bridgectl capture"


def test_what_keeps_it_from_being_read_is_said_with_its_cure(
    log_site: LogSite, read: Callable[..., None]
) -> None:
    owner = Owner.of(log_site.database.bridge_state.find_one({"_id": "log"}) or {})
    assert owner is not None
    log_site.kept.cannot(owner, "the log is another one", "bridgectl snapshot")

    assert bad(log_site) == [("does not read on: the log is another one", "bridgectl snapshot")]


def test_settings_are_looked_at(log_site: LogSite, read: Callable[..., None]) -> None:
    log_site.server.execute("SET GLOBAL binlog_row_image = MINIMAL")
    try:
        [(says, do)] = bad(log_site)
    finally:
        log_site.server.execute("SET GLOBAL binlog_row_image = FULL")

    assert "parts of rows" in says
    assert do.startswith("SET GLOBAL binlog_row_image = FULL")


def test_stopped_entities_have_the_command_that_heals_them(
    log_site: LogSite, read: Callable[..., None]
) -> None:
    sequence = log_site.position().sequence + 10
    halted = Halted("0-7-9", sequence, "it is gone", "bridgectl snapshot project")
    read(halted={"project": halted})

    assert bad(log_site) == [("stopped: it is gone", "bridgectl snapshot project")]


@pytest.mark.parametrize(("age", "state"), [(5.0, "note"), (1200.0, "bad")])
def test_what_is_dirty_for_long_is_bad_news(
    log_site: LogSite, read: Callable[..., None], age: float, state: str
) -> None:
    sequence = log_site.position().sequence + 10
    read(dirty={"project": Dirty("0-7-9", sequence, "TRUNCATE", None, time.time() - age)})

    [one] = [one for one in found(log_site) if one.what == "log: project"]

    assert one.state == state
    assert "TRUNCATE" in one.says
    assert ("bridgectl snapshot project" in one.do) is (state == "bad")


@pytest.mark.parametrize(
    ("age", "keeps", "is_bad"), [(600, 86400, False), (600, 1000, True), (600, 0, False)]
)
def test_how_long_the_server_keeps_its_log_is_held_against_what_is_not_read(
    log_site: LogSite, read: Callable[..., None], age: int, keeps: int, is_bad: bool
) -> None:
    log_site.sql("UPDATE projects SET title = 'unread'")
    place = {"position.time": int(time.time()) - age}
    log_site.database.bridge_state.update_one({"_id": "log"}, {"$set": place})
    log_site.server.execute(f"SET GLOBAL binlog_expire_logs_seconds = {keeps}")
    try:
        says = [says for says, _ in bad(log_site) if "the server keeps it" in says]
    finally:
        log_site.server.execute("SET GLOBAL binlog_expire_logs_seconds = 0")

    assert ["may be 10 min old" in one for one in says] == [True] * is_bad


def test_what_differs_is_bad_news_until_it_is_reconciled(
    log_site: LogSite, read: Callable[..., None]
) -> None:
    read()
    log_site.write_sync(
        "version: 1\nentities: {project: {collection: projects, source: "
        "{table: projects, key: name, version: size, log: compare}}}\n"
    )
    log_site.kept.compared("project", Tally(9, 1, 0, "vim differs"))

    [(says, do)] = bad(log_site)
    assert "9 changes compared, 1 differed" in says
    assert do == "bridgectl reconcile project --deep --repair"

    result = log_site.reconcile(deep=True)
    reconciled.keep(State(log_site.database), result, deep=True)

    assert bad(log_site) == []


@pytest.mark.parametrize("what", ["sql_url", "mongodb_url"])
def test_servers_that_do_not_answer_are_told_elsewhere(log_site: LogSite, what: str) -> None:
    scheme = what.partition("_")[0].replace("sql", "mysql")
    url = f"{scheme}://127.0.0.1:{free_port()}/bridge"

    assert [one for one in found(log_site, **{what: url}) if one.state == "bad"] == []


def test_a_database_without_a_name_is_asked_for(log_site: LogSite) -> None:
    [one] = found(log_site, sql_url="")

    assert (one.state, one.where) == ("bad", "BRIDGE_SQL_URL")


def test_a_database_whose_log_is_not_read_is_named(log_site: LogSite) -> None:
    [one] = found(log_site, sql_url="sqlite://")

    assert one.state == "bad"
    assert "MariaDB and MySQL" in one.says
