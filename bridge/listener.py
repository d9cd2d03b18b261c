"""A small HTTP server for WSGI applications that few clients use, in a thread of any process.

One request per connection, on a bounded number of threads. A client that is slow or silent is
given up after a time: a pile of them costs seconds of waiting, never threads or memory. It is
for the operator's listener; visitors are served by gunicorn (`bridge.proxy.serve.server`).
"""

from __future__ import annotations

import contextlib
import errno
import io
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from email.message import Message
from typing import IO, TYPE_CHECKING, Any, cast
from wsgiref.headers import Headers
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

import structlog

from bridge.logs import traceback_text

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["BrokenBody", "Limits", "Listener"]

log = structlog.get_logger("bridge.listener")

_LINE = 65536  # bytes of a request line, as http.server has it
_CHUNK_LINE = 1024
_TRAILERS = 100
_LINGER = 2.0  # seconds
_LINGER_BYTES = 64 * 1024 * 1024


class Limits:
    """What a listener bears.

    threads: requests at a time; further connections wait in the kernel's queue.
    silence: seconds without a byte from the client.
    head: seconds for a request's head, all of it.
    whole: seconds for a whole request, its body included.
    """

    def __init__(
        self, threads: int = 16, silence: float = 10, head: float = 10, whole: float = 60
    ) -> None:
        self.threads, self.silence, self.head, self.whole = threads, silence, head, whole


class BrokenBody(OSError):
    """A request's body does not end as its head says."""


class _Body(io.RawIOBase):
    """`wsgi.input`: ends where the body ends, whether it has a length or is chunked.

    Reading raises BrokenBody, or TimeoutError when the client is silent. `before` is called
    ahead of the first read.
    """

    def __init__(
        self, source: io.BufferedIOBase, length: int, *, chunked: bool, before: Callable[[], None]
    ) -> None:
        self._source, self._left, self._chunked = source, length, chunked
        self._more = chunked
        self._before: Callable[[], None] | None = before

    @property
    def finished(self) -> bool:
        """Whether nothing of it is left to read."""
        return not self._left and not self._more

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._before and not self.finished:
            self._before()
            self._before = None
        if not self._left and self._more:
            self._next_chunk()
        view = memoryview(buffer).cast("B")
        if not self._left or not len(view):
            return 0
        # One read of the socket at most, so that the caller sees what is there.
        data = self._source.read1(min(len(view), self._left))
        if not data:
            raise BrokenBody(f"the body ended {self._left} bytes too early")
        view[: len(data)] = data
        self._left -= len(data)
        if self._chunked and not self._left and self._line(3) not in (b"\r\n", b"\n"):
            raise BrokenBody("a chunk of the body is longer than it says")
        return len(data)

    def _next_chunk(self) -> None:
        size = self._line(_CHUNK_LINE).partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            raise BrokenBody("a chunk of the body has no size")
        self._left = int(size, 16)
        if not self._left:
            for _ in range(_TRAILERS):
                if self._line(_LINE) in (b"\r\n", b"\n"):
                    self._more = False
                    return
            raise BrokenBody("the body has too many trailers")

    def _line(self, limit: int) -> bytes:
        line = self._source.readline(limit)
        if not line.endswith(b"\n"):
            raise BrokenBody("the chunked body ended too early, or has a line too long")
        return line


class _Answering(ServerHandler):
    """Runs the application for one request."""

    os_environ = {}  # noqa: RUF012 – wsgiref would show the application this process's secrets
    server_software = ""
    http_version = "1.1"
    headers: Headers  # typeshed does not know it; set when this is called

    def cleanup_headers(self) -> None:
        super().cleanup_headers()
        self.headers["Connection"] = "close"

    def close(self) -> None:
        # wsgiref's own writes a line to standard error; a scrape every few seconds is no news.
        super(ServerHandler, self).close()

    def log_exception(self, exc_info: Any) -> None:
        if not isinstance(exc_info[1], OSError):
            log.error("the listener's application failed", traceback=traceback_text(exc_info[1]))


