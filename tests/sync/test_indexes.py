"""Indexes: what sync.yaml declares is there afterwards, and nothing of somebody else's is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from bridge.errors import BridgeError, ServerAway
from bridge.queue.events import Event
from bridge.sync import indexes
from bridge.sync.apply import apply, connect
from bridge.sync.documents import Mirror
from bridge.sync.twins import mark_doubles
from stack.ports import free_port
from tests.minimal_sync import mirror_of, write_sync

Db = Database[dict[str, Any]]

SHOP = """\
version: 1
entities:
  project:
    collection: projects
    indexes:
      - [section, -updated]
      - {fields: [name], unique: true}
    children:
      releases: {entity: release, key: version}
  release: {collection: releases}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Mirror:
    return mirror_of(tmp_path, SHOP)


def actions(database: Db, mirror: Mirror) -> dict[str, str]:
    """Those that are not as they should be: which index to what is to be done."""
    steps = indexes.plan(database, mirror)
    return {
        f"{step.collection}.{step.index}": step.action for step in steps if step.action != "keep"
    }


def test_what_is_declared_is_made_once_and_stays(clean_mongodb: Db, shop: Mirror) -> None:
    made = indexes.run(clean_mongodb, shop)
    assert {step.action for step in made} == {"create"}

    again = indexes.run(clean_mongodb, shop)
    assert {step.action for step in again} == {"keep"}
    projects = clean_mongodb.projects.index_information()
    assert projects["bridge_tombstones"]["expireAfterSeconds"] == 35 * 24 * 3600
    assert projects["bridge_tombstones"]["partialFilterExpression"] == {"_del": True}
    assert projects["bridge_section_updated_desc"]["key"] == [("section", 1), ("updated", -1)]
    assert projects["bridge_name_unique"]["unique"] is True
    assert projects["bridge_name_unique"]["key"] == [("name", 1), ("_twin", 1)]
    releases = clean_mongodb.releases.index_information()
    assert releases["bridge__parent__v"]["key"] == [("_parent", 1), ("_v", 1)]
    assert "bridge_tombstones" in releases


def test_a_plan_changes_nothing(clean_mongodb: Db, shop: Mirror) -> None:
    indexes.plan(clean_mongodb, shop)

    assert clean_mongodb.list_collection_names() == []


def test_many_tombstones_do_not_meet_in_a_unique_index(clean_mongodb: Db, shop: Mirror) -> None:
    indexes.run(clean_mongodb, shop)
    result = apply(clean_mongodb, shop, [Event("project", "deleted", key, 1) for key in "abc"])

    assert result.failed == ()


def test_readers_use_a_unique_index(clean_mongodb: Db, shop: Mirror) -> None:
    indexes.run(clean_mongodb, shop)

    assert "IXSCAN" in str(clean_mongodb.projects.find({"name": "same"}).explain())


def test_one_of_ours_that_is_declared_otherwise_now_is_replaced(
    clean_mongodb: Db, shop: Mirror
) -> None:
    clean_mongodb.projects.create_index("_at", name="bridge_tombstones", expireAfterSeconds=0)
    clean_mongodb.projects.create_index("name", name="bridge_name_unique")
    assert actions(clean_mongodb, shop) == {
        "projects.bridge_tombstones": "replace",
        "projects.bridge_name_unique": "replace",
        "projects.bridge__twin": "create",
        "projects.bridge_section_updated_desc": "create",
        "releases.bridge_tombstones": "create",
        "releases.bridge__parent__v": "create",
    }

    with pytest.raises(BridgeError, match="run `bridgectl sync init`, which replaces it"):
        indexes.ensure(clean_mongodb, shop)
    indexes.run(clean_mongodb, shop)

    assert actions(clean_mongodb, shop) == {}


def test_one_that_is_no_longer_declared_is_named_and_stays(clean_mongodb: Db, shop: Mirror) -> None:
    indexes.run(clean_mongodb, shop)
    clean_mongodb.projects.create_index("old", name="bridge_old")
    clean_mongodb.projects.create_index("theirs", name="theirs")
    [step] = [one for one in indexes.run(clean_mongodb, shop) if one.action != "keep"]

    assert (step.index, step.action) == ("bridge_old", "no longer declared")
    assert 'db["projects"].dropIndex("bridge_old")' in step.note
    assert "bridge_old" in clean_mongodb.projects.index_information()


def test_an_index_of_another_name_with_the_same_meaning_serves_as_well(
    clean_mongodb: Db, shop: Mirror
) -> None:
    clean_mongodb.projects.create_index([("section", 1), ("updated", -1)], name="theirs")
    indexes.ensure(clean_mongodb, shop)

    assert actions(clean_mongodb, shop) == {}
    assert "bridge_section_updated_desc" not in clean_mongodb.projects.index_information()


