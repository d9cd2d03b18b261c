"""What a relay does with rows of an outbox whose time has come; pure, without a clock or I/O.

its event is only compared           publish it once, then the row is free
MongoDB holds the version            the row is free
it was never published               publish it
its event is a dead letter           look again much later; a person decides
it was, not long ago                 look again, soon at first, then less often
its message may still be queued      look again later
else                                 it got lost: publish it again

`first` decides the first three lines. Of what is doubtful then the broker is asked, and `second`
decides the rest.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.queue.sql.outbox import Row
from bridge.queue.waiting import retry_wait

__all__ = ["DoubtfulRow", "Plan", "Timing", "first", "second"]

CLOCKS = 5.0
"""Seconds by which the clocks of several relays may differ."""
WRONG_CLOCK = 60.0
"""Seconds. What was published so far in the future was not."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds. lease: for which claimed rows belong to one relay; when it dies, they are others'
    then. idle: between two looks at sources that are empty. first_look: after publishing a row,
    until MongoDB is asked for it. again: after publishing it the first time, until it may be
    published again; further times in proportion, see `retry_wait`. dead_look: until a row whose
    event is a dead letter is looked at again. quiet: for which the same trouble is logged once."""

    lease: float = 30.0
    idle: float = 0.2
    first_look: float = 1.0
    again: float = 15.0
    dead_look: float = 600.0
    quiet: float = 60.0


@dataclass(frozen=True, slots=True)
class DoubtfulRow:
    """A row that was published at this Unix time, `since` seconds ago. wait: seconds from then
    until it may be published again."""

    row: Row
    published: float
    since: float
    wait: float

    @property
    def is_believed(self) -> bool:
        """Whether it can have been published when it says so."""
        return self.since > -WRONG_CLOCK

    @property
    def is_due(self) -> bool:
        """Whether it may be published again, if its message got lost."""
        return not self.is_believed or self.since >= self.wait


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done with claimed rows; postpone: row and seconds from now. bury: those
    whose events are dead letters. doubtful: those that `first` leaves to `second`."""

    free: list[Row] = field(default_factory=list)
    publish: list[Row] = field(default_factory=list)
    postpone: list[tuple[Row, float]] = field(default_factory=list)
    bury: list[Row] = field(default_factory=list)
    doubtful: list[DoubtfulRow] = field(default_factory=list)

    def by_seconds(self) -> dict[float, list[Row]]:
        """Those to postpone, by about how long."""
        grouped: dict[float, list[Row]] = {}
        for row, seconds in self.postpone:
            grouped.setdefault(round(seconds, 0 if seconds > 5 else 1), []).append(row)
        return grouped


def first(
    rows: Sequence[Row],
    held: Mapping[tuple[str, str], int],
    now: int,
    timing: Timing,
    compared: Container[str] = (),
) -> Plan:
    """Every row is free, to be published or doubtful.

    held: the versions that MongoDB holds, by entity and key.
    now: milliseconds since 1970.
    compared: entities whose versions another source gives. Their events are not written, so that
        MongoDB never holds their versions, or holds them before they come.
    """
    made = Plan()
    for row in rows:
        version = held.get(row.identity)
        if row.identity[0] in compared:
            (made.publish if row.published_at is None else made.free).append(row)
        elif version is not None and version >= row.version:
            made.free.append(row)
        elif row.published_at is None:
            made.publish.append(row)
        else:
            wait = retry_wait(row.attempts, 15.0) * timing.again / 15.0
            since = (now - row.published_at) / 1000
            made.doubtful.append(DoubtfulRow(row, row.published_at / 1000, since, wait))
    return made


def second(
    doubtful: Sequence[DoubtfulRow], *, oldest: float | None, dead: Container[int], timing: Timing
) -> Plan:
    """None of the rows is doubtful any more.

    oldest: when the oldest message of the queue was published, seconds since 1970; inf for an
        empty queue, None where the broker cannot say. Only what is due depends on it.
    dead: ids of the rows whose events are dead letters. To be asked for after `oldest`: a message
        leaves the queue when its letter is written.
    """
    made = Plan()
    for doubt in doubtful:
        row, since = doubt.row, max(doubt.since, 0.0)
        if row.id in dead:
            made.bury.append(row)
        elif not doubt.is_due:
            look = min(max(since, timing.first_look), doubt.wait - since + 0.1)
            made.postpone.append((row, look))
        elif doubt.is_believed and _is_queued(doubt.published, oldest):
            # Where all workers are down, a long queue must not be looked at all the time.
            made.postpone.append((row, min(max(timing.again, since / 4), 20 * timing.again)))
        else:
            made.publish.append(row)
    return made


def _is_queued(published: float, oldest: float | None) -> bool:
    """The queue is in order: a message may be there as long as an older one is."""
    return oldest is not None and oldest <= published + CLOCKS
