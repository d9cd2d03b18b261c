"""Paths are matched as Werkzeug matches them, at a cost that has a bound for any rules and path."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule

from bridge.proxy.request import superglobals
from bridge.proxy.routing import matcher, pattern
from bridge.proxy.routing.matcher import Matcher, fits, read_rule
from tests.proxy.site import decided, head, route, table

CONVERTERS = [
    "",
    "",
    "",
    "int:",
    "int(signed=True):",
    "int(fixed_digits=2):",
    "float:",
    "float(signed=True):",
    "string(length=2):",
    "string(maxlength=2):",
    "string(minlength=2, maxlength=3):",
    "any(a, aa, ab, b):",
    "any('-', '-1', '1'):",
    "uuid:",
]
UUID = "12345678-1234-1234-1234-123456789abc"
TEXTS = ["", "", "-", "-", ".", "a", "1", "--", ".html", "(", "_a"]
SEGMENT = st.lists(st.sampled_from(CONVERTERS + TEXTS), min_size=1, max_size=5)
PATH_TEXTS = ["a", "aa", "-", "-", ".", "1", "12", "b", "/", "1.5", "--", ".html", UUID, "٣", "é"]
PATHS = st.lists(st.sampled_from(PATH_TEXTS), max_size=9).map(lambda parts: "/" + "".join(parts))


@st.composite
def rules(draw: st.DrawFn) -> str:
    """A rule of up to three segments, the last of which may take slashes."""
    parts = draw(st.lists(SEGMENT, max_size=3))
    ending = draw(
        st.sampled_from(["", "", "/", "/<path:rest>", "/<path:rest>/edit", "/a<path:r>/<q>"])
    )
    names = iter(range(100))
    segments = [
        "".join(f"<{one}v{next(names)}>" if one in CONVERTERS else one for one in part)
        for part in parts
    ]
    rule = "".join(f"/{one}" for one in segments if one) + ending
    return rule or "/"


VARIABLE = re.compile(r"<[^>]*>")


@st.composite
def rules_and_path(draw: st.DrawFn, most: int = 8) -> tuple[list[str], str]:
    """Some rules, and a path that is made to fit one of them, or nearly."""
    made = draw(st.lists(rules(), min_size=1, max_size=most))
    value = st.lists(st.sampled_from(PATH_TEXTS), min_size=1, max_size=2).map("".join)
    path = VARIABLE.sub(lambda _: draw(value), draw(st.sampled_from(made)))
    return made, path if draw(st.integers(0, 9)) else draw(PATHS)


def werkzeug_takes(paths: list[str], path: str) -> tuple[int, dict[str, Any]] | None:
    """The first rule in Werkzeug's order that fits, its variables; None where none does."""
    made = [Rule(one, endpoint=number) for number, one in enumerate(paths)]
    bound = Map(made, strict_slashes=False, merge_slashes=False, redirect_defaults=False).bind("")
    try:
        return bound.match(path)  # type: ignore[return-value]
    except HTTPException:
        return None


def canonical(path: str) -> bool:
    return "//" not in path


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules_and_path(1))
@example((["/archive/<year>-<month>-<day>.html"], "/archive/1-2-3-4.html"))
@example((["/<a><b>"], "/abc"))
@example((["/<int:a><int:b>"], "/1234"))
@example((["/<any(a, aa):a><any(a, ab):b>"], "/aab"))
@example((["/<path:a>-<b>"], "/a/b-c-d"))
@example((["/<path:a>/edit/<path:b>"], "/x/edit/y/edit/z"))
@example((["/<string(maxlength=2):a>-<b>"], "/a-b-c"))
@example((["/<float(signed=True):a>-<int(signed=True):b>"], "/-1.5--2"))
@example((["/<a>-<uuid:b>"], f"/x-{UUID}"))
def test_one_rule_is_read_as_werkzeug_reads_it(drawn: tuple[list[str], str]) -> None:
    """The same paths with the same values; but a trailing slash is part of the path here."""
    (rule,), path = drawn
    assume(canonical(path) and canonical(rule))
    ours, theirs = Matcher([(rule, 0)]).find(path), werkzeug_takes([rule], path)
    if path.endswith("/") == rule.endswith("/"):
        assert ours == theirs
    elif ours:
        assert ours == theirs  # of a <path:…>


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(rules_and_path())
@example((["/<a>", "/<a>-<b>", "/a-<b>", "/<path:rest>"], "/a-b"))
@example((["/<int:a>/x", "/<a>/<b>", "/1/<b>"], "/1/x"))
def test_of_many_rules_the_same_one_is_taken(drawn: tuple[list[str], str]) -> None:
    paths, path = drawn
    assume(canonical(path) and not path.endswith("/") and all(map(canonical, paths)))
    paths = [one for one in paths if not one.endswith("/")]
    ours, theirs = (
        Matcher(zip(paths, range(8), strict=False)).find(path),
        werkzeug_takes(paths, path),
    )
    refused = theirs is None and ours is not None
    if refused:  # Werkzeug gives up where a converter refuses what its expression took
        theirs = werkzeug_takes([paths[ours[0]]], path)  # type: ignore[index]
        assert theirs
        ours = 0, ours[1]  # type: ignore[index]
    assert ours == theirs


