"""Any table: names that need quotes, keys of any type and content; what happens to its rows is
noted, and MongoDB is equal."""

from __future__ import annotations

import itertools
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql, postgresql

from tests.sync.triggers.trigger_site import DIALECTS, Mongo, Site, url_for

_numbers = itertools.count()

NAMES = st.sampled_from(
    [
        *("id", "select", "order", "Key", "NEW", "OLD", "user", "group"),
        *("two words", "a-b", "100%", "%s", "%(x)s", ":x", "it's", 'q"q', "b`t", "naïve", "名前"),
        *("semi;colon", "a//b", "a$$b", "$bridge$", "--", "/*x*/", "\\back", "?"),
    ]
)
WORDS = st.one_of(
    st.sampled_from(["", " ", "a", "A", "a/b", "a%2Fb", "%25", "%2F", "'", '"', "\\", "é", "%s"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
INT64 = st.integers(-(2**63), 2**63 - 1)
DAYS = st.dates(date(1000, 1, 1))
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2037, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0)
)
CENTS = st.integers(-(10**14), 10**14).map(lambda number: Decimal(number) / 100)
BYTES = st.binary(max_size=12)

KEYS: dict[str, dict[str, tuple[Any, st.SearchStrategy[Any]]]] = {
    "mariadb": {
        "int": (sql.Integer(), st.integers(-(2**31), 2**31 - 1)),
        "unsigned": (mysql.BIGINT(unsigned=True), st.integers(0, 2**64 - 1)),
        "zerofill": (mysql.INTEGER(zerofill=True), st.integers(0, 2**32 - 1)),
        "decimal": (sql.Numeric(16, 2), CENTS),
        "text": (mysql.VARCHAR(40, collation="utf8mb4_unicode_ci"), WORDS),
        "exact text": (mysql.VARCHAR(40, collation="utf8mb4_bin"), WORDS),
        "char": (mysql.CHAR(20, collation="utf8mb4_general_ci"), WORDS.map(str.rstrip)),
        "latin1": (
            mysql.VARCHAR(20, charset="latin1"),
            st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=8),
        ),
        "bytes": (mysql.VARBINARY(40), BYTES),
        "day": (sql.Date(), DAYS),
        "moment": (mysql.DATETIME(), MOMENTS),
        "timestamp": (mysql.TIMESTAMP(), MOMENTS),
        "enum": (
            mysql.ENUM("a", "b/c", "%2F", "é", charset="utf8mb4"),
            st.sampled_from(["a", "b/c", "%2F", "é"]),
        ),
        "year": (mysql.YEAR(), st.integers(1901, 2155)),
        "bit": (mysql.BIT(8), st.integers(0, 255)),
    },
    "postgresql": {
        "int": (sql.Integer(), st.integers(-(2**31), 2**31 - 1)),
        "bigint": (sql.BigInteger(), INT64),
        "numeric": (sql.Numeric(16, 2), CENTS),
        "text": (sql.Text(), WORDS),
        "char": (sql.CHAR(20), WORDS.map(str.rstrip)),
        "bytea": (postgresql.BYTEA(), BYTES),
        "day": (sql.Date(), DAYS),
        "moment": (sql.DateTime(), MOMENTS),
        "timestamptz": (
            sql.DateTime(timezone=True),
            st.datetimes(datetime(1970, 1, 2), datetime(2037, 12, 31), timezones=st.timezones()),
        ),
        "uuid": (sql.UUID(), st.uuids()),
        "boolean": (sql.Boolean(), st.booleans()),
        "interval": (postgresql.INTERVAL(), st.timedeltas()),
    },
    "sqlite": {
        "integer": (sql.Integer(), INT64),
        "text": (sql.String(40), WORDS),
        "bytes": (sql.LargeBinary(), BYTES),
    },
}


