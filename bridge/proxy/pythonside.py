"""Runs handlers: bounded threads, a time limit to the first byte, and a clean way out.

A handler has failed when it raised, was too slow, or answered 5xx; it has declined when it
raised UseLegacy or sent the header `X-Bridge-Use-Legacy` (for frameworks that catch
exceptions). What follows from that is the dispatcher's business. Nothing of the answer is
given on before the first byte of the body exists, so nothing has to be taken back.
"""

from __future__ import annotations

import contextlib
import contextvars
import io
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
from bridge.proxy.body import content_length

__all__ = ["DECLINE_HEADER", "Answer", "HandlerThreads", "PythonFailed", "ReplayableInput"]

DECLINE_HEADER = "X-Bridge-Use-Legacy"
"""A WSGI application declines a request by sending this header; its value is the reason."""

log = structlog.get_logger("bridge.proxy")

_STATUS = re.compile(r"[2-5][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_AHEAD = 64 * 1024  # bytes of a body that a handler makes before the visitor takes them
_PATIENCE = 300.0  # seconds that a slow upload to a handler may take
_REPLAYABLE = 1024 * 1024  # a handler that read more than this has taken the request


class PythonFailed(BridgeError):
    """The Python side could not answer. `reason` is a fixed word, `cause` the exception."""

    def __init__(self, reason: str, detail: str, cause: BaseException | None = None) -> None:
        self.reason, self.detail, self.cause = reason, detail, cause
        super().__init__(f"{reason}: {detail}")


class Answer:
    """A handler's answer up to its first byte. Iterate over it once, and close it always.

    The body is made in the handler's own thread to its end: frameworks keep the request in
    thread-local objects (TurboGears) and in contextvars (Flask). The thread waits when the
    visitor is slower.
    """

    def __init__(self, status: str, headers: list[tuple[str, str]], first: list[bytes]) -> None:
        self.status, self.headers = status, headers
        self._pieces = deque(first)
        self._size = sum(map(len, first))  # bytes waiting for the visitor
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

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

    def fill(self, pieces: Iterator[bytes]) -> None:
        """In the handler's thread: hand over what is left of the body."""
        try:
            while not self._closed and (piece := next(pieces, None)) is not None:
                with self._changed:
                    if piece:
                        self._pieces.append(piece)
                        self._size += len(piece)
                        self._changed.notify()
                    while self._size >= _AHEAD and not self._closed:
                        self._changed.wait()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()


@dataclass(eq=False, slots=True)
class _Job:
    app: WSGIApplication
    environ: WSGIEnvironment
    context: contextvars.Context
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    result: Answer | BaseException | None = None
    abandoned: bool = False

    def run(self) -> None:
        """The handler from its call to the `close` of what it returned, in one context."""
        self.context.run(self._run)

    def _run(self) -> None:
        try:
            with _called(self.app, self.environ) as (answer, rest):
                self._settle(answer)
                answer.fill(rest)
        except BaseException as error:
            if self.result is None:
                self._settle(error)
            else:
                log.error("closing a response failed", traceback=traceback_text(error))

    def _settle(self, result: Answer | BaseException) -> None:
        with self.lock:
            self.result = result
            if self.abandoned and isinstance(result, Answer):
                result.close()
        self.done.set()


class HandlerThreads:
    """At most `limit` handlers at a time; daemon threads, so a stuck one never blocks an exit.

    A handler that streams counts until its last byte is handed over.
    """

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<HandlerThreads: {self._threads} of {self.limit} started>"

    def run(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        seconds: float,
        waited: Callable[[], float] = lambda: 0.0,
        context: contextvars.Context | None = None,
    ) -> Answer:
        """Run `app` to its first byte within `seconds`, not counting those that it `waited` for
        a visitor who sends slowly. It runs in `context`, or in an empty one.

        Raises UseLegacy when it declines, VisitorError when a view says so, and PythonFailed
        with the reason `python-busy`, `python-timeout` or `python-error`.
        """
        if not self._free.acquire(timeout=min(seconds, 1.0)):
            raise PythonFailed("python-busy", f"all {self.limit} handler threads are busy")
        job = _Job(app, environ, contextvars.Context() if context is None else context)
        self._start_thread()
        self._jobs.put(job)
        deadline = time.monotonic() + seconds
        while (left := deadline + waited() - time.monotonic()) > 0:
            if job.done.wait(max(left, 0.05)):
                break
        if not job.done.is_set():
            with job.lock:
                job.abandoned = job.result is None
            if job.abandoned:
                raise PythonFailed("python-timeout", f"no first byte within {seconds:g} s")
        result = job.result
        if isinstance(result, UseLegacy | VisitorError):
            raise result
        if isinstance(result, BaseException):
            raise PythonFailed(
                "python-error", f"{type(result).__name__}: {result}", result
            ) from result
        assert result is not None
        return result

    def _start_thread(self) -> None:
        with self._lock:
            if self._waiting > 0:
                self._waiting -= 1  # an idle thread takes the job
                return
            self._threads += 1
        threading.Thread(target=self._work, name="bridge-handler", daemon=True).start()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            job.run()
            del job
            with self._lock:
                self._waiting += 1
            self._free.release()


@contextlib.contextmanager
def _called(
    app: WSGIApplication, environ: WSGIEnvironment
) -> Iterator[tuple[Answer, Iterator[bytes]]]:
    """The answer with its first byte, and the rest of the body; at the end the application's
    iterable is closed (PEP 3333)."""
    started: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if started and exc_info is None:
            raise RuntimeError("start_response was called twice")
        started[:] = [status, list(headers)]
        return written.append

    iterable = app(environ, start_response)
    try:
        pieces = iter(iterable)
        first = next((piece for piece in pieces if piece), b"")
        if not started:
            raise RuntimeError("the application did not call start_response")
        status, headers = started
        _check(status, headers)
        if not first and not any(written):
            _check_empty(environ["REQUEST_METHOD"], status, headers)
        for name, value in headers:
            if name.lower() == DECLINE_HEADER.lower():
                raise UseLegacy(value)
        yield Answer(status, headers, [piece for piece in (*written, first) if piece]), pieces
    finally:
        if close := getattr(iterable, "close", None):
            close()


def _check(status: str, headers: list[tuple[str, str]]) -> None:
    """What would break the response on the wire is the handler's failure, not the visitor's."""
    if not _STATUS.fullmatch(status):
        raise ValueError(f"{status!r} is no final HTTP status")
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"the response header {name!r} cannot be sent as it is")
    lengths = [value for name, value in headers if name.lower() == "content-length"]
    if lengths and content_length(headers) is None:
        raise ValueError(f"Content-Length {', '.join(lengths)}")


