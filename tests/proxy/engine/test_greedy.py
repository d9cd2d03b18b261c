"""A visitor who sends faster than they read, without end, or in tiny pieces: they get what is
theirs, everybody else is answered meanwhile, and memory is bounded."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator

import pytest

from bridge.proxy.engine.limits import Limits
from bridge.proxy.routing.table import RouteTable
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, Inside, engine
from tests.proxy.engine.wired import Later, Wired
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import request
from tests.proxy.site import TOP, table

PAGE = request("GET", "/page", host=HOST)
LARGE = b"x" * 12_000


@pytest.fixture
def routes(backend: Backend) -> RouteTable:
    return table(
        'name: large, path: /large, handler: "tests.proxy.engine.inside:large", '
        "python: 100%, methods: [GET, POST]",
        top=TOP.replace(":8090", f":{backend.port}"),
    )


def reads_nothing(inside: Inside) -> socket.socket:
    """A visitor whose kernel takes next to nothing ahead."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(inside.address)
    return sock


@contextlib.contextmanager
def others(inside: Inside, backend: Backend, count: int) -> Iterator[None]:
    """So many visitors wait for legacy meanwhile: then whole answers are written together."""
    over = threading.Event()
    backend.when("/hold", lambda call: (over.wait(BOUND), call.send(plain()))[1])
    with contextlib.ExitStack() as stack:
        stack.callback(over.set)
        for _ in range(count):
            visitor = stack.enter_context(inside.visitor())
            visitor.send(request("GET", "/hold", host=HOST))
        wait_for(lambda: len(backend.of("/hold")) == count, BOUND, "the others")
        yield


@pytest.mark.parametrize("count", [0, 5])
@pytest.mark.parametrize("last", ["/endless", "/large"])
def test_nothing_more_is_asked_for_who_takes_no_answers(
    routes: RouteTable, backend: Backend, last: str, count: int
) -> None:
    """Else the last answer would begin while they are stuck: nobody would stop who makes it, and
    no limit would end it."""
    backend.when("/page", plain(body=LARGE))
    with (
        engine(routes, limits=Limits(stall=0.6)) as inside,
        others(inside, backend, count),
        reads_nothing(inside) as sock,
    ):
        sock.sendall(PAGE * 600 + request("GET", last, host=HOST))
        wait_for(lambda: inside.engine.answered > 50, BOUND, "some answers")
        # Who is stuck is ended.
        wait_for(lambda: len(inside.engine.visitors) == count, BOUND, "its end")
        assert not backend.of(last)
        assert not inside.engine.handlers.running
        assert inside.engine.answered < 600


@pytest.mark.parametrize("count", [0, 5])
def test_nothing_more_is_asked_for_who_does_not_take_one_large_answer(
    routes: RouteTable, backend: Backend, count: int
) -> None:
    with (
        engine(routes, limits=Limits(stall=0.6)) as inside,
        others(inside, backend, count),
        reads_nothing(inside) as sock,
    ):
        sock.sendall(request("GET", "/large", host=HOST) + request("GET", "/next", host=HOST))
        wait_for(lambda: inside.engine.answered == 1, BOUND, "the answer")
        wait_for(lambda: len(inside.engine.visitors) == count, BOUND, "its end")
        assert not backend.of("/next")


def test_who_takes_them_after_a_while_gets_all_answers(
    routes: RouteTable, backend: Backend
) -> None:
    backend.when("/page", plain(body=LARGE))
    with engine(routes) as inside, reads_nothing(inside) as sock:
        sock.settimeout(BOUND)
        sock.sendall(PAGE * 400)
        sock.shutdown(socket.SHUT_WR)
        wait_for(
            lambda: any(visitor.outlet.full for visitor in list(inside.engine.visitors)),
            BOUND,
            "a stuck visitor",
        )
        data = b""
        while piece := sock.recv(1 << 20):
            data += piece
    assert data.count(LARGE) == data.count(b"HTTP/1.1 200 OK") == 400


