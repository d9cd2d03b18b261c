"""How fast the queue is: stock Kombu, ours, a SQL queue, RabbitMQ, and all the way to MongoDB.

The same messages go through every queue of `bench.queue_brokers` and `bench.queue_sql`, one after
the other in every round, on the same machine. Producers and consumers are processes of their own.
A message that is missing, changed or there twice ends the run, and so does one that is left over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from rich.console import Console

from bench.queue_brokers import Contender, RabbitMQQueue, StockKombu, Streams
from bench.queue_events import event, events, same
from bench.queue_mongodb import (
    Worker,
    check_documents,
    dead_letters,
    observe,
    steady_rate,
    stock_worker,
    wait_until,
)
from bench.queue_programs import (
    Program,
    consume,
    publish,
    publish_steadily,
    receive_times,
    running,
)
from bench.queue_report import MongoRows, Row, report
from bench.queue_sql import SqlQueue
from bench.report import BenchmarkFailed, Report
from bridge.queue.broker import connection as broker
from stack.errors import BinaryMissing, TimedOut
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.process import Server
from stack.rabbitmq import RabbitMQ
from stack.redis import Redis
from stack.waiting import wait_for

__all__ = ["run"]

DELAYED, DELAYED_RATE = 40, 50.0
"""Messages of a round for the delay, and how many a second."""
VISIBLE, VISIBLE_RATE = 400, 200.0
"""Events of a round that are looked for in MongoDB, and how many a second."""
E2E, E2E_STOCK = 20_000, 1_000
"""Events of a round, for each second of load."""
E2E_DATABASE = 1
"""Of Redis, for the worker's queue."""
CONSUMERS = 4


