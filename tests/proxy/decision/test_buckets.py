"""Sticky shares: the same for ever, fair, and never taking back what a larger share gave."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.decision.buckets import ALL, bucket, inside

keys = st.text(min_size=1, max_size=40)


def test_buckets_never_change_between_versions() -> None:
    """Everyone would move to the other side if this function changed."""
    assert [bucket("route:project", key) for key in ("a", "b", "visitor-42", "é")] == [
        84893,
        68071,
        92588,
        46878,
    ]


@given(keys, keys)
def test_a_bucket_is_within_its_range(group: str, key: str) -> None:
    assert 0 <= bucket(group, key) < ALL


@given(keys, keys, st.integers(0, ALL), st.integers(0, ALL))
def test_who_is_in_at_a_share_is_in_at_every_larger_one(
    group: str, key: str, one: int, other: int
) -> None:
    small, large = sorted((one, other))
    number = bucket(group, key)
    assert not inside(number, small) or inside(number, large)


@given(keys, keys)
def test_nobody_is_in_at_0_and_everybody_at_100_percent(group: str, key: str) -> None:
    number = bucket(group, key)
    assert not inside(number, 0)
    assert inside(number, ALL)


def test_a_share_of_a_bucket_takes_the_buckets_below_it() -> None:
    assert [inside(number, 5) for number in (0, 4, 5, 6)] == [True, True, False, False]


def test_a_share_takes_its_share_of_many_visitors() -> None:
    taken = sum(inside(bucket("route:x", f"visitor-{n}"), 10_000) for n in range(20_000))
    assert 1_850 < taken < 2_150  # 10% ± 3.5 standard deviations; the keys are fixed


def test_two_groups_pick_different_visitors() -> None:
    first = {n for n in range(2_000) if inside(bucket("a", str(n)), 10_000)}
    second = {n for n in range(2_000) if inside(bucket("b", str(n)), 10_000)}
    assert len(first & second) < len(first) / 2
