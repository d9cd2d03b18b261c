"""The definition of a table of MySQL and MariaDB, and what its foreign keys do to rows by
themselves.

`information_schema` shows the rules of MariaDB's keys only to users who may do more than read. So
they are read from SHOW CREATE TABLE, which takes no more than SELECT.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sql

__all__ = ["Foreign", "definition", "foreign_keys", "rules"]

_AUTO_INCREMENT = re.compile(r" AUTO_INCREMENT=\d+")
UNKNOWN = ("CASCADE", "CASCADE")
"""Of a key whose rules cannot be seen: to look in vain is better than to miss a row."""
_RULE = "CASCADE|SET NULL|SET DEFAULT|NO ACTION|RESTRICT"
_LINE = re.compile(
    r"^\s*CONSTRAINT (?P<name>`(?:[^`\n]|``)+`|\"(?:[^\"\n]|\"\")+\") FOREIGN KEY .*\)"
    rf"(?: ON DELETE (?P<deletes>{_RULE}))?(?: ON UPDATE (?P<updates>{_RULE}))?,?$",
    re.MULTILINE,
)
_KEYS = """
SELECT constraint_name, table_schema, table_name, referenced_table_schema, referenced_table_name,
    column_name, referenced_column_name
FROM information_schema.key_column_usage
WHERE referenced_table_name IS NOT NULL
"""
_ORDER = " ORDER BY table_schema, table_name, constraint_name, ordinal_position"
_OF_ONE = " AND table_schema = COALESCE(:schema, DATABASE()) AND table_name = :name"


class Foreign(NamedTuple):
    """A foreign key.

    parent, child: schema and table. columns: of the parent; refers: of the child, in that order.
    deletes, updates: what becomes of the child's rows: `CASCADE`, `SET NULL`, `RESTRICT`.
    """

    parent: tuple[str, str]
    child: tuple[str, str]
    columns: tuple[str, ...]
    refers: tuple[str, ...]
    deletes: str
    updates: str


def rules(text: str) -> dict[str, tuple[str, str]]:
    """What SHOW CREATE TABLE says of each foreign key, by its name: what deleting and what updating
    does. Of RESTRICT, which is what no word means, it says nothing."""
    found = {}
    for one in _LINE.finditer(text):
        quote, name = one["name"][0], one["name"][1:-1]
        name = name.replace(quote * 2, quote)
        found[name] = (one["deletes"] or "RESTRICT", one["updates"] or "RESTRICT")
    return found


def definition(connection: sql.Connection, schema: str | None, table: str) -> str:
    """What SHOW CREATE TABLE says, without the next number; empty where it may not be asked. Raises
    SQLAlchemy's errors where the connection is gone."""
    quote = connection.dialect.identifier_preparer.quote
    words = f"SHOW CREATE TABLE {quote(table)}"
    if schema is not None:
        words = f"SHOW CREATE TABLE {quote(schema)}.{quote(table)}"
    driver: Any = connection.dialect.loaded_dbapi
    try:
        # Past SQLAlchemy: a worker asks this before every batch.
        cursor = connection.connection.cursor()
        try:
            cursor.execute(words.replace("%%", "%"))  # without parameters nobody does that
            found: Any = cursor.fetchone()
        finally:
            cursor.close()
    except driver.Error:
        # What is wrong is SQLAlchemy's to say.
        try:
            found = connection.exec_driver_sql(words).first()
        except sql.exc.DBAPIError as error:
            if error.connection_invalidated:
                raise
            return ""
    return _AUTO_INCREMENT.sub("", found[1]) if found else ""


def foreign_keys(
    connection: sql.Connection,
    table: tuple[str | None, str] | None = None,
) -> list[Foreign]:
    """Those that this user may see. table: schema and name of the one whose keys they are; None:
    every table of the server. Raises SQLAlchemy's errors."""
    if table is None:
        rows = connection.execute(sql.text(_KEYS + _ORDER))
    else:
        where = {"schema": table[0], "name": table[1]}
        rows = connection.execute(sql.text(_KEYS + _OF_ONE + _ORDER), where)
    parts: dict[tuple[str, str, str], list[tuple[str, ...]]] = {}
    for row in rows:
        texts = tuple(str(value) for value in row)
        parts.setdefault((texts[1], texts[2], texts[0]), []).append(texts)
    said: dict[tuple[str, str], Mapping[str, tuple[str, str]]] = {}
    found = []
    for (schema, name, key), columns in parts.items():
        if (schema, name) not in said:
            said[schema, name] = rules(definition(connection, schema, name))
        found.append(
            Foreign(
                (columns[0][3], columns[0][4]),
                (schema, name),
                tuple(one[6] for one in columns),
                tuple(one[5] for one in columns),
                *said[schema, name].get(key, UNKNOWN),
            )
        )
    return found
