"""The versions of an entity get another owner, whose versions win over all that there are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import cli
from bridge.errors import BridgeError
from bridge.queue.sql.outbox import Outbox
from bridge.sync.log.position import position_of_version, version
from bridge.sync.owners import To, Transfer, transfer
from bridge.sync.sql.source import SqlSource
from bridge.sync.state import Owner
from bridge.sync.triggers.commands import Triggers
from tests.sync.log.site import SYNC, LogSite

TRIGGERS = SYNC.replace(", log: true}", "}", 1)
COLUMN = SYNC.replace(", log: true}", ", version: size}", 1)


@pytest.fixture
def site(log_site: LogSite) -> LogSite:
    log_site.projects("p01", "p02", "p03")
    return log_site


def give(site: LogSite, to: To, *, dry: bool = False) -> Transfer:
    url = site.settings.sql_url
    return transfer(site.engine, url, site.database, site.mirror, "project", to, dry=dry)


def make_triggers(site: LogSite) -> None:
    outbox = Outbox(site.engine)
    Triggers(site.engine, site.mirror, outbox).apply(["project"])


def test_sync_yaml_is_to_be_written_first(site: LogSite) -> None:
    found = give(site, "triggers")

    assert not found.is_done
    assert "leave both `log:` and `version:` out" in found.write
    assert "sync owner project --to triggers" in found.then


class TestToTheLog:
    def test_versions_of_triggers_and_columns_are_below(self, site: LogSite) -> None:
        site.database.projects.insert_one({"_id": "p01", "_v": 1_800_000_000_000_000})

        found = give(site, "log")

        assert found.is_done
        assert not found.did
        site.load()
        assert site.is_equal()

    @pytest.mark.parametrize("loaded", [True, False])
    def test_where_they_are_not_an_epoch_begins(self, site: LogSite, loaded: bool) -> None:
        if loaded:
            site.load()
        highest = version(4, 7, 0)
        site.database.projects.update_one(
            {"_id": "p01"}, {"$set": {"_v": highest, "title": "other"}}, upsert=True
        )
        assert give(site, "log", dry=True).did == "epoch 5 would begin"

        found = give(site, "log")

        assert found.is_done
        assert site.position().epoch == 5
        site.load()
        assert site.versions()["p01"] > highest
        assert site.is_equal()

    def test_the_reader_goes_on_with_the_new_epoch(self, site: LogSite) -> None:
        site.load()
        with site.capturing():
            site.sql("UPDATE projects SET size = 2 WHERE name = 'p01'")
            site.database.projects.insert_one({"_id": "p99", "_v": version(2, 0, 0)})
            give(site, "log")
            site.sql("UPDATE projects SET title = 'new' WHERE name = 'p02'")

        assert position_of_version(site.versions()["p02"])[0] == 3
        assert site.position().epoch == 3

    def test_a_version_that_nothing_is_above_is_told(self, site: LogSite) -> None:
        site.database.projects.insert_one({"_id": "p01", "_v": 2**63 - 1})

        with pytest.raises(BridgeError, match=r"9223372036854775807.*delete the documents"):
            give(site, "log")


class TestToTriggers:
    @pytest.fixture
    def site(self, site: LogSite) -> LogSite:
        site.load()
        site.write_sync(TRIGGERS)
        return site

    def test_their_versions_are_raised_above_the_logs(self, site: LogSite) -> None:
        assert "sync triggers project --apply" in give(site, "triggers").then
        make_triggers(site)
        assert "would be" in give(site, "triggers", dry=True).did
        assert all(one.version < 2**57 for one in self.events(site))

        found = give(site, "triggers")

        assert found.is_done
        assert found.gives is not None
        highest = max(site.versions().values())
        assert all(one.version > highest for one in self.events(site))
        assert give(site, "triggers").gives == found.gives
        assert "project" not in site.kept.read().follows

    def test_a_row_that_was_deleted_and_comes_again_wins(self, site: LogSite) -> None:
        site.sql("DELETE FROM releases", "DELETE FROM projects WHERE name = 'p01'")
        site.write_sync(SYNC)
        site.load("project")
        site.write_sync(TRIGGERS)
        make_triggers(site)
        give(site, "triggers")
        site.sql("INSERT INTO projects VALUES ('p01', 'again', 1)")

        site.load("project")

        assert site.documents()["p01"] == "again"

    def test_and_back_to_the_log_nothing_is_lost(self, site: LogSite) -> None:
        make_triggers(site)
        give(site, "triggers")
        site.load("project")
        site.write_sync(SYNC)

        assert give(site, "log").is_done
        site.sql("UPDATE projects SET title = 'by the log' WHERE name = 'p01'")
        site.load("project")
        assert site.is_equal()
        assert site.documents()["p01"] == "by the log"

    def test_the_log_may_go_on_as_a_witness(self, site: LogSite) -> None:
        site.write_sync(SYNC.replace("log: true", "log: compare", 1))
        make_triggers(site)

        assert give(site, "triggers").is_done
        assert "log: compare" in give(site, "log").then + give(site, "column").write

    def test_while_the_log_is_read_for_it_nothing_is_done(self, site: LogSite) -> None:
        make_triggers(site)
        owner = Owner.me()
        site.kept.take(owner, 10)
        site.kept.follow(owner, ["project", "release"])

        with pytest.raises(BridgeError, match=r"still writes project.*bridgectl capture"):
            give(site, "triggers")
        site.kept.follow(owner, ["release"])
        assert give(site, "triggers").is_done

    @staticmethod
    def events(site: LogSite) -> list[Any]:
        return SqlSource(site.engine, "project", site.mirror).chunk(None, 100).events


class TestToAColumn:
    @pytest.fixture
    def site(self, site: LogSite) -> LogSite:
        site.load()
        site.write_sync(COLUMN)
        return site

    def test_the_sql_that_raises_it_is_given_and_looked_after(self, site: LogSite) -> None:
        found = give(site, "column")
        assert not found.is_done
        assert [one.split()[0] for one in found.statements] == ["ALTER", "UPDATE", "ALTER"]

        site.sql(*found.statements)

        done = give(site, "column")
        assert done.is_done
        assert done.gives == found.highest + 1
        site.sql("INSERT INTO projects (name, title) VALUES ('p09', 'new')")
        site.load("project")
        assert site.is_equal()
        assert min(site.versions().values()) > found.highest

    def test_rows_without_a_version_count_as_none(self, site: LogSite) -> None:
        site.sql("UPDATE projects SET size = NULL WHERE name = 'p02'")
        site.sql(*give(site, "column").statements)

        assert give(site, "column").is_done


def test_the_command_says_what_is_left_to_do(
    site: LogSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "BRIDGE_SYNC": str(site.settings.sync),
        "BRIDGE_SQL_URL": site.settings.sql_url,
        "BRIDGE_MONGODB_URL": site.settings.mongodb_url,
    }.items():
        monkeypatch.setenv(name, value)
    run = CliRunner().invoke

    left = run(cli, ["sync", "owner", "project", "--to", "column"])
    assert left.exit_code == 1
    assert "in sync.yaml: under `entities: project: source:` leave `log:` out" in left.output
    done = run(cli, ["sync", "owner", "project", "--to", "log", "-o", "json"])
    assert done.exit_code == 0
    assert json.loads(done.output)["done"] is True
