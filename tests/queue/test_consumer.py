"""One message never harms another, and no outage loses one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Queue

from bridge.queue import broker
from bridge.queue.consumer import Stopped
from bridge.queue.deadletter import DeadLetter, DeadLetters
from bridge.queue.events import Event
from bridge.queue.publisher import Publisher
from stack.redis import Redis

GARBAGE = [
    b"",
    b"nonsense",
    b"\xff\xfe",
    b"[1]",
    b"3",
    b'{"properties":[]}',
    b'{"body":"","properties":{"delivery_info":{}}}',
    b'{"body":"!","properties":{"delivery_tag":"1","delivery_info":{},"body_encoding":"base64"}}',
]


def changed(key: str, version: int) -> Event:
    return Event("project", "changed", key, version, {"name": key})


def publish(url: str, *events: Event) -> None:
    with Publisher(url) as publisher:
        for event in events:
            publisher.publish(event)


def dead_letters(url: str) -> list[DeadLetter]:
    connection = broker.connect(url)
    try:
        return DeadLetters(connection.default_channel).letters()
    finally:
        connection.release()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of this test's own, to be stopped and killed."""
    with Redis(tmp_path / "redis", fsync="always") as server:
        yield server


def test_events_arrive_in_batches(
    redis_url: str, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    publish(redis_url, *(changed(f"p{n}", n) for n in range(30)))
    start(redis_url, receiver, batch_wait=1.0, batch_size=30)

    wait_for(lambda: len(receiver.versions) == 30)
    assert receiver.versions == list(range(30))
    assert len(receiver.batches) == 1


def test_of_one_entity_only_the_highest_version_of_a_batch_is_handed_on(
    redis_url: str, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    publish(redis_url, *(changed("vim", version) for version in (3, 9, 1, 9)), changed("git", 2))
    running = start(redis_url, receiver, batch_wait=1.0, batch_size=5)

    wait_for(lambda: receiver.batches)
    assert sorted(receiver.versions) == [2, 9]
    wait_for(lambda: running.counters.superseded == 3)


def test_equal_keys_of_two_kinds_are_two_entities(
    redis_url: str, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    publish(redis_url, changed("vim", 1), Event("release", "changed", "vim", 2, {}))
    start(redis_url, receiver, batch_wait=1.0, batch_size=2)

    wait_for(lambda: sorted(receiver.versions) == [1, 2])


def test_an_older_version_has_its_turn_where_the_newer_is_rejected(
    redis_url: str, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    receiver.rejects = {9}
    publish(redis_url, changed("vim", 3), changed("vim", 9), changed("git", 2))
    running = start(redis_url, receiver, batch_wait=1.0, batch_size=3)

    wait_for(lambda: running.counters.dead == 1)
    assert sorted(receiver.versions) == [2, 3, 9]
    running.stop()
    (letter,) = dead_letters(redis_url)
    assert (letter.part, letter.error, letter.count) == ("body", "no", 1)
    assert Event.parse(letter.raw).version == 9


def test_garbage_lands_in_the_dead_letters_with_its_raw_bytes_and_its_neighbours_arrive(
    redis_url: str,
    clean_redis: redis.Redis,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    for number, raw in enumerate(GARBAGE):
        publish(redis_url, changed(f"p{number}", number))
        clean_redis.lpush(broker.EVENTS_QUEUE, raw)
    running = start(redis_url, receiver)

    wait_for(lambda: running.counters.dead == len(GARBAGE))
    assert receiver.versions == list(range(len(GARBAGE)))
    running.stop()
    letters = dead_letters(redis_url)
    assert [letter.raw for letter in letters] == GARBAGE
    assert {letter.part for letter in letters} == {"envelope"}
    assert clean_redis.keys() == [broker.DEAD_QUEUE.encode()]


def test_a_good_envelope_around_no_event_is_a_dead_letter_with_the_body(
    redis_url: str,
    clean_redis: redis.Redis,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    envelope = {"body": "{}", "properties": {"delivery_tag": "1", "delivery_info": {}}}
    clean_redis.lpush(broker.EVENTS_QUEUE, json.dumps(envelope))
    running = start(redis_url, receiver)

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    (letter,) = dead_letters(redis_url)
    assert (letter.raw, letter.part) == (b"{}", "body")
    assert letter.error.startswith("specversion: ")
    assert letter.first_time == letter.last_time


def test_a_retried_dead_letter_that_fails_again_counts_up_and_keeps_its_first_time(
    redis_url: str, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    receiver.rejects = {9}
    running = start(redis_url, receiver)
    publish(redis_url, changed("vim", 9))
    wait_for(lambda: running.counters.dead == 1)
    (first,) = wait_for(lambda: dead_letters(redis_url))

    connection = broker.connect(redis_url)
    assert DeadLetters(connection.default_channel).retry() == 1
    connection.release()

    wait_for(lambda: running.counters.dead == 2)
    running.stop()
    (second,) = dead_letters(redis_url)
    assert (second.count, second.raw) == (2, first.raw)
    assert second.first_time == first.first_time


def test_looking_at_dead_letters_leaves_them_where_they_are(
    redis_url: str, clean_redis: redis.Redis
) -> None:
    connection = broker.connect(redis_url)
    letters = DeadLetters(connection.default_channel)
    for number in range(3):
        letters.put(DeadLetter(b"%d" % number, "envelope", "why", "then", "now", 1))
    clean_redis.lpush(broker.DEAD_QUEUE, b"somebody else's")

    seen = [[letter.raw for letter in letters.letters()] for _ in range(2)]
    assert seen == [[b"0", b"1", b"2", b"somebody else's"]] * 2
    assert letters.retry() == 0
    assert len(letters) == letters.purge() == 4
    connection.release()


def test_what_the_receiver_could_not_use_goes_back_to_the_queue(
    redis_url: str,
    clean_redis: redis.Redis,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    def stopped(events: Sequence[Event]) -> None:
        raise Stopped("told to stop")

    publish(redis_url, changed("vim", 1), changed("git", 2))
    running = start(redis_url, stopped, batch_wait=1.0, batch_size=2)
    wait_for(lambda: running.counters.received == 2)
    running.stop()

    assert running.error is None
    assert clean_redis.llen(broker.EVENTS_QUEUE) == 2
    assert clean_redis.keys("bridge.unacked*") == []
    start(redis_url, receiver)
    wait_for(lambda: sorted(receiver.versions) == [1, 2])


def test_a_mistake_in_the_receiver_passes_through_and_gives_the_events_back(
    redis_url: str,
    clean_redis: redis.Redis,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    def broken(events: Sequence[Event]) -> None:
        raise KeyError("mistake")

    publish(redis_url, changed("vim", 1))
    running = start(redis_url, broken)

    wait_for(lambda: not running.alive)
    assert isinstance(running.error, KeyError)
    assert clean_redis.llen(broker.EVENTS_QUEUE) == 1


def test_a_restart_of_redis_is_waited_for(
    own_redis: Redis, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    running = start(own_redis.url, receiver)
    publish(own_redis.url, changed("vim", 1))
    wait_for(lambda: receiver.versions == [1])

    own_redis.stop()
    own_redis.start()
    publish(own_redis.url, changed("vim", 2))

    wait_for(lambda: receiver.versions == [1, 2])
    assert running.alive
    assert running.counters.dead == 0


def test_what_was_used_while_redis_died_is_acknowledged_after_it_is_back(
    own_redis: Redis, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    class KillsRedis:
        def __call__(self, events: Sequence[Event]) -> Any:
            if not receiver.batches:
                own_redis.kill()
            receiver.rejects = {2}
            return receiver(events)

    publish(own_redis.url, changed("vim", 1), changed("git", 2))
    running = start(own_redis.url, KillsRedis(), batch_wait=1.0, batch_size=2)
    wait_for(lambda: receiver.batches)
    own_redis.start()

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    assert receiver.versions == [1, 2]
    with own_redis.client() as client:
        assert client.keys() == [broker.DEAD_QUEUE.encode()]


def test_a_full_redis_loses_no_message(
    own_redis: Redis, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    with own_redis.client() as client:
        publish(own_redis.url, changed("vim", 1))
        client.lpush(broker.EVENTS_QUEUE, b"nonsense")
        # Redis now lets messages be taken but refuses to note that they are not acknowledged.
        client.config_set("maxmemory", 1)
        running = start(own_redis.url, receiver)
        wait_for(lambda: receiver.versions == [1])
        wait_for(lambda: running.counters.received == 2)
        assert running.counters.dead == 0

        client.config_set("maxmemory", 0)
        wait_for(lambda: running.counters.dead == 1)
    assert [letter.raw for letter in dead_letters(own_redis.url)] == [b"nonsense"]


def test_what_a_killed_worker_held_comes_back(
    redis_url: str,
    clean_redis: redis.Redis,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    publish(redis_url, changed("vim", 1))
    connection = broker.connect(redis_url)
    message = connection.default_channel.basic_get(broker.EVENTS_QUEUE)
    connection.default_channel.abandon()
    connection.release()
    assert clean_redis.llen(broker.EVENTS_QUEUE) == 0
    # As if it had been taken two minutes ago.
    clean_redis.zadd("bridge.unacked.index", {message.delivery_tag: time.time() - 120})

    start(redis_url, receiver)

    wait_for(lambda: receiver.versions == [1])
    wait_for(lambda: not clean_redis.keys("bridge.unacked*"))


def test_a_stock_kombu_consumer_reads_what_the_publisher_writes(redis_url: str) -> None:
    publish(redis_url, changed("vim", 1))
    seen: list[Any] = []
    with Connection(redis_url) as connection:
        consumer = Consumer(
            connection.channel(),
            [Queue(broker.EVENTS_QUEUE, routing_key=broker.EVENTS_QUEUE)],
            callbacks=[lambda body, message: (seen.append(body), message.ack())],
            accept=["json"],
        )
        with consumer:
            connection.drain_events(timeout=10)

    assert Event.parse(seen[0]).key == "vim"


def test_the_consumer_works_on_another_transport_than_redis(
    receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    receiver.rejects = {2}
    publish("memory://", changed("vim", 1), changed("git", 2))
    running = start("memory://", receiver)

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    assert receiver.versions == [1, 2]
    assert [Event.parse(letter.raw).version for letter in dead_letters("memory://")] == [2]
