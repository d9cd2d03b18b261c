"""From the queue into MongoDB, through outages."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from pymongo.database import Database

from bridge.errors import BridgeError, ServerMissing
from bridge.queue.broker import connection as broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.worker import run_worker
from stack.mongod import Mongod
from stack.ports import free_port
from stack.redis import Redis
from tests.minimal_sync import write_sync

Db = Database[dict[str, Any]]
MakeSettings = Callable[[str, str], Settings]


def publish(url: str, *events: Event) -> None:
    with Publisher(url) as publisher:
        for event in events:
            publisher.publish(event)


def changed(key: str, version: int) -> Event:
    return Event("project", "changed", key, version, {"n": version})


def version_of(database: Db, key: str) -> int | None:
    found = database.projects.find_one({"_id": key})
    return None if found is None else found["_v"]


@pytest.fixture
def own_mongodb(tmp_path: Path) -> Iterator[Mongod]:
    """A MongoDB of this test's own, to be stopped."""
    with Mongod(tmp_path / "mongodb") as server:
        yield server


def test_events_are_mirrored_and_counted(
    redis_url: str,
    clean_redis: redis.Redis,
    mongodb_url: str,
    clean_mongodb: Db,
    start_worker: Any,
    wait_for: Callable[..., Any],
) -> None:
    publish(redis_url, changed("vim", 3))
    worker = start_worker(redis_url, mongodb_url)
    wait_for(lambda: worker.counters.applied == 1)

    publish(redis_url, changed("vim", 2), Event("user", "changed", "root", 1, {}))
    clean_redis.xadd(broker.EVENTS_QUEUE, {"envelope": b"nonsense"})
    publish(redis_url, Event("project", "deleted", "git", 1))

    wait_for(lambda: worker.counters.applied == 2)
    wait_for(lambda: worker.counters.dead == 2)
    worker.stop()
    assert worker.counters.stale == 1
    assert version_of(clean_mongodb, "vim") == 3
    assert clean_redis.xlen(broker.EVENTS_QUEUE) == 0
    assert clean_redis.xlen(broker.DEAD_QUEUE) == 2
    assert "bridge_tombstones" in clean_mongodb.projects.index_information()


def test_a_restart_of_mongodb_loses_nothing_and_blames_no_message(
    redis_url: str,
    clean_redis: redis.Redis,
    own_mongodb: Mongod,
    start_worker: Any,
    wait_for: Callable[..., Any],
) -> None:
    worker = start_worker(redis_url, own_mongodb.url)
    publish(redis_url, changed("vim", 1))
    wait_for(lambda: worker.counters.applied == 1)

    own_mongodb.stop()
    publish(redis_url, changed("vim", 2), changed("git", 1))
    wait_for(lambda: clean_redis.xpending(broker.EVENTS_QUEUE, "bridge")["pending"] > 0)
    own_mongodb.start()

    wait_for(lambda: worker.counters.applied == 3, 30)
    worker.stop()
    assert worker.counters.dead == 0
    assert clean_redis.xlen(broker.EVENTS_QUEUE) == 0
    with own_mongodb.client() as client:
        assert version_of(client.get_default_database(), "vim") == 2


def test_a_restart_of_redis_loses_nothing(
    tmp_path: Path,
    mongodb_url: str,
    clean_mongodb: Db,
    start_worker: Any,
    wait_for: Callable[..., Any],
) -> None:
    with Redis(tmp_path / "redis", fsync="always") as own_redis:
        worker = start_worker(own_redis.url, mongodb_url)
        publish(own_redis.url, changed("vim", 1))
        wait_for(lambda: worker.counters.applied == 1)

        own_redis.stop()
        own_redis.start()
        publish(own_redis.url, changed("vim", 2))

        wait_for(lambda: version_of(clean_mongodb, "vim") == 2)
        worker.stop()
        assert worker.counters.dead == 0


def test_a_worker_that_is_stopped_while_mongodb_is_away_gives_its_events_back(
    redis_url: str,
    clean_redis: redis.Redis,
    own_mongodb: Mongod,
    start_worker: Any,
    wait_for: Callable[..., Any],
) -> None:
    worker = start_worker(redis_url, own_mongodb.url)
    publish(redis_url, changed("vim", 1))
    wait_for(lambda: worker.counters.applied == 1)

    own_mongodb.kill()
    publish(redis_url, changed("vim", 2))
    wait_for(lambda: worker.counters.received == 2)
    worker.stop()

    assert clean_redis.xlen(broker.EVENTS_QUEUE) == 1
    assert clean_redis.xpending(broker.EVENTS_QUEUE, "bridge")["pending"] == 0


