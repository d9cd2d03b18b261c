"""Looking at a real MongoDB for what visitors wrote."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bridge.errors import ConfigError, ServerAway
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.freshness import Entry
from bridge.sync.gtid import Gtid
from bridge.sync.log.kept import Dirty, Halted, KeptLog
from bridge.sync.log.position import Position
from bridge.sync.models import File
from bridge.sync.probe import Probe, gate_of, gated_entities, kept_gate
from bridge.sync.reached import Applied
from bridge.sync.state import Owner
from stack.mongod import Mongod

SYNC = """\
version: 1
entities:
  project:
    collection: projects
    children:
      releases: {entity: release, key: version}
  release: {collection: releases}
  user: {collection: users}
"""


@pytest.fixture
def file(tmp_path: Path) -> File:
    path = tmp_path / "sync.yaml"
    path.write_text(SYNC, encoding="utf-8")
    return load(path)


@pytest.fixture
def probe(file: File, mongodb_url: str) -> Iterator[Probe]:
    found = Probe(mongodb_url, file, limit=5)
    yield found
    found.close()


@pytest.fixture
def write(file: File, clean_mongodb: Database[dict[str, Any]]) -> Callable[..., None]:
    """write(version, *releases): project vim in this version, or its deletion without any."""

    def _write(version: int, *releases: str) -> None:
        data = {"releases": [{"version": release} for release in releases]}
        event = Event("project", "changed", "vim", version, data)
        if not releases:
            event = Event("project", "deleted", "vim", version)
        assert apply(clean_mongodb, Mirror(file), [event]).applied == (event,)

    return _write


def vim(version: int) -> Entry:
    return Entry("project", "vim", version, 0)


def test_the_version_and_older_ones_are_there_and_newer_ones_are_not(
    probe: Probe, write: Callable[..., None]
) -> None:
    assert probe([vim(0)]) == set()
    write(7, "a")
    asked = [vim(6), vim(7), vim(8), Entry("user", "vim", 1, 0)]
    assert probe(asked) == {vim(6), vim(7)}


def test_a_deletion_is_a_version_too(probe: Probe, write: Callable[..., None]) -> None:
    write(7, "a")
    write(8)
    assert probe([vim(8), vim(9)]) == {vim(8)}


def test_what_has_no_version_counts_as_older_than_any(
    probe: Probe, clean_mongodb: Database[dict[str, Any]]
) -> None:
    clean_mongodb.projects.insert_one({"_id": "vim"})
    assert probe([vim(0)]) == set()


def test_children_have_no_events_so_nobody_waits_for_one(file: File) -> None:
    assert gated_entities(file) == {"project": {"release"}, "user": frozenset()}


def test_a_mongodb_that_hangs_is_given_up_in_time_and_used_again_later(
    file: File, tmp_path: Path, wait_for: Callable[..., Any]
) -> None:
    with Mongod(tmp_path / "mongodb") as server:
        probe = Probe(server.url, file, limit=0.3)
        wait_for(lambda: answers(probe))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: not answers(probe))  # all of its threads have stopped
            with pytest.raises(ServerAway):
                probe([vim(0)])
        finally:
            os.kill(server.pid, signal.SIGCONT)
        wait_for(lambda: answers(probe))
        probe.close()


def answers(probe: Probe) -> bool:
    try:
        return probe([vim(0)]) == set()
    except ServerAway:
        return False


@pytest.mark.parametrize("url", ["mongodb://127.0.0.1:1/x", "mongodb://127.0.0.1:1", "nonsense"])
def test_a_mongodb_that_cannot_be_used_is_one_that_is_away(url: str, file: File) -> None:
    with pytest.raises(ServerAway), closing(Probe(url, file, limit=0.05)) as probe:
        probe([vim(0)])


def test_a_broken_sync_yaml_is_told_before_the_first_visitor(tmp_path: Path) -> None:
    path = tmp_path / "sync.yaml"
    path.write_text("version: 1\nentities: {project: {}}\n", encoding="utf-8")
    keys = (("a1", "0123456789abcdef"),)
    settings = Settings(tmp_path, "", "", tmp_path, sync=path, freshness_keys=keys)
    with pytest.raises(ConfigError):
        gate_of(settings)


# How far the mirror is with the log

LOGGED = """\
version: 1
entities:
  page: {collection: pages, source: {table: pages, key: id, log: true}}
  user: {collection: users, source: {table: users, key: id, version: ver, log: compare}}