def _check_empty(method: str, status: str, headers: list[tuple[str, str]]) -> None:
    """No body at all where one was announced can still be answered by the other side."""
    if content_length(headers) and method != "HEAD" and status[:3] not in ("204", "205", "304"):
        raise ValueError("the body is empty and Content-Length is not")


class ReplayableInput:
    """`wsgi.input` for a handler: remembers what was read, so that legacy can have it after all.

    `taken` says that the handler read too much for that.
    """

    def __init__(self, stream: Any, length: int | None = None) -> None:
        """`length` is what the visitor announced, in bytes, or None for a chunked body."""
        self._stream, self._length = stream, length
        self._read = io.BytesIO()
        self._detached = False
        self._size = 0
        self._waited = 0.0
        self._waits_since: float | None = None
        self.taken = False

    @property
    def seconds_waited(self) -> float:
        """How long the handler has waited for the visitor's bytes, up to now; a visitor who
        sends nothing at all is not waited for without end."""
        since = self._waits_since
        now = time.monotonic() - since if since is not None else 0.0
        return min(self._waited + now, _PATIENCE)

    def read(self, size: int = -1, /) -> bytes:
        data = self._receive(self._stream.read, size)
        self._check_whole(size < 0 or len(data) < size)
        return data

    def readline(self, size: int = -1, /) -> bytes:
        data = self._receive(self._stream.readline, size)
        self._check_whole(not data.endswith(b"\n") and (size < 0 or len(data) < size))
        return data

    def _receive(self, read: Callable[..., bytes], size: int) -> bytes:
        self._guard()
        self._waits_since = time.monotonic()
        try:
            data = read(size) if size >= 0 else read()
        except VisitorError:
            raise
        except Exception as error:  # servers raise their own kinds for a broken body
            raise VisitorError(400, f"the request body breaks off: {error}") from None
        finally:
            self._waited, self._waits_since = self.seconds_waited, None
        self._size += len(data)
        if self._size > _REPLAYABLE:
            self.taken, self._read = True, io.BytesIO()
        else:
            self._read.write(data)
        return data

    def _check_whole(self, ended: bool) -> None:
        """A handler must not take half of a form for all of it: servers end a body quietly
        when the visitor hangs up."""
        if ended and self._length is not None and self._size < self._length:
            early = self._length - self._size
            raise VisitorError(400, f"the request body ends {early} bytes early")

    def _guard(self) -> None:
        if self._detached:
            raise OSError("this request has been answered without its handler")

    def detach(self) -> None:
        """From now on a handler that was given up gets no more of the visitor's bytes."""
        self._detached = True

    def readlines(self, hint: int = -1, /) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line

    def replay(self) -> Replayed:
        """The whole body from its beginning, for the legacy side."""
        self._read.seek(0)
        return Replayed(self._read, self._stream)


class Replayed:
    """What the handler read, and then the rest."""

    def __init__(self, first: Any, rest: Any) -> None:
        self._first, self._rest = first, rest

    def read(self, size: int = -1, /) -> bytes:
        data: bytes = self._first.read(size) or self._rest.read(size)
        return data
