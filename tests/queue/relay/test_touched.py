"""Rows that only note a change: fetched when their turn comes, once for a key, and never lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
import sqlalchemy as sql
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError, ServerAway
from bridge.queue.broker import connection as broker
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters
from bridge.queue.events import Event
from bridge.queue.relay.plan import Timing
from bridge.queue.relay.relay import Relay
from bridge.queue.relay.touched import CurrentRow, portions
from bridge.queue.sql.outbox import Outbox, Row, connect
from stack.waiting import wait_for
from tests.queue.outbox_site import (
    DIALECTS,
    QUICK,
    Log,
    MongoDouble,
    add,
    change,
    engine_for,
    insert,
    outbox_in,
    rows_of,
    running,
)


class Table:
    """What the site's database would say, for tests that are not about one."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []
        self.version = 100
        self.wrong: dict[str, str] = {}
        self.others: dict[str, tuple[str, ...]] = {}
        self.unreadable: dict[str, BridgeError] = {}

    def __call__(self, entity: str, keys: Sequence[str]) -> Mapping[str, CurrentRow]:
        self.asked.append((entity, list(keys)))
        if entity in self.unreadable:
            raise self.unreadable[entity]
        self.version += 1
        return {key: self._of(entity, key) for key in keys}

    def _of(self, entity: str, key: str) -> CurrentRow:
        if key in self.wrong:
            return CurrentRow(error=self.wrong[key], raw=b'{"row":1}')
        event = Event(entity, "changed", key, self.version, {"n": self.version})
        return CurrentRow(self.version, event.to_json().encode(), others=self.others.get(key, ()))


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def mongo() -> MongoDouble:
    return MongoDouble()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    engine = connect(f"sqlite:///{tmp_path / 'site.sqlite'}")
    yield outbox_in(engine)
    engine.dispose()


@pytest.fixture(params=DIALECTS)
def engine(request: pytest.FixtureRequest) -> Iterator[sql.Engine]:
    yield from engine_for(request)


def note(outbox: Outbox, *identities: tuple[str, str]) -> None:
    with outbox.engine.begin() as connection:
        outbox.note(connection, identities)


def relay(
    url: str, outbox: Outbox, held: Any, log: Log, fetch: Any, timing: Timing = QUICK
) -> Relay:
    return Relay(
        url,
        outboxes=[(outbox, "/site")],
        held=held,
        log=log.logger,
        timing=timing,
        fetch=fetch,
    )


def events(client: redis.Redis) -> list[Event]:
    found = client.xrange(broker.EVENTS_QUEUE)
    return [Event.parse(fields[b"body"]) for _, fields in found]


def letters(url: str) -> list[DeadLetter]:
    with broker.connect(url) as connection:
        return DeadLetters(connection).letters(limit=None)


PATIENT = Timing(idle=0.02, first_look=0.05, quiet=0.0)


def test_a_note_is_published_as_what_the_row_is_and_goes_when_mongodb_holds_it(
    engine: sql.Engine, clean_redis: redis.Redis, redis_url: str, log: Log, table: Table
) -> None:
    outbox, mongo = outbox_in(engine), MongoDouble()
    note(outbox, ("project", "vim"))

    with running(relay(redis_url, outbox, mongo, log, table, PATIENT)) as one:
        wait_for(lambda: len(events(clean_redis)) == 1)
        wait_for(lambda: [row.ver for row in rows_of(outbox)] == [101])
        mongo.held["project", "vim"] = 101
        wait_for(lambda: not rows_of(outbox))
    [event] = events(clean_redis)
    assert (event.key, event.version, event.data) == ("vim", 101, {"n": 101})
    assert (one.counters.published, one.counters.freed) == (1, 1)


