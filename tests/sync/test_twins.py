"""Twins: documents with one value of a unique index are written, told, and heal by themselves."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
import structlog
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from bridge.cli import cli
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync import families, indexes, twins
from bridge.sync.apply import BatchResult, apply, load
from bridge.sync.documents import Mirror
from bridge.sync.reconcile.contents import differences
from tests.minimal_sync import mirror_of

Db = Database[dict[str, Any]]
Write = Callable[[Db, Mirror, list[Event]], BatchResult]

SHOP = """\
version: 1
entities:
  page:
    collection: pages
    indexes: [{fields: [slug], unique: true}, {fields: [site, -place], unique: true}]
  project:
    collection: projects
    indexes: [{fields: [slug], unique: true}]
    children: {releases: {entity: release, key: name}}
  release: {collection: releases, indexes: [{fields: [code], unique: true}]}
"""
numbers = itertools.count()
both_ways = pytest.mark.parametrize("write", [apply, load])


@pytest.fixture
def shop(tmp_path: Path) -> Mirror:
    return mirror_of(tmp_path, SHOP)


@pytest.fixture
def database(clean_mongodb: Db, shop: Mirror) -> Db:
    indexes.run(clean_mongodb, shop)
    return clean_mongodb


def page(key: str, version: int, slug: str, **more: Any) -> Event:
    return Event("page", "changed", key, version, {"slug": slug, **more})


def project(key: str, version: int, slug: str, releases: dict[str, str]) -> Event:
    """releases: name to code."""
    members = [{"name": name, "code": code} for name, code in releases.items()]
    return Event("project", "changed", key, version, {"slug": slug, "releases": members})


def slugs(database: Db, collection: str = "pages") -> dict[str, str]:
    """Key to slug, of what is alive."""
    return {one["_id"]: one["slug"] for one in database[collection].find({"_del": None})}


def marked(database: Db, collection: str = "pages") -> list[str]:
    """The keys with the mark of twins."""
    return sorted(one["_id"] for one in database[collection].find(twins.MARKED))


def told(database: Db, shop: Mirror) -> list[str]:
    return [str(one) for one in twins.find(database, shop)]


class TestASwap:
    @both_ways
    def test_in_one_batch_leaves_no_trace(self, database: Db, shop: Mirror, write: Write) -> None:
        apply(database, shop, [page("a", 1, "x"), page("b", 1, "y")])
        result = write(database, shop, [page("a", 2, "y"), page("b", 2, "x")])

        assert (result.failed, result.written, result.stale) == ((), 2, 0)
        assert result.doubled > 0
        assert slugs(database) == {"a": "y", "b": "x"}
        assert marked(database) == []

    @both_ways
    def test_in_two_is_told_in_between_and_heals(
        self, database: Db, shop: Mirror, write: Write
    ) -> None:
        apply(database, shop, [page("a", 1, "x"), page("b", 1, "y")])
        first = write(database, shop, [page("a", 2, "y")])

        assert (first.failed, first.written, first.doubled) == ((), 1, 1)
        assert slugs(database) == {"a": "y", "b": "y"}
        assert told(database, shop) == ["page 'a' and 'b' have the same slug"]

        assert write(database, shop, [page("b", 2, "x")]).failed == ()
        assert told(database, shop) == []
        assert twins.settle(database.pages) == 0
        assert slugs(database) == {"a": "y", "b": "x"}
        assert marked(database) == []

    def test_of_more_than_one_index_and_of_several_fields(self, database: Db, shop: Mirror) -> None:
        apply(
            database,
            shop,
            [page("a", 1, "x", site=1, place=1), page("b", 1, "y", site=1, place=2)],
        )
        apply(database, shop, [page("a", 2, "y", site=1, place=2)])

        assert told(database, shop) == [
            "page 'a' and 'b' have the same slug",
            "page 'a' and 'b' have the same site, place",
        ]

    def test_a_deletion_gives_the_value_free(self, database: Db, shop: Mirror) -> None:
        apply(database, shop, [page("a", 1, "x"), page("b", 1, "x")])
        apply(database, shop, [Event("page", "deleted", "a", 2)])

        assert told(database, shop) == []
        assert twins.settle(database.pages) == 0
        assert marked(database) == []

    def test_a_first_load_of_what_is_not_unique_leaves_all_of_it(
        self, database: Db, shop: Mirror
    ) -> None:
        result = load(database, shop, [page(f"k{n}", 1, "same") for n in range(20)])

        assert (result.failed, result.written) == ((), 20)
        assert len(slugs(database)) == 20
        assert len(marked(database)) == 19
        assert len(told(database, shop)) == 19

    def test_a_list_has_each_of_its_members(self, database: Db, shop: Mirror) -> None:
        one = Event("page", "changed", "a", 1, {"slug": ["x", "y"]})
        other = Event("page", "changed", "b", 1, {"slug": ["y", "z"]})
        assert apply(database, shop, [one, other]).failed == ()

        assert len(told(database, shop)) == 1


class TestTwinsForGood:
    def test_newer_versions_and_rewrites_go_on_being_written(
        self, database: Db, shop: Mirror
    ) -> None:
        apply(database, shop, [page("a", 1, "x"), page("b", 1, "x")])
        again = [page("a", 2, "x", n=2), replace(page("b", 1, "x", n=1), rewrite=True)]

        for event in (*again, *again):
            assert apply(database, shop, [event]).failed == ()
        assert {one["_id"]: one["n"] for one in database.pages.find()} == {"a": 2, "b": 1}
        assert len(marked(database)) == 1

    def test_an_older_version_neither_marks_nor_unmarks(self, database: Db, shop: Mirror) -> None:
        apply(database, shop, [page("a", 5, "x"), page("b", 5, "x")])
        before = list(database.pages.find())
        result = apply(database, shop, [page("a", 4, "x"), page("b", 4, "y")])

        assert (result.failed, result.stale) == ((), 2)
        assert list(database.pages.find()) == before

    def test_the_mark_is_no_difference_of_content(self, database: Db, shop: Mirror) -> None:
        apply(database, shop, [page("a", 1, "x"), page("b", 1, "x")])
        [key] = marked(database)
        raw = database.get_collection("pages", CodecOptions(document_class=RawBSONDocument))
        found = raw.find_one({"_id": key})
        assert found is not None
        expected = {"_id": key, "_v": 1, "slug": "x", "_at": datetime.now(UTC)}

        assert differences(bson.encode(expected), found.raw) == []
        assert differences(bson.encode(expected | {"slug": "y"}), found.raw) != []

    def test_what_an_index_of_somebody_elses_refuses_is_said_so(
        self, database: Db, shop: Mirror
    ) -> None:
        database.pages.create_index("title", name="theirs", unique=True, sparse=True)
        first, second = page("a", 1, "x", title="t"), page("b", 1, "y", title="t")
        [failure] = apply(database, shop, [first, second, page("c", 1, "z")]).failed

        assert failure.event == second
        assert "theirs" in failure.error
        assert "drop it" in failure.error
        assert sorted(slugs(database)) == ["a", "c"]
        assert marked(database) == []


class TestFamilies:
    def test_parents_and_children_swap_values(self, database: Db, shop: Mirror) -> None:
        apply(database, shop, [project("a", 1, "x", {"r": "1"}), project("b", 1, "y", {"r": "2"})])
        first = apply(database, shop, [project("a", 2, "y", {"r": "2"})])

        assert (first.failed, first.written) == ((), 1)
        assert told(database, shop) == [
            "project 'a' and 'b' have the same slug",
            "release 'a/r' and 'b/r' have the same code",
        ]
        assert apply(database, shop, [project("b", 2, "x", {"r": "1"})]).failed == ()
        assert twins.settle(database.projects) + twins.settle(database.releases) == 0
        assert slugs(database, "projects") == {"a": "y", "b": "x"}

    def test_a_child_takes_the_value_of_one_that_vanishes_with_it(
        self, database: Db, shop: Mirror
    ) -> None:
        apply(database, shop, [project("a", 1, "x", {"old": "1", "other": "2"})])
        result = apply(database, shop, [project("a", 2, "x", {"new": "1", "other": "2"})])

        assert result.failed == ()
        assert marked(database, "releases") == []
        alive = database.releases.find({"_del": None})
        assert {one["_id"]: one["code"] for one in alive} == {"a/new": "1", "a/other": "2"}

    def test_many_in_one_batch_rotate(self, database: Db, shop: Mirror) -> None:
        count = 50
        for version in (1, 2, 3):
            events = [
                project(f"k{n}", version, f"s{(n + version) % count}", {"r": f"{(n * 7) % count}"})
                for n in range(count)
            ]
            assert apply(database, shop, events).failed == ()

        assert slugs(database, "projects") == {f"k{n}": f"s{(n + 3) % count}" for n in range(count)}
        assert marked(database, "projects") == []

    def test_what_an_index_of_somebody_elses_refuses_is_one_failure(
        self, database: Db, shop: Mirror
    ) -> None:
        database.projects.create_index("slug", name="theirs", unique=True, sparse=True)
        events = [project("a", 1, "x", {}), project("b", 1, "x", {}), project("c", 1, "z", {})]
        [failure] = apply(database, shop, events).failed

        assert "theirs" in failure.error
        assert "drop it" in failure.error
        assert len(slugs(database, "projects")) == 2


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[str | None]], int, random.Random]:
    """States, each a permutation of the values over the keys, None where a key is deleted or
    has no value; how many workers write them; and an order."""
    keys = draw(st.integers(2, 7))
    values: list[str | None] = [f"v{n}" for n in range(keys - 1)]
    values.append(draw(st.sampled_from([None, "last"])))
    states = draw(st.lists(st.permutations(values), min_size=2, max_size=5))
    # Not one of hypothesis's own: threads use it.
    return states, draw(st.integers(1, 4)), random.Random(draw(st.integers(0, 2**32)))


@pytest.mark.parametrize("kind", ["page", "project"])
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(history=histories())
def test_values_that_go_round_end_with_every_document_right_and_none_refused(
    database: Db, shop: Mirror, kind: str, history: tuple[Any, int, random.Random]
) -> None:
    states, workers, chance = history
    prefix, collection = f"{next(numbers)}/", shop.collection_of(kind)

    def event(key: int, version: int, value: str | None) -> Event:
        if value is None:
            return Event(kind, "deleted", f"{prefix}{key}", version)
        data: dict[str, Any] = {"slug": prefix + value}
        if kind == "project":
            data["releases"] = [{"name": "r", "code": prefix + value}]
        return Event(kind, "changed", f"{prefix}{key}", version, data)

    events = [
        event(key, v, value) for v, state in enumerate(states) for key, value in enumerate(state)
    ]
    chance.shuffle(events)

    def work(share: Sequence[Event]) -> list[Any]:
        failed: list[Any] = []
        while share:
            size = chance.randint(1, 5)
            failed += apply(database, shop, list(share[:size])).failed
            share = share[size:]
        return failed

    with ThreadPoolExecutor(workers) as pool:
        shares = [events[n::workers] for n in range(workers)]
        assert [one for failed in pool.map(work, shares) for one in failed] == []

    mine = {"_id": {"$regex": f"^{prefix}"}, "_del": None}
    found = {one["_id"]: one["slug"] for one in database[collection].find(mine)}
    assert found == {
        f"{prefix}{key}": prefix + value
        for key, value in enumerate(states[-1])
        if value is not None
    }
    for name in (collection, "releases"):
        keys = database[name].distinct("_id", {"_id": {"$regex": f"^{prefix}"}})
        assert twins.settle(database[name], keys) == 0


def test_what_is_unmarked_is_unique(database: Db, shop: Mirror) -> None:
    """The index goes on refusing: of all with one value, one at most has no mark."""
    apply(database, shop, [page("a", 1, "x"), page("b", 1, "x")])

    with pytest.raises(DuplicateKeyError):
        database.pages.update_many({}, {"$unset": {"_twin": ""}})


def test_many_portions_of_one_batch(
    database: Db, shop: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(families, "MOST_DOCUMENTS", 3)
    first = [project(f"k{n}", 1, f"s{n}", {"r": f"{n}"}) for n in range(9)]
    second = [project(f"k{n}", 2, f"s{8 - n}", {"r": f"{8 - n}"}) for n in range(9)]

    assert apply(database, shop, first).failed == ()
    assert apply(database, shop, second).failed == ()
    assert slugs(database, "projects") == {f"k{n}": f"s{8 - n}" for n in range(9)}


@pytest.fixture
def watch(mongodb_url: str, tmp_path: Path, shop: Mirror, database: Db) -> Iterator[list[Any]]:
    """What a watch that runs has logged."""
    lines: list[Any] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        lines.append(dict(event))
        raise structlog.DropEvent

    log = structlog.wrap_logger(
        None, processors=[keep], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    where = Settings(tmp_path / "routes.yaml", "", mongodb_url, tmp_path)
    with twins.TwinWatch(where, shop, log, every=0.05):
        yield lines


def test_a_worker_takes_marks_off_and_says_which_twins_stay(
    database: Db, shop: Mirror, watch: list[Any], wait_for: Callable[..., Any]
) -> None:
    apply(database, shop, [page("a", 1, "x"), page("b", 1, "x"), page("c", 1, "z")])
    wait_for(lambda: watch)
    [line] = watch
    assert line["event"] == "twins.same_value"
    assert line["some"] in (
        ["page 'a' and 'b' have the same slug"],
        ["page 'b' and 'a' have the same slug"],
    )

    apply(database, shop, [page("a", 2, "y"), page("b", 2, "x")])
    wait_for(lambda: marked(database) == [])
    wait_for(lambda: watch[-1]["event"] == "twins.gone")


def test_the_status_names_them(
    database: Db,
    shop: Mirror,
    tmp_path: Path,
    mongodb_url: str,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apply(database, shop, [page("a", 1, "x"), page("b", 1, "x")])
    monkeypatch.setenv("BRIDGE_MONGODB_URL", mongodb_url)
    monkeypatch.setenv("BRIDGE_BROKER_URL", redis_url)
    monkeypatch.setenv("BRIDGE_SYNC", str(tmp_path / "sync.yaml"))
    monkeypatch.setenv("BRIDGE_STATE_DIR", str(tmp_path / "state"))

    said = CliRunner().invoke(cli, ["status"]).output
    assert "same unique value" in said
    assert "have the same slug" in " ".join(said.split())
    [twin] = json.loads(CliRunner().invoke(cli, ["status", "-o", "json"]).output)["twins"]
    assert (twin["entity"], {twin["key"], twin["other"]}) == ("page", {"a", "b"})
