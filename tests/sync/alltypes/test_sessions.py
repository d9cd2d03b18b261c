"""What is set for the server, the database or the user changes nothing in a document."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.queue.sql.database import connect
from stack.mariadb import MariaDB
from tests.sync.alltypes.all_types import Declared, lay
from tests.sync.alltypes.everything import Everything, columns_of, differences, documents
from tests.sync.alltypes.exceptions import Differs
from tests.sync.alltypes.keyed import fill, judge, mirror_of
from tests.sync.alltypes.producers import Site, by_php, by_snapshot

MODES = (
    "",
    "ANSI_QUOTES",
    "PIPES_AS_CONCAT",
    "NO_BACKSLASH_ESCAPES",
    "PAD_CHAR_TO_FULL_LENGTH",
    "TRADITIONAL",
    "ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH",
    "ORACLE",
)
"""Of MariaDB."""
STYLES = (
    ("DateStyle", "'SQL, DMY'"),
    ("DateStyle", "'German'"),
    ("IntervalStyle", "'sql_standard'"),
    ("IntervalStyle", "'iso_8601'"),
    ("TimeZone", "'America/St_Johns'"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "'escape'"),
    ("standard_conforming_strings", "off"),
    ("client_encoding", "'LATIN1'"),
    ("default_transaction_isolation", "'serializable'"),
)
"""Of PostgreSQL."""
WORST = frozenset(
    {
        "'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'",
        "'+05:30'",
        "'SQL, DMY'",
        "'America/St_Johns'",
    }
)


def read_again(everything: Everything) -> dict[tuple[str, str], dict[str, object]]:
    """The documents of new connections."""
    everything.site.engine.dispose()
    mirror = everything.mirror()
    return documents(mirror, by_snapshot(everything.site, everything.tables, mirror))


@contextmanager
def set_for_all(site: Site, name: str, value: str) -> Iterator[None]:
    """A setting for every new connection."""
    if site.dialect == "mysql":
        words, undo = f"SET GLOBAL {name} = {value}", f"SET GLOBAL {name} = DEFAULT"
    else:
        database = f"ALTER DATABASE {site.engine.url.database}"
        words, undo = f"{database} SET {name} = {value}", f"{database} RESET {name}"
    for statement in (words, undo):
        with site.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(statement)
        site.engine.dispose()
        if statement == words:
            yield


def settings_of(everything: Everything) -> list[tuple[str, str]]:
    """Name and value of what a server may have set; in the short form, what does most harm."""
    if everything.site.dialect == "mysql":
        zones = [("time_zone", "'+05:30'"), ("time_zone", "'-11:00'")]
        every = [*(("sql_mode", f"'{mode}'") for mode in MODES), *zones]
    else:
        every = list(STYLES)
    return every if everything.many else [one for one in every if one[1] in WORST]


def test_a_setting_of_the_server_changes_no_document(everything: Everything) -> None:
    """For every type: how dates are written, which zone it is, what a quote means."""
    if everything.site.dialect == "sqlite":
        pytest.skip("SQLite has no settings of a server")
    expected = read_again(everything)
    wrong: list[Differs] = []
    for name, value in settings_of(everything):
        with set_for_all(everything.site, name, value):
            found = read_again(everything)
            wrong += differences(everything, f"{name} = {value}", expected, found, set())
    assert wrong == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_keys_are_found_under_every_setting(everything: Everything) -> None:
    """Rows are walked, named, found and summed up as without it."""
    site, many = everything.site, everything.many
    if site.dialect == "sqlite":
        pytest.skip("SQLite has no settings of a server")
    kinds = {
        "mysql": ("char(40)", "timestamp(0) null", "date", "varbinary(255)", "float"),
        "postgresql": ("bpchar", "timestamptz", "date", "bytea", "float8", "interval"),
    }[site.dialect]
    columns: dict[str, Declared] = {}
    with site.engine.connect() as connection:
        for one in columns_of(connection, site.dialect)[0]:
            kind = next((kind for kind in kinds if one.declaration.startswith(kind)), None)
            if kind is not None and (
                "character" not in one.declaration or "sjis" in one.declaration
            ):
                columns.setdefault(f"s{many:d}_{kind.split('(')[0].split(' ')[0]}", one)
        for statement in site.setup:
            connection.exec_driver_sql(statement)
        for name, one in columns.items():
            declaration = one.declaration.replace(" null", "")
            fill(connection, name, replace(one, declaration=declaration), True, one.values, "")
        connection.commit()
    assert len(columns) == len(kinds)
    wrong = {}
    for setting, value in settings_of(everything):
        with set_for_all(site, setting, value):
            mirror = mirror_of(columns, True)
            for name in columns:
                if found := judge(site.engine, mirror, name):
                    wrong[f"{name} with {setting} = {value}"] = found
    assert wrong == {}


def test_a_moment_of_php_is_in_the_zone_of_sync_yaml(mariadb: MariaDB, tmp_path: Path) -> None:
    """PHP reads a TIMESTAMP in the zone of its session, and `zone` says which that is."""
    engine = connect(mariadb.create_database("zones"))
    zone = "SET time_zone = '+05:30'"
    moments = ("FROM_UNIXTIME(1)", "FROM_UNIXTIME(1729990800.5)", "'0000-00-00 00:00:00'")
    column = Declared("timestamp", "timestamp(3) null", moments)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET sql_mode = ''")
        table = lay(connection, "moments", [column])
        connection.commit()
    everything = Everything(Site(engine, "mysql", (zone,)), [table], [column])
    there, elsewhere = everything.mirror("Asia/Kolkata"), everything.mirror("Europe/Berlin")
    events = by_snapshot(everything.site, [table], there)
    expected = documents(there, events)
    php, refused = by_php(everything.site, [table], "pdo native", tmp_path / "php")

    assert differences(everything, "php", expected, documents(there, php), refused) == []
    by_snapshot(everything.site, [table], elsewhere)
    assert len(differences(everything, "php", expected, documents(elsewhere, php), refused)) == 2
    engine.dispose()
    mariadb.drop_database("zones")


@pytest.mark.parametrize("charset", ["latin1", "utf8", "utf8mb3", "binary"])
def test_a_charset_in_the_url_is_an_error_that_says_what_to_write(charset: str) -> None:
    """It would be of no effect: the connection speaks utf8mb4."""
    with pytest.raises(BridgeError, match=r"leave it out.*text: \{stored: utf-8, column: latin1\}"):
        connect(f"mysql://root@127.0.0.1:1/site?charset={charset}")
    assert isinstance(connect("mysql://root@127.0.0.1:1/site?charset=utf8mb4"), sql.Engine)
