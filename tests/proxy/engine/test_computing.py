"""Handlers that compute share one interpreter: a few of them run at a time, the others wait."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from bridge.proxy.engine.interpreter import Load
from bridge.proxy.routing.table import RouteTable
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, computing, engine, release
from tests.proxy.shells.double import BOUND, Backend
from tests.proxy.shells.visitor import request
from tests.proxy.site import TOP, table

HANDLERS = 12
LIMIT = 'python: 100%, timeout: 1h, handler: "tests.proxy.engine.inside:'


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Iterator[RouteTable]:
    """Nobody is sent to legacy, however long they wait."""
    monkeypatch.setattr("bridge.proxy.engine.calls.BUSY", BOUND)
    with Backend() as backend:
        yield table(
            f'name: computing, path: /computing, {LIMIT}computing"',
            f'name: stuck, path: /stuck, {LIMIT}stuck"',
            top=TOP.replace(":8090", f":{backend.port}"),
        )


def ask_all(routes: RouteTable, path: str) -> list[int]:
    """Let twice as many visitors as there are threads ask for `path`; how many handlers of
    `computing` ran when one of them began, the fewest first."""
    computing.at_once.clear()
    with engine(routes, handlers=HANDLERS) as inside, contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(inside.visitor()) for _ in range(2 * HANDLERS)]
        for visitor in visitors:
            visitor.send(request("GET", path, host=HOST))
        for visitor in visitors:
            assert visitor.answer().body == b"computed"
    return sorted(computing.at_once)


def test_those_that_compute_take_turns(routes: RouteTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.proxy.python.threads._LONG", BOUND)
    # On a busy machine it may look for a moment as if they did not compute.
    tries = (ask_all(routes, "/computing?0.03") for _ in range(4))
    assert any(at_once[len(at_once) * 3 // 4] <= 4 for at_once in tries)


def test_who_has_waited_for_long_gets_a_thread_nevertheless(
    routes: RouteTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.proxy.python.threads._LONG", 0.05)
    assert max(ask_all(routes, "/computing?0.1")) > 4


def test_those_that_wait_for_something_else_have_a_thread_each(routes: RouteTable) -> None:
    with engine(routes, handlers=HANDLERS) as inside, contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(inside.visitor()) for _ in range(HANDLERS)]
        for visitor in visitors:
            visitor.send(request("GET", "/stuck", host=HOST))
        threads = inside.engine.handlers._threads
        wait_for(lambda: threads.active == HANDLERS, BOUND, "all threads to be stuck")
        release.set()
        for visitor in visitors:
            assert visitor.answer().body == b"python"


@pytest.fixture
def switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching")
def test_only_quick_handlers_may_keep_the_interpreter_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, computed = 100.0, 5.0
    clock = SimpleNamespace(
        perf_counter=lambda: now, process_time=lambda: computed, thread_time=lambda: 1.0
    )
    monkeypatch.setattr("bridge.proxy.engine.interpreter.time", clock)
    load = Load()

    def interval(handlers: int, each: float, *, idle: bool = False, quick: bool = True) -> float:
        """After 100 ms in which so many handlers ended, having computed so many seconds each."""
        nonlocal now, computed
        now, computed = now + 0.1, computed + handlers * each
        for _ in range(handlers):
            load.ended()
        load.look(idle=idle, quick=quick)
        return sys.getswitchinterval()

    unknown = sys.getswitchinterval()
    assert unknown == pytest.approx(0.0002)
    assert interval(300, 0.0003) == pytest.approx(0.001)
    assert load.is_heavy
    assert interval(4, 0.02) == unknown
    assert interval(300, 0.0003) == pytest.approx(0.001)
    assert interval(300, 0.0003, quick=False) == unknown
    assert interval(300, 0.0003) == pytest.approx(0.001)
    assert interval(10, 0.0003, idle=True) == unknown
    assert interval(0, 0.02) == unknown


@pytest.mark.usefixtures("switching")
def test_one_that_computes_among_quick_ones_is_seen(routes: RouteTable) -> None:
    with engine(routes, handlers=HANDLERS) as inside, inside.visitor() as visitor:
        visitor.send(request("GET", "/computing?0.2", host=HOST))
        handlers = inside.engine.handlers
        wait_for(lambda: not inside.look(handlers._are_quick), BOUND, "that it is seen")
        assert visitor.answer().body == b"computed"
        assert inside.look(handlers._are_quick)
