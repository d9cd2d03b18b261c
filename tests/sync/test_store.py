"""Store as handlers use it: documents from memory or from a real MongoDB, never an older one."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bridge import shadow
from bridge.errors import BridgeError, ServerAway, UseLegacy
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync import indexes
from bridge.sync.apply import apply
from bridge.sync.cache import follower as follow
from bridge.sync.cache.memory import Cache
from bridge.sync.documents import Mirror
from bridge.sync.freshness import Entry, Wanted, wanted
from bridge.sync.queries import query
from bridge.sync.store import Store
from stack.mongod import Mongod
from stack.waiting import wait_for
from tests.minimal_sync import mirror_of
from tests.sync.link import Link

SYNC = """\
version: 1
entities:
  project:
    collection: projects
    indexes: [[section, -updated], section]
    children: {releases: {entity: release, key: version}}
  release: {collection: releases}
"""

Mongo = Database[dict[str, Any]]
Write = Callable[..., None]


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower ends after its last look."""
    monkeypatch.setattr(follow, "AWAIT", 0.05)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return mirror_of(tmp_path, SYNC)


@pytest.fixture
def write(clean_mongodb: Mongo, mirror: Mirror) -> Write:
    """write(key, version, **fields): a project; write(key, version, gone=True): its end."""
    indexes.ensure(clean_mongodb, mirror)

    def _write(key: str, version: int, *, gone: bool = False, **more: Any) -> None:
        data = None if gone else {"name": key, "releases": [], **more}
        event = Event("project", "deleted" if gone else "changed", key, version, data)
        done = apply(clean_mongodb, mirror, [event])
        assert not done.failed

    return _write


@pytest.fixture
def link(mongodb: Mongod) -> Iterator[Link]:
    with Link(mongodb.port) as link:
        yield link


@pytest.fixture
def make_store(
    link: Link, clean_mongodb: Mongo, mirror: Mirror, tmp_path: Path
) -> Iterator[Callable[..., Store]]:
    """make_store(**options): a store that reads `clean_mongodb` through `link`."""
    stores: list[Store] = []

    def _make(**options: Any) -> Store:
        url = link.url(clean_mongodb.name)
        settings = Settings(tmp_path / "routes.yaml", "", url, tmp_path)
        store = Store(settings, mirror=mirror, **{"patience": 2.0, **options})
        stores.append(store)
        return store

    yield _make
    link.thaw()
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    """A store whose cache is confirmed."""
    store = make_store()
    store.get("project", "nothing")
    wait_for(lambda: "unconfirmed" not in repr(store), what="a first look")
    return store


def seen(store: Store, key: str, version: int) -> None:
    """Wait until the store's process has heard of a version."""
    assert store._cache.wait("project", key, version, 10)


