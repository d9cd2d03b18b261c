"""The connection to the server on which it sends its log, as to a replica of it.

The reader asks for a file and a place, or for what follows a transaction, gets every event from
there on, and a sign of life each second when there is none. A server that says nothing for longer
is one that is gone. PyMySQL connects, logs in and reads packets; the four commands of a replica are
written here.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import connect
from bridge.sync.log import format as log
from bridge.sync.log.format import Kind
from bridge.sync.log.position import Gtid

__all__ = ["LogGone", "Replica"]

HEARTBEAT = 1.0
"""Seconds of silence after which the server gives a sign of life."""
SILENCE = 10.0
"""Seconds of silence after which it is gone."""

_REGISTER, _DUMP, _DUMP_GTID = 0x15, 0x12, 0x1E
_ANNOTATE = 0  # the words of statements are not asked for
_KNOWS_GTID = 4
_NO_LOG = 1236


class LogGone(BridgeError):
    """The server does not have the log from there on."""


class Replica:
    """A reader of the log at `url`, as a URL of SQLAlchemy.

    Raises BridgeError for a URL that cannot be used, or a server whose log cannot be read, and
    ServerAway when it does not answer.
    """

    def __init__(self, url: str) -> None:
        self._engine = connect(url)
        self._url = self._engine.url
        if self._url.get_backend_name() not in ("mysql", "mariadb"):
            raise BridgeError(
                "`source: {log: true}` reads the log of MariaDB or MySQL, and BRIDGE_SQL_URL names "
                f"{self._url.get_backend_name()}"
            )
        self._id = 0
        with self._away():
            pooled = self._engine.raw_connection()
            driver: Any = pooled.driver_connection
            pooled.detach()
        self._driver = driver
        self.is_mariadb = "MariaDB" in str(self._driver.server_version)

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, whatever it waits for."""
        self._driver._force_close()
        self._engine.dispose()

    def start_at(self, file: str, offset: int) -> None:
        """Ask for the events of a file, from the event on that begins at `offset`."""
        self._prepare()
        name = file.encode("utf-8", "surrogateescape")
        self._command(_DUMP, struct.pack("<IHI", offset, _ANNOTATE, self._id) + name)

    def start_after(self, gtid: Gtid | None) -> None:
        """Ask for the transactions after one, or for all that there are."""
        self._prepare()
        if self.is_mariadb:
            self._say(f"SET @slave_connect_state = '{gtid or ''}'")
            self._say("SET @slave_gtid_strict_mode = 1")
            self._say("SET @slave_gtid_ignore_duplicates = 0")
            self._command(_DUMP, struct.pack("<IHI", 4, _ANNOTATE, self._id))
            return
        known = b"" if gtid is None else _set_of(gtid)
        body = struct.pack("<HIIQI", 0, self._id, 0, 4, len(known) + 8)
        self._command(_DUMP_GTID, body + struct.pack("<Q", 0 if gtid is None else 1) + known)

    def made(self, file: str) -> int:
        """When a file of the log was begun, in Unix seconds. It is the only question then."""
        self.start_at(file, 4)
        for raw in self.events():
            if raw[4] == Kind.FORMAT_DESCRIPTION:
                return log.describe(raw).made
        raise AssertionError("the events have no end")

    def events(self) -> Iterator[bytes]:
        """The events, without end. Raises LogGone where the server does not have them, and
        ServerAway."""
        read = self._driver._read_packet
        while True:
            try:
                packet = read()
            except Exception as error:
                raise self._told(error) from error
            data: bytes = packet.get_all_data()
            if data[:1] != b"\0":
                raise ServerAway("the SQL database has ended its log")
            yield data[1:]

    def has_more(self) -> bool:
        """Whether something has come that was not read yet."""
        self._driver._sock.settimeout(0)
        try:
            return bool(self._driver._rfile.peek(1))
        except OSError:
            return False  # TLS has no whole record yet; or whoever reads next is told
        finally:
            self._driver._sock.settimeout(SILENCE)

    def _prepare(self) -> None:
        self._id = 0x60000000 | secrets.randbits(28)
        with self._away():
            self._driver._read_timeout = SILENCE
        self._say(f"SET @master_heartbeat_period = {int(HEARTBEAT * 1e9)}")
        self._say("SET @master_binlog_checksum = @@global.binlog_checksum")
        if self.is_mariadb:
            self._say(f"SET @mariadb_slave_capability = {_KNOWS_GTID}")
        register = struct.pack("<IBBBHII", self._id, 0, 0, 0, 0, 0, 0)
        self._command(_REGISTER, register)
        with self._away():
            self._driver._read_packet()

    def _say(self, statement: str) -> None:
        with self._away(), self._driver.cursor() as cursor:
            cursor.execute(statement)

    def _command(self, number: int, body: bytes) -> None:
        with self._away():
            self._driver._execute_command(number, body)

    @contextmanager
    def _away(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise self._told(error) from error

    def _told(self, error: Exception) -> BridgeError:
        code = error.args[0] if error.args else None
        if code == _NO_LOG:
            return LogGone(f"the server does not have the log from there on: {error.args[-1]}")
        cause = cause_of(error, self._url)
        text = f"the SQL database {cause}"
        return ServerAway(text) if cause.waits else BridgeError(text)


def _set_of(gtid: Gtid) -> bytes:
    """All transactions up to one, as MySQL takes them."""
    uuid = bytes.fromhex(gtid.domain.replace("-", ""))
    return uuid + struct.pack("<QQQ", 1, 1, gtid.sequence + 1)
