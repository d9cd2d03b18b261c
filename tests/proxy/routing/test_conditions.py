"""Which conditions of a route hold, what they depend on, and how a failed one is said."""

from __future__ import annotations

import pytest

from bridge.proxy.request.head import Head
from bridge.proxy.routing.conditions import Question
from tests.proxy.site import TOP, head, route, table

TWO = TOP.replace("forge.example]", "forge.example, '*.forge.example']").replace(
    "backends:", "  shop: {hosts: [shop.example], legacy: php}\nbackends:"
)


def asked(condition: str, request: Head, site: str = "forge") -> tuple[str, Question]:
    """What is unmet of a route with this condition, and the question that was asked."""
    [one] = table(route("one", "/p", "0%", condition), top=TWO).routes
    question = Question(request, site)
    unmet = one.conditions.unmet(question)
    assert question.fits(one) == (not unmet)
    return unmet, question


@pytest.mark.parametrize(
    ("condition", "request_", "unmet"),
    [
        ("methods: [GET]", head("/p"), ""),
        ("methods: [GET, POST]", head("/p", "PUT"), "method PUT is not in GET, POST"),
        ("site: forge", head("/p"), ""),
        ("site: shop", head("/p"), "site is forge, not shop"),
        ("host: forge.example", head("/p"), ""),
        ("host: '*.forge.example'", head("/p", host="www.forge.example"), ""),
        ("host: '*.forge.example'", head("/p"), "host is not *.forge.example"),
        ("query: {a: b}", head("/p?a=b"), ""),
        ("query: {a: b}", head("/p?a=c&a=b"), ""),
        ("query: {a: b}", head("/p?a=b&a=c"), "query parameter a is not b"),
        ("query: {a: b}", head("/p"), "query parameter a is not b"),
        ("query: {a: b}", head("/p?a[]=b"), "query parameter a is not b"),
        ("query: {a: true}", head("/p?a"), ""),
        ("query: {a: true}", head("/p?a[]=b"), ""),
        ("query: {a: true}", head("/p?b"), "query parameter a is absent"),
        ("query: {a: false}", head("/p?b"), ""),
        ("query: {a: false}", head("/p?a"), "query parameter a is present"),
        ("query: {a.b: c}", head("/p?a.b=c"), ""),
        ("query: {a: b, c: d}", head("/p?c=d"), "query parameter a is not b"),
        ("query: {a: b, c: d}", head("/p?a=b"), "query parameter c is not d"),
        ("cookies: {a: b}", head("/p", Cookie="a=b"), ""),
        ("cookies: {a: b}", head("/p", Cookie="a=c"), "cookie a is not b"),
        ("cookies: {a: b}", head("/p", Accept="a=b"), "cookie a is not b"),
        ("cookies: {a: true}", head("/p", Cookie="x=1; a="), ""),
        ("cookies: {a: true}", head("/p"), "cookie a is absent"),
        ("cookies: {a: false}", head("/p"), ""),
        ("cookies: {a: false}", head("/p", Cookie="a=b"), "cookie a is present"),
        ("cookies: {a.b: c}", head("/p", Cookie="a.b=c"), ""),
        ("cookies: {wp_*: true}", head("/p", Cookie="wp_x=1"), ""),
        ("cookies: {wp_*: true}", head("/p", Cookie="wp_=1"), ""),
        ("cookies: {wp_*: true}", head("/p", Cookie="x_wp_=1"), "cookie wp_* is absent"),
        ("cookies: {wp_*: false}", head("/p", Cookie="x_wp_=1"), ""),
        ("cookies: {wp_*: false}", head("/p", Cookie="wp_x=1"), "cookie wp_* is present: wp_x"),
        ("cookies: {wp_*: b}", head("/p", Cookie="wp_x=a; wp_y=b"), ""),
        ("cookies: {wp_*: b}", head("/p", Cookie="wp_x=a; b=b"), "cookie wp_* is not b"),
        (
            "cookies: {wp_settings_*: true}",
            head("/p", Cookie="wp_x=1"),
            "cookie wp_settings_* is absent",
        ),
        ("query: {'__a': b}", head("/p?__a=b"), ""),
        ("cookies: {a: b, c: d}", head("/p", Cookie="a=b"), "cookie c is not d"),
        ("headers: {X-A: b}", head("/p", x_a="b"), ""),
        ("headers: {X-A: b}", head("/p", x_a="c"), "header X-A is not b"),
        ("headers: {X-A: b}", head("/p"), "header X-A is not b"),
        ("headers: {X-A: true}", head("/p", x_a=""), ""),
        ("headers: {X-A: true}", head("/p"), "header X-A is absent"),
        ("headers: {X-A: false}", head("/p"), ""),
        ("headers: {X-A: false}", head("/p", x_a=""), "header X-A is present"),
    ],
)
def test_a_condition_holds_or_says_what_does_not(
    condition: str, request_: Head, unmet: str
) -> None:
    assert asked(condition, request_)[0] == unmet


def test_the_site_is_the_one_that_was_asked() -> None:
    assert asked("site: shop", head("/p"), "shop")[0] == ""


def test_the_cookies_of_several_lines_are_read_as_one() -> None:
    request = head("/p")
    lines = (*request.headers, ("cookie", "a=1"), ("Cookie", "b=2"))
    question = Question(Head("GET", request.target, request.host, lines), "forge")
    assert question.cookies == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("condition", "queried", "headers"),
    [
        ("", False, ()),
        ("methods: [GET], host: forge.example, site: forge", False, ()),
        ("query: {a: b}", True, ()),
        ("cookies: {a: b}", False, ("Cookie",)),
        ("headers: {X-A: b}", False, ("X-A",)),
        ("headers: {X-A: b}, cookies: {a: b}, query: {a: b}", True, ("X-A", "Cookie")),
    ],
)
@pytest.mark.parametrize("holds", [True, False])
def test_a_question_remembers_what_its_answer_depended_on(
    condition: str, queried: bool, headers: tuple[str, ...], holds: bool
) -> None:
    """Whether the condition held or not."""
    request = head("/p?a=b", Cookie="a=b", X_A="b") if holds else head("/p")
    _, question = asked(condition, request)
    assert (question.queried, question.headers) == (queried, headers)
    assert question.varies is (queried or bool(headers))


def test_a_question_collects_over_all_routes_that_it_was_asked_of() -> None:
    ours = table(
        route("a", "/a", "0%", "query: {a: b}"),
        route("b", "/b", "0%", "headers: {X-A: b, X-B: c}"),
        route("c", "/c", "0%", "headers: {X-B: b}, cookies: {a: b}"),
        route("d", "/d", "0%", "methods: [GET]"),
    )
    question = Question(head("/p"), "forge")
    seen = []
    for one in ours.routes:
        question.fits(one)
        seen.append((question.queried, question.headers))
    assert seen == [
        (True, ()),
        (True, ("X-A", "X-B")),
        (True, ("X-A", "X-B", "Cookie")),
        (True, ("X-A", "X-B", "Cookie")),
    ]


def test_a_route_that_looks_into_nothing_need_not_read_the_query() -> None:
    for condition, looks in (
        ("", False),
        ("methods: [GET]", False),
        ("query: {a: b}", True),
        ("cookies: {a: b}", True),
        ("headers: {a: b}", True),
    ):
        [one] = table(route("one", "/p", "0%", condition)).routes
        assert one.conditions.looks_into is looks
