"""Versions beside the table: a table of the bridge's with the version of each row that changed.

Where no column of the site's table is a version, the triggers of `bridge sync triggers` keep one in
`bridge_versions`. A version is the time of the change in microseconds since 1970 by the database's
clock, and always above the one before. So it never goes back: not when a key returns, and not
when the database is restored from a backup.

A row that has not changed since the triggers were made has no entry. Its version is that of its
entity: the time at which its triggers were made, or its versions were raised. `raised` is how
everything is lifted above what MongoDB may hold after a restore: by one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql

from bridge.sync.types.catalog import dialect_of
from bridge.sync.types.wire import KeyColumn, key_in_sql

__all__ = ["BASE", "base_of", "entry_of", "joined", "table"]

BASE = ".base"
"""The `aggregatetype` of the rows with the versions of entities; no entity is named so."""


def table(schema: str | None = None) -> sql.TableClause:
    """bridge_versions: aggregatetype, aggregateid, ver."""
    columns: list[Any] = [sql.column(name) for name in ("aggregatetype", "aggregateid", "ver")]
    return sql.table("bridge_versions", *columns, schema=schema)


def joined(
    rows: Any, key: Sequence[KeyColumn], entity: str, dialect: str, schema: str | None = None
) -> tuple[Any, sql.ColumnElement[Any]]:
    """What to select from, rows with their entries, and the expression of the version.

    It is one statement, so that a row and its version are of the same moment.
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


def _text(word: str) -> sql.ColumnElement[Any]:
    return sql.literal(word, sql.String())


def _id(key: str, dialect: str) -> sql.ColumnElement[Any]:
    if dialect == "mysql":
        return sql.literal(key.encode("utf-8", "surrogateescape"), mysql.VARBINARY(1024))
    return sql.literal(key, sql.String())
