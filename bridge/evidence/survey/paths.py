"""The paths of a log as a tree, which becomes rules: where there are many values at a place, they
are values of a variable. How many there are is counted, nothing is guessed from one line.

Pure. The tree is exact until it has too many nodes; then places with many values become variables
at once. So its memory is bounded whatever is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.evidence.survey.query import Condition, Shapes, is_script
from bridge.evidence.survey.tally import Tally

__all__ = ["Paths", "Rule"]

_NODES = 50_000
_DEEPEST = 12
_FIRST, _FEW, _NUMBERS, _SCRIPTS = 40, 8, 3, 300
"""Values at a place that still stand for themselves: the first one of a path; deeper; numbers and
what looks like a digest; scripts."""
_LARGE, _PART, _HEAVY = 8, 0.05, 0.02
"""What stands out among many values: so many values below it, which are this share of the requests;
in the first place of a path, this share alone."""
_TOKEN = re.compile(
    r"(?=.*\d)[0-9a-fA-F]{16,}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
_EXTENSION = re.compile(r"(.+)(\.[A-Za-z][A-Za-z0-9]{0,4})")
_PLAIN = re.compile(r"[^<>%\\?#\x00-\x1f]*")


@dataclass(frozen=True)
class Rule:
    """Pages that belong together. `path` is a Werkzeug rule, `query` what must be in the query;
    `variants` counts combinations of other parameters. Without a variable it is one page."""

    path: str
    query: Condition
    tally: Tally
    variants: int

    def __str__(self) -> str:
        given = [(name, value) for name, value in self.query.items() if value is not False]
        shown = "&".join(f"{name}={'…' if value is True else value}" for name, value in given)
        without = [name for name, value in self.query.items() if value is False]
        text = f"{self.path}?{shown}" if shown else self.path
        return f"{text} without {', '.join(without)}" if without else text


class _Node:
    __slots__ = ("children", "shapes", "wild")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.wild: dict[str, _Node] = {}
        self.shapes: Shapes | None = None

    def all(self) -> Iterator[_Node]:
        yield from self.children.values()
        yield from self.wild.values()

    def size(self) -> int:
        return 1 + sum(node.size() for node in self.all())

    def weight(self) -> int:
        own = sum(one.requests for one in self.shapes.tallies.values()) if self.shapes else 0
        return own + sum(node.weight() for node in self.all())

    def merge(self, other: _Node) -> None:
        if other.shapes:
            if self.shapes is None:
                self.shapes = other.shapes
            else:
                self.shapes.merge(other.shapes)
        for mine, theirs in ((self.children, other.children), (self.wild, other.wild)):
            for name, node in theirs.items():
                if name in mine:
                    mine[name].merge(node)
                else:
                    mine[name] = node


def _kind(segment: str) -> str:
    """Of which kind of values it is one, as a part of a rule has it; empty: it stands for
    itself."""
    if not segment:
        return ""
    if segment.isdigit() and segment.isascii():
        return "<int:id>"
    if _TOKEN.fullmatch(segment):
        return "<token>"
    if found := _EXTENSION.fullmatch(segment):
        stem = "<int:id>" if found[1].isdigit() and found[1].isascii() else "<name>"
        return stem + found[2]
    return "<name>"


class Paths:
    """Every path that was asked for, with what is counted of it.

    nodes: the most that the tree has.
    """

    def __init__(self, nodes: int = _NODES) -> None:
        self._root, self._count, self._most = _Node(), 1, nodes

    def at(self, path: str, query: str, requests: int = 1) -> Tally:
        """What is counted for a canonical path, which begins with `/`, and a query that so many
        requests have."""
        if self._count > self._most:
            self._shrink()
        node = self._root
        segments = path.split("/")[1:]
        for depth, segment in enumerate(segments):
            found = node.children.get(segment)
            if found is None:
                rest = node.wild.get("<path:rest>")
                if rest and segment:  # which takes all but nothing
                    node = rest
                    break
                kind = _kind(segment)
                if not (found := node.wild.get(kind)):
                    if (depth >= _DEEPEST and segment) or not _PLAIN.fullmatch(segment):
                        node = self._new(node.wild, "<path:rest>")
                        break
                    found = self._new(node.children, segment)
            node = found
        if node.shapes is None:
            node.shapes = Shapes()
        tally = node.shapes.at(query, requests)
        tally.example = tally.example or path
        return tally

    def _new(self, places: dict[str, _Node], name: str) -> _Node:
        node = places[name] = _Node()
        self._count += 1
        return node

    def _shrink(self) -> None:
        _generalise(self._root, 0)
        deepest = _DEEPEST
        self._count = self._root.size()
        while self._count > self._most // 2 and deepest > 0:
            deepest -= 2
            _cut(self._root, deepest)
            self._count = self._root.size()

    def rules(self) -> list[Rule]:
        """Every rule, those with the most requests first."""
        _generalise(self._root, 0)
        found = [
            Rule(
                tally.example if len(tally.urls) == 1 and _PLAIN.fullmatch(tally.example) else path,
                query,
                tally,
                variants,
            )
            for path, node, last in _leaves(self._root, "", {})
            if node.shapes
            for query, tally, variants in node.shapes.pages(script=is_script(last))
        ]
        return sorted(found, key=lambda rule: (-rule.tally.requests, str(rule)))


def _limit(kind: str, depth: int) -> int:
    if kind.startswith(("<int:id>", "<token>")):
        return _NUMBERS
    if is_script(kind):
        return _SCRIPTS
    return _FEW if depth else _FIRST


def _generalise(node: _Node, depth: int) -> None:
    """Make variables of places with many values, from here down."""
    kinds: dict[str, list[str]] = {}
    for segment in node.children:
        if kind := _kind(segment):
            kinds.setdefault(kind, []).append(segment)
    for kind, segments in kinds.items():
        most = _limit(kind, depth)
        if len(segments) <= most and kind not in node.wild:
            continue
        outstanding = _outstanding(node, segments, depth)
        crowd = [one for one in segments if one not in outstanding]
        if len(crowd) <= most and kind not in node.wild:
            continue
        into = node.wild.setdefault(kind, _Node())
        for segment in crowd:
            into.merge(node.children.pop(segment))
    for child in node.all():
        _generalise(child, depth + 1)


def _outstanding(node: _Node, segments: list[str], depth: int) -> set[str]:
    """Those of many values that are names of their own: a folder among pages, or what much is
    asked for in the first place of a path."""
    below = {one: _below(node.children[one]) for one in segments}
    folders = max(_LARGE + 1, 4 * _middle(below.values()))
    looked_at = [one for one in segments if not depth or below[one] >= folders]
    if not looked_at:
        return set()
    whole = node.weight()
    found = set()
    for one in looked_at:
        weight = node.children[one].weight()
        if below[one] >= folders:
            if weight >= _PART * whole:
                found.add(one)
        elif weight >= max(_HEAVY * whole, _FEW):
            found.add(one)
    return found


def _below(node: _Node) -> int:
    """How many values there are at the next place; a variable counts for several."""
    return len(node.children) + _LARGE * len(node.wild)


def _middle(numbers: Iterable[int]) -> int:
    ordered = sorted(numbers)
    return ordered[len(ordered) // 2]


def _cut(node: _Node, depth: int) -> None:
    """Take all that is deeper together."""
    if depth <= 0:
        rest = node.wild.pop("<path:rest>", None) or _Node()
        end = node.children.pop("", None)  # which is not below
        for child in list(node.all()):
            for one in _everything(child):
                if one.shapes:
                    rest.shapes = rest.shapes or Shapes()
                    rest.shapes.merge(one.shapes)
        if node.children or node.wild or rest.shapes:
            node.children, node.wild = {}, {"<path:rest>": rest}
        if end:
            node.children[""] = end
        return
    for child in node.all():
        _cut(child, depth - 1)


def _everything(node: _Node) -> Iterator[_Node]:
    yield node
    for child in node.all():
        yield from _everything(child)


def _leaves(node: _Node, path: str, used: dict[str, int]) -> Iterator[tuple[str, _Node, str]]:
    """Each node with its rule and the last part of that."""
    for segment, child in node.children.items():
        here = f"{path}/{segment}"
        yield here, child, segment
        yield from _leaves(child, here, used)
    for kind, child in node.wild.items():
        name = re.findall(r"\w+(?=>)", kind)[0]
        count = used.get(name, 0) + 1
        here = f"{path}/{kind.replace(f'{name}>', f'{name}{count}>') if count > 1 else kind}"
        yield here, child, kind
        yield from _leaves(child, here, {**used, name: count})
