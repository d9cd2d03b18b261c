"""How the reading of the log is: for `bridgectl status` and for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any

import sqlalchemy as sql
from pymongo import MongoClient

from bridge.cached import Cached
from bridge.errors import BridgeError, ServerAway
from bridge.prometheus import family, page
from bridge.queue.sql.database import connect as connect_sql
from bridge.queue.sql.database import reading
from bridge.settings import Settings
from bridge.sync.documents import Document
from bridge.sync.entities import load
from bridge.sync.gtid import Gtid
from bridge.sync.log.kept import LEASE, LOG, Kept, Tally
from bridge.sync.log.wanted import compared, of_the_log
from bridge.sync.mongodb import connect
from bridge.sync.state import State
from bridge.sync.types.catalog import is_mariadb
from bridge.units import roughly

__all__ = ["LogStatus", "LogWatch", "Told", "failures", "metrics", "status_rows"]

KEEP = 1.0
"""Seconds that one look serves all who ask."""
_LOOKS = 600


@dataclass(frozen=True, slots=True)
class Told:
    """Of an entity that is only compared: changes that were compared, keys that differed, changes
    that could not be compared. why, age: what was told last, and for how many seconds; None where
    all was equal."""

    compared: int = 0
    differing: int = 0
    unchecked: int = 0
    why: str = ""
    age: float | None = None


@dataclass(frozen=True, slots=True)
class LogStatus:
    """position: the last transaction that MongoDB has everything of; end: the last one of the log;
    both empty where that is not known. behind: how many are between them. lag: seconds for which
    the end that is not reached has been there at least. epoch: which history it is. silent: seconds
    since the process that reads gave a sign of life; None where it does. dirty, stopped: entities
    and why. problem, do: why nobody reads on, and what to do. wrong: what did not answer. compared:
    entities whose versions are another's."""

    position: str = ""
    end: str = ""
    behind: int | None = None
    lag: float | None = None
    epoch: int = 0
    silent: float | None = None
    dirty: Mapping[str, str] = field(default_factory=dict)
    stopped: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    do: str = ""
    wrong: str = ""
    compared: Mapping[str, Told] = field(default_factory=dict)


