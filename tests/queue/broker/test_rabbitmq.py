"""The same worker, relay and dead letters on RabbitMQ, and what only RabbitMQ can do to them."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog
from pymongo.database import Database

from bridge.errors import BridgeError, ServerMissing, Stopped
from bridge.queue import waiting
from bridge.queue.broker import amqp
from bridge.queue.broker import connection as broker
from bridge.queue.broker.connection import Broker
from bridge.queue.broker.publisher import Publisher
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters, Filter
from bridge.queue.events import Event
from bridge.queue.relay.relay import Relay
from bridge.queue.sql import outbox
from bridge.settings import Settings
from bridge.sync.worker import Counters, run_worker
from stack.errors import BinaryMissing
from stack.ports import free_port
from stack.process import REPOSITORY
from stack.rabbitmq import RabbitMQ
from tests.minimal_sync import write_sync

Wait = Callable[..., Any]
Start = Callable[..., Any]


def _settings(folder: Path, broker_url: str, mongodb_url: str) -> Settings:
    sync = write_sync(folder)
    return Settings(folder / "routes.yaml", broker_url, mongodb_url, folder, sync=sync)


def changed(key: str, version: int) -> Event:
    return Event("project", "changed", key, version, {"name": key})


def publish(url: str, *events: Event) -> None:
    with Publisher(url) as publisher:
        publisher.publish_many(events)


def publish_raw(url: str, *bodies: bytes) -> None:
    with broker.connect(url) as connection:
        connection.declare(broker.EVENTS_QUEUE)
        for body in bodies:
            message = connection.channel.prepare_message(body)
            connection.channel.basic_publish(message, routing_key=broker.EVENTS_QUEUE)


def ready(url: str, queue: str = broker.EVENTS_QUEUE) -> int:
    """Messages that wait on the queue and that nobody holds."""
    with broker.connect(url) as connection:
        declared = connection.channel.queue_declare(queue, passive=True)
        return int(declared.message_count)


def dead_letters(url: str) -> list[DeadLetter]:
    with broker.connect(url) as connection:
        return DeadLetters(connection).letters(limit=None)


def letter(number: int, **fields: Any) -> DeadLetter:
    time = f"2026-01-01T00:00:{number:02}Z"
    usual: dict[str, Any] = {
        "id": f"id{number}",
        "raw": b"%d" % number,
        "part": "body",
        "error": f"error {number}",
    }
    return DeadLetter(**usual | {"first_time": time, "last_time": time, "count": 1} | fields)


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ of this file's own, to be killed; every test finds it running."""
    server = RabbitMQ(tmp_path_factory.mktemp("killable"))
    try:
        server.command()
    except BinaryMissing as missing:
        pytest.skip(f"{missing}, or: scripts/test --all")
    with server:
        yield server


_vhosts = iter(range(1000))


@pytest.fixture
def killable_url(killable: RabbitMQ) -> Iterator[str]:
    """The URL of an empty vhost there."""
    yield killable.start().create_vhost(f"test_{next(_vhosts)}")
    killable.start()


