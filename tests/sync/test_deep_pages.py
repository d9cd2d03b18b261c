"""Deep pages of a list: which index answers, and that nothing before the page is fetched."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.database import Database

from bridge.sync.queries import query

NEWEST = [("project", 1), ("published", -1)]
INDEXES = [NEWEST, [("project", 1), ("filename", 1)]]


def test_the_index_is_named_so_that_mongodb_tries_no_other() -> None:
    asked = query("release", INDEXES, {"project": "bash"}, ["-published"], 0, 10, ())
    assert asked.index == NEWEST


@pytest.mark.parametrize(
    "where", [{"project": "bash"}, {"project": {"$in": ["bash", "zsh"]}}, {"project": {"$gt": "b"}}]
)
def test_a_condition_that_no_tombstone_meets_needs_no_other(where: dict[str, Any]) -> None:
    assert query("release", INDEXES, where, [], 0, 10, ()).filter == where


@pytest.mark.parametrize(
    "where",
    [{}, {"_id": "bash"}, {"project": None}, {"project": {"$in": [None]}}],
    ids=["none", "_id", "null", "null in a list"],
)
def test_a_condition_that_a_tombstone_meets_leaves_them_out(where: dict[str, Any]) -> None:
    sort = [] if where else ["_id"]
    asked = query("release", INDEXES, where, sort, 0, 10, ())
    assert asked.filter == {**where, "_del": {"$ne": True}}


def test_only_the_documents_of_the_page_are_fetched(clean_mongodb: Database[Any]) -> None:
    releases = clean_mongodb["releases"]
    for index in INDEXES:
        releases.create_index(index)
    releases.insert_many(
        {"_id": f"bash/{n}", "_v": 1, "project": "bash", "published": n, "filename": f"{n}"}
        for n in range(1000)
    )
    asked = query("release", INDEXES, {"project": "bash"}, ["-published"], 900, 10, ())
    found = releases.find(asked.filter, sort=asked.sort, skip=asked.skip, limit=asked.limit)
    assert found.hint(asked.index).explain()["executionStats"]["totalDocsExamined"] == 10
