"""Columns of every type with the borders of their values, in tables of a real database.

What the types are is `types_of_mysql`, `types_of_postgresql` and `types_of_sqlite`. Row n of a
table has the n-th border of each of its columns, and NULL where a column has no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sql

__all__ = ["Declared", "Laid", "in_tables", "lay"]


@dataclass(frozen=True)
class Declared:
    """A column. kind: of type, for messages and exceptions. declaration: as in CREATE TABLE.
    values: its borders, as SQL. is_binary: whether a PHP programmer knows it to hold bytes.
    key: whether it can be a primary key. common: whether it is in the short form of the tests."""

    kind: str
    declaration: str
    values: tuple[str, ...]
    is_binary: bool = False
    key: bool = True
    common: bool = True


@dataclass(frozen=True)
class Laid:
    """A table that is there. columns: by name. rows: how many."""

    name: str
    columns: dict[str, Declared]
    rows: int

    @property
    def binary(self) -> list[str]:
        """The columns of bytes."""
        return [name for name, one in self.columns.items() if one.is_binary]

    def source(self) -> dict[str, str]:
        """For sync.yaml."""
        return {"table": self.name, "key": "id", "version": "ver"}

    def literal(self, column: str, row: int) -> str:
        """What was written there, as SQL."""
        values = self.columns[column].values
        return values[row - 1] if row <= len(values) else "NULL"


def in_tables(columns: Sequence[Declared], width: int) -> Iterator[list[Declared]]:
    """So many columns for each table, those with many borders together."""
    ordered = sorted(columns, key=lambda one: -len(one.values))
    for start in range(0, len(ordered), width):
        yield ordered[start : start + width]


def lay(
    connection: sql.Connection,
    name: str,
    columns: Sequence[Declared],
    after: str = "",
) -> Laid:
    """Make a table of these columns and fill it. after: the options of the table."""
    # A driver takes one % for the beginning of a parameter.
    percent = "%" if connection.dialect.name == "sqlite" else "%%"
    named = {f"c{number}": one for number, one in enumerate(columns)}
    declared = ", ".join(f"{column} {one.declaration}" for column, one in named.items())
    words = f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, ver BIGINT NOT NULL, {declared}){after}"
    connection.exec_driver_sql(words.replace("%", percent))
    rows = max(len(one.values) for one in columns) + 1
    table = Laid(name, named, rows)
    for row in range(1, rows + 1):
        values = ", ".join(table.literal(column, row) for column in named)
        words = f"INSERT INTO {name} (id, ver, {', '.join(named)}) VALUES ({row}, {row}, {values})"
        connection.exec_driver_sql(words.replace("%", percent))
    return table