def test_a_converter_that_refuses_leads_to_the_next_best_rule() -> None:
    ours = table(
        route("small", "/p/<int(max=9):n>"),
        route("even", "/p/<int(fixed_digits=2):n>"),
        route("any", "/p/<name>"),
        route("rest", "/<path:rest>"),
    )
    names = {
        path: decided(ours, head(path)).route for path in ("/p/5", "/p/50", "/p/500", "/p/x/y")
    }
    assert [one.name for one in names.values() if one] == ["small", "even", "any", "rest"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("/<string(min=3):x>", "min"),
        ("/<int(max=x):a>", "numbers"),
        ("/<string(minlength=5, maxlength=2):x>", "min repeat"),
        ("/<string(maxlength=99999999999):x>", "<x>"),
        ("/<string(length=-1):x>", "length"),
        ("/<a>/<a>", "two variables"),
        ("/" + "a/" * 2000, "segments"),
        ("/<any(a, 1):x>", "<x>"),
        ("/<nope:x>", "nope"),
        ("/<x", "malformed"),
    ],
)
def test_a_rule_that_no_path_can_be_held_against_is_an_error_when_it_is_read(
    rule: str, says: str
) -> None:
    with pytest.raises((ValueError, LookupError), match=says):
        fits(rule, "/x")


# --- what it costs: lines of Python that are run, none of which looks at a text more than once


def steps(work: Callable[[], object]) -> int:
    """How many lines of the modules that decide are run by `work`."""
    files = {matcher.__file__, pattern.__file__, superglobals.__file__}
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in files:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


