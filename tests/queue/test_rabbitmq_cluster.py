"""A RabbitMQ of three nodes: what is said of it, and that one that hangs stops little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.doctor import examine
from bridge.findings import Finding
from bridge.queue import status
from bridge.queue.broker import connection as broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import Event
from bridge.settings import Settings
from stack.errors import BinaryMissing
from stack.rabbitmq import Cluster

pytestmark = pytest.mark.long

Wait = Callable[..., Any]
TICK = 15


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes; the vhost `early` has its queues from when there was one."""
    folder = tmp_path_factory.mktemp("cluster")
    made = Cluster(folder, management=True, extra=f"net_ticktime = {TICK}")
    try:
        made.nodes[0].command()
    except BinaryMissing as missing:
        pytest.skip(f"{missing}, or: scripts/test --all")
    with made:
        made.nodes[0].create_vhost("early")
        fill(made.url_of("early"))
        made.join()
        made.nodes[0].create_vhost("late")
        fill(made.url_of("late"))
        yield made


def fill(url: str) -> None:
    """Three dead letters, and a queue of events."""
    with broker.connect(url) as connection:
        connection.declare(broker.EVENTS_QUEUE)
        for number in range(3):
            DeadLetters(connection).put(DeadLetter.of(b"%d" % number, "no event"))


def looked(url: str, folder: Path) -> status.QueueStatus:
    return status.read(url, folder, [], [])


def findings(cluster: Cluster, vhost: str, folder: Path, api: str) -> list[Finding]:
    """What doctor says of the broker."""
    url = cluster.url_of(vhost)
    settings = Settings(folder / "r", url, "", folder, rabbitmq_api=api, uses_mongodb=False)
    return [one for one in examine(settings) if one.what in ("broker", "queue")]


def test_every_node_is_asked_and_queues_of_one_member_are_named(
    cluster: Cluster, tmp_path: Path
) -> None:
    early = findings(cluster, "early", tmp_path, cluster.api_of(1))
    late = findings(cluster, "late", tmp_path, cluster.api_of(1))

    assert [one.what for one in early] == ["broker"] * 3 + ["queue"] * 2
    bad = [one for one in early if one.state == "bad"]
    assert [one.what for one in bad] == ["queue", "queue"]
    assert "is on 1 of 3 nodes" in bad[0].says
    assert "rabbitmq-queues grow" in bad[0].do
    assert {one.state for one in late} == {"ok"}
    assert "is on 3 of 3 nodes" in late[-1].says
    assert "guest:guest" not in str(early)
    unknown = findings(cluster, "late", tmp_path, "")
    assert [one.state for one in unknown] == ["ok", "ok", "ok", "note"]


def test_a_node_that_hangs_stops_the_flow_until_the_others_notice_and_no_longer(
    cluster: Cluster, tmp_path: Path, receiver: Any, start: Any, wait_for: Wait
) -> None:
    """All connections are to the node that hangs, which leads the queue."""
    url = cluster.url_of("late")
    start(url, receiver)
    with Publisher(url) as publisher:
        publisher.publish(Event("project", "changed", "vim", 1, {}))
        wait_for(lambda: receiver.versions == [1])
        cluster.nodes[0].freeze()
        try:
            first = findings(cluster, "late", tmp_path, "")[0]
            assert (first.state, str(cluster.nodes[0].port) in first.where) == ("bad", True)

            def published() -> bool:
                try:
                    publisher.publish(Event("project", "changed", "vim", 2, {}))
                except Exception:
                    return False
                return True

            wait_for(published, bound=2 * TICK)
            wait_for(lambda: 2 in receiver.versions, bound=2 * TICK)
        finally:
            cluster.nodes[0].thaw()


def test_what_is_not_known_is_not_said_to_be_zero(
    cluster: Cluster, tmp_path: Path, wait_for: Wait
) -> None:
    """With the majority gone, and again when it is back."""
    url = cluster.url_of("late")
    wait_for(lambda: looked(url, tmp_path).dead == 3, bound=60, interval=0.5)
    for node in (cluster.nodes[0], cluster.nodes[2]):
        node.freeze()
    try:
        found = looked(url, tmp_path)
        assert (found.ready, found.dead) == (None, None)
        assert "majority" in found.errors["broker"]
        assert b"bridge_dead_letters" not in status.metrics(found)
        assert b'bridge_up{what="broker"} 0.0' in status.metrics(found)
        said = findings(cluster, "late", tmp_path, "")
        assert any("its queues cannot be used" in one.says for one in said)
    finally:
        for node in (cluster.nodes[0], cluster.nodes[2]):
            node.thaw()
    wait_for(lambda: looked(url, tmp_path).dead == 3, bound=90, interval=0.5)
