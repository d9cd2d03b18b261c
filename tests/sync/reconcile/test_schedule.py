"""Reconciling by itself, inside the worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from pymongo.database import Database

from bridge.errors import BridgeError
from bridge.settings import Settings
from bridge.sync.documents import Mirror
from bridge.sync.reconcile import results as reconciled
from bridge.sync.reconcile.findings import Difference, ReconcileResult
from bridge.sync.reconcile.schedule import LEASE, Scheduled
from bridge.sync.state import Owner, State
from tests.sync.reconcile.site import Site, in_background, run_a_worker, settings_of

Db = Database[dict[str, Any]]
WaitFor = Callable[..., Any]


@pytest.fixture
def site(clean_mongodb: Db, tmp_path: Path) -> Iterator[Site]:
    """Both sides, equal but for a project and a person."""
    site = Site(f"sqlite:///{tmp_path / 'site.sqlite'}", clean_mongodb, tmp_path)
    site.projects("vim", "git")
    site.rows("people", [{"id": n, "title": "", "ver": n} for n in range(20)])
    site.mirror_all()
    site.database.projects.delete_one({"_id": "vim"})
    site.database.people.delete_one({"_id": "5"})
    yield site
    site.engine.dispose()


@pytest.fixture
def settings(site: Site, redis_url: str, mongodb_url: str, tmp_path: Path) -> Settings:
    more = "reconcile: {every: 6h, repair: true}\n"
    return settings_of(site, tmp_path, broker_url=redis_url, mongodb_url=mongodb_url, more=more)


def results(site: Site) -> dict[str, reconciled.LastResult]:
    return {last.entity: last for last in reconciled.read_all(site.database)}


def scheduled(settings: Settings) -> Scheduled:
    return Scheduled(settings, Mirror.of(settings), structlog.get_logger())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs differs: nothing is behind in these tests."""
    monkeypatch.setattr("bridge.sync.reconcile.schedule.WAIT", 0.0)


def test_a_worker_repairs_by_itself(
    site: Site, settings: Settings, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.sync.reconcile.schedule.WAIT", 0.5)

    with in_background(run_a_worker(settings)):
        found = wait_for(lambda: len(results(site)) == 4 and results(site), 20)

    assert found["project"].repaired == found["person"].repaired == {"missing": 1}
    assert all(last.equal for last in found.values())
    assert site.differences() == site.differences("person") == []


def test_what_was_found_is_kept(site: Site, settings: Settings, wait_for: WaitFor) -> None:
    one = scheduled(settings)
    one.start()
    found = wait_for(lambda: len(results(site)) == 4 and results(site))
    one.stop()

    assert found["project"].differences == {"missing": 1}
    assert found["project"].rows == 2
    assert not found["project"].equal
    assert found["release"].equal
    kept = State(site.database).get("reconcile:project")
    assert kept
    assert kept["listed"][0]["key"] == "vim"


def test_only_what_is_due_is_done(site: Site, settings: Settings, wait_for: WaitFor) -> None:
    state = State(site.database)
    for entity, hours in (("project", 1), ("release", 7), ("person", 1)):
        reconciled.keep(state, ReconcileResult(entity, rows=-1), deep=True)
        state.update(reconciled.id_of(entity), {"at": datetime.now(UTC) - timedelta(hours=hours)})

    one = scheduled(settings)
    one.start()
    wait_for(lambda: results(site)["release"].rows == 4 and "visit" in results(site))
    one.stop()

    assert results(site)["project"].rows == results(site)["person"].rows == -1


def test_it_is_done_again_and_again(
    site: Site, settings: Settings, tmp_path: Path, wait_for: WaitFor
) -> None:
    text = settings.sync.read_text()
    settings.sync.write_text(text.replace("6h, repair: true", "0.2s"))
    one = scheduled(settings)
    one.start()
    wait_for(lambda: results(site).get("project") and not results(site)["project"].equal)
    site.mirror_all()
    wait_for(lambda: results(site)["project"].equal)
    one.stop()


def test_of_several_workers_one_does_it(site: Site, settings: Settings, wait_for: WaitFor) -> None:
    state, other = State(site.database), Owner.me()
    assert state.take(LEASE, other, 60)
    one = scheduled(settings)
    plan = Mirror.of(settings).file.reconcile
    assert plan

    assert one._turn(site.database, plan) == 60.0
    assert results(site) == {}

    state.release(LEASE, other, {})
    one._turn(site.database, plan)
    assert len(results(site)) == 4


def test_who_lost_the_lease_stops(site: Site, settings: Settings) -> None:
    one = scheduled(settings)
    state = State(site.database)
    assert state.take(LEASE, Owner.me(), 60)

    with pytest.raises(BridgeError, match="another worker"):
        one._beat(state)


def test_without_a_sql_database_the_worker_says_what_is_missing(
    site: Site, settings: Settings
) -> None:
    bare = Settings(
        settings.routes,
        settings.broker_url,
        settings.mongodb_url,
        settings.state_dir,
        sync=settings.sync,
    )
    with pytest.raises(BridgeError, match="BRIDGE_SQL_URL"):
        scheduled(bare).start()


def test_without_a_plan_nothing_is_done(site: Site, settings: Settings) -> None:
    settings.sync.write_text(settings.sync.read_text().replace("reconcile: {", "#"))
    one = scheduled(settings)
    one.start()
    one.stop()
    assert results(site) == {}


def test_a_table_that_is_missing_is_logged_stops_no_other_and_is_tried_again(
    site: Site,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_for: WaitFor,
) -> None:
    monkeypatch.setattr("bridge.sync.reconcile.schedule.LOOK_SECONDS", 0.1)
    site.sql("ALTER TABLE people RENAME TO elsewhere")
    with structlog.testing.capture_logs() as logs:
        one = scheduled(settings)
        one.start()
        failed = wait_for(lambda: [one for one in logs if one["event"] == "reconcile.failed"])
        wait_for(lambda: results(site).keys() == {"project", "release", "visit"})
        site.sql("ALTER TABLE elsewhere RENAME TO people")
        wait_for(lambda: len(results(site)) == 4)
        one.stop()
    assert "people" in failed[0]["cause"]


def test_the_results_are_metrics() -> None:
    last = reconciled.LastResult(
        "project", 60.5, 2.5, 1000, {"missing": 2, "ahead": 1}, False, True, {}
    )

    text = reconciled.metrics([last]).decode()

    assert 'bridge_reconcile_age_seconds{entity="project"} 60.5' in text
    assert 'bridge_reconcile_differences{entity="project"} 3.0' in text
    assert 'bridge_reconcile_rows{entity="project"} 1000.0' in text
    assert 'by_kind{entity="project",kind="ahead"} 1.0' in text
    assert reconciled.metrics([]) == b""


def test_only_some_of_many_differences_are_kept(site: Site) -> None:
    many = [Difference(str(n), "missing") for n in range(1000)]
    state = State(site.database)

    reconciled.keep(state, ReconcileResult("project", differences=many), deep=False)

    kept = state.get("reconcile:project")
    assert kept
    assert len(kept["listed"]) == reconciled.MOST_KEPT
    assert results(site)["project"].total == 1000
