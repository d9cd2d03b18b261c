"""Handlers that compute share one interpreter: a few of them run at a time, the others wait."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from bridge.proxy.routes import RouteTable
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, computing, engine, release
from tests.proxy.http.double import BOUND, Backend
from tests.proxy.http.visitor import request
from tests.proxy.site import TOP, table

HANDLERS = 12
LIMIT = 'python: 100%, timeout: 1h, handler: "tests.proxy.engine.inside:'


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Iterator[RouteTable]:
    """Nobody is sent to legacy, however long they wait."""
    monkeypatch.setattr("bridge.proxy.engine.handlers.BUSY", BOUND)
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
    monkeypatch.setattr("bridge.proxy.pythonside._LONG", BOUND)
    # On a busy machine it may look for a moment as if they did not compute.
    tries = (ask_all(routes, "/computing?0.03") for _ in range(4))
    assert any(at_once[len(at_once) * 3 // 4] <= 4 for at_once in tries)


def test_who_has_waited_for_long_gets_a_thread_nevertheless(
    routes: RouteTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.proxy.pythonside._LONG", 0.05)
    assert max(ask_all(routes, "/computing?0.1")) > 4


def test_those_that_wait_for_something_else_have_a_thread_each(routes: RouteTable) -> None:
    with engine(routes, handlers=HANDLERS) as inside, contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(inside.visitor()) for _ in range(HANDLERS)]
        for visitor in visitors:
            visitor.send(request("GET", "/stuck", host=HOST))
        threads = inside.service.handlers._threads
        wait_for(lambda: threads.active == HANDLERS, BOUND, "all threads to be stuck")
        release.set()
        for visitor in visitors:
            assert visitor.answer().body == b"python"
