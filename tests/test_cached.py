"""What is looked for again every few seconds at most."""

from __future__ import annotations

import threading
from itertools import count

import pytest

from bridge import cached
from bridge.cached import Cached


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Its one element is the time."""
    now = [100.0]
    monkeypatch.setattr(cached, "monotonic", lambda: now[0])
    return now


def test_one_look_serves_all_until_its_time_is_over(clock: list[float]) -> None:
    ask = Cached(count().__next__, 2.0)
    assert [ask(), ask()] == [0, 0]
    clock[0] += 1.9
    assert ask() == 0
    clock[0] += 0.1
    assert ask() == 1


def test_a_look_that_fails_is_tried_again_by_the_next(clock: list[float]) -> None:
    answers = iter([ZeroDivisionError(), 7])

    def look() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    ask = Cached(look, 2.0)
    with pytest.raises(ZeroDivisionError):
        ask()
    assert ask() == 7


def test_many_who_ask_at_once_cause_one_look() -> None:
    looks = count()
    ask = Cached(lambda: next(looks), 3600.0)
    asking = [threading.Thread(target=ask) for _ in range(20)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert next(looks) == 1
