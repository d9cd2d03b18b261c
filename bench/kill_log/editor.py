"""Who edits the site: several connections at once, each with its own choice of what it does.

A row belongs to one editor, by its number, who alone inserts and deletes it; what others do to it
is only counting up. So `n` of a key only grows, also where the row is gone for a while: a new one
begins above all that its editor has given so far.

An edit that the log does not show as rows is a `Made`: it says which entity must be marked for it,
and in which transaction it was. Of a commit whose answer was lost nobody knows that, so nothing is
expected of it.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple

import pymysql

from stack.mariadb import MariaDB

__all__ = ["EDITORS", "NOTHING", "Edit", "Editor", "Editors", "Edits", "Made", "Marks", "Tally"]

EDITORS = 4
LIFE = 1_000_000
"""How far `n` of a new row is above that of the editor's last one; more than it is ever counted."""
CALM_EVERY = 2.0
"""Seconds between two edits that must be marked, once it is calm."""
PAUSE = 0.06
"""Seconds between two edits of one editor, at most."""
REFUSED = frozenset((1062, 1146, 1205, 1213, 1412, 1451, 1452, 1020))
"""Codes of errors after which nothing was done: a key that is there, a table that is renamed, a
lock that was not given, and the like."""


class Made(NamedTuple):
    """What must be marked. sequence: of the transaction. kind: of the edit. field, value: rows that
    are meant; an empty field for all."""

    sequence: int
    kind: str
    entity: str
    field: str = ""
    value: str = ""


class _Lost(Exception):
    """The server went away; whether the edit was committed is not known."""


class _Refused(Exception):
    """Nothing was done."""


@dataclass
class Tally:
    """What was done by all. edits: by kind, those that were confirmed. made: what must be marked.
    refused, unsure: how many were not done, or nobody knows. marking: kinds of what must be marked;
    calm: whether these are seldom now."""

    edits: Counter[str] = field(default_factory=Counter)
    made: list[Made] = field(default_factory=list)
    refused: int = 0
    unsure: int = 0
    marking: set[str] = field(default_factory=set)
    calm: bool = False
    marked_at: float = 0.0

    def may_mark(self, kind: str) -> bool:
        """Whether an edit of this kind may be done now, when it is calm."""
        if kind not in self.marking:
            return True
        now = monotonic()
        if now < self.marked_at + CALM_EVERY:
            return False
        self.marked_at = now
        return True


Marks = list[tuple[str, str, str]]
Edit = Callable[["Editor"], Marks]
"""Gives the entities that must be marked, with field and value; it is committed after that."""
Edits = Mapping[str, tuple[float, Edit]]
"""By kind, and how often each is chosen, as a share of the sum."""
NOTHING: Marks = []


