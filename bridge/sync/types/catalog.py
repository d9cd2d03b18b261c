"""What a database declares of its tables, read from the database itself: MySQL and MariaDB,
PostgreSQL, SQLite.

Only asks. `digest` is the cheap question whether a table is still what it was.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sql

from bridge.sync.types.column import Column, ForeignKey, Table
from bridge.sync.types.definition import definition, foreign_keys

__all__ = ["dialect_of", "digest", "is_mariadb", "names", "read", "split_name"]

_DECLARED = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_MEMBER = re.compile(r"'((?:[^']|'')*)'")


def dialect_of(connection: sql.Connection) -> str:
    """`mysql`, which MariaDB is, too, `postgresql` or `sqlite`."""
    name = connection.dialect.name
    return "mysql" if name == "mariadb" else name


def is_mariadb(connection: sql.Connection) -> bool:
    """Whether what `dialect_of` calls `mysql` is MariaDB."""
    return bool(getattr(connection.dialect, "is_mariadb", False))


def split_name(name: str) -> tuple[str | None, str]:
    """Schema and name of a table as sync.yaml has them."""
    schema, _, table = name.rpartition(".")
    return schema or None, table


def names(connection: sql.Connection) -> list[str]:
    """The tables of the connection's own schema, without views, by name."""
    return sorted(sql.inspect(connection).get_table_names())


def read(connection: sql.Connection, name: str) -> Table | None:
    """A table or a view; None where there is none. Raises SQLAlchemy's errors."""
    schema, table = split_name(name)
    reader = {"mysql": _mysql, "postgresql": _postgresql, "sqlite": _sqlite}
    dialect = dialect_of(connection)
    found = reader[dialect](connection, schema, table) if dialect in reader else None
    return found and replace(found, digest=digest(connection, name))


def digest(connection: sql.Connection, name: str) -> str:
    """Changes whenever the columns of a table do; empty where it cannot be read."""
    schema, table = split_name(name)
    dialect = dialect_of(connection)
    if dialect == "mysql":
        text = definition(connection, schema, table)
        if not text:
            return ""
    elif dialect == "postgresql":
        rows = connection.execute(sql.text(_PG_DIGEST), {"schema": schema, "name": table})
        text = json.dumps([list(row) for row in rows], default=str)
        if text == "[]":
            return ""
    else:
        master = "sqlite_master" if schema is None else f'"{schema}".sqlite_master'
        row = connection.execute(
            sql.text(f"SELECT sql FROM {master} WHERE name = :name COLLATE NOCASE"),  # noqa: S608
            {"name": table},
        ).first()
        if row is None:
            return ""
        text = str(row[0])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def _foreign(rows: Iterable[Sequence[Any]]) -> tuple[ForeignKey, ...]:
    """rows: name of the key, column, the other table, what deleting and what updating does."""
    keys: dict[Any, list[Sequence[Any]]] = {}
    for row in rows:
        keys.setdefault(row[0], []).append(row)
    return tuple(
        ForeignKey(tuple(str(row[1]) for row in parts), *map(str, parts[0][2:5]))
        for parts in keys.values()
    )


# MySQL and MariaDB.

_MYSQL_COLUMNS = """
SELECT column_name, data_type, column_type, is_nullable, character_maximum_length,
    numeric_precision, numeric_scale, character_set_name, collation_name, extra,
    generation_expression, datetime_precision
FROM information_schema.columns
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name ORDER BY ordinal_position
"""
_MYSQL_KEYS = """
SELECT index_name, column_name, non_unique, sub_part, nullable
FROM information_schema.statistics
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
    AND index_type NOT IN ('FULLTEXT', 'SPATIAL')
ORDER BY index_name, seq_in_index
"""
_MYSQL_KIND = """
SELECT engine, table_type FROM information_schema.tables
WHERE table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
"""
_ELSEWHERE = frozenset(("MRG_MYISAM", "FEDERATED", "CONNECT", "SPIDER", "SPHINX", "S3"))
# What MariaDB's JSON is: a text with a check of this name.
_MARIADB_JSON = """
SELECT constraint_name, check_clause FROM information_schema.check_constraints
WHERE constraint_schema = COALESCE(:schema, DATABASE()) AND table_name = :name
    AND check_clause LIKE 'json_valid(%'
"""


