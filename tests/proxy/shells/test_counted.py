"""What is measured of requests, in both shells: each stage, each failure, what there is now."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import pytest

from bridge.proxy.telemetry import scrape
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, OK, Backend, Call
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

Samples = Counter[str]


def scraped(bridge: Bridge) -> Samples:
    found: Samples = Counter()
    for line in scrape.scrape(bridge.state).decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = int(float(value))
    return found


@pytest.fixture
def more(bridge: Bridge) -> Callable[[str], int]:
    """How much a sample has grown since the test began."""
    before = scraped(bridge)
    return lambda name: scraped(bridge)[name] - before[name]


def stage(backend: str, name: str) -> str:
    return f'bridge_stage_seconds_count{{backend="{backend}",stage="{name}"}}'


def test_a_request_to_legacy_is_measured_in_its_stages(
    bridge: Bridge, backend: Backend, more: Callable[[str], int]
) -> None:
    backend.hang_up()
    for _ in range(3):
        bridge.ask("GET", "/")
    assert (more(stage("main", "wait")), more(stage("main", "first_byte"))) == (3, 3)
    assert more('bridge_requests_total{backend="main",route="-",status="2xx"}') == 3
    assert more('bridge_request_seconds_count{backend="main"}') == 3


def test_a_new_connection_is_measured(
    bridge: Bridge, backend: Backend, more: Callable[[str], int]
) -> None:
    bridge.ask("POST", "/", body=b"x")  # always on a connection of its own
    assert more(stage("main", "connect")) == 1


def test_a_handler_is_measured(bridge: Bridge, more: Callable[[str], int]) -> None:
    bridge.ask("GET", "/py/text", host="python.test")
    bridge.ask("GET", "/py/fails", host="python.test")
    assert more(stage("python", "handler")) == 2
    assert more('bridge_fallbacks_total{reason="python-error",route="fails"}') == 1


@pytest.mark.parametrize(
    ("host", "failed", "measured"),
    [("refused", "connect", "connect"), ("hasty", "first_byte", "first_byte")],
)
def test_a_backend_that_fails_is_counted_by_its_stage(
    bridge: Bridge,
    backend: Backend,
    more: Callable[[str], int],
    host: str,
    failed: str,
    measured: str,
) -> None:
    backend.when("/silent", lambda call: call.left())
    assert bridge.ask("GET", "/silent", host=f"{host}.test").status in (502, 504)
    assert more(f'bridge_backend_failures_total{{backend="{host}",stage="{failed}"}}') == 1
    assert more(stage(host, measured)) == 1
    record = bridge.outcome("/silent")
    assert (record["backend"], record["legacy"]) == ("bridge", host)


def test_what_is_in_flight_and_who_waits_is_shown(bridge: Bridge, backend: Backend) -> None:
    release = threading.Event()

    def hold(call: Call) -> None:
        release.wait(BOUND)
        call.send(OK)

    backend.when("/hold", hold)
    active = 'bridge_backend_connections{backend="main",state="active"}'
    idle = 'bridge_backend_connections{backend="main",state="idle"}'
    with bridge.visitor() as first, bridge.visitor() as second:
        for visitor in (first, second):
            visitor.send(request("GET", "/hold", host="main.test"))
        try:
            wait_for(
                lambda: (scraped(bridge)["bridge_in_flight"], scraped(bridge)[active]) == (2, 2),
                BOUND,
                "two requests in flight",
            )
            assert scraped(bridge)["bridge_visitors"] >= 2
        finally:
            release.set()
        for visitor in (first, second):
            assert visitor.answer("GET").status == 200
        wait_for(lambda: scraped(bridge)["bridge_in_flight"] == 0, BOUND, "nothing in flight")
        assert scraped(bridge)[active] == 0
        assert scraped(bridge)[idle] >= 2
    assert scraped(bridge)["bridge_workers"] == 1


def test_what_is_no_request_is_counted_and_logged(
    bridge: Bridge, more: Callable[[str], int]
) -> None:
    """The page shows the id that its line in the access log has."""
    refused = bridge.send(b"GET / HTTP/1.1\r\nHost: main.test\r\nBad name: 1\r\n\r\n")
    assert refused.status == 400
    assert more('bridge_requests_total{backend="bridge",route="-",status="4xx"}') == 1
    record = bridge.outcome("")
    assert (record["status"], record["backend"], record["client"]) == (400, "bridge", "127.0.0.1")
    assert record["error"]
    assert f"Request {record['request_id']}".encode() in refused.body


@pytest.mark.parametrize(
    "head", ["GET / HTTP/1.1\r\n", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n"]
)
def test_who_is_refused_before_they_are_known_has_an_address(bridge: Bridge, head: str) -> None:
    bridge.send(f"{head}\r\n".encode())
    assert [line["client"] for line in bridge.outcomes()] == ["127.0.0.1"]
