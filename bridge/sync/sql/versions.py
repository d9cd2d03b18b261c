"""Versions beside the table: a table of the bridge's with the version of each row that changed.

Where no column of the site's table is a version, those of `bridgectl sync triggers` note which
rows change, and the relay keeps their versions in `bridge_versions`. A version is the time at
which it came to the row, in microseconds since 1970 by the database's clock, and always above the
one before. So it never goes back: not when a key returns, and not when the database is restored
from a backup.

A row that has not changed since the triggers were made has no entry. Its version is that of its
entity: the time at which its triggers were made, or its versions were raised. So everything is
lifted above what MongoDB may hold after a restore by one row: `raise_base`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql, postgresql, sqlite

from bridge.errors import BridgeError
from bridge.sync.types.catalog import dialect_of
from bridge.sync.types.wire import KeyColumn, key_in_sql

__all__ = [
    "BASE",
    "base_of",
    "definition",
    "entry_of",
    "forget_base",
    "joined",
    "raise_base",
    "raise_entries",
    "table",
]

BASE = ".base"
"""The `aggregatetype` of the rows with the versions of entities; no entity is named so."""


def table(schema: str | None = None) -> sql.TableClause:
    """bridge_versions: aggregatetype, aggregateid, ver."""
    columns: list[Any] = [sql.column(name) for name in ("aggregatetype", "aggregateid", "ver")]
    return sql.table("bridge_versions", *columns, schema=schema)


def definition(dialect: str) -> str:
    """CREATE TABLE of bridge_versions, which does no harm where it is there."""
    kinds = {
        "mysql": ("VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin", "VARBINARY(1024)"),
        "postgresql": ("VARCHAR(64)", "VARCHAR(1024)"),
        "sqlite": ("TEXT", "TEXT"),
    }
    entity, key = kinds[dialect]
    engine = " ENGINE=InnoDB ROW_FORMAT=DYNAMIC" if dialect == "mysql" else ""
    return (
        f"CREATE TABLE IF NOT EXISTS bridge_versions (\n    aggregatetype {entity} NOT NULL,\n"
        f"    aggregateid {key} NOT NULL,\n    ver BIGINT NOT NULL,\n"
        f"    PRIMARY KEY (aggregatetype, aggregateid)\n){engine}"
    )


def joined(
    rows: Any, key: Sequence[KeyColumn], entity: str, dialect: str, schema: str | None = None
) -> tuple[Any, sql.ColumnElement[Any]]:
    """What to select from, rows with their entries, and the expression of the version. It is one
    statement, so that a row and its version are of the same moment.

    rows, key: the table of `entity`, and its key.
    schema: where bridge_versions is.
    """
    entries = table(schema).alias()
    base = table(schema).alias()
    text = key_in_sql(key, dialect)
    assert text is not None
    source = rows.outerjoin(
        entries,
        sql.and_(
            entries.c.aggregatetype == _text(entity), entries.c.aggregateid == stored(text, dialect)
        ),
    )
    since = (
        sql.select(base.c.ver)
        .where(base.c.aggregatetype == _text(BASE), base.c.aggregateid == _id(entity, dialect))
        .scalar_subquery()
    )
    greatest = sql.func.max if dialect == "sqlite" else sql.func.greatest
    return source, greatest(sql.func.coalesce(entries.c.ver, 0), since)


def stored(text: Any, dialect: str) -> sql.ColumnElement[Any]:
    """A key as it stands in `aggregateid`; what is longer names no row, and is cut."""
    if dialect == "mysql":
        return sql.cast(sql.func.left(sql.cast(text, sql.LargeBinary), 1024), sql.LargeBinary)
    return sql.func.substr(text, 1, 1024)


def entry_of(entity: str, keys: Sequence[str], dialect: str) -> sql.Select[Any]:
    """Key as in `aggregateid`, and version, of entries with these keys."""
    entries = table()
    return sql.select(entries.c.aggregateid, entries.c.ver).where(
        entries.c.aggregatetype == _text(entity),
        entries.c.aggregateid.in_([_id(key, dialect) for key in keys]),
    )


def base_of(connection: sql.Connection, entity: str) -> int | None:
    """The version of rows of this entity that have no entry; None where there are no triggers.
    Raises SQLAlchemy's errors."""
    dialect = dialect_of(connection)
    entries = table()
    found = connection.execute(
        sql.select(entries.c.ver).where(
            entries.c.aggregatetype == _text(BASE), entries.c.aggregateid == _id(entity, dialect)
        )
    ).scalar()
    return None if found is None else int(found)


