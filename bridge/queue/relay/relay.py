"""The relay: outbox rows to the queue, again and again, until MongoDB holds what they say.

A row goes only when MongoDB's majority holds its version or a newer one. So Redis may be wiped
at any time: what was in it is published again. Spool files, SQL queues of the site's own and
lists of stock Kombu programs are moved into an outbox, or into the queue, on the way.

One step for rows whose time has come:

1. claim them, under a lease          several relays share the work
2. ask MongoDB for their versions
3. decide                             `bridge.queue.relay.plan`
4. free what MongoDB holds
5. publish the rest, and note when to look again

Of rows that only note a change, what is published is fetched first: `bridge.queue.relay.touched`.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic

import redis
import sqlalchemy as sql
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway, UndecodableMessage
from bridge.queue.broker.connection import DEAD_QUEUE, EVENTS_QUEUE, Broker, Link, kind_of
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import MAX_EVENT_BYTES, Event
from bridge.queue.relay import plan
from bridge.queue.relay.dead_rows import DeadRows
from bridge.queue.relay.plan import DoubtfulRow, Timing
from bridge.queue.relay.spool import Spool
from bridge.queue.relay.touched import Fetch, is_touched, portions, resolve
from bridge.queue.sources import SqlQueue
from bridge.queue.sql import queue_table as sqlqueue
from bridge.queue.sql.database import log_text
from bridge.queue.sql.outbox import Backlog, Outbox, Row, now_ms
from bridge.queue.waiting import backoff
from bridge.settings import redact_url
from bridge.units import in_portions

__all__ = ["Held", "Relay", "RelayCounters", "SpoolSource"]

ROWS_PER_STEP = 500
TROUBLE = (BridgeError, sql.exc.SQLAlchemyError, redis.RedisError, OSError)
"""What is waited out, with a word in the log. All else is a mistake of ours."""

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


@dataclass(frozen=True)
class SpoolSource:
    """A spool directory, and the outbox that its lines go to."""

    spool: Spool
    outbox: Outbox


class PolledSource:
    """One thing that is looked at, with its own patience. needs_work: whether the trouble was
    with what it needs for its work, so that finding none does not end it."""

    def __init__(self, name: str, step: Callable[[], int]) -> None:
        self.name, self.step, self.failures, self.cause = name, step, 0, ""
        self.needs_work = False
        self._not_before = self._tell_at = 0.0

    def is_due(self) -> bool:
        return monotonic() >= self._not_before

    def waits(self, seconds: float, cause: str, quiet: float) -> bool:
        """Not due for so long; whether that is news."""
        self.failures += 1
        now = monotonic()
        self._not_before = now + seconds
        if cause == self.cause and now < self._tell_at:
            return False
        self.cause, self._tell_at = cause, now + quiet
        return True


class Relay:
    """Moves what waits in every source, in one thread.

    broker_url, max_event: as for `Consumer`.
    outboxes: with the `source` of their events.
    held: asks MongoDB.
    spools, queues, lists: the other sources, `queues` with their outbox.
    fetch: asks the site's database what has become of rows that were only noted.
    compared: entities whose events are compared, and not written: see `plan.first`.
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
        fetch: Fetch | None = None,
        compared: Container[str] = (),
        counters: RelayCounters | None = None,
        timing: Timing = Timing(),  # noqa: B008  # frozen
        max_event: int = MAX_EVENT_BYTES,
        queue: str = EVENTS_QUEUE,
        dead_queue: str = DEAD_QUEUE,
    ) -> None:
        self.counters = RelayCounters() if counters is None else counters
        self._url, self._held, self._log, self._timing = broker_url, held, log, timing
        self._queue, self._dead_queue, self._max_event = queue, dead_queue, max_event
        self._compared = compared
        self._fetch, self._held_up = fetch, dict[str, tuple[str, float]]()
        self._outboxes, self._spools = tuple(outboxes), tuple(spools)
        self._dead_rows = DeadRows(dead_queue, every=timing.dead_look)
        self._link = Link(broker_url, self._begin)
        self._letters: DeadLetters | None = None
        if lists and not kind_of(broker_url).has_lists:
            raise BridgeError(
                f"sync.yaml names lists ({', '.join(lists)}), and lists are on a Redis, but "
                f"BRIDGE_BROKER_URL is {redact_url(broker_url)}: remove `lists:`, or let their "
                "programs publish to that broker"
            )
        self._sources: list[PolledSource] = [
            *(PolledSource(f"{one!r}"[1:-1], self._relay(one, source)) for one, source in outboxes),
            *(PolledSource(f"spool {one.spool.directory}", self._unspool(one)) for one in spools),
            *(
                PolledSource(f"queue {one.table}", self._drain(one, outbox))
                for one, outbox in queues
            ),
            *(PolledSource(f"list {name}", self._shift(name)) for name in lists),
        ]

    def run(self, stop: threading.Event) -> None:
        """Relay until `stop` is set. A server that is away is waited for, without end."""
        try:
            while not stop.is_set():
                done = 0
                for source in self._sources:
                    if not stop.is_set() and source.is_due():
                        done += self._try(source)
                if not done:
                    stop.wait(self._timing.idle)
        finally:
            self._link.close()
            for one in self._spools:
                one.spool.close()

    def backlog(self) -> Backlog:
        """Rows of all outboxes that MongoDB does not hold. Raises SQLAlchemy's errors."""
        return sum((outbox.backlog() for outbox, _ in self._outboxes), Backlog())

    def _try(self, source: PolledSource) -> int:
        try:
            done = source.step()
        except TROUBLE as error:
            cause = str(error) if isinstance(error, BridgeError) else log_text(error)
            source.needs_work = isinstance(error, ServerAway)
        except Exception as error:
            # A mistake of ours. One source must not stop the others; its text may show data.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            cause = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
            self._log.error("relay.failed", source=source.name, cause=cause)
            self._link.close()
        else:
            if source.failures and (done or not source.needs_work):
                self._log.info("relay.back", source=source.name, failures=source.failures)
                source.failures, source.cause = 0, ""
            return done
        delay = backoff(source.failures)
        if source.waits(delay, cause, self._timing.quiet):
            self._log.warning(
                "relay.waiting", source=source.name, cause=cause, seconds=round(delay, 1)
            )
        return 0

    # Outboxes.

    def _relay(self, outbox: Outbox, source: str) -> Callable[[], int]:
        # Of a step that failed on the way: they would be hidden until our lease is over.
        in_hand: list[Row] = []

        def step() -> int:
            if in_hand:
                outbox.give_back(in_hand, now_ms())
                in_hand.clear()
            rows = outbox.claim(ROWS_PER_STEP, self._timing.lease)
            if not rows:
                return 0
            in_hand[:] = rows
            try:
                self._move_all(outbox, rows, source)
            except ServerAway:
                # Not our rows any more: somebody else may have a way.
                outbox.give_back(rows, now_ms() + 1000)
                in_hand.clear()
                raise
            except TROUBLE:
                raise
            except Exception:
                in_hand.clear()  # `_move_all` has said when to look at each again
                raise
            in_hand.clear()
            return len(rows)

        return step

    def _move_all(self, outbox: Outbox, rows: Sequence[Row], source: str) -> None:
        try:
            self._move_rows(outbox, rows, source)
        except TROUBLE:
            raise
        except Exception as error:
            # A mistake of ours with one of them. It must not keep back its neighbours.
            if len(rows) == 1:
                outbox.give_back(rows, now_ms() + int(self._timing.dead_look * 1000))
                raise
            failed = error
            for row in rows:
                try:
                    self._move_all(outbox, [row], source)
                except TROUBLE:
                    raise
                except Exception as error:
                    failed = error
            raise failed from None

    def _move_rows(self, outbox: Outbox, rows: Sequence[Row], source: str) -> None:
        # Of a note without a version nothing has been published yet.
        fresh = [row for row in rows if is_touched(row) and not row.version]
        self._fetch_rows(outbox, fresh)
        if len(fresh) < len(rows):
            rest = [row for row in rows if row.version or not is_touched(row)]
            self._look_for(outbox, rest, source)

    def _look_for(self, outbox: Outbox, rows: Sequence[Row], source: str) -> None:
        held = self._held([row.identity for row in rows])
        first = plan.first(rows, held, now_ms(), self._timing, self._compared)
        oldest, dead = None, set[int]()
        if first.doubtful:
            oldest, dead = self._link.do(lambda broker: self._ask(broker, first.doubtful, source))
        second = plan.second(first.doubtful, oldest=oldest, dead=dead, timing=self._timing)
        if first.free:
            outbox.free(first.free)
            self.counters.freed += len(first.free)
        if second.bury:
            outbox.bury(second.bury, now_ms() + int(self._timing.dead_look * 1000))
        for seconds, some in second.by_seconds().items():
            outbox.postpone(some, now_ms() + int(seconds * 1000))
        publish = [*first.publish, *second.publish]
        events = [row for row in publish if not is_touched(row)]
        self._publish(outbox, events, [row.event(source) for row in events])
        self._fetch_rows(outbox, [row for row in publish if is_touched(row)])

    def _ask(
        self, broker: Broker, doubts: Sequence[DoubtfulRow], source: str
    ) -> tuple[float | None, set[int]]:
        """What `plan.second` needs, in the order that it needs."""
        is_due = any(doubt.is_due for doubt in doubts)
        oldest = broker.oldest(self._queue) if is_due else None
        self._dead_rows.look(broker)
        rows = (doubt.row for doubt in doubts)
        return oldest, {row.id for row in rows if self._dead_rows.has(broker, row, source)}

    def _fetch_rows(self, outbox: Outbox, rows: Sequence[Row]) -> None:
        for some in portions(rows):
            self._fetch_some(outbox, some)

    def _fetch_some(self, outbox: Outbox, rows: Sequence[Row]) -> None:
        if self._fetch is None:
            raise BridgeError(
                f"{outbox.table.fullname} has rows of triggers, and nobody fetches what they are "
                "about: start the relay with a sync.yaml that names their entities"
            )
        found = resolve(rows, self._fetch)
        if found.others:
            with outbox.engine.begin() as connection:
                outbox.note(connection, found.others)
        for some, one in found.dead:
            letter = DeadLetter.of(one.raw, one.error, "row")
            self._put(replace(letter, entity=some[0].entity, key=some[0].key))
            outbox.free(some)
        for entity, cause, some in found.waiting:
            outbox.postpone(some, now_ms() + int(self._timing.again * 1000))
            known, told = self._held_up.get(entity, ("", 0.0))
            if cause != known or monotonic() >= told:
                self._held_up[entity] = cause, monotonic() + self._timing.quiet
                self._log.warning("relay.held_up", entity=entity, cause=cause)
        self._publish(outbox, found.publish, found.events)

    def _publish(self, outbox: Outbox, rows: Sequence[Row], bodies: list[bytes]) -> None:
        if not rows:
            return
        self._link.do(lambda broker: broker.publish(self._queue, bodies))
        outbox.published(rows, now_ms() + int(self._timing.first_look * 1000))
        self.counters.published += len(bodies)
        again = sum(1 for row in rows if row.published_at is not None)
        self.counters.republished += again
        if again:
            self._log.info("relay.republished", rows=again, outbox=outbox.table.fullname)

    # Other sources.

    def _unspool(self, one: SpoolSource) -> Callable[[], int]:
        # Bad lines of a chunk whose good ones are safe: not to be repeated with them.
        bad: deque[tuple[bytes, str]] = deque()
        in_hand: list[int] = []

        def step() -> int:
            if not in_hand:
                if (lines := one.spool.lines()) is None:
                    return 0
                bad.clear()
                rows = []
                for line in lines:
                    try:
                        event = Event.parse(line, self._max_event)
                        rows.append(sqlqueue.row_of(event, self._max_event))
                    except UndecodableMessage as error:
                        bad.append((line, f"spool: {error}"))
                with one.outbox.engine.begin() as connection:
                    for some in in_portions(rows, ROWS_PER_STEP):
                        one.outbox.add(connection, some)
                in_hand.append(len(lines))
            while bad:
                self._bury(*bad[0])
                bad.popleft()
            one.spool.done()
            self.counters.moved += (done := in_hand.pop())
            return done

        return step

    def _drain(self, queue: SqlQueue, outbox: Outbox) -> Callable[[], int]:
        def step() -> int:
            bury = partial(self._bury, part="row")
            done = sqlqueue.move(queue, outbox, bury, max_event=self._max_event)
            self.counters.moved += done
            return done

        return step

    def _shift(self, name: str) -> Callable[[], int]:
        def step() -> int:
            done = self._link.do(lambda broker: broker.take_list(name, self._queue, ROWS_PER_STEP))
            self.counters.moved += done
            return done

        return step

    # The broker.

    def _begin(self, broker: Broker) -> None:
        broker.declare(self._queue)
        self._letters = None
        self._dead_rows.forget()
        self._log.info("relay.connected", broker=redact_url(self._url))

    def _bury(self, raw: bytes, error: str, part: str = "body") -> None:
        self._put(DeadLetter.of(raw, error, part))

    def _put(self, letter: DeadLetter) -> None:
        self._link.do(lambda broker: self._open_letters(broker).put(letter))
        self._log.warning("relay.dead_letter", letter=letter.id, error=letter.error)
        self.counters.dead += 1

    def _open_letters(self, broker: Broker) -> DeadLetters:
        if self._letters is None:
            self._letters = DeadLetters(broker, queue=self._dead_queue, events_queue=self._queue)
        return self._letters
