"""Which children of one node are which of another one. Pure.

Children are matched by the longest run of equal ones that keeps its order; what is equal and out
of order has moved; what is left between two equal ones is paired by likeness. Time and memory are
n log n in the number of children: likeness is computed in small gaps only.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bridge.evidence.comparers.nodes import Node

__all__ = ["Aligned", "Comparison", "aligned_children", "keyed", "worth"]

_GAP = 2_500  # pairs of one gap whose likeness is computed
_ALL_GAPS = 200_000  # and of all gaps together
_FOREIGN = 8  # nodes of a branch: two that have nothing in common are not looked into
_SPACES = re.compile(" +")
_ALIKE = 0.4  # likeness of what is one and the same, whatever else is equal elsewhere
_WORTH = 12  # characters: a smaller text that is found elsewhere has not moved there, it is chance
_TEXTS = ("#text", "#line")


@dataclass
class Aligned:
    """What became of the children of two nodes."""

    pairs: list[tuple[Node, Node]] = field(default_factory=list)
    replaced: list[tuple[Node, Node]] = field(default_factory=list)
    missing: list[Node] = field(default_factory=list)
    added: list[Node] = field(default_factory=list)
    moved: list[tuple[Node, Node]] = field(default_factory=list)


class Comparison:
    """How often each branch is in the two trees, and how much likeness may still be computed."""

    def __init__(self, old: Node, new: Node) -> None:
        self.budget = _ALL_GAPS
        self._old, self._new = old, new

    @cached_property
    def olds(self) -> Counter[int]:
        """How often each branch is in the old tree."""
        return Counter([node.same for node in self._old.walk()])

    @cached_property
    def news(self) -> Counter[int]:
        """How often each branch is in the new tree."""
        return Counter([node.same for node in self._new.walk()])

    def left(self, node: Node) -> bool:
        """Whether a node of the old tree stands elsewhere in the new one."""
        return worth(node) and self.news[node.same] >= self.olds[node.same]

    def came(self, node: Node) -> bool:
        """Whether a node of the new tree stood elsewhere in the old one."""
        return worth(node) and self.olds[node.same] >= self.news[node.same]


def keyed(old: Node, new: Node, comparison: Comparison) -> Aligned:
    """The children by their keys: of a key that is there twice, the first with the first."""
    aligned = Aligned()
    others: dict[str, list[Node]] = defaultdict(list)
    for node in reversed(new.children):
        others[node.attrs["key"]].append(node)
    for node in old.children:
        twins = others[node.attrs["key"]]
        if twins:
            aligned.pairs.append((node, twins.pop()))
        else:
            aligned.missing.append(node)
    left = {id(node) for twins in others.values() for node in twins}
    aligned.added = [node for node in new.children if id(node) in left]
    return aligned


def aligned_children(old: Node, new: Node, comparison: Comparison) -> Aligned:
    """The children by their order."""
    olds, news = old.children, new.children
    shorter, start = min(len(olds), len(news)), 0
    while start < shorter and olds[start].same == news[start].same:
        start += 1
    end = 0
    while end < shorter - start and olds[-1 - end].same == news[-1 - end].same:
        end += 1
    olds, news = olds[start : len(olds) - end], news[start : len(news) - end]
    aligned = Aligned()
    matched = _ranked([n.same if _counts(n) else -1 for n in olds], [n.same for n in news])
    kept = _rising([there for _, there in matched])
    stays = [matched[at] for at in kept]
    kept_set = set(kept)
    aligned.moved = [
        (olds[here], news[there]) for at, (here, there) in enumerate(matched) if at not in kept_set
    ]
    taken_old = {here for here, _ in matched}
    taken_new = {there for _, there in matched}
    from_old = from_new = 0
    for here, there in [*stays, (len(olds), len(news))]:
        gap_old = [olds[at] for at in range(from_old, here) if at not in taken_old]
        gap_new = [news[at] for at in range(from_new, there) if at not in taken_new]
        if gap_old or gap_new:
            _gap(gap_old, gap_new, comparison, aligned)
        from_old, from_new = here + 1, there + 1
    return aligned


def _ranked(olds: Sequence[int], news: Sequence[int]) -> list[tuple[int, int]]:
    """Places of equal ones: the first with the first, the second with the second."""
    where: dict[int, list[int]] = defaultdict(list)
    for at in range(len(news) - 1, -1, -1):
        where[news[at]].append(at)
    return [(at, where[one].pop()) for at, one in enumerate(olds) if where.get(one)]


def _rising(numbers: Sequence[int]) -> list[int]:
    """The places of the longest rising subsequence."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    for at, number in enumerate(numbers):
        length = bisect_left(tails, number)
        before.append(ends[length - 1] if length else -1)
        if length == len(tails):
            tails.append(number)
            ends.append(at)
        else:
            tails[length], ends[length] = number, at
    result = []
    at = ends[-1] if ends else -1
    while at >= 0:
        result.append(at)
        at = before[at]
    return result[::-1]


