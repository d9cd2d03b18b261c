"""The process that reads the database's log and writes what it says to MongoDB.

It goes straight to the guarded write (`bridge.sync.apply`), past the queue: the log itself keeps
every change, in order, for as long as the server is told to, and can be read again from any place.
A queue in between could only lose that order. A batch is written first and the position after it,
so that a kill between the two means that it is written again, and the guard drops it.

One process reads at a time, who owns the document `log` of `bridge_state`; others wait for it to be
gone. What is only compared is handed to who compares: `bridge.sync.capture` wires the two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from time import monotonic, time
from typing import Any, TypeVar

import sqlalchemy as sql
from pymongo.database import Database
from pymongo.errors import PyMongoError
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway, Stopped
from bridge.queue.broker.connection import Link
from bridge.queue.consumer.dead_letters import DeadLetter
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import at_level
from bridge.queue.sql.database import connect as connect_sql
from bridge.queue.waiting import Patience
from bridge.settings import Settings, redact_url
from bridge.sync import indexes, twins
from bridge.sync.apply import apply
from bridge.sync.dead_letters import keep as keep_letters
from bridge.sync.dead_letters import letter_of, letter_of_row
from bridge.sync.documents import Document, Mirror
from bridge.sync.log.cascades import Cascaded
from bridge.sync.log.changes import Comparing, events_of
from bridge.sync.log.collations import charsets_of
from bridge.sync.log.follow import AnotherHistory, Follower, end_of_log
from bridge.sync.log.format import LogUnreadable
from bridge.sync.log.healing import Healing
from bridge.sync.log.kept import LEASE, LOAD, Dirty, Halted, KeptLog
from bridge.sync.log.needs import check, look
from bridge.sync.log.position import Position, position_of_version
from bridge.sync.log.replica import LogGone
from bridge.sync.log.stream import Altered, Change, Concerned, Found, Stream, Torn, Unreadable
from bridge.sync.log.stream import Stopped as StoppedEntity
from bridge.sync.log.wanted import Wanted
from bridge.sync.mongodb import connect
from bridge.sync.server_errors import mongodb_missing, no_entities
from bridge.sync.sql.source import BadRow
from bridge.sync.state import Owner

__all__ = ["Counters", "run_capture"]

T = TypeVar("T")

MOST = 1000
"""Changes of one write."""
MOST_BYTES = 8 * 1024 * 1024
"""Bytes of the log that one write is made of, about: their rows are in memory."""
BEAT = 3.0
"""Seconds between two signs of life where there is nothing to write."""
AGAIN = 5.0
"""Seconds until it is looked again whether what stopped the reading was mended."""
MOST_RAW = 100_000
"""Bytes of a row that a dead letter holds."""
SEEN_WITHIN = 0.02
"""Seconds after which what was read is written and kept, also where more is coming."""


@dataclass(slots=True)
class Counters:
    """What was done since the start; written by one thread, read by any.

    changes: of rows of mirrored tables. applied: those that changed MongoDB; stale: it had this
    version or a newer one. dead: became dead letters. again: how often the reading was begun again
    after a failure.
    """

    changes: int = 0
    applied: int = 0
    stale: int = 0
    dead: int = 0
    again: int = 0


def run_capture(
    settings: Settings,
    *,
    stop: threading.Event,
    log: FilteringBoundLogger,
    counters: Counters | None = None,
    comparing: Callable[[Database[Document], Mirror], AbstractContextManager[Comparing]]
    | None = None,
) -> Counters:
    """Mirror what the log says until `stop` is set; return what was done.

    log: is told what happens to the reading.
    counters: are counted up as it goes on.
    comparing: makes who compares; None: entities with `log: compare` are not read.

    Raises ServerMissing when MongoDB does not answer at the start, ConfigError for a wrong
    sync.yaml, and BridgeError when no entity is read from the log, or the server has none.
    """
    counters = Counters() if counters is None else counters
    mirror = Mirror.of(settings)
    if not mirror.entities:
        raise no_entities(settings)
    with connect(settings.mongodb_url) as client, Link(settings.broker_url) as letters:
        database: Database[Document] = client.get_default_database()
        try:
            client.admin.command("ping")
            indexes.ensure(database, mirror)
        except (PyMongoError, ServerAway) as error:
            raise mongodb_missing(settings.mongodb_url, error) from error
        with ExitStack() as beside:
            compares = comparing and beside.enter_context(comparing(database, mirror))
            capture = _Capture(settings, mirror, database, letters, counters, stop, log, compares)
            log.info("capture.started", mongodb=redact_url(settings.mongodb_url))
            with twins.TwinWatch(settings, mirror, log), capture.healing, suppress(Stopped):
                capture.run()
    log.info("capture.stopped", applied=counters.applied, stale=counters.stale, dead=counters.dead)
    return counters


class _Capture:
    def __init__(
        self,
        settings: Settings,
        mirror: Mirror,
        database: Database[Document],
        letters: Link,
        counters: Counters,
        stop: threading.Event,
        log: FilteringBoundLogger,
        comparing: Comparing | None,
    ) -> None:
        self._comparing = comparing
        self._url, self._mirror, self._database = settings.sql_url, mirror, database
        self._letters, self._counters, self._stop, self._log = letters, counters, stop, log
        self._kept, self._owner = KeptLog(database), Owner.me()
        self._engine = connect_sql(settings.sql_url)
        self._wanted = self._patiently("sql", self._look_at_tables)
        self.healing = Healing(settings, log)
        self._batch: list[Change] = []
        self._epoch: int | None = None
        self._halted: set[str] = set()
        self._marked: dict[str, Dirty] = {}
        self._news = _News()

    def run(self) -> None:
        """Read until told to stop. Raises Stopped."""
        patience = Patience(self._stop)
        told = ""
        while not self._stop.is_set():
            if not self._patiently("mongodb", lambda: self._kept.take(self._owner, LEASE)):
                if told != "another":
                    self._log.info("capture.waiting", cause="another process reads the log")
                told = "another"
                self._stop.wait(LEASE / 3)
                continue
            try:
                patience.until(self._follow, self._tell_away)
            except Stopped:
                break
            except _NotOurs as error:
                self._log.warning("capture.given_up", cause=str(error))
                told = ""
            except BridgeError as error:
                told = self._tell_problem(error, told)
                self._stop.wait(AGAIN)
            finally:
                self.healing.rest()
        with suppress(ServerAway):
            self._kept.release(self._owner)

    def _tell_problem(self, error: BridgeError, told: str) -> str:
        """Say why nobody reads on, here and to whoever looks. told: what was said last."""
        self._counters.again += 1
        problem = str(error)
        do = LOAD if isinstance(error, AnotherHistory | LogGone | LogUnreadable) else ""
        epoch = self._epoch
        self._patiently("mongodb", lambda: self._kept.cannot(self._owner, problem, do, epoch))
        if told != problem:
            self._log.error("capture.cannot_read_on", cause=problem, do=do)
        return problem

    def _tell_away(self, error: ServerAway, failures: int, seconds: float) -> None:
        self._counters.again += 1
        self._log.warning("capture.waiting", cause=str(error), seconds=round(seconds, 1))

    def _patiently(self, server: str, attempt: Callable[[], T]) -> T:
        def tell(error: ServerAway, failures: int, seconds: float) -> None:
            self._log.warning(f"{server}.waiting", cause=str(error), seconds=round(seconds, 1))

        return Patience(self._stop).until(attempt, tell)

    # Tables.

    def _look_at_tables(self) -> Wanted:
        with self._asking() as connection:
            folds = connection.exec_driver_sql("SELECT @@lower_case_table_names").scalar()
            schema = str(connection.exec_driver_sql("SELECT DATABASE()").scalar() or "")
            wanted = Wanted(
                self._mirror,
                schema,
                charsets_of(self._engine),
                folds=folds != 0,
                compares=self._comparing is not None,
            )
            if not (wanted.names or wanted.compared):
                raise BridgeError(
                    "no entity of sync.yaml is read from the log: write `log: true` under the "
                    "`source:` of those that are"
                )
            wanted.learn(connection, [*wanted.names, *wanted.compared])
            wanted.refer(connection)
        return wanted

    @contextmanager
    def _asking(self) -> Iterator[sql.Connection]:
        """A connection outside of any transaction. Raises ServerAway."""
        try:
            with at_level(self._engine, "AUTOCOMMIT") as connection:
                yield connection
        except sql.exc.SQLAlchemyError as error:
            raise ServerAway(f"the SQL database {cause_of(error, self._engine.url)}") from error

    # The log.

    def _follow(self) -> None:
        """Read until something ends it. Raises ServerAway, _NotOurs, and what `Follower` raises."""
        with self._asking() as connection:
            check(look(connection))
        if not self._kept.take(self._owner, LEASE):
            raise _NotOurs("another process has begun to read the log meanwhile")
        kept = self._kept.read()
        position = kept.position
        self._epoch = None if position is None else position.epoch
        if position is None:
            position = end_of_log(self._url, 1)
            if not self._kept.begin(position, self._wanted.names):
                raise ServerAway("a load has begun at this moment, and says where to read from")
            self._log.info("capture.begins", at=str(position))
        for name in self._kept.follow(self._owner, self._wanted.names):
            do = f"bridgectl snapshot {name}"
            self._log.warning("capture.not_loaded", entity=name, do=do)
        self._halted, self._marked = set(kept.halted), dict(kept.dirty)
        self._batch, self._news = [], _News()  # what was not kept is read again
        with self._follower(position) as follower:
            if kept.problem:
                self._keep(follower.stream.position)
            self._log.info("capture.follows", after=str(position))
            self.healing.begin()
            self._read(follower)

    def _follower(self, position: Position) -> Follower:
        """Raises as `Follower` does; but where nothing is written that the log says, another
        history is only one of which a part was not compared."""
        try:
            return Follower(self._url, position, self._wanted.readers)
        except AnotherHistory as error:
            if self._wanted.names:
                raise
            position = end_of_log(self._url, position.epoch)
            self._kept.begin_anew(self._owner, position)
            self._log.warning("capture.begins_anew", at=str(position), cause=str(error))
            self._unsure(self._wanted.compared, "a part of the log was not read")
            return Follower(self._url, position, self._wanted.readers)

    def _read(self, follower: Follower) -> None:
        stream = follower.stream
        kept, since, fed = stream.position, 0.0, stream.fed
        beat = monotonic()
        for found in follower.found():
            for one in found:
                if type(one) is Change:
                    self._batch.append(one)
                else:
                    self._other(one, stream)
            now = monotonic()
            if len(self._batch) >= MOST or stream.fed - fed >= MOST_BYTES:
                self._apply()
                fed = stream.fed
            if stream.is_within:
                pass
            elif stream.position is not kept:
                since = since or now
                if follower.is_idle or now - since >= SEEN_WITHIN:
                    self._apply()
                    self._keep(stream.position)
                    kept, since, beat = stream.position, 0.0, now
            if self._stop.is_set() and not stream.is_within:
                raise Stopped("told to stop")
            if now - beat >= BEAT:
                self._keep(None)
                beat = now

    def _apply(self) -> None:
        """Write the batch. Raises Stopped."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        self._counters.changes += len(batch)
        if self._comparing is not None:
            batch = self._comparing.take(batch)
        events, letters = events_of(batch)
        self._bury(letters)
        if events:
            result = self._patiently("mongodb", lambda: apply(self._database, self._mirror, events))
            self._counters.applied += result.written
            self._counters.stale += result.stale
            self._bury([letter_of(one) for one in result.failed])

    def _bury(self, letters: Sequence[DeadLetter]) -> None:
        if letters:
            self._patiently("broker", lambda: keep_letters(self._letters, letters))
            self._counters.dead += len(letters)

    def _keep(self, position: Position | None) -> None:
        """Say how far it is; None: no further than before, and nothing new. Raises Stopped, and
        _NotOurs where another process reads now."""
        news = _News() if position is None else self._news
        is_ours = self._patiently(
            "mongodb",
            lambda: self._kept.keep(self._owner, position, news.dirty, news.halted),
        )
        if not is_ours:
            raise _NotOurs("another process reads the log now, or reading begins elsewhere")
        if position is not None:
            self._news = _News()
        if news.dirty:
            self.healing.soon()

    # What is no change of a row.

    def _other(self, found: Found, stream: Stream) -> None:
        if isinstance(found, Unreadable | StoppedEntity) and self._unsure(
            [found.entity], found.error if isinstance(found, Unreadable) else found.why
        ):
            return
        if isinstance(found, Unreadable):
            raw = found.raw[:MOST_RAW]
            self._bury([letter_of_row(found.entity, BadRow(raw, found.error, ""))])
        elif isinstance(found, Concerned):
            names = self._wanted.in_(found.schema, found.tables)
            self._mark(names, found.why, stream.at)
        elif isinstance(found, Cascaded):
            keys = {found.field: [found.value]} if found.field else None
            self._mark([found.entity], "a foreign key", stream.at, keys)
        elif isinstance(found, Altered):
            self._altered(self._wanted.in_(found.schema, found.tables), stream)
        elif isinstance(found, Torn):
            self._torn(found, stream)
        elif isinstance(found, StoppedEntity):
            do = f"bridgectl snapshot {found.entity}"
            at = stream.at
            # Each time: a load that began before the last one of them does not heal it.
            self._news.halted[found.entity] = Halted(str(at), at.sequence, found.why, do)
            if found.entity in self._halted:
                return
            self._halted.add(found.entity)
            self._log.error("capture.stopped_entity", entity=found.entity, cause=found.why, do=do)

    def _altered(self, names: Sequence[str], stream: Stream) -> None:
        """The rows that follow are of other tables, perhaps."""
        self._apply()

        def look() -> list[str]:
            with self._asking() as connection:
                changed = self._wanted.learn(connection, names)
                self._wanted.refer(connection)
                return changed

        changed = self._patiently("sql", look)
        stream.forget()
        again = [name for name in names if name in self._halted and self._mirror.typed(name)]
        for name in again:
            self._halted.discard(name)
            self._news.halted[name] = None
        self._mark([*changed, *again], "its table was changed", stream.at)
        for name in changed:
            self._log.warning("types.changed", entity=name, at=str(stream.at))

    def _unsure(self, names: Iterable[str], why: str) -> bool:
        """Say of those that are only compared that it is not known which rows changed; whether
        there are any."""
        found = [name for name in names if name in self._wanted.compared]
        for name in found:
            assert self._comparing is not None
            self._comparing.unsure(name, why)
        return bool(found)

    def _torn(self, torn: Torn, stream: Stream) -> None:
        """Some of it may be in MongoDB, with versions that come again."""
        number = torn.gtid.sequence
        self._batch = [one for one in self._batch if position_of_version(one.version)[1] != number]
        names = [name for place in torn.tables for name in self._wanted.in_(place[0], place[1:])]
        at = replace(stream.position, gtid=torn.gtid)
        self._mark(names, "the server ended within a transaction", at)

    def _mark(
        self,
        names: Iterable[str],
        why: str,
        at: Position,
        keys: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        """Say that rows are not what the log says.

        names: entities.
        why: in words, without values.
        at: the transaction.
        keys: a field to its values in the rows that are meant; None: all of them.
        """
        names = list(dict.fromkeys(names))
        self._unsure(names, why)
        for name in names:
            if name in self._wanted.compared:
                continue
            mark = Dirty(str(at), at.sequence, why, keys, round(time(), 3))
            before = self._marked.get(name)
            if before is not None and self.healing.is_healed(name, before):
                before = None
            self._marked[name] = mark if before is None else before.and_(mark)
            self._news.dirty[name] = self._marked[name]
            if before is None:
                self._log.warning("capture.dirty", entity=name, cause=why, at=str(at))


class _NotOurs(BridgeError):
    """This process was silent for too long, so that another one reads the log, or a load has begun
    an epoch: it is to be asked again who reads, and from where."""


@dataclass(slots=True)
class _News:
    """What is to be kept with the next position."""

    dirty: dict[str, Dirty] = field(default_factory=dict)
    halted: dict[str, Halted | None] = field(default_factory=dict)
