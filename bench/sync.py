"""How fast MongoDB is made equal, is compared, and is read: naive programs, ours, memcached.

The rows are Debian's packages in the tables of the example forge. In every round come: events by
batches, the first load, both comparisons, and reads; each beside what anybody would do without
the bridge, on the same machine with the same servers. What is not right in the end, or was not
read or written as it had to be, ends the run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from bench.report import BenchmarkFailed, Report
from bench.sync_forge import Forge, fill
from bench.sync_reads import DOCUMENTS, READS, Reads, megabytes, settings_for
from bench.sync_report import Found, report
from bench.sync_sides import Sides
from bench.sync_write import BATCHES, Writer
from bridge.queue.events import Event
from bridge.sync.apply import apply
from bridge.sync.documents import Mirror
from bridge.sync.mongodb import connect
from stack.mariadb import MariaDB
from stack.memcached import Memcached
from stack.mongod import Mongod
from stack.process import Server
from stack.redis import Redis

__all__ = ["run"]

CACHED = 100_000
"""Documents of which the memory is measured."""


@dataclass(frozen=True)
class Servers:
    """What runs all the time."""

    mariadb: MariaDB
    mongod: Mongod
    redis: Redis
    memcached: Memcached


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Interleaved rounds; medians. With one round the rows are the packages that are installed
    here, else all of Debian's. Raises BenchmarkFailed and StackError."""
    quick = rounds == 1
    progress.print("start the servers", style="dim")
    with _servers(folder) as servers:
        progress.print("fill the forge", style="dim")
        forge = fill(folder / "forge", servers.mariadb, every=not quick)
        mirror = Mirror.of(settings_for(servers.mongod.url))
        found = Found(forge.origin, len(forge.events), len(forge.projects[:DOCUMENTS]))
        with _writer(servers.mongod, mirror, forge) as writer:
            parts = _parts(folder, servers, forge, mirror, writer, seconds, found)
            for number in range(rounds):
                # Every other round goes the other way, so that none always follows the same one.
                for name in list(parts) if number % 2 == 0 else reversed(parts):
                    progress.print(f"round {number + 1} of {rounds}: {name}", style="dim")
                    parts[name]()
        progress.print("memory of a cache", style="dim")
        found.megabytes = _memory(servers.mongod, mirror, forge, 2000 if quick else CACHED)
    return report(found)


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[Servers]:
    servers = Servers(
        MariaDB(
            folder / "mariadb",
            database="forge",
            buffer_pool="256M",
            options=["--innodb-log-file-size=256M"],
        ),
        Mongod(folder / "mongod"),
        Redis(folder / "redis"),
        Memcached(folder / "memcached"),
    )
    every: list[Server] = [servers.mariadb, servers.mongod, servers.redis, servers.memcached]
    with contextlib.ExitStack() as stack:
        for server in every:
            stack.callback(server.stop)
            server.launch()
        for server in every:
            server.wait_ready()
        yield servers


@contextlib.contextmanager
def _writer(mongod: Mongod, mirror: Mirror, forge: Forge) -> Iterator[Writer]:
    """Projects and releases in turn, as they come where a site is edited."""
    most = max(BATCHES.values())
    releases = [event for event in forge.events if event.entity == "release"]
    events = [event for pair in zip(forge.projects, releases, strict=False) for event in pair][
        :most
    ]
    with connect(mongod.url_of("written")) as client:
        yield Writer(client.get_default_database(), mirror, events)


def _parts(
    folder: Path,
    servers: Servers,
    forge: Forge,
    mirror: Mirror,
    writer: Writer,
    seconds: int,
    found: Found,
) -> dict[str, Callable[[], None]]:
    """What a round consists of; each puts what it finds into `found`."""
    reads = _reads(servers, mirror, forge)
    sides = Sides(folder, forge, servers.mongod, servers.redis, mirror)

    def naive() -> None:
        found.naive.append(writer.naive(seconds))

    def applied(size: int) -> None:
        found.applied.setdefault(size, []).append(writer.batches(size, seconds))

    def snapshot(kind: str, url: str) -> None:
        rate, whole = sides.snapshot(url, kind)
        found.sides.setdefault(f"snapshot_{kind}", []).append(rate)
        found.sides.setdefault(f"snapshot_{kind}_process", []).append(whole)

    def reconcile(name: str, kind: str, url: str, *words: str) -> None:
        found.sides.setdefault(name, []).append(sides.reconcile(url, kind, *words))

    def read(way: str) -> None:
        micros, cpu = reads.measure(way, seconds)
        found.reads.setdefault(way, []).append(micros)
        found.cpu.setdefault(way, []).append(cpu)

    sql = {"mariadb": forge.mariadb_url, "sqlite": forge.sqlite_url}
    parts: dict[str, Callable[[], None]] = {"naive writer": naive}
    for size in BATCHES:
        parts[f"apply, batch {size}"] = partial(applied, size)
    for kind, url in sql.items():
        parts[f"snapshot, {kind}"] = partial(snapshot, kind, url)
    # The first round loads before it compares; later ones compare what the one before has loaded.
    for kind, url in sql.items():
        parts[f"reconcile, {kind}"] = partial(reconcile, f"reconcile_{kind}", kind, url)
    url = forge.mariadb_url
    parts["reconcile --deep"] = partial(reconcile, "reconcile_deep", "mariadb", url, "--deep")
    for way in READS:
        parts[f"read, {way}"] = partial(read, way)
    return parts


def _reads(servers: Servers, mirror: Mirror, forge: Forge) -> Reads:
    projects = forge.projects[:DOCUMENTS]
    url = servers.mongod.url_of("reads")
    _write(url, mirror, projects)
    reads = Reads(url, servers.memcached, projects)
    reads.prepare()
    return reads


def _memory(mongod: Mongod, mirror: Mirror, forge: Forge, count: int) -> float:
    """MB for 100,000 documents, measured with `count`: the forge's projects, and the same under
    other names where there are not so many."""
    url, projects = mongod.url_of("memory"), forge.projects
    events: list[Event] = []
    for number in range(count):
        event = projects[number % len(projects)]
        events.append(replace(event, key=f"{event.key}.{number}"))
    _write(url, mirror, events)
    return megabytes(url, [event.key for event in events]) * CACHED / count


def _write(url: str, mirror: Mirror, events: list[Event]) -> None:
    with connect(url) as client:
        database = client.get_default_database()
        for start in range(0, len(events), 1000):
            if failed := apply(database, mirror, events[start : start + 1000]).failed:
                raise BenchmarkFailed(f"{failed[0].event.key}: {failed[0].error}")