class LogWatch(Cached[LogStatus | None]):
    """None where no entity comes from the log. What does not answer within seconds is named."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(self._read, KEEP)
        self._settings = settings
        self._client: MongoClient[Document] | None = None
        self._engine: sql.Engine | None = None
        self._ends: list[tuple[int, float]] = []  # numbers of ends, and when each was seen first

    def _read(self) -> LogStatus | None:
        try:
            entities = load(self._settings.sync).entities
            beside = compared(entities)
            if not (of_the_log(entities) or beside):
                return None
        except BridgeError:
            return None  # said elsewhere
        try:
            document = self._document() or {}
            kept = Kept.of(document)
            end = self._end()
        except ServerAway as error:
            return LogStatus(wrong=f"MongoDB does not answer: {error}")
        except BridgeError as error:
            return LogStatus(wrong=str(error))
        except sql.exc.SQLAlchemyError:
            return LogStatus(wrong="the SQL database does not answer")
        position = kept.position
        behind = lag = None
        if position is not None:
            behind = max(0, (end.sequence if end else 0) - position.sequence)
            lag = self._lag(position.sequence, end)
        beat = document.get("beat")
        silent = LEASE * 2 if beat is None else max(0.0, time() - beat.timestamp())
        return LogStatus(
            "" if position is None else str(position),
            "" if end is None else str(end),
            behind,
            lag,
            0 if position is None else position.epoch,
            silent if silent > LEASE or not document.get("owner") else None,
            {name: one.why for name, one in kept.dirty.items()},
            {name: f"{one.why}: {one.do}" for name, one in kept.halted.items()},
            kept.problem,
            kept.do,
            compared={name: _told(kept.tallies.get(name, Tally())) for name in beside},
        )

    def _lag(self, reached: int, end: Gtid | None) -> float:
        """Since when there has been an end that is not reached."""
        now = monotonic()
        if end is not None and (not self._ends or self._ends[-1][0] < end.sequence):
            self._ends.append((end.sequence, now))
        self._ends = [one for one in self._ends if one[0] > reached][-_LOOKS:]
        return now - self._ends[0][1] if self._ends else 0.0

    def _document(self) -> dict[str, Any] | None:
        if self._client is None:
            self._client = connect(self._settings.mongodb_url, patience=1.0, answer=2.0)
        options = self._client.codec_options.with_options(tz_aware=True)
        database = self._client.get_default_database(codec_options=options)
        return State(database).get(LOG)

    def _end(self) -> Gtid | None:
        if self._engine is None:
            self._engine = connect_sql(self._settings.sql_url)
        with reading(self._engine) as connection:
            name = "gtid_binlog_pos" if is_mariadb(connection) else "global.gtid_executed"
            return Gtid.parse(str(connection.exec_driver_sql(f"SELECT @@{name}").scalar() or ""))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._engine is not None:
                with suppress(sql.exc.SQLAlchemyError):
                    self._engine.dispose()
                self._engine = None


def _told(tally: Tally) -> Told:
    age = None if tally.at is None else max(0.0, time() - tally.at.timestamp())
    return Told(tally.compared, tally.differing, tally.unchecked, tally.why, age)


def status_rows(
    found: LogStatus, reconciled: Mapping[str, float] | None = None
) -> Iterator[dict[str, str]]:
    """Rows of `bridgectl status`: what, is, note. reconciled: by entity, the seconds since its last
    reconciling with contents began."""
    if found.wrong:
        yield _row("database's log", "not known", found.wrong)
        return
    if not found.position:
        yield _row("database's log", "not read", "nobody has read it yet: bridgectl capture")
        return
    lag = "" if not found.lag else f" for {found.lag:.1f} s"
    says = f"{found.behind:,} behind{lag}" if found.behind else "all applied"
    if found.problem and not found.behind:
        says = "not read on"  # numbers of two histories say nothing of each other
    yield _row("database's log", says, f"{found.position} of {found.end}, epoch {found.epoch}")
    if found.problem:
        yield _row("database's log", "stopped", f"{found.problem}: {found.do}".removesuffix(": "))
    elif found.silent is not None:
        yield _row("capture", "none", "nobody reads the log: bridgectl capture")
    for name, why in found.stopped.items():
        yield _row(f"log: {name}", "stopped", why)
    for name, why in found.dirty.items():
        if name not in found.stopped:
            says = "it is compared, and mended; where it stays, bridgectl doctor"
            yield _row(f"log: {name}", "dirty", f"{why}; {says}")
    for name, told in found.compared.items():
        yield _compared_row(name, told, (reconciled or {}).get(name))


def failures(found: LogStatus | None) -> dict[str, str]:
    """Why the mirror does not go on, by what does not; nothing where it does."""
    if found is None or found.wrong or not found.position:
        return {}  # said elsewhere, or not begun
    named = {f"log: {name}": why for name, why in found.stopped.items()}
    if found.problem:
        named["database's log"] = f"{found.problem}: {found.do}".removesuffix(": ")
    elif found.silent is not None:
        named["database's log"] = "nobody reads it: bridgectl capture"
    return named


def _compared_row(name: str, told: Told, reconciled: float | None) -> dict[str, str]:
    """What was told before the last reconciling is no news."""
    note = f"{told.compared:,} changes, {told.differing:,} differed"
    if told.unchecked:
        note += f", {told.unchecked:,} could not be compared"
    if told.age is None or (reconciled is not None and told.age > reconciled):
        return _row(f"log: {name}", "compared", note)
    do = f"bridgectl reconcile {name} --deep --repair"
    note += f"; {roughly(told.age)} ago: {told.why}: {do}"
    return _row(f"log: {name}", "to be reconciled", note)


def _row(what: str, is_: str, note: str) -> dict[str, str]:
    return {"what": what, "is": is_, "note": note}


def metrics(found: LogStatus | None) -> bytes:
    """The status in Prometheus' text format; what is not known is left out."""
    if found is None:
        return b""
    wrong = bool(found.problem or found.wrong or found.silent is not None)
    lines = family(
        "bridge_log_up", "gauge", "1 where a process reads the log", [({}, float(not wrong))]
    )
    if found.behind is not None and found.lag is not None:
        text = "Transactions of the log that MongoDB does not have"
        lines += family("bridge_log_behind", "gauge", text, [({}, float(found.behind))])
        text = "For how long there has been one that it does not have"
        lines += family("bridge_log_lag_seconds", "gauge", text, [({}, found.lag)])
        number = found.position.rpartition(":" if ":" in found.position else "-")[2]
        text = "Number of the last transaction that MongoDB has everything of"
        sequence = float(number) if number.isdigit() else 0.0
        lines += family("bridge_log_sequence", "gauge", text, [({}, sequence)])
    for name, text, names in (
        ("bridge_log_dirty", "1 where rows are not as the log says, until compared", found.dirty),
        ("bridge_log_stopped", "1 where rows cannot be read; see status", found.stopped),
    ):
        lines += family(name, "gauge", text, [({"entity": one}, 1.0) for one in names])
    for name, text, value in _COUNTERS:
        counts = [({"entity": one}, float(value(told))) for one, told in found.compared.items()]
        lines += family(name, "counter", text, counts)
    return page(lines)


_COUNTERS: tuple[tuple[str, str, Callable[[Told], int]], ...] = (
    ("bridge_log_compared_total", "Changes that were only compared", lambda told: told.compared),
    (
        "bridge_log_differing_total",
        "Keys of them that differ",
        lambda told: told.differing,
    ),
    (
        "bridge_log_unchecked_total",
        "Changes that could not be compared key by key",
        lambda told: told.unchecked,
    ),
)
