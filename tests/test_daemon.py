"""Two that run in one process end together, and what ended them is said."""

from __future__ import annotations

import threading

import pytest

from bridge.daemon import together
from bridge.errors import BridgeError


def waits(stop: threading.Event, ended: list[str], name: str) -> None:
    assert stop.wait(30)
    ended.append(name)


def test_both_end_when_they_are_told_to() -> None:
    stop, ended, there = threading.Event(), list[str](), threading.Barrier(3)

    def run(name: str) -> None:
        there.wait(30)
        waits(stop, ended, name)

    def tell() -> None:
        there.wait(30)
        stop.set()

    teller = threading.Thread(target=tell)
    teller.start()
    together(stop, lambda: run("one"), lambda: run("other"))
    teller.join()

    assert sorted(ended) == ["one", "other"]


@pytest.mark.parametrize("fails", ["one", "other"])
@pytest.mark.parametrize("error", [BridgeError("no log"), ZeroDivisionError(), SystemExit(4)])
def test_when_one_fails_the_other_is_stopped(fails: str, error: BaseException) -> None:
    stop, ended = threading.Event(), list[str]()

    def fail() -> None:
        raise error

    def wait() -> None:
        waits(stop, ended, "stopped")

    parts = (fail, wait) if fails == "one" else (wait, fail)
    with pytest.raises(type(error)) as raised:
        together(stop, *parts)

    assert raised.value is error
    assert ended == ["stopped"]


@pytest.mark.parametrize("first", ["one", "other"])
def test_one_that_ends_without_a_word_stops_the_other(first: str) -> None:
    stop, ended = threading.Event(), list[str]()

    def leave() -> None:
        ended.append("left")

    def wait() -> None:
        waits(stop, ended, "stopped")

    together(stop, *((leave, wait) if first == "one" else (wait, leave)))

    assert ended == ["left", "stopped"]


def test_of_two_errors_the_first_one_is_raised() -> None:
    stop = threading.Event()

    def first() -> None:
        raise BridgeError("the cause")

    def second() -> None:
        assert stop.wait(30)
        raise BridgeError("what came of it")

    with pytest.raises(BridgeError, match="the cause"):
        together(stop, second, first)
