"""All handlers are stuck: legacy's pages come as ever, and who wants Python waits a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, Inside, engine, release
from tests.proxy.shells.double import BOUND, Backend, plain
from tests.proxy.shells.visitor import Visitor, request
from tests.proxy.site import TOP, table

THREADS = 2
STUCK = 'handler: "tests.proxy.engine.inside:stuck", python: 100%, timeout: 1h'


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        backend.when("/legacy", plain(body=b"legacy"))
        backend.when("/stuck", plain(body=b"legacy in its place"))
        yield backend


@pytest.fixture
def inside(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inside]:
    monkeypatch.setattr("bridge.proxy.engine.calls.BUSY", 0.3)
    routes = table(
        f"name: stuck, path: /stuck, methods: [GET, POST], {STUCK}",
        f"name: alone, path: /alone, methods: [GET, POST], fallback: false, {STUCK}",
        top=TOP.replace(":8090", f":{backend.port}"),
    )
    with engine(routes, handlers=THREADS) as inside:
        yield inside


@pytest.fixture
def stuck(inside: Inside) -> Iterator[list[Visitor]]:
    """Visitors whose handlers are stuck, on all threads."""
    with contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(inside.visitor()) for _ in range(THREADS)]
        for visitor in visitors:
            visitor.send(request("GET", "/stuck", host=HOST))
        threads = inside.engine.handlers
        wait_for(lambda: threads.running == THREADS, BOUND, "all threads to be stuck")
        yield visitors


def ask(inside: Inside, path: str, method: str = "GET") -> tuple[int, bytes, str | None]:
    body = b"x" if method == "POST" else None
    with inside.visitor() as visitor:
        visitor.send(request(method, path, host=HOST, body=body))
        got = visitor.answer(method)
        return got.status, got.body, got.get("Retry-After")


def test_legacy_answers_as_ever(inside: Inside, stuck: list[Visitor]) -> None:
    for _ in range(50):
        assert ask(inside, "/legacy") == (200, b"legacy", None)
    assert inside.engine.handlers.running == THREADS


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_after_a_moment_legacy_answers_for_python(
    inside: Inside, stuck: list[Visitor], method: str
) -> None:
    """Also a POST: its handler has not begun, so it has written nothing."""
    assert ask(inside, "/stuck", method) == (200, b"legacy in its place", None)


def test_a_route_of_python_alone_is_a_503_that_says_when_to_come_back(
    inside: Inside, stuck: list[Visitor]
) -> None:
    status, _, after = ask(inside, "/alone")
    assert (status, after) == (503, "2")


def test_legacy_answers_while_the_line_for_python_is_full(
    inside: Inside, stuck: list[Visitor], backend: Backend
) -> None:
    with contextlib.ExitStack() as stack:
        line = [stack.enter_context(inside.visitor()) for _ in range(THREADS * 8 + 10)]
        for visitor in line:
            visitor.send(request("GET", "/stuck", host=HOST))
        for _ in range(20):
            assert ask(inside, "/legacy") == (200, b"legacy", None)
        assert {visitor.answer().body for visitor in line} == {b"legacy in its place"}


def test_who_was_stuck_gets_the_answer_in_the_end(inside: Inside, stuck: list[Visitor]) -> None:
    release.set()
    assert [visitor.answer().body for visitor in stuck] == [b"python"] * THREADS
    assert ask(inside, "/stuck") == (200, b"python", None)


def test_a_visitor_who_leaves_the_line_takes_no_thread(
    inside: Inside, stuck: list[Visitor]
) -> None:
    with inside.visitor() as visitor:
        visitor.send(request("GET", "/stuck", host=HOST))
        handlers = inside.engine.handlers
        wait_for(lambda: handlers.running == THREADS + 1, BOUND, "the third in the line")
        visitor.leave()
    release.set()
    assert [visitor.answer().body for visitor in stuck] == [b"python"] * THREADS
    wait_for(lambda: inside.look(lambda: (handlers._look(), handlers.running)[1]) == 0, BOUND)
