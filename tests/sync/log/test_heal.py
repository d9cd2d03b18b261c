"""What the log does not tell is read from SQL, and MongoDB brought to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from bridge.errors import Stopped
from bridge.queue.consumer.dead_letters import DeadLetter
from bridge.sync import guard
from bridge.sync.log import heal as healing
from bridge.sync.log.heal import Healed, Which, heal
from bridge.sync.log.position import LAST_ROW, version
from stack.waiting import wait_for
from tests.sync.log.site import SYNC, LogSite


@pytest.fixture
def site(log_site: LogSite) -> LogSite:
    """Both sides are equal."""
    log_site.projects(*(f"p{n:02}" for n in range(8)))
    log_site.load()
    return log_site


def healed(site: LogSite, letters: list[DeadLetter] | None = None, **marks: Which) -> Healed:
    """What is done for one entity, after MongoDB has come to the end of the log."""
    with site.capturing():
        pass
    return heal_now(site, letters, **marks)


def heal_now(site: LogSite, letters: list[DeadLetter] | None = None, **marks: Which) -> Healed:
    def bury(some: Sequence[DeadLetter]) -> None:
        assert letters is not None, some
        letters.extend(some)

    position = site.position()
    [found] = heal(site.engine, site.database, site.mirror, position, marks, bury=bury).values()
    return found


def test_what_a_foreign_key_deletes_is_buried(site: LogSite) -> None:
    site.sql("DELETE FROM projects WHERE name IN ('p01', 'p02')")

    done = heal_now(site, release={"project": ["p01", "p02"]})

    assert (done.gone, done.changed) == (4, 0)
    assert site.reconcile("release", deep=True).equal
    end = site.end()
    assert end is not None
    assert site.versions("releases")["p01/1"] == version(1, end.sequence, LAST_ROW)


def test_rows_that_only_sql_has_under_the_value_are_written(site: LogSite) -> None:
    site.unlogged(
        "INSERT INTO releases (project, version, file) VALUES ('p01', 7, 'new'), ('p02', 7, 'not')",
        "UPDATE releases SET file = 'changed' WHERE project = 'p01' AND version = 2",
        "UPDATE releases SET gone = 1 WHERE project = 'p01' AND version = 1",
    )

    done = healed(site, release={"project": ["p01"]})

    assert (done.looked, done.changed, done.gone) == (5, 3, 0)
    found = site.documents("releases")
    assert (found["p01/7"], found["p01/2"], found["p01/1"]) == ("new", "changed", None)
    assert "p02/7" not in found


def test_long_documents_are_healed_as_short_ones(site: LogSite) -> None:
    """The driver hands them out in another form."""
    site.sql(
        "ALTER TABLE projects MODIFY title LONGTEXT",
        "UPDATE projects SET title = REPEAT('x', 5000)",
    )
    site.load("project", rewrite=True)
    site.unlogged("UPDATE projects SET title = CONCAT(title, '!') WHERE name = 'p02'")

    done = healed(site, project=["p02", "p03"])

    assert (done.looked, done.changed) == (2, 1)
    assert len(site.documents()["p02"]) == 5001


def test_only_these_keys_are_touched(site: LogSite) -> None:
    site.unlogged("UPDATE projects SET title = 'silent'")

    done = healed(site, project=["p03", "p04", "p03", "nobody"])

    assert (done.looked, done.changed) == (3, 2)
    assert [key for key, title in site.documents().items() if title == "silent"] == ["p03", "p04"]


def test_all_of_an_entity_is_brought_to_what_sql_has(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "FIRST_ROWS", 2)
    monkeypatch.setattr(healing, "MOST_ROWS", 3)
    site.unlogged(
        "DELETE FROM releases WHERE project < 'p03'",
        "DELETE FROM projects WHERE name < 'p03'",
        "UPDATE projects SET size = 9 WHERE name = 'p05'",
        "INSERT INTO projects VALUES ('p90', 'silent', 1)",
    )

    done = healed(site, project=None)

    assert (done.changed, done.gone) == (2, 3)
    assert site.is_equal()
    assert site.reconcile(deep=True).equal
    again = heal_now(site, project=None)
    assert (again.changed, again.gone) == (0, 0)


def test_a_table_that_was_emptied_is_emptied(site: LogSite) -> None:
    site.sql("TRUNCATE TABLE releases")

    assert heal_now(site, release=None).gone == 16
    assert set(site.documents("releases").values()) == {None}


@pytest.mark.parametrize("sync", ["    drop: [project]\n", "    fields: {project: {as: of}}\n"])
def test_a_field_that_documents_do_not_have_so_is_healed_all_the_same(
    site: LogSite, sync: str
) -> None:
    site.write_sync(SYNC + sync)
    site.load("release", rewrite=True)
    site.unlogged(
        "DELETE FROM releases WHERE project = 'p01' AND version = 1",
        "UPDATE releases SET file = 'changed' WHERE project = 'p01' AND version = 2",
    )

    done = healed(site, release={"project": ["p01"]})

    assert (done.changed, done.gone) == (1, 1)


def test_a_change_after_it_wins_and_one_before_it_loses(site: LogSite) -> None:
    with site.capturing():
        pass
    position = site.position()
    site.sql("UPDATE projects SET title = 'before' WHERE name = 'p01'")
    site.unlogged("UPDATE projects SET title = 'silent' WHERE name = 'p01'")

    def bury(letters: Sequence[DeadLetter]) -> None:
        raise AssertionError(letters)

    heal(site.engine, site.database, site.mirror, position, {"project": ["p01"]}, bury=bury)
    assert site.documents()["p01"] == "silent"
    with site.capturing():
        pass
    assert site.documents()["p01"] == "silent"
    with site.capturing():
        site.sql("UPDATE projects SET title = 'after' WHERE name = 'p01'")
    assert site.documents()["p01"] == "after"


def test_a_row_that_no_document_can_be_made_of_becomes_a_dead_letter(site: LogSite) -> None:
    schema = "    schema: {type: object, properties: {title: {maxLength: 5}}}\n"
    site.write_sync(SYNC.replace("  release:", schema + "  release:"))
    site.unlogged("UPDATE projects SET title = 'longer than that' WHERE name = 'p01'")
    letters: list[DeadLetter] = []

    done = heal_now(site, letters, project=["p01"])

    assert (done.dead, [one.key for one in letters]) == (1, ["p01"])


def test_large_rows_are_read_few_at_a_time(site: LogSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "MOST_BYTES", 200)
    site.unlogged("UPDATE projects SET title = REPEAT('x', 150)")
    sizes: list[int] = []
    made = guard.make_ready

    def make_ready(mirror: Any, events: Sequence[Any]) -> Any:
        sizes.append(len(events))
        return made(mirror, events)

    monkeypatch.setattr("bridge.sync.log.heal.make_ready", make_ready)
    monkeypatch.setattr(healing, "FIRST_ROWS", 4)
    assert heal_now(site, project=None).changed == 8
    assert sizes[:4] == [4, 2, 1, 1]


def test_it_stops_when_told_to(site: LogSite) -> None:
    stop = threading.Event()
    stop.set()

    with pytest.raises(Stopped):
        heal(
            site.engine,
            site.database,
            site.mirror,
            site.position(),
            {"project": None},
            bury=print,
            stop=stop,
        )


def test_a_table_that_does_not_fit_keeps_no_other_one_waiting(site: LogSite) -> None:
    def is_dirty() -> set[str]:
        return set(site.kept.read().dirty)

    with site.capturing():
        site.caught_up()
        site.unlogged("UPDATE releases SET file = 'new' WHERE project = 'p01' AND version = 1")
        site.sql("ALTER TABLE projects CHANGE name slug VARCHAR(100) NOT NULL")
        wait_for(lambda: is_dirty() == {"project"}, bound=30, what="the other one is healed")

    assert site.documents("releases")["p01/1"] == "new"