def _mysql(connection: sql.Connection, schema: str | None, name: str) -> Table | None:
    where = {"schema": schema, "name": name}
    found = connection.execute(sql.text(_MYSQL_COLUMNS), where).all()
    if not found:
        return None
    json_columns: set[str] = set()
    if is_mariadb(connection):
        json_columns = {
            str(row[0]).casefold()
            for row in connection.execute(sql.text(_MARIADB_JSON), where)
            if str(row[1]) in _json_checks(str(row[0]))
        }
    columns = tuple(_mysql_column(row, json_columns) for row in found)
    nullable = {one.name for one in columns if one.nullable}
    indexes: dict[str, list[tuple[str, bool, bool]]] = {}
    for index, column, non_unique, part, _ in connection.execute(sql.text(_MYSQL_KEYS), where):
        whole = column is not None and part is None
        indexes.setdefault(str(index), []).append((str(column), bool(non_unique), whole))
    key = tuple(column for column, _, _ in indexes.get("PRIMARY", ()))
    engine, kind = connection.execute(sql.text(_MYSQL_KIND), where).first() or ("", "")
    usable = [
        (tuple(column for column, _, _ in parts), parts[0][1])
        for index, parts in indexes.items()
        if index != "PRIMARY" and all(whole for _, _, whole in parts)
    ]
    return Table(
        "mysql",
        schema,
        name,
        columns,
        key,
        tuple(these for these, twice in usable if not twice and not nullable & {*these}),
        tuple(these for these, _ in usable),
        tuple(
            ForeignKey(one.refers, one.parent[1], one.deletes, one.updates)
            for one in foreign_keys(connection, (schema, name))
        ),
        str(engine or ""),
        _elsewhere(str(engine or ""), str(kind)),
        _ends(found) if kind == "SYSTEM VERSIONED" else "",
    )


def _elsewhere(engine: str, kind: str) -> str:
    if "VIEW" in kind:
        return "is a view"
    return f"is of {engine}" if engine.upper() in _ELSEWHERE else ""


def _ends(columns: Iterable[Sequence[Any]]) -> str:
    """Where nobody named the column, no question shows it."""
    return next((str(row[0]) for row in columns if row[10] == "ROW END"), "row_end")


def _json_checks(name: str) -> set[str]:
    """The check of a column of JSON; which quotes there are is a setting."""
    return {f"json_valid({quote}{name.replace(quote, quote * 2)}{quote})" for quote in '`"'}


def _mysql_column(row: Any, json_columns: set[str]) -> Column:
    name, kind, declared, nullable, characters, precision, scale, charset, collation = row[:9]
    extra, expression = str(row[9] or "").upper(), row[10]
    kind, declared = str(kind).casefold(), str(declared)
    lower = declared.casefold()
    length = characters if characters is not None else precision
    if kind in ("float", "double"):
        # Only FLOAT(M, D) has digits of its own.
        given = _DECLARED.search(declared)
        scale = int(given[2]) if given and given[2] else None
    if kind in ("time", "datetime", "timestamp"):
        scale = row[11] or 0
    members: tuple[str, ...] = ()
    if kind in ("enum", "set"):
        members = tuple(one.replace("''", "'") for one in _MEMBER.findall(declared))
    return Column(
        str(name),
        kind,
        declared,
        nullable == "YES",
        None if length is None else int(length),
        None if scale is None else int(scale),
        "unsigned" in lower,
        "zerofill" in lower,
        str(charset or ""),
        str(collation or ""),
        members,
        "AUTO_INCREMENT" in extra,
        bool(expression),
        "INVISIBLE" in extra,
        kind == "json" or str(name).casefold() in json_columns,
    )


# PostgreSQL.

_PG_TABLE = """
SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = :name AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (n.nspname = CAST(:schema AS text)
        OR (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid)))
"""
# A domain is what it is made of.
_PG_COLUMNS = """
SELECT a.attname, COALESCE(b.typname, t.typname), format_type(a.atttypid, a.atttypmod),
    a.attnotnull, CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
    a.attidentity <> '' OR COALESCE(pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%', false),
    a.attgenerated <> '', COALESCE(co.collname, ''),
    COALESCE(b.typtype, t.typtype)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON t.typtype = 'd' AND b.oid = t.typbasetype
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE a.attrelid = :oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_PG_KEYS = """
SELECT i.indexrelid, i.indisprimary, i.indisunique AND i.indpred IS NULL, a.attname, a.attnotnull
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(attnum, place)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
WHERE i.indrelid = :oid AND k.place <= i.indnkeyatts AND m.amname IN ('btree', 'hash')
ORDER BY i.indexrelid, k.place
"""
_PG_FOREIGN = """
SELECT c.oid, a.attname, CAST(CAST(c.confrelid AS regclass) AS text), c.confdeltype, c.confupdtype
FROM pg_constraint c CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k(attnum, place)
JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
WHERE c.conrelid = :oid AND c.contype = 'f' ORDER BY c.oid, k.place
"""
_PG_DIGEST = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, t.typtype,
    a.attgenerated, a.attcollation,
    (SELECT string_agg(CAST(i.indkey AS text), ',' ORDER BY i.indexrelid) FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relname = :name AND a.attnum > 0 AND NOT a.attisdropped
    AND (n.nspname = CAST(:schema AS text)
        OR (CAST(:schema AS text) IS NULL AND pg_table_is_visible(c.oid)))
ORDER BY a.attnum
"""
_PG_ACTIONS = {"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT", "r": "RESTRICT"}


