"""Compressing what handlers answer, as web servers do it for PHP (RFC 9110, section 8.4).

Pure, but for the libraries that compress. It runs in the handler's thread, between the handler
and whoever sends its answer: the event loop never computes here.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from bridge.proxy.http.wire import lowered
from bridge.proxy.request.head import Headers

__all__ = ["Body", "Press", "available", "chosen"]


_LEVEL = 5
_WEIGHT = re.compile(r"[ \t]*;[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*", re.I)
_NO_BODY = ("204", "205", "304")
_OF_PARTS = ("206", "416")


class Encoder(Protocol):
    """What compresses one body."""

    def compress(self, piece: bytes) -> bytes:
        """What there is of it now."""

    def flush(self) -> bytes:
        """All that was put in so far."""

    def finish(self) -> bytes:
        """The end."""


class _Gzip:
    def __init__(self) -> None:
        self._engine = zlib.compressobj(_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self.compress = self._engine.compress

    def flush(self) -> bytes:
        return self._engine.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._engine.flush()


class _Brotli:
    def __init__(self) -> None:
        self._engine: Any = importlib.import_module("brotli").Compressor(quality=_LEVEL)

    def compress(self, piece: bytes) -> bytes:
        return bytes(self._engine.process(piece))

    def flush(self) -> bytes:
        return bytes(self._engine.flush())

    def finish(self) -> bytes:
        return bytes(self._engine.finish())


class _Zstd:
    def __init__(self) -> None:
        self._library: Any = importlib.import_module("zstandard")
        # Browsers take windows of up to 8 MiB.
        self._engine = self._library.ZstdCompressor(level=_LEVEL).compressobj()

    def compress(self, piece: bytes) -> bytes:
        return bytes(self._engine.compress(piece))

    def flush(self) -> bytes:
        return bytes(self._engine.flush(self._library.COMPRESSOBJ_FLUSH_BLOCK))

    def finish(self) -> bytes:
        return bytes(self._engine.flush())


_ENCODERS: dict[str, tuple[str, Callable[[], Encoder]]] = {
    "gzip": ("zlib", _Gzip),
    "br": ("brotli", _Brotli),
    "zstd": ("zstandard", _Zstd),
}


def available(encoding: str) -> bool:
    """Whether the library for it is installed."""
    try:
        importlib.import_module(_ENCODERS[encoding][0])
    except ImportError:
        return False
    return True


def chosen(accepted: str | None, offered: Sequence[str]) -> str | None:
    """The coding for a visitor whose Accept-Encoding this is: of those that they like best the
    first that is offered. None: as it is."""
    if not accepted:
        return None
    weights: dict[str, float] = {}
    for element in accepted.split(","):
        name, found, rest = element.partition(";")
        weight = _WEIGHT.fullmatch(found + rest) if found else None
        if found and weight is None:
            continue  # nothing that anybody can read
        name = name.strip(" \t").lower()
        weights["gzip" if name == "x-gzip" else name] = float(weight[1]) if weight else 1.0
    best, most = None, weights.get("identity", 0.0)
    for encoding in offered:
        weight_of = weights.get(encoding, weights.get("*", 0.0))
        if weight_of > 0 and (weight_of > most or (best is None and weight_of >= most)):
            best, most = encoding, weight_of
    return best


class Body(NamedTuple):
    """An answer up to its first byte. first: pieces of the body that are there; rest: those that
    come; length: of the whole body in bytes, where that is announced."""

    headers: Headers
    first: list[bytes]
    rest: Iterator[bytes]
    length: int | None


class Rules(Protocol):
    """What the operator wants. min_size: bytes. usable: codings, best first."""

    @property
    def min_size(self) -> int: ...

    @property
    def usable(self) -> Sequence[str]: ...

    def takes(self, kind: str) -> bool:
        """Whether answers of this type are compressed."""


class Press:
    """Compresses the answer to one request. accepted: its Accept-Encoding."""

    __slots__ = ("_accepted", "_rules")

    def __init__(self, rules: Rules, accepted: str | None) -> None:
        self._rules, self._accepted = rules, accepted

    def __call__(self, method: str, status: str, body: Body) -> Body:
        """The answer as it goes out: as it is where it may not or need not be compressed."""
        if status[:3] in _NO_BODY or not self._is_wanted(status, body.headers):
            return body
        if body.length is not None and body.length < self._rules.min_size:
            return body
        # Whoever stores the answer must know, also where it is not compressed this time.
        body = body._replace(headers=_varied(body.headers))
        encoding = chosen(self._accepted, self._rules.usable)
        if encoding is None or (method != "HEAD" and not any(body.first)):
            return body
        headers = _encoded(body.headers, encoding)
        if method == "HEAD":
            return Body(headers, body.first, body.rest, None)
        encoder = _ENCODERS[encoding][1]()
        if body.length is not None and sum(map(len, body.first)) >= body.length:
            whole = b"".join(body.first)[: body.length]
            made = encoder.compress(whole) + encoder.finish()
            headers.append(("Content-Length", str(len(made))))
            return Body(headers, [made], _nothing_of(body.rest), len(made))
        pieces = _pressed(encoder, body)
        return Body(headers, [next(pieces)], pieces, None)

    def _is_wanted(self, status: str, headers: Headers) -> bool:
        kind = ""
        for name, value in headers:
            small = lowered(name)
            if small == "content-type":
                kind = value.partition(";")[0].strip(" \t").lower()
            said = small == "cache-control" and "no-transform" in value.lower()
            if said or small in ("content-encoding", "content-range"):
                return False
        return status[:3] not in _OF_PARTS and self._rules.takes(kind)


def _nothing_of(rest: Iterator[bytes]) -> Iterator[bytes]:
    """What the handler does after the last byte of its body is done all the same."""
    next(rest, None)
    yield from ()


def _pressed(encoder: Encoder, body: Body) -> Iterator[bytes]:
    """The pieces; of a body without a length each goes out as it comes, for it may be a stream.
    Raises ValueError where the handler made less than it announced."""
    left = body.length
    first = True
    for pieces in (iter(body.first), body.rest):
        for piece in pieces:
            if left is not None:
                piece = piece[:left]
                left -= len(piece)
            made = encoder.compress(piece)
            if left is None or first:
                made += encoder.flush()
            first = False
            if made:
                yield made
            if left == 0:
                break
    if left:
        raise ValueError(f"the body ended {left} bytes early")
    yield encoder.finish()
    if left == 0:
        next(body.rest, None)


def _varied(headers: Headers) -> Headers:
    for name, value in headers:
        if lowered(name) == "vary" and re.search(
            r"(?i)(?:^|,)\s*(?:accept-encoding|\*)\s*(?:,|$)", value
        ):
            return headers
    return [*headers, ("Vary", "Accept-Encoding")]


def _encoded(headers: Headers, encoding: str) -> Headers:
    """The bytes are others: what names the old ones goes, or becomes weak."""
    changed: Headers = []
    for name, value in headers:
        small = lowered(name)
        if small in ("content-length", "accept-ranges", "content-md5", "digest", "repr-digest"):
            continue
        if small == "etag" and value.startswith('"'):
            value = f"W/{value}"
        changed.append((name, value))
    changed.append(("Content-Encoding", encoding))
    return changed
