"""From a WSGI environment to a request head and body.

All knowledge about WSGI servers is here: which key has the raw target, how they join repeated
headers, what they do to a chunked body.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from wsgiref.types import WSGIEnvironment

from bridge.errors import BridgeError, VisitorError
from bridge.proxy.http.wire import TOKEN, read_length
from bridge.proxy.python.environ import NOT_HEADERS
from bridge.proxy.request.head import Head, Headers, host_of
from bridge.proxy.request.memory import remember
from bridge.proxy.request.target import parse_target
from bridge.proxy.wsgi.upload import RequestBody, Wait

__all__ = [
    "RawTargetMissing",
    "body_of",
    "cut_off",
    "head_of",
    "limited",
]

# gunicorn joins two Cookie lines with a comma; browsers separate cookies with `; `.
_JOINED_COOKIES = re.compile(rf",(?={TOKEN}=)")
_METHOD = re.compile(TOKEN)


class RawTargetMissing(BridgeError):
    """The WSGI server keeps the raw request target to itself."""

    def __init__(self, software: str) -> None:
        super().__init__(
            f"the WSGI server ({software}) gives neither RAW_URI nor REQUEST_URI, so the request "
            "cannot be forwarded byte for byte; use `bridgectl serve`, gunicorn, mod_wsgi, uWSGI, "
            "waitress or cheroot"
        )


@remember(512, 64)
def _name(key: str) -> str:
    return key[5:].replace("_", "-").title()


def head_of(environ: WSGIEnvironment) -> Head:
    """The request head. Raises VisitorError (400) for what is no valid request, RawTargetMissing
    under a server that does not give the raw target."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if not raw:
        raise RawTargetMissing(environ.get("SERVER_SOFTWARE", "unknown"))
    method = environ["REQUEST_METHOD"]
    if not _METHOD.fullmatch(method):
        raise VisitorError(400, "malformed method")
    version = environ.get("SERVER_PROTOCOL", "HTTP/1.1").rpartition("/")[2]
    headers: Headers = []
    if content_type := environ.get("CONTENT_TYPE"):
        headers.append(("Content-Type", content_type))
    for key, value in environ.items():
        if key.startswith("HTTP_") and key not in NOT_HEADERS:
            if key == "HTTP_COOKIE":
                value = _JOINED_COOKIES.sub("; ", value)
            if "\r" in value or "\n" in value or "\0" in value:
                raise VisitorError(400, f"control character in the header {_name(key)}")
            name = _name(key)
            headers.append((name, value))
    target = parse_target(method, raw)
    server = environ.get("SERVER_NAME", ""), environ.get("SERVER_PORT", "")
    host = host_of(environ.get("HTTP_HOST", ""), version, target, server)
    return Head(
        method=method,
        target=target,
        host=host,
        headers=tuple(headers),
        peer=environ.get("REMOTE_ADDR", ""),
        scheme=environ.get("wsgi.url_scheme", "http"),
        version=version,
    )


@dataclass(slots=True)
class _Limited:
    """A body that must not grow beyond `left` more bytes."""

    stream: Any
    left: int

    def read(self, size: int = -1, /) -> bytes:
        return self._count(self.stream.read(size) if size >= 0 else self.stream.read())

    def readline(self, size: int = -1, /) -> bytes:
        return self._count(self.stream.readline(size) if size >= 0 else self.stream.readline())

    def _count(self, data: bytes) -> bytes:
        self.left -= len(data)
        if self.left < 0:
            raise VisitorError(413, "the request body is larger than max_body")
        return data


def body_of(
    environ: WSGIEnvironment, max_body: int | None = None, *, silence: float = 60.0
) -> RequestBody | None:
    """How the request's body is framed, or None when it has none (RFC 9112, section 6). Raises
    VisitorError: 400 for framing that two parsers could read differently, 411 where the server
    cannot hand on a chunked body, 413 for one longer than `max_body` bytes."""
    coding = environ.get("HTTP_TRANSFER_ENCODING", "").strip().lower()
    length = environ.get("CONTENT_LENGTH") or ""
    stream = environ["wsgi.input"]
    if coding:
        if length:
            raise VisitorError(400, "Transfer-Encoding and Content-Length together")
        if coding != "chunked" or environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
            raise VisitorError(400, "Transfer-Encoding that is not chunked")
        if not environ.get("wsgi.input_terminated"):
            raise VisitorError(411, "the server cannot hand on a chunked body")
        return limited(RequestBody(stream, None, _watch(stream), silence), max_body)
    if not length:
        return None
    size = read_length(length)
    if size is None:
        raise VisitorError(400, "malformed Content-Length")
    return limited(RequestBody(stream, size, _watch(stream), silence), max_body)


def limited(body: RequestBody | None, most: int | None) -> RequestBody | None:
    """`body`, which must not have more than `most` bytes. Raises VisitorError (413), at once or
    when it is read too far."""
    if body is None or most is None:
        return body
    if body.length is None:
        return replace(body, stream=_Limited(body.stream, most))
    if body.length > most:
        raise VisitorError(413, f"the request body has {body.length} bytes, max_body is {most}")
    return body


def _watch(stream: Any) -> Callable[[Wait | None], None] | None:
    """`RequestBody.watch` under gunicorn, whose reader has one function that reads from the
    visitor's socket; None under other servers."""
    reader = getattr(stream, "reader", None)
    request = getattr(reader, "req", None)  # that is where the reader of a chunked body has it
    unreader: Any = getattr(reader, "unreader", None) or getattr(request, "unreader", None)
    visitor = getattr(unreader, "sock", None)
    if not isinstance(visitor, socket.socket):
        return None
    receive = type(unreader).chunk

    def watch(wait: Wait | None) -> None:
        def chunk(size_hint: int | None = None) -> Any:
            if wait is not None:
                wait(visitor)
            return receive(unreader, size_hint)

        unreader.chunk = chunk

    return watch


def cut_off(environ: WSGIEnvironment) -> None:
    """Reset the visitor's connection, so that an HTTP/1.0 body whose only end is the end of the
    connection is not taken for a whole one. Under gunicorn; other servers close it cleanly."""
    visitor = environ.get("gunicorn.socket")
    if isinstance(visitor, socket.socket):
        visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        visitor.close()
