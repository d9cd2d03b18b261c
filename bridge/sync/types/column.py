"""Columns and tables as a database declares them. Pure data; `catalog` reads it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Column", "ForeignKey", "Table"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    type: its type in lower case without length and attributes, as the database names it:
    `bigint`, `varchar`, `timestamp with time zone`; in SQLite what stands in the declaration.
    declared: the whole declaration of the type, to be shown. length: characters or bytes, bits of
    BIT; scale: digits after the point, of numbers and of MySQL's times; None where there is none.
    charset, collation: of text in MySQL and MariaDB. members: of ENUM and SET. automatic: the
    database gives the value of the key. generated: computed from other columns. hidden: not among
    the columns of `SELECT *`. json: a check or its type says that it holds JSON.
    """

    name: str
    type: str
    declared: str
    nullable: bool = True
    length: int | None = None
    scale: int | None = None
    unsigned: bool = False
    zerofill: bool = False
    charset: str = ""
    collation: str = ""
    members: tuple[str, ...] = ()
    automatic: bool = False
    generated: bool = False
    hidden: bool = False
    json: bool = False


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """columns of the table that refer to others. deletes, updates: what becomes of the rows when
    the row that they refer to goes or changes: `CASCADE`, `SET NULL`, … as the database says."""

    columns: tuple[str, ...]
    table: str
    deletes: str = ""
    updates: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One table. dialect: `mysql` (also for MariaDB), `postgresql` or `sqlite`. schema: None for
    the one of the connection. key: the columns of the primary key, empty where there is none.
    unique: the columns of each further unique index over whole columns that cannot be NULL.
    indexes: the columns of all others. engine: of MySQL. elsewhere: of MySQL, what it is where its
    rows are written under another name, as those of a view; empty for all others. ends: the column
    that says until when a row was valid, of a table of MariaDB that keeps its history. digest:
    changes whenever the definition does."""

    dialect: str
    schema: str | None
    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()
    indexes: tuple[tuple[str, ...], ...] = ()
    foreign: tuple[ForeignKey, ...] = ()
    engine: str = ""
    elsewhere: str = ""
    ends: str = ""
    digest: str = ""

    @property
    def full_name(self) -> str:
        """With its schema where that was given."""
        return self.name if self.schema is None else f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        """The column of this name; MySQL and SQLite do not care for the case."""
        for one in self.columns:
            if one.name == name:
                return one
        if self.dialect != "postgresql":
            for one in self.columns:
                if one.name.casefold() == name.casefold():
                    return one
        return None
