"""A route whose handler fails too often is left to legacy for a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.decision.breaker import Breaker


def test_five_failures_in_a_row_open_it_for_half_a_minute() -> None:
    breaker = Breaker()
    assert [breaker.failed(100.0) for _ in range(5)] == [False] * 4 + [True]
    assert breaker.is_open(129.9)
    assert not breaker.is_open(130.0)


def test_a_success_in_between_begins_the_row_anew() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0.0)
    breaker.succeeded(0.0)
    assert not breaker.failed(0.0)
    assert not breaker.is_open(0.0)


def test_three_of_ten_in_a_minute_open_it() -> None:
    breaker = Breaker()
    for _ in range(7):
        breaker.succeeded(0.0)
    assert [breaker.failed(10.0) for _ in range(3)] == [False, False, True]


def test_what_is_older_than_a_minute_does_not_count() -> None:
    breaker = Breaker()
    for _ in range(3):
        breaker.failed(0.0)
        breaker.succeeded(0.0)
    for _ in range(8):
        breaker.succeeded(70.0)
    assert not breaker.failed(70.0)


def test_each_time_it_stays_open_longer_until_it_was_well_for_a_minute() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(0.0)
    for _ in range(5):
        breaker.failed(31.0)
    assert breaker.is_open(90.9)
    assert not breaker.is_open(91.0)
    breaker.succeeded(95.0)
    for _ in range(5):
        breaker.failed(96.0)
    assert breaker.is_open(185.9)
    breaker.succeeded(300.0)
    for _ in range(5):
        breaker.failed(301.0)
    assert not breaker.is_open(331.1)


def test_a_small_share_of_many_does_not_open_it() -> None:
    breaker = Breaker()
    for number in range(200):
        breaker.succeeded(0.0)
        if number % 5 == 0:
            assert not breaker.failed(0.0)


class SlowBreaker:
    """What the docstring says, counted anew each time from all that has happened."""

    def __init__(self) -> None:
        self.since_it_opened: list[tuple[float, bool]] = []
        self.times = self.opened = 0
        self.until = self.last_failure = 0.0

    def succeeded(self, now: float) -> None:
        if now > max(self.until, self.last_failure) + 60:
            self.times = 0
        self.since_it_opened.append((now, False))

    def failed(self, now: float) -> bool:
        self.last_failure = now
        self.since_it_opened.append((now, True))
        recent = [failed for moment, failed in self.since_it_opened if moment >= now - 60]
        last = [failed for _, failed in self.since_it_opened[-5:]]
        opens = last == [True] * 5 or (len(recent) >= 10 and sum(recent) >= 0.3 * len(recent))
        if now < self.until or not opens:
            return False
        self.times = min(10, self.times + 1)
        self.opened += 1
        self.until = now + 30 * self.times
        self.since_it_opened.clear()
        return True


STEPS = st.tuples(st.sampled_from([0, 0, 1, 2, 7, 30, 59, 60, 61]), st.booleans())


@given(st.lists(STEPS, max_size=60), st.integers(1, 40))
def test_it_opens_and_closes_as_its_description_says(
    steps: list[tuple[int, bool]], rounds: int
) -> None:
    """The same steps again and again, so that it opens many times."""
    breaker, slow, now = Breaker(), SlowBreaker(), 0.0
    for step, fails in steps * rounds:
        now += step
        if fails:
            assert breaker.failed(now) == slow.failed(now)
        else:
            breaker.succeeded(now)
            slow.succeeded(now)
        assert breaker.is_open(now) == (now < slow.until)
        assert breaker.opened == slow.opened
        assert breaker.seconds == 30 * slow.times


def test_it_stays_open_for_five_minutes_at_most() -> None:
    breaker, now = Breaker(), 0.0
    for times in [*range(1, 11), 10, 10]:
        assert [breaker.failed(now) for _ in range(5)][-1]
        assert breaker.seconds == 30 * times
        now += breaker.seconds


def test_of_very_many_requests_the_last_thousand_count() -> None:
    """Of these the first and the last have failed here, and 300 in all; one more had not."""
    breaker = Breaker()
    last = [True, *[False] * 626, *([True] * 4 + [False]) * 74, True, True, True]
    assert (len(last), sum(last)) == (1000, 300)
    for fails in [*[False] * 500, *last[:-1]]:
        if fails:
            assert not breaker.failed(0.0)
        else:
            breaker.succeeded(0.0)
    assert breaker.failed(0.0)


def test_a_probe_that_fails_opens_it_at_once() -> None:
    """The one who tries may know better than the counts."""
    breaker = Breaker()
    breaker.open(10.0)
    assert (breaker.opened, breaker.is_open(39.9), breaker.is_open(40.0)) == (1, True, False)
    breaker.succeeded(41.0)
    breaker.open(42.0)
    assert breaker.seconds == 60


@pytest.mark.parametrize(("later", "opens"), [(59.5, True), (60.0, True), (60.5, False)])
def test_what_is_a_minute_old_counts_and_what_is_older_does_not(later: float, opens: bool) -> None:
    breaker = Breaker()
    for fails in [True, True, *[False] * 7]:
        if fails:
            breaker.failed(0.0)
        else:
            breaker.succeeded(0.0)
    assert breaker.failed(later) is opens


@pytest.mark.parametrize("failed", [None, 40.0])
@pytest.mark.parametrize(("well_for", "seconds"), [(59.5, 60), (60.0, 60), (60.5, 30)])
def test_it_has_been_well_for_a_minute_after_the_last_failure_and_after_it_closed(
    failed: float | None, well_for: float, seconds: int
) -> None:
    breaker = Breaker()
    breaker.open(0.0)
    if failed is not None:
        breaker.failed(failed)
    breaker.succeeded((failed or 30.0) + well_for)
    breaker.open(200.0)
    assert breaker.seconds == seconds
