"""How many copies are made in a time, and how much they hold together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.shadow.room import Room, Valve

RATES = st.floats(0.01, 1000)


@given(RATES, st.lists(st.floats(0, 0.2), max_size=300))
def test_no_more_pass_than_the_rate_and_what_may_pass_at_once(
    rate: float, gaps: list[float]
) -> None:
    valve, now, passed = Valve(), 100.0, 0
    for gap in gaps:
        now += gap
        passed += valve.lets(now, rate)
    assert passed <= max(1.0, rate * 0.2) + (now - 100.0) * rate + 1e-6


@given(RATES)
def test_after_a_pause_there_is_always_one_more(rate: float) -> None:
    valve, now = Valve(), 50.0
    while valve.lets(now, rate):
        pass
    assert valve.lets(now + 1.001 / rate, rate)


def test_another_rate_holds_at_once() -> None:
    valve = Valve()
    while valve.lets(1.0, 0.001):
        pass
    assert valve.lets(1.0, 5.0)


@given(st.lists(st.integers(0, 60), max_size=30))
def test_never_more_is_held_than_there_is_room_for(sizes: list[int]) -> None:
    room, held = Room(100), []
    for size in sizes:
        if room.take(size):
            held.append(size)
        elif held:
            room.give(held.pop())
        assert room.held == sum(held) <= 100
