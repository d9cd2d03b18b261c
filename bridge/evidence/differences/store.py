"""Keeps what comparisons have found: counts, groups of equal differences, and samples of them.

For several processes and threads that write and read at once. Who compares is never stopped by it:
what cannot be written now is counted in memory and written later, and what is lost is said. It is
bounded in groups, in bytes and in days, however much is noted.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import structlog

from bridge.errors import BridgeError
from bridge.evidence.differences import tables
from bridge.evidence.differences.file import NAME, Database, is_damage, open_file, put_aside
from bridge.evidence.differences.found import Counts, Found, Group, Sample, Shown
from bridge.evidence.differences.hiding import Hider
from bridge.evidence.differences.pages import packed, secrets_of, shown
from bridge.proxy.routing import models

__all__ = ["Evidence"]

_MOST_DIFFERENCES = 50  # of one request
_PAUSE = 5.0  # seconds without a try, after the file could not be written
_TIDY = 500  # notes between two looks at what is too old
_MOST_PENDING = 10_000

log = structlog.get_logger("bridge.evidence")

_abandoned: list[Database] = []
"""Of the process that this one was forked from: to close one here would harm it."""


class Evidence:
    """What was found on this machine.

    state_dir: BRIDGE_STATE_DIR.
    kept: `compare` of routes.yaml: how much is kept, and what is hidden.
    clock: seconds, monotonic.

    `lost` counts the notes of which nothing but that they were is kept.
    """

    def __init__(
        self,
        state_dir: Path,
        kept: models.Compare | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        kept = kept or models.Compare()
        self._state_dir, self._keep, self._clock = state_dir, kept.keep, clock
        self._hider = Hider(kept.hide)
        self._lock = threading.Lock()
        self._database: Database | None = None
        self._opened = (0, 0)  # the process, and the inode of the file
        self._pending: Counter[tables.Count] = Counter()
        self._last: dict[tables.Count, float] = {}
        self._not_before = float("-inf")
        self._said = ""
        self._noted = 0
        self.lost = 0

    def __repr__(self) -> str:
        waiting = f", {self._pending.total()} to be counted" if self._pending else ""
        return f"<Evidence {self._state_dir}{waiting}, {self.lost} lost>"

    def close(self) -> None:
        """Write what is still to be counted, and let the file go; the next use opens it again."""
        with self._lock:
            if self._pending:
                self._try(self._flush)
            self._let_go()

    def note(self, found: Found) -> None:
        """Keep it. Raises nothing."""
        key = (found.route, found.release, found.rules, found.source, found.kind.value)
        with self._lock:
            if key in self._pending or len(self._pending) < _MOST_PENDING:
                self._pending[key] += 1
                self._last[key] = found.at
            if self._clock() < self._not_before or not self._try(lambda: self._note(found)):
                self.lost += bool(found.differences)

    def counts(self, release: str, rules: str = "") -> dict[str, Counts]:
        """By route, what this release of the handlers has come to under these data rules. Raises
        BridgeError, as all that read do."""
        with self._reading() as database:
            return {} if database is None else tables.counts(database, release, rules)

    def groups(self, route: str | None = None) -> list[Group]:
        """The groups of a route, or of all; those that matter most come first."""
        with self._reading() as database:
            return [] if database is None else tables.groups(database, route)

    def group(self, number: int) -> tuple[Group, list[Sample]] | None:
        """One group with its samples, the oldest first; None where there is no such group."""
        with self._reading() as database:
            if database is None or not (found := tables.groups(database, None, number)):
                return None
            return found[0], tables.samples(database, number)

    def clear(self, route: str | None = None, number: int | None = None) -> int:
        """Forget a route with its counts, or one group, or all. Returns how many groups went.
        Raises BridgeError."""
        with self._lock, self._explained():
            if (database := self._open(make=False)) is None:
                return 0
            with tables.transaction(database):
                gone = tables.clear(database, route, number)
            tables.shrink(database)
            return gone

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Database | None]:
        """The file, as one moment has it."""
        with self._lock, self._explained():
            if (database := self._open(make=False)) is None:
                yield None
                return
            database.execute("BEGIN")
            try:
                yield database
            finally:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Says what is wrong with the file."""
        path = self._state_dir / NAME
        try:
            yield
        except sqlite3.Error as error:
            self._let_go()
            if is_damage(error):
                raise BridgeError(
                    f"{path} is damaged ({error}): remove it, or go on comparing, which puts it "
                    "aside; what it has is lost"
                ) from None
            raise BridgeError(f"{path} cannot be used now: {error}; try again") from None
        except ValueError as error:
            raise BridgeError(f"{path} has something else in it: {error}; remove it") from None
        except OSError as error:
            raise BridgeError(f"{path} cannot be used: {error.strerror}") from None

    def _try(self, do: Callable[[], None]) -> bool:
        """Whether that could be done; a damaged file is put aside, and it is done with a new
        one."""
        try:
            try:
                do()
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
                self._let_go()
                put_aside(self._state_dir, self._opened[1])
                do()
        except (sqlite3.Error, OSError, BridgeError) as error:
            self._let_go()
            self._not_before = self._clock() + _PAUSE
            if self._said != (says := str(error)):
                log.error("evidence cannot be written; it is counted in memory", error=says)
            self._said = says
            return False
        self._said = ""
        return True

    def _note(self, found: Found) -> None:
        database = self._open(make=True)
        assert database is not None
        places: list[Shown] = []
        data = b""
        most = self._keep.samples
        if found.differences:
            secrets = secrets_of(found)
            few = found.differences[:_MOST_DIFFERENCES]
            places = _merged(shown(found, few, secrets, self._hider.hide_short))
            places = _merged([tables.placed(database, found, one) for one in places])
            if any(tables.wants(database, found, one, most) for one in places):
                data = packed(found, secrets, self._hider.hide)
        with tables.transaction(database):
            self._count(database)
            page = None
            for one in places:
                wanted = data and tables.wants(database, found, one, most)
                tables.see(database, found, one)
                if wanted:
                    page = page or tables.keep(database, found, data)
                    tables.sample(database, found, one, page, most)
            if page is not None:
                tables.bound(database, self._keep.size)
        self._counted()
        self._noted += 1
        if self._noted % _TIDY == 1:
            with tables.transaction(database):
                tables.tidy(database, found.at - self._keep.age)
            tables.shrink(database)

    def _flush(self) -> None:
        database = self._open(make=True)
        assert database is not None
        with tables.transaction(database):
            self._count(database)
        self._counted()

    def _count(self, database: Database) -> None:
        tables.count(database, [(key, n, self._last[key]) for key, n in self._pending.items()])

    def _counted(self) -> None:
        """It is in the file."""
        self._pending.clear()
        self._last.clear()

    def _open(self, *, make: bool) -> Database | None:
        """The file that is there now: another process may have put the old one aside."""
        there = (os.getpid(), _inode(self._state_dir / NAME))
        if self._database is not None and there != self._opened:
            self._let_go()
        if self._database is None:
            self._database = open_file(self._state_dir, make=make)
            self._opened = (os.getpid(), _inode(self._state_dir / NAME))
        return self._database

    def _let_go(self) -> None:
        database, self._database = self._database, None
        if database is None:
            return
        if self._opened[0] != os.getpid():
            _abandoned.append(database)
            return
        with contextlib.suppress(sqlite3.Error):
            database.close()


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _merged(places: Sequence[Shown]) -> list[Shown]:
    """The first one of each group: a request counts once in it."""
    first: dict[tuple[str, str], Shown] = {}
    for one in places:
        first.setdefault((one.group, one.what), one)
    return list(first.values())
