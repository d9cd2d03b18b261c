"""What reconciling found is repaired by events, and what cannot be is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bridge.errors import ServerAway
from bridge.queue.broker.publisher import Publisher
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.reconcile.findings import ReconcileResult
from bridge.sync.reconcile.repair import Repair
from stack.ports import free_port
from stack.waiting import wait_for
from tests.sync.reconcile.site import Site, in_background, run_a_worker, settings_of

Db = Database[dict[str, Any]]


@pytest.fixture
def site(request: pytest.FixtureRequest, clean_mongodb: Db, tmp_path: Path) -> Iterator[Site]:
    """Both sides, equal."""
    if getattr(request, "param", "sqlite") == "mariadb":
        url = request.getfixturevalue("mariadb_url")
    else:
        url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    site = Site(url, clean_mongodb, tmp_path)
    site.projects("vim", "git", "été", "a/b", version=3)
    site.rows("projects", [{"name": "gone", "title": "", "size": 1, "ver": 3, "gone": 1}])
    site.rows("people", [{"id": n, "title": f"Person {n}", "ver": n} for n in range(20)])
    site.mirror_all()
    yield site
    site.engine.dispose()


@pytest.fixture
def settings(site: Site, redis_url: str, mongodb_url: str, tmp_path: Path) -> Settings:
    return settings_of(site, tmp_path, broker_url=redis_url, mongodb_url=mongodb_url)


def repair(site: Site, settings: Settings, name: str, wait: float = 5.0) -> ReconcileResult:
    """Reconcile and repair while a worker runs. What is there now is there for good, so the first
    look needs no time."""
    with Publisher(settings.broker_url) as publisher:
        publisher.publish(Event("note", "changed", name, 1, {}))
        wait_for(lambda: site.database.notes.find_one({"_id": name}), 30, "the worker")
        return site.reconcile(name, wait=wait, deep=True, repair=Repair(publisher))


@pytest.mark.parametrize("site", ["sqlite", "mariadb"], indirect=True)
def test_everything_that_can_be_repaired_is(site: Site, settings: Settings) -> None:
    projects, people = site.database.projects, site.database.people
    projects.delete_one({"_id": "été"})
    projects.update_one({"_id": "git"}, {"$set": {"_v": 0}})
    projects.replace_one({"_id": "gone"}, {"_id": "gone", "_v": 3, "title": "alive"})
    projects.update_one({"_id": "vim"}, {"$set": {"title": "Emacs"}})
    people.insert_one({"_id": "777", "_v": 4})
    people.update_one({"_id": "3"}, {"$unset": {"_v": 1}})

    with in_background(run_a_worker(settings)):
        found = repair(site, settings, "project", wait=1.0)
        also = repair(site, settings, "person", wait=1.0)

    assert found.equal, found
    assert found.repaired == {"missing": 1, "behind": 1, "different": 1, "orphan": 1}
    assert also.equal, also
    assert also.repaired == {"behind": 1, "orphan": 1}
    assert site.differences(deep=True) == site.differences("person", deep=True) == []
    assert people.find_one({"_id": "777"}, {"_at": 0}) == {"_id": "777", "_v": 4, "_del": True}


@pytest.mark.parametrize("change", ["changed", "deleted"])
@pytest.mark.parametrize("version", [8, 2**62, 2**63 - 2, 2**63 - 1])
def test_a_version_that_is_too_high_is_corrected_by_hand_as_the_docs_say(
    site: Site, settings: Settings, version: int, change: str
) -> None:
    """No event can: the highest version has no newer one."""
    data = {"name": "vim", "title": "wrong", "releases": []} if change == "changed" else None
    site.apply(Event("project", change, "vim", version, data))
    site.apply(*site.source("project").rows_by_keys(["vim"])[0])
    assert ("ahead", "vim") in site.differences()

    site.database.projects.delete_one({"_id": "vim"})
    site.database.releases.delete_many({"_parent": "vim"})
    with in_background(run_a_worker(settings)):
        found = repair(site, settings, "project", wait=1.0)

    assert found.equal, found
    assert site.differences(deep=True) == site.differences("release", deep=True) == []
    site.sql("UPDATE projects SET title = 'newer', ver = 4 WHERE name = 'vim'")
    site.mirror_all()
    assert site.database.projects.find_one({"_id": "vim"})["title"] == "newer"


@pytest.mark.parametrize("site", ["sqlite", "mariadb"], indirect=True)
def test_children_are_repaired_with_their_parent(site: Site, settings: Settings) -> None:
    releases = site.database.releases
    releases.delete_one({"_id": "vim/3.0/x86"})
    releases.update_one({"_id": "a%2Fb/3.0/x86"}, {"$set": {"_v": 0}})
    releases.update_one({"_id": "été/3.0/x86"}, {"$set": {"file": 5}})
    releases.insert_one({"_id": "vim/0.9/x86", "_v": 3, "_parent": "vim"})
    releases.insert_one({"_id": "gone/1/x86", "_v": 3, "_parent": "gone"})
    releases.insert_one({"_id": "never/1/x86", "_v": 2})

    with in_background(run_a_worker(settings)):
        found = repair(site, settings, "release", wait=1.0)

    assert found.equal, found
    assert found.repaired == {"missing": 1, "behind": 1, "different": 1, "orphan": 3}
    assert site.differences("release", deep=True) == site.differences(deep=True) == []


def test_what_cannot_be_repaired_is_left_and_explained(site: Site, settings: Settings) -> None:
    projects = site.database.projects
    projects.update_one({"_id": "a/b"}, {"$set": {"_v": 9}})
    projects.replace_one({"_id": "vim"}, {"_id": "vim", "_v": 3, "_del": True})
    projects.insert_one({"_id": "stranger", "_v": "1.0"})
    site.sql(f"UPDATE projects SET title = '{'x' * 61}', ver = 4 WHERE name = 'git'")

    with in_background(run_a_worker(settings)):
        found = repair(site, settings, "project", wait=1.0)

    notes = {one.key: (one.kind, one.detail) for one in found.differences}
    assert notes.keys() == {"a/b", "vim", "stranger", "git"}
    assert notes["a/b"][0] == notes["vim"][0] == "ahead"
    assert "raise the version" in notes["a/b"][1]
    assert "by hand" in notes["stranger"][1]
    assert notes["git"] == ("unusable", notes["git"][1])
    assert notes["git"][1].startswith("schema: data.title")
    assert found.repaired == {}


def test_an_event_that_is_too_large_for_the_queue_is_named(site: Site, settings: Settings) -> None:
    site.database.people.delete_one({"_id": "5"})

    with Publisher(settings.broker_url) as publisher:
        asked = site.reconcile("person", wait=0.1, repair=Repair(publisher, max_event=10))
    [left] = asked.differences

    assert (left.kind, left.key) == ("missing", "5")
    assert "bridgectl snapshot person --rewrite" in left.detail


def test_without_a_worker_the_differences_are_left(site: Site, settings: Settings) -> None:
    site.database.people.delete_one({"_id": "5"})

    with Publisher(settings.broker_url) as publisher:
        [left] = site.reconcile("person", wait=0.3, repair=Repair(publisher)).differences

    assert (left.kind, left.key) == ("missing", "5")
    assert "worker" in left.detail


def test_the_wrong_database_does_not_empty_the_mirror(site: Site, settings: Settings) -> None:
    site.database.people.insert_many([{"_id": f"x{n}", "_v": 1} for n in range(101)])

    with in_background(run_a_worker(settings)):
        found = repair(site, settings, "person", wait=0.1)

    assert found.by_kind == {"orphan": 101}
    assert "wrong database" in found.differences[0].detail
    assert site.database.people.count_documents({"_del": True}) == 0


def test_a_newer_version_that_comes_meanwhile_stays(site: Site, settings: Settings) -> None:
    """The burial of an orphan has its own version: the edit that brings it back has a newer one."""
    site.database.people.insert_one({"_id": "777", "_v": 4})
    with Publisher(settings.broker_url) as publisher:
        site.reconcile("person", repair=Repair(publisher))
    site.rows("people", [{"id": 777, "title": "back", "ver": 5}])
    site.mirror_all("person")

    with in_background(run_a_worker(settings)):
        assert site.reconcile("person", wait=5.0, deep=True).equal


def test_a_broker_that_is_away_is_no_difference(site: Site) -> None:
    site.database.people.delete_one({"_id": "5"})
    publisher = Publisher(f"redis+streams://127.0.0.1:{free_port()}/0")

    with pytest.raises(ServerAway, match="the broker"):
        site.reconcile("person", repair=Repair(publisher))
