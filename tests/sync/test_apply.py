"""The guarded write: the highest version wins, in any order, and no document harms another."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
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
from stack.mongod import Mongod
from stack.ports import free_port

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


def test_a_change_becomes_the_data_with_key_and_version(clean_mongodb: Db) -> None:
    result = mongodb.apply(clean_mongodb, [changed("vim", 7, name="vim", tags=["editor"])])

    assert document(clean_mongodb, "vim") == {
        "_id": "vim",
        "_v": 7,
        "name": "vim",
        "tags": ["editor"],
    }
    assert (result.written, result.stale, result.failed) == (1, 0, ())


def test_a_release_has_its_own_collection(clean_mongodb: Db) -> None:
    mongodb.apply(clean_mongodb, [Event("release", "changed", "vim/9/amd64", 1, {"size": 1})])

    assert document(clean_mongodb, "vim/9/amd64", "releases")["size"] == 1


def test_a_newer_state_replaces_the_whole_older_one(clean_mongodb: Db) -> None:
    mongodb.apply(clean_mongodb, [changed("vim", 1, old=1)])
    mongodb.apply(clean_mongodb, [changed("vim", 2, new=2)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 2, "new": 2}


@pytest.mark.parametrize("version", [6, 7])
def test_an_older_or_equal_version_changes_nothing(clean_mongodb: Db, version: int) -> None:
    mongodb.apply(clean_mongodb, [changed("vim", 7, n=1)])
    result = mongodb.apply(clean_mongodb, [changed("vim", version, n=2)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 7, "n": 1}
    assert (result.written, result.stale) == (0, 1)
    assert len(result.applied) == 1


def test_a_deletion_leaves_a_tombstone_that_an_older_change_cannot_raise(
    clean_mongodb: Db,
) -> None:
    mongodb.apply(clean_mongodb, [changed("vim", 1, n=1)])
    mongodb.apply(clean_mongodb, [deleted("vim", 3)])
    mongodb.apply(clean_mongodb, [changed("vim", 2, n=2)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 3, "_del": True}


def test_a_deletion_of_what_never_arrived_leaves_a_tombstone(clean_mongodb: Db) -> None:
    mongodb.apply(clean_mongodb, [deleted("vim", 3)])

    assert document(clean_mongodb, "vim") == {"_id": "vim", "_v": 3, "_del": True}


def test_a_newer_change_brings_back_what_was_deleted(clean_mongodb: Db) -> None:
    mongodb.apply(clean_mongodb, [deleted("vim", 3)])
    mongodb.apply(clean_mongodb, [changed("vim", 4, n=4)])

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
    clean_mongodb: Db, history: list[tuple[str, int, bool]], batch: int
) -> None:
    prefix = f"{next(numbers)}/"
    events = [
        deleted(prefix + key, version) if dead else changed(prefix + key, version, n=version)
        for key, version, dead in history
    ]
    for start in range(0, len(events), batch):
        mongodb.apply(clean_mongodb, events[start : start + batch])

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
def test_a_value_is_given_back_as_it_was(clean_mongodb: Db, value: object) -> None:
    mongodb.apply(clean_mongodb, [changed("vim", 1, value=value)])

    found = document(clean_mongodb, "vim")["value"]
    assert repr(found) == repr(value)


def test_data_may_be_as_deep_as_an_event_allows(clean_mongodb: Db) -> None:
    deepest: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deepest = {"d": deepest}

    result = mongodb.apply(clean_mongodb, [Event("project", "changed", "vim", 1, deepest)])

    assert result.failed == ()
    assert document(clean_mongodb, "vim")["d"] == deepest["d"]


@pytest.mark.parametrize("mebibytes", [17, 50], ids=["by the server", "by the driver"])
def test_a_document_for_which_the_whole_batch_is_refused_does_not_harm_its_neighbours(
    clean_mongodb: Db, mebibytes: int
) -> None:
    large = changed("large", 1, text="x" * mebibytes * 1024 * 1024)
    result = mongodb.apply(clean_mongodb, [changed("a", 1), large, changed("b", 1)])

    assert [failure.event.key for failure in result.failed] == ["large"]
    assert result.failed[0].error.startswith("MongoDB refuses it: ")
    assert len(result.failed[0].error) < 600
    assert [event.key for event in result.applied] == ["a", "b"]
    assert clean_mongodb.projects.count_documents({}) == 2


def test_a_document_that_the_server_refuses_does_not_harm_its_neighbours(
    clean_mongodb: Db,
) -> None:
    clean_mongodb.create_collection("projects", validator={"name": {"$type": "string"}})
    events = [changed("a", 1, name="a"), changed("bad", 1, name=7), changed("b", 1, name="b")]

    result = mongodb.apply(clean_mongodb, events)

    assert [failure.event.key for failure in result.failed] == ["bad"]
    assert "failed validation" in result.failed[0].error
    assert [event.key for event in result.applied] == ["a", "b"]
    assert (result.written, result.stale) == (2, 0)


def test_an_entity_that_is_mirrored_nowhere_fails_by_name(clean_mongodb: Db) -> None:
    stranger = Event("user", "changed", "root", 1, {})
    result = mongodb.apply(clean_mongodb, [stranger, changed("vim", 1)])

    assert [failure.event for failure in result.failed] == [stranger]
    assert result.failed[0].error == "user is mirrored nowhere; known: project, release"
    assert len(result.applied) == 1


def test_a_server_that_is_away_is_no_failure_of_an_event() -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/bridge"
    with mongodb.connect(url, patience=0.1) as client:
        database = client.get_default_database()

        with pytest.raises(ServerAway, match="ServerSelectionTimeoutError"):
            mongodb.apply(database, [changed("vim", 1)])


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
    refusing: Callable[[int], Db],
) -> None:
    unauthorized, not_primary, out_of_disk_space, unknown = 13, 10107, 14031, 4711
    for code in (unauthorized, not_primary, out_of_disk_space, unknown):
        with pytest.raises(ServerAway):
            mongodb.apply(refusing(code), [changed("vim", 1)])


def test_indexes_are_made_once_and_stay(clean_mongodb: Db) -> None:
    mongodb.ensure_indexes(clean_mongodb)
    mongodb.ensure_indexes(clean_mongodb)

    projects = clean_mongodb.projects.index_information()
    assert projects["bridge_tombstones"]["expireAfterSeconds"] == 35 * 24 * 3600
    assert projects["bridge_tombstones"]["partialFilterExpression"] == {"_del": True}
    assert "bridge_project" in clean_mongodb.releases.index_information()


def test_an_index_of_other_options_is_named(clean_mongodb: Db) -> None:
    clean_mongodb.projects.create_index("_at", name="bridge_tombstones", expireAfterSeconds=9)

    with pytest.raises(BridgeError, match="in the way"):
        mongodb.ensure_indexes(clean_mongodb)


@pytest.mark.parametrize("url", ["mongodb://127.0.0.1", "http://127.0.0.1/bridge", "mongodb://"])
def test_a_url_without_a_database_is_refused(url: str) -> None:
    with pytest.raises(BridgeError, match="cannot be used"):
        mongodb.connect(url)