class _Handler(WSGIRequestHandler):
    server: Listener
    server_version = "bridge"
    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # 0.9 has no way to say that something is wrong
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.limits.silence)

    def handle(self) -> None:
        # An OSError: the client is gone, or silent for too long. Nobody is there to be told.
        with contextlib.suppress(OSError):
            if not self._answer():
                self._linger()

    def _answer(self) -> bool:
        """Whether all that the client sends was read."""
        self.requestline = self.request_version = self.command = ""
        self.raw_requestline = self.rfile.readline(_LINE + 1)
        if not self.raw_requestline:
            return True
        if len(self.raw_requestline) > _LINE:
            self.send_error(414)
            return False
        if not self.parse_request():
            return False
        length = _length(self.headers)
        if isinstance(length, str):
            self.send_error(400, length)
            return False
        self.server.allow_whole(self.request)
        environ = self.get_environ()
        if length is None:
            environ.pop("CONTENT_LENGTH", None)
        environ["wsgi.input_terminated"] = True
        body = _Body(
            self.rfile, length or 0, chunked=length is None, before=self._continue_if_asked
        )
        handler = _Answering(
            cast(IO[bytes], body),
            cast(IO[bytes], self.wfile),
            self.get_stderr(),
            environ,
            multithread=True,
        )
        handler.run(self.server.app)
        return body.finished

    def handle_expect_100(self) -> bool:
        return True  # said when the application reads: it may refuse by the head alone

    def _continue_if_asked(self) -> None:
        if self.headers.get("Expect", "").strip().lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _linger(self) -> None:
        """Read on for a while: a client that is still sending would else see its connection
        reset, and not the answer."""
        self.connection.shutdown(socket.SHUT_WR)
        end, left = time.monotonic() + _LINGER, _LINGER_BYTES
        while left > 0 and (seconds := end - time.monotonic()) > 0:
            self.connection.settimeout(seconds)
            data = self.connection.recv(65536)
            if not data:
                return
            left -= len(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a scrape every few seconds is no news."""


def _length(headers: Message) -> int | str | None:
    """Bytes of the body; None when it is chunked; what is wrong when that cannot be told."""
    lengths = headers.get_all("Content-Length", [])
    codings = headers.get_all("Transfer-Encoding", [])
    if codings:
        if lengths or [coding.strip().lower() for coding in codings] != ["chunked"]:
            return "Transfer-Encoding must be chunked, alone and without Content-Length"
        return None
    if not lengths:
        return 0
    if len(lengths) > 1 or not re.fullmatch(r"[0-9]{1,18}", lengths[0].strip(" \t")):
        return "Content-Length must be there once, a number"
    return int(lengths[0])


class Listener(socketserver.ThreadingMixIn, WSGIServer):
    """Listens from the start; `serve_forever` serves until `shutdown` from another thread.

    host, port: where; port 0 is a free one, which is then in `server_port`.

    Raises OSError when it cannot listen there.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, host: str, port: int, app: WSGIApplication, limits: Limits | None = None
    ) -> None:
        self.app = app
        self.limits = limits or Limits()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._slots = threading.BoundedSemaphore(self.limits.threads)
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        super().__init__((host, port), _Handler)

    def __repr__(self) -> str:
        return f"<Listener on port {self.server_port}, {self.active} active>"

    @property
    def active(self) -> int:
        """Requests that are being answered now."""
        with self._lock:
            return len(self._deadlines)

    def server_bind(self) -> None:
        # HTTPServer's own asks the DNS for this machine's name, which may take its time.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def allow_whole(self, request: Any) -> None:
        """The head is here: give the connection its time for all the rest."""
        with self._lock:
            self._deadlines[request] = time.monotonic() + self.limits.whole

    # --- called by socketserver

    def get_request(self) -> tuple[socket.socket, Any]:
        # With every thread taken, connections wait unaccepted. Not for long at a time: deadlines
        # and `shutdown` are looked at between two calls. socketserver passes over an OSError.
        if not self._slots.acquire(timeout=0.1):
            raise TimeoutError
        try:
            connection, address = super().get_request()
        except BaseException:
            self._slots.release()
            raise
        with self._lock:
            self._deadlines[connection] = time.monotonic() + self.limits.head
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        try:
            super().shutdown_request(request)
        finally:
            with self._lock:
                self._deadlines.pop(request, None)
            self._slots.release()

    def service_actions(self) -> None:
        now = time.monotonic()
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if now > deadline:
                    # Its thread reads an end, and may still answer.
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RD)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        assert error is not None
        log.error("the listener failed", traceback=traceback_text(error))

    def wait_until_idle(self, bound: float) -> bool:
        """After `shutdown`: wait at most `bound` seconds for what is being answered."""
        deadline = time.monotonic() + bound
        while self.active and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.active


_ADVICE = {
    errno.EADDRINUSE: "stop what listens there (`ss -ltnp` shows it), or choose another",
    errno.EADDRNOTAVAIL: "no interface of this machine has this address (`ip address`)",
    errno.EACCES: "ports below 1024 are for root; a socket of systemd's may have one",
}


def advice(error: OSError, option: str) -> str:
    """What to do where one cannot listen on the address that `option` has."""
    number = 0 if isinstance(error, socket.gaierror) else error.errno or 0
    if number == errno.EADDRINUSE:
        return f"{_ADVICE[number]} {option}"
    return _ADVICE.get(number, "write an address of this machine, or 0.0.0.0 for all")
