"""One connection to a legacy backend: connecting, sending and receiving, each within a time.

Whatever can be sent or received here blocks at most the given seconds. What the bytes mean is
`bridge.proxy.http.wire`'s; which connection a request gets is `bridge.proxy.wsgi.legacy`'s.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
from dataclasses import dataclass

from bridge.errors import LegacyError, VisitorError
from bridge.proxy.backends.servers import Server
from bridge.proxy.http.wire import only_interim
from bridge.proxy.routing import models
from bridge.proxy.wsgi.upload import EarlyAnswer
from bridge.reasons import Stage

__all__ = ["Address", "Connection"]

_RECEIVE = 64 * 1024


class Address:
    """Where a backend listens, and how to connect to it."""

    def __init__(self, spec: models.Backend, server: Server) -> None:
        self._server, parts = server, server.parts
        self._seconds = spec.timeouts.connect
        self._unix = parts.path if parts.scheme == "unix" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None

    def connect(self) -> Connection:
        """A new connection. Raises LegacyError with the stage `connect`."""
        try:
            return Connection(self._connect(), self._server)
        except TimeoutError:
            message = f"no connection within {self._seconds:g} s"
            raise LegacyError(Stage.CONNECT, 504, message) from None
        except OSError as error:
            raise LegacyError(Stage.CONNECT, 502, error.strerror or str(error)) from None

    def _connect(self) -> socket.socket:
        if self._unix is not None:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._seconds)
                sock.connect(self._unix)
            except OSError:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((self._host, self._port), timeout=self._seconds)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                return self._tls.wrap_socket(sock, server_hostname=self._host)
        except OSError:
            sock.close()
            raise
        return sock


@dataclass(eq=False, slots=True)
class Connection:
    """A connected socket, and what came over it that nobody has asked for yet.

    `pooled` says that it has carried a request before, `idle_since` when that ended.
    """

    sock: socket.socket
    server: Server
    pooled: bool = False
    idle_since: float = 0.0
    buffer: bytes = b""
    ended: bool = False

    def has_news(self) -> bool:
        """Whether the backend has sent something, or hung up. Does not block.

        Bytes of TLS itself, such as the session tickets after a handshake, are no news.
        """
        if self.buffer or self.ended:
            return True
        decrypted = self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0
        if not decrypted and not _wait(self.sock, select.POLLIN, 0):
            return False
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.setblocking(False)
            try:
                self.buffer = self.sock.recv(_RECEIVE)
                self.ended = not self.buffer
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return False
            except OSError:
                self.ended = True
        return True

    def has_answer(self) -> bool:
        """Whether the backend has begun its final answer, or hung up. Does not block.

        Interim answers (1xx) are kept for who reads the answer's head.
        """
        if not self.has_news():
            return False
        if not self.ended:
            self.sock.setblocking(False)
            try:
                received = self.sock.recv(_RECEIVE)
                self.buffer += received
                self.ended = not received
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass  # what there is was read before
            except OSError:
                self.ended = True
        return self.ended or not only_interim(self.buffer)

    def send(self, data: bytes, seconds: float) -> None:
        """Send all of `data`. Raises EarlyAnswer when the backend answers before it took
        everything, TimeoutError when it takes nothing for `seconds`, and OSError."""
        left = memoryview(data)
        deadline = time.monotonic() + seconds
        self.sock.setblocking(False)
        while left:
            try:
                sent = self.sock.send(left)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
                # A backend that has answered may well have stopped reading.
                events = select.POLLIN
                if not isinstance(error, ssl.SSLWantReadError):
                    events |= select.POLLOUT
                if not _wait(self.sock, events, max(deadline - time.monotonic(), 0)):
                    raise TimeoutError from None
                if self.has_answer():
                    raise EarlyAnswer from None
            else:
                left, deadline = left[sent:], time.monotonic() + seconds

    def receive(self, seconds: float) -> bytes:
        """Some bytes, or nothing at the end. Raises TimeoutError after `seconds`, and OSError."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        if self.ended:
            return b""
        self.sock.settimeout(seconds)
        return self.sock.recv(_RECEIVE)

    def wait_for_visitor(self, visitor: socket.socket, seconds: float) -> None:
        """Block until there is something to read from the visitor. Raises EarlyAnswer when the
        backend answers first, and VisitorError when neither says anything for so long."""
        poll = select.poll()
        poll.register(visitor, select.POLLIN)
        poll.register(self.sock, select.POLLIN)
        while not self.has_answer():
            ready = poll.poll(seconds * 1000)
            if not ready:
                raise VisitorError(408, f"nothing of the body for {seconds:g} s")
            if any(fd == visitor.fileno() for fd, _ in ready):
                return
        raise EarlyAnswer

    def close(self) -> None:
        self.sock.close()


def _wait(sock: socket.socket, events: int, seconds: float) -> bool:
    """Whether one of `events` comes within `seconds`. (`select` fails beyond descriptor 1023.)"""
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(seconds * 1000))
