"""What marks the answers of legacy: the visitor's cookie then says how far the database's log went.

Whatever a request has committed before legacy answered is in the log no later than at its end
then. Pure: who asks the database for that end is given (`bridge.sync.log.end`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bridge.sync.gtid import Gtid
from bridge.sync.tokens import COOKIE, LIFETIME, Keys, LogEnd, Token

__all__ = ["Marker"]


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
        ask: Callable[[Callable[[], None]], Any],
        budget: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self.ask, self.budget, self._clock = keys, ask, budget, clock

    def token(self, end: Gtid | None, sent: Iterable[str], given: Sequence[str]) -> str:
        """The visitor's new cookie, empty where nothing is to be added to what they get.

        end: where the log ends, None where that is not known.
        sent: the cookies that they have.
        given: those that legacy gives them.
        """
        now = self._clock()
        gets = self._keys.read_all(given, now)
        if end is None and gets == Token():
            return ""
        has = self._keys.read_all(sent, now)
        newer = LogEnd(end, int(now)) if end is not None else gets.end or has.end
        if newer is None:
            return ""
        return self._keys.sign([*gets.entries, *has.entries], newer)

    def is_sound(self, value: str) -> bool:
        """Whether there is something in a cookie that legacy gives."""
        return self._keys.read(value, self._clock()) != Token()
