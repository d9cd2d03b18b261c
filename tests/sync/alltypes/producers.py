"""The same rows by every way on which an event comes: a way gives the events of a table.

PHP is real, and so is what it reads the rows with. PHP 5.2 and 7.4 reach no database here: they are
given the rows as the text protocol of a database has them.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sql

from bridge.errors import UndecodableMessage
from bridge.queue.events import Event, check_data, load_json
from bridge.queue.relay.spool import Spool
from bridge.queue.sql.outbox import Row
from bridge.sync.documents import Mirror
from bridge.sync.log.stream import Stopped, Unreadable
from bridge.sync.sql.source import SqlSource
from stack.oldphp import run_old_php
from stack.php import run_php
from tests.listening import BATCH, Broker, Listening, operator
from tests.sync.alltypes.all_types import Declared, Laid
from tests.sync.log.reading import Place, events_of, found_in

__all__ = [
    "OLD_WAYS",
    "PHP_WAYS",
    "Site",
    "by_http",
    "by_log",
    "by_old_php",
    "by_php",
    "by_snapshot",
]

PRODUCER = Path(__file__).parents[3] / "php" / "BridgeProducer.php"
SCRIPT = Path(__file__).with_name("rows.php")
PHP_WAYS: Mapping[str, Sequence[str]] = {
    "mysql": ("pdo native", "pdo stringify", "pdo emulated", "mysqli text", "mysqli prepared",
              "mysqli native"),
    "postgresql": ("pdo native", "pdo stringify", "pdo emulated", "pg"),
    "sqlite": ("pdo native", "pdo stringify", "sqlite3"),
}  # fmt: skip
OLD_WAYS = ("5.2", "7.4")


@dataclass(frozen=True)
class Site:
    """A database. dialect: as `bridge.sync.types` names it. setup: what PHP says first."""

    engine: sql.Engine
    dialect: str
    setup: tuple[str, ...] = ()

    def connection(self) -> dict[str, Any]:
        """How PHP finds it."""
        url = self.engine.url
        if self.dialect == "sqlite":
            return {"where": f"sqlite:{url.database}", "file": url.database, "user": ""}
        words = f"host={url.host};port={url.port};dbname={url.database}"
        found = {"host": url.host, "port": url.port, "database": url.database, "user": url.username}
        if self.dialect == "mysql":
            return {"where": f"mysql:{words};charset=utf8mb4", **found}
        spaced = words.replace(";", " ")
        return {"where": f"pgsql:{words}", "words": f"{spaced} user={url.username}", **found}


def by_snapshot(site: Site, tables: Sequence[Laid], mirror: Mirror) -> list[Event]:
    """What `bridgectl snapshot` reads; it learns the types, too."""
    events = []
    for table in tables:
        chunk = SqlSource(site.engine, table.name, mirror).chunk(None, 1000)
        assert [one.error for one in chunk.bad] == []
        events += chunk.events
    return events


def by_log(site: Site, tables: Sequence[Laid], mirror: Mirror, since: Place) -> list[Event]:
    """What the log of the database has; the types must be learned."""
    found = found_in(site.engine, mirror, since)
    assert [one for one in found if isinstance(one, Unreadable | Stopped)] == []
    return events_of(found, {table.name: "id" for table in tables})


Refused = set[tuple[str, str, str]]
"""Entity, key and field that PHP's producer did not take."""


def by_php(
    site: Site, tables: Sequence[Laid], way: str, folder: Path
) -> tuple[list[Event], Refused]:
    """The events of PHP 8.2."""
    asked = site.connection() | {"way": way, "emulate": site.dialect != "sqlite"}
    asked["tables"] = [_table(table) for table in tables]
    return _ran(site, asked, folder, lambda file: run_php(SCRIPT, str(file)))


