"""Answers to compare, and pages made of trees."""

from __future__ import annotations

import random
from html import escape

from hypothesis import strategies as st

from bridge.evidence.answers import Answer
from bridge.evidence.comparers.difference import Differences
from bridge.evidence.comparers.finding import find
from bridge.evidence.comparers.ignoring import Rule, Rules

HTML = "text/html; charset=utf-8"
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


def answer(
    body: str | bytes,
    type_: str | None = HTML,
    *headers: tuple[str, str],
    status: int = 200,
    reason: str = "",
) -> Answer:
    """One with this body and these headers.

    body: a text is sent as UTF-8.
    type_: its Content-Type, or None for none.
    headers: further ones.
    status, reason: of the status line.
    """
    sent = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    first = [("Content-Type", type_)] if type_ is not None else []
    return Answer.of(status, [*first, *headers], sent, reason)


def found(
    legacy: Answer | str, python: Answer | str, *rules: Rule, type_: str = HTML
) -> Differences:
    """Where they differ; texts are answers of `type_`."""
    one, other = (
        each if isinstance(each, Answer) else answer(each, type_) for each in (legacy, python)
    )
    return find(one, other, Rules(rules))


def places(legacy: Answer | str, python: Answer | str, type_: str = HTML) -> list[tuple[str, str]]:
    """Place and kind of each difference."""
    return [(one.place, one.what) for one in found(legacy, python, type_=type_)]


class Branch:
    """An element of a page that a test makes: a tag, attributes, and texts or elements."""

    def __init__(self, tag: str, attrs: dict[str, str], children: list[Branch | str]) -> None:
        self.tag, self.attrs, self.children = tag, attrs, children

    def __str__(self) -> str:
        attrs = "".join(f' {name}="{escape(value)}"' for name, value in self.attrs.items())
        inner = "".join(
            escape(child) if isinstance(child, str) else str(child) for child in self.children
        )
        return f"<{self.tag}{attrs}>{inner}</{self.tag}>"

    def __repr__(self) -> str:
        return str(self)

    def below(self) -> list[Branch]:
        """It and all elements below."""
        return [
            self,
            *(
                inner
                for child in self.children
                if isinstance(child, Branch)
                for inner in child.below()
            ),
        ]


def page(body: Branch | str) -> str:
    """A whole page."""
    return f"<!DOCTYPE html>\n<html><head><title>t</title></head><body>{body}</body></html>"


@st.composite
def trees(draw: st.DrawFn, most: int = 25) -> Branch:
    """A tree of blocks, each with a text of its own or with other blocks."""
    seed = draw(st.integers(0, 2**32))
    size = draw(st.integers(1, most))
    dice = random.Random(seed)
    root = Branch("div", {}, [])
    blocks = [root]
    for at in range(size):
        parent = dice.choice(blocks)
        attrs = {"class": dice.choice("abc")} if dice.random() < 0.5 else {}
        if dice.random() < 0.3:
            attrs["title"] = f"title {dice.randrange(5)}"
        block = Branch(dice.choice(["div", "section", "article"]), attrs, [])
        parent.children.insert(dice.randint(0, len(parent.children)), block)
        blocks.append(block)
        if dice.random() < 0.1:
            block.attrs["id"] = f"id{at}"
    for block in blocks:
        if not block.children:
            # Few words, so that equal branches are common.
            block.children.append(dice.choice(["one", "two", "three", "four five six"]))
    return root
