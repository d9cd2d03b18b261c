"""Two texts beside each other, line by line, with what differs marked. Pure, and bounded whatever
the texts are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from bridge.evidence.differences.found import Page

__all__ = ["Piece", "Row", "beside", "head_of", "plain"]

Piece = tuple[str, bool]
"""A text, and whether it is marked."""

_AROUND = 3  # equal lines that are shown before and after what differs
_LONGEST = 400  # characters of a line; longer ones are broken
_MOST_LINES = 20_000
_MOST_ALIGNED = 1000  # lines between the first and the last that differ; of more, each with its own
_MOST_WORDS = 200  # of a line, that are aligned
_MOST_ROWS = 600
_ENDS = re.compile(r"\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_TAG = re.compile(r"(?<=>)(?=<)")
_WORD = re.compile(r"\w+|\s+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of both sides; None: that side has no such line.

    mark: what a reader without colours sees: ` ` equal, `!` changed, `-` only legacy's, `+` only
        Python's, `…` lines that are left out, in words on both sides.
    """

    mark: str
    legacy: tuple[Piece, ...] | None
    python: tuple[Piece, ...] | None


def plain(text: str) -> str:
    """`text` with each sign that nobody would see, or that would change how others are shown, as
    an escape (`\\u202e`): it is a stranger's."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else ascii(char)[1:-1] for char in text
    )


def head_of(page: Page | None) -> str:
    """Status and headers of an answer, a line each, by name."""
    if page is None:
        return ""
    lines = [f"{name}: {value}" for name, value in sorted(page.headers, key=_by_name)]
    return "\n".join([f"{page.status} {page.reason}".strip(), *lines])


def beside(legacy: str, python: str) -> list[Row]:
    """The lines of both texts, without those that are far from any difference."""
    # Both in the same way: a page that is one line is none on the other side, too.
    broken = any(len(line) > _LONGEST for text in (legacy, python) for line in _ENDS.split(text))
    left, right = _lines(legacy, broken=broken), _lines(python, broken=broken)
    rows = list(_aligned(left, right))
    near = [False] * len(rows)
    for at, row in enumerate(rows):
        if row.mark != " ":
            for beside_it in range(max(0, at - _AROUND), min(len(rows), at + _AROUND + 1)):
                near[beside_it] = True
    shown: list[Row] = []
    skipped = 0
    for row, kept in zip(rows, near, strict=True):
        if not kept:
            skipped += 1
            continue
        if skipped:
            shown.append(_left_out(skipped))
            skipped = 0
        shown.append(row)
    if skipped:
        shown.append(_left_out(skipped))
    if len(shown) > _MOST_ROWS:
        more = sum(row.mark not in " …" for row in shown[_MOST_ROWS:])
        shown = [*shown[:_MOST_ROWS], _words(f"{more:,} more lines that differ")]
    return shown


def _by_name(header: tuple[str, str]) -> str:
    return header[0].lower()


def _left_out(many: int) -> Row:
    return _words(f"{many:,} equal {'line' if many == 1 else 'lines'}")


def _words(text: str) -> Row:
    return Row("…", ((text, False),), ((text, False),))


def _lines(text: str, *, broken: bool) -> list[str]:
    """Lines as people read them; `broken` between tags, and where they are long."""
    found: list[str] = []
    for line in _ENDS.split(text):
        parts = _TAG.split(line) if broken else [line]
        for part in parts:
            starts = range(0, max(1, len(part)), _LONGEST)
            found += [plain(part[start : start + _LONGEST]) for start in starts]
        if len(found) > _MOST_LINES:
            return [*found[:_MOST_LINES], "(the rest is left out)"]
    while found and not found[-1]:
        found.pop()
    return found


def _aligned(left: Sequence[str], right: Sequence[str]) -> Iterator[Row]:
    first = 0
    while first < min(len(left), len(right)) and left[first] == right[first]:
        first += 1
    last = 0
    while last < min(len(left), len(right)) - first and left[-1 - last] == right[-1 - last]:
        last += 1
    yield from (_equal(line) for line in left[:first])
    yield from _middle(left[first : len(left) - last], right[first : len(right) - last])
    yield from (_equal(line) for line in left[len(left) - last :])


def _middle(left: Sequence[str], right: Sequence[str]) -> Iterator[Row]:
    if max(len(left), len(right)) > _MOST_ALIGNED:
        yield from _replaced(left, right, words=False)
        return
    budget = 200  # pairs of lines whose words are aligned
    for tag, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            yield from (_equal(line) for line in left[a:b])
            continue
        budget -= max(b - a, d - c)
        yield from _replaced(left[a:b], right[c:d], words=budget >= 0)


def _replaced(left: Sequence[str], right: Sequence[str], *, words: bool) -> Iterator[Row]:
    for at in range(max(len(left), len(right))):
        if at >= len(left):
            yield Row("+", None, ((right[at], True),))
        elif at >= len(right):
            yield Row("-", ((left[at], True),), None)
        elif left[at] == right[at]:
            yield _equal(left[at])
        elif words:
            yield _changed(left[at], right[at])
        else:
            yield Row("!", ((left[at], True),), ((right[at], True),))


def _equal(line: str) -> Row:
    return Row(" ", ((line, False),), ((line, False),))


def _changed(left: str, right: str) -> Row:
    """A line of both with its words aligned."""
    ours, theirs = _WORD.findall(left), _WORD.findall(right)
    if max(len(ours), len(theirs)) > _MOST_WORDS:
        return Row("!", ((left, True),), ((right, True),))
    legacy: list[Piece] = []
    python: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        for pieces, words in ((legacy, ours[a:b]), (python, theirs[c:d])):
            if words:
                pieces.append(("".join(words), tag != "equal"))
    return Row("!", tuple(legacy), tuple(python))
