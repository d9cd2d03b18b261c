"""`python -m bench sync` runs, checks what was written and read, and ends with one JSON object;
its speed is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from bench import sync_forge, sync_reads
from bench.report import BenchmarkFailed
from bench.sync_forge import SYNC, check_mirror, fill
from bench.sync_reads import READS, check_follows, check_sum, settings_for
from bench.sync_sides import read_reconcile, read_snapshot
from bench.sync_write import BATCHES, Writer
from bridge.queue.events import Event
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.store import Store
from stack.mariadb import MariaDB
from stack.php import run_php

SIDES = {
    *(f"snapshot_{kind}{way}" for kind in ("mariadb", "sqlite") for way in ("", "_process")),
    *("reconcile_mariadb", "reconcile_sqlite", "reconcile_deep"),
}


@pytest.fixture(scope="module")
def quick() -> subprocess.CompletedProcess[str]:
    """One quick run for all tests here."""
    command = [sys.executable, "-m", "bench", "sync", "--quick"]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


@pytest.fixture
def result(quick: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object of its last line."""
    assert quick.returncode == 0, quick.stderr
    found: dict[str, Any] = json.loads(quick.stdout.splitlines()[-1])
    return found


@pytest.fixture
def mirror() -> Mirror:
    return Mirror(load(SYNC))


@pytest.fixture
def events() -> list[Event]:
    """Some, as the forge would send them."""
    data = {
        **dict.fromkeys(("summary", "description", "section", "homepage", "maintainer"), "text"),
        **{"version": "1-1", "size_kb": 1, "updated": "2024-02-29T10:11:12Z", "license": None},
    }
    return [
        Event("project", "changed", f"p{n}", 1, {**data, "name": f"p{n}", "downloads": n})
        for n in range(1, 5)
    ]


@pytest.mark.slow
def test_the_last_line_is_the_json_object_that_is_promised(result: dict[str, Any]) -> None:
    assert set(result) == {"bench", "ratios", "figures"}
    assert result["bench"] == "sync"


@pytest.mark.slow
def test_the_ratios_compare_ours_with_what_one_would_do_without(result: dict[str, Any]) -> None:
    assert set(result["ratios"]) == {
        "apply_over_naive",
        "cache_over_memcached",
        "cache_over_memcached_zipf",
        "cache_over_mongodb",
        "cache_over_store_uncached",
    }
    assert all(ratio > 0 for ratio in result["ratios"].values())


@pytest.mark.slow
def test_each_part_has_its_figures(result: dict[str, Any]) -> None:
    assert set(result["figures"]) == {
        *("naive_per_s", "applied_per_s", *(f"applied_per_s_{size}" for size in BATCHES)),
        *(f"{side}_rows_per_s" for side in SIDES),
        *("snapshot_rows_per_s", "reconcile_rows_per_s"),
        *(f"{way}_read_{unit}" for way in READS for unit in ("us", "cpu_us")),
        *("cache_mb_per_100k", "rows", "documents_read"),
    }
    assert all(figure > 0 for figure in result["figures"].values())


@pytest.mark.slow
def test_the_table_names_the_rows_and_progress_is_elsewhere(
    quick: subprocess.CompletedProcess[str],
) -> None:
    assert "installed" in quick.stdout.splitlines()[0]
    assert "round 1 of 1: naive writer" in quick.stderr
    assert "round 1" not in quick.stdout


@pytest.mark.parametrize("damage", ["missing", "changed", "too many", "older"])
def test_a_mongodb_that_does_not_hold_exactly_the_rows_ends_the_run(
    clean_mongodb: Database[dict[str, Any]], mirror: Mirror, events: list[Event], damage: str
) -> None:
    apply(clean_mongodb, mirror, events)
    check_mirror("load", clean_mongodb, mirror, events)
    projects = clean_mongodb["projects"]
    if damage == "missing":
        projects.delete_one({"_id": "p1"})
    elif damage == "changed":
        projects.update_one({"_id": "p1"}, {"$set": {"summary": "other"}})
    elif damage == "too many":
        projects.insert_one({"_id": "p5", "_v": 1})
    else:
        projects.update_one({"_id": "p1"}, {"$set": {"_v": 0}})
    with pytest.raises(BenchmarkFailed, match=r"^load: projects has"):
        check_mirror("load", clean_mongodb, mirror, events)


