"""Kill everything, again and again, while PHP edits at full speed; then compare both sides.

A PHP producer edits projects in MariaDB, each edit with its outbox row in one transaction. Two
workers, two relays, Redis and MongoDB are killed with SIGKILL at random, and started again. On
the way a worker is stopped for longer than the time after which others take its messages, and the
connections of Redis are cut. In the end the workers are stopped, the producers edit on, and Redis
is wiped with all of that in it: no later edit makes good for it. What must hold: every committed
version is in MongoDB or a newer one is, no version ever went backwards there (its change stream is
watched all the time), and in the end both sides are equal.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from bridge.queue.relay.plan import Timing
from stack.bridge import BridgeRelay, BridgeWorker
from stack.errors import LoadFailed
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.php import php_program
from stack.process import REPOSITORY, Server
from stack.redis import Redis
from stack.waiting import wait_for

__all__ = ["KillLoop", "Result", "Watcher"]

PRODUCER = Path(__file__).with_name("kill_producer.php")
SYNC = "version: 1\nentities:\n  project: {collection: projects}\n"
CATCH_UP = 180.0
"""Seconds in which MongoDB must hold everything after the last kill."""


@dataclass(frozen=True)
class Result:
    """kills: SIGKILLs, by what was killed. committed: (project, version) pairs that MariaDB
    confirmed. lost: those of them that MongoDB holds neither as they are nor newer. backwards:
    writes to MongoDB with a version below an earlier one. different: projects whose state differs
    in the end. dead: dead letters. watched: writes that the change stream showed."""

    kills: Counter[str]
    committed: int
    lost: int
    backwards: int
    different: int
    dead: int
    watched: int
    stops: int
    cuts: int
    wipes: int


class Watcher:
    """Reads MongoDB's change stream from its beginning, over every kill of MongoDB."""

    def __init__(self, mongod: Mongod) -> None:
        self._mongod, self._stop = mongod, threading.Event()
        self.highest: dict[str, int] = {}
        self.last: dict[str, int] = {}
        self.seen = self.backwards = 0
        self._token: Any = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(30):
            raise LoadFailed("the change stream did not open")

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._mongod.client() as client:
                    self._read(client)
            except PyMongoError:
                self._stop.wait(0.2)

    def _read(self, client: MongoClient[dict[str, Any]]) -> None:
        projects = client.get_default_database().projects
        with projects.watch(resume_after=self._token, max_await_time_ms=200) as stream:
            self._token = stream.resume_token or self._token
            self._ready.set()
            while not self._stop.is_set():
                change = stream.try_next()
                self._token = stream.resume_token
                if change is not None:
                    self._note(change)

    def _note(self, change: dict[str, Any]) -> None:
        key = change["documentKey"]["_id"]
        if change["operationType"] == "update":
            version = change["updateDescription"]["updatedFields"].get("_v")
        else:
            version = change.get("fullDocument", {}).get("_v")
        if version is None:
            raise LoadFailed(f"a write without a version: {change}")
        self.seen += 1
        if version <= self.highest.get(key, -1):
            self.backwards += 1
        self.last[key] = version
        self.highest[key] = max(version, self.highest.get(key, -1))


