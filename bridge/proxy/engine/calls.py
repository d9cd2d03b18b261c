"""Handlers under the event loop: bounded threads, and answers that come back to the loop.

Threads and what a handler may do are `bridge.proxy.python.threads`'s. Here a request waits for a
thread without holding one, its body is complete before the handler starts, and what a handler
makes is written as fast as the visitor takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIEnvironment
from wsgiref.util import FileWrapper

from bridge.errors import UseLegacy, VisitorError
from bridge.proxy.engine.clock import clock
from bridge.proxy.python.environ import caller_keys, header_keys, target_keys
from bridge.proxy.python.threads import BUSY, Answer, HandlerThreads, Job, PythonFailed
from bridge.proxy.routing.handlers import PARAMS

if TYPE_CHECKING:
    from bridge.proxy.engine.turn import Turn

__all__ = ["Call", "Handlers", "Spool"]

_IN_MEMORY = 256 * 1024  # bytes of a body; what is larger goes to a temporary file
_PIECE = 64 * 1024
_SOON = 0.001  # seconds that a request waits for a thread that is at work
_AT_ONCE = 4  # handlers that may compute at a time
_WINDOW = 0.02  # seconds after which it is known whether they do
_HEAVY = 0.25, 1.5  # of one processor; the system counts in steps of a fifth of the window
_QUICK = 0.001  # seconds that a handler computes at most which is called quick
_LONG = 0.005  # seconds after which one that still runs is not
_SWITCH = 0.0002  # seconds that any other may keep the interpreter from the event loop
_LINE = 8  # requests that wait for a thread, for each thread

_BASE: dict[str, Any] = {
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": FileWrapper,
    "wsgi.input_terminated": True,
    "SERVER_SOFTWARE": "bridge",
}


class _NotFresh(UseLegacy):
    """The gate found that the mirror lacks the visitor's own edit."""