def test_a_late_retry_of_a_dead_letter_cannot_win_against_newer_data(
    redis_url: str,
    mongodb_url: str,
    clean_mongodb: Db,
    start_worker: Any,
    wait_for: Callable[..., Any],
) -> None:
    old = changed("vim", 1).to_json().encode()
    with broker.connect(redis_url) as connection:
        letters = DeadLetters(connection)
        moment = "2026-01-31T12:00:00Z"
        letters.put(DeadLetter("id", old, "body", "why", moment, moment, 1))
        publish(redis_url, changed("vim", 2))
        worker = start_worker(redis_url, mongodb_url)
        wait_for(lambda: worker.counters.applied == 1)

        assert letters.retry() == (1, 0)

        wait_for(lambda: worker.counters.stale == 1)
        assert len(letters) == 0
    assert version_of(clean_mongodb, "vim") == 2


def test_a_broker_that_is_missing_at_the_start_is_named_without_its_password(
    settings: MakeSettings, mongodb_url: str
) -> None:
    port = free_port()

    with pytest.raises(ServerMissing) as caught:
        run_worker(
            settings(f"redis://:hush@127.0.0.1:{port}/0", mongodb_url),
            stop=threading.Event(),
            log=structlog.get_logger(),
        )

    assert caught.value.name == "Redis"
    assert caught.value.start.startswith(f"redis-server --port {port}")
    assert "hush" not in str(caught.value)


def test_a_mongodb_that_is_missing_at_the_start_is_named_without_its_password(
    settings: MakeSettings, redis_url: str
) -> None:
    port = free_port()

    with pytest.raises(ServerMissing) as caught:
        run_worker(
            settings(redis_url, f"mongodb://root:hush@127.0.0.1:{port}/bridge"),
            stop=threading.Event(),
            log=structlog.get_logger(),
        )

    assert caught.value.name == "MongoDB"
    assert f"--port {port}" in caught.value.start
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("url", ["nonsense://127.0.0.1", "redis://127.0.0.1:port/0", ""])
def test_a_broker_url_that_cannot_be_used_is_an_error(
    settings: MakeSettings, mongodb_url: str, url: str
) -> None:
    with pytest.raises(BridgeError, match="cannot be used"):
        run_worker(settings(url, mongodb_url), stop=threading.Event(), log=structlog.get_logger())


def test_a_sync_yaml_without_entities_is_an_error_that_says_what_to_write(
    tmp_path: Path, redis_url: str, mongodb_url: str
) -> None:
    sync = tmp_path / "none.yaml"
    sync.write_text("version: 1\nentities: {}\n", encoding="utf-8")
    settings = Settings(tmp_path / "routes.yaml", redis_url, mongodb_url, tmp_path, sync=sync)

    with pytest.raises(BridgeError, match=r"none\.yaml declares nothing .* `entities:`"):
        run_worker(settings, stop=threading.Event(), log=structlog.get_logger())


class Standalone(Mongod):
    """A MongoDB that is no replica set."""

    def command(self) -> Sequence[str]:
        words = list(super().command())
        at = words.index("--replSet")
        return words[:at] + words[at + 2 :]

    def ready(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.host, self.port)) == 0


def test_children_need_a_replica_set_and_the_error_says_how_to_make_one(
    tmp_path: Path, redis_url: str
) -> None:
    text = (
        "version: 1\nentities:\n"
        "  project: {collection: projects, children: {releases: {entity: release, key: name}}}\n"
        "  release: {collection: releases}\n"
    )
    sync = write_sync(tmp_path, text)
    with Standalone(tmp_path / "mongodb") as server:
        url = f"mongodb://{server.address}/bridge"
        settings = Settings(tmp_path / "routes.yaml", redis_url, url, tmp_path, sync=sync)

        with pytest.raises(BridgeError, match=r"no replica set.* rs\.initiate"):
            run_worker(settings, stop=threading.Event(), log=structlog.get_logger())