"""


@pytest.fixture
def logged(tmp_path: Path, mongodb_url: str) -> Iterator[Probe]:
    path = tmp_path / "logged.yaml"
    path.write_text(LOGGED, encoding="utf-8")
    found = Probe(mongodb_url, load(path), limit=5)
    yield found
    found.close()


PAGE = frozenset({"page"})


def test_a_mirror_that_follows_no_log_has_reached_nothing(logged: Probe, probe: Probe) -> None:
    assert logged.applied() == Applied(stopped=PAGE)
    assert probe.applied() == Applied()
    assert (logged.of_log, probe.of_log) == (PAGE, frozenset())


def test_position_and_what_lacks_are_read_as_they_are_kept(
    logged: Probe, clean_mongodb: Database[dict[str, Any]]
) -> None:
    kept, owner = KeptLog(clean_mongodb), Owner.me()
    gtid, later = Gtid("0", 1, 42), Gtid("0", 1, 43)
    assert kept.begin(Position(3, gtid), ["page", "user"])
    assert kept.take(owner, 9)
    assert logged.applied() == Applied(gtid, 3, stopped=PAGE)  # it is not loaded yet
    assert kept.loaded("page", 42)
    assert logged.applied() == Applied(gtid, 3)

    dirty = {"page": Dirty("0-1-43", 43, "a cascade"), "user": Dirty("0-1-43", 43, "a cascade")}
    stopped = {"page": Halted("0-1-43", 43, "a type", "bridgectl snapshot page")}
    assert kept.keep(owner, Position(3, later), dirty, stopped)
    assert logged.applied() == Applied(later, 3, PAGE, PAGE)

    kept.keep(owner, None, None, {"page": None})
    assert kept.healed("page", dirty["page"])
    assert logged.applied() == Applied(later, 3)

    kept.cannot(owner, "it is another log", "bridgectl snapshot")
    assert logged.applied() == Applied(None)


def test_the_position_says_nothing_of_an_entity_that_is_not_followed(
    logged: Probe, clean_mongodb: Database[dict[str, Any]]
) -> None:
    """sync.yaml names it already, and the process that reads the log has not begun anew."""
    kept, gtid = KeptLog(clean_mongodb), Gtid("0", 1, 42)
    assert kept.begin(Position(3, gtid), ["other"])
    assert kept.take(Owner.me(), 9)
    assert logged.applied() == Applied(gtid, 3, stopped=PAGE)


def test_the_position_says_nothing_while_nobody_reads_the_log(
    logged: Probe, clean_mongodb: Database[dict[str, Any]]
) -> None:
    """Nobody would notice that the log is another one, whose numbers begin again."""
    kept, owner, gtid = KeptLog(clean_mongodb), Owner.me(), Gtid("0", 1, 42)
    assert kept.begin(Position(3, gtid), ["page"])
    assert kept.loaded("page", 42)
    assert logged.applied().gtid is None  # nobody has ever read it
    assert kept.take(owner, 9)
    assert logged.applied().gtid == gtid

    an_hour = [{"$set": {"beat": {"$subtract": ["$$NOW", 3_600_000]}}}]
    clean_mongodb.bridge_state.update_one({"_id": "log"}, an_hour)
    assert logged.applied().gtid is None
    assert kept.keep(owner)
    assert logged.applied().gtid == gtid


def test_what_cannot_be_read_of_it_is_an_outage(
    logged: Probe, clean_mongodb: Database[dict[str, Any]]
) -> None:
    clean_mongodb.bridge_state.insert_one(
        {"_id": "log", "position": {"gtid": "0-1-4,1-1-2"}, "beat": datetime.now(UTC)}
    )
    with pytest.raises(ServerAway):
        logged.applied()


def test_what_is_kept_of_sync_yaml_says_what_comes_from_the_log(tmp_path: Path) -> None:
    path, kept = tmp_path / "sync.yaml", tmp_path / "kept.json"
    path.write_text(LOGGED, encoding="utf-8")
    keys = (("a1", "0123456789abcdef"),)
    settings = Settings(tmp_path, "", "", tmp_path, sync=path, freshness_keys=keys)
    assert gate_of(settings, kept).log == {"page"}
    again = kept_gate(settings, kept)
    assert again is not None
    assert again.log == {"page"}
    older = json.loads(kept.read_text())
    del older["log"]
    kept.write_text(json.dumps(older))
    again = kept_gate(settings, kept)
    assert again is not None
    assert again.log == frozenset()
