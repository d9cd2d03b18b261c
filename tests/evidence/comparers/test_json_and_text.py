"""JSON is compared by key paths, text and XML by lines, everything else by bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import jsonpath
from bridge.evidence.comparers.difference import NotComparable
from bridge.evidence.comparers.ignoring import Rule
from tests.evidence.comparers.pages import JSON, TEXT, answer, found, places

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=15,
)


@pytest.mark.parametrize(
    ("legacy", "python", "expected"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1}', []),
        ('{"a": 1}', '{"a": 1.0}', [("$.a", "changed")]),
        ('{"a": 1}', '{"a": "1"}', [("$.a", "changed")]),
        ('{"a": 1}', '{"a": true}', [("$.a", "changed")]),
        ('{"a": null}', "{}", [("$.a", "missing")]),
        ("{}", '{"a b": []}', [("$['a b']", "added")]),
        ('{"a": 1, "a": 2}', '{"a": 2, "a": 1}', [("$.a", "changed"), ("$.a", "changed")]),
        ('{"a": 1, "a": 2}', '{"a": 1}', [("$.a", "missing")]),
        ('{"i": [{"n": 1}, {"n": 2}]}', '{"i": [{"n": 1}, {"n": 3}]}', [("$.i[1].n", "changed")]),
        ("[1, 2, 3, 4]", "[1, 3, 4]", [("$[1]", "missing")]),
        ("[1, 2, 3]", "[1, 2, 9, 3]", [("$[2]", "added")]),
        ("[1, 2, 3]", "[2, 3, 1]", [("$[0]", "moved")]),
        ('"é"', '"\\u00e9"', []),
        ("{}", "[]", [("$", "changed")]),
    ],
)
def test_json_is_compared_by_what_it_says(
    legacy: str, python: str, expected: list[tuple[str, str]]
) -> None:
    """
    expected: place and kind of each difference.
    """
    assert places(legacy, python, JSON) == expected


@given(VALUES)
def test_the_same_value_written_in_another_way_is_the_same(value: object) -> None:
    spread = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    assert found(json.dumps(value), spread, type_=JSON) == []


@given(VALUES, VALUES)
def test_values_that_differ_are_told_apart(one: object, other: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (found(json.dumps(one), json.dumps(other), type_=JSON) == []) == same


def test_json_that_is_broken_on_one_side_is_compared_by_lines() -> None:
    assert places('{"a": 1}', '{"a": 1', JSON) == [("line 1", "changed")]


def test_deep_json_is_not_comparable() -> None:
    with pytest.raises(NotComparable, match="nested too deeply"):
        found("[" * 100_000 + "]" * 100_000, "[]", type_=JSON)


def test_a_path_hides_what_it_names() -> None:
    page = '{{"items": [{{"id": 1, "seen": {0}}}, {{"id": 2, "seen": {0}}}]}}'
    rule = Rule("json", "$.items[*].seen")
    hidden = found(page.format(1), page.format(2), rule, type_=JSON)
    assert hidden == []
    assert hidden.used == {"json: $.items[*].seen"}
    assert len(found(page.format(1), page.format(2), type_=JSON)) == 2


@pytest.mark.parametrize(
    ("path", "place", "names"),
    [
        ("$", (), True),
        ("$.a", ("a",), True),
        ("$.a", ("a", "b"), False),
        ("$..id", ("a", 3, "id"), True),
        ("$..id", ("id",), True),
        ("$.a[*].b", ("a", 7, "b"), True),
        ("$.a[2]", ("a", 2), True),
        ("$['a b'][\"c\"]", ("a b", "c"), True),
        ("$.*", ("x",), True),
        ("$..a..b", ("a", "a", "c", "b"), True),
        ("$..a..b", ("b", "a"), False),
        ("$..[0]", ("a", 0), True),
    ],
)
def test_a_path_names_places(path: str, place: tuple[str | int, ...], names: bool) -> None:
    """
    place: the names and indexes on the way.
    names: whether the path names it.
    """
    assert jsonpath.matches(jsonpath.read(path), place) is names


@given(st.lists(st.text(min_size=1, max_size=4) | st.integers(0, 99), max_size=5).map(tuple))
def test_a_place_that_is_written_names_itself(place: tuple[str | int, ...]) -> None:
    assert jsonpath.matches(jsonpath.read(jsonpath.written(place)), place)


@pytest.mark.parametrize("path", ["", "a", "$.", "$a", "$[", "$['a]", "$.a.[0]", "$. a", "$...a"])
def test_what_is_no_path_is_refused_with_an_example(path: str) -> None:
    with pytest.raises(ValueError, match=r"\$\."):
        jsonpath.read(path)


@pytest.mark.parametrize(
    ("legacy", "python", "expected"),
    [
        ("a\nb\nc\n", "a\nc\n", [("line 2", "missing")]),
        ("a\nc\n", "a\nb\nc\n", [("line 2", "added")]),
        ("a\nb\nc\n", "a\nx b\nc\n", [("line 2", "changed")]),
        ("a\nb\nc\nd\n", "d\na\nb\nc\n", [("line 4", "moved")]),
        ("a\nb\n", "a\r\nb\r\n", [("line ends", "changed")]),
        ("a\nb ", "a\nb", [("line 2", "changed")]),
    ],
)
def test_text_is_compared_by_lines(
    legacy: str, python: str, expected: list[tuple[str, str]]
) -> None:
    """
    expected: place and kind of each difference.
    """
    assert places(legacy, python, TEXT) == expected


def test_xml_in_one_line_is_compared_tag_by_tag_and_no_entity_is_expanded() -> None:
    laughs = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><a><b>&b;</b><c>{}</c></a>'
    [one] = found(laughs.format(1), laughs.format(2), type_="application/rss+xml")
    assert (one.legacy, one.python) == ("<c>1</c>", "<c>2</c>")


def test_other_bodies_are_compared_by_bytes() -> None:
    [one] = found(answer(b"\x89PNG" + b"a" * 40, "image/png"), answer(b"\x89PNGb", "image/png"))
    assert one.place == "byte 4"
    assert "44 bytes" in one.legacy
