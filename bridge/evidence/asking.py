"""Asks both sides for the same, each as a visitor would get it, and says what a page was made of.

Python answers as at 100%, in this process, and legacy is not asked in its place. For several
threads.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from bridge import shadow
from bridge.errors import BridgeError
from bridge.evidence.answers import Answer, Asked, Kind, Read
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.hooks import Outcome
from bridge.proxy.routing.table import Route, RouteTable, matcher
from bridge.proxy.tools.sides import LEGACY, Heard, Sides, environ_of
from bridge.reasons import Reason
from bridge.sync import freshness

__all__ = ["PURPOSE", "Both", "NoAnswer", "failed"]

PURPOSE = ("Purpose", "bridge-compare")
"""The header of a request that no visitor has made: PHP can tell, and leave its counters alone."""

_READ = "bridge.evidence.read"
"""Key of a handler's environment: what it reads is noted there."""
_CONDITION = re.compile(r"(?:if-.*|range)$", re.IGNORECASE)
_BODY = 16 * 2**20  # bytes that are kept of an answer
_MOST = 2**30  # bytes that an answer may have
_LONGEST = 120.0  # seconds
_APART = 3600  # seconds between two looks at the clock of breakers and the guard of live requests
_BROWSER = ("User-Agent", "Mozilla/5.0 (bridgectl compare)")
_ACCEPT = ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")


class NoAnswer(BridgeError):
    """A side gave none that could be compared. `kind` says what that makes of the comparison,
    `reason` is a fixed word where Python is to blame."""

    def __init__(self, kind: Kind, why: str, reason: str = "") -> None:
        self.kind, self.why, self.reason = kind, why, reason
        super().__init__(why)


def failed(status: int) -> str:
    """Why an answer of legacy's with this status is nothing to compare with; empty where it is."""
    if status >= 500:
        return f"legacy failed: it answered {status}"
    if status == 429:
        return "legacy answered 429, as it is asked too often: lower --rate, or `rate` of shadow"
    return ""


class Both:
    """The two sides of `table`.

    body: bytes of an answer that are kept; of longer ones only length and digest are known.
    handlers: handlers that run at a time.
    """

    def __init__(self, table: RouteTable, *, body: int = _BODY, handlers: int = 4) -> None:
        self.table, self._body = table, body
        # A handler that always fails must be seen to fail each time, and not be left alone.
        moments = itertools.count(int(time.time()), _APART)
        routes = tuple(map(_recorded, table.routes))
        seen = replace(table, routes=routes, _urls=matcher(routes))
        self._sides = Sides(seen, clock=lambda: next(moments), handlers=handlers, alone=True)

    def close(self) -> None:
        """End the connections."""
        self._sides.close()

    def legacy(self, asked: Asked) -> Answer:
        """Legacy's answer. Raises NoAnswer, also for one with a status of 500 or more, or 429."""
        asked = replace(asked, headers=[*asked.headers, PURPOSE])
        heard, body = self._ask(LEGACY, asked, None)
        if heard.outcome.backend == "bridge":
            raise NoAnswer(Kind.NOT_COMPARED, f"legacy failed: {heard.outcome.error}")
        if why := failed(heard.status):
            raise NoAnswer(Kind.NOT_COMPARED, why)
        return body.answer(heard, {})

    def python(self, asked: Asked) -> Answer:
        """Python's answer, with what its handler has read. Raises NoAnswer."""
        documents: dict[Read, int | None] = {}
        heard, body = self._ask(PYTHON, asked, documents)
        outcome = heard.outcome
        if outcome.fallback or outcome.backend != PYTHON:
            raise _why(outcome)
        return body.answer(heard, dict(documents))

    def _ask(
        self, side: str, asked: Asked, documents: dict[Read, int | None] | None
    ) -> tuple[Heard, _Body]:
        # Legacy's first answer was a whole one: what a browser has already is no matter here.
        headers = [pair for pair in asked.headers if not _CONDITION.match(pair[0])]
        names = {name.lower() for name, _ in headers}
        headers += [one for one in (_BROWSER, _ACCEPT) if one[0].lower() not in names]
        environ = environ_of(
            asked.method,
            asked.host,
            asked.target,
            headers,
            scheme=asked.scheme,
            peer=asked.peer,
            more={_READ: documents},
        )
        body = _Body(self._body)
        heard = self._sides.ask(side, environ, body.take)
        if heard.outcome.aborted:
            raise NoAnswer(Kind.NOT_COMPARED, f"{side} broke off: {heard.outcome.aborted}")
        return heard, body


@dataclass(slots=True)
class _Body:
    """The body of an answer as it comes; what is beyond `most` bytes is counted only."""

    most: int
    length: int = 0
    began: float = field(default_factory=time.monotonic)
    _pieces: list[bytes] = field(default_factory=list)
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)

    def take(self, piece: bytes) -> None:
        """Raises NoAnswer for one without end."""
        self.length += len(piece)
        self._hash.update(piece)
        if self.length <= self.most:
            self._pieces.append(piece)
        else:
            self._pieces.clear()
        if self.length > _MOST or time.monotonic() - self.began > _LONGEST:
            raise NoAnswer(Kind.NOT_COMPARED, "too large, or a stream without an end")

    def answer(self, heard: Heard, reads: dict[Read, int | None]) -> Answer:
        return Answer(
            heard.status,
            heard.reason,
            heard.headers,
            b"".join(self._pieces),
            self.length,
            self._hash.hexdigest(),
            self.length <= self.most,
            reads,
        )


def _why(outcome: Outcome) -> NoAnswer:
    """Why Python's answer is none."""
    reason, detail = outcome.fallback, outcome.fallback_detail or outcome.error
    if not reason and outcome.backend != PYTHON:
        # A handler that failed where legacy may not be asked in its place.
        reason = outcome.reason
        failed = reason in (Reason.PYTHON_ERROR, Reason.PYTHON_5XX, Reason.PYTHON_TIMEOUT)
        if not failed:
            return NoAnswer(Kind.NOT_COMPARED, f"not Python's: {reason} {detail}".strip(), reason)
    if reason in (Reason.DECLINED, Reason.FRESHNESS):
        return NoAnswer(Kind.DECLINED, detail, reason)
    if reason in (Reason.PYTHON_BUSY, Reason.BREAKER_OPEN, Reason.REDIRECT_LOOP):
        return NoAnswer(Kind.NOT_COMPARED, f"{reason}: {detail}", reason)
    return NoAnswer(Kind.DIFFERENT, f"{reason}: {detail}", reason)


def _recorded(route: Route) -> Route:
    """The route with a handler whose reads are noted."""
    return replace(route, app=_noting(route.app)) if route.app is not None else route


def _noting(app: WSGIApplication) -> WSGIApplication:
    def noting(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # Each call has a context of its own.
        if (documents := environ.get(_READ)) is not None:
            shadow.seen.set(documents)
            if freshness.wanted.get() is None:
                freshness.wanted.set(freshness.Wanted(()))  # so that Store looks at all
        return app(environ, start_response)

    return noting
