"""Tables whose key is of a given type, alone or among others, with its borders as keys; and all
that must hold of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bson
import sqlalchemy as sql

from bridge.sync.checksums import Sums, add_all
from bridge.sync.documents import Mirror
from bridge.sync.log.stream import Change, Stopped, Unreadable
from bridge.sync.models import File
from bridge.sync.sql.source import SqlSource
from bridge.sync.sql.sums import KeyedRows
from tests.sync.alltypes.all_types import Declared
from tests.sync.log.reading import Place, found_in

__all__ = ["FOREIGN", "by_log", "fill", "judge", "mirror_of"]

FOREIGN = (
    "",
    " ",
    "a😀",
    "a\0b",
    "nothing",
    "0",
    "-1",
    "1.5",
    "1e400",
    "99999999999999999999999",
    "x" * 900,
    "0000-00-00",
    "2005-03-00",
    "2024-13-01",
    "2024-01-31 25:00:00",
    "infinity",
    "NaN",
    "ff",
    "f",
    "é",
    "日本",
    "%",
    "%2F",
    "'",
    '"',
    "\\",
    "{}",
    "::1",
    "t",
    "١٢",
    "1_0",
    "12345678-1234-1234-1234-123456789012",
)
"""Texts that may be the key of anything."""


def fill(
    connection: sql.Connection,
    name: str,
    column: Declared,
    composite: bool,
    values: Sequence[str],
    after: str,
) -> None:
    """Make a table. Borders that the database takes for the same key are there once."""
    percent = "%" if connection.dialect.name == "sqlite" else "%%"
    key = "n, k, t" if composite else "k"
    text = "VARCHAR(20)"
    connection.exec_driver_sql(
        f"CREATE TABLE {name} (k {column.declaration} NOT NULL, n INTEGER NOT NULL, t {text} NOT "
        f"NULL, ver BIGINT NOT NULL, PRIMARY KEY ({key})){after}".replace("%", percent)
    )
    for number, value in enumerate(values):
        # Of a composite key the first and the last column stay the same for two rows.
        rest = f"{number // 2}, 'a/%2F'" if composite else f"{number}, 'x'"
        insert = f"INTO {name} (k, n, t, ver) VALUES ({value}, {rest}, {number + 1})"
        insert = insert.replace("%", percent)
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"INSERT {insert} ON CONFLICT DO NOTHING")
        else:
            words = "OR IGNORE " if connection.dialect.name == "sqlite" else "IGNORE "
            connection.exec_driver_sql(f"INSERT {words}{insert}")


def mirror_of(names: Iterable[str], composite: bool, **fields: Any) -> Mirror:
    """An entity for each of these tables."""
    key = ["n", "k", "t"] if composite else ["k"]
    entities = {
        name: {
            "collection": name,
            "source": {"table": name, "key": key, "version": "ver"},
            "fields": fields,
        }
        for name in names
    }
    return Mirror(File.model_validate({"version": 1, "entities": entities}))


def judge(
    engine: sql.Engine, mirror: Mirror, name: str, sizes: Sequence[int] = (1, 2, 3)
) -> list[str]:
    """Everything that is wrong with the keys of a table. sizes: of the steps to walk in."""
    source = SqlSource(engine, name, mirror)
    wrong: list[str] = []
    whole = source.chunk(None, 10_000)
    wrong += [f"bad row: {one.error}" for one in whole.bad]
    keys = [event.key for event in whole.events]
    if len(set(keys)) != len(keys):
        wrong.append(f"two rows have one key: {sorted(keys)}")
    if whole.rows != source.count():
        wrong.append(f"{source.count()} rows, and {whole.rows} were read")
    for size in sizes:
        walked, position = [], None
        for _ in range(whole.rows + 2):
            chunk = source.chunk(position, size)
            walked += [event.key for event in chunk.events]
            if chunk.last is None:
                break
            position = bson.decode(bson.encode({"at": json.loads(json.dumps(chunk.last))}))["at"]
        if walked != keys:
            wrong.append(f"in steps of {size}: {walked}, not {keys}")
    there, unlookable, _ = source.existing(keys)
    if there != set(keys) or unlookable:
        wrong.append(f"not found again: {set(keys) - there}, {unlookable}")
    events, bad = source.rows_by_keys(keys)
    if sorted(event.key for event in events) != sorted(keys) or bad:
        wrong.append(f"not read again: {set(keys) - {event.key for event in events}}")
    for key in keys:
        if mirror.key_of(name, key) != key:
            wrong.append(f"{key!a} becomes {mirror.key_of(name, key)!a}")
    foreign = [text for text in FOREIGN if text not in keys]
    if "/" in mirror.entities[name].source.key or len(mirror.entities[name].source.key) > 1:  # type: ignore[union-attr]
        foreign = [f"0/{text}/a%2F%252F" for text in foreign]
        foreign = [text for text in foreign if text not in keys]
    there, unlookable, _ = source.existing([*foreign, *keys])
    if there != set(keys):
        wrong.append(f"foreign keys: {there ^ set(keys)}")
    wrong += _summed(engine, mirror, name, [(event.key, event.version) for event in whole.events])
    return wrong


def by_log(
    engine: sql.Engine, mirror: Mirror, tables: Mapping[str, Declared], since: Place
) -> dict[str, Any]:
    """What is wrong with the names that the log gives to the rows of these tables. It has none of
    those with a floating-point number in their key, and says so."""
    keys: dict[str, set[str]] = {name: set() for name in tables}
    told: dict[str, set[str]] = {}
    for one in found_in(engine, mirror, since):
        if isinstance(one, Change):
            keys[one.entity].add(one.key)
        elif isinstance(one, Stopped):
            told.setdefault(one.entity, set()).add(one.why)
        elif isinstance(one, Unreadable):
            told.setdefault(one.entity, set()).add(one.error)
    wrong: dict[str, Any] = {}
    for name, column in tables.items():
        if column.kind in ("float", "double"):
            if not any("is a floating-point number" in why for why in told.pop(name, ())):
                wrong[name] = f"{column.declaration} is not refused"
            continue
        rows = SqlSource(engine, name, mirror).chunk(None, 10_000)
        if keys[name] != {event.key for event in rows.events}:
            wrong[name] = (column.declaration, keys[name] ^ {event.key for event in rows.events})
    return wrong | told


def _summed(
    engine: sql.Engine, mirror: Mirror, name: str, rows: list[tuple[str, int]]
) -> list[str]:
    expected = Sums()
    add_all(expected, [rows], lambda count: None)
    found = KeyedRows(engine, name, mirror).sums(chunk=2)
    different = expected.differing(found)
    return [f"the sums differ in {len(different)} buckets"] if different else []
