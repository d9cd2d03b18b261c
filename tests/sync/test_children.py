"""Parents with children: of one version all documents are there, or none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bridge.errors import ServerAway
from bridge.queue.events import Event
from bridge.sync import families, indexes
from bridge.sync.apply import apply, connect, load, versions
from bridge.sync.documents import Mirror
from stack.mongod import Mongod
from stack.ports import free_port
from tests.minimal_sync import mirror_of

Db = Database[dict[str, Any]]

SHOP = """\
version: 1
max_document: 4KiB
entities:
  project:
    collection: projects
    children:
      releases: {entity: release, key: [version, architecture]}
      people: {entity: person, key: login}
  release: {collection: releases}
  person: {collection: people}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Mirror:
    return mirror_of(tmp_path, SHOP)


def release(version: str, **data: Any) -> dict[str, Any]:
    return {"version": version, "architecture": "amd64", **data}


def project(key: str, version: int, *releases: str, **data: Any) -> Event:
    """One with these releases, each of which says by which version it was written."""
    listed = [release(name, by=version) for name in releases]
    state = {"releases": listed, "people": [{"login": "ann"}], **data}
    return Event("project", "changed", key, version, state)


def deleted(key: str, version: int) -> Event:
    return Event("project", "deleted", key, version)


def alive(database: Db, parent: str = "vim") -> dict[str, int]:
    """The releases of a parent that are alive: name to version."""
    found = database.releases.find({"_parent": parent, "_del": {"$ne": True}})
    return {document["version"]: document["_v"] for document in found}


def test_members_of_a_list_become_documents_with_the_parents_version(
    clean_mongodb: Db, shop: Mirror
) -> None:
    result = apply(clean_mongodb, shop, [project("vim", 7, "9.0", "9.1", n=1)])

    assert clean_mongodb.projects.find_one({}, {"_at": 0}) == {"_id": "vim", "_v": 7, "n": 1}
    assert clean_mongodb.releases.find_one({"version": "9.1"}, {"_at": 0}) == {
        "_id": "vim/9.1/amd64",
        "_v": 7,
        "_parent": "vim",
        "version": "9.1",
        "architecture": "amd64",
        "by": 7,
    }
    assert clean_mongodb.people.distinct("_id") == ["vim/ann"]
    assert (result.written, result.stale) == (1, 0), "children are not counted"


def test_a_member_that_vanishes_becomes_a_tombstone_and_can_come_back(
    clean_mongodb: Db, shop: Mirror
) -> None:
    apply(clean_mongodb, shop, [project("vim", 1, "9.0", "9.1")])
    apply(clean_mongodb, shop, [project("vim", 2, "9.1")])

    assert alive(clean_mongodb) == {"9.1": 2}
    tombstone = clean_mongodb.releases.find_one({"_id": "vim/9.0/amd64"}, {"_at": 0})
    assert tombstone == {"_id": "vim/9.0/amd64", "_v": 2, "_del": True, "_parent": "vim"}

    apply(clean_mongodb, shop, [project("vim", 3, "9.0", "9.1")])

    assert alive(clean_mongodb) == {"9.0": 3, "9.1": 3}


def test_an_empty_list_buries_all(clean_mongodb: Db, shop: Mirror) -> None:
    apply(clean_mongodb, shop, [project("vim", 1, "9.0"), project("vi", 1, "9.0")])
    apply(clean_mongodb, shop, [project("vim", 2)])

    assert alive(clean_mongodb) == {}
    assert alive(clean_mongodb, "vi") == {"9.0": 1}, "a neighbour's"


def test_a_deletion_of_the_parent_buries_its_children(clean_mongodb: Db, shop: Mirror) -> None:
    apply(clean_mongodb, shop, [project("vim", 1, "9.0")])
    apply(clean_mongodb, shop, [deleted("vim", 2)])

    assert alive(clean_mongodb) == {}
    assert clean_mongodb.people.find_one({"_id": "vim/ann"})["_del"] is True  # type: ignore[index]
    assert clean_mongodb.releases.distinct("_v") == [2]

    apply(clean_mongodb, shop, [project("vim", 3, "9.1")])
    assert alive(clean_mongodb) == {"9.1": 3}


@pytest.mark.parametrize("newer", [project("vim", 2, "9.1"), deleted("vim", 2)])
def test_a_late_old_version_brings_no_child_back(
    clean_mongodb: Db, shop: Mirror, newer: Event
) -> None:
    apply(clean_mongodb, shop, [newer])
    result = apply(clean_mongodb, shop, [project("vim", 1, "9.0", "9.1")])

    assert alive(clean_mongodb) == ({"9.1": 2} if newer.data else {})
    assert clean_mongodb.releases.count_documents({"version": "9.0"}) == 0
    assert (result.written, result.stale) == (0, 1)


