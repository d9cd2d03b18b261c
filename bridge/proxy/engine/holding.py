"""Holds an answer of legacy's until the database has said where its log ends, or for its budget.

The head waits, the body behind it. The event loop goes on meanwhile: the question is answered in
another thread. Of a visitor who leaves nothing is kept longer than that.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Protocol

from bridge.proxy.engine.exchange import Exchange
from bridge.proxy.engine.ports import LegacyDownstream
from bridge.proxy.engine.upstream import LegacyConnection
from bridge.proxy.gate import Marker, Question
from bridge.proxy.http.wire import ResponseHead
from bridge.proxy.request.head import Headers

__all__ = ["Holding"]


class Waiting(LegacyDownstream, Protocol):
    """Who asked legacy, and waits. `over`: the visitor has left, or has another answer."""

    over: bool

    @property
    def full(self) -> bool:
        """Whether the visitor takes nothing now."""


class Holding:
    """Takes the place of `turn` as the one who is told what comes of `exchange`.

    go_on: is called with the question when the head may go on, unless the visitor has left or
        has another answer by then.
    """

    __slots__ = ("_exchange", "_go_on", "_kept", "_loop", "_over", "_question", "_timer", "_turn")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        turn: Waiting,
        exchange: Exchange,
        go_on: Callable[[Question], None],
    ) -> None:
        self._loop, self._turn, self._exchange, self._go_on = loop, turn, exchange, go_on
        self._kept: list[Callable[[], None]] = []
        self._over = False

    def ask(self, marker: Marker) -> None:
        """Ask, and hold the answer until then; not at all where it is clear at once."""
        self._question = question = marker.ask(self._tell)
        if question.how:
            self._over = True
            self._go_on(question)
            return
        self._exchange.downstream = self
        self._exchange.pause()
        self._timer = self._loop.call_later(marker.budget, self._told)

    def _tell(self) -> None:
        """In another thread: there is an answer."""
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._told)

    def _told(self) -> None:
        """On the loop: there is an answer, or the budget is spent."""
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        turn, exchange = self._turn, self._exchange
        exchange.downstream = turn
        kept, self._kept = self._kept, []
        if turn.over:
            return
        self._go_on(self._question)
        for call in kept:
            call()
        if not exchange.over and not turn.full:
            exchange.resume()

    # what comes of the exchange meanwhile

    @property
    def place(self) -> str:
        """From where the visitor comes."""
        return self._turn.place

    def on_room(self) -> None:
        self._turn.on_room()

    def on_body(self, data: bytes) -> None:
        self._kept.append(partial(self._turn.on_body, data))

    def on_end(self, trailers: Headers) -> None:
        self._kept.append(partial(self._turn.on_end, trailers))

    def on_failure(self, error: BaseException) -> None:
        self._kept.append(partial(self._turn.on_failure, error))

    def on_interim(self, head: ResponseHead) -> None:
        """There is none after the head."""

    def on_head(
        self, head: ResponseHead, headers: Headers, length: int | None, body: bytes, whole: bool
    ) -> None:
        """There is no second one."""

    def on_tunnel(self, head: ResponseHead, connection: LegacyConnection, rest: bytes) -> None:
        """There is none after the head."""