def test_notes_of_one_key_are_fetched_once_and_are_one_event(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    note(outbox, *[("project", "vim")] * 3, ("project", "ed"), ("release", "vim"))

    with running(relay(redis_url, outbox, mongo, log, table, PATIENT)):
        wait_for(lambda: len(events(clean_redis)) == 3)
        wait_for(lambda: all(row.ver for row in rows_of(outbox)))
    assert sorted(table.asked) == [("project", ["vim", "ed"]), ("release", ["vim"])]
    by_key = {(event.entity, event.key): event.version for event in events(clean_redis)}
    assert [row.ver for row in rows_of(outbox)] == [
        by_key[row.aggregatetype, row.aggregateid] for row in rows_of(outbox)
    ]


def test_what_got_lost_on_the_queue_is_fetched_anew(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    note(outbox, ("project", "vim"))

    with running(relay(redis_url, outbox, mongo, log, table)) as one:
        wait_for(lambda: len(events(clean_redis)) == 1)
        clean_redis.flushall()
        wait_for(lambda: len(events(clean_redis)) >= 1)
    assert one.counters.republished >= 1
    assert events(clean_redis)[-1].version > 101


def test_notes_and_events_of_a_site_go_side_by_side(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    note(outbox, ("project", "vim"))
    add(outbox, change("emacs", 7))

    with running(relay(redis_url, outbox, mongo, log, table, PATIENT)):
        wait_for(lambda: {event.key for event in events(clean_redis)} == {"vim", "emacs"})
    assert table.asked == [("project", ["vim"])]


def test_a_row_of_which_no_event_can_be_made_is_one_dead_letter_and_harms_no_other(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    table.wrong["bad"] = "it is no text"
    note(outbox, ("project", "bad"), ("project", "vim"), ("project", "bad"))

    with running(relay(redis_url, outbox, mongo, log, table, PATIENT)):
        wait_for(lambda: [row.aggregateid for row in rows_of(outbox)] == ["vim"])
        wait_for(lambda: len(events(clean_redis)) == 1)
    [letter] = letters(redis_url)
    assert (letter.entity, letter.key, letter.part) == ("project", "bad", "row")
    assert (letter.error, letter.raw) == ("it is no text", b'{"row":1}')


def test_an_entity_that_cannot_be_read_holds_up_only_its_own_notes_and_is_told(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    table.unreadable["wiki"] = BridgeError("there is no table wiki")
    note(outbox, ("wiki", "a"), ("project", "vim"))

    with running(relay(redis_url, outbox, mongo, log, table)):
        wait_for(lambda: [event.key for event in events(clean_redis)] == ["vim"])
        wait_for(lambda: log.of("relay.held_up"))
        del table.unreadable["wiki"]
        wait_for(lambda: "a" in {event.key for event in events(clean_redis)})
    assert log.of("relay.held_up")[0]["entity"] == "wiki"
    assert "no table wiki" in log.of("relay.held_up")[0]["cause"]


def test_a_database_that_is_away_is_waited_for(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    table.unreadable["project"] = ServerAway("the SQL database: gone")
    note(outbox, ("project", "vim"))

    with running(relay(redis_url, outbox, mongo, log, table)):
        wait_for(lambda: log.causes())
        del table.unreadable["project"]
        wait_for(lambda: len(events(clean_redis)) == 1)
    assert letters(redis_url) == []


def test_what_a_note_is_about_as_well_is_noted(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    table.others["VIM"] = ("vim",)
    note(outbox, ("project", "VIM"))

    with running(relay(redis_url, outbox, mongo, log, table, PATIENT)):
        wait_for(lambda: {event.key for event in events(clean_redis)} == {"VIM", "vim"})


def test_a_relay_that_cannot_fetch_says_so_and_keeps_the_note(
    outbox: Outbox, redis_url: str, log: Log, mongo: MongoDouble
) -> None:
    note(outbox, ("project", "vim"))

    with running(relay(redis_url, outbox, mongo, log, None)):
        wait_for(lambda: log.causes())
    assert "nobody fetches" in log.causes()[0]
    assert len(rows_of(outbox)) == 1


def test_a_deletion_of_an_entity_called_like_a_note_is_no_note(
    outbox: Outbox,
    clean_redis: redis.Redis,
    redis_url: str,
    log: Log,
    table: Table,
    mongo: MongoDouble,
) -> None:
    insert(outbox, aggregatetype="touched", type="touched.deleted", payload=None, ver=4)

    with running(relay(redis_url, outbox, mongo, log, table, PATIENT)):
        wait_for(lambda: len(events(clean_redis)) == 1)
    assert table.asked == []


@given(st.lists(st.sampled_from("abcdefg"), max_size=40), st.integers(1, 5))
def test_portions_are_all_rows_and_no_key_is_in_two_of_them(keys: str, most: int) -> None:
    rows = [
        Row(number, "project", key, "project.touched", None, 0, 0, None, 0)
        for number, key in enumerate(keys)
    ]
    found = list(portions(rows, most))

    assert sorted(row.id for some in found for row in some) == list(range(len(rows)))
    named = [{row.key for row in some} for some in found]
    assert all(len(some) <= most for some in named)
    assert sum(map(len, named)) == len(set(keys))
