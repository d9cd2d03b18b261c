"""No more visitors at a time than there is room for; who comes then waits, and is not refused."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading

import pytest

from bridge.proxy.engine.descriptors import room_for_visitors
from bridge.proxy.engine.limits import Limits
from bridge.proxy.routing import models
from bridge.proxy.routing.table import RouteTable
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, Inside, engine
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import Visitor, request
from tests.proxy.site import TOP, table

ASK = request("GET", "/", host=HOST)


@pytest.fixture
def routes(backend: Backend) -> RouteTable:
    return table(top=TOP.replace(":8090", f":{backend.port}"))


@pytest.fixture
def staying(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to give way for being silent during the test."""
    monkeypatch.setattr("bridge.proxy.engine.acceptor._SHORTLY", 1000.0)


def silent(visitor: Visitor) -> bool:
    """Whether nothing has come yet, and the connection is not ended either."""
    return not select.select([visitor.sock], [], [], 0)[0]


def all_inside(inside: Inside, count: int) -> None:
    wait_for(lambda: len(inside.engine.visitors) == count, BOUND, f"{count} visitors")


@pytest.mark.usefixtures("staying")
def test_who_comes_when_all_places_are_taken_waits_for_one(routes: RouteTable) -> None:
    with engine(routes, most=3) as inside, contextlib.ExitStack() as stack:
        first = [stack.enter_context(inside.visitor()) for _ in range(3)]
        for visitor in first:
            visitor.send(ASK)
            assert visitor.answer().body == b"ok"
        late = [stack.enter_context(inside.visitor()) for _ in range(5)]
        for visitor in late:
            visitor.send(ASK)
        assert repr(inside.acceptor) == "<Acceptor shut: 3 of 3>"
        assert all(map(silent, late))
        first[0].finish()
        assert late[0].answer().body == b"ok"
        assert all(map(silent, late[1:]))


def test_everybody_gets_in_when_visitors_leave(routes: RouteTable) -> None:
    with engine(routes, most=2) as inside:
        answers: list[bytes] = []

        def visit() -> None:
            with inside.visitor() as visitor:
                visitor.send(request("GET", "/", "Connection: close", host=HOST))
                answers.append(visitor.answer().body)

        threads = [threading.Thread(target=visit) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [b"ok"] * 60


@pytest.mark.usefixtures("staying")
def test_who_stays_is_answered_while_others_wait_outside(routes: RouteTable) -> None:
    with engine(routes, most=1) as inside, inside.visitor() as visitor:
        visitor.send(ASK)
        assert visitor.answer().body == b"ok"
        with inside.visitor() as outside:
            outside.send(ASK)
            for _ in range(20):
                visitor.send(ASK)
                assert visitor.answer().body == b"ok"
            assert silent(outside)


@pytest.mark.usefixtures("staying")
def test_nobody_is_let_in_without_a_descriptor_to_spare(routes: RouteTable) -> None:
    lowest = os.dup(0)
    os.close(lowest)
    # 64 are left for handlers and files; what the engine itself opens comes out of the rest.
    with engine(routes, descriptors=64 + lowest + 30) as inside, contextlib.ExitStack() as stack:
        files = [stack.enter_context(open("/dev/null")) for _ in range(40)]
        with inside.visitor() as visitor:
            visitor.send(ASK)
            assert visitor.answer().body == b"ok"
            wait_for(
                lambda: repr(inside.acceptor).startswith("<Acceptor shut"), BOUND, "a shut door"
            )
            with inside.visitor() as late:
                late.send(ASK)
                assert silent(late)
                for file in files:
                    file.close()
                assert late.answer().body == b"ok"


def test_a_failed_handshake_takes_nobodys_place(routes: RouteTable, tls: ssl.SSLContext) -> None:
    """Of those who speak plain HTTP to a TLS port, or leave in the middle."""
    with engine(routes, most=3, tls=tls) as inside:
        for _ in range(5):
            for first in (ASK, b"\x16\x03\x01"):
                with inside.visitor() as visitor:
                    visitor.send(first)
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        with inside.visitor() as plain, client.wrap_socket(plain.sock) as sock:
            sock.sendall(ASK)
            assert sock.recv(15) == b"HTTP/1.1 200 OK"
        wait_for(lambda: inside.look(lambda: inside.acceptor.inside) == 0, BOUND, "an empty house")


@pytest.mark.parametrize(
    ("wanted", "descriptors", "legacy", "room"),
    [
        (1000, 20_000, 500, 1000),
        (1_000_000, 20_000, 500, 19_244),
        (1_000_000, 20_000, 50_000, 13_078),
        (1_000_000, 1024, 500, 427),
        (1000, 256, 500, 107),
        (1000, 128, 500, 22),
        (1000, 64, 500, 1),
    ],
)
def test_legacy_gets_its_share_of_the_descriptors(
    wanted: int, descriptors: int, legacy: int, room: int
) -> None:
    assert room_for_visitors(wanted, descriptors, legacy) == room


@pytest.mark.parametrize(
    ("given", "at_once", "sockets"),
    [
        ({}, 500, 500),
        ({"connections": 32}, 32, 32),
        ({"max_in_flight": 32}, 32, 500),
        ({"max_in_flight": 6000}, 6000, 6000),
        ({"max_in_flight": 8, "connections": 32}, 8, 32),
    ],
)
def test_connections_follow_max_in_flight(
    given: dict[str, int], at_once: int, sockets: int
) -> None:
    limits = models.Limits.model_validate(given)
    assert (limits.at_once, limits.sockets) == (at_once, sockets)


def test_more_in_flight_than_connections_is_an_error() -> None:
    with pytest.raises(ValueError, match="raise connections"):
        models.Limits(max_in_flight=33, connections=32)


def test_a_visitor_who_reads_slowly_is_not_cut_off(routes: RouteTable, backend: Backend) -> None:
    """Less than the kernel holds is read within the time in which something has to be."""
    backend.when("/large", plain(body=b"x" * 30_000_000))
    pause = threading.Event()
    with engine(routes, limits=Limits(stall=0.3)) as inside, inside.visitor() as visitor:
        visitor.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        visitor.send(request("GET", "/large", host=HOST))
        visitor.head()
        for _ in range(10):
            pause.wait(0.1)
            assert visitor.sock.recv(100_000)
        assert len(inside.engine.visitors) == 1


def test_the_line_for_legacy_goes_on_when_visitors_in_it_leave(backend: Backend) -> None:
    """Their places in it are free for others."""
    over = threading.Event()

    def slow(call: Call) -> None:
        over.wait(BOUND)
        call.send(plain())

    backend.when("/slow", slow)
    limits = "limits: {max_in_flight: 1, waiting: 2}, timeouts: {wait: 60s}"
    top = TOP.replace(
        'php: {url: "http://127.0.0.1:8090"}', f"php: {{url: {url(backend)}, {limits}}}"
    )
    with engine(table(top=top)) as inside, inside.visitor() as first:
        first.send(request("GET", "/slow", host=HOST))
        backend.wait("/slow")
        for _ in range(2):
            leaving = [inside.visitor(), inside.visitor()]
            for visitor in leaving:
                visitor.send(ASK)
            all_inside(inside, 3)
            for visitor in leaving:
                visitor.leave()
            all_inside(inside, 1)
        with inside.visitor() as patient:
            patient.send(ASK)
            all_inside(inside, 2)
            over.set()
            assert patient.answer().body == b"ok"
        assert first.answer().body == b"ok"


def url(backend: Backend) -> str:
    return f'"http://127.0.0.1:{backend.port}"'
