"""Following a server's log from a position on, and making sure first that it is still the same log.

After RESET MASTER, or on a server that was restored from a backup, the numbers of transactions and
the names of files come again and mean other changes. So the last transaction that was applied is
read once more, and the log is followed only where it is the same: its file was begun at the same
second, it is at the same place, has the same number and time, and ends with the same checksum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import connect, reading
from bridge.sync.log.format import HEADER, Kind, LogUnreadable, before_file
from bridge.sync.log.position import Gtid, Position
from bridge.sync.log.replica import LogGone, Replica
from bridge.sync.log.snapshots import consistent, gtid_at
from bridge.sync.log.stream import Found, Readers, Stream
from bridge.sync.types.catalog import is_mariadb

__all__ = ["AnotherHistory", "Follower", "end_of_log"]


class AnotherHistory(BridgeError):
    """The log is not the one that was read before."""


def end_of_log(url: str, epoch: int) -> Position:
    """Where the log ends now, between two transactions.

    Raises BridgeError where there is no log that can be followed, and ServerAway.
    """
    engine = connect(url)
    try:
        with consistent(engine) as (connection, place):
            # Without a right for SHOW MASTER STATUS, too, a transaction can be asked for its place.
            name = "server_uid" if is_mariadb(connection) else "server_uuid"
            server = connection.exec_driver_sql(f"SELECT @@{name}").scalar()
    except sql.exc.SQLAlchemyError as error:
        cause = cause_of(error, engine.url)
        if cause.waits:
            raise ServerAway(f"the SQL database {cause}") from error
        raise BridgeError(f"the SQL database {cause}") from error
    finally:
        engine.dispose()
    made = 0
    if place.file:  # MySQL does not say it; there a transaction is found by its number
        with Replica(url) as replica:
            made = replica.made(place.file)
    return Position(epoch, place.gtid, place.file, 0, place.offset, made, server=str(server))


class Follower:
    """Reads the log of `url` after `position`.

    readers: who wants the rows of a table.

    Raises AnotherHistory where the log is another one, LogGone where the server has thrown it
    away, LogUnreadable for what cannot be followed, and ServerAway.
    """

    def __init__(self, url: str, position: Position, readers: Readers) -> None:
        self._url, self._readers = url, readers
        self._replica = Replica(url)
        try:
            self.stream = self._checked(position) if position.start else self._begun(position)
        except LogGone as error:
            self._replica.close()
            raise AnotherHistory(
                f"the server has thrown away the place in its log that was read last ({position}), "
                f"or has another log: {error}"
            ) from error
        except BaseException:
            self._replica.close()
            raise

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *_: object) -> None:
        self._replica.close()

    def found(self) -> Iterator[list[Found]]:
        """What each event does, without end; an empty list for one that does nothing."""
        while True:
            try:
                for raw in self._replica.events():
                    yield self.stream.feed(raw)
                return
            except LogGone as error:
                begun = self._next_file(error)
            for raw in begun:
                yield self.stream.feed(raw)

    def _next_file(self, error: LogGone) -> list[bytes]:
        """Go on behind the end of a file that the server cannot read, because it ended in the
        middle of an event; how the next one begins. It is known that nothing is passed over: the
        next file says which transaction was the last one before it."""
        replica, begun = Replica(self._url), list[bytes]()
        try:
            replica.start_at(_following(self.stream.file), 4)
            for raw in replica.events():
                begun.append(raw)
                if raw[4] == Kind.GTID_LIST:
                    break
                if raw[4] not in _BEFORE_LIST:
                    raise error  # MySQL's files do not say it so
            body = begun[-1][HEADER:]
            if Gtid.parse(before_file(body)) != self.stream.position.gtid:
                raise error
        except LogGone:
            replica.close()
            raise error from None
        except BaseException:
            replica.close()
            raise
        self._replica.close()
        self._replica = replica
        return begun

    @property
    def is_idle(self) -> bool:
        """Whether a transaction has ended and nothing else has come yet."""
        return not self.stream.is_within and not self._replica.has_more()

    def _checked(self, position: Position) -> Stream:
        """Read the last transaction once more."""
        before = replace(position, gtid=None, end=position.start)
        stream = Stream(before, lambda shape: ())
        self._replica.start_at(position.file, position.start)
        for raw in self._replica.events():
            try:
                stream.feed(raw)
            except LogUnreadable as error:
                raise AnotherHistory(f"{_NOT_THERE.format(position)}: {error}") from error
            _same_file(stream, position)
            if stream.position.gtid is not None:
                break
        if stream.position != position:
            raise AnotherHistory(f"{_NOT_THERE.format(position)}: {stream.position} is there")
        stream.follow(self._readers)
        return stream

    def _begun(self, position: Position) -> Stream:
        """Begin at a place that was found without reading what is before it."""
        if position.file:
            self._check_place(position)
            self._replica.start_at(position.file, position.end)
        else:
            # MySQL refuses it where it has thrown away what follows, or never had this one.
            self._replica.start_after(position.gtid)
        stream = Stream(position, self._readers)
        for raw in self._replica.events():
            stream.feed(raw)
            if position.file:
                _same_file(stream, position)
            if raw[4] == Kind.FORMAT_DESCRIPTION:
                break
        return stream

    def _check_place(self, position: Position) -> None:
        engine = connect(self._url)
        try:
            with reading(engine) as connection:
                found = gtid_at(connection, position.file, position.end)
        finally:
            engine.dispose()
        if Gtid.parse(found) != position.gtid:
            raise AnotherHistory(f"{_NOT_THERE.format(position)}: {found or 'nothing'} is there")


_BEFORE_LIST = (Kind.ROTATE, Kind.FORMAT_DESCRIPTION, Kind.START_ENCRYPTION, Kind.HEARTBEAT)
"""What comes before the list of transactions in a file of MariaDB's."""


def _following(file: str) -> str:
    """The name of the next file of a log."""
    name, _, number = file.rpartition(".")
    return f"{name}.{int(number) + 1:0{len(number)}}"


_NOT_THERE = "the log of the server does not have {} where it was read last"


def _same_file(stream: Stream, position: Position) -> None:
    if stream.made != position.made:
        raise AnotherHistory(
            f"{_NOT_THERE.format(position)}: its file {position.file} was begun anew since"
        )
