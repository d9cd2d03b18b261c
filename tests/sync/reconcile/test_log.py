"""Entities of the database's log have no versions to compare: keys and contents are, and the place
in the log says when a difference is one."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import pytest
import structlog
from click.testing import CliRunner

from bridge.cli import cli
from bridge.errors import BridgeError
from bridge.sync.log.position import LAST_ROW, position_of_version, version
from bridge.sync.reconcile.repair import Repair
from bridge.sync.reconcile.schedule import Scheduled
from stack.waiting import wait_for
from tests.sync.log.site import SYNC, LogSite
from tests.sync.reconcile.site import in_background

FAR = version(1, 10**9, 0)
"""A version that the log never gave."""


@pytest.fixture
def site(log_site: LogSite) -> LogSite:
    """Both sides are equal, and nobody reads the log."""
    log_site.projects(*(f"p{n:02}" for n in range(12)))
    log_site.load()
    return log_site


def damage(site: LogSite) -> list[tuple[str, str]]:
    """Damage MongoDB in every way; what has to be found."""
    projects = site.database.projects
    projects.delete_one({"_id": "p00"})
    projects.update_one({"_id": "p01"}, {"$unset": {"_v": 1}})
    projects.update_one({"_id": "p02"}, {"$set": {"title": "another"}})
    projects.update_one({"_id": "p03"}, {"$set": {"_v": 5}})  # of an earlier owner: no difference
    projects.update_one({"_id": "p04"}, {"$set": {"_v": FAR}})
    projects.replace_one({"_id": "p05"}, {"_id": "p05", "_v": 7, "_del": True})
    projects.insert_one({"_id": "p99", "_v": 3, "name": "p99"})
    projects.update_one({"_id": "p06"}, {"$unset": {"size": 1}})
    projects.update_one({"_id": "p07"}, {"$set": {"_v": -4}})
    return [
        ("missing", "p00"),
        ("missing", "p05"),
        ("behind", "p01"),
        ("behind", "p07"),
        ("different", "p02"),
        ("different", "p06"),
        ("orphan", "p99"),
        ("ahead", "p04"),
    ]


def test_equal_sides_are_equal(site: LogSite) -> None:
    for name, rows in (("project", 12), ("release", 24)):
        result = site.reconcile(name, deep=True)
        assert result.equal, result
        assert result.rows == result.documents == result.compared == rows


@pytest.mark.parametrize("size", [4_000, 5_000, 300_000])
def test_long_documents_are_compared_as_short_ones(site: LogSite, size: int) -> None:
    """The driver hands them out in another form."""
    site.sql(
        "ALTER TABLE projects MODIFY title LONGTEXT",
        "UPDATE projects SET title = REPEAT(name, :n) WHERE name < 'p06'", n=size // 3,
    )  # fmt: skip
    site.load(rewrite=True)
    assert site.reconcile(deep=True).equal
    site.unlogged("UPDATE projects SET title = CONCAT(title, '!') WHERE name IN ('p02', 'p08')")
    assert site.differences() == [("different", "p02"), ("different", "p08")]


def test_every_damage_in_mongodb_is_found(site: LogSite) -> None:
    expected = damage(site)

    assert site.differences() == expected
    shallow = [(one.kind, one.key) for one in site.reconcile().differences]
    assert shallow == [one for one in expected if one[0] != "different"]


def test_what_the_log_was_not_told_is_found(site: LogSite) -> None:
    site.unlogged(
        "UPDATE projects SET title = 'silent' WHERE name = 'p01'",
        "DELETE FROM releases WHERE project = 'p02'",
        "DELETE FROM projects WHERE name = 'p02'",
        "INSERT INTO projects VALUES ('p50', 'silent', 1)",
        "UPDATE releases SET gone = 1 WHERE project = 'p03' AND version = 1",
    )

    assert site.differences() == [("missing", "p50"), ("different", "p01"), ("orphan", "p02")]
    assert site.differences("release") == [
        ("orphan", "p02/1"),
        ("orphan", "p02/2"),
        ("orphan", "p03/1"),
    ]


def test_a_tombstone_that_is_none_is_found(site: LogSite) -> None:
    site.sql("DELETE FROM releases")
    site.load("release")
    site.database.releases.update_one({"_id": "p01/1"}, {"$set": {"file": "f"}})
    site.database.releases.update_one({"_id": "p01/2"}, {"$set": {"_v": FAR}})

    assert site.differences("release") == [("tombstone", "p01/1"), ("tombstone", "p01/2")]


def test_what_the_log_will_still_tell_is_no_difference(site: LogSite) -> None:
    site.sql("UPDATE projects SET title = 'edited' WHERE name = 'p01'")
    site.sql("DELETE FROM releases WHERE project = 'p02'")
    site.projects("p50")
    equal: list[bool] = []

    def compare(stop: threading.Event) -> None:
        equal.extend(site.reconcile(one, wait=10.0, deep=True).equal for one in names)

    names = ["project", "release"]
    with in_background(compare), site.capturing():
        pass
    assert equal == [True, True]


def test_where_nobody_reads_the_log_it_is_said(site: LogSite) -> None:
    site.sql("UPDATE projects SET title = 'edited' WHERE name = 'p01'")

    [found] = site.reconcile(wait=0.05, deep=True).differences

    assert (found.kind, found.key) == ("different", "p01")
    assert f"MongoDB has come to {site.position()} in the log" in found.detail
    assert "does `bridgectl capture` run?" in found.detail


def test_a_difference_that_is_certain_is_not_waited_for(site: LogSite) -> None:
    site.database.projects.delete_one({"_id": "p01"})

    # Ten times as long would be waited for.
    assert site.differences(wait=600.0) == [("missing", "p01")]


def test_live_edits_raise_no_false_alarm(site: LogSite) -> None:
    edits = 0

    def edit(stop: threading.Event) -> None:
        nonlocal edits
        chance = random.Random(2)
        while not stop.is_set():
            edits += 1
            site.sql(
                chance.choice(
                    [
                        "REPLACE INTO projects VALUES (:name, :title, 1)",
                        "UPDATE projects SET title = :title WHERE name = :name",
                        "DELETE FROM projects WHERE name = :name",
                    ]
                ),
                name=f"p{chance.randrange(30):02}",
                title=str(edits),
            )

    site.sql("DROP TABLE releases")
    with site.capturing(), in_background(edit):
        for deep in (True, False, True):
            result = site.reconcile(wait=10.0, deep=deep)
            assert result.equal, result
    assert edits > 10
    assert site.is_equal()


class TestOfRepairs:
    """Nothing goes over a queue: there is none."""

    def repair(self, site: LogSite, name: str = "project") -> Any:
        return site.reconcile(name, deep=True, repair=Repair(None))

    def test_what_differs_is_written(self, site: LogSite) -> None:
        expected = damage(site)
        site.sql("UPDATE projects SET size = 3 WHERE name = 'p11'")  # the log goes on
        with site.capturing():
            pass

        result = self.repair(site)

        [ahead] = result.differences
        assert (ahead.kind, ahead.key) == ("ahead", "p04")
        assert "delete the document by hand" in ahead.detail
        assert sum(result.repaired.values()) == len(expected) - 1
        site.database.projects.delete_one({"_id": "p04"})
        assert self.repair(site).equal
        assert site.is_equal()
        assert site.reconcile(deep=True).equal

    def test_it_is_written_with_the_version_of_the_reading(self, site: LogSite) -> None:
        site.sql("UPDATE projects SET size = 3 WHERE name = 'p11'")
        with site.capturing():
            pass
        site.database.projects.delete_one({"_id": "p01"})
        site.database.projects.insert_one({"_id": "p77", "_v": 3})

        assert self.repair(site).equal

        end = site.end()
        assert end is not None
        expected = version(1, end.sequence, LAST_ROW)
        assert site.versions()["p01"] == site.versions()["p77"] == expected
        with site.capturing():
            site.sql("UPDATE projects SET title = 'later' WHERE name = 'p01'")
            site.sql("INSERT INTO projects VALUES ('p77', 'later', 1)")
        assert site.is_equal()

    def test_what_the_log_still_tells_of_before_loses(self, site: LogSite) -> None:
        site.sql("UPDATE projects SET title = 'first' WHERE name = 'p01'")
        site.unlogged("UPDATE projects SET title = 'silent' WHERE name = 'p01'")

        self.repair(site)
        assert site.documents()["p01"] == "silent"
        with site.capturing():
            pass

        assert site.documents()["p01"] == "silent"

    def test_a_wrong_database_deletes_nothing(
        self, site: LogSite, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bridge.sync.reconcile.repair.FEW", 5)
        site.unlogged("DELETE FROM releases", "DELETE FROM projects")

        result = self.repair(site)

        assert len(result.differences) == 12
        assert "wrong database" in result.differences[0].detail
        assert len(site.documents()) == 12


def test_another_history_is_an_error_that_says_what_to_run(site: LogSite) -> None:
    site.server.execute("RESET MASTER")

    with pytest.raises(BridgeError, match=r"another log.*bridgectl snapshot"):
        site.reconcile()


def test_what_nobody_has_loaded_cannot_be_compared(log_site: LogSite) -> None:
    with pytest.raises(BridgeError, match=r"nobody has read it yet: run `bridgectl snapshot"):
        log_site.reconcile()


def test_versions_of_a_new_epoch_are_above_all_others(site: LogSite) -> None:
    before = max(site.versions().values())
    site.server.execute("RESET MASTER")
    site.load()

    assert min(site.versions().values()) > before
    assert {position_of_version(one)[0] for one in site.versions().values()} == {2}
    assert site.reconcile(deep=True).equal


def test_the_scheduled_one_compares_contents(site: LogSite) -> None:
    site.write_sync(SYNC + "reconcile: {every: 1h, repair: true}\n")
    site.unlogged("UPDATE projects SET title = 'silent' WHERE name = 'p01'")
    site.sql("UPDATE projects SET size = 2 WHERE name = 'p02'")
    with site.capturing():
        pass
    scheduled = Scheduled(site.settings, site.mirror, structlog.get_logger())

    scheduled.start()
    try:
        wait_for(lambda: site.documents()["p01"] == "silent", bound=30)
    finally:
        scheduled.stop()


def test_the_command_repairs_without_a_queue(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "BRIDGE_SYNC": str(site.settings.sync),
        "BRIDGE_SQL_URL": site.settings.sql_url,
        "BRIDGE_MONGODB_URL": site.settings.mongodb_url,
        "BRIDGE_BROKER_URL": site.settings.broker_url,  # nobody is there
    }.items():
        monkeypatch.setenv(name, value)
    site.database.projects.delete_one({"_id": "p01"})

    done = CliRunner().invoke(cli, ["reconcile", "project", "--repair", "-o", "json"])

    assert done.exit_code == 0, done.output
    [found] = json.loads(done.stdout)["entities"]
    assert found["repaired"] == {"missing": 1}
    assert site.is_equal()
