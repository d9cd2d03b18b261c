"""Two texts beside each other: what differs is marked, what does not is left out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.evidence.differences.beside import Row, beside, plain

TEXTS = st.text(st.sampled_from("ab <>\n\r\x00\u202e"), max_size=120)


def _marks(legacy: str, python: str) -> list[str]:
    return [row.mark for row in beside(legacy, python)]


def _said(row: Row, side: str) -> str:
    return "".join(text for text, _ in getattr(row, side) or ())


@given(TEXTS)
def test_equal_texts_have_no_marks(text: str) -> None:
    assert not set(_marks(text, text)) - {"…"}


@given(TEXTS, TEXTS)
def test_texts_that_differ_have_marks(one: str, two: str) -> None:
    """Empty lines at the end are nothing."""
    differ = re.split("\r\n|\n|\r", one.rstrip("\r\n")) != re.split(
        "\r\n|\n|\r", two.rstrip("\r\n")
    )

    assert any(mark not in " …" for mark in _marks(one, two)) is differ


@given(TEXTS, TEXTS)
def test_swapped_texts_have_the_same_lines_on_the_other_sides(one: str, two: str) -> None:
    def lines(first: str, second: str, side: str) -> list[str]:
        rows = beside(first, second)
        return [_said(row, side) for row in rows if row.mark != "…" and getattr(row, side)]

    if "…" not in _marks(one, two) + _marks(two, one):
        assert lines(one, two, "legacy") == lines(two, one, "python")


@given(TEXTS, TEXTS)
def test_each_line_is_shown_as_it_is(one: str, two: str) -> None:
    rows = beside(one, two)
    for row in rows:
        if row.mark == " ":
            assert row.legacy == row.python
        if row.mark == "!":
            assert _said(row, "legacy") != _said(row, "python")
            assert any(marked for _, marked in (*(row.legacy or ()), *(row.python or ())))


def test_words_that_differ_are_marked() -> None:
    (row,) = beside("<p>1,204 downloads</p>", "<p>1204 downloads</p>")

    assert row == Row(
        "!",
        (("<p>", False), ("1,204", True), (" downloads</p>", False)),
        (("<p>", False), ("1204", True), (" downloads</p>", False)),
    )


def test_lines_of_one_side_only_stand_alone() -> None:
    assert beside("a\nb\nc", "a\nc")[1] == Row("-", (("b", True),), None)
    assert beside("a\nc", "a\nb\nc")[1] == Row("+", None, (("b", True),))


def test_lines_that_are_far_from_a_difference_are_left_out() -> None:
    lines = [f"line {number}" for number in range(100)]
    rows = beside("\n".join(lines), "\n".join([*lines[:50], "other", *lines[51:]]))

    assert [row.mark for row in rows] == ["…", *"   !   ", "…"]
    assert _said(rows[0], "legacy") == "47 equal lines"


def test_pages_of_one_line_are_broken_between_their_tags() -> None:
    page = "".join(f"<p>{number}</p>" for number in range(200))
    rows = beside(page, page.replace("<p>100</p>", "<p>hundred</p>"))

    (row,) = [row for row in rows if row.mark != " " and row.mark != "…"]
    assert _said(row, "legacy") == "<p>100</p>"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("\0", "\\x00"),
        ("zero\u200bwidth\xa0", "zero\\u200bwidth\\xa0"),
        ("\ud800", "\\ud800"),
        ("Grüße ●\t", "Grüße ●\t"),
    ],
)
def test_signs_that_nobody_sees_are_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize(
    ("legacy", "python"),
    [
        ("<a>" * 80_000, "<b>" * 80_000),
        ("a\n" * 100_000, "b\n" * 100_000),
        ("a\nb\n" * 490, "b\na\n" * 490),
        ("a b " * 100 + "\n", "b a " * 100 + "\n"),
        (("a b " * 50 + "\n") * 1000, ("b a " * 50 + "\n") * 1000),
        ("x" * 250_000, "y" * 250_000),
    ],
)
def test_any_two_texts_are_shown_in_bounded_room(legacy: str, python: str) -> None:
    """In bounded time, too: the limit of a test."""
    assert 0 < len(beside(legacy, python)) <= 601
