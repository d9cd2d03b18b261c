"""Loading MongoDB from the site's database while both are live."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from click.testing import CliRunner
from pymongo.database import Database

from bridge.cli.snapshot import snapshot as verb
from bridge.errors import BridgeError, ServerAway, ServerMissing, Stopped
from bridge.queue import waiting
from bridge.queue.broker import connection as broker
from bridge.queue.consumer.dead_letters import DeadLetters
from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox, now_ms
from bridge.queue.status import QueueStatus
from bridge.queue.vitals import ProcessStatus
from bridge.settings import Settings
from bridge.sync import apply as mongodb
from bridge.sync.documents import Mirror
from bridge.sync.snapshot import choice, reader, throttle
from bridge.sync.snapshot import load as snapshot
from bridge.sync.snapshot.checkpoint import Checkpoint, forget_reason, state_id
from bridge.sync.snapshot.load import Progress, SnapshotOptions, SnapshotResult
from bridge.sync.snapshot.throttle import why
from bridge.sync.sql.source import Chunk
from bridge.sync.state import Owner, State
from stack.mariadb import MariaDB
from stack.mongod import Mongod

NO_BROKER = "redis+streams://127.0.0.1:1/0"
SYNC = """
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name, version: ver, deleted: gone}
    schema: {type: object, properties: {title: {maxLength: 20}}}
"""
FAMILY = """
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name, version: ver, deleted: gone}
    children: {releases: {entity: release, key: n}}
  release:
    collection: releases
    source: {table: releases, key: [project, n], version: ver}
"""
Documents = Database[dict[str, Any]]


class Site:
    """A site with a table of projects, and its mirror."""

    def __init__(self, directory: Path, url: str, mongodb_url: str, database: Documents) -> None:
        self.database = database
        self.engine = connect(url)
        (directory / "sync.yaml").write_text(SYNC)
        self.settings = Settings(
            directory / "routes.yaml",
            NO_BROKER,
            mongodb_url,
            directory,
            sync=directory / "sync.yaml",
            sql_url=url,
        )
        self.said: list[str] = []
        self.run_sql(
            "CREATE TABLE projects (name VARCHAR(64) NOT NULL PRIMARY KEY, ver BIGINT NOT NULL, "
            "title VARCHAR(64), gone INT NOT NULL DEFAULT 0)"
        )

    def run_sql(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def add(self, *names: str, version: int = 1, title: str = "a") -> None:
        with self.engine.begin() as connection:
            words = sql.text("INSERT INTO projects VALUES (:name, :ver, :title, 0)")
            connection.execute(
                words, [{"name": name, "ver": version, "title": title} for name in names]
            )

    def write_sync(self, text: str) -> None:
        self.settings.sync.write_text(text)

    def load(
        self,
        *names: str,
        stop: threading.Event | None = None,
        show: Callable[[Progress], None] = lambda progress: None,
        **options: Any,
    ) -> SnapshotResult:
        """The result of the first entity."""
        options = {"chunk": 3, "max_lag": 0, "max_waiting": 0} | options
        stop = stop or threading.Event()
        made = SnapshotOptions(**options)
        return snapshot.run(self.settings, names, made, stop=stop, say=self.said.append, show=show)[
            0
        ]

    def apply(self, *events: Event) -> None:
        mirror = Mirror.of(self.settings)
        assert not mongodb.apply(self.database, mirror, events).failed

    def event(self, key: str, version: int, title: str | None = "event") -> Event:
        data = None if title is None else {"name": key, "title": title}
        return Event("project", "deleted" if data is None else "changed", key, version, data)

    def documents(self, collection: str = "projects") -> dict[str, Any]:
        """Key to version and title; to a version alone for a tombstone."""
        return {
            one["_id"]: one["_v"] if one.get("_del") else (one["_v"], one.get("title"))
            for one in self.database[collection].find()
        }

    def checkpoint(self) -> dict[str, Any]:
        return State(self.database).get(state_id("project")) or {}

    def is_equal(self) -> bool:
        """Whether MongoDB says what SQL says, and nothing more."""
        with self.engine.connect() as connection:
            rows = connection.exec_driver_sql("SELECT name, ver, title, gone FROM projects").all()
        alive = {key: found for key, found in self.documents().items() if isinstance(found, tuple)}
        return alive == {name: (ver, title) for name, ver, title, gone in rows if not gone}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a test."""
    monkeypatch.setattr(snapshot, "SETTLE", 0.02)
    monkeypatch.setattr(snapshot, "POLL", 0.02)
    monkeypatch.setattr(throttle, "EVERY", 0.02)