class Editor(threading.Thread):
    """One of several. number: which one. huge: rows of a large transaction."""

    def __init__(
        self,
        server: MariaDB,
        number: int,
        seed: int,
        tally: Tally,
        stop: threading.Event,
        edits: Edits,
        huge: int,
    ) -> None:
        super().__init__(name=f"editor {number}", daemon=True)
        self.number, self.chance = number, random.Random(f"{seed} {number}")
        self.huge, self.error = huge, ""
        self._server, self._tally, self._stop_it = server, tally, stop
        self._edits = edits
        self._kinds, self._weights = list(edits), [weight for weight, _ in edits.values()]
        self._connection: pymysql.Connection[Any] | None = None
        self._lives = 0
        self.added = 0
        self.turn = 0
        self.rests_until = 0.0

    # What edits are made of.

    def do(self, statement: str, *values: Any) -> int:
        """How many rows were changed."""
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            return int(cursor.execute(statement, values or None))

    def many(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Insert rows with one statement, whose `VALUES` is at its `{}`."""
        one = "(" + ", ".join(["%s"] * len(rows[0])) + ")"
        text = statement.replace("{}", "VALUES " + ", ".join([one] * len(rows)))
        return self.do(text, *(value for row in rows for value in row))

    def fetch(self, statement: str, *values: Any) -> tuple[Any, ...] | None:
        """The first row."""
        assert self._connection is not None
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            found: tuple[Any, ...] | None = cursor.fetchone()
        return found

    def life(self) -> int:
        """The `n` of a new row."""
        self._lives += 1
        return self._lives * LIFE

    def own(self, most: int, count: int = 1) -> list[int]:
        """Numbers of rows that belong to this editor."""
        return [
            self.chance.randrange(most // EDITORS) * EDITORS + self.number for _ in range(count)
        ]

    # The thread.

    def run(self) -> None:
        try:
            while not self._stop_it.is_set():
                kind = self.chance.choices(self._kinds, self._weights)[0]
                if not self._tally.calm or self._tally.may_mark(kind):
                    self.one(kind)
                self._stop_it.wait(self.chance.uniform(0, PAUSE))
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self._close()

    def one(self, kind: str) -> bool:
        """Do one edit; whether it was confirmed."""
        with self._connected() as connected:
            if not connected:
                return False
            try:
                with _telling():
                    before = self._last()
                    _, edit = self._edits[kind]
                    marks = edit(self)
                    assert self._connection is not None
                    self._connection.commit()
            except _Refused:
                self._tally.refused += 1
                with _telling():
                    assert self._connection is not None
                    self._connection.rollback()
                return False
            self._tally.edits[kind] += 1
            if marks:
                self._tally.marking.add(kind)
                with _telling():
                    after = self._last()
                # Without a transaction in the log, nothing was changed.
                if after != before:
                    self._tally.made += [Made(after, kind, *one) for one in marks]
            return True
        return False

    def _last(self) -> int:
        """The number of the last transaction of this connection in the log."""
        found = self.fetch("SELECT @@last_gtid")
        return 0 if found is None else int(str(found[0]).rpartition("-")[2] or 0)

    @contextmanager
    def _connected(self) -> Iterator[bool]:
        """With a connection; False where there is none yet, or it was lost."""
        try:
            if self._connection is None:
                self._connection = self._connect()
        except pymysql.OperationalError:
            self._stop_it.wait(0.1)
            yield False
            return
        try:
            yield True
        except _Lost:
            self._tally.unsure += 1
            self._close()

    def _connect(self) -> pymysql.Connection[Any]:
        connection = pymysql.connect(
            host=self._server.host,
            port=self._server.port,
            user="root",
            database=self._server.database,
            connect_timeout=5,
            read_timeout=60,
            autocommit=False,
            init_command="SET SESSION innodb_lock_wait_timeout = 5, lock_wait_timeout = 20, "
            "time_zone = '+00:00'",
        )
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection._force_close()
            self._connection = None


@contextmanager
def _telling() -> Iterator[None]:
    """Sort out what the server says."""
    try:
        yield
    except pymysql.MySQLError as error:
        code = error.args[0] if error.args else 0
        if code in REFUSED:
            raise _Refused from error
        if code in (0, 1053, 1927, 2003, 2006, 2013, 2014, 2055) or code == "":
            raise _Lost from error
        raise
    except (OSError, EOFError) as error:
        raise _Lost from error


class Editors:
    """All of them, from `start` on. tally: what they did.

    edits: what they choose from.
    huge: rows of a large transaction.
    """

    def __init__(self, server: MariaDB, seed: int, edits: Edits, huge: int) -> None:
        self.tally, self._stop = Tally(), threading.Event()
        self._threads = [
            Editor(server, number, seed, self.tally, self._stop, edits, huge)
            for number in range(EDITORS)
        ]

    def start(self) -> None:
        """Begin."""
        for one in self._threads:
            one.start()

    def calm_down(self) -> None:
        """Do seldom from now on what must be marked."""
        self.tally.calm = True

    def stop(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        for one in self._threads:
            if one.ident is not None:
                one.join(90)

    @property
    def large(self) -> int:
        """Large transactions, and whole tables emptied in their turn."""
        return sum(one.turn for one in self._threads)

    @property
    def error(self) -> str:
        """Why one of them has ended, empty where none has."""
        return next((one.error for one in self._threads if one.error), "")
