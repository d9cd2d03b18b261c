"""What marks the answers of legacy: the visitor's cookie then says how far the database's log went.

Whatever a request has committed before legacy answered is in the log no later than at its end
then. Where the database did not say in time where that is, the cookie says that, and legacy answers
this visitor for as long as it counts. Pure: who asks is given (`bridge.sync.log.end`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from bridge.sync.gtid import Gtid
from bridge.sync.tokens import COOKIE, LIFETIME, Keys, LogEnd, Token, latest

__all__ = ["NOTHING", "Marker", "Question"]

NOTHING: Final = "nothing"
"""What became of a question where the log has no transaction: there is nothing to wait for."""


class Question(Protocol):
    """Where does the log end?"""

    @property
    def end(self) -> Gtid | None:
        """The last transaction, None where it is not known."""

    @property
    def how(self) -> str:
        """What became of the question; empty while there is no answer."""

    @property
    def since(self) -> float:
        """When it was asked, by `time.perf_counter()`."""


class Marker:
    """Writes the end of the log into visitors' cookies, beside what PHP has written.

    ask: asks the database; it calls back from another thread (`bridge.proxy.gate.Marker`).
    budget: seconds that an answer may be held up for that.
    """

    cookie: str = COOKIE
    lifetime: int = LIFETIME

    def __init__(
        self,
        keys: Keys,
        ask: Callable[[Callable[[], None]], Question],
        budget: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self.ask, self.budget, self._clock = keys, ask, budget, clock

    def token(self, question: Question | None, sent: Iterable[str], given: Sequence[str]) -> str:
        """The visitor's new cookie, empty where nothing is to be added to what they get.

        question: where the log ends, None where that was not asked.
        sent: the cookies that they have.
        given: those that legacy gives them.
        """
        now = self._clock()
        end: LogEnd | None = None
        if question is not None:
            gtid = question.end  # before `how`: an answer may come at this moment
            if question.how != NOTHING:
                end = LogEnd(gtid, int(now))
        gets = self._keys.read_all(given, now)
        if end is None and gets == Token():
            return ""
        has = self._keys.read_all(sent, now)
        # An end of now includes all others, and is of the history that there is.
        newest = end or latest(one for one in (gets.end, has.end) if one is not None)
        if newest is None:
            return ""
        return self._keys.sign([*gets.entries, *has.entries], newest)

    def is_sound(self, value: str) -> bool:
        """Whether there is something in a cookie that legacy gives."""
        return self._keys.read(value, self._clock()) != Token()