def test_of_several_versions_in_one_batch_the_highest_remains(
    clean_mongodb: Db, shop: Mirror
) -> None:
    batch = [project("vim", 1, "a"), project("vim", 3, "c"), project("vim", 2, "b")]
    result = apply(clean_mongodb, shop, batch)

    assert alive(clean_mongodb) == {"c": 3}
    assert len(result.applied) == 3
    assert (result.written, result.stale) == (1, 2)


def test_load_does_the_same(clean_mongodb: Db, shop: Mirror) -> None:
    load(clean_mongodb, shop, [project("vim", 1, "9.0", "9.1")])
    load(clean_mongodb, shop, [project("vim", 2, "9.1")])

    assert alive(clean_mongodb) == {"9.1": 2}


def test_a_large_batch_is_several_transactions(
    clean_mongodb: Db, shop: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "MOST_DOCUMENTS", 5)
    names = [f"p{number}" for number in range(6)]
    result = apply(clean_mongodb, shop, [project(name, 1, "a", "b") for name in names])

    assert [event.key for event in result.applied] == names
    assert clean_mongodb.releases.count_documents({"_v": 1}) == 12


class TestRewrite:
    def test_the_same_version_is_made_whole_again(self, clean_mongodb: Db, shop: Mirror) -> None:
        whole = project("vim", 4, "9.0", "9.1")
        apply(clean_mongodb, shop, [whole])
        clean_mongodb.releases.delete_one({"version": "9.0"})
        clean_mongodb.releases.update_one({"version": "9.1"}, {"$set": {"by": 666}})
        stranger = {"_id": "vim/x/amd64", "_v": 4, "_parent": "vim", "version": "x"}
        clean_mongodb.releases.insert_one(stranger)

        apply(clean_mongodb, shop, [whole])
        assert set(alive(clean_mongodb)) == {"9.1", "x"}, "without rewrite it is stale"
        apply(clean_mongodb, shop, [replace(whole, rewrite=True)])

        assert alive(clean_mongodb) == {"9.0": 4, "9.1": 4}
        assert clean_mongodb.releases.distinct("by") == [4]

    def test_a_deletion_may_bury_the_version_that_is_there(
        self, clean_mongodb: Db, shop: Mirror
    ) -> None:
        apply(clean_mongodb, shop, [project("vim", 4, "9.0")])
        apply(clean_mongodb, shop, [replace(deleted("vim", 4), rewrite=True)])

        assert alive(clean_mongodb) == {}
        assert clean_mongodb.projects.find_one({})["_del"] is True  # type: ignore[index]

    def test_no_tombstone_is_raised(self, clean_mongodb: Db, shop: Mirror) -> None:
        apply(clean_mongodb, shop, [deleted("vim", 4)])
        apply(clean_mongodb, shop, [replace(project("vim", 4, "9.0"), rewrite=True)])

        assert alive(clean_mongodb) == {}


class TestRefused:
    @pytest.mark.parametrize(
        ("event", "error"),
        [
            (project("bad", 1, "9.0", "9.0"), "is named like another one"),
            (Event("project", "changed", "bad", 1, {"people": []}), "data.releases is missing"),
            (Event("release", "changed", "bad/9.0/amd64", 1, {}), "release comes with its project"),
            (
                project("bad", 1, people=[{"login": "ann", "text": "x" * 5000}]),
                "the document 'bad/ann' of people has 5",
            ),
        ],
        ids=["two of one name", "no list", "an event of a child", "a child too large"],
    )
    def test_an_event_that_cannot_be_used_leaves_nothing_and_harms_no_other(
        self, clean_mongodb: Db, shop: Mirror, event: Event, error: str
    ) -> None:
        batch = [project("a", 1, "9.0"), event, project("b", 1, "9.0")]
        result = apply(clean_mongodb, shop, batch)

        [failure] = result.failed
        assert failure.event == event
        assert error in failure.error
        assert [one.key for one in result.applied] == ["a", "b"]
        assert alive(clean_mongodb, "bad") == {}

    def test_a_child_that_mongodb_refuses_takes_its_parent_along_and_no_other(
        self, clean_mongodb: Db, shop: Mirror
    ) -> None:
        clean_mongodb.create_collection("releases", validator={"version": {"$ne": "13"}})
        batch = [project(f"p{n}", 1, "9.0") for n in range(5)]
        batch.insert(3, project("bad", 1, "9.0", "13"))

        result = apply(clean_mongodb, shop, batch)

        assert [failure.event.key for failure in result.failed] == ["bad"]
        assert "failed validation" in result.failed[0].error
        assert (result.written, result.stale) == (5, 0)
        assert alive(clean_mongodb, "bad") == {}
        assert clean_mongodb.projects.distinct("_id") == [f"p{n}" for n in range(5)]


