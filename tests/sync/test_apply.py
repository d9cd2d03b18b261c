"""The guarded write: the highest version wins, in any order, and no document harms another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pymongo.database import Database

from bridge.errors import BridgeError, ServerAway
from bridge.queue.events import MAX_DEPTH, Event
from bridge.sync import apply as mongodb
from bridge.sync.documents import Mirror
from stack.mongod import Mongod
from stack.ports import free_port
from tests.minimal_sync import mirror_of

Db = Database[dict[str, Any]]

numbers = itertools.count()


def changed(key: str, version: int, **data: Any) -> Event:
    return Event("project", "changed", key, version, data)


def deleted(key: str, version: int) -> Event:
    return Event("project", "deleted", key, version)


def document(database: Db, key: str, collection: str = "projects") -> dict[str, Any]:
    """The document without the time of its writing."""
    found = database[collection].find_one({"_id": key})
    assert found is not None
    moment = found.pop("_at").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)
    return found


def test_a_change_becomes_the_data_with_key_and_version(clean_mongodb: Db, minimal: Mirror) -> None:
    result = mongodb.apply(clean_mongodb, minimal, [changed("vim", 7, name="vim", tags=["editor"])])

    assert document(clean_mongodb, "vim") == {
        "_id": "vim",
        "_v": 7,
        "name": "vim",
        "tags": ["editor"],
    }
    assert (result.written, result.stale, result.failed) == (1, 0, ())


def test_a_release_has_its_own_collection(clean_mongodb: Db, minimal: Mirror) -> None:
    mongodb.apply(
        clean_mongodb, minimal, [Event("release", "changed", "vim/9/amd64", 1, {"size": 1})]
    )

    assert document(clean_mongodb, "vim/9/amd64", "releases")["size"] == 1


def test_a_newer_state_replaces_the_whole_older_one(clean_mongodb: Db, minimal: Mirror) -> None:
    mongodb.apply(clean_mongodb, minimal, [changed("vim", 1, old=1)])
    mongodb.apply(clean_mongodb, minimal, [changed("vim", 2, new=2)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 2, "new": 2}


@pytest.mark.parametrize("version", [6, 7])
def test_an_older_or_equal_version_changes_nothing(
    clean_mongodb: Db, version: int, minimal: Mirror
) -> None:
    mongodb.apply(clean_mongodb, minimal, [changed("vim", 7, n=1)])
    result = mongodb.apply(clean_mongodb, minimal, [changed("vim", version, n=2)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 7, "n": 1}
    assert (result.written, result.stale) == (0, 1)
    assert len(result.applied) == 1


def test_a_deletion_leaves_a_tombstone_that_an_older_change_cannot_raise(
    clean_mongodb: Db, minimal: Mirror
) -> None:
    mongodb.apply(clean_mongodb, minimal, [changed("vim", 1, n=1)])
    mongodb.apply(clean_mongodb, minimal, [deleted("vim", 3)])
    mongodb.apply(clean_mongodb, minimal, [changed("vim", 2, n=2)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 3, "_del": True}


def test_a_deletion_of_what_never_arrived_leaves_a_tombstone(
    clean_mongodb: Db, minimal: Mirror
) -> None:
    mongodb.apply(clean_mongodb, minimal, [deleted("vim", 3)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 3, "_del": True}


def test_a_newer_change_brings_back_what_was_deleted(clean_mongodb: Db, minimal: Mirror) -> None:
    mongodb.apply(clean_mongodb, minimal, [deleted("vim", 3)])
    mongodb.apply(clean_mongodb, minimal, [changed("vim", 4, n=4)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 4, "n": 4}


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[str, int, bool]]:
    """(key, version, whether deleted) of a few keys, shuffled, with repetitions."""
    history = [
        (key, version, draw(st.booleans()))
        for key in ("a", "b", "c")
        for version in range(draw(st.integers(1, 5)))
    ]
    again = draw(st.lists(st.sampled_from(history), max_size=5))
    return draw(st.permutations(history + again))


@hypothesis_settings(
    max_examples=40,
    deadline=None,
    # The database is shared by the examples; each has keys of its own.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories(), batch=st.integers(1, 4))
def test_in_any_order_with_repetitions_the_highest_version_remains(
    clean_mongodb: Db, history: list[tuple[str, int, bool]], batch: int, minimal: Mirror
) -> None:
    prefix = f"{next(numbers)}/"
    events = [
        deleted(prefix + key, version) if dead else changed(prefix + key, version, n=version)
        for key, version, dead in history
    ]
    for start in range(0, len(events), batch):
        mongodb.apply(clean_mongodb, minimal, events[start : start + batch])

    last = {key: (version, dead) for key, version, dead in sorted(history)}
    for key, (version, dead) in last.items():
        state: dict[str, Any] = {"_del": True} if dead else {"n": version}
        assert document(clean_mongodb, prefix + key) == {
            "_id": prefix + key,
            "_v": version,
            **state,
        }


@pytest.mark.parametrize(
    "value",
    [
        "$PATH",
        "$$ROOT",
        {"": 1},
        {"a.b": {"c.d": [1]}},
        {"_id": 1, "_v": 2},
        [],
        {},
        [[], {}],
        "a\0b",
        1.0,
        -0.0,
        2**63 - 1,
        -(2**63),
        None,
        "“é” 🐘",
    ],
    ids=repr,
)
def test_a_value_is_given_back_as_it_was(clean_mongodb: Db, value: object, minimal: Mirror) -> None:
    mongodb.apply(clean_mongodb, minimal, [changed("vim", 1, value=value)])

    found = document(clean_mongodb, "vim")["value"]
    assert repr(found) == repr(value)


def test_data_may_be_as_deep_as_an_event_allows(clean_mongodb: Db, minimal: Mirror) -> None:
    deepest: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deepest = {"d": deepest}

    result = mongodb.apply(clean_mongodb, minimal, [Event("project", "changed", "vim", 1, deepest)])

    assert result.failed == ()
    assert document(clean_mongodb, "vim")["d"] == deepest["d"]


SHELVES = """\
version: 1
max_document: 2KiB
entities:
  project:
    collection: projects
    hook: tests.sync.shop_hooks:odd
    schema: {properties: {size: {type: integer}}}
  release: {collection: releases}