def _gap(olds: list[Node], news: list[Node], comparison: Comparison, aligned: Aligned) -> None:
    """What of two runs of unequal nodes is one and the same, with changes."""
    if _divided(olds, news):
        # An element that is put into a text, or around a part of it, changes nothing of it.
        olds = [node for node in olds if node.tag != "#text"]
        news = [node for node in news if node.tag != "#text"]
    left = [one for one in olds if not _resembled(one, news) and comparison.left(one)]
    came = [one for one in news if not _resembled(one, olds) and comparison.came(one)]
    aligned.missing += left
    aligned.added += came
    if left or came:
        elsewhere = {id(node) for node in (*left, *came)}
        olds = [node for node in olds if id(node) not in elsewhere]
        news = [node for node in news if id(node) not in elsewhere]
    pairs = _likest(olds, news, comparison)
    from_old = from_new = 0
    alone = len(olds) + len(news) + len(left) + len(came)
    for here, there in [*pairs, (len(olds), len(news))]:
        rest_old, rest_new = olds[from_old:here], news[from_new:there]
        if len(rest_old) == len(rest_new) == 1:
            aligned.replaced.append((rest_old[0], rest_new[0]))
        else:
            aligned.missing += [n for n in rest_old if alone == 1 or not _blank(n)]
            aligned.added += [n for n in rest_new if alone == 1 or not _blank(n)]
        if here < len(olds):
            one, other = olds[here], news[there]
            if _foreign(one, other):
                aligned.replaced.append((one, other))
            else:
                aligned.pairs.append((one, other))
        from_old, from_new = here + 1, there + 1


def _resembled(node: Node, others: list[Node]) -> bool:
    """Whether it is rather one of these, with a change, than one that has moved."""
    return len(others) <= 50 and any(_likeness(node, other) >= _ALIKE for other in others)


def _likest(olds: list[Node], news: list[Node], comparison: Comparison) -> list[tuple[int, int]]:
    """Pairs in order, each of one tag, that are the most alike together."""
    cost = len(olds) * len(news)
    if cost > _GAP or cost > comparison.budget:
        return _by_label(olds, news)
    comparison.budget -= cost
    # best[i][j]: the sum of likeness of what can be paired from i and j on.
    best = [[0.0] * (len(news) + 1) for _ in range(len(olds) + 1)]
    alike = [[_likeness(one, other) for other in news] for one in olds]
    for i in range(len(olds) - 1, -1, -1):
        for j in range(len(news) - 1, -1, -1):
            skip = max(best[i + 1][j], best[i][j + 1])
            best[i][j] = max(skip, alike[i][j] + best[i + 1][j + 1] if alike[i][j] else 0.0)
    pairs, i, j = [], 0, 0
    while i < len(olds) and j < len(news):
        if alike[i][j] and best[i][j] == alike[i][j] + best[i + 1][j + 1]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _by_label(olds: list[Node], news: list[Node]) -> list[tuple[int, int]]:
    """As `_likest`, where there are too many: by tag, id and class alone."""
    labels: dict[object, int] = {}

    def label(node: Node) -> int:
        key = (node.tag, node.attrs.get("id"), node.attrs.get("class"))
        return labels.setdefault(key, len(labels))

    matched = _ranked([label(node) for node in olds], [label(node) for node in news])
    return [matched[at] for at in _rising([there for _, there in matched])]


