"""The outbox: rows that PHP writes in the transaction of the edit, until MongoDB holds them.

A table of the site's own database (`php/sql/`), MySQL, MariaDB, PostgreSQL or SQLite. Rows are
taken by state and under a lease, never by a cursor: ids are given out before the commit, so a
reader that only goes forward can pass a row for ever. All times are milliseconds since 1970.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql

from bridge.errors import BridgeError
from bridge.queue.database import connect, delete, reading, taking
from bridge.queue.events import MAX_EVENT_BYTES

__all__ = ["Backlog", "Outbox", "Row", "connect", "now_ms"]

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z_][A-Za-z0-9_]{0,63})?")
LARGEST = 2 * MAX_EVENT_BYTES
"""Characters of a payload that are read. Cut there it is still too large for an event, and so
ends as a dead letter; the row keeps all of it."""
CLAIM_BYTES = 16 * 1024 * 1024
"""Payload of one claim, more or less: what a relay has in memory, and does in one lease."""
FAR_MS = 2 * 3600 * 1000
"""No relay puts a row off for so long. Who did had a wrong clock."""
TIDY_SECONDS = 30.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MS = 253_402_300_799_999  # the end of the year 9999
_INT64 = 2**63
# SQLite counts a primary key by itself only when it is an INTEGER.
_ID = sql.BigInteger().with_variant(sql.Integer, "sqlite")


class _AnyText(sql.types.UserDefinedType[str]):
    """A text that PostgreSQL may also store as JSON: sent without a type of its own."""

    cache_ok = True

    def get_col_spec(self, **kw: Any) -> str:
        return "TEXT"


_LONG = (
    sql.Text().with_variant(mysql.LONGTEXT, "mysql", "mariadb").with_variant(_AnyText, "postgresql")
)


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row. payload: the state as JSON text, None for a deletion; times in milliseconds."""

    id: int
    entity: str
    key: str
    type: str
    payload: str | None
    version: int
    created_at: int
    published_at: int | None
    attempts: int

    @property
    def identity(self) -> tuple[str, str]:
        """Which entity this is about."""
        return self.entity, self.key

    def event(self, source: str) -> bytes:
        """The JSON text of its event, the same bytes every time.

        The payload is not looked into: what is wrong with it is found, and kept, where every
        event is checked.
        """
        moment = _EPOCH + timedelta(milliseconds=min(max(self.created_at, 0), _LAST_MS))
        attributes = {
            "specversion": "1.0",
            "id": f"outbox-{self.id}",
            "source": source,
            "type": self.type,
            "subject": self.key,
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "sequence": str(self.version),
            "sequencetype": "Integer",
        }
        text = json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))
        if self.payload is not None:
            text = f'{text[:-1]},"datacontenttype":"application/json","data":{self.payload}}}'
        # The bytes that the database has, be they UTF-8 or not.
        return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows that are not applied. lag: age of the oldest, in seconds; 0 when there is none."""

    rows: int
    lag: float


class Outbox:
    """The outbox in one database. For any number of relays at once.

    engine: from `connect`. table: its name, with its schema where needed. keep: seconds that
    rows stay after they were applied; 0 deletes them at once.
    Every method raises SQLAlchemy's errors.
    """

    def __init__(
        self, engine: sql.Engine, *, table: str = "bridge_outbox", keep: float = 0.0
    ) -> None:
        if not _TABLE.fullmatch(table):
            raise BridgeError(f"{table!r} is no name of a table; write for example bridge_outbox")
        self.engine, self._keep = engine, keep
        self._tidy_at = 0.0
        schema, _, name = table.rpartition(".")
        like: dict[str, Any] = {"sqlite_autoincrement": True}  # or ids of deleted rows come again
        for dialect in ("mysql", "mariadb"):
            like[f"{dialect}_engine"] = "InnoDB"
            like[f"{dialect}_charset"], like[f"{dialect}_collate"] = "utf8mb4", "utf8mb4_bin"
        self.table = sql.Table(
            name,
            sql.MetaData(schema=schema or None),
            sql.Column("id", _ID, primary_key=True, autoincrement=True),
            sql.Column("aggregatetype", sql.String(64), nullable=False),
            sql.Column("aggregateid", sql.String(1024), nullable=False),
            sql.Column("type", sql.String(80), nullable=False),
            sql.Column("payload", _LONG),
            sql.Column("ver", sql.BigInteger, nullable=False),
            sql.Column("created_at", sql.BigInteger, nullable=False),
            sql.Column("published_at", sql.BigInteger),
            sql.Column("applied_at", sql.BigInteger),
            sql.Column("attempts", sql.Integer, nullable=False, server_default="0"),
            sql.Column("next_try", sql.BigInteger, server_default="0"),
            sql.Index(f"{name}_next", "next_try", "id"),
            **like,
        )
        payload: Any = self.table.c.payload
        self._payload = sql.cast(payload, sql.Text) if _is_postgresql(engine) else payload

    def __repr__(self) -> str:
        return f"<Outbox {self.table.fullname} at {self.engine.url.render_as_string()}>"

    def create(self) -> None:
        """Create the table where it is not there."""
        self.table.metadata.create_all(self.engine)

    def claim(self, limit: int, lease: float) -> list[Row]:
        """Up to `limit` rows whose time has come, new ones first; no other relay sees them for
        `lease` seconds."""
        table = self.table
        self._tidy()
        due = (
            # The index has all of this. With more columns MariaDB may sort instead, and then it
            # locks every row that is due, and leaves none to other relays.
            sql.select(table.c.id)
            .where(table.c.next_try <= now_ms())
            .order_by(table.c.next_try, table.c.id)
            .limit(limit)
        )
        with taking(self.engine, due, table.c.id, table.fullname) as (connection, found):
            if not (ids := [id for (id,) in found]):
                return []
            sizes = sql.select(table.c.id, sql.func.length(self._payload)).where(
                table.c.id.in_(ids)
            )
            ids = _as_many_as_fit(ids, dict(map(tuple, connection.execute(sizes))))
            self._set(connection, ids, next_try=now_ms() + int(lease * 1000))
            rows = connection.execute(
                sql.select(
                    *(table.c[name] for name in ("id", "aggregatetype", "aggregateid", "type")),
                    sql.func.substr(self._payload, 1, LARGEST),
                    *(table.c[name] for name in ("ver", "created_at", "published_at", "attempts")),
                ).where(table.c.id.in_(ids))
            )
            by_id = {row[0]: _row(row) for row in rows}
        return [by_id[id] for id in ids if id in by_id]

    def free(self, rows: Sequence[Row]) -> None:
        """MongoDB holds these versions or newer ones."""
        ids = [row.id for row in rows]
        with self.engine.begin() as connection:
            if self._keep:
                self._set(connection, ids, applied_at=now_ms(), next_try=None)
            else:
                delete(connection, self.table.c.id, ids)

    def published(self, rows: Sequence[Row], next_try: int) -> None:
        """These rows are on the queue; look at them again at `next_try`."""
        with self.engine.begin() as connection:
            self._set(
                connection,
                [row.id for row in rows],
                published_at=now_ms(),
                attempts=self.table.c.attempts + 1,
                next_try=next_try,
            )

    def postpone(self, rows: Sequence[Row], next_try: int) -> None:
        """Look at these rows again at `next_try`."""
        with self.engine.begin() as connection:
            self._set(connection, [row.id for row in rows], next_try=next_try)

    def add(self, connection: sql.Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows in a transaction of the caller's; each has entity, key, change, payload
        and version."""
        now = now_ms()
        connection.execute(
            self.table.insert(),
            [
                {
                    "aggregatetype": row["entity"],
                    "aggregateid": row["key"],
                    "type": f"{row['entity']}.{row['change']}",
                    "payload": row["payload"],
                    "ver": row["version"],
                    "created_at": now,
                    "next_try": 0,
                }
                for row in rows
            ],
        )

    def drop(self, entity: str, key: str, version: int) -> int:
        """Delete the rows of this very version, applied or not; how many."""
        table = self.table
        try:
            key.encode()
        except UnicodeEncodeError:
            return 0  # half of a surrogate pair, which no database has
        if not -_INT64 <= version < _INT64:
            return 0
        look = sql.select(
            table.c.id, table.c.aggregatetype, table.c.type, table.c.aggregateid
        ).where(table.c.aggregateid == key, table.c.ver == version)
        with reading(self.engine) as connection:
            found = list(connection.execute(look))
        # For MySQL "x" and "x " are equal.
        ids = [
            id
            for id, kind, type, name in found
            if name == key and entity in (kind, type.rpartition(".")[0])
        ]
        with self.engine.begin() as connection:
            return delete(connection, self.table.c.id, ids)

    def backlog(self) -> Backlog:
        """How far behind MongoDB is."""
        table = self.table
        # All from the index. Without a time for its next look a row is applied, or given up.
        waiting = sql.select(sql.func.count(), sql.func.min(table.c.id)).where(
            table.c.next_try.is_not(None)
        )
        with reading(self.engine) as connection:
            count, first = connection.execute(waiting).one()
            oldest = connection.execute(
                sql.select(table.c.created_at).where(table.c.id == first)
            ).scalar()
        lag = 0.0 if oldest is None else max(0.0, (now_ms() - oldest) / 1000)
        return Backlog(int(count), lag)

    def _tidy(self) -> None:
        """Now and then: delete what was kept long enough, and take back what was put off by a
        clock that was wrong."""
        if monotonic() < self._tidy_at:
            return
        table, now = self.table, now_ms()
        kept = table.c.applied_at < now - int(self._keep * 1000)
        astray = table.c.next_try > now + FAR_MS
        # Read first: a DELETE that looks for its rows would wait for the INSERTs of the site.
        with reading(self.engine) as connection:
            old = [] if not self._keep else _ids(connection, table, kept)
            lost = _ids(connection, table, astray)
        if old or lost:
            with self.engine.begin() as connection:
                delete(connection, table.c.id, old)
                if lost:
                    self._set(connection, lost, next_try=0)
        more = len(old) == _AT_ONCE or len(lost) == _AT_ONCE
        self._tidy_at = monotonic() + (0.0 if more else TIDY_SECONDS)

    def _set(self, connection: sql.Connection, ids: Sequence[int], **values: Any) -> None:
        table = self.table
        connection.execute(table.update().where(table.c.id.in_(ids)).values(**values))


_AT_ONCE = 1000


def _ids(connection: sql.Connection, table: sql.Table, which: sql.ColumnElement[bool]) -> list[int]:
    return list(connection.execute(sql.select(table.c.id).where(which).limit(_AT_ONCE)).scalars())


def _is_postgresql(engine: sql.Engine) -> bool:
    return engine.dialect.name == "postgresql"


def _as_many_as_fit(ids: Sequence[int], sizes: Mapping[int, int | None]) -> list[int]:
    """The ids of the first rows whose payloads are not too much together; at least one."""
    total = 0
    for index, id in enumerate(ids):
        total += min(sizes.get(id) or 0, LARGEST)
        if index and total > CLAIM_BYTES:
            return list(ids[:index])
    return list(ids)


def _row(found: Any) -> Row:
    id, kind, key, type, payload, version, created_at, published_at, attempts = found
    type = _text(type)
    return Row(
        id,
        # Where the two differ, it is the type that the event carries.
        type.rpartition(".")[0] or _text(kind),
        _text(key),
        type,
        None if payload is None else _text(payload),
        version,
        created_at,
        published_at,
        attempts,
    )


def _text(value: Any) -> str:
    """A column may be of another type than ours where the site made the table."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    return value if isinstance(value, str) else str(value)
