"""Under load, whole requests and whole answers are written at the end of the event loop's turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.proxy.engine.visitor import Visitor
from tests.proxy.engine.inside import HOST
from tests.proxy.engine.wired import Later, Wire, Wired

MANY = 6


def ask(path: str = "/", *, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{more}\r\n".encode()


def answer(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@dataclass
class Crowd:
    """Visitors who have each asked for a page of their own, and got it."""

    loop: Later = field(default_factory=Later)
    visitors: list[tuple[Visitor, Wire]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.wired = Wired(loop=self.loop)
        for number in range(MANY):
            self.visitors.append(self.wired.visit())
            self.visitors[-1][0].data_received(ask(f"/first/{number}"))
        self.turn()
        for legacy in self.wired.legacy:
            legacy.send(answer("first"))
        self.turn()
        for wire in self.wires:
            assert wire.out.endswith(b"first")
        self.clear()

    @property
    def wires(self) -> list[Wire]:
        return [wire for _, wire in self.visitors]

    @property
    def legacy(self) -> list[Wire]:
        return [legacy.wire for legacy in self.wired.legacy]

    def turn(self) -> None:
        while self.loop.step():
            pass

    def clear(self) -> None:
        for wire in (*self.wires, *self.legacy):
            wire.out.clear()

    def ask(self, **more: Any) -> None:
        for number, (visitor, _) in enumerate(self.visitors):
            visitor.data_received(ask(f"/second/{number}", **more))


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def test_a_few_do_not_wait() -> None:
    wired = Wired(loop=Later())
    wires = []
    for number in range(3):
        visitor, wire = wired.visit()
        wires.append(wire)
        visitor.data_received(ask(f"/{number}"))
        assert wired.legacy[number].wire.out.startswith(f"GET /{number} ".encode())
    for legacy, wire in zip(wired.legacy, wires, strict=True):
        legacy.send(answer("page"))
        assert wire.out.endswith(b"page")


def test_requests_and_answers_wait_for_the_end_of_the_turn(crowd: Crowd) -> None:
    crowd.ask()
    asked = [bool(wire.out) for wire in crowd.legacy]
    assert asked.count(False) == MANY - 3  # the first ones were few
    crowd.turn()
    assert all(wire.out.startswith(b"GET /second/") for wire in crowd.legacy)
    assert sorted(wire.out.split()[1] for wire in crowd.legacy) == [
        f"/second/{number}".encode() for number in range(MANY)
    ]
    for number, legacy in enumerate(crowd.wired.legacy):
        legacy.send(answer(f"second {number}"))
    assert not all(wire.out for wire in crowd.wires)
    crowd.turn()
    assert sorted(wire.out[-8:] for wire in crowd.wires) == [
        f"second {number}".encode() for number in range(MANY)
    ]


def test_what_is_written_later_comes_later(crowd: Crowd) -> None:
    outlet, wire = crowd.visitors[0][0].outlet, crowd.wires[0]
    crowd.ask()
    outlet.write_soon(b"one ")
    outlet.write_soon(b"two ")
    outlet.write_soon(b"three ")
    outlet.write(b"four ")
    outlet.write_soon(b"five")
    crowd.turn()
    assert wire.out == b"one two three four five"


def _close_by_header(crowd: Crowd) -> None:
    crowd.ask(more="Connection: close\r\n")


def _close_by_stop(crowd: Crowd) -> None:
    crowd.ask()
    crowd.wired._engine.draining = True


def _close_by_end(crowd: Crowd) -> None:
    crowd.ask()
    for visitor, _ in crowd.visitors:
        visitor.eof_received()


@pytest.mark.parametrize("closes", [_close_by_header, _close_by_stop, _close_by_end])
def test_the_answer_is_written_before_the_connection_ends(
    crowd: Crowd, closes: Callable[[Crowd], None]
) -> None:
    closes(crowd)
    crowd.turn()
    for legacy in crowd.wired.legacy:
        legacy.send(answer("second"))
    crowd.turn()
    for wire in crowd.wires:
        assert wire.out.endswith(b"second")
        assert wire.ended or wire.closed == "closed"


def test_the_answer_is_written_to_who_then_says_that_nothing_more_comes(crowd: Crowd) -> None:
    crowd.ask()
    crowd.turn()
    for legacy in crowd.wired.legacy:
        legacy.send(answer("second"))
    for visitor, wire in crowd.visitors:
        if not visitor.eof_received():
            wire.close()
    crowd.turn()
    assert all(wire.out.endswith(b"second") for wire in crowd.wires)


def test_who_has_left_before_the_end_of_the_turn_asks_nothing(crowd: Crowd) -> None:
    crowd.ask()
    for visitor, wire in crowd.visitors:
        wire.close()
        visitor.connection_lost(None)
    before = [bytes(wire.out) for wire in crowd.legacy]
    assert b"" in before
    crowd.turn()
    assert [bytes(wire.out) for wire in crowd.legacy] == before
    assert all(wire.closed for wire in crowd.legacy)


def test_what_legacy_says_before_it_was_asked_is_nobodys_answer(crowd: Crowd) -> None:
    """A backend that ends an idle connection may say 408 first, as HAProxy does."""
    crowd.ask()
    late = [legacy for legacy in crowd.wired.legacy if not legacy.wire.out]
    assert late
    for legacy in late:
        legacy.send(b"HTTP/1.1 408 Request Time-out\r\nContent-Length: 0\r\n\r\n")
        assert legacy.wire.closed
        assert not legacy.wire.out
    crowd.turn()
    living = [legacy for legacy in crowd.wired.legacy if not legacy.wire.closed]
    assert len(living) == MANY
    for legacy in living:
        assert legacy.wire.out.startswith(b"GET /second/")
        legacy.send(answer("second"))
    crowd.turn()
    assert all(wire.out.endswith(b"second") for wire in crowd.wires)
    assert crowd.wired._engine.batch.asking == 0


def test_what_cannot_be_written_concerns_nobody_else(crowd: Crowd) -> None:
    crowd.ask()
    broken = next(legacy for legacy in crowd.wired.legacy if not legacy.wire.out)
    others = [wire for wire in crowd.legacy if wire is not broken.wire]

    def fails(data: bytes) -> None:
        raise RuntimeError("a bug")

    broken.wire.write = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="a bug"):
        crowd.turn()
    crowd.turn()
    assert all(wire.out.startswith(b"GET /second/") for wire in others)
