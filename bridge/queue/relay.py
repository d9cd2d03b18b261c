"""The relay: outbox rows to the queue, again and again, until MongoDB holds what they say.

A row goes only when MongoDB's majority holds its version or a newer one. So Redis may be wiped
at any time: what was in it is published again. Spool files, SQL queues of the site's own and
lists of stock Kombu programs are moved into an outbox, or into the queue, on the way.

One step for a row whose time has come:

1. claim it, under a lease                      several relays share the work
2. ask MongoDB for its version                  there: the row is free
3. was it published, and may it still be queued? then look again later
4. is it among the dead letters?                then look again much later
5. publish it, and note when to look again
"""

# Most of what kombu offers has no annotations.
# mypy: allow-untyped-calls

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol, TypeVar

import redis
import sqlalchemy as sql
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway, UndecodableMessage
from bridge.queue import broker, lists, redisurl, sqlqueue
from bridge.queue.deadletter import DeadLetter, DeadLetters
from bridge.queue.events import Event
from bridge.queue.group import retry_wait
from bridge.queue.outbox import Backlog, Outbox, Row, now_ms
from bridge.queue.publisher import publish_bodies
from bridge.queue.sources import SqlQueue
from bridge.queue.spool import Spool
from bridge.settings import redact_url

__all__ = ["Held", "Relay", "RelayCounters", "SpoolSource", "plan"]

T = TypeVar("T")

AT_ONCE = 500
LEASE = 30.0
"""Seconds that a claimed row belongs to its relay; one that dies leaves it to others then."""
IDLE = 0.2
"""Seconds between two looks at sources that are empty."""
FIRST_LOOK = 1.0
"""Seconds after publishing a row until MongoDB is asked for it."""
DEAD_LOOK = 600.0
"""Seconds until a row whose event is a dead letter is looked at again."""
MOST_LETTERS = 10_000

Held = Callable[[Sequence[tuple[str, str]]], Mapping[tuple[str, str], int]]
"""The versions that MongoDB holds, by entity and key. Raises ServerAway."""