def test_requests_without_end_are_not_kept(routes: RouteTable, backend: Backend) -> None:
    """They are read no further than there are answers for."""
    kept: list[int] = []
    over = threading.Event()
    with engine(routes) as inside, inside.visitor() as visitor:

        def send() -> None:
            while not over.is_set():
                try:
                    visitor.send(PAGE * 500)
                except OSError:
                    return

        sender = threading.Thread(target=send)
        sender.start()
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert visitor.answer().body == b"ok"
            kept += inside.look(lambda: [len(v._buffer) for v in inside.engine.visitors])
        over.set()
        visitor.sock.shutdown(socket.SHUT_RDWR)
        sender.join()
    assert max(kept) < 600_000


CHUNKED = f"POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
WRONG = b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "piece"),
    [(CHUNKED + b"1\r\nx\r\n" * 40_000 + b"0\r\n\r\n", b"x"), (WRONG * 6_000, b"HTTP/1.1 421")],
    ids=["chunks of one byte", "requests for another site"],
)
def test_others_have_their_turn_in_between(raw: bytes, piece: bytes) -> None:
    loop = Later()
    wired = Wired(loop=loop)
    wired._engine.limits.buffer = 0  # legacy gets each piece when it is read
    visitor, wire = wired.visit()

    def out() -> bytes:
        return bytes(
            wired.legacy[0].wire.out.partition(b"\r\n\r\n")[2] if wired.legacy else wire.out
        )

    visitor.data_received(raw)
    steps, before = 1, out().count(piece)
    assert 0 < before < 8_000
    while loop.step():
        now = out().count(piece)
        assert now - before < 8_000
        steps, before = steps + 1, now
    assert steps > 5
    assert before == raw.count(b"1\r\nx") + raw.count(WRONG)


def test_hints_for_who_takes_nothing_are_dropped(routes: RouteTable, backend: Backend) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; " + b"x" * 4000 + b"\r\n\r\n"
    enough = threading.Event()

    def script(call: Call) -> None:
        for _ in range(3000):
            call.send(hint)
        enough.set()
        call.send(plain(body=b"at last"))

    backend.when("/hints", script)
    with engine(routes) as inside, reads_nothing(inside) as sock:
        sock.settimeout(BOUND)
        sock.sendall(request("GET", "/hints", host=HOST))
        assert enough.wait(BOUND)
        unsent = inside.look(
            lambda: sum(v.transport.get_write_buffer_size() for v in inside.engine.visitors)
        )
        assert unsent < 100_000
        data = b""
        while not data.endswith(b"at last"):
            data += sock.recv(65536)


def test_an_empty_line_now_and_then_keeps_no_connection(routes: RouteTable) -> None:
    with engine(routes, limits=Limits(head=0.5, idle=0.5)) as inside, inside.visitor() as visitor:
        until = time.monotonic() + BOUND
        while inside.engine.visitors or time.monotonic() < until - BOUND + 0.3:
            assert time.monotonic() < until
            with contextlib.suppress(OSError):  # it has been ended
                visitor.send(b"\r\n")
            time.sleep(0.1)


def test_half_a_body_asked_ahead_is_refused_at_once(routes: RouteTable, backend: Backend) -> None:
    """Its handler would wait for the limit, though everything is known."""
    silent = threading.Event()
    backend.when("/slow", lambda call: (silent.wait(BOUND), call.send(plain()))[1])
    half = request("POST", "/large", "Content-Length: 10", host=HOST) + b"12345"
    with engine(routes) as inside, inside.visitor() as visitor:
        visitor.send(request("GET", "/slow", host=HOST) + half)
        visitor.sock.shutdown(socket.SHUT_WR)
        silent.set()
        assert visitor.answer().status == 200
        assert visitor.answer().status == 400


@pytest.mark.parametrize("count", [0, 5])
def test_a_body_that_cannot_be_kept_is_an_error_of_ours(
    routes: RouteTable, backend: Backend, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The disk is full: the visitor gets a page and is not blamed."""

    kept = tempfile.SpooledTemporaryFile
    close = kept.close

    def full(self: object, piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    def still_full(self: tempfile.SpooledTemporaryFile[bytes]) -> None:
        close(self)
        full(self, b"")

    monkeypatch.setattr(kept, "write", full)
    monkeypatch.setattr(kept, "close", still_full)
    with engine(routes) as inside:
        with others(inside, backend, count):
            for _ in range(3):
                with inside.visitor() as visitor:
                    visitor.send(request("POST", "/large", host=HOST, body=b"x" * 1000))
                    assert visitor.answer().status == 500
        inside.wait_until_empty()
        assert inside.engine.batch.asking == 0
