"""What of the differences between two sides is noise. Pure.

A place of Python's that differs is noise only where legacy differs from itself too, and in the
same way: another token of the same length and alphabet, the next number, a later date, the same
elements in another order. A noisy place that differs in another way is a difference.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bridge.evidence.answers import Answer
from bridge.evidence.comparers.difference import Differences
from bridge.evidence.comparers.finding import all_found, shown
from bridge.evidence.comparers.found import Found
from bridge.evidence.comparers.ignoring import Effect, Rules
from bridge.evidence.comparers.shapes import Region, kind_of, like, regions

__all__ = ["Settled", "Way", "settle"]

_LONGEST = 300  # characters of a value that is kept as a way
_MOST_WAYS = 400
_MOST_PAIRS = 50
_SEVERAL = 3  # noisy places of a row or column, so that one in their middle may be noisy, too
_NEARLY_ALL = 0.75  # of those between the first and the last noisy one
_WORD = re.compile(r"\w+")  # an address has some, too
_INDEX = re.compile(r"\[(\d+)\]")
_EXACT = frozenset({"status", "reason", "charset"})
"""Places whose values are names: another one is another meaning, however alike it looks."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which legacy differed from itself, to be known again on other pages of the route.

    group, kind, label, look: of the difference. old, new: the values, where they are short.
    """

    group: str
    kind: str
    label: str
    look: str
    old: str = ""
    new: str = ""


@dataclass(frozen=True)
class Settled:
    """What became of the differences of two pairs of answers.

    different: of the second pair, what legacy does not show against itself, or in another way.
    noise: what legacy against itself explains.
    gone: of the first pair, no noise, and no longer there.
    learned: how legacy differed from itself; `settle` takes them as `known` for other requests of
        the route, since dice may fall alike twice.
    used: the rules that took effect, as `Rule.text`.
    """

    different: Differences
    noise: Differences
    gone: Differences
    learned: frozenset[Way] = field(default_factory=frozenset)
    used: frozenset[str] = field(default_factory=frozenset)


def settle(
    legacy: Answer,
    python: Answer,
    legacy_again: Answer,
    python_again: Answer,
    rules: Rules,
    *,
    known: Collection[Way] = (),
    more: Sequence[Answer] = (),
) -> Settled:
    """What differs, what is noise, and what is gone.

    legacy, python: the first answers.
    legacy_again, python_again: the second ones.
    rules: what is not compared.
    known: what was learned from other requests of this route.
    more: further answers of legacy to the same request, where there are any.

    Raises NotComparable.
    """
    effect = Effect(rules)
    own = all_found(legacy_again, legacy, effect)
    for answer in more:
        own += all_found(legacy_again, answer, effect)
    noises = _Noises(own, known)
    last = all_found(legacy_again, python_again, effect)
    different = [one for one in last if not noises.explain(one)]
    noise = [one for one in last if noises.explain(one)]
    gone: list[Found] = []
    if python.digest != python_again.digest or own or _heads(python) != _heads(python_again):
        back = all_found(legacy, legacy_again, effect)
        for answer in more:
            back += all_found(legacy, answer, effect)
        earlier = _Noises(back, known)
        places = {(one.place, one.what) for one in different}
        seen = {one.place for one in noise}
        for one in all_found(legacy, python, effect):
            if earlier.explain(one):
                if one.place not in seen:
                    noise.append(one)
            elif (one.place, one.what) not in places:
                gone.append(one)
    return Settled(
        shown(different, effect),
        shown(noise, effect),
        shown(gone, effect),
        noises.learned(),
        frozenset(effect.used),
    )


def _heads(answer: Answer) -> object:
    return answer.status, sorted(answer.headers)


class _Noises:
    """How legacy differs from itself."""

    def __init__(self, own: Sequence[Found], known: Collection[Way]) -> None:
        self._spots: dict[str, list[Found]] = defaultdict(list)
        self._groups: dict[tuple[str, str], list[Found]] = defaultdict(list)
        self._known: dict[tuple[str, str, str], list[Way]] = defaultdict(list)
        for one in own:
            self._spots[one.spot].append(one)
            self._groups[one.group, one.kind].append(one)
        for way in known:
            self._known[way.group, way.kind, way.label].append(way)
        self._own = own

    def explain(self, one: Found) -> bool:
        """Whether legacy differs from itself there, in the same way."""
        if one.kind == "order":
            return any(own.kind == "order" for own in self._spots[one.spot]) or bool(
                self._known[one.group, "order", ""]
            )
        if one.kind == "node":
            return self._node(one)
        return self._value(one)

    def _node(self, one: Found) -> bool:
        """An element that legacy puts in and leaves out, too."""
        if one.what == "changed":
            return False
        text = one.old or one.new
        own = [(own.look, own.old or own.new) for own in self._groups[one.group, "node"]]
        own += [(way.look, way.old) for way in self._known[one.group, "node", ""]]
        return any(look == one.look and _similar(seen, text) for look, seen in own[:_MOST_PAIRS])

    def _value(self, one: Found) -> bool:
        here = [own for own in self._spots[one.spot] if own.kind == "value"]
        texts = [own.new for own in here]
        if one.new in texts:
            return True
        if one.place in _EXACT:
            return False
        noisy = [region for text in texts for region in regions(one.old, text)]
        pairs = self._pairs(one)
        noisy += [region for pair in pairs for region in regions(*pair)]
        if noisy and all(_in_way(region, noisy) for region in regions(one.old, one.new)):
            return True
        # Another text as a whole: a motto of the day.
        if texts and _rotating(one.old, texts):
            return like([one.old, *texts], one.new)
        return any(
            _rotating(old, [new])
            and kind_of(old) == kind_of(one.old)
            and like([one.old, old, new], one.new)
            for old, new in pairs
        )

    def _pairs(self, one: Found) -> list[tuple[str, str]]:
        """Values of legacy elsewhere that say how this place may differ."""
        ways = self._known[one.group, "value", one.label or one.place]
        pairs = [(way.old, way.new) for way in ways]
        others = _beside(one.place, self._groups[one.group, "value"])
        pairs += [(own.old, own.new) for own in others]
        return pairs[:_MOST_PAIRS]

    def learned(self) -> frozenset[Way]:
        """What other requests of the route may know."""
        ways = []
        for one in self._own[:_MOST_WAYS]:
            if one.kind != "value":
                text = (one.old or one.new)[:_LONGEST] if one.kind == "node" else ""
                ways.append(Way(one.group, one.kind, "", one.look, text))
            elif len(one.old) <= _LONGEST and len(one.new) <= _LONGEST:
                label = one.label or one.place
                ways.append(Way(one.group, "value", label, "", one.old, one.new))
        return frozenset(ways)


def _beside(place: str, others: Sequence[Found]) -> list[Found]:
    """The noisy places of the row or column that this one stands in the middle of, where nearly
    all of it is noisy: dice may have fallen alike just here. A column beside a noisy one is not.
    """
    for index in _INDEX.finditer(place):
        before, after, at = place[: index.start(1)], place[index.end(1) :], int(index[1])
        found: dict[int, Found] = {}
        for own in others:
            number = own.place[len(before) : len(own.place) - len(after)]
            if own.place == f"{before}{number}{after}" and number.isdecimal():
                found[int(number)] = own
        found.pop(at, None)
        between = len(found) >= _SEVERAL and min(found) < at < max(found)
        if between and len(found) >= _NEARLY_ALL * (max(found) - min(found)):
            return list(found.values())
    return []


def _similar(one: str, other: str) -> bool:
    """Whether two elements of one look differ in texts of the same kinds alone."""
    return all(
        kind_of(region.old) == kind_of(region.new) and like([region.old], region.new)
        for region in regions(one[:_LONGEST], other[:_LONGEST])
    )


def _rotating(old: str, others: Sequence[str]) -> bool:
    """Whether a text is another one as a whole, and not only in some of its pieces."""
    if any(kind_of(text) == "mixed" and " " in text for text in (old, *others)):
        return False
    kept = Counter(_WORD.findall(old))
    words = kept.total()
    if not words:
        return True
    for other in others:
        shared = (kept & Counter(_WORD.findall(other))).total()
        if shared and 2 * shared >= words:
            return False
    return True


def _in_way(region: Region, noisy: Sequence[Region]) -> bool:
    """Whether a run of pieces differs where legacy's differs, and in the same way."""
    values = [
        value
        for own in noisy
        if own.before == region.before and own.after == region.after
        for value in (own.old, own.new)
    ]
    return bool(values) and like([region.old, *values], region.new)
