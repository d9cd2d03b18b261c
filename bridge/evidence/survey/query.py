"""Which page of a script is asked for: by whether a parameter is there (`t` of
`/viewtopic.php?t=…`), or by its value where it has few (`action=edit`). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_plus

from bridge.evidence.survey.tally import Tally

__all__ = ["Condition", "Shapes", "is_script"]

Condition = dict[str, str | bool]
Shape = tuple[tuple[str, str | bool], ...]

_WORD = re.compile(r"[A-Za-z][A-Za-z_-]{0,23}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,31}")
_TRACKING = re.compile(r"utm_.*|gclid|fbclid|msclkid|sid|phpsessid|_", re.IGNORECASE)
_SCRIPT = re.compile(r"\.(?:php\d?|phtml|cgi|pl|aspx?|jsp|do|cfm)", re.IGNORECASE)
_VALUES, _SHAPES = 16, 128
_SURE, _ODD = 50, 0.25
"""So many requests, and this share of them with other values: the parameter has too many."""
_OTHER: Shape = (("…", True),)
_LEAST, _FEW = 0.2, 0.01
"""Shares of the requests: for a parameter to tell pages apart, and for a value of it."""


def is_script(segment: str) -> bool:
    """Whether the last part of a path is a program, which may have many pages: `index.php`, or
    nothing after the last `/`."""
    return not segment or bool(_SCRIPT.search(segment))


class _Values:
    """The values of one parameter: `words` are those that may tell pages apart, None where there
    are too many; `odd` requests of `all` had another one."""

    __slots__ = ("all", "odd", "words")

    def __init__(self) -> None:
        self.words: set[str] | None = set()
        self.all = self.odd = 0

    def seen(self, value: str, requests: int) -> str | bool:
        """The value, or True where it tells nothing."""
        self.all += requests
        if self.words is None:
            return True
        if _WORD.fullmatch(value) and (value in self.words or len(self.words) < _VALUES):
            self.words.add(value)
            return value
        self.odd += requests
        return True

    def too_many(self) -> bool:
        return self.words is not None and self.all >= _SURE and self.odd > _ODD * self.all

    def merge(self, other: _Values) -> None:
        self.all += other.all
        self.odd += other.odd
        if self.words is None or other.words is None:
            self.words = None
        elif len(both := self.words | other.words) <= _VALUES:
            self.words = both
        else:
            self.words = None


class Shapes:
    """The requests of one path by what is in their query. Bounded, whatever is asked."""

    __slots__ = ("_values", "tallies")

    def __init__(self) -> None:
        self.tallies: dict[Shape, Tally] = {}
        self._values: dict[str, _Values] = {}

    def at(self, query: str, requests: int = 1) -> Tally:
        """The tally for a query (empty: there was none) of so many requests."""
        shape = tuple(self._read(query, requests)) if query else ()
        return self._tally(shape)

    def _tally(self, shape: Shape) -> Tally:
        found = self.tallies.get(shape)
        if found is None:
            if len(self.tallies) >= _SHAPES:
                shape = _OTHER
            found = self.tallies.setdefault(shape, Tally())
        return found

    def _read(self, query: str, requests: int) -> Iterator[tuple[str, str | bool]]:
        found: dict[str, str | bool] = {}
        for part in query[:2000].split("&", 30)[:30]:
            name, _, value = part.partition("=")
            if not _NAME.fullmatch(name) or _TRACKING.fullmatch(name):
                continue
            values = self._values.get(name)
            if values is None:
                if len(self._values) >= _SHAPES:
                    continue
                values = self._values[name] = _Values()
            found[name] = values.seen(unquote_plus(value), requests)
            if values.too_many():
                self._forget(name)
        yield from sorted(found.items())

    def _forget(self, name: str) -> None:
        """The parameter has too many values to tell pages apart by them."""
        self._values[name].words = None
        old, self.tallies = self.tallies, {}
        for shape, tally in old.items():
            self._tally(tuple((n, True if n == name else v) for n, v in shape)).merge(tally)

    def merge(self, other: Shapes) -> None:
        for name, values in other._values.items():
            mine = self._values.setdefault(name, _Values())
            mine.merge(values)
            if mine.too_many() or mine.words is None:
                self._forget(name)
        for shape, tally in other.tallies.items():
            self._tally(tuple((n, self._known(n, v)) for n, v in shape)).merge(tally)

    def _known(self, name: str, value: str | bool) -> str | bool:
        if value is True or name == "…":
            return value
        words = self._values[name].words
        return value if words is not None and value in words else True

    def pages(self, *, script: bool) -> Iterator[tuple[Condition, Tally, int]]:
        """The conditions on the query that tell pages apart, none of which another one fits, with
        their tallies, and how many combinations of other parameters each has."""
        if not script:
            yield {}, _sum(self.tallies), len(self.tallies)
            return
        yield from _split(self.tallies, {}, 2)


def _split(
    tallies: Mapping[Shape, Tally], given: Condition, levels: int
) -> Iterator[tuple[Condition, Tally, int]]:
    total = sum(tally.requests for tally in tallies.values())
    name = _telling(tallies, given, total) if levels else ""
    if not name:
        if tallies:
            yield given, _sum(tallies), len(tallies)
        return
    values: dict[str | bool, dict[Shape, Tally]] = {}
    counts: dict[str | bool, int] = {}
    for shape, tally in tallies.items():
        value = dict(shape).get(name, False)
        values.setdefault(value, {})[shape] = tally
        counts[value] = counts.get(value, 0) + tally.requests
    for value, count in counts.items():
        if isinstance(value, str) and count < _FEW * total:  # one in a hundred tells no page
            values.setdefault(True, {}).update(values.pop(value))
    for value, some in sorted(values.items(), key=lambda one: str(one[0])):
        yield from _split(some, {**given, name: value}, levels if value is False else levels - 1)


def _telling(tallies: Mapping[Shape, Tally], given: Condition, total: int) -> str:
    """The parameter that tells pages apart best: by few values first, then by being there; empty
    where none does."""
    words: dict[str, int] = {}
    there: dict[str, int] = {}
    for shape, tally in tallies.items():
        for name, value in shape:
            if name not in given and name != "…":
                counts = there if value is True else words
                counts[name] = counts.get(name, 0) + tally.requests
    told = any(value is not False for value in given.values())
    for counts in (words, {} if told else there):
        name = max(counts, key=lambda one: (counts[one], one), default="")
        if name and counts[name] >= _LEAST * total:
            return name
    return ""


def _sum(tallies: Mapping[Shape, Tally]) -> Tally:
    result = Tally()
    for tally in tallies.values():
        result.merge(tally)
    return result
