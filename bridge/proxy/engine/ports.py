"""What the parts of the engine ask of each other, where the one need not know the other's class.

A request asks a `Source` for its answer, which tells it, the `Downstream`, what comes. Of the
connection that it came on it sees a `Carrier`. What all connections share sees each as a `Guest`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from bridge.proxy.conversation import Conversation
from bridge.proxy.engine.outlet import Outlet
from bridge.proxy.engine.upstream import LegacyConnection, Upstream
from bridge.proxy.hooks import Outcome
from bridge.proxy.http.wire import ResponseHead
from bridge.proxy.request.head import Headers

__all__ = [
    "Carrier",
    "Downstream",
    "Guest",
    "HandlerDownstream",
    "LegacyDownstream",
    "Source",
    "Waits",
]


class Source(Protocol):
    """Where an answer comes from: a request to legacy, or a handler."""

    def pause(self) -> None:
        """The visitor takes nothing now."""

    def resume(self) -> None:
        """The visitor takes something again."""

    def cancel(self) -> None:
        """Nobody wants the answer any more."""


class Downstream(Protocol):
    """Who is told what comes of an answer, after its head."""

    def on_body(self, data: bytes) -> None:
        """More of the body came."""

    def on_end(self, trailers: Headers) -> None:
        """The body is complete."""

    def on_failure(self, error: BaseException) -> None:
        """The source failed, before or after the head."""


class LegacyDownstream(Downstream, Protocol):
    """Who asks legacy."""

    @property
    def place(self) -> str:
        """From where the visitor comes, or empty."""

    def on_interim(self, head: ResponseHead) -> None:
        """A 1xx answer came."""

    def on_head(
        self, head: ResponseHead, headers: Headers, length: int | None, body: bytes, whole: bool
    ) -> None:
        """The final head came.

        headers: those of `head`, with one Content-Length at most.
        length: bytes of body to follow; None: it is not known.
        body: what has come of it already.
        whole: whether that is all.
        """

    def on_room(self) -> None:
        """More of the request's body can be taken."""

    def on_tunnel(self, head: ResponseHead, connection: LegacyConnection, rest: bytes) -> None:
        """Legacy has switched to the protocol that was asked for."""


class HandlerDownstream(Downstream, Protocol):
    """Who asks a handler."""

    conversation: Conversation

    @property
    def full(self) -> bool:
        """Whether the visitor takes nothing now."""

    def on_answer(self, status: str, headers: Headers, first: bytes, whole: bool) -> None:
        """The head came.

        status: with its reason, as in WSGI.
        first, whole: what has come of the body already, and whether that is all.
        """

    def on_pieces(self, pieces: list[bytes]) -> None:
        """More of the body came, in pieces as they were made."""


class Carrier(Protocol):
    """The visitor's connection, as a request on it sees it. `bound` are the connections to legacy
    that are authenticated as this visitor, and idle."""

    peer: str
    scheme: str
    server: tuple[str, str]
    outlet: Outlet
    bound: dict[Upstream, LegacyConnection]

    def proceed(self) -> None:
        """Take what has come of the request's body, or of the next request."""

    def turn_over(self, *, keep: bool) -> None:
        """The answer is written; `keep` says that another request may come."""

    def break_off(self, *, reset: bool) -> None:
        """The answer stops in the middle; `reset`: a clean end would look like its end."""

    def become(
        self, legacy: LegacyConnection, rest: bytes, outcome: Outcome, over: Callable[[], None]
    ) -> None:
        """Be a tunnel to `legacy` from now on.

        rest: what came from there already.
        outcome, over: as for `Tunnel`.
        """


class Guest(Protocol):
    """A visitor's connection, as what all of them share sees it."""

    deadline: float
    peer: str
    transport: asyncio.Transport

    @property
    def idle(self) -> bool:
        """Whether nothing is asked and nothing is being answered."""

    @property
    def idle_since(self) -> float:
        """When it became `idle`."""

    @property
    def is_begun(self) -> bool:
        """Whether a head has come in part, and nothing is being answered."""

    @property
    def is_gone(self) -> bool:
        """Whether the other end is closed in both directions."""

    def look(self, now: float) -> None:
        """The deadline has passed."""

    def give_way(self) -> None:
        """Leave at once: others need the place."""

    def end(self) -> None:
        """Answer nothing more."""

    def cut_short(self) -> None:
        """End what is being answered: the server stops."""


class Waits(Protocol):
    """A request whose body is not all here, and which asks legacy later."""

    def look(self, now: float) -> None:
        """Some time has passed."""
