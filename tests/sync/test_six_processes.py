"""Six processes apply one history: shuffled, with repetitions, deletions and returns.

Whatever the order, the state of the highest version remains, and on the way nothing ever goes
back: MongoDB's change stream is watched.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.database import Database

from bridge.errors import ServerAway
from bridge.queue.events import Event
from bridge.sync import families, indexes
from bridge.sync.apply import apply, connect
from bridge.sync.documents import Mirror
from stack.mongod import Mongod
from stack.process import REPOSITORY
from tests.minimal_sync import mirror_of, write_sync

Db = Database[dict[str, Any]]

SHOP = """\
version: 1
entities:
  page: {collection: pages}
  project: {collection: projects, children: {releases: {entity: release, key: name}}}
  release: {collection: releases}
"""
PROCESSES = 6
numbers = itertools.count()


class Writer:
    """One process that applies what it is given."""

    def __init__(self, sync: Path, url: str) -> None:
        words = [sys.executable, "-m", "tests.sync.writing_process"]
        self._process = subprocess.Popen(
            [*words, str(sync), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def ready(self) -> None:
        assert self._answer() == "ready\n"

    def send(self, work: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()

    def give(self, database: str, *batches: list[Event]) -> None:
        """Have it apply these batches; `done` waits for them."""
        self.send([database, [[event.to_json() for event in batch] for batch in batches]])

    def done(self) -> None:
        assert self._answer() == "done\n"

    def killed(self) -> bool:
        """Whether it ended by SIGKILL before it was done."""
        return self._answer() == "" and self._process.wait(20) == -signal.SIGKILL

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    return mirror_of(tmp_path_factory.mktemp("shop"), SHOP)


@pytest.fixture(scope="module")
def six(mongodb: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Writer]]:
    """Six processes, ready to be given work."""
    sync = write_sync(tmp_path_factory.mktemp("six"), SHOP)
    writers = [Writer(sync, mongodb.url) for _ in range(PROCESSES)]
    try:
        for writer in writers:
            writer.ready()
        yield writers
    finally:
        for writer in writers:
            writer.end()


@dataclass(frozen=True)
class History:
    """states: (entity, key) to what it is at version 0, 1, …: None where it is deleted, else the
    names of its children. shares: what each process gets, in batches of (entity, key, version,
    whether it is a rewrite)."""

    states: Mapping[tuple[str, str], list[frozenset[str] | None]]
    shares: list[list[list[tuple[str, str, int, bool]]]]

    def event(self, entity: str, key: str, version: int, rewrite: bool) -> Event:
        state = self.states[entity, key][version]
        if state is None:
            event = Event(entity, "deleted", key, version)
        else:
            data: dict[str, Any] = {"n": version}
            if entity == "project":
                data["releases"] = [{"name": name, "n": version} for name in sorted(state)]
            event = Event(entity, "changed", key, version, data)
        return replace(event, rewrite=rewrite)


@st.composite
def histories(draw: st.DrawFn, most: int) -> History:
    """Of three entities, `most` versions each at most."""
    children = st.frozensets(st.sampled_from("xyz"))
    states = {
        identity: draw(st.lists(st.none() | children, min_size=1, max_size=most))
        for identity in [("page", "a"), ("project", "a"), ("project", "b")]
    }
    once = [(*identity, n) for identity, versions in states.items() for n in range(len(versions))]
    again = draw(st.lists(st.sampled_from(once), max_size=2 * len(once)))
    shuffled = draw(st.randoms(use_true_random=False))
    events = [(*event, shuffled.random() < 0.2) for event in once + again]
    shuffled.shuffle(events)
    shares: list[list[list[tuple[str, str, int, bool]]]] = [[] for _ in range(PROCESSES)]
    while events:
        size = shuffled.randint(1, 5)
        shuffled.choice(shares).append(events[:size])
        del events[:size]
    return History(states, shares)


def check(database: Db, history: History) -> None:
    """The state of the highest version of each is what is there, and nothing else is alive."""
    for (entity, key), states in history.states.items():
        version, state = len(states) - 1, states[-1]
        document = database[f"{entity}s"].find_one({"_id": key})
        assert document is not None
        assert document["_v"] == version
        assert document.get("_del", False) == (state is None)
        assert document.get("n") == (None if state is None else version)
        if entity == "project":
            alive = list(database.releases.find({"_parent": key, "_del": {"$ne": True}}))
            assert {child["name"] for child in alive} == (state or frozenset())
            assert {(child["_v"], child["n"]) for child in alive} <= {(version, version)}
            newest = database.releases.find_one({"_parent": key}, sort=[("_v", -1)])
            assert newest is None or newest["_v"] <= version


def watched(stream: Any, last: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All changes up to that of the document `last`."""
    changes = []
    while not changes or changes[-1]["documentKey"] != {"_id": last["_id"]}:
        change = stream.next()
        changes.append(change)
    return changes