class Cable:
    """Between a consumer and RabbitMQ; it can be cut, and is whole again at once."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Both sides lose their connections."""
        ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                other = socket.create_connection(("127.0.0.1", self._port))
                self._ends += one, other
                for pair in ((one, other), (other, one)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@pytest.fixture
def cable(rabbitmq: RabbitMQ) -> Iterator[Cable]:
    made = Cable(rabbitmq.port)
    yield made
    made.close()


@pytest.fixture
def quick_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent broker is noticed after two seconds instead of twenty."""
    monkeypatch.setattr(amqp, "HEARTBEAT", 1)


# Consuming.


def test_events_arrive_in_batches_and_are_gone_afterwards(
    rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    publish(rabbitmq_url, *(changed(f"p{n}", n) for n in range(1000)))
    running = start(rabbitmq_url, receiver)

    wait_for(lambda: len(receiver.versions) == 1000)
    running.stop()
    assert sorted(receiver.versions) == list(range(1000))
    assert max(len(batch) for batch in receiver.batches) > 1
    assert ready(rabbitmq_url) == 0


def test_the_events_are_on_a_quorum_queue_and_dead_letters_live_for_thirty_days(
    rabbitmq: RabbitMQ, rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    publish(rabbitmq_url, changed("vim", 1))
    start(rabbitmq_url, receiver)
    wait_for(lambda: receiver.versions == [1])

    vhost = rabbitmq_url.rpartition("/")[2]
    lines = rabbitmq.control("list_queues", "-p", vhost, "name", "type", "arguments").splitlines()

    queues = {line.split("\t")[0]: line for line in lines}
    assert "quorum" in queues[broker.EVENTS_QUEUE]
    assert "quorum" in queues[broker.DEAD_QUEUE]
    assert "2592000000" in queues[broker.DEAD_QUEUE]


def test_garbage_becomes_dead_letters_with_its_raw_bytes_and_its_neighbours_arrive(
    rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    garbage = [b"nonsense", b"\xff\xfe", b"", b"[1]", b"{}"]
    for number, raw in enumerate(garbage):
        publish(rabbitmq_url, changed(f"p{number}", number))
        publish_raw(rabbitmq_url, raw)
    running = start(rabbitmq_url, receiver)

    wait_for(lambda: running.counters.dead == len(garbage))
    running.stop()
    assert sorted(receiver.versions) == list(range(len(garbage)))
    assert sorted(found.raw for found in dead_letters(rabbitmq_url)) == sorted(garbage)
    assert ready(rabbitmq_url) == 0


def test_bytes_that_claim_another_encoding_stay_as_they_are(
    rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    with broker.connect(rabbitmq_url) as connection:
        channel: Any = connection.channel
        connection.declare(broker.EVENTS_QUEUE)
        message = channel.prepare_message(b"\xe9", content_encoding="latin-1")
        channel.basic_publish(message, routing_key=broker.EVENTS_QUEUE)
    running = start(rabbitmq_url, receiver)

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    assert [found.raw for found in dead_letters(rabbitmq_url)] == [b"\xe9"]


def test_what_fails_is_tried_again_and_its_neighbours_are_acknowledged_meanwhile(
    rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    def broken(events: Sequence[Event]) -> Any:
        if any(event.version == 5 for event in events):
            raise KeyError("mistake")
        return receiver(events)

    publish(rabbitmq_url, *(changed(f"p{n}", n) for n in range(10)))
    running = start(rabbitmq_url, broken)
    wait_for(lambda: running.counters.retried == 1)
    publish(rabbitmq_url, changed("late", 10))
    wait_for(lambda: 10 in receiver.versions)
    running.stop()

    assert sorted(receiver.versions) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    wait_for(lambda: ready(rabbitmq_url) == 1)
    start(rabbitmq_url, receiver)
    wait_for(lambda: 5 in receiver.versions)


def test_what_fails_five_times_is_a_dead_letter(
    rabbitmq_url: str, start: Start, wait_for: Wait
) -> None:
    def broken(events: Sequence[Event]) -> None:
        raise KeyError("mistake")

    publish(rabbitmq_url, changed("vim", 1))
    running = start(rabbitmq_url, broken, retry_wait=lambda tries: 0.01)

    wait_for(lambda: running.counters.dead == 1)
    running.stop()
    (found,) = dead_letters(rabbitmq_url)
    assert found.error == "failed 5 times, the last time with KeyError: 'mistake'"
    assert ready(rabbitmq_url) == 0


def test_what_came_back_five_times_is_a_dead_letter_and_not_tried_again(
    rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    publish(rabbitmq_url, changed("vim", 1))
    with broker.connect(rabbitmq_url) as connection:
        channel: Any = connection.channel
        for _ in range(5):
            found = wait_for(lambda: channel.basic_get(broker.EVENTS_QUEUE))
            channel.basic_reject(found.delivery_tag, requeue=True)
    publish(rabbitmq_url, changed("git", 2))
    running = start(rabbitmq_url, receiver)

    wait_for(lambda: running.counters.dead == 1)
    wait_for(lambda: receiver.versions == [2])
    running.stop()
    (buried,) = dead_letters(rabbitmq_url)
    assert (buried.key, buried.version) == ("vim", "1")
    assert buried.error.startswith("it was delivered 5 times")


def test_a_consumer_that_stops_gives_all_it_was_sent_back_without_a_word_of_warning(
    rabbitmq_url: str,
    receiver: Any,
    start: Start,
    wait_for: Wait,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def stopped(events: Sequence[Event]) -> None:
        raise Stopped("told to stop")

    publish(rabbitmq_url, *(changed(f"p{n}", n) for n in range(1500)))
    with caplog.at_level(logging.WARNING, logger="amqp"):
        running = start(rabbitmq_url, stopped)
        wait_for(lambda: not running.alive)

    assert running.error is None
    assert caplog.records == []
    wait_for(lambda: ready(rabbitmq_url) == 1500)
    start(rabbitmq_url, receiver)
    wait_for(lambda: len(receiver.versions) == 1500)


# Connections end.


def test_connections_that_break_while_an_event_is_used_are_not_held_against_it(
    rabbitmq: RabbitMQ,
    rabbitmq_url: str,
    cable: Cable,
    receiver: Any,
    start: Start,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "LONGEST_DELAY", 0.01)

    def cut(events: Sequence[Event]) -> Any:
        if len(receiver.batches) < 8:
            cable.cut()
        return receiver(events)

    publish(rabbitmq_url, changed("vim", 1), changed("git", 2))
    url = rabbitmq_url.replace(str(rabbitmq.port), str(cable.port))
    running = start(url, cut)

    # Five of these deliveries would be too many.
    wait_for(lambda: len(receiver.batches) > 8 or running.counters.dead, bound=30)
    running.stop()
    assert running.counters.dead == 0
    assert set(receiver.versions) == {1, 2}
    assert ready(rabbitmq_url) == 0


def test_connections_that_break_while_an_event_waits_for_another_try_are_not_held_against_it(
    rabbitmq: RabbitMQ,
    rabbitmq_url: str,
    cable: Cable,
    start: Start,
    wait_for: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "LONGEST_DELAY", 0.01)

    def broken(events: Sequence[Event]) -> None:
        raise KeyError("mistake")

    publish(rabbitmq_url, changed("vim", 1))
    running = start(rabbitmq_url.replace(str(rabbitmq.port), str(cable.port)), broken)
    for number in range(1, 8):
        wait_for(lambda number=number: running.counters.retried == number)
        cable.cut()

    wait_for(lambda: running.counters.retried == 8)
    running.stop()
    assert running.counters.dead == 0


def test_a_long_wait_of_the_receiver_does_not_cost_the_connection(
    rabbitmq_url: str,
    quick_heartbeat: None,
    receiver: Any,
    start: Start,
    wait_for: Wait,
) -> None:
    forever = threading.Event()

    def slow(events: Sequence[Event]) -> Any:
        if not receiver.batches:
            # Several times as long as RabbitMQ waits for a sign of life.
            forever.wait(6)
        return receiver(events)

    publish(rabbitmq_url, changed("vim", 1))
    running = start(rabbitmq_url, slow)

    wait_for(lambda: receiver.versions == [1], bound=20)
    publish(rabbitmq_url, changed("vim", 2))
    wait_for(lambda: receiver.versions == [1, 2], bound=20)
    running.stop()
    # A lost connection would have brought the first again.
    assert running.counters.received == 2
    assert ready(rabbitmq_url) == 0


def test_a_queue_that_somebody_deletes_is_made_again_and_consumed(
    rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    running = start(rabbitmq_url, receiver)
    publish(rabbitmq_url, changed("vim", 1))
    wait_for(lambda: receiver.versions == [1])
    with broker.connect(rabbitmq_url) as connection:
        channel: Any = connection.channel
        channel.queue_delete(broker.EVENTS_QUEUE)

        def there() -> bool:
            try:
                return bool(channel.queue_declare(broker.EVENTS_QUEUE, passive=True))
            except connection.errors:
                return False

        wait_for(there)
    publish(rabbitmq_url, changed("vim", 2))

    wait_for(lambda: receiver.versions == [1, 2])
    assert running.alive


def test_a_rabbitmq_that_hangs_is_noticed_and_waited_for(
    killable: RabbitMQ,
    killable_url: str,
    quick_heartbeat: None,
    receiver: Any,
    start: Start,
    wait_for: Wait,
    caplog: pytest.LogCaptureFixture,
) -> None:
    notes: list[dict[str, Any]] = []

    class Log:
        def info(self, event: str, **fields: Any) -> None: ...

        def warning(self, event: str, **fields: Any) -> None:
            notes.append({"event": event, **fields})

    running = start(killable_url, receiver)
    running.consumer._log = Log()
    publish(killable_url, changed("vim", 1))
    wait_for(lambda: receiver.versions == [1])

    pids = killable.processes()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        noticed = wait_for(lambda: [note for note in notes if note["event"] == "queue.waiting"])
        assert "heartbeats" in noticed[0]["cause"]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    publish(killable_url, changed("vim", 2))
    wait_for(lambda: 2 in receiver.versions, bound=30)
    assert running.counters.dead == 0


@pytest.mark.parametrize("waiting", [0, 1, 3])
def test_messages_are_counted_and_stay(rabbitmq_url: str, wait_for: Wait, waiting: int) -> None:
    with broker.connect(rabbitmq_url) as connection:
        assert connection._count(broker.EVENTS_QUEUE) is None
        connection.declare(broker.EVENTS_QUEUE)
        publish(rabbitmq_url, *(changed("vim", n) for n in range(waiting)))
        for _ in range(3):
            assert connection._count(broker.EVENTS_QUEUE) == waiting
    assert ready(rabbitmq_url) == waiting


def test_an_answer_that_does_not_come_is_not_waited_for_although_heartbeats_do(
    rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ sends them while it is stuck with a question."""
    errors: list[BaseException] = []
    monkeypatch.setattr(amqp, "HEARTBEAT", 2)
    connection = broker.connect(rabbitmq_url, consumes=True, socket_timeout=2.5)
    raw: Any = connection.connection.connection
    before = raw.bytes_recv

    def ask() -> None:
        try:
            connection.channel.wait((60, 99))
        except Exception as error:
            errors.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(30)

    assert "no answer for 2.5 s" in str(errors)
    assert raw.bytes_recv > before
    connection.drop()


# Dead letters.


@pytest.fixture
def connection(rabbitmq_url: str) -> Iterator[Broker]:
    with broker.connect(rabbitmq_url) as made:
        made.declare(broker.EVENTS_QUEUE)
        yield made


def test_letters_are_listed_in_order_again_and_again(connection: Broker) -> None:
    letters = DeadLetters(connection)
    for number in range(50):
        letters.put(letter(number))

    for _ in range(5):
        assert [found.id for found in letters.letters()] == [f"id{n}" for n in range(50)]
    assert len(letters) == 50


def test_letters_are_retried_and_dropped_by_filter(connection: Broker, rabbitmq_url: str) -> None:
    letters = DeadLetters(connection)
    for number in range(4):
        letters.put(letter(number, part="envelope" if number == 3 else "body"))

    assert letters.retry(Filter(error="ERROR 1")) == (1, 0)
    assert [found.id for found in letters.drop(Filter(ids=frozenset({"id2"})))] == ["id2"]
    assert letters.retry() == (1, 1)
    assert [found.id for found in letters.letters()] == ["id3"]
    assert ready(rabbitmq_url) == 2
    assert ready(rabbitmq_url, broker.DEAD_QUEUE) == 1


def test_a_retried_letter_that_fails_again_counts_up_and_keeps_its_name(
    rabbitmq_url: str, receiver: Any, start: Start, wait_for: Wait
) -> None:
    receiver.rejects = {9}
    running = start(rabbitmq_url, receiver)
    publish(rabbitmq_url, changed("vim", 9))
    wait_for(lambda: running.counters.dead == 1)
    (first,) = dead_letters(rabbitmq_url)

    with broker.connect(rabbitmq_url) as connection:
        assert DeadLetters(connection).retry() == (1, 0)

    wait_for(lambda: running.counters.dead == 2)
    running.stop()
    (second,) = dead_letters(rabbitmq_url)
    assert (second.count, second.raw, second.id) == (2, first.raw, first.id)


def test_two_operators_who_look_at_once_both_see_every_letter(rabbitmq_url: str) -> None:
    with broker.connect(rabbitmq_url) as connection:
        letters = DeadLetters(connection)
        for number in range(50):
            letters.put(letter(number))
    seen: list[int] = []

    def look() -> None:
        seen.extend(len(dead_letters(rabbitmq_url)) for _ in range(5))

    operators = [threading.Thread(target=look) for _ in range(2)]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join(30)

    assert seen == [50] * 10
    assert ready(rabbitmq_url, broker.DEAD_QUEUE) == 50


def test_two_operators_who_retry_at_once_put_each_letter_back_once(rabbitmq_url: str) -> None:
    with broker.connect(rabbitmq_url) as connection:
        connection.declare(broker.EVENTS_QUEUE)
        letters = DeadLetters(connection)
        for number in range(50):
            letters.put(letter(number))
    done: list[int] = []

    def retry() -> None:
        with broker.connect(rabbitmq_url) as connection:
            done.append(DeadLetters(connection).retry()[0])

    operators = [threading.Thread(target=retry) for _ in range(2)]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join(30)

    assert sorted(done) == [0, 50]
    assert ready(rabbitmq_url) == 50


def test_a_browser_that_is_killed_takes_no_letter_with_it(
    rabbitmq_url: str, wait_for: Wait
) -> None:
    with broker.connect(rabbitmq_url) as connection:
        letters = DeadLetters(connection)
        for number in range(20):
            letters.put(letter(number))
    program = f"""
import time
from bridge.queue.broker import connection as broker
with broker.connect({rabbitmq_url!r}) as connection:
    with connection.browse(broker.DEAD_QUEUE) as shelf:
        print(len(list(shelf)), flush=True)
        time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as browser:
        assert browser.stdout is not None
        assert browser.stdout.readline() == b"20\n"
        assert ready(rabbitmq_url, broker.DEAD_QUEUE) == 0
        browser.kill()

    wait_for(lambda: ready(rabbitmq_url, broker.DEAD_QUEUE) == 20)
    assert [found.id for found in dead_letters(rabbitmq_url)] == [f"id{n}" for n in range(20)]


# The whole worker, and the relay.


class Worker:
    """`bridgectl worker` on a thread."""

    def __init__(self, settings: Settings) -> None:
        self.counters = Counters()
        self._settings, self._stop = settings, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        log = structlog.get_logger()
        run_worker(self._settings, stop=self._stop, log=log, counters=self.counters)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def start_worker(tmp_path: Path, mongodb_url: str) -> Iterator[Callable[[str], Worker]]:
    workers: list[Worker] = []

    def _start(broker_url: str) -> Worker:
        workers.append(Worker(_settings(tmp_path, broker_url, mongodb_url)))
        return workers[-1]

    yield _start
    for worker in workers:
        worker.stop()


@pytest.mark.slow
def test_nothing_is_lost_when_rabbitmq_is_killed_while_the_worker_works(
    killable: RabbitMQ,
    killable_url: str,
    clean_mongodb: Database[dict[str, Any]],
    start_worker: Callable[[str], Worker],
    wait_for: Wait,
) -> None:
    worker = start_worker(killable_url)
    publish(killable_url, changed("first", 1))
    wait_for(lambda: worker.counters.applied == 1)
    killable.settle()

    for round in range(2):
        publish(killable_url, *(changed(f"p{n}", round + 1) for n in range(3000)))
        wait_for(lambda round=round: worker.counters.applied > 1 + 3000 * round)
        killable.kill()
        killable.start()

    projects = clean_mongodb["projects"]
    wait_for(lambda: projects.count_documents({"_v": 2}) == 3000, bound=60)
    wait_for(lambda: ready(killable_url) == 0, bound=30)
    assert worker.counters.dead == 0


def test_the_relay_publishes_rows_and_frees_them_when_mongodb_holds_them(
    rabbitmq_url: str, tmp_path: Path, receiver: Any, start: Start, wait_for: Wait
) -> None:
    box = outbox.Outbox(outbox.connect(f"sqlite:///{tmp_path}/site.db"))
    box.create()
    rows = [
        {
            "entity": "project",
            "key": f"p{n}",
            "change": "changed",
            "payload": json.dumps({"name": f"p{n}"}),
            "version": n,
        }
        for n in range(700)
    ]
    with box.engine.begin() as sql:
        box.add(sql, rows)

    def held(identities: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
        there = {event.identity: event.version for batch in receiver.batches for event in batch}
        return {one: there[one] for one in identities if one in there}

    relay = Relay(rabbitmq_url, outboxes=[(box, "/site")], held=held, log=structlog.get_logger())
    stop = threading.Event()
    thread = threading.Thread(target=relay.run, args=(stop,), daemon=True)
    thread.start()
    try:
        wait_for(lambda: relay.counters.published == 700)
        assert box.backlog().rows == 700
        start(rabbitmq_url, receiver)
        wait_for(lambda: box.backlog().rows == 0, bound=30)
    finally:
        stop.set()
        thread.join(20)

    assert sorted(set(receiver.versions)) == list(range(700))
    assert relay.counters.freed == 700
    box.engine.dispose()


def test_the_relay_refuses_lists_where_there_is_no_redis(rabbitmq_url: str) -> None:
    with pytest.raises(BridgeError, match="lists"):
        Relay(
            rabbitmq_url,
            outboxes=[],
            held=lambda identities: {},
            log=structlog.get_logger(),
            lists=["celery"],
        )


def test_a_rabbitmq_that_is_missing_at_the_start_is_named_without_its_password(
    tmp_path: Path, mongodb_url: str
) -> None:
    port = free_port()
    url = f"amqp://bridge:hush@127.0.0.1:{port}//"
    with pytest.raises(ServerMissing) as caught:
        run_worker(
            _settings(tmp_path, url, mongodb_url),
            stop=threading.Event(),
            log=structlog.get_logger(),
        )

    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_wrong_password_is_an_error_that_says_so(
    rabbitmq: RabbitMQ, tmp_path: Path, mongodb_url: str
) -> None:
    with pytest.raises(ServerMissing, match="ACCESS_REFUSED") as caught:
        run_worker(
            _settings(tmp_path, f"amqp://guest:hush@127.0.0.1:{rabbitmq.port}//", mongodb_url),
            stop=threading.Event(),
            log=structlog.get_logger(),
        )

    assert "hush" not in str(caught.value)