@pytest.fixture
def site(tmp_path: Path, mongodb_url: str, clean_mongodb: Documents) -> Iterator[Site]:
    """A site on SQLite, for what is the same on all."""
    made = Site(tmp_path, f"sqlite:///{tmp_path / 'site.sqlite'}", mongodb_url, clean_mongodb)
    yield made
    made.engine.dispose()


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def any_site(
    request: pytest.FixtureRequest, tmp_path: Path, mongodb_url: str, clean_mongodb: Documents
) -> Iterator[Site]:
    """A site on each kind of database."""
    url = f"sqlite:///{tmp_path / 'site.sqlite'}"
    if request.param != "sqlite":
        names = {"mariadb": "mariadb_url", "postgresql": "postgres_url"}
        url = request.getfixturevalue(names[request.param])
    made = Site(tmp_path, url, mongodb_url, clean_mongodb)
    yield made
    made.engine.dispose()


def some(count: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}{n:03}" for n in range(count)]


def test_a_first_load_makes_both_sides_equal(any_site: Site) -> None:
    """A row that is marked as deleted is a tombstone."""
    any_site.add(*some(10), version=7)
    any_site.run_sql("UPDATE projects SET gone = 1, ver = 9 WHERE name = 'p003'")
    result = any_site.load()
    assert (result.rows, result.written, result.stale, result.dead) == (10, 10, 0, 0)
    assert any_site.is_equal()
    assert any_site.documents()["p003"] == 9


def test_a_row_becomes_the_document_of_its_event(any_site: Site) -> None:
    """The same content as by the way of PHP and the queue, whichever is first."""
    any_site.add("vim", version=2, title="é")
    any_site.load()
    by_load = any_site.database.projects.find_one({"_id": "vim"}, {"_at": 0})
    any_site.database.projects.drop()
    any_site.apply(any_site.event("vim", 2, "é"))
    assert any_site.database.projects.find_one({"_id": "vim"}, {"_at": 0}) == by_load


def test_loading_again_changes_nothing(site: Site) -> None:
    site.add(*some(10))
    site.load()
    result = site.load()
    assert (result.rows, result.written, result.stale, result.resumed) == (10, 0, 10, False)


def test_what_is_newer_in_mongodb_stays(site: Site) -> None:
    """A visitor's edit that came by the queue meanwhile, or a deletion; what is older goes."""
    site.add("a", "b", "c", version=5)
    site.apply(site.event("a", 6), site.event("b", 6, None), site.event("c", 4))
    site.load()
    assert site.documents() == {"a": (6, "event"), "b": 6, "c": (5, "a")}


def test_the_same_version_is_written_only_when_asked_for(site: Site) -> None:
    """After a change of sync.yaml; but no tombstone comes back to life."""
    site.add("a", "b", version=5)
    site.apply(site.event("a", 5), site.event("b", 5, None))
    site.load()
    assert site.documents() == {"a": (5, "event"), "b": 5}
    result = site.load(rewrite=True)
    assert site.documents() == {"a": (5, "a"), "b": 5}
    assert (result.written, result.stale) == (1, 1)


