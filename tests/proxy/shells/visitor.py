"""A visitor at the level of bytes, and what they see.

It shares no code with the bridge: a mistake of the bridge's parser must not be made here too.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.proxy.shells.double import BOUND

__all__ = ["Answer", "Visitor", "request"]


@dataclass(eq=False)
class Answer:
    """A response as the visitor's browser understands it.

    `whole` is False when the body was cut short: the connection ended or was reset before the
    length was reached or the last chunk came. `raw` is the head with its empty line. `interim`
    are the 1xx responses before it.
    """

    raw: bytes
    body: bytes = b""
    whole: bool = True
    interim: list[Answer] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def line(self) -> str:
        return self.raw.partition(b"\r\n")[0].decode("latin-1")

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


class Visitor:
    """One connection to the bridge. Every wait has a bound."""

    def __init__(self, address: tuple[str, int], bound: float = BOUND) -> None:
        self.sock = socket.create_connection(address, timeout=bound)
        self._buffer = b""
        self.trailers: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()

    def send(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(raw)

    def answer(self, method: str = "GET") -> Answer:
        """Read one whole response, or as much of it as comes."""
        got = self.head()
        self._read_body(got, method)
        return got

    def head(self) -> Answer:
        """Read up to the end of the head of a final response."""
        interim: list[Answer] = []
        while True:
            got = Answer(self._until(b"\r\n\r\n"), interim=interim)
            if got.status >= 200:
                return got
            interim.append(got)

    def piece(self) -> bytes:
        """Whatever of the body comes next, chunking included; empty at the end."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        return self.sock.recv(65536)

    def chunk(self) -> bytes:
        """The next chunk of a chunked body, exactly as the server has cut it."""
        size = int(self._until(b"\r\n"), 16)
        data = self._exactly(size)
        while not size and (line := self._until(b"\r\n")) != b"\r\n":
            self.trailers.append(line)
        if not size:
            return b""
        assert self._until(b"\r\n") == b"\r\n"
        return data

    def ended(self) -> bool:
        """Wait for the end of the connection; False when bytes come instead."""
        if self._buffer:
            return False
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def finish(self) -> None:
        """Say that no more requests come, and wait until the server has ended its side."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it has been reset
        while not self.ended():
            self._buffer = b""

    def leave(self) -> None:
        """Close as a browser does whose user went away in the middle: with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _read_body(self, got: Answer, method: str) -> None:
        if method == "HEAD" or got.status in (204, 304):
            return
        length, coding = got.get("Content-Length"), got.get("Transfer-Encoding")
        pieces: list[bytes] = []
        try:
            if coding == "chunked":
                while data := self.chunk():
                    pieces.append(data)
            elif length is not None:
                left = int(length)
                while left:
                    data = self._more(left)
                    pieces.append(data)
                    left -= len(data)
            else:
                while data := self.piece():
                    pieces.append(data)
        except (EOFError, ConnectionResetError):
            got.whole = False
        got.body = b"".join(pieces)

    def _more(self, most: int) -> bytes:
        data = self._buffer or self.sock.recv(65536)
        if not data:
            raise EOFError
        self._buffer = data[most:]
        return data[:most]

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            self._fill()
        at += len(end)
        data, self._buffer = self._buffer[:at], self._buffer[at:]
        return data

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(f"the connection ended after {self._buffer[:200]!r}")
        self._buffer += data


def request(
    method: str,
    target: str | bytes,
    *lines: str,
    host: str = "main.test",
    body: bytes | None = None,
    version: str = "1.1",
) -> bytes:
    """The bytes of a request. `lines` are whole header lines; a body gets its Content-Length;
    an empty `host` leaves the Host header out."""
    raw = target.encode("latin-1") if isinstance(target, str) else target
    head = [*([f"Host: {host}"] if host else []), *lines]
    if body is not None:
        head.append(f"Content-Length: {len(body)}")
    text = "\r\n".join([*head, "", ""]).encode("latin-1")
    return b"%b %b HTTP/%b\r\n%b%b" % (
        method.encode(),
        raw,
        version.encode(),
        text,
        body or b"",
    )
