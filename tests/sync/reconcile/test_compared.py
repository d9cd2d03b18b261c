"""Entities whose versions are another's are compared with what the log tells, and not written."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
import structlog
from structlog.testing import capture_logs

from bridge.queue.sql.outbox import Outbox
from bridge.sync.capture import run_capture
from bridge.sync.log.kept import Dirty, Tally
from bridge.sync.log.shown import LogStatus, LogWatch, metrics, status_rows
from bridge.sync.reconcile import doubtful
from bridge.sync.relay import run_relay
from bridge.sync.sql.source import SqlSource
from bridge.sync.state import Owner
from bridge.sync.triggers.commands import Triggers
from bridge.sync.worker import run_worker
from stack.waiting import wait_for
from tests.sync.log.site import LogSite
from tests.sync.reconcile.site import in_background

SYNC = """\
version: 1
entities:
  project: {collection: projects, source: {table: projects, key: name, log: compare}}
  release:
    collection: releases
    source: {table: releases, key: [project, version], log: compare, deleted: gone}
"""


@pytest.fixture
def site(
    log_site: LogSite, redis_url: str, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> LogSite:
    """Triggers note what changes; three projects are in MongoDB."""
    monkeypatch.setattr(doubtful, "EVERY", 0.05)
    monkeypatch.setattr(doubtful, "WAIT", 0.3)
    log_site.settings = replace(log_site.settings, broker_url=redis_url)
    log_site.write_sync(SYNC)
    Triggers(log_site.engine, log_site.mirror, Outbox(log_site.engine)).apply([])
    log_site.projects("vim", "git", "php")
    log_site.load()
    return log_site


@contextmanager
def running(site: LogSite, *what: Callable[..., Any]) -> Iterator[None]:
    """These processes run."""

    def run(one: Callable[..., Any]) -> Callable[[threading.Event], None]:
        return lambda stop: one(site.settings, stop=stop, log=structlog.get_logger())

    if not what:
        yield
        return
    with in_background(run(what[0])), running(site, *what[1:]):
        yield


def tally(site: LogSite, entity: str = "project") -> Tally:
    return site.kept.read().tallies.get(entity, Tally())


def compared(site: LogSite, number: int) -> None:
    """Wait until so many changes were compared, of both entities."""

    def are_there() -> bool:
        found = site.kept.read().tallies.values()
        return sum(one.compared for one in found) >= number

    wait_for(are_there, bound=30, what=f"{number} changes compared")


def begun(site: LogSite) -> None:
    wait_for(lambda: site.kept.read().position, bound=30, what="a place in the log")
    site.caught_up()


def emptied(site: LogSite) -> None:
    wait_for(lambda: not Outbox(site.engine).backlog().rows, bound=30, what="an empty outbox")


def shown(site: LogSite) -> LogStatus:
    watch = LogWatch(site.settings)
    try:
        found = watch()
    finally:
        watch.close()
    assert found is not None
    return found


def test_what_triggers_bring_is_equal(site: LogSite) -> None:
    with running(site, run_capture, run_worker, run_relay):
        begun(site)
        versions = site.versions()
        for number in range(20):
            site.sql("UPDATE projects SET title = :t", t=f"title {number}")
        site.sql("DELETE FROM releases WHERE version = 2")
        site.sql("INSERT INTO projects VALUES ('new', 'New', 1)")
        compared(site, 20 * 3 + 3 + 1)
        emptied(site)

    kept = site.kept.read()
    assert {name: one.differing for name, one in kept.tallies.items()} == {
        "project": 0,
        "release": 0,
    }
    assert (kept.follows, dict(kept.dirty), dict(kept.halted)) == (frozenset(), {}, {})
    assert site.is_equal()
    assert max(site.versions().values()) < 2**57, "a version of the log's"
    assert versions.keys() < site.versions().keys()


def test_a_row_that_no_trigger_saw_is_told_once_and_not_written(site: LogSite) -> None:
    with capture_logs() as lines, running(site, run_capture, run_worker, run_relay):
        begun(site)
        for event in "iud":
            site.sql(f"DROP TRIGGER bridge_project_{event}")
        site.sql("UPDATE projects SET title = 'unseen' WHERE name = 'vim'")
        wait_for(lambda: tally(site).differing == 1, bound=30, what="the difference told")
        site.sql("UPDATE releases SET file = 'seen'")
        compared(site, 7)
        emptied(site)

    told = [one for one in lines if one["event"] == "log.differs"]
    assert [(one["entity"], one["key"], one["kind"]) for one in told] == [
        ("project", "vim", "different")
    ]
    assert told[0]["do"] == "bridgectl reconcile project --deep --repair"
    assert site.documents()["vim"] == "Vim"
    found = shown(site)
    [row] = [one for one in status_rows(found) if one["what"] == "log: project"]
    assert row["is"] == "to be reconciled"
    assert "bridgectl reconcile project --deep --repair" in row["note"]
    assert b'bridge_log_differing_total{entity="project"} 1' in metrics(found)
    assert b'bridge_log_compared_total{entity="release"} 6' in metrics(found)


def test_rows_that_come_and_go_past_the_triggers_are_told(site: LogSite) -> None:
    with running(site, run_capture, run_worker, run_relay):
        begun(site)
        for event in "iud":
            site.sql(f"DROP TRIGGER bridge_release_{event}")
        site.sql("DELETE FROM releases WHERE project = 'vim' AND version = 1")
        site.sql("INSERT INTO releases (project, version, file) VALUES ('vim', 9, 'f')")
        wait_for(lambda: tally(site, "release").differing == 2, bound=30, what="both told")


def test_a_queue_that_stands_still_is_no_difference(site: LogSite) -> None:
    """Its lag explains it for as long as it lasts, which is longer than any other difference."""
    with capture_logs() as lines, running(site, run_capture):
        begun(site)
        site.sql("UPDATE projects SET title = 'late'")
        compared(site, 3)
        wait_for(lambda: Outbox(site.engine).backlog().lag > 4 * doubtful.WAIT, bound=30)
        assert tally(site).differing == 0
        with running(site, run_worker, run_relay):
            emptied(site)
            site.sql("DROP TRIGGER bridge_project_u")
            site.sql("UPDATE projects SET title = 'unseen' WHERE name = 'git'")
            wait_for(lambda: tally(site).differing, bound=30, what="the difference told")
    assert [one["key"] for one in lines if one["event"] == "log.differs"] == ["git"]


@pytest.mark.parametrize(
    ("statement", "entity", "why"),
    [
        ("TRUNCATE releases", "release", "TRUNCATE"),
        ("DELETE FROM projects WHERE name = 'vim'", "release", "a foreign key"),
    ],
)
def test_what_the_log_does_not_name_is_said_to_be_reconciled(
    site: LogSite, statement: str, entity: str, why: str
) -> None:
    with capture_logs() as lines, running(site, run_capture, run_worker, run_relay):
        begun(site)
        site.sql(statement)
        found = wait_for(lambda: tally(site, entity).unchecked and tally(site, entity), bound=30)
        assert why in found.why
        wait_for(lambda: [one for one in lines if one["event"] == "log.unchecked"])

    assert not site.kept.read().dirty
    [row] = [one for one in status_rows(shown(site)) if one["what"] == f"log: {entity}"]
    assert row["is"] == "to be reconciled"
    rows = status_rows(shown(site), {"project": 0.0, "release": 0.0})
    assert [one["is"] for one in rows if one["what"] == f"log: {entity}"] == ["compared"]


def test_more_doubts_than_there_is_room_for_are_counted(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubtful, "MOST", 2)
    with running(site, run_capture):
        begun(site)
        site.sql("UPDATE projects SET title = 'many'")
        wait_for(lambda: tally(site).unchecked == 1, bound=30, what="the third one counted")
        assert tally(site).compared == 3


def test_another_history_is_read_from_its_end(site: LogSite) -> None:
    """Nothing was written of it, so that nothing is to be loaded."""
    with running(site, run_capture):
        begun(site)
    site.server.execute("RESET MASTER")
    with running(site, run_capture, run_worker, run_relay):
        wait_for(lambda: tally(site).unchecked, bound=30, what="the gap told")
        site.caught_up()
        site.sql("UPDATE projects SET title = 'after' WHERE name = 'vim'")
        compared(site, 1)

    kept = site.kept.read()
    assert (kept.problem, kept.do) == ("", "")
    assert "was not read" in tally(site).why


def test_one_entity_is_written_and_another_one_is_compared(site: LogSite) -> None:
    Triggers(site.engine, site.mirror, Outbox(site.engine)).drop(["project"])
    site.write_sync(SYNC.replace("key: name, log: compare", "key: name, log: true"))
    site.load("project")
    with running(site, run_capture, run_worker, run_relay):
        site.sql("UPDATE projects SET title = 'by the log' WHERE name = 'vim'")
        site.sql("UPDATE releases SET file = 'by triggers' WHERE project = 'vim'")
        compared(site, 2)
        wait_for(lambda: site.documents()["vim"] == "by the log", bound=30)
        wait_for(lambda: site.documents("releases")["vim/1"] == "by triggers", bound=30)

    assert site.versions()["vim"] > 2**57 > site.versions("releases")["vim/1"]
    kept = site.kept.read()
    assert kept.follows == {"project"}
    assert list(kept.tallies) == ["release"]


def test_what_was_wrong_while_it_came_from_the_log_is_not_mended_by_it(site: LogSite) -> None:
    """It would be written with versions of the log's, above all that triggers give."""
    site.write_sync(SYNC.replace("log: compare", "log: true"))
    owner = Owner.me()
    with running(site, run_capture):
        begun(site)
    site.kept.take(owner, 1)
    at = site.position()
    site.kept.keep(owner, at, {"project": Dirty(str(at), at.sequence, "TRUNCATE")})
    site.kept.release(owner)
    assert site.kept.read().dirty.keys() == {"project"}
    versions = site.versions()
    site.database.projects.update_one({"_id": "vim"}, {"$set": {"title": "another"}})
    site.write_sync(SYNC)

    with running(site, run_capture):
        site.sql("UPDATE releases SET file = 'x' WHERE project = 'vim'")
        compared(site, 2)
        wait_for(lambda: not site.kept.read().dirty, bound=30, what="no mark")

    assert site.versions() == versions
    assert site.documents()["vim"] == "another"


