"""The limit of an event follows max_document, on every way that an event can take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from bridge.errors import UndecodableMessage
from bridge.queue.client import IngestClient
from bridge.queue.events import LARGEST_EVENT_BYTES, MAX_EVENT_BYTES, Event
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.queue.streams import url as redisurl
from bridge.queue.streams.group import Group, Limits
from bridge.sync.models import File
from stack.php import php_program
from stack.ports import free_port
from stack.process import REPOSITORY
from stack.redis import Redis
from tests.minimal_sync import write_sync

MIB = 1024 * 1024
SYNC = """\
version: 1
max_document: 3MiB
spool: [SPOOL]
entities:
  page: {collection: pages}
"""
Db = Database[dict[str, Any]]


@pytest.mark.parametrize(
    ("max_document", "max_event"),
    [("1KiB", MIB), ("1MiB", MIB), ("2MiB", 4 * MIB), ("16MiB", 32 * MIB)],
)
def test_an_event_may_have_twice_as_many_bytes_where_documents_may_be_larger(
    max_document: str, max_event: int
) -> None:
    file = File.model_validate({"version": 1, "max_document": max_document})

    assert MAX_EVENT_BYTES <= file.max_event == max_event <= LARGEST_EVENT_BYTES


def test_what_is_too_large_says_which_setting_helps() -> None:
    event = Event("page", "changed", "a", 1, {"text": "x" * 100})
    for make in (lambda: event.to_json(50), lambda: Event.parse(event.to_json(), 50)):
        with pytest.raises(UndecodableMessage, match=r"raise max_document in sync\.yaml"):
            make()


class Site:
    """A worker and a relay with a listener, that run, and what they are given."""

    def __init__(self, folder: Path, env: dict[str, str], port: int) -> None:
        self.folder, self.env, self.port = folder, env, port
        self.spool = folder / "spool"

    def php(self, code: str) -> str:
        """Run it; $bridge is the producer."""
        [redis_port] = [self.env["BRIDGE_BROKER_URL"].rsplit(":", 1)[1].split("/")[0]]
        options = (
            f"array('port' => {redis_port}, 'spool_dir' => '{self.spool}',"
            f" 'max_event' => {6 * MIB}, 'timeout_ms' => 5000)"
        )
        head = f"require '{REPOSITORY}/php/BridgeProducer.php'; $bridge = new BridgeProducer("
        script = f"{head}{options}); {code} echo $bridge->error();"
        words = [php_program(), "-d", "memory_limit=512M", "-r", script]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, mongodb: Any) -> Iterator[Site]:
    folder, port = tmp_path_factory.mktemp("large"), free_port()
    (folder / "spool").mkdir()
    sync = write_sync(folder, SYNC.replace("SPOOL", str(folder / "spool")))
    url = f"sqlite:///{folder / 'site.sqlite'}"
    engine = connect(url)
    Outbox(engine).create()
    engine.dispose()
    with Redis(folder / "redis") as server:
        env = {
            **os.environ,
            "BRIDGE_SYNC": str(sync),
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "BRIDGE_BROKER_URL": server.url,
            "BRIDGE_MONGODB_URL": mongodb.url_of("large_events"),
            "BRIDGE_SQL_URL": url,
            "BRIDGE_OPERATOR_TOKEN": "token",
        }
        command = [sys.executable, "-m", "bridge"]
        running = [
            subprocess.Popen([*command, *words], env=env, stderr=subprocess.DEVNULL)
            for words in (["worker"], ["relay", "--operator", f"127.0.0.1:{port}"])
        ]
        try:
            yield Site(folder, env, port)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)


@pytest.fixture
def pages(mongodb: Any) -> Iterator[Any]:
    with mongodb.client() as client:
        yield client["large_events"].pages


LARGE = 5 * MIB // 2
"""Characters of a document that fits, where the limit of an event was 1 MiB once."""


def by_outbox(site: Site) -> None:
    engine = connect(site.env["BRIDGE_SQL_URL"])
    outbox = Outbox(engine)
    row = {"entity": "page", "key": "by_outbox", "change": "changed", "version": 1}
    with engine.begin() as connection:
        outbox.add(connection, [row | {"payload": json.dumps({"text": "x" * LARGE})}])
    engine.dispose()


def by_http(site: Site) -> None:
    with IngestClient(f"http://127.0.0.1:{site.port}", "token", max_event=6 * MIB) as client:
        client.send(Event("page", "changed", "by_http", 1, {"text": "x" * LARGE}))


def by_redis(site: Site) -> None:
    data = f"array('text' => str_repeat('x', {LARGE}))"
    said = site.php(f"var_dump($bridge->publish('page', 'changed', 'by_redis', 1, {data}));")
    assert said == "bool(true)\n"


def by_spool(site: Site) -> None:
    data = f"array('text' => str_repeat('x', {LARGE}))"
    said = site.php(f"var_dump($bridge->spool('page', 'changed', 'by_spool', 1, {data}));")
    assert said == "bool(true)\n"


@pytest.mark.parametrize("way", [by_outbox, by_http, by_redis, by_spool])
def test_a_large_document_arrives(
    site: Site, pages: Any, way: Callable[[Site], None], wait_for: Callable[..., Any]
) -> None:
    if way is by_http:
        wait_for(lambda: listens(site.port), 30)
    way(site)
    found = wait_for(lambda: pages.find_one({"_id": way.__name__}), 60)
    assert len(found["text"]) == LARGE


def listens(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code > 0
    except requests.ConnectionError:
        return False


def test_a_document_beyond_the_limit_is_a_dead_letter_that_says_so(
    site: Site, wait_for: Callable[..., Any]
) -> None:
    data = f"array('text' => str_repeat('x', {3 * MIB}))"
    site.php(f"$bridge->publish('page', 'changed', 'beyond', 1, {data});")

    def letter() -> str:
        words = [sys.executable, "-m", "bridge", "dead", "list", "--key", "beyond"]
        said = subprocess.run(words, env=site.env, capture_output=True, text=True).stdout
        return said if "page" in said else ""

    assert "max_document" in " ".join(wait_for(letter, 60).split())


def test_a_producer_that_was_not_told_names_its_option(site: Site) -> None:
    script = (
        f"require '{REPOSITORY}/php/BridgeProducer.php'; $bridge = new BridgeProducer();"
        f"$bridge->publish('page', 'changed', 'k', 1, array('t' => str_repeat('x', {MIB})));"
        "echo $bridge->error();"
    )
    said = subprocess.run([php_program(), "-r", script], capture_output=True, text=True).stdout
    assert "more than 1048576 bytes" in said
    assert "max_event, and max_document in sync.yaml" in said


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.sampled_from([1, 100, 30_000, 90_000, 200_000]), max_size=60),
    count=st.integers(1, 20),
)
def test_a_fetch_has_no_more_bytes_than_were_asked_for_and_none_is_lost(
    clean_redis: Any, sizes: list[int], count: int
) -> None:
    clean_redis.flushall()
    for number, size in enumerate(sizes):
        clean_redis.xadd("q", {"body": f"{number:<{size + 5}}"})
    limits = Limits(batch_bytes=200_000, largest=200_000)
    group = Group(clean_redis, group="g", name="me", limits=limits)
    group.create("q")
    numbers: list[int] = []
    while found := group.fetch(["q"], count=count, wait=0, in_hand=lambda *_: False):
        assert len(found) <= count
        bodies = [entry.fields[1] for entry in found]
        assert sum(map(len, bodies[:-1])) < 200_000
        numbers += [int(body) for body in bodies]
        group.ack({"q": [entry.id for entry in found]})
    group.close(gone=True)

    assert numbers == list(range(len(sizes)))


def test_a_fetch_that_waits_gets_what_comes(clean_redis: Any, redis_url: str) -> None:
    limits = Limits(batch_bytes=1000, largest=500)
    client = redisurl.client(redis_url)
    group = Group(client, group="g", name="me", limits=limits)
    group.create("q")
    with ThreadPoolExecutor(1) as pool, redis.from_url(redis_url) as other:
        waiting = pool.submit(
            group.fetch, ["q"], count=200, wait=20, in_hand=lambda stream, id: False
        )
        for number in range(5):
            other.xadd("q", {"body": str(number)})
        found = [entry.fields[1] for entry in waiting.result(30)]
        group.close(gone=True)
    client.close()

    assert found == [b"0", b"1", b"2", b"3", b"4"][: len(found)]
    assert found
