"""Runs handlers: bounded threads, a time limit to the first byte, and a clean way out.

A handler has failed when it raised, was too slow, or answered 5xx; it has declined when it
raised UseLegacy or sent the header `X-Bridge-Use-Legacy` (for frameworks that catch
exceptions). What follows from that is the dispatcher's business. Nothing of the answer is
given on before the first byte of the body exists, so nothing has to be taken back.
"""

from __future__ import annotations

import contextlib
import contextvars
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

import structlog

from bridge.errors import BridgeError, UseLegacy, VisitorError
from bridge.logs import traceback_text
from bridge.proxy.http.compress import Body, Press
from bridge.proxy.http.wire import TOKEN, content_length, lowered
from bridge.proxy.request.head import Headers
from bridge.reasons import Reason

__all__ = [
    "DECLINE_HEADER",
    "Answer",
    "HandlerThreads",
    "Job",
    "PythonFailed",
]

DECLINE_HEADER = "X-Bridge-Use-Legacy"
"""A WSGI application declines a request by sending this header; its value is the reason."""

log = structlog.get_logger("bridge.proxy")

_STATUS = re.compile(r"[2-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
_NAME = re.compile(TOKEN)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
BUSY = 1.0
"""Seconds that a request waits for a thread."""
_LONG = BUSY / 2
_SAID = (UseLegacy, VisitorError)  # what a handler raises on purpose
_DECLINE = DECLINE_HEADER.lower()
_AHEAD = 64 * 1024  # bytes of a body that a handler makes before the visitor takes them


class PythonFailed(BridgeError):
    """The Python side could not answer. `cause` is the exception."""

    def __init__(self, reason: Reason, detail: str, cause: BaseException | None = None) -> None:
        self.reason, self.detail, self.cause = reason, detail, cause
        super().__init__(f"{reason}: {detail}")


class Answer:
    """A handler's answer up to its first byte. Iterate over it once, and close it always.

    first: the pieces of the body up to that byte.
    length: bytes of body that are announced; None: it is not known.

    The body is made in the handler's own thread to its end: frameworks keep the request in
    thread-local objects (TurboGears) and in contextvars (Flask). The thread waits when the
    visitor is slower. A body of an announced length ends with its last byte, whatever the
    handler does then.
    """

    def __init__(
        self,
        status: str,
        headers: Headers,
        first: list[bytes],
        length: int | None,
    ) -> None:
        self.status, self.headers = status, headers
        self._left = length  # bytes that the handler still has to make
        self._pieces = deque(filter(None, map(self._wanted, first)))
        self._size = sum(map(len, self._pieces))  # bytes waiting for the visitor
        self._ended = self._left == 0
        self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self.on_change: Callable[[], None] | None = None
        """Called in the handler's thread when there is more to `take`."""

    def take(self) -> tuple[list[bytes], bool, BaseException | None]:
        """What there is of the body now, whether that is its end, and what broke it off."""
        with self._changed:
            pieces = list(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._changed.notify()
            return pieces, self._ended, self._error

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._changed:
                while not self._pieces and not self._ended:
                    self._changed.wait()
                if not self._pieces:
                    break
                piece = self._pieces.popleft()
                self._size -= len(piece)
                self._changed.notify()
            yield piece
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Say that no more is wanted: the handler's thread ends the application's iterable."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _wanted(self, piece: bytes) -> bytes:
        """`piece`, without what is beyond the announced length."""
        if self._left is not None:
            piece = piece[: self._left]
            self._left -= len(piece)
        return piece

    def fill(self, pieces: Iterator[bytes]) -> None:
        """In the handler's thread: hand over what is left of the body. What the handler does
        after its last byte is done too, but nobody waits for it, and its errors are raised."""
        try:
            while not (self._left == 0 or self._closed):
                piece = next(pieces, None)
                if piece is None:
                    break
                piece = self._wanted(piece)
                with self._changed:
                    if piece:
                        self._pieces.append(piece)
                        self._size += len(piece)
                        self._ended = self._left == 0
                        self._changed.notify()
                if self.on_change and piece:
                    self.on_change()
                with self._changed:
                    while self._size >= _AHEAD and not self._closed and not self._ended:
                        self._changed.wait()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                told, self._ended = self._ended, True
                self._changed.notify()
            if self.on_change and not told:
                self.on_change()
        if self._left == 0:
            next(pieces, None)


@dataclass(eq=False, slots=True)
class Job:
    """A call of a handler, for one of the threads.

    `press` compresses its answer. `on_change` is called in that thread when the result is there,
    and when there is more of the body; `on_end` when the handler is through with everything.
    """

    app: WSGIApplication
    environ: WSGIEnvironment
    context: contextvars.Context
    on_end: Callable[[], None]
    press: Press | None = None
    on_change: Callable[[], None] | None = None
    done: threading.Event | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    result: Answer | BaseException | None = None
    started: float = 0.0  # by time.perf_counter(); 0: not yet
    abandoned: bool = False

    def run(self) -> None:
        """The handler from its call to the `close` of what it returned, in one context."""
        with self.lock:
            self.started = 0.0 if self.abandoned else time.perf_counter()
        if self.started:
            self.context.run(self._run)

    def _run(self) -> None:
        try:
            with _called(self.app, self.environ, self.press) as (answer, rest):
                answer.on_change = self.on_change
                self._settle(answer)
                answer.fill(rest)
        except BaseException as error:
            if self.result is None:
                self._settle(error)
            else:
                log.error("a handler failed after its body", traceback=traceback_text(error))

    def _settle(self, result: Answer | BaseException) -> None:
        with self.lock:
            self.result = result
            if self.abandoned and isinstance(result, Answer):
                result.close()
        if self.done:
            self.done.set()
        if self.on_change:
            self.on_change()

    def abandon(self) -> bool:
        """Nobody wants it any more: it is not started, or ends as soon as it can. False when
        there is a result already; an answer has to be closed then."""
        with self.lock:
            self.abandoned = self.result is None
        return self.abandoned

    def answer(self) -> Answer:
        """The result. Raises UseLegacy when the handler declined, VisitorError when a view says
        so, and PythonFailed with the reason `python-error`."""
        result = self.result
        if isinstance(result, _SAID):
            raise result
        if isinstance(result, BaseException):
            raise PythonFailed(
                Reason.PYTHON_ERROR, f"{type(result).__name__}: {result}", result
            ) from result
        assert result is not None
        return result


class HandlerThreads:
    """At most `limit` handlers at a time; daemon threads, so a stuck one never blocks an exit.

    A handler that streams counts until its last byte is handed over.
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._backlog: deque[tuple[float, Job]] = deque()  # since when they wait
        self._most = limit  # threads that take jobs from there
        self._threads = 0
        self._waiting = 0
        self._active = 0

    def __repr__(self) -> str:
        return f"<HandlerThreads: {self._threads} of {self.limit} started>"

    @property
    def running(self) -> int:
        """Handlers that have a thread or wait for one that is at work."""
        return self._active + len(self._backlog)

    def run(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        seconds: float,
        waited: Callable[[], float] = lambda: 0.0,
        context: contextvars.Context | None = None,
        press: Press | None = None,
    ) -> Answer:
        """Run `app` to its first byte within `seconds`.

        waited: seconds that a visitor who sends slowly was waited for so far; they do not count.
        context: what it runs in; an empty one by default.
        press: compresses the body.

        Raises UseLegacy when it declines, VisitorError when a view says so, and PythonFailed
        with the reason `python-busy`, `python-timeout` or `python-error`.
        """
        if not self._free.acquire(timeout=min(seconds, BUSY)):
            raise self.busy()
        own = contextvars.Context() if context is None else context
        job = Job(app, environ, own, self._free.release, press, done=threading.Event())
        assert job.done
        self.submit(job)
        deadline = time.monotonic() + seconds
        while (left := deadline + waited() - time.monotonic()) > 0:
            if job.done.wait(max(left, 0.05)):
                break
        if not job.done.is_set() and job.abandon():
            raise self.late(seconds)
        return job.answer()

    def submit(self, job: Job) -> None:
        """Run `job` as soon as a thread is free; how many there are at a time is the caller's
        business. More than `limit` threads are never started."""
        with self._lock:
            self._active += 1
        self._start_thread()
        self._jobs.put(job)

    def submit_soon(self, job: Job) -> bool:
        """As `submit`, but a thread that is at work takes `job` after its own, if that is
        quick: waking one thread per request costs more than a short handler does. False when
        `spread` has to be called in a moment for the case that it is not quick."""
        with self._lock:
            if self._active:
                self._backlog.append((time.monotonic(), job))
                return False
        self.submit(job)
        return True

    @property
    def active(self) -> int:
        """Threads that are at work, or about to be."""
        return self._active

    def spread(self, most: int) -> bool:
        """Give what still waits for a quick thread to others, so that not more than `most` are
        at work; what has waited for long gets a thread in any case, one at a time. Whether
        anything had to wait."""
        with self._lock:
            self._most = most = min(most, self.limit)
            backlog = self._backlog
            if backlog and time.monotonic() - backlog[0][0] > _LONG:
                most = min(max(most, self._active + 1), self.limit)
            count = max(min(len(backlog), most - self._active), 0)
            jobs = [backlog.popleft()[1] for _ in range(count)]
            left = bool(backlog)
        for job in jobs:
            self.submit(job)
        return left or bool(jobs)

    def busy(self) -> PythonFailed:
        return PythonFailed(Reason.PYTHON_BUSY, f"all {self.limit} handler threads are busy")

    @staticmethod
    def late(seconds: float) -> PythonFailed:
        return PythonFailed(Reason.PYTHON_TIMEOUT, f"no first byte within {seconds:g} s")

    def _start_thread(self) -> None:
        with self._lock:
            if self._waiting > 0:
                self._waiting -= 1  # an idle thread takes the job
                return
            if self._threads >= self.limit:
                return  # the first that is free takes it
            self._threads += 1
        threading.Thread(target=self._work, name="bridge-handler", daemon=True).start()

    def _work(self) -> None:
        while True:
            job: Job | None = self._jobs.get()
            while job is not None:
                job.run()
                end = job.on_end
                with self._lock:
                    goes_on = self._backlog and self._active <= self._most
                    job = self._backlog.popleft()[1] if goes_on else None
                    if job is None:
                        self._active -= 1
                        # Whoever waits in the queue is next; only then is this thread idle.
                        self._waiting += self._jobs.empty()
                end()


@contextlib.contextmanager
def _called(
    app: WSGIApplication, environ: WSGIEnvironment, press: Press | None
) -> Iterator[tuple[Answer, Iterator[bytes]]]:
    """The answer with its first byte, and the rest of the body; at the end the application's
    iterable is closed (PEP 3333)."""
    started: list[Any] = []
    written: list[bytes] = []
    given = False  # the visitor may have the head

    def write(piece: bytes) -> None:
        if given:
            raise RuntimeError("write was called after the first byte of the body was returned")
        written.append(_bytes(piece))

    def start_response(status: str, headers: Headers, exc_info: Any = None) -> Any:
        if started and exc_info is None:
            raise RuntimeError("start_response was called twice")
        if exc_info is not None:
            try:
                if given or any(written):
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # it refers to this frame
        started[:] = [status, list(headers)]
        return write

    iterable = app(environ, start_response)
    try:
        pieces: Iterator[bytes] = map(_bytes, iterable)
        first = next(filter(None, pieces), b"")
        if not started:
            raise RuntimeError("the application did not call start_response")
        status, headers = started
        length = _check(status, headers)
        if not first and not any(written):
            _check_empty(environ["REQUEST_METHOD"], status, length)
        for name, value in headers:
            if lowered(name) == _DECLINE:
                raise UseLegacy(value)
        given = True
        made = [piece for piece in (*written, first) if piece]
        if press is not None:
            whole = isinstance(iterable, list | tuple) and len(iterable) == 1
            if length is None and whole and environ["REQUEST_METHOD"] != "HEAD":
                length = sum(map(len, made))
            body = Body(headers, made, pieces, length)
            headers, made, pieces, length = press(environ["REQUEST_METHOD"], status, body)
        yield Answer(status, headers, made, length), pieces
    finally:
        if close := getattr(iterable, "close", None):
            close()


def _bytes(piece: object) -> bytes:
    """A piece of a body, which the handler may change afterwards if it is no `bytes`."""
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"a piece of the body is of type {type(piece).__name__}, and must be bytes")


def _check(status: str, headers: Headers) -> int | None:
    """The announced length of the body. What would break the response on the wire is the
    handler's failure, not the visitor's."""
    if not _STATUS.fullmatch(status):
        raise ValueError(f"{status!r} is no final HTTP status")
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the response header {name!r} cannot be sent as it is")
    length = content_length(headers)
    if length is None:
        lengths = [value for name, value in headers if lowered(name) == "content-length"]
        if lengths:
            raise ValueError(f"Content-Length {', '.join(lengths)[:60]}")
    return length


def _check_empty(method: str, status: str, length: int | None) -> None:
    """No body at all where one was announced can still be answered by the other side."""
    if length and method != "HEAD" and status[:3] not in ("204", "205", "304"):
        raise ValueError("the body is empty and Content-Length is not")