@st.composite
def tables(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Columns of the key with their types, other columns, and what happens."""
    kinds = draw(st.lists(st.sampled_from(sorted(KEYS[kind])), min_size=1, max_size=3))
    names = draw(
        st.lists(NAMES, min_size=len(kinds) + 1, max_size=len(kinds) + 1, unique_by=str.casefold)
    )
    key = st.tuples(*(KEYS[kind][one][1] for one in kinds))
    return {
        "types": [KEYS[kind][one][0] for one in kinds],
        "names": names,
        "table": draw(NAMES),
        "before": draw(st.lists(key, max_size=3)),
        "steps": draw(
            st.lists(
                st.one_of(
                    st.tuples(st.just("insert"), key),
                    st.tuples(st.just("update"), st.integers(0, 9)),
                    st.tuples(st.just("delete"), st.integers(0, 9)),
                    st.tuples(st.just("rename"), st.integers(0, 9), key),
                ),
                min_size=1,
                max_size=6,
            )
        ),
    }


def sync_of(names: list[str], table: str) -> str:
    """Fields are named otherwise than columns whose names no field can have."""
    columns = {f"f{number}": name for number, name in enumerate(names)}
    source = {"table": table, "key": names[:-1], "columns": columns}
    entity = {"collection": "things", "source": source}
    return str(yaml.safe_dump({"version": 1, "entities": {"thing": entity}}, allow_unicode=True))


class World:
    """A table, and what happens to it. Rows that the database refuses are none."""

    def __init__(self, site: Site, made: dict[str, Any]) -> None:
        self.site, self.names = site, made["names"]
        key = [
            sql.Column(name, kind, primary_key=True, autoincrement=False, nullable=False)
            for name, kind in zip(self.names[:-1], made["types"], strict=True)
        ]
        like = {"mariadb_charset": "utf8mb4"} if site.engine.dialect.name == "mariadb" else {}
        value = sql.Column(self.names[-1], sql.Integer)
        self.table = sql.Table(made["name"], sql.MetaData(), *key, value, **like)
        # Values are the driver's business alone.
        self.plain: Any = sql.table(made["name"], *map(sql.column, self.names))
        self.keys: list[tuple[Any, ...]] = []
        self.count = 0

    def create(self) -> None:
        self.table.create(self.site.engine)

    def insert(self, key: tuple[Any, ...]) -> None:
        self.count += 1
        row = dict(zip(self.names, (*key, self.count), strict=True))
        if self._do(self.plain.insert().values(row)):
            self.keys.append(key)

    def step(self, step: tuple[Any, ...]) -> None:
        word, *given = step
        if word == "insert":
            self.insert(given[0])
        elif self.keys:
            place = given[0] % len(self.keys)
            row = sql.and_(
                *(
                    self.plain.c[name] == part
                    for name, part in zip(self.names[:-1], self.keys[place], strict=True)
                )
            )
            if word == "update":
                self.count += 1
                self._do(self.plain.update().where(row).values({self.names[-1]: self.count}))
            elif word == "delete":
                if self._do(self.plain.delete().where(row)):
                    self.keys.pop(place)
            else:
                new = dict(zip(self.names[:-1], given[1], strict=True))
                if self._do(self.plain.update().where(row).values(new)):
                    self.keys[place] = given[1]

    def _do(self, statement: Any) -> bool:
        try:
            with self.site.engine.begin() as connection:
                connection.execute(statement)
        except (sql.exc.IntegrityError, sql.exc.DataError):
            return False
        return True


@pytest.mark.parametrize("kind", DIALECTS)
def test_whatever_a_table_is_called_and_keyed_by_its_changes_arrive(
    request: pytest.FixtureRequest, kind: str, clean_mongodb: Mongo, tmp_path: Path
) -> None:
    url = url_for(request, kind)

    @settings(
        max_examples=10,
        deadline=None,
        # Making it small takes hundreds of tables.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
    @given(tables(kind))
    def holds(made: dict[str, Any]) -> None:
        made["name"] = f"{made['table']} {next(_numbers)}".replace(".", "")
        clean_mongodb["things"].drop()
        site = Site(url, clean_mongodb, tmp_path, sync_of(made["names"], made["name"]))
        try:
            world = World(site, made)
            world.create()
            for key in made["before"]:
                world.insert(key)
            site.begin()
            assert [state.state for state in site.triggers.check([])] == ["there"]
            for step in made["steps"]:
                world.step(step)
            keys = [key for _, key in site.notes()]
            assert [site.mirror.key_of("thing", key) for key in keys] == keys
            site.pump()
            site.assert_equal()
            assert len(site.keys("things")) == len(world.keys)
        finally:
            site.triggers.drop([])
            world.table.drop(site.engine)
            site.engine.dispose()

    holds()
