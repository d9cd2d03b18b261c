"""Publishing returns when the broker has everything, or says that it may not have."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import BridgeError, ServerAway, UndecodableMessage
from bridge.queue.broker import connection as broker
from bridge.queue.broker import publisher
from bridge.queue.broker.connection import Broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.consumer.dead_letters import DeadLetters
from bridge.queue.events import MAX_EVENT_BYTES, Event
from stack.errors import BinaryMissing
from stack.ports import free_port
from stack.process import Server
from stack.rabbitmq import RabbitMQ
from stack.redis import Redis
from tests.queue.conftest import memory_broker

Wait = Callable[..., Any]


def changed(key: str, version: int) -> Event:
    return Event("project", "changed", key, version, {"name": key})


@pytest.fixture(params=["redis", "rabbitmq", "memory"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty broker of each kind."""
    if request.param == "memory":
        return memory_broker()
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


SERVERS: list[Callable[..., Server]] = [Redis, RabbitMQ]


@pytest.fixture(scope="module", params=SERVERS, ids=["redis", "rabbitmq"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A broker of this file's own, to be killed."""
    made = request.param(tmp_path_factory.mktemp("server"))
    try:
        made.command()
    except BinaryMissing as missing:
        pytest.skip(f"{missing}, or: scripts/test --all")
    with made:
        with Publisher(made.url):
            pass
        if isinstance(made, RabbitMQ):
            made.settle()
        yield made


@pytest.fixture
def killable(server: Any) -> Iterator[Any]:
    """It runs, and its queue is empty."""
    server.start()
    take(server.url)
    yield server
    server.start()


@contextmanager
def hanging(server: Server) -> Iterator[None]:
    """Its processes do nothing, and its sockets stay open."""
    processes = server.processes()
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)


def take(url: str) -> list[int]:
    """The versions of the events on the queue, which is empty afterwards."""
    found = []
    with broker.connect(url) as connection:
        channel: Any = connection.channel
        connection.declare(broker.EVENTS_QUEUE)
        while (got := channel.basic_get(broker.EVENTS_QUEUE)) is not None:
            message = channel.message_to_python(got)
            found.append(Event.parse(message.body).version)
            message.ack()
    return found


def test_a_batch_is_there_in_its_order_when_the_call_returns(url: str) -> None:
    with Publisher(url) as made:
        made.publish_many([changed(f"p{n}", n) for n in range(300)])
        made.publish(changed("one", 300))
        made.publish_many([])

    assert take(url) == list(range(301))


def test_nothing_is_sent_when_one_event_is_too_large(url: str) -> None:
    large = Event("project", "changed", "big", 2, {"text": "x" * MAX_EVENT_BYTES})
    with Publisher(url) as made:
        with pytest.raises(UndecodableMessage, match="bytes"):
            made.publish_many([changed("vim", 1), large, changed("git", 3)])
        made.publish(changed("nano", 4))

    assert take(url) == [4]


def test_the_largest_event_goes_through(url: str) -> None:
    room = MAX_EVENT_BYTES - len(Event("project", "changed", "big", 2, {"text": ""}).to_json())
    large = Event("project", "changed", "big", 2, {"text": "x" * (room - 100)})
    with Publisher(url) as made:
        made.publish_many([large, large])

    assert take(url) == [2, 2]


def test_a_text_that_cannot_be_encoded_sends_none_of_its_batch_and_harms_no_later_one(
    url: str,
) -> None:
    with Publisher(url) as made:
        with pytest.raises(UnicodeEncodeError):
            made.send([changed("vim", 1).to_json(), "\ud800"])
        made.publish(changed("git", 2))

    assert take(url) == [2]


def test_headers_travel_with_the_message(url: str) -> None:
    with broker.connect(url) as connection:
        channel: Any = connection.channel
        connection.declare(broker.EVENTS_QUEUE)
        connection.publish(broker.EVENTS_QUEUE, ["{}"], {"bridge-count": "3"})
        message = channel.message_to_python(channel.basic_get(broker.EVENTS_QUEUE))
        message.ack()

    assert message.headers["bridge-count"] == "3"
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_not_there_is_away_at_once(scheme: str) -> None:
    began = time.monotonic()
    made = Publisher(f"{scheme}://127.0.0.1:{free_port()}//")

    with pytest.raises(ServerAway):
        made.publish(changed("vim", 1))
    assert time.monotonic() - began < 5


def test_a_url_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(BridgeError, match="cannot be used"):
        Publisher("nonsense://127.0.0.1").publish(changed("vim", 1))


def test_a_killed_broker_is_away_and_the_same_publisher_goes_on_when_it_is_back(
    killable: Any,
) -> None:
    with Publisher(killable.url) as made:
        made.publish(changed("vim", 1))
        killable.kill()
        for _ in range(2):
            with pytest.raises(ServerAway):
                made.publish(changed("vim", 2))
        killable.start()
        made.publish(changed("vim", 3))

    # Redis wrote its file once a second at least, RabbitMQ before it confirmed.
    assert take(killable.url)[-1] == 3


def test_what_rabbitmq_has_confirmed_survives_a_kill(killable: Any) -> None:
    if not isinstance(killable, RabbitMQ):
        pytest.skip("what Redis keeps depends on appendfsync")
    with Publisher(killable.url) as made:
        made.publish_many([changed(f"p{n}", n) for n in range(1000)])
        killable.kill()
    killable.start()

    assert take(killable.url) == list(range(1000))


def test_a_broker_that_hangs_is_away_within_seconds(
    killable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PATIENCE", 1.0)
    with Publisher(killable.url) as made:
        made.publish(changed("vim", 1))
        with hanging(killable):
            began = time.monotonic()
            with pytest.raises(ServerAway):
                made.publish_many([changed(f"p{n}", 2) for n in range(100)])
            with pytest.raises(ServerAway):
                made.publish(changed("vim", 3))
            took = time.monotonic() - began
        made.publish(changed("vim", 4))

    # Once for the open connection, once for another that nobody takes.
    assert took < 2 * publisher.PATIENCE + 5
    assert 4 in take(killable.url)


def test_a_broker_that_hangs_does_not_hold_up_the_end(
    killable: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PATIENCE", 1.0)
    with hanging(killable):
        began = time.monotonic()
        with pytest.raises(ServerAway), Publisher(killable.url):
            pass
        assert time.monotonic() - began < 8


# RabbitMQ alone.


@pytest.fixture
def rabbitmq_connection(rabbitmq_url: str) -> Iterator[Broker]:
    with broker.connect(rabbitmq_url, socket_timeout=2) as connection:
        connection.declare(broker.EVENTS_QUEUE)
        yield connection


def test_a_queue_that_is_gone_is_an_error_and_the_next_publisher_makes_it_again(
    rabbitmq_url: str,
) -> None:
    with Publisher(rabbitmq_url) as made:
        made.publish(changed("vim", 1))
        with broker.connect(rabbitmq_url) as connection:
            connection.channel.queue_delete(broker.EVENTS_QUEUE)

        with pytest.raises(ServerAway, match=r"there is no queue bridge\.events"):
            made.publish_many([changed("vim", 2), changed("git", 3)])
        made.publish(changed("vim", 4))

    assert take(rabbitmq_url) == [4]


def test_a_message_that_rabbitmq_refuses_is_an_error(rabbitmq_connection: Broker) -> None:
    channel: Any = rabbitmq_connection.channel
    arguments = {"x-max-length": 2, "x-overflow": "reject-publish"}
    channel.queue_declare("small", durable=True, auto_delete=False, arguments=arguments)

    with pytest.raises(rabbitmq_connection.errors, match="RabbitMQ refused"):
        rabbitmq_connection.publish("small", [b"{}"] * 50)
    rabbitmq_connection.publish(broker.EVENTS_QUEUE, [b"{}"])


def test_a_full_rabbitmq_is_away_and_takes_messages_again_when_it_has_room(
    killable: Any, monkeypatch: pytest.MonkeyPatch, wait_for: Wait
) -> None:
    if not isinstance(killable, RabbitMQ):
        pytest.skip("a full Redis refuses at once")
    monkeypatch.setattr(publisher, "PATIENCE", 1.0)
    killable.control("set_vm_memory_high_watermark", "absolute", "1MB")
    made = Publisher(killable.url)
    try:
        with pytest.raises(ServerAway, match="confirmed no message"):
            made.publish(changed("vim", 1))
    finally:
        killable.control("set_vm_memory_high_watermark", "absolute", "512MB")

    def published() -> bool:
        try:
            made.publish(changed("vim", 2))
        except ServerAway:
            return False
        return True

    wait_for(published, bound=20)
    made.close()


def test_dead_letters_and_events_share_a_connection_with_a_consumer(
    rabbitmq_connection: Broker,
) -> None:
    letters = DeadLetters(rabbitmq_connection)
    assert len(letters) == 0
    errors: list[BaseException] = []

    def publish() -> None:
        try:
            for _ in range(20):
                rabbitmq_connection.publish(broker.DEAD_QUEUE, [b"{}"] * 10)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=publish)
    thread.start()
    thread.join(20)

    assert errors == []
    assert len(letters) == 200


def test_the_patience_in_the_url_of_a_redis_wins(tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as redis, Publisher(f"{redis.url}?socket_timeout=1") as made:
        made.publish(changed("vim", 1))
        with hanging(redis):
            began = time.monotonic()
            with pytest.raises(ServerAway):
                made.publish(changed("vim", 2))
            assert time.monotonic() - began < 3
