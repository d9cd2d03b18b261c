"""The first load, and every later one, while both sides are live: from the site's database
straight into MongoDB, past the queue.

Each row carries its version, and the guard of `bridge.sync.apply` drops what is stale, so nothing
has to stand still. The steps for each entity: (1) go on where an unfinished snapshot was, or
begin, (2) rows in the order of their key, chunk by chunk, a checkpoint after each, (3) bury what
has no row any more, (4) keep the result. `bridgectl snapshot` calls `run`. What an entity whose
versions come from the database's log needs besides is `logged`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import TypeVar

from pymongo.database import Database

from bridge.errors import BridgeError, ServerAway, Stopped
from bridge.queue.broker.connection import Link
from bridge.queue.events import Rejected
from bridge.queue.sql import cause as sqlcause
from bridge.queue.sql.database import connect
from bridge.queue.waiting import Patience
from bridge.settings import Settings
from bridge.sync import apply as mongodb
from bridge.sync import twins
from bridge.sync.dead_letters import keep, letter_of, letter_of_row, too_many
from bridge.sync.documents import Document, Mirror
from bridge.sync.relay import Sources, queue_status
from bridge.sync.server_errors import check_mongodb
from bridge.sync.snapshot import deletions as gone
from bridge.sync.snapshot.checkpoint import Checkpoint, Leases, digest, forget_reason
from bridge.sync.snapshot.choice import choose
from bridge.sync.snapshot.logged import Logged, Since
from bridge.sync.snapshot.reader import Reader
from bridge.sync.snapshot.throttle import Throttle
from bridge.sync.sql.source import BadRow, Chunk, SqlSource
from bridge.sync.state import State

__all__ = ["Progress", "SnapshotOptions", "SnapshotResult", "run"]

T = TypeVar("T")

SETTLE = 1.0
"""Seconds before SQL is asked once more for what it did not have."""
POLL = 0.5
"""Seconds between two looks at whether to go on."""
WALK = 2000
"""Documents of one look at MongoDB."""


@dataclass(frozen=True, slots=True)
class SnapshotOptions:
    """restart: begin anew, whatever was done. rewrite: write the same versions, too. chunk: rows
    at once. max_lag: seconds, and max_waiting: messages, beyond which it waits; 0 for no limit.
    rate: rows a second, 0 for no limit. max_dead: rows of one run that may become dead letters, 0
    for no limit. bury_all: however many have no row."""

    restart: bool = False
    rewrite: bool = False
    chunk: int = 1000
    max_lag: float = 5.0
    max_waiting: int = 10_000
    rate: int = 0
    max_dead: int = 10_000
    bury_all: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. rows: of this run. waiting: what for; empty when it works."""

    entity: str
    checkpoint: Checkpoint
    rows: int
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotResult:
    """What came of one entity. rows and the counts: of all runs since the beginning. seconds: of
    all runs, and rate: rows a second in this one. resumed: whether an earlier run had begun it."""

    entity: str
    rows: int
    written: int
    stale: int
    dead: int
    buried: int
    seconds: float
    rate: float
    resumed: bool


def run(
    settings: Settings,
    names: Sequence[str],
    options: SnapshotOptions,
    *,
    stop: threading.Event,
    say: Callable[[str], None] = lambda line: None,
    show: Callable[[Progress], None] = lambda progress: None,
) -> list[SnapshotResult]:
    """Load entities, one after the other.

    names: none for all that have a source.
    say: is told a line where something happens that a person should know.
    show: is told how far it is.

    Raises Stopped when `stop` was set: the same call goes on later. Raises ServerMissing when
    a server does not answer at the start; later it is waited for. Raises BridgeError for what
    sync.yaml has wrong, and when somebody else loads the same entity.
    """
    mirror = Mirror.of(settings)
    chosen = choose(mirror, names)
    if not settings.sql_url:
        raise BridgeError("set BRIDGE_SQL_URL to the site's database, which is to be loaded")
    engine = connect(settings.sql_url)
    sqlcause.check(engine)  # before anybody connects, which makes a SQLite file
    sources = {name: SqlSource(engine, name, mirror) for name in chosen}
    others = Sources.of(settings)
    with (
        mongodb.connect(settings.mongodb_url) as client,
        Throttle(
            lambda: queue_status(settings, others, mongodb=False),
            max_lag=options.max_lag,
            max_waiting=options.max_waiting,
        ) as throttle,
    ):
        database: Database[Document] = client.get_default_database()
        check_mongodb(settings, mirror)
        with Leases(State(database), chosen) as leases, Link(settings.broker_url) as letters:
            logged = Logged(engine, settings.sql_url, database, mirror, say)
            load = _Load(
                database, mirror, leases, letters, throttle, logged, options, stop, say, show
            )
            try:
                return [load.entity(name, sources[name]) for name in chosen]
            finally:
                engine.dispose()


