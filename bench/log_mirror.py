"""From a commit of a real MariaDB to a majority of MongoDB: by the database's log, which `bridgectl
capture` reads, and by the bridge's triggers, whose notes `bridgectl relay` carries to `bridgectl
worker`. All are started as an operator starts them.

Measured are rows a second where there is much to catch up with, the delay from commit to visible at
200 commits a second, and what each way costs the database: the processor time of `mariadbd` for the
same statements, beside a database that keeps no log and one whose log nobody reads.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
from rich.console import Console

from bench.log_site import CHANGES, KEY, LOG, TABLES, insert, say, single, statements
from bench.queue_mongodb import observe
from bench.queue_programs import Program, running
from bench.report import BenchmarkFailed
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.triggers.commands import Triggers
from stack.bridge import BridgeCapture, BridgeRelay, BridgeWorker
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.process import Server
from stack.redis import Redis
from stack.waiting import wait_for

__all__ = ["READS", "Found", "mirror"]

COUNTS, QUICK_COUNTS = {"six": 20_000, "posts": 6_000}, {"six": 500, "posts": 200}
SINGLE, QUICK_SINGLE = 900, 60
"""Rows that are inserted, updated and deleted one by one."""
READS = 9
"""Statements that read, for each that writes. WordPress has 39 for its 9 writes when a post is
made, 45 for 4 when it is saved again, and 39 for none when the front page is shown."""
RATE, JITTER, SECONDS = 200.0, 0.5, 10
BOUND = 300.0
WAYS = ("none", "unread", "log", "triggers")
"""No log; a log that nobody reads; a log that is read; triggers, with relay and worker."""
MIRRORED = ("log", "triggers")


@dataclass
class Found:
    """By table and change, and by way. rates: rows a second. delays: the milliseconds from commit
    to visible, of each round. cpu: the milliseconds of the database's processor time for 1,000
    writes, with and without what is read beside them, of each round."""

    rates: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    delays: dict[str, list[list[float]]] = field(default_factory=dict)
    cpu: dict[tuple[str, int], list[float]] = field(default_factory=dict)


def mirror(folder: Path, rounds: int, progress: Console) -> Found:
    """Rounds in turns; one round is short. Raises BenchmarkFailed and StackError."""
    quick = rounds == 1
    found = Found()
    with contextlib.ExitStack() as stack:
        mongod = stack.enter_context(Mongod(folder / "mongod"))
        redis = stack.enter_context(Redis(folder / "redis"))
        ways = {
            way: stack.enter_context(contextlib.closing(_Way(folder / way, way, mongod, redis)))
            for way in WAYS
        }
        for number in range(rounds):
            progress.print(f"mirror: round {number + 1} of {rounds}", style="dim")
            turn = number % len(WAYS)
            # No way is always the first one.
            for way in (*WAYS[turn:], *WAYS[:turn]):
                _round(ways[way], quick, found)
    return found


def _round(way: _Way, quick: bool, found: Found) -> None:
    counts, one_by_one = (QUICK_COUNTS, QUICK_SINGLE) if quick else (COUNTS, SINGLE)
    with way.processes():
        if way.name in MIRRORED:
            for table, count in counts.items():
                first = way.numbers(count)
                for change in CHANGES:
                    rate = way.rate(table, change, first, count)
                    found.rates.setdefault((table, change, way.name), []).append(rate)
            delays = way.delays(int(RATE * (1 if quick else SECONDS)))
            found.delays.setdefault(way.name, []).append(delays)
        for reads in (0, READS):
            found.cpu.setdefault((way.name, reads), []).append(way.cpu(one_by_one, reads))


class _Way:
    """A database, and the processes that mirror it."""

    def __init__(self, folder: Path, name: str, mongod: Mongod, redis: Redis) -> None:
        self.name, self._folder, self._mongod = name, folder, mongod
        options = LOG if name in ("unread", "log") else ()
        self._server = MariaDB(
            folder / "mariadb", database="site", options=options, buffer_pool="256M"
        )
        self._server.start()
        self._next = 1
        self._processes: list[Server] = []
        self._engine = connect(self._server.url)
        say(self._engine, *TABLES.values())
        self._mongodb_url = mongod.url_of(f"bench_{name}")
        log = ", log: true" if name == "log" else ""
        sync = "".join(
            f"  {one}: {{collection: {one}, source: {{table: {one}, key: {KEY[one]}{log}}}}}\n"
            for one in TABLES
        )
        (folder / "sync.yaml").write_text(f"version: 1\nentities:\n{sync}", encoding="utf-8")
        self._env = {
            "BRIDGE_BROKER_URL": redis.url,
            "BRIDGE_MONGODB_URL": self._mongodb_url,
            "BRIDGE_SQL_URL": self._server.url,
            "BRIDGE_STATE_DIR": str(folder),
            "BRIDGE_SYNC": str(folder / "sync.yaml"),
        }
        if name == "triggers":
            mirrored = Mirror(load(folder / "sync.yaml"))
            Triggers(self._engine, mirrored, Outbox(self._engine)).apply([])

    def close(self) -> None:
        self._engine.dispose()
        self._server.stop()

    def numbers(self, count: int) -> int:
        """The first of so many that no row has had."""
        first, self._next = self._next, self._next + count
        return first

    @contextlib.contextmanager
    def processes(self) -> Iterator[None]:
        """Those that mirror run."""
        kinds = {"log": (BridgeCapture,), "triggers": (BridgeWorker, BridgeRelay)}
        with contextlib.ExitStack() as stack:
            self._processes = [
                stack.enter_context(kind(self._folder / kind.name, env=self._env))
                for kind in kinds.get(self.name, ())
            ]
            yield

    def rate(self, table: str, change: str, first: int, count: int) -> float:
        """Rows a second, where all that is to be read is there before anybody reads."""
        with self._client() as collections:
            collection = collections[table]
            newest = collection.find_one(sort=[("_v", -1)]) or {"_v": 0}
            for process in self._processes:
                process.signal(signal.SIGSTOP)
            say(self._engine, *statements(table, change, first, count))
            began = time.monotonic()
            for process in self._processes:
                process.signal(signal.SIGCONT)
            wait_for(
                lambda: collection.count_documents({"_v": {"$gt": newest["_v"]}}) == count,
                BOUND,
                f"{count} documents of {self.name}",
                interval=0.1,
            )
            took = time.monotonic() - began
            alive = collection.count_documents({"_del": {"$exists": False}})
            if alive != (0 if change == "delete" else count):
                raise BenchmarkFailed(f"{change} of {table}: {alive} documents are alive")
        return count / took

    def delays(self, count: int) -> list[float]:
        """Milliseconds from a commit to a majority read that sees it."""
        first = self.numbers(count)
        keys = {str(number): 0 for number in range(first, first + count)}
        writer = Program(commit_steadily, self._server.port, first, count)
        observer = Program(observe, self._mongodb_url, keys, "six")
        with running(writer, observer):
            observer.go()
            writer.go()
            committed, seen = writer.result(), observer.result()
        if len(seen) < count:
            raise BenchmarkFailed(f"{count - len(seen)} of {count} rows were not seen")
        say(self._engine, f"DELETE FROM six WHERE id >= {first}")
        self._wait_for_none("six")
        return [max(0.0, (seen[key] - moment) / 1e6) for key, moment in committed.items()]

    def cpu(self, count: int, reads: int) -> float:
        """Milliseconds of the database's processor time for 1,000 writes, what is read beside them
        and what mirrors them, until all is there."""
        first = self.numbers(count)
        # A relay and a worker that have nothing to do look now and then, which is no cost of these.
        before = _cpu(self._server.pid)
        say(self._engine, *single("posts", first, count, reads))
        if self._processes:
            self._wait_for_none("posts")
        return (_cpu(self._server.pid) - before) / (count * len(CHANGES)) * 1000

    def _wait_for_none(self, table: str) -> None:
        """Until no document is alive, and the last ones that died are there."""
        with self._client() as collections:
            alive = {"_del": {"$exists": False}}
            last = str(self._next - 1)

            def is_over() -> bool:
                newest = collections[table].find_one({"_id": last})
                return newest is not None and "_del" in newest

            wait_for(is_over, BOUND, f"{self.name}'s last deletion", interval=0.05)
            wait_for(
                lambda: not collections[table].count_documents(alive), BOUND, "the others' deletion"
            )

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        with self._mongod.client() as client:
            yield client[f"bench_{self.name}"]


def _cpu(pid: int) -> float:
    """Milliseconds of processor time that all threads of a process have had, as of proc(5)."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) * 1000 / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def commit_steadily(port: int, first: int, count: int) -> Iterator[Callable[[], Any]]:
    """Inserts rows one by one at RATE. Finds when each was committed, in ns."""
    with (
        pymysql.connect(
            host="127.0.0.1", port=port, user="root", database="site", autocommit=True
        ) as connection,
        connection.cursor() as cursor,
    ):

        def work() -> dict[str, int]:
            committed = {}
            due = time.monotonic()
            for number in range(first, first + count):
                if (wait := due - time.monotonic()) > 0:
                    time.sleep(wait)
                cursor.execute(insert("six", number))
                committed[str(number)] = time.monotonic_ns()
                due += random.uniform(1 - JITTER, 1 + JITTER) / RATE
            return committed

        yield work
