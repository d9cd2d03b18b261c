"""`POST /events` over real sockets: what is accepted, what is refused and how, and that of a
refused batch nothing is published."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from bridge.errors import ServerAway
from bridge.listener import Limits
from bridge.queue.events import LARGER, MAX_EVENT_BYTES, Event
from bridge.queue.ingest import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, Ingest, PublisherPool
from stack.ports import free_port, is_open
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.raw_http import RawConnection, ask, request
from tests.listening import BATCH, SINGLE, TOKEN, Broker, Listening, errors, event, operator

JSON = "application/json"


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def listening(broker: Broker) -> Iterator[Listening]:
    with Listening(operator(broker), Limits(silence=0.5, whole=2)) as listening:
        yield listening


def batch(*events: Event) -> bytes:
    return f"[{','.join(event.to_json() for event in events)}]".encode()


def changed(**attributes: object) -> dict[str, Any]:
    """The attributes of a good event, with some in place of its own; None takes one away."""
    wanted = json.loads(event().to_json()) | attributes
    return {name: value for name, value in wanted.items() if value is not None}


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


# --- accepted


@pytest.mark.parametrize(
    "kind", [SINGLE, JSON, f"{SINGLE}; charset=UTF-8", "Application/CloudEvents+JSON"]
)
def test_one_event_is_published_and_then_accepted(
    listening: Listening, broker: Broker, kind: str
) -> None:
    sent = event(7)

    answer = listening.post(sent.to_json().encode(), Content_Type=kind)

    assert (answer.status, json.loads(answer.body)) == (202, {"accepted": 1})
    assert broker.calls == [[sent]]


@pytest.mark.parametrize("kind", [BATCH, JSON])
def test_a_batch_is_published_at_once_and_in_order(
    listening: Listening, broker: Broker, kind: str
) -> None:
    events = [event(version) for version in range(MAX_BATCH_EVENTS)]

    answer = listening.post(batch(*events), Content_Type=kind)

    assert (answer.status, json.loads(answer.body)) == (202, {"accepted": 1000})
    assert broker.calls == [events]


def test_an_empty_batch_is_accepted_and_nothing_is_published(
    listening: Listening, broker: Broker
) -> None:
    answer = listening.post(b"[]", Content_Type=BATCH)

    assert (answer.status, json.loads(answer.body)) == (202, {"accepted": 0})
    assert broker.calls == []


def test_a_chunked_body_is_taken(listening: Listening, broker: Broker) -> None:
    raw = event(3).to_json().encode()
    body = chunked(raw[:10], raw[10:11], raw[11:], end=b"0\r\nTrailer: x\r\n\r\n")

    answer = ask(listening.address, listening.head(Transfer_Encoding="chunked") + body)

    assert answer.status == 202
    assert [one.version for one in broker.events] == [3]


def test_who_expects_100_is_told_to_go_on(listening: Listening, broker: Broker) -> None:
    raw = event().to_json().encode()
    with RawConnection(listening.address) as connection:
        head = listening.head(Expect="100-continue", Content_Length=str(len(raw)))
        connection.send(head)
        assert connection.some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.send(raw)
        assert connection.answer().status == 202


def test_nobody_is_told_to_go_on_with_what_would_be_refused(listening: Listening) -> None:
    with RawConnection(listening.address) as connection:
        connection.send(listening.head(Expect="100-continue", Content_Length=str(10**9)))
        assert connection.some().startswith(b"HTTP/1.1 413 ")


def test_accepted_is_said_only_when_the_broker_has_it(listening: Listening, broker: Broker) -> None:
    broker.hold.clear()
    raw = event().to_json().encode()
    with RawConnection(listening.address) as connection:
        connection.send(listening.head(Content_Length=str(len(raw))) + raw)
        wait_for(lambda: listening.listener.active == 1, what="the request")
        connection._socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.some()
        connection._socket.settimeout(10)
        assert broker.calls == []
        broker.hold.set()
        assert connection.answer().status == 202
    assert len(broker.events) == 1


def test_eight_clients_at_a_time_lose_nothing(listening: Listening, broker: Broker) -> None:
    def send(client: int) -> list[int]:
        return [
            listening.post(
                batch(*(event(n * 10 + m, key=f"c{client}") for m in range(10))),
                Content_Type=BATCH,
            ).status
            for n in range(20)
        ]

    with ThreadPoolExecutor(8) as clients:
        statuses = [status for answers in clients.map(send, range(8)) for status in answers]

    assert statuses == [202] * 160
    for client in range(8):
        versions = [one.version for one in broker.events if one.key == f"c{client}"]
        assert versions == list(range(200))


def test_only_so_many_bodies_are_decoded_at_a_time(broker: Broker) -> None:
    """Decoded, a body takes many times its size in memory."""
    inside: list[int] = []
    most: list[int] = []

    def publish_many(events: Sequence[Event]) -> None:
        inside.append(1)
        most.append(len(inside))
        broker.publish_many(events)
        inside.pop()

    broker.hold.clear()
    raw = event().to_json().encode()
    with (
        Listening(operator(ingest=Ingest(publish_many, at_a_time=2))) as listening,
        ThreadPoolExecutor(6) as clients,
    ):
        answers = [clients.submit(listening.post, raw) for _ in range(6)]
        wait_for(lambda: listening.listener.active == 6, what="all requests")
        wait_for(lambda: len(most) >= 2, what="the first two")
        broker.hold.set()
        assert [answer.result(20).status for answer in answers] == [202] * 6
    assert max(most) == 2


# --- refused: who and how


def test_without_the_token_no_body_is_read(listening: Listening, broker: Broker) -> None:
    """The answer comes though the body never does."""
    head = request("POST", "/events", "x", {"Content-Type": SINGLE, "Content-Length": "1000"})
    for raw in (head, head.replace(b"Host", b"Authorization: Bearer wrong\r\nHost")):
        assert ask(listening.address, raw).status == 401
    assert broker.calls == []


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"Content_Type": "text/plain"}, f"text/plain is not taken; send {SINGLE} for one"),
        ({"Content_Type": ""}, "a body without Content-Type is not taken"),
        ({"Content_Type": "application/cloudevents+avro"}, BATCH),
        ({"Content_Type": JSON, "ce_id": "1", "ce_specversion": "1.0"}, f"binary mode.*{SINGLE}"),
        ({"Content_Type": "image/png", "CE_ID": "1"}, "binary mode"),
        ({"Content_Type": f"{SINGLE}; charset=latin1"}, "charset must be utf-8"),
        ({"Content_Encoding": "gzip"}, "without Content-Encoding"),
    ],
)
def test_other_kinds_of_content_are_415_and_told_what_to_send(
    listening: Listening, broker: Broker, headers: dict[str, str], text: str
) -> None:
    answer = listening.post(event().to_json().encode(), **headers)

    assert answer.status == 415
    ((index, error),) = errors(answer)
    assert index is None
    assert [word for word in text.split(".*") if word not in error] == []
    assert broker.calls == []


# --- refused: what


def test_every_error_of_a_batch_is_listed_and_nothing_is_published(
    listening: Listening, broker: Broker
) -> None:
    body = [
        changed(),
        changed(sequence="07"),
        changed(subject=None),
        event().to_json(),
        None,
        changed(data={"a": "\0"}),
        changed(type="project.renamed"),
    ]

    answer = listening.post(json.dumps(body).encode(), Content_Type=BATCH)

    assert answer.status == 400
    assert errors(answer) == [
        (1, "sequence: must be the version in decimal digits, not '07'"),
        (2, "subject: is missing"),
        (3, "not a JSON object"),
        (4, "not a JSON object"),
        (6, "type: ends with 'renamed', not with changed or deleted"),
    ]
    assert broker.calls == []


GOOD = event().to_json()
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (GOOD.encode() + b"{}", "not JSON"),
        (GOOD.encode("utf-16"), "not UTF-8"),
        (GOOD.replace("vim", "v\udcffm").encode(errors="surrogateescape"), "not UTF-8"),
        (b"\xef\xbb\xbf" + GOOD.encode(), "not JSON"),
        (GOOD.replace('"vim"}', '"v\\ud800m"}').encode(), "half of a surrogate pair"),
        (GOOD.replace('"vim"}', DEEP + "}").encode(), "nested too deeply"),
        (GOOD.replace('"vim"}', "[" * 70 + "]" * 70 + "}").encode(), "nested deeper than 64"),
        (GOOD.replace('"vim"}', '1,"name":2}').encode(), "'name' stands twice"),
        (GOOD.replace('"id"', '"id":"0","id"').encode(), "'id' stands twice"),
        (GOOD.replace('"vim"}', "NaN}").encode(), "NaN is no JSON"),
        (GOOD.replace('"vim"}', "-Infinity}").encode(), "-Infinity is no JSON"),
        (GOOD.replace('"vim"}', "1e999}").encode(), "is inf, which JSON does not have"),
        (GOOD.replace('"vim"}', "9" * 30 + "}").encode(), "more than 64 bits"),
        (GOOD.replace('"vim"}', "9" * 100_000 + "}").encode(), "not JSON"),
        (GOOD.replace('"1","sequencetype"', '"9' + "9" * 30 + '","sequencetype"').encode(), "seq"),
        (b"[]", "a list; send many events as application/cloudevents-batch+json"),
        (b'"text"', "not a JSON object"),
    ],
)
def test_hostile_or_broken_json_is_400_and_says_why(
    listening: Listening, broker: Broker, body: bytes, text: str
) -> None:
    answer = listening.post(body)

    assert answer.status == 400
    ((_, error),) = errors(answer)
    assert text in error
    assert broker.calls == []


def test_one_event_is_no_batch(listening: Listening, broker: Broker) -> None:
    answer = listening.post(event().to_json().encode(), Content_Type=BATCH)

    assert (answer.status, errors(answer)) == (
        400,
        [(None, f"no list; send one event as {SINGLE}")],
    )


def test_an_error_is_short_whatever_was_sent(listening: Listening) -> None:
    body = json.dumps(changed(data={"$" + "x" * 100_000: 1})).encode()

    ((_, error),) = errors(listening.post(body))

    assert len(error) < 300


# --- refused: too large


def padded(length: int) -> bytes:
    """A good event of exactly so many bytes."""
    raw = event(pad="").to_json().encode()
    return raw.replace(b'"pad":""', b'"pad":"%s"' % (b"x" * (length - len(raw))))


def test_the_longest_event_is_taken_and_one_byte_more_is_not(
    listening: Listening, broker: Broker
) -> None:
    assert listening.post(padded(MAX_EVENT_BYTES)).status == 202
    for kind in (SINGLE, JSON):
        assert listening.post(padded(MAX_EVENT_BYTES + 1), Content_Type=kind).status == 413
    assert len(broker.events) == 1


def test_a_too_long_event_in_a_batch_is_named(listening: Listening, broker: Broker) -> None:
    body = b"[%s,%s]" % (padded(500), padded(MAX_EVENT_BYTES + 1))

    answer = listening.post(body, Content_Type=BATCH)

    assert answer.status == 400
    assert errors(answer) == [(1, f"has 1048577 bytes, more than 1048576; {LARGER}")]
    assert broker.calls == []


def test_an_event_that_grows_on_its_way_is_refused(listening: Listening, broker: Broker) -> None:
    """What may be left out is written out, and the queue's limit is for what is on the queue."""
    content = b'"datacontenttype":"application/json",'
    body = padded(MAX_EVENT_BYTES + len(content)).replace(content, b"")
    assert len(body) == MAX_EVENT_BYTES

    answer = listening.post(body)

    assert answer.status == 400
    assert "more than 1048576" in errors(answer)[0][1]
    assert broker.calls == []


