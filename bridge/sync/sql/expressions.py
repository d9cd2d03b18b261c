"""The sums of `bridge.sync.checksums`, as MySQL, MariaDB and PostgreSQL compute them.

Which columns have the same text there as in Python is left to `bridge.sync.sql.sums`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql, postgresql

__all__ = ["bucket_in", "sum_in"]


def bucket_in(text: Any, dialect: str) -> Any:
    """The bucket of a key text."""
    return _number(text, 3, dialect)


def sum_in(text: Any, version: Any, dialect: str) -> Any:
    """What a row adds to its bucket."""
    return _number(sql.func.concat(text, "\n", version), 12, dialect)


def _number(text: Any, digits: int, dialect: str) -> Any:
    """The first hexadecimal digits of the MD5 of a text, as a number."""
    if dialect == "postgresql":
        hashed = sql.func.md5(sql.func.convert_to(text, "UTF8"))
        bits: Any = postgresql.BIT(digits * 4)
        word = sql.func.concat("x", sql.func.substr(hashed, 1, digits))
        return sql.cast(sql.cast(word, bits), sql.BigInteger)
    # In MySQL the newline is a parameter, too: what a backslash means is a setting there.
    first = sql.func.left(sql.func.md5(text), digits)
    return sql.cast(sql.func.conv(first, 16, 10), mysql.BIGINT(unsigned=True))
