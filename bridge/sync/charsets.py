"""Character sets by the names that databases and people give them, and text that is in none.
Pure."""

from __future__ import annotations

import codecs
from typing import Any

__all__ = ["codec_of", "readable"]

# MySQL's own names. Its latin1 is Windows-1252 with the five bytes that are no character there.
_MYSQL = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "latin1": "bridge-latin1",
    "latin2": "iso8859-2",
    "latin5": "iso8859-9",
    "latin7": "iso8859-13",
    "greek": "iso8859-7",
    "hebrew": "iso8859-8",
    "koi8r": "koi8-r",
    "koi8u": "koi8-u",
    "ujis": "euc-jp",
    "euckr": "euc-kr",
    "sjis": "shift-jis",
    "tis620": "tis-620",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "macroman": "mac-roman",
    "macce": "mac-latin2",
}
_LATIN1 = {byte: chr(byte) for byte in range(256)} | {
    byte: bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0xA0)
    if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
}
_TO_LATIN1 = {ord(character): byte for byte, character in _LATIN1.items()}


def codec_of(name: str) -> str:
    """The name of Python's codec. Raises ValueError for a charset that is not known."""
    found = _MYSQL.get(name.casefold().replace("-", "").replace("_", ""), name)
    try:
        return codecs.lookup(found).name
    except LookupError:
        raise ValueError(f"the character set {name} is not known") from None


def _find(name: str) -> codecs.CodecInfo | None:
    if name.replace("_", "-") != "bridge-latin1":
        return None
    table = "".join(_LATIN1[byte] for byte in range(256))

    def decode(raw: Any, errors: str = "strict", /) -> tuple[str, int]:
        return codecs.charmap_decode(raw, errors, table)

    def encode(text: str, errors: str = "strict", /) -> tuple[bytes, int]:
        return codecs.charmap_encode(text, errors, _TO_LATIN1)

    return codecs.CodecInfo(encode, decode, name="bridge-latin1")


def readable(raw: bytes) -> str:
    """Bytes as text: UTF-8, and what is none is read as Windows-1252, byte by byte. So PHP's
    producer sends them (`BridgeProducerEvents::text`)."""
    return raw.decode("utf-8", "bridge-readable")


def _as_latin1(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _LATIN1[error.object[error.start]], error.start + 1


codecs.register(_find)
codecs.register_error("bridge-readable", _as_latin1)
