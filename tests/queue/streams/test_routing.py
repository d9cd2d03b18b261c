"""Exchanges lead where every program sees them lead; what is not offered is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
import redis
from kombu.exceptions import ChannelError
from kombu.transport.virtual import NotEquivalentError

from bridge.errors import NotOffered
from tests.queue.streams.site import Reader, connect, publish


@pytest.fixture
def connection(redis_url: str) -> Iterator[kombu.Connection]:
    with connect(redis_url) as made:
        yield made


@pytest.fixture
def stranger(redis_url: str) -> Iterator[kombu.Connection]:
    """A connection that has declared nothing."""
    with connect(redis_url) as made:
        yield made


def bind(connection: kombu.Connection, kind: str, **queues: str) -> kombu.Exchange:
    """An exchange `e` and queues, each with its routing key."""
    exchange = kombu.Exchange("e", type=kind)
    for name, key in queues.items():
        kombu.Queue(name, exchange, routing_key=key)(connection.default_channel).declare()
    return exchange


@pytest.mark.parametrize(
    ("kind", "key", "reached"),
    [
        ("direct", "a.b", {"q1"}),
        ("direct", "x", set()),
        ("topic", "a.b", {"q1", "q2"}),
        ("topic", "a.c", {"q2"}),
        ("fanout", "whatever", {"q1", "q2"}),
    ],
)
def test_a_program_that_declared_nothing_reaches_the_right_queues(
    connection: kombu.Connection,
    stranger: kombu.Connection,
    clean_redis: redis.Redis,
    kind: str,
    key: str,
    reached: set[str],
) -> None:
    bind(connection, kind, q1="a.b", q2="a.*")
    kombu.Producer(stranger.default_channel).publish("x", exchange="e", routing_key=key)
    assert {name for name in ("q1", "q2") if clean_redis.xlen(name)} == reached


def test_a_message_for_several_queues_reaches_all_of_them_or_none(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    exchange = bind(connection, "fanout", q1="", q2="")
    clean_redis.config_resetstat()
    kombu.Producer(connection.default_channel, exchange).publish("x")
    stats = clean_redis.info("commandstats")
    assert (stats["cmdstat_exec"]["calls"], stats["cmdstat_xadd"]["calls"]) == (1, 2)


def test_an_unbound_queue_gets_nothing_more(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    exchange = bind(connection, "topic", q1="a.#", q2="a.#")
    kombu.Queue("q1")(connection.default_channel).unbind_from(exchange, routing_key="a.#")
    kombu.Producer(connection.default_channel, exchange).publish("x", routing_key="a.b")
    assert (clean_redis.xlen("q1"), clean_redis.xlen("q2")) == (0, 1)


def test_a_deleted_queue_does_not_come_back_by_a_binding_of_another_program(
    connection: kombu.Connection, stranger: kombu.Connection, clean_redis: redis.Redis
) -> None:
    exchange = bind(connection, "fanout", q1="", q2="")
    stranger.default_channel.queue_delete("q1")
    kombu.Producer(connection.default_channel, exchange).publish("x")
    assert clean_redis.exists("q1") == 0
    assert clean_redis.xlen("q2") == 1


def test_a_binding_is_made_again_after_redis_was_wiped(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    bind(connection, "fanout", q1="")
    clean_redis.flushall()
    exchange = bind(connection, "fanout", q1="")
    kombu.Producer(connection.default_channel, exchange).publish("x")
    assert clean_redis.xlen("q1") == 1


def test_a_queue_bound_by_a_program_that_did_not_declare_the_exchange_follows_its_type(
    connection: kombu.Connection, stranger: kombu.Connection, clean_redis: redis.Redis
) -> None:
    exchange = bind(connection, "topic")
    exchange(connection.default_channel).declare()
    stranger.default_channel.queue_declare("q")
    stranger.default_channel.queue_bind("q", "e", "a.*")
    kombu.Producer(connection.default_channel, exchange).publish("x", routing_key="a.b")
    assert clean_redis.xlen("q") == 1


def test_two_programs_cannot_give_an_exchange_two_types(
    connection: kombu.Connection, stranger: kombu.Connection
) -> None:
    bind(connection, "topic", q="a")
    with pytest.raises(NotEquivalentError, match="topic"):
        bind(stranger, "fanout", q="a")


def test_an_exchange_that_another_program_declared_is_found(
    connection: kombu.Connection, stranger: kombu.Connection
) -> None:
    with pytest.raises(ChannelError):
        stranger.default_channel.exchange_declare("e", passive=True)
    bind(connection, "topic", q="a")
    stranger.default_channel.exchange_declare("e", passive=True)


def test_a_deleted_exchange_leaves_its_queues(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    exchange = bind(connection, "direct", q="a")
    channel = connection.default_channel
    channel.exchange_delete("e", if_unused=True)
    kombu.Producer(channel, exchange).publish("x", routing_key="a")
    channel.exchange_delete("e")
    assert clean_redis.xlen("q") == 1
    assert clean_redis.keys() == [b"q"]


def test_purging_takes_what_nobody_holds(
    connection: kombu.Connection, stranger: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *"abcd")
    reader = Reader(connection, "q", ack=False, prefetch_count=1)
    reader.look()
    assert stranger.default_channel.queue_purge("q") == 3
    reader.messages[0].ack()
    assert clean_redis.xlen("q") == 0


def test_deleting_asks_whether_a_queue_is_empty_or_used(
    connection: kombu.Connection, stranger: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", "a")
    stranger.default_channel.queue_delete("q", if_empty=True)
    assert clean_redis.exists("q")
    reader = Reader(connection, "q")
    reader.look()
    stranger.default_channel.queue_delete("q", if_unused=True)
    assert clean_redis.exists("q")
    stranger.default_channel.queue_delete("q")
    assert not clean_redis.exists("q")


def test_a_queue_that_is_not_there_is_not_found(connection: kombu.Connection) -> None:
    with pytest.raises(ChannelError, match="q"):
        connection.default_channel.queue_declare("q", passive=True)


@pytest.mark.parametrize(
    ("what", "names"),
    [
        (lambda c: kombu.Producer(c).publish("x", routing_key="q", priority=3), "priority"),
        (lambda c: kombu.Producer(c).publish("x", routing_key="q", expiration=3), "time to live"),
        (lambda c: kombu.Producer(c).publish("x", routing_key="q", mandatory=True), "mandatory"),
        (lambda c: kombu.Queue("q", max_priority=3)(c).declare(), "x-max-priority"),
        (lambda c: kombu.Queue("q", message_ttl=3)(c).declare(), "x-message-ttl"),
        (lambda c: kombu.Queue("q", expires=3)(c).declare(), "x-expires"),
        (lambda c: kombu.Queue("q", max_length=3)(c).declare(), "x-max-length"),
        (
            lambda c: kombu.Queue("q", queue_arguments={"x-dead-letter-exchange": "e"})(
                c
            ).declare(),
            "x-dead-letter-exchange",
        ),
        (lambda c: kombu.Exchange("e", type="headers")(c).declare(), "headers"),
        (
            lambda c: kombu.Queue("q", consumer_arguments={"x-priority": 1})(c).consume("t"),
            "x-priority",
        ),
    ],
)
def test_what_is_not_offered_is_refused_by_name(
    connection: kombu.Connection,
    clean_redis: redis.Redis,
    what: Callable[[Any], Any],
    names: str,
) -> None:
    with pytest.raises(NotOffered, match=names):
        what(connection.default_channel)
    assert clean_redis.keys() == []


def test_steps_of_priority_are_refused(redis_url: str) -> None:
    with connect(redis_url, priority_steps=[0, 5]) as made, pytest.raises(NotOffered):
        _ = made.default_channel


def test_the_priority_that_means_none_is_accepted(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    kombu.Producer(connection.default_channel).publish("x", routing_key="q", priority=0)
    assert clean_redis.xlen("q") == 1
