"""Paths become rules by how many values there are at a place."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.evidence.survey.paths import Paths
from bridge.evidence.survey.tally import Distinct, Tally
from bridge.proxy.routing.matcher import fits


def surveyed(*targets: str, nodes: int = 50_000) -> Paths:
    paths = Paths(nodes)
    for target, count in Counter(targets).items():
        path, _, query = target.partition("?")
        tally = paths.at(path, query, count)
        tally.count("GET", "200", count, 0)
        tally.urls.add(target)
    return paths


def shown(*targets: str) -> dict[str, int]:
    return {str(rule): rule.tally.requests for rule in surveyed(*targets).rules()}


def test_many_values_at_a_place_are_a_variable() -> None:
    found = shown(*(f"/project/name{n}" for n in "abcdefghijkl"), "/about")
    assert found == {"/project/<name>": 12, "/about": 1}


def test_few_values_stand_for_themselves() -> None:
    assert set(shown("/a/x", "/a/y", "/b")) == {"/a/x", "/a/y", "/b"}


def test_numbers_are_a_variable_of_numbers() -> None:
    assert shown(*(f"/bug/{n}/log" for n in range(9))) == {"/bug/<int:id>/log": 9}


def test_the_end_of_a_name_stays() -> None:
    found = shown(*(f"/news/t{c}.html" for c in "abcdefghijkl"))
    assert found == {"/news/<name>.html": 12}


def test_scripts_are_never_values_of_a_variable() -> None:
    targets = [f"/page{c}.php" for c in "abcdefghijklmnopqrstuvwxyz"] * 2
    assert len(shown(*targets)) == 26


def test_a_folder_among_many_pages_stays_a_folder() -> None:
    pages = [f"/blog/t{c}{d}" for c in "abcdef" for d in "xyz"]
    tags = [f"/blog/tags/{c}{d}" for c in "abcdef" for d in "xyz"]
    assert shown(*pages, *tags) == {"/blog/<name>": 18, "/blog/tags/<name>": 18}


def test_a_parameter_tells_pages_of_a_script_apart_by_being_there() -> None:
    topics = [f"/viewtopic.php?t={n}" for n in range(50)]
    posts = ["/viewtopic.php"] * 5
    found = surveyed(*topics, *posts).rules()
    assert [(str(rule), rule.query, rule.tally.requests) for rule in found] == [
        ("/viewtopic.php?t=…", {"t": True}, 50),
        ("/viewtopic.php without t", {"t": False}, 5),
    ]


def test_a_parameter_with_few_values_tells_pages_apart_by_them() -> None:
    asked = ["/index.php?action=edit"] * 20 + ["/index.php?action=view"] * 30 + ["/index.php"] * 10
    assert shown(*asked) == {
        "/index.php?action=view": 30,
        "/index.php?action=edit": 20,
        "/index.php without action": 10,
    }


def test_attacks_on_a_parameter_do_not_hide_its_values() -> None:
    asked = ["/index.php?page=news"] * 500 + ["/index.php?page=list"] * 500
    asked += [f"/index.php?page={n}'%20OR%201" for n in range(60)]
    found = shown(*asked)
    assert (found["/index.php?page=news"], found["/index.php?page=list"]) == (500, 500)
    assert sum(found.values()) == 1060


def test_a_path_with_names_is_not_split_by_its_query() -> None:
    assert shown("/search?q=a", "/search?q=b", "/search") == {"/search": 3}


def test_a_rule_for_one_address_is_that_address() -> None:
    pages = [f"/projects/p{c}/" for c in "abcdefghijkl"]
    assert "/projects/pa/help.xhtml" in shown(*pages, *["/projects/pa/help.xhtml"] * 3)


SEGMENT = st.one_of(
    st.sampled_from(["a", "b", "project", "x.html", "7", "index.php", "0123456789abcdef0"]),
    st.integers(0, 10**6).map(str),
    st.text("abcdefgh", min_size=1, max_size=6),
    st.text("ab.-_é<>", min_size=1, max_size=4),
)
PATH = st.lists(SEGMENT, max_size=15).map(lambda parts: "/" + "/".join(parts))


@settings(max_examples=60)
@given(st.lists(PATH, min_size=1, max_size=200), st.sampled_from([10, 60, 50_000]))
def test_no_request_is_lost_and_each_fits_a_rule(paths: list[str], nodes: int) -> None:
    rules = surveyed(*paths, nodes=nodes).rules()
    assert sum(rule.tally.requests for rule in rules) == len(paths)
    plain = [path for path in paths if not set(path) & set("<>")]
    for path in plain:
        assert any(rule.path == path or fits(rule.path, path) for rule in rules), path


@pytest.mark.parametrize("first", [7, 60_000])
def test_millions_of_paths_are_some_thousand_nodes(first: int) -> None:
    """Also where the first place has as many values as there are nodes: each is looked at once."""
    paths = Paths(20_000)
    for number in range(60_000):
        path = f"/{number % first}x/p{number:x}z/q{number % 1000}y"
        paths.at(path, "").count("GET", "200", 1, 0)
        assert paths._count <= 20_020
    assert sum(rule.tally.requests for rule in paths.rules()) == 60_000


@pytest.mark.parametrize("count", [0, 1, 500, 40_000])
def test_different_texts_are_counted_within_a_tenth(count: int) -> None:
    distinct, half = Distinct(), Distinct()
    for number in range(count):
        (distinct if number % 2 else half).add(f"/{number}")
        distinct.add(f"/{number}")
    distinct.merge(half)
    assert abs(len(distinct) - count) <= (0 if count <= 500 else count / 10)


@given(
    st.lists(st.floats(0.001, 1000), min_size=1, max_size=100), st.sampled_from([0.5, 0.95, 0.99])
)
def test_slow_percentiles_are_right_to_a_quarter(times: list[float], share: float) -> None:
    tally = Tally()
    for seconds in times:
        tally.took(seconds)
    ordered = sorted(times)
    exact = next(t for n, t in enumerate(ordered, 1) if n >= share * len(ordered))
    found = tally.slowest(share)
    assert found is not None
    assert exact * 0.999 <= found <= exact * 1.2501
