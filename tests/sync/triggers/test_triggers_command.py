"""`bridgectl sync triggers`: printing, making, looking, dropping, raising."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli import cli
from bridge.errors import BridgeError
from bridge.queue.events import ENTITY
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.sql.source import SqlSource
from bridge.sync.triggers import commands, mysql
from bridge.sync.triggers.noted import name_of
from stack.mariadb import MariaDB
from stack.process import find_program
from tests.sync.triggers.trigger_site import DIALECTS, Mongo, Site, url_for

SYNC = """\
version: 1
entities:
  thing: {collection: things, source: {table: things, key: id}}
  counted: {collection: counted, source: {table: counted, key: id, version: ver}}
"""
TABLES = [
    "CREATE TABLE things (id INT NOT NULL PRIMARY KEY, n INT)",
    "CREATE TABLE counted (id INT NOT NULL PRIMARY KEY, ver BIGINT)",
    "INSERT INTO things VALUES (1, 1), (2, 2)",
]


@pytest.fixture(params=DIALECTS)
def site(request: pytest.FixtureRequest, clean_mongodb: Mongo, tmp_path: Path) -> Iterator[Site]:
    made = Site(url_for(request, request.param), clean_mongodb, tmp_path, SYNC)
    made.run(*TABLES)
    yield made
    made.engine.dispose()


def state(site: Site, name: str = "thing") -> str:
    [found] = site.triggers.check([name])
    return found.state


def base(site: Site) -> int:
    """The version of a row that nobody touched."""
    [first, *_] = SqlSource(site.engine, "thing", site.mirror).chunk(None, 10).events
    return first.version


class TestStates:
    def test_what_is_missing_is_made_once_and_is_there_then(self, site: Site) -> None:
        assert state(site) == "missing"
        [made] = site.triggers.apply([])
        assert (made.entity, made.state) == ("thing", "there")
        assert "bridgectl snapshot thing" in made.did
        assert state(site) == "there"
        [again] = site.triggers.apply([])
        assert (again.state, again.did) == ("there", "")

    def test_an_entity_with_a_version_is_told_why_it_needs_none(self, site: Site) -> None:
        [found] = site.triggers.apply(["counted"])

        assert (found.state, found.good) == ("not needed", True)
        assert "remove `version:`" in found.do
        assert [one.entity for one in site.triggers.check([])] == ["thing"]

    def test_what_was_changed_by_somebody_is_outdated_and_made_anew(self, site: Site) -> None:
        site.triggers.apply([])
        before = base(site)
        name = "bridge_thing_d"
        if site.dialect == "postgresql":
            site.run(
                "CREATE OR REPLACE FUNCTION bridge_thing_touch() RETURNS trigger "
                "LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            )
        else:
            body = "UPDATE things SET n = 0 WHERE id = -1"
            site.run(
                f"DROP TRIGGER {name}",
                f"CREATE TRIGGER {name} AFTER DELETE ON things FOR EACH ROW "
                + (body if site.dialect == "mysql" else f"BEGIN {body}; END"),
            )
        assert state(site) == "outdated"
        site.triggers.apply([])
        assert state(site) == "there"
        assert base(site) == before

    def test_where_one_was_missing_every_row_has_a_new_version(self, site: Site) -> None:
        """Nobody knows what changed meanwhile."""
        site.triggers.apply([])
        site.load()
        before = base(site)
        on = " ON things" if site.dialect == "postgresql" else ""
        site.run(f"DROP TRIGGER {name_of('thing', 'n' if on else 'u')}{on}")
        site.run("UPDATE things SET n = 50")
        assert state(site) == "missing"

        [made] = site.triggers.apply([])

        assert "every row has a new version now" in made.did
        assert base(site) > before
        site.load()
        site.assert_equal()

    def test_after_a_restore_every_row_is_above_what_mongodb_holds(self, site: Site) -> None:
        site.triggers.apply([])
        site.run("UPDATE things SET n = 7 WHERE id = 1")
        site.pump()
        site.load()
        site.run("UPDATE things SET n = 0")  # what the backup had; no trigger told of it
        site.run("DELETE FROM bridge_outbox")
        held = max(one["_v"] for one in site.database["things"].find())

        [raised] = site.triggers.raise_versions([])

        assert raised.state == "raised"
        assert (raised_to := base(site)) > held
        site.load()
        site.assert_equal()
        site.run("UPDATE things SET n = 1 WHERE id = 1")
        [event] = site.pump()
        assert event.version > raised_to
        site.assert_equal()

    def test_what_is_dropped_is_gone_and_its_rows_are_not_read_any_more(self, site: Site) -> None:
        site.triggers.apply([])
        [dropped] = site.triggers.drop(["thing"])

        assert dropped.state == "dropped"
        assert state(site) == "missing"
        site.run("UPDATE things SET n = 3")
        assert site.notes() == []
        with pytest.raises(BridgeError, match="--apply"):
            SqlSource(site.engine, "thing", site.mirror).chunk(None, 10)

    def test_triggers_of_what_is_no_entity_any_more_are_dropped_by_name(self, site: Site) -> None:
        site.triggers.apply([])
        site.path.write_text("version: 1\n")
        bare = commands.Triggers(site.engine, Mirror(load(site.path)), site.outbox)
        [dropped] = bare.drop(["thing"])

        assert dropped.did != "there were none"
        site.run("UPDATE things SET n = 3")
        assert site.notes() == []

    def test_versions_cannot_be_raised_where_triggers_are_missing(self, site: Site) -> None:
        with pytest.raises(BridgeError, match="first run `bridgectl sync triggers thing --apply`"):
            site.triggers.raise_versions([])

    def test_the_version_of_a_key_never_goes_back_when_triggers_are_made_anew(
        self, site: Site
    ) -> None:
        site.triggers.apply([])
        site.run("UPDATE things SET n = 7 WHERE id = 1")
        [event] = site.pump()
        site.triggers.drop([])
        site.triggers.apply([])

        assert base(site) > event.version


class TestScript:
    def test_what_is_printed_makes_what_is_looked_for(self, site: Site, tmp_path: Path) -> None:
        run_script(site, site.triggers.script([]))

        assert state(site) == "there"
        site.run("UPDATE things SET n = 3 WHERE id = 1")
        assert site.notes() == [("thing", "1")]

    def test_what_is_printed_may_be_run_again_and_changes_no_version(self, site: Site) -> None:
        site.triggers.apply([])
        before = base(site)
        script = site.triggers.script([])
        assert "CREATE TABLE bridge_outbox" not in script
        run_script(site, script)

        assert state(site) == "there"
        assert base(site) == before


def run_script(site: Site, script: str) -> None:
    """As the client program of the database does."""
    if site.dialect == "sqlite":
        connection = sqlite3.connect(site.engine.url.database or "")
        connection.executescript(script)
        connection.close()
    elif site.dialect == "mysql":
        for statement in mysql_statements(script):
            site.run(statement)
    else:
        psql(site, script)


def mysql_statements(script: str) -> list[str]:
    """As the client `mysql` splits them."""
    found, delimiter, rest = [], ";", ""
    for line in script.splitlines():
        if line.startswith("DELIMITER "):
            delimiter = line.removeprefix("DELIMITER ")
            continue
        rest += f"{line}\n"
        if rest.rstrip().endswith(delimiter):
            found.append(rest.strip().removesuffix(delimiter))
            rest = ""
    assert not rest.strip()
    return found


def psql(site: Site, script: str) -> None:
    url = site.engine.url
    program = find_program("psql", "apt-get install postgresql-client")
    words = [program, "-qX", "-v", "ON_ERROR_STOP=1", "-h", url.host, "-p", str(url.port)]
    words += ["-U", url.username, url.database]
    subprocess.run([str(word) for word in words], input=script, text=True, check=True, timeout=30)


class TestNames:
    @given(
        st.from_regex(ENTITY, fullmatch=True),
        st.from_regex(ENTITY, fullmatch=True),
        st.sampled_from(["i", "u", "d", "ri", "ru", "n", "t", "touch"]),
    )
    def test_names_fit_every_database_and_are_one_of_a_kind(
        self, one: str, other: str, what: str
    ) -> None:
        assert len(name_of(one, what)) <= 63
        assert re.fullmatch(r"bridge_[a-z0-9_]+", name_of(one, what))
        assert (name_of(one, what) == name_of(other, what)) == (one == other)

    def test_two_long_names_with_the_same_beginning_have_two_triggers(self) -> None:
        assert name_of("e" * 63 + "1", "i") != name_of("e" * 63 + "2", "i")

    def test_a_delimiter_is_not_in_what_it_ends(self) -> None:
        body = "CREATE TRIGGER `a//b` BEGIN SELECT '$$'; END"
        assert mysql_statements(mysql.script([body])) == [body]


class TestChildren:
    SYNC = """\
