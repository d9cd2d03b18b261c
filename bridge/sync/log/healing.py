"""Takes marks away: compares what the log did not show with SQL, on a thread of its own.

What is marked stands in the document `log` beside the position that covers it, so that everything
up to there is in MongoDB when it is looked at.
"""

from __future__ import annotations

import threading
import traceback
from time import monotonic

import sqlalchemy as sql
from pymongo.database import Database
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway, Stopped
from bridge.queue.broker.connection import Link
from bridge.queue.sql.database import connect as connect_sql
from bridge.settings import Settings
from bridge.sync.dead_letters import keep as keep_letters
from bridge.sync.documents import Document, Mirror
from bridge.sync.log.heal import heal
from bridge.sync.log.kept import Dirty, Kept, KeptLog
from bridge.sync.log.wanted import of_the_log
from bridge.sync.mongodb import connect

__all__ = ["Healing"]

EVERY = 0.5
"""Seconds between two looks for marks."""
SHARE = 2.0
"""Times as long as the last look took, at least, until the next one: what is marked all the time is
not compared all the time."""


class Healing:
    """Heals while it is entered, from `begin` to `rest`: who only waits to read the log leaves the
    marks to the one who reads. changed: documents that were written or buried so far."""

    def __init__(self, settings: Settings, log: FilteringBoundLogger) -> None:
        self._settings, self._log = settings, log
        self._stop, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="healing", daemon=True)
        self._told, self._begun = "", False
        self._healed: dict[str, Dirty] = {}
        self.changed = 0

    def __enter__(self) -> Healing:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(30)

    def begin(self) -> None:
        """This process reads the log."""
        self._begun = True

    def rest(self) -> None:
        """It does not any more."""
        self._begun = False

    def soon(self) -> None:
        """Something was marked."""
        self._wake.set()

    def is_healed(self, entity: str, mark: Dirty) -> bool:
        """Whether this very mark was taken away here."""
        return self._healed.get(entity) == mark

    def _run(self) -> None:
        engine = connect_sql(self._settings.sql_url)
        pause = EVERY
        with connect(self._settings.mongodb_url) as client, Link(self._settings.broker_url) as link:
            database: Database[Document] = client.get_default_database()
            while not self._stop.is_set():
                self._wake.wait(pause)
                self._wake.clear()
                began = monotonic()
                try:
                    if self._begun:
                        self._turn(engine, database, link)
                    self._told = ""
                except Stopped:
                    break
                except ServerAway:
                    pass  # whoever reads the log says so
                except (BridgeError, sql.exc.SQLAlchemyError) as error:
                    self._tell(str(error) if isinstance(error, BridgeError) else repr(error))
                except Exception as error:
                    # A mistake of ours must not end the thread; its text may show data.
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    self._tell(f"{type(error).__name__} in {frame.filename}:{frame.lineno}")
                pause = max(EVERY, SHARE * (monotonic() - began))
        engine.dispose()

    def _tell(self, cause: str) -> None:
        if cause != self._told:
            self._log.error("capture.cannot_heal", cause=cause)
        self._told = cause

    def _turn(self, engine: sql.Engine, database: Database[Document], link: Link) -> None:
        kept_log = KeptLog(database)
        kept: Kept = kept_log.read()
        if not kept.dirty or kept.position is None:
            return
        mirror = Mirror.of(self._settings)
        failed: list[BridgeError] = []
        for entity, mark in kept.dirty.items():
            if entity not in of_the_log(mirror.entities) or entity in kept.halted:
                continue
            began = monotonic()
            try:
                done = heal(
                    engine,
                    database,
                    mirror,
                    kept.position,
                    {entity: mark.keys},
                    bury=lambda letters: keep_letters(link, letters),
                    stop=self._stop,
                )[entity]
            except (ServerAway, Stopped):
                raise
            except BridgeError as error:
                failed.append(error)  # a table that does not fit sync.yaml; others do
                continue
            self.changed += done.changed + done.gone
            if kept_log.healed(entity, mark):
                self._healed[entity] = mark
                self._log.info(
                    "capture.healed",
                    entity=entity,
                    cause=mark.why,
                    looked=done.looked,
                    changed=done.changed,
                    gone=done.gone,
                    dead=done.dead,
                    seconds=round(monotonic() - began, 3),
                )
        if failed:
            raise BridgeError("; ".join(map(str, failed)))
