"""Several servers of one backend: no visitor notices that one is away."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli import cli
from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry.workers import read_all
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.serving import Bridge


@pytest.fixture(scope="module")
def second() -> Iterator[Backend]:
    with Backend() as server:
        yield server


@pytest.fixture(scope="module")
def pair_bridge(
    http_home: Path, places: dict[str, str], second: Backend, engine: str
) -> Iterator[Bridge]:
    both = places | {"SECOND": f"http://127.0.0.1:{second.port}"}
    bridge = Bridge(http_home / f"pair-{engine}", both, engine=engine)
    bridge.start()
    yield bridge
    bridge.stop()


@pytest.fixture
def pair(pair_bridge: Bridge, double: Backend, second: Backend) -> Iterator[list[Backend]]:
    """The two servers."""
    servers = [double, second]
    for server in servers:
        server.clear()
    pair_bridge.mark()
    yield servers
    for server in servers:
        server.clear()


def test_a_server_that_refuses_is_passed_over(bridge: Bridge, backend: Backend) -> None:
    """Nothing was sent to it, so that any method may be asked of another one."""
    for method in ("GET", "POST", "PUT", "DELETE") * 3:
        body = b"x=1" if method != "GET" else None
        assert bridge.ask(method, "/", host="several.test", body=body).status == 200
    assert len(backend.of("/")) == 12
    assert "a server is left alone" in bridge.errors()


def test_the_less_busy_one_is_asked(pair_bridge: Bridge, pair: list[Backend]) -> None:
    """While one works on requests, the other one gets those that come."""
    goes_on = threading.Event()

    def slow(call: Call) -> None:
        goes_on.wait(BOUND)
        call.send(plain())

    for server in pair:
        server.when("/slow", slow)
    with pair_bridge.visitor() as visitor:
        visitor.send(b"GET /slow HTTP/1.1\r\nHost: probed.test\r\n\r\n")
        wait_for(lambda: any(s.of("/slow") for s in pair), BOUND, "the slow request")
        [busy] = [server for server in pair if server.of("/slow")]
        [free] = [server for server in pair if server is not busy]
        for _ in range(6):
            pair_bridge.ask("GET", "/", host="probed.test")
        assert (len(busy.of("/")), len(free.of("/"))) == (0, 6)
        goes_on.set()
        assert visitor.answer().status == 200


def test_a_server_that_gives_no_answers_is_left_alone(
    pair_bridge: Bridge, pair: list[Backend]
) -> None:
    silent, well = pair
    silent.when("/", Call.close)
    statuses = [pair_bridge.ask("GET", "/", host="pair.test").status for _ in range(12)]
    assert statuses.count(502) <= 4
    assert statuses[-4:] == [200] * 4
    assert len(well.of("/")) >= 8


def test_a_server_whose_probe_fails_is_not_asked_until_it_is_well(
    pair_bridge: Bridge, pair: list[Backend]
) -> None:
    """The probe goes to the path that the file names."""
    sick, well = pair
    sick.when("/ping", plain("503 Service Unavailable"))
    sick.wait("/ping", 3)
    for _ in range(6):
        assert pair_bridge.ask("GET", "/", host="probed.test").status == 200
    assert (len(sick.of("/")), len(well.of("/"))) == (0, 6)
    assert sick.of("/ping")[0].target == b"/ping?x"
    sick.when("/ping", plain())
    sick.wait("/ping", len(sick.of("/ping")) + 3)
    for _ in range(6):
        pair_bridge.ask("GET", "/", host="probed.test")
    assert len(sick.of("/")) == 3


def operator(bridge: Bridge, *words: str) -> str:
    """What a verb says to the operator of this bridge."""
    env = {name: None for name in os.environ if name.startswith("BRIDGE_")}
    own = {"BRIDGE_ROUTES": str(bridge.routes), "BRIDGE_STATE_DIR": str(bridge.state)}
    return " ".join(CliRunner().invoke(cli, words, env={**env, **own}).output.split())


def test_the_operator_sees_which_server_is_left_alone_and_why(
    pair_bridge: Bridge, pair: list[Backend]
) -> None:
    """What workers see counts: here the start page is well, and the page of the probes is not."""
    sick, _ = pair
    sick.when("/ping", plain("503 Service Unavailable"))
    url = f"http://127.0.0.1:{sick.port}"
    down = f'bridge_backend_server_down{{backend="probed",server="{url}"}}'

    def count() -> float:
        lines = scrape.scrape(pair_bridge.state).decode().splitlines()
        return next((float(one.split()[-1]) for one in lines if one.startswith(down)), 0.0)

    def alone() -> dict[str, str]:
        (worker,) = read_all(pair_bridge.state)
        return dict(worker.alone.get("probed", {}))

    wait_for(lambda: alone() and count(), BOUND, "the worker says so")
    assert alone() == {url: "the probe was answered with 503"}
    says = "left alone in 1 of 1 workers: the probe was answered with 503"
    found = json.loads(operator(pair_bridge, "status", "-o", "json"))
    assert {"backend": "probed", "server": url, "workers": 1, "whys": [says[30:]]} in found[
        "left_alone"
    ]
    (legacy,) = [one for one in found["legacy"] if one["backend"] == "probed" and not one["well"]]
    assert legacy["says"] == "answers /ping?x with 503"
    assert f"legacy probed {says} {url}" in operator(pair_bridge, "status")
    findings = json.loads(operator(pair_bridge, "doctor", "-o", "json"))
    assert [one["where"] for one in findings if one["says"] == says] == [url]
    said = operator(pair_bridge, "explain", "GET", "http://probed.test/")
    assert f"but {url} of probed is {says}" in said
    sick.when("/ping", plain())
    wait_for(lambda: not alone() and not count(), BOUND, "the worker asks it again")


def test_a_backend_that_is_not_to_be_kept_alive_is_not(bridge: Bridge, backend: Backend) -> None:
    for _ in range(3):
        assert bridge.ask("GET", "/", host="closing.test").status == 200
    came = backend.of("/")
    assert len({received.connection for received in came}) == len(came) == 3
    assert {received.get("Connection") for received in came} == {"close"}
