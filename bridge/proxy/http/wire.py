"""HTTP/1.1 bytes to and from the legacy side (RFC 9112).

Pure: bytes in, values out. The request head is written exactly as given; the response is read
strictly, because whatever one parser forgives another one reads differently. Sockets and time
limits are in `bridge.proxy.wsgi.connection`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from bridge.proxy.request.head import Headers

__all__ = [
    "NO_TLS",
    "REPEATABLE",
    "TLS_HELLO",
    "TOKEN",
    "ChunkedReader",
    "Framing",
    "ResponseHead",
    "WireError",
    "binds",
    "chunk",
    "content_length",
    "field_lines",
    "framing",
    "look_at_part",
    "lowered",
    "only_interim",
    "read_length",
    "request_head",
    "split_head",
    "without_content",
]

REPEATABLE = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods of which a request may be sent again, when nothing came of it."""
TOKEN = "[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - nothing secret
"""A pattern for a name or a method (RFC 9110, section 5.6.2)."""
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = re.compile(rf"({TOKEN})[ \t]*:[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_BINDING = re.compile(r"(?<![\w-])(?:NTLM|Negotiate)(?![\w-])", re.IGNORECASE)
# What another reader might take for how the body ends, or for the end of a line.
_OF_FRAMING = re.compile(r"content.?length|transfer.?encoding|[\r\0]", re.IGNORECASE | re.DOTALL)
# What may become one, and what may become a line of trailers.
_PART_OF_SIZE = re.compile(rb"(?:[0-9A-Fa-f]{1,16}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r?)?")
_PART_OF_TRAILER = re.compile(rb"(?:[A-Za-z0-9!#$%&'*+.^_`|~-][\t\x20-\x7e\x80-\xff]*)?\r?")
_FOLD = re.compile(r"[ \t]+([\t\x20-\x7e\x80-\xff]*)")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)[0-9]{2}")
_INTERIM_STARTS = (b"HTTP/1.1 1", b"HTTP/1.0 1")
_MOST_INTERIM = 64 * 1024
_WHITE = " \t"
_LINE = re.compile(rf"^({TOKEN}):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r$", re.MULTILINE)
# Without the CR before it: a pattern that begins with an optional byte is searched for slowly.
_HEAD_END = re.compile(rb"\n\r?\n")
TLS_HELLO = b"\x16\x03"
"""A handshake of TLS begins so, and no request does."""
NO_TLS = "TLS on a port that has none; --certfile gives it one"
_LONGEST_LENGTH = 18  # digits of a Content-Length: an exabyte
_LONGEST_LINE = 8192
_LONGEST_TRAILER = 64 * 1024
_LONGEST_ODD = 40  # characters that are kept of a line that is dropped
_NAMES = 4096  # that are remembered in small letters
_LONGEST_NAME = 64  # characters of one of these: visitors may send longer ones without end


class WireError(ValueError):
    """The legacy side sent what is no HTTP/1.1."""


class _Lowered(dict[str, str]):
    def __missing__(self, name: str) -> str:
        small = name.lower()
        if len(name) <= _LONGEST_NAME:
            if len(self) >= _NAMES:
                self.clear()
            self[name] = small
        return small


lowered: Callable[[str], str] = _Lowered().__getitem__
"""A name in small letters; header names are few, and this is asked for every one of them."""


def field_lines(text: str) -> Headers | None:
    """Names and values of plain header lines, each with its CRLF; None when any of them is not
    plain: another end, a fold, white space before the colon or after the value, a bad byte."""
    if " \r" in text or "\t\r" in text:
        return None
    found = _LINE.findall(text)
    return found if len(found) == text.count("\n") else None


def split_head(data: bytes) -> tuple[bytes, bytes] | None:
    """The lines of a head without their last line end, and what follows the empty line; None
    while that has not come."""
    end = _HEAD_END.search(data)
    if not end:
        return None
    return data[: end.start()].removesuffix(b"\r"), data[end.end() :]


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Request line and headers, byte for byte; all strings are Latin-1 text."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where in a list of header names those are that say how a body ends."""

    lengths: tuple[int, ...]
    codings: tuple[int, ...]
    connections: tuple[int, ...]
    challenges: tuple[int, ...]


@lru_cache(maxsize=2048)
def _shape(names: tuple[str, ...]) -> _Shape:
    """A backend's heads are nearly all of a few shapes, which are looked at once."""

    def places(wanted: str) -> tuple[int, ...]:
        return tuple(place for place, name in enumerate(names) if name.lower() == wanted)

    names_ = ("content-length", "transfer-encoding", "connection", "www-authenticate")
    return _Shape(*map(places, names_))


@lru_cache(maxsize=256)
def _status(line: str) -> tuple[int, str, int] | None:
    match = _STATUS_LINE.fullmatch(line)
    return (int(match[2]), match[3] or "", int(match[1])) if match else None


