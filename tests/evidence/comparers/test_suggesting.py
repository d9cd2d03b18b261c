"""What was noise becomes rules that hide it."""

from __future__ import annotations

import itertools

import pytest

from bridge.evidence.comparers.finding import find
from bridge.evidence.comparers.ignoring import Rule, Rules
from bridge.evidence.comparers.noise import settle
from bridge.evidence.comparers.suggesting import suggest
from bridge.proxy.routing import models
from tests.evidence.comparers.pages import HTML, JSON, answer

COUNTER = itertools.count(1000)

PAGES = {
    '{"a": {"items": [{"seen": %d, "id": 1}]}}': [{"json": "$.a.items[*].seen"}],
    "<p>a</p><p>b %d</p>": [{"css": "html > body > p:nth-of-type(2)"}],
    "<div id=top><i>x</i><b title='%d'>y</b></div>": [{"css": "#top > b"}],
    "<ul><li>a %d<li>b %d</ul>": [{"css": "html > body > ul > li"}],
    "<div id='a:b'>%d</div>": [{"css": '[id="a:b"]'}],
}


@pytest.mark.parametrize("page", PAGES)
def test_noise_of_a_page_becomes_a_rule_that_hides_it(page: str) -> None:
    type_ = JSON if page.startswith("{") else HTML

    def made() -> str:
        return page % tuple(next(COUNTER) for _ in range(page.count("%d")))

    four = [answer(made(), type_) for _ in range(4)]
    rules = suggest(settle(*four, Rules()).noise)
    assert rules == PAGES[page]
    ignore = [models.Ignore.model_validate(rule) for rule in rules]
    assert find(four[0], four[1], Rules(tuple(map(Rule.of, ignore)))) == []


def test_a_header_becomes_a_rule_and_a_cookie_does_not() -> None:
    four = [
        answer("x", HTML, ("X-Trace", str(next(COUNTER))), ("Set-Cookie", f"a={next(COUNTER)}"))
        for _ in range(4)
    ]
    assert suggest(settle(*four, Rules()).noise) == [{"header": "X-Trace"}]


def test_no_rule_hides_the_whole_page() -> None:
    four = [answer(f"<body class=b{next(COUNTER)}>x") for _ in range(4)]
    noise = settle(*four, Rules()).noise
    assert noise
    assert suggest(noise) == []


def test_rules_count_on_their_routes_only() -> None:
    compare = models.Compare.model_validate(
        {"ignore": [{"css": ".ad"}, {"header": "X-A", "routes": ["project"]}]}
    )
    assert Rules.of(compare, "project").rules == (Rule("css", ".ad"), Rule("header", "x-a"))
    assert Rules.of(compare, "other").rules == (Rule("css", ".ad"),)
