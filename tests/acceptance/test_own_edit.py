"""A visitor edits through PHP and reads through Python, again and again, and never sees an old
version: neither while the worker hangs, nor while the change stream is late, nor afterwards."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from stack.bridge import BridgeWorker
from stack.mongod import Mongod
from stack.php import PhpServer
from stack.redis import Redis
from tests.acceptance.apps import __file__ as APPS
from tests.acceptance.bridge_site import BridgeSite

pytestmark = pytest.mark.acceptance

PAGES = Path(APPS).parent / "php"
KEY = "php1:a secret that both sides know".replace(" ", "-")
OLD_KEY = "php0:the-secret-of-last-month"
OUTCOMES = {"at_once", "waited", "primary", "legacy"}
WAYS = ("key", "query", "pymongo")

SYNC = """\
version: 1
entities:
  thing: {collection: things}
"""
ROUTES = """\
version: 1
sites:
  things: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - name: key
    path: /thing
    query: {by: key}
    handler: "tests.acceptance.apps.own_edit:by_key"
    python: 100%
  - name: query
    path: /thing
    query: {by: query}
    handler: "tests.acceptance.apps.own_edit:by_query"
    python: 100%
  - name: pymongo
    path: /thing
    query: {by: pymongo}
    handler: "tests.acceptance.apps.own_edit:by_pymongo"
    reads: [thing]
    python: 100%
"""


@dataclass
class Things:
    """The site, and one visitor with a browser's cookies.

    names: what is edited. latest: the version of each that the visitor wrote last. sides: who
    answered reads.
    """

    site: BridgeSite
    worker: BridgeWorker
    mongod: Mongod
    visitor: requests.Session
    random: random.Random
    names: tuple[str, ...] = ()
    latest: dict[str, int] = field(default_factory=dict)
    sides: Counter[str] = field(default_factory=Counter)

    def edit(self, name: str) -> None:
        answer = self.visitor.post(
            f"{self.site.server.url}/thing",
            params={"name": name},
            data={"text": f"text {self.random.random()}"},
            timeout=30,
        )
        side, version, _ = answer.text.split(" ", 2)
        assert (answer.status_code, side) == (200, "legacy"), answer.text
        self.latest[name] = int(version)

    def read(self, name: str, way: str) -> int:
        """The version that the visitor sees."""
        answer = self.visitor.get(
            f"{self.site.server.url}/thing", params={"name": name, "by": way}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        side, version, _ = answer.text.split(" ", 2)
        self.sides[side] += 1
        return int(version)

    def edit_and_look(self) -> None:
        """Edit one thing; look at it in every way, and at another one."""
        name, other = self.random.sample(self.names, 2)
        self.edit(name)
        for way in self.random.sample(WAYS, 2):
            assert self.read(name, way) == self.latest[name], (name, way)
        if other in self.latest:
            assert self.read(other, self.random.choice(WAYS)) == self.latest[other], other

    def counts(self) -> dict[str, int]:
        """What `bridgectl status` says of visitors' own edits."""
        counts: dict[str, int] = self.site.bridge_json("status")["freshness"]
        return counts

    @contextmanager
    def stopped_worker(self) -> Iterator[None]:
        self.worker.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.worker.signal(signal.SIGCONT)

    @contextmanager
    def hiccups(self) -> Iterator[None]:
        """The worker hangs for some milliseconds, again and again."""
        end = threading.Event()

        def run() -> None:
            while not end.is_set():
                with self.stopped_worker():
                    end.wait(0.04)
                end.wait(0.02)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    @contextmanager
    def late_stream(self) -> Iterator[None]:
        """The change stream tells everything half a second late."""
        late = {
            "failCommands": ["getMore"],
            "appName": "bridge-cache",
            "blockConnection": True,
            "blockTimeMS": 500,
        }
        with self.mongod.client() as client:
            command = {"configureFailPoint": "failCommand"}
            client.admin.command({**command, "mode": "alwaysOn", "data": late})
            try:
                yield
            finally:
                client.admin.command({**command, "mode": "off"})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Things]:
    tmp_path = tmp_path_factory.mktemp("own-edit")
    database = tmp_path / "things.sqlite"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE things (name TEXT PRIMARY KEY, ver INTEGER, text TEXT)")
        connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    (tmp_path / "sync.yaml").write_text(SYNC, encoding="utf-8")
    redis_server = Redis(tmp_path / "redis")
    php = PhpServer(
        tmp_path / "php",
        PAGES,
        router=PAGES / "router.php",
        env={
            "THINGS": str(database),
            "THINGS_REDIS_PORT": str(redis_server.port),
            "THINGS_FRESHNESS_KEY": KEY,
        },
    )
    mongod = Mongod(tmp_path / "mongodb", parameters={"enableTestCommands": "1"})
    with redis_server, mongod, php:
        env = {
            "BRIDGE_MONGODB_URL": mongod.url,
            "BRIDGE_BROKER_URL": redis_server.url,
            "BRIDGE_SYNC": str(tmp_path / "sync.yaml"),
            "BRIDGE_STATE_DIR": str(tmp_path / "bridge" / "state"),
            # PHP has been switched to the second key; the first one is about to go.
            "BRIDGE_FRESHNESS_KEYS": f"{OLD_KEY}\n{KEY}",
        }
        site = BridgeSite(tmp_path / "bridge", ROUTES.replace("@PHP@", php.url), workers=2, env=env)
        worker = BridgeWorker(tmp_path / "worker", env=env)
        with worker, site, requests.Session() as visitor:
            yield Things(site, worker, mongod, visitor, random.Random(1))


