"""What becomes of one copy: both sides are asked as far as it takes, and what was found is kept.

The handler runs here, at 100%, and nobody gets its answer. Legacy is asked a second time only
where its first answer differs from Python's, with GET and HEAD, and with a header by which PHP can
tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import structlog

from bridge.evidence.answers import Answer, Asked, Kind
from bridge.evidence.asking import Both, NoAnswer, failed
from bridge.evidence.comparers.difference import Difference
from bridge.evidence.comparers.ignoring import Rules
from bridge.evidence.order import Comparing, Order, Verdict
from bridge.logs import traceback_text
from bridge.proxy.shadow.copies import Copied
from bridge.reasons import Reason

__all__ = ["Looking", "answer_of", "asked_of"]

log = structlog.get_logger("bridge.shadow")


class Looking:
    """Looks at one copy after another. Thread-safe.

    both: gives the sides of the table of the moment.
    judge: compares two answers.
    keep: is told what was found, by the thread that looked.
    """

    def __init__(
        self,
        both: Callable[[], Both],
        judge: Comparing,
        keep: Callable[[Copied, Asked, Verdict], None],
    ) -> None:
        self._both, self._keep = both, keep
        self._order = Order(self._legacy, self._python, judge)
        self.stuck = False
        """Whether handlers have kept all of their threads for longer than they may."""

    def look(self, copied: Copied) -> Kind:
        """Compare; whatever goes wrong is NOT_COMPARED."""
        try:
            asked = asked_of(copied)
            verdict = self._look(copied, asked)
            self._keep(copied, asked, verdict)
            return verdict.kind
        except Exception as error:
            log.error("bug in the shadow", route=copied.route, traceback=traceback_text(error))
            return Kind.NOT_COMPARED

    def _look(self, copied: Copied, asked: Asked) -> Verdict:
        table = self._both().table
        route = table.route(copied.route)
        # The file may say something else by now than when the visitor asked.
        if route is None or route.app is None or copied.method not in ("GET", "HEAD"):
            return Verdict(Kind.NOT_COMPARED, "the route has no Python side any more")
        legacy = answer_of(copied) if copied.status else None
        if legacy is not None and (why := failed(legacy.status)):
            return Verdict(Kind.NOT_COMPARED, why, (), legacy)
        if legacy is None and not route.spec.compare.again:
            return Verdict(Kind.NOT_COMPARED, "legacy may not be asked again")
        verdict = self._order.compare(
            asked,
            Rules.of(table.file.compare, copied.route),
            route=copied.route,
            legacy=legacy,
            again=route.spec.compare.again,
        )
        if copied.method == "HEAD" and verdict.kind is not Kind.DIFFERENT and verdict.python:
            # Equal heads say nothing of pages.
            return replace(verdict, kind=Kind.NOT_COMPARED, why="only the head was asked for")
        return verdict

    def died(self, copied: Copied) -> None:
        """Note that Python's process has ended while it answered this, and nothing else."""
        why = "Python's process ended while it answered"
        difference = Difference("answer", "answer", "died", "", why)
        self._keep(copied, asked_of(copied), Verdict(Kind.DIFFERENT, why, (difference,)))

    def _legacy(self, asked: Asked) -> Answer:
        return self._both().legacy(asked)

    def _python(self, asked: Asked) -> Answer:
        try:
            return self._both().python(asked)
        except NoAnswer as error:
            # There are as many threads for handlers as there are here: somebody hangs.
            self.stuck = self.stuck or error.reason == Reason.PYTHON_BUSY
            raise


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
