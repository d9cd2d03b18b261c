"""Where two ordered trees differ, so that one edit is one difference: elements that were put in,
left out or moved do not make all that stands behind them different. Pure.

Equal branches are passed in one step; `bridge.evidence.comparers.aligning` says which children are
which.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from bridge.evidence.comparers.aligning import Comparison, aligned_children, keyed, worth
from bridge.evidence.comparers.nodes import Node

__all__ = ["Change", "changes"]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """One difference: what is changed (a text, or the attribute `attr`, or one node for another),
    missing, added or moved. `old` and `new` are the nodes, None where there is none; `parent` is
    where they are, in the old tree. Several nodes of one parent in another order are one change,
    of the first of them."""

    what: str
    parent: Node | None
    old: Node | None
    new: Node | None
    attr: str | None = None
    order: bool = False
    """Whether this is the order of one parent's children."""


def changes(old: Node, new: Node, most: int) -> list[Change]:
    """Where two trees that are numbered by one builder differ, in the order of the old one.

    most: of more changes than this, the first ones are returned.
    """
    if old.same == new.same:
        return []
    comparison = Comparison(old, new)
    found: list[Change] = []
    if old.tag != new.tag:
        return [Change("changed", None, old, new)]
    stack = [(old, new)]
    while stack:
        one, other = stack.pop()
        if one.same == other.same:
            continue
        one.twin, other.twin = other, one
        found += _own(one, other)
        match = keyed if one.keyed else aligned_children
        aligned = match(one, other, comparison)
        found += [Change("changed", one, *pair) for pair in aligned.replaced]
        found += [Change("missing", one, node, None) for node in aligned.missing]
        found += [Change("added", one, None, node) for node in aligned.added]
        if aligned.moved:
            found.append(Change("moved", one, *aligned.moved[0], order=True))
        stack.extend(reversed(aligned.pairs))
        if len(found) > 4 * most:
            break
    return _across(found)[:most]


def _own(old: Node, new: Node) -> list[Change]:
    found = []
    if old.text != new.text:
        found.append(Change("changed", old.parent, old, new))
    if old.attrs != new.attrs:
        found += [
            Change(_what(name, old, new), old.parent, old, new, name)
            for name in sorted(old.attrs.keys() | new.attrs.keys())
            if old.attrs.get(name) != new.attrs.get(name)
        ]
    return found


def _what(name: str, old: Node, new: Node) -> str:
    if name not in new.attrs:
        return "missing"
    return "changed" if name in old.attrs else "added"


def _across(found: list[Change]) -> list[Change]:
    """A branch that is missing here and added there has moved from one parent to another."""
    added: dict[int, list[Change]] = defaultdict(list)
    for change in reversed(found):
        if change.what == "added" and change.new is not None and change.attr is None:
            added[change.new.same].append(change)
    gone, result = set(), []
    for change in found:
        old = change.old
        if change.what == "missing" and old is not None and change.attr is None:
            there = added.get(old.same)
            if there and (old.children or worth(old)):
                twin = there.pop()
                gone.add(id(twin))
                change = Change("moved", change.parent, old, twin.new)
        result.append(change)
    return [change for change in result if id(change) not in gone]