@pytest.fixture
def things(running: Things, request: pytest.FixtureRequest) -> Things:
    """The running site, with things of this test's own and a visitor without cookies."""
    running.names = tuple(f"{request.node.name}/{name}" for name in ("one", "two", "dréi"))
    running.latest, running.sides = {}, Counter()
    running.visitor.cookies.clear()
    return running


def prove(
    things: Things,
    edits: int,
    wait_for: Callable[..., Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`edits` edits: most as usual, some while something is slow."""
    before = Counter(things.counts())
    for _ in range(edits // 3):
        things.edit_and_look()
    with things.hiccups():
        for _ in range(edits // 6):
            things.edit_and_look()
    with things.late_stream():
        for _ in range(edits // 20):
            things.edit_and_look()
    with things.stopped_worker():
        for _ in range(edits // 20):
            things.edit_and_look()
    while sum(things.latest.values()) < edits:
        things.edit_and_look()

    counts = Counter(things.counts()) - before
    with capsys.disabled():
        print(f"\n{edits} edits: {dict(counts)}; answers {dict(things.sides)}")
    assert sum(things.latest.values()) == edits
    assert set(counts) == OUTCOMES  # each of them at least once
    assert things.sides["python"] > things.sides["legacy"] > 0
    shown = things.site.bridge("status").stdout
    assert "visitors with own edits" in shown

    # The cookie ends when all of it was seen, and still no process shows anything older.
    def ended() -> bool:
        for name, version in things.latest.items():
            assert things.read(name, things.random.choice(WAYS)) == version
        return "bv" not in things.visitor.cookies

    things.edit(things.names[0])
    assert "bv" in things.visitor.cookies
    wait_for(ended, 40, "the cookie ends")
    for _ in range(20):
        assert ended()


@pytest.mark.slow
def test_a_visitor_never_misses_one_of_150_edits(
    things: Things, wait_for: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    prove(things, 150, wait_for, capsys)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_visitor_never_misses_one_of_1000_edits(
    things: Things, wait_for: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    prove(things, 1000, wait_for, capsys)


def test_without_the_cookie_the_same_visitor_would_see_old_versions(things: Things) -> None:
    """That these tests can fail."""
    name = things.names[0]
    things.edit(name)
    assert things.read(name, "pymongo") == 1
    with things.stopped_worker():
        things.edit(name)
        things.visitor.cookies.clear()
        assert things.read(name, "pymongo") == 1