def _likeness(one: Node, other: Node) -> float:
    """From 0 (another thing) to 1."""
    if one.tag != other.tag:
        return 0.0
    if one.same == other.same:
        return 1.0
    if one.tag in ("item", "member") and one.children and other.children:
        return _likeness(one.children[0], other.children[0]) or 0.05  # of JSON
    if one.text or other.text:
        return 0.1 + 0.8 * _overlap(one.text, other.text)
    score = 0.1
    mine, yours = one.attrs, other.attrs
    if "id" in mine and mine.get("id") == yours.get("id"):
        score += 0.3
    if mine == yours:
        score += 0.2
    elif mine.get("class") == yours.get("class"):
        score += 0.1
    longer = max(len(one.children), len(other.children))
    if longer:
        ours = Counter(child.same for child in one.children[:500])
        shared = ours & Counter(child.same for child in other.children[:500])
        score += 0.3 * shared.total() / min(longer, 500)
        if not shared:
            kinds = Counter(child.tag for child in one.children[:500])
            alike = kinds & Counter(child.tag for child in other.children[:500])
            score += 0.05 * alike.total() / min(longer, 500)
            mine_text, yours_text = _first_text(one), _first_text(other)
            if mine_text and yours_text:
                score += 0.2 * _overlap(mine_text, yours_text)
    return score


def _overlap(one: str, other: str) -> float:
    """How much of two texts is alike at the start and at the end, from 0 to 1."""
    shorter, start = min(len(one), len(other), 2_000), 0
    while start < shorter and one[start] == other[start]:
        start += 1
    end = 0
    while end < shorter - start and one[-1 - end] == other[-1 - end]:
        end += 1
    longer = min(max(len(one), len(other)), 2_000)
    return min(1.0, (start + end) / longer) if longer else 1.0


def _first_text(node: Node) -> str:
    for at, below in enumerate(node.walk()):
        if below.text:
            return below.text
        if at > 20:
            break
    return ""


def _foreign(one: Node, other: Node) -> bool:
    """Whether two branches have so little in common that one stands in place of the other."""
    if min(one.size, other.size) < _FOREIGN or one.attrs == other.attrs:
        return False
    if one.tag in ("html", "head", "body") or one.attrs.get("id", "") == other.attrs.get("id"):
        return False
    mine = {node.same for node, _ in zip(one.walk(), range(2_000), strict=False)}
    yours = {node.same for node, _ in zip(other.walk(), range(2_000), strict=False)}
    return not mine & yours


def _divided(olds: list[Node], news: list[Node]) -> bool:
    """Whether two runs have the same text, in other elements."""
    if _text(olds) == _text(news):
        return True
    # Where an element comes or goes, browsers join the spaces around it, or drop them.
    if _elements(olds) != _elements(news) and _joined(_text(olds)) == _joined(_text(news)):
        return True
    whole = _whole_text(olds)
    return whole is not None and whole == _whole_text(news)


def _elements(nodes: list[Node]) -> int:
    return sum(1 for node in nodes if node.tag != "#text")


def _joined(text: str) -> str:
    return _SPACES.sub("", text)


def _text(nodes: list[Node]) -> str:
    return "".join(node.text for node in nodes if node.tag == "#text")


def _whole_text(nodes: list[Node]) -> str | None:
    """The text of all that is in them; None where it is long."""
    parts: list[str] = []
    for node in nodes:
        if node.size > 200 or len(parts) > 1_000:
            return None
        parts += [below.text for below in node.walk() if below.tag == "#text"]
    return "".join(parts)


def _blank(node: Node) -> bool:
    return node.tag == "#text" and not node.text.strip()


def _counts(node: Node) -> bool:
    """Whether a node can be said to have moved, or holds others apart."""
    return not _blank(node)


def worth(node: Node) -> bool:
    if node.tag in _TEXTS or not node.children:
        return len(node.text) >= _WORTH
    return node.size >= 3 or any(len(child.text) >= _WORTH for child in node.children)
