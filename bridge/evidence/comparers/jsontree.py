"""JSON as a tree, and the places in it: key paths. Pure."""

from __future__ import annotations

import json

from bridge import jsonpath
from bridge.evidence.comparers.difference import NotComparable, group_of
from bridge.evidence.comparers.found import LONGEST, Found
from bridge.evidence.comparers.ignoring import Effect
from bridge.evidence.comparers.nodes import Builder, Node
from bridge.evidence.comparers.tree import Change, changes

__all__ = ["NoJson", "found_in_json"]

_MOST_VALUES = 400_000
_CONTAINERS = ("object", "array")

Place = tuple[str | int, ...]


class NoJson(ValueError):
    """A text that is no JSON."""


class _Pairs(list[tuple[str, object]]):
    """The members of an object in their order, a name that is there twice included."""


class _Number(str):
    """A number as it is written."""


def found_in_json(old: str, new: str, effect: Effect, most: int) -> list[Found]:
    """Where two JSON texts differ.

    old, new: the texts.
    effect: the rules at work.
    most: places that are told.

    1, 1.0 and "1" differ; the order of keys does not count; of a key that is there twice, the
    first is compared with the first. Raises NoJson, and NotComparable where it is too large or too
    deep.
    """
    builder = Builder()
    trees = [_json_tree(_parsed(text), effect) for text in (old, new)]
    for tree in trees:
        builder.number(tree)
    places = _JsonPlaces()
    return [places.found(change) for change in changes(trees[0], trees[1], most)]


def _parsed(text: str) -> object:
    try:
        return json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_int=_Number,
            parse_float=_Number,
            parse_constant=_Number,
        )
    except RecursionError:
        raise NotComparable("the JSON is nested too deeply") from None
    except ValueError as error:
        raise NoJson(str(error)) from None


def _json_tree(value: object, effect: Effect) -> Node:
    paths, used = effect.paths, effect.note
    root = Node("#json")
    count = 0
    stack: list[tuple[object, Node, Place]] = [(value, root, ())]
    while stack:
        one, parent, place = stack.pop()
        count += len(one) if isinstance(one, list) else 1
        if count > _MOST_VALUES:
            raise NotComparable(f"the JSON has more than {_MOST_VALUES:,} values")
        hiding = [text for text, path in paths if jsonpath.matches(path, place)]
        if hiding:
            for text in hiding:
                used("json", text)
            continue
        if isinstance(one, _Pairs):
            node = Node("object", keyed=True)
            for name, member in one:
                inside = Node("member", {"key": name})
                node.add(inside)
                stack.append((member, inside, (*place, name)))
        elif isinstance(one, list):
            node = Node("array")
            for at, item in enumerate(one):
                # An item of its own, so that what is ignored leaves its place behind.
                inside = Node("item")
                node.add(inside)
                stack.append((item, inside, (*place, at)))
        else:
            node = _scalar(one, effect)
        parent.add(node)
    return root


def _scalar(value: object, effect: Effect) -> Node:
    if isinstance(value, _Number):
        return Node("number", None, str(value))
    if isinstance(value, str):
        return Node("string", None, effect.without(value))
    return Node("word", None, json.dumps(value))


class _JsonPlaces:
    def __init__(self) -> None:
        self._items: dict[int, dict[int, int]] = {}

    def _place(self, node: Node | None) -> tuple[str | int, ...]:
        parts: list[str | int] = []
        while node is not None and node.parent is not None:
            if node.tag == "member":
                parts.append(node.attrs["key"])
            elif node.tag == "item":
                parts.append(self._at(node))
            node = node.parent
        return tuple(reversed(parts))

    def _at(self, node: Node) -> int:
        parent = node.parent
        assert parent is not None
        if id(parent) not in self._items:
            self._items[id(parent)] = {id(one): at for at, one in enumerate(parent.children)}
        return self._items[id(parent)][id(node)]

    def found(self, change: Change) -> Found:
        """With its place."""
        old, new = change.old, change.new
        if old is None:
            assert new is not None
            below = self._place(change.parent)
            last: str | int = new.attrs["key"] if new.tag == "member" else self._at_or_0(new)
            own = new.tag in ("member", "item")
            place = jsonpath.written((*below, last) if own else below)
            spot = jsonpath.written(below) + " +"
        else:
            place = jsonpath.written(self._place(old))
            spot = jsonpath.written(self._place(change.parent)) if change.order else place
        value = change.what == "changed" and old is not None and not old.children
        kind = "order" if change.order else "value" if value else "node"
        look = _kinds(old or new)
        texts = [_json_text(one) if one is not None else "" for one in (old, new)]
        return Found(place, change.what, spot, texts[0], texts[1], group_of(place), kind, look)

    def _at_or_0(self, node: Node) -> int:
        return self._at(node) if node.tag == "item" else 0


def _kinds(node: Node | None) -> str:
    if node is None:
        return ""
    return " ".join(
        f"{one.tag}{one.attrs.get('key', '')}"
        for one, _ in zip(node.walk(), range(20), strict=False)
    )[:300]


def _json_text(node: Node) -> str:
    """A value as JSON, cut."""
    parts: list[str] = []
    size = 0
    stack: list[Node | str] = [node]
    while stack and size < LONGEST:
        one = stack.pop()
        if isinstance(one, str):
            parts.append(one)
        elif one.tag == "string":
            parts.append(json.dumps(one.text, ensure_ascii=False))
        elif one.tag in _CONTAINERS:
            first, last = "{}" if one.tag == "object" else "[]"
            parts.append(first)
            stack.append(last)
            for at, child in enumerate(reversed(one.children)):
                stack += [","] if at else []
                stack.append(child)
        elif one.tag == "member":
            parts.append(json.dumps(one.attrs["key"], ensure_ascii=False) + ":")
            stack.extend(one.children)
        elif one.tag in ("item", "#json"):
            stack.extend(one.children)
        else:
            parts.append(one.text)
        size += len(parts[-1]) if parts else 0
    return "".join(parts)[:LONGEST]
