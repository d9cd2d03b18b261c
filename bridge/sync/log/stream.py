"""The log as a stream: from its events to what the mirror has to do, transaction by transaction.
Pure: it is given bytes.

What follows from an event is one of `Change`, a row of an entity; `Unreadable`, a row that no event
can be made of; `Concerned`, tables that something happened to which is not there as rows; and
`Altered`, tables whose columns may be others now. `Stream.position` is where the last transaction
ended that was fed whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from bridge.sync.log import format as log
from bridge.sync.log import statements
from bridge.sync.log.format import ARTIFICIAL, HEADER, IGNORABLE, ROWS, Kind, LogUnreadable, Shape
from bridge.sync.log.position import Gtid, Position, version
from bridge.sync.log.rows import Reader, Row

__all__ = ["Altered", "Change", "Concerned", "Stream", "Unreadable"]


class Change(NamedTuple):
    """A row of an entity after a change. data: None where it is gone. time: of the transaction, in
    Unix seconds."""

    entity: str
    key: str
    version: int
    data: dict[str, Any] | None
    time: int


class Unreadable(NamedTuple):
    """A change of a row that no event can be made of. raw: its bytes in the log."""

    entity: str
    error: str
    raw: bytes


class Concerned(NamedTuple):
    """Something happened to tables that is not in the log as rows. tables: with their schema; None
    for all of a schema. why: in words, without values."""

    schema: str
    tables: tuple[str, ...] | None
    why: str


class Altered(NamedTuple):
    """The definition of tables may have changed: what is fed next is of the new one."""

    schema: str
    tables: tuple[str, ...] | None


class Stopped(NamedTuple):
    """Rows of an entity cannot be read, because the table in the log is another one than that of
    the database."""

    entity: str
    why: str


Found = Change | Unreadable | Concerned | Altered | Stopped
Readers = Callable[[Shape], Sequence[Reader | Stopped]]
"""Of a table, those who want its rows."""


@dataclass(slots=True)
class _Group:
    """A transaction that is being read. row: how many changes it had."""

    gtid: Gtid
    start: int
    time: int
    alone: bool
    row: int = 0
    xid: bytes = b""
    prepares: bool = False


class Stream:
    """Follows one log from a position on. readers: who wants the rows of a table; it is asked once
    for each definition of it.

    Raises LogUnreadable where it cannot be followed any further without the risk of a silent gap.
    """

    def __init__(self, position: Position, readers: Readers) -> None:
        self.position = position
        self._readers = readers
        self._file, self._offset, self._made = position.file, position.end, position.made
        self._checksums: bool | None = None  # nobody has said so
        self._tables: dict[int, Sequence[Reader | Stopped]] = {}
        self._known: dict[bytes, Sequence[Reader | Stopped]] = {}
        self._group: _Group | None = None

    @property
    def is_within(self) -> bool:
        """Whether a transaction has begun and not ended."""
        return self._group is not None

    @property
    def at(self) -> Position:
        """Which transaction is being read, or was read last."""
        if self._group is None:
            return self.position
        return replace(self.position, gtid=self._group.gtid)

    @property
    def made(self) -> int:
        """When the file was begun that is read, in Unix seconds."""
        return self._made

    def follow(self, readers: Readers) -> None:
        """From now on, these want the rows of a table."""
        self._readers = readers
        self.forget()

    def forget(self) -> None:
        """Ask for the readers of every table again."""
        self._known.clear()
        self._tables.clear()

    def feed(self, raw: bytes) -> list[Found]:
        """What an event does. raw: it, with its header."""
        head = log.header(raw)
        kind = head.kind
        if kind == Kind.FORMAT_DESCRIPTION:
            described = log.describe(raw)
            self._checksums, self._made = described.checksums, described.made
        is_real = head.end and not head.flags & ARTIFICIAL
        if is_real:
            # Beyond 4 GiB the place of an event is only counted.
            self._offset += head.size
            if self._offset & 0xFFFFFFFF != head.end:
                self._offset = head.end
        body = raw[HEADER:-4] if self._has_checksum(raw) else raw[HEADER:]
        if kind in ROWS:
            return self._rows(kind, body)
        if kind == Kind.TABLE_MAP:
            self._table(body)
            return []
        if kind == Kind.MARIADB_GTID:
            self._begin_mariadb(body, head)
        elif kind == Kind.XID:
            self._end(raw)
        elif kind in (Kind.QUERY, Kind.QUERY_COMPRESSED):
            return self._statement(raw, body, compressed=kind == Kind.QUERY_COMPRESSED)
        elif kind == Kind.ROTATE:
            self._file, self._offset = log.rotation(body)
            self._tables.clear()
        elif kind == Kind.GTID:
            gtid = Gtid(log.uuid_of(body), 0, log.sequence_of(body))
            self._begin(gtid, head.size, head.time, alone=False)
        elif (told := _REFUSED.get(kind)) is not None:
            raise LogUnreadable(told)
        elif kind == Kind.XA_PREPARE:
            return self._prepared(raw, body)
        elif kind == Kind.EXECUTE_LOAD_QUERY:
            return [Concerned(self._schema_of(body), None, "LOAD DATA in statement format")]
        elif kind not in _PASSED and not head.flags & IGNORABLE:
            raise LogUnreadable(f"the log has an event of the unknown kind {kind}")
        return []

    def _has_checksum(self, raw: bytes) -> bool:
        """Whether an event ends with one, which is right."""
        if self._checksums is False:
            return False
        is_right = zlib.crc32(raw[:-4]) == int.from_bytes(raw[-4:], "little")
        if self._checksums and not is_right:
            raise LogUnreadable("an event of the log is damaged: its checksum is wrong")
        return is_right

    # Transactions.

    def _begin_mariadb(self, body: bytes, head: log.Header) -> None:
        found = log.begins_group(body)
        gtid = Gtid(found.domain, head.server, found.sequence)
        self._begin(gtid, head.size, head.time, alone=found.alone)
        assert self._group is not None
        self._group.xid, self._group.prepares = found.xid, found.prepares

    def _begin(self, gtid: Gtid, size: int, time: int, *, alone: bool) -> None:
        last = self.position.gtid
        if self._group is not None:
            raise LogUnreadable(f"transaction {gtid} begins before {self._group.gtid} has ended")
        if last is not None and gtid.domain != last.domain:
            raise LogUnreadable(
                f"transaction {gtid} has another domain or server than {last} before it: the "
                "mirror follows one. Let one server write, with one gtid_domain_id"
            )
        if last is not None and gtid.sequence <= last.sequence:
            raise LogUnreadable(
                f"transaction {gtid} follows {last}, and has no higher number: it is another "
                "history; run `bridgectl snapshot`"
            )
        self._group = _Group(gtid, self._offset - size, time, alone)

    def _end(self, raw: bytes) -> None:
        if (group := self._group) is None:
            raise LogUnreadable("a transaction ends that has not begun")
        self._group = None
        self.position = replace(
            self.position,
            gtid=group.gtid,
            file=self._file,
            start=group.start,
            end=self._offset,
            made=self._made,
            time=group.time,
            checksum=int.from_bytes(raw[-4:], "little"),
        )

    def _prepared(self, raw: bytes, body: bytes) -> list[Found]:
        self._end(raw)
        return []

    # Rows.

    def _table(self, body: bytes) -> None:
        number, described = int.from_bytes(body[:6], "little"), body[6:]
        if (found := self._known.get(described)) is None:
            _, shape = log.shape(body)
            found = self._known[described] = self._readers(shape)
        self._tables[number] = found

    def _rows(self, kind: int, body: bytes) -> list[Found]:
        group = self._group
        if group is None:
            raise LogUnreadable("rows come outside of a transaction")
        number = int.from_bytes(body[:6], "little")
        if (readers := self._tables.get(number)) is None:
            if number == _DUMMY:
                return []
            raise LogUnreadable("rows come of a table that the log has not named")
        found: list[Found] = []
        first = row = group.row
        for reader in readers:
            if isinstance(reader, Stopped):
                found.append(reader)
                continue
            row = first
            entity = reader.entity
            for change in reader.changes(ROWS[kind], body):
                number_ = version(self.position.epoch, group.gtid.sequence, row)
                row += 1
                for one in change:
                    if isinstance(one, Row):
                        found.append(Change(entity, one.key, number_, one.data, group.time))
                    else:
                        found.append(Unreadable(entity, one.error, one.raw))
        group.row = row
        return found

    # Statements.

    def _statement(self, raw: bytes, body: bytes, *, compressed: bool) -> list[Found]:
        said = log.statement(body, compressed=compressed)
        found = list(_follows(said))
        word = statements.first_word(said.text)
        if word in ("COMMIT", "ROLLBACK") or (self._group is not None and self._group.alone):
            self._end(raw)
        return found

    def _schema_of(self, body: bytes) -> str:
        return log.statement(body).schema


_DUMMY = 0xFFFFFF
"""The number of no table: rows of it only end a statement."""


def _follows(said: log.Statement) -> Iterator[Found]:
    """What a statement does besides beginning or ending a transaction."""
    effect = statements.effect(said.text, said.schema)
    if effect is None:
        return
    if effect.alters:
        yield Altered(effect.schema, effect.tables)
    if effect.changes:
        yield Concerned(effect.schema, effect.tables, effect.why)


_REFUSED: Mapping[int, str] = {
    Kind.ANONYMOUS_GTID: "the log has transactions without a number: set gtid_mode=ON and "
    "enforce_gtid_consistency=ON",
    Kind.PARTIAL_UPDATE: "the log holds parts of JSON values: SET GLOBAL "
    "binlog_row_value_options='', and run `bridgectl snapshot` after that",
    Kind.TRANSACTION_PAYLOAD: "the log is compressed in MySQL's way: SET GLOBAL "
    "binlog_transaction_compression=OFF, and run `bridgectl snapshot` after that",
    Kind.INCIDENT: "the server says that changes are missing in its log: run `bridgectl snapshot`",
    **dict.fromkeys(
        (Kind.PRE_GA_WRITE, Kind.PRE_GA_UPDATE, Kind.PRE_GA_DELETE),
        "the log was written by a server older than MySQL 5.1.18",
    ),
}
_PASSED = frozenset(
    (
        Kind.STOP,
        Kind.INTVAR,
        Kind.RAND,
        Kind.USER_VAR,
        Kind.APPEND_BLOCK,
        Kind.DELETE_FILE,
        Kind.BEGIN_LOAD_QUERY,
        Kind.FORMAT_DESCRIPTION,
        Kind.HEARTBEAT,
        Kind.HEARTBEAT_2,
        Kind.IGNORABLE,
        Kind.ROWS_QUERY,
        Kind.PREVIOUS_GTIDS,
        Kind.TRANSACTION_CONTEXT,
        Kind.VIEW_CHANGE,
        Kind.ANNOTATE_ROWS,
        Kind.BINLOG_CHECKPOINT,
        Kind.GTID_LIST,
        Kind.START_ENCRYPTION,
    )
)
"""Known, and without a change of a row."""
