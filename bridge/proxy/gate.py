"""What may still send a request to legacy after it was decided for Python: the gate. And what notes
for it, in answers of legacy, what a visitor may have written: the marker.

Those that there are keep visitors from missing their own edits (`bridge.sync.freshness`,
`bridge.sync.marker`). The proxy knows them by their interfaces alone, so that without keys for them
no driver of a database is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextvars import Context
from typing import Any, Protocol

from bridge.proxy.decision.rounds import REDIRECTS
from bridge.proxy.http.headers import keep_apart
from bridge.proxy.request.cookies import (
    cookie_given,
    end_cookie,
    fresh_cookie,
    given_anew,
    sets_cookie,
)
from bridge.proxy.request.head import Head, Headers

__all__ = [
    "Gate",
    "Marker",
    "Question",
    "Wanted",
    "ask",
    "end_when_settled",
    "is_marked",
    "mark",
]

_SAFE = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


class Wanted(Protocol):
    """What a visitor's cookie asks the Python side for."""

    @property
    def refused(self) -> bool:
        """Whether something of it could not be had, so that legacy must answer."""

    def settled(self, now: float) -> bool:
        """Whether the visitor needs the cookie no longer; `now` in Unix seconds."""

    @property
    def outcome(self) -> str | None:
        """How it was had, as far as the answer depends on it; None when it does not."""

    def context(self) -> Context:
        """The context that the handler runs in."""


class Question(Protocol):
    """Where does the site's database say that its log ends? The marker knows the answer."""

    @property
    def how(self) -> str:
        """What became of it, a fixed word; empty while there is no answer."""

    @property
    def since(self) -> float:
        """When it was asked, by `time.perf_counter()`."""


class Marker(Protocol):
    """Notes in the visitor's cookie how far the log of the site's database went."""

    cookie: str
    lifetime: int
    """Seconds that browsers keep the cookie."""
    budget: float
    """Seconds that an answer may be held up."""

    @property
    def ask(self) -> Callable[[Callable[[], None]], Any]:
        """Asks the database, and returns the question at once. What it is given is called from
        another thread when there is an answer; never where the question has one already."""

    def token(self, question: Any, sent: Iterable[str], given: Sequence[str]) -> str:
        """The visitor's new cookie, empty where nothing is to be added to what they get: the
        cookies `given` by legacy. `sent` are those that they have. question: its own, None where
        nothing was asked; one without an answer in time is noted, too."""

    def is_sound(self, value: str) -> bool:
        """Whether there is something in a cookie that legacy gives."""


class Gate(Protocol):
    """Lets a handler run, or not yet, or not at all for this request."""

    cookie: str
    """Name of the cookie that it reads; handlers do not see that one."""
    marker: Marker | None
    """What notes something in it for this gate, beside PHP itself."""
    log: frozenset[str]
    """The entities for which it does."""

    def wanted(self, cookies: Iterable[str]) -> Wanted | None:
        """What the values of the visitor's cookie ask for; None without a sound one."""

    def ensure(self, wanted: Any, reads: Collection[str]) -> bool:
        """Wait until the entities `reads` are as new as its own `wanted` asks; False when they
        do not become it."""


def end_when_settled(
    headers: Headers, gate: Gate, wanted: Wanted, head: Head, now: float
) -> Headers:
    """The headers of Python's answer, which end the gate's cookie when the visitor has seen all
    that it asks for.

    wanted, head: what the cookie asks for, and the request that brought it.
    now: Unix seconds.

    Not those of an answer to a script: it may be on its way while the visitor saves again, and
    would end the new cookie. A page that is opened gives way to the next one.
    """
    navigates = head.get("Sec-Fetch-Mode") in (None, "navigate")
    if not navigates or not wanted.settled(now) or sets_cookie(headers, gate.cookie):
        return headers
    # A shared cache would take the cookie from other visitors too.
    return [*keep_apart(headers, None), end_cookie(gate.cookie)]


def is_marked(method: str, status: int, *, writes: bool) -> bool:
    """Whether legacy may have written something for the visitor whom it answers so. writes: its
    route says that it does, whatever the method."""
    return status >= 200 and (writes or method not in _SAFE or status in REDIRECTS)


def ask(marker: Marker) -> Question:
    """Ask where the log ends, and wait for the answer as long as the budget allows."""
    told = threading.Event()
    question: Question = marker.ask(told.set)
    if not question.how:
        told.wait(marker.budget)
    return question


def mark(
    headers: Headers, marker: Marker, question: Question | None, head: Head, *, secure: bool
) -> Headers:
    """The headers of legacy's answer with the visitor's new cookie; the very same ones where
    there is nothing to add.

    question: where the log ends; None where that was not asked. Then what the visitor has still
        counts, beside what legacy gives them.
    secure: whether the visitor came by HTTPS.
    """
    given = cookie_given(headers, marker.cookie)
    if question is None and not given:
        return headers
    sent = [value for name, value in head.cookies() if name == marker.cookie]
    token = marker.token(question, sent, [value for value, _ in given])
    if not token:
        return headers
    # A browser that keeps two of the name, for different places, sends both, and both count.
    sound = [attributes for value, attributes in given if marker.is_sound(value)]
    if sound:
        cookie = given_anew(marker.cookie, token, sound[-1])
        kept = [pair for pair in headers if not sets_cookie([pair], marker.cookie)]
    else:
        cookie = fresh_cookie(marker.cookie, token, marker.lifetime, secure=secure)
        kept = headers
    # A shared cache would give the cookie to other visitors too.
    return [*keep_apart(kept, None), cookie]