FAMILY = """\
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name, version: size, log: compare}
    children: {releases: {entity: release, key: version}}
  release:
    collection: releases
    source:
      table: releases
      key: [project, version]
      columns: {file: file, version: version}
      log: compare
"""


def test_children_are_compared_with_what_their_parent_brought(
    log_site: LogSite, redis_url: str, clean_redis: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubtful, "EVERY", 0.05)
    monkeypatch.setattr(doubtful, "WAIT", 5.0)  # for what the test itself brings
    site = log_site
    site.settings = replace(site.settings, broker_url=redis_url)
    site.write_sync(FAMILY)
    site.projects("vim", "git")
    site.load()
    with capture_logs() as lines, running(site, run_capture):
        begun(site)
        site.sql(
            "UPDATE releases SET file = 'new' WHERE project = 'git'",
            "UPDATE projects SET size = size + 1 WHERE name = 'git'",
        )
        site.apply(*SqlSource(site.engine, "project", site.mirror).chunk(None, 10).events)
        site.sql("UPDATE releases SET file = 'unseen' WHERE project = 'vim' AND version = 1")
        compared(site, 4)
        wait_for(lambda: tally(site, "release").differing, bound=30, what="the child told")

    told = [(one["entity"], one["key"]) for one in lines if one["event"] == "log.differs"]
    assert told == [("release", "vim/1")]