def test_a_write_that_writes_nothing_ends_the_run(
    clean_mongodb: Database[dict[str, Any]], mirror: Mirror, events: list[Event]
) -> None:
    apply(clean_mongodb, mirror, [replace(event, version=9) for event in events])
    with pytest.raises(BenchmarkFailed, match="wrote 0 of 4: 4 are stale"):
        Writer(clean_mongodb, mirror, events)


def test_a_mirror_without_schemas_is_not_measured(
    clean_mongodb: Database[dict[str, Any]], mirror: Mirror, events: list[Event]
) -> None:
    bare = mirror.file.entities["project"].model_copy(update={"schema_": None})
    without = Mirror(mirror.file.model_copy(update={"entities": {"project": bare}}))
    with pytest.raises(BenchmarkFailed, match="no schema"):
        Writer(clean_mongodb, without, events)


def test_a_sum_of_other_documents_ends_the_run() -> None:
    downloads = {"a": 1, "b": 2}
    check_sum("cache", 4, downloads, ["a", "b", "a"])
    with pytest.raises(BenchmarkFailed, match="adds up to 5, not to 4"):
        check_sum("cache", 5, downloads, ["a", "b", "a"])


def test_a_snapshot_that_left_rows_out_ends_the_run() -> None:
    whole = {"entity": "project", "rows": 5, "written": 5, "seconds": 0.5, "resumed": False}
    assert read_snapshot([whole, whole]) == (10, 1.0)
    for part in ({**whole, "written": 4}, {**whole, "resumed": True}):
        with pytest.raises(BenchmarkFailed, match="did not load everything"):
            read_snapshot([whole, part])


def test_sides_that_are_not_equal_or_not_compared_end_the_run() -> None:
    entity = {"entity": "project", "counts": {}}
    report = {"equal": True, "unchecked": {}, "entities": [entity], "rows": 5, "seconds": 0.5}
    assert read_reconcile(report) == (5, 0.5)
    behind = {"entity": "project", "counts": {"behind": 1}}
    with pytest.raises(BenchmarkFailed, match="behind"):
        read_reconcile({**report, "equal": False, "entities": [behind]})
    with pytest.raises(BenchmarkFailed, match="no source"):
        read_reconcile({**report, "unchecked": {"release": "no source"}})


def test_a_cache_that_does_not_follow_ends_the_run(
    clean_mongodb: Database[dict[str, Any]],
    mongodb_url: str,
    mirror: Mirror,
    events: list[Event],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    apply(clean_mongodb, mirror, events)
    with closing(Store(settings_for(mongodb_url))) as store:
        check_follows(store, mongodb_url, events[0])
        document = store.get("project", "p1")
        monkeypatch.setattr(store, "get", lambda entity, key: document)
        monkeypatch.setattr(sync_reads, "FRESH", 0.1)
        with pytest.raises(BenchmarkFailed, match="did not see a write"):
            check_follows(store, mongodb_url, events[0])


def test_without_package_lists_the_packages_are_made_up_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb: MariaDB, mariadb_url: str
) -> None:
    def without_lists(script: Path, *words: str, **options: Any) -> str:
        if words == ("--all",):
            raise subprocess.CalledProcessError(1, "php", "", "apt has no package lists here")
        return run_php(script, *words, **options)

    monkeypatch.setattr(sync_forge, "run_php", without_lists)
    monkeypatch.setattr(sync_forge, "MADE_UP", 40)
    scratch = copy(mariadb)
    scratch.database = mariadb_url.partition("?")[0].rpartition("/")[2]

    forge = fill(tmp_path, scratch, every=True)

    assert "made up" in forge.origin
    assert len(forge.projects) == 40
    assert len(forge.events) > 80


def test_a_forge_that_cannot_be_filled_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mariadb: MariaDB
) -> None:
    monkeypatch.setattr(sync_forge, "LOAD", tmp_path / "load.php")
    with pytest.raises(BenchmarkFailed, match=r"load\.php"):
        fill(tmp_path, mariadb, every=False)
