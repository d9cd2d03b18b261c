"""From the queue into MongoDB: what `bench.queue` compares end to end, and how soon it is seen.

Every write is guarded by the version and acknowledged by a majority, journalled. Stock Kombu does
one event after the other, which is all that its API offers. Ours is `bridgectl worker`, started as
an operator starts it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from bench.queue_brokers import StockKombu
from bench.report import BenchmarkFailed
from bridge.queue.broker import connection as broker
from bridge.queue.events import Event
from bridge.sync import indexes
from bridge.sync.apply import apply, connect
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from stack.process import Server
from stack.waiting import wait_for

__all__ = ["Worker", "check_documents", "observe", "steady_rate", "stock_worker", "wait_until"]

BOUND = 120.0
PROJECTS = "projects"
SYNC = Path(__file__).with_name("minimal_sync.yaml")


class Worker(Server):
    """One `bridgectl worker`, ready when it has said so."""

    name: ClassVar[str] = "worker"

    def __init__(self, directory: Path, *, broker_url: str, mongodb_url: str) -> None:
        super().__init__(directory)
        self.env = {
            "BRIDGE_BROKER_URL": broker_url,
            "BRIDGE_MONGODB_URL": mongodb_url,
            "BRIDGE_STATE_DIR": str(directory),
            "BRIDGE_SYNC": str(SYNC),
        }

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "bridge", "worker"]

    def ready(self) -> bool:
        return "queue.connected" in self.log_text()


@contextlib.contextmanager
def stock_worker(
    contender: StockKombu, mongodb_url: str, expected: int
) -> Iterator[Callable[[], Any]]:
    """Writes `expected` events, each before the next is taken."""
    with connect(mongodb_url) as client:
        database = client.get_default_database()
        mirror = Mirror(load(SYNC))
        indexes.ensure(database, mirror)
        done = 0

        def receive(body: bytes | str) -> None:
            nonlocal done
            if apply(database, mirror, [Event.parse(body)]).written != 1:
                raise BenchmarkFailed(f"an event was not written: {body[:200]!r}")
            done += 1

        with contender.consumer(receive) as take:

            def work() -> int:
                while done < expected and take():
                    pass
                return done

            yield work


def wait_until(client: MongoClient[Any], count: int) -> None:
    """Until so many documents are there, without a load that counts."""
    collection = client.get_default_database()[PROJECTS]
    wait_for(
        lambda: collection.estimated_document_count() >= count,
        BOUND,
        f"{count} documents",
        interval=0.1,
    )


def steady_rate(client: MongoClient[Any]) -> float:
    """Documents a second, from the first write to the last, by MongoDB's own clock.

    Every document has the millisecond in which the command that wrote it began. So all but those
    of the last command were written between the first moment and the last.
    """
    collection = client.get_default_database()[PROJECTS]
    pipeline: list[dict[str, Any]] = [
        {"$group": {"_id": "$_at", "n": {"$sum": 1}}},
        {"$sort": {"_id": 1}},
    ]
    moments = list(collection.aggregate(pipeline))
    seconds = (moments[-1]["_id"] - moments[0]["_id"]).total_seconds() if moments else 0.0
    if seconds <= 0:
        raise BenchmarkFailed("there are too few documents for a rate")
    return float(sum(moment["n"] for moment in moments[:-1]) / seconds)


def check_documents(client: MongoClient[Any], sent: Sequence[str]) -> None:
    """Raises BenchmarkFailed unless a majority of MongoDB holds exactly these events."""
    collection = client.get_default_database().get_collection(
        PROJECTS, read_concern=ReadConcern("majority")
    )
    found = {document.pop("_id"): document for document in collection.find({}, {"_at": 0})}
    wanted = {}
    for text in sent:
        event = Event.parse(text)
        wanted[event.key] = {"_v": event.version, **(event.data or {})}
    if found != wanted:
        wrong = sum(found.get(key) != document for key, document in wanted.items())
        raise BenchmarkFailed(
            f"MongoDB holds {len(found)} documents for {len(wanted)} events; {wrong} are wrong"
        )


@contextlib.contextmanager
def observe(
    mongodb_url: str, versions: dict[str, int], name: str = PROJECTS
) -> Iterator[Callable[[], Any]]:
    """Finds when a majority read first saw each key of a collection in its version, in ns.

    A change stream says where to look, so that no poll costs time or takes it from others.
    """
    with connect(mongodb_url) as client:
        collection = client.get_default_database().get_collection(
            name, read_concern=ReadConcern("majority")
        )
        changes = [{"$match": {"operationType": {"$in": ["insert", "update", "replace"]}}}]
        with collection.watch(changes, max_await_time_ms=1000) as stream:
            # The stream exists from its first look on.
            stream.try_next()

            def work() -> dict[str, int]:
                seen: dict[str, int] = {}
                give_up = time.monotonic() + BOUND / 2
                while len(seen) < len(versions) and time.monotonic() < give_up:
                    if (change := stream.try_next()) is None:
                        continue
                    key = change["documentKey"]["_id"]
                    if key in versions and key not in seen:
                        document = collection.find_one({"_id": key}, {"_v": 1})
                        if document is not None and document["_v"] >= versions[key]:
                            seen[key] = time.monotonic_ns()
                return seen

            yield work


def dead_letters(client: Any) -> int:
    """Events that a worker has put aside; client: of Redis."""
    return int(client.xlen(broker.DEAD_QUEUE))
