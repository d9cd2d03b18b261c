"""A failover of Redis under Sentinel is an outage of a second or so, not a loss."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis

from bridge.errors import ServerAway
from bridge.queue.broker import connection as broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.events import Event
from bridge.queue.streams import url as redisurl
from bridge.sync.server_errors import broker_missing
from stack.ports import free_port
from stack.process import find_program
from stack.redis import Redis
from tests.queue.streams.site import QUICK, Reader, publish


class Sentinel(Redis):
    """A Sentinel that alone decides about the master `bridge`."""

    def __init__(self, directory: Path, master: Redis) -> None:
        super().__init__(directory)
        self.master = master

    def prepare(self) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.directory}",
            f"sentinel monitor bridge 127.0.0.1 {self.master.port} 1",
            "sentinel down-after-milliseconds bridge 500",
            "sentinel failover-timeout bridge 3000",
        ]
        (self.directory / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def command(self) -> list[str]:
        program = find_program("redis-server", "apt-get install redis-server")
        return [program, str(self.directory / "sentinel.conf"), "--sentinel"]


@pytest.fixture
def master(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path / "master", options=["repl-diskless-sync-delay", "0"]) as server:
        yield server


@pytest.fixture
def sentinel(tmp_path: Path, master: Redis, wait_for: Callable[..., Any]) -> Iterator[Sentinel]:
    with ExitStack() as stack:
        options = ["replicaof", f"127.0.0.1 {master.port}", "repl-diskless-sync-delay", "0"]
        stack.enter_context(Redis(tmp_path / "replica", options=options))
        server = stack.enter_context(Sentinel(tmp_path / "sentinel", master))
        with master.client() as client, server.client() as asked:
            wait_for(lambda: client.info("replication").get("slave0", {}).get("state") == "online")
            wait_for(lambda: asked.sentinel_master("bridge")["num-slaves"] == 1, 20)
        yield server


def url_of(sentinel: Sentinel) -> str:
    return f"redis+sentinel+streams://127.0.0.1:{sentinel.port}/bridge/0"


def test_messages_are_consumed_on_after_the_master_was_killed(
    sentinel: Sentinel, master: Redis, wait_for: Callable[..., Any]
) -> None:
    with kombu.Connection(url_of(sentinel), transport_options=QUICK) as made:
        publish(made, "q", "before", "held")
        made.default_channel.client.wait(1, 2000)
        reader = Reader(made, "q", ack=False)
        wait_for(reader.has(2))
        reader.messages[0].ack()
        made.default_channel.qos.flush()
        made.default_channel.client.wait(1, 2000)
        master.kill()

        # The same channel goes on.
        def published() -> bool:
            try:
                publish(made, "q", "after")
            except (redis.RedisError, OSError):
                return False
            return True

        wait_for(published, 30, interval=0.1)
        wait_for(reader.has(3))
        assert reader.texts == ["before", "held", "after"]
        for message in reader.messages[1:]:
            message.ack()
        made.default_channel.qos.flush()
        assert made.default_channel.contents.length("q") == 0
        assert made.default_channel.client.info("server")["tcp_port"] != master.port

    # And so does a new connection.
    with kombu.Connection(url_of(sentinel)) as other:
        publish(other, "q", "new")
        last = Reader(other, "q")
        wait_for(last.has(1))


def test_a_sentinel_that_knows_no_master_of_this_name_is_an_outage(sentinel: Sentinel) -> None:
    url = f"redis+sentinel+streams://127.0.0.1:{sentinel.port}/unknown/0"
    with kombu.Connection(url) as made, pytest.raises(redis.ConnectionError, match="unknown"):
        made.connect()


def test_sentinels_that_are_away_are_named_in_a_sentence_with_what_to_do() -> None:
    ports = free_port(), free_port()
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    url = f"redis+sentinel+streams://u:hush@{hosts}/bridge/0"
    with pytest.raises(ServerAway) as caught:
        broker.connect(url)
    told = str(broker_missing(url, caught.value))

    assert f"no Sentinel answers at {hosts.replace(',', ', ')}" in told
    assert "systemctl start redis-sentinel" in told
    assert len(told) < 500
    assert not [word for word in ("hush", "<redis", "redis-server", "object at") if word in told]


def test_events_flow_on_when_the_master_hangs(
    sentinel: Sentinel, master: Redis, receiver: Any, start: Any, wait_for: Callable[..., Any]
) -> None:
    """It keeps its connections, and answers no more."""
    start(url_of(sentinel), receiver)
    with Publisher(url_of(sentinel)) as publisher:
        publisher.publish(Event("project", "changed", "vim", 1, {}))
        wait_for(lambda: receiver.versions == [1])
        master.signal(signal.SIGSTOP)
        try:

            def published() -> bool:
                try:
                    publisher.publish(Event("project", "changed", "vim", 2, {}))
                except ServerAway:
                    return False
                return True

            wait_for(published, 30, interval=0.1)
            wait_for(lambda: 2 in receiver.versions, 30)
        finally:
            master.signal(signal.SIGCONT)


def test_everything_in_a_sentinel_url_is_used() -> None:
    url = (
        "rediss+sentinel+streams://u:p%40s@a,[::1]:5,b:6/service/3"
        "?sentinel_password=secret&socket_timeout=2&ssl_ca_certs=/ca.crt"
    )
    with redisurl.client(url) as client:
        pool: Any = client.connection_pool
        known = pool.connection_kwargs
        assert (known["db"], known["username"], known["password"]) == (3, "u", "p@s")
        assert (known["socket_timeout"], known["ssl_ca_certs"]) == (2.0, "/ca.crt")
        assert pool.service_name == "service"
        asked = [one.connection_pool for one in pool.sentinel_manager.sentinels]
        addresses = [
            (one.connection_kwargs["host"], one.connection_kwargs["port"]) for one in asked
        ]
        assert addresses == [("a", 26379), ("::1", 5), ("b", 6)]
        assert {one.connection_kwargs["password"] for one in asked} == {"secret"}
        assert {one.connection_class for one in asked} == {redis.SSLConnection}
