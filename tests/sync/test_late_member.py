"""A late secondary: Store reads from it what it has, and from the primary what it has not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient, monitoring
from pymongo.errors import PyMongoError

from bridge.queue.events import Event
from bridge.settings import Settings
from bridge.sync.apply import apply
from bridge.sync.store import Store
from stack.mongod import Mongod
from stack.waiting import wait_for
from tests.minimal_sync import mirror_of

pytestmark = pytest.mark.long


class Member(Mongod):
    """A mongod that is made a member by somebody else."""

    def ready(self) -> bool:
        with self.direct() as client:
            try:
                return bool(client.admin.command("ping")["ok"])
            except PyMongoError:
                return False

    def direct(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(
            f"mongodb://{self.address}/?directConnection=true", serverSelectionTimeoutMS=2000
        )


class Asked(monitoring.CommandListener):
    """Which member answered each `find`."""

    def __init__(self) -> None:
        self.ports: list[int] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        pass

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name == "find":
            self.ports.append(event.connection_id[1] or 0)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


@pytest.fixture
def members(tmp_path: Path) -> Iterator[tuple[Member, Member]]:
    """Primary and secondary. The secondary has no vote, so that it may be late alone."""
    with Member(tmp_path / "first") as first, Member(tmp_path / "second") as second:
        hosts = [
            {"_id": 0, "host": first.address},
            {"_id": 1, "host": second.address, "priority": 0, "votes": 0},
        ]
        with first.direct() as client:
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": hosts})

        def in_step() -> bool:
            with second.direct() as client:
                return bool(client.admin.command("hello")["secondary"])

        wait_for(in_step, bound=60, what="the secondary")
        yield first, second


def test_what_a_late_secondary_lacks_comes_from_the_primary(
    members: tuple[Member, Member], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = members
    url = f"mongodb://{first.address},{second.address}/bridge?replicaSet=rs0"
    mirror = mirror_of(tmp_path)
    asked = Asked()
    monkeypatch.setattr(monitoring, "_LISTENERS", monitoring._Listeners([asked], [], [], [], []))
    settings = Settings(tmp_path / "routes.yaml", "", url, tmp_path)
    store = Store(settings, mirror=mirror, read_preference="secondary", patience=2.0)

    def write(key: str, version: int) -> None:
        event = Event("project", "changed", key, version, {"name": key})
        assert not apply(client["bridge"], mirror, [event]).failed
        assert version == 1 or store._cache.wait("project", key, version, 10)

    def version(key: str) -> int | None:
        document = store.get("project", key)
        return None if document is None else document["_v"]

    with MongoClient(url) as client, second.direct() as late:
        for key in "abcd":
            write(key, 1)
        store.get("project", "nothing")
        wait_for(lambda: "unconfirmed" not in repr(store), what="a first look")
        wait_for(lambda: version("a") and store.stats().hits, what="the secondary to have it")
        asked.ports.clear()
        assert version("b") == 1
        assert asked.ports == [second.port]

        late.admin.command("fsync", lock=True)
        try:
            asked.ports.clear()
            assert version("c") == 1  # nothing was heard of it: what the secondary has will do
            assert asked.ports == [second.port]
            write("a", 2)
            write("d", 2)
            assert version("a") == 2
            assert store.get_many("project", ["a", "c", "d"])["d"]["_v"] == 2
            assert store.find("project", {"_id": "d"})[0]["_v"] == 2
            assert set(asked.ports[1:]) == {first.port}
        finally:
            late.admin.command("fsyncUnlock")
        write("b", 2)
        wait_for(lambda: version("b") == 2, what="b")
    store.close()
