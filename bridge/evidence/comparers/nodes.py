"""Ordered trees, and which of their branches are equal. Pure.

HTML, JSON and lines of text become such trees, so that one way of comparing does for all.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["Builder", "Node"]


class Node:
    """One node, or the branch below it.

    tag: name of an element, or a kind such as #text.
    attrs: by name.
    text: of those that have no children.
    keyed: its children are told by their attribute `key`, and not by their order.

    A Builder fills in `same`, equal for equal branches, and `size`, the nodes of the branch.
    `twin` is the node of the other tree that it was compared with. `mark` is a number for who made
    the tree, and does not count.
    """

    __slots__ = (
        "attrs",
        "children",
        "keyed",
        "mark",
        "parent",
        "same",
        "size",
        "tag",
        "text",
        "twin",
    )

    def __init__(
        self,
        tag: str,
        attrs: dict[str, str] | None = None,
        text: str = "",
        keyed: bool = False,
    ) -> None:
        self.tag, self.attrs, self.text, self.keyed = tag, attrs or {}, text, keyed
        self.children: list[Node] = []
        self.parent: Node | None = None
        self.twin: Node | None = None
        self.same, self.size, self.mark = -1, 1, 0

    def add(self, child: Node) -> None:
        """Put it behind the other children."""
        child.parent = self
        self.children.append(child)

    def walk(self) -> Iterator[Node]:
        """The node and all below, each before its children, in order."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


class Builder:
    """Numbers subtrees: two trees that are to be compared are numbered by the same builder."""

    def __init__(self) -> None:
        self._known: dict[object, int] = {}

    def number(self, root: Node) -> None:
        """Fill `same` and `size` of the whole tree."""
        known = self._known
        for node in reversed(list(root.walk())):
            attrs = tuple(sorted(node.attrs.items())) if node.attrs else ()
            below: object = tuple([child.same for child in node.children])
            if node.keyed:
                below = _by_key(node.children)
            key = (node.tag, attrs, node.text, below)
            node.same = known.setdefault(key, len(known))
            node.size = 1 + sum(child.size for child in node.children)


def _by_key(children: list[Node]) -> frozenset[tuple[str, tuple[int, ...]]]:
    members: dict[str, list[int]] = {}
    for child in children:
        members.setdefault(child.attrs["key"], []).append(child.same)
    return frozenset((key, tuple(sames)) for key, sames in members.items())