def raise_base(dialect: str, entity: str, *, anew: bool, above: int = 0) -> str:
    """A statement that gives an entity its base version: now, and above all that its rows ever
    had.

    anew: also where it has one, so that all of its rows have a new version.
    above: a version that MongoDB has of another owner.
    """
    key = f"CAST('{entity}' AS BINARY)" if dialect == "mysql" else f"'{entity}'"
    greatest = "max" if dialect == "sqlite" else "GREATEST"
    replaced = "VALUES(ver)" if dialect == "mysql" else "excluded.ver"
    word, conflict = "INSERT", ""
    if dialect == "mysql":
        word = "INSERT" if anew else "INSERT IGNORE"
        conflict = f"\nON DUPLICATE KEY UPDATE ver = {replaced}" if anew else ""
    else:
        do = f"UPDATE SET ver = {replaced}" if anew else "NOTHING"
        conflict = f"\nON CONFLICT (aggregatetype, aggregateid) DO {do}"
    return (
        f"{word} INTO bridge_versions (aggregatetype, aggregateid, ver)\n"
        f"SELECT '{BASE}', {key}, {greatest}({_NOW[dialect]}, COALESCE(MAX(v.ver), 0) + 1, "
        f"{above + 1})\n"
        "FROM bridge_versions AS v\n"
        f"WHERE v.aggregatetype = '{entity}'\n"
        f"    OR v.aggregatetype = '{BASE}' AND v.aggregateid = {key}{conflict}"
    )


def forget_base(dialect: str, entity: str) -> str:
    """A statement that takes the base version of an entity away, which then has no triggers."""
    key = f"CAST('{entity}' AS BINARY)" if dialect == "mysql" else f"'{entity}'"
    where = f"aggregatetype = '{BASE}' AND aggregateid = {key}"
    return f"DELETE FROM bridge_versions WHERE {where}"  # noqa: S608  # names of entities are words


def raise_entries(connection: sql.Connection, entity: str, keys: Sequence[str]) -> dict[str, int]:
    """Give each of these keys a new version, above all that it had. keys: in order, so that two who
    do this at once wait for each other and nothing else. Raises BridgeError when the entity has no
    base version, and SQLAlchemy's errors."""
    dialect = dialect_of(connection)
    base = base_of(connection, entity)
    if base is None:
        raise BridgeError(
            f"entity {entity}: bridge_versions has no base version of it: run "
            f"`bridgectl sync triggers {entity} --apply`"
        )
    now = int(connection.execute(sql.select(sql.literal_column(_NOW[dialect]))).scalar_one())
    entries = table()
    ids = {key: key.encode() if dialect == "mysql" else key for key in keys}
    rows = [
        {"aggregatetype": entity, "aggregateid": id, "ver": max(now, base + 1)}
        for id in ids.values()
    ]
    greatest = sql.func.max if dialect == "sqlite" else sql.func.greatest
    if dialect == "mysql":
        insert: Any = mysql.insert(entries).values(rows)
        insert = insert.on_duplicate_key_update(
            ver=greatest(entries.c.ver + 1, insert.inserted.ver)
        )
    else:
        insert = (postgresql if dialect == "postgresql" else sqlite).insert(entries).values(rows)
        insert = insert.on_conflict_do_update(
            index_elements=["aggregatetype", "aggregateid"],
            set_={"ver": greatest(entries.c.ver + 1, insert.excluded.ver)},
        )
    connection.execute(insert)
    given = {
        bytes(id) if dialect == "mysql" else id: int(version)
        for id, version in connection.execute(entry_of(entity, keys, dialect))
    }
    return {key: given[id] for key, id in ids.items()}


# The time in microseconds. Not UNIX_TIMESTAMP(NOW(6)): an hour of a night in autumn is there twice.
_NOW = {
    "mysql": "UNIX_TIMESTAMP() * 1000000 + MICROSECOND(NOW(6))",
    "postgresql": "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
    "sqlite": "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
}


def _text(word: str) -> sql.ColumnElement[Any]:
    return sql.literal(word, sql.String())


def _id(key: str, dialect: str) -> sql.ColumnElement[Any]:
    if dialect == "mysql":
        return sql.literal(key.encode("utf-8", "surrogateescape"), mysql.VARBINARY(1024))
    return sql.literal(key, sql.String())
