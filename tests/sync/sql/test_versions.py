"""Which versions MongoDB holds: what the majority has, tombstones too, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pymongo import WriteConcern
from pymongo.database import Database

from bridge.errors import ServerAway
from bridge.queue.events import Event
from bridge.sync.apply import apply, connect, versions
from bridge.sync.documents import Mirror
from stack.mongod import Mongod

Mongo = Database[dict[str, Any]]


def test_what_is_held_is_told_and_what_is_not_is_left_out(
    clean_mongodb: Mongo, minimal: Mirror
) -> None:
    apply(clean_mongodb, minimal, [Event("project", "changed", "vim", 7, {})])

    assert versions(clean_mongodb, minimal, [("project", "vim"), ("project", "emacs")]) == {
        ("project", "vim"): 7
    }
    assert versions(clean_mongodb, minimal, []) == {}


def test_a_tombstone_is_a_version_like_any_other(clean_mongodb: Mongo, minimal: Mirror) -> None:
    apply(clean_mongodb, minimal, [Event("project", "changed", "vim", 7, {})])
    apply(clean_mongodb, minimal, [Event("project", "deleted", "vim", 8)])

    assert versions(clean_mongodb, minimal, [("project", "vim")]) == {("project", "vim"): 8}


def test_entities_of_the_same_key_are_told_apart(clean_mongodb: Mongo, minimal: Mirror) -> None:
    apply(clean_mongodb, minimal, [Event("project", "changed", "x", 1, {})])
    apply(clean_mongodb, minimal, [Event("release", "changed", "x", 2, {})])

    asked = [("project", "x"), ("release", "x"), ("release", "x")]
    assert versions(clean_mongodb, minimal, asked) == {("project", "x"): 1, ("release", "x"): 2}


def test_an_entity_that_is_mirrored_nowhere_has_none(clean_mongodb: Mongo, minimal: Mirror) -> None:
    clean_mongodb["wiki"].insert_one({"_id": "x", "_v": 5})

    assert versions(clean_mongodb, minimal, [("wiki", "x")]) == {}


def test_the_largest_version_and_strange_keys_are_found(
    clean_mongodb: Mongo, minimal: Mirror
) -> None:
    keys = ["ä" * 512, "a\0b", "$x", "a.b", "😀", " "]
    apply(clean_mongodb, minimal, [Event("project", "changed", key, 2**63 - 1, {}) for key in keys])

    asked = [("project", key) for key in keys]
    assert versions(clean_mongodb, minimal, asked) == dict.fromkeys(asked, 2**63 - 1)


def test_any_number_of_the_longest_keys_may_be_asked_for(
    clean_mongodb: Mongo, minimal: Mirror
) -> None:
    long_keys = [f"{number:01024}" for number in range(20_000)]
    apply(clean_mongodb, minimal, [Event("project", "changed", long_keys[-1], 3, {})])

    asked = [("project", key) for key in long_keys]
    assert versions(clean_mongodb, minimal, asked) == {asked[-1]: 3}


@pytest.mark.parametrize("document", [{}, {"_v": "9"}, {"_v": None}, {"_v": 9.5}])
def test_a_document_of_somebody_elses_has_no_version(
    clean_mongodb: Mongo, document: dict[str, Any], minimal: Mirror
) -> None:
    clean_mongodb["projects"].insert_one({"_id": "x"} | document)
    clean_mongodb["projects"].insert_one({"_id": "y", "_v": 1})

    asked = [("project", "x"), ("project", "y")]
    assert versions(clean_mongodb, minimal, asked) == {("project", "y"): 1}


def test_a_key_that_is_no_text_does_not_fail_the_others(
    clean_mongodb: Mongo, minimal: Mirror
) -> None:
    apply(clean_mongodb, minimal, [Event("project", "changed", "vim", 7, {})])

    asked = [("project", "caf\udce9"), ("project", "vim")]
    assert versions(clean_mongodb, minimal, asked) == {("project", "vim"): 7}


def test_a_write_that_no_majority_has_is_not_held(tmp_path: Path, minimal: Mirror) -> None:
    """Majority reads are what a rollback cannot take back."""
    with Mongod(tmp_path, parameters={"enableTestCommands": "1"}) as mongod:
        client = mongod.client()
        with client:
            database: Mongo = client["bridge"]
            apply(database, minimal, [Event("project", "changed", "vim", 1, {})])
            stop = {"configureFailPoint": "disableSnapshotting", "mode": "alwaysOn"}
            client.admin.command(stop)
            hasty = database.get_collection("projects", write_concern=WriteConcern(w=1))
            hasty.update_one({"_id": "vim"}, {"$set": {"_v": 2}})
            assert hasty.distinct("_v") == [2]
            assert versions(database, minimal, [("project", "vim")]) == {("project", "vim"): 1}
            client.admin.command(stop | {"mode": "off"})


def test_mongodb_away_is_an_error_and_no_empty_answer(tmp_path: Path, minimal: Mirror) -> None:
    with Mongod(tmp_path) as mongod:
        url = mongod.url_of("bridge")
    with connect(url, patience=0.2) as client, pytest.raises(ServerAway):
        versions(client.get_default_database(), minimal, [("project", "vim")])
