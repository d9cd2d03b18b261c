"""HTML as the tree that browsers make of it (Lexbor), and places in it.

Whitespace counts as browsers collapse it, class as a set, attributes in any order.
"""

from __future__ import annotations

import hashlib
import re

from selectolax.lexbor import LexborHTMLParser, LexborNode

from bridge.evidence.comparers.difference import NotComparable
from bridge.evidence.comparers.found import LONGEST, Found
from bridge.evidence.comparers.ignoring import Effect
from bridge.evidence.comparers.nodes import Builder, Node
from bridge.evidence.comparers.tree import Change, changes

__all__ = ["found_in_html", "tree_of"]

_MOST_NODES = 500_000
_SPACE = re.compile(r"[ \t\n\f\r]+")
_RAW = frozenset({"script", "style", "pre", "textarea", "listing", "xmp", "plaintext", "title"})
_BLOCK_NAMES = (
    "html head body address article aside blockquote br button caption center col colgroup dd "
    "details dialog dir div dl dt fieldset figcaption figure footer form frameset h1 h2 h3 h4 h5 "
    "h6 header hgroup hr legend li link main menu meta nav noscript ol optgroup option p pre "
    "script search section select style summary table tbody td template tfoot th thead title tr "
    "ul base"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_ID = re.compile(r"[^\W\d][\w:.-]{0,39}")
_NAMING = ("name", "id", "property", "rel", "http-equiv", "type", "class")
_DEEP = 40  # parts of a place: of a deeper one the middle is left out


def tree_of(text: str, effect: Effect) -> Node:
    """The document as a tree. Raises NotComparable when it has too many nodes."""
    parser = LexborHTMLParser(text)
    ignored = _ignored(parser, effect)
    top = parser.root
    root = Node("#document")
    if top is None:
        return root
    start = top.parent if top.parent is not None else top
    nodes = 0
    # Each element with the node that it becomes; children are filled in when they are taken.
    stack: list[tuple[LexborNode, Node, bool]] = [(start, root, False)]
    while stack:
        element, node, raw = stack.pop()
        child = element.first_child
        while child is not None:
            nodes += 1
            if nodes > _MOST_NODES:
                raise NotComparable(f"the page has more than {_MOST_NODES:,} elements and texts")
            made = _node(child, raw, effect)
            if made is not None and not (ignored and child.mem_id in ignored):
                node.add(made)
                if made.tag == "template":
                    stack += [(inside, made, raw) for inside in child.template_fragments()[:1]]
                elif child.first_child is not None:
                    stack.append((child, made, raw or made.tag in _RAW))
            child = child.next
        if not raw:
            _collapse(node)
    return root


def _ignored(parser: LexborHTMLParser, effect: Effect) -> set[int]:
    ignored: set[int] = set()
    for selector in effect.rules.values("css"):
        found = parser.css(selector)
        if found:
            effect.note("css", selector)
            ignored.update(node.mem_id for node in found)
    return ignored


def _node(child: LexborNode, raw: bool, effect: Effect) -> Node | None:
    tag = child.tag
    if tag == "-text":
        text = effect.without(child.text_content or "")
        return Node("#text", None, text if raw else _SPACE.sub(" ", text)) if text else None
    if tag == "-comment":
        return Node("#comment", None, effect.without((child.comment_content or "").strip()))
    if tag == "-doctype":
        return Node("#doctype", None, child.html or "")
    attrs = {}
    for name, value in child.attributes.items():
        value = effect.without(value) if value else ""
        if name == "class":
            value = " ".join(sorted(set(value.split())))
        attrs[name] = value
    return Node(tag or "", attrs)


def _collapse(node: Node) -> None:
    """Texts beside each other become one, and whitespace that no browser shows goes."""
    children = node.children
    if not any(child.tag == "#text" for child in children):
        return
    merged: list[Node] = []
    for child in children:
        if child.tag == "#text" and merged and merged[-1].tag == "#text":
            merged[-1].text = _SPACE.sub(" ", merged[-1].text + child.text)
        else:
            merged.append(child)
    edge = node.tag in _BLOCKS or node.tag == "#document"
    seen = [child for child in merged if child.tag != "#comment"]
    for at, child in enumerate(seen):
        if child.tag != "#text":
            continue
        if (seen[at - 1].tag in _BLOCKS) if at else edge:
            child.text = child.text.removeprefix(" ")
        if (seen[at + 1].tag in _BLOCKS) if at + 1 < len(seen) else edge:
            child.text = child.text.removesuffix(" ")
    node.children = [child for child in merged if child.tag != "#text" or child.text]


def found_in_html(old: str, new: str, effect: Effect, most: int) -> list[Found]:
    """Where two documents differ.

    old, new: the documents.
    effect: the rules at work.
    most: places that are told.

    Raises NotComparable.
    """
    builder = Builder()
    one, other = tree_of(old, effect), tree_of(new, effect)
    builder.number(one)
    builder.number(other)
    places = _Places()
    return [places.found(change) for change in changes(one, other, most)]


class _Places:
    """Says where nodes are. Remembers which child each one is."""

    def __init__(self) -> None:
        self._children: dict[int, dict[int, tuple[int, int, int]]] = {}

    def _at(self, node: Node) -> tuple[int, int, int]:
        """Which child it is, which of its tag, and of how many of its tag; from 1."""
        parent = node.parent
        if parent is None:
            return 1, 1, 1
        known = self._children.get(id(parent))
        if known is None:
            counts: dict[str, int] = {}
            firsts = []
            for at, child in enumerate(parent.children, 1):
                counts[child.tag] = counts.get(child.tag, 0) + 1
                firsts.append((id(child), at, counts[child.tag], child.tag))
            known = {one: (at, nth, counts[tag]) for one, at, nth, tag in firsts}
            self._children[id(parent)] = known
        return known[id(node)]

    def path(self, node: Node | None, leaf: bool = False) -> str:
        """Its place. leaf: the last part is told by its number, never by its id."""
        parts: list[str] = []
        while node is not None and node.parent is not None:
            if not (node.tag == "#text" and not leaf):
                parts.append(self._part(node, by_id=bool(parts) or not leaf))
            node = node.parent
        parts.reverse()
        if len(parts) > _DEEP:
            parts = [*parts[: _DEEP // 2], "…", *parts[-_DEEP // 2 :]]
        return " > ".join(parts)

    def _part(self, node: Node, by_id: bool) -> str:
        name = node.attrs.get("id", "")
        same = node.twin is not None and node.twin.attrs.get("id", "") == name
        tag = {"#text": "text", "#comment": "comment", "#doctype": "doctype"}.get(
            node.tag, node.tag
        )
        if by_id and same and _ID.fullmatch(name):
            return f"{tag}#{name}"
        _, nth, count = self._at(node)
        return f"{tag}[{nth}]" if count > 1 else tag

    def spot(self, node: Node | None) -> str:
        """Its place by numbers alone; of a deep one a digest."""
        parts = []
        while node is not None and node.parent is not None:
            parts.append(str(self._at(node)[0]))
            node = node.parent
        text = "/".join(reversed(parts))
        return text if len(text) < 200 else hashlib.sha256(text.encode()).hexdigest()

    def found(self, change: Change) -> Found:
        """With its place."""
        old, new = change.old, change.new
        if change.attr is not None:
            assert old is not None
            assert new is not None
            mine, yours = old.attrs.get(change.attr, ""), new.attrs.get(change.attr, "")
            return Found(
                f"{self.path(old)} @{change.attr}",
                change.what,
                f"{self.spot(old)} @{change.attr}",
                mine[:LONGEST],
                yours[:LONGEST],
                _naming(old, new),
                "value" if change.what == "changed" else "node",
                "attribute",
            )
        if change.order:
            assert old is not None
            assert new is not None
            return Found(
                self.path(old, leaf=True),
                "moved",
                self.spot(change.parent),
                shown(old),
                shown(new),
                kind="order",
            )
        is_value = change.what == "changed" and old is not None and old.tag[0] == "#"
        if is_value and new is not None and new.tag == old.tag:  # type: ignore[union-attr]
            assert old is not None
            return Found(
                self.path(old),
                "changed",
                self.spot(old),
                old.text[:LONGEST],
                new.text[:LONGEST],
                _before(old),
            )
        return self._node(change)

    def _node(self, change: Change) -> Found:
        old, new = change.old, change.new
        look = _look(old) if old is not None else _look(new) if new is not None else ""
        if old is not None:
            return Found(
                self.path(old, leaf=True),
                change.what,
                self.spot(old),
                shown(old),
                shown(new) if new is not None else "",
                kind="node",
                look=look,
            )
        assert new is not None
        below = self.path(change.parent)
        leaf = self._part(new, by_id=False)
        return Found(
            f"{below} > {leaf}" if below else leaf,
            change.what,
            f"{self.spot(change.parent)} +",
            "",
            shown(new),
            kind="node",
            look=look,
        )


def _naming(old: Node, new: Node) -> str:
    """What an element is called, by attributes that are alike on both sides."""
    said = [
        f"{name}={old.attrs[name]}"
        for name in _NAMING
        if old.attrs.get(name) and old.attrs[name] == new.attrs.get(name)
    ]
    return (old.tag + " " + " ".join(said[:2]))[:100] if said else ""


def _before(node: Node) -> str:
    """The text that stands before a text, such as the head of its row; none over the edge of a
    block."""
    here: Node = node
    for _ in range(4):
        parent = here.parent
        if parent is None:
            break
        at = next(at for at, child in enumerate(parent.children) if child is here)
        for sibling in reversed(parent.children[max(0, at - 5) : at]):
            last = _last_text(sibling)
            if last:
                return re.sub(r"\d+", "0", last)[-40:]
        if parent.tag in _BLOCKS and parent.tag not in ("td", "dd"):
            break
        here = parent
    return ""


def _last_text(node: Node) -> str:
    for _ in range(50):
        if node.tag == "#text" and node.text.strip():
            return node.text.strip()
        if not node.children:
            return ""
        node = node.children[-1]
    return ""


def _look(node: Node) -> str:
    """What a branch looks like: its elements and their classes, without texts."""
    parts = []
    for below, _ in zip(node.walk(), range(30), strict=False):
        if below.tag != "#text":
            parts.append(f"{below.tag}.{re.sub(r'[0-9]+', '0', below.attrs.get('class', ''))}")
    return " ".join(parts)[:300]


def shown(node: Node) -> str:
    """A branch as HTML, cut to about 500 characters."""
    parts: list[str] = []
    size = 0
    stack: list[Node | str] = [node]
    while stack and size < 500:
        one = stack.pop()
        if isinstance(one, str):
            parts.append(one)
            size += len(one)
            continue
        if one.tag == "#text":
            text = one.text
        elif one.tag == "#comment":
            text = f"<!-- {one.text} -->"
        elif one.tag[0] == "#":
            text = one.text
        else:
            attrs = "".join(f' {name}="{value[:200]}"' for name, value in one.attrs.items())
            text = f"<{one.tag}{attrs}>"
            if one.children or one.text:
                stack.append(f"</{one.tag}>")
                stack.extend(reversed(one.children))
            text += one.text
        parts.append(text[:500])
        size += len(parts[-1])
    return "".join(parts)