version: 1
entities:
  project:
    collection: projects
    source: {table: projects, key: name}
    children: {releases: {entity: release, key: number}}
  release: {collection: releases, source: {table: releases, key: [project, number]}}
"""

    @pytest.fixture(params=DIALECTS)
    def family(
        self, request: pytest.FixtureRequest, clean_mongodb: Mongo, tmp_path: Path
    ) -> Iterator[Site]:
        made = Site(url_for(request, request.param), clean_mongodb, tmp_path, self.SYNC)
        made.begin(
            "CREATE TABLE projects (name VARCHAR(50) NOT NULL PRIMARY KEY, n INT)",
            "CREATE TABLE releases (project VARCHAR(50) NOT NULL, number INT NOT NULL, n INT, "
            "PRIMARY KEY (project, number))",
            "INSERT INTO projects VALUES ('vim', 1), ('ed', 1)",
            "INSERT INTO releases VALUES ('vim', 1, 1), ('vim', 2, 1)",
        )
        yield made
        made.engine.dispose()

    def test_a_change_of_a_child_is_noted_as_one_of_its_parent(self, family: Site) -> None:
        family.run("INSERT INTO releases VALUES ('vim', 3, 1)", "DELETE FROM releases WHERE n = 7")

        assert family.notes() == [("project", "vim")]
        family.pump()
        family.assert_equal()

    def test_a_child_that_moves_is_noted_at_both_parents(self, family: Site) -> None:
        family.run("UPDATE releases SET project = 'ed' WHERE number = 2")

        assert sorted(family.notes()) == [("project", "ed"), ("project", "vim")]
        family.pump()
        family.assert_equal()

    def test_those_of_the_children_are_made_with_those_of_the_parent(self, family: Site) -> None:
        assert [one.entity for one in family.triggers.check(["project"])] == ["project", "release"]

    @pytest.mark.parametrize("family", ["mariadb"], indirect=True)
    def test_a_parent_that_its_child_spells_otherwise_is_found(self, family: Site) -> None:
        """The database takes VIM for vim, and so does the site."""
        family.run("INSERT INTO releases VALUES ('VIM', 9, 1)")

        family.pump()
        family.assert_equal()
        assert family.keys("projects") == {"vim", "ed"}


class TestUnseen:
    @pytest.mark.parametrize("site", ["mariadb"], indirect=True)
    def test_what_a_foreign_key_does_unseen_is_named(self, site: Site) -> None:
        site.run(
            "CREATE TABLE owners (id INT PRIMARY KEY)",
            "DROP TABLE things",
            "CREATE TABLE things (id INT NOT NULL PRIMARY KEY, n INT, owner INT, "
            "CONSTRAINT c FOREIGN KEY (owner) REFERENCES owners (id) ON DELETE CASCADE)",
        )
        [made] = site.triggers.apply([])

        [unseen] = made.unseen
        assert "ON DELETE CASCADE of the foreign key (owner) to owners" in unseen
        assert "bridgectl reconcile --deep --repair" in unseen

    @pytest.mark.parametrize("site", ["mariadb"], indirect=True)
    def test_a_table_without_transactions_is_named(self, site: Site) -> None:
        site.run("ALTER TABLE things ENGINE = MyISAM")
        [made] = site.triggers.apply([])

        assert "MyISAM" in made.unseen[0]
        assert made.state == "there"

    @pytest.mark.parametrize("site", ["postgresql"], indirect=True)
    def test_partitions_are_named(self, site: Site) -> None:
        site.run(
            "DROP TABLE things",
            "CREATE TABLE things (id INT NOT NULL PRIMARY KEY, n INT) PARTITION BY RANGE (id)",
            "CREATE TABLE things_low PARTITION OF things FOR VALUES FROM (0) TO (100)",
        )
        [made] = site.triggers.apply([])

        [unseen] = made.unseen
        assert unseen.startswith("TRUNCATE, DETACH, ATTACH and DROP of a partition: ")

    @pytest.mark.parametrize("site", ["postgresql"], indirect=True)
    def test_a_table_that_inherits_is_named(self, site: Site) -> None:
        site.run("CREATE TABLE more_things (extra INT) INHERITS (things)")
        [made] = site.triggers.apply([])

        [unseen] = made.unseen
        assert "rows of more_things, which inherits from this table" in unseen

    @pytest.mark.parametrize("site", ["postgresql", "sqlite"], indirect=True)
    def test_where_triggers_see_all_nothing_is_named(self, site: Site) -> None:
        [made] = site.triggers.apply([])

        assert made.unseen == ()


class TestRights:
    @pytest.mark.parametrize("site", ["postgresql"], indirect=True)
    def test_a_role_without_rights_is_told_which(self, site: Site) -> None:
        site.triggers.apply([])
        site.triggers.drop([])
        name = f"poor_{os.getpid()}"
        site.run(f"CREATE ROLE {name} LOGIN", f"GRANT SELECT ON things TO {name}")
        url = site.engine.url.set(username=name).render_as_string(hide_password=False)
        try:
            site.engine.dispose()
            poor = commands.Triggers(sql.create_engine(url), site.mirror, site.outbox)
            [found] = poor.check([])
            assert "GRANT TRIGGER ON things" in found.do
        finally:
            poor._engine.dispose()
            site.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")

    @pytest.mark.parametrize("site", ["mariadb", "postgresql"], indirect=True)
    def test_a_table_that_is_in_use_is_not_waited_for_long(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever comes later would wait for the bridge."""
        monkeypatch.setattr(commands, "LOCK_SECONDS", 1)
        site.triggers.drop([])
        with site.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE things SET n = 5")
            with pytest.raises(BridgeError, match="in use for longer"):
                site.triggers.apply([])
        site.triggers.apply([])


