"""The ingest client: what it sends, when it tries again, and what it says when it gives up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import redis
import requests
import responses

from bridge.errors import BridgeError, IngestRefused, ServerAway, UndecodableMessage
from bridge.queue.client import IngestClient
from bridge.queue.events import Event
from bridge.queue.ingest import Ingest, PublisherPool
from stack.ports import free_port
from tests.listening import BATCH, SINGLE, TOKEN, Broker, Listening, event, operator

URL = "https://bridge.example.org/events"


@pytest.fixture
def http() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


class Sleeps(list[float]):
    """Notes the seconds instead of sleeping."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def sleeps() -> Sleeps:
    return Sleeps()


@pytest.fixture
def client(sleeps: Sleeps) -> Iterator[IngestClient]:
    with IngestClient("https://bridge.example.org", TOKEN, sleep=sleeps) as client:
        yield client


def accepting(http: responses.RequestsMock) -> list[list[dict[str, Any]]]:
    """Answer as the listener does; gives what was sent, one list of events a request."""
    sent: list[list[dict[str, Any]]] = []

    def answer(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        content = json.loads(request.body or b"")
        sent.append(content if isinstance(content, list) else [content])
        return 202, {}, json.dumps({"accepted": len(sent[-1])})

    http.add_callback("POST", URL, answer)
    return sent


def refusing(http: responses.RequestsMock, status: int, *errors: tuple[int | None, str]) -> None:
    listed = [{"index": index, "error": error} for index, error in errors]
    http.post(URL, status=status, json={"errors": listed})


# --- what it sends


def test_one_event_is_sent_with_the_token(
    http: responses.RequestsMock, client: IngestClient
) -> None:
    sent = accepting(http)
    one = event(7, name="Vím")

    client.send(one)

    assert sent == [[json.loads(one.to_json())]]
    headers = http.calls[0].request.headers
    assert (headers["Content-Type"], headers["Authorization"]) == (SINGLE, f"Bearer {TOKEN}")


def test_many_are_split_by_number(http: responses.RequestsMock, client: IngestClient) -> None:
    sent = accepting(http)

    assert client.send_many(event(version) for version in range(1201)) == 1201

    assert [len(batch) for batch in sent] == [500, 500, 201]
    assert [int(one["sequence"]) for batch in sent for one in batch] == list(range(1201))
    assert {call.request.headers["Content-Type"] for call in http.calls} == {BATCH}


def test_many_are_split_by_size(http: responses.RequestsMock, client: IngestClient) -> None:
    sent = accepting(http)
    large = "ü" * 500_000  # 1,000,000 bytes

    assert client.send_many(event(version, text=large) for version in range(10)) == 10

    assert [len(batch) for batch in sent] == [4, 4, 2]
    assert max(len(call.request.body or b"") for call in http.calls) <= 4 * 1024 * 1024


def test_nothing_to_send_sends_nothing(http: responses.RequestsMock, client: IngestClient) -> None:
    assert client.send_many([]) == 0
    assert len(http.calls) == 0


def test_a_too_large_event_is_not_sent(http: responses.RequestsMock, client: IngestClient) -> None:
    with pytest.raises(UndecodableMessage, match="more than 1048576"):
        client.send(event(text="x" * 1_100_000))
    assert len(http.calls) == 0


def test_a_netrc_does_not_take_the_tokens_place(
    http: responses.RequestsMock,
    client: IngestClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine bridge.example.org login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    accepting(http)

    client.send(event())

    assert http.calls[0].request.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("http://10.0.0.7:9180", "http://10.0.0.7:9180/events"),
        ("http://10.0.0.7:9180/", "http://10.0.0.7:9180/events"),
        ("https://example.org/bridge/events", "https://example.org/bridge/events"),
    ],
)
def test_the_path_is_events_unless_one_is_given(
    http: responses.RequestsMock, given: str, asked: str
) -> None:
    http.post(asked, status=202, json={"accepted": 1})
    with IngestClient(given, TOKEN) as client:
        client.send(event())
    assert http.calls[0].request.url == asked


def test_a_session_of_ones_own_stays_open(http: responses.RequestsMock) -> None:
    closed = []

    class Session(requests.Session):
        def close(self) -> None:
            closed.append(self)
            super().close()

    accepting(http)
    with Session() as session:
        session.headers["X-Producer"] = "erp"
        with IngestClient(URL, TOKEN, session=session) as client:
            client.send(event())
        assert closed == []
    assert http.calls[0].request.headers["X-Producer"] == "erp"


# --- when it tries again


