"""Loading entities whose changes are read from the database's log, while it is read and not."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from bridge.errors import BridgeError, Stopped
from bridge.sync import apply
from bridge.sync.log.kept import Dirty, Halted
from bridge.sync.log.position import LAST_ROW, position_of_version, version
from bridge.sync.snapshot import load as snapshot
from bridge.sync.snapshot import reader
from bridge.sync.snapshot.load import Progress
from bridge.sync.sql.source import Chunk, SqlSource
from bridge.sync.state import Owner
from stack.waiting import wait_for
from tests.sync.log.site import SYNC, LogSite
from tests.sync.reconcile.site import in_background


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a test."""
    monkeypatch.setattr(snapshot, "SETTLE", 0.02)
    monkeypatch.setattr(snapshot, "POLL", 0.02)


@pytest.fixture
def site(log_site: LogSite) -> LogSite:
    log_site.projects(*(f"p{n:02}" for n in range(10)))
    return log_site


def test_a_first_load_says_from_where_the_log_is_to_be_read(site: LogSite) -> None:
    end = site.end()
    assert end is not None

    result = site.load()

    assert result["project"].rows == result["project"].written == 10
    assert result["release"].rows == 20
    position = site.position()
    assert (position.epoch, position.gtid) == (1, end)
    assert set(site.versions().values()) == {version(1, end.sequence, LAST_ROW)}


