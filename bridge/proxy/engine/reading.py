"""Reading a visitor's request: its line, its header block, its body.

Pure: bytes in, values out, VisitorError for whatever two parsers could read differently. The
header block is cut into fields by llhttp, after a look of our own at every byte of it: what only
one of the two takes is refused. Sockets and time limits are `bridge.proxy.engine.visitor`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

import httptools

from bridge.errors import VisitorError
from bridge.proxy.http.wire import ChunkedReader, WireError, field_lines, lowered, read_length
from bridge.proxy.request.head import Headers
from bridge.proxy.request.hosts import split_host
from bridge.proxy.request.target import Target, parse_target

__all__ = [
    "LONGEST_FIELD",
    "LONGEST_HEAD",
    "LONGEST_LINE",
    "MOST_FIELDS",
    "Block",
    "Body",
    "read_block",
    "read_line",
    "target_of",
]

LONGEST_LINE = 8190
"""Bytes of a request line; Apache's limit, and gunicorn's in the other shell."""
LONGEST_HEAD = 64 * 1024
LONGEST_FIELD = 16380
MOST_FIELDS = 100

_LINE = re.compile(rb"([A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
# Every line ends with CRLF and begins with no white space; no control character but the tab.
_SOUND = re.compile(rb"(?:[^\x00-\x08\x0a-\x1f\x7f \t][^\x00-\x08\x0a-\x1f\x7f]*\r\n)*")
_FRONT = b"GET / HTTP/1.1\r\n"

_remembered = lru_cache(maxsize=4096)(parse_target)
_REMEMBERED = 256  # characters: the memory that visitors can fill has a bound


def target_of(method: str, raw: str) -> Target:
    """As `parse_target`; what is asked for most is parsed once."""
    return _remembered(method, raw) if len(raw) <= _REMEMBERED else parse_target(method, raw)


def read_line(line: bytes, longest: int = LONGEST_LINE) -> tuple[str, str, int]:
    """Method, raw target (Latin-1) and minor version. Raises VisitorError: 400, and 414 for more
    than `longest` bytes."""
    if len(line) <= _REMEMBERED:
        return _known_line(line)
    if len(line) > longest:
        raise VisitorError(414, "the request line is too long")
    return _read_line(line)


def _read_line(line: bytes) -> tuple[str, str, int]:
    match = _LINE.fullmatch(line)
    if not match:
        raise VisitorError(400, "malformed request line")
    method, target, minor = match.groups()
    return method.decode("latin-1"), target.decode("latin-1"), 0 if minor == b"0" else 1


_known_line = lru_cache(maxsize=4096)(_read_line)


class Block:
    """A header block: its fields in order, and what they say about the connection and the body.

    `length` is that of the body in bytes, or None; `tokens` are those of Connection, in small
    letters; `host` is as given, in small letters, or empty. `index` has the values by name in
    small letters, several lines as one list. `keeps` says, by minor version,
    whether the visitor wants to go on using the connection (RFC 9112, section 9.3). `plain` says
    that there is a host, and nothing of a body or of another protocol.
    """

    def __init__(self, raw: bytes, fields: Headers) -> None:
        self.raw = raw
        self.length: int | None = None
        self.chunked = False
        self.expect = ""
        self.tokens: frozenset[str] = frozenset()
        self.host = ""
        self.upgrade = ""
        self.index: dict[str, str] = {}
        kept: Headers = []
        special: dict[str, list[str]] = {}
        for pair in fields:
            small, value = lowered(pair[0]), pair[1]
            if small in _SPECIAL:
                special.setdefault(small, []).append(value)
                if small == "cookie":
                    if len(special[small]) == 1:
                        kept.append(pair)
                    continue
            kept.append(pair)
            self.index[small] = f"{self.index[small]},{value}" if small in self.index else value
        if special:
            self._read(special)
        if cookies := special.get("cookie"):
            if len(cookies) > 1:  # as RFC 9113, section 8.2.3, joins them
                kept = [(n, "; ".join(cookies) if lowered(n) == "cookie" else v) for n, v in kept]
            self.cookies = self.index["cookie"] = "; ".join(cookies)
        else:
            self.cookies = ""
        self.jar: dict[str, str] = {}  # the first cookie of each name
        for cookie in self.cookies.split(";") if self.cookies else ():
            name, _, value = cookie.partition("=")
            self.jar.setdefault(name.strip(), value.strip())
        self.headers = tuple(kept)
        close, keep = "close" in self.tokens, "keep-alive" in self.tokens
        self.keeps = (keep and not close, not close)
        framed = self.chunked or self.length is not None
        self.plain = bool(self.host) and not (framed or self.expect or self.upgrade)

    def _read(self, special: Mapping[str, list[str]]) -> None:
        if hosts := special.get("host"):
            if len(hosts) > 1:
                raise VisitorError(400, "two Host headers")
            self.host = hosts[0].lower()
            if split_host(self.host) is None and self.host:
                raise VisitorError(400, "malformed Host header")
        if "connection" in special:
            listed = ",".join(special["connection"]).lower().split(",")
            self.tokens = frozenset(token.strip(" \t") for token in listed)
        if lengths := special.get("content-length"):
            self.length = read_length(lengths[0])
            if len(lengths) > 1 or self.length is None:
                raise VisitorError(400, "malformed Content-Length")
        if codings := special.get("transfer-encoding"):
            if self.length is not None:
                raise VisitorError(400, "Transfer-Encoding and Content-Length together")
            if len(codings) > 1 or codings[0].lower() != "chunked":
                raise VisitorError(400, "Transfer-Encoding that is not chunked")
            self.chunked = True
        if len(special.get("content-type", ())) > 1:
            raise VisitorError(400, "two Content-Type headers")
        expected = ",".join(special.get("expect", ())).lower().split(",")
        self.expect = ",".join(dict.fromkeys(one.strip(" \t") for one in expected))
        # The protocol that a tunnel is asked for: after a body it would begin in its middle.
        if "upgrade" in self.tokens and not self.chunked and not self.length:
            asked = ",".join(special.get("upgrade", ())).lower().split(",")
            self.upgrade = "websocket" if "websocket" in (a.strip(" \t") for a in asked) else ""

    def body(self, minor: int) -> Body | None:
        """A reader for the body, or None where there is none. Raises VisitorError."""
        if self.chunked:
            if minor == 0:
                raise VisitorError(400, "Transfer-Encoding on HTTP/1.0")
            return Body(None)
        return Body(self.length) if self.length is not None else None


_SPECIAL = frozenset(
    (
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "transfer-encoding",
        "upgrade",
    )
)


class _Nothing:
    """Has no method that llhttp could call: it only says whether it takes the bytes."""


class _Fields:
    """What llhttp calls for every field."""

    def __init__(self) -> None:
        self.found: Headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.found.append((name.decode("latin-1"), value.decode("latin-1").strip(" \t")))


_nothing = _Nothing()


def read_block(raw: bytes, longest: int = LONGEST_FIELD, most: int = MOST_FIELDS) -> Block:
    """Read header lines, each with its CRLF, without the empty line after them. Raises
    VisitorError: 400, and 431 for more than `most` or for one of more than `longest` bytes."""
    if not _SOUND.fullmatch(raw):
        raise VisitorError(400, "malformed header")
    count = raw.count(b"\r\n")
    if count > most or (
        len(raw) > longest and any(len(line) > longest for line in raw.split(b"\r\n"))
    ):
        raise VisitorError(431, "too many header fields, or one too long")
    # Plain lines need no callback for each: where llhttp takes them too, both see the same fields.
    plain = field_lines(raw.decode("latin-1"))
    fields = _Fields()
    parser = httptools.HttpRequestParser(fields if plain is None else _nothing)
    try:
        parser.feed_data(_FRONT + raw + b"\r\n")
    except httptools.HttpParserUpgrade:
        pass  # it asks for another protocol; whether it gets one is decided elsewhere
    except httptools.HttpParserError as error:
        raise VisitorError(400, f"malformed header: {error}") from None
    return Block(raw, fields.found if plain is None else plain)


class Body:
    """Takes a request body out of what a visitor sends: `length` bytes, or chunked when it is
    None. `done` says that all of it came."""

    __slots__ = ("_chunks", "done", "left", "length", "size")

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.left = length or 0
        self.size = 0
        self.done = length == 0
        self._chunks = ChunkedReader() if length is None else None

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Pieces of the body, and what comes after it. Raises VisitorError."""
        if self._chunks is None:
            piece, rest = data[: self.left], data[self.left :]
            self.left -= len(piece)
            self.size += len(piece)
            self.done = not self.left
            return [piece] if piece else [], rest
        try:
            pieces = self._chunks.feed(data)
        except WireError as error:
            raise VisitorError(400, f"the request body breaks off: {error}") from None
        self.size += sum(map(len, pieces))
        self.done = self._chunks.done
        return pieces, self._chunks.leftover

    @property
    def missing(self) -> str:
        """In words, what a visitor who has left did not send."""
        if self.length is None:
            return "the request body breaks off: it ended before the last chunk"
        return f"the request body ends {self.left} bytes early"