def by_old_php(
    site: Site, tables: Sequence[Laid], version: str, folder: Path
) -> tuple[list[Event], Refused]:
    """The events of an older PHP, of rows as texts."""
    asked: dict[str, Any] = {"way": "given"}
    asked["tables"] = [_table(table) | {"rows": _as_texts(site, table)} for table in tables]
    folders = [folder, PRODUCER.parent]

    def run(file: Path) -> str:
        return run_old_php(version, SCRIPT, folders=folders, env={"ROWS_ARGUMENT": str(file)})

    return _ran(site, asked, folder, run)


def _table(table: Laid) -> dict[str, Any]:
    return {
        "entity": table.name,
        "query": f"SELECT * FROM {table.name} WHERE id > ? ORDER BY id",
        "binary": table.binary,
    }


def _ran(
    site: Site, asked: dict[str, Any], folder: Path, run: Callable[[Path], str]
) -> tuple[list[Event], Refused]:
    folder.mkdir(parents=True)
    file = folder / "asked.json"
    spool, events = Spool(folder / "spool"), []
    asked |= {"producer": str(PRODUCER), "spool": str(spool.directory), "setup": site.setup}
    file.write_text(json.dumps(asked))
    refused = json.loads(run(file))
    while (lines := spool.lines()) is not None:
        events += [Event.parse(line) for line in lines]
        spool.done()
    return events, {(entity, row, column) for entity, row, column in refused}


def _as_texts(site: Site, table: Laid) -> list[dict[str, str | None]]:
    """Rows as PHP's drivers of that time gave them: the text of each value, in base64."""
    if site.dialect == "sqlite":
        printed = {
            name: f"CASE typeof({name}) WHEN 'blob' THEN {name} ELSE CAST({name} AS TEXT) END"
            for name in table.columns
        }
    elif site.dialect == "mysql":
        printed = {name: _printed_by_mysql(name, one.kind) for name, one in table.columns.items()}
    else:
        printed = {
            # concat() prints as a client is shown a value.
            name: name
            if one.is_binary
            else f"CASE num_nulls({name}) WHEN 0 THEN concat({name}) END"
            for name, one in table.columns.items()
        }
    wanted = ", ".join(f"{made} AS {name}" for name, made in printed.items())
    with site.engine.connect() as connection:
        for statement in site.setup:
            connection.exec_driver_sql(statement)
        found = connection.exec_driver_sql(
            f"SELECT id, ver, {wanted} FROM {table.name} ORDER BY id"
        )
        return [
            {name: _in_base64(value) for name, value in row.items()} for row in found.mappings()
        ]


def _printed_by_mysql(name: str, kind: str) -> str:
    if kind == "binary":
        return name
    return f"CAST({name} + 0 AS CHAR)" if kind == "bit" else f"CAST({name} AS CHAR)"


def _in_base64(value: Any) -> str | None:
    if value is None:
        return None
    raw = (
        bytes(value)
        if isinstance(value, bytes | memoryview)
        else str(value).encode("utf-8", "surrogateescape")
    )
    return base64.b64encode(raw).decode("ascii")


def by_http(site: Site, tables: Sequence[Laid]) -> list[Event]:
    """The events of a Python program that sends what its driver gives, as JSON, to the operator's
    listener."""
    attributes = []
    with site.engine.connect() as connection:
        for statement in site.setup:
            connection.exec_driver_sql(statement)
        for table in tables:
            names = ", ".join(
                _selected(name, one.kind, site) for name, one in table.columns.items()
            )
            found = connection.exec_driver_sql(
                f"SELECT id, ver, {names} FROM {table.name} ORDER BY id"
            )
            for row in found.mappings():
                data = dict(row)
                event = Event(table.name, "changed", str(data["id"]), data.pop("ver"), {})
                for name, column in table.columns.items():
                    data[name] = _as_python_sends(data[name], column)
                attributes.append(json.loads(event.to_json()) | {"data": data})
    broker = Broker()
    with Listening(operator(broker)) as listening:
        answer = listening.post(json.dumps(attributes).encode(), Content_Type=BATCH)
        assert answer.status == 202, answer.body
    # What travels is the text.
    return [Event.parse(event.to_json()) for event in broker.events]


