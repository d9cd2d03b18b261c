"""Handlers under the event loop: bounded threads, and answers that come back to the loop.

Threads and what a handler may do are `bridge.proxy.python.threads`'s. Here a request waits for a
thread without holding one, and what a handler makes is passed on as fast as the visitor takes it.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import deque
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from bridge.errors import UseLegacy, VisitorError
from bridge.proxy.engine.clock import clock
from bridge.proxy.engine.interpreter import Load
from bridge.proxy.engine.ports import HandlerDownstream
from bridge.proxy.python.threads import BUSY, Answer, HandlerThreads, Job, PythonFailed

__all__ = ["Call", "Handlers", "NotFresh"]

_SOON = 0.001  # seconds that a request waits for a thread that is at work
_AT_ONCE = 4  # handlers that may compute at a time
_LONG = 0.005  # seconds after which one that still runs is not
_LINE = 8  # requests that wait for a thread, for each thread


class NotFresh(UseLegacy):
    """The gate found that the mirror lacks the visitor's own edit."""


class Handlers:
    """The handlers that run or wait in this process."""

    def __init__(self, threads: HandlerThreads, loop: asyncio.AbstractEventLoop) -> None:
        self._threads, self._loop = threads, loop
        self._most = threads.limit * (1 + _LINE)
        self._running = 0
        self._starting: set[Call] = set()
        self._news: deque[Call | None] = deque()
        self._told = self._spreads = False
        self._load = Load()

    @property
    def running(self) -> int:
        """Those that run and those that wait."""
        return self._running

    def run(self, downstream: HandlerDownstream, environ: WSGIEnvironment) -> Call:
        """Run the handler of the request; `downstream` is told what becomes of it."""
        call = Call(self, downstream)
        conversation = downstream.conversation
        if self._running >= self._most:
            self._look()
        if self._running >= self._most:
            self._loop.call_soon(call.fail, self._threads.busy())
            return call
        wanted = conversation.wanted
        app = conversation.route.app
        assert app is not None
        if wanted is not None:
            handler = app

            def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
                if not conversation.is_fresh():
                    raise NotFresh
                return handler(environ, start_response)

        context = wanted.context() if wanted else contextvars.Context()
        call.job = Job(app, environ, context, self._ended, conversation.press, call.tell)
        self._running += 1
        self._starting.add(call)
        if not self._threads.submit_soon(call.job) and not self._spreads:
            self._spreads = True
            self._loop.call_later(_SOON, self._spread)
        return call

    def _spread(self) -> None:
        """A few may have a thread each at once. More of them only where those wait for something
        else than the interpreter: threads that all compute do no more together than a few of
        them, and each of them, and legacy's traffic, waits for all the others."""
        self._load.look(idle=False, quick=self._are_quick())
        limit = self._threads.limit
        self._spreads = self._threads.spread(_AT_ONCE if self._load.is_heavy else limit)
        if self._spreads:
            self._loop.call_later(_SOON, self._spread)

    def _are_quick(self) -> bool:
        """Whether none of those that run has done so for long."""
        since = time.perf_counter() - _LONG
        return not any(call.job and 0 < call.job.started < since for call in self._starting)

    def tell(self, call: Call) -> None:
        """In a handler's thread: there is news of `call`."""
        self._news.append(call)
        if not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._look)

    def _ended(self) -> None:
        self._news.append(None)  # the loop need not wake up for that

    def _look(self) -> None:
        self._told = False
        news = self._news
        while news:
            call = news.popleft()
            if call is None:
                self._running -= 1
                self._load.ended()
            else:
                call.news()

    def settled(self, call: Call) -> None:
        self._starting.discard(call)

    def look(self, now: float) -> None:
        """Give up what has taken too long; called every few hundredths of a second."""
        self._look()
        self._load.look(idle=not self._threads.active, quick=self._are_quick())
        for call in [c for c in self._starting if c.deadline < now or c.busy < now]:
            assert call.job is not None
            if call.deadline < now:
                self._give_up(call, self._threads.late(call.seconds))
            elif not call.job.started:
                self._give_up(call, self._threads.busy())

    def _give_up(self, call: Call, error: PythonFailed) -> None:
        assert call.job is not None
        if call.job.abandon():
            call.fail(error)


class Call:
    """One handler that runs for one request."""

    __slots__ = (
        "_answer",
        "_downstream",
        "_handlers",
        "_over",
        "busy",
        "deadline",
        "job",
        "seconds",
    )

    def __init__(self, handlers: Handlers, downstream: HandlerDownstream) -> None:
        self._handlers, self._downstream = handlers, downstream
        self._answer: Answer | None = None
        self._over = False
        self.job: Job | None = None
        now = clock.now
        self.seconds = downstream.conversation.route.spec.timeout
        self.deadline = now + self.seconds
        self.busy = now + min(self.seconds, BUSY)

    def tell(self) -> None:
        self._handlers.tell(self)

    def news(self) -> None:
        """On the loop: there is a result, or more of the body."""
        if self._over:
            return
        if self._answer is None:
            self._settle()
        else:
            self.resume()

    def _settle(self) -> None:
        downstream, job = self._downstream, self.job
        assert job is not None
        self._handlers.settled(self)
        try:
            answer = job.answer()
            try:
                downstream.conversation.check_status(answer.status)
            except (UseLegacy, PythonFailed):
                answer.close()
                raise
        except (UseLegacy, PythonFailed, VisitorError) as error:
            self.fail(error)
            return
        self._answer = answer
        pieces, ended, broken = answer.take()
        whole = ended and broken is None
        try:
            first = b"".join(pieces) if whole else b""
            downstream.on_answer(answer.status, answer.headers, first, whole)
        except Exception as error:
            downstream.on_failure(error)
            return
        if pieces and not whole:
            downstream.on_pieces(pieces)
        if ended and not whole and not self._over:
            assert broken is not None
            downstream.on_failure(broken)

    def pause(self) -> None:
        """Nothing is to be done: what a handler makes meanwhile waits in its answer."""

    def resume(self) -> None:
        """Write what there is, if the visitor takes it."""
        answer, downstream = self._answer, self._downstream
        if answer is None or self._over or downstream.full:
            return
        pieces, ended, error = answer.take()
        if pieces:
            downstream.on_pieces(pieces)
        if ended and not self._over:
            if error is not None:
                downstream.on_failure(error)
            else:
                downstream.on_end([])

    def fail(self, error: Exception) -> None:
        """The handler declined, failed, or was given up."""
        if self._over:
            return
        self._over = True
        self._handlers.settled(self)
        self._downstream.on_failure(error)

    def cancel(self) -> None:
        """Nobody wants the answer any more."""
        if self._over:
            return
        self._over = True
        self._handlers.settled(self)
        if self._answer is not None:
            self._answer.close()
        elif self.job is not None and not self.job.abandon():
            result = self.job.result
            if isinstance(result, Answer):
                result.close()
        self.job = self._answer = None  # what refers to each other waits for the collector
