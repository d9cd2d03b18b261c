"""What a document must hold, told by the text that the database itself prints: written without the
rules of the bridge, to judge them."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from bson.decimal128 import Decimal128

from tests.sync.alltypes.all_types import Declared, Laid
from tests.sync.alltypes.producers import Site

__all__ = ["printed"]

_NUMBERS = {"int2", "int4", "int8", "oid", "positive"}


def printed(site: Site, table: Laid) -> dict[str, dict[str, Any]]:
    """By key and column. Of SQLite, where nothing is declared, only what is what its column is
    named after."""
    if site.dialect == "sqlite":
        return _by_sqlite(site, table)
    hexed = _by_mysql if site.dialect == "mysql" else _by_postgresql
    wanted = ", ".join(f"{hexed(name, one)} AS {name}" for name, one in table.columns.items())
    with site.engine.connect() as connection:
        for statement in site.setup:
            connection.exec_driver_sql(statement)
        rows = connection.exec_driver_sql(f"SELECT id, {wanted} FROM {table.name}").mappings().all()
    expected = _of_mysql if site.dialect == "mysql" else _of_postgresql
    return {
        str(row["id"]): {
            name: None if row[name] is None else expected(bytes.fromhex(row[name]), one)
            for name, one in table.columns.items()
        }
        for row in rows
    }


_STORED = {
    "none": (int, float, str),
    "INTEGER": (int,),
    "TEXT": (str,),
    "REAL": (float,),
    "BLOB": (bytes,),
}


def _by_sqlite(site: Site, table: Laid) -> dict[str, dict[str, Any]]:
    database = sqlite3.connect(str(site.engine.url.database))
    database.text_factory = bytes
    found: dict[str, dict[str, Any]] = {}
    for name, column in table.columns.items():
        for key, value in database.execute(f"SELECT id, {name} FROM {table.name}"):
            try:
                stored = (
                    value.decode()
                    if isinstance(value, bytes) and not _is_blob(database, table, name, key)
                    else value
                )
            except UnicodeDecodeError:
                continue
            if type(stored) in _STORED.get(column.kind, ()) and abs(_size(stored)) != math.inf:
                found.setdefault(str(key), {})[name] = (
                    stored + 0.0 if isinstance(stored, float) else stored
                )
    database.close()
    return found


def _is_blob(database: sqlite3.Connection, table: Laid, name: str, key: int) -> bool:
    [kind] = database.execute(
        f"SELECT typeof({name}) FROM {table.name} WHERE id = {key}"
    ).fetchone()
    return bool(kind == b"blob")


def _size(stored: Any) -> float:
    return stored if isinstance(stored, float) else 0.0


def _by_mysql(name: str, column: Declared) -> str:
    if column.kind in ("binary",):
        return f"HEX({name})"
    text = f"{name} + 0" if column.kind in ("bit", "integer") else name
    return f"HEX(CAST({text} AS CHAR CHARACTER SET utf8mb4))"


def _by_postgresql(name: str, column: Declared) -> str:
    raw = name if column.kind == "bytea" else f"convert_to(concat({name}), 'UTF8')"
    return f"CASE num_nulls({name}) WHEN 0 THEN encode({raw}, 'hex') END"


def _of_mysql(raw: bytes, column: Declared) -> Any:
    kind, declared = column.kind, column.declaration
    if kind == "binary":
        return raw
    text = raw.decode()
    if declared == "bit(1)":
        return text == "1"
    if kind in ("integer", "year", "bit"):
        return int(text) if int(text) < 2**63 else Decimal128(text)
    if kind == "decimal":
        digits = int(re.findall(r"\d+", declared)[0])
        exact = text.lstrip("0") or "0"
        exact = f"0{exact}" if exact.startswith(".") else exact
        return Decimal128(exact) if digits <= 34 else text
    if kind in ("double", "float"):
        return float(text) + 0.0
    if kind == "date":
        return None if text == "0000-00-00" else text
    if kind in ("datetime", "timestamp"):
        return _moment(text)
    return _json(text) if kind == "json" else text


def _of_postgresql(raw: bytes, column: Declared) -> Any:
    kind, declared = column.kind, column.declaration
    if kind == "bytea":
        return raw
    text = raw.decode()
    if kind in _NUMBERS:
        return int(text)
    if kind == "bool":
        return text == "t"
    if kind in ("numeric", "price"):
        digits = re.findall(r"\d+", declared)
        if (digits and int(digits[0]) > 34) or len(text.replace(".", "").lstrip("-0")) > 34:
            return text
        return Decimal128(Decimal(text))
    if kind == "money":
        return Decimal128(Decimal(text.replace("$", "").replace(",", "")))
    if kind in ("float4", "float8"):
        return float(text) + 0.0
    if kind == "timestamptz":
        return _moment(re.sub(r"\+00$", "", text), text)
    if kind == "timestamp":
        return _moment(text)
    if kind == "bpchar":
        return text.rstrip(" ")
    return _json(text) if kind in ("json", "jsonb") else text


def _moment(text: str, whole: str | None = None) -> Any:
    if text.startswith("0000-00-00 00:00:00"):
        return None
    form = "%Y-%m-%d %H:%M:%S" + (".%f" if "." in text else "")
    try:
        found = datetime.strptime(text, form)
    except ValueError:
        return whole or text
    return found - timedelta(microseconds=found.microsecond % 1000)


def _json(text: str) -> Any:
    """What Python's own reader makes of it, where BSON can hold that."""
    try:
        found = json.loads(text, object_pairs_hook=_pairs)
    except ValueError:
        return text
    return found if _fits(found) else text


def _pairs(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _fits(found: Any) -> bool:
    if isinstance(found, dict):
        return all(name[:1] != "$" and _fits(one) for name, one in found.items())
    if isinstance(found, list):
        return all(map(_fits, found))
    if isinstance(found, str):
        return not re.search("[\ud800-\udfff]", found)
    if isinstance(found, float):
        return abs(found) != float("inf")
    return not isinstance(found, int) or -(2**63) <= found < 2**63
