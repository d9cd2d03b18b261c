"""Every type as a key, alone and among others: rows are walked, named, found and summed up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import sqlalchemy as sql

from bridge.errors import BridgeError
from bridge.queue.sql.database import connect
from bridge.sync.sql.source import SqlSource
from tests.sync.alltypes import types_of_sqlite
from tests.sync.alltypes.all_types import Declared
from tests.sync.alltypes.everything import columns_of
from tests.sync.alltypes.keyed import by_log, fill, judge, mirror_of
from tests.sync.log.reading import end_of

KEYLESS = frozenset({"jsonb", "money", "JSON"})
"""Databases take them, and the bridge refuses them by name."""
SHORT = frozenset(
    {
        "bigint unsigned",
        "int(8) zerofill",
        "year",
        "bit(1)",
        "bit(64)",
        "decimal(65,30)",
        "double",
        "float",
        "date",
        "datetime(6)",
        "timestamp(3) null",
        "time(6)",
        "binary(16)",
        "varbinary(255)",
        "uuid",
        "inet6",
        "bool",
        "int8",
        "numeric",
        "numeric(5,2)",
        "text",
        "bpchar",
        "bytea",
        "timestamp",
        "timestamptz",
        "interval",
        "oid",
        "mood",
        "inet",
        "citext",
        "float8",
        "INTEGER",
        "TEXT",
        "BLOB",
        "",
        "REAL",
        "DATETIME",
    }
)


def is_short(column: Declared) -> bool:
    """Whether a type is in the short form."""
    if column.kind == "text":
        return column.common and column.declaration.startswith("varchar")
    if column.kind in ("enum", "set"):
        return "utf8mb4" in column.declaration
    return column.declaration in SHORT


def as_key(column: Declared, dialect: str) -> Declared:
    """The column as a key is declared."""
    made = replace(column, declaration=re.sub(r" null$", "", column.declaration))
    return types_of_sqlite.keys(made) if dialect == "sqlite" else made


@pytest.fixture(scope="module")
def engine(database: tuple[str, str]) -> Iterator[sql.Engine]:
    made = connect(database[1])
    yield made
    made.dispose()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("composite", [False, True], ids=["alone", "composite"])
def test_rows_are_walked_named_found_and_summed_up_by_every_type_of_key(
    database: tuple[str, str], engine: sql.Engine, composite: bool, many: bool
) -> None:
    """In steps of one, two and three each row is met once; its name is its own, and finds it; texts
    that name no row are answered; the database's sums are Python's. The log names it alike."""
    dialect, _ = database
    wrong = {}
    began = end_of(engine) if dialect == "mysql" else None
    with engine.begin() as connection:
        columns, setup, after = columns_of(connection, dialect)
    chosen = [one for one in columns if one.key and (many or is_short(one))]
    tables = {}
    with engine.connect() as connection:
        for statement in setup:
            connection.exec_driver_sql(statement)
        for number, column in enumerate(chosen):
            name = f"{'c' if composite else 'k'}{'m' if many else ''}{number}"
            one = as_key(column, dialect)
            fill(connection, name, one, composite, one.values, after)
            tables[name] = column
        connection.commit()
    engine.dispose()  # with what was set for the session
    assert len(tables) > (30 if many else 5)
    mirror = mirror_of(tables, composite)
    for name, column in tables.items():
        if column.kind in KEYLESS:
            with pytest.raises(BridgeError, match=f"does not find a {column.kind} again"):
                SqlSource(engine, name, mirror).chunk(None, 1)
        elif found := judge(engine, mirror, name, (1, 2, 3) if many else (2,)):
            wrong[f"{name}: {column.declaration}"] = found
    assert wrong == {}
    if began is not None:
        assert by_log(engine, mirror, tables, began) == {}
