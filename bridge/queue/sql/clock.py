"""The clock of a database, which all who write to its tables share.

PHP, triggers and several relays are on machines whose clocks differ; times that one of them wrote
mean nothing to another. So times in the outbox are by the clock of its database. How far that is
from ours is measured every few seconds.
"""

from __future__ import annotations

import time
from time import monotonic
from typing import Any

import sqlalchemy as sql

from bridge.queue.sql.database import reading

__all__ = ["SAME_CLOCK_MS", "SqlClock", "now_ms"]

SAME_CLOCK_MS = 500
"""Clocks that are no further apart are taken for the same one."""
EVERY = 5.0
"""Seconds between two measurements."""


def now_ms() -> int:
    """The time, in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class SqlClock:
    """The clock of one database; raises SQLAlchemy's errors where that does not answer.

    offset: milliseconds that it was ahead of ours at the last measurement.
    """

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine
        self._measured: tuple[int, float] | None = None  # by our clock, and by one that never jumps
        self.offset = 0

    def now(self) -> int:
        """Its time, in milliseconds since 1970."""
        if self._is_due():
            with reading(self._engine) as connection:
                before = now_ms()
                theirs = connection.execute(sql.select(_time(self._engine))).scalar_one()
                apart = int(theirs) - (before + now_ms()) // 2
            self.offset = apart if abs(apart) > SAME_CLOCK_MS else 0
            self._measured = now_ms(), monotonic()
        return now_ms() + self.offset

    def _is_due(self) -> bool:
        if self._measured is None:
            return True
        moment, since = self._measured
        passed = monotonic() - since
        jumped = abs(now_ms() - moment - passed * 1000) > SAME_CLOCK_MS
        return passed >= EVERY or jumped


def _time(engine: sql.Engine) -> sql.ColumnElement[Any]:
    """The time of the database, as php/BridgeProducer.php writes it, too."""
    words = {
        "sqlite": "CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER)",
        "postgresql": "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)",
        # Not UNIX_TIMESTAMP(NOW(3)): an hour of the night in autumn is there twice.
    }.get(engine.dialect.name, "UNIX_TIMESTAMP() * 1000 + MICROSECOND(NOW(3)) DIV 1000")
    return sql.literal_column(words)
