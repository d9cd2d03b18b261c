"""How counts are said."""

from __future__ import annotations

import pytest

from bridge.units import several


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
