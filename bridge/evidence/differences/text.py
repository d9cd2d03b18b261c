"""The body of an answer as text that can be kept: decoded, and bounded whatever was sent. Pure."""

from __future__ import annotations

import codecs
import importlib
import re
import zlib
from typing import Any

from bridge.evidence.answers import Answer

__all__ = ["MOST", "kept_text"]

MOST = 256 * 1024
"""Most characters of a body that are kept."""

_LARGEST = 4 * MOST  # bytes that are decoded
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_CODECS = re.compile(
    r"utf-(?:8|16|32)[a-z-]*|ascii|iso8859-\d+|cp\d+|koi8.*|mac.*|euc.*|shift_jis.*|gb.*|big5.*"
)
"""Those of browsers, by Python's names. The others are slow, or make no text."""

_TEXTS = ("json", "xml", "javascript", "ecmascript", "x-www-form-urlencoded", "yaml")


def kept_text(answer: Answer) -> tuple[str, str]:
    """The body as text, and why it is not here or not as a whole; empty where it is."""
    if not answer.length:
        return "", ""
    if not answer.whole:
        return "", "it was too large to be taken along"
    kind = (answer.get("content-type") or "").lower()
    if not _is_text(kind, answer.body):
        return "", "it is no text"
    data, why = _decoded(answer.body, (answer.get("content-encoding") or "").lower().strip())
    text = data.decode(_charset(kind, data), "replace")
    if len(text) > MOST:
        text, why = text[:MOST], why or f"only the first {MOST // 1024} KiB are kept"
    return text, why


def _is_text(kind: str, body: bytes) -> bool:
    name = kind.partition(";")[0].strip()
    if not name:
        return b"\0" not in body[:1024]
    return name.startswith("text/") or any(word in name for word in _TEXTS)


def _charset(kind: str, data: bytes) -> str:
    said = _CHARSET.search(kind)
    meta = None if said else _META.search(data[:2048])
    name = said[1] if said else meta[1].decode("ascii", "replace") if meta else "utf-8"
    try:
        return name if _CODECS.fullmatch(codecs.lookup(name).name) else "utf-8"
    except (LookupError, ValueError):
        return "utf-8"


def _decoded(body: bytes, encoding: str) -> tuple[bytes, str]:
    """The content of a body, as much as is kept, and what is wrong with it."""
    if encoding in ("", "identity"):
        return body[:_LARGEST], ""
    try:
        if encoding in ("gzip", "x-gzip"):
            return zlib.decompressobj(31).decompress(body, _LARGEST), ""
        if encoding == "deflate":
            wrapped = len(body) > 1 and body[0] & 15 == 8 and not int.from_bytes(body[:2]) % 31
            return zlib.decompressobj(15 if wrapped else -15).decompress(body, _LARGEST), ""
        if encoding == "zstd":
            library: Any = importlib.import_module("zstandard")
            with library.ZstdDecompressor().stream_reader(body) as reader:
                return bytes(reader.read(_LARGEST)), ""
        if encoding == "br":
            library = importlib.import_module("brotli")
            reading = library.Decompressor()
            return bytes(reading.process(body, output_buffer_limit=_LARGEST)), ""
    except ImportError:
        return b"", f"it is compressed with {encoding}, whose library is not installed"
    except Exception:  # each library has its own, with no base in common
        return b"", f"it is damaged: no {encoding}"
    return b"", f"it is compressed with {encoding[:40]}, which nobody knows here"
