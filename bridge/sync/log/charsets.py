"""Text of the log in the character sets of the server: what SELECT would give of it. Pure.

The sets of Unicode are read by Python's codecs. Of every other one the server itself says what its
codes are: Python's tables of the same names differ from the server's in a third of them, and eight
it does not have. `question` is what to ask for one of them, `Decoder` what follows from the answer,
and `collations` asks it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from typing import NamedTuple

from bridge.errors import UndecodableMessage
from bridge.sync.log.sizes import Misread
from bridge.sync.log.tables import BINARY

__all__ = ["Charset", "Charsets", "Decode", "Decoder", "question", "utf8"]

Decode = Callable[[bytes], str]
"""Of the bytes of a value, its text. Raises UndecodableMessage."""


class Charset(NamedTuple):
    """A character set of the server. longest: bytes of its longest character."""

    name: str
    longest: int


class Charsets:
    """What the numbers of collations stand for. known: their character sets. ask: has a `question`
    answered by the server, the first time that a character set is met."""

    def __init__(self, known: Mapping[int, Charset], ask: Callable[[str], str]) -> None:
        self._known, self._ask = known, ask
        self._decoders: dict[str, Decode] = {}

    def decoder(self, collation: int) -> Decode | None:
        """Reads text of this collation; None for that of bytes. Raises Misread for one that the
        server does not know, and what `ask` raises."""
        if collation == BINARY:
            return None
        if (charset := self._known.get(collation)) is None:
            raise Misread(f"has a collation that the server does not know, number {collation}")
        if (found := self._decoders.get(charset.name)) is None:
            found = self._decoders[charset.name] = self._made(charset)
        return found

    def _made(self, charset: Charset) -> Decode:
        if charset.name in _UNICODE:
            return _unicode(charset.name)
        return Decoder(charset, self._ask(question(charset)))


_UNICODE = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
    "gb18030": "gb18030",
}
"""Python's codecs, which a test has compared on all codes; MySQL's gb18030 was not at hand."""

_END = b"0\n"
"""Behind each code of a question: no code has these as its second byte."""
_THREE = ("ujis", "eucjpms")
"""With codes of three bytes, of which the first one is 0x8F."""


def utf8(raw: bytes) -> str:
    """The text of bytes in UTF-8. Raises UndecodableMessage."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UndecodableMessage(f"its bytes are no UTF-8: {error.reason}") from None


def _unicode(charset: str) -> Decode:
    """Of a character set in _UNICODE."""
    codec = _UNICODE[charset]
    if codec == "utf-8":
        return utf8

    def decode(raw: bytes) -> str:
        try:
            return raw.decode(codec)
        except UnicodeDecodeError as error:
            raise UndecodableMessage(f"its bytes are no {charset}: {error.reason}") from None

    def decode_ucs2(raw: bytes) -> str:
        found = decode(raw)
        if not found.isascii() and max(found) > "\uffff":
            raise UndecodableMessage("its bytes are no ucs2: it has halves of characters")
        return found

    return decode_ucs2 if charset == "ucs2" else decode


def _codes(charset: Charset) -> Iterator[bytes]:
    """All codes that there can be."""
    for one in range(256):
        yield bytes((one,))
    if charset.longest > 1:
        for pair in product(range(0x80, 256), range(256)):
            if pair[1] != _END[1]:
                yield bytes(pair)
        if charset.name in _THREE:
            for pair in product(range(0xA0, 256), range(0xA0, 256)):
                yield bytes((0x8F, *pair))


def question(charset: Charset) -> str:
    """A SELECT of one text."""
    raw = b"".join(code + _END for code in _codes(charset))
    return f"SELECT CONVERT(CONVERT(x'{raw.hex()}' USING {charset.name}) USING utf8mb4)"


class Decoder:
    """Reads text of one character set.

    answer: of the server to its `question`. What is no character is `?`, as SELECT gives it. Raises
    Misread for an answer that cannot be one.
    """

    def __init__(self, charset: Charset, answer: str) -> None:
        codes = list(_codes(charset))
        found = answer.split(_END.decode())
        if len(found) != len(codes) + 1 or found[-1]:
            raise Misread(
                f"is in the character set {charset.name}, and the server does not say what its "
                "codes are: convert it to utf8mb4, or leave it out of sync.yaml"
            )
        # Where a code is none, each of its bytes is read for itself.
        texts = {code: text for code, text in zip(codes, found, strict=False) if len(text) == 1}
        singles = [texts.setdefault(bytes((one,)), "?") for one in range(256)]
        self._texts, self._single = texts, "".join(singles)
        self._cut = None if charset.longest == 1 else re.compile(_pattern(texts), re.DOTALL).findall
        self._is_ascii = all(text == chr(one) for one, text in enumerate(singles[:128]))

    def __call__(self, raw: bytes) -> str:
        if self._is_ascii and raw.isascii():
            return raw.decode("ascii")
        if self._cut is None:
            return codecs.charmap_decode(raw, "strict", self._single)[0]
        texts = self._texts
        return "".join([texts[code] for code in self._cut(raw)])


def _pattern(codes: Iterable[bytes]) -> bytes:
    """Finds the codes one by one, the longest first, and else single bytes."""
    ends: dict[bytes, set[int]] = {}
    for code in codes:
        if len(code) > 1:
            ends.setdefault(code[:-1], set()).add(code[-1])
    # Most leading bytes have the same bytes behind them.
    alike: dict[tuple[bytes, bytes], set[int]] = {}
    for begin, end in ends.items():
        alike.setdefault((begin[:-1], _any(end)), set()).add(begin[-1])
    ways = sorted(alike, key=lambda one: -len(one[0]))
    return b"|".join([*(re.escape(way[0]) + _any(alike[way]) + way[1] for way in ways), b"."])


def _any(of: Iterable[int]) -> bytes:
    return b"[" + b"".join(b"\\x%02x" % one for one in sorted(of)) + b"]"
