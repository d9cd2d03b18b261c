"""The bound is the exact one of Clopper and Pearson, for few requests and for a billion."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.evidence.rate import needed, percent, upper_bound

COUNTS = st.integers(1, 120).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def at_most(most: int, of: int, share: Fraction) -> Fraction:
    """The chance of at most so many, as it is defined."""
    return sum(
        (math.comb(of, one) * share**one * (1 - share) ** (of - one) for one in range(most + 1)),
        Fraction(0),
    )


@given(COUNTS)
def test_under_the_bound_so_few_are_seen_in_one_of_twenty_samples(counts: tuple[int, int]) -> None:
    different, compared = counts
    bound = upper_bound(different, compared)
    if different == compared:
        assert bound == 1
        return
    near = Fraction(1, 10**9)
    alpha = Fraction(1, 20)
    assert at_most(different, compared, Fraction(bound) * (1 - near)) > alpha
    assert at_most(different, compared, Fraction(bound) * (1 + near)) < alpha


@pytest.mark.parametrize(
    ("different", "compared", "bound"),
    [
        # One-sided 95 % limits as tables of quality control have them.
        (0, 5, 0.4507),
        (0, 10, 0.2589),
        (1, 10, 0.3942),
        (2, 20, 0.2826),
        (5, 50, 0.1988),
        (5, 100, 0.1023),
        (50, 100, 0.5864),
        (0, 300, 0.009936),
        (1, 1, 1.0),
        (0, 0, 1.0),
    ],
)
def test_it_is_as_in_tables(different: int, compared: int, bound: float) -> None:
    assert upper_bound(different, compared) == pytest.approx(bound, rel=5e-4)


@pytest.mark.parametrize(
    ("different", "mean"),
    # Poisson's limit: the one-sided 95 % limits of a mean when so many were seen.
    [(0, 2.99573), (1, 4.74386), (2, 6.29579), (10, 16.96222), (100, 118.07917)],
)
def test_of_a_billion_it_is_poissons(different: int, mean: float) -> None:
    assert upper_bound(different, 10**9) * 10**9 == pytest.approx(mean, rel=2e-6)


@pytest.mark.parametrize("different", [10**6, 5 * 10**8, 999 * 10**6])
def test_of_large_numbers_it_is_nearly_the_normal_one(different: int) -> None:
    share = different / 10**9
    spread = math.sqrt(share * (1 - share) / 10**9)

    assert (upper_bound(different, 10**9) - share) / spread == pytest.approx(1.6449, abs=5e-3)


@given(COUNTS, st.integers(1, 50))
def test_it_falls_with_equal_answers_and_rises_with_different_ones(
    counts: tuple[int, int], more: int
) -> None:
    different, compared = counts
    bound = upper_bound(different, compared)

    assert different / compared <= bound
    assert upper_bound(different, compared + more) <= bound
    assert upper_bound(different + more, compared + more) >= bound


@given(COUNTS, st.floats(0.001, 0.999))
def test_as_many_more_as_are_needed_are_just_enough(counts: tuple[int, int], limit: float) -> None:
    different, compared = counts
    more = needed(limit, different, compared)

    assert upper_bound(different, compared + more) <= limit * (1 + 1e-9)
    if more:
        assert upper_bound(different, compared + more - 1) >= limit * (1 - 1e-9)


@pytest.mark.parametrize(
    ("limit", "different", "compared", "more"),
    [
        (0.01, 0, 0, 299),
        (0.01, 0, 300, 0),
        (0.001, 0, 120, 2875),
        (0.001, 1, 120, 4622),
        (1e-6, 0, 0, 2_995_731),
    ],
)
def test_how_many_are_needed_is_known(
    limit: float, different: int, compared: int, more: int
) -> None:
    assert needed(limit, different, compared) == more


@pytest.mark.parametrize(("different", "compared"), [(-1, 5), (6, 5)])
def test_numbers_that_cannot_be_are_refused(different: int, compared: int) -> None:
    with pytest.raises(ValueError, match="cannot be different"):
        upper_bound(different, compared)
    with pytest.raises(ValueError, match="cannot be different"):
        needed(0.5, different, compared)


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1, 2.0])
def test_a_limit_that_is_no_share_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="is no share"):
        needed(limit)


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0246554, "2.5%"),
        (0.0099360, "1%"),
        (0.001, "0.1%"),
        (0.00099, "0.099%"),
        (3e-9, "0.0000003%"),
        (0.9999, "100%"),
        (0.5, "50%"),
        (0.0, "0%"),
    ],
)
def test_a_bound_is_shown_with_two_digits_and_rounded_up(share: float, shown: str) -> None:
    assert percent(share) == shown


@given(st.floats(1e-9, 1))
def test_a_bound_is_never_shown_smaller_than_it_is(share: float) -> None:
    assert share * 100 <= float(percent(share)[:-1]) * (1 + 1e-9) <= share * 111
