"""The operator's listener over real sockets: who may ask, what it says, and what it bears."""

from __future__ import annotations

import hmac
import json
import os
import socket
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from bridge import doctor
from bridge.errors import BridgeError
from bridge.listener import Limits
from bridge.operator import application, check_address, serve_in_thread
from bridge.overview import whole
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.telemetry import metrics, scrape
from bridge.proxy.telemetry import workers as status
from stack.ports import free_port, is_open
from stack.waiting import wait_for
from tests.acceptance.raw_http import BrokenAnswer, RawConnection, ask, request
from tests.listening import TOKEN, Broker, Listening, operator, settings
from tests.proxy.site import TOP, VIEW

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer the-token\r\n\r\n"


# --- who may ask


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer wrong", "the-token", "Basic the-token", "Bearer the-token2", "Bearer é"],
)
def test_without_the_token_nothing_is_said(authorization: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    with Listening(operator(Broker())) as listening:
        for path in ("/metrics", "/health", "/events", "/nothing"):
            answer = listening.get(path, headers)
            assert (answer.status, answer.body) == (401, b"a bearer token is needed\n")
            assert answer.get("WWW-Authenticate") == "Bearer"


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    with Listening(operator()) as listening:
        assert listening.get("/metrics", {"Authorization": f"{scheme}{TOKEN}"}).status == 200


def test_a_token_beyond_ascii_is_compared_as_its_bytes() -> None:
    with Listening(operator(token="geheim-ü€")) as listening:
        as_sent = "Bearer geheim-ü€".encode().decode("latin-1")
        assert listening.get("/metrics", {"Authorization": as_sent}).status == 200
        assert listening.get("/metrics", {"Authorization": "Bearer geheim-ü"}).status == 401


@pytest.mark.parametrize("given", [TOKEN, "t", "the-tokem", ""])
def test_the_token_is_compared_in_constant_time(
    given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[object, object]] = []
    real = hmac.compare_digest

    def compare(left: Any, right: Any) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with Listening(operator()) as listening:
        listening.get("/metrics", {"Authorization": f"Bearer {given}"})
    assert compared == [(given.encode(), TOKEN.encode())]


def test_without_a_configured_token_it_shows_but_takes_no_events() -> None:
    broker = Broker()
    with Listening(operator(broker, token="")) as listening:
        assert listening.get("/metrics", {}).status == 200
        for headers in ({}, {"Authorization": "Bearer the-token"}, {"Authorization": "Bearer "}):
            answer = ask(listening.address, request("POST", "/events", "x", headers, body=b"{}"))
            assert answer.status == 403
            assert b"set BRIDGE_OPERATOR_TOKEN" in answer.body
    assert broker.calls == []


@pytest.mark.parametrize("address", ["0.0.0.0:9180", "[::]:9180", "bridge.example.org:9180"])
def test_other_machines_need_a_token(address: str) -> None:
    with pytest.raises(BridgeError, match=r"set BRIDGE_OPERATOR_TOKEN, or listen on 127.0.0.1"):
        check_address(address, "")
    assert check_address(address, TOKEN)[1] == 9180


@pytest.mark.parametrize("address", ["", "9180", ":9180", "127.0.0.1", "127.0.0.1:x", "h:65536"])
def test_a_malformed_address_is_said_plainly(address: str) -> None:
    with pytest.raises(BridgeError, match=r"is no host:port; write for example 127.0.0.1:9180"):
        check_address(address, TOKEN)


# --- what it says


def test_it_shows_the_parts_that_it_was_given() -> None:
    app = application(
        settings(),
        metrics=lambda: b"up 1\n",
        health=lambda: "",
        routes=lambda: [{"route": "hello"}],
    )
    with Listening(app) as listening:
        metrics = listening.get("/metrics")
        assert metrics.body == b"up 1\n"
        assert metrics.get("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
        assert json.loads(listening.get("/routes").body) == [{"route": "hello"}]
        assert listening.get("/health").body == b"ok\n"
        nothing = listening.get("/events")
        assert (nothing.status, nothing.body) == (404, b"here are /health, /metrics, /routes\n")


def test_what_is_wrong_is_in_the_health() -> None:
    app = application(settings(), metrics=bytes, health=lambda: "MongoDB is away")
    with Listening(app) as listening:
        answer = listening.get("/health")
    assert (answer.status, answer.body) == (503, b"MongoDB is away\n")


def test_health_tells_no_worker_from_a_broken_file(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(TOP + f'  - {{name: a, path: /a, handler: "{VIEW}", python: 0%}}\n')
    app = whole(replace(settings(), state_dir=tmp_path), ExitStack(), proxy=True)
    with Listening(app) as listening:

        def health() -> tuple[int, bytes]:
            answer = listening.get("/health")
            return answer.status, answer.body

        assert health() == (503, b"no worker runs here\n")
        reloader = Reloader(file)
        status.write(tmp_path, 0, reloader)
        assert health() == (200, b"ok\n")
        file.write_text("version: 2\n")
        reloader.check(force=True)
        status.write(tmp_path, 0, reloader)
        assert health() == (503, b"routes.yaml, or a handler that it names, is broken\n")


def test_a_worker_that_watches_no_more_is_in_the_health_and_seen_by_doctor(tmp_path: Path) -> None:
    file = tmp_path / "routes.yaml"
    file.write_text(TOP + f'  - {{name: a, path: /a, handler: "{VIEW}", python: 0%}}\n')
    status.write(tmp_path, 0, Reloader(file))
    scrape.prepare(tmp_path)
    worker = metrics.Metrics(tmp_path, metrics.take_slot(tmp_path))
    ours = replace(settings(), state_dir=tmp_path, routes=file)
    try:
        with Listening(whole(ours, ExitStack(), proxy=True)) as listening:
            for watches in (True, False, True):
                worker.state(metrics.State(0, 0, 0, {}, {}, watches=watches))
                answer = listening.get("/health")
                assert answer.status == (200 if watches else 503)
                assert (b"not notice changes" in answer.body) is not watches
                said = [one.says for one in doctor._state(ours) if one.state == "bad"]
                assert ["no longer notice" in text for text in said] == [True] * (not watches)
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", "/metrics", "GET, HEAD"), ("GET", "/events", "POST"), ("PUT", "/events", "POST")],
)
def test_other_methods_are_refused(method: str, path: str, allowed: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with Listening(operator(Broker())) as listening:
        answer = ask(listening.address, request(method, path, "x", headers))
    assert (answer.status, answer.get("Allow")) == (405, allowed)


def test_head_has_no_body() -> None:
    with Listening(operator()) as listening, RawConnection(listening.address) as connection:
        connection.send(GET.replace(b"GET", b"HEAD"))
        answer = connection.answer("HEAD")
        assert (answer.status, answer.get("Content-Length")) == (200, "5")
        assert connection.some() == b""


def test_a_failure_is_logged_and_shows_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever has used it before this test may have bound it to another stream.
    monkeypatch.setattr("bridge.listener.log", structlog.wrap_logger(structlog.PrintLogger()))

    def fail() -> bytes:
        raise RuntimeError("the-secret")

    with Listening(application(settings(), metrics=fail, health=str)) as listening:
        answer = listening.get("/metrics")
    assert answer.status == 500
    assert b"the-secret" not in answer.body
    written = capsys.readouterr()
    assert "RuntimeError: the-secret" in written.out + written.err


# --- what it bears


def test_silent_clients_cost_neither_threads_nor_the_others_for_long() -> None:
    limits = Limits(threads=2, silence=0.3, head=0.3)
    before = threading.active_count()
    with Listening(operator(), limits) as listening:
        idle = [RawConnection(listening.address) for _ in range(12)]
        wait_for(lambda: listening.listener.active == 2, what="both threads taken")
        assert threading.active_count() <= before + 3
        assert repr(listening.listener).endswith("2 active>")
        assert listening.get("/metrics").status == 200
        for connection in idle:
            assert connection.some() == b""
            connection.close()


@pytest.mark.parametrize("start", [b"GET /metrics HT", b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: "])
def test_a_head_that_trickles_is_given_up(start: bytes) -> None:
    """Each byte comes in time; all of them together do not."""
    limits = Limits(silence=5, head=0.5)
    with Listening(operator(), limits) as listening, RawConnection(listening.address) as connection:
        connection.send(start)

        def trickle() -> bool:
            try:
                connection.send(b"x")
            except OSError:
                return True
            return listening.listener.active == 0

        wait_for(lambda: listening.listener.active == 1, what="its thread")
        wait_for(trickle, 4, "the end of it", interval=0.1)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (GET.replace(b"Host: x", b"Content-Length: 1\r\nContent-Length: 2"), 400),
        (GET.replace(b"Host: x", b"Content-Length: -1"), 400),
        (GET.replace(b"Host: x", b"Content-Length: 1_0"), 400),
        (GET.replace(b"Host: x", b"Content-Length: 0\r\nTransfer-Encoding: chunked"), 400),
        (GET.replace(b"Host: x", b"Transfer-Encoding: gzip, chunked"), 400),
    ],
)
def test_what_is_no_request_is_refused(raw: bytes, status: int) -> None:
    with Listening(operator()) as listening, RawConnection(listening.address) as connection:
        connection.send(raw)
        assert connection.answer().status == status
        # and the next one is answered
        assert listening.get("/metrics").status == 200


def test_a_second_request_on_the_connection_is_not_read() -> None:
    with Listening(operator()) as listening, RawConnection(listening.address) as connection:
        connection.send(GET + GET)
        answer = connection.answer()
        assert (answer.status, answer.get("Connection")) == (200, "close")
        with pytest.raises((BrokenAnswer, ConnectionError)):
            connection.answer()


# --- in a thread of another program


def test_it_runs_in_a_thread_until_it_is_stopped() -> None:
    port = free_port()
    stop = serve_in_thread(f"127.0.0.1:{port}", operator())
    assert ask(f"127.0.0.1:{port}", GET).status == 200
    stop()
    assert not is_open(port)
    serve_in_thread(f"127.0.0.1:{port}", operator())()  # the port is free at once


def test_stopping_waits_for_what_is_being_answered() -> None:
    entered, go = threading.Event(), threading.Event()

    def metrics() -> bytes:
        entered.set()
        assert go.wait(10)
        return b"slow\n"

    address = f"127.0.0.1:{free_port()}"
    stop = serve_in_thread(address, application(settings(), metrics=metrics, health=str))
    with RawConnection(address) as connection:
        connection.send(GET)
        assert entered.wait(10)
        stopping = threading.Thread(target=stop)
        stopping.start()
        wait_for(lambda: not is_open(int(address.rpartition(":")[2])), what="no new requests")
        stopping.join(0.3)
        assert stopping.is_alive()
        go.set()
        stopping.join(10)
        assert connection.answer().body == b"slow\n"


def test_a_taken_port_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        with pytest.raises(BridgeError, match=f"cannot listen on {address}: Address already in"):
            serve_in_thread(address, operator())


def test_health_and_metrics_say_which_table_is_served(tmp_path: Path) -> None:
    """Behind a balancer, machines with different tables can be told."""
    file = tmp_path / "routes.yaml"
    page = f'  - {{name: a, path: /a, handler: "{VIEW}", python: 0%}}\n'
    file.write_text(TOP + page)
    app = whole(replace(settings(), state_dir=tmp_path), ExitStack(), proxy=True)
    with Listening(app) as listening:
        assert listening.get("/health").get("Bridge-Table") == ""
        assert status.metrics(tmp_path) == b""
        reloader = Reloader(file)
        status.write(tmp_path, 0, reloader)
        digest = reloader.table().digest
        assert listening.get("/health").get("Bridge-Table") == digest
        line = f'bridge_routes_table{{table="{digest}"}} 1\n'
        assert status.metrics(tmp_path).decode().endswith(line)
        own = tmp_path / "workers" / f"{os.getpid()}.json"
        other = {**json.loads(own.read_text()), "pid": os.getppid(), "digest": "abc"}
        own.with_name("other.json").write_text(json.dumps(other))
        both = sorted((digest, "abc"))
        assert listening.get("/health").get("Bridge-Table") == ", ".join(both)
        assert listening.get("/health").status == 200