@pytest.mark.parametrize("status", [502, 503, 504])
def test_it_tries_again_when_the_other_side_is_away(
    http: responses.RequestsMock, client: IngestClient, sleeps: Sleeps, status: int
) -> None:
    http.post(URL, status=status, headers={"Retry-After": "3"})
    http.post(URL, status=202, json={"accepted": 1})

    client.send(event())

    assert sleeps == [3.0]
    bodies = {call.request.body for call in http.calls}
    assert len(http.calls) == 2
    assert len(bodies) == 1


@pytest.mark.parametrize(
    "error",
    [requests.ConnectionError("refused"), requests.ReadTimeout(), requests.ConnectTimeout()],
)
def test_it_tries_again_when_the_connection_fails(
    http: responses.RequestsMock, client: IngestClient, sleeps: Sleeps, error: Exception
) -> None:
    for _ in range(3):
        http.post(URL, body=error)
    http.post(URL, status=202, json={"accepted": 1})

    client.send(event())

    first, second, third = sleeps
    assert 0.375 <= first <= 0.625
    assert 0.75 <= second <= 1.25
    assert 1.5 <= third <= 2.5


def http_date(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("retry_after", "lowest", "highest"),
    [
        ("0", 0, 0),
        ("7", 7, 7),
        ("86400", 30, 30),
        ("9" * 400, 30, 30),
        (timedelta(seconds=-3600), 0, 0),
        (timedelta(seconds=86400), 30, 30),
        (timedelta(seconds=20), 5, 20),
        ("-5", 0.375, 0.625),
        ("1.5", 0.375, 0.625),
        ("nan", 0.375, 0.625),
        ("soon", 0.375, 0.625),
        ("Fri, 99 Nov 2026 99:00:00 GMT", 0.375, 0.625),
        ("Fri, 31 Dec 99999999 00:00:00 GMT", 0.375, 0.625),
    ],
)
def test_retry_after_is_honoured_within_bounds(
    http: responses.RequestsMock,
    client: IngestClient,
    sleeps: Sleeps,
    retry_after: str | timedelta,
    lowest: float,
    highest: float,
) -> None:
    if isinstance(retry_after, timedelta):
        # A date, made now and not when the tests are collected.
        retry_after = http_date(retry_after.total_seconds())
    http.post(URL, status=503, headers={"Retry-After": retry_after})
    http.post(URL, status=202, json={"accepted": 1})

    client.send(event())

    (waited,) = sleeps
    assert lowest <= waited <= highest


def test_after_all_tries_it_says_so(
    http: responses.RequestsMock, client: IngestClient, sleeps: Sleeps
) -> None:
    http.post(URL, status=202, json={"accepted": 500})
    http.post(URL, status=503)

    with pytest.raises(ServerAway) as caught:
        client.send_many(event(version) for version in range(501))

    assert str(caught.value) == (
        "the listener at https://bridge.example.org/events did not accept events in 5 tries, the "
        "last time because it answered 503; 500 events before them were accepted. They may be on "
        "the queue: sending them again is safe"
    )
    assert len(sleeps) == 4


# --- what it does not try again


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 500])
def test_a_refusal_is_final(
    http: responses.RequestsMock, client: IngestClient, sleeps: Sleeps, status: int
) -> None:
    refusing(http, status, (None, "no"))

    with pytest.raises(IngestRefused) as caught:
        client.send(event())

    assert (caught.value.status, caught.value.errors) == (status, ((None, "no"),))
    assert len(http.calls) == 1
    assert sleeps == []


def test_every_error_is_listed_with_its_place_among_all_events(
    http: responses.RequestsMock, client: IngestClient
) -> None:
    http.post(URL, status=202, json={"accepted": 500})
    refusing(http, 400, (0, "sequence: is missing"), (20, "subject: is missing"))

    with pytest.raises(IngestRefused) as caught:
        client.send_many(event(version) for version in range(600))

    assert caught.value.errors == ((500, "sequence: is missing"), (520, "subject: is missing"))
    assert caught.value.accepted == 500
    assert str(caught.value).splitlines() == [
        "the listener at https://bridge.example.org/events did not accept the events: status 400",
        "event 500: sequence: is missing",
        "event 520: subject: is missing",
    ]


def test_a_redirect_is_not_followed(http: responses.RequestsMock, client: IngestClient) -> None:
    http.post(URL, status=302, headers={"Location": "https://other.example.org/"})

    with pytest.raises(IngestRefused, match="status 302"):
        client.send(event())
    assert len(http.calls) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, '{"accepted": 1}'),
        (202, '{"accepted": 2}'),
        (202, "[1]"),
        (202, "<h1>Welcome to the hotel's network</h1>"),
        (400, '{"errors": 7}'),
        (400, '{"errors": [7]}'),
        (400, ""),
        (400, "x" * 100_000),
    ],
)
def test_an_answer_that_is_not_the_listeners_is_no_acceptance(
    http: responses.RequestsMock, client: IngestClient, status: int, body: str
) -> None:
    http.post(URL, status=status, body=body)

    with pytest.raises(IngestRefused) as caught:
        client.send(event())
    assert caught.value.status == status
    assert len(str(caught.value)) < 400


