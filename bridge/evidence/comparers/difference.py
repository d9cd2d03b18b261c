"""What a comparison finds: one place where two answers differ."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Difference", "Differences", "NotComparable", "excerpts", "group_of"]

_MOST = 200  # characters of an excerpt
_CONTEXT = 40  # characters before the first difference
_INDEX = re.compile(r"\[\d+\]")
_NUMBERED = re.compile(r"#[\w:.-]*\d[\w:.-]*")
_LINE = re.compile(r"^(line|byte) \d+")


class NotComparable(Exception):
    """Two answers that cannot be compared. Its text says why, for operators."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two answers differ.

    place: exactly where, such as `html > body > ul > li[3] > a @href`, `header Vary`,
        `cookie sid; Path`, `$.items[2].name`, `line 12`, `byte 17`, `body`, `status`.
    group: the place without numbers: the same fault on other pages has the same one.
    what: changed, missing (legacy alone has it), added (Python alone has it), moved, or more (the
        rest of very many).
    legacy, python: what stands there, cut to 200 characters.
    """

    place: str
    group: str
    what: str
    legacy: str
    python: str


class Differences(list[Difference]):
    """Those of two answers. `used`: the rules that took effect, as `Rule.text`."""

    def __init__(self, found: Iterable[Difference] = (), used: frozenset[str] = frozenset()):
        super().__init__(found)
        self.used = used


def group_of(place: str) -> str:
    """The place without numbers and without ids that have digits."""
    place = _INDEX.sub("", place)
    place = _NUMBERED.sub("", place)
    return _LINE.sub(r"\1", place)


def excerpts(legacy: str, python: str) -> tuple[str, str]:
    """Both, cut to what shows where they differ first."""
    if len(legacy) <= _MOST and len(python) <= _MOST:
        return legacy, python
    at = 0
    for at, (one, other) in enumerate(zip(legacy, python, strict=False)):  # noqa: B007
        if one != other:
            break
    start = max(0, at - _CONTEXT)
    return _cut(legacy, start), _cut(python, start)


def _cut(text: str, start: int) -> str:
    cut = text[start : start + _MOST - 2]
    return ("…" if start else "") + cut + ("…" if start + len(cut) < len(text) else "")