"""


@pytest.fixture
def shelves(tmp_path: Path) -> Mirror:
    return mirror_of(tmp_path, SHELVES)


Write = Callable[[Db, Mirror, list[Event]], mongodb.BatchResult]
both_ways = pytest.mark.parametrize("write", [mongodb.apply, mongodb.load])


@both_ways
@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"size": "large"}, "schema: data.size: "),
        ({"hook": "fails"}, "the hook tests.sync.shop_hooks:odd failed: ValueError: no such shelf"),
        ({"hook": "unknown type"}, "the document 'bad' of projects cannot be stored: "),
        ({"hook": "large number"}, "the document 'bad' of projects cannot be stored: "),
        ({"hook": "deep"}, "MongoDB refuses it: "),
        ({"text": "x" * 3000}, "the document 'bad' of projects has 3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_written_is_named_and_does_not_harm_its_neighbours(
    clean_mongodb: Db, shelves: Mirror, write: Write, data: dict[str, Any], error: str
) -> None:
    bad = Event("project", "changed", "bad", 1, data)
    result = write(clean_mongodb, shelves, [changed("a", 1), bad, changed("b", 1)])

    assert [failure.event.key for failure in result.failed] == ["bad"]
    assert result.failed[0].error.startswith(error)
    assert len(result.failed[0].error) < 600
    assert [event.key for event in result.applied] == ["a", "b"]
    assert (result.written, result.stale) == (2, 0)
    assert clean_mongodb.projects.distinct("_id") == ["a", "b"]


def test_the_limit_of_size_is_that_of_the_stored_document(
    clean_mongodb: Db, shelves: Mirror
) -> None:
    mongodb.apply(clean_mongodb, shelves, [changed("vim", 1, text="")])
    [empty] = clean_mongodb.projects.aggregate([{"$project": {"size": {"$bsonSize": "$$ROOT"}}}])
    room = 2048 - empty["size"]

    fits = mongodb.apply(clean_mongodb, shelves, [changed("vim", 2, text="x" * room)])
    too_large = mongodb.apply(clean_mongodb, shelves, [changed("vim", 3, text="x" * (room + 1))])

    assert fits.failed == ()
    assert "has 2049 bytes, more than 2048; " in too_large.failed[0].error


def test_a_document_of_nearly_16_mebibytes_can_be_allowed(
    tmp_path: Path, clean_mongodb: Db
) -> None:
    mirror = mirror_of(tmp_path, SHELVES.replace("2KiB", "16MiB"))
    large = "x" * (16 * 1024 * 1024 - 1000)

    for version, write in enumerate([mongodb.load, mongodb.apply, mongodb.load], 1):
        result = write(clean_mongodb, mirror, [changed("large", version, text=large)])
        assert (result.written, result.failed) == (1, ())


def test_a_document_that_the_server_refuses_does_not_harm_its_neighbours(
    clean_mongodb: Db, minimal: Mirror
) -> None:
    clean_mongodb.create_collection("projects", validator={"name": {"$type": "string"}})
    events = [changed("a", 1, name="a"), changed("bad", 1, name=7), changed("b", 1, name="b")]

    result = mongodb.apply(clean_mongodb, minimal, events)

    assert [failure.event.key for failure in result.failed] == ["bad"]
    assert "failed validation" in result.failed[0].error
    assert [event.key for event in result.applied] == ["a", "b"]
    assert (result.written, result.stale) == (2, 0)


def test_an_entity_that_is_mirrored_nowhere_fails_by_name(
    clean_mongodb: Db, minimal: Mirror
) -> None:
    stranger = Event("user", "changed", "root", 1, {})
    result = mongodb.apply(clean_mongodb, minimal, [stranger, changed("vim", 1)])

    assert [failure.event for failure in result.failed] == [stranger]
    assert (
        result.failed[0].error
        == "user is mirrored nowhere; entities of sync.yaml: project, release"
    )
    assert len(result.applied) == 1


def test_a_server_that_is_away_is_no_failure_of_an_event(minimal: Mirror) -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/bridge"
    with mongodb.connect(url, patience=0.1) as client:
        database = client.get_default_database()

        with pytest.raises(ServerAway, match="ServerSelectionTimeoutError"):
            mongodb.apply(database, minimal, [changed("vim", 1)])


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Callable[[int], Db]]:
    """refusing(code) -> a database of which every update fails with this error code."""
    with Mongod(tmp_path / "mongodb", parameters={"enableTestCommands": "1"}) as server:

        def _refusing(code: int) -> Db:
            data = {"failCommands": ["update"], "errorCode": code, "closeConnection": False}
            client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
            return client.get_default_database()

        with server.client() as client:
            yield _refusing


def test_a_server_that_lets_nobody_write_is_no_failure_of_an_event(
    refusing: Callable[[int], Db], minimal: Mirror
) -> None:
    unauthorized, not_primary, out_of_disk_space, unknown = 13, 10107, 14031, 4711
    for code in (unauthorized, not_primary, out_of_disk_space, unknown):
        with pytest.raises(ServerAway):
            mongodb.apply(refusing(code), minimal, [changed("vim", 1)])


class TestRewrite:
    """A repair may replace the same version; it never raises the dead nor goes back."""

    def rewrite(self, version: int, **data: Any) -> Event:
        return replace(changed("vim", version, **data), rewrite=True)

    @both_ways
    def test_the_same_version_is_replaced(
        self, clean_mongodb: Db, minimal: Mirror, write: Write
    ) -> None:
        write(clean_mongodb, minimal, [changed("vim", 7, n=1)])
        result = write(clean_mongodb, minimal, [self.rewrite(7, n=2)])

        assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 7, "n": 2}
        assert (result.written, result.stale) == (1, 0)

    @both_ways
    def test_a_newer_version_stays(self, clean_mongodb: Db, minimal: Mirror, write: Write) -> None:
        write(clean_mongodb, minimal, [changed("vim", 8, n=1)])
        result = write(clean_mongodb, minimal, [self.rewrite(7, n=2)])

        assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 8, "n": 1}
        assert (result.written, result.stale) == (0, 1)

    @both_ways
    def test_a_tombstone_of_the_same_version_stays(
        self, clean_mongodb: Db, minimal: Mirror, write: Write
    ) -> None:
        write(clean_mongodb, minimal, [deleted("vim", 7)])
        write(clean_mongodb, minimal, [self.rewrite(7, n=2)])

        assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 7, "_del": True}

    @both_ways
    def test_a_deletion_may_bury_the_version_that_is_there(
        self, clean_mongodb: Db, minimal: Mirror, write: Write
    ) -> None:
        write(clean_mongodb, minimal, [changed("vim", 7, n=1)])
        write(clean_mongodb, minimal, [replace(deleted("vim", 7), rewrite=True)])

        assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 7, "_del": True}

    @both_ways
    def test_what_is_not_there_is_written(
        self, clean_mongodb: Db, minimal: Mirror, write: Write
    ) -> None:
        write(clean_mongodb, minimal, [self.rewrite(7, n=2)])

        assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 7, "n": 2}


class TestLoad:
    """The fast way for a first load ends where the usual one does."""

    def test_it_tells_new_newer_and_stale_apart(self, clean_mongodb: Db, minimal: Mirror) -> None:
        there = [changed("older", 1), changed("same", 2), changed("newer", 3), deleted("dead", 2)]
        mongodb.apply(clean_mongodb, minimal, there)
        keys = ["new", "older", "same", "newer", "dead"]

        result = mongodb.load(clean_mongodb, minimal, [changed(key, 2, n=2) for key in keys])

        assert (result.written, result.stale, result.failed) == (2, 3, ())
        assert sorted(event.key for event in result.applied) == sorted(keys)
        assert document(clean_mongodb, "new") == {"_id": "new", "_v": 2, "n": 2}
        assert document(clean_mongodb, "older") == {"_id": "older", "_v": 2, "n": 2}
        assert document(clean_mongodb, "newer") == {"_id": "newer", "_v": 3}
        assert document(clean_mongodb, "dead") == {"_id": "dead", "_v": 2, "_del": True}

    @pytest.mark.parametrize("versions", [[1, 2], [2, 1]])
    def test_of_one_key_twice_the_highest_version_remains(
        self, clean_mongodb: Db, minimal: Mirror, versions: list[int]
    ) -> None:
        mongodb.load(clean_mongodb, minimal, [changed("vim", v, n=v) for v in versions])

        assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 2, "n": 2}

    @pytest.mark.parametrize("meanwhile", [4, 6])
    def test_what_another_one_writes_between_the_look_and_the_insert_is_no_loss(
        self,
        clean_mongodb: Db,
        minimal: Mirror,
        monkeypatch: pytest.MonkeyPatch,
        meanwhile: int,
    ) -> None:
        def look_too_early(*_: object) -> dict[str, Any]:
            mongodb.apply(clean_mongodb, minimal, [changed("vim", meanwhile, n=meanwhile)])
            return {}

        monkeypatch.setattr(mongodb, "_held", look_too_early)
        result = mongodb.load(clean_mongodb, minimal, [changed("vim", 5, n=5), changed("vi", 5)])

        newest = max(meanwhile, 5)
        assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": newest, "n": newest}
        assert document(clean_mongodb, "vi")["_v"] == 5
        assert (result.written, result.stale) == ((2, 0) if newest == 5 else (1, 1))

    def test_a_server_that_is_away_is_no_failure_of_an_event(self, minimal: Mirror) -> None:
        url = f"mongodb://127.0.0.1:{free_port()}/bridge"
        with mongodb.connect(url, patience=0.1) as client, pytest.raises(ServerAway):
            mongodb.load(client.get_default_database(), minimal, [changed("vim", 1)])


@pytest.mark.parametrize("url", ["mongodb://127.0.0.1", "http://127.0.0.1/bridge", "mongodb://"])
def test_a_url_without_a_database_is_refused(url: str) -> None:
    with pytest.raises(BridgeError, match="cannot be used"):
        mongodb.connect(url)
