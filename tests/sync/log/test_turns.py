"""One process reads the log at a time, and whoever waits reads on when it is gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from bridge.sync.log import capture, healing
from bridge.sync.log.capture import run_capture
from bridge.sync.log.kept import LOG, Dirty, KeptLog
from bridge.sync.state import Owner
from stack.waiting import wait_for
from tests.sync.log.site import LogSite
from tests.sync.reconcile.site import in_background

LATER = {"id": "another", "host": "elsewhere", "pid": 1}


class Told:
    """What a process says, in order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.logger = structlog.wrap_logger(None, processors=[self._note])

    def _note(self, _logger: Any, _method: str, event: dict[str, Any]) -> Any:
        self.events.append(event["event"])
        raise structlog.DropEvent


@pytest.fixture
def site(log_site: LogSite, monkeypatch: pytest.MonkeyPatch) -> LogSite:
    """A loaded site whose processes are quick to look who reads."""
    monkeypatch.setattr(capture, "LEASE", 1.0)
    monkeypatch.setattr(capture, "BEAT", 0.1)
    monkeypatch.setattr(healing, "EVERY", 0.02)
    log_site.projects("vim")
    log_site.load()
    return log_site


@contextmanager
def reading(site: LogSite) -> Iterator[Told]:
    told = Told()

    def run(stop: threading.Event) -> None:
        run_capture(site.settings, stop=stop, log=told.logger)

    with in_background(run):
        yield told


def give(site: LogSite, owner: dict[str, Any] | None, ahead: float = 0.0) -> None:
    """Let another process read the log, with a sign of life of so many seconds ahead."""
    beat = datetime.now(UTC) + timedelta(seconds=ahead)
    site.database.bridge_state.update_one({"_id": LOG}, {"$set": {"owner": owner, "beat": beat}})


def until(told: Told, event: str, count: int = 1) -> None:
    wait_for(lambda: told.events.count(event) >= count, bound=20, what=event)


def test_who_lost_its_turn_reads_on_when_the_other_one_is_gone(site: LogSite) -> None:
    with reading(site) as told:
        until(told, "capture.follows")
        give(site, LATER, ahead=3600)
        until(told, "capture.waiting")
        give(site, None)
        site.sql("UPDATE projects SET title = 'after'")
        site.caught_up()

    assert site.documents() == {"vim": "after"}


def test_who_lost_its_turn_does_not_read_beside_the_other_one(site: LogSite) -> None:
    with reading(site) as told:
        until(told, "capture.follows")
        give(site, LATER, ahead=3600)
        until(told, "capture.given_up")
        site.sql("UPDATE projects SET title = 'after'")
        until(told, "capture.waiting")
        assert site.documents() == {"vim": "Vim"}


def test_who_waits_leaves_the_marks_to_the_one_who_reads(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    take: Callable[..., bool] = KeptLog.take

    def counted(self: KeptLog, owner: Owner, seconds: float) -> bool:
        asked.set()
        return take(self, owner, seconds)

    monkeypatch.setattr(KeptLog, "take", counted)
    mark = Dirty("0-7-1", 1, "a test")
    site.database.projects.update_one({"_id": "vim"}, {"$set": {"title": "damaged"}})
    give(site, LATER, ahead=3600)
    site.database.bridge_state.update_one({"_id": LOG}, {"$set": {"dirty.project": asdict(mark)}})
    with reading(site) as told:
        for _ in range(3):
            asked.clear()
            assert asked.wait(20)
        give(site, None)
        until(told, "capture.healed")

    assert told.events.index("capture.follows") < told.events.index("capture.healed")
    assert site.documents() == {"vim": "Vim"}
