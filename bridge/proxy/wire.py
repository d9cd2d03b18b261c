"""HTTP/1.1 bytes to and from the legacy side (RFC 9112).

Pure: bytes in, values out. The request head is written exactly as given; the response is read
strictly, because whatever one parser forgives another one reads differently. Sockets and time
limits are in `bridge.proxy.connection`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["ChunkedReader", "Framing", "ResponseHead", "WireError", "framing", "request_head"]

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?")
_FIELD = re.compile(r"([A-Za-z0-9!#$%&'*+.^_`|~-]+)[ \t]*:[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_FOLD = re.compile(r"[ \t]+([\t\x20-\x7e\x80-\xff]*)")
_WHITE = " \t"
_LONGEST_LENGTH = 18  # digits of a Content-Length: an exabyte
_LONGEST_LINE = 8192
_LONGEST_TRAILER = 64 * 1024


class WireError(ValueError):
    """The legacy side sent what is no HTTP/1.1."""


def request_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Request line and headers, byte for byte; all strings are Latin-1 text."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and headers of a response; texts are Latin-1."""

    status: int
    reason: str
    minor: int
    headers: list[tuple[str, str]]

    @classmethod
    def parse(cls, head: bytes) -> ResponseHead:
        """Read a head without its last empty line. Raises WireError.

        A bare LF ends a line as CRLF does, an obsolete line fold becomes a space, and white
        space between a name and its colon goes (RFC 9112, sections 2.2, 5.2 and 5.1).
        """
        text = head.decode("latin-1").removesuffix("\r").replace("\r\n", "\n")
        first, *lines = text.split("\n")
        match = _STATUS_LINE.fullmatch(first)
        if not match:
            raise WireError(f"no status line: {first[:60]!r}")
        headers: list[tuple[str, str]] = []
        for line in lines:
            if field := _FIELD.fullmatch(line):
                name, value = field.groups()
                headers.append((name, value.rstrip(" \t")))
            elif (fold := _FOLD.fullmatch(line)) and headers:
                name, value = headers[-1]
                headers[-1] = name, f"{value} {fold[1].rstrip(_WHITE)}".strip(_WHITE)
            else:
                raise WireError(f"no header line: {line[:60]!r}")
        return cls(int(match[2]), match[3] or "", int(match[1]), headers)

    def values(self, name: str) -> list[str]:
        """Every value of the header `name` (lower case), in order."""
        return [value for key, value in self.headers if key.lower() == name]

    def plain_length(self) -> list[tuple[str, str]]:
        """The headers with one Content-Length of one number, where `framing` found it sound:
        a repeated one is the same number again (RFC 9110, section 8.6)."""
        headers: list[tuple[str, str]] = []
        seen = False
        for name, value in self.headers:
            if name.lower() == "content-length":
                if seen:
                    continue
                seen, value = True, value.partition(",")[0].strip()
            headers.append((name, value))
        return headers

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may be used again after this response."""
        tokens = {t.strip().lower() for v in self.values("connection") for t in v.split(",")}
        return "close" not in tokens and (self.minor == 1 or "keep-alive" in tokens)


@dataclass(frozen=True, slots=True)
class Framing:
    """How a response body ends: `length` bytes, chunked, or (neither) with the connection."""

    length: int | None = None
    chunked: bool = False


def framing(method: str, head: ResponseHead) -> Framing:
    """RFC 9112, section 6.3. Raises WireError where two readers could disagree."""
    lengths: set[str] = set()
    codings: list[str] = []
    for name, value in head.headers:
        lowered = name.lower()
        if lowered == "content-length":
            lengths.update(part.strip() for part in value.split(","))
        elif lowered == "transfer-encoding":
            codings += [coding.strip().lower() for coding in value.split(",")]
    if len(lengths) > 1 or any(
        not (n.isascii() and n.isdigit() and len(n) <= _LONGEST_LENGTH) for n in lengths
    ):
        raise WireError(f"Content-Length {', '.join(sorted(lengths))[:60]}")
    if codings and lengths:
        raise WireError("Transfer-Encoding and Content-Length together")
    if method == "HEAD" or head.status < 200 or head.status in (204, 304):
        return Framing(length=0)
    if codings:
        if codings != ["chunked"]:
            raise WireError(f"Transfer-Encoding {', '.join(codings)}")
        return Framing(chunked=True)
    return Framing(length=int(lengths.pop())) if lengths else Framing()


class ChunkedReader:
    """Takes the chunking off a body. Feed it bytes; `done` says that the last chunk came.

    Trailers are read and dropped: a WSGI response has no place for them.
    """

    def __init__(self) -> None:
        self.done = False
        self._buffer = b""
        self._left = 0  # of the current chunk; -1: the CRLF after it comes next
        self._trailer = False
        self._trailer_size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The pieces of body in `data`. Raises WireError for bad chunking.

        Every line must end with CRLF: a bare LF taken for one would let a wrong chunk size pass
        for a right one. After the last chunk, bytes that are left over mean that the connection
        cannot be trusted; `leftover` has them.
        """
        self._buffer += data
        pieces: list[bytes] = []
        while self._buffer and not self.done:
            if self._left > 0:
                pieces.append(self._buffer[: self._left])
                self._buffer, taken = self._buffer[self._left :], len(pieces[-1])
                self._left = self._left - taken or -1
                continue
            if self._left == -1:
                if not b"\r\n".startswith(self._buffer[:2]):
                    raise WireError("chunk longer than its size")
                if len(self._buffer) < 2:
                    break
                self._left, self._buffer = 0, self._buffer[2:]
                continue
            end = self._buffer.find(b"\r\n")
            if end < 0:
                if len(self._buffer) > _LONGEST_LINE:
                    raise WireError("endless line in a chunked body")
                break
            line, self._buffer = self._buffer[:end], self._buffer[end + 2 :]
            self._line(line)
        return pieces

    def _line(self, line: bytes) -> None:
        if self._trailer:
            self._trailer_size += len(line)
            if self._trailer_size > _LONGEST_TRAILER or (
                line and not _FIELD.fullmatch(line.decode("latin-1"))
            ):
                raise WireError(f"no trailer line, or too many: {line[:60]!r}")
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