class Spool:
    """A request body as it came: in memory, or in a file when it is large."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._lock = threading.Lock()
        self._at = 0
        self.size = 0

    def write(self, piece: bytes) -> None:
        self._file.write(piece)
        self.size += len(piece)

    def rewind(self) -> None:
        """Begin reading again."""
        self._at = 0

    def read(self) -> bytes:
        """The next piece, empty at the end."""
        data = self.read_at(self._at, _PIECE)
        self._at += len(data)
        return data

    def read_at(self, at: int, size: int) -> bytes:
        with self._lock:
            self._file.seek(at)
            return self._file.read(size)

    def close(self) -> None:
        with self._lock, contextlib.suppress(OSError):  # a full disk keeps nothing that is wanted
            self._file.close()


class _Input(io.RawIOBase):
    """`wsgi.input` over a spool; a handler that was given up reads nothing more."""

    def __init__(self, spool: Spool) -> None:
        self._spool, self._position = spool, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._spool.read_at(self._position, len(buffer))
        except ValueError:
            raise OSError("this request has been answered without its handler") from None
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _Load:
    """How much the handlers' threads compute. Used on the event loop's thread.

    `is_heavy`: much of one processor went into it just now. More than one is at work where they
    compute outside of the interpreter, a busy machine gives less. While nothing is known it is.

    How long a handler may keep the interpreter from the event loop follows from it: each time
    that it has to give it up costs a quick handler a good part of its own time.
    """

    def __init__(self) -> None:
        self.is_heavy = True
        self._quick = True
        self._ended = 0  # handlers, since the last look
        self._since, self._computed = time.perf_counter(), 0.0
        self.look(idle=True, quick=False)

    def ended(self) -> None:
        """One more handler is through."""
        self._ended += 1

    def look(self, *, idle: bool, quick: bool) -> None:
        """Measure; `idle` says that no handler runs, so that the next ones are unknown, `quick`
        that none has run for long."""
        now = time.perf_counter()
        seconds = now - self._since
        if not idle and seconds < _WINDOW:
            return
        total = time.process_time() - time.thread_time()
        computed, self._computed, self._since = total - self._computed, total, now
        least, most = _HEAVY
        self.is_heavy = idle or least * seconds < computed < most * seconds
        quick = quick and not idle and computed < _QUICK * self._ended
        self._ended = 0
        if quick != self._quick:
            self._quick = quick
            sys.setswitchinterval(_QUICK if quick else _SWITCH)


class Handlers:
    """The handlers that run or wait in this process."""

    def __init__(self, threads: HandlerThreads, loop: asyncio.AbstractEventLoop) -> None:
        self._threads, self._loop = threads, loop
        self._most = threads.limit * (1 + _LINE)
        self._running = 0
        self._starting: set[Call] = set()
        self._news: deque[Call | None] = deque()
        self._told = self._spreads = False
        self._load = _Load()

    @property
    def running(self) -> int:
        """Those that run and those that wait."""
        return self._running

    def run(self, turn: Turn, spool: Spool | None) -> Call:
        """Run the handler of the request; `turn` is told what becomes of it."""
        call = Call(self, turn)
        conversation = turn.conversation
        conversation.ask_handler()
        environ = _environ(turn, spool)
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
                    raise _NotFresh
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

    __slots__ = ("_answer", "_handlers", "_over", "_turn", "busy", "deadline", "job", "seconds")

    def __init__(self, handlers: Handlers, turn: Turn) -> None:
        self._handlers, self._turn = handlers, turn
        self._answer: Answer | None = None
        self._over = False
        self.job: Job | None = None
        now = clock.now
        self.seconds = turn.conversation.route.spec.timeout
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
            self.go_on()

    def _settle(self) -> None:
        turn, job = self._turn, self.job
        assert job is not None
        self._handlers.settled(self)
        try:
            answer = job.answer()
            try:
                turn.conversation.check_status(answer.status)
            except (UseLegacy, PythonFailed):
                answer.close()
                raise
        except (UseLegacy, PythonFailed) as error:
            self.fail(error)
            return
        except VisitorError as error:
            self._over = True
            turn.own(turn.conversation.page_for(error))
            return
        self._answer = answer
        pieces, ended, broken = answer.take()
        whole = ended and broken is None
        try:
            first = b"".join(pieces) if whole else b""
            turn.python_answered(answer.status, answer.headers, first, whole)
        except Exception as error:
            turn.own(turn.conversation.page_for(error))
            return
        if pieces and not whole:
            turn.pass_on_all(pieces)
        if ended and not whole and not self._over:
            turn.cut(f"python: {broken}")

    def go_on(self) -> None:
        """Write what there is, if the visitor takes it."""
        answer, turn = self._answer, self._turn
        if answer is None or self._over or turn.visitor.full:
            return
        pieces, ended, error = answer.take()
        if pieces:
            turn.pass_on_all(pieces)
        if ended and not self._over:
            if error is not None:
                turn.cut(f"python: {error}")
            else:
                turn.finish([])

    def fail(self, error: UseLegacy | PythonFailed) -> None:
        """The handler declined, failed, or was given up."""
        if self._over:
            return
        self._over = True
        self._handlers.settled(self)
        turn = self._turn
        conversation = turn.conversation
        if isinstance(error, _NotFresh):
            conversation.not_fresh()
        elif page := conversation.after_failure(error, taken=False):
            turn.own(page)
            return
        turn.python_failed()

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


def _environ(turn: Turn, spool: Spool | None) -> WSGIEnvironment:
    conversation, block = turn.conversation, turn.block
    head, decision = conversation.head, conversation.decision
    environ: WSGIEnvironment = {
        **_BASE,
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BufferedReader(_Input(spool)) if spool else io.BytesIO(),
        "REQUEST_METHOD": head.method,
        "RAW_URI": head.target.raw,
        "SERVER_PROTOCOL": f"HTTP/{head.version}",
        PARAMS: dict(decision.params),
        "bridge.decision": decision,
        "bridge.generation": conversation.table.generation,
    }
    known = block.environ if turn.is_known else None
    if known is None:
        known = header_keys(conversation.handler_headers())
        if (content_type := head.get("Content-Type")) is not None:
            known["CONTENT_TYPE"] = content_type
        known |= caller_keys(head, conversation.client)
        if turn.is_known:
            block.environ = known
    environ.update(known)
    environ["HTTP_X_REQUEST_ID"] = conversation.outcome.request_id
    if spool is not None:
        environ["CONTENT_LENGTH"] = str(spool.size)
    mount = conversation.route.spec.mount or ""
    environ.update(target_keys(head, mount))
    return environ