def _postgresql(connection: sql.Connection, schema: str | None, name: str) -> Table | None:
    where = {"schema": schema, "name": name}
    oid = connection.execute(sql.text(_PG_TABLE), where).scalar()
    if oid is None:
        return None
    found = connection.execute(sql.text(_PG_COLUMNS), {"oid": oid}).all()
    columns = tuple(_pg_column(row) for row in found)
    indexes: dict[int, list[Any]] = {}
    for row in connection.execute(sql.text(_PG_KEYS), {"oid": oid}):
        indexes.setdefault(row[0], []).append(row)
    whole = {n: rows for n, rows in indexes.items() if all(row[3] is not None for row in rows)}
    foreign = connection.execute(sql.text(_PG_FOREIGN), {"oid": oid})
    return Table(
        "postgresql",
        schema,
        name,
        columns,
        next((_fourth(rows) for rows in whole.values() if rows[0][1]), ()),
        tuple(
            _fourth(rows)
            for rows in whole.values()
            if rows[0][2] and not rows[0][1] and all(row[4] for row in rows)
        ),
        tuple(_fourth(rows) for rows in whole.values() if not rows[0][1]),
        _foreign(
            (*row[:3], *(_PG_ACTIONS.get(str(action), "") for action in row[3:])) for row in foreign
        ),
    )


def _fourth(rows: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(row[3]) for row in rows)


def _pg_column(row: Any) -> Column:
    name, kind, declared, not_null, modifier, automatic, generated, collation, _ = row
    kind, length, scale = str(kind), None, None
    if modifier is not None and modifier >= 4:
        if kind == "numeric":
            length = ((modifier - 4) >> 16) & 0xFFFF
            scale = (modifier - 4) & 0x7FF
            scale = scale - 0x800 if scale >= 0x400 else scale  # 15 and newer: below zero, too
            scale = max(scale, 0)
        elif kind in ("varchar", "bpchar"):
            length = modifier - 4
    return Column(
        str(name),
        kind,
        str(declared),
        not not_null,
        length,
        scale,
        collation=str(collation),
        automatic=bool(automatic),
        generated=bool(generated),
        json=kind in ("json", "jsonb"),
    )


# SQLite.


def _sqlite(connection: sql.Connection, schema: str | None, name: str) -> Table | None:
    quote = connection.dialect.identifier_preparer.quote
    prefix = "" if schema is None else f"{quote(schema)}."
    table = "'" + name.replace("'", "''") + "'"
    found = connection.exec_driver_sql(f"PRAGMA {prefix}table_xinfo({table})").all()
    if not found:
        return None
    key = [(row[5], str(row[1])) for row in found if row[5]]
    primary = tuple(column for _, column in sorted(key))
    columns = tuple(_sqlite_column(row, primary) for row in found if row[6] != 1)
    nullable = {one.name for one in columns if one.nullable}
    unique, indexes = [], []
    for row in connection.exec_driver_sql(f"PRAGMA {prefix}index_list({table})").all():
        index = "'" + str(row[1]).replace("'", "''") + "'"
        parts = connection.exec_driver_sql(f"PRAGMA {prefix}index_info({index})").all()
        if row[3] == "pk" or any(part[2] is None for part in parts) or row[4]:
            continue
        these = tuple(str(part[2]) for part in parts)
        indexes.append(these)
        if row[2] and not nullable & set(these):
            unique.append(these)
    foreign = connection.exec_driver_sql(f"PRAGMA {prefix}foreign_key_list({table})").all()
    return Table(
        "sqlite",
        schema,
        name,
        columns,
        primary,
        tuple(unique),
        tuple(indexes),
        _foreign((row[0], row[3], row[2], row[6], row[5]) for row in foreign),
    )


def _sqlite_column(row: Any, primary: tuple[str, ...]) -> Column:
    _, name, declared, not_null, _, _, hidden = row
    declared = str(declared or "")
    given = _DECLARED.search(declared)
    alone = primary == (str(name),) and declared.strip().upper() == "INTEGER"
    return Column(
        str(name),
        declared,
        declared or "no type",
        not not_null and str(name) not in primary,
        int(given[1]) if given else None,
        int(given[2]) if given and given[2] else None,
        automatic=alone,
        generated=hidden in (2, 3),
    )