def test_too_many_events_are_413(listening: Listening, broker: Broker) -> None:
    body = batch(*(event(version) for version in range(MAX_BATCH_EVENTS + 1)))

    answer = listening.post(body, Content_Type=BATCH)

    assert (answer.status, errors(answer)) == (413, [(None, "the batch has more than 1000 events")])
    assert broker.calls == []


def too_large(limit: int) -> str:
    hint = LARGER if limit == MAX_EVENT_BYTES else "send fewer events at a time"
    return f"the body has more than {limit} bytes; {hint}"


@pytest.mark.parametrize(
    ("kind", "limit"),
    [(SINGLE, MAX_EVENT_BYTES), (BATCH, MAX_BATCH_BYTES), (JSON, MAX_BATCH_BYTES)],
)
def test_a_length_over_the_limit_is_refused_before_any_of_it_is_read(
    listening: Listening, kind: str, limit: int
) -> None:
    with RawConnection(listening.address) as connection:
        connection.send(listening.head(Content_Type=kind, Content_Length=str(limit + 1)))
        answer = connection.answer()
    assert (answer.status, errors(answer)) == (413, [(None, too_large(limit))])


def test_a_client_that_is_still_sending_sees_the_413(listening: Listening) -> None:
    """It would see a reset connection if nobody read on."""
    for _ in range(10):
        assert listening.post(b"x" * 3_000_000).status == 413


