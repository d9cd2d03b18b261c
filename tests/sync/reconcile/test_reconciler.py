"""Both sides are proved equal, or what differs is listed: all of it, and nothing else."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from bridge.errors import BridgeError, ServerAway, Stopped
from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.sync import mongodb
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.sql.source import SqlSource
from stack.ports import free_port
from tests.sync.reconcile.site import Site, in_background

Db = Database[dict[str, Any]]


EVERYWHERE = pytest.mark.parametrize("site", ["sqlite", "mariadb", "postgresql"], indirect=True)


@pytest.fixture(params=["sqlite", "mariadb"])
def site(request: pytest.FixtureRequest, clean_mongodb: Db, tmp_path: Path) -> Iterator[Site]:
    """Both sides with the same tables, empty."""
    fixture = {"mariadb": "mariadb_url", "postgresql": "postgres_url"}.get(request.param)
    url = request.getfixturevalue(fixture) if fixture else f"sqlite:///{tmp_path / 'site.sqlite'}"
    site = Site(url, clean_mongodb, tmp_path)
    yield site
    site.engine.dispose()


@pytest.fixture
def small_site(clean_mongodb: Db, tmp_path: Path) -> Iterator[Site]:
    """The same, with SQLite."""
    site = Site(f"sqlite:///{tmp_path / 'site.sqlite'}", clean_mongodb, tmp_path)
    yield site
    site.engine.dispose()


def fill(site: Site) -> None:
    site.projects("vim", "git", "été", "a/b", "日本")
    site.rows("projects", [{"name": "gone", "title": "", "size": 1, "ver": 3, "gone": 1}])
    site.rows("people", [{"id": n, "title": f"Person {n}", "ver": n} for n in range(20)])
    days = [{"day": n % 4, "path": f"/p/{n}", "hits": n, "ver": n} for n in range(20)]
    site.rows("visits", days)
    site.sql("UPDATE visits SET deleted_at = '2026-01-02 03:04:05' WHERE hits < 5")
    site.mirror_all()


ALL = ["project", "release", "person", "visit"]


def test_equal_sides_are_equal(site: Site) -> None:
    fill(site)

    for name in ALL:
        result = site.reconcile(name, deep=True)
        assert result.equal, result
        assert result.rows == result.documents == result.compared > 0


def test_empty_sides_are_equal(site: Site) -> None:
    for name in ALL:
        assert site.reconcile(name, deep=True).equal


@EVERYWHERE
def test_every_kind_of_difference_is_found(site: Site) -> None:
    fill(site)
    projects = site.database.projects
    projects.delete_one({"_id": "été"})
    projects.update_one({"_id": "git"}, {"$set": {"_v": 0}})
    projects.update_one({"_id": "a/b"}, {"$set": {"_v": 9}})
    projects.replace_one({"_id": "gone"}, {"_id": "gone", "_v": 2, "title": "alive"})
    projects.insert_one({"_id": "nobody", "_v": 4})
    projects.update_one({"_id": "vim"}, {"$set": {"title": "Emacs"}})

    assert site.differences(deep=True) == [
        ("missing", "été"),
        ("behind", "git"),
        ("different", "vim"),
        ("orphan", "gone"),
        ("orphan", "nobody"),
        ("ahead", "a/b"),
    ]
    assert ("different", "vim") not in site.differences()


def test_rows_that_no_document_can_be_made_of_are_found(site: Site) -> None:
    fill(site)
    site.projects("long")
    site.sql(f"UPDATE projects SET title = '{'x' * 61}' WHERE name = 'long'")
    site.rows("people", [{"id": 99, "title": "", "ver": None}])

    [long] = site.reconcile().differences
    [nobody] = site.reconcile("person").differences

    assert (long.kind, long.key, long.sql) == ("unusable", "long", 1)
    assert long.detail.startswith("schema: data.title")
    assert (nobody.kind, nobody.key, nobody.sql) == ("unusable", "99", None)
    assert {one[0] for one in site.differences("release")} == {"unusable"}


@EVERYWHERE
def test_children_are_compared_with_their_rows(site: Site) -> None:
    fill(site)
    releases = site.database.releases
    releases.delete_one({"_id": "vim/1.0/x86"})
    releases.update_one({"_id": "a%2Fb/1.0/x86"}, {"$set": {"_v": 0}})
    releases.insert_one({"_id": "vim/0.9/x86", "_v": 1, "_parent": "vim"})
    releases.insert_one({"_id": "gone/1/x86", "_v": 2, "_parent": "gone"})
    releases.insert_one({"_id": "never/1/x86", "_v": 2, "_parent": "never"})
    releases.insert_one({"_id": "git/5/x86", "_v": 2, "_parent": "git"})
    releases.update_one({"_id": "été/1.1/x86"}, {"$set": {"file": 1}})

    assert site.differences() == []
    assert site.differences("release", deep=True) == [
        ("missing", "vim/1.0/x86"),
        ("behind", "a%2Fb/1.0/x86"),
        ("different", "été/1.1/x86"),
        ("orphan", "gone/1/x86"),
        ("orphan", "never/1/x86"),
        ("orphan", "vim/0.9/x86"),
        ("ahead", "git/5/x86"),
    ]


def test_children_of_a_deleted_row_are_not_missed(site: Site) -> None:
    fill(site)
    site.sql("UPDATE projects SET gone = 1, ver = 2 WHERE name = 'vim'")
    site.mirror_all()

    assert site.differences() == site.differences("release", deep=True) == []


def test_keys_of_numbers_and_of_several_columns_are_compared(site: Site) -> None:
    fill(site)
    site.database.people.delete_one({"_id": "7"})
    site.database.people.insert_one({"_id": "007", "_v": 7})
    site.database.visits.update_one({"_id": "1/%2Fp%2F5"}, {"$set": {"_v": 4}})
    site.database.visits.replace_one({"_id": "3/%2Fp%2F3"}, {"_id": "3/%2Fp%2F3", "_v": 3})

    assert site.differences("person") == [("missing", "7"), ("unlookable", "007")]
    assert site.differences("visit") == [("behind", "1/%2Fp%2F5"), ("orphan", "3/%2Fp%2F3")]


def test_a_document_that_is_not_the_mirrors_is_named(small_site: Site) -> None:
    fill(small_site)
    small_site.database.people.insert_one({"_id": 5, "_v": 1})

    [found] = small_site.reconcile("person").differences

    assert (found.kind, found.key) == ("foreign", "5")
    assert "no text" in found.detail


def test_types_are_compared_strictly(small_site: Site) -> None:
    fill(small_site)
    people = small_site.database.people
    people.update_one({"_id": "1"}, {"$set": {"id": 1.0}})
    people.update_one({"_id": "2"}, {"$set": {"title": None}})
    people.update_one({"_id": "3"}, {"$set": {"more": 1}})
    people.update_one({"_id": "4"}, {"$unset": {"title": 1}})
    people.update_one({"_id": "5"}, {"$set": {"_at": None, "_swept": 1}})
    people.update_one({"_id": "6"}, {"$set": {"_twin": "6", "_v": 6.0}})

    assert {
        one.key: one.detail for one in small_site.reconcile("person", deep=True).differences
    } == {
        "1": "id is a floating-point number, not a whole number",
        "2": "title is null, not a text",
        "3": "more should not be there",
        "4": "title is missing",
        "5": "_swept should not be there, and 1 more",
    }


def test_a_difference_that_lag_explains_is_none(small_site: Site) -> None:
    fill(small_site)
    late = small_site.events("project")
    small_site.database.projects.delete_many({})
    small_site.database.releases.delete_many({})

    def mirror_late(stop: threading.Event) -> None:
        stop.wait(0.3)
        small_site.apply(*late)

    with in_background(mirror_late):
        assert small_site.reconcile(wait=10.0).equal


def test_an_outbox_that_is_behind_is_waited_for(small_site: Site) -> None:
    fill(small_site)
    [late] = [one for one in small_site.events("project") if one.key == "vim"]
    small_site.database.projects.delete_one({"_id": "vim"})
    asked = []

    def lag() -> float:
        asked.append(1)
        if len(asked) == 3:
            small_site.apply(late)
        return 3600.0 if len(asked) <= 3 else 0.0

    how = ReconcileOptions(wait=0.2)
    reconciler = Reconciler(small_site.engine, small_site.database, small_site.mirror, how, lag=lag)
    assert reconciler.run("project").equal


def test_live_edits_raise_no_false_alarm(site: Site) -> None:
    check_live_edits(site, rounds=1)


@EVERYWHERE
@pytest.mark.long
def test_many_live_edits_raise_no_false_alarm(site: Site) -> None:
    check_live_edits(site, rounds=30)


def check_live_edits(site: Site, rounds: int) -> None:
    """Reconcile while somebody edits all the time and MongoDB is behind."""
    names = [f"p{n}" for n in range(40)]
    site.projects(*names)
    site.mirror_all()
    versions = dict.fromkeys(names, 1)
    lag: list[Event] = []
    edits = 0

    def edit(stop: threading.Event) -> None:
        """Edit, delete and bring back projects; MongoDB is always some edits behind."""
        nonlocal edits
        chance = random.Random(1)
        while not stop.is_set():
            name = chance.choice(names)
            versions[name] += 1
            how = chance.choice(["edit", "edit", "edit", "mark", "delete"])
            with site.engine.begin() as connection:
                for table, column in (("releases", "project"), ("projects", "name")):
                    words = f"DELETE FROM {table} WHERE {column} = :n"
                    connection.execute(sql.text(words), {"n": name})
                if how != "delete":
                    connection.execute(
                        sql.text("INSERT INTO projects VALUES (:n, :t, 1, :v, :g)"),
                        {"n": name, "t": str(edits), "v": versions[name], "g": int(how == "mark")},
                    )
                    connection.execute(
                        sql.text("INSERT INTO releases VALUES (:n, :v, 'x86', 'f', 0)"),
                        {"n": name, "v": str(versions[name])},
                    )
            if how == "delete":
                lag.append(Event("project", "deleted", name, versions[name]))
            else:
                lag.extend(site.source("project").rows_by_keys([name])[0])
            edits += 1
            if len(lag) >= 8:
                chance.shuffle(lag)
                site.apply(*lag[:4])
                del lag[:4]
        site.apply(*lag)

    with in_background(edit):
        for number in range(rounds):
            for name in ("project", "release"):
                result = site.reconcile(name, wait=20.0, deep=number % 2 == 0)
                assert result.equal, result
    assert edits > 10
    assert site.differences(deep=True) == site.differences("release", deep=True) == []


def test_a_child_that_vanishes_while_it_is_looked_at_is_no_difference(
    small_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(small_site)
    small_site.database.releases.delete_one({"_id": "vim/1.0/x86"})
    made = SqlSource.rows_by_keys

    def rows_by_keys(source: SqlSource, keys: Sequence[str]) -> Any:
        small_site.sql(
            "DELETE FROM releases WHERE project = 'vim' AND version = '1.0'",
            "UPDATE projects SET ver = 2 WHERE name = 'vim'",
        )
        return made(source, keys)

    monkeypatch.setattr(SqlSource, "rows_by_keys", rows_by_keys)

    assert small_site.differences("release") == []


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_damaged_is_listed_and_nothing_else(small_site: Site, data: Any) -> None:
    site = small_site
    site.sql("DELETE FROM people", "DELETE FROM projects", "DELETE FROM releases")
    for name in ("people", "projects", "releases"):
        site.database[name].delete_many({})
    keys = [str(n) for n in range(30)]
    site.rows("people", [{"id": n, "title": str(n), "ver": n + 10} for n in range(30)])
    site.mirror_all("person")
    kinds = ["missing", "behind", "ahead", "different", "orphan", "buried", "unversioned"]
    damage = data.draw(st.dictionaries(st.sampled_from(keys), st.sampled_from(kinds)))
    expected = set()
    for key, kind in damage.items():
        people, this = site.database.people, {"_id": key}
        version = int(key) + 10
        if kind == "missing":
            people.delete_one(this)
        elif kind == "behind":
            by = data.draw(st.integers(1, 10))
            people.update_one(this, {"$set": {"_v": version - by}})
        elif kind == "ahead":
            people.update_one(this, {"$inc": {"_v": data.draw(st.integers(1, 2**40))}})
        elif kind == "different":
            people.update_one(this, {"$set": {"title": data.draw(st.integers()) % 2**31}})
        elif kind == "orphan":
            site.sql("DELETE FROM people WHERE id = :id", id=int(key))
        elif kind == "buried":
            people.replace_one(this, {**this, "_v": version - 1, "_del": True})
            kind = "missing"
        else:
            people.update_one(this, {"$unset": {"_v": 1}})
            kind = "behind"
        expected.add((kind, key))

    assert set(site.differences("person", deep=True)) == expected
    shallow = {one for one in expected if one[0] != "different"}
    assert set(site.differences("person")) == shallow


def test_more_differences_than_can_be_listed_are_said_to_be_more(
    small_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.sync.reconcile.reconciler.MOST_KEYS", 5)
    monkeypatch.setattr("bridge.sync.reconcile.reconciler.MOST_LISTED", 2)
    fill(small_site)
    small_site.database.people.delete_many({})

    result = small_site.reconcile("person")

    assert result.more
    assert not result.equal
    assert result.by_kind == {"missing": 5}


def test_entities_without_a_source_are_named(small_site: Site) -> None:
    names, others = Reconciler(
        small_site.engine, small_site.database, small_site.mirror, ReconcileOptions()
    ).checkable()

    assert names == ["project", "person", "visit", "release"]
    assert others == {"note": "no source in sync.yaml"}


def test_a_wrong_column_is_an_error_that_says_what_to_write(small_site: Site) -> None:
    small_site.sql("ALTER TABLE people RENAME COLUMN ver TO version")

    with pytest.raises(BridgeError, match=r"no column ver.*sync\.yaml"):
        small_site.reconcile("person")


def test_a_database_that_is_away_is_no_difference(small_site: Site) -> None:
    small_site.engine = connect(f"mysql://root@127.0.0.1:{free_port()}/x")

    with pytest.raises(ServerAway, match="SQL"):
        small_site.reconcile("person")


def test_a_mongodb_that_is_away_is_no_difference(small_site: Site) -> None:
    with mongodb.connect(f"mongodb://127.0.0.1:{free_port()}/x", patience=0.1) as client:
        small_site.database = client.get_default_database()
        with pytest.raises(ServerAway, match="ServerSelection"):
            small_site.reconcile("person")


def test_it_stops_when_told_to(small_site: Site) -> None:
    fill(small_site)
    small_site.database.people.delete_many({})
    stop = threading.Event()
    how = ReconcileOptions(wait=60.0)

    def end_it(what: str, done: int, total: int) -> None:
        if "waiting" in what:
            stop.set()

    with pytest.raises(Stopped):
        Reconciler(
            small_site.engine,
            small_site.database,
            small_site.mirror,
            how,
            stop=stop,
            progress=end_it,
        ).run("person")


LOOSE = """\
version: 1
entities:
  word: {collection: words, source: {table: words, key: name, version: ver}}
  raw:
    collection: raws
    source: {table: raws, key: name, version: ver}
    fields: {name: {text: {stored: utf-8}}}