class GrantingMariaDB(MariaDB):
    """One with users, rights and a binary log."""

    def command(self) -> list[str]:
        leave_out = ("--skip-grant-tables", "--skip-networking=0", "--skip-log-bin")
        words = [word for word in super().command() if word not in leave_out]
        return [*words, "--log-bin", "--server-id=1", "--skip-name-resolve"]

    def _make_data(self) -> None:
        script = find_program("mariadb-install-db", "apt-get install mariadb-server-core")
        words = [script, "--no-defaults", f"--datadir={self.data}", "--skip-test-db"]
        words += ["--auth-root-authentication-method=normal", "--user=root"]
        subprocess.run([str(word) for word in words], check=True, timeout=60, capture_output=True)
        (self.data / "complete").touch()


@pytest.fixture(scope="module")
def granting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    with GrantingMariaDB(tmp_path_factory.mktemp("granting")) as server:
        yield server


class TestRightsOfMySql:
    @pytest.fixture
    def poor(self, granting: MariaDB, clean_mongodb: Mongo, tmp_path: Path) -> Iterator[Site]:
        """A site of a user who may do everything in the database but make triggers."""
        url = granting.create_database("shop_db")
        granting.execute(
            "CREATE OR REPLACE USER shop@'127.0.0.1' IDENTIFIED BY 'x'",
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, INDEX, ALTER, REFERENCES "
            r"ON `shop\_db`.* TO shop@'127.0.0.1'",
        )
        made = Site(url.replace("root@", "shop:x@"), clean_mongodb, tmp_path, SYNC)
        made.run(*TABLES)
        yield made
        made.engine.dispose()

    @pytest.fixture
    def trusting(self, granting: MariaDB) -> Iterator[None]:
        """Without the check of the binary log."""
        granting.execute("SET GLOBAL log_bin_trust_function_creators = 1")
        yield
        granting.execute("SET GLOBAL log_bin_trust_function_creators = 0")

    @pytest.mark.usefixtures("trusting")
    def test_who_may_not_make_triggers_is_told_what_to_grant(self, poor: Site) -> None:
        [found] = poor.triggers.check([])
        assert found.do == "GRANT TRIGGER ON things TO the user of the bridge"
        with pytest.raises(BridgeError, match="GRANT TRIGGER ON things"):
            poor.triggers.apply([])

    def test_without_super_and_with_a_binary_log_the_way_out_is_told(
        self, poor: Site, granting: MariaDB
    ) -> None:
        granting.execute(r"GRANT TRIGGER ON `shop\_db`.* TO shop@'127.0.0.1'")
        poor.engine.dispose()
        [found] = poor.triggers.check([])
        assert "log_bin_trust_function_creators = 1" in found.do
        with pytest.raises(BridgeError, match="log_bin_trust_function_creators = 1"):
            poor.triggers.apply([])

    @pytest.mark.usefixtures("trusting")
    def test_without_super_they_are_made_where_the_server_trusts(
        self, poor: Site, granting: MariaDB
    ) -> None:
        granting.execute(r"GRANT TRIGGER ON `shop\_db`.* TO shop@'127.0.0.1'")
        poor.engine.dispose()
        [made] = poor.triggers.apply([])

        assert made.state == "there"
        poor.run("UPDATE things SET n = 3")
        assert len(poor.notes()) == 2

    def test_somebody_else_may_run_what_is_printed(self, poor: Site, granting: MariaDB) -> None:
        script = poor.triggers.script([])
        with (
            pymysql.connect(
                host=granting.host, port=granting.port, user="root", database="shop_db"
            ) as root,
            root.cursor() as cursor,
        ):
            for statement in mysql_statements(script):
                cursor.execute(statement)
            root.commit()

        granting.execute(r"GRANT TRIGGER ON `shop\_db`.* TO shop@'127.0.0.1'")
        poor.engine.dispose()
        assert state(poor) == "there"
        poor.run("UPDATE things SET n = 3 WHERE id = 2")
        assert poor.notes() == [("thing", "2")]


