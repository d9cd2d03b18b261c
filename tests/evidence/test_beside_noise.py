"""What is wrong beside noise is different, from the first request on and after many."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from bridge.evidence.answers import Answer, Asked, Kind
from bridge.evidence.comparers.ignoring import Rules
from bridge.evidence.order import Order
from tests.evidence.test_order import Here

ASKED = Asked("GET", "/page", "forge.example")
DICE = random.Random(7)


def views() -> str:
    return f"{DICE.randrange(1000, 9999)}"


def token() -> str:
    return f"{DICE.getrandbits(64):016x}"


def html(inner: str) -> str:
    return f"<!DOCTYPE html><title>t</title>{inner}"


def rows(cells: Callable[[int], str]) -> str:
    return html(f"<table>{''.join(f'<tr>{cells(at)}</tr>' for at in range(6))}</table>")


def items(texts: list[str]) -> str:
    return html(f"<ul>{''.join(f'<li>{text}</li>' for text in texts)}</ul>")


CASES: dict[str, tuple[Callable[[], str], str, str]] = {
    "a column beside a noisy one": (
        lambda: rows(lambda at: f"<td>{4321 + at}</td><td>{views()}</td>"), "4321", "4328",
    ),
    "a price below counters": (
        lambda: items([*(f"{views()} views" for _ in range(6)), "100 EUR"]), "100 EUR", "190 EUR",
    ),
    "a number between counters": (
        lambda: items([*(f"{views()} views" for _ in range(3)), "5000 left", f"{views()} views"]),
        "5000", "6000",
    ),
    "a name": (lambda: html(f"<p>Hello anna</p><p>{token()}</p><p>{token()}</p>"), "anna", "otto"),
    "the host of a link with a token": (
        lambda: html(f'<a href="https://a.example/?t={token()}">x</a>'), "a.example", "b.example",
    ),
    "the path of a link with a token": (
        lambda: html(f'<a href="/p/1234?t={token()}">x</a>'), "/p/1234", "/p/4321",
    ),
    "the path before a lone token": (
        lambda: html(f'<a href="/x?{token()}">x</a>'), "/x", "/y",
    ),
    "a number before a time": (
        lambda: html(f"<p>Order 5511 at 10:{DICE.randrange(10, 59)}</p>"), "5511", "5512",
    ),
    "one of those in any order": (
        lambda: items(DICE.sample([f"ad {one}" for one in "abcdef"], 6)), "ad c", "ad z",
    ),
    "cells that changed places": (
        lambda: rows(lambda at: f"<td>n{at}</td><td>{100 + at}</td><td>{views()}</td>"),
        "<td>n2</td><td>102</td>", "<td>n2</td><td>103</td>",
    ),
    "a row among noisy ones": (
        lambda: rows(lambda at: f"<td>n{at}</td><td>{views()}</td>"),
        r"<tr><td>n3</td><td>\d+</td></tr>", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_different(name: str) -> None:
    make, old, new = CASES[name]

    def side(damage: bool) -> Callable[[Asked], Answer]:
        def answer(asked: Asked) -> Answer:
            text = make()
            if damage:
                text = re.sub(old, new, text)
            given = [("Content-Type", "text/html; charset=utf-8")]
            return Answer.of(200, given, text.encode(), "OK")

        return answer

    good, bad = side(damage=False), side(damage=True)
    order = Order(good, bad, Here(), 0.0)
    assert order.compare(ASKED, Rules(), route="page").kind is Kind.DIFFERENT

    order = Order(good, good, Here(), 0.0)
    kinds = [order.compare(ASKED, Rules(), route="page").kind for _ in range(12)]
    assert kinds.count(Kind.DIFFERENT) <= 2  # a few dice of many may fall alike three times
    order.python = bad
    for _ in range(4):
        assert order.compare(ASKED, Rules(), route="page").kind is Kind.DIFFERENT
