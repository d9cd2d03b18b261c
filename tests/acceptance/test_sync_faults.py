"""Servers and programs are killed under a stream of edits, and afterwards both sides are equal.

Each test ends with `FaultSite.check_equal`: both sides compared by the test itself, then by
`bridgectl reconcile --deep`. They share one site, which is never set up anew between the faults.
"""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from pymongo.errors import PyMongoError

from stack.process import Server
from stack.replicaset import Member
from stack.waiting import wait_for
from tests.acceptance.fault_commands import Difference, Done, Running
from tests.acceptance.fault_damage import damage, overtake
from tests.acceptance.fault_site import FaultSite
from tests.acceptance.following import Following, Verdict

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultSite]:
    """Everything runs; MongoDB is empty and SQL is not."""
    with FaultSite(tmp_path_factory.mktemp("faults")) as site:
        yield site


@pytest.fixture(scope="module")
def loaded(site: FaultSite) -> FaultSite:
    """Both sides are equal."""
    if not site.checkpoint("page"):
        assert site.snapshot().end().code == 0
    return site


def check(verdict: Verdict, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that followed has kept every promise."""
    with capsys.disabled():
        print(f"\n{verdict}"[:600])
    assert (verdict.old, verdict.unheard, verdict.backwards) == ([], [], [])
    assert verdict.hits > 100
    assert verdict.reads - verdict.hits > 100


def wait_for_step(
    site: FaultSite, run: Running, entity: str, phase: str = "rows", rows: int = 0
) -> None:
    """Wait until a snapshot is in this phase of an entity, with so many rows at least."""

    def there() -> bool:
        assert run.process.poll() is None, f"it has ended: {run.said}"
        site.check_checkpoint()
        point = site.checkpoint(entity)
        owner = point.get("owner") or {}
        mine = owner.get("pid") == run.process.pid
        return mine and point.get("phase") == phase and point["rows"] >= rows

    wait_for(there, 30, f"{rows} rows of {entity}", interval=0.001)


def plant_orphans(site: FaultSite) -> None:
    """Documents, and one that belongs to another one, that have no row."""
    alive = {"_v": 3, "name": "o"}
    for number in range(3):
        name = f"orphan{number}"
        child = {"_parent": name, "version": "1"} | alive
        site.collection("pages").replace_one({"_id": name}, alive, upsert=True)
        site.collection("projects").replace_one({"_id": name}, alive, upsert=True)
        site.collection("releases").replace_one({"_id": f"{name}/1"}, child, upsert=True)


@pytest.mark.slow
def test_everything_dies_once_in_the_first_load_and_nothing_is_lost(
    site: FaultSite, capsys: pytest.CaptureFixture[str]
) -> None:
    """MongoDB's primary, with writes that no other member has; the load, among rows that nobody
    edits, and a worker; SQL. And what has no row any more is found."""
    words = ["--chunk", "10", "--rate", "150", "-o", "json"]
    plant_orphans(site)
    with Following(site) as following:
        with site.editing():
            run = site.snapshot(*words)
            wait_for_step(site, run, "project", "rows", 40)
            old, unreplicated = site.kill_primary_in_a_batch()
            assert unreplicated > 0
            assert site.mongodb.primary() is not old
            old.launch()
            wait_for_step(site, run, "project", "rows", site.rows)
            site.kill_between_write_and_checkpoint(run)
            site.workers[0].kill()
            site.workers[0].launch()
            run = site.snapshot(*words)
            wait_for_step(site, run, "page", "rows", 20)
            site.mariadb.kill()
            wait_for(lambda: "page: waiting for SQL" in run.said, 30, "it to wait for SQL")
            site.mariadb.start()
            done = run.end()
            assert done.code == 0, done
            for text in ("project: going on after", "page: SQL is back"):
                assert text in done.errors
            following.wait_for_answers()
        site.mongodb.wait_complete()
        wait_for(lambda: '"Rollback summary"' in old.log_text(), 20, "what it alone had to go")
        site.check_equal()
        check(following.verdict(), capsys)


def test_redis_wiped_and_killed_loses_nothing(loaded: FaultSite) -> None:
    """With events in it that nobody has read, and others that a killed worker holds."""
    site = loaded
    with site.editing():
        for worker in site.workers:
            worker.signal(signal.SIGSTOP)
        wait_for(lambda: site.waiting() > 20, 20, "a queue")
        assert site.wipe() > 20
        site.workers[0].kill()
        site.workers[1].signal(signal.SIGCONT)
        site.wait_for_edits(20)
        site.redis.kill()
        site.wait_for_edits(20)
        site.redis.start()
        site.workers[0].launch()
    site.check_equal()


def test_a_secondary_that_lags_or_hangs_shows_nothing_old(
    loaded: FaultSite, capsys: pytest.CaptureFixture[str]
) -> None:
    """To a process that reads from the nearest member and has heard of something newer."""
    site = loaded
    late = site.mongodb.secondaries()[0]
    with Following(site) as following, site.editing(), late.direct() as client:
        following.wait_for_answers()
        client.admin.command("fsync", lock=True)

        def asked() -> int:
            return int(client.admin.command("serverStatus")["opcounters"]["query"])

        before = asked()
        site.wait_for_edits(100)
        wait_for(lambda: asked() > before + 20, 20, "what the member that lags is asked")
        client.admin.command("fsyncUnlock")
        late.freeze()
        site.wait_for_edits(100)
        late.thaw()
        following.wait_for_answers()
        check(following.verdict(), capsys)


def begin_reconcile(site: FaultSite) -> Running:
    """A slow one, in the middle of its work."""
    before = site.connections()
    run = site.begin("reconcile", "--deep", "--rate", "300", "--wait", "2s", "-o", "json")
    wait_for(lambda: site.connections() - before, 30, "it to ask SQL")
    site.wait_for_edits(30)
    return run


def no_verdict(done: Done, server: str) -> None:
    """It says which server is away, and nothing of a difference."""
    assert (done.code, done.told) == (4, None), done
    assert f"{server} does not answer" in done.errors


def repair(site: FaultSite, differences: set[Difference]) -> None:
    """Repair what can be repaired; what is ahead of SQL is named again, and SQL overtakes it."""
    ahead = {one for one in differences if one[1] == "ahead"}
    done = site.reconcile("--deep", "--repair", wait="1s")
    assert (done.code, done.differences) == (1, ahead), done
    overtake(site, *(key for _, _, key in ahead))


# The long forms.


Step = tuple[str, str, int]
"""Entity, phase, rows: where a snapshot is killed."""
STEPS: list[Step] = [
    ("project", "rows", 0),
    *(("project", "rows", rows) for rows in range(20, 200, 60)),
    ("project", "gone", 0),
    ("page", "rows", 0),
    *(("page", "rows", rows) for rows in range(20, 200, 60)),
    ("page", "gone", 0),
]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_snapshot_killed_at_every_step_is_completed(loaded: FaultSite) -> None:
    """And a worker with it each time, while rows are edited and deleted, and with documents that
    have no row."""
    site = loaded
    plant_orphans(site)
    words = ["--chunk", "10", "--rate", "200", "-o", "json"]
    with site.editing():
        for number, (entity, phase, rows) in enumerate(STEPS):
            run = site.snapshot(*words, *(["--restart"] if number == 0 else []))
            wait_for_step(site, run, entity, phase, rows)
            run.kill()
            site.restart(site.workers[number % len(site.workers)])
        done = site.snapshot(*words).end()
        assert done.code == 0, done
        assert sum(one["buried"] for one in done.told) == 3  # of the last entity
    found = site.documents()
    for entity, key in (("project", ""), ("page", ""), ("release", "/1")):
        assert all(found[entity, f"orphan{number}{key}"]["_del"] for number in range(3))
    site.check_equal()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_reconcile_over_failovers_is_never_wrong(loaded: FaultSite) -> None:
    """It waits, or says that MongoDB is away; with damage or without."""
    site = loaded
    differences: set[Difference] = set()
    for number in range(4):
        if number == 2:
            differences = damage(site, 8)
        with site.editing(editors=1, pause=0.03):
            run = begin_reconcile(site)
            old = site.mongodb.kill_primary()
            done = run.end(120)
            old.start()
            site.mongodb.wait_complete()
        if done.code == 4:
            no_verdict(done, "MongoDB")
        else:
            assert (done.code, done.differences) == (1 if differences else 0, differences)
    repair(site, differences)
    site.check_equal()


class Storm:
    """Faults in random order; each ends when what it broke runs again."""

    def __init__(self, site: FaultSite, seed: int) -> None:
        self.site, self.chance = site, random.Random(seed)
        self.counts: Counter[str] = Counter()

    def rage(self, rounds: int) -> None:
        """Each kind of fault so many times."""
        kinds: list[Callable[[], None]] = [
            self.primary_in_a_batch, self.primary, self.step_down, self.secondary,
            self.frozen_secondary, self.redis, self.wipe, self.worker, self.relay, self.sql,
        ]  # fmt: skip
        turns = kinds * rounds
        self.chance.shuffle(turns)
        for fault in turns:
            fault()
            self.counts[fault.__name__] += 1
            self.site.wait_for_edits(20)

    def primary_in_a_batch(self) -> None:
        old, _ = self.site.kill_primary_in_a_batch()
        self.site.mongodb.primary()
        self._start(old)

    def primary(self) -> None:
        self._start(self.site.mongodb.kill_primary())

    def step_down(self) -> None:
        with self.site.mongodb.primary().direct() as client, suppress(PyMongoError):
            client.admin.command("replSetStepDown", 5, secondaryCatchUpPeriodSecs=2)
        self.site.mongodb.wait_complete()

    def secondary(self) -> None:
        one = self.chance.choice(self.site.mongodb.secondaries())
        one.kill()
        self._start(one)

    def frozen_secondary(self) -> None:
        one = self.chance.choice(self.site.mongodb.secondaries())
        one.freeze()
        self.site.wait_for_edits(100)
        one.thaw()
        self.site.mongodb.wait_complete()

    def redis(self) -> None:
        self._restart(self.site.redis)

    def wipe(self) -> None:
        self.site.wipe()

    def worker(self) -> None:
        self._restart(self.chance.choice(self.site.workers))

    def relay(self) -> None:
        self._restart(self.site.relay)

    def sql(self) -> None:
        self.site.mariadb.kill()
        threading.Event().wait(self.chance.uniform(0, 2))
        self.site.mariadb.start()

    def _restart(self, server: Server) -> None:
        server.kill()
        self.site.wait_for_edits(10)
        server.start()

    def _start(self, member: Member) -> None:
        self.site.wait_for_edits(10)
        member.start()
        self.site.mongodb.wait_complete()


def load_again_and_again(site: FaultSite, stop: threading.Event, counts: Counter[str]) -> None:
    """Snapshots, half of them killed; what ends by itself has either done its work or says which
    server was away when it began."""
    chance = random.Random()
    while not stop.is_set():
        run = site.snapshot("--chunk", "20", "--rate", "200", "-o", "json")
        if chance.random() < 0.5:
            stop.wait(chance.uniform(1, 6))
            run.kill()
            counts["loads killed"] += 1
        else:
            done = run.end(120)
            assert done.code in (0, 4), done
            counts["loads ended" if done.code == 0 else "loads refused"] += 1


def reconcile_again_and_again(site: FaultSite, stop: threading.Event, counts: Counter[str]) -> None:
    """Nothing is damaged, so no verdict is `differs`."""
    while not stop.is_set():
        done = site.reconcile("--deep", wait="15s")
        assert done.code == 0 or (done.code == 4 and "does not answer" in done.errors), done
        counts["equal" if done.code == 0 else "no verdict"] += 1


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_a_storm_of_faults_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the relay as in production, while snapshots and reconciles run without end."""
    counts: Counter[str] = Counter()
    with FaultSite(tmp_path, patient=True) as site, Following(site) as following:
        assert site.snapshot().end().code == 0
        storm = Storm(site, seed=1)
        with (
            site.editing(pause=0.03),
            in_background(lambda stop: load_again_and_again(site, stop, counts)),
            in_background(lambda stop: reconcile_again_and_again(site, stop, counts)),
        ):
            storm.rage(3)
        with capsys.disabled():
            print(f"\n{site.edits} edits, {storm.counts}, {counts}")
        site.wait_until_applied(400)
        assert site.snapshot().end().code == 0
        site.check_equal()
        check(following.verdict(), capsys)
        with site.editing(editors=1, pause=0.03):
            differences = damage(site, 0)
            done = site.reconcile("--deep")
            assert (done.code, done.differences) == (1, differences)
            repair(site, differences)
        site.check_equal()
    assert counts["equal"] > 0


@contextmanager
def in_background(do: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `do` on a thread until the end of the context; raise what it raised."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(do, stop)
        try:
            yield
        finally:
            stop.set()
    running.result()


@pytest.mark.slow
def test_a_reconcile_without_sql_gives_no_verdict_and_with_it_the_right_one(
    loaded: FaultSite,
) -> None:
    """Both sides are damaged: each difference is named, and nothing else, while visitors edit.

    The last one here, because it leaves the damage.
    """
    site = loaded
    with site.editing(editors=1, pause=0.05):
        differences = damage(site, 0)
        run = begin_reconcile(site)
        site.mariadb.kill()
        no_verdict(run.end(), "the SQL database")
        site.mariadb.start()
        done = site.reconcile("--deep", wait="1s")
        assert (done.code, done.differences) == (1, differences)
