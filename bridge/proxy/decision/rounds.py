"""Whether the visitor of a conversation goes round and round, and what they carry with them.

A step of `bridge.proxy.conversation`, for requests that a redirect led to, and those that are
redirected. What a trail and a cycle are is in `bridge.proxy.decision.loopguard`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.errors import VisitorError
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.decision.loopguard import (
    Sender,
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
from bridge.proxy.request.head import Headers

if TYPE_CHECKING:
    from bridge.proxy.conversation import Conversation

__all__ = ["REDIRECTS", "Rounds"]

REDIRECTS = frozenset((301, 302, 303, 307, 308))
"""Statuses after which a browser asks for what Location names."""

_TRAILS = 4  # cookies of one request that are verified


class Rounds:
    """The redirects that led a visitor here; `proven` when they have brought them themselves."""

    __slots__ = ("_conversation", "_proven", "_trail")

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._trail: Trail | None = None
        self._proven = False

    def look(self) -> None:
        """Find out what led here. Raises VisitorError (508) when it is a loop that is stopped."""
        conversation = self._conversation
        head, front = conversation.head, conversation.front
        asked = asked_for(*self._address)
        if asked is None or head.target.raw == "*":
            return
        brought = [value for name, value in head.cookies() if name == TRAIL_COOKIE]
        trail = front.trails.read(brought[:_TRAILS], asked) if brought else None
        self._proven = trail is not None
        if trail is None:
            trail = front.take_trail(conversation.client.address, self._visitor, asked)
        self._trail = trail
        if trail is None:
            return
        file, outcome = conversation.table.file, conversation.outcome
        limits = file.redirect_loops
        cycle = trail.cycle(front.clock(), limits.rounds, limits.within)
        if not cycle:
            return
        found = senders(cycle, (route.name for route in file.routes), (*file.backends, PYTHON))
        flipped = any(one.backend == PYTHON for one in found)
        if self._proven and (flipped or limits.legacy):
            if limits.to_legacy:
                front.send_back(found)
            outcome.loop = loop_name(found)
            raise VisitorError(508, f"redirect loop: {outcome.loop}")
        if not trail.told:
            outcome.loop = loop_name(found)
            self._trail = trail._replace(told=True)

    def note(self, status: int, headers: Headers) -> None:
        """Note in `headers` of the answer where the visitor is sent, or that they have arrived."""
        conversation, trail = self._conversation, self._trail
        front, outcome = conversation.front, conversation.outcome
        location = next((value for name, value in headers if lowered(name) == "location"), None)
        asked = expected = None
        if status in REDIRECTS and location is not None and conversation.head.target.raw != "*":
            asked = asked_for(*self._address)
            hosts = conversation.table.hosts
            expected = sent_to(*self._address, status, location, hosts)
        if asked is None or expected is None:
            ended = self._proven and trail and trail.leads_back(trail.expected)
            if ended and not is_shared(headers):
                headers.append(self._cookie("", 0))  # what looked like a round has ended
            return
        limits = conversation.table.file.redirect_loops
        step = Step(front.clock(), asked, Sender(outcome.route, outcome.backend).code)
        if not self._proven:
            # Whose trail that is, nobody knows for certain: it is good enough to tell of a loop.
            known = (trail or Trail(asked)).then(step, expected)
            front.keep_trail(conversation.client.address, self._visitor, known)
            ours = outcome.backend == PYTHON and not is_shared(headers)
            if not ours and not limits.legacy:
                return
            trail = None
        elif trail and not trail.leads_back(expected, asked) and is_shared(headers):
            return  # a cache would not keep it, or give it to others
        value = front.trails.write((trail or Trail(asked)).then(step, expected))
        headers.append(self._cookie(value, limits.within))

    @property
    def _visitor(self) -> str:
        """Who it may be, of those at an address: browsers that look alike are told apart by
        which cookies they have, and by our own one; other values may change with every round."""
        head = self._conversation.head
        cookies = [
            value if name == SHARE_COOKIE else name
            for name, value in head.cookies()
            if name != TRAIL_COOKIE
        ]
        return f"{head.get('User-Agent') or ''} {cookies}"

    @property
    def _address(self) -> tuple[str, str, str, str]:
        """What was asked for, as the visitor's browser shows it."""
        conversation = self._conversation
        head, client = conversation.head, conversation.client
        return head.method, client.scheme, client.host, head.target.raw

    def _cookie(self, value: str, seconds: float) -> tuple[str, str]:
        conversation = self._conversation
        hosts = conversation.table.file.sites[conversation.decision.site].hosts
        return trail_cookie(value, seconds, domain_for(hosts, conversation.client.host.lower()))
