"""One message never harms another, and no outage loses one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu import Connection, Consumer, Queue

from bridge.errors import Stopped
from bridge.queue.broker import connection as broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import Event
from stack.redis import Redis
from tests.queue.conftest import memory_broker

GARBAGE = [
    b"nonsense",
    b"\xff\xfe",
    b"[1]",
    b"3",
    b'{"properties":[]}',
    b'{"body":3,"properties":{"delivery_info":{}}}',
    b'{"body":"!","properties":{"delivery_tag":"1","delivery_info":{},"body_encoding":"base64"}}',
]
"""What a list in Kombu's own format may hold, and no message is in it."""


def changed(key: str, version: int) -> Event:
    return Event("project", "changed", key, version, {"name": key})


def publish(url: str, *events: Event) -> None:
    with Publisher(url) as publisher:
        for event in events:
            publisher.publish(event)


def dead_letters(url: str) -> list[DeadLetter]:
    with broker.connect(url) as connection:
        return DeadLetters(connection).letters()


def queued(client: redis.Redis, queue: str = broker.EVENTS_QUEUE) -> int:
    """Entries of the stream, held by anybody or not."""
    return int(client.xlen(queue))


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


@pytest.mark.parametrize("first", ["the rewrite", "the other"])
def test_a_rewrite_does_not_give_way_to_the_same_version(
    redis_url: str,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
    first: str,
) -> None:
    events = [replace(changed("vim", 3), rewrite=True), changed("vim", 3)]
    publish(redis_url, *(events if first == "the rewrite" else reversed(events)))
    running = start(redis_url, receiver, batch_wait=1.0, batch_size=2)

    wait_for(lambda: running.counters.superseded == 1)
    assert [event.rewrite for batch in receiver.batches for event in batch] == [True]


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
        clean_redis.xadd(broker.EVENTS_QUEUE, {"envelope": raw})
    running = start(redis_url, receiver)

    wait_for(lambda: running.counters.dead == len(GARBAGE))
    assert receiver.versions == list(range(len(GARBAGE)))
    running.stop()
    letters = dead_letters(redis_url)
    assert [letter.raw for letter in letters] == GARBAGE
    assert {letter.part for letter in letters} == {"envelope"}
    assert queued(clean_redis) == 0