def by_trigger(site: Site, tables: Sequence[Laid]) -> tuple[list[Event], Refused]:
    """The events of triggers that somebody wrote by hand, with the JSON functions of the database;
    and what these make no JSON of, so that such a trigger cannot send it."""
    events, without = [], set()
    with site.engine.connect() as connection:
        for statement in site.setup:
            connection.exec_driver_sql(statement)
        for table in tables:
            made = ", ".join(_in_json(name, one, site) for name, one in table.columns.items())
            rows = connection.exec_driver_sql(f"SELECT ver, {made} FROM {table.name} ORDER BY id")
            for version, *found in rows:
                parts = [f'"id":{version}']
                for name, part in zip(table.columns, found, strict=True):
                    part = part.decode() if isinstance(part, bytes) else part
                    if not _is_taken(part):
                        without.add((table.name, str(version), name))
                        part = '{"v":null}'
                    parts.append(f'"{name}":{part[part.index(":") + 1 : -1]}')
                payload = "{" + ",".join(parts) + "}"
                kind = f"{table.name}.changed"
                row = Row(version, table.name, str(version), kind, payload, version, 0, None, 0)
                events.append(Event.parse(row.event("/triggers")))
    return events, without


def _is_taken(part: str | None) -> bool:
    """Whether there is JSON, and an event can have it."""
    try:
        return part is not None and check_data(load_json(part, 2**20)) is None
    except UndecodableMessage:
        return False


def _in_json(name: str, column: Declared, site: Site) -> str:
    """`{"v": …}`, or NULL for what has no JSON."""
    if site.dialect == "postgresql":
        # One with half of a surrogate pair stops the statement.
        return (
            "NULL"
            if column.kind in ("json", "json[]")
            else f"CAST(jsonb_build_object('v', {name}) AS text)"
        )
    if site.dialect == "sqlite":
        if column.is_binary:
            return "NULL"
        odd = f"typeof({name}) = 'blob' OR {name} IN (9e999, -9e999) OR instr({name}, x'ff')"
        return f"CASE WHEN {odd} THEN NULL ELSE json_object('v', {name}) END"
    # JSON_OBJECT writes bytes as they are, and numbers with zeros in front.
    if column.kind in ("binary", "bit") or "zerofill" in column.declaration:
        return "NULL"
    return f"JSON_OBJECT('v', {name})"


_NATIVE = frozenset(
    {"int2", "int4", "int8", "bool", "float4", "float8", "bytea", "oid", "positive"}
)


def _selected(name: str, kind: str, site: Site) -> str:
    if site.dialect != "postgresql" or kind in _NATIVE:
        return name
    # Python has no year 10000 and no infinite day: such a program asks for texts.
    return f"CASE num_nulls({name}) WHEN 0 THEN concat({name}) END AS {name}"


def _as_python_sends(found: Any, column: Declared) -> Any:
    if isinstance(found, float) and not math.isfinite(found):
        found = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(found)]
    if column.is_binary and isinstance(found, str):
        found = found.encode("utf-8", "surrogateescape")
    if isinstance(found, bytes | memoryview):
        raw = bytes(found)
        if column.kind == "bit":
            return str(int.from_bytes(raw, "big"))
        return {"base64": base64.b64encode(raw).decode("ascii")}
    if isinstance(found, int) and abs(found) >= 2**53:
        return str(found)
    if isinstance(found, datetime | date):
        return found.isoformat()
    if isinstance(found, str):
        return _without_surrogates(found)
    return found if isinstance(found, int | float | None) else str(found)


def _without_surrogates(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:
        raw = text.encode("utf-8", "surrogateescape")
        return {"base64": base64.b64encode(raw).decode("ascii")}
    return text
