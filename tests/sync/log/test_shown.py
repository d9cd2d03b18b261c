"""How the reading of the log is, as operators see it: each state has its row and its number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.sync.log.kept import Dirty, Halted
from bridge.sync.log.shown import LogStatus, LogWatch, Told, failures, metrics, status_rows
from bridge.sync.state import Owner
from stack.ports import free_port
from stack.waiting import wait_for
from tests.sync.log.site import LogSite

WELL = LogStatus("0-7-12", "0-7-12", 0, 0.0, 2)
ALL = ("database's log", "all applied")
TOLD = Told(1204, 3, 2, "vim differs", 125.0)


def rows(found: LogStatus, reconciled: dict[str, float] | None = None) -> list[tuple[str, str]]:
    return [(row["what"], row["is"]) for row in status_rows(found, reconciled)]


def notes(found: LogStatus) -> str:
    return " ".join(row["note"] for row in status_rows(found))


def numbers(found: LogStatus | None) -> dict[str, float]:
    """Those of the metrics, by name and labels."""
    lines = [line for line in metrics(found).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.parametrize(
    ("found", "expected", "note"),
    [
        (WELL, [ALL], "0-7-12 of 0-7-12, epoch 2"),
        (
            replace(WELL, end="0-7-1512", behind=1500, lag=2.34),
            [("database's log", "1,500 behind for 2.3 s")],
            "0-7-12 of 0-7-1512",
        ),
        (replace(WELL, behind=1, lag=0.0), [("database's log", "1 behind")], ""),
        (LogStatus(), [("database's log", "not read")], "bridgectl capture"),
        (LogStatus(end="0-7-16"), [("database's log", "not read")], "bridgectl capture"),
        (
            LogStatus(wrong="the SQL database does not answer"),
            [("database's log", "not known")],
            "the SQL database does not answer",
        ),
        (replace(WELL, silent=40.0), [ALL, ("capture", "none")], "bridgectl capture"),
        (
            replace(WELL, silent=40.0, problem="another log", do="bridgectl snapshot"),
            [("database's log", "not read on"), ("database's log", "stopped")],
            "another log: bridgectl snapshot",
        ),
        (
            replace(WELL, problem="log_bin is OFF"),
            [("database's log", "not read on"), ("database's log", "stopped")],
            "epoch 2 log_bin is OFF",
        ),
        (
            replace(WELL, stopped={"page": "not loaded: bridgectl snapshot page"}),
            [ALL, ("log: page", "stopped")],
            "not loaded: bridgectl snapshot page",
        ),
        (
            replace(WELL, dirty={"page": "TRUNCATE"}),
            [ALL, ("log: page", "dirty")],
            "TRUNCATE; it is compared",
        ),
        (
            replace(WELL, dirty={"page": "ALTER"}, stopped={"page": "no column id"}),
            [ALL, ("log: page", "stopped")],
            "no column id",
        ),
        (
            replace(WELL, compared={"page": Told(5)}),
            [ALL, ("log: page", "compared")],
            "5 changes, 0 differed",
        ),
        (
            replace(WELL, compared={"page": TOLD}),
            [ALL, ("log: page", "to be reconciled")],
            "1,204 changes, 3 differed, 2 could not be compared; 2 min ago: vim differs: "
            "bridgectl reconcile page --deep --repair",
        ),
    ],
)
def test_each_state_has_its_rows(
    found: LogStatus, expected: list[tuple[str, str]], note: str
) -> None:
    assert rows(found) == expected
    assert note in notes(found)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, {}),
        (WELL, {}),
        (LogStatus(end="0-7-16", silent=30.0), {}),
        (LogStatus(wrong="the SQL database does not answer"), {}),
        (replace(WELL, dirty={"page": "TRUNCATE"}, behind=4), {}),
        (replace(WELL, silent=40.0), {"database's log": "nobody reads it: bridgectl capture"}),
        (
            replace(WELL, silent=40.0, problem="another log", do="bridgectl snapshot"),
            {"database's log": "another log: bridgectl snapshot"},
        ),
        (replace(WELL, stopped={"page": "not loaded"}), {"log: page": "not loaded"}),
    ],
)
def test_what_does_not_go_on_is_a_failure_of_the_status(
    found: LogStatus | None, expected: dict[str, str]
) -> None:
    assert failures(found) == expected


@pytest.mark.parametrize(
    ("reconciled", "is_"),
    [
        ({"page": 120.0}, "compared"),
        ({"page": 130.0}, "to be reconciled"),
        ({"other": 120.0}, "to be reconciled"),
    ],
)
def test_what_was_told_before_the_last_reconciling_is_no_news(
    reconciled: dict[str, float], is_: str
) -> None:
    found = replace(WELL, compared={"page": TOLD})

    assert rows(found, reconciled) == [ALL, ("log: page", is_)]


def test_where_no_entity_is_read_there_are_no_numbers() -> None:
    assert metrics(None) == b""


def test_numbers_are_those_of_the_status() -> None:
    found = replace(
        WELL,
        behind=4,
        lag=1.5,
        dirty={"page": "x"},
        stopped={"post": "y"},
        compared={"user": TOLD},
    )

    assert numbers(found) == {
        "bridge_log_up": 1.0,
        "bridge_log_behind": 4.0,
        "bridge_log_lag_seconds": 1.5,
        "bridge_log_sequence": 12.0,
        'bridge_log_dirty{entity="page"}': 1.0,
        'bridge_log_stopped{entity="post"}': 1.0,
        'bridge_log_compared_total{entity="user"}': 1204.0,
        'bridge_log_differing_total{entity="user"}': 3.0,
        'bridge_log_unchecked_total{entity="user"}': 2.0,
    }


def test_the_number_of_a_transaction_of_mysql_is_one_too() -> None:
    uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

    assert numbers(replace(WELL, position=f"{uuid}:77"))["bridge_log_sequence"] == 77.0


@pytest.mark.parametrize(
    "found",
    [
        replace(WELL, silent=20.0),
        replace(WELL, problem="another log"),
        LogStatus(wrong="the SQL database does not answer"),
        LogStatus(silent=30.0),
    ],
)
def test_a_log_that_nobody_reads_is_not_up(found: LogStatus) -> None:
    assert numbers(found)["bridge_log_up"] == 0.0


@contextmanager
def looking(site: LogSite, **other: Any) -> Iterator[LogWatch]:
    """One who looks at the servers of a site."""
    watch = LogWatch(replace(site.settings, **other))
    try:
        yield watch
    finally:
        watch.close()


def look(site: LogSite, **other: Any) -> LogStatus | None:
    with looking(site, **other) as watch:
        return watch()


def seen(site: LogSite, **other: Any) -> LogStatus:
    found = look(site, **other)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text", ["version: 1\nentities: {note: {collection: notes}}\n", "version: 2\n"]
)
def test_a_site_that_does_not_use_its_log_has_no_status(log_site: LogSite, text: str) -> None:
    """Nor one with a broken sync.yaml, of which others speak."""
    log_site.write_sync(text)

    assert look(log_site) is None


def test_before_anybody_reads_there_is_no_place(log_site: LogSite) -> None:
    found = seen(log_site)

    assert (found.position, found.behind, found.lag) == ("", None, None)
    assert found.silent is not None
    assert found.end == str(log_site.end())


def test_a_site_that_is_read_has_it_all_and_a_reader(log_site: LogSite) -> None:
    log_site.projects("vim")
    log_site.load()
    with log_site.capturing():
        log_site.sql("UPDATE projects SET title = 'new'")
        log_site.caught_up()
        found = seen(log_site)
        assert found == replace(
            LogStatus(),
            position=str(log_site.end()),
            end=found.position,
            behind=0,
            lag=0.0,
            epoch=1,
        )

    assert seen(log_site).silent is not None


def test_lag_is_for_how_long_there_has_been_an_end_that_is_not_reached(log_site: LogSite) -> None:
    log_site.projects("vim")
    log_site.load()
    owner, reached = Owner.me(), log_site.position()
    log_site.kept.take(owner, 1)
    log_site.kept.keep(owner, replace(reached, gtid=log_site.end()))
    with looking(log_site) as watch:

        def sees(behind: int, *, lag: bool) -> bool:
            found = watch()
            return found is not None and (found.behind, bool(found.lag)) == (behind, lag)

        wait_for(lambda: sees(0, lag=False), bound=30, what="nothing behind")
        log_site.sql("UPDATE projects SET title = 'unread'")
        wait_for(lambda: sees(1, lag=True), bound=30, what="a lag")
        log_site.kept.keep(owner, replace(reached, gtid=log_site.end()))
        wait_for(lambda: sees(0, lag=False), bound=30, what="the end of the lag")


def test_what_is_kept_is_shown(log_site: LogSite) -> None:
    log_site.projects("vim")
    log_site.load()
    owner, at = Owner.me(), log_site.position()
    log_site.kept.take(owner, 1)
    later = at.sequence + 10
    log_site.kept.keep(
        owner,
        at,
        {"project": Dirty("0-7-9", later, "TRUNCATE")},
        {"release": Halted("0-7-9", later, "it is gone", "bridgectl snapshot release")},
    )
    log_site.kept.cannot(owner, "the log is another one", "bridgectl snapshot")

    found = seen(log_site)

    assert dict(found.dirty) == {"project": "TRUNCATE"}
    assert dict(found.stopped) == {"release": "it is gone: bridgectl snapshot release"}
    assert (found.problem, found.do) == ("the log is another one", "bridgectl snapshot")
    assert (found.silent, found.epoch) == (None, 1)


@pytest.mark.parametrize(
    ("what", "url", "says"),
    [
        ("sql_url", "mysql://127.0.0.1:{}/shop", "the SQL database"),
        ("mongodb_url", "mongodb://127.0.0.1:{}/bridge", "MongoDB"),
    ],
)
def test_a_server_that_does_not_answer_is_named(
    log_site: LogSite, what: str, url: str, says: str
) -> None:
    found = seen(log_site, **{what: url.format(free_port())})

    assert says in found.wrong
    assert found.position == ""


def test_what_was_compared_is_shown_with_its_age(log_site: LogSite) -> None:
    log_site.load()
    log_site.write_sync(
        "version: 1\nentities: {project: {collection: projects, source: "
        "{table: projects, key: name, version: size, log: compare}}}\n"
    )
    state, told = log_site.database.bridge_state, {"compared": 7, "differing": 1, "why": "x"}
    state.update_one({"_id": "log"}, {"$set": {"compared.project": told}})
    never = seen(log_site).compared["project"]
    at = datetime(2020, 1, 1, tzinfo=UTC)
    state.update_one({"_id": "log"}, {"$set": {"compared.project.at": at}})

    found = seen(log_site).compared["project"]

    assert never == Told(7, 1, 0, "x", None)
    assert found.age is not None
    assert found.age > 86400
