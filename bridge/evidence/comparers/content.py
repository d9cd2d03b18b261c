"""The body of an answer as what it is: decompressed, its kind, its charset. Pure and bounded."""

from __future__ import annotations

import codecs
import importlib
import re
import zlib
from dataclasses import dataclass
from typing import Any

from bridge.evidence.answers import Answer
from bridge.evidence.comparers.difference import NotComparable

__all__ = ["LARGEST", "Content", "content_of", "text_of"]

LARGEST = 64 * 2**20
"""Bytes of a body, decompressed. What is larger is not compared."""

_SLICE = 512  # bytes of zstd: they can become 128 KiB each four

_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([^\s"';,/>]+)""", re.IGNORECASE)
_META = re.compile(rb"<meta\b[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_LEGACY = {"iso8859-1": "cp1252", "ascii": "cp1252", "iso8859-9": "cp1254", "gb2312": "gbk"}
"""What browsers read, where these are written (WHATWG Encoding)."""


@dataclass(frozen=True, slots=True)
class Content:
    """kind: html, json, xml, text or bytes. charset: a codec of Python; empty where the answer
    names none that is known. encodings: of Content-Encoding, in lower case. broken: why the body
    could not be decompressed; then `body` is as it was sent."""

    kind: str
    charset: str
    body: bytes
    encodings: tuple[str, ...]
    broken: str = ""


def content_of(answer: Answer) -> Content:
    """That of an answer which is here as a whole. Raises NotComparable."""
    values = [value for name, value in answer.headers if name.lower() == "content-encoding"]
    encodings = tuple(
        one for value in values for one in map(str.strip, value.lower().split(",")) if one
    )
    body, broken = answer.body, ""
    for encoding in reversed([one for one in encodings if one != "identity"]):
        try:
            body = _decoded(encoding, body)
        except NotComparable:
            raise
        except Exception as error:  # each library has errors of its own
            body, broken = answer.body, f"no {encoding}: {error}"
            break
    if len(body) > LARGEST:
        raise NotComparable(_too_large())
    media = answer.get("content-type") or ""
    kind = _kind(media.partition(";")[0].strip().lower(), body)
    return Content(kind, _charset(media, kind, body), body, encodings, broken)


def _too_large() -> str:
    return f"the body is larger than {LARGEST >> 20} MiB"


def _decoded(encoding: str, body: bytes) -> bytes:
    if not body:
        return b""
    if encoding in ("gzip", "x-gzip"):
        return _inflated(body, 31)
    if encoding == "deflate":
        # Both are sent under this name: with the head of zlib, and without.
        return _inflated(body, 15 if body[0] & 0x0F == 8 and len(body) > 1 else -15)
    if encoding == "br":
        return _brotli(body)
    if encoding == "zstd":
        return _zstd(body)
    raise NotComparable(f"no way is known to decode Content-Encoding {encoding[:40]}")


def _bounded(body: bytes) -> bytes:
    if len(body) > LARGEST:
        raise NotComparable(_too_large() + " when it is decompressed")
    return body


def _inflated(body: bytes, window: int) -> bytes:
    """All members of it, one after the other."""
    parts, size = [], 0
    while body:
        inflate = zlib.decompressobj(window)
        part = inflate.decompress(body, LARGEST + 1 - size)
        size += len(part)
        parts.append(part)
        if size > LARGEST:
            raise NotComparable(_too_large() + " when it is decompressed")
        if not inflate.eof:
            raise ValueError("it ends too early")
        body = inflate.unused_data
    return b"".join(parts)


def _brotli(body: bytes) -> bytes:
    brotli = _library("brotli", "br")
    decoder = brotli.Decompressor()
    parts = [decoder.process(body, output_buffer_limit=LARGEST + 1)]
    size = len(parts[0])
    while not decoder.is_finished():
        if size > LARGEST:
            break
        if decoder.can_accept_more_data():
            raise ValueError("it ends too early")
        parts.append(decoder.process(b"", output_buffer_limit=LARGEST + 1 - size))
        size += len(parts[-1])
    return _bounded(b"".join(parts))


def _zstd(body: bytes) -> bytes:
    """All frames of it. A few bytes at a time, since each may become very many."""
    library = _library("zstandard", "zstd").ZstdDecompressor(max_window_size=2**27)
    frame = library.decompressobj()
    parts, size = [], 0
    for start in range(0, len(body), _SLICE):
        rest = body[start : start + _SLICE]
        while rest:
            if frame.eof:
                frame = library.decompressobj()
            parts.append(frame.decompress(rest))
            size += len(parts[-1])
            if size > LARGEST:
                raise NotComparable(_too_large() + " when it is decompressed")
            rest = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise ValueError("it ends too early")
    return b"".join(parts)


def _library(name: str, encoding: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise NotComparable(
            f"the body is {encoding}, and {name} is not installed; "
            "pip install 'php-python-bridge[compress]'"
        ) from None


def _kind(media: str, body: bytes) -> str:
    if media in ("text/html", "application/xhtml+xml"):
        return "html"
    if media in ("application/json", "text/json") or media.endswith("+json"):
        return "json"
    if media in ("application/xml", "text/xml") or media.endswith("+xml"):
        return "xml"
    if media.startswith("text/") or media.endswith(("javascript", "ecmascript")):
        return "text"
    if not media and re.match(rb"\s*(?:<!doctype html|<html)\b", body[:512], re.IGNORECASE):
        return "html"  # as browsers guess
    return "bytes"


def _charset(media: str, kind: str, body: bytes) -> str:
    for mark, name in _MARKS:
        if body.startswith(mark):
            return name
    named = _CHARSET.search(media)
    if named is not None and (known := _codec(named[1])):
        return known
    if kind == "html" and (meta := _META.search(body[:1024])):
        known = _codec(meta[1].decode("ascii", "replace"))
        return "utf-8" if known.startswith("utf-16") else known
    return "utf-8" if kind in ("json", "xml") else ""


def _codec(name: str) -> str:
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return ""
    # Codecs that are no charsets (rot13, zip) are none here, either.
    if not codecs.lookup(found)._is_text_encoding:
        return ""
    return _LEGACY.get(found, found)


def _private(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(chr(0xF700 + byte) for byte in wrong), error.end


codecs.register_error("bridge-private", _private)


def text_of(body: bytes, charset: str) -> str:
    """The text of a body. Bytes that are none in this charset become characters for private use
    (U+F700 and the byte), each its own: two that differ stay different."""
    try:
        text = body.decode(charset or "utf-8", "bridge-private")
    except (UnicodeError, LookupError):
        text = body.decode("latin-1")
    return text.removeprefix("\ufeff")