@dataclass
class _Load:
    """One run over any number of entities."""

    _database: Database[Document]
    _mirror: Mirror
    _leases: Leases
    _letters: Link
    _throttle: Throttle
    _logged: Logged
    _options: SnapshotOptions
    _stop: threading.Event
    _say: Callable[[str], None]
    _show: Callable[[Progress], None]
    _name: str = ""
    _point: Checkpoint = field(default_factory=lambda: Checkpoint(""))
    _paused: bool = False

    def entity(self, name: str, source: SqlSource) -> SnapshotResult:
        """Load one entity, from where it is."""
        self._name, self._rows, self._dead = name, 0, 0
        self._since = self._counted = monotonic()
        since = None
        if source.source.owner == "log":
            since = self._both(partial(self._logged.begin, name))
            source.reading = since.reading
        resumed = self._begin(source, since)
        if self._point.rewrite:
            source.rewrite = True
        if self._point.phase == "rows":
            self._read_rows(source)
            self._point.phase = "gone"
            self._keep()
        reading_seconds = monotonic() - self._since
        self._bury_gone(source)
        if since is not None:
            self._mongodb(partial(self._logged.end, name, self._point.sequence))
        self._tell_twins()
        self._point.finish()
        self._keep()
        self._show(Progress(name, self._point, self._rows))
        rate = self._rows / reading_seconds if self._rows else 0.0
        point = self._point
        return SnapshotResult(
            name,
            point.rows,
            point.written,
            point.stale,
            point.dead,
            point.buried,
            round(point.seconds, 3),
            round(rate, 1),
            resumed,
        )

    def _begin(self, source: SqlSource, since: Since | None) -> bool:
        """(1) Whether it goes on with what was begun. since: of an entity of the log."""
        document = self._mongodb(lambda: self._leases.load(self._name))
        self._paused = bool(document.get("paused"))
        held, made_of = Checkpoint.of(document), digest(self._mirror, self._name)
        rewrite = self._options.rewrite
        if held is not None and not held.done:
            because = forget_reason(held, made_of, restart=self._options.restart, rewrite=rewrite)
            if not because and since is not None and held.epoch != since.epoch:
                because = "the log is another one since"
            if not because:
                self._point = held
                where = f"{held.rows:,} rows" if held.phase == "rows" else "all rows"
                how = ", with --rewrite as it was begun" if held.rewrite and not rewrite else ""
                self._say(f"{self._name}: going on after {where} of {held.started}{how}")
                return True
            self._say(f"{self._name}: begins anew: {because}")
        try:
            total = source.count()
        except ServerAway:
            # It is for the eye only, and may take longer than we wait for an answer.
            total = 0
        self._point = Checkpoint(made_of, rewrite, total=total)
        if since is not None:
            self._point.epoch, self._point.sequence = since.epoch, since.sequence
        self._keep()
        return False

    def _read_rows(self, source: SqlSource) -> None:
        """(2)"""
        while True:
            with Reader(source, self._point.position, self._options.chunk, self._sql) as chunks:
                for chunk in chunks:
                    if self._wait():
                        break  # what was read ahead is old by now
                    self._write(chunk)
                else:
                    return

    def _write(self, chunk: Chunk) -> None:
        result = self._mongodb(lambda: mongodb.load(self._database, self._mirror, chunk.events))
        self._bury_letters(chunk.bad, result.failed)
        self._dead += len(chunk.bad) + len(result.failed)
        point = self._point
        point.rows += chunk.rows
        point.written += result.written
        point.stale += result.stale
        point.dead += len(chunk.bad) + len(result.failed)
        point.position = chunk.last or point.position
        self._rows += chunk.rows
        self._keep()
        self._show(Progress(self._name, point, self._rows))
        if self._options.max_dead and self._dead >= self._options.max_dead:
            raise too_many(self._name, self._dead)
        if self._options.rate:
            self._sleep(self._since + self._rows / self._options.rate - monotonic())

    def _bury_letters(self, bad: Sequence[BadRow], failed: Sequence[Rejected]) -> None:
        letters = [letter_of_row(self._name, row) for row in bad]
        letters += [letter_of(one) for one in failed]
        if letters:
            self._patiently("the broker", lambda: keep(self._letters, letters))

    def _bury_gone(self, source: SqlSource) -> None:
        """(3)"""
        collection = self._mirror.collection_of(self._name)
        alive, after = 0, None
        suspects: gone.Alive = {}
        odd: dict[str, str] = {}
        while True:
            self._wait()
            self._show(Progress(self._name, self._point, self._rows))
            walk = partial(gone.walk, self._database, collection, after, WALK)
            found, after = self._mongodb(walk)
            there, unlookable, _ = self._sql(partial(source.existing, list(found)))
            alive += len(found)
            odd |= unlookable
            suspects |= {
                key: version
                for key, version in found.items()
                if key not in there and key not in unlookable
            }
            if after is None:
                break
        for key in self._bury_renamed(source, collection, odd):
            del odd[key]
        if odd:
            key, why = next(iter(odd.items()))
            self._say(
                f"{self._name}: {len(odd):,} documents have a key that no row can have, and stay: "
                f"{key!a}: {why}; `bridgectl reconcile {self._name}` lists them"
            )
        if not suspects:
            return
        if not self._options.bury_all:
            gone.check_amount(self._name, suspects, alive)
        self._sleep(SETTLE)
        for some in gone.batches(suspects, WALK):
            self._wait()
            events = self._sql(partial(gone.burial, self._name, some, source.existing))
            result = self._mongodb(partial(mongodb.apply, self._database, self._mirror, events))
            self._point.buried += result.written
            self._keep()

    def _bury_renamed(self, source: SqlSource, collection: str, odd: Iterable[str]) -> set[str]:
        """Documents of rows that have one under the key that they have now."""
        names = gone.renamed(self._mirror.typed(self._name), odd)
        if not names:
            return set()
        there = self._sql(lambda: source.existing(list(names.values()))).there
        names = {key: name for key, name in names.items() if name in there}
        buried = self._mongodb(lambda: gone.bury_renamed(self._database, collection, names))
        self._point.buried += len(buried)
        self._keep()
        return buried

    def _tell_twins(self) -> None:
        same = self._mongodb(lambda: twins.left(self._database, self._mirror, self._name))
        for one in same[:3]:
            self._say(f"{one}: both are kept; `bridgectl doctor` shows all of these")

    def _wait(self) -> bool:
        """Wait while paused, or while visitors' edits would have to; whether it did. Raises
        Stopped."""
        waited, said = False, ""
        while not self._stop.is_set():
            why = self._throttle.reason
            if self._paused:
                why = f"it is paused; `bridgectl snapshot {self._name} --continue` goes on"
            if not why:
                if waited:
                    self._say(f"{self._name}: going on")
                return waited
            kind = "paused" if self._paused else "behind"
            if kind != said:
                self._say(f"{self._name}: waiting: {why}")
                said = kind
            waited = True
            self._show(Progress(self._name, self._point, self._rows, why))
            self._stop.wait(POLL)
            self._counted = monotonic()  # no work
            self._paused = bool(self._mongodb(lambda: self._leases.look(self._name)).get("paused"))
        raise Stopped("stopped")

    def _keep(self) -> None:
        """Checkpoint."""
        now = monotonic()
        self._point.seconds += now - self._counted
        self._counted = now
        document = self._mongodb(lambda: self._leases.keep(self._name, self._point))
        self._paused = bool(document.get("paused"))
        if self._stop.is_set() and not self._point.done:
            raise Stopped("stopped")

    def _sleep(self, seconds: float) -> None:
        if seconds > 0 and self._stop.wait(seconds):
            raise Stopped("stopped")

    def _mongodb(self, attempt: Callable[[], T]) -> T:
        return self._patiently("MongoDB", attempt)

    def _sql(self, attempt: Callable[[], T]) -> T:
        return self._patiently("SQL", attempt)

    def _both(self, attempt: Callable[[], T]) -> T:
        return self._patiently("SQL or MongoDB", attempt)

    def _patiently(self, what: str, attempt: Callable[[], T]) -> T:
        """Try until the server answers, with one line said. Raises Stopped."""

        def tell(error: ServerAway, failures: int, seconds: float) -> None:
            if not failures:
                self._say(f"{self._name}: waiting for {what}: {error}")

        return Patience(self._stop).until(
            attempt, tell, lambda failures: self._say(f"{self._name}: {what} is back")
        )