@dataclass(frozen=True)
class Servers:
    """What runs; every contender on the same machine with the same peace."""

    redis: Redis
    mariadb: MariaDB
    mongod: Mongod
    rabbitmq: RabbitMQ | None


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Interleaved rounds; medians. Raises BenchmarkFailed when any message is not where it has
    to be, and StackError when a server does not start."""
    progress.print("make the messages", style="dim")
    bodies = events(E2E * seconds)
    progress.print("start the servers", style="dim")
    with _servers(folder, progress) as servers:
        rows, delays = _rows(servers), _delayed(servers)
        for row in (*rows.values(), *delays.values()):
            row.contender.prepare()
        mongo = MongoRows()
        for number in range(rounds):
            # Every other round goes the other way, so that none always follows the same one.
            for name in list(rows) if number % 2 == 0 else reversed(rows):
                progress.print(f"round {number + 1} of {rounds}: {name}", style="dim")
                _throughput(name, rows[name], bodies[: rows[name].messages * seconds])
            progress.print(f"round {number + 1} of {rounds}: delay", style="dim")
            for name, row in delays.items():
                _delay(name, row, number)
            progress.print(f"round {number + 1} of {rounds}: into MongoDB", style="dim")
            _end_to_end(folder, servers, bodies, seconds, number, mongo)
    return report(rows, delays, mongo)


@contextlib.contextmanager
def _servers(folder: Path, progress: Console) -> Iterator[Servers]:
    servers = Servers(
        Redis(folder / "redis"),
        MariaDB(
            folder / "mariadb",
            buffer_pool="256M",
            options=["--innodb-log-file-size=256M"],
        ),
        Mongod(folder / "mongod"),
        _rabbitmq(folder / "rabbitmq", progress),
    )
    every: list[Server] = [servers.redis, servers.mariadb, servers.mongod]
    if servers.rabbitmq is not None:
        every.append(servers.rabbitmq)
    with contextlib.ExitStack() as stack:
        for server in every:
            stack.callback(server.stop)
            server.launch()
        for server in every:
            server.wait_ready()
        yield servers


def _rabbitmq(folder: Path, progress: Console) -> RabbitMQ | None:
    server = RabbitMQ(folder)
    try:
        server.command()
    except BinaryMissing as error:
        progress.print(f"without RabbitMQ: {error}", style="dim")
        return None
    return server


def _rows(servers: Servers) -> dict[str, Row]:
    redis, sql, amqp = servers.redis, servers.mariadb, servers.rabbitmq
    rows = {
        "stock": Row(redis, StockKombu(redis.url, "bench.stock"), 1500),
        "streams_1": Row(redis, Streams(redis.url, "bench.streams.1", 1), 3000),
        "streams_10": Row(redis, Streams(redis.url, "bench.streams.10", 10), 10_000),
        "streams_100": Row(redis, Streams(redis.url, "bench.streams.100", 100), 20_000),
        "streams_200": Row(redis, Streams(redis.url, "bench.streams.200", 200), 20_000),
        "sql": Row(sql, SqlQueue(sql.url, "one_row", 1), 1500),
        "sql_4": Row(sql, SqlQueue(sql.url, "one_row_4", 1), 1500, CONSUMERS),
        "sql_batched": Row(sql, SqlQueue(sql.url, "batched", 200), 20_000),
        "sql_batched_4": Row(sql, SqlQueue(sql.url, "batched_4", 200), 20_000, CONSUMERS),
    }
    if amqp is not None:
        rows["rabbitmq"] = Row(amqp, RabbitMQQueue(amqp.url, "bench.rabbitmq", 100), 3000)
    return rows


def _delayed(servers: Servers) -> dict[str, Row]:
    redis, sql, amqp = servers.redis, servers.mariadb, servers.rabbitmq
    rows = {
        "stock": Row(redis, StockKombu(redis.url, "bench.stock")),
        "streams": Row(redis, Streams(redis.url, "bench.streams.delay", 100)),
        "sql": Row(sql, SqlQueue(sql.url, "polled", 1, poll=0.1)),
        "sql_10ms": Row(sql, SqlQueue(sql.url, "polled", 1, poll=0.01)),
    }
    if amqp is not None:
        rows["rabbitmq"] = Row(amqp, RabbitMQQueue(amqp.url, "bench.rabbitmq", 100))
    return rows


def _throughput(name: str, row: Row, bodies: Sequence[str]) -> None:
    """Publish everything, then consume everything. Raises BenchmarkFailed."""
    used = row.cpu()
    with running(Program(publish, row.contender, bodies)) as [publisher]:
        publisher.go()
        begin, end = publisher.result()
    row.publish_rate.append(len(bodies) * 1e9 / (end - begin))
    expected = len(bodies) if row.consumers == 1 else None
    programs = [Program(consume, row.contender, expected) for _ in range(row.consumers)]
    with running(*programs) as consumers:
        for consumer in consumers:
            consumer.go()
        results = [consumer.result() for consumer in consumers]
    same(name, bodies, [body for _, _, some in results for body in some])
    row.sent += len(bodies)
    begin, end = min(begin for begin, _, _ in results), max(end for _, end, _ in results)
    row.consume_rate.append(len(bodies) * 1e9 / (end - begin))
    row.seconds += row.cpu() - used
    _drained(name, row.contender)


def _delay(name: str, row: Row, number: int) -> None:
    """From the begin of publishing one message until its consumer has it."""
    bodies = [event(n, f"delayed-{number}").to_json() for n in range(DELAYED)]
    programs = (
        Program(receive_times, row.contender, len(bodies)),
        Program(publish_steadily, row.contender, bodies, DELAYED_RATE, 0.9),
    )
    with running(*programs) as [consumer, publisher]:
        consumer.go()
        publisher.go()
        began = dict(zip(bodies, publisher.result(), strict=True))
        received = consumer.result()
    same(f"{name}, one by one", bodies, [body for _, body in received])
    row.sent += len(bodies)
    for moment, body in received:
        text = body if isinstance(body, str) else bytes(body).decode()
        row.delays.append((moment - began[text]) / 1e6)
    _drained(name, row.contender)


def _drained(name: str, contender: Contender) -> None:
    """RabbitMQ takes acknowledgements without an answer, and some time to see to them."""
    try:
        wait_for(lambda: contender.left() == 0, interval=0.1)
    except TimedOut:
        raise BenchmarkFailed(f"{name}: {contender.left()} messages are still there") from None


def _end_to_end(
    folder: Path,
    servers: Servers,
    bodies: Sequence[str],
    seconds: int,
    number: int,
    mongo: MongoRows,
) -> None:
    """The same events into MongoDB by stock Kombu and by `bridgectl worker`, and then how soon an
    event is seen. Raises BenchmarkFailed."""
    some = bodies[: E2E_STOCK * seconds]
    stock = StockKombu(servers.redis.url, "bench.stock")
    with _database(servers.mongod, f"stock_{number}") as client:
        url = servers.mongod.url_of(f"stock_{number}")
        _fill(stock, some)
        with running(Program(stock_worker, stock, url, len(some))) as [worker]:
            worker.go()
            if worker.result() != len(some):
                raise BenchmarkFailed("stock Kombu did not bring all events")
        mongo.stock.append(steady_rate(client))
        check_documents(client, some)
        _drained("stock Kombu into MongoDB", stock)
    redis_url = servers.redis.url_of(E2E_DATABASE)
    streams = Streams(redis_url, broker.EVENTS_QUEUE, 200)
    with _database(servers.mongod, f"worker_{number}") as client:
        url = servers.mongod.url_of(f"worker_{number}")
        _fill(streams, bodies)
        with Worker(folder / "worker", broker_url=redis_url, mongodb_url=url):
            wait_until(client, len(bodies))
            wait_for(lambda: streams.left() == 0, what="the worker's last acknowledgement")
            mongo.worker.append(steady_rate(client))
            check_documents(client, bodies)
            mongo.visible += _visible(streams, url, number)
            wait_for(lambda: streams.left() == 0, what="the worker's last acknowledgement")
    mongo.events += len(some) + len(bodies) + VISIBLE
    with servers.redis.client(E2E_DATABASE) as redis:
        if dead := dead_letters(redis):
            raise BenchmarkFailed(f"the worker has put {dead} events to the dead letters")


@contextlib.contextmanager
def _database(mongod: Mongod, name: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client of a new database, which goes at the end."""
    client: MongoClient[dict[str, Any]]
    with MongoClient(mongod.url_of(name), serverSelectionTimeoutMS=5000) as client:
        yield client
        client.drop_database(name)


def _fill(contender: Contender, bodies: Sequence[str]) -> None:
    with running(Program(publish, contender, bodies)) as [publisher]:
        publisher.go()
        publisher.result()


def _visible(streams: Streams, mongodb_url: str, number: int) -> list[float]:
    """ms from the begin of publishing an event until a majority read of MongoDB has seen it."""
    made = [event(n, f"seen-{number}") for n in range(VISIBLE)]
    versions = {one.key: one.version for one in made}
    programs = (
        Program(observe, mongodb_url, versions),
        Program(publish_steadily, streams, [one.to_json() for one in made], VISIBLE_RATE, 0.0),
    )
    with running(*programs) as [observer, publisher]:
        observer.go()
        publisher.go()
        began: list[int] = publisher.result()
        seen: dict[str, int] = observer.result()
    if missing := len(versions) - len(seen):
        raise BenchmarkFailed(f"{missing} of {len(versions)} events were never seen in MongoDB")
    return [(seen[one.key] - begin) / 1e6 for one, begin in zip(made, began, strict=True)]