"""


@pytest.fixture
def loose_site(small_site: Site, tmp_path: Path) -> Site:
    """Tables whose keys are not what keys should be."""
    (tmp_path / "sync.yaml").write_text(LOOSE)
    small_site.mirror = Mirror(load(tmp_path / "sync.yaml"))
    small_site.sql(
        "CREATE TABLE words (name TEXT COLLATE NOCASE, title TEXT, ver INTEGER)",
        "CREATE TABLE raws (name BLOB PRIMARY KEY, ver INTEGER)",
    )
    return small_site


def test_rows_that_a_collation_takes_for_equal_are_compared_at_the_end_of_a_page_too(
    loose_site: Site,
) -> None:
    # One in front, so that pages end within a pair.
    names = ["0", *(f"{n:04}{letter}" for n in range(600) for letter in "xX")]
    loose_site.rows("words", [{"name": name, "title": "one", "ver": 1} for name in names])
    loose_site.apply(*loose_site.events("word"))
    assert loose_site.reconcile("word", deep=True).compared == len(names)

    loose_site.sql("UPDATE words SET title = 'two'")

    assert loose_site.reconcile("word", deep=True).by_kind == {"different": len(names)}


@pytest.mark.parametrize("size", [1, 499, 500, 501])
def test_no_row_is_passed_over_however_many_have_its_key(loose_site: Site, size: int) -> None:
    loose_site.rows("words", [{"name": "a", "title": str(n), "ver": 1} for n in range(size)])
    loose_site.rows("words", [{"name": "b", "title": "b", "ver": 1}])

    chunk = loose_site.source("word").chunk(None, 500)

    assert {event.data["title"] for event in chunk.events if event.data} >= {
        str(n) for n in range(size)
    }


def test_a_row_whose_key_is_no_text_is_named(loose_site: Site) -> None:
    loose_site.rows("raws", [{"name": name, "ver": 1} for name in (b"a", b"b", b"\xff")])
    loose_site.apply(*loose_site.events("raw"))

    result = loose_site.reconcile("raw", deep=True)

    assert [one.kind for one in result.differences] == ["unusable"]
    assert "no utf-8" in result.differences[0].detail


def test_the_rate_is_kept(small_site: Site) -> None:
    small_site.rows("people", [{"id": n, "title": "", "ver": n} for n in range(600)])
    small_site.mirror_all("person")

    result = small_site.reconcile("person", rate=1000.0)

    assert result.equal
    assert result.rate <= 1000.0
