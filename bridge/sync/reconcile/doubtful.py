"""Keys that may differ: looked at again on a thread, as reconciling does, until they are equal or
no lag explains what SQL and MongoDB have under them. That is told, once for each time.

Who puts keys in doubt is `heard`, which hears of an event that it does not write, and `compared`,
which reads the log and writes nothing of it.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Literal

import sqlalchemy as sql
from pymongo.database import Database
from structlog.typing import FilteringBoundLogger

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.database import connect
from bridge.sync.documents import Document, Mirror
from bridge.sync.doubts import Doubt, look, look_at_log, outlasts
from bridge.sync.reconcile.sides import KeySnapshot, Sides

__all__ = ["Doubtful", "Outcome"]

MOST = 1000
"""Keys in doubt at a time."""
EVERY = 2.0
"""Seconds between two looks at them."""
SHARE = 2.0
"""Times as long as the last look took, at least, until the next one."""
WAIT = 5.0
"""Seconds that a difference lasts at least, where no log says how far MongoDB has come."""

Outcome = Literal["differing", "unchecked"]
"""What became of a key in doubt: it differs for good, or was not looked at, because too many
were in doubt. What is equal is only forgotten."""


class Doubtful:
    """The keys in doubt of some entities, looked at while it is entered. `doubt` is for any thread.

    sql_url: of the site's database.
    mirror: gives what the entities are; asked at each look.
    names: of the entities.
    count: is told what became of a key: entity, key, outcome.
    lag: the age in seconds of the oldest change on its way, of entities whose versions are not the
        log's.
    visible: seconds within which what a key was named for can be seen by everybody: what is equal
        before may be so because nothing can be seen yet.
    """

    def __init__(
        self,
        sql_url: str,
        database: Database[Document],
        mirror: Callable[[], Mirror],
        names: Iterable[str],
        count: Callable[[str, str, Outcome], None],
        log: FilteringBoundLogger,
        *,
        lag: Callable[[], float] = lambda: 0.0,
        visible: float = 0.0,
    ) -> None:
        self._visible = visible
        self._sql_url, self._database, self._mirror = sql_url, database, mirror
        self._count, self._log, self._lag = count, log, lag
        self._doubts: dict[str, dict[str, Doubt | None]] = {name: {} for name in sorted(names)}
        self._raised: dict[tuple[str, str], float] = {}  # when each was named last
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="doubtful", daemon=True)
        self._told = ""

    def __repr__(self) -> str:
        return f"<Doubtful: {self.size} in doubt of {', '.join(self._doubts) or 'nothing'}>"

    def __enter__(self) -> Doubtful:
        if self._doubts:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    @property
    def size(self) -> int:
        """How many keys are in doubt."""
        with self._lock:
            return sum(map(len, self._doubts.values()))

    def doubt(self, entity: str, key: str) -> None:
        """Look at this key until it is certain."""
        with self._lock:
            doubts = self._doubts[entity]
            full = key not in doubts and sum(map(len, self._doubts.values())) >= MOST
            if not full:
                doubts.setdefault(key, None)
                self._raised[entity, key] = monotonic()
        if full:
            self._count(entity, key, "unchecked")

    def look(self) -> None:
        """Look at what is in doubt once more. Raises BridgeError, and ServerAway."""
        for entity in self._doubts:
            with self._lock:
                doubts = dict(self._doubts[entity])
            if doubts:
                self._look_at(entity, doubts)

    # On the thread.

    def _run(self) -> None:
        pause = EVERY
        while not self._stop.wait(pause):
            began = monotonic()
            try:
                self.look()
                self._told = ""
            except ServerAway:
                pass  # whoever writes says so
            except BridgeError as error:
                self._tell(str(error))
            except Exception as error:
                # A mistake of ours must not end the other work; its text may show data.
                frame = traceback.extract_tb(error.__traceback__)[-1]
                self._tell(f"{type(error).__name__} in {frame.filename}:{frame.lineno}")
            pause = max(EVERY, SHARE * (monotonic() - began))

    def _tell(self, cause: str) -> None:
        if cause != self._told:
            self._log.warning("log.cannot_compare", cause=cause)
        self._told = cause

    def _look_at(self, entity: str, doubts: dict[str, Doubt | None]) -> None:
        began = monotonic()
        engine = connect(self._sql_url)
        try:
            looks = self._looks(engine, entity, doubts)
        finally:
            engine.dispose()
        for key, (doubt, seen) in looks.items():
            with self._lock:
                is_early = self._raised[entity, key] >= began - self._visible
                if (doubt is None and not is_early) or (doubt is not None and doubt.is_certain):
                    del self._doubts[entity][key], self._raised[entity, key]
                else:
                    self._doubts[entity][key] = doubt
            if doubt is not None and doubt.is_certain:
                self._count(entity, key, "differing")
                self._log.warning(
                    "log.differs",
                    entity=entity,
                    key=key,
                    kind=doubt.kind,
                    cause=seen.detail,
                    do=f"bridgectl reconcile {entity} --deep --repair",
                )

    def _looks(
        self, engine: sql.Engine, entity: str, doubts: dict[str, Doubt | None]
    ) -> dict[str, tuple[Doubt | None, KeySnapshot]]:
        """What another look leaves of each doubt, and what was seen."""
        sides = Sides(engine, self._database, self._mirror(), entity)
        # How far MongoDB is first, then MongoDB, then SQL.
        reached = None if sides.log is None else sides.log.reached()
        lag = self._lag() if reached is None else 0.0
        found: dict[str, tuple[Doubt | None, KeySnapshot]] = {}
        for key, seen in sides.look(list(doubts), set(doubts)).items():
            now = monotonic()
            if reached is not None:
                doubt = look_at_log(doubts[key], seen.pair, now, reached)
            else:
                doubt = look(doubts[key], seen.pair, now, beside=sides.beside)
                doubt = doubt and outlasts(doubt, now, WAIT, lag)
            found[key] = doubt, seen
        return found
