"""An event of an entity that the log owns is not written: it is compared, and what differs for good
is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import redis
import structlog
from structlog.testing import capture_logs

from bridge.queue.broker.publisher import Publisher
from bridge.queue.events import Event
from bridge.queue.sql.values import to_json
from bridge.sync.reconcile import doubtful
from bridge.sync.reconcile.heard import Heard
from bridge.sync.reconcile.sides import Sides
from bridge.sync.relay import run_relay
from bridge.sync.sql.learn import learn
from bridge.sync.worker import Counters, run_worker
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.sync.log.site import LogSite
from tests.sync.reconcile.site import in_background


@pytest.fixture
def site(log_site: LogSite) -> LogSite:
    log_site.projects("p01", "p02")
    log_site.load()
    return log_site


@dataclass
class Hearing:
    """One who hears of a site."""

    site: LogSite
    heard: Heard
    counts: Counters

    def take(self, *events: Event) -> Any:
        return self.heard.take(events)

    def looks(self, times: int = 3) -> None:
        for _ in range(times):
            self.heard.look()

    @property
    def counted(self) -> tuple[int, int]:
        return self.counts.compared, self.counts.differing


@pytest.fixture
def hearing_(site: LogSite) -> Hearing:
    counts, mirror = Counters(), site.mirror
    log = structlog.get_logger()
    heard = Heard(site.settings.sql_url, site.database, mirror, counts, log)
    with site.engine.connect() as connection:
        learn(connection, mirror, "project")
    return Hearing(site, heard, counts)


def event(key: str, title: str | None, version: int = 1) -> Event:
    if title is None:
        return Event("project", "deleted", key, version)
    return Event("project", "changed", key, version, {"name": key, "title": title, "size": 1})


def test_what_mongodb_holds_is_equal_whatever_its_version(hearing_: Hearing) -> None:
    before = hearing_.site.versions()

    assert hearing_.take(event("p01", "P01", 2**62), event("p09", None)) == ([], [])
    hearing_.looks()

    assert hearing_.counted == (2, 0)
    assert hearing_.site.versions() == before


def test_long_documents_are_compared_as_short_ones(hearing_: Hearing) -> None:
    """The driver hands them out in another form."""
    site, title = hearing_.site, "x" * 5_000
    site.sql(
        "ALTER TABLE projects MODIFY title LONGTEXT", "UPDATE projects SET title = :t", t=title
    )
    site.load(rewrite=True)
    with site.engine.connect() as connection:
        learn(connection, site.mirror, "project")

    hearing_.take(event("p01", title), event("p02", "late"))
    hearing_.looks()

    assert hearing_.counted == (2, 0)


def test_others_are_left_to_be_written(hearing_: Hearing) -> None:
    other = Event("note", "changed", "1", 1, {})

    assert hearing_.take(other, event("p01", "P01")) == ([other], [])


def test_an_event_before_the_log_is_no_difference(hearing_: Hearing) -> None:
    site = hearing_.site
    site.sql("UPDATE projects SET title = 'new' WHERE name = 'p01'")
    hearing_.take(event("p01", "new"))
    hearing_.looks()  # nobody reads the log yet
    assert hearing_.counted == (1, 0)

    with site.capturing():
        pass
    hearing_.looks()
    assert hearing_.counted == (1, 0)


def test_an_event_that_is_late_is_no_difference(hearing_: Hearing) -> None:
    hearing_.take(event("p01", "an older title"))
    hearing_.looks()

    assert hearing_.counted == (1, 0)


def test_what_the_log_was_not_told_is_told_once(hearing_: Hearing) -> None:
    hearing_.site.unlogged("UPDATE projects SET title = 'silent' WHERE name = 'p01'")

    with capture_logs() as lines:
        hearing_.take(event("p01", "silent"), event("p01", "silent", 2))
        hearing_.looks(5)

    assert hearing_.counted == (2, 1)
    [line] = [one for one in lines if one["event"] == "log.differs"]
    assert (line["entity"], line["key"], line["kind"]) == ("project", "p01", "different")
    assert hearing_.site.documents()["p01"] == "P01"


def test_what_changes_while_it_is_looked_at_is_looked_at_again(
    hearing_: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, late = hearing_.site, ["silent"]

    class Late(Sides):
        """A change comes right after what was seen."""

        def look(self, *words: Any) -> Any:
            found = super().look(*words)
            for title in late:
                late.clear()
                site.unlogged(f"UPDATE projects SET title = '{title}' WHERE name = 'p01'")
                hearing_.take(event("p01", title))
            return found

    monkeypatch.setattr(doubtful, "Sides", Late)
    hearing_.take(event("p01", "an older title"))
    hearing_.looks()

    assert hearing_.counted == (2, 1)


def test_too_many_doubts_are_counted(hearing_: Hearing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubtful, "MOST", 1)

    hearing_.take(event("p01", "other"), event("p02", "other"))

    assert hearing_.counts.unchecked == 1


def test_a_worker_compares_and_does_not_write(
    site: LogSite,
    redis_url: str,
    clean_redis: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doubtful, "EVERY", 0.05)
    site.unlogged("UPDATE projects SET title = 'silent' WHERE name = 'p01'")
    settings = replace(site.settings, broker_url=redis_url)
    counters = Counters()

    def run(stop: Any) -> None:
        run_worker(settings, stop=stop, log=structlog.get_logger(), counters=counters)

    with in_background(run), Publisher(redis_url) as publisher:
        publisher.publish(event("p01", "silent", 2**62))
        wait_for(lambda: counters.differing == 1)
    assert (counters.compared, counters.applied) == (1, 0)
    assert site.documents()["p01"] == "P01"


def test_a_relay_keeps_no_row_of_an_outbox_for_what_is_only_compared(
    site: LogSite, redis_url: str, clean_redis: redis.Redis
) -> None:
    """Also of a key that no document will ever have."""
    site.sql((REPOSITORY / "php/sql/outbox.mysql.sql").read_text(encoding="utf-8"))
    for key in ("p01", "never"):
        site.sql(
            "INSERT INTO bridge_outbox (aggregatetype, aggregateid, type, payload, ver, created_at)"
            " VALUES ('project', :k, 'project.changed', :p, 1, 0)",
            k=key,
            p=to_json({"name": key, "title": key.upper(), "size": 1}),
        )
    settings, counters = replace(site.settings, broker_url=redis_url), Counters()

    def relay(stop: Any) -> None:
        run_relay(settings, stop=stop, log=structlog.get_logger())

    def work(stop: Any) -> None:
        run_worker(settings, stop=stop, log=structlog.get_logger(), counters=counters)

    with in_background(relay), in_background(work):
        wait_for(lambda: counters.compared == 2)
        wait_for(lambda: not site.server.execute(f"SELECT 1 FROM {site.name}.bridge_outbox"))
    assert counters.compared == 2
