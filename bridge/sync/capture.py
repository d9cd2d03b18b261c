"""The process that reads the database's log, wired: what is the log's is written, and what is
another's is compared. `bridgectl capture` calls `run_capture`, and so does `bridgectl worker` with
`--capture`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.database import Database
from structlog.typing import FilteringBoundLogger

from bridge.settings import Settings
from bridge.sync.documents import Document, Mirror
from bridge.sync.log import capture
from bridge.sync.log.capture import Counters
from bridge.sync.reconcile.compared import Compared
from bridge.sync.relay import Sources

__all__ = ["Counters", "run_capture"]


def run_capture(
    settings: Settings,
    *,
    stop: threading.Event,
    log: FilteringBoundLogger,
    counters: Counters | None = None,
) -> Counters:
    """Read the log until `stop` is set; return what was done.

    counters: are counted up as it goes on.

    Raises as `bridge.sync.log.capture.run_capture` does.
    """

    @contextmanager
    def comparing(database: Database[Document], mirror: Mirror) -> Iterator[Compared]:
        sources = Sources.of(settings)
        try:
            with Compared(settings.sql_url, database, mirror, log, lag=sources.lag) as found:
                yield found
        finally:
            for outbox in sources.outboxes:
                outbox.engine.dispose()

    return capture.run_capture(settings, stop=stop, log=log, counters=counters, comparing=comparing)
