"""Tables that nobody thought of: any columns, any key, any rows, and one edit that is not told."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import bson
import pytest
import sqlalchemy as sql
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from bridge.queue.events import Event
from bridge.queue.sql.database import connect
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.log.stream import Altered, Change, Concerned
from bridge.sync.models import File
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.sql.source import SqlSource
from tests.sync.alltypes import types_of_sqlite
from tests.sync.alltypes.all_types import Declared
from tests.sync.alltypes.everything import columns_of
from tests.sync.log.reading import end_of, events_of, found_in

Mongo = Database[dict[str, Any]]
NAMES = st.sampled_from(
    ["id", "Name", "order", "a b", "é", "a%b", "a:b", "quote's", "x" * 60, "where", "ver2", "Ünï"]
)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Random:
    """A table. columns: by name. key: names of some. rows: the literals of each row. edit: row,
    column and new literal; the column None: the row is deleted."""

    columns: dict[str, Declared]
    key: list[str]
    rows: list[dict[str, str]]
    edit: tuple[int, str | None, str]


@st.composite
def tables(draw: st.DrawFn, columns: Sequence[Declared]) -> Random:
    """Tables of these columns."""
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique_by=str.casefold))
    keyable = [one for one in columns if one.key]
    width = draw(st.integers(1, min(3, len(names) - 1)))
    chosen = {
        name: draw(st.sampled_from(keyable if place < width else columns))
        for place, name in enumerate(names)
    }
    key = draw(st.permutations(names[:width]))

    def values(name: str) -> st.SearchStrategy[str]:
        borders = st.sampled_from(chosen[name].values)
        return borders if name in key else st.one_of(borders, st.just("NULL"))

    row = st.fixed_dictionaries({name: values(name) for name in names})
    rows = draw(st.lists(row, min_size=1, max_size=6))
    column = draw(st.sampled_from([None, *names[width:]]))
    new = draw(values(column)) if column else ""
    return Random(chosen, list(key), rows, (draw(st.integers(0, len(rows) - 1)), column, new))


@pytest.fixture(scope="module", params=["mysql", "sqlite"])
def pool(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[sql.Engine, Sequence[Declared], Sequence[str]]]:
    """A database, all its columns, and what a session says first."""
    if request.param == "mysql":
        engine = connect(request.getfixturevalue("logged_mariadb").create_database("random"))
    else:
        engine = connect(f"sqlite:///{tmp_path_factory.mktemp('random') / 'site.sqlite'}")
    with engine.begin() as connection:
        columns, setup, _ = columns_of(connection, request.param)
    if request.param == "sqlite":
        # A number and its text would be two keys of one name.
        keys = [types_of_sqlite.keys(one) for one in columns if one.kind not in ("none", "JSON")]
        columns = [replace(one, key=False) for one in columns] + keys
    yield engine, columns, setup
    engine.dispose()


def _check(engine: sql.Engine, setup: Sequence[str], mongodb: Mongo, table: Random) -> None:
    name = f"random_{next(_numbers)}"
    began = end_of(engine) if engine.dialect.name == "mysql" else None
    written = _write(engine, setup, name, table)
    source = {"table": name, "key": table.key, "version": "ver"}
    entity = {"collection": name, "source": source}
    mirror = Mirror(File.model_validate({"version": 1, "entities": {name: entity}}))
    reconciler = Reconciler(engine, mongodb, mirror, ReconcileOptions(wait=0.0, deep=True))
    chunk = SqlSource(engine, name, mirror).chunk(None, 100)
    apply(mongodb, mirror, chunk.events)
    before = {e.key: mirror.prepare(e).own.document for e in chunk.events}
    assert len(before) == len(written) - len(chunk.bad)
    if not chunk.bad:
        result = reconciler.run(name)
        assert (result.differences, result.compared) == ([], len(before))
        _edit(engine, setup, name, table, written)
        rows = SqlSource(engine, name, mirror).chunk(None, 100).events
        after = {e.key: mirror.prepare(e).own.document for e in rows}
        changed = {key for key in before if repr(before[key]) != repr(after.get(key))}
        event(f"{len(changed)} documents differ")
        assert {one.key for one in reconciler.run(name).differences} == changed
        if began is not None and not _has_float(table):
            found = found_in(engine, mirror, began)
            assert [one for one in found if not isinstance(one, Change | Altered | Concerned)] == []
            logged = {e.key: e for e in events_of(found)}
            gone = {key for key, e in logged.items() if e.data is None}
            assert gone == before.keys() - after.keys()
            assert _documents(mirror, logged.values()) == _documents(mirror, rows)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DROP TABLE {name}")
    mongodb.drop_collection(name)


def _has_float(table: Random) -> bool:
    return any(table.columns[name].kind in ("float", "double") for name in table.key)


def _documents(mirror: Mirror, events: Iterable[Event]) -> dict[str, bytes]:
    """By key, but for the versions."""
    found = {}
    for one in events:
        if one.data is not None:
            found[one.key] = bson.encode(mirror.prepare(replace(one, version=1)).own.document)
    return found


def _quoted(engine: sql.Engine, name: str) -> str:
    # A driver takes one % for the beginning of a parameter.
    percent = "%" if engine.dialect.name == "sqlite" else "%%"
    return (
        engine.dialect.identifier_preparer.quote_identifier(name)
        .replace("%%", "%")
        .replace("%", percent)
    )


def _write(engine: sql.Engine, setup: Sequence[str], name: str, table: Random) -> list[int]:
    """Make it; which rows are there: of those that the database takes for equal, the first."""
    declared = []
    percent = "%" if engine.dialect.name == "sqlite" else "%%"
    for column, one in table.columns.items():
        words = re.sub(" null$", "", one.declaration) + " NOT NULL" * (column in table.key)
        if column not in table.key and one.kind == "timestamp":
            words += " NULL"
        declared.append(f"{_quoted(engine, column)} {words}")
    key = ", ".join(_quoted(engine, column) for column in table.key)
    written = []
    with engine.connect() as connection:
        for statement in setup:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(
            f"CREATE TABLE {name} (nr INT, ver BIGINT, {', '.join(declared)}, PRIMARY KEY ({key}))"
        )
        ignore = "OR IGNORE" if engine.dialect.name == "sqlite" else "IGNORE"
        for number, row in enumerate(table.rows):
            columns = ", ".join(_quoted(engine, column) for column in row)
            values = ", ".join(row.values()).replace("%", percent)
            done = connection.exec_driver_sql(
                f"INSERT {ignore} INTO {name} (nr, ver, {columns}) VALUES ({number}, 1, {values})"
            )
            written += [number] * done.rowcount
        connection.commit()
        connection.invalidate()
    return written


def _edit(
    engine: sql.Engine, setup: Sequence[str], name: str, table: Random, written: list[int]
) -> None:
    number, column, value = table.edit
    number = written[number % len(written)]
    percent = "%" if engine.dialect.name == "sqlite" else "%%"
    with engine.connect() as connection:
        for statement in setup:
            connection.exec_driver_sql(statement)
        if column is None:
            connection.exec_driver_sql(f"DELETE FROM {name} WHERE nr = {number}")
        else:
            changed = f"{_quoted(engine, column)} = {value.replace('%', percent)}"
            connection.exec_driver_sql(f"UPDATE {name} SET {changed} WHERE nr = {number}")
        connection.commit()
        connection.invalidate()


def _run(
    pool: tuple[sql.Engine, Sequence[Declared], Sequence[str]], mongodb: Mongo, examples: int
) -> None:
    engine, columns, setup = pool

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(tables(columns))
    def check(table: Random) -> None:
        _check(engine, setup, mongodb, table)

    check()


def test_any_table_is_mirrored_and_any_edit_is_found(
    pool: tuple[sql.Engine, Sequence[Declared], Sequence[str]], clean_mongodb: Mongo
) -> None:
    """The deep comparison says equal after the load, and names exactly what an edit changed that
    nobody told."""
    _run(pool, clean_mongodb, 8)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_hundreds_of_tables_are_mirrored_and_their_edits_found(
    pool: tuple[sql.Engine, Sequence[Declared], Sequence[str]], clean_mongodb: Mongo
) -> None:
    """The same, for longer."""
    _run(pool, clean_mongodb, 300)
