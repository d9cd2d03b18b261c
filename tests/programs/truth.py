"""What MongoDB has to hold by what MariaDB holds, worked out without a line of the bridge's code.

Rows are read as the text that the server prints, so that no driver's idea of a date is in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pymysql
from bson import Decimal128
from pymysql.converters import encoders

from stack.mariadb import MariaDB

Raw = str | bytes | None
Row = tuple[Raw, ...]
OURS = "bridge\\_%"
"""The tables that the bridge has made, for LIKE."""


class Column(NamedTuple):
    """A column as information_schema has it; type without what stands in brackets."""

    name: str
    type: str
    declared: str
    charset: str | None


class Tables:
    """All tables of a program's database; what they hold, and what has changed in them."""

    def __init__(self, mariadb: MariaDB, database: str) -> None:
        self.mariadb, self.database = mariadb, database
        self._before: dict[str, Counter[Row]] = {}

    def ask(self, sql: str, *values: object) -> list[Any]:
        """Rows in which everything is text or bytes, times in UTC."""
        connection = pymysql.connect(
            host=self.mariadb.host,
            port=self.mariadb.port,
            user="root",
            database=self.database,
            charset="utf8mb4",
            conv=encoders,  # without the decoders
            init_command="SET time_zone = '+00:00', sql_mode = ''",
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    @property
    def names(self) -> set[str]:
        """All of the program's own."""
        asked = "SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND "
        return {
            name for (name,) in self.ask(f"{asked} table_name NOT LIKE %s", self.database, OURS)
        }

    @property
    def without_key(self) -> set[str]:
        """Those in which nothing tells two rows apart: no index that is unique and never null."""
        keyed = self.ask(
            "SELECT DISTINCT table_name FROM (SELECT table_name, index_name FROM"
            " information_schema.statistics WHERE table_schema = %s GROUP BY table_name, index_name"
            " HAVING MAX(non_unique) = 0 AND MAX(nullable) = '' AND COUNT(sub_part) = 0) AS good",
            self.database,
        )
        return self.names - {name for (name,) in keyed}

    def columns(self, table: str) -> list[Column]:
        """The columns of a table, in its order."""
        rows = self.ask(
            "SELECT column_name, data_type, column_type, character_set_name FROM"
            " information_schema.columns WHERE table_schema = %s AND table_name = %s"
            " ORDER BY ordinal_position",
            self.database,
            table,
        )
        return [Column(*row) for row in rows]

    def rows(self, table: str, stored: Collection[str] = ()) -> Counter[Row]:
        """The rows of a table. stored: columns whose bytes are wanted as they lie there."""
        wanted = [
            f"CAST(`{one.name}` AS BINARY)" if one.name in stored else f"`{one.name}`"
            for one in self.columns(table)
        ]
        return Counter(self.ask(f"SELECT {', '.join(wanted)} FROM `{table}`"))

    def remember(self) -> None:
        """Keep what all tables hold now, for `changed`."""
        self._before = {name: self.rows(name) for name in self.names}

    def changed(self) -> dict[str, int]:
        """Rows that are in one of both states only, of each table that is not as it was."""
        found = {}
        for name, before in self._before.items():
            now = self.rows(name)
            if number := ((now - before) + (before - now)).total():
                found[name] = number
        return found

    def expected(self, table: str, utf8: Collection[str] = ()) -> Iterator[dict[str, Any]]:
        """The fields that the document of each row has to have. utf8: columns whose bytes are
        UTF-8, whatever their charset is said to be."""
        columns = self.columns(table)
        for row in self.rows(table, utf8).elements():
            yield {
                one.name: text_of(raw) if one.name in utf8 else field(one, raw)
                for one, raw in zip(columns, row, strict=True)
            }


def text_of(raw: Raw) -> Raw:
    """What the document holds for bytes that ought to be UTF-8; those that are not are read as
    Windows-1252, one by one, as PHP's producer does."""
    if not isinstance(raw, bytes):
        return raw
    text = ""
    while raw:
        try:
            return text + raw.decode("utf-8")
        except UnicodeDecodeError as error:
            odd = raw[error.start : error.start + 1]
            text += raw[: error.start].decode("utf-8") + odd.decode("cp1252", "replace")
            raw = raw[error.start + 1 :]
    return text


def field(column: Column, raw: Raw) -> Any:
    """What the document holds for a column whose value the server prints like this."""
    if raw is None:
        return None
    if column.type in _READERS:
        text = raw.decode("utf-8") if isinstance(raw, bytes) and column.type != "bit" else raw
        return _READERS[column.type](column, text)
    return raw


def _integer(column: Column, text: str) -> int | Decimal128:
    number = int(text)
    return number if number < 1 << 63 else Decimal128(str(number))


def _bits(column: Column, raw: bytes) -> bool | int:
    number = int.from_bytes(raw, "big")
    return bool(number) if column.declared == "bit(1)" else number


def _date(column: Column, text: str) -> str | None:
    return None if text == "0000-00-00" else text


def _moment(column: Column, text: str) -> datetime | str | None:
    if text.startswith("0000-00-00"):
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # the 30th of February: what is no time stays text
        return text


_READERS: dict[str, Any] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), _integer),
    "decimal": lambda column, text: Decimal128(Decimal(text)),
    "float": lambda column, text: float(text),
    "double": lambda column, text: float(text),
    "bit": _bits,
    "date": _date,
    "datetime": _moment,
    "timestamp": _moment,
    "time": lambda column, text: text,
    "enum": lambda column, text: text,
    "set": lambda column, text: text,
}