@pytest.mark.parametrize("make", [indexes.run, indexes.ensure])
def test_one_in_the_way_is_named_before_anything_is_changed(
    clean_mongodb: Db, shop: Mirror, make: Callable[[Db, Mirror], object]
) -> None:
    keys = [("section", 1), ("updated", -1)]
    clean_mongodb.projects.create_index("section")
    clean_mongodb.projects.create_index(
        "_at", name="theirs", expireAfterSeconds=9, partialFilterExpression={"_del": True}
    )
    clean_mongodb.projects.create_index(keys, name="sparse", sparse=True)
    before = clean_mongodb.projects.index_information()

    with pytest.raises(BridgeError) as caught:
        make(clean_mongodb, shop)

    assert "bridge_tombstones of projects" in str(caught.value)
    assert 'db["projects"].dropIndex("theirs")' in str(caught.value)
    assert clean_mongodb.projects.index_information() == before


@pytest.mark.parametrize("make", [indexes.run, indexes.ensure])
@pytest.mark.parametrize(
    "values", [["same"] * 4, [["a", "b"], ["b", "c"], ["c"]], [1, 1.0, 1], [None, None]]
)
def test_values_that_are_not_unique_are_borne(
    clean_mongodb: Db,
    shop: Mirror,
    make: Callable[[Db, Mirror], object],
    values: list[object],
) -> None:
    clean_mongodb.projects.insert_many(
        [{"_id": f"k{number}", "_v": 1, "name": value} for number, value in enumerate(values)]
    )

    make(clean_mongodb, shop)

    assert actions(clean_mongodb, shop) == {}
    assert clean_mongodb.projects.count_documents({}) == len(values)
    assert clean_mongodb.projects.count_documents({"_twin": {"$exists": False}}) >= 1


@pytest.mark.parametrize("make", [indexes.run, indexes.ensure])
def test_a_unique_index_of_an_earlier_release_is_retired(
    clean_mongodb: Db, shop: Mirror, make: Callable[[Db, Mirror], object]
) -> None:
    clean_mongodb.projects.create_index(
        "name",
        name="bridge_name",
        unique=True,
        partialFilterExpression={"name": {"$exists": True}},
    )
    clean_mongodb.projects.create_index("old", name="bridge_old", unique=True)
    assert actions(clean_mongodb, shop)["projects.bridge_name"] == "retire"

    make(clean_mongodb, shop)

    names = set(clean_mongodb.projects.index_information())
    assert "bridge_name_unique" in names
    assert not names & {"bridge_name", "bridge_old"}
    assert actions(clean_mongodb, shop) == {}


def test_mongodb_away_is_an_outage(shop: Mirror) -> None:
    url = f"mongodb://127.0.0.1:{free_port()}/bridge"
    with connect(url, patience=0.1) as client, pytest.raises(ServerAway):
        indexes.plan(client.get_default_database(), shop)


@pytest.fixture
def bridge(tmp_path: Path, mongodb_url: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """bridge(*words, expect=0)"""
    sync = write_sync(tmp_path, SHOP)

    def _bridge(*words: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "BRIDGE_MONGODB_URL": mongodb_url, "BRIDGE_SYNC": str(sync)}
        command = [sys.executable, "-m", "bridge", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
        assert done.returncode == expect, done.stderr + done.stdout
        return done

    return _bridge


def test_the_command_shows_what_it_would_do_and_does_it(
    bridge: Callable[..., subprocess.CompletedProcess[str]], clean_mongodb: Db
) -> None:
    would = json.loads(bridge("sync", "init", "--dry-run", "-o", "json").stdout)
    assert clean_mongodb.list_collection_names() == []
    assert {one["state"] for one in would} == {"would be made"}
    assert ("releases", "bridge__parent__v", "_parent, _v") in [
        (one["collection"], one["index"], one["fields"]) for one in would
    ]

    made = bridge("sync", "init").stdout
    assert "section, -updated" in made
    assert "made" in made
    assert "bridge_name_unique" in clean_mongodb.projects.index_information()
    assert "is there" in bridge("sync", "init").stdout


def test_the_command_says_what_to_drop(
    bridge: Callable[..., subprocess.CompletedProcess[str]], clean_mongodb: Db
) -> None:
    clean_mongodb.projects.create_index(
        "_at", name="theirs", expireAfterSeconds=9, partialFilterExpression={"_del": True}
    )

    dry = bridge("sync", "init", "--dry-run", expect=1)
    assert "in the way" in dry.stdout
    assert 'dropIndex("theirs")' in dry.stdout
    assert 'dropIndex("theirs")' in bridge("sync", "init", expect=1).stderr


def test_a_document_with_a_field_twice_is_not_touched(clean_mongodb: Db, shop: Mirror) -> None:
    """MongoDB 6.0 ends at the update of such a one; the index says what is in its way."""
    body = bson.encode({"_id": "b", "_v": 1, "name": "same"})[4:-1]
    double = body + body[-(len("name") + 1 + 1 + 4 + len("same") + 1) :]
    raw = RawBSONDocument((len(double) + 5).to_bytes(4, "little") + double + b"\0")
    clean_mongodb.projects.insert_one({"_id": "a", "_v": 1, "name": "same"})
    clean_mongodb.projects.insert_one(raw)

    assert mark_doubles(clean_mongodb.projects, ["name"]) <= 1
    assert clean_mongodb.projects.count_documents({"_id": "b", "_twin": {"$exists": True}}) == 0
    assert clean_mongodb.command("ping")["ok"] == 1
