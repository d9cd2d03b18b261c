"""What is packed is unpacked up to a limit, and a bomb is garbage like any other."""

from __future__ import annotations

import bz2
import lzma
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import kombu
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import compression

from bridge.errors import UndecodableMessage
from bridge.queue.broker import connection as broker
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import MAX_EVENT_BYTES, Event
from bridge.queue.unpack import unpack
from tests.queue.conftest import memory_broker

Pack = Callable[[bytes], bytes]
PACKERS: dict[str, Pack] = {
    **dict.fromkeys(("gzip", "zlib", "application/x-gzip"), zlib.compress),
    **dict.fromkeys(("bzip2", "bzip", "application/x-bz2"), bz2.compress),
    **dict.fromkeys(("lzma", "xz", "application/x-lzma"), lzma.compress),
}
BOMBS = {kind: pack(bytes(80 * MAX_EVENT_BYTES)) for kind, pack in PACKERS.items() if "/" in kind}


@given(name=st.sampled_from(sorted(PACKERS)), body=st.binary(max_size=200))
def test_what_kombu_packs_is_unpacked(name: str, body: bytes) -> None:
    packed, kind = compression.compress(body, name)
    assert unpack(packed, name, 200) == unpack(packed, kind, 200) == body


@given(
    name=st.sampled_from(sorted(PACKERS)) | st.text(max_size=5) | st.integers() | st.none(),
    body=st.binary(max_size=60),
    cut=st.integers(0, 60),
)
def test_garbage_is_an_error_that_is_expected(name: object, body: bytes, cut: int) -> None:
    whole = PACKERS.get(str(name), zlib.compress)(body)
    for garbage in (body, whole[: min(cut, len(whole) - 1)], whole + body):
        with suppress(UndecodableMessage):
            assert unpack(garbage, name, 100) == body


@pytest.mark.parametrize("kind", sorted(BOMBS))
def test_a_bomb_is_not_unpacked_beyond_the_limit(kind: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UndecodableMessage, match="more than"):
            unpack(BOMBS[kind], kind, MAX_EVENT_BYTES)
        # Of lzma its dictionary too.
        assert tracemalloc.get_traced_memory()[1] < 16 * MAX_EVENT_BYTES
    finally:
        tracemalloc.stop()


@pytest.fixture(params=["redis", "rabbitmq", "memory"])
def broker_url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return memory_broker()
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def send(url: str, body: bytes, queue: str = broker.EVENTS_QUEUE, **headers: Any) -> None:
    """As a program with Kombu does it that packs by itself."""
    with broker.connect(url) as connection:
        connection.declare(queue)
        kombu.Producer(connection.channel).publish(
            body,
            routing_key=queue,
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
        )


def test_a_bomb_on_the_queue_is_a_dead_letter_and_its_neighbours_arrive(
    broker_url: str, receiver: Any, start: Any, wait_for: Any
) -> None:
    event = Event("project", "changed", "vim", 7, {"name": "vim"})
    for kind, bomb in BOMBS.items():
        send(broker_url, bomb, compression=kind)
    send(broker_url, b"{}", compression="unknown")
    send(broker_url, zlib.compress(event.to_json().encode()), compression="gzip")
    running = start(broker_url, receiver)

    wait_for(lambda: running.counters.dead == len(BOMBS) + 1, 30)
    wait_for(lambda: receiver.versions == [7])
    running.stop()
    with broker.connect(broker_url) as connection:
        found = DeadLetters(connection).letters()
        assert {one.raw for one in found} == {*BOMBS.values(), b"{}"}
        # No retry makes events of them.
        assert DeadLetters(connection).retry() == (0, len(found))
        assert len(DeadLetters(connection).drop()) == len(found)


def test_a_bomb_among_the_dead_letters_is_shown_as_it_came(broker_url: str) -> None:
    bomb = BOMBS["application/x-gzip"]
    send(broker_url, bomb, broker.DEAD_QUEUE, compression="gzip")
    with broker.connect(broker_url) as connection:
        letters = DeadLetters(connection)
        letters.put(DeadLetter.of(b"x", "y"))
        found = {one.raw for one in letters.letters()}
        letters.drop()
    assert found == {bomb, b"x"}
