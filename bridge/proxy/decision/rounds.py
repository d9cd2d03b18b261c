"""Whether the visitor of a request goes round and round, and what they carry with them.

A step of `bridge.proxy.conversation`, for requests that a redirect led to, and those that are
redirected. What a trail and a cycle are is in `bridge.proxy.decision.loopguard`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Sequence
from typing import Protocol

import structlog

from bridge.errors import VisitorError
from bridge.proxy.decision.breaker import Breaker
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.decision.loopguard import (
    LoopGuard,
    Sender,
    Signed,
    Step,
    Trail,
    asked_for,
    domain_for,
    loop_name,
    senders,
    sent_to,
)
from bridge.proxy.http.headers import is_shared
from bridge.proxy.http.wire import lowered
from bridge.proxy.request.cookies import SHARE_COOKIE, TRAIL_COOKIE, trail_cookie
from bridge.proxy.request.forwarded import Client
from bridge.proxy.request.head import Head, Headers
from bridge.proxy.routing.table import RouteTable

__all__ = ["REDIRECTS", "Loops", "Rounds"]

log = structlog.get_logger("bridge.proxy")

REDIRECTS = frozenset((301, 302, 303, 307, 308))
"""Statuses after which a browser asks for what Location names."""

_TRAILS = 4  # cookies of one request that are verified


class Loops:
    """What is known of redirects, of all visitors of a process. Thread-safe.

    `secret` signs what visitors carry of theirs. `places` are the addresses from which visitors
    were redirected lately.
    """

    def __init__(self, secret: str, clock: Callable[[], float]) -> None:
        self.signed, self.clock = Signed(secret), clock
        self._guard = LoopGuard()
        self.places: Container[str] = self._guard.places
        self._sent_back: dict[str, Breaker] = {}
        self._lock = threading.Lock()

    def take(self, address: str, visitor: str, asked: str) -> Trail | None:
        """See `LoopGuard.take`."""
        with self._lock:
            return self._guard.take(address, visitor, asked)

    def keep(self, address: str, visitor: str, trail: Trail) -> None:
        """A visitor at `address` is sent on."""
        with self._lock:
            self._guard.keep(address, visitor, trail)

    def send_back(self, cycle: Sequence[Sender]) -> None:
        """Leave the routes of a loop that Python answers to legacy for a while."""
        with self._lock:
            now = self.clock()
            for step in cycle:
                if step.backend == PYTHON:
                    breaker = self._sent_back.setdefault(step.route, Breaker())
                    breaker.open(now)
                    facts = breaker.facts
                    log.error("redirect loop: back to legacy", route=step.route, **facts)

    def is_sent_back(self, route: str) -> bool:
        """Whether `route` is left to legacy because it sent visitors round and round."""
        breaker = self._sent_back.get(route)
        return breaker is not None and breaker.is_open(self.clock())

    def breakers(self) -> dict[str, Breaker]:
        """Of the routes that were sent back."""
        with self._lock:
            return dict(self._sent_back)


class _Outcome(Protocol):
    """What became of a request, as far as it matters here."""

    site: str
    route: str
    backend: str
    loop: str


class Rounds:
    """The redirects that led a visitor here.

    table: the one that the request is decided by.
    outcome: says who answers, and gets the name of a loop.
    """

    __slots__ = ("_client", "_head", "_loops", "_outcome", "_proven", "_table", "_trail")

    def __init__(
        self, loops: Loops, table: RouteTable, head: Head, client: Client, outcome: _Outcome
    ) -> None:
        self._loops, self._table, self._outcome = loops, table, outcome
        self._head, self._client = head, client
        self._trail: Trail | None = None
        self._proven = False

    def look(self) -> None:
        """Find out what led here. Raises VisitorError (508) when it is a loop that is stopped."""
        head, loops, outcome = self._head, self._loops, self._outcome
        asked = asked_for(*self._address)
        if asked is None or head.target.raw == "*":
            return
        brought = [value for name, value in head.cookies() if name == TRAIL_COOKIE]
        trail = loops.signed.read(brought[:_TRAILS], asked) if brought else None
        self._proven = trail is not None
        if trail is None:
            trail = loops.take(self._client.address, self._visitor, asked)
        self._trail = trail
        if trail is None:
            return
        file = self._table.file
        limits = file.redirect_loops
        cycle = trail.cycle(loops.clock(), limits.rounds, limits.within)
        if not cycle:
            return
        found = senders(cycle, (route.name for route in file.routes), (*file.backends, PYTHON))
        flipped = any(one.backend == PYTHON for one in found)
        if self._proven and (flipped or limits.legacy):
            if limits.to_legacy:
                loops.send_back(found)
            outcome.loop = loop_name(found)
            raise VisitorError(508, f"redirect loop: {outcome.loop}")
        if not trail.told:
            outcome.loop = loop_name(found)
            self._trail = trail._replace(told=True)

    def note(self, status: int, headers: Headers) -> None:
        """Note in `headers` of the answer where the visitor is sent, or that they have arrived."""
        trail, loops, outcome = self._trail, self._loops, self._outcome
        location = next((value for name, value in headers if lowered(name) == "location"), None)
        asked = expected = None
        if status in REDIRECTS and location is not None and self._head.target.raw != "*":
            asked = asked_for(*self._address)
            expected = sent_to(*self._address, status, location, self._table.hosts)
        if asked is None or expected is None:
            ended = self._proven and trail and trail.leads_back(trail.expected)
            if ended and not is_shared(headers):
                headers.append(self._cookie("", 0))  # what looked like a round has ended
            return
        limits = self._table.file.redirect_loops
        step = Step(loops.clock(), asked, Sender(outcome.route, outcome.backend).code)
        if not self._proven:
            # Whose trail that is, nobody knows for certain: it is good enough to tell of a loop.
            known = (trail or Trail(asked)).then(step, expected)
            loops.keep(self._client.address, self._visitor, known)
            ours = outcome.backend == PYTHON and not is_shared(headers)
            if not ours and not limits.legacy:
                return
            trail = None
        elif trail and not trail.leads_back(expected, asked) and is_shared(headers):
            return  # a cache would not keep it, or give it to others
        value = loops.signed.write((trail or Trail(asked)).then(step, expected))
        headers.append(self._cookie(value, limits.within))

    @property
    def _visitor(self) -> str:
        """Who it may be, of those at an address: browsers that look alike are told apart by
        which cookies they have, and by our own one; other values may change with every round."""
        cookies = [
            value if name == SHARE_COOKIE else name
            for name, value in self._head.cookies()
            if name != TRAIL_COOKIE
        ]
        return f"{self._head.get('User-Agent') or ''} {cookies}"

    @property
    def _address(self) -> tuple[str, str, str, str]:
        """What was asked for, as the visitor's browser shows it."""
        head, client = self._head, self._client
        return head.method, client.scheme, client.host, head.target.raw

    def _cookie(self, value: str, seconds: float) -> tuple[str, str]:
        hosts = self._table.file.sites[self._outcome.site].hosts
        return trail_cookie(value, seconds, domain_for(hosts, self._client.host.lower()))