def test_edits_during_the_load_are_not_lost(site: Site) -> None:
    """Rows are edited and deleted behind, at and ahead of the place where it reads."""
    site.add(*some(30))

    def edit(progress: Progress) -> None:
        for name in ("p001", "p015", "p029"):
            site.run_sql(f"UPDATE projects SET ver = ver + 1, title = 'b' WHERE name = '{name}'")
            with site.engine.connect() as connection:
                words = f"SELECT ver FROM projects WHERE name = '{name}'"
                version = connection.exec_driver_sql(words).scalar_one()
            site.apply(site.event(name, version, "b"))

    site.load(show=edit)
    assert site.is_equal()


def stopped_at(site: Site, rows: int) -> dict[str, Any]:
    """The checkpoint of a load that was stopped once it had read so many rows."""
    stop = threading.Event()

    def show(progress: Progress) -> None:
        if progress.rows == rows:
            stop.set()

    with pytest.raises(Stopped):
        site.load(stop=stop, show=show)
    return site.checkpoint()


KILLED = """
import os, signal, sys, threading
from bridge.settings import Settings
from bridge.sync import apply
from bridge.sync.snapshot import choice
from bridge.sync.snapshot import load as snapshot
from bridge.sync.snapshot.checkpoint import Leases
step, count = sys.argv[1], int(sys.argv[2])
calls = 0

def dying(function, before):
    def call(*arguments):
        global calls
        calls += 1
        if calls == count and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments)
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

snapshot.SETTLE, snapshot.WALK = 0.0, 2
if step == "write":
    apply.load = dying(apply.load, True)
elif step == "written":
    apply.load = dying(apply.load, False)
elif step == "kept":
    Leases.keep = dying(Leases.keep, False)
elif step == "burial":
    apply.apply = dying(apply.apply, True)
elif step == "buried":
    apply.apply = dying(apply.apply, False)
options = snapshot.SnapshotOptions(chunk=3, max_lag=0, max_waiting=0)
snapshot.run(Settings.from_environ(), [], options, stop=threading.Event())
"""


def kill_at(site: Site, step: str, count: int) -> None:
    words = [sys.executable, "-c", KILLED, step, str(count)]
    done = subprocess.run(words, env=environ_of(site), capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]


STEPS = [
    ("written", 3),
    ("buried", 2),
    *(
        pytest.param(step, count, marks=pytest.mark.long)
        for step in ("write", "written", "kept", "burial", "buried")
        for count in (1, 2, 4)
    ),
]


@pytest.mark.parametrize(("step", "count"), STEPS)
def test_killed_at_any_step_it_goes_on_and_ends_equal(site: Site, step: str, count: int) -> None:
    """Not even the lease of the killed one is waited for: its process is seen to be gone."""
    site.apply(*(site.event(name, 3) for name in some(9, "gone")))
    site.add(*some(20))
    kill_at(site, step, count)
    assert not site.is_equal()
    result = site.load()
    assert result.resumed
    assert result.rows == 20
    assert site.is_equal()
    assert site.documents()["gone000"] == 3