class TestVersions:
    def test_a_child_has_none_of_its_own(self, clean_mongodb: Db, shop: Mirror) -> None:
        apply(clean_mongodb, shop, [project("vim", 7, "9.0")])

        asked = [("project", "vim"), ("release", "vim/9.0/amd64")]
        assert versions(clean_mongodb, shop, asked) == {("project", "vim"): 7}

    def test_a_version_that_is_told_has_all_its_children_and_no_older_one(
        self, clean_mongodb: Db, shop: Mirror
    ) -> None:
        """Nobody ever sees a version in part, whatever moment they look at."""
        indexes.ensure(clean_mongodb, shop)
        stop, torn = threading.Event(), []

        def look() -> None:
            looks = 0
            while not stop.is_set() or looks < 3:
                looks += 1
                with clean_mongodb.client.start_session(snapshot=True) as session:
                    parent = clean_mongodb.projects.find_one({"_id": "vim"}, session=session)
                    children = clean_mongodb.releases.find({"_parent": "vim"}, session=session)
                    found = {child["_v"] for child in children if "_del" not in child}
                if found not in (set(), {parent["_v"] if parent else None}):
                    torn.append((parent, found))

        apply(clean_mongodb, shop, [project("vim", 0, "9.0")])
        looking = threading.Thread(target=look)
        looking.start()
        for version in range(1, 60):
            apply(clean_mongodb, shop, [project("vim", version, f"9.{version % 7}", "8.0")])
        stop.set()
        looking.join()
        assert torn == []


def test_workers_with_the_same_parents_wait_for_each_other(clean_mongodb: Db, shop: Mirror) -> None:
    indexes.ensure(clean_mongodb, shop)
    keys = [f"p{number}" for number in range(10)]
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for version in range(first, 24, 4):
                apply(clean_mongodb, shop, [project(key, version, f"{version}") for key in keys])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    for key in keys:
        assert alive(clean_mongodb, key) == {"23": 23}


class TestOutages:
    @pytest.fixture
    def refusing(self, tmp_path: Path) -> Iterator[Callable[[str, int, Any], Db]]:
        """refusing(command, code, mode) -> a database of which this command fails."""
        with Mongod(tmp_path / "mongodb", parameters={"enableTestCommands": "1"}) as server:

            def _refusing(command: str, code: int, mode: Any) -> Db:
                data = {"failCommands": [command], "errorCode": code, "closeConnection": False}
                client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
                return client.get_default_database()

            with server.client() as client:
                yield _refusing

    def test_an_error_of_the_server_is_no_failure_of_an_event(
        self, refusing: Callable[[str, int, Any], Db], shop: Mirror
    ) -> None:
        unauthorized, not_primary, unknown = 13, 10107, 4711
        for command in ("find", "update", "commitTransaction"):
            for code in (unauthorized, not_primary, unknown):
                with pytest.raises(ServerAway):
                    apply(refusing(command, code, "alwaysOn"), shop, [project("vim", 1, "9.0")])

        database = refusing("find", 0, "off")
        assert apply(database, shop, [project("vim", 1, "9.0")]).written == 1

    def test_a_transaction_that_met_another_is_tried_again(
        self, refusing: Callable[[str, int, Any], Db], shop: Mirror
    ) -> None:
        write_conflict = 112
        for version, command in enumerate(["update", "commitTransaction"]):
            database = refusing(command, write_conflict, {"times": 8})
            result = apply(
                database, shop, [project("a", version, "9.0"), project("b", version, "9.0")]
            )
            assert result.written == 2

    def test_one_without_end_is_an_outage(
        self,
        refusing: Callable[[str, int, Any], Db],
        shop: Mirror,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(families, "TRIES_ALONE", 3)
        with pytest.raises(ServerAway, match="3 transactions in a row"):
            apply(refusing("update", 112, "alwaysOn"), shop, [project("vim", 1, "9.0")])

    def test_a_server_that_is_away_is_one(self, shop: Mirror) -> None:
        url = f"mongodb://127.0.0.1:{free_port()}/bridge"
        with connect(url, patience=0.1) as client, pytest.raises(ServerAway):
            apply(client.get_default_database(), shop, [project("vim", 1, "9.0")])