@dataclass
class KillLoop:
    """folder: for all files. kills: how many SIGKILLs. silence: seconds after which a worker's
    messages are taken by others. projects: how many are edited. seed: of what is random."""

    folder: Path
    kills: int = 60
    silence: float = 30.0
    projects: int = 500
    seed: int = 1
    say: Callable[[str], None] = lambda text: None
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        limits = f"?heartbeat={self.silence}&reclaim_idle={self.silence}&reclaim_every=1"
        self.mariadb = MariaDB(self.folder / "mariadb")
        self.redis = Redis(self.folder / "redis")
        self.mongod = Mongod(self.folder / "mongodb")
        sync = self.folder / "sync.yaml"
        sync.write_text(SYNC, encoding="utf-8")
        env = {
            "BRIDGE_BROKER_URL": self.redis.url + limits,
            "BRIDGE_MONGODB_URL": self.mongod.url,
            "BRIDGE_SQL_URL": self.mariadb.url,
            "BRIDGE_STATE_DIR": str(self.folder / "state"),
            "BRIDGE_SYNC": str(sync),
        }
        self.workers = [BridgeWorker(self.folder / f"worker{n}", env=env) for n in (1, 2)]
        self.relays = [BridgeRelay(self.folder / f"relay{n}", env=env) for n in (1, 2)]
        self.log, self.stop_file = self.folder / "committed.txt", self.folder / "stop"

    def run(self) -> Result:
        """Raises LoadFailed when MongoDB does not catch up, StackError for a server that
        does not start again."""
        with ExitStack() as running:
            for store in (self.mariadb, self.redis, self.mongod):
                running.enter_context(store)
            self._prepare()
            watcher = Watcher(self.mongod)
            watcher.start()
            running.callback(watcher.stop)
            for server in (*self.workers, *self.relays):
                running.enter_context(server)
            with self._producing():
                killed, stops, cuts = self._kill_all()
                self._stop_workers()
            self._wipe()
            self.say("the producer has ended; waiting until MongoDB holds everything")
            self._wait_until_applied()
            committed = self._committed()
            final = self._mongodb()
            wait_for(
                lambda: all(watcher.last.get(key) == found["_v"] for key, found in final.items()),
                30,
                "the change stream at its end",
            )
            return Result(
                kills=killed,
                committed=len(committed),
                lost=sum(1 for name, ver in committed if final.get(name, {}).get("_v", -1) < ver),
                backwards=watcher.backwards,
                different=self._different(final),
                dead=self._dead(),
                watched=watcher.seen,
                stops=stops,
                cuts=cuts,
                wipes=1,
            )

    def _prepare(self) -> None:
        outbox = (REPOSITORY / "php/sql/outbox.mysql.sql").read_text(encoding="utf-8")
        self._sql(
            outbox,
            "CREATE TABLE kill_projects (name VARCHAR(64) PRIMARY KEY, value BIGINT NOT NULL, "
            "gone TINYINT NOT NULL, ver BIGINT NOT NULL) ENGINE=InnoDB",
            *(f"INSERT INTO kill_projects VALUES ('p{n}', 0, 0, 0)" for n in self._numbers),
        )

    @property
    def _numbers(self) -> range:
        return range(1, self.projects + 1)

    @contextmanager
    def _producing(self) -> Iterator[None]:
        """Two producers, until the context ends."""
        words = [str(REPOSITORY / "php/BridgeProducer.php"), self.mariadb.dsn, str(self.redis.port)]
        words += [str(self.projects), str(self.log), str(self.stop_file)]
        command = [php_program(), str(PRODUCER), *words]
        output = (self.folder / "producer.log").open("wb")
        with output:
            producers = [
                subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) for _ in (1, 2)
            ]
            try:
                wait_for(lambda: self.log.exists() and self.log.stat().st_size, 20, "first edits")
                yield
                if any(producer.poll() is not None for producer in producers):
                    raise LoadFailed(f"a producer ended: {self._said()}")
            finally:
                self.stop_file.touch()
                for producer in producers:
                    try:
                        producer.wait(20)
                    except subprocess.TimeoutExpired:
                        producer.kill()
                        producer.wait()
        if any(producer.returncode for producer in producers) or self._said():
            raise LoadFailed(f"a producer failed: {self._said()}")

    def _said(self) -> str:
        return (self.folder / "producer.log").read_text(encoding="utf-8", errors="replace")[:500]

    def _kill_all(self) -> tuple[Counter[str], int, int]:
        killed: Counter[str] = Counter()
        kinds: list[list[Server]] = [
            [*self.workers], [*self.relays], [self.redis], [self.mongod]
        ]  # fmt: skip
        # Each kind the same number of times, in random order.
        turns = [kinds[number % len(kinds)] for number in range(self.kills)]
        self._random.shuffle(turns)
        stop_at = self.kills // 3
        cuts = 0
        stopped: BridgeWorker | None = None
        until = 0.0
        for number, servers in enumerate(turns):
            self._pause(0.1, 1.0)
            if number == stop_at:
                stopped, until = self.workers[0], time.monotonic() + 2 * self.silence + 3
                os.kill(stopped.pid, signal.SIGSTOP)
                self.say(f"a worker is stopped for {2 * self.silence + 3:.0f} s")
            if stopped is not None and time.monotonic() > until:
                os.kill(stopped.pid, signal.SIGCONT)
                stopped = None
            if number % 4 == 1:
                with self.redis.client() as client:
                    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                cuts += 1
            server = self._random.choice([one for one in servers if one is not stopped])
            server.kill()
            killed[server.name] += 1
            self.say(f"kill {number + 1} of {self.kills}: {server.name}")
            self._pause(0.0, 0.7)
            server.start()
        if stopped is not None:
            wait_for(lambda: time.monotonic() > until, 2 * self.silence + 10, "the end of a stop")
            os.kill(stopped.pid, signal.SIGCONT)
        return killed, 1, cuts

    def _stop_workers(self) -> None:
        """What is edited from now on stays in the queue, some of it among what a worker holds."""
        for worker in self.workers:
            os.kill(worker.pid, signal.SIGSTOP)
        edits = len(self._committed())
        wait_for(lambda: len(self._committed()) > edits + self.projects, 60, "more edits")

    def _wipe(self) -> None:
        """Wait until the relays have published every row and looked at it again, then wipe."""

        def published() -> bool:
            rows = self._sql("SELECT COUNT(*) FROM bridge_outbox WHERE published_at IS NULL")
            return int(rows[0][0]) == 0

        wait_for(published, 60, "all rows on the queue", interval=0.2)
        time.sleep(2 * Timing().first_look)
        with self.redis.client() as client:
            if not client.xlen("bridge.events"):
                raise LoadFailed("there is nothing in Redis that a wipe could lose")
            client.flushall()
        self.say("Redis is wiped")
        for worker in self.workers:
            os.kill(worker.pid, signal.SIGCONT)

    def _pause(self, shortest: float, longest: float) -> None:
        time.sleep(self._random.uniform(shortest, longest))

    def _wait_until_applied(self) -> None:
        def empty() -> bool:
            rows = self._sql("SELECT COUNT(*) FROM bridge_outbox")
            return int(rows[0][0]) == 0

        wait_for(empty, CATCH_UP, "an empty outbox", interval=0.2)

    def _sql(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.mariadb.execute(f"USE {self.mariadb.database}", *statements)

    def _committed(self) -> set[tuple[str, int]]:
        lines = self.log.read_text(encoding="ascii").splitlines()
        return {(name, int(version)) for name, version in (line.split() for line in lines)}

    def _mongodb(self) -> dict[str, dict[str, Any]]:
        with self.mongod.client() as client:
            projects = client.get_default_database().get_collection(
                "projects", read_concern=ReadConcern("majority")
            )
            return {document["_id"]: document for document in projects.find()}

    def _different(self, final: dict[str, dict[str, Any]]) -> int:
        """Projects that MongoDB holds otherwise than MariaDB."""
        rows = self._sql("SELECT name, value, gone, ver FROM kill_projects WHERE ver > 0")
        wrong = len(set(final) - {row[0] for row in rows})
        for name, value, gone, version in rows:
            document = final.get(name, {})
            same = document.get("_v") == version and bool(document.get("_del")) == bool(gone)
            if same and not gone:
                same = document["value"] == value and document["text"].endswith(str(version))
            wrong += not same
        return wrong

    def _dead(self) -> int:
        with self.redis.client() as client:
            return int(client.xlen("bridge.events.dead"))
