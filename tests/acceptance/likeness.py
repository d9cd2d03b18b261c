"""Whether an answer through the proxy is the answer that was given directly.

Nothing is normalised on suspicion. The same request is asked twice directly; only the words
that differ between these two answers (a session's id, the second of a date) may differ in the
third one, and there they must be words of the same kind.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from tests.acceptance.raw_http import Answer

__all__ = ["Likeness", "end_to_end"]

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}
"""They speak about one connection, and there are two with a proxy and one without."""

# A date is one word: that only its second differs is chance.
_WORD = re.compile(
    rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (?:GMT|[+-]\d{4})"
    rb"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)|[A-Za-z0-9]+|[^A-Za-z0-9]"
)


def end_to_end(answer: Answer) -> list[tuple[str, str]]:
    """The headers that are the site's, in order and as spelt."""
    named = {token.strip().lower() for v in answer.all("Connection") for token in v.split(",")}
    return [pair for pair in answer.headers if pair[0].lower() not in HOP_BY_HOP | named]


@dataclass(frozen=True)
class Likeness:
    """What two direct answers to one request have in common."""

    first: Answer
    second: Answer

    def differences(self, answer: Answer) -> list[str]:
        """In words, each way in which `answer` is not what the site says directly."""
        found = []
        for what in ("status", "reason"):
            wanted, got = getattr(self.first, what), getattr(answer, what)
            if got != wanted:
                found.append(f"{what} is {got!r}, directly {wanted!r}")
        wanted_names = [name for name, _ in end_to_end(self.first)]
        names = [name for name, _ in end_to_end(answer)]
        if names != wanted_names:
            found.append(f"headers are {names}, directly {wanted_names}")
        else:
            headers = zip(
                end_to_end(self.first), end_to_end(self.second), end_to_end(answer), strict=True
            )
            for (name, wanted), (_, again), (_, got) in headers:
                first, second, third = (text.encode("latin-1") for text in (wanted, again, got))
                if not _same(first, second, third):
                    found.append(f"{name} is {got!r}, directly {wanted!r} and {again!r}")
        bodies = [self.first.body, self.second.body, answer.body]
        if bodies[0] != bodies[1]:
            bodies = [_plain(one) for one in (self.first, self.second, answer)]
        if not _same(*bodies):
            found.append(_first_difference(*bodies))
        return found

    def varying(self) -> tuple[list[str], list[tuple[bytes, bytes]]]:
        """What differs between the two direct answers: the names of the headers, and the words
        of the body before and after."""
        headers = zip(end_to_end(self.first), end_to_end(self.second), strict=True)
        names = [pair[0] for pair, again in headers if pair != again]
        if self.first.body == self.second.body:
            return names, []
        words = _words(_plain(self.first)), _words(_plain(self.second))
        return names, [(a, b) for a, b in zip(*words, strict=True) if a != b]


def _plain(answer: Answer) -> bytes:
    """The body without its compression; as it is if that is broken."""
    if answer.get("Content-Encoding") == "gzip":
        with contextlib.suppress(zlib.error):
            return zlib.decompress(answer.body, wbits=31)
    return answer.body


def _words(text: bytes) -> list[bytes]:
    return _WORD.findall(text)


def _same(first: bytes, second: bytes, third: bytes) -> bool:
    if first == second:
        return third == first
    one, two, three = _words(first), _words(second), _words(third)
    if not len(one) == len(two) == len(three):
        return False
    return all(
        c == a if a == b else _kind(c) in (_kind(a), _kind(b))
        for a, b, c in zip(one, two, three, strict=True)
    )


def _kind(word: bytes) -> tuple[str, int]:
    """Dates and numbers are of one length; so are the ids of sessions and tokens."""
    for kind, pattern in (("number", rb"\d+"), ("letters and digits", rb"[A-Za-z0-9]+")):
        if re.fullmatch(pattern, word):
            return kind, len(word)
    return "date" if len(word) > 1 else "sign", len(word)


def _first_difference(first: bytes, second: bytes, third: bytes) -> str:
    words: Sequence[list[bytes]] = [_words(text) for text in (first, second, third)]
    for number, (a, b, c) in enumerate(zip(*words, strict=False)):
        if a == b != c:
            around = b"".join(words[2][max(number - 8, 0) : number + 8])
            return f"body has {c!r} where directly is {a!r}: …{around!r}…"
    return f"body has {len(third)} bytes, directly {len(first)} and {len(second)}"