class TestCommandLine:
    @pytest.fixture
    def run(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> Any:
        from click.testing import CliRunner

        monkeypatch.setenv("BRIDGE_SYNC", str(site.path))
        url = site.engine.url.render_as_string(hide_password=False)
        monkeypatch.setenv("BRIDGE_SQL_URL", url)
        return lambda *words: CliRunner().invoke(cli, ["sync", "triggers", *words])

    @pytest.mark.parametrize("site", ["sqlite"], indirect=True)
    def test_check_says_no_until_they_are_applied(self, run: Any) -> None:
        assert run("--check").exit_code == 1
        assert run("--apply").exit_code == 0
        found = run("--check", "-o", "json")
        assert found.exit_code == 0
        [state] = json.loads(found.output)
        assert (state["entity"], state["state"], state["unproven"]) == ("thing", "there", False)

    @pytest.mark.parametrize("site", ["sqlite"], indirect=True)
    def test_without_an_option_it_prints_sql_and_changes_nothing(
        self, run: Any, site: Site
    ) -> None:
        printed = run()
        assert printed.exit_code == 0
        assert 'CREATE TRIGGER "bridge_thing_i"' in printed.output
        assert json.loads(run("-o", "json").output)["sql"].strip() == printed.output.strip()
        assert state(site) == "missing"

    @pytest.mark.parametrize("site", ["sqlite"], indirect=True)
    def test_a_name_that_is_no_entity_is_refused(self, run: Any) -> None:
        assert run("thin", "--apply").exit_code == 2


def two_sites(
    request: pytest.FixtureRequest, kind: str, database: Mongo, folder: Path
) -> tuple[Site, Site]:
    """Of one server, with the same entities: two databases, or two schemas of PostgreSQL."""
    url = url_for(request, kind)
    if kind == "mariadb":
        urls = [url, request.getfixturevalue("mariadb").create_database("another_site")]
    else:
        made = Site(url, database, folder, SYNC)
        made.run("CREATE SCHEMA one", "CREATE SCHEMA other")
        made.engine.dispose()
        urls = [f"{url}?options=-csearch_path%3D{name}" for name in ("one", "other")]
    one, other = (Site(each, database, folder, SYNC) for each in urls)
    return one, other


@pytest.mark.parametrize("kind", ["mariadb", "postgresql"])
def test_dropping_leaves_the_triggers_of_another_site_of_the_same_server(
    request: pytest.FixtureRequest, kind: str, clean_mongodb: Mongo, tmp_path: Path
) -> None:
    one, other = two_sites(request, kind, clean_mongodb, tmp_path)
    for site in (one, other):
        site.begin(*TABLES)

    one.triggers.drop([])
    assert (state(one), state(other)) == ("missing", "there")
    other.run("INSERT INTO things VALUES (3, 3)")
    assert [event.key for event in other.pump()] == ["3"]
    for site in (one, other):
        site.engine.dispose()


def test_dropping_finds_triggers_on_a_table_of_another_database(
    request: pytest.FixtureRequest, clean_mongodb: Mongo, tmp_path: Path
) -> None:
    request.getfixturevalue("mariadb").create_database("with_tables")
    sync = SYNC.replace("table: things", "table: with_tables.things")
    site = Site(url_for(request, "mariadb"), clean_mongodb, tmp_path, sync)
    site.begin(*TABLES, "CREATE TABLE with_tables.things (id INT NOT NULL PRIMARY KEY, n INT)")

    [dropped, *_] = site.triggers.drop(["thing"])
    assert dropped.did == "3 dropped"
    site.engine.dispose()


def test_replace_is_seen_by_the_collation_of_the_index_that_it_is_made_for(
    clean_mongodb: Mongo, tmp_path: Path
) -> None:
    """SQLite compares by that of the index, which need not be that of the column."""
    site = Site(f"sqlite:///{tmp_path / 'site.sqlite'}", clean_mongodb, tmp_path, SYNC)
    site.begin(
        TABLES[1],
        "CREATE TABLE things (id INT NOT NULL PRIMARY KEY, word TEXT)",
        "CREATE UNIQUE INDEX words ON things (word COLLATE NOCASE)",
    )
    site.run("INSERT INTO things VALUES (1, 'vim')")
    site.pump()
    site.run("REPLACE INTO things VALUES (2, 'VIM')")

    assert {(event.key, event.change) for event in site.pump()} == {
        ("1", "deleted"),
        ("2", "changed"),
    }
    site.assert_equal()
    site.engine.dispose()