def check_never_back(changes: list[dict[str, Any]]) -> None:
    """No version goes back, and no tombstone is raised by its own version."""
    held: dict[tuple[str, str], tuple[int, bool]] = {}
    for change in changes:
        identity = change["ns"]["coll"], change["documentKey"]["_id"]
        if change["operationType"] == "update":
            fields = change["updateDescription"]["updatedFields"]
            version, dead = held[identity]
            version = fields.get("_v", version)
            if "_del" in change["updateDescription"]["removedFields"]:
                dead = False
            dead = fields.get("_del", dead)
        else:
            document = change["fullDocument"]
            version, dead = document["_v"], document.get("_del", False)
        if identity in held:
            before, was_dead = held[identity]
            assert version > before or (version == before and not was_dead), (identity, change)
        held[identity] = version, dead


def prove(server: Mongod, shop: Mirror, writers: list[Writer], history: History) -> None:
    client: MongoClient[dict[str, Any]] = server.client()
    with client:
        database = client[f"six_{next(numbers)}"]
        indexes.ensure(database, shop)
        kinds = [{"$match": {"operationType": {"$in": ["insert", "update", "replace"]}}}]
        with database.watch(kinds) as stream:
            for writer, batches in zip(writers, history.shares, strict=True):
                events = [[history.event(*event) for event in batch] for batch in batches]
                writer.give(database.name, *events)
            for writer in writers:
                writer.done()
            end = {"_id": "the end", "_v": 0}
            database.pages.insert_one(end)
            changes = watched(stream, end)
        check(database, history)
        check_never_back(changes)
        client.drop_database(database)


six_processes = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@settings(six_processes, max_examples=8)
@given(history=histories(6))
def test_the_highest_version_remains_and_nothing_ever_goes_back(
    mongodb: Mongod, shop: Mirror, six: list[Writer], history: History
) -> None:
    prove(mongodb, shop, six, history)


@pytest.mark.long
@pytest.mark.timeout(900)
@settings(six_processes, max_examples=300)
@given(history=histories(40))
def test_it_does_so_for_many_long_histories(
    mongodb: Mongod, shop: Mirror, six: list[Writer], history: History
) -> None:
    prove(mongodb, shop, six, history)


def project(version: int, *names: str) -> Event:
    releases = [{"name": name, "n": version} for name in names]
    return Event("project", "changed", "a", version, {"n": version, "releases": releases})


def written(database: Db, mirror: Mirror, event: Event) -> bool:
    try:
        return apply(database, mirror, [event]).written == 1
    except ServerAway:
        return False


def test_a_version_whose_process_is_killed_is_there_as_a_whole_or_not_at_all(
    mongodb: Mongod,
    shop: Mirror,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: Callable[..., Any],
) -> None:
    """Nobody does it again, as when Redis is wiped at that moment; and whoever comes next does not
    wait for the dead."""
    monkeypatch.setattr(families, "ABANDONED", 0.1)
    monkeypatch.setattr(families, "TRIES_ALONE", 4)
    sync = write_sync(tmp_path, SHOP)
    deaths = 0
    with connect(mongodb.url) as client:
        for die_before in itertools.count(1):
            writer = Writer(sync, mongodb.url)
            try:
                writer.ready()
                database = client[f"six_{next(numbers)}"]
                apply(database, shop, [project(2, "x", "y")])
                writer.send({"die_before": die_before})
                writer.done()
                # What is late must leave nothing, and what is new must be whole.
                writer.give(database.name, [project(1, "x", "late")], [project(3, "z")])
                killed = writer.killed()
            finally:
                writer.end()
            found = database.projects.find_one({"_id": "a"})
            assert found is not None
            version = found["_v"]
            alive = {
                child["name"]: child["_v"]
                for child in database.releases.find({"_del": {"$ne": True}})
            }
            assert alive == ({"x": 2, "y": 2} if version == 2 else {"z": 3})

            wait_for(lambda database=database: written(database, shop, project(4, "w")), 20)
            found = database.releases.distinct("name", {"_del": {"$ne": True}})
            assert found == ["w"]
            if not killed:
                break
            deaths += 1
    assert deaths >= 5
