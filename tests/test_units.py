"""How counts and times are said."""

from __future__ import annotations

import pytest

from bridge.units import roughly, several


@pytest.mark.parametrize(
    ("count", "words", "said"),
    [
        (0, ("route",), "0 routes"),
        (1, ("route",), "1 route"),
        (2, ("route",), "2 routes"),
        (1024, ("route",), "1,024 routes"),
        (1, ("address", "addresses"), "1 address"),
        (2, ("address", "addresses"), "2 addresses"),
    ],
)
def test_one_is_one_and_more_are_several(count: int, words: tuple[str, ...], said: str) -> None:
    assert several(count, *words) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (119.4, "119 s"),
        (120.0, "2 min"),
        (7199.0, "120 min"),
        (7200.0, "2 h"),
        (172_799.0, "48 h"),
        (864_000.0, "10 days"),
        (400_000_000.0, "4,630 days"),
    ],
)
def test_a_time_is_told_roughly(seconds: float, said: str) -> None:
    assert roughly(seconds) == said
