"""The relay: whatever is away, wiped or killed, every row is published until MongoDB holds it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sql
from pymongo.database import Database

from bridge.errors import BridgeError
from bridge.queue.broker import connection as broker
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters, Filter
from bridge.queue.events import MAX_EVENT_BYTES, Event
from bridge.queue.relay.dead_rows import DeadRows
from bridge.queue.relay.plan import Timing
from bridge.queue.relay.relay import Relay, SpoolSource
from bridge.queue.relay.spool import Spool
from bridge.queue.sources import SqlQueue
from bridge.queue.sql.outbox import Outbox, connect, now_ms
from bridge.sync import apply as mirror
from bridge.sync.apply import versions
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.process import REPOSITORY
from stack.redis import Redis
from stack.waiting import wait_for
from tests.minimal_sync import mirror_of
from tests.queue.outbox_site import (
    DIALECTS,
    QUICK,
    Log,
    MongoDouble,
    add,
    change,
    engine_for,
    insert,
    make_due,
    outbox_in,
    rows_of,
    running,
)

PATIENT = Timing(idle=0.02, first_look=0.05, quiet=0.0)
"""Waits in which nothing is published twice during a test."""


@pytest.fixture
def mongo() -> MongoDouble:
    return MongoDouble()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(params=DIALECTS)
def engine(request: pytest.FixtureRequest) -> Iterator[sql.Engine]:
    yield from engine_for(request)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    """One in a SQLite file, for what is the same in every database."""
    engine = connect(f"sqlite:///{tmp_path / 'site.sqlite'}")
    yield outbox_in(engine)
    engine.dispose()


def relay(
    url: str, outbox: Outbox, held: Any, log: Log, timing: Timing = QUICK, **others: Any
) -> Relay:
    return Relay(
        url,
        outboxes=[(outbox, "/site")],
        held=held,
        log=log.logger,
        timing=timing,
        **others,
    )


def bodies(client: redis.Redis) -> list[bytes]:
    return [fields[b"body"] for _, fields in client.xrange(broker.EVENTS_QUEUE)]


def events(client: redis.Redis) -> list[tuple[str, int]]:
    """Key and version of everything on the queue."""
    return [(one.key, one.version) for one in map(Event.parse, bodies(client))]


def letters(url: str) -> list[DeadLetter]:
    with broker.connect(url) as connection:
        return DeadLetters(connection).letters(limit=None)


class TestRows:
    def test_a_row_is_published_once_and_goes_when_mongodb_holds_it(
        self, engine: sql.Engine, clean_redis: redis.Redis, redis_url: str, log: Log
    ) -> None:
        outbox, mongo = outbox_in(engine), MongoDouble()
        add(outbox, change("vim", 3), change("vim", 4, None))

        with running(relay(redis_url, outbox, mongo, log, PATIENT)) as one:
            wait_for(lambda: len(events(clean_redis)) == 2)
            asked = mongo.asked
            wait_for(lambda: mongo.asked > asked + 1)
            assert one.backlog().rows == 2
            mongo.held["project", "vim"] = 3
            wait_for(lambda: [row.ver for row in rows_of(outbox)] == [4])
            mongo.held["project", "vim"] = 9
            wait_for(lambda: rows_of(outbox) == [])
        assert events(clean_redis) == [("vim", 3), ("vim", 4)]
        assert (one.counters.published, one.counters.freed) == (2, 2)
        assert one.counters.republished == 0

    def test_a_row_is_freed_by_what_a_majority_of_mongodb_holds(
        self,
        tmp_path: Path,
        outbox: Outbox,
        redis_url: str,
        clean_redis: redis.Redis,
        clean_mongodb: Database[dict[str, Any]],
        log: Log,
    ) -> None:
        minimal = mirror_of(tmp_path)
        add(outbox, change("older", 5), change("newer", 5), change("gone", 5), change("never", 5))
        mirror.apply(
            clean_mongodb,
            minimal,
            [
                Event("project", "changed", "older", 4, {}),
                Event("project", "changed", "newer", 6, {}),
                Event("project", "deleted", "gone", 5),
            ],
        )

        def held(identities: Any) -> Any:
            return versions(clean_mongodb, minimal, identities)

        with running(relay(redis_url, outbox, held, log)) as one:
            wait_for(lambda: one.counters.published >= 2)
            left = [row.aggregateid for row in rows_of(outbox)]
            assert left == ["older", "never"]
            mirror.apply(
                clean_mongodb, minimal, [Event.parse(body) for body in bodies(clean_redis)]
            )
            wait_for(lambda: rows_of(outbox) == [])

    def test_what_mongodb_holds_already_is_not_published_at_all(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        add(outbox, change("vim", 3))
        mongo.held["project", "vim"] = 3

        with running(relay(redis_url, outbox, mongo, log)):
            wait_for(lambda: rows_of(outbox) == [])
        assert clean_redis.exists(broker.EVENTS_QUEUE) in (0, 1)
        assert events(clean_redis) == []

    def test_a_redis_that_was_wiped_gets_everything_again(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        add(outbox, *(change(f"k{n}") for n in range(5)))

        with running(relay(redis_url, outbox, mongo, log)) as one:
            wait_for(lambda: len(events(clean_redis)) == 5)
            clean_redis.flushall()
            wait_for(lambda: len(events(clean_redis)) == 5)
        assert one.counters.republished == 5
        assert log.of("relay.republished")

    def test_what_is_still_queued_is_not_published_again(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        """All workers are down."""
        add(outbox, *(change(f"k{n}") for n in range(5)))

        with running(relay(redis_url, outbox, mongo, log)) as one:
            wait_for(lambda: one.counters.published == 5)
            wait_for(lambda: now_ms() - max(row.published_at for row in rows_of(outbox)) > 400)
            asked = mongo.asked
            make_due(outbox)
            wait_for(lambda: mongo.asked > asked + 1)
            assert one.counters.published == 5
            first, *_ = clean_redis.xrange(broker.EVENTS_QUEUE, count=1)
            clean_redis.xtrim(broker.EVENTS_QUEUE, maxlen=0)
            wait_for(lambda: one.counters.republished == 5)
        assert first

    def test_a_queue_full_of_newer_messages_does_not_hide_a_loss(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        insert(outbox, published_at=now_ms() - 60_000, attempts=1, next_try=0)
        clean_redis.xadd(broker.EVENTS_QUEUE, {"body": "{}"})

        with running(relay(redis_url, outbox, mongo, log)) as one:
            wait_for(lambda: one.counters.republished == 1)

    def test_a_backlog_that_is_looked_at_in_vain_does_not_keep_new_rows_waiting(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        clean_redis.xadd(broker.EVENTS_QUEUE, {"body": "{}"}, id="1-0")
        add(outbox, *(change(f"old{n}") for n in range(3000)))
        with outbox.engine.begin() as connection:
            connection.execute(
                outbox.table.update().values(
                    published_at=now_ms() - 60_000, attempts=1, next_try=now_ms() - 50_000
                )
            )
        add(outbox, change("new"))

        with running(relay(redis_url, outbox, mongo, log)) as one:
            wait_for(lambda: one.counters.published == 1, 2)
        assert Event.parse(bodies(clean_redis)[-1]).key == "new"

    def test_keeping_rows_keeps_them_out_of_sight(
        self, tmp_path: Path, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        engine = connect(f"sqlite:///{tmp_path / 'x.sqlite'}")
        outbox = outbox_in(engine, keep=3600)
        add(outbox, change("vim", 3))
        mongo.held["project", "vim"] = 3

        with running(relay(redis_url, outbox, mongo, log)) as one:
            wait_for(lambda: one.counters.freed == 1)
            assert one.backlog().rows == 0
        assert len(rows_of(outbox)) == 1
        engine.dispose()


BAD = {
    "no JSON": "{oops",
    "empty": "",
    "no object": "[1]",
    "duplicate": '{"a":1,"a":2}',
    "large": json.dumps({"t": "x" * MAX_EVENT_BYTES}),
    "mirror's": '{"_v":1}',
    "closed": '{}},"x":{',
}


class TestDeadLetters:
    def test_a_bad_payload_is_one_dead_letter_and_its_neighbours_arrive(
        self,
        engine: sql.Engine,
        redis_url: str,
        receiver: Any,
        start: Callable[..., Any],
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        outbox = outbox_in(engine)
        add(outbox, change("before", 1))
        for number, payload in enumerate(BAD.values()):
            insert(outbox, aggregateid=f"bad{number}", payload=payload)
        add(outbox, change("after", 2), change("bad", -1), change("é" * 600, 1))
        count = len(BAD) + 2

        with running(relay(redis_url, outbox, mongo, log)) as one:
            start(redis_url, receiver)
            wait_for(lambda: len(letters(redis_url)) == count)
            wait_for(lambda: sorted(receiver.versions) == [1, 2])
            wait_for(lambda: one.backlog().buried == count)
            assert one.backlog().lag < 60, "not the age of the dead ones, which is years"
            mongo.held |= {("project", "before"): 1, ("project", "after"): 2}
            # The relay may have asked just before, and publish these two once more.
            wait_for(lambda: len(rows_of(outbox)) == count)
            published = one.counters.published
            for _ in range(2):
                # Long enough after the last publishing that a lost one would be repeated.
                wait_for(lambda: now_ms() - max(row.published_at for row in rows_of(outbox)) > 400)
                asked = mongo.asked
                make_due(outbox)
                wait_for(lambda asked=asked: mongo.asked > asked + 1)
            assert one.counters.published == published
        assert len(letters(redis_url)) == count
        assert len(rows_of(outbox)) == count

    def test_bytes_that_are_no_utf8_are_one_too(
        self,
        outbox: Outbox,
        redis_url: str,
        receiver: Any,
        start: Callable[..., Any],
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        add(outbox, change("bad"), change("good", 2))
        with outbox.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE bridge_outbox SET payload = CAST(x'7b22e9227d' AS TEXT),"
                " aggregateid = CAST(x'e9' AS TEXT) WHERE id = 1"
            )

        with running(relay(redis_url, outbox, mongo, log)) as one:
            start(redis_url, receiver)
            wait_for(lambda: len(letters(redis_url)) == 1 and receiver.versions == [2])
            mongo.held["project", "good"] = 2
            wait_for(lambda: len(rows_of(outbox)) == 1)
            assert one.counters.published == 2
        [letter] = letters(redis_url)
        assert b'"data":{"\xe9"}' in letter.raw

    def test_a_dropped_one_goes_with_its_row(
        self,
        outbox: Outbox,
        redis_url: str,
        receiver: Any,
        start: Callable[..., Any],
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        add(outbox, change("a", 1, '{"_v":1}'), change("a", 2))
        mongo.held["project", "b"] = 1

        with running(relay(redis_url, outbox, mongo, log)):
            start(redis_url, receiver)
            wait_for(lambda: letters(redis_url))
            with broker.connect(redis_url) as connection:
                [dropped] = DeadLetters(connection).drop(Filter(key="a"))
            assert outbox.drop(dropped.entity, dropped.key, int(dropped.version)) == 1
            assert [row.ver for row in rows_of(outbox)] == [2]
            wait_for(lambda: 2 in receiver.versions)
        assert letters(redis_url) == []

    def test_a_newer_version_in_mongodb_frees_its_row(
        self,
        outbox: Outbox,
        redis_url: str,
        receiver: Any,
        start: Callable[..., Any],
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        add(outbox, change("a", 1, '{"_v":1}'))

        with running(relay(redis_url, outbox, mongo, log)):
            start(redis_url, receiver)
            wait_for(lambda: letters(redis_url))
            mongo.held["project", "a"] = 2
            wait_for(lambda: rows_of(outbox) == [])

    def test_only_new_letters_are_read_and_only_their_hashes_kept(self, redis_url: str) -> None:
        with broker.connect(redis_url) as connection:
            dead = DeadLetters(connection)
            buried = DeadRows(broker.DEAD_QUEUE)
            for number in range(25):
                dead.put(DeadLetter.of(b"%d" % number + b"x" * 100_000, "bad"))
            buried.look(connection)
            assert len(buried) == 25
            read: list[Any] = []
            client = connection.channel.client
            client.set_response_callback("XRANGE", lambda reply, **_: read.append(reply) or reply)
            dead.put(DeadLetter.of(b"new", "bad"))
            buried.look(connection)
            assert len(buried) == 26
            assert [len(reply) for reply in read] == [1]
            assert all(len(name) == 16 for name in buried._places)

    def test_a_letter_that_is_gone_is_none_any_more(self, outbox: Outbox, redis_url: str) -> None:
        add(outbox, change("a", 1), change("b", 1))
        row, other = outbox.claim(2, 30)
        with broker.connect(redis_url) as connection:
            dead = DeadLetters(connection)
            dead.put(DeadLetter.of(row.event("/site"), "bad"))
            buried = DeadRows(broker.DEAD_QUEUE)
            assert not buried.has(connection, row, "/site")
            buried.look(connection)
            assert buried.has(connection, row, "/site")
            assert buried.has(connection, row, "/named otherwise")
            assert not buried.has(connection, other, "/site")
            dead.drop()
            buried.look(connection)
            assert not buried.has(connection, row, "/site")

    def test_rabbitmq_is_asked_too_and_keeps_its_letters(
        self, outbox: Outbox, rabbitmq_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        add(outbox, change("dead", 1, '{"_v":1}'), change("lost", 1))
        first, _ = outbox.claim(2, 0)
        with broker.connect(rabbitmq_url) as connection:
            dead = DeadLetters(connection)
            for _ in range(3):
                dead.put(DeadLetter.of(first.event("/site"), "bad"))

            with running(relay(rabbitmq_url, outbox, mongo, log)) as one:
                wait_for(lambda: one.counters.republished >= 2)
            wait_for(lambda: len(dead) == 3)
            channel = connection.channel
            found = Counter[str]()
            while (message := channel.basic_get(broker.EVENTS_QUEUE, no_ack=True)) is not None:
                found[json.loads(message.body)["subject"]] += 1
        assert found["dead"] == 1
        assert found["lost"] >= 3


class TestOutages:
    def test_mongodb_away_is_waited_for(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        add(outbox, change())
        mongo.away = True

        with running(relay(redis_url, outbox, mongo, log)) as one:
            wait_for(lambda: log.causes())
            assert one.counters.published == 0
            mongo.away = False
            wait_for(lambda: events(clean_redis) == [("vim", 1)])
            wait_for(lambda: log.of("relay.back"))
        assert log.causes()[0] == "MongoDB is away"

    def test_redis_away_is_waited_for(
        self, tmp_path: Path, outbox: Outbox, mongo: MongoDouble, log: Log
    ) -> None:
        server = Redis(tmp_path / "redis")
        with server, running(relay(server.url, outbox, mongo, log)) as one:
            add(outbox, change("a"))
            wait_for(lambda: one.counters.published == 1)
            server.kill()
            add(outbox, change("b"))
            wait_for(lambda: log.causes())
            server.start()
            with server.client() as client:
                wait_for(lambda: ("b", 1) in events(client))
        assert one.counters.published >= 2

    def test_a_full_redis_is_waited_for(
        self, tmp_path: Path, outbox: Outbox, mongo: MongoDouble, log: Log
    ) -> None:
        with Redis(tmp_path / "redis") as server, server.client() as client:
            client.config_set("maxmemory", 1)
            add(outbox, change("a"))
            with running(relay(server.url, outbox, mongo, log)):
                wait_for(lambda: log.causes())
                assert len(rows_of(outbox)) == 1
                client.config_set("maxmemory", 0)
                wait_for(lambda: ("a", 1) in events(client))
        assert "OutOfMemory" in log.causes()[0]

    def test_a_database_that_is_killed_is_waited_for_and_holds_up_no_other(
        self,
        tmp_path: Path,
        outbox: Outbox,
        clean_redis: redis.Redis,
        redis_url: str,
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        with MariaDB(tmp_path / "mariadb") as server:
            url = server.create_database("site").replace("root@", "root:secret@")
            engine = connect(url)
            site = outbox_in(engine)
            one = Relay(
                redis_url,
                outboxes=[(site, "/site"), (outbox, "/spool")],
                held=mongo,
                log=log.logger,
                timing=QUICK,
            )
            with running(one):
                add(site, change("before"))
                wait_for(lambda: ("before", 1) in events(clean_redis))
                server.kill()
                add(outbox, change("other"))
                wait_for(lambda: ("other", 1) in events(clean_redis))
                wait_for(lambda: log.causes("root"))
                server.start()
                add(site, change("after", payload='{"t":"secret"}'))
                wait_for(lambda: ("after", 1) in events(clean_redis), 15)
            engine.dispose()
        assert "secret" not in json.dumps(log.lines)

    def test_one_bad_source_does_not_stop_the_others(
        self,
        tmp_path: Path,
        outbox: Outbox,
        clean_redis: redis.Redis,
        redis_url: str,
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        clean_redis.set("celery", "no list")
        queue = SqlQueue.model_validate(
            {
                "table": "nowhere",
                "entity": "project",
                "key": {"column": "k"},
                "version": {"column": "v"},
                "data": {"json": "state"},
            }
        )

        def broken(identities: Any) -> Any:
            if any(key == "secret" for _, key in identities):
                raise KeyError("secret")
            return mongo(identities)

        other = connect(f"sqlite:///{tmp_path / 'other.sqlite'}")
        wrong = outbox_in(other)
        add(wrong, change("secret"))
        one = Relay(
            redis_url,
            outboxes=[
                (wrong, "/wrong"),
                (Outbox(outbox.engine, table="missing"), "/x"),
                (outbox, "/site"),
            ],
            held=broken,
            log=log.logger,
            timing=QUICK,
            spools=[SpoolSource(Spool(tmp_path / "missing"), outbox)],
            queues=[(queue, outbox)],
            lists=["celery"],
        )
        with running(one):
            wait_for(lambda: len({line["source"] for line in log.of("relay.waiting")}) == 5)
            add(outbox, change("vim"))
            wait_for(lambda: ("vim", 1) in events(clean_redis))
            (tmp_path / "missing").mkdir()
            good = Event("project", "changed", "spooled", 1, {}).to_json()
            (tmp_path / "missing" / "current.spool").write_text(good + "\n")
            wait_for(lambda: ("spooled", 1) in events(clean_redis), 15)
        assert "no such table: nowhere" in log.causes("queue nowhere")[0]
        assert "No such file or directory" in log.causes("spool")[0]
        assert "WRONGTYPE" in log.causes("list celery")[0]
        assert log.of("relay.failed")[0]["cause"].startswith("KeyError in ")
        assert "secret" not in json.dumps([line | {"source": ""} for line in log.lines])
        other.dispose()

    def test_a_row_that_we_make_a_mistake_with_keeps_back_no_other(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        def broken(identities: Any) -> Any:
            if ("project", "odd") in identities:
                raise ZeroDivisionError
            return mongo(identities)

        add(outbox, change("a"), change("odd"), change("b"))
        timing = Timing(idle=0.02, dead_look=60)
        with running(relay(redis_url, outbox, broken, log, timing)):
            wait_for(lambda: sorted(events(clean_redis)) == [("a", 1), ("b", 1)])
            wait_for(lambda: log.of("relay.failed"))
        [odd] = [row for row in rows_of(outbox) if row.aggregateid == "odd"]
        assert odd.next_try > now_ms() + 30_000

    def test_rows_in_hand_when_sql_fails_do_not_wait_for_the_end_of_the_lease(
        self,
        outbox: Outbox,
        redis_url: str,
        mongo: MongoDouble,
        log: Log,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        add(outbox, change("vim", 3))
        mongo.held["project", "vim"] = 3
        free, failures = Outbox.free, [sql.exc.OperationalError("", {}, Exception("gone away"))]

        def fail_once(self: Outbox, rows: Any) -> None:
            if failures:
                raise failures.pop()
            free(self, rows)

        monkeypatch.setattr(Outbox, "free", fail_once)
        with running(relay(redis_url, outbox, mongo, log, replace(QUICK, lease=3600))):
            wait_for(lambda: rows_of(outbox) == [], 20)
        assert not failures

    def test_a_mongodb_that_was_killed_is_used_again_when_it_is_back(
        self, tmp_path: Path, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, log: Log
    ) -> None:
        mongod, minimal = Mongod(tmp_path / "mongod"), mirror_of(tmp_path)
        with mongod, mirror.connect(mongod.url_of("bridge"), patience=0.3) as client:
            database = client.get_default_database()

            def held(identities: Any) -> Any:
                return versions(database, minimal, identities)

            mirror.apply(database, minimal, [Event("project", "changed", "vim", 1, {})])
            mongod.kill()
            add(outbox, change())
            with running(relay(redis_url, outbox, held, log)):
                wait_for(lambda: log.causes())
                assert len(rows_of(outbox)) == 1
                mongod.start()
                wait_for(lambda: rows_of(outbox) == [], 20)
        assert events(clean_redis) == []

    def test_the_same_trouble_is_told_once_in_a_while(
        self, outbox: Outbox, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        add(outbox, change())
        mongo.away = True

        with running(relay(redis_url, outbox, mongo, log, Timing(idle=0.01))):
            wait_for(lambda: mongo.asked >= 3)
        assert len(log.of("relay.waiting")) == 1


class TestSeveralRelays:
    def test_share_the_rows_and_publish_none_twice(
        self,
        engine: sql.Engine,
        clean_redis: redis.Redis,
        redis_url: str,
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        outbox = outbox_in(engine)
        done = threading.Event()

        def write(name: str) -> None:
            for version in range(60):
                add(outbox, change(name, version), change(name.upper(), version))

        writers = [threading.Thread(target=write, args=(name,)) for name in ("a", "b", "c")]
        relays = [relay(redis_url, outbox, mongo, log, PATIENT) for _ in range(3)]
        with running(relays[0]), running(relays[1]), running(relays[2]):
            for one in writers:
                one.start()
            for one in writers:
                one.join()
            wait_for(lambda: len(events(clean_redis)) >= 360)
            done.set()
        assert Counter(events(clean_redis)) == Counter(
            {(name, version): 1 for name in "abcABC" for version in range(60)}
        )

    def test_take_over_what_one_that_was_killed_had_claimed(
        self,
        engine: sql.Engine,
        clean_redis: redis.Redis,
        redis_url: str,
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        outbox = outbox_in(engine)
        add(outbox, change("a"), change("b"))
        script = textwrap.dedent(
            """
            import sys
            from bridge.queue.sql.outbox import Outbox, connect
            print(len(Outbox(connect(sys.argv[1])).claim(1, 1.0)), flush=True)
            sys.stdin.readline()
            """
        )
        url = engine.url.render_as_string(hide_password=False)
        with subprocess.Popen(
            [sys.executable, "-c", script, url],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"1\n"
            with running(relay(redis_url, outbox, mongo, log, PATIENT)):
                wait_for(lambda: events(clean_redis) == [("b", 1)])
                os.kill(process.pid, signal.SIGKILL)
                wait_for(lambda: events(clean_redis) == [("b", 1), ("a", 1)])


class TestSpools:
    def good(self, key: str, version: int = 1) -> bytes:
        return Event("project", "changed", key, version, {"n": 1.0}).to_json().encode()

    def test_lines_go_the_way_of_rows_and_bad_ones_to_the_dead_letters(
        self,
        tmp_path: Path,
        outbox: Outbox,
        clean_redis: redis.Redis,
        redis_url: str,
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        directory = tmp_path / "spool"
        directory.mkdir()
        torn = self.good("torn")[:30]
        (directory / "current.spool").write_bytes(
            b"\n".join([self.good("a"), b"\xff", self.good("b", 2), torn])
        )
        source = SpoolSource(Spool(directory), outbox)
        with running(relay(redis_url, outbox, mongo, log, PATIENT, spools=[source])) as one:
            wait_for(lambda: sorted(events(clean_redis)) == [("a", 1), ("b", 2)])
            wait_for(lambda: os.listdir(directory) == [])
        assert [letter.raw for letter in letters(redis_url)] == [b"\xff", torn]
        assert letters(redis_url)[0].error.startswith("spool: not UTF-8")
        assert (one.counters.moved, one.counters.dead) == (4, 2)
        assert json.loads(rows_of(outbox)[0].payload) == {"n": 1.0}

    @pytest.mark.parametrize("away", ["redis", "database"])
    def test_an_outage_in_the_middle_repeats_nothing(
        self,
        tmp_path: Path,
        outbox: Outbox,
        mongo: MongoDouble,
        log: Log,
        away: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        directory = tmp_path / "spool"
        directory.mkdir()
        (directory / "1-a.spool").write_bytes(b"bad\n" + self.good("a") + b"\nworse\n")
        tries: list[int] = []
        original = Outbox.add

        def refuse(self: Outbox, connection: Any, rows: Any) -> None:
            tries.append(1)
            if away == "database" and len(tries) < 4:
                raise sql.exc.OperationalError("INSERT", {}, Exception("away"))
            original(self, connection, rows)

        monkeypatch.setattr(Outbox, "add", refuse)
        with Redis(tmp_path / "redis") as server:
            if away == "redis":
                server.kill()
            source = SpoolSource(Spool(directory), outbox)
            with running(relay(server.url, outbox, mongo, log, PATIENT, spools=[source])):
                wait_for(lambda: len(log.causes("spool")) >= 3)
                if away == "redis":
                    server.start()
                wait_for(lambda: os.listdir(directory) == [])
            assert [letter.raw for letter in letters(server.url)] == [b"bad", b"worse"]
        assert len(rows_of(outbox)) == 1

    def test_a_kill_between_the_outbox_and_the_file_is_only_a_repetition(
        self, tmp_path: Path, outbox: Outbox, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        directory = tmp_path / "spool"
        directory.mkdir()
        (directory / "1-a.spool").write_bytes(self.good("a") + b"\n" + self.good("b") + b"\n")
        script = textwrap.dedent(
            """
            import sys, threading, structlog
            from pathlib import Path
            from bridge.queue.sql.outbox import Outbox, connect
            from bridge.queue.relay.relay import Relay, SpoolSource
            from bridge.queue.relay.spool import Spool
            def stay(self):
                print("inserted", flush=True)
                sys.stdin.readline()
            Spool.done = stay
            outbox = Outbox(connect(sys.argv[1]))
            Relay(sys.argv[2], outboxes=[], held=None, log=structlog.get_logger(),
                  spools=[SpoolSource(Spool(Path(sys.argv[3])), outbox)]).run(threading.Event())
            """
        )
        words = [str(outbox.engine.url), redis_url, str(directory)]
        with subprocess.Popen(
            [sys.executable, "-c", script, *words],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"inserted\n"
            os.kill(process.pid, signal.SIGKILL)
        assert len(rows_of(outbox)) == 2
        source = SpoolSource(Spool(directory), outbox)
        with running(relay(redis_url, outbox, mongo, log, PATIENT, spools=[source])):
            wait_for(lambda: os.listdir(directory) == [])
        assert [row.aggregateid for row in rows_of(outbox)] == ["a", "b", "a", "b"]


class TestOtherSources:
    def test_rows_of_a_site_s_own_queue_become_events_and_bad_ones_letters(
        self,
        engine: sql.Engine,
        clean_redis: redis.Redis,
        redis_url: str,
        mongo: MongoDouble,
        log: Log,
    ) -> None:
        outbox = outbox_in(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE q (id INT PRIMARY KEY, k TEXT, v INT)")
            connection.exec_driver_sql("INSERT INTO q VALUES (1, 'vim', 3), (2, NULL, 4)")
        queue = SqlQueue.model_validate(
            {
                "table": "q",
                "entity": "project",
                "key": {"column": "k"},
                "version": {"column": "v"},
                "data": {"columns": {"title": "k"}},
            }
        )
        queues = [(queue, outbox)]
        with running(relay(redis_url, outbox, mongo, log, PATIENT, queues=queues)) as one:
            wait_for(lambda: events(clean_redis) == [("vim", 3)])
            wait_for(lambda: one.counters.dead == 1)
        [letter] = letters(redis_url)
        assert letter.part == "row"
        assert json.loads(letter.raw) == {"id": 2, "k": None, "v": 4}
        assert letter.error == "q: the column k is NULL"
        assert one.counters.moved == 2

    def test_elements_of_lists_are_moved(
        self, outbox: Outbox, clean_redis: redis.Redis, redis_url: str, mongo: MongoDouble, log: Log
    ) -> None:
        clean_redis.lpush("celery", "one", "two")

        with running(relay(redis_url, outbox, mongo, log, lists=["celery"])) as one:
            wait_for(lambda: clean_redis.xlen(broker.EVENTS_QUEUE) == 2)
        assert one.counters.moved == 2

    def test_lists_without_a_redis_are_refused(self, outbox: Outbox, log: Log) -> None:
        with pytest.raises(BridgeError, match="names lists") as caught:
            relay("amqp://guest:secret@host//", outbox, MongoDouble(), log, lists=["celery"])
        assert "secret" not in str(caught.value)
