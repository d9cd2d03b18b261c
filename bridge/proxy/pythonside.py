"""Runs handlers: bounded threads, a time limit to the first byte, and a clean way out.

A handler has failed when it raised, was too slow, or answered 5xx; it has declined when it
raised UseLegacy or sent the header `X-Bridge-Use-Legacy` (for frameworks that catch
exceptions). What follows from that is the dispatcher's business. Nothing of the answer is
given on before the first byte of the body exists, so nothing has to be taken back.
"""

from __future__ import annotations

import contextvars
import io
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from wsgiref.types import WSGIApplication, WSGIEnvironment

from bridge.errors import BridgeError, UseLegacy, VisitorError

__all__ = ["DECLINE_HEADER", "Answer", "HandlerThreads", "PythonFailed", "ReplayableInput"]

DECLINE_HEADER = "X-Bridge-Use-Legacy"
"""A WSGI application declines a request by sending this header; its value is the reason."""

_REPLAYABLE = 1024 * 1024  # a handler that read more than this has taken the request


class PythonFailed(BridgeError):
    """The Python side could not answer. `reason` is a fixed word, `cause` the exception."""

    def __init__(self, reason: str, detail: str, cause: BaseException | None = None) -> None:
        self.reason, self.detail, self.cause = reason, detail, cause
        super().__init__(f"{reason}: {detail}")


@dataclass(eq=False)
class Answer:
    """A handler's answer up to its first byte. Iterate over it once, and close it always."""

    status: str
    headers: list[tuple[str, str]]
    _first: list[bytes]
    _rest: Iterator[bytes]
    _close: Callable[[], None] | None
    _context: contextvars.Context

    def __iter__(self) -> Iterator[bytes]:
        yield from self._first
        while True:
            try:
                # In the handler's own context: frameworks keep the request in contextvars.
                yield self._context.run(next, self._rest)
            except StopIteration:
                return

    def close(self) -> None:
        """Call the `close` of the application's iterable, once (PEP 3333)."""
        close, self._close = self._close, None
        if close:
            self._context.run(close)


@dataclass(eq=False, slots=True)
class _Job:
    app: WSGIApplication
    environ: WSGIEnvironment
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    result: Answer | BaseException | None = None
    abandoned: bool = False

    def run(self) -> None:
        result: Answer | BaseException
        try:
            result = _first_byte(self.app, self.environ)
        except BaseException as error:
            result = error
        with self.lock:
            self.result = result
            late = self.abandoned
        self.done.set()
        if late and isinstance(result, Answer):
            result.close()


class HandlerThreads:
    """At most `limit` handlers at a time; daemon threads, so a stuck one never blocks an exit."""

    def __init__(self, limit: int = 16) -> None:
        self.limit = limit
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._free = threading.Semaphore(limit)
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<HandlerThreads: {self._threads} of {self.limit} started>"

    def run(self, app: WSGIApplication, environ: WSGIEnvironment, seconds: float) -> Answer:
        """Run `app` to its first byte within `seconds`.

        Raises UseLegacy when it declines, VisitorError when a view says so, and PythonFailed
        with the reason `python-busy`, `python-timeout` or `python-error`.
        """
        if not self._free.acquire(timeout=min(seconds, 1.0)):
            raise PythonFailed("python-busy", f"all {self.limit} handler threads are busy")
        job = _Job(app, environ)
        self._start_thread()
        self._jobs.put(job)
        if not job.done.wait(seconds):
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


def _first_byte(app: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    context = contextvars.copy_context()
    return context.run(_run, app, environ, context)


def _run(app: WSGIApplication, environ: WSGIEnvironment, context: contextvars.Context) -> Answer:
    started: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        if started and exc_info is None:
            raise RuntimeError("start_response was called twice")
        started[:] = [status, list(headers)]
        return written.append

    iterable = app(environ, start_response)
    close: Callable[[], None] | None = getattr(iterable, "close", None)
    try:
        pieces = iter(iterable)
        first = next((piece for piece in pieces if piece), b"")
        if not started:
            raise RuntimeError("the application did not call start_response")
        status, headers = started
        _check(status, headers)
        for name, value in headers:
            if name.lower() == DECLINE_HEADER.lower():
                raise UseLegacy(value)
    except BaseException:
        if close:
            close()
        raise
    head = [piece for piece in (*written, first) if piece]
    return Answer(status, headers, head, pieces, close, context)


def _check(status: str, headers: list[tuple[str, str]]) -> None:
    """What would break the response on the wire is the handler's failure, not the visitor's."""
    if not status[:3].isdigit() or not 200 <= int(status[:3]) <= 599:
        raise ValueError(f"{status!r} is no final HTTP status")
    for name, value in headers:
        if not name or any(c in value or c in name for c in "\r\n\0"):
            raise ValueError(f"line break or NUL in the response header {name!r}")


class ReplayableInput:
    """`wsgi.input` for a handler: remembers what was read, so that legacy can have it after all.

    `taken` says that the handler read too much for that.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._read = io.BytesIO()
        self._detached = False
        self._size = 0
        self.taken = False

    def _remember(self, data: bytes) -> bytes:
        if not self.taken:
            self._size += len(data)
            if self._size > _REPLAYABLE:
                self.taken = True
                self._read = io.BytesIO()
            else:
                self._read.write(data)
        return data

    def read(self, size: int = -1, /) -> bytes:
        self._guard()
        return self._remember(self._stream.read(size) if size >= 0 else self._stream.read())

    def readline(self, size: int = -1, /) -> bytes:
        self._guard()
        return self._remember(self._stream.readline(size) if size >= 0 else self._stream.readline())

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
