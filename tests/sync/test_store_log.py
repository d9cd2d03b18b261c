"""Store and a visitor whose edit is in the database's log: they are shown nothing older than that,
although nobody can say which documents it was."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bridge.errors import UseLegacy
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync import indexes
from bridge.sync.apply import apply
from bridge.sync.cache import follower as follow
from bridge.sync.cache.memory import Cache
from bridge.sync.documents import Mirror
from bridge.sync.freshness import Wanted, wanted
from bridge.sync.gtid import Gtid
from bridge.sync.log.position import version
from bridge.sync.store import Store
from bridge.sync.tokens import LogEnd
from stack.waiting import wait_for
from tests.minimal_sync import mirror_of

SYNC = """\
version: 1
entities:
  page:
    collection: pages
    source: {table: pages, key: id, log: true}
    indexes: [kind]
  user: {collection: users}
"""

Mongo = Database[dict[str, Any]]
Write = Callable[..., None]


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "AWAIT", 0.05)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return mirror_of(tmp_path, SYNC)


@pytest.fixture
def write(clean_mongodb: Mongo, mirror: Mirror) -> Write:
    """write(key, sequence, entity): what the transaction of this number left, and no position."""
    indexes.ensure(clean_mongodb, mirror)

    def _write(key: str, sequence: int, entity: str = "page") -> None:
        data = {"id": key, "kind": "x", "text": str(sequence)}
        event = Event(entity, "changed", key, version(1, sequence, 0), data)
        assert not apply(clean_mongodb, mirror, [event]).failed

    return _write


@pytest.fixture
def come(clean_mongodb: Mongo) -> Callable[..., None]:
    """come(sequence, **more): the mirror has come so far with the log."""

    def _come(sequence: int, **more: Any) -> None:
        position = {"epoch": 1, "gtid": f"0-1-{sequence}"}
        state = {"position": position, "follows": ["page"], "beat": datetime.now(UTC), **more}
        clean_mongodb.bridge_state.replace_one({"_id": "log"}, state, upsert=True)

    return _come


class Deaf(Cache):
    """A cache that hears of nothing for a while, and counts as confirmed all the same."""

    def __init__(self) -> None:
        super().__init__(bound=60)
        self.hears = threading.Event()
        self.hears.set()

    def apply(self, changes: Any) -> None:
        self.hears.wait(30)
        super().apply(changes)

    def confirm(self, looked: float) -> None:
        self.hears.wait(30)
        super().confirm(looked)


@pytest.fixture
def cache() -> Iterator[Deaf]:
    found = Deaf()
    yield found
    found.hears.set()


@pytest.fixture
def store(
    cache: Deaf, mongodb_url: str, mirror: Mirror, tmp_path: Path, write: Write
) -> Iterator[Store]:
    """A store whose cache is confirmed."""
    settings = Settings(tmp_path / "routes.yaml", "", mongodb_url, tmp_path)
    store = Store(settings, mirror=mirror, cache=cache, patience=5.0)
    store.get("page", "nothing")
    wait_for(lambda: "unconfirmed" not in repr(store), what="a first look")
    yield store
    cache.hears.set()
    store.close()


def visits(sequence: int) -> Wanted:
    """A visitor for whom the log went to this transaction."""
    return Wanted([], LogEnd(Gtid("0", 1, sequence), int(time.time())))


def shown(want: Wanted | None, read: Callable[[], Any]) -> Any:
    context = want.context() if want is not None else Wanted([]).context()
    if want is None:
        context.run(wanted.set, None)
    return context.run(read)


READS: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: store.get("page", "a"),
    "get_many": lambda store: store.get_many("page", ["b", "a"])["a"],
    "find": lambda store: store.find("page", {"kind": "x"})[0],
}


@pytest.mark.parametrize("read", READS)
def test_memory_that_has_not_heard_of_it_yet_is_passed_over(
    store: Store, cache: Deaf, write: Write, come: Callable[..., None], read: str
) -> None:
    write("a", 1)
    old = store.get("page", "a")
    cache.hears.clear()
    write("a", 2)
    come(2)
    assert store.get("page", "a") is old  # others may see the old one for a moment
    found = shown(visits(2), lambda: READS[read](store))
    assert found["text"] == "2"


def test_that_there_is_none_is_not_believed_of_such_a_memory_either(
    store: Store, cache: Deaf, write: Write, come: Callable[..., None]
) -> None:
    assert store.get("page", "a") is None
    cache.hears.clear()
    write("a", 2)
    come(2)
    assert store.get("page", "a") is None
    assert shown(visits(2), lambda: store.get("page", "a"))["text"] == "2"


def test_memory_counts_again_once_the_stream_was_looked_at_after_that(
    store: Store, write: Write, come: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a", 1)
    come(1)
    wait_for(lambda: store._cache.knows("page", "a") is not None, what="the write to be heard of")
    store.get("page", "a")
    want = visits(1)
    assert shown(want, lambda: store.get("page", "a"))["text"] == "1"
    since = want.since("page")
    assert since is not None
    wait_for(lambda: store._cache.looked >= since, what="a look after that")
    monkeypatch.setattr(store._running().reads, "_read", None)  # MongoDB is asked for nothing
    hits = store.stats().hits
    assert shown(want, lambda: store.get("page", "a"))["text"] == "1"
    assert store.stats().hits == hits + 1


def test_a_read_that_began_before_is_not_joined(
    store: Store,
    cache: Deaf,
    write: Write,
    come: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("a", 1)
    cache.hears.clear()
    real, answered, go_on = store._running().reads.one, threading.Event(), threading.Event()

    def read(*args: Any, **options: Any) -> Any:
        answer = real(*args, **options)
        if not answered.is_set():
            answered.set()
            go_on.wait(10)
        return answer

    monkeypatch.setattr(store._running().reads, "one", read)
    other = threading.Thread(target=lambda: store.get("page", "a"))
    other.start()
    assert answered.wait(10)
    write("a", 2)
    come(2)
    try:
        assert shown(visits(2), lambda: store.get("page", "a"))["text"] == "2"
    finally:
        go_on.set()
        other.join(10)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"dirty": {"page": {"since": "0-1-2", "sequence": 2, "why": "a cascade", "keys": None}}},
        {"stopped": {"page": {"since": "0-1-2", "sequence": 2, "why": "a type", "do": "load"}}},
        {"follows": ["other"]},
        {"problem": "the log is another one"},
    ],
    ids=["behind", "dirty", "stopped", "not followed", "another log"],
)
@pytest.mark.parametrize("read", READS)
def test_what_is_not_there_yet_is_legacys(
    store: Store, write: Write, come: Callable[..., None], read: str, state: dict[str, Any]
) -> None:
    write("a", 2)
    come(2 if state else 1, **state)
    want = visits(2)
    with pytest.raises(UseLegacy, match="freshness"):
        shown(want, lambda: READS[read](store))
    assert want.refused


def test_what_was_dirty_or_stopped_once_is_had_again(
    store: Store, write: Write, come: Callable[..., None]
) -> None:
    write("a", 2)
    come(2, dirty={}, stopped={"page": None}, problem="")
    assert shown(visits(2), lambda: store.get("page", "a"))["text"] == "2"


def test_what_the_gate_has_seen_is_not_looked_at_again(store: Store, write: Write) -> None:
    write("a", 2)
    want = visits(2)
    want.note_end(["page"], "waited", time.monotonic())
    assert shown(want, lambda: store.get("page", "a"))["text"] == "2"
    assert want.outcome == "waited"


def test_entities_that_are_not_the_logs_come_from_memory(store: Store, write: Write) -> None:
    write("u", 1, "user")
    old = store.get("user", "u")
    want = visits(99)
    assert shown(want, lambda: store.get("user", "u")) is old
    assert want.outcome is None


def test_whoever_writes_sees_it_while_others_read_and_write(
    store: Store, write: Write, come: Callable[..., None]
) -> None:
    """A hundred and fifty edits of a few pages, with readers who fill the memory all the time."""
    keys, over = "abc", threading.Event()

    def others() -> None:
        while not over.is_set():
            store.get("page", random.choice(keys))

    readers = [threading.Thread(target=others) for _ in range(2)]
    for reader in readers:
        reader.start()
    last = dict.fromkeys(keys, 0)
    try:
        for sequence in range(1, 151):
            key = random.choice(keys)
            write(key, sequence)
            come(sequence)
            last[key] = sequence
            want = visits(sequence)
            for one in random.sample(keys, 2):
                found = shown(want, lambda one=one: store.get("page", one))  # type: ignore[misc]
                assert (found["text"] if found else "0") == str(last[one])
    finally:
        over.set()
        for reader in readers:
            reader.join(10)