def test_a_wrong_certificate_is_said_at_once(
    http: responses.RequestsMock, client: IngestClient, sleeps: Sleeps
) -> None:
    http.post(URL, body=requests.exceptions.SSLError("certificate has expired"))

    with pytest.raises(IngestRefused, match="certificate has expired"):
        client.send(event())
    assert sleeps == []


# --- what it does not say


@pytest.mark.parametrize("status", [401, 503])
def test_no_message_has_the_token_or_a_password(
    http: responses.RequestsMock, sleeps: Sleeps, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    http.post(re.compile(".*"), status=status)
    url = "https://me:the-password@bridge.example.org/events?key=the-key"
    client = IngestClient(url, "the-secret-token", sleep=sleeps)

    with pytest.raises(BridgeError) as caught:
        client.send(event())

    for text in (str(caught.value), repr(caught.value), repr(client), caplog.text):
        for secret in ("the-secret-token", "the-password", "the-key"):
            assert secret not in text
    assert http.calls[0].request.headers["Authorization"] == "Bearer the-secret-token"


@pytest.mark.parametrize("token", ["", " ", "the-token\n", "the\r\nX: y", " the-token"])
def test_a_token_that_is_none_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(BridgeError) as caught:
        IngestClient(URL, token)
    assert "the-token" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "bridge.example.org", "ftp://example.org", "https://", "//x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(BridgeError, match="is no listener"):
        IngestClient(url, TOKEN)


# --- with a real listener


def test_a_token_beyond_ascii_arrives_as_it_is() -> None:
    broker = Broker()
    token = "geheim-ü€"
    with (
        Listening(operator(broker, token=token)) as listening,
        IngestClient(f"http://{listening.address}", token) as client,
    ):
        client.send(event())
    assert len(broker.events) == 1


def test_nobody_listening_is_said(sleeps: Sleeps) -> None:
    with (
        IngestClient(f"http://127.0.0.1:{free_port()}", TOKEN, sleep=sleeps, tries=2) as client,
        pytest.raises(ServerAway, match="in 2 tries, the last time because the connection failed"),
    ):
        client.send(event())
    assert len(sleeps) == 1


def test_it_waits_for_the_broker_to_come_back() -> None:
    broker = Broker()
    broker.away = True

    def broker_comes_back(seconds: float) -> None:
        assert seconds == 5  # as the listener asks
        broker.away = False

    with (
        Listening(operator(broker)) as listening,
        IngestClient(f"http://{listening.address}", TOKEN, sleep=broker_comes_back) as client,
    ):
        assert client.send_many(event(version) for version in range(3)) == 3
    assert [one.version for one in broker.events] == [0, 1, 2]


def test_a_wrong_token_is_refused_even_with_a_large_body() -> None:
    """The listener answers without reading; the client must see the answer all the same."""
    broker = Broker()
    with (
        Listening(operator(broker)) as listening,
        IngestClient(f"http://{listening.address}", "wrong") as client,
        pytest.raises(IngestRefused, match="a bearer token is needed"),
    ):
        client.send_many(event(version, text="x" * 1_000_000) for version in range(4))
    assert broker.calls == []


def test_events_reach_the_stream_in_redis(redis_url: str, clean_redis: redis.Redis) -> None:
    events = [event(version, text="Grüße €") for version in range(1200)]
    pool = PublisherPool.of(redis_url)
    with (
        Listening(operator(ingest=Ingest(pool.publish_many))) as listening,
        IngestClient(f"http://{listening.address}", TOKEN) as client,
    ):
        client.send(events[0])
        assert client.send_many(events[1:]) == 1199
    pool.close()

    entries = clean_redis.xrange("bridge.events")
    assert [Event.parse(fields[b"body"]) for _, fields in entries] == events


def test_without_redis_nothing_is_accepted(sleeps: Sleeps) -> None:
    pool = PublisherPool.of(f"redis://127.0.0.1:{free_port()}/0")
    with (
        Listening(operator(ingest=Ingest(pool.publish_many))) as listening,
        IngestClient(f"http://{listening.address}", TOKEN, sleep=sleeps, tries=2) as client,
        pytest.raises(ServerAway, match="answered 503"),
    ):
        client.send(event())
    assert sleeps == [5.0]