def test_it_goes_on_after_the_last_checkpoint(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before is not read again."""
    site.add(*some(20))
    position = stopped_at(site, 9)["position"]
    met: list[str] = []
    load = mongodb.load

    def note(database: Any, mirror: Any, events: Any) -> Any:
        met.extend(event.key for event in events)
        return load(database, mirror, events)

    monkeypatch.setattr(mongodb, "load", note)
    site.load()
    assert position == ["p008"]
    assert met == some(20)[9:]
    assert "project: going on after 9 rows" in site.said[0]


def test_it_goes_on_after_a_number_of_more_than_32_bits(any_site: Site) -> None:
    """MongoDB gives such numbers back as a type that drivers do not know."""
    any_site.run_sql(
        "DROP TABLE projects",
        "CREATE TABLE projects (name BIGINT PRIMARY KEY, ver BIGINT NOT NULL, title VARCHAR(64), "
        "gone INT NOT NULL)",
    )
    first = 2**60
    any_site.run_sql(*(f"INSERT INTO projects VALUES ({first + n}, 1, 'a', 0)" for n in range(9)))
    assert stopped_at(any_site, 3)["position"] in ([first + 2], [str(first + 2)])
    assert any_site.load().rows == 9
    assert sorted(any_site.documents()) == [str(first + n) for n in range(9)]


def test_a_changed_source_begins_anew_and_says_so(site: Site) -> None:
    site.add(*some(20))
    stopped_at(site, 9)
    site.write_sync(SYNC.replace("deleted: gone", "deleted: gone, columns: {title: title}"))
    result = site.load()
    assert not result.resumed
    assert result.rows == 20
    assert site.said == ["project: begins anew: its source in sync.yaml has changed since"]


@pytest.mark.parametrize(
    ("restart", "rewrite", "source", "expected"),
    [
        (False, False, "x", ""),
        (True, False, "x", "--restart"),
        (False, True, "x", "it was begun without --rewrite"),
        (False, False, "y", "its source in sync.yaml has changed since"),
    ],
)
def test_what_makes_it_begin_anew(restart: bool, rewrite: bool, source: str, expected: str) -> None:
    held = Checkpoint("x", rows=5)
    assert forget_reason(held, source, restart=restart, rewrite=rewrite) == expected


def test_told_to_stop_it_ends_after_the_chunk_and_goes_on_later(site: Site) -> None:
    """Nobody has to wait for its lease."""
    site.add(*some(20))
    held = stopped_at(site, 6)
    assert held["owner"] is None
    assert held["rows"] == 6
    assert site.load().rows == 20
    assert site.is_equal()


def test_paused_it_waits_until_it_is_told_to_go_on(site: Site) -> None:
    """From any machine; what was read ahead is read again."""
    site.add(*some(20))
    rows_when_waiting = []

    def show(progress: Progress) -> None:
        if progress.rows == 6 and not progress.waiting and not rows_when_waiting:
            assert choice.pause(site.settings, [], paused=True) == {"project": True}
        if progress.waiting and not rows_when_waiting:
            rows_when_waiting.append(progress.rows)
            site.run_sql("UPDATE projects SET ver = 2 WHERE name = 'p010'")
            choice.pause(site.settings, ["project"], paused=False)

    site.load(show=show)
    assert 6 <= rows_when_waiting[0] <= 9
    assert site.is_equal()
    assert [line.partition(";")[0] for line in site.said] == [
        "project: waiting: it is paused",
        "project: going on",
    ]


def test_there_is_nothing_to_pause_when_all_is_done(site: Site) -> None:
    site.load()
    assert choice.pause(site.settings, [], paused=True) == {"project": False}
    assert "paused" not in site.checkpoint()


def test_two_snapshots_of_one_entity_are_refused(site: Site) -> None:
    """The second one says who does it already, and the first one is not disturbed."""
    site.add(*some(20))
    refused: list[str] = []

    def show(progress: Progress) -> None:
        if not refused:
            with pytest.raises(BridgeError, match="a snapshot of project is under way") as caught:
                site.load()
            refused.append(str(caught.value))

    assert site.load(show=show).rows == 20
    assert f"process {os.getpid()} on " in refused[0]
    assert site.is_equal()


def test_whoever_lost_its_lease_does_not_go_on(site: Site) -> None:
    """It was silent for too long, and another one has taken over."""
    site.add(*some(20))
    state = State(site.database)

    def steal(progress: Progress) -> None:
        state.update(state_id("project"), {"owner": {"id": "x", "host": "elsewhere", "pid": 1}})

    with pytest.raises(BridgeError, match="another process has gone on with the snapshot"):
        site.load(show=steal)
    assert site.checkpoint()["owner"]["id"] == "x"


def test_a_lease_is_free_once_its_owner_is_silent(clean_mongodb: Documents) -> None:
    """By MongoDB's clock; and at once when it is seen to be dead."""
    state = State(clean_mongodb)
    mine, theirs = Owner.me(), Owner("other", "elsewhere", 1)
    assert state.take("x", theirs, 30.0) is not None
    assert state.take("x", mine, 30.0) is None
    assert state.keep("x", mine, {"a": 1}) is None
    assert state.take("x", mine, -1.0) is not None
    assert state.keep("x", theirs, {}) is None
    assert (state.keep("x", mine, {"a": "$b"}) or {})["a"] == "$b"
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    state.put("x", {"owner": {"id": "z", "host": mine.host, "pid": ended.pid}})
    assert state.take("x", mine, 30.0) is not None
    state.release("x", mine, {})
    assert (state.get("x") or {})["owner"] is None
    state.delete("x")
    assert state.get("x") is None


def test_it_waits_while_the_outbox_is_behind(site: Site) -> None:
    """And says what for, once."""
    site.add(*some(20))
    outbox = Outbox(site.engine)
    outbox.create()
    old = outbox.table.insert().values(
        aggregatetype="project", aggregateid="x", type="project.changed", payload="{}", ver=1,
        created_at=1_700_000_000_000,
    )  # fmt: skip
    with site.engine.begin() as connection:
        connection.execute(old)
    waited: list[str] = []

    def show(progress: Progress) -> None:
        if progress.waiting and not waited:
            waited.append(progress.waiting)
            site.run_sql("DELETE FROM bridge_outbox")

    # So slow that the first look at the outbox is in time.
    site.load(show=show, max_lag=5.0, rate=100)
    assert "the outbox is" in waited[0]
    assert "more than --max-lag 5s" in waited[0]
    assert site.said[-1] == "project: going on"
    assert site.is_equal()


def test_it_does_not_wait_for_what_is_a_dead_letter(site: Site) -> None:
    site.add(*some(20))
    outbox = Outbox(site.engine)
    outbox.create()
    old = outbox.table.insert().values(
        aggregatetype="project", aggregateid="x", type="project.changed", payload="{}", ver=1,
        created_at=1_700_000_000_000,
    )  # fmt: skip
    with site.engine.begin() as connection:
        connection.execute(old)
    outbox.bury(outbox.claim(1, 30), now_ms() + 600_000)
    waited: list[str] = []

    site.load(show=lambda progress: waited.append(progress.waiting), max_lag=5.0, rate=20)
    assert set(waited) == {""}
    assert site.is_equal()


def test_what_a_load_waits_for() -> None:
    """Limits of 0 are none, and neither is what does not answer."""
    busy = QueueStatus(ready=500, lag=9.5)
    assert why(busy, 10.0, 500) == ""
    assert "9 s behind" in why(QueueStatus(lag=9.4), 5.0, 0)
    assert "500 messages wait" in why(busy, 0.0, 499)
    assert why(busy, 0.0, 0) == ""
    assert why(QueueStatus(), 1.0, 1) == ""


def test_and_says_what_is_really_waited_for() -> None:
    at_work = [ProcessStatus(kind, 1, 0.0, 0.0, {}, {}) for kind in ("relay", "worker")]
    status = QueueStatus(lag=9.4, oldest="project 'x' version 7, published 3 times")
    for found, said in [
        (status, ["project 'x' version 7, published 3 times", "no `bridgectl relay` runs"]),
        (replace(status, processes=at_work[:1]), ["no `bridgectl worker` runs on this machine"]),
        (replace(status, errors={"broker": "refused"}), ["the broker does not answer (refused)"]),
    ]:
        told = why(found, 5.0, 0)
        assert all(words in told for words in (*said, "`bridgectl status` shows what waits")), told
    assert "no `bridge" not in why(replace(status, processes=at_work), 5.0, 0)
    assert "no `bridgectl worker` runs" in why(QueueStatus(ready=9), 0.0, 5)


def test_it_is_no_faster_than_asked_for(site: Site) -> None:
    """200 rows a second: 40 rows take at least the time of the rows before the last chunk."""
    site.add(*some(40))
    assert site.load(rate=200).seconds >= 0.18


def test_bad_rows_and_rejected_ones_become_dead_letters(site: Site, redis_url: str) -> None:
    """They are counted, and harm no other."""
    object.__setattr__(site.settings, "broker_url", redis_url)
    site.add("a", "c", "z")
    site.add("long", title="x" * 21)
    site.run_sql("INSERT INTO projects VALUES ('b', -1, 'no version', 0)")
    result = site.load()
    assert (result.rows, result.written, result.dead) == (5, 3, 2)
    assert sorted(site.documents()) == ["a", "c", "z"]
    with broker.connect(redis_url) as connection:
        b, long = sorted(DeadLetters(connection).letters(), key=lambda letter: letter.key)
    assert (b.part, b.entity, b.key) == ("row", "project", "b")
    assert "projects: sequence: the version must be an integer" in b.error
    assert b"no version" in b.raw
    assert (long.part, long.entity, long.key, long.version) == ("body", "project", "long", "1")
    assert "schema" in long.error


def test_too_many_dead_letters_stop_it(site: Site, redis_url: str) -> None:
    """A wrong schema must not fill the broker, which the site's events need."""
    object.__setattr__(site.settings, "broker_url", redis_url)
    site.add(*some(20), title="x" * 21)
    with pytest.raises(BridgeError, match=r"6 rows of project became dead letters: .*--restart"):
        site.load(max_dead=5)
    assert site.load(max_dead=0).dead == 20


def test_without_a_broker_a_dead_letter_is_waited_for(site: Site) -> None:
    """A row of no use must not be passed over in silence."""
    site.add("long", title="x" * 21)
    stop = threading.Event()

    def say(line: str) -> None:
        site.said.append(line)
        stop.set()

    with pytest.raises(Stopped):
        snapshot.run(
            site.settings, [], SnapshotOptions(max_lag=0, max_waiting=0), stop=stop, say=say
        )
    assert "project: waiting for the broker" in site.said[0]
    assert site.checkpoint()["rows"] == 0


def test_what_has_no_row_any_more_is_buried(any_site: Site) -> None:
    """At the version that MongoDB holds, so that whatever is newer wins."""
    any_site.add(*some(10))
    any_site.apply(any_site.event("gone", 4))
    result = any_site.load()
    assert result.buried == 1
    assert any_site.documents()["gone"] == 4
    assert any_site.is_equal()
    any_site.apply(any_site.event("gone", 5))
    assert any_site.documents()["gone"] == (5, "event")


@pytest.mark.parametrize("any_site", ["mariadb", "postgresql"], indirect=True)
def test_documents_under_keys_of_an_earlier_version_are_buried(any_site: Site) -> None:
    """Where their row has its document under the key that it has now; others stay."""
    any_site.run_sql(
        "DROP TABLE projects",
        "CREATE TABLE projects (name DECIMAL(9,2) PRIMARY KEY, ver BIGINT NOT NULL, "
        "title VARCHAR(64), gone INT NOT NULL)",
        "INSERT INTO projects VALUES (1.5, 3, 'a', 0)",
    )
    any_site.database.projects.insert_many(
        {"_id": key, "_v": 3} for key in ("1.500", "2.500", "strange")
    )
    result = any_site.load()
    left = {one["_id"] for one in any_site.database.projects.find({"_del": {"$ne": True}})}
    assert left == {"1.50", "2.500", "strange"}
    assert result.buried == 1


def test_a_row_that_comes_before_the_burial_is_not_buried(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQL is asked once more for each."""
    site.apply(site.event("new", 1, "a"))
    check = snapshot.gone.check_amount

    def appear(*arguments: Any) -> None:
        site.add("new")
        check(*arguments)

    monkeypatch.setattr(snapshot.gone, "check_amount", appear)
    assert site.load().buried == 0
    assert site.is_equal()


def test_what_changes_before_the_burial_is_not_buried(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB holds a newer version then."""
    site.apply(site.event("new", 1))
    monkeypatch.setattr(
        snapshot.gone, "check_amount", lambda *arguments: site.apply(site.event("new", 2))
    )
    assert site.load().buried == 0
    assert site.documents() == {"new": (2, "event")}


def test_the_wrong_database_buries_nothing(site: Site) -> None:
    """More than half without a row is hardly meant; it must be said."""
    site.apply(*(site.event(name, 1, "a") for name in some(150)))
    site.add("p000")
    with pytest.raises(BridgeError, match=r"149 of the 150 documents of project have no row .*Is"):
        site.load()
    assert len([one for one in site.documents().values() if isinstance(one, tuple)]) == 150
    assert site.load(bury_all=True).buried == 149
    assert site.is_equal()


def test_documents_of_somebody_else_are_left_alone(site: Site) -> None:
    """Without a text as `_id`, or without a version."""
    site.database.projects.insert_many([{"_id": 5, "_v": 1}, {"_id": "theirs"}])
    assert site.load().buried == 0
    assert site.database.projects.count_documents({}) == 2


@pytest.fixture
def family(any_site: Site) -> Site:
    """Projects with releases: `any_site` with a table more."""
    any_site.write_sync(FAMILY)
    any_site.run_sql(
        "CREATE TABLE releases (project VARCHAR(64) NOT NULL, n INT NOT NULL, ver BIGINT NOT NULL, "
        "title VARCHAR(64), PRIMARY KEY (project, n))"
    )
    return any_site


def test_children_are_loaded_with_their_parent(family: Site) -> None:
    """With its version; those that have vanished, or whose parent has, go."""
    family.add("a", "b", version=5)
    family.run_sql(
        "INSERT INTO releases VALUES ('a', 1, 99, 'x'), ('a', 2, 99, 'y'), ('b', 1, 99, 'z')"
    )
    for key in ("a", "gone"):
        data = {"name": key, "releases": [{"n": 7, "title": "old"}]}
        family.apply(Event("project", "changed", key, 4, data))
    result = family.load()
    assert (result.rows, result.written, result.buried) == (2, 2, 1)
    assert family.documents("releases") == {
        "a/1": (5, "x"),
        "a/2": (5, "y"),
        "a/7": 5,
        "b/1": (5, "z"),
        "gone/7": 4,
    }


def test_naming_a_child_says_where_it_comes_from(family: Site) -> None:
    with pytest.raises(
        BridgeError, match="release comes with its project: bridgectl snapshot proj"
    ):
        family.load("release")


def test_an_unknown_entity_is_named(site: Site) -> None:
    with pytest.raises(BridgeError, match=r"no entity projekt; did you mean `project`\?"):
        site.load("projekt")


def test_servers_that_are_not_there_at_the_start_are_named(site: Site) -> None:
    """Later they would be waited for."""
    object.__setattr__(site.settings, "sql_url", "mysql://root@127.0.0.1:1/x")
    with pytest.raises(ServerMissing, match="the SQL database does not answer"):
        site.load()
    object.__setattr__(site.settings, "sql_url", "")
    with pytest.raises(BridgeError, match="set BRIDGE_SQL_URL"):
        site.load()


def test_a_database_that_goes_away_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one line said; nothing is lost and nothing is blamed."""
    site.add(*some(10))
    load, failures = mongodb.load, [ServerAway("it is away")] * 2

    def away_at_first(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return load(*arguments)

    monkeypatch.setattr(mongodb, "load", away_at_first)
    monkeypatch.setattr(waiting, "backoff", lambda attempt: 0.01)
    assert site.load().rows == 10
    assert site.said == ["project: waiting for MongoDB: it is away", "project: MongoDB is back"]
    assert site.is_equal()


@pytest.mark.long
def test_both_servers_are_killed_and_come_back(tmp_path: Path) -> None:
    """In the middle of the rows, one after the other."""
    with (
        Mongod(tmp_path / "mongodb") as mongod,
        MariaDB(tmp_path / "mariadb") as mariadb,
        mongod.client() as client,
    ):
        site = Site(tmp_path, mariadb.url, mongod.url, client["bridge"])
        site.add(*some(400))
        due: list[tuple[int, Any]] = [(60, mongod), (150, mariadb), (270, mongod)]
        dead: list[Any] = []
        # The reader's thread may see it before the kill is over.
        killing = threading.Lock()

        def show(progress: Progress) -> None:
            if due and progress.rows >= due[0][0]:
                with killing:
                    dead.append(due.pop(0)[1])
                    dead[0].kill()

        def say(line: str) -> None:
            site.said.append(line)
            if "waiting for" in line:
                with killing:
                    dead.pop().start()

        options = SnapshotOptions(chunk=3, max_lag=0, max_waiting=0)
        stop = threading.Event()
        [result] = snapshot.run(site.settings, [], options, stop=stop, say=say, show=show)
        site.engine.dispose()
        assert result.rows == 400
        assert site.is_equal()
        assert [line for line in site.said if "back" in line] == [
            "project: MongoDB is back",
            "project: SQL is back",
            "project: MongoDB is back",
        ]


def environ_of(site: Site) -> dict[str, str]:
    settings = site.settings
    return {
        **os.environ,
        "BRIDGE_SYNC": str(settings.sync),
        "BRIDGE_SQL_URL": settings.sql_url,
        "BRIDGE_MONGODB_URL": settings.mongodb_url,
        "BRIDGE_BROKER_URL": settings.broker_url,
        "BRIDGE_STATE_DIR": str(settings.state_dir),
    }


def bridge(site: Site, *words: str) -> Any:
    """The verb, in this process."""
    return CliRunner().invoke(verb, words, env=environ_of(site))


def test_the_verb_tells_what_it_did(site: Site) -> None:
    site.add(*some(10))
    done = bridge(site, "-o", "json")
    assert done.exit_code == 0, done.output
    [result] = json.loads(done.stdout)
    assert (result["entity"], result["rows"], result["written"]) == ("project", 10, 10)
    assert "As new already" in bridge(site, "project").stdout


def test_the_verb_pauses_and_says_when_there_is_nothing_to_pause(site: Site) -> None:
    site.add(*some(10))
    stopped_at(site, 3)
    assert bridge(site, "--pause").exit_code == 0
    assert site.checkpoint()["paused"] is True
    assert "goes on" in bridge(site, "project", "--continue").stdout
    assert site.checkpoint()["paused"] is False
    assert bridge(site, "--pause", "--continue").exit_code == 2
    assert bridge(site, "--max-lag", "5").exit_code == 2
    site.load()
    nothing = bridge(site, "--pause")
    assert nothing.exit_code == 1
    assert "none unfinished" in nothing.stdout


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(
    site: Site, wait_for: Callable[..., Any]
) -> None:
    """The chunk in hand is written and kept."""
    site.add(*some(20))
    words = [sys.executable, "-m", "bridge", "snapshot", "--chunk", "1", "--rate", "2"]
    with subprocess.Popen(words, env=environ_of(site), stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: site.checkpoint().get("rows", 0) > 0, bound=20)
        run.send_signal(signal.SIGINT)
        _, told = run.communicate(timeout=20)
    assert run.returncode == 1
    assert told == "bridge: stopped; the same command goes on from here\n"
    assert site.load().rows == 20


def test_chunks_are_smaller_where_rows_are_large() -> None:
    """Memory is for the site."""
    large = Event("project", "changed", "a", 1, {"text": "x" * 1024 * 1024})
    small = Event("project", "changed", "a", 1, {"text": "x"})
    assert reader.next_size(Chunk([large] * 50, [], ["a"], 50), 1000) == 15
    assert reader.next_size(Chunk([small] * 50, [], ["a"], 50), 1000) == 1000
    assert reader.next_size(Chunk([], [], ["a"], 50), 1000) == 100
