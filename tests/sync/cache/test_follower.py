"""The follower tells the cache what changed in a real MongoDB, and notices when it cannot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bridge.queue.events import Event
from bridge.sync.apply import apply
from bridge.sync.cache import follower as follow
from bridge.sync.cache.follower import Follower
from bridge.sync.cache.frozen import freeze
from bridge.sync.cache.memory import Cache
from bridge.sync.documents import Mirror
from stack.mongod import Mongod
from stack.waiting import wait_for
from tests.minimal_sync import mirror_of
from tests.sync.link import Link

COLLECTIONS = {"projects": "project", "releases": "release"}

Mongo = Database[dict[str, Any]]


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower ends after its last look."""
    monkeypatch.setattr(follow, "AWAIT", 0.05)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return mirror_of(tmp_path)


@pytest.fixture
def link(mongodb: Mongod) -> Iterator[Link]:
    with Link(mongodb.port) as link:
        yield link


@pytest.fixture
def cache() -> Cache:
    return Cache(bound=0.8)


@pytest.fixture
def follower(link: Link, clean_mongodb: Mongo, cache: Cache) -> Iterator[Follower]:
    """One that follows `clean_mongodb` through `link`, and has begun."""
    follower = Follower(link.url(clean_mongodb.name), COLLECTIONS, cache)
    follower.start()
    wait_for(lambda: confirmed(cache), what="a first look")
    yield follower
    link.thaw()
    follower.stop()
    assert not follower.alive


def confirmed(cache: Cache) -> bool:
    return "unconfirmed" not in repr(cache)


def put(cache: Cache, version: int, key: str = "a") -> None:
    """Fill the cache, as a read of this version would."""

    def kept() -> bool:
        fill = cache.begin("project", key)
        return cache.keep(fill, freeze({"_id": key, "_v": version}))

    wait_for(kept, what=f"{key} to be kept")


def write(database: Mongo, mirror: Mirror, version: int, key: str = "a", **more: Any) -> None:
    event = Event("project", "changed", key, version, {"name": key, **more})
    assert not apply(database, mirror, [event]).failed


def held(cache: Cache, key: str = "a") -> bool:
    return cache.get("project", key) is not None


@pytest.mark.usefixtures("follower")
def test_a_write_is_heard_of_with_its_version(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache
) -> None:
    for version in (3, 4, 9):
        write(clean_mongodb, mirror, version)
        assert cache.wait("project", "a", version, 10)
    apply(clean_mongodb, mirror, [Event("project", "deleted", "a", 10)])
    assert cache.wait("project", "a", 10, 10)


@pytest.mark.usefixtures("follower")
def test_a_write_throws_out_what_is_older(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache
) -> None:
    put(cache, 3)
    put(cache, 1, "b")
    write(clean_mongodb, mirror, 4)
    wait_for(lambda: not held(cache), what="the old one to go")
    assert held(cache, "b")


@pytest.mark.usefixtures("follower")
def test_a_repair_in_the_same_version_is_heard_of(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache
) -> None:
    write(clean_mongodb, mirror, 3, title="damaged", text="long enough for a small difference")
    assert cache.wait("project", "a", 3, 10)
    put(cache, 3)
    good = {"name": "a", "title": "good", "text": "long enough for a small difference"}
    apply(clean_mongodb, mirror, [Event("project", "changed", "a", 3, good, rewrite=True)])
    wait_for(lambda: not held(cache), what="the damaged one to go")


@pytest.mark.usefixtures("follower")
@pytest.mark.parametrize("how", ["update", "replace", "delete", "without a version"])
def test_what_somebody_changes_by_hand_is_heard_of(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache, how: str
) -> None:
    write(clean_mongodb, mirror, 3)
    assert cache.wait("project", "a", 3, 10)
    put(cache, 3)
    projects = clean_mongodb["projects"]
    if how == "update":
        projects.update_one({"_id": "a"}, {"$set": {"name": "by hand"}})
    elif how == "replace":
        projects.replace_one({"_id": "a"}, {"_v": 3, "name": "by hand"})
    elif how == "delete":
        projects.delete_one({"_id": "a"})
    else:
        projects.replace_one({"_id": "a"}, {"name": "by hand"})
    wait_for(lambda: not held(cache), what="the old one to go")


def test_only_mirrored_collections_are_followed(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache, follower: Follower
) -> None:
    clean_mongodb["other"].insert_many([{"_id": n} for n in range(50)])
    clean_mongodb["projects"].insert_one({"_id": 42, "_v": 1})  # a key that no event has
    write(clean_mongodb, mirror, 1)
    assert cache.wait("project", "a", 1, 10)
    assert follower.counters.events == 2
    assert cache.stats().followed == 1


