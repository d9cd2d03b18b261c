"""Whether one value could have come from where others came: another token, a later date, the next
number. Pure.

Values are cut into pieces: words, numbers with their separators, dates, tokens. Where the answers
of legacy differ among themselves, the piece of Python has to be of the same kind, length and
alphabet; everywhere else it has to be equal.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache

__all__ = ["Region", "kind_of", "like", "regions"]

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*"
_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?:\s?[ap]\.?m\b\.?)?"
_ZONE = r"(?:\s?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
_DATE = (
    rf"\d{{4}}[-/]\d\d?[-/]\d\d?(?:[T ]{_TIME}{_ZONE})?"
    rf"|\d{{1,2}}[./]\d{{1,2}}[./]\d{{2,4}}(?:,?\s{_TIME}{_ZONE})?"
    rf"|(?:{_DAY},?\s)?\d{{1,2}}[ -]{_MONTH},?[ -]\d{{2,4}}(?:,?\s{_TIME}{_ZONE})?"
    rf"|(?:{_DAY},?\s)?{_MONTH}\s\d{{1,2}},?\s\d{{4}}(?:,?\s{_TIME}{_ZONE})?"
    rf"|(?:{_DAY},?\s)?{_MONTH}\s+\d{{1,2}}\s{_TIME}{_ZONE}(?:\s\d{{4}})?"
    rf"|{_TIME}{_ZONE}"
    r"|\d+\s(?:second|minute|hour|day|week|month|year)s?\b(?:\sago\b)?"
)
_RANDOM = (
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|(?=[\w+/-]*\d)(?=[\w+/-]*[a-z])(?=[\w+/-]*[A-Z])[A-Za-z0-9_+/-]{16,}={0,2}"
)
_NUMBER = r"\d+(?:[.,]\d+)*(?![^\W_])"
_PIECE = re.compile(
    rf"(?P<token>\b(?:{_RANDOM}))|(?P<date>\b(?i:{_DATE}))|(?P<number>\b{_NUMBER})"
    r"|(?P<word>[^\W_]+)|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)
_MOST_PIECES = 3_000
_RARE = 1e-6  # how unlikely chance has to be, before it is none
_PREFIX = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Region:
    """A run of pieces that differs: what stands before and after it, and both runs."""

    before: str
    after: str
    old: str
    new: str


@lru_cache(maxsize=512)
def _pieces(text: str) -> tuple[str, ...]:
    return tuple(match[0] for match in _PIECE.finditer(text))


def regions(old: str, new: str) -> list[Region]:
    """Where two values differ, in pieces."""
    if old == new:
        return []
    one, other = _pieces(old), _pieces(new)
    start, shorter = 0, min(len(one), len(other))
    while start < shorter and one[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    mine, yours = one[start : len(one) - end], other[start : len(other) - end]
    if len(mine) > _MOST_PIECES or len(yours) > _MOST_PIECES:
        spans = [(0, len(mine), 0, len(yours))]
    else:
        matcher = SequenceMatcher(None, mine, yours, autojunk=False)
        spans = [span for tag, *span in matcher.get_opcodes() if tag != "equal"]  # type: ignore[misc]
    return [
        Region(
            _side(one[max(0, start + i1 - 4) : start + i1][::-1]),
            _side(one[start + i2 : start + i2 + 4]),
            "".join(mine[i1:i2]),
            "".join(yours[j1:j2]),
        )
        for i1, i2, j1, j2 in spans
    ]


def _side(pieces: Sequence[str]) -> str:
    """The nearest piece that is no space; of one that has digits, that it is one."""
    for piece in pieces:
        if not piece.isspace():
            return "0" if any(char.isdigit() for char in piece) else piece
    return ""


@lru_cache(maxsize=512)
def kind_of(text: str) -> str:
    """empty, space, number, date, token (letters and digits mixed), words or mixed."""
    if not text:
        return "empty"
    if text.isspace():
        return "space"
    pieces = [match for match in _PIECE.finditer(text) if match.lastgroup != "space"]
    if len(pieces) == 1:
        kind = pieces[0].lastgroup or ""
        if kind != "word":
            return "mixed" if kind == "other" else kind
        return "token" if any(char.isdigit() for char in text) else "words"
    if any(match.lastgroup in ("token", "number", "date") for match in pieces):
        return "mixed"
    if any(char.isdigit() for char in text):
        return "mixed"
    return "words"


def like(values: Sequence[str], one: str) -> bool:
    """Whether `one` could be another value of what has been `values`."""
    if one in values:
        return True
    kind = kind_of(one)
    kinds = {kind_of(value) for value in values}
    if kind in ("empty", "space"):
        return kind in kinds
    same = [value for value in values if kind_of(value) == kind]
    if kind == "number" and same:
        return _number(same, one)
    if kind == "date" and same:
        return any(_blurred(value) == _blurred(one) for value in same)
    if kinds & {"number", "date"} and "token" not in kinds and kind != "mixed":
        return False
    if kind == "words" and same:
        return _length(same, one, 4.0)
    texts = [value for value in values if value]
    if "token" in kinds or (kind == "token" and kinds <= {"words", "number", "token"}):
        return _token(texts, one)
    if kind == "mixed" and "mixed" in kinds:
        return _length(same, one, 2.0) and _alphabet(one) <= set().union(
            *(_alphabet(value) for value in same)
        ) | {"digit"}
    return False


def _length(values: Sequence[str], one: str, factor: float) -> bool:
    sizes = [len(value) for value in values]
    return min(sizes) / factor - 1 <= len(one) <= max(sizes) * factor + 1


def _number(values: Sequence[str], one: str) -> bool:
    """As many digits, as a counter or dice have: one more or less."""
    wholes, fractions = zip(*(_parts(value) for value in values), strict=True)
    whole, fraction = _parts(one)
    digits = [len(re.sub(r"\D", "", each)) for each in wholes]
    mine = len(re.sub(r"\D", "", whole))
    if not min(digits) - 1 <= mine <= max(digits) + 1:
        return False
    if len(set(fractions)) == 1 and fractions[0] != fraction:
        return False
    if not min(fractions) - 3 <= fraction <= max(fractions) + 3:
        return False
    grouped = {
        bool(re.search(r"[.,]", each)) for each, n in zip(wholes, digits, strict=True) if n > 3
    }
    return mine <= 3 or not grouped or bool(re.search(r"[.,]", whole)) in grouped


def _parts(number: str) -> tuple[str, int]:
    """What stands before the decimals, and how many decimals there are."""
    match = re.fullmatch(r"(\d{1,3}(?:([.,])\d{3})+|\d+)(?:[.,](\d+))?", number)
    if match is None:
        return number, 0
    if match[2] and match[3] is None and match[1].count(match[2]) == 1 and match[1][0] == "0":
        whole, _, decimals = number.rpartition(match[2])
        return whole, len(decimals)  # 0.123
    return match[1], len(match[3] or "")


def _blurred(date: str) -> str:
    text = re.sub(r"[^\W\d_]+", "a", date)
    text = re.sub(r"\d{4,}", "0000", text)
    return re.sub(r"(?<!\d)\d{1,2}(?!\d)", "0", text)


_ALPHABETS = (
    ("digit", re.compile(r"[0-9]"), 10),
    ("hex", re.compile(r"[a-f]"), 6),
    ("lower", re.compile(r"[g-z]"), 20),
    ("HEX", re.compile(r"[A-F]"), 6),
    ("UPPER", re.compile(r"[G-Z]"), 20),
    ("sign", re.compile(r"[^0-9A-Za-z]"), 4),
)


@lru_cache(maxsize=512)
def _alphabet(text: str) -> frozenset[str]:
    return frozenset(name for name, pattern, _ in _ALPHABETS if pattern.search(text))


def _token(values: Sequence[str], one: str) -> bool:
    """Of the same length and alphabet, unless it is by chance that it is of fewer letters."""
    lengths = {len(value) for value in values}
    if len(lengths) == 1 and len(one) not in lengths:
        return False
    if not _length(values, one, 2.0):
        return False
    starts = {match[0] if (match := _PREFIX.match(value)) else "" for value in values}
    if len(starts) == 1 and (start := starts.pop()) and not one.startswith(start):
        return False
    seen = frozenset().union(*(_alphabet(value) for value in values))
    both = seen | _alphabet(one)
    return (
        _chance(both, seen, sum(map(len, values))) > _RARE
        and _chance(both, _alphabet(one), len(one)) > _RARE
    )


def _chance(letters: frozenset[str], used: frozenset[str], length: int) -> float:
    """How likely a random text of `letters` uses no more than `used`."""
    sizes = {name: size for name, _, size in _ALPHABETS}
    whole = sum(sizes[name] for name in letters)
    part = sum(sizes[name] for name in used)
    return float((part / whole) ** length) if whole else 1.0