def binds(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a request with these headers authenticates its connection and not only itself, as
    NTLM and Negotiate do (RFC 4559, section 6)."""
    return any(
        lowered(name) == "authorization" and _BINDING.match(value.lstrip())
        for name, value in headers
    )


class ResponseHead:
    """Status line and headers of a response; texts are Latin-1. A head that comes again soon may be
    the same object, so nothing of it is ever changed.

    minor: of HTTP/1.x.
    odd: what was dropped: the beginning of each line that was no header.
    """

    __slots__ = ("headers", "minor", "names", "odd", "reason", "shape", "status")

    def __init__(
        self,
        status: int,
        reason: str,
        minor: int,
        headers: Headers,
        odd: tuple[str, ...] = (),
    ) -> None:
        self.status, self.reason, self.minor, self.headers = status, reason, minor, headers
        self.odd = odd
        self.names = tuple([name for name, _ in headers])
        self.shape = _shape(self.names)

    @classmethod
    def parse(cls, head: bytes) -> ResponseHead:
        """Read a head without its last empty line. Raises WireError.

        A bare LF ends a line as CRLF does, an obsolete line fold becomes a space, and white
        space between a name and its colon goes (RFC 9112, sections 2.2, 5.2 and 5.1). A line
        that is no header is dropped, as other proxies do, unless it speaks of the framing.
        """
        text = head.decode("latin-1").removesuffix("\r")
        first, _, rest = text.partition("\r\n")
        plain = field_lines(f"{rest}\r\n") if rest else []
        if plain is None or "\n" in first:
            plain = None
            first, *lines = text.replace("\r\n", "\n").split("\n")
        status = _status(first)
        if status is None:
            raise WireError(f"no status line: {first[:60]!r}")
        return cls(*status, plain) if plain is not None else cls(*status, *_odd_lines(lines))

    def listed(self, places: tuple[int, ...]) -> list[str]:
        """What the headers at `places` list, in small letters."""
        return [
            part.strip(_WHITE).lower()
            for place in places
            for part in self.headers[place][1].split(",")
        ]

    def values(self, name: str) -> list[str]:
        """Every value of the header `name` (lower case), in order."""
        return [value for key, value in self.headers if key.lower() == name]

    def plain_length(self) -> Headers:
        """The headers with one Content-Length of one number, where `framing` found it sound:
        a repeated one is the same number again (RFC 9110, section 8.6). That of a 205 is 0:
        whatever comes with it is no content (section 15.3.6)."""
        if self.status == 205:
            return without_content(self.headers)
        places = self.shape.lengths
        if not places or (len(places) == 1 and "," not in self.headers[places[0]][1]):
            return self.headers
        headers: Headers = []
        seen = False
        for name, value in self.headers:
            if name.lower() == "content-length":
                if seen:
                    continue
                seen, value = True, value.partition(",")[0].strip(_WHITE)
            headers.append((name, value))
        return headers

    @property
    def binds(self) -> bool:
        """Whether the answer is about who the whole connection belongs to."""
        places = self.shape.challenges
        return any(_BINDING.search(self.headers[place][1]) for place in places)

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may be used again after this response.

        Never after HTTP/1.0 with a transfer coding: its framing is faulty (RFC 9112, 6.1).
        """
        if self.minor == 0 and self.shape.codings:
            return False
        tokens = self.listed(self.shape.connections)
        return "close" not in tokens and (self.minor == 1 or "keep-alive" in tokens)


def read_length(text: str) -> int | None:
    """The bytes that a Content-Length speaks of; None for what is no plain number."""
    sound = text.isascii() and text.isdigit() and len(text) <= _LONGEST_LENGTH
    return int(text) if sound else None


def without_content(headers: Headers) -> Headers:
    """`headers` with a length of 0, whatever length they had."""
    kept = [pair for pair in headers if lowered(pair[0]) != "content-length"]
    return [*kept, ("Content-Length", "0")]


def _odd_lines(lines: list[str]) -> tuple[Headers, tuple[str, ...]]:
    """The headers, and the beginnings of the lines that are none."""
    headers: Headers = []
    odd: list[str] = []
    dropped = False  # the line before this one, with which its folds go
    for line in lines:
        if found := _FIELD.fullmatch(line):
            name, value = found.groups()
            headers.append((name, value.rstrip(_WHITE)))
            dropped = False
        elif (fold := _FOLD.fullmatch(line)) and headers and not dropped:
            name, value = headers[-1]
            headers[-1] = name, f"{value} {fold[1].rstrip(_WHITE)}".strip(_WHITE)
        elif _OF_FRAMING.search(line):
            raise WireError(f"no header line: {line[:60]!r}")
        else:
            if not line.startswith((" ", "\t")):
                odd.append(re.split("[:=]", line[:_LONGEST_ODD])[0])
            elif not dropped:
                odd.append(headers.pop()[0][:_LONGEST_ODD] if headers else line[:_LONGEST_ODD])
            dropped = True
    return headers, tuple(odd)


def only_interim(data: bytes) -> bool:
    """Whether `data` is nothing but interim answers (1xx, not 101), the last one maybe cut off;
    not more of them than a head may be long."""
    if len(data) > _MOST_INTERIM:
        return False
    while data:
        if len(data) < len("HTTP/1.1 100"):
            return any(start.startswith(data[: len(start)]) for start in _INTERIM_STARTS)
        if not _INTERIM.match(data):
            return False
        end = _HEAD_END.search(data)
        if end is None:
            return True
        data = data[end.end() :]
    return True


class Framing(NamedTuple):
    """How a response body ends: `length` bytes, chunked, or (neither) with the connection."""

    length: int | None = None
    chunked: bool = False


_NOTHING, _CHUNKED = Framing(length=0), Framing(chunked=True)


def framing(method: str, head: ResponseHead) -> Framing:
    """RFC 9112, section 6.3. Raises WireError where two readers could disagree."""
    lengths, codings = head.shape.lengths, head.shape.codings
    length = read_length(head.headers[lengths[0]][1]) if len(lengths) == 1 else None
    if lengths and length is None:
        said = sorted(set(head.listed(lengths)))
        length = read_length(said[0]) if len(said) == 1 else None
        if length is None:
            raise WireError(f"Content-Length {', '.join(said)[:60]}")
    if lengths and codings:
        raise WireError("Transfer-Encoding and Content-Length together")
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return _NOTHING
    if codings:
        listed = head.listed(codings)
        if listed != ["chunked"]:
            raise WireError(f"Transfer-Encoding {', '.join(listed)}")
        return _CHUNKED
    return Framing(length=length)


def look_at_part(part: bytes, *, trailer: bool) -> None:
    """Raises WireError when `part`, which has no CRLF yet, cannot become a line that says how
    long a chunk is, or, with `trailer`, a line of trailers."""
    sound = _PART_OF_TRAILER if trailer else _PART_OF_SIZE
    if not sound.fullmatch(part):
        raise WireError(f"no {'trailer line' if trailer else 'chunk size'}: {part[:30]!r}")


class ChunkedReader:
    """Takes the chunking off a body. Feed it bytes; `done` says that the last chunk came.

    `trailers` are the fields after it. A WSGI response has no place for them.
    """

    def __init__(self) -> None:
        self.done = False
        self.trailers: Headers = []
        self._buffer = b""
        self._left = 0  # of the current chunk; -1: the CRLF after it comes next
        self._trailer = False
        self._trailer_size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of body in `data`. Raises WireError for bad chunking.

        Every line must end with CRLF: a bare LF taken for one would let a wrong chunk size pass
        for a right one. What no later byte can make right is refused at once: who sent it waits
        for an answer and sends no more. After the last chunk, bytes that are left over mean that
        the connection cannot be trusted; `leftover` has them.
        """
        buffer = self._buffer + data
        pieces: list[bytes] = []
        at, size = 0, len(buffer)  # no copy of the rest for every chunk: there may be many
        while at < size and not self.done:
            if self._left > 0:
                pieces.append(buffer[at : at + self._left])
                taken = len(pieces[-1])
                at += taken
                self._left = self._left - taken or -1
            elif self._left == -1:
                line_end = buffer[at : at + 2]
                if line_end == b"\r":
                    break
                if line_end != b"\r\n":
                    raise WireError("chunk longer than its size")
                self._left, at = 0, at + 2
            else:
                end = buffer.find(b"\r\n", at, at + _LONGEST_LINE + 2)
                if end < 0:
                    self._look_at_part(buffer[at:])
                    break
                line, at = buffer[at:end], end + 2
                self._line(line)
        self._buffer = buffer[at:]
        return pieces

    def _look_at_part(self, part: bytes) -> None:
        if len(part) > _LONGEST_LINE:
            raise WireError("endless line in a chunked body")
        look_at_part(part, trailer=self._trailer)

    def _line(self, line: bytes) -> None:
        if self._trailer:
            self._trailer_size += len(line)
            found = _FIELD.fullmatch(line.decode("latin-1"))
            if self._trailer_size > _LONGEST_TRAILER or (line and not found):
                raise WireError(f"no trailer line, or too many: {line[:60]!r}")
            if found:
                self.trailers.append((found[1], found[2].rstrip(_WHITE)))
            self.done = not line
        else:
            match = _CHUNK_SIZE.fullmatch(line)
            if not match:
                raise WireError(f"no chunk size: {line[:30]!r}")
            self._left = int(match[1], 16)
            self._trailer = self._left == 0

    @property
    def leftover(self) -> bytes:
        return self._buffer if self.done else b""


def content_length(headers: Headers) -> int | None:
    """The value of Content-Length in bytes, or None where there is no single sound one."""
    values = [value for name, value in headers if lowered(name) == "content-length"]
    return read_length(values[0]) if len(values) == 1 else None


def chunk(data: bytes) -> bytes:
    """`data` (not empty) as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)