@pytest.mark.parametrize(("kind", "limit"), [(SINGLE, MAX_EVENT_BYTES), (BATCH, MAX_BATCH_BYTES)])
def test_an_endless_chunked_body_is_refused_at_the_limit(
    listening: Listening, broker: Broker, kind: str, limit: int
) -> None:
    chunk = b"%x\r\n%s\r\n" % (65536, b" " * 65536)
    with RawConnection(listening.address) as connection:
        connection.send(listening.head(Content_Type=kind, Transfer_Encoding="chunked"))
        for _ in range(limit // 65536 + 1):
            connection.send(chunk)
        answer = connection.answer()
    assert (answer.status, errors(answer)) == (413, [(None, too_large(limit))])
    assert broker.calls == []


# --- broken and slow clients


def test_a_body_shorter_than_its_length_is_400(listening: Listening, broker: Broker) -> None:
    raw = event().to_json().encode()
    with RawConnection(listening.address) as connection:
        connection.send(listening.head(Content_Length=str(len(raw) + 5)) + raw)
        connection._socket.shutdown(socket.SHUT_WR)
        answer = connection.answer()
    assert (answer.status, errors(answer)) == (400, [(None, "the body ended 5 bytes too early")])
    assert broker.calls == []


def test_a_body_longer_than_its_length_is_cut_and_so_broken(
    listening: Listening, broker: Broker
) -> None:
    raw = event().to_json().encode()
    answer = ask(listening.address, listening.head(Content_Length=str(len(raw) - 1)) + raw)
    assert answer.status == 400
    assert broker.calls == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"zz\r\n{}\r\n0\r\n\r\n", "a chunk of the body has no size"),
        (b"-1\r\n{}\r\n0\r\n\r\n", "a chunk of the body has no size"),
        (b"ffffffffffffffffff\r\n{}\r\n", "a chunk of the body has no size"),
        (b"1\r\n{}\r\n0\r\n\r\n", "longer than it says"),
        (b"1" * 5000, "has a line too long"),
        (b"0\r\n" + b"A: b\r\n" * 200 + b"\r\n", "too many trailers"),
    ],
)
def test_broken_chunks_are_400(
    listening: Listening, broker: Broker, body: bytes, text: str
) -> None:
    answer = ask(listening.address, listening.head(Transfer_Encoding="chunked") + body)
    assert answer.status == 400
    assert text in errors(answer)[0][1]
    assert broker.calls == []