@pytest.mark.parametrize("what", ["a collection", "the database", "a rename over it"])
def test_a_drop_throws_everything_out_and_versions_may_begin_anew(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache, follower: Follower, what: str
) -> None:
    write(clean_mongodb, mirror, 9)
    assert cache.wait("project", "a", 9, 10)
    put(cache, 9)
    if what == "a collection":
        clean_mongodb["projects"].drop()
    elif what == "the database":
        clean_mongodb.client.drop_database(clean_mongodb)
    else:
        clean_mongodb["new"].insert_one({"_id": "a", "_v": 2})
        clean_mongodb["new"].rename("projects", dropTarget=True)
    wait_for(lambda: not held(cache) and cache.knows("project", "a") is None, what="a flush")
    wait_for(lambda: confirmed(cache), what="it to go on")
    write(clean_mongodb, mirror, 3)
    assert cache.wait("project", "a", 3, 10)
    assert follower.counters.opened <= 2


def test_a_connection_that_is_cut_is_taken_up_behind_the_last_event(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache, follower: Follower, link: Link
) -> None:
    for version in range(1, 6):
        link.cut()
        write(clean_mongodb, mirror, version)
        assert cache.wait("project", "a", version, 10)
    assert follower.counters.opened == 1
    assert follower.counters.resumed >= 1


def test_a_link_that_hangs_ends_the_cache_and_comes_back_empty(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache, follower: Follower, link: Link
) -> None:
    put(cache, 3)
    flushes = cache.stats().flushes
    link.freeze()
    write(clean_mongodb, mirror, 4)
    wait_for(lambda: not confirmed(cache), what="the bound to pass")
    assert not held(cache)
    link.thaw()
    assert cache.wait("project", "a", 4, 10)
    wait_for(lambda: confirmed(cache), what="it to go on")
    assert cache.stats().flushes > flushes
    assert cache.stats().entries == 0
    assert follower.counters.opened == 1


def test_a_history_that_is_lost_throws_everything_out(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache, follower: Follower, link: Link
) -> None:
    write(clean_mongodb, mirror, 9)
    assert cache.wait("project", "a", 9, 10)
    wait_for(lambda: follower._token, what="a token")
    put(cache, 9)
    link.freeze()
    # Time 1 of the same stream: MongoDB has no history that old.
    wait_for(lambda: not confirmed(cache), what="the bound to pass")
    assert follower._token is not None
    old = follower._token["_data"]
    follower._token = {"_data": old[:2] + "00000001" + old[10:]}
    link.cut()
    link.thaw()
    wait_for(lambda: follower.counters.opened == 2, what="a new beginning")
    wait_for(lambda: confirmed(cache), what="it to go on")
    assert not held(cache)
    write(clean_mongodb, mirror, 10)
    assert cache.wait("project", "a", 10, 10)


def test_another_history_throws_everything_out(
    clean_mongodb: Mongo, cache: Cache, follower: Follower, link: Link
) -> None:
    put(cache, 9)
    wait_for(lambda: follower._progress, what="a look")
    follower._newest = 2**63  # as if this MongoDB had been set up anew, or put back
    link.cut()
    wait_for(lambda: follower.counters.opened == 2, what="a new beginning")
    wait_for(lambda: confirmed(cache), what="it to go on")
    assert not held(cache)


def test_a_mongodb_that_comes_later_is_followed_then(
    mongodb: Mongod, clean_mongodb: Mongo, mirror: Mirror, cache: Cache
) -> None:
    with Link(mongodb.port) as link:
        link.freeze()
        follower = Follower(link.url(clean_mongodb.name), COLLECTIONS, cache)
        follower.start()
        wait_for(lambda: follower.counters.failures, what="a look that fails")
        link.thaw()
        wait_for(lambda: confirmed(cache), what="a look")
        write(clean_mongodb, mirror, 1)
        assert cache.wait("project", "a", 1, 10)
        follower.stop()


def test_many_writes_at_once_are_all_heard_of(
    clean_mongodb: Mongo, mirror: Mirror, cache: Cache, follower: Follower
) -> None:
    keys = [f"k{number}" for number in range(2500)]  # more than one look brings
    events = [Event("project", "changed", key, 1, {"name": key}) for key in keys]
    thread = threading.Thread(target=apply, args=(clean_mongodb, mirror, events))
    thread.start()
    assert cache.wait("project", keys[-1], 1, 20)
    thread.join(20)
    wait_for(lambda: follower.counters.events == 2500, what="all of them")
    assert all(cache.knows("project", key) == 1 for key in keys)
