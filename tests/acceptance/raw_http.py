"""A visitor at the level of bytes: sends a request as it is, and reads one response exactly.

It shares no code with the bridge, so a mistake of the bridge's parser is not made here too.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

__all__ = ["Answer", "BrokenAnswer", "RawConnection", "ask", "request"]

BOUND = 30.0
"""Seconds that a visitor waits for a piece of an answer."""


class BrokenAnswer(Exception):
    """The response ended early, or is no HTTP."""


@dataclass(frozen=True)
class Answer:
    """A response; `headers` in order and as spelt, Latin-1; `body` without its chunking."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        """The first value of a header, any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class RawConnection:
    """One connection. A context manager; `answer` may be called once per request sent."""

    def __init__(
        self, address: str, bound: float = BOUND, tls: ssl.SSLContext | None = None
    ) -> None:
        """address: host:port or unix:/path."""
        if address.startswith("unix:"):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(bound)
            self._socket.connect(address.removeprefix("unix:"))
        else:
            host, _, port = address.rpartition(":")
            self._socket = socket.create_connection((host, int(port)), timeout=bound)
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname=host)
        self._buffer = b""

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, raw: bytes) -> None:
        self._socket.sendall(raw)

    def say_no_more(self) -> None:
        """Close the half that sends."""
        self._socket.shutdown(socket.SHUT_WR)

    def ended(self) -> bool:
        """Wait for what comes next; whether that is a clean end."""
        return self.some() == b""

    def answer(self, method: str = "GET") -> Answer:
        """Read a whole response. Raises BrokenAnswer."""
        answer, framing = self.head(method)
        return Answer(
            answer.version, answer.status, answer.reason, answer.headers, self.body(framing)
        )

    def head(self, method: str = "GET") -> tuple[Answer, int | str]:
        """Read the head of a final response, after any interim ones. The second value is how
        the body ends, for `body`: a number of bytes, `chunked` or `close`."""
        while (answer := self._any_head()).status < 200:
            continue
        framing: int | str = "close"
        if method == "HEAD" or answer.status in (204, 304):
            framing = 0
        elif answer.get("Transfer-Encoding") == "chunked":
            framing = "chunked"
        elif (length := answer.get("Content-Length")) is not None:
            framing = int(length)
        return answer, framing

    def _any_head(self) -> Answer:
        lines = []
        while line := self._line():
            lines.append(line.decode("latin-1"))
        version, _, rest = lines[0].partition(" ")
        status, _, reason = rest.partition(" ")
        headers = []
        for text in lines[1:]:
            name, colon, value = text.partition(":")
            if not colon:
                raise BrokenAnswer(f"no header: {text!r}")
            headers.append((name, value.strip(" \t")))
        return Answer(version, int(status), reason, headers, b"")

    def body(self, framing: int | str) -> bytes:
        """Read the body to its end. Raises BrokenAnswer when it ends early."""
        if isinstance(framing, int):
            return self._exactly(framing)
        pieces = []
        if framing == "close":
            pieces.append(self._buffer)
            self._buffer = b""
            while data := self._socket.recv(65536):
                pieces.append(data)
        else:
            while size := int(self._line().partition(b";")[0], 16):
                pieces.append(self._exactly(size))
                self._line()
            while self._line():
                pass
        return b"".join(pieces)

    def some(self) -> bytes:
        """Whatever of the body is here next; empty when the other side has closed."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        return self._socket.recv(65536)

    def exactly(self, size: int) -> bytes:
        """The next bytes, whatever they are."""
        return self._exactly(size)

    def _exactly(self, size: int) -> bytes:
        pieces, left = [self._buffer], size - len(self._buffer)
        while left > 0:
            self._buffer = b""
            self._more()
            pieces.append(self._buffer)
            left -= len(self._buffer)
        data = b"".join(pieces)
        self._buffer = data[size:]
        return data[:size]

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            self._more()
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.removesuffix(b"\r")

    def _more(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise BrokenAnswer(f"closed after {self._buffer[:200]!r}")
        self._buffer += data


def ask(address: str, raw: bytes) -> Answer:
    """Send one request on a connection of its own and read the answer."""
    with RawConnection(address) as connection:
        connection.send(raw)
        return connection.answer(raw.partition(b" ")[0].decode())


def request(
    method: str,
    target: str,
    host: str,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes | None = None,
) -> bytes:
    """The bytes of a request; a body gets its Content-Length."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    if body is not None:
        pairs.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{n}: {v}" for n, v in pairs)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")