def test_a_client_that_stops_in_the_middle_is_408(listening: Listening, broker: Broker) -> None:
    with RawConnection(listening.address) as connection:
        connection.send(listening.head(Content_Length="100") + b"{")
        answer = connection.answer()
    assert (answer.status, errors(answer)) == (
        408,
        [(None, "the rest of the body did not come in time")],
    )
    assert broker.calls == []


def test_a_body_that_trickles_is_given_up(listening: Listening, broker: Broker) -> None:
    """Each byte comes in time; all of them together do not. The time is 2 s here."""
    with RawConnection(listening.address) as connection:
        connection.send(listening.head(Content_Length="100000"))
        connection._socket.settimeout(0.05)

        def trickle() -> bytes:
            try:
                connection.send(b" ")
                return connection.some()
            except TimeoutError:
                return b""

        assert wait_for(trickle, 6, "the end of it").startswith(b"HTTP/1.1 400 ")
    assert broker.calls == []


def test_slow_clients_do_not_keep_others_out(listening: Listening, broker: Broker) -> None:
    slow = [RawConnection(listening.address) for _ in range(30)]
    for connection in slow:
        connection.send(listening.head(Content_Length="100") + b"{")
    assert listening.post(event().to_json().encode()).status == 202
    for connection in slow:
        connection.close()


# --- the broker


def test_with_the_broker_away_it_is_503_and_when_to_come_back(
    listening: Listening, broker: Broker
) -> None:
    broker.away = True
    answer = listening.post(event().to_json().encode())
    assert (answer.status, answer.get("Retry-After")) == (503, "5")
    assert "safe to send all of them again" in errors(answer)[0][1]

    broker.away = False
    assert listening.post(event().to_json().encode()).status == 202


def test_an_unforeseen_error_is_500_and_not_accepted() -> None:
    def fail(events: Sequence[Event]) -> None:
        raise RuntimeError("the-secret")

    with Listening(operator(ingest=Ingest(fail))) as listening:
        answer = listening.post(event().to_json().encode())
    assert answer.status == 500
    assert b"the-secret" not in answer.body


