"""A legacy server that does exactly what a test tells it, byte for byte.

A real server cannot be made to send garbage or to stall on demand; this one can. It keeps the
exact bytes that it received. For everything else the tests use a real nginx with php-fpm.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from stack.waiting import wait_for

__all__ = ["BOUND", "Backend", "Call", "Received", "Script", "answer", "plain"]

BOUND = 10.0
"""Seconds that anything in these tests may take at most before it counts as never."""

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(eq=False)
class Received:
    """A request as it came: `raw` is the head, byte for byte, and `body` what was read of it.

    `connection` numbers the connections of the backend from 1, `turn` the requests on one.
    """

    raw: bytes
    connection: int
    turn: int
    body: bytes = b""

    @property
    def line(self) -> bytes:
        return self.raw.partition(b"\r\n")[0]

    @property
    def method(self) -> str:
        return self.line.partition(b" ")[0].decode()

    @property
    def target(self) -> bytes:
        return self.line.split(b" ")[1]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names as spelt, values as Latin-1 text, in order."""
        lines = self.raw.decode("latin-1").split("\r\n")[1:-2]
        return [(name, value.strip(" ")) for name, _, value in (x.partition(":") for x in lines)]

    def all(self, name: str) -> list[str]:
        """Every value of the header `name`, any case, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The first value of the header `name`, or None."""
        return next(iter(self.all(name)), None)


@dataclass(eq=False)
class Call:
    """One request, for the script that answers it."""

    sock: socket.socket
    received: Received
    _buffer: bytes = b""
    closed: bool = False

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(raw)

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes of the body, or fewer when the other side ends."""
        while len(self._buffer) < size and (data := self.sock.recv(65536)):
            self._buffer += data
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        self.received.body += piece
        return piece

    def body(self) -> bytes:
        """The whole body, without chunking."""
        if (length := self.received.get("Content-Length")) is not None:
            return self.read(int(length))
        if self.received.get("Transfer-Encoding") != "chunked":
            return b""
        body = b""
        while True:
            size = int(self._line(), 16)
            body += self.read(size)
            self._line()
            if not size:
                self.received.body = body
                return body

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            byte = self.read(1)
            if not byte:
                raise OSError("the body ended early")
            line += byte
        return line

    def close(self) -> None:
        """End the connection cleanly."""
        self.closed = True
        self.sock.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def left(self) -> bool:
        """Wait until the bridge has ended the connection; False when it sent something, or did
        nothing within the bound."""
        try:
            return self.sock.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


Script = Callable[[Call], object]


def answer(raw: bytes, *, close: bool = False) -> Script:
    """Read the body, then answer with these bytes."""

    def script(call: Call) -> None:
        call.body()
        call.send(raw)
        if close:
            call.close()

    return script


def plain(status: str = "200 OK", *headers: str, body: bytes = b"ok", length: bool = True) -> bytes:
    """The bytes of a response: `plain("200 OK", "X-One: 1", body=b"hello")`."""
    lines = [f"HTTP/1.1 {status}", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass(eq=False)
class Backend:
    """The server. It answers `OK` unless `when` says otherwise for a path."""

    unix: Path | None = None
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    _scripts: dict[bytes, Script] = field(default_factory=dict)
    _open: set[socket.socket] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.unix is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        else:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(str(self.unix))
            self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, name="double", daemon=True)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.hang_up()

    def when(self, path: str, script: Script | bytes) -> None:
        """Answer requests whose target is `path`, or `path?…`, with a script or with bytes."""
        self._scripts[path.encode("latin-1")] = (
            answer(script) if isinstance(script, bytes) else script
        )

    def clear(self) -> None:
        """Forget every script and every request."""
        with self._lock:
            self._scripts, self.received = {}, []

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    def hang_up(self) -> None:
        """End every open connection."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it has ended already

    def of(self, path: str) -> list[Received]:
        """The requests for `path` so far."""
        wanted = path.encode("latin-1")
        return [r for r in self.received if r.target.partition(b"?")[0] == wanted]

    def only(self) -> Received:
        """The one request that came."""
        (received,) = self.received
        return received

    def wait(self, path: str, count: int = 1) -> Received:
        """Wait until `count` requests for `path` came; returns the last."""
        wait_for(lambda: len(self.of(path)) >= count, BOUND, f"{count} requests for {path}")
        return self.of(path)[-1]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(BOUND)
            with self._lock:
                self.connections += 1
                number = self.connections
            threading.Thread(
                target=self._serve, args=(sock, number), name=f"double-{number}", daemon=True
            ).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            if self.tls is not None:
                sock = self.tls.wrap_socket(sock, server_side=True)
            with self._lock:
                self._open.add(sock)
            turn, buffer = 0, b""
            while (found := _read_head(sock, buffer)) is not None:
                raw, buffer = found
                turn += 1
                received = Received(raw, number, turn)
                call = Call(sock, received, buffer)
                path = received.target.partition(b"?")[0]
                with self._lock:
                    self.received.append(received)
                    script = self._scripts.get(path) or answer(OK)
                script(call)
                if call.closed:
                    return
                buffer = call._buffer
        except OSError:
            return  # the bridge hung up, which is what some tests are about
        finally:
            with self._lock:
                self._open.discard(sock)
            sock.close()


_END = re.compile(rb"\r\n\r\n")


def _read_head(sock: socket.socket, buffer: bytes) -> tuple[bytes, bytes] | None:
    """The bytes of the next head with its empty line, and what follows; None at the end."""
    while not (end := _END.search(buffer)):
        data = sock.recv(65536)
        if not data:
            return None
        buffer += data
    return buffer[: end.end()], buffer[end.end() :]
