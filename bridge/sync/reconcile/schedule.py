"""Reconciling on a schedule, on a thread inside the worker, as `reconcile:` of sync.yaml says.

Of several workers one does it: who owns the document `reconcile` in `bridge_state`. When each
entity had its turn is kept there, too, so another worker goes on where one died. `every` counts
from the end of one to the beginning of the next.
"""

from __future__ import annotations

import threading
import traceback
from contextlib import suppress
from time import monotonic

from pymongo.database import Database
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway, Stopped
from bridge.queue.broker.publisher import Publisher
from bridge.queue.sql.database import connect as connect_sql
from bridge.settings import Settings
from bridge.sync.documents import Document, Mirror
from bridge.sync.log.wanted import of_the_log
from bridge.sync.models import Reconcile
from bridge.sync.mongodb import connect
from bridge.sync.reconcile import results as reconciled
from bridge.sync.reconcile.reconciler import ReconcileOptions, Reconciler
from bridge.sync.reconcile.repair import Repair
from bridge.sync.relay import Sources
from bridge.sync.state import Owner, State

__all__ = ["Scheduled"]

LEASE = "reconcile"
LEASE_SECONDS = 60.0
"""Of a worker that gives no sign of life for so long, another one takes over."""
BEAT_SECONDS = 10.0
WAIT = 30.0
"""Seconds that a difference must last."""
LOOK_SECONDS = 60.0
"""Until the next look at what is due, at most; also after an error."""


class Scheduled:
    """The thread."""

    def __init__(self, settings: Settings, mirror: Mirror, log: FilteringBoundLogger) -> None:
        self._settings, self._mirror, self._log = settings, mirror, log
        self._owner = Owner.me()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._beat_at = 0.0

    def start(self) -> None:
        """Start the thread; does nothing where sync.yaml has no `reconcile:`. Raises BridgeError
        when there is no SQL database to compare with."""
        plan = self._mirror.file.reconcile
        if plan is None:
            return
        if not self._settings.sql_url:
            raise BridgeError(
                f"`reconcile:` in {self._settings.sync} needs the site's database: set "
                "BRIDGE_SQL_URL for the workers, or remove it"
            )
        self._thread = threading.Thread(
            target=self._run, args=(plan,), name="reconcile", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, within a few seconds; what it was doing is done again later."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)

    def _run(self, plan: Reconcile) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            try:
                with connect(self._settings.mongodb_url) as client:
                    pause = self._turn(client.get_default_database(), plan)
            except Stopped:
                pause = LOOK_SECONDS
            except BridgeError as error:
                self._log.warning("reconcile.failed", cause=str(error))
                pause = LOOK_SECONDS
            except Exception as error:
                # A mistake of ours must not end the worker's writing; its text may show data.
                frame = traceback.extract_tb(error.__traceback__)[-1]
                cause = f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
                self._log.error("reconcile.failed", cause=cause)
                pause = LOOK_SECONDS

    def _turn(self, database: Database[Document], plan: Reconcile) -> float:
        """Do what is due, if it is ours to do; seconds until the next look."""
        state = State(database)
        if state.take(LEASE, self._owner, LEASE_SECONDS) is None:
            return min(LOOK_SECONDS, plan.every)
        try:
            self._do_what_is_due(database, state, plan)
            ages = self._ages(database)
        finally:
            with suppress(BridgeError):
                state.release(LEASE, self._owner, {})
        left = min((plan.every - age for age in ages.values()), default=plan.every)
        return max(0.1, min(LOOK_SECONDS, left))

    def _ages(self, database: Database[Document]) -> dict[str, float]:
        """Seconds since the last result of each entity that has one."""
        return {last.entity: last.age for last in reconciled.read_all(database)}

    def _do_what_is_due(self, database: Database[Document], state: State, plan: Reconcile) -> None:
        ages = self._ages(database)
        engine = connect_sql(self._settings.sql_url)
        publisher = Publisher(self._settings.broker_url)
        repair = Repair(publisher, self._mirror.file.max_event)
        try:
            lag = Sources.of(self._settings).lag
            plain, deep = (
                Reconciler(
                    engine,
                    database,
                    self._mirror,
                    ReconcileOptions(plan.rate, WAIT, how, repair=repair if plan.repair else None),
                    lag=lag,
                    stop=self._stop,
                    progress=lambda what, done, total: self._beat(state),
                )
                for how in (False, True)
            )
            # Without versions only contents show a change that the log was not told of.
            in_log = of_the_log(self._mirror.entities)
            names, _ = plain.checkable()
            for name in names:
                if ages.get(name, plan.every) >= plan.every:
                    self._beat(state)
                    is_deep = name in in_log
                    self._do(deep if is_deep else plain, name, state, deep=is_deep)
        finally:
            publisher.close()
            engine.dispose()

    def _do(self, reconciler: Reconciler, name: str, state: State, *, deep: bool) -> None:
        """One entity. What sync.yaml or the database has wrong about it stops no other."""
        try:
            result = reconciler.run(name)
        except (ServerAway, Stopped):
            raise
        except BridgeError as error:
            self._log.warning("reconcile.failed", entity=name, cause=str(error))
        else:
            reconciled.keep(state, result, deep=deep)
            tell = self._log.info if result.equal else self._log.warning
            tell(
                "reconcile.done",
                entity=name,
                rows=result.rows,
                differences=result.by_kind,
                repaired=result.repaired,
                seconds=round(result.seconds, 1),
                keys=[one.key for one in result.differences[:5]],
            )

    def _beat(self, state: State) -> None:
        """Say now and then that we live. Raises Stopped when the lease is somebody else's now."""
        if monotonic() < self._beat_at:
            return
        self._beat_at = monotonic() + BEAT_SECONDS
        if state.keep(LEASE, self._owner, {}) is None:
            raise Stopped("another worker reconciles now")