def reads_of(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """What a store asks MongoDB from now on."""
    asked: list[Any] = []
    running = store._running()
    real = getattr(running.reads, name)

    def read(*args: Any, **options: Any) -> Any:
        asked.append(args[1])
        return real(*args, **options)

    monkeypatch.setattr(running.reads, name, read)
    return asked


# get


def test_a_document_has_the_sites_fields_its_key_and_its_version(
    store: Store, write: Write
) -> None:
    write("a", 3, title="A", tags=["x", "y"])
    assert store.get("project", "a") == {
        "_id": "a", "_v": 3, "name": "a", "title": "A", "tags": ("x", "y"),
    }  # fmt: skip


def test_the_second_read_comes_from_memory(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", 1)
    asked = reads_of(store, monkeypatch, "one")
    first = store.get("project", "a")
    assert store.get("project", "a") is first
    assert asked == ["a"]
    assert store.stats().hits == 1


def test_that_there_is_none_comes_from_memory_too_until_there_is(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = reads_of(store, monkeypatch, "one")
    assert store.get("project", "a") is None
    assert store.get("project", "a") is None
    assert asked == ["a"]
    assert store.stats().negative_hits == 1
    write("a", 1)
    seen(store, "a", 1)
    assert store.get("project", "a") is not None


def test_what_was_heard_of_is_seen_at_once(store: Store, write: Write) -> None:
    for version in range(1, 20):
        write("a", version)
        seen(store, "a", version)
        document = store.get("project", "a")
        assert document is not None
        assert document["_v"] == version


def test_a_deleted_document_is_none(store: Store, write: Write) -> None:
    write("a", 1)
    assert store.get("project", "a") is not None
    write("a", 2, gone=True)
    seen(store, "a", 2)
    assert store.get("project", "a") is None
    assert store.get_many("project", ["a"]) == {}
    assert store.find("project", {"_id": "a"}) == []


def test_an_entity_that_sync_yaml_does_not_have_is_an_error(store: Store) -> None:
    with pytest.raises(BridgeError, match="no entity page; it has: project, release"):
        store.get("page", "a")


def test_without_a_cache_each_read_is_one_of_mongodb(
    make_store: Callable[..., Store], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(cache=None)
    asked = reads_of(store, monkeypatch, "one")
    for version in (1, 2, 3):
        write("a", version)
        document = store.get("project", "a")
        assert document is not None
        assert document["_v"] == version
    assert len(asked) == 3


def test_many_threads_that_miss_one_key_are_one_read(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", 1)
    running = store._running()
    real, asked, release = running.reads.one, [], threading.Event()

    def slow(*args: Any, **options: Any) -> Any:
        asked.append(args)
        release.wait(10)
        return real(*args, **options)

    monkeypatch.setattr(running.reads, "one", slow)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(store.get("project", "a"))) for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: asked, what="the first read")
    wait_for(lambda: store.stats().misses >= 10, what="the others")
    release.set()
    for thread in threads:
        thread.join(10)
    assert len(asked) == 1
    assert [document["_v"] for document in found] == [1] * 10


def paused_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, list[Any]]:
    """Start `get` in a thread and hold it between MongoDB's answer and its use.

    Returns (go on, thread, what it got)."""
    running = store._running()
    real, answered, go_on = running.reads.one, threading.Event(), threading.Event()
    found: list[Any] = []

    def read(*args: Any, **options: Any) -> Any:
        answer = real(*args, **options)
        if not answered.is_set():
            answered.set()
            go_on.wait(10)
        return answer

    monkeypatch.setattr(running.reads, "one", read)
    thread = threading.Thread(target=lambda: found.append(store.get("project", "a")))
    thread.start()
    assert answered.wait(10)
    return go_on, thread, found


def test_a_read_that_is_overtaken_by_a_write_is_repeated(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", 7)
    seen(store, "a", 7)
    go_on, thread, found = paused_read(store, monkeypatch)
    write("a", 8)
    seen(store, "a", 8)
    go_on.set()
    thread.join(10)
    document = store.get("project", "a")
    assert document is not None
    assert (found[0]["_v"], document["_v"]) == (8, 8)


def test_who_joined_a_read_that_is_overtaken_gets_the_new_version_too(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", 7)
    go_on, thread, _ = paused_read(store, monkeypatch)
    misses = store.stats().misses
    second: list[Any] = []
    other = threading.Thread(target=lambda: second.append(store.get("project", "a")))
    other.start()
    wait_for(lambda: store.stats().misses > misses, what="the second to join")
    write("a", 8)
    seen(store, "a", 8)
    go_on.set()
    thread.join(10)
    other.join(10)
    assert second[0]["_v"] == 8


class WithoutFloors(Cache):
    def _admits(self, fill: Any, version: int) -> bool:
        return True


def test_without_floors_it_would_be_the_old_one_for_ever(
    make_store: Callable[..., Store], write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(cache=WithoutFloors())
    store.get("project", "nothing")
    wait_for(lambda: "unconfirmed" not in repr(store), what="a first look")
    write("a", 7)
    seen(store, "a", 7)
    go_on, thread, found = paused_read(store, monkeypatch)
    write("a", 8)
    seen(store, "a", 8)
    go_on.set()
    thread.join(10)
    document = store.get("project", "a")
    assert document is not None
    assert (found[0]["_v"], document["_v"]) == (7, 7)


# get_many


def test_of_many_only_what_is_missing_is_asked_for_in_one_query(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in "abcd":
        write(key, 1)
        seen(store, key, 1)
    write("b", 2, gone=True)
    seen(store, "b", 2)
    store.get("project", "a")
    asked = reads_of(store, monkeypatch, "many")
    found = store.get_many("project", ["d", "a", "b", "c", "d", "x"])
    assert list(found) == ["d", "a", "c"]
    assert asked == [["d", "b", "c", "x"]]
    assert store.get_many("project", ["x", "c", "b", "a"]).keys() == {"a", "c"}
    assert len(asked) == 1


def test_of_many_what_is_overtaken_is_repeated(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", 7)
    write("b", 1)
    running = store._running()
    real = running.reads.many

    def read(*args: Any, **options: Any) -> Any:
        answer = real(*args, **options)
        write("a", 8)
        seen(store, "a", 8)
        return answer

    monkeypatch.setattr(running.reads, "many", read)
    found = store.get_many("project", ["a", "b"])
    assert (found["a"]["_v"], found["b"]["_v"]) == (8, 1)


# find


def test_find_gives_what_an_index_answers_in_its_order(store: Store, write: Write) -> None:
    for number, key in enumerate("abcde"):
        write(key, 1, section="x" if key < "d" else "y", updated=number)
    newest = store.find("project", {"section": "x"}, sort=["-updated"], limit=2)
    assert [document["_id"] for document in newest] == ["c", "b"]
    second = store.find("project", {"section": "x"}, sort=["-updated"], skip=2, limit=2)
    assert [document["_id"] for document in second] == ["a"]
    ranged = store.find("project", {"section": "x", "updated": {"$gte": 1}}, sort=["updated"])
    assert [document["_id"] for document in ranged] == ["b", "c"]


def test_find_leaves_out_the_deleted_and_the_mirrors_own_fields(store: Store, write: Write) -> None:
    write("a", 1, section="x")
    write("b", 1, section="x")
    write("b", 2, gone=True)
    assert store.find("project", {"section": "x"}) == [
        {"_id": "a", "_v": 1, "name": "a", "section": "x"}
    ]
    assert store.find("project", {}, sort=["_id"], fields=["name"]) == [
        {"_id": "a", "_v": 1, "name": "a"}
    ]


def test_find_sees_what_was_heard_of(store: Store, write: Write) -> None:
    for version in range(1, 15):
        write("a", version, section="x", updated=version)
        seen(store, "a", version)
        found = store.find("project", {"section": "x"}, sort=["-updated"])
        assert [document["_v"] for document in found] == [version]


def test_children_are_found_by_their_parent(
    store: Store, write: Write, clean_mongodb: Mongo
) -> None:
    write("a", 1, releases=[{"version": "1"}, {"version": "2"}])
    write("b", 1, releases=[{"version": "1"}])
    found = store.find("release", {"_parent": "a"})
    assert sorted(document["_id"] for document in found) == ["a/1", "a/2"]
    assert clean_mongodb["releases"].count_documents({}) == 3


INDEXES = [[("section", 1), ("updated", -1), ("name", 1)]]


@pytest.mark.parametrize(
    ("where", "sort"),
    [
        ({}, []),
        ({}, ["_id"]),
        ({}, ["-_id"]),
        ({"_id": {"$gte": "a", "$lt": "b"}}, ["_id"]),
        ({"_id": {"$in": ["a", "b"]}}, []),
        ({"section": "x"}, []),
        ({"section": "x"}, ["-updated"]),
        ({"section": "x"}, ["-updated", "name"]),
        ({"section": "x"}, ["updated", "-name"]),
        ({"section": "x"}, ["section", "-updated"]),
        ({"section": "x", "updated": {"$gt": 1}}, ["-updated", "name"]),
        ({"section": "x", "updated": 1}, ["name"]),
        ({"section": {"$in": ["x", "y"]}}, []),
        ({"section": {"$in": ["x", "y"]}}, ["section", "-updated"]),
        ({}, ["section"]),
    ],
)
def test_what_an_index_answers_may_be_asked(where: dict[str, Any], sort: list[str]) -> None:
    asked = query("project", INDEXES, where, sort, 0, 10, ())
    assert asked.index in [[("_id", 1)], *INDEXES]


@pytest.mark.parametrize(
    ("where", "filters"),
    [
        ({}, True),
        ({"_id": "a"}, True),
        ({"section": None}, True),
        ({"section": {"$in": ["x", None]}}, True),
        ({"section": "x"}, False),
        ({"section": {"$gte": "x"}}, False),
    ],
)
def test_tombstones_are_left_out_where_the_conditions_do_not(
    where: dict[str, Any], filters: bool
) -> None:
    asked = query("project", INDEXES, where, (), 0, 10, ())
    assert ("_del" in asked.filter) is filters


def test_an_index_that_nobody_has_made_yet_is_an_error_that_says_how(
    store: Store, write: Write, clean_mongodb: Mongo
) -> None:
    write("a", 1, section="x")
    clean_mongodb["projects"].drop_indexes()
    with pytest.raises(BridgeError, match="run `bridgectl sync init`"):
        store.find("project", {"section": "x"})


@pytest.mark.parametrize(
    ("where", "sort", "wish"),
    [
        ({"maintainer": "m"}, [], "[maintainer]"),
        ({"maintainer": "m"}, ["-updated"], "[maintainer, -updated]"),
        ({"updated": 1}, [], "[updated]"),
        ({"section": "x", "name": "n"}, [], "[section, name]"),
        ({"section": "x"}, ["name"], "[section, name]"),
        ({"section": "x"}, ["updated", "name"], "[section, updated, name]"),
        ({"section": {"$in": ["x"]}}, ["-updated"], "[-updated, section]"),
        ({"section": {"$gt": "x"}, "updated": 1}, [], "[updated, section]"),
        ({"section": {"$gt": "x"}}, ["-updated"], "[-updated, section]"),
        ({}, ["-downloads"], "[-downloads]"),
    ],
)
def test_what_no_index_answers_says_which_one_would(
    where: dict[str, Any], sort: list[str], wish: str
) -> None:
    with pytest.raises(BridgeError) as caught:
        query("project", INDEXES, where, sort, 0, 10, ())
    assert f"entities.project.indexes: {wish}, and run `bridgectl sync init`" in str(caught.value)


@pytest.mark.parametrize(
    ("where", "limit", "skip", "text"),
    [
        ({"_id": {"$regex": "x"}}, 1, 0, "find takes a value"),
        ({"_id": {}}, 1, 0, "find takes a value"),
        ({"$where": "1"}, 1, 0, "no index"),
        ({}, 0, 0, "limit is 0"),
        ({}, 10_001, 0, "limit is 10001"),
        ({}, 1, -1, "skip is -1"),
    ],
)
def test_questions_that_make_no_sense_are_refused(
    where: dict[str, Any], limit: int, skip: int, text: str
) -> None:
    with pytest.raises(BridgeError, match=text):
        query("project", INDEXES, where, (), skip, limit, ())


# A MongoDB that is away.


def test_a_mongodb_that_is_away_raises_and_comes_back(
    make_store: Callable[..., Store], write: Write, link: Link
) -> None:
    store = make_store(patience=0.2)
    write("a", 1)
    link.freeze()
    with pytest.raises(ServerAway):
        store.get("project", "a")
    with pytest.raises(ServerAway):
        store.find("project", {"_id": "a"})
    link.thaw()

    def found() -> Any:
        try:
            return store.get("project", "a")
        except ServerAway:
            return None

    assert wait_for(found, what="the document")["_v"] == 1


def test_what_is_in_memory_is_served_until_the_bound_has_passed(
    make_store: Callable[..., Store], write: Write, link: Link
) -> None:
    store = make_store(patience=0.2, cache=Cache(bound=0.8))
    write("a", 1)
    wait_for(lambda: store.get("project", "a") and store.stats().fills, what="it in memory")
    link.freeze()
    write("a", 2)
    served = []
    while store._cache.get("project", "a") is not None:
        served.append(store._cache.shelves["project"]["a"].version)
    assert set(served) <= {1}
    with pytest.raises(ServerAway):
        store.get("project", "a")


# The visitor's own edit.


def asks(*entries: tuple[str, int]) -> Wanted:
    want = Wanted([Entry("project", key, version, 0) for key, version in entries])
    wanted.set(want)
    return want


@pytest.fixture(autouse=True)
def _nothing_wanted() -> Iterator[None]:
    token = wanted.set(None)
    yield
    wanted.reset(token)


def test_a_version_that_is_in_memory_is_had_at_once(
    store: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", 3)
    seen(store, "a", 3)
    store.get("project", "a")
    asked = reads_of(store, monkeypatch, "one")
    want = asks(("a", 3))
    assert store.get("project", "a") is not None
    assert asked == []
    assert want.outcome == "at_once"


def test_an_old_one_in_memory_does_not_do_for_who_made_the_new_one(
    store: Store, write: Write
) -> None:
    write("a", 3)
    seen(store, "a", 3)
    store.get("project", "a")
    asks(("a", 4))
    write("a", 4)  # whether the stream has said so or not
    document = store.get("project", "a")
    assert document is not None
    assert document["_v"] == 4
    assert store.get_many("project", ["a"])["a"]["_v"] == 4
    assert [found["_v"] for found in store.find("project", {"_id": "a"})] == [4]


def test_a_version_that_comes_in_time_is_waited_for(store: Store, write: Write) -> None:
    write("a", 3)
    want = asks(("a", 4))
    writing = threading.Timer(0.02, write, ("a", 4))
    writing.start()
    try:
        document = store.get("project", "a")
    except UseLegacy:  # a machine that is too busy; then it must say so
        assert want.refused
    else:
        assert document is not None
        assert document["_v"] == 4
    writing.join(10)


@pytest.mark.parametrize("read", ["get", "get_many", "find"])
def test_a_version_that_does_not_come_is_left_to_legacy(
    store: Store, write: Write, read: str
) -> None:
    write("a", 3)
    want = asks(("a", 4))
    reads: dict[str, Callable[[], Any]] = {
        "get": lambda: store.get("project", "a"),
        "get_many": lambda: store.get_many("project", ["b", "a"]),
        "find": lambda: store.find("project", {"_id": "b"}),
    }
    with pytest.raises(UseLegacy, match="freshness"):
        reads[read]()
    assert want.refused


def test_what_nobody_edited_is_read_as_always(store: Store, write: Write) -> None:
    write("b", 1)
    asks(("a", 99))
    assert store.get("project", "b") is not None
    assert store.get_many("project", ["b"]).keys() == {"b"}


def test_a_deletion_of_ones_own_is_seen(store: Store, write: Write) -> None:
    write("a", 1)
    store.get("project", "a")
    write("a", 2, gone=True)
    want = asks(("a", 2))
    assert store.get("project", "a") is None
    assert not want.refused


def test_children_are_as_new_as_the_parent_that_was_edited(store: Store, write: Write) -> None:
    write("a", 1, releases=[{"version": "1", "size": 1}, {"version": "2", "size": 1}])
    seen(store, "a", 1)
    for key in ("a/1", "a/2", "a/3"):
        store.get("release", key)
    write("a", 2, releases=[{"version": "1", "size": 2}, {"version": "3", "size": 2}])
    asks(("a", 2))
    sizes = {key: (store.get("release", key) or {}).get("size") for key in ("a/1", "a/2", "a/3")}
    assert sizes == {"a/1": 2, "a/2": None, "a/3": 2}
    assert len(store.find("release", {"_parent": "a"})) == 2


def test_without_a_cache_the_primary_is_asked(
    make_store: Callable[..., Store], write: Write
) -> None:
    store = make_store(cache=None)
    write("a", 3)
    asks(("a", 3))
    assert store.get("project", "a") is not None
    asks(("a", 4))
    with pytest.raises(UseLegacy):
        store.get("project", "a")


# Processes.

FORKS = """
import os, sys, warnings
from bridge.sync.store import Store
from stack.waiting import wait_for

store = Store.from_environ()

def caches():
    store.get("project", "a")
    return store.stats().hits > 0

wait_for(caches, what="a hit")
pid = os.fork()
if pid == 0:
    assert store.stats().entries == 0
    wait_for(caches, what="a hit in the child")
    store.close()
    sys.stdout.write("child\\n")
    sys.stdout.flush()
    os._exit(0)
_, status = os.waitpid(pid, 0)
assert status == 0
assert store.get("project", "a")["_v"] == 1
store.close()
assert store.get("project", "a")["_v"] == 1
print("parent")
"""


def test_a_forked_child_begins_anew_and_the_parent_goes_on(
    write: Write, mongodb_url: str, mirror: Mirror, tmp_path: Path
) -> None:
    write("a", 1)
    environment = {
        **os.environ,
        "BRIDGE_MONGODB_URL": mongodb_url,
        "BRIDGE_SYNC": str(tmp_path / "sync.yaml"),
        "BRIDGE_STATE_DIR": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore:.*fork:DeprecationWarning", "-c", FORKS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("child\nparent\n", 0), done.stderr[-2000:]
    assert "Unclosed" not in done.stderr


def test_whoever_compares_is_told_what_a_page_was_made_of(store: Store, write: Write) -> None:
    write("apache2", 3, section="web")
    write("vim", 5, section="editors")
    store.get("project", "vim")  # from memory afterwards, and that is told, too

    def page() -> dict[tuple[str, str], int | None]:
        documents: dict[tuple[str, str], int | None] = {}
        shadow.seen.set(documents)
        wanted.set(Wanted(()))
        store.get("project", "vim")
        store.get("project", "nothing")
        store.get_many("project", ["apache2", "neither"])
        store.find("project", {"section": "web"}, fields=["name"])
        return documents

    assert contextvars.Context().run(page) == {
        ("project", "vim"): 5,
        ("project", "nothing"): None,
        ("project", "apache2"): 3,
        ("project", "neither"): None,
    }
