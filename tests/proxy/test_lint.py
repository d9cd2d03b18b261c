"""What `bridge check` warns of: shadowed, unreachable and tied routes."""

import pytest

from bridge.proxy.lint import lint
from tests.proxy.site import TOP, route, table


@pytest.mark.parametrize(
    ("routes", "line", "says"),
    [
        ([route("a", "/p/<x>"), route("b", "/p/<y>")], 11, "`b` is shadowed: route `a` in line 10"),
        ([route("a", "/p"), route("b", "/p", more="query: {x: '1'}")], 11, "`b` is shadowed"),
        (
            [route("a", "/p", more="query: {x: true}"), route("b", "/p", more="query: {x: '1'}")],
            11,
            "`b` is shadowed",
        ),
        (
            [route("a", "/p", more="query: {x: '1'}"), route("b", "/p", more="query: {y: '1'}")],
            11,
            "equal rank",
        ),
        ([route("a", "/p//q")], 10, "nothing can reach it"),
        ([route("a", "/p?x=1")], 10, "nothing can reach it"),
        ([route("a", "/p", more="host: other.example")], 10, "no site has the host"),
    ],
)
def test_what_is_hardly_meant_is_named_with_its_line(
    routes: list[str], line: int, says: str
) -> None:
    (finding,) = lint(table(*routes), "routes.yaml")
    assert finding.line == line
    assert says in finding.message
    assert finding.hint


@pytest.mark.parametrize(
    "routes",
    [
        [route("a", "/p", more="query: {x: '1'}"), route("b", "/p", more="query: {x: '2'}")],
        [route("a", "/p", more="query: {x: '1'}"), route("b", "/p", more="query: {x: false}")],
        [route("a", "/p", more="methods: [GET]"), route("b", "/p", more="methods: [POST]")],
        [route("a", "/p", more="query: {x: '1'}"), route("b", "/q")],
        [route("a", "/<int:x>"), route("b", "/<x>")],
        [route("a", "/p"), route("b", "/p/")],
    ],
)
def test_routes_that_exclude_each_other_are_fine(routes: list[str]) -> None:
    assert lint(table(*routes), "routes.yaml") == []


def test_a_site_for_every_host_is_named() -> None:
    (finding,) = lint(table(top=TOP.replace("[forge.example]", "['*']")), "routes.yaml")
    assert "every host" in finding.message
