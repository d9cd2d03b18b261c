"""A site that is edited without end while its servers are killed, for the tests of faults.

The edits are SQL, each with its outbox row in one transaction. What a client was told to be
committed is kept here, so that a loss shows whatever the servers say afterwards.
"""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pymysql
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from stack.bridge import BridgeRelay, BridgeWorker
from stack.errors import TimedOut
from stack.mariadb import MariaDB
from stack.redis import Redis
from stack.replicaset import Member, ReplicaSet
from stack.waiting import wait_for
from tests.acceptance.fault_commands import Done, Running
from tests.acceptance.fault_edits import SYNC, Identity, edit, fill, projects


class FaultSite:
    """All servers of the bridge but `serve`, on a site of `rows` projects and as many pages.

    patient: whether the relay waits as long as it does in production before it publishes again.
    """

    def __init__(
        self, folder: Path, *, rows: int = 200, workers: int = 2, patient: bool = False
    ) -> None:
        self.folder, self.rows = folder, rows
        self.mongodb = ReplicaSet(folder / "mongodb", parameters={"enableTestCommands": "1"})
        self.redis = Redis(folder / "redis")
        self.mariadb = MariaDB(folder / "mariadb")
        sync = folder / "sync.yaml"
        sync.write_text(SYNC)
        # Of a worker that was killed, others take the messages soon.
        soon = "?heartbeat=1&reclaim_idle=1&reclaim_every=1"
        self.env = {
            "BRIDGE_BROKER_URL": self.redis.url + ("" if patient else soon),
            "BRIDGE_MONGODB_URL": self.mongodb.url,
            "BRIDGE_SQL_URL": self.mariadb.url,
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "BRIDGE_SYNC": str(sync),
        }
        self.workers = [
            BridgeWorker(folder / f"worker{number}", env=self.env) for number in range(workers)
        ]
        relay = BridgeRelay if patient else HastyRelay
        self.relay = relay(folder / "relay", env=self.env)
        self.committed: dict[Identity, int] = {}
        self.edits = 0
        self._lock = threading.Lock()
        self._running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as running:
            for server in (self.redis, self.mariadb, *self.workers, self.relay):
                running.callback(server.kill)  # nothing of it is needed any more
            self.mongodb.launch()
            running.callback(self.mongodb.kill)
            self.redis.launch()
            self.mariadb.launch().wait_ready()
            self.sql(*fill(self.rows))
            self.mongodb.start()
            self.redis.wait_ready()
            for one in (*self.workers, self.relay):
                one.launch()
            for one in (*self.workers, self.relay):
                one.wait_ready()
            self.client = running.enter_context(
                self.mongodb.client(serverSelectionTimeoutMS=1000, socketTimeoutMS=5000)
            )
            self._running = running.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    # SQL.

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        return self.mariadb.execute(f"USE {self.mariadb.database}", *statements)

    @contextmanager
    def editing(self, editors: int = 2, pause: float = 0.01) -> Iterator[None]:
        """Edit all the time, with a pause of so many seconds after each edit of an editor."""
        stop = threading.Event()
        errors: list[BaseException] = []
        threads = [
            threading.Thread(target=self._edit, args=(stop, pause, errors), daemon=True)
            for _ in range(editors)
        ]
        for thread in threads:
            thread.start()
        try:
            self.wait_for_edits(10)
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(40)
        assert not any(thread.is_alive() for thread in threads)
        assert not errors, errors

    def wait_for_edits(self, more: int) -> None:
        """Wait until so many more are committed."""
        goal = self.edits + more
        wait_for(lambda: self.edits >= goal, 60, f"{more} more edits")

    def _edit(self, stop: threading.Event, pause: float, errors: list[BaseException]) -> None:
        chance = random.Random()
        connection: Any = None
        try:
            while not stop.is_set():
                try:
                    if connection is None:
                        connection = pymysql.connect(
                            host=self.mariadb.host,
                            port=self.mariadb.port,
                            user="root",
                            database=self.mariadb.database,
                            connect_timeout=5,
                            read_timeout=20,
                        )
                    identity, version = edit(connection, chance, self.rows)
                    with self._lock:
                        self.edits += 1
                        self.committed[identity] = max(version, self.committed.get(identity, 0))
                except (pymysql.err.OperationalError, pymysql.err.InterfaceError, OSError):
                    # Away, or a deadlock. Whether it was committed nobody knows.
                    with suppress(Exception):
                        connection.close()
                    connection = None
                    stop.wait(0.1)
                stop.wait(pause)
        except BaseException as error:
            errors.append(error)
        finally:
            with suppress(Exception):
                connection.close()

    # MongoDB.

    def documents(self) -> dict[Identity, dict[str, Any]]:
        """All that a majority holds, tombstones included."""
        found: dict[Identity, dict[str, Any]] = {}
        with self.mongodb.client() as client:
            for entity, name in (
                ("project", "projects"),
                ("release", "releases"),
                ("page", "pages"),
            ):
                collection = client.get_default_database().get_collection(
                    name, read_concern=ReadConcern("majority")
                )
                for document in collection.find({}, {"_at": 0}):
                    found[entity, document["_id"]] = document
        return found

    def collection(self, name: str) -> Collection[dict[str, Any]]:
        """One of the mirror's, for damage."""
        return self.client.get_default_database()[name]

    def checkpoint(self, entity: str) -> dict[str, Any]:
        """What the snapshot of an entity has kept; {} while MongoDB does not answer."""
        with suppress(PyMongoError):
            state = self.client.get_default_database().bridge_state
            return state.find_one({"_id": f"snapshot:{entity}"}) or {}
        return {}

    def check_checkpoint(self) -> None:
        """What the snapshot of projects has kept says no more than is in MongoDB."""
        majority = ReadConcern("majority")
        database = self.client.get_default_database()
        state = database.get_collection("bridge_state", read_concern=majority)
        with suppress(PyMongoError):
            point = state.find_one({"_id": "snapshot:project"}) or {}
            if point.get("phase") == "rows" and point["position"]:
                names = [name for name in projects(self.rows) if name <= point["position"][0]]
                found = database.projects.count_documents({"_id": {"$in": names}})
                assert found == len(names), f"{point} and {found} of {len(names)} documents"

    @contextmanager
    def without_majority(self) -> Iterator[Member]:
        """The secondaries take nothing over any more: the primary, which is given, writes, and
        acknowledges nothing."""
        primary = self.mongodb.primary()
        others = [one for one in self.mongodb.members if one.alive and one is not primary]
        for one in others:
            one.wait_ready()  # it may have been started just now
            one.fail_point("stopReplProducer", "alwaysOn")
        try:
            yield primary
        finally:
            for one in others:
                one.fail_point("stopReplProducer", "off")

    def kill_primary_in_a_batch(self) -> tuple[Member, int]:
        """SIGKILL the primary while it holds writes of the bridge that no other member has, so
        that they are rolled back; it, and how many they were. Something must be edited."""
        with self.without_majority() as primary, primary.direct() as client:
            unreplicated = wait_for(lambda: _unreplicated(client), 60, "writes of one member alone")
            primary.kill()
        return primary, unreplicated

    def kill_between_write_and_checkpoint(self, run: Running) -> None:
        """SIGKILL a snapshot that is among the `quiet` projects and waits in vain for a majority:
        as a rule of the documents of the next chunk, before they are in its checkpoint."""

        def seen() -> tuple[int, Any]:
            quiet = self.collection("projects").count_documents({"_id": {"$regex": "^quiet"}})
            return quiet, self.checkpoint("project").get("position")

        run.process.send_signal(signal.SIGSTOP)  # else it may be through before that is so
        with self.without_majority():
            before = seen()
            run.process.send_signal(signal.SIGCONT)
            with suppress(TimedOut):  # it waits already
                wait_for(lambda: seen() != before, 2, interval=0.001)
            run.kill()

    # Commands.

    def begin(self, *words: str) -> Running:
        """Start a `bridge` command."""
        run = Running(words, self.env, self.folder / "commands")
        self._running.callback(run.kill)
        return run

    def bridge(self, *words: str) -> Done:
        """Run a `bridge` command."""
        return self.begin(*words).end()

    def snapshot(self, *words: str) -> Running:
        """Start a snapshot of everything, which waits for nothing."""
        return self.begin("snapshot", "--max-lag", "0", "--max-waiting", "0", *words)

    def reconcile(self, *words: str, wait: str = "2s") -> Done:
        """Reconcile everything; a difference must last for `wait`."""
        return self.bridge("reconcile", "--wait", wait, "-o", "json", *words)

    # What must hold.

    def wait_until_applied(self, bound: float = 90.0) -> None:
        """Wait until MongoDB holds every row of the outbox."""
        wait_for(
            lambda: not self.sql("SELECT COUNT(*) FROM bridge_outbox")[0][0],
            bound,
            "an empty outbox",
            interval=0.1,
        )

    def expected(self) -> dict[Identity, dict[str, Any]]:
        """What MongoDB has to hold by what SQL says, and nothing else."""
        found: dict[Identity, dict[str, Any]] = {}
        for name, version, title in self.sql(
            "SELECT name, ver, title FROM projects WHERE gone = 0"
        ):
            found["project", name] = {"_id": name, "_v": version, "name": name, "title": title}
        words = "SELECT r.project, r.version, r.file, p.ver FROM releases r JOIN projects p ON "
        for project, number, file, version in self.sql(
            f"{words} p.name = r.project AND p.gone = 0"
        ):
            key = f"{project}/{number}"
            found["release", key] = {
                "_id": key, "_v": version, "_parent": project,
                "project": project, "version": number, "file": file,
            }  # fmt: skip
        for name, version, body in self.sql("SELECT name, ver, body FROM pages"):
            found["page", name] = {"_id": name, "_v": version, "name": name, "body": body}
        return found

    def check_equal(self) -> None:
        """Both sides are compared here, without a line of the bridge's code; then by
        `bridgectl reconcile --deep`, which must say the same."""
        self.wait_until_applied()
        expected, found = self.expected(), self.documents()
        alive = {who: one for who, one in found.items() if not one.get("_del")}
        wrong = {
            who: (expected.get(who), alive.get(who))
            for who in expected.keys() | alive.keys()
            if expected.get(who) != alive.get(who)
        }
        assert not wrong, f"{len(wrong)} differ, such as {dict(list(wrong.items())[:3])}"
        lost = [
            (who, version, found.get(who, {}).get("_v"))
            for who, version in self.committed.items()
            if found.get(who, {}).get("_v", -1) < version
        ]
        assert not lost, f"{len(lost)} commits are lost, such as {lost[:3]}"
        done = self.reconcile("--deep")
        assert (done.code, done.differences) == (0, set()), done
        assert done.told["equal"]
        assert sum(one["documents"] for one in done.told["entities"]) == len(expected)
        with self.redis.client() as client:
            assert client.xlen("bridge.events.dead") == 0

    def restart(self, server: Any) -> None:
        """Kill it and start it again."""
        server.kill()
        server.start()

    def waiting(self) -> int:
        """Messages on the queue, read or not."""
        with self.redis.client() as client:
            return int(client.xlen("bridge.events"))

    def wipe(self) -> int:
        """Empty Redis; how many messages were on the queue."""
        waiting = self.waiting()
        with self.redis.client() as client:
            client.flushall()
        return waiting

    def connections(self) -> set[int]:
        """The numbers of all connections to SQL but the one that asks."""
        rows = self.sql("SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()")
        return {number for (number,) in rows}


class HastyRelay(BridgeRelay):
    """`bridgectl relay` that takes a row again after a second or two, not after 15 or 30."""

    def command(self) -> list[str]:
        words = (
            "from bridge.queue.relay.relay import Relay, Timing;"
            "Relay.__init__.__kwdefaults__['timing'] = "
            "Timing(lease=2.0, first_look=0.2, again=1.0, idle=0.05);"
            "from bridge.cli import main;"
            "main()"
        )
        return [sys.executable, "-c", words, "relay", *self.options]


def _unreplicated(client: MongoClient[dict[str, Any]]) -> int:
    """How many operations of the bridge a primary has that its majority does not have."""
    optimes = client.admin.command("replSetGetStatus")["optimes"]
    ours = {"$or": [{"ns": {"$regex": "^bridge\\."}}, {"o.applyOps": {"$exists": True}}]}
    newer = {"ts": {"$gt": optimes["lastCommittedOpTime"]["ts"]}}
    return client.local["oplog.rs"].count_documents({"$and": [newer, ours]})
