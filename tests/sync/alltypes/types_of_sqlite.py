"""Declarations of SQLite times everything that can be stored under them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.sync.alltypes.all_types import Declared

__all__ = ["columns", "keys"]

_NAMES = (
    "INTEGER",
    "INT",
    "TINYINT",
    "BIGINT",
    "UNSIGNED BIG INT",
    "INT8",
    "POINT",
    "CHARACTER(20)",
    "VARCHAR(255)",
    "NCHAR(55)",
    "NVARCHAR(100)",
    "TEXT",
    "CLOB",
    "BLOB",
    "",
    "REAL",
    "DOUBLE",
    "DOUBLE PRECISION",
    "FLOAT",
    "NUMERIC",
    "DECIMAL(10,5)",
    "DECIMAL",
    "MONEY",
    "BOOLEAN",
    "BOOL",
    "DATE",
    "DATETIME",
    "TIMESTAMP",
    "TIME",
    "JSON",
    "STRING",
    "UUID",
    "TEXT COLLATE NOCASE",
)
_VALUES = (
    "0",
    "1",
    "-1",
    "12",
    "9223372036854775807",
    "-9223372036854775808",
    "1.0",
    "12.5",
    "-0.0",
    "0.1",
    "1e15",
    "1e16",
    "1e300",
    "1e-7",
    "9e999",
    "-9e999",
    "0.1 + 0.2",
    "1700000000",
    "''",
    "' '",
    "'text'",
    "'12'",
    "'012'",
    "'12.50'",
    "'1e3'",
    "'-0'",
    "'18446744073709551615'",
    "'true'",
    "'é😀'",
    "'a' || char(0) || 'b'",
    "CAST(x'ff41' AS TEXT)",
    "'$where'",
    "'2024-02-29'",
    "'2005-03-00'",
    "'0000-00-00'",
    "'2024-01-31 12:34:56.789'",
    "'9999-12-31T23:59:59-05:00'",
    "'08:05:00'",
    "'26:30:00'",
    "'{\"a\": 1.50}'",
    "'{\"$a\": 1}'",
    "x''",
    "x'00'",
    "x'ff41'",
    "x'6162'",
    "x'c3a9'",
)

_SYNONYMS = frozenset(
    {
        "TINYINT",
        "UNSIGNED BIG INT",
        "INT8",
        "POINT",
        "CHARACTER(20)",
        "NCHAR(55)",
        "NVARCHAR(100)",
        "CLOB",
        "DOUBLE",
        "DOUBLE PRECISION",
        "FLOAT",
        "DECIMAL",
        "MONEY",
        "BOOL",
        "TIMESTAMP",
    }
)


def columns() -> Iterator[Declared]:
    """All of them."""
    for name in _NAMES:
        kind = name.partition("(")[0] or "none"
        yield Declared(kind, name, _VALUES, name == "BLOB", common=name not in _SYNONYMS)


_OF_KEYS = {
    "INTEGER": ("0", "-1", "9223372036854775807", "-9223372036854775808", "12"),
    "REAL": ("0.0", "-1.5", "12.0", "0.1", "123456789.25"),
    "BLOB": ("x''", "x'00'", "x'ff41'", "x'6162'"),
    "TEXT": (
        "''",
        "' '",
        "'text'",
        "'TEXT'",
        "'12'",
        "'012'",
        "'1e3'",
        "'é😀'",
        "'a' || char(0) || 'b'",
        "'2024-01-31 12:34:56'",
        "'a/b%2F'",
    ),
    "NUMERIC": ("0", "-1", "12.5", "'a'", "''", "'2024-02-29'"),
    "": ("0", "1", "12.5", "'1 '", "'a'", "''", "x'ff'"),
}
_AFFINITIES = (
    ("INT", "INTEGER"),
    ("CHAR", "TEXT"),
    ("CLOB", "TEXT"),
    ("TEXT", "TEXT"),
    ("BLOB", "BLOB"),
    ("REAL", "REAL"),
    ("FLOA", "REAL"),
    ("DOUB", "REAL"),
)


def keys(column: Declared) -> Declared:
    """The column with what may be the keys of a site: several types in one column have texts that
    are the same, and no site has that."""
    name = column.declaration
    found = next((like for part, like in _AFFINITIES if part in name), "NUMERIC" if name else "")
    return replace(column, values=_OF_KEYS[found])
