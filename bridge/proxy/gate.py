"""What may still send a request to legacy after it was decided for Python: the gate.

The one there is keeps visitors from missing their own edits (`bridge.sync.freshness`). The proxy
knows it by its interface alone, so that without keys for it no MongoDB driver is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextvars import Context
from typing import Any, Protocol

from bridge.proxy.http.headers import keep_apart
from bridge.proxy.request.cookies import end_cookie, sets_cookie
from bridge.proxy.request.head import Head, Headers

__all__ = ["Gate", "Wanted", "end_when_settled"]


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


class Gate(Protocol):
    """Lets a handler run, or not yet, or not at all for this request."""

    cookie: str
    """Name of the cookie that it reads; handlers do not see that one."""

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
