"""Keys of rows as text: nothing is ever lost or confused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sync.types.keys import KINDS, Unlookable, join, split

PARTS = st.lists(st.one_of(st.text("a/%2F5é"), st.text()), min_size=1, max_size=4)


@given(PARTS)
def test_a_key_gives_back_its_parts(parts: list[str]) -> None:
    """Whatever is in them."""
    assert split(join(parts), len(parts)) == parts


@given(PARTS, PARTS)
def test_two_rows_never_have_the_same_key(one: list[str], other: list[str]) -> None:
    """Of the same number of columns."""
    if len(one) == len(other):
        assert (join(one) == join(other)) == (one == other)


def test_a_key_of_one_column_is_its_text() -> None:
    """Nothing is escaped there."""
    assert join(["a/b%2F"]) == "a/b%2F"


def test_parts_without_a_slash_stay_readable() -> None:
    """Only what could be confused is written otherwise."""
    assert join(["bash", "5.2", "50%"]) == "bash/5.2/50%"
    assert join(["a/b", "c"]) == "a%2Fb/c"
    assert join(["a%2Fb", "c"]) == "a%252Fb/c"


@pytest.mark.parametrize("text", ["a", "a/b/c", ""])
def test_a_wrong_number_of_parts_is_unlookable(text: str) -> None:
    """It says how many there should be."""
    with pytest.raises(Unlookable, match="2 columns"):
        split(text, 2)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("whole", "abc"),
        ("whole", "1.0"),
        ("whole", ""),
        ("decimal", "1e5"),
        ("bytes", "abc"),
        ("bytes", "zz"),
        ("uuid", "1234"),
        ("day", "2005-02-30"),
        ("day", "yesterday"),
        ("moment", "2005-01-01 25:00:00"),
        ("boolean", "perhaps"),
        ("text", "\ud800"),
        ("text without NUL", "a\0b"),
    ],
)
def test_what_no_row_can_be_called_is_unlookable(kind: str, text: str) -> None:
    """It is an error of its own, never a row that is not there."""
    with pytest.raises(Unlookable):
        KINDS[kind].parse(text)


@given(st.integers(-(2**63), 2**64 - 1))
def test_every_whole_number_is_found_again(number: int) -> None:
    """Unsigned ones of 64 bits, too."""
    kind = KINDS["whole"]
    assert kind.parse(kind.text(number)) == number
    assert kind.text(kind.parse(f"{'-' * (number < 0)}00{abs(number)}")) == str(number)


@given(st.binary())
def test_every_bytes_are_found_again(raw: bytes) -> None:
    """By their hexadecimal, in either case."""
    kind = KINDS["bytes"]
    assert kind.parse(kind.text(raw)) == raw == kind.parse(kind.text(raw).upper())


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_every_decimal_is_found_again(number: object) -> None:
    """As it is printed."""
    kind = KINDS["decimal"]
    assert kind.parse(kind.text(number)) == number


@pytest.mark.parametrize("text", ["2005-03-01", "0044-03-15 BC", "12024-02-29", "infinity"])
def test_days_beyond_the_calendar_of_python_are_days(text: str) -> None:
    """PostgreSQL has them."""
    assert KINDS["day"].parse(text) == text
