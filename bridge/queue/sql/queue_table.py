"""Empty a SQL queue table of the site's own into the outbox, so that old producers keep working.

A row moves in one transaction: it is in the one table or in the other, whatever is killed. What
no event can be made of becomes a dead letter, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sql

from bridge.errors import BridgeError, UndecodableMessage
from bridge.queue.events import MAX_EVENT_BYTES, Event, load_json
from bridge.queue.sources import ColumnValue, SqlQueue
from bridge.queue.sql.database import taking
from bridge.queue.sql.outbox import Outbox
from bridge.queue.sql.values import to_json, version_of

__all__ = ["Bury", "move", "row_of", "to_outbox_row"]

Bury = Callable[[bytes, str], None]
"""Keeps what nobody can use: the row as JSON, and why. Raises when it could not."""

ROWS_PER_STEP = 100
"""Rows of one transaction; how large they are, only the site knows."""


def move(
    queue: SqlQueue,
    outbox: Outbox,
    bury: Bury,
    limit: int = ROWS_PER_STEP,
    max_event: int = MAX_EVENT_BYTES,
) -> int:
    """Move rows to the outbox; how many left the table.

    limit: rows at most.
    max_event: bytes of the largest event.

    Raises SQLAlchemy's errors, what `bury` raises, and BridgeError when sync.yaml says of rows
    that were taken what leaves them waiting; nothing has moved then.
    """
    schema, _, name = queue.table.rpartition(".")
    table = sql.table(name, sql.column(queue.id), schema=schema or None)
    id = table.c[queue.id]
    due = sql.select(sql.text("*")).select_from(table).order_by(id).limit(limit)
    # On lines of its own: a comment at its end must not swallow what follows.
    waiting = sql.text(f"(\n{queue.where}\n)") if queue.where else sql.true()
    with taking(outbox.engine, due.where(waiting), id, queue.table) as (connection, found):
        rows = [dict(row._mapping) for row in found]
        if not rows:
            return 0
        ids = [row[_known(row, queue.id)] for row in rows]
        good, bad = [], []
        for row in rows:
            try:
                state = partial(_state, connection, queue)
                good.append(to_outbox_row(queue, row, state, max_event))
            except UndecodableMessage as error:
                raw = to_json(row).encode("utf-8", "surrogateescape")
                bad.append((raw, f"{queue.table}: {error}"))
        if good:
            outbox.add(connection, good)
        _finish(connection, table, queue, ids)
        if queue.done != "delete":
            still = sql.select(id).where(id.in_(ids), waiting).limit(1)
            if connection.execute(still).first() is not None:
                raise BridgeError(
                    f"queue {queue.table}: rows that were taken still match `where`, and would be "
                    "taken again for ever; `done` must set what `where` asks for"
                )
        # Last: what fails before must not leave letters of rows that are still there.
        for raw, why in bad:
            bury(raw, why)
    return len(rows)


def to_outbox_row(
    queue: SqlQueue,
    row: Mapping[str, Any],
    state: Callable[[Any], Mapping[str, Any] | None],
    max_event: int = MAX_EVENT_BYTES,
) -> dict[str, Any]:
    """What `Outbox.add` takes, from a row of the queue.

    state: what the query finds for a key.
    max_event: bytes of the largest event.

    Raises UndecodableMessage, with the name of the column or of the event's field.
    """
    entity = queue.entity if isinstance(queue.entity, str) else _text(row, queue.entity)
    change = queue.change if isinstance(queue.change, str) else _text(row, queue.change)
    if change not in ("changed", "deleted"):
        raise UndecodableMessage(
            f"the change is {change!r}, neither changed nor deleted; say in sync.yaml what it means"
        )
    key = _text(row, queue.key)
    version = None if queue.version is None else row[_known(row, queue.version.column)]
    fields: Any = None
    if change == "changed":
        data = queue.data
        if data.json_ is not None:
            fields = load_json(_text(row, ColumnValue(column=data.json_)), max_event)
        elif data.query is not None:
            found = state(row[queue.key.column])
            if found is None:
                raise UndecodableMessage(f"the query finds no row for {key!r}")
            fields = dict(found)
            ver = fields.pop("ver", None)
            version = ver if version is None else version
        else:
            fields = {field: row[_known(row, name)] for field, name in data.columns.items()}
        # Dates and the like as JSON has them.
        fields = load_json(to_json(fields), 2 * max_event)
    return row_of(Event(entity, change, key, version_of(version), fields), max_event)


def row_of(event: Event, max_event: int = MAX_EVENT_BYTES) -> dict[str, Any]:
    """What `Outbox.add` takes, from an event. Raises UndecodableMessage when it is too large."""
    event.to_json(max_event)
    return {
        "entity": event.entity,
        "key": event.key,
        "change": event.change,
        "payload": None if event.data is None else to_json(event.data),
        "version": event.version,
    }


def _state(connection: sql.Connection, queue: SqlQueue, key: Any) -> Mapping[str, Any] | None:
    found = connection.execute(sql.text(queue.data.query or ""), {"key": key}).mappings().first()
    return None if found is None else dict(found)


def _finish(
    connection: sql.Connection, table: sql.TableClause, queue: SqlQueue, ids: list[Any]
) -> None:
    if queue.done == "delete":
        # One by one: of several ids MySQL may make a scan, which waits for the site's INSERTs.
        connection.execute(
            sql.delete(table).where(table.c[queue.id] == sql.bindparam("taken")),
            [{"taken": id} for id in ids],
        )
        return
    columns: list[sql.ColumnClause[Any]] = [sql.column(name) for name in {queue.id, *queue.done}]
    wide = sql.table(table.name, *columns, schema=table.schema)
    connection.execute(sql.update(wide).where(wide.c[queue.id].in_(ids)).values(queue.done))


def _known(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise UndecodableMessage(f"there is no column {column}; there are {', '.join(row)}")
    return column


def _text(row: Mapping[str, Any], source: ColumnValue) -> str:
    value = row[_known(row, source.column)]
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            value = bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            raise UndecodableMessage(f"the column {source.column} is not UTF-8") from None
    # For a database true is 1, and may come as either.
    spelled = str(int(value)) if isinstance(value, bool) else str(value)
    for written, meant in source.values.items():
        if str(written) == spelled:
            return meant
    if value is None:
        raise UndecodableMessage(f"the column {source.column} is NULL")
    return value if isinstance(value, str) else to_json(value).strip('"')
