"""How long somebody waits, and that it ends with an answer or when told to stop."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ServerAway, Stopped
from bridge.queue import waiting
from bridge.queue.waiting import Patience, backoff, retry_wait


class Server:
    """Does not answer the first `away` times."""

    def __init__(self, away: int) -> None:
        self.away = away

    def ask(self) -> str:
        if self.away:
            self.away -= 1
            raise ServerAway("it is away")
        return "an answer"


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "FIRST_DELAY", 0.0)


def test_each_failure_is_told_and_then_that_it_is_back() -> None:
    said: list[object] = []
    patience = Patience(threading.Event())
    answer = patience.until(
        Server(3).ask, lambda error, failures, seconds: said.append(failures), said.append
    )
    assert answer == "an answer"
    assert said == [0, 1, 2, 3]


def test_a_server_that_answers_is_no_news() -> None:
    said: list[object] = []
    Patience(threading.Event()).until(
        Server(0).ask, lambda error, failures, seconds: said.append(error), said.append
    )
    assert said == []


def test_failures_begin_anew_after_an_answer() -> None:
    said: list[int] = []
    patience = Patience(threading.Event())
    for _ in range(2):
        patience.until(Server(2).ask, lambda error, failures, seconds: said.append(failures))
    assert said == [0, 1, 0, 1]


def test_who_is_told_to_stop_waits_no_longer() -> None:
    stop = threading.Event()
    patience = Patience(stop)
    with pytest.raises(Stopped):
        patience.until(Server(10**9).ask, lambda error, failures, seconds: stop.set())
    assert patience.failures == 1


def test_a_mistake_is_no_outage() -> None:
    def ask() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Patience(threading.Event()).until(ask, lambda error, failures, seconds: None)


@given(attempt=st.integers(0, 10**6))
def test_waits_double_up_to_the_longest(attempt: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "FIRST_DELAY", 0.1)
        longest = min(5.0, 0.1 * 2.0 ** min(attempt, 10))
        assert longest / 2 <= backoff(attempt) <= longest


@given(tries=st.integers(0, 10**4), shortest=st.floats(0, 3600))
def test_what_fails_again_waits_longer_up_to_an_hour(tries: int, shortest: float) -> None:
    least = max(shortest, 0.0 if tries <= 1 else min(tries**4 + 15.0, 3600.0))
    assert least <= retry_wait(tries, shortest) <= least * 1.1 + 1e-9
