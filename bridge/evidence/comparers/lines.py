"""Texts by their lines, and bytes by their first difference. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bridge.evidence.comparers.difference import NotComparable
from bridge.evidence.comparers.found import LONGEST, Found
from bridge.evidence.comparers.ignoring import Effect
from bridge.evidence.comparers.nodes import Builder, Node
from bridge.evidence.comparers.tree import Change, changes

__all__ = ["found_in_bytes", "found_in_lines"]

_MOST = 400_000
_LINE = re.compile(r"\r\n|\n|\r")
_BETWEEN_TAGS = re.compile(r"(?<=>)[ \t]*(?=<)")
_SHOWN = 32  # bytes


def found_in_lines(
    old: str, new: str, effect: Effect, most: int, *, tags: bool = False
) -> list[Found]:
    """Where two texts differ, by lines.

    old, new: the texts.
    effect: the rules at work.
    most: places that are told.
    tags: XML is often written in one line; then each tag begins a piece of its own, and spaces
        between tags do not count. Nothing is parsed, so no entity is ever expanded.

    Raises NotComparable for very many lines.
    """
    old, new = effect.without(old), effect.without(new)
    builder = Builder()
    one, other = _tree(old, tags), _tree(new, tags)
    builder.number(one)
    builder.number(other)
    numbers = {id(node): at for at, node in enumerate(one.children, 1)}
    found = [_found(change, numbers) for change in changes(one, other, most)]
    ends = [sorted(set(_LINE.findall(text))) for text in (old, new)]
    if not tags and ends[0] != ends[1] and all(ends):
        shown = [" ".join(map(repr, one)) for one in ends]
        found.append(Found("line ends", "changed", "line ends", shown[0], shown[1]))
    return found


def _tree(text: str, tags: bool) -> Node:
    lines = _LINE.split(text)
    if len(lines) > _MOST:
        raise NotComparable(f"the text has more than {_MOST:,} lines")
    if not lines[-1]:
        lines.pop()  # the line end of the last line begins no other
    root = Node("#lines")
    for at, line in enumerate(lines, 1):
        for piece in _BETWEEN_TAGS.split(line) if tags else (line,):
            node = Node("#line", None, piece)
            node.mark = at
            root.add(node)
    return root


def _found(change: Change, numbers: Mapping[int, int]) -> Found:
    """numbers: of the pieces of the old text, by identity; a line of XML has several."""
    node = change.old or change.new
    assert node is not None
    place = f"line {node.mark}"
    old, new = (one.text[:LONGEST] if one else "" for one in (change.old, change.new))
    spot = f"piece {numbers[id(change.old)]}" if change.old is not None else "lines +"
    if change.order:
        return Found(place, "moved", "lines", old, new, kind="order")
    kind = "value" if change.what == "changed" else "node"
    return Found(place, change.what, spot, old, new, spot, kind, "line")


def found_in_bytes(old: bytes, new: bytes) -> list[Found]:
    """The first byte in which they differ, and their lengths."""
    if old == new:
        return []
    shorter = min(len(old), len(new))
    low, high = 0, shorter
    while low < high:  # halves, as comparing slices is quick
        middle = (low + high + 1) // 2
        if old[low:middle] == new[low:middle]:
            low = middle
        else:
            high = middle - 1
    shown = [f"{one[low : low + _SHOWN].hex(' ')} ({len(one):,} bytes)" for one in (old, new)]
    return [Found(f"byte {low}", "changed", "bytes", shown[0], shown[1])]