@dataclass(slots=True)
class RelayCounters:
    """What a relay did since it started; written by its thread, read by any.

    published: events put on the queue. freed: rows that MongoDB holds. republished: those of
    `published` that were not the first. moved: rows, lines and elements taken over from other
    sources. dead: what was moved to the dead letters because no event is in it.
    """

    published: int = 0
    freed: int = 0
    republished: int = 0
    moved: int = 0
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with claimed rows; postpone: row and seconds from now."""

    free: list[Row] = field(default_factory=list)
    publish: list[Row] = field(default_factory=list)
    postpone: list[tuple[Row, float]] = field(default_factory=list)


class Letters(Protocol):
    """Whether the event of a row is among the dead letters."""

    def __call__(self, row: Row) -> bool: ...


def plan(
    rows: Sequence[Row],
    held: Mapping[tuple[str, str], int],
    *,
    now: int,
    oldest: float | None,
    dead: Letters,
) -> Plan:
    """Steps 2 to 4, without I/O.

    now: milliseconds. oldest: when the oldest message of the queue was published, seconds since
    1970; inf for an empty queue, None where the broker cannot say.
    """
    made = Plan()
    for row in rows:
        if held.get(row.identity, -1) >= row.version:
            made.free.append(row)
        elif row.published_at is None:
            made.publish.append(row)
        else:
            since = max(0.0, (now - row.published_at) / 1000)
            wait = retry_wait(row.attempts, 15.0)
            if since < wait:
                # Soon at first, then less and less often.
                made.postpone.append((row, min(max(since, FIRST_LOOK), wait - since + 0.1)))
            elif dead(row):
                made.postpone.append((row, DEAD_LOOK))
            elif oldest is not None and oldest <= row.published_at / 1000:
                # The queue is in order: its message is still there, behind older ones.
                made.postpone.append((row, 15.0))
            else:
                made.publish.append(row)
    return made


@dataclass(frozen=True)
class SpoolSource:
    """A spool directory, and the outbox that its lines go to."""

    spool: Spool
    outbox: Outbox


class Relay:
    """Moves what waits in every source, in one thread.

    broker_url: as for the worker. outboxes: with the `source` of their events. held: asks
    MongoDB. spools, queues (with their outbox), lists: the other sources.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        outboxes: Sequence[tuple[Outbox, str]],
        held: Held,
        log: FilteringBoundLogger,
        spools: Sequence[SpoolSource] = (),
        queues: Sequence[tuple[SqlQueue, Outbox]] = (),
        lists: Sequence[str] = (),
        counters: RelayCounters | None = None,
        queue: str = broker.EVENTS_QUEUE,
        dead_queue: str = broker.DEAD_QUEUE,
    ) -> None:
        self.counters = RelayCounters() if counters is None else counters
        self._url, self._held, self._log = broker_url, held, log
        self._queue, self._dead_queue = queue, dead_queue
        self._outboxes = tuple(outboxes)
        self._connection: Any = None
        self._letters: DeadLetters | None = None
        if lists and not redisurl.is_redis(broker_url):
            raise BridgeError("lists are on Redis: BRIDGE_BROKER_URL must name one to drain them")
        self._sources: list[_Source] = [
            *(_Source(f"outbox {outbox.table.fullname}", self._relay(outbox, source))
              for outbox, source in outboxes),
            *(_Source(f"spool {one.spool.directory}", self._unspool(one)) for one in spools),
            *(_Source(f"queue {one.table}", self._drain(one, outbox)) for one, outbox in queues),
            *(_Source(f"list {name}", self._shift(name)) for name in lists),
        ]  # fmt: skip

    def run(self, stop: threading.Event) -> None:
        """Relay until `stop` is set. A server that is away is waited for, without end."""
        while not stop.is_set():
            done = 0
            for source in self._sources:
                if not stop.is_set() and source.is_due():
                    done += self._try(source)
            if not done:
                stop.wait(IDLE)
        self._disconnect()

    def backlog(self) -> Backlog:
        """Rows of all outboxes that MongoDB does not hold. Raises SQLAlchemy's errors."""
        found = [outbox.backlog() for outbox, _ in self._outboxes]
        return Backlog(sum(one.rows for one in found), max((one.lag for one in found), default=0))

    def _try(self, source: _Source) -> int:
        try:
            done = source.step()
        except (ServerAway, sql.exc.SQLAlchemyError, redis.RedisError, OSError) as error:
            cause = _short(error)
        except UndecodableMessage as error:
            cause = str(error)
        else:
            source.failures = 0
            return done
        delay = broker.backoff(source.failures)
        source.wait(delay)
        self._log.warning("relay.waiting", source=source.name, cause=cause, seconds=round(delay, 1))
        return 0

    # Outboxes.

    def _relay(self, outbox: Outbox, source: str) -> Callable[[], int]:
        def step() -> int:
            rows = outbox.claim(AT_ONCE, LEASE)
            if not rows:
                return 0
            try:
                return self._move_rows(outbox, rows, source)
            except ServerAway:
                # Not our rows any more: somebody else may have a way.
                outbox.postpone(rows, now_ms() + 1000)
                raise

        return step

    def _move_rows(self, outbox: Outbox, rows: Sequence[Row], source: str) -> int:
        held = self._held([row.identity for row in rows])
        made = plan(
            rows,
            held,
            now=now_ms(),
            oldest=self._oldest() if any(row.attempts for row in rows) else None,
            dead=_DeadRows(self._dead_events, source),
        )
        if made.free:
            outbox.free(made.free)
            self.counters.freed += len(made.free)
        for seconds, some in _by_seconds(made.postpone).items():
            outbox.postpone(some, now_ms() + int(seconds * 1000))
        if made.publish:
            self._publish([row.event(source) for row in made.publish])
            outbox.published(made.publish, now_ms() + int(FIRST_LOOK * 1000))
            self.counters.published += len(made.publish)
            again = sum(1 for row in made.publish if row.attempts)
            self.counters.republished += again
            if again:
                self._log.info("relay.republished", rows=again, outbox=outbox.table.fullname)
        return len(made.free) + len(made.publish)

    def _oldest(self) -> float | None:
        """When the oldest message of the queue was published; inf when there is none."""

        def look(connection: Any) -> float | None:
            channel = connection.default_channel
            if not broker.is_streams(channel):
                return None
            first = next(channel.browse(self._queue), None)
            return float("inf") if first is None else int(first[0].split(b"-")[0]) / 1000

        return self._with_broker(look)

    def _dead_events(self) -> set[bytes]:
        """What names the events among the dead letters, see `_names`."""

        def look(connection: Any) -> set[bytes]:
            found = self._open_letters(connection).letters(limit=MOST_LETTERS)
            return {name for letter in found for name in _names(letter)}

        return self._with_broker(look)

    # Other sources.

    def _unspool(self, one: SpoolSource) -> Callable[[], int]:
        def step() -> int:
            done = 0
            for path, lines in one.spool.take():
                rows = []
                for line in lines:
                    try:
                        rows.append(_outbox_row(Event.parse(line)))
                    except UndecodableMessage as error:
                        self._bury(line, f"spool: {error}")
                for start in range(0, len(rows), AT_ONCE):
                    with one.outbox.engine.begin() as connection:
                        one.outbox.add(connection, rows[start : start + AT_ONCE])
                one.spool.done(path)
                done += len(lines)
            self.counters.moved += done
            return done

        return step

    def _drain(self, queue: SqlQueue, outbox: Outbox) -> Callable[[], int]:
        def step() -> int:
            done = sqlqueue.move(
                queue, outbox, lambda raw, error: self._bury(raw, error, "row"), AT_ONCE
            )
            self.counters.moved += done
            return done

        return step

    def _shift(self, name: str) -> Callable[[], int]:
        def step() -> int:
            def move(connection: Any) -> int:
                channel = connection.default_channel
                return lists.move(channel.client, name, self._queue, AT_ONCE)

            done = self._with_broker(move)
            self.counters.moved += done
            return done

        return step

    # The broker.

    def _publish(self, bodies: Sequence[bytes]) -> None:
        self._with_broker(lambda connection: publish_bodies(connection, self._queue, bodies))

    def _bury(self, raw: bytes, error: str, part: str = "body") -> None:
        letter = DeadLetter.of(raw, error, part)
        self._with_broker(lambda connection: self._open_letters(connection).put(letter))
        self._log.warning("relay.dead_letter", letter=letter.id, error=letter.error)
        self.counters.dead += 1

    def _open_letters(self, connection: Any) -> DeadLetters:
        if self._letters is None:
            self._letters = DeadLetters(
                connection, queue=self._dead_queue, events_queue=self._queue
            )
        return self._letters

    def _with_broker(self, do: Callable[[Any], T]) -> T:
        """Raises ServerAway."""
        if self._connection is None:
            connection = broker.connect(self._url)
            try:
                broker.declare(connection, connection.default_channel, self._queue)
            except broker.trouble(connection) as error:
                connection.release()
                raise ServerAway(_short(error)) from error
            self._connection = connection
            self._log.info("relay.connected", broker=redact_url(self._url))
        try:
            return do(self._connection)
        except broker.trouble(self._connection) as error:
            self._disconnect()
            raise ServerAway(_short(error)) from error

    def _disconnect(self) -> None:
        connection, self._connection, self._letters = self._connection, None, None
        if connection is not None:
            connection.release()


