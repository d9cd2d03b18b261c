"""Empty a SQL queue table of the site's own into the outbox, so that old producers keep working.

A row moves in one transaction: it is in the one table or in the other, whatever is killed. What
no event can be made of becomes a dead letter, whole.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import sqlalchemy as sql

from bridge.errors import UndecodableMessage
from bridge.queue.events import MAX_VERSION
from bridge.queue.outbox import Outbox
from bridge.queue.sources import Column, SqlQueue

__all__ = ["Bury", "move", "to_json", "to_outbox_row"]

Bury = Callable[[bytes, str], None]
"""Keeps what nobody can use: the row as JSON, and why. Raises when it could not."""


def move(queue: SqlQueue, outbox: Outbox, bury: Bury, limit: int = 500) -> int:
    """Move up to `limit` rows; how many left the table. Raises SQLAlchemy's errors, and what
    `bury` raises; nothing has moved then."""
    schema, _, name = queue.table.rpartition(".")
    table = sql.table(name, sql.column(queue.id), schema=schema or None)
    due = sql.select(sql.text("*")).select_from(table)
    if queue.where:
        due = due.where(sql.text(queue.where))
    due = due.order_by(table.c[queue.id]).limit(limit)
    with outbox.taking(due) as (connection, found):
        rows = [dict(row._mapping) for row in found]
        if not rows:
            return 0
        good = []
        for row in rows:
            try:
                good.append(to_outbox_row(queue, row, lambda key: _state(connection, queue, key)))
            except UndecodableMessage as error:
                bury(to_json(row).encode(), f"{queue.table}: {error}")
        if good:
            outbox.add(connection, good)
        _finish(connection, table, queue, [row[queue.id] for row in rows])
    return len(rows)


def to_outbox_row(
    queue: SqlQueue,
    row: Mapping[str, Any],
    state: Callable[[Any], Mapping[str, Any] | None],
) -> dict[str, Any]:
    """What `Outbox.add` takes, from a row of the queue. state: what the query finds for a key.

    Raises UndecodableMessage, with the name of the column.
    """
    entity = queue.entity if isinstance(queue.entity, str) else _text(row, queue.entity)
    change = queue.change if isinstance(queue.change, str) else _text(row, queue.change)
    if change not in ("changed", "deleted"):
        raise UndecodableMessage(
            f"the change is {change!r}, neither changed nor deleted; say in sync.yaml what it means"
        )
    key = _text(row, queue.key)
    version = None if queue.version is None else row[_known(row, queue.version.column)]
    payload = None
    if change == "changed":
        data = queue.data
        if data.json_ is not None:
            payload = _text(row, Column(column=data.json_))
        elif data.query is not None:
            found = state(row[queue.key.column])
            if found is None:
                raise UndecodableMessage(f"the query finds no row for {key!r}")
            fields = dict(found)
            if version is None:
                version = fields.get("ver")
            fields.pop("ver", None)
            payload = to_json(fields)
        else:
            payload = to_json({field: row[_known(row, c)] for field, c in data.columns.items()})
    if isinstance(version, str | Decimal) and str(version).isdecimal():
        version = int(version)
    if type(version) is not int or not 0 <= version <= MAX_VERSION:
        raise UndecodableMessage(f"the version is {version!r}, no whole number of 64 bits")
    return {
        "entity": entity,
        "change": change,
        "key": key,
        "version": version,
        "payload": payload,
    }


def _state(connection: sql.Connection, queue: SqlQueue, key: Any) -> Mapping[str, Any] | None:
    found = connection.execute(sql.text(queue.data.query or ""), {"key": key}).mappings().first()
    return None if found is None else dict(found)


def _finish(
    connection: sql.Connection, table: sql.TableClause, queue: SqlQueue, ids: list[Any]
) -> None:
    these = table.c[queue.id].in_(ids)
    if queue.done == "delete":
        connection.execute(sql.delete(table).where(these))
        return
    wide = sql.table(
        table.name,
        *(sql.column(name) for name in {queue.id, *queue.done}),
        schema=table.schema,
    )
    connection.execute(sql.update(wide).where(wide.c[queue.id].in_(ids)).values(queue.done))


def _known(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise UndecodableMessage(f"there is no column {column}; there are {', '.join(row)}")
    return column


def _text(row: Mapping[str, Any], source: Column) -> str:
    value = row[_known(row, source.column)]
    for written, meant in source.values.items():
        if str(written) == str(value):
            return meant
    if value is None:
        raise UndecodableMessage(f"the column {source.column} is NULL")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else to_json(value)


def to_json(value: Any) -> str:
    """JSON of what databases give: dates as ISO 8601, decimals as text, bytes as text or base64."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        # Money stays what it is; a float would not.
        return str(value) if value % 1 else int(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(bytes(value)).decode("ascii")
    return str(value)
