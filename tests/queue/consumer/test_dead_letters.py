"""Dead letters are kept whole, found again, tried again and thrown away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.queue.broker import connection as broker
from bridge.queue.broker.connection import Broker
from bridge.queue.consumer.dead_letters import DeadLetter, DeadLetters, Filter, identity_of
from bridge.queue.events import Event
from bridge.queue.sql.outbox import Outbox, Row
from bridge.queue.sql.outbox import connect as outbox_connect
from tests.queue.conftest import memory_broker


def letter(number: int, **fields: Any) -> DeadLetter:
    usual: dict[str, Any] = {
        "id": f"id{number}",
        "raw": b"%d" % number,
        "part": "body",
        "error": f"error {number}",
        "first_time": f"2026-01-0{number}T00:00:00Z",
        "last_time": f"2026-01-0{number}T00:00:00Z",
        "count": 1,
        "entity": "project",
        "key": f"key{number}",
    }
    return DeadLetter(**usual | fields)


@pytest.fixture(params=["redis", "memory"])
def connection(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Broker]:
    """One broker that can be read without taking, and one that cannot."""
    url = redis_url if request.param == "redis" else memory_broker()
    with broker.connect(url) as made:
        for queue in (broker.DEAD_QUEUE, broker.EVENTS_QUEUE):
            made.declare(queue)
        yield made


def bodies(connection: Broker, queue: str) -> list[bytes]:
    found = []
    while message := connection.channel.basic_get(queue):
        found.append(message.body if isinstance(message.body, bytes) else message.body.encode())
        message.ack()
    return found


def test_a_letter_is_read_as_it_was_written() -> None:
    written = letter(1, raw=b"\xff\x00", version="7")

    assert DeadLetter.from_json(written.to_json()) == written


def test_looking_at_letters_leaves_them_where_they_are(connection: Broker) -> None:
    letters = DeadLetters(connection)
    for number in (1, 2, 3):
        letters.put(letter(number))

    seen = [[found.id for found in letters.letters()] for _ in range(2)]
    assert seen == [["id1", "id2", "id3"]] * 2
    assert len(letters) == 3


@pytest.mark.parametrize(
    ("which", "ids"),
    [
        (Filter(), ["id1", "id2", "id3"]),
        (Filter(ids=frozenset({"id1", "id3"})), ["id1", "id3"]),
        (Filter(entity="release"), ["id3"]),
        (Filter(key="key2"), ["id2"]),
        (Filter(error="ERROR 2"), ["id2"]),
        (Filter(since="2026-01-02T00:00:00Z"), ["id2", "id3"]),
        (Filter(before="2026-01-02T00:00:00Z"), ["id1"]),
        (Filter(entity="project", before="2026-01-02T00:00:00Z"), ["id1"]),
    ],
)
def test_a_filter_finds_those_that_are_meant(which: Filter, ids: list[str]) -> None:
    all_letters = [letter(1), letter(2), letter(3, entity="release")]

    assert [found.id for found in all_letters if which.fits(found)] == ids


def test_a_retry_puts_the_raw_bytes_back_and_takes_the_letter_away(connection: Broker) -> None:
    letters = DeadLetters(connection)
    for number in (1, 2):
        letters.put(letter(number))

    assert letters.retry(Filter(ids=frozenset({"id2"}))) == (1, 0)
    assert bodies(connection, broker.EVENTS_QUEUE) == [b"2"]
    assert [found.id for found in letters.letters()] == ["id1"]


def test_what_is_no_event_is_left_by_a_retry(connection: Broker) -> None:
    letters = DeadLetters(connection)
    letters.put(letter(1, part="envelope"))
    letters.put(letter(2))

    assert letters.retry() == (1, 1)
    assert [found.id for found in letters.letters()] == ["id1"]


def test_dropping_throws_away_those_that_are_meant_and_says_which(connection: Broker) -> None:
    letters = DeadLetters(connection)
    for number in range(1, 4):
        letters.put(letter(number))

    assert [found.id for found in letters.drop(Filter(key="key2"))] == ["id2"]
    assert [found.id for found in letters.drop()] == ["id1", "id3"]
    assert len(letters) == 0


def test_many_are_retried_at_once_and_progress_is_told(connection: Broker) -> None:
    letters = DeadLetters(connection)
    for _ in range(250):
        letters.put(letter(1))
    told: list[int] = []

    assert letters.retry(progress=told.append) == (250, 0)
    assert told == [100, 200, 250]
    assert len(bodies(connection, broker.EVENTS_QUEUE)) == 250


def test_somebody_elses_text_on_the_queue_is_shown_with_a_name_that_stays(
    redis_url: str, clean_redis: redis.Redis
) -> None:
    clean_redis.xadd(broker.DEAD_QUEUE, {"body": b"somebody else's"})
    with broker.connect(redis_url) as connection:
        letters = DeadLetters(connection)
        (first,), (second,) = letters.letters(), letters.letters()

        assert first.raw == b"somebody else's"
        assert first.id == second.id
        assert letters.retry() == (0, 1)
        assert [found.raw for found in letters.drop()] == [b"somebody else's"]


def test_letters_older_than_thirty_days_are_forgotten(
    redis_url: str, clean_redis: redis.Redis
) -> None:
    # Redis deletes whole nodes of a stream, of a hundred entries by default.
    with clean_redis.pipeline() as pipe:
        for number in range(300):
            pipe.xadd(broker.DEAD_QUEUE, {"body": letter(1).to_json()}, id=f"{1000 + number}-0")
        pipe.execute()
    with broker.connect(redis_url) as connection:
        letters = DeadLetters(connection)
        letters.put(letter(2))

        assert letters.letters()[-1].id == "id2"
        assert len(letters) <= 101


@pytest.mark.parametrize(
    ("raw", "identity"),
    [
        (Event("project", "changed", "vim", 7, {}).to_json().encode(), ("project", "vim", "7")),
        (b'{"type":"project.changed","subject":"vim"}', ("project", "vim", "")),
        # What the relay makes of a row whose payload is no JSON.
        (
            Row(1, "project", "vim", "project.changed", "{broken", 7, 0, None, 0).event("/x"),
            ("project", "vim", "7"),
        ),
        (b'{"type":3,"subject":[],"sequence":7}', ("", "", "")),
        (b"[1]", ("", "", "")),
        (b"\xff", ("", "", "")),
        (b"[" * 100_000, ("", "", "")),
    ],
)
def test_what_a_letter_is_about_is_read_as_far_as_it_can_be(
    raw: bytes, identity: tuple[str, str, str]
) -> None:
    assert identity_of(raw) == identity


def test_a_letter_on_the_queue_is_json_that_names_its_fields(
    redis_url: str, clean_redis: redis.Redis
) -> None:
    with broker.connect(redis_url) as connection:
        DeadLetters(connection).put(letter(1))
    ((_, fields),) = clean_redis.xrange(broker.DEAD_QUEUE)

    assert json.loads(fields[b"body"])["raw"] == "MQ=="


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=6) | st.just("__type__"), inner, max_size=2)
    ),
    max_leaves=4,
)
HEADERS = """bridge-undecodable bridge-first-time bridge-count bridge-letter compression deliveries
x-delivery-count id delivery_tag delivery_info __type__"""
NAMES = st.sampled_from(HEADERS.split())
FIELDS = st.sampled_from([field.name for field in fields(DeadLetter)])
TEXTS = st.sampled_from(
    ["", "9" * 5000, "٣", "\0", "\ud800", "project", "7", "2026-01-01T00:00:00Z"]
)
DIGITS = st.sampled_from(
    ["1", "0", str(2**63 - 1), str(2**63), "9" * 19, "9" * 5000, "٣", "-1", "x"]
)


class _Sink:
    """Takes everything that one consumer buries."""

    def __init__(self, connection: Broker) -> None:
        self.letters = DeadLetters(connection)

    def bury(self, message: Any) -> None:
        """As the worker does it."""
        self.letters.put(DeadLetter.from_message(message, "no event"))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    headers=st.dictionaries(NAMES, ANYTHING | TEXTS, max_size=4),
    properties=st.dictionaries(NAMES, ANYTHING, max_size=3),
    letter=st.dictionaries(FIELDS, ANYTHING | TEXTS, max_size=9),
    version=DIGITS,
    key=TEXTS,
)
@example({"bridge-undecodable": [1]}, {}, {}, "1", "x")
@example({"bridge-first-time": 5, "bridge-letter": "\x1b[31m"}, {}, {}, "1", "x")
@example({}, {}, {"id": 1, "raw": "", "count": "x"}, "9" * 5000, "\ud800")
def test_nothing_that_is_sent_stops_the_dead_letters_of_others(
    redis_url: str,
    tmp_path: Path,
    headers: dict[str, Any],
    properties: dict[str, Any],
    letter: dict[str, Any],
    version: str,
    key: str,
) -> None:
    """One entry with any headers, and one letter with any fields, beside a good one."""
    event = {"type": "project.changed", "subject": key, "sequence": version}
    box = Outbox(outbox_connect(f"sqlite:///{tmp_path}/site.sqlite"))
    box.create()
    with broker.connect(redis_url) as connection:
        channel: Any = connection.channel
        channel.client.flushdb()
        sink = _Sink(connection)
        sink.letters.put(DeadLetter.of(b"good", "error"))
        meta = json.dumps({"headers": headers, "properties": properties})
        channel.client.xadd(broker.EVENTS_QUEUE, {"body": json.dumps(event), "meta": meta})
        if message := channel.basic_get(broker.EVENTS_QUEUE):
            sink.bury(message)
            message.ack()
        for text in (json.dumps(letter), json.dumps(letter | {"raw": "eA=="})):
            channel.client.xadd(broker.DEAD_QUEUE, {"body": text})

        found = sink.letters.letters()
        assert len(found) == 4
        for one in found:
            if row := one.row():
                assert (box.wake(*row), box.drop(*row)) == (0, 0)
        done, left = sink.letters.retry()
        assert done + left == 4
        assert done >= 1
        # What was put back can be read, and becomes a letter again.
        while message := channel.basic_get(broker.EVENTS_QUEUE):
            sink.bury(message)
            message.ack()
        assert len(sink.letters.drop()) == 4
    box.engine.dispose()
