"""The outbox: rows that PHP writes in the transaction of the edit, until MongoDB holds them.

A table of the site's own database (`php/sql/`), MySQL, MariaDB, PostgreSQL or SQLite. Rows are
taken by state and under a lease, never by a cursor: ids are given out before the commit, so a
reader that only goes forward can pass a row for ever.

All times are milliseconds since 1970. In the table they are by the clock of the database, which
all who write there share; here they are by our own, and how far the two are apart is measured.
Where old producers wrote a time of another clock, it is not believed beyond reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import mysql

from bridge.errors import BridgeError
from bridge.queue.events import MAX_EVENT_BYTES
from bridge.queue.sources import PLAIN_TABLE
from bridge.queue.sql.clock import SAME_CLOCK_MS, SqlClock, now_ms
from bridge.queue.sql.database import connect, delete, reading, taking
from bridge.queue.sql.outboxrow import CLAIM_BYTES, Backlog, Row, as_many_as_fit, read, text
from bridge.settings import redact_url

__all__ = ["CLAIM_BYTES", "Backlog", "Outbox", "Row", "connect", "now_ms"]

TOUCHED = ".touched"
"""Ends the `type` of a row that only notes that something changed; see
`bridge.queue.relay.touched`."""
FAR_MS = 2 * 3600 * 1000
"""No relay puts a row off for so long. Who did had a wrong clock."""
BURIED_MS = 10**15
"""Added to the time of the next look at a row whose event is a dead letter: it waits for a person,
and is no part of the backlog. An older relay takes such a time for that of a wrong clock."""
UNPUBLISHED_MS = 120_000
"""No row that was never published is put off for so long: leases are shorter."""
NEW_IDS = 10_000
"""So far back new rows are looked for that a wrong clock has put off."""
TIDY_SECONDS = 30.0
NEW_SECONDS = 1.0
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


class Outbox:
    """The outbox in one database. For any number of relays at once.

    engine: from `connect`.
    table: its name, with its schema where needed.
    keep: seconds that rows stay after they were applied; 0 deletes them at once.
    max_event: bytes of the largest event.

    Every method raises SQLAlchemy's errors.
    """

    def __init__(
        self,
        engine: sql.Engine,
        *,
        table: str = "bridge_outbox",
        keep: float = 0.0,
        max_event: int = MAX_EVENT_BYTES,
    ) -> None:
        if not PLAIN_TABLE.fullmatch(table):
            raise BridgeError(f"{table!r} is no name of a table; write for example bridge_outbox")
        self.engine, self._keep = engine, keep
        # Characters of a payload that are read. Cut there it is still too large for an event, and
        # so ends as a dead letter; the row keeps all of it.
        self.largest = 2 * max_event
        self._clock = SqlClock(engine)
        self._tidy_at = self._new_at = self._buried_at = 0.0
        self._seen: int | None = None
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
        self._payload = (
            sql.cast(payload, sql.Text) if engine.dialect.name == "postgresql" else payload
        )

    def __repr__(self) -> str:
        where = redact_url(self.engine.url.render_as_string(hide_password=False))
        return f"<Outbox {self.table.fullname} at {where}>"

    def create(self) -> None:
        """Create the table where it is not there."""
        self.table.metadata.create_all(self.engine)

    def claim(self, limit: int, lease: float) -> list[Row]:
        """Up to `limit` rows whose time has come, new ones first; no other relay sees them for
        `lease` seconds."""
        self._tidy()
        now, table = self._clock.now(), self.table
        until = now + int(lease * 1000)
        rows = self._take(table.c.next_try <= now, limit, until)
        if len(rows) < limit and monotonic() >= self._buried_at:
            due = table.c.next_try.between(BURIED_MS, BURIED_MS + now)
            rows += (buried := self._take(due, limit - len(rows), BURIED_MS + until))
            if not buried:
                self._buried_at = monotonic() + self._until_buried(now)
        return rows

    def _until_buried(self, now: int) -> float:
        """Seconds until a buried row is to be looked at; no more than other relays may need us."""
        table = self.table
        first = sql.select(sql.func.min(table.c.next_try)).where(table.c.next_try >= BURIED_MS)
        with reading(self.engine) as connection:
            found = connection.execute(first).scalar()
        left = TIDY_SECONDS if found is None else (found - BURIED_MS - now) / 1000
        return min(max(left, 0.0), TIDY_SECONDS)

    def _take(self, which: sql.ColumnElement[bool], limit: int, next_try: int) -> list[Row]:
        table = self.table
        due = (
            # The index has all of this. With more columns MariaDB may sort instead, and then it
            # locks every row that is due, and leaves none to other relays.
            sql.select(table.c.id).where(which).order_by(table.c.next_try, table.c.id).limit(limit)
        )
        with taking(self.engine, due, table.c.id, table.fullname) as (connection, found):
            if not (ids := [id for (id,) in found]):
                return []
            sizes = sql.select(table.c.id, sql.func.length(self._payload)).where(
                table.c.id.in_(ids)
            )
            found_sizes = dict(map(tuple, connection.execute(sizes)))
            ids = as_many_as_fit(ids, found_sizes, self.largest)
            self._set(connection, ids, next_try=next_try)
            rows = connection.execute(
                sql.select(
                    *(table.c[name] for name in ("id", "aggregatetype", "aggregateid", "type")),
                    sql.func.substr(self._payload, 1, self.largest),
                    *(table.c[name] for name in ("ver", "created_at", "published_at", "attempts")),
                ).where(table.c.id.in_(ids))
            )
            by_id = {row[0]: read(row, self._clock.offset, next_try >= BURIED_MS) for row in rows}
        return [by_id[id] for id in ids if id in by_id]

    def free(self, rows: Sequence[Row]) -> None:
        """MongoDB holds these versions or newer ones."""
        ids = [row.id for row in rows]
        with self.engine.begin() as connection:
            if self._keep:
                self._set(connection, ids, applied_at=self._clock.now(), next_try=None)
            else:
                delete(connection, self.table.c.id, ids)

    def published(self, rows: Sequence[Row], next_try: int) -> None:
        """These rows are on the queue, with the versions that they have here; look at them again
        at `next_try`."""
        with self.engine.begin() as connection:
            for version, ids in _given(rows).items():
                self._set(connection, ids, ver=version)
            self._set(
                connection,
                [row.id for row in rows],
                published_at=self._clock.now(),
                attempts=self.table.c.attempts + 1,
                next_try=next_try + self._clock.offset,
            )

    def postpone(self, rows: Sequence[Row], next_try: int) -> None:
        """Look at these rows again at `next_try`; they wait for MongoDB."""
        with self.engine.begin() as connection:
            self._set(connection, [row.id for row in rows], next_try=next_try + self._clock.offset)

    def bury(self, rows: Sequence[Row], next_try: int) -> None:
        """The events of these rows are dead letters: look at them again at `next_try`. Until then
        they are no part of the backlog."""
        later = BURIED_MS + next_try + self._clock.offset
        with self.engine.begin() as connection:
            self._set(connection, [row.id for row in rows], next_try=later)
        wait = max(0.0, (next_try - now_ms()) / 1000)
        self._buried_at = min(self._buried_at, monotonic() + wait)

    def give_back(self, rows: Sequence[Row], next_try: int) -> None:
        """Look at these rows again at `next_try`, which nothing is known of now."""
        if some := [row for row in rows if not row.buried]:
            self.postpone(some, next_try)
        if some := [row for row in rows if row.buried]:
            self.bury(some, next_try)

    def add(self, connection: sql.Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Insert rows in a transaction of the caller's; each has entity, key, change, payload
        and version."""
        now = self._clock.now()
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

    def note(self, connection: sql.Connection, identities: Iterable[tuple[str, str]]) -> None:
        """Note in a transaction of the caller's that these have changed, as triggers do."""
        self.add(
            connection,
            [
                {"entity": entity, "key": key, "change": TOUCHED[1:], "payload": None, "version": 0}
                for entity, key in identities
            ],
        )

    def drop(self, entity: str, key: str, version: int) -> int:
        """Delete the rows of this very version, applied or not; how many."""
        if not (ids := self._of(entity, key, version)):
            return 0
        with self.engine.begin() as connection:
            return delete(connection, self.table.c.id, ids)

    def wake(self, entity: str, key: str, version: int) -> int:
        """Take the rows of this very version out of the buried ones: somebody tries again. How
        many."""
        table = self.table
        if not (ids := self._of(entity, key, version)):
            return 0
        again = table.c.id.in_(ids), table.c.next_try >= BURIED_MS
        with self.engine.begin() as connection:
            done = connection.execute(
                table.update()
                .where(*again)
                .values(next_try=self._clock.now() + 1000, published_at=self._clock.now())
            )
            return int(done.rowcount)

    def _of(self, entity: str, key: str, version: int) -> list[int]:
        """The ids of the rows of this very version."""
        table = self.table
        try:
            key.encode()
        except UnicodeEncodeError:
            return []  # half of a surrogate pair, which no database has
        if not -_INT64 <= version < _INT64:
            return []
        if "\0" in key and self.engine.dialect.name == "postgresql":
            return []  # its texts have none
        look = sql.select(
            table.c.id, table.c.aggregatetype, table.c.type, table.c.aggregateid
        ).where(table.c.aggregateid == key, table.c.ver == version)
        with reading(self.engine) as connection:
            found = list(connection.execute(look))
        # For MySQL "x" and "x " are equal.
        return [
            id
            for id, kind, type, name in found
            if name == key and entity in (kind, type.rpartition(".")[0])
        ]

    def backlog(self) -> Backlog:
        """How far behind MongoDB is."""
        table = self.table
        # Both from the index. Without a time for its next look a row is applied, or given up.
        waiting = sql.select(sql.func.count(), sql.func.min(table.c.id)).where(
            table.c.next_try < BURIED_MS
        )
        buried = sql.select(sql.func.count()).where(table.c.next_try >= BURIED_MS)
        names = ("created_at", "published_at", "attempts", "aggregatetype", "aggregateid", "ver")
        now = self._clock.now()
        with reading(self.engine) as connection:
            count, first = connection.execute(waiting).one()
            dead = connection.execute(buried).scalar_one()
            oldest = connection.execute(
                sql.select(*(table.c[name] for name in names)).where(table.c.id == first)
            ).first()
        if oldest is None:
            return Backlog(int(count), 0.0, int(dead))
        created, published, attempts, kind, key, version = oldest
        ahead = created - now
        # Where that is the future, it has at least waited since it was published.
        since = created if ahead <= SAME_CLOCK_MS or published is None else published
        times = f"published {attempts} times" if attempts else "not published yet"
        about = f"{text(kind)} {text(key)[:80]!a} version {version}, {times}"
        return Backlog(
            int(count),
            max(0.0, (now - since) / 1000),
            int(dead),
            about,
            ahead / 1000 if ahead > SAME_CLOCK_MS else 0.0,
        )

    def _tidy(self) -> None:
        """Now and then: delete what was kept long enough, and take back what was put off by a
        clock that was wrong."""
        now = self._clock.now()
        if monotonic() >= self._new_at:
            self._take_back_new(now)
            self._new_at = monotonic() + NEW_SECONDS
        if monotonic() < self._tidy_at:
            return
        table = self.table
        kept = table.c.applied_at < now - int(self._keep * 1000)
        astray = sql.or_(
            table.c.next_try.between(now + FAR_MS, BURIED_MS - 1),
            table.c.next_try > BURIED_MS + now + FAR_MS,
        )
        # Read first: a DELETE that looks for its rows would wait for the INSERTs of the site.
        with reading(self.engine) as connection:
            old = [] if not self._keep else _ids(connection, table, kept)
            lost = _ids(connection, table, astray)
        if old or lost:
            with self.engine.begin() as connection:
                delete(connection, table.c.id, old)
                if lost:
                    self._set(connection, lost, next_try=0)
        more = len(old) == _ROWS_PER_STEP or len(lost) == _ROWS_PER_STEP
        self._tidy_at = monotonic() + (0.0 if more else TIDY_SECONDS)

    def _take_back_new(self, now: int) -> None:
        """Of the new rows: those that a producer with a wrong clock has put off. By their ids,
        for the index has too many that were put off with good reason."""
        table = self.table
        with reading(self.engine) as connection:
            newest = connection.execute(sql.select(sql.func.max(table.c.id))).scalar() or 0
            # Ids are given out before the commit, so some of those before may be new.
            start = min(newest if self._seen is None else self._seen, newest) - NEW_IDS
            which = sql.and_(
                table.c.id > start,
                table.c.published_at.is_(None),
                table.c.next_try.between(now + UNPUBLISHED_MS, BURIED_MS - 1),
            )
            lost = _ids(connection, table, which) if newest != self._seen else []
        if lost:
            # Once more with all of it: another relay may have been faster.
            these = table.c.id.in_(lost), which
            with self.engine.begin() as connection:
                connection.execute(table.update().where(*these).values(next_try=0))
        self._seen = None if len(lost) == _ROWS_PER_STEP else newest

    def _set(self, connection: sql.Connection, ids: Sequence[int], **values: Any) -> None:
        table = self.table
        connection.execute(table.update().where(table.c.id.in_(ids)).values(**values))


_ROWS_PER_STEP = 1000


def _given(rows: Sequence[Row]) -> dict[int, list[int]]:
    """Version to ids of the rows that had none in the table, or an older one."""
    given: dict[int, list[int]] = {}
    for row in rows:
        if row.payload is None and row.type.endswith(TOUCHED):
            given.setdefault(row.version, []).append(row.id)
    return given


def _ids(connection: sql.Connection, table: sql.Table, which: sql.ColumnElement[bool]) -> list[int]:
    return list(
        connection.execute(sql.select(table.c.id).where(which).limit(_ROWS_PER_STEP)).scalars()
    )
