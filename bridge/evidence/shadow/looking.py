"""What becomes of one copy: what can be compared goes to the comparison, with both sides to ask.

The handler runs here, at 100 %, and nobody gets its answer. Legacy is asked a second time only by
the comparison, for GET and HEAD, and with a header by which PHP can tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from bridge.evidence.answers import Answer, Asked, Kind
from bridge.evidence.asking import Both, NoAnswer
from bridge.logs import traceback_text
from bridge.proxy.routing.table import Route, RouteTable
from bridge.proxy.shadow.copies import Copied
from bridge.reasons import Reason

__all__ = ["PURPOSE", "Compare", "Looking", "Sides"]

log = structlog.get_logger("bridge.shadow")

PURPOSE = ("Purpose", "bridge-compare")
"""The header of a request that no visitor has made: legacy is asked a second time."""


@dataclass(frozen=True, slots=True)
class Sides:
    """What a comparison may ask.

    route: the one that is compared. table: the one that Python answers with.
    legacy, python: ask that side. They raise NoAnswer.
    again: whether legacy may be asked at all.
    """

    route: Route
    table: RouteTable
    legacy: Callable[[Asked], Answer]
    python: Callable[[Asked], Answer]
    again: bool


Compare = Callable[[Sides, Asked, Answer], Kind]
"""Compares legacy's answer to a request with Python's, keeps what it found, and says which kind it
is. Called by several threads."""


class Looking:
    """Looks at one copy after another. Thread-safe.

    both: gives the sides of the table of the moment.
    compare: as Compare says.
    """

    def __init__(self, both: Callable[[], Both], compare: Compare) -> None:
        self._both, self._compare = both, compare
        self.stuck = False
        """Whether handlers have kept all of their threads for longer than they may."""

    def look(self, copied: Copied) -> Kind:
        """Compare; whatever goes wrong is NOT_COMPARED."""
        try:
            return self._look(copied)
        except Exception as error:
            log.error("bug in the shadow", route=copied.route, traceback=traceback_text(error))
            return Kind.NOT_COMPARED

    def _look(self, copied: Copied) -> Kind:
        both = self._both()
        route = both.table.route(copied.route)
        reads = copied.method in ("GET", "HEAD")
        # The file may say something else by now than when the visitor asked.
        if route is None or route.app is None or copied.status >= 500 or not reads:
            return Kind.NOT_COMPARED

        def python(asked: Asked) -> Answer:
            try:
                return both.python(asked)
            except NoAnswer as error:
                # There are as many threads for handlers as there are here: somebody hangs.
                self.stuck = self.stuck or error.reason == Reason.PYTHON_BUSY
                raise

        def legacy(asked: Asked) -> Answer:
            return both.legacy(replace(asked, headers=[*asked.headers, PURPOSE]))

        sides = Sides(route, both.table, legacy, python, route.spec.compare.again)
        return self._compare(sides, asked_of(copied), answer_of(copied))


def asked_of(copied: Copied) -> Asked:
    """The request."""
    return Asked(
        copied.method, copied.target, copied.host, copied.headers, copied.scheme, copied.peer
    )


def answer_of(copied: Copied) -> Answer:
    """Legacy's answer."""
    digest = hashlib.sha256(copied.body).hexdigest() if copied.whole else copied.sha256
    return Answer(
        copied.status,
        copied.reason,
        copied.answer,
        copied.body,
        copied.length,
        digest,
        copied.whole,
    )
