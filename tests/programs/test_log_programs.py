"""A program that nobody has touched is used as ever, and MongoDB holds all of its tables, from the
log of its database alone: no trigger, no column, no line of its code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import requests

from stack.mariadb import MariaDB
from stack.mediawiki import CODE as MEDIAWIKI
from stack.mediawiki import MediaWiki
from stack.mongod import Mongod
from stack.redis import Redis
from stack.wordpress import CODE as WORDPRESS
from stack.wordpress import WordPress
from tests.programs import mediawiki, wordpress
from tests.programs.logged import LOG_OPTIONS, Logged, unlike_the_package, verified

pytestmark = [pytest.mark.programs, pytest.mark.timeout(600)]

PACKAGES = ("wordpress", "wordpress-theme-twentytwentythree", "mediawiki", "mediawiki-classes")


class Site(NamedTuple):
    """A program that runs, all who use it, and its mirror.

    module: who they are. code: what its package has installed.
    """

    server: WordPress | MediaWiki
    people: Any
    module: Any
    mirrored: Logged


@pytest.fixture(scope="module")
def mariadb_with_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """With users and their rights, so that those of the docs are all that the bridge has."""
    folder = tmp_path_factory.mktemp("mariadb-with-log")
    with MariaDB(folder, grants=True, options=LOG_OPTIONS) as server:
        yield server


@pytest.fixture(scope="module", params=["WordPress", "MediaWiki"])
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    mariadb_with_log: MariaDB,
    mongodb: Mongod,
    redis_server: Redis,
) -> Iterator[Site]:
    """Installed as it comes, used for a while, and then mirrored while it is used."""
    make: Any = {"WordPress": WordPress, "MediaWiki": MediaWiki}[request.param]
    module: Any = {"WordPress": wordpress, "MediaWiki": mediawiki}[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    server = make(folder / "program", mariadb_with_log, database=f"{make.name}_log")
    assert verified(*PACKAGES) == ""
    with server, mongodb.client() as client:
        server.install()
        people = module.People(server)
        people.begin()
        with redis_server.client() as redis:
            redis.flushall()
        mirrored = Logged(
            folder, server.database, mariadb=mariadb_with_log, mongodb=mongodb,
            redis=redis_server, database=client[server.database], meanwhile=people.meanwhile,
        )  # fmt: skip
        with mirrored:
            yield Site(server, people, module, mirrored)
    assert verified(*PACKAGES) == ""


def test_every_table_that_can_be_is_mirrored(site: Site) -> None:
    """Those in which nothing tells two rows apart are left out by name; nothing else is."""
    mirrored = site.mirrored
    sources = {one["source"]["table"]: one["source"] for one in mirrored.entities.values()}
    left_out = mirrored.tables.without_key
    assert set(sources) == mirrored.tables.names - left_out
    assert all(one["log"] is True for one in sources.values())
    said = mirrored.sync.read_text(encoding="utf-8").partition("# Left out:")[2]
    assert left_out == {name for name in left_out if re.search(rf"\b{name}\b", said)}


def test_the_first_load_is_equal(site: Site) -> None:
    """Although the program was used while it ran."""
    site.mirrored.check_equal()


def test_what_people_do_with_it_is_in_mongodb(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hundreds of rows in all tables that they can reach, nothing in the dead letters."""
    tables = site.mirrored.tables
    tables.remember()
    site.people.go_on()
    changed = tables.changed()
    with capsys.disabled():
        print(f"\n{site.server.name}: {sum(changed.values())} rows in {len(changed)} tables")
    assert changed.keys() >= site.module.TOUCHED
    site.mirrored.check_equal()
    table, column, value = site.module.SEEN
    [entity] = [
        name for name, one in site.mirrored.entities.items() if one["source"]["table"] == table
    ]
    assert value in [document[column] for document in site.mirrored.documents(entity)]


def test_it_is_as_its_package_has_it(site: Site) -> None:
    """Nothing was added to its database, nothing changed in its code, and nothing has failed."""
    mirrored = site.mirrored
    assert mirrored.schema() == mirrored.schema_before
    assert not mirrored.schema()["TRIGGERS"]
    if isinstance(site.server, WordPress):
        own = unlike_the_package(site.server.docroot, WORDPRESS)
        made = re.compile(r"(.*/)?\.htaccess|wp-config\.php|wp-content/uploads/.*")
        assert [name for name in own if not made.fullmatch(name)] == []
    else:
        assert site.server.docroot == MEDIAWIKI
    said = [
        line for line in site.server.log_text().splitlines()
        if re.search("database error|PHP Fatal", line)
    ]  # fmt: skip
    assert said == []


def test_nobody_misses_what_is_not_needed(site: Site) -> None:
    """Neither more rights than those of the docs, nor an outbox, a relay or a worker."""
    found = site.mirrored.bridge("doctor", "-o", "json").told
    assert [one for one in found if one["state"] == "bad"] == []
    assert site.mirrored.bridge("status", "-o", "json").told["missing"] == []
    health = requests.get(f"http://{site.mirrored.operator}/health")
    assert health.status_code == 200, health.text


def test_a_change_past_the_log_is_found_and_repaired(site: Site) -> None:
    """That the comparison would tell it. Nobody can see it in the log."""
    table, column, value = site.module.SEEN
    mirrored = site.mirrored
    [(entity, source)] = [
        (name, one["source"])
        for name, one in mirrored.entities.items() if one["source"]["table"] == table
    ]  # fmt: skip
    where = f"WHERE {column} = '{value}' ORDER BY {source['key']} LIMIT 1"
    full = f"`{mirrored.tables.database}`.`{table}`"
    [(key,)] = mirrored.mariadb.execute(f"SELECT {source['key']} FROM {full} {where}")
    mirrored.mariadb.execute(
        "SET SESSION sql_log_bin = 0", f"UPDATE {full} SET {column} = 'unseen' {where}"
    )
    assert mirrored.reconcile(entity).differences == {(entity, "different", str(key))}
    mirrored.reconcile(entity, "--repair")
    assert mirrored.reconcile(entity).code == 0