class _Source:
    """One thing that is looked at, with its own patience."""

    def __init__(self, name: str, step: Callable[[], int]) -> None:
        self.name, self.step, self.failures = name, step, 0
        self._not_before = 0.0

    def is_due(self) -> bool:
        return monotonic() >= self._not_before

    def wait(self, seconds: float) -> None:
        self.failures += 1
        self._not_before = monotonic() + seconds


class _DeadRows:
    """Answers `Letters`, and reads the dead letters only when it is asked."""

    def __init__(self, look: Callable[[], set[bytes]], source: str) -> None:
        self._look, self._source = look, source
        self._found: set[bytes] | None = None

    def __call__(self, row: Row) -> bool:
        if self._found is None:
            self._found = self._look()
        return (
            _name(row.entity, row.key, str(row.version)) in self._found
            or hashlib.sha256(row.event(self._source)).digest() in self._found
        )


def _names(letter: DeadLetter) -> tuple[bytes, bytes]:
    """By what it is about, and by its bytes: what is no JSON says nothing of itself."""
    return _name(letter.entity, letter.key, letter.version), hashlib.sha256(letter.raw).digest()


def _name(entity: str, key: str, version: str) -> bytes:
    return "\0".join((entity, key, version)).encode("utf-8", "surrogatepass")


def _outbox_row(event: Event) -> dict[str, Any]:
    payload = None if event.data is None else sqlqueue.to_json(event.data)
    return {
        "entity": event.entity,
        "key": event.key,
        "change": event.change,
        "payload": payload,
        "version": event.version,
    }


def _by_seconds(postponed: Sequence[tuple[Row, float]]) -> dict[float, list[Row]]:
    grouped: dict[float, list[Row]] = {}
    for row, seconds in postponed:
        grouped.setdefault(round(seconds, 0 if seconds > 5 else 1), []).append(row)
    return grouped


def _short(error: BaseException) -> str:
    """Its text without the statement and its values, which may hold anything."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}"[:300]
