"""Lists of stock Kombu programs: moved whole, in order, and at no moment in neither place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from kombu import Connection

from bridge.queue.broker import connection as broker
from bridge.queue.consumer.dead_letters import DeadLetters
from bridge.queue.events import Event
from bridge.queue.relay.relay import Relay
from bridge.queue.streams.contents import BYTES_PER_MOVE, Contents
from stack.redis import Redis
from stack.waiting import wait_for


def envelope(event: Event) -> bytes:
    """As a PHP producer writes it."""
    return json.dumps(
        {
            "body": event.to_json(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": [],
            "properties": {
                "delivery_tag": event.id,
                "delivery_info": {"exchange": "", "routing_key": "celery"},
            },
        }
    ).encode()


def event(version: int, key: str = "vim") -> Event:
    return Event("project", "changed", key, version, {"n": version})


def elements(client: redis.Redis, stream: str) -> list[bytes]:
    return [fields[b"envelope"] for _, fields in client.xrange(stream)]


def move(client: redis.Redis, name: str, queue: str, limit: int = 500) -> int:
    # Over the same connections, but `client` goes on reading answers in its own way.
    return Contents(redis.Redis(connection_pool=client.connection_pool)).take_list(
        name, queue, limit
    )


def test_elements_are_moved_in_the_order_of_their_pushing(clean_redis: redis.Redis) -> None:
    for number in range(10):
        clean_redis.lpush("celery", b"%d" % number)

    assert move(clean_redis, "celery", "q", 4) == 4
    assert elements(clean_redis, "q") == [b"0", b"1", b"2", b"3"]
    assert move(clean_redis, "celery", "q", 100) == 6
    assert elements(clean_redis, "q") == [b"%d" % number for number in range(10)]
    assert clean_redis.exists("celery") == 0
    assert move(clean_redis, "celery", "q", 100) == 0


def test_any_bytes_are_moved_as_they_are(clean_redis: redis.Redis) -> None:
    garbage = [b"", b"\xff\x00\r\n", b"x" * 3_000_000]
    for one in garbage:
        clean_redis.lpush("celery", one)

    move(clean_redis, "celery", "q")
    assert elements(clean_redis, "q") == garbage


def test_one_script_moves_no_more_than_a_few_megabytes(clean_redis: redis.Redis) -> None:
    for _ in range(20):
        clean_redis.lpush("celery", b"x" * 1_000_000)

    assert move(clean_redis, "celery", "q") == BYTES_PER_MOVE // 1_000_000 + 1


def test_producers_push_while_it_is_moved_and_none_is_lost_or_doubled(
    redis_server: Redis, clean_redis: redis.Redis
) -> None:
    def push(name: int) -> None:
        with redis_server.client() as client:
            for number in range(500):
                client.lpush("celery", b"%d:%d" % (name, number))

    def shift() -> None:
        with redis_server.client() as client:
            while not done.is_set() or client.llen("celery"):
                move(client, "celery", "q", 7)

    done = threading.Event()
    pushers = [threading.Thread(target=push, args=(name,)) for name in range(3)]
    shifters = [threading.Thread(target=shift) for _ in range(2)]
    for one in (*pushers, *shifters):
        one.start()
    for one in pushers:
        one.join()
    done.set()
    for one in shifters:
        one.join()
    found = elements(clean_redis, "q")
    assert sorted(found) == sorted(b"%d:%d" % (n, m) for n in range(3) for m in range(500))
    for name in range(3):
        mine = [one for one in found if one.startswith(b"%d:" % name)]
        assert mine == [b"%d:%d" % (name, number) for number in range(500)]


def test_a_full_redis_keeps_every_element(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, server.client() as client:
        for number in range(200):
            client.lpush("celery", b"%d:" % number + b"x" * 10_000)
        client.config_set("maxmemory", client.info("memory")["used_memory"])
        with pytest.raises(redis.OutOfMemoryError):
            move(client, "celery", "q")
        assert client.llen("celery") + client.xlen("q") == 200
        client.config_set("maxmemory", 0)
        while move(client, "celery", "q"):
            pass
        assert [int(one.split(b":")[0]) for one in elements(client, "q")] == list(range(200))


def test_a_key_that_is_no_list_is_an_error_and_stays(clean_redis: redis.Redis) -> None:
    clean_redis.set("celery", "x")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        move(clean_redis, "celery", "q")
    assert clean_redis.get("celery") == b"x"


def test_a_stream_that_is_none_is_an_error_and_the_list_stays(clean_redis: redis.Redis) -> None:
    clean_redis.lpush("celery", "x")
    clean_redis.set("q", "x")

    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        move(clean_redis, "celery", "q")
    assert clean_redis.llen("celery") == 1


def test_what_stock_kombu_published_is_consumed_and_garbage_is_a_dead_letter(
    clean_redis: redis.Redis, redis_url: str, receiver: Any, start: Callable[..., Any]
) -> None:
    with Connection(redis_url) as stock:
        stock.Producer().publish(
            event(1).to_json(),
            routing_key="celery",
            content_type="application/json",
            content_encoding="utf-8",
        )
    clean_redis.lpush("celery", envelope(event(2, "php")), b"\xffgarbage", b"", b"{}")

    move(clean_redis, "celery", broker.EVENTS_QUEUE)
    consumer = start(redis_url, receiver)
    wait_for(lambda: len(receiver.versions) == 2 and consumer.counters.dead == 3)
    assert sorted(receiver.versions) == [1, 2]
    with broker.connect(redis_url) as connection:
        letters = DeadLetters(connection).letters()
    assert sorted(letter.raw for letter in letters) == [b"", b"{}", b"\xffgarbage"]
    assert {letter.part for letter in letters} == {"envelope"}


def test_a_key_prefix_of_the_broker_is_before_the_stream_too(
    redis_url: str, clean_redis: redis.Redis
) -> None:
    clean_redis.lpush("celery", envelope(event(1)))
    stop = threading.Event()
    relay = Relay(
        f"{redis_url}?global_keyprefix=shop.",
        outboxes=[],
        held=lambda identities: {},
        log=structlog.get_logger(),
        lists=["celery"],
    )
    thread = threading.Thread(target=relay.run, args=[stop])
    thread.start()
    try:
        wait_for(lambda: clean_redis.xlen("shop.bridge.events") == 1)
    finally:
        stop.set()
        thread.join(20)
    assert clean_redis.exists("bridge.events") == 0