def test_a_good_envelope_around_no_event_is_a_dead_letter_with_the_body(
    redis_url: str,
    clean_redis: redis.Redis,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    envelope = {"body": "{}", "properties": {"delivery_tag": "1", "delivery_info": {}}}
    clean_redis.xadd(broker.EVENTS_QUEUE, {"envelope": json.dumps(envelope)})
    running = start(redis_url, receiver)

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    (letter,) = dead_letters(redis_url)
    assert (letter.raw, letter.part) == (b"{}", "body")
    assert letter.error.startswith("specversion: ")
    assert letter.first_time == letter.last_time


def test_a_retried_dead_letter_that_fails_again_counts_up_and_keeps_its_name_and_first_time(
    redis_url: str, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    receiver.rejects = {9}
    running = start(redis_url, receiver)
    publish(redis_url, changed("vim", 9))
    wait_for(lambda: running.counters.dead == 1)
    (first,) = wait_for(lambda: dead_letters(redis_url))

    with broker.connect(redis_url) as connection:
        assert DeadLetters(connection).retry() == (1, 0)

    wait_for(lambda: running.counters.dead == 2)
    running.stop()
    (second,) = dead_letters(redis_url)
    assert (second.count, second.raw, second.id) == (2, first.raw, first.id)
    assert second.first_time == first.first_time


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
    assert queued(clean_redis) == 2
    assert clean_redis.xpending(broker.EVENTS_QUEUE, "bridge")["pending"] == 0
    start(redis_url, receiver)
    wait_for(lambda: sorted(receiver.versions) == [1, 2])


def test_of_a_batch_that_fails_only_the_event_that_fails_alone_is_tried_again(
    redis_url: str, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    tries: list[int] = []

    def broken(events: Sequence[Event]) -> Any:
        if any(event.version == 2 for event in events):
            tries.append(len(events))
            if tries.count(1) < 3:
                raise KeyError("mistake")
        return receiver(events)

    publish(redis_url, changed("vim", 1), changed("git", 2), changed("nano", 3))
    running = start(redis_url, broken, retry_wait=lambda tries: 0.01)

    wait_for(lambda: sorted(receiver.versions) == [1, 2, 3])
    assert tries == [3, 1, 1, 1]
    assert (running.counters.retried, running.counters.dead) == (2, 0)


def test_what_fails_five_times_is_a_dead_letter_with_the_error(
    redis_url: str,
    clean_redis: redis.Redis,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    def broken(events: Sequence[Event]) -> None:
        raise KeyError("mistake")

    publish(redis_url, changed("vim", 1))
    running = start(redis_url, broken, retry_wait=lambda tries: 0.01)

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    (letter,) = dead_letters(redis_url)
    assert letter.error == "failed 5 times, the last time with KeyError: 'mistake'"
    assert (letter.entity, letter.key, letter.version) == ("project", "vim", "1")
    assert queued(clean_redis) == 0


def test_a_message_that_waits_for_its_next_try_goes_back_when_the_consumer_stops(
    redis_url: str,
    clean_redis: redis.Redis,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    def broken(events: Sequence[Event]) -> None:
        raise KeyError("mistake")

    publish(redis_url, changed("vim", 1))
    running = start(redis_url, broken)
    wait_for(lambda: running.counters.retried == 1)
    running.stop()

    start(redis_url, receiver)
    wait_for(lambda: receiver.versions == [1])


def test_what_killed_its_consumers_five_times_is_a_dead_letter_and_not_tried_again(
    redis_url: str,
    clean_redis: redis.Redis,
    receiver: Any,
    start: Callable[..., Any],
    wait_for: Callable[..., Any],
) -> None:
    body = changed("vim", 1).to_json()
    clean_redis.xadd(broker.EVENTS_QUEUE, {"body": body, "deliveries": "5"})
    clean_redis.xadd(broker.EVENTS_QUEUE, {"body": changed("git", 2).to_json(), "deliveries": "4"})
    running = start(redis_url, receiver)

    wait_for(lambda: running.counters.dead == 1)
    wait_for(lambda: receiver.versions == [2])
    running.stop()
    (letter,) = dead_letters(redis_url)
    assert letter.raw == body.encode()
    assert letter.error.startswith("it was delivered 5 times")


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
    wait_for(lambda: receiver.batches and not own_redis.alive)
    own_redis.start()

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    assert {1, 2} == set(receiver.versions)
    with own_redis.client() as client:
        assert queued(client) == 0
    (letter,) = dead_letters(own_redis.url)
    assert letter.error == "no"


def test_a_full_redis_loses_no_message(
    own_redis: Redis, receiver: Any, start: Callable[..., Any], wait_for: Callable[..., Any]
) -> None:
    with own_redis.client() as client:
        for queue in (broker.EVENTS_QUEUE, broker.DEAD_QUEUE):
            client.xgroup_create(queue, "bridge", id="0", mkstream=True)
        publish(own_redis.url, changed("vim", 1))
        client.xadd(broker.EVENTS_QUEUE, {"envelope": b"nonsense"})
        # Redis now lets messages be taken and acknowledged, but takes no dead letter.
        client.config_set("maxmemory", 1)
        running = start(own_redis.url, receiver)
        wait_for(lambda: set(receiver.versions) == {1})
        wait_for(lambda: running.counters.received > 2)
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
    # A consumer without a heartbeat, which has the message and does nothing.
    clean_redis.xreadgroup("bridge", "dead", {broker.EVENTS_QUEUE: ">"})

    running = start(
        redis_url, receiver, transport_options={"reclaim_idle": 0.1, "reclaim_every": 0.1}
    )

    wait_for(lambda: receiver.versions == [1])
    running.stop()
    assert queued(clean_redis) == 0
    assert clean_redis.xinfo_consumers(broker.EVENTS_QUEUE, "bridge")[0]["pending"] == 0


def test_any_kombu_program_reads_what_the_publisher_writes(redis_url: str) -> None:
    publish(redis_url, changed("vim", 1))
    seen: list[Any] = []
    with Connection(redis_url.replace("redis:", "redis+streams:")) as connection:
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
    url = memory_broker()
    publish(url, changed("vim", 1), changed("git", 2))
    running = start(url, receiver)

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    assert receiver.versions == [1, 2]
    assert [Event.parse(letter.raw).version for letter in dead_letters(url)] == [2]
