"""How the reading of the log is: for `bridgectl status` and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Any

import sqlalchemy as sql
from pymongo import MongoClient

from bridge.cached import Cached
from bridge.errors import BridgeError
from bridge.prometheus import family, page
from bridge.queue.sql.database import connect as connect_sql
from bridge.queue.sql.database import reading
from bridge.settings import Settings
from bridge.sync.documents import Document
from bridge.sync.entities import load
from bridge.sync.gtid import Gtid
from bridge.sync.log.kept import LEASE, LOG, Kept
from bridge.sync.log.wanted import of_the_log
from bridge.sync.mongodb import connect
from bridge.sync.state import State
from bridge.sync.types.catalog import is_mariadb

__all__ = ["LogStatus", "LogWatch", "metrics", "status_rows"]

KEEP = 1.0
"""Seconds that one look serves all who ask."""
_LOOKS = 600


@dataclass(frozen=True, slots=True)
class LogStatus:
    """position: the last transaction that MongoDB has everything of; end: the last one of the log;
    both empty where that is not known. behind: how many are between them. lag: seconds for which
    the end that is not reached has been there at least. epoch: which history it is. silent: seconds
    since the process that reads gave a sign of life; None where it does. dirty, stopped: entities
    and why. problem, do: why nobody reads on, and what to do. wrong: what did not answer."""

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
            if not of_the_log(load(self._settings.sync).entities):
                return None
        except BridgeError:
            return None  # said elsewhere
        try:
            document = self._document() or {}
            kept = Kept.of(document)
            end = self._end()
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


def status_rows(found: LogStatus) -> Iterator[dict[str, str]]:
    """Rows of `bridgectl status`: what, is, note."""
    if found.wrong:
        yield _row("database's log", "not known", found.wrong)
        return
    if not found.position and not found.end:
        yield _row("database's log", "not read", "nobody has read it yet: bridgectl capture")
        return
    lag = "" if not found.lag else f" for {found.lag:.1f} s"
    says = f"{found.behind:,} behind{lag}" if found.behind else "all applied"
    yield _row("database's log", says, f"{found.position} of {found.end}, epoch {found.epoch}")
    if found.problem:
        yield _row("database's log", "stopped", f"{found.problem}: {found.do}".removesuffix(": "))
    elif found.silent is not None:
        yield _row("capture", "none", "nobody reads the log: bridgectl capture")
    for name, why in found.stopped.items():
        yield _row(f"log: {name}", "stopped", why)
    for name, why in found.dirty.items():
        yield _row(f"log: {name}", "dirty", f"{why}; it is compared, and mended")


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
    return page(lines)
