"""What a consumer of `bridge.queue.streams` can count on while nothing is killed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest
import redis
from kombu.mixins import ConsumerMixin
from kombu.pools import producers

from bridge.queue.streams.entry import DELIVERIES, UNDECODABLE
from tests.queue.streams.site import QUICK, Reader, connect, publish

Wait = Callable[..., Any]


@pytest.fixture
def connection(redis_url: str) -> Iterator[kombu.Connection]:
    with connect(redis_url) as made:
        yield made


@pytest.fixture
def other(redis_url: str) -> Iterator[kombu.Connection]:
    with connect(redis_url) as made:
        yield made


def texts(client: redis.Redis, queue: str = "q") -> list[str]:
    """The bodies of a stream, oldest first."""
    return [fields[b"body"].decode() for _, fields in client.xrange(queue)]


def pending(client: redis.Redis, queue: str = "q") -> int:
    return int(client.xpending(queue, "bridge")["pending"])


def names(client: redis.Redis, queue: str = "q") -> list[bytes]:
    return [row["name"] for row in client.xinfo_consumers(queue, "bridge")]


# Batches.


def test_a_batch_is_acknowledged_by_one_transaction_that_also_deletes_it(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *(str(n) for n in range(50)))
    reader = Reader(connection, "q")
    clean_redis.config_resetstat()
    reader.look()

    stats = clean_redis.info("commandstats")
    calls = {name: stats[f"cmdstat_{name}"]["calls"] for name in ("exec", "xack", "xdel")}
    assert calls == {"exec": 1, "xack": 1, "xdel": 1}
    assert stats["cmdstat_xreadgroup"]["calls"] == 1
    assert len(reader.messages) == 50
    assert clean_redis.xlen("q") == 0


def test_what_is_published_in_one_block_arrives_by_one_transaction(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    channel = connection.default_channel
    clean_redis.config_resetstat()
    publish(connection, "q", "a", "b", "c")

    stats = clean_redis.info("commandstats")
    assert (stats["cmdstat_exec"]["calls"], stats["cmdstat_xadd"]["calls"]) == (1, 3)
    assert channel.contents.length("q") == 3


def test_nothing_of_a_block_is_published_when_it_fails(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    channel = connection.default_channel

    def fail_halfway() -> None:
        with channel.publishing():
            kombu.Producer(channel).publish("a", routing_key="q")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert clean_redis.keys() == []
    publish(connection, "q", "b")
    assert texts(clean_redis) == ["b"]


def test_a_full_redis_takes_all_of_a_block_or_nothing(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    clean_redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError):
            publish(connection, "q", "a", "b")
    finally:
        clean_redis.config_set("maxmemory", 0)
    assert clean_redis.keys() == []


def test_a_full_redis_can_be_emptied_even_by_a_new_consumer(
    connection: kombu.Connection, other: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", "a", "b", "c")
    clean_redis.config_set("maxmemory", 1)
    try:
        reader = Reader(other, "q", ack=False)
        reader.look()
        assert reader.texts == ["a", "b", "c"]
        reader.messages[0].ack()
        reader.messages[1].requeue()
        reader.messages[2].reject()
        other.default_channel.qos.flush()
        assert texts(clean_redis) == ["b"]
        assert clean_redis.keys("bridge.alive.*") != []
    finally:
        clean_redis.config_set("maxmemory", 0)


def test_no_more_is_fetched_than_the_prefetch_count_allows(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *"abcdef")
    reader = Reader(connection, "q", ack=False, prefetch_count=4)
    reader.look()
    reader.look()
    assert reader.texts == ["a", "b", "c", "d"]
    assert pending(clean_redis) == 4

    reader.messages[0].ack()
    reader.look()
    assert reader.texts == ["a", "b", "c", "d", "e"]


def test_a_consumer_of_one_message_at_a_time_takes_one_of_two_full_queues(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q1", "a", "b")
    publish(connection, "q2", "a", "b")
    reader = Reader(connection, "q1", "q2", ack=False, prefetch_count=1)
    reader.look()
    assert pending(clean_redis, "q1") + pending(clean_redis, "q2") == 1
    for _ in range(3):
        reader.messages[-1].ack()
        reader.look()
    assert len(reader.messages) == 4


def test_a_full_queue_does_not_starve_another(connection: kombu.Connection) -> None:
    publish(connection, "q1", *(str(n) for n in range(1000)))
    publish(connection, "q2", "mine")
    reader = Reader(connection, "q1", "q2")
    reader.look()
    assert "mine" in reader.texts


# Acknowledging.


def test_a_message_is_put_back_at_the_end_and_its_count_raised(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", "a", "b")
    reader = Reader(connection, "q", ack=False)
    reader.look()
    reader.messages[0].requeue()
    assert texts(clean_redis) == ["b", "a"]

    reader.look()
    again = reader.messages[2]
    assert (again.body, again.headers[DELIVERIES]) == (b"a", 1)
    again.requeue()
    reader.look()
    assert reader.messages[3].headers[DELIVERIES] == 2


def test_a_count_that_a_producer_copied_from_another_message_is_not_believed(
    connection: kombu.Connection,
) -> None:
    kombu.Producer(connection.default_channel).publish(
        "a", routing_key="q", headers={DELIVERIES: 99, "mine": 1}
    )
    reader = Reader(connection, "q")
    reader.look()
    assert reader.messages[0].headers == {"mine": 1}


def test_a_closed_channel_returns_what_it_held_in_its_order_and_uncounted(
    connection: kombu.Connection, other: kombu.Connection, clean_redis: redis.Redis
) -> None:
    class Full(Exception):
        pass

    seen: list[Any] = []

    def receive(message: Any) -> None:
        seen.append(message)
        if len(seen) == 3:
            raise Full

    publish(connection, "q", *"abcdef")
    consumer = kombu.Consumer(
        connection.default_channel, [kombu.Queue("q", routing_key="q")], on_message=receive
    )
    consumer.consume()
    with pytest.raises(Full):
        connection.drain_events(timeout=1)
    seen[1].ack()
    connection.release()

    assert texts(clean_redis) == ["a", "c", "d", "e", "f"]
    assert pending(clean_redis) == 0
    reader = Reader(other, "q")
    reader.look()
    assert [message.headers for message in reader.messages] == [{}] * 5


def test_a_cancelled_consumer_returns_what_was_fetched_and_not_delivered(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *"abc")
    seen: list[Any] = []

    def receive(message: Any) -> None:
        seen.append(message)
        consumer.cancel()

    consumer = kombu.Consumer(
        connection.default_channel, [kombu.Queue("q", routing_key="q")], on_message=receive
    )
    consumer.consume()
    connection.drain_events(timeout=1)
    assert len(seen) == 1
    assert connection.default_channel.queue_declare("q", passive=True).message_count == 2
    seen[0].ack()
    assert texts(clean_redis) == ["b", "c"]


def test_an_error_in_a_callback_loses_nothing(connection: kombu.Connection) -> None:
    publish(connection, "q", *"abc")
    seen: list[str] = []

    def receive(message: Any) -> None:
        seen.append(message.body.decode())
        if len(seen) == 1:
            raise ZeroDivisionError
        message.ack()

    with kombu.Consumer(
        connection.default_channel, [kombu.Queue("q", routing_key="q")], on_message=receive
    ):
        with pytest.raises(ZeroDivisionError):
            connection.drain_events(timeout=1)
        connection.drain_events(timeout=1)
    assert seen == ["a", "b", "c"]
    assert len(connection.default_channel.qos._held) == 1


def test_messages_may_be_acknowledged_by_other_threads(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *(str(n) for n in range(400)))
    reader = Reader(connection, "q", ack=False)
    while len(reader.messages) < 400:
        reader.look()

    def acknowledge(share: int) -> None:
        for message in reader.messages[share::4]:
            message.ack()

    threads = [threading.Thread(target=acknowledge, args=(share,)) for share in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.default_channel.qos.flush()
    assert clean_redis.xlen("q") == 0
    assert pending(clean_redis) == 0


def test_acknowledging_several_by_the_last_leaves_the_later_ones(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *"abcd")
    reader = Reader(connection, "q", ack=False)
    reader.look()
    reader.messages[2].ack(multiple=True)
    connection.default_channel.qos.flush()
    assert texts(clean_redis) == ["d"]


def test_a_consumer_without_acknowledgements_leaves_nothing(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *"abc")
    reader = Reader(connection, "q", ack=False, no_ack=True)
    reader.look()
    assert reader.texts == ["a", "b", "c"]
    assert clean_redis.xlen("q") == 0


def test_single_messages_are_taken_with_and_without_acknowledging(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *"ab")
    channel = connection.default_channel
    first = channel.basic_get("q")
    assert channel.basic_get("q", no_ack=True).body == b"b"
    assert channel.basic_get("q") is None
    assert texts(clean_redis) == ["a"]
    first.ack()
    assert clean_redis.xlen("q") == 0


# Several at once.


def test_two_channels_of_one_connection_each_hold_their_own_messages_of_one_queue(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", *"abcdefgh")
    readers = [
        Reader(connection, "q", ack=False, channel=connection.channel(), prefetch_count=4)
        for _ in range(2)
    ]
    for _ in range(4):
        readers[0].look(0.05)
    assert sorted(readers[0].texts + readers[1].texts) == list("abcdefgh")
    assert [len(reader.messages) for reader in readers] == [4, 4]
    for reader in readers:
        assert {message.channel for message in reader.messages} == {reader.channel}
        reader.channel.close()
    assert pending(clean_redis) == 0
    assert sorted(texts(clean_redis)) == list("abcdefgh")


def test_the_second_consumer_of_a_queue_goes_on_when_the_first_is_cancelled(
    connection: kombu.Connection,
) -> None:
    first, second = Reader(connection, "q"), Reader(connection, "q")
    second.consumer.cancel()
    publish(connection, "q", "a")
    first.look()
    assert first.texts == ["a"]


def test_an_auto_delete_queue_goes_with_its_last_consumer_and_not_before(
    connection: kombu.Connection, other: kombu.Connection, clean_redis: redis.Redis
) -> None:
    queue = kombu.Queue("q", routing_key="q", auto_delete=True)
    one, two = (
        kombu.Consumer(made.default_channel, [queue], on_message=print)
        for made in (connection, other)
    )
    for consumer, made in ((one, connection), (two, other)):
        consumer.consume()
        with pytest.raises(TimeoutError):
            made.drain_events(timeout=0.01)
    one.cancel()
    assert clean_redis.exists("q") == 1
    connection.release()
    two.cancel()
    assert clean_redis.exists("q") == 0


def test_waiting_ends_in_time_however_long_it_is(connection: kombu.Connection) -> None:
    reader = Reader(connection, "q")
    begin = time.monotonic()
    reader.look(1.3)
    assert 1.25 < time.monotonic() - begin < 1.9


def test_a_connection_without_consumers_waits_without_work(connection: kombu.Connection) -> None:
    _ = connection.default_channel
    begin = os.times()
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.5)
    end = os.times()
    assert end.user + end.system - begin.user - begin.system < 0.2


def test_an_idle_consumer_with_a_short_time_limit_is_not_taken_for_a_lost_connection(
    redis_url: str,
) -> None:
    with connect(redis_url, socket_timeout=0.4) as made:
        reader = Reader(made, "q")
        reader.look(1.0)
        publish(made, "q", "a")
        reader.look()
        assert reader.texts == ["a"]


# Content.


@pytest.mark.parametrize("serializer", ["json", "pickle", None])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_bodies_survive(
    connection: kombu.Connection, serializer: str | None, compression: str | None
) -> None:
    body: Any = bytes(range(256)) if serializer is None else {"ключ": ["é", 1, None]}
    kombu.Producer(connection.default_channel).publish(
        body,
        routing_key="очередь/ü",
        serializer=serializer,
        compression=compression,
        headers={"h": 1},
        correlation_id="c",
    )
    reader = Reader(connection, "очередь/ü", accept=["json", "pickle"])
    reader.look()
    (message,) = reader.messages
    content = message.body if serializer is None else message.decode()
    assert (content, message.headers["h"]) == (body, 1)
    assert message.properties["correlation_id"] == "c"
    assert connection.default_channel.contents.length("очередь/ü") == 0


def test_ten_megabytes_arrive_and_can_be_put_back(connection: kombu.Connection) -> None:
    body = os.urandom(10 * 1024 * 1024)
    kombu.Producer(connection.default_channel).publish(body, routing_key="q")
    reader = Reader(connection, "q", ack=False)
    reader.look(5)
    reader.messages[0].requeue()
    reader.look(5)
    assert reader.messages[1].body == body


@pytest.mark.parametrize(
    "fields",
    [
        {"nonsense": "x"},
        {"body": "x", "meta": "{"},
        {"body": "x", "meta": "[1]"},
        {"body": "x", "meta": '{"headers": 3}'},
        {"body": "x", "meta": '{"headers": {"d": {"__type__": "decimal", "__value__": "no"}}}'},
        {"body": "x", "meta": '{"headers": {"d": {"__type__": "uuid", "__value__": {"hex": 5}}}}'},
        {"envelope": "nonsense"},
        {"body": "x", "deliveries": "many", "more": "\udcff"},
    ],
)
def test_garbage_is_delivered_as_such(
    connection: kombu.Connection, clean_redis: redis.Redis, fields: dict[str, str]
) -> None:
    raw = {name: value.encode("utf-8", "surrogateescape") for name, value in fields.items()}
    clean_redis.xadd("q", raw)
    reader = Reader(connection, "q")
    reader.look()
    assert UNDECODABLE in reader.messages[0].headers
    assert clean_redis.xlen("q") == 0


def test_an_entry_of_thousands_of_fields_does_not_keep_a_channel_from_closing(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    clean_redis.xadd("q", {f"f{n}": "x" for n in range(5000)})
    publish(connection, "q", "a")
    reader = Reader(connection, "q", ack=False)
    reader.look()
    connection.release()
    assert clean_redis.xlen("q") == 2
    assert pending(clean_redis) == 1
    assert clean_redis.keys("bridge.alive.*") == []


# Programs that use Kombu in other ways.


def test_the_simple_queue_of_kombu_works(connection: kombu.Connection) -> None:
    queue = connection.SimpleQueue("simple")
    queue.put({"a": 1})
    message = queue.get(timeout=2)
    message.ack()
    assert message.payload == {"a": 1}
    with pytest.raises(queue.Empty):
        queue.get(timeout=0.05)
    queue.close()


def test_the_pools_of_kombu_work(connection: kombu.Connection) -> None:
    pool = producers[connection]
    try:
        with pool.acquire(block=True) as producer:
            producer.publish("a", routing_key="q")
        reader = Reader(connection, "q")
        reader.look()
        assert reader.texts == ["a"]
    finally:
        pool.force_close_all()
        kombu.pools.reset()


def test_a_consumer_mixin_works(connection: kombu.Connection, other: kombu.Connection) -> None:
    class Worker(ConsumerMixin):
        def __init__(self) -> None:
            self.connection, self.seen = connection, []

        def get_consumers(self, Consumer: Any, channel: Any) -> list[Any]:
            return [Consumer([kombu.Queue("q", routing_key="q")], on_message=self.receive)]

        def receive(self, message: Any) -> None:
            self.seen.append(message.body)
            message.ack()
            self.should_stop = len(self.seen) == 2

    publish(other, "q", "a", "b")
    worker = Worker()
    worker.run()
    assert worker.seen == [b"a", b"b"]


def test_a_clone_is_another_consumer(connection: kombu.Connection) -> None:
    with connection.clone() as clone:
        assert clone.default_channel.group.name != connection.default_channel.group.name


def test_a_forked_child_leaves_the_messages_of_its_parent_alone(
    connection: kombu.Connection, clean_redis: redis.Redis
) -> None:
    publish(connection, "q", "a", "b")
    reader = Reader(connection, "q", ack=False)
    reader.look()
    child = os.fork()
    if child == 0:
        try:
            try:
                connection.drain_events(timeout=0.1)
            except RuntimeError:
                connection.release()
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert pending(clean_redis) == 2
    reader.messages[0].ack()
    reader.messages[1].ack()
    assert clean_redis.xlen("q") == 0


def test_a_connection_that_a_child_opens_has_a_name_of_its_own(redis_url: str) -> None:
    made = connect(redis_url)
    mine = made.default_channel.group.name
    made.release()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, made.clone().default_channel.group.name.encode())
            os.write(write, b" " + made.connect().name.encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    found = os.read(read, 1000).decode()
    os.close(read)
    os.close(write)
    assert found
    assert mine.rsplit("-", 1)[0] not in found


def test_names_of_closed_consumers_are_forgotten(
    redis_url: str, clean_redis: redis.Redis, wait_for: Wait
) -> None:
    made = [connect(redis_url) for _ in range(3)]
    for one in made:
        Reader(one, "q").look(0.01)
    for one in made:
        one.release()
    assert len(names(clean_redis)) == 3
    with connect(redis_url, **QUICK) as last:
        reader = Reader(last, "q")
        wait_for(lambda: reader.look(0.02) or len(names(clean_redis)) == 1)
