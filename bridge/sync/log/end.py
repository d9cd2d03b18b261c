"""Where does the site's database say that its log ends? Asked for visitors, who wait for it.

One connection and one thread for each process. Whoever asks while a question is on its way shares
the next one with all others who do, so that the database is asked one thing at a time however many
ask, and always after legacy has answered. A question takes a fraction of a millisecond.

A database that is away, or slow, does not cost everybody their budget: from the first failure on
they have the answer `away` at once, until a question that nobody waits for was answered in time
again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import structlog

from bridge.errors import BridgeError
from bridge.queue.sql.cause import cause_of
from bridge.queue.sql.database import connect
from bridge.sync.gtid import Gtid

__all__ = ["BUDGET", "How", "LogEnds", "Question"]

log = structlog.get_logger("bridge.freshness")

BUDGET = 0.02
"""Seconds that a visitor's answer may be held up."""
_LIMIT = 1.0  # seconds for a connection, or an answer, that nobody waits for any more
_ANOTHER = 60.0
"""Seconds after which a log that was begun anew is taken for what it is: whoever reads it for the
mirror has noticed by then, or is gone, and `bridge.sync.probe` knows that."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5  # seconds between two tries while it is away
_MARIADB, _MYSQL = "SELECT @@gtid_binlog_pos", "SELECT @@GLOBAL.gtid_executed"

How = Literal["", "asked", "nothing", "unclear", "away"]
"""What became of a question. nothing: the log has no transaction, or there is no log. unclear: it
has those of several servers, or has begun anew. away: the database does not answer, or not in time.
"""


class Question:
    """One that was asked: `end` is the last transaction, as far as it is known."""

    __slots__ = ("end", "how", "since", "tell")

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell
        self.since = time.perf_counter()
        self.end: Gtid | None = None
        self.how: How = ""


class LogEnds:
    """Asks the database of `url`. For many threads; it connects when it is first asked.

    budget: seconds after which an answer is too late.
    Raises BridgeError for a URL that cannot be used, or that is of no MariaDB or MySQL.
    """

    def __init__(self, url: str, *, budget: float = BUDGET) -> None:
        self.budget = budget
        engine = connect(url)
        self._url = engine.url
        if engine.dialect.name not in ("mysql", "mariadb"):
            raise BridgeError(
                "`source: {log: true}` is for MariaDB and MySQL, and BRIDGE_SQL_URL names "
                f"{engine.dialect.name}"
            )
        self._driver: Any = engine.dialect.dbapi
        arguments, options = engine.dialect.create_connect_args(engine.url)
        limits = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), _LIMIT)
        self._arguments, self._options = arguments, {**options, **limits, "autocommit": True}
        self._said = ""
        self._begin()

    def _begin(self) -> None:
        """In this process nothing was asked yet."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._asked: list[Question] = []
        self._thread: threading.Thread | None = None
        self._away = self._closed = False
        self._sent = float("inf")  # when what is on its way was sent

    def __repr__(self) -> str:
        return f"<LogEnds: {'away' if self._away else 'well'}, {len(self._asked)} wait>"

    def ask(self, tell: Callable[[], None]) -> Question:
        """Ask. Where there is no answer yet, `tell` is called from another thread as soon as there
        is one, also when it is too late."""
        if self._pid != os.getpid():
            self._begin()
        question = Question(tell)
        with self._changed:
            if self._away or time.monotonic() - self._sent > self.budget:
                question.how = "away"
                return question
            self._asked.append(question)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="bridge-log", daemon=True)
                self._thread.start()
            self._changed.notify()
        return question

    def close(self) -> None:
        """Ask nothing any more, and close the connection."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(2 * _LIMIT)

    # all below in the thread

    def _run(self) -> None:
        asking = _Asking(self._driver, self._arguments, self._options)
        history = _History()
        failures, pause = 0, 0.0
        while (asked := self._next(pause)) is not None:
            end: Gtid | None = None
            how: How = "away"
            try:
                text, seconds = asking.ask()
                late = seconds > self.budget
                if not late:
                    end = Gtid.parse(text)
                    how = "nothing" if end is None else "asked"
                why = f"it took longer than {self.budget * 1000:g} ms to say" if late else ""
                if end is not None and history.is_another(end, time.monotonic()):
                    end, how, why = None, "unclear", "its log has begun anew"
            except BridgeError as error:
                how, why = "unclear", str(error)
            except Exception as error:
                asking.close()
                why = f"the SQL database {cause_of(error, self._url)}"
            self._say(how, why)
            with self._changed:
                self._sent = float("inf")
                self._away = how == "away"
                if self._away:  # those who came meanwhile need not wait any longer
                    late_comers, self._asked = self._asked, []
                    asked += late_comers
            # The first try is at once: it may have been a moment's trouble.
            failures = failures + 1 if self._away else 0
            pause = min(_FIRST_PAUSE * (2 ** min(failures, 10) - 2), _LONGEST_PAUSE)
            for question in asked:
                question.end, question.how = end, how
                with suppress(Exception):  # whose loop has ended; the others still wait
                    question.tell()
        asking.close()

    def _next(self, pause: float) -> list[Question] | None:
        """Those who ask, none while it is away; None at the end."""
        with self._changed:
            if self._away:
                self._changed.wait_for(lambda: self._closed, pause)
            else:
                self._changed.wait_for(lambda: self._asked or self._closed)
            if self._closed:
                return None
            asked, self._asked = self._asked, []
            self._sent = time.monotonic()
            return asked

    def _say(self, how: How, why: str) -> None:
        """Log what has changed, once."""
        if why == self._said:
            return
        self._said = why
        if why:
            log.warning("visitors' cookies do not say where the log ends", how=how, cause=why)
        else:
            log.info("visitors' cookies say again where the log ends")


class _History:
    """The newest end of the log that was seen. Its numbers only grow, except where it is begun anew
    or the server is restored from a backup: then they mean other transactions than those that the
    mirror has."""

    def __init__(self) -> None:
        self._newest: Gtid | None = None
        self._since: float | None = None

    def is_another(self, end: Gtid, now: float) -> bool:
        """Whether this end is of another log than before, for a while. now: in seconds."""
        newest = self._newest
        goes_back = newest is not None and newest.covers(end) and end.sequence < newest.sequence
        if not goes_back:
            self._newest, self._since = end, None
            return False
        if self._since is None:
            self._since = now
        if now - self._since < _ANOTHER:
            return True
        self._newest, self._since = end, None
        return False


class _Asking:
    """The connection, made where there is none."""

    def __init__(self, driver: Any, arguments: Any, options: dict[str, Any]) -> None:
        self._driver, self._arguments, self._options = driver, arguments, options
        self._connection: Any = None
        self._statement = ""

    def ask(self) -> tuple[str, float]:
        """The names of the last transactions, and how many seconds the question took on a
        connection. Raises what the driver raises."""
        if self._connection is not None:
            try:
                return self._say()
            except self._driver.Error as error:
                if isinstance(error.__context__, TimeoutError):
                    raise
                # The server may have ended what nobody used for long, or was started anew.
                self.close()
        self._connection = self._driver.connect(*self._arguments, **self._options)
        is_mariadb = "MariaDB" in str(self._connection.get_server_info())
        self._statement = _MARIADB if is_mariadb else _MYSQL
        return self._say()

    def _say(self) -> tuple[str, float]:
        began = time.monotonic()
        with self._connection.cursor() as cursor:
            cursor.execute(self._statement)
            text = str(cursor.fetchone()[0] or "")
        return text, time.monotonic() - began

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()