def test_the_place_is_kept_before_the_first_row_is_written(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[object] = []
    written = apply.load

    def write(*asked: Any) -> Any:
        places.append(site.kept.read().position)
        return written(*asked)

    monkeypatch.setattr(apply, "load", write)
    site.load("project")

    assert places
    assert None not in places


def test_each_chunk_has_the_version_of_its_own_moment(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = SqlSource.chunk

    def chunk(source: SqlSource, *asked: Any) -> Chunk:
        site.sql("UPDATE projects SET size = size + 1 WHERE name = 'p00'")
        return read(source, *asked)

    monkeypatch.setattr(SqlSource, "chunk", chunk)
    site.load("project")

    versions = list(site.versions().values())
    assert len(set(versions)) == 4
    assert versions == sorted(versions)


def test_what_happens_during_a_load_is_in_mongodb_after_it(site: LogSite) -> None:
    check_load_beside_edits(site, rounds=1)


@pytest.mark.long
def test_many_loads_beside_edits_lose_nothing(site: LogSite) -> None:
    check_load_beside_edits(site, rounds=10)


def check_load_beside_edits(site: LogSite, rounds: int) -> None:
    """Load, and read the log, while rows come, change, go and change their keys."""
    edits = 0

    def edit(stop: threading.Event) -> None:
        nonlocal edits
        chance = random.Random(edits)
        while not stop.is_set():
            edits += 1
            name, other = (f"p{chance.randrange(60):02}" for _ in range(2))
            site.sql(
                chance.choice(
                    [
                        "REPLACE INTO projects VALUES (:name, :title, 1)",
                        "UPDATE projects SET title = :title WHERE name = :name",
                        "UPDATE IGNORE projects SET name = :other WHERE name = :name",
                        "DELETE FROM projects WHERE name = :name",
                    ]
                ),
                **{"name": name, "other": other, "title": f"edit {edits}"},
            )

    site.sql("DROP TABLE releases")
    for number in range(rounds):
        if number == 0:
            # Nobody reads the log yet: what happens meanwhile is read later.
            with in_background(edit):
                site.load("project")
        else:
            with site.capturing(), in_background(edit):
                site.load("project", restart=True)
        with site.capturing():
            pass
        assert site.is_equal()
    assert edits > 10


def test_a_load_that_was_stopped_goes_on_and_misses_nothing(site: LogSite) -> None:
    stop = threading.Event()

    def end(progress: Progress) -> None:
        if progress.checkpoint.rows >= 6:
            stop.set()

    with pytest.raises(Stopped):
        site.load("project", stop=stop, show=end)
    site.sql("DELETE FROM projects WHERE name = 'p01'")
    site.sql("UPDATE projects SET title = 'edited' WHERE name IN ('p02', 'p09')")
    site.projects("p99")

    assert site.load("project")["project"].resumed
    assert site.documents()["p02"] == "P02"  # read before the edit, which the log has
    assert site.documents()["p01"] is None
    with site.capturing():
        pass
    assert site.is_equal()


def test_a_row_that_is_gone_is_buried_with_the_version_of_the_question(site: LogSite) -> None:
    site.load("project")
    before = site.versions()["p03"]
    site.sql("DELETE FROM projects WHERE name = 'p03'")
    end = site.end()
    assert end is not None

    assert site.load("project")["project"].buried == 1

    buried = site.versions()["p03"]
    assert buried == version(1, end.sequence, LAST_ROW) > before
    with site.capturing():
        site.sql("INSERT INTO projects VALUES ('p03', 'again', 1)")
    assert site.is_equal()


def test_rows_marked_as_deleted_are_tombstones(site: LogSite) -> None:
    site.sql("UPDATE releases SET gone = 1 WHERE project = 'p01'")

    site.load("release")

    assert site.documents("releases")["p01/1"] is None
    assert site.documents("releases")["p02/1"] == "f"


class TestOfTwoHistories:
    """The server's log was set back, as after RESET MASTER or a restore."""

    @pytest.fixture
    def site(self, site: LogSite) -> LogSite:
        site.load()
        site.sql("UPDATE projects SET title = 'old' WHERE name = 'p05'")
        with site.capturing():
            pass
        site.server.execute("RESET MASTER")
        site.sql("UPDATE projects SET title = 'new' WHERE name = 'p05'")
        return site

    def test_a_load_begins_an_epoch_that_wins(self, site: LogSite) -> None:
        before = site.versions()["p05"]

        site.load()

        epoch, sequence, _ = position_of_version(site.versions()["p05"])
        assert epoch == 2
        assert sequence < position_of_version(before)[1]
        assert site.documents()["p05"] == "new"
        assert any("epoch 2 begins" in said for said in site.said)
        with site.capturing():
            site.sql("UPDATE projects SET title = 'newer' WHERE name = 'p05'")
        assert site.is_equal()

    def test_every_entity_is_stopped_until_it_is_loaded(self, site: LogSite) -> None:
        site.load("project")

        halted = site.kept.read().halted
        assert set(halted) == {"release"}
        assert halted["release"].do == "bridgectl snapshot release"
        site.load("release")
        assert not site.kept.read().halted

    def test_the_same_history_begins_no_epoch(self, site: LogSite) -> None:
        site.load()
        site.load()

        assert site.position().epoch == 2

    def test_a_load_of_the_first_one_is_not_gone_on_with(self, site: LogSite) -> None:
        site.load()
        stop = threading.Event()
        with pytest.raises(Stopped):
            site.load("project", stop=stop, show=lambda progress: stop.set())
        site.server.execute("RESET MASTER")

        assert not site.load("project")["project"].resumed
        assert {position_of_version(one)[0] for one in site.versions().values()} == {3}


def test_a_log_that_was_thrown_away_begins_an_epoch(site: LogSite) -> None:
    site.load()
    for _ in range(2):
        site.sql("UPDATE projects SET title = 'lost' WHERE name = 'p05'")
        site.server.execute("FLUSH BINARY LOGS")

    def purged() -> bool:
        """Files that a reader is at stay, and that one has gone the server is late to notice."""
        [*_, (last, *_)] = site.server.execute("SHOW BINARY LOGS")
        site.server.execute(f"PURGE BINARY LOGS TO '{last}'")
        return len(site.server.execute("SHOW BINARY LOGS")) == 1

    wait_for(purged, bound=20)
    site.load()

    assert site.position().epoch == 2
    assert site.is_equal()


class TestOfStoppedEntities:
    @pytest.fixture
    def owner(self, site: LogSite) -> Iterator[Owner]:
        site.load()
        owner = Owner.me()
        site.kept.take(owner, 10)
        yield owner
        site.kept.release(owner)

    def stop(self, site: LogSite, owner: Owner, *, later: int) -> int:
        """Stop the entity, and call it dirty, at a place so much later than the end of the log."""
        end = site.end()
        assert end is not None
        at = end.sequence + later
        halted = {"project": Halted(f"0-7-{at}", at, "another table", "bridgectl snapshot project")}
        dirty = {"project": Dirty(f"0-7-{at}", at, "TRUNCATE")}
        assert site.kept.keep(owner, None, dirty, halted)
        return at

    def test_a_load_that_began_later_heals(self, site: LogSite, owner: Owner) -> None:
        site.projects("more")
        self.stop(site, owner, later=0)

        site.load("project")

        kept = site.kept.read()
        assert "project" not in kept.halted
        assert "project" not in kept.dirty

    def test_a_load_that_began_before_does_not(self, site: LogSite, owner: Owner) -> None:
        self.stop(site, owner, later=5)

        site.load("project")

        kept = site.kept.read()
        assert "project" in kept.halted
        assert "project" in kept.dirty
        assert any("load it once more" in said for said in site.said)

    def test_what_is_found_late_of_the_time_before_a_load_is_nothing(
        self, site: LogSite, owner: Owner
    ) -> None:
        site.projects("more")
        site.load("project")
        self.stop(site, owner, later=0)
        assert "project" not in site.kept.read().halted

        self.stop(site, owner, later=1)
        assert "project" in site.kept.read().halted


class TestOfAReaderThatDoesNotKnowTheEntity:
    @pytest.fixture
    def site(self, site: LogSite) -> LogSite:
        site.write_sync(SYNC.partition("  release:")[0])
        site.load("project")
        return site

    def test_the_load_is_refused_while_it_reads(self, site: LogSite) -> None:
        owner = Owner.me()
        site.kept.take(owner, 10)
        site.kept.follow(owner, ["project"])
        site.write_sync(SYNC)

        with pytest.raises(BridgeError, match=r"does not know release.*bridgectl capture"):
            site.load("release")
        assert not site.documents("releases")

    def test_what_it_passed_over_is_noticed_at_the_end(self, site: LogSite) -> None:
        site.write_sync(SYNC)
        owner = Owner.me()

        def read_meanwhile(progress: Progress) -> None:
            site.kept.take(owner, 10)
            site.kept.follow(owner, ["project"])
            site.kept.release(owner)

        with pytest.raises(BridgeError, match=r"release.*--restart"):
            site.load("release", show=read_meanwhile)

    def test_a_reader_that_knows_it_asks_for_a_load(self, site: LogSite) -> None:
        owner = Owner.me()
        site.kept.take(owner, 10)

        assert site.kept.follow(owner, ["project", "release"]) == ["release"]
        assert site.kept.read().halted["release"].do == "bridgectl snapshot release"
        site.write_sync(SYNC)
        site.load("release")
        assert not site.kept.read().halted


def test_a_database_without_a_log_is_told(mariadb_url: str, site: LogSite) -> None:
    site.settings = replace(site.settings, sql_url=mariadb_url)

    with pytest.raises(BridgeError, match="writes no log: start it with log_bin"):
        site.load("project")


def test_where_the_place_is_hard_to_find_chunks_become_larger(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "FIRST", 1)
    sizes: list[int] = []
    read = SqlSource.chunk

    def chunk(source: SqlSource, after: Any, size: int) -> Chunk:
        found = read(source, after, size)
        assert source.reading is not None
        source.reading.seconds = 0.1 if len(sizes) < 2 else 0.0
        sizes.append(size)
        return found

    monkeypatch.setattr(SqlSource, "chunk", chunk)
    site.load("project", chunk=2)

    assert sizes == [1, 4, 4, 2]