class Publisher:
    """One connection to a `Broker`, which no two threads may use together."""

    made: list[Publisher]

    def __init__(self, broker: Broker) -> None:
        self.broker, self.closed = broker, False
        self._lock = threading.Lock()

    def publish_many(self, events: Sequence[Event]) -> None:
        assert self._lock.acquire(blocking=False)
        try:
            if events[0].version == 666:
                raise RuntimeError("broken")
            self.broker.publish_many(events)
        finally:
            self._lock.release()

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made() -> list[Publisher]:
    return []


def pool_of(broker: Broker, made: list[Publisher], **options: Any) -> PublisherPool:
    def make() -> Publisher:
        made.append(Publisher(broker))
        return made[-1]

    return PublisherPool(make, **options)


def test_publishers_are_made_when_needed_and_used_again(
    broker: Broker, made: list[Publisher]
) -> None:
    pool = pool_of(broker, made)
    assert made == []
    for version in range(5):
        pool.publish_many([event(version)])
    assert len(made) == 1
    assert [one.version for one in broker.events] == [0, 1, 2, 3, 4]


def test_eight_threads_share_two_publishers(broker: Broker, made: list[Publisher]) -> None:
    pool = pool_of(broker, made, size=2)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda version: pool.publish_many([event(version)]), range(200)))
    assert len(made) <= 2
    assert sorted(one.version for one in broker.events) == list(range(200))


def test_a_publisher_stays_when_the_broker_was_away(broker: Broker, made: list[Publisher]) -> None:
    pool = pool_of(broker, made)
    broker.away = True
    with pytest.raises(ServerAway):
        pool.publish_many([event()])
    broker.away = False
    pool.publish_many([event()])
    assert [publisher.closed for publisher in made] == [False]


def test_a_publisher_that_failed_otherwise_is_replaced(
    broker: Broker, made: list[Publisher]
) -> None:
    pool = pool_of(broker, made, size=1)
    with pytest.raises(RuntimeError):
        pool.publish_many([event(666)])
    pool.publish_many([event()])
    assert [publisher.closed for publisher in made] == [True, False]


def test_a_broker_that_is_away_from_the_start_takes_no_place(broker: Broker) -> None:
    tries = []

    def make() -> Publisher:
        tries.append(1)
        if len(tries) < 6:
            raise ServerAway("Redis does not answer")
        return Publisher(broker)

    pool = PublisherPool(make, size=2, wait=0.1)
    for _ in range(5):
        with pytest.raises(ServerAway, match="Redis does not answer"):
            pool.publish_many([event()])
    pool.publish_many([event()])
    assert len(broker.events) == 1


def test_with_every_publisher_busy_it_is_said_that_the_broker_is_away(
    broker: Broker, made: list[Publisher]
) -> None:
    pool = pool_of(broker, made, size=1, wait=0.1)
    broker.hold.clear()
    busy = threading.Thread(target=pool.publish_many, args=([event(1)],))
    busy.start()
    wait_for(lambda: made, what="the publisher")
    with pytest.raises(ServerAway, match="busy"):
        pool.publish_many([event(2)])
    broker.hold.set()
    busy.join(10)
    assert [one.version for one in broker.events] == [1]


def test_closing_closes_every_publisher(broker: Broker, made: list[Publisher]) -> None:
    pool = pool_of(broker, made)
    pool.publish_many([event()])
    pool.close()
    assert [publisher.closed for publisher in made] == [True]
    pool.publish_many([event()])
    assert len(made) == 2


def test_the_process_beside_serve_takes_events(
    tmp_path: Path, redis_url: str, clean_redis: redis.Redis
) -> None:
    """As `bridgectl serve --operator` starts it; it ends with its parent, or when told to."""
    address = f"127.0.0.1:{free_port()}"
    env = os.environ | {
        "BRIDGE_OPERATOR_TOKEN": TOKEN,
        "BRIDGE_BROKER_URL": redis_url,
        "BRIDGE_STATE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "bridge.overview", address, str(os.getpid())]
    with subprocess.Popen(command, env=env, cwd=REPOSITORY) as process:
        try:
            wait_for(lambda: is_open(int(address.rpartition(":")[2])), what="the listener")
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": BATCH}
            raw = batch(event(1), event(2))
            answer = ask(address, request("POST", "/events", "x", headers, raw))
        finally:
            process.terminate()
    assert (answer.status, json.loads(answer.body)) == (202, {"accepted": 2})
    assert clean_redis.xlen("bridge.events") == 2


def test_the_token_is_the_listeners(listening: Listening) -> None:
    assert listening.post(GOOD.encode(), Authorization=f"bearer {TOKEN}").status == 202