HARD = ["-", "a", "1", "1.", "-1", "a-", "1-", "aa", "12345678-1234-"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(rules(), min_size=1, max_size=6),
    st.lists(st.sampled_from(HARD), min_size=1, max_size=3).map("".join),
    st.sampled_from(["", "x", "/", "/x", ".html", "-"]),
    st.sampled_from(["/", "/a/", "/1/"]),
)
@example(["/archive/<year>-<month>-<day>.html"], "-", ".html", "/archive/")
@example(["/archive/<year>-<month>-<day>.html"], "-", "x", "/archive/")
@example(["/<any(a, aa):a><any(a, aa):b><any(a, aa):c><any(a, aa):d>"], "a", "x", "/")
@example(["/<int:a><int:b><int:c>x<int:d>"], "1", "y", "/")
@example(["/<path:a>-<path:b>-<path:c>/x"], "-", "/y", "/")
def test_what_a_path_costs_is_linear_in_its_length_and_has_a_bound(
    paths: list[str], piece: str, end: str, begin: str
) -> None:
    """Repeated pieces are what makes a matcher backtrack. A pattern of four variables on 3,000
    characters takes Werkzeug's expressions 10^10 steps."""
    assume(all(map(canonical, paths)))
    ours = Matcher([(one, number) for number, one in enumerate(paths)])
    short, long = (begin + piece * (size // len(piece)) + end for size in (400, 3200))
    few, many = (steps(lambda path=path: ours.find(path)) for path in (short, long))
    atoms = sum(10 + 25 * one.count("<") + 3 * len(one) for one in paths)
    assert few <= atoms * (len(short) + 20)
    assert many <= 10 * few + 500


def test_thousands_of_patterns_in_a_segment_cost_a_few_steps_each() -> None:
    """Werkzeug compiles each of them anew for each unknown path, when there are more than 512."""
    ours = Matcher([(f"/<name>-{number}.html", number) for number in range(3000)])
    assert steps(lambda: ours.find("/unknown.html")) < 30 * 3000


def test_routes_that_ask_for_the_query_read_it_once() -> None:
    """500 old addresses in the form /index.php?page=…, and a query of 8,000 characters."""
    many = [route(f"r{n}", "/index.php", more=f"query: {{page: p{n}}}") for n in range(500)]
    ours, one = table(*many), table(many[0])
    asked = head("/index.php?" + "a=1&" * 2000)
    assert steps(lambda: decided(ours, asked)) < steps(lambda: decided(one, asked)) + 30 * 500


def test_a_rule_may_be_long() -> None:
    rule = "/" + "/".join(f"<v{number}>-<w{number}>" for number in range(150))
    assert fits(rule, "/" + "/".join(["a-b"] * 150))
    assert not fits(rule, "/" + "/".join(["a-b"] * 149))


def test_a_path_has_200_segments_at_most() -> None:
    assert fits("/a" * 200, "/a" * 200)
    with pytest.raises(ValueError, match="a path of more than 200 segments"):
        fits("/a" * 201, "/a")


def test_where_patterns_crowd_a_rule_of_the_last_one_is_named() -> None:
    ours = Matcher([("/<a>/x", "a"), ("/<int:b>/y/<c>", "b"), ("/z/<d>", "d"), ("/z/w", "w")])
    assert sorted(ours.crowded()) == [("a", 2), ("b", 1), ("d", 1)]
    assert list(Matcher([("/", "root"), ("/a", "a")]).crowded()) == []


def test_where_patterns_crowd_the_last_one_is_that_of_werkzeugs_order() -> None:
    """The rule that is named may end further below, or have further patterns below."""
    ours = Matcher(
        [("/<a>/<path:rest>", "far"), ("/<int:b>", "near"), ("/<int(signed=True):c>-x", "text")]
    )
    assert sorted(ours.crowded()) == [("far", 1), ("far", 3)]


def alive(kind: type) -> int:
    return sum(issubclass(type(one), kind) for one in gc.get_objects())


@pytest.mark.parametrize("rule", ["/a", "/a/<b>", "/<int:a>-<b>/<path:c>", "/<any(a, b):c>"])
def test_a_rule_that_was_read_leaves_nothing_to_the_garbage_collector(rule: str) -> None:
    """Tables of thousands of rules are read again and again, in a process that looks seldom. What
    a table keeps are converters, and no rule of Werkzeug's with all that belongs to it."""
    gc.disable()
    try:
        rules, maps = alive(Rule), alive(Map)
        read = read_rule(rule)
        assert alive(Rule) == rules
        del read
        assert (alive(Rule), alive(Map)) == (rules, maps)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("rule", "parts", "names"),
    [
        ("/", [""], []),
        ("/a/b", ["a", "b"], []),
        ("/a/", ["a", ""], []),
        ("/a//b", ["a", "", "b"], []),
        ("/<a>", [("", "")], ["a"]),
        ("/x<int:a>-<b>.html/y", [("x", "-", ".html"), "y"], ["a", "b"]),
        ("/a/<path:p>/edit/<q>", ["a", ("", "/edit/", "")], ["p", "q"]),
        ("/<path:p>/", [("", "/")], ["p"]),
        ("/<path:p>/<q>/x<r>", [("", "/", "/x", "")], ["p", "q", "r"]),
    ],
)
def test_a_rule_is_read_segment_by_segment_and_what_takes_slashes_is_the_last(
    rule: str, parts: list[str | tuple[str, ...]], names: list[str]
) -> None:
    read, variables = read_rule(rule)
    assert [part if isinstance(part, str) else part.texts for part, _ in read] == parts
    assert [one.name for one in variables] == names
    assert all((weight == ()) == isinstance(part, str) for part, weight in read)


@pytest.mark.parametrize(
    ("better", "worse", "path"),
    [
        ("/a-<x>", "/<x>", "/a-1"),  # a text in it
        ("/<x>-<y>", "/<x>", "/a-1"),
        ("/<x>-<y>-<z>", "/<x>-<y>", "/a-b-c"),
        ("/ab<x>", "/a<x>", "/abc"),  # a longer one
        ("/<x>-<y>", "/-<x>", "/-1-1"),  # of as much text that of more variables
        ("/<int:x>", "/<x>", "/1"),  # a narrower converter
        ("/<x>", "/<path:x>", "/1"),
        ("/<int:x><y>", "/<x><y>", "/11"),
    ],
)
@pytest.mark.parametrize("before", ["", "/deep", "/<v>", "/<v>-w/deep"])
def test_of_two_patterns_the_one_that_says_more_comes_first(
    better: str, worse: str, path: str, before: str
) -> None:
    """In whatever order they are written, and wherever they are in the tree of rules."""
    path = before.replace("<v>", "v") + path
    rules = [before + better, before + worse]
    assert all(fits(one, path) for one in rules)
    for written in (rules, rules[::-1]):
        found = Matcher(zip(written, range(2), strict=True)).find(path)
        assert found == werkzeug_takes(written, path)
        assert found is not None
        assert written[found[0]] == rules[0]


def test_the_same_pattern_in_two_rules_is_tried_once() -> None:
    ours = Matcher([("/<a>/x", "x"), ("/<b>/y", "y"), ("/<c>", "c"), ("/<d>.z", "z")])
    assert [count for _, count in ours.crowded()] == [2]


@pytest.mark.parametrize("rule", ["/{}", "/a/{}", "/<b>/{}"])
@pytest.mark.parametrize("converter", ["string(minlength=0)", "string(length=0)", "any('', b)"])
def test_a_variable_that_may_be_empty_fits_an_empty_segment(rule: str, converter: str) -> None:
    """The path ends with the slash before it."""
    rule = rule.format(f"<{converter}:x>")
    path = rule.partition("<s")[0].partition("<any")[0].replace("<b>", "b")
    found = Matcher([(rule, 0)]).find(path)
    assert found is not None
    assert found[1]["x"] == ""
    assert found == werkzeug_takes([rule], path)
    assert not fits(rule.replace(converter, "string"), path)


def test_a_rule_that_does_not_hold_hides_no_other_one() -> None:
    ours = Matcher([("/a", 1), ("/a", 2), ("/<x>", 3), ("/<path:y>", 4)])
    for least, found in ((1, (1, {})), (2, (2, {})), (3, (3, {"x": "a"})), (4, (4, {"y": "a"}))):
        assert ours.find("/a", lambda one, least=least: one >= least) == found
    assert ours.find("/a", lambda one: one > 4) is None
