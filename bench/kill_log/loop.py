"""Kill everything, again and again, while a site edits; then compare both sides.

Editors change the site's tables in every way that its log shows, and in those that it does not.
Two processes read the log, a worker and a relay carry events beside it, and loads run now and then.
One of them, MariaDB, MongoDB or Redis is killed with SIGKILL, at random, and started again; loads
are killed, too. When the kills have ended the editors go on for a while. Then they stop, and it is
judged: see `judge`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern

from bench.kill_log.editor import Editors
from bench.kill_log.edits import EDITS
from bench.kill_log.judge import Verdict, lost
from bench.kill_log.site import ENTITIES, Capture, Servers, Snapshot
from bench.kill_log.watch import Watcher
from bridge.sync.entities import STATE
from bridge.sync.log.kept import LOG
from stack.errors import LoadFailed, TimedOut, tail
from stack.process import REPOSITORY, Server
from stack.waiting import wait_for

__all__ = ["HUGE", "LogKillLoop"]

HUGE = 50_000
"""Rows of a large transaction."""
OTHER_READS_ON = 7.0
"""Seconds in which the other process reads on, when the one that reads is killed."""

_OF_LOG = [name for name, one in ENTITIES.items() if one.of_log]


@dataclass
class LogKillLoop:
    """folder: for all files. kills: how many SIGKILLs, without those of loads. seed: of what is
    random. calm: seconds for which it is edited after the last one. huge: rows of a large
    transaction. patience: seconds without progress after which nothing more is waited for.
    capture: the class of the processes that read the log, and meddle: what is done to both sides
    before they are judged: to damage it. say: is told what happens; step: that a kill is done.

    loads: how they ended; troubles: what processes said of what they could not do.
    """

    folder: Path
    kills: int = 60
    seed: int = 1
    calm: float = 20.0
    huge: int = HUGE
    patience: float = 60.0
    capture: type[Capture] = Capture
    meddle: Callable[[Servers], object] = lambda servers: None
    say: Callable[[str], None] = lambda text: None
    step: Callable[[], None] = lambda: None
    killed: Counter[str] = field(default_factory=Counter)
    loads: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self.servers = Servers(self.folder, self.capture)
        self.watcher = Watcher(self.servers.mongod)
        self.editors = Editors(self.servers.mariadb, self.seed, EDITS, self.huge)
        self._load: Snapshot | None = None

    def run(self) -> Verdict:
        """Raises LoadFailed when something ended that must not, StackError for a server that does
        not start again."""
        servers = self.servers
        with ExitStack() as running:
            for store in (servers.mariadb, servers.redis, servers.mongod):
                running.enter_context(store)
            servers.make_tables()
            self.watcher.start()
            running.callback(self.watcher.stop)
            for server in servers.processes:
                running.enter_context(server)
            running.callback(self.editors.stop)
            running.callback(self._end_load)
            self.editors.start()
            self._load_first()
            self._kill_all()
            self.editors.calm_down()
            self.say("no more kills; waiting until MongoDB has what was edited so far")
            self._wait_until_there()
            caught_up = time.time()
            self.say(f"it is edited for {self.calm:g} s more")
            self._wait(self.calm)
            self.editors.stop()
            self._check()
            self._finish_load()
            self._wait_until_applied()
            self.meddle(servers)
            return self._judge(caught_up)

    # Loads.

    def _load_first(self) -> None:
        """Beside editors and readers."""
        self._load = self.servers.snapshot(*_OF_LOG)
        self._load.launch()
        self._finish_load()
        if not self.loads["ended with 0"]:
            raise LoadFailed(f"the first load failed: {self.troubles}")

    def _turn_loads(self) -> None:
        """Begin one, or kill the one that runs, or leave it."""
        if self._load is not None and self._load.status is None:
            if self._chance.random() < 0.3:
                self._load.kill()
                self._load = None
                self.loads["killed"] += 1
            return
        self._finish_load()
        name = self._chance.choice(_OF_LOG)
        words = self._chance.choice(([], ["--restart"], ["--rewrite", "--restart"]))
        words = [*words, "--chunk", str(self._chance.choice((50, 1000)))]
        self._load = self.servers.snapshot(name, *words)
        self._load.launch()

    def _finish_load(self) -> None:
        """Wait for the end of the one that runs."""
        if (load := self._load) is None:
            return

        def has_ended() -> bool:
            self._check()
            return load.status is not None

        wait_for(has_ended, 300, "the end of a load", interval=0.1)
        self._load = None
        self.loads[f"ended with {load.status}"] += 1
        if load.status:
            self.troubles[f"load: {load.log_text().strip()[-300:]}"] += 1

    def _end_load(self) -> None:
        if self._load is not None:
            self._load.kill()

    # Kills.

    def _kill_all(self) -> None:
        servers = self.servers
        kinds: list[Callable[[], Server]] = [
            self._a_capture,
            lambda: self._chance.choice([servers.worker, servers.relay]),
            lambda: servers.redis,
            lambda: servers.mongod,
            lambda: servers.mariadb,
        ]
        # Each kind the same number of times, in random order.
        turns = [kinds[number % len(kinds)] for number in range(self.kills)]
        self._chance.shuffle(turns)
        for number, choose in enumerate(turns):
            self._turn_loads()
            self._wait(self._chance.uniform(0.2, 3.0))
            server = choose()
            server.kill()
            self.killed[server.name] += 1
            self.say(f"kill {number + 1} of {self.kills}: {server.name}")
            away = self._chance.uniform(0, 0.7)
            if choose == self._a_capture and self._chance.random() < 0.4:
                away = OTHER_READS_ON
            self._wait(away)
            self._note_troubles(server)
            server.start()
            self.step()
            self._check()

    def _a_capture(self) -> Server:
        """Mostly the one that reads."""
        captures = self.servers.captures
        try:
            owner = (self._kept() or {}).get("owner") or {}
        except PyMongoError:
            owner = {}
        reading = [one for one in captures if one.pid == owner.get("pid")]
        if reading and self._chance.random() < 0.75:
            return reading[0]
        return self._chance.choice(captures)

    def _wait(self, seconds: float) -> None:
        """A time in which the editors go on."""
        time.sleep(seconds)

    def _check(self) -> None:
        """Raises LoadFailed where something has ended that must not."""
        if self.editors.error:
            raise LoadFailed(f"an editor failed: {self.editors.error}")
        if self.watcher.error and not self.watcher.alive:
            raise LoadFailed(f"the watcher failed: {self.watcher.error}")
        for server in self.servers.processes:
            if not server.alive:
                raise LoadFailed(f"{server!r} ended by itself: {tail(server.log)}")

    def _note_troubles(self, server: Server) -> None:
        """What a process that ran said of what it could not do."""
        for line in server.log_text().splitlines():
            if '"level": "error"' in line or "Traceback" in line:
                try:
                    found = json.loads(line)
                    self.troubles[f"{found['event']}: {found.get('cause', '')}"[:300]] += 1
                except (ValueError, KeyError):
                    self.troubles[f"{server.name}: {line[:300]}"] += 1

    # At rest.

    def _kept(self) -> Mapping[str, Any]:
        """The document `log`."""
        with self.servers.mongod.client() as client:
            state = client.get_default_database().get_collection(
                STATE, read_concern=ReadConcern("majority")
            )
            return state.find_one({"_id": LOG}) or {}

    def _sql(self, *statements: str) -> list[tuple[Any, ...]]:
        mariadb = self.servers.mariadb
        return mariadb.execute(f"USE {mariadb.database}", *statements)

    def _wait_until_applied(self) -> None:
        """Until MongoDB has everything, and nothing is marked any more."""
        self._sql("RENAME TABLE IF EXISTS bulk_away TO bulk")
        self.say("nobody edits; waiting until MongoDB has everything")
        self._wait_until_there(lambda kept: not _marks(kept) and not self._waiting())

    def _wait_until_there(
        self, rests: Callable[[Mapping[str, Any]], bool] = lambda kept: True
    ) -> None:
        """Until MongoDB has what is in the log now, and it `rests`, by the document `log`; or until
        nothing goes on any more."""
        [(end,)] = self._sql("SELECT @@gtid_binlog_pos")
        last, since = None, time.monotonic()

        def is_there() -> bool:
            nonlocal last, since
            kept = self._kept()
            place = (kept.get("position") or {}).get("gtid") or "0"
            now = place, sorted(_marks(kept)), self._waiting()
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > self.patience:
                raise TimedOut(f"nothing goes on: {now} of {end}")
            return int(place.rpartition("-")[2]) >= int(end.rpartition("-")[2]) and rests(kept)

        try:
            wait_for(is_there, 900, "everything in MongoDB", interval=0.25)
        except TimedOut as late:
            self.say(str(late))

    def _waiting(self) -> int:
        return int(self._sql("SELECT COUNT(*) FROM bridge_outbox")[0][0])

    def _judge(self, since: float) -> Verdict:
        servers, made = self.servers, list(self.editors.tally.made)
        for server in servers.processes:
            self._note_troubles(server)
        self.say("comparing both sides")
        different, told = self._reconcile()
        with servers.mongod.client() as client:
            gaps = lost(servers.mariadb, client)
            self._wait_for_watcher(client)
        with servers.redis.client() as redis:
            dead = int(redis.xlen("bridge.events.dead"))
            letters = [str(one) for one in redis.xrange("bridge.events.dead", count=3)]
        seen = self.watcher.seen
        unmarked, unhealed = seen.unmarked(made), seen.unhealed()
        missed = set(unmarked)
        return Verdict(
            lost=len(gaps),
            backwards=seen.backwards,
            different=different,
            dead=dead,
            waiting=self._waiting(),
            differs=servers.worker.log.read_text(errors="replace").count('"log.differs"'),
            marks=len(made),
            healed=sum(one not in missed and one.entity not in unhealed for one in made),
            unmarked=unmarked,
            unhealed=unhealed,
            healed_after=seen.healed_after(since),
            told=[*told, *gaps[:10], *seen.told[:10], *letters],
        )

    def _reconcile(self) -> tuple[int, list[str]]:
        """How many differences the product itself finds, and the first few in words."""
        environ = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
        environ |= {**self.servers.env, "PYTHONPATH": str(REPOSITORY)}
        command = [sys.executable, "-m", "bridge", "reconcile", "--deep", "-o", "json"]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=600)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise LoadFailed(f"reconcile ended with {done.returncode}: {done.stderr}") from None
        count = sum(sum(one["counts"].values()) for one in found["entities"])
        if len(found["entities"]) != len(ENTITIES) or found["unchecked"]:
            raise LoadFailed(f"reconcile did not look at everything: {found}")
        if (done.returncode == 0) != found["equal"] or found["equal"] != (count == 0):
            raise LoadFailed(f"reconcile ended with {done.returncode}, and says {found}")
        told = [f"{e['entity']}: {one}" for e in found["entities"] for one in e["differences"][:5]]
        return count, told

    def _wait_for_watcher(self, client: Any) -> None:
        """Until the change stream has shown what MongoDB has in the end."""
        database, seen = client.get_default_database(), self.watcher.seen
        final = {
            (one.collection, found["_id"]): found["_v"]
            for one in ENTITIES.values()
            for found in database[one.collection].find({}, {"_v": 1})
        }
        kept = str(self._kept().get("position", {}).get("gtid", "0"))

        def is_there() -> bool:
            self._check()
            shown = all(seen.last.get(key) == version for key, version in final.items())
            return shown and seen.sequence >= int(kept.rpartition("-")[2] or 0)

        wait_for(is_there, 120, "the change stream at its end", interval=0.2)


def _marks(kept: Mapping[str, Any]) -> list[str]:
    """Entities that are dirty or stopped."""
    return [
        name
        for place in ("dirty", "stopped")
        for name, one in (kept.get(place) or {}).items()
        if one
    ]
