"""Instructions a unit of work, counted in both checkouts beside each other.

A unit is an event that a worker brings from the queue into MongoDB, a row that `bridgectl snapshot`
or `bridgectl reconcile` sees, or a request through `serve`. What a program does once (start,
read its configuration, connect) is not in it: the same work is counted in two sizes, and the
difference is divided by the units between them. Servers are not counted, and both checkouts work
with the same ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from bench.before.callgrind import Counter
from bench.before.checkout import Tree
from bench.before.programs import Commands, Job, Serve, Worker, Wsgi
from bench.fronts import LENGTH, ORIGIN, prepare, routes_yaml, visitor
from bench.queue_events import event
from bench.report import BenchmarkFailed
from bench.sync_forge import Forge, fill_made_up
from bridge.queue.broker import connection as broker
from bridge.queue.events import Event
from stack.load import Page, latencies
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.nginx import Nginx
from stack.redis import Redis
from stack.waiting import wait_for

__all__ = ["COUNTED", "Count", "Counts"]

BOUND = 300.0
"""Seconds that a worker may take for what it is fed at once."""
TIMES = 2
"""How often each size is counted on a side in one go; with `quick` once."""


@dataclass(frozen=True)
class Counts:
    """Instructions for work in two sizes, counted several times; units: how many more units of
    work the large one has."""

    small: Sequence[int]
    large: Sequence[int]
    units: int

    def per_unit(self) -> float:
        """Instructions a unit. Of each size the smallest count is taken: what a program does
        beside the work only adds to it."""
        return (min(self.large) - min(self.small)) / self.units

    def __add__(self, other: Counts) -> Counts:
        """The same work counted again."""
        return Counts((*self.small, *other.small), (*self.large, *other.large), self.units)


Count = Callable[[Tree, Path], dict[str, Counts]]
"""Counts in one checkout, with a new folder; by name of the unit."""


def _sized(counter: Counter, work: Callable[[int], None], size: int, times: int) -> Counts:
    """Counts `work(units)`, which is done once before."""
    work(size)
    counter.take()
    small: list[int] = []
    large: list[int] = []
    for _ in range(times):
        for units, found in ((size, small), (2 * size, large)):
            work(units)
            found.append(counter.take())
    return Counts(small, large, size)


class _Into:
    """Events into MongoDB by a worker, each with a version that was not there before."""

    def __init__(self, redis: Redis, mongod: Mongod) -> None:
        self._redis, self._mongod = redis, mongod

    def count(
        self,
        tree: Tree,
        folder: Path,
        sync: Path,
        events: Sequence[Event],
        size: int,
        times: int,
        sql_url: str = "",
    ) -> Counts:
        """Counts `size` events and twice as many. sql_url: the database that sync.yaml names
        tables of. Raises BenchmarkFailed for an event that does not arrive."""
        url = self._mongod.url_of(folder.name)
        settings = {
            "BRIDGE_BROKER_URL": self._redis.url,
            "BRIDGE_MONGODB_URL": url,
            "BRIDGE_STATE_DIR": str(folder),
            "BRIDGE_SYNC": str(sync),
        } | ({"BRIDGE_SQL_URL": sql_url} if sql_url else {})
        newer = (
            replace(one, version=version).to_json()
            for version, one in zip(count(1), cycle(events), strict=False)
        )
        fed = 0

        def feed(units: int) -> None:
            nonlocal fed
            # In one step, so that the worker finds the same batches each time.
            with redis.pipeline(transaction=True) as pipe:
                for text in islice(newer, units):
                    pipe.xadd(broker.EVENTS_QUEUE, {"body": text})
                pipe.execute()
            fed += units
            wait_for(lambda: redis.xlen(broker.EVENTS_QUEUE) == 0, BOUND, "the worker")

        with self._redis.client() as redis, Worker(tree, folder, settings) as worker:
            feed(size)
            found = _sized(worker.counter(), feed, size, times)
            if dead := redis.xlen(broker.DEAD_QUEUE):
                raise BenchmarkFailed(f"{tree.name}: {dead} events are dead letters")
        client: MongoClient[dict[str, Any]]
        with MongoClient(url) as client:
            highest = _highest_version(client)
            client.drop_database(folder.name)
        if highest != fed:
            raise BenchmarkFailed(f"{tree.name}: MongoDB has version {highest}, not {fed}")
        return found


def _highest_version(client: MongoClient[dict[str, Any]]) -> int:
    database = client.get_default_database()
    names = [name for name in database.list_collection_names() if name in ("projects", "releases")]
    newest = [database[name].find_one(sort=[("_v", -1)]) for name in names]
    return max((int(one["_v"]) for one in newest if one), default=0)


@contextlib.contextmanager
def _queue(folder: Path, quick: bool) -> Iterator[Count]:
    """Events as `bench queue` has them, with its configuration."""
    events = [event(number) for number in range(1000)]
    size, times = (200, 1) if quick else (2000, TIMES)
    with Redis(folder / "redis") as redis, Mongod(folder / "mongod") as mongod:
        into = _Into(redis, mongod)

        def counts(tree: Tree, place: Path) -> dict[str, Counts]:
            sync = tree.path / "bench/minimal_sync.yaml"
            return {"event": into.count(tree, place, sync, events, size, times)}

        yield counts


@contextlib.contextmanager
def _sync(folder: Path, quick: bool) -> Iterator[Count]:
    """The forge: its events with its sync.yaml, and its rows in MariaDB."""
    size, times = (100, 1) if quick else (500, TIMES)
    # A command reads its configuration anew, so its work must be large beside that.
    projects = {"small": size // 2, "large": size * 2}
    with (
        MariaDB(folder / "mariadb") as mariadb,
        Redis(folder / "redis") as redis,
        Mongod(folder / "mongod") as mongod,
    ):
        forges = []
        for name, number in projects.items():
            mariadb.create_database(name)
            one = copy(mariadb)
            one.database = name
            forges.append(fill_made_up(folder / name, one, number))
        # In turn, so that each size has as many of both.
        releases = [one for one in forges[1].events if one.entity == "release"]
        mixed = [one for pair in zip(forges[1].projects, releases, strict=False) for one in pair]
        into = _Into(redis, mongod)

        def counts(tree: Tree, place: Path) -> dict[str, Counts]:
            sync = tree.path / "sync.yaml"
            url = forges[1].mariadb_url
            found = {"event": into.count(tree, place / "events", sync, mixed, size, times, url)}
            env = {
                "BRIDGE_BROKER_URL": redis.url,
                "BRIDGE_STATE_DIR": str(place),
                "BRIDGE_SYNC": str(sync),
            }
            return found | _rows(tree, place / "rows", env, mongod, forges)

        yield counts


def _rows(
    tree: Tree,
    folder: Path,
    env: dict[str, str],
    mongod: Mongod,
    forges: Sequence[Forge],
) -> dict[str, Counts]:
    """Counts the commands that read the rows of the forges, a small and a large one."""
    units = len(forges[1].events) - len(forges[0].events)
    words = {
        "row": ("snapshot", "--restart", "--rewrite"),
        "reconcile_row": ("reconcile", "--wait", "0s"),
        "deep_row": ("reconcile", "--deep", "--wait", "0s"),
    }
    names = [f"{folder.parent.name}_{size}" for size in ("small", "large")]
    sides = [
        {"BRIDGE_SQL_URL": forge.mariadb_url, "BRIDGE_MONGODB_URL": mongod.url_of(name)}
        for forge, name in zip(forges, names, strict=True)
    ]
    jobs: list[Job] = [(side, command) for command in words.values() for side in sides]
    found = {}
    # Once each before it counts: these import, and write where nothing is.
    with Commands.started(tree, folder, env, [*jobs, *jobs]) as commands:
        for _ in jobs:
            commands.run()
        counter = commands.counter()
        for name in words:
            counter.take()
            commands.run()
            small = counter.take()
            commands.run()
            found[name] = Counts([small], [counter.take()], units)
    with mongod.client() as client:
        for name in names:
            client.drop_database(name)
    return found


def _requests(
    size: int, kind: type[Serve] | type[Wsgi]
) -> Callable[..., contextlib.AbstractContextManager[Count]]:
    """`size` requests through such a proxy, and twice as many: pages of legacy, and of a
    handler."""

    @contextlib.contextmanager
    def prepared(folder: Path, quick: bool) -> Iterator[Count]:
        units, times = (100, 1) if quick else (size, TIMES)
        body, headers = b"x" * LENGTH, visitor()
        with Nginx(folder / "origin", ORIGIN, values={"PAGE": body.decode()}) as origin:

            def counts(tree: Tree, place: Path) -> dict[str, Counts]:
                serve = kind(tree, place)
                prepare(serve, routes_yaml(serve.address, origin.url, 40))
                with serve:
                    counter: Counter | None = None
                    found = {}
                    for name, path in (("request", "/q/page"), ("handler_request", "/hello")):
                        page = Page(serve.url + path, headers, body)

                        def ask(requests: int, page: Page = page) -> None:
                            latencies(page, requests=requests)

                        ask(units)
                        counter = counter or serve.counter()
                        found[name] = _sized(counter, ask, units, times)
                return found

            yield counts

    return prepared


COUNTED: dict[str, Callable[..., contextlib.AbstractContextManager[Count]]] = {
    "dispatcher": _requests(300, Wsgi),
    "engine": _requests(1000, Serve),
    "queue": _queue,
    "sync": _sync,
}
"""By benchmark: starts the servers in a folder, `quick` with little work, and gives what counts."""
