"""Reading rows of which it is known how far the log is that they have seen.

Who reads a row and asks for the end of the log, one after the other, never knows whether the row
has seen that transaction: in either order the answer is wrong under load. So it is asked inside of
a transaction that begins with a consistent snapshot. InnoDB and the log are at one place then, and
MariaDB says which it is. What is read in it carries the version of that place, which is above all
changes that it has seen, and below all others.

Such a transaction is short, and reads only: nobody waits for it but who alters the table.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.database import at_level
from bridge.sync.log.position import LAST_ROW, Gtid, Position, version
from bridge.sync.types.catalog import is_mariadb

__all__ = ["Place", "Readings", "consistent", "gtid_at"]

VISIBLE = 2.0
"""Seconds within which a transaction that is in the log can be seen by everybody: the server sends
it to its readers a moment before."""


class Place(NamedTuple):
    """A place in the log between two transactions. gtid: of the last one before it; None before
    the first one. file, offset: empty and 0 where the server does not say."""

    gtid: Gtid | None
    file: str = ""
    offset: int = 0


@contextmanager
def consistent(
    engine: sql.Engine, known: Place | None = None
) -> Iterator[tuple[sql.Connection, Place]]:
    """A transaction that sees the database as it was at a place of its log. known: a place of
    before, which need not be asked for again where it is the same.

    In MySQL, which has no such question, the place is that of a moment before: what is read may
    have seen more than it says, so that a row may go back for a moment and comes again.

    Raises BridgeError where there is no log that can be followed, and SQLAlchemy's errors.
    """
    if engine.dialect.name not in ("mysql", "mariadb"):
        raise BridgeError(
            "`source: {log: true}` reads the log of MariaDB or MySQL, and BRIDGE_SQL_URL names "
            f"{engine.dialect.name}"
        )
    # At a lower level there would be no snapshot. Without locking reads it locks nothing more.
    with at_level(engine, "REPEATABLE READ") as connection, connection.begin():
        if is_mariadb(connection):
            _begin(connection)
            place = _place(connection, known)
        else:
            writes = connection.exec_driver_sql("SELECT @@log_bin").scalar()
            found = connection.exec_driver_sql("SELECT @@global.gtid_executed").scalar()
            if not writes:
                raise _no_log()
            _begin(connection)
            place = Place(Gtid.parse(str(found)))
        yield connection, place


def _begin(connection: sql.Connection) -> None:
    connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")


def _place(connection: sql.Connection, known: Place | None) -> Place:
    rows = connection.exec_driver_sql("SHOW STATUS LIKE 'binlog_snapshot_%%'")
    status = {str(name).lower(): str(value) for name, value in rows}
    file = status.get("binlog_snapshot_file", "")
    if not file:
        raise _no_log()
    offset = int(status["binlog_snapshot_position"])
    if known is not None and (known.file, known.offset) == (file, offset):
        return known
    return Place(Gtid.parse(gtid_at(connection, file, offset)), file, offset)


def gtid_at(connection: sql.Connection, file: str, offset: int) -> str:
    """The last transaction before a place in MariaDB's log; empty where there is none. The server
    reads the file up to there, about a gigabyte in a second."""
    question = sql.text("SELECT BINLOG_GTID_POS(:file, :offset)")
    return str(connection.execute(question, {"file": file, "offset": offset}).scalar() or "")


def _no_log() -> BridgeError:
    return BridgeError(
        "the SQL database writes no log: start it with log_bin, and see "
        "`bridgectl sync propose --from log` for what else is needed"
    )


class Readings:
    """Transactions in which rows of entities of the log are read, each with the version of what is
    read in it. position: how far the log was applied at some time before. seconds: how long it took
    last to find the place, which MariaDB reads its log for.

    Raises BridgeError for a log that cannot be the one of that position, ServerAway where what is
    in the log cannot be read yet, and SQLAlchemy's errors.
    """

    def __init__(self, position: Position) -> None:
        self._position = position
        self._known: Place | None = None
        self.seconds = 0.0

    def __repr__(self) -> str:
        return f"<Readings in epoch {self._position.epoch}>"

    @contextmanager
    def __call__(self, engine: sql.Engine) -> Iterator[tuple[sql.Connection, int]]:
        """A transaction, and the version of all that is read in it."""
        until = (began := time.monotonic()) + VISIBLE
        while True:
            with consistent(engine, self._known) as (connection, place):
                self.seconds = time.monotonic() - began
                is_late = not self._is_after(place)
                if is_late and time.monotonic() > until:
                    self.version(_end(connection))
                    raise ServerAway(
                        "the SQL database does not show yet what stands in its log already, as one "
                        "does that waits for its replicas (rpl_semi_sync_master_wait_point)"
                    )
                if not is_late:
                    self._known = place
                    yield connection, self.version(place.gtid)
                    return
            time.sleep(0.01)

    def newest(self, engine: sql.Engine) -> int:
        """A version that none is above which MongoDB can have now: that of the log's end, which
        may be a moment ahead of what can be read."""
        with engine.connect() as connection:
            return self.version(_end(connection))

    def version(self, gtid: Gtid | None) -> int:
        """Of what has seen this transaction, and no later one."""
        if not self._is_after(Place(gtid)):
            raise BridgeError(
                f"the log ends at {gtid or 'its beginning'}, and MongoDB has come to "
                f"{self._position} already, so that it is another log than the one that was read: "
                "run `bridgectl snapshot`, which begins a new epoch"
            )
        sequence = 0 if gtid is None else gtid.sequence
        return version(self._position.epoch, sequence, LAST_ROW)

    def _is_after(self, place: Place) -> bool:
        before = self._position.gtid
        if before is None:
            return True
        after = place.gtid
        return (
            after is not None
            and after.domain == before.domain
            and after.sequence >= before.sequence
        )


def _end(connection: sql.Connection) -> Gtid | None:
    """The last transaction of the log, which others may not see yet."""
    name = "gtid_binlog_pos" if is_mariadb(connection) else "global.gtid_executed"
    return Gtid.parse(str(connection.exec_driver_sql(f"SELECT @@{name}").scalar() or ""))
