"""The log as a stream: from its events to what the mirror has to do, transaction by transaction.
Pure: it is given bytes.

What follows from an event is one of `Change`, a row of an entity; `Unreadable`, a row that no event
can be made of; `Concerned`, tables that something happened to which is not there as rows; and
`Altered`, tables whose columns may be others now. `Stream.position` is where the last transaction
ended that was fed whole.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from bridge.sync.log import format as log
from bridge.sync.log import statements
from bridge.sync.log.cascades import Cascaded, Referred
from bridge.sync.log.format import ARTIFICIAL, HEADER, IGNORABLE, ROWS, Kind, LogUnreadable
from bridge.sync.log.position import LAST_ROW, Gtid, Position, version
from bridge.sync.log.rows import PartsOfRows, Reader, Row
from bridge.sync.log.statements import touches
from bridge.sync.log.tables import Shape, shape

__all__ = [
    "Altered", "Change", "Concerned", "Found", "Readers", "Stopped", "Stream", "Torn", "Unreadable",
]  # fmt: skip


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
    """Something happened to tables that is not in the log as rows. schema, tables: as of
    `statements.touches`, to be asked with `touches`. why: in words, without values."""

    schema: str
    tables: tuple[str, ...] | None
    why: str

    def touches(self, schema: str, table: str) -> bool:
        """Whether it may have happened to this one."""
        return touches(self.schema, self.tables, schema, table)


class Altered(NamedTuple):
    """The definition of tables may have changed: what is fed next is of the new one. schema,
    tables: as of Concerned."""

    schema: str
    tables: tuple[str, ...] | None

    def touches(self, schema: str, table: str) -> bool:
        """Whether it may be the definition of this one."""
        return touches(self.schema, self.tables, schema, table)


class Stopped(NamedTuple):
    """Rows of an entity cannot be read, because the table in the log is another one than that of
    the database."""

    entity: str
    why: str


class Torn(NamedTuple):
    """The server ended while it wrote this transaction, and has undone it: what was found of it is
    not so. The next transaction has the same number. tables: whose rows were in it."""

    gtid: Gtid
    tables: frozenset[tuple[str, str]]


Found = Change | Unreadable | Concerned | Cascaded | Altered | Stopped | Torn
Readers = Callable[[Shape], Sequence[Reader | Referred | Stopped]]
"""Of a table, those who want its rows."""


class _Table(NamedTuple):
    """A table that somebody wants rows of, or nobody."""

    schema: str
    name: str
    readers: Sequence[Reader | Referred | Stopped]


@dataclass(slots=True)
class _Group:
    """A transaction that is being read. alone: it ends with its statement. prepares: it is one of
    XA, and not committed. rows: how many changes each entity has had. tables: that had rows, with
    their schema. undone: what of it did not happen, in words."""

    gtid: Gtid
    start: int
    time: int
    alone: bool
    prepares: bool = False
    rows: dict[str, int] = field(default_factory=dict)
    tables: set[tuple[str, str]] = field(default_factory=set)
    undone: str = ""


class Stream:
    """Follows one log from a position on. readers: who wants the rows of a table; it is asked once
    for each definition of it. fed: bytes of all events so far.

    Raises LogUnreadable where it cannot be followed any further without the risk of a silent gap.
    """

    def __init__(self, position: Position, readers: Readers) -> None:
        self.position = position
        self.fed = 0
        self._readers = readers
        self._file, self._offset, self._made = position.file, position.end, position.made
        self._described: log.Described | None = None
        self._tables: dict[int, _Table] = {}
        self._known: dict[bytes, _Table] = {}
        self._group: _Group | None = None
        self._prepared: dict[str, set[tuple[str, str]]] = {}

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
    def file(self) -> str:
        """Which is read, of those of the log."""
        return self._file

    @property
    def made(self) -> int:
        """When the file was begun that is read, in Unix seconds."""
        return self._made

    def follow(self, readers: Readers) -> None:
        """From now on, these want the rows of a table."""
        self._readers = readers
        self._prepared.clear()  # who wants them was not known
        self.forget()

    def forget(self) -> None:
        """Ask for the readers of every table again."""
        self._known.clear()
        self._tables.clear()

    def feed(self, raw: bytes) -> list[Found]:
        """What an event does. raw: it, with its header."""
        head = log.header(raw)
        kind = head.kind
        self.fed += head.size
        body = self._body(raw, kind)
        if head.end and not head.flags & ARTIFICIAL:
            # Beyond 4 GiB the place of an event is only counted.
            self._offset += head.size
            if self._offset & 0xFFFFFFFF != head.end:
                self._offset = head.end
        if kind in ROWS:
            return self._rows(kind, body)
        if kind == Kind.TABLE_MAP:
            self._table(body)
        elif kind == Kind.MARIADB_GTID:
            self._begin_mariadb(body, head)
        elif kind == Kind.XID:
            return self._end(raw)
        elif kind in (Kind.QUERY, Kind.QUERY_COMPRESSED):
            return self._statement(raw, body, compressed=kind == Kind.QUERY_COMPRESSED)
        elif kind == Kind.ROTATE:
            self._file, self._offset = log.rotation(body)
            self._tables.clear()
        elif kind == Kind.FORMAT_DESCRIPTION:
            return self._torn()
        elif kind == Kind.GTID:
            # It has no commit of its own, unless a BEGIN follows.
            gtid = Gtid(log.uuid_of(body), 0, log.sequence_of(body))
            self._begin(_Group(gtid, self._offset - head.size, head.time, alone=True))
        elif (told := _REFUSED.get(kind)) is not None:
            raise LogUnreadable(told)
        elif kind == Kind.XA_PREPARE:
            return self._prepare(raw, body)
        elif kind == Kind.EXECUTE_LOAD_QUERY:
            return [Concerned("", None, "LOAD DATA in statement format")]
        elif kind not in _PASSED and not head.flags & IGNORABLE:
            raise LogUnreadable(f"the log has an event of the unknown kind {kind}")
        return []

    def _body(self, raw: bytes, kind: int) -> bytes:
        """What follows the header. Raises LogUnreadable for what is damaged."""
        if kind == Kind.ROTATE:
            # Also before the first file, or between two, which need not be alike.
            return raw[HEADER:-4] if log.has_checksum(raw) else raw[HEADER:]
        if kind == Kind.FORMAT_DESCRIPTION:
            self._described = log.describe(raw)
            self._made = self._described.made
        if self._described is None:
            raise LogUnreadable(f"the log begins with an event of kind {kind}")
        if not self._described.checksums:
            return raw[HEADER:]
        if not log.has_checksum(raw):
            raise LogUnreadable("an event of the log is damaged: its checksum is another")
        return raw[HEADER:-4]

    # Transactions.

    def _begin_mariadb(self, body: bytes, head: log.Header) -> None:
        found = log.begins_group(body)
        gtid = Gtid(found.domain, head.server, found.sequence)
        start = self._offset - head.size
        self._begin(_Group(gtid, start, head.time, found.alone, found.prepares))

    def _begin(self, group: _Group) -> None:
        last, gtid = self.position.gtid, group.gtid
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
        self._group = group

    def _end(self, raw: bytes) -> list[Found]:
        group = self._within()
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
        return list(_concerned(group.tables, group.undone)) if group.undone else []

    def _torn(self) -> list[Found]:
        """A file begins; a transaction never goes on in the next one."""
        if (group := self._group) is None:
            return []
        self._group = None
        return [Torn(group.gtid, frozenset(group.tables))]

    def _within(self) -> _Group:
        if self._group is None:
            raise LogUnreadable("the log has a part of a transaction that has not begun")
        return self._group

    # XA. What is prepared is not committed; the rows of it are not there when it is.

    @log.reads("an XA transaction")
    def _prepare(self, raw: bytes, body: bytes) -> list[Found]:
        group = self._within()
        one_phase, format_, first, second = struct.unpack_from("<BIII", body)
        data = log.taken(body, 13, first + second)
        found = self._end(raw)
        if one_phase:
            return [*found, *_concerned(group.tables, "XA COMMIT")]
        xid = f"X'{data[:first].hex()}',X'{data[first:].hex()}',{format_}"
        self._prepared[xid.casefold()] = group.tables
        return found

    def _xa(self, words: Sequence[str]) -> Iterator[Found]:
        verb, xid = "".join(words[1:2]).upper(), "".join(words[2:]).casefold()
        if verb == "START":
            group = self._within()
            group.alone, group.prepares = False, True
        elif verb in ("COMMIT", "ROLLBACK"):
            tables = self._prepared.pop(xid, None)
            if verb == "COMMIT":
                if tables is None:
                    yield Concerned("", None, "XA COMMIT of what was prepared earlier")
                else:
                    yield from _concerned(tables, "XA COMMIT")

    # Rows.

    def _table(self, body: bytes) -> None:
        number, described = int.from_bytes(body[:6], "little"), body[6:]
        if (found := self._known.get(described)) is None:
            described_by = self._described
            is_mariadb = described_by is None or "MariaDB" in described_by.version
            one = shape(body, mariadb=is_mariadb)
            found = _Table(one.schema, one.table, self._readers(one))
            self._known[described] = found
        self._tables[number] = found

    def _rows(self, kind: int, body: bytes) -> list[Found]:
        group = self._within()
        number = int.from_bytes(body[:6], "little")
        if (table := self._tables.get(number)) is None:
            if number == _DUMMY:
                return []
            raise LogUnreadable("rows come of a table that the log has not named")
        if not table.readers:
            return []
        group.tables.add((table.schema, table.name))
        if group.prepares:
            return []
        try:
            return list(self._found(group, table, kind, body))
        except PartsOfRows:
            why = "parts of rows: a session does not have binlog_row_image=FULL"
            return [Concerned(table.schema, (table.name,), why)]

    def _found(self, group: _Group, table: _Table, kind: int, body: bytes) -> Iterator[Found]:
        """What those who want rows of a table make of some. Raises PartsOfRows, before anything
        else."""
        for reader in table.readers:
            if isinstance(reader, Stopped):
                yield reader
                continue
            if isinstance(reader, Referred):
                yield from reader.vanished(ROWS[kind], body)
                continue
            entity, time = reader.entity, group.time
            row = group.rows.get(entity, 0)
            first = version(self.position.epoch, group.gtid.sequence, 0)
            for change in reader.changes(ROWS[kind], body):
                if row >= LAST_ROW:
                    group.undone = group.undone or f"more than {LAST_ROW} rows in a transaction"
                    break
                for one in change:
                    if isinstance(one, Row):
                        yield Change(entity, one.key, first + row, one.data, time)
                    else:
                        yield Unreadable(entity, one.error, one.raw)
                row += 1
            group.rows[entity] = row

    # Statements.

    def _statement(self, raw: bytes, body: bytes, *, compressed: bool) -> list[Found]:
        said = log.statement(body, compressed=compressed)
        group = self._within()
        words = statements.words(said.text)
        word = words[0] if words else ""
        found: list[Found] = []
        if word == "BEGIN":
            group.alone = False
        elif word == "XA":
            found += self._xa(said.text.split())
        elif word == "ROLLBACK" and "TO" in words:
            group.undone = "ROLLBACK TO a savepoint"
        elif word == "ROLLBACK":
            group.undone = "ROLLBACK of a transaction that other tables keep"
            return self._end(raw)
        elif word == "COMMIT":
            return self._end(raw)
        else:
            found += _follows(said)
        if group.alone:
            found += self._end(raw)
        return found


_DUMMY = 0xFFFFFF
"""The number of no table: rows of it only end a statement."""


def _follows(said: log.Statement) -> Iterator[Found]:
    """What a statement does besides beginning or ending a transaction."""
    effect = statements.effect(said.text, said.schema, is_utf8=said.is_utf8)
    if effect is None:
        return
    if effect.alters:
        yield Altered(effect.schema, effect.tables)
    if effect.changes:
        yield Concerned(effect.schema, effect.tables, effect.why)


def _concerned(tables: Iterable[tuple[str, str]], why: str) -> Iterator[Concerned]:
    schemas: dict[str, list[str]] = {}
    for schema, table in sorted(tables):
        schemas.setdefault(schema, []).append(table)
    for schema, names in schemas.items():
        yield Concerned(schema, tuple(names), why)


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
