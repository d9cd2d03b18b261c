"""The outbox: rows that PHP writes in the transaction of the edit, until MongoDB holds them.

A table of the site's own database (`php/sql/`), MySQL, MariaDB, PostgreSQL or SQLite. Rows are
taken by state and under a lease, never by a cursor: ids are given out before the commit, so a
reader that only goes forward can pass a row for ever. All times are milliseconds since 1970.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql

from bridge.errors import BridgeError
from bridge.settings import redact_url

__all__ = ["Backlog", "Outbox", "Row", "connect", "now_ms"]

_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}(\.[A-Za-z_][A-Za-z0-9_]{0,63})?")
LOCK_SECONDS = 10
# SQLite counts a primary key by itself only when it is an INTEGER.
_ID = sql.BigInteger().with_variant(sql.Integer, "sqlite")
_LONG = sql.Text().with_variant(mysql.LONGTEXT, "mysql", "mariadb")


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
        moment = datetime.fromtimestamp(self.created_at / 1000, UTC)
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
        return text.encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows that are not applied. lag: age of the oldest, in seconds; 0 when there is none."""

    rows: int
    lag: float


def connect(url: str) -> sql.Engine:
    """An engine for `url`; it connects when it is used.

    Raises BridgeError for a URL that cannot be used, with the package that its driver needs.
    """
    try:
        made = sql.make_url(url)
        if made.drivername in ("mysql", "mariadb"):
            # The driver that the extra `mysql` installs.
            made = made.set(drivername=f"{made.drivername}+pymysql")
        elif made.drivername in ("postgresql", "postgres"):
            made = made.set(drivername="postgresql+psycopg")
        if made.get_backend_name() == "sqlite":
            return _sqlite(made)
        # Not the usual REPEATABLE READ: there InnoDB also locks the gaps between the rows that
        # are read, and the site's INSERTs would wait for us.
        return sql.create_engine(
            made, isolation_level="READ COMMITTED", pool_pre_ping=True, pool_recycle=300
        )
    except ModuleNotFoundError as error:
        extra = "mysql" if "mysql" in (error.name or "") else "postgresql"
        raise BridgeError(
            f"the driver for {redact_url(url)} is not installed: "
            f"pip install 'php-python-bridge[{extra}]'"
        ) from None
    except (sql.exc.ArgumentError, sql.exc.NoSuchModuleError, ValueError) as error:
        raise BridgeError(f"SQL URL {redact_url(url)!r} cannot be used: {error}") from None


def _sqlite(url: sql.URL) -> sql.Engine:
    engine = sql.create_engine(url, connect_args={"timeout": 10})

    @sql.event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver would begin too late

    @sql.event.listens_for(engine, "begin")
    def _(connection: sql.Connection) -> None:
        # Reading first and writing later in one transaction fails under load otherwise.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


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
        schema, _, name = table.rpartition(".")
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
            sql.Index(f"{name}_next_try", "next_try", "id"),
        )

    def __repr__(self) -> str:
        return f"<Outbox {self.table.fullname} at {self.engine.url.render_as_string()}>"

    def create(self) -> None:
        """Create the table where it is not there."""
        self.table.metadata.create_all(self.engine)

    def claim(self, limit: int, lease: float) -> list[Row]:
        """Up to `limit` rows whose time has come; no other relay sees them for `lease` seconds."""
        table, now = self.table, now_ms()
        due = (
            sql.select(*(table.c[name] for name in _COLUMNS))
            .where(table.c.next_try <= now)
            .order_by(table.c.next_try, table.c.id)
            .limit(limit)
        )
        with self.taking(due) as (connection, found):
            rows = [Row(*row) for row in found]
            if rows:
                self._set(connection, rows, next_try=now + int(lease * 1000))
        return rows

    @contextmanager
    def taking(self, due: sql.Select[Any]) -> Iterator[tuple[sql.Connection, list[Any]]]:
        """Run a SELECT whose rows are ours until the end of the transaction, which is the end
        of the context; rows that somebody else takes are left out."""
        dialect = self.engine.dialect
        with self.engine.begin() as connection:
            if dialect.name == "sqlite":
                yield connection, list(connection.execute(due))
            elif _can_skip_locked(dialect):
                due = due.with_for_update(skip_locked=True)
                yield connection, list(connection.execute(due))
            else:
                # Before MySQL 8.0.1 and MariaDB 10.6: one relay at a time.
                name = f"bridge {self.table.fullname}"[:64]
                lock = sql.select(sql.func.get_lock(name, LOCK_SECONDS))
                if connection.execute(lock).scalar() == 1:
                    try:
                        # Locked until the commit, which comes after the release of the name.
                        yield connection, list(connection.execute(due.with_for_update()))
                    finally:
                        connection.execute(sql.select(sql.func.release_lock(name)))
                else:
                    yield connection, []

    def free(self, rows: Sequence[Row]) -> None:
        """MongoDB holds these versions or newer ones."""
        table = self.table
        with self.engine.begin() as connection:
            if self._keep:
                self._set(connection, rows, applied_at=now_ms(), next_try=None)
                old = table.c.applied_at < now_ms() - int(self._keep * 1000)
                connection.execute(table.delete().where(old))
            else:
                ids = [row.id for row in rows]
                connection.execute(table.delete().where(table.c.id.in_(ids)))

    def published(self, rows: Sequence[Row], next_try: int) -> None:
        """These rows are on the queue; look at them again at `next_try`."""
        with self.engine.begin() as connection:
            self._set(
                connection,
                rows,
                published_at=now_ms(),
                attempts=self.table.c.attempts + 1,
                next_try=next_try,
            )

    def postpone(self, rows: Sequence[Row], next_try: int) -> None:
        """Look at these rows again at `next_try`."""
        with self.engine.begin() as connection:
            self._set(connection, rows, next_try=next_try)

    def _set(self, connection: sql.Connection, rows: Sequence[Row], **values: Any) -> None:
        ids = [row.id for row in rows]
        table = self.table
        connection.execute(table.update().where(table.c.id.in_(ids)).values(**values))

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
        with self.engine.begin() as connection:
            same = (
                (table.c.aggregatetype == entity)
                & (table.c.aggregateid == key)
                & (table.c.ver == version)
            )
            return int(connection.execute(table.delete().where(same)).rowcount)

    def backlog(self) -> Backlog:
        """How far behind MongoDB is."""
        table = self.table
        waiting = table.c.applied_at.is_(None)
        with self.engine.begin() as connection:
            count = connection.execute(sql.select(sql.func.count()).where(waiting)).scalar_one()
            oldest = connection.execute(
                sql.select(table.c.created_at).where(waiting).order_by(table.c.id).limit(1)
            ).scalar()
        lag = 0.0 if oldest is None else max(0.0, (now_ms() - oldest) / 1000)
        return Backlog(int(count), lag)


_COLUMNS = (
    *("id", "aggregatetype", "aggregateid", "type", "payload", "ver"),
    *("created_at", "published_at", "attempts"),
)


def _can_skip_locked(dialect: Any) -> bool:
    if dialect.name not in ("mysql", "mariadb"):
        return True
    lowest = (10, 6) if dialect.is_mariadb else (8, 0, 1)
    return tuple(dialect.server_version_info or ()) >= lowest
