"""Visitors who take their time keep no place that others need: of legacy's, or at the door."""

from __future__ import annotations

import contextlib
import threading

import pytest

from bridge.proxy.engine.limits import Limits
from bridge.proxy.routing.table import RouteTable
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, Inside, engine
from tests.proxy.engine.wired import Wired
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import Answer, Visitor, request
from tests.proxy.site import TOP, table

ASK = request("GET", "/", host=HOST)
UPGRADE = request("GET", "/chat", "Connection: Upgrade", "Upgrade: websocket", host=HOST)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def few(backend: Backend, limits: str = "connections: 5", wait: str = "200ms") -> RouteTable:
    """A site whose legacy has few places, and nobody waits for long."""
    php = f'php: {{url: "http://127.0.0.1:{backend.port}", limits: {{{limits}}}, '
    php += f"timeouts: {{wait: {wait}}}}}"
    top = TOP.replace('php: {url: "http://127.0.0.1:8090"}', php)
    return table(top=top.replace("version: 1", "version: 1\ntrusted_proxies: [127.0.0.1]"))


def asked(inside: Inside, *lines: str) -> int:
    with inside.visitor() as visitor:
        visitor.send(request("GET", "/", *lines, host=HOST))
        return visitor.answer().status


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_slow_uploads_keep_no_place(backend: Backend, framing: str) -> None:
    """Legacy hears of a body of moderate size when it is here."""
    start = b"3\r\nabc\r\n" if "chunked" in framing else b"abc"
    rest = b"2\r\nde\r\n0\r\n\r\n" if "chunked" in framing else b"d" * 997
    with engine(few(backend)) as inside, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(inside.visitor()) for _ in range(10)]
        for visitor in slow:
            visitor.send(request("POST", "/up", framing, host=HOST) + start)
        for _ in range(20):
            assert asked(inside) == 200
        for visitor in slow:
            visitor.send(rest)
            assert visitor.answer().status == 200
        sizes = {len(received.body) for received in backend.of("/up")}
    assert sizes == {5 if "chunked" in framing else 1000}


def test_a_program_that_waits_for_an_answer_in_the_middle_gets_it(backend: Backend) -> None:
    """While there are places enough: what it sends first is passed on after a while."""

    def early(call: Call) -> None:
        call.read(5)
        call.send(plain(body=b"early"))

    backend.when("/up", early)
    with engine(few(backend)) as inside, inside.visitor() as visitor:
        visitor.send(request("POST", "/up", "Content-Length: 10", host=HOST) + b"12345")
        assert visitor.answer().body == b"early"


def test_a_body_that_trickles_in_is_a_408(backend: Backend) -> None:
    """Each byte is no silence, and all of them are too few."""
    pause = threading.Event()
    with engine(few(backend), limits=Limits(body=0.5)) as inside, inside.visitor() as visitor:
        visitor.send(request("POST", "/up", "Content-Length: 100000", host=HOST))
        with contextlib.suppress(OSError):
            for _ in range(100):
                visitor.send(b"x")
                pause.wait(0.1)
                if not inside.engine.visitors:
                    break
        assert visitor.answer().status == 408


def test_a_body_that_comes_fast_enough_is_taken(backend: Backend) -> None:
    pause = threading.Event()
    limits = Limits(body=0.5, slowest=100)
    with engine(few(backend), limits=limits) as inside, inside.visitor() as visitor:
        visitor.send(request("POST", "/up", "Content-Length: 20000", host=HOST))
        for _ in range(20):
            visitor.send(b"x" * 1000)
            pause.wait(0.1)
        assert visitor.answer().status == 200


def test_slow_readers_leave_their_place_when_it_is_needed(backend: Backend) -> None:
    """What is left of an answer of moderate size waits here."""
    backend.when("/page", plain(body=b"x" * 6_000_000))
    limits = Limits(buffer=8_000_000)
    routes = few(backend, "connections: 2", wait="20s")  # on a busy machine it takes its time
    with engine(routes, limits=limits) as inside, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(inside.visitor()) for _ in range(2)]
        for visitor in slow:
            visitor.send(request("GET", "/page", host=HOST))
            visitor.head()
        (upstream,) = [u for u in inside.engine.upstreams.all() if u.name == "php"]
        wait_for(lambda: upstream.in_flight == 2, BOUND, "two who read")
        assert asked(inside) == 200
        for visitor in slow:
            got = Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 6000000\r\n\r\n")
            visitor._read_body(got, "GET")
            assert (got.whole, len(got.body)) == (True, 6_000_000)


def test_who_becomes_slow_while_others_wait_leaves_the_place_too() -> None:
    routes = table(top=TOP.replace(':8090"}', ':8090", limits: {connections: 1}}'))
    wired = Wired(routes)
    slow, _ = wired.visit()
    slow.data_received(request("GET", "/", host=HOST))
    [legacy] = wired.legacy
    legacy.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    other, answer = wired.visit()
    other.data_received(request("GET", "/", host=HOST))
    assert wired.busy == 2
    slow.pause_writing()
    assert slow.turn is not None
    assert slow.turn.exchange is not None
    assert not slow.turn.exchange.paused  # what is left waits here
    legacy.send(b"defghi")
    legacy.send(plain(body=b"ok"))
    assert answer.out.endswith(b"ok")


@pytest.fixture
def chat(backend: Backend) -> threading.Event:
    over = threading.Event()

    def echo(call: Call) -> None:
        call.send(SWITCHED)
        while data := call.sock.recv(100):
            call.send(data)
        over.set()

    backend.when("/chat", echo)
    return over


def tunnel(inside: Inside) -> Visitor:
    visitor = inside.visitor()
    visitor.send(UPGRADE)
    assert b" 101 " in visitor._until(b"\r\n\r\n")
    return visitor


def test_tunnels_are_counted_apart(backend: Backend, chat: threading.Event) -> None:
    with engine(few(backend, "connections: 1, tunnels: 2")) as inside:
        with tunnel(inside) as first, tunnel(inside) as second:
            assert asked(inside) == 200
            with inside.visitor() as third:
                third.send(UPGRADE)
                assert third.answer().status == 503
            for visitor in (first, second):
                visitor.send(b"hello")
                assert visitor._exactly(5) == b"hello"
        (upstream,) = [u for u in inside.engine.upstreams.all() if u.name == "php"]
        wait_for(lambda: not upstream.tunnels, BOUND, "the end of the tunnels")
        with tunnel(inside) as fourth:
            fourth.send(b"hello")
            assert fourth._exactly(5) == b"hello"


def test_a_tunnel_that_nobody_uses_is_ended(backend: Backend, chat: threading.Event) -> None:
    limits = Limits(tunnel_idle=0.5)
    with engine(few(backend), limits=limits) as inside, tunnel(inside) as visitor:
        assert visitor.ended()
        assert chat.wait(BOUND)


@pytest.mark.parametrize(
    ("greedy", "other"),
    [("8.8.8.8", "9.9.9.9"), ("2a00:1450::1", "2a00:1450:0:1::1")],
)
def test_one_address_gets_its_share_when_places_are_scarce(
    backend: Backend, greedy: str, other: str
) -> None:
    """The rest is for others. An IPv6 network of a household counts as one."""
    over = threading.Event()

    def slow(call: Call) -> None:
        over.wait(BOUND)
        call.send(plain())

    backend.when("/slow", slow)
    with engine(few(backend, "connections: 4")) as inside, contextlib.ExitStack() as stack:
        for _ in range(3):
            visitor = stack.enter_context(inside.visitor())
            visitor.send(request("GET", "/slow", f"X-Forwarded-For: {greedy}", host=HOST))
        backend.wait("/slow", 3)
        neighbour = greedy.replace("::1", "::2")
        assert asked(inside, f"X-Forwarded-For: {neighbour}") == 503
        for _ in range(5):
            assert asked(inside, f"X-Forwarded-For: {other}") == 200
        over.set()


def test_an_address_of_the_own_network_is_many(backend: Backend) -> None:
    """A proxy that nobody trusts, or a company behind one."""
    over = threading.Event()

    def slow(call: Call) -> None:
        over.wait(BOUND)
        call.send(plain())

    backend.when("/slow", slow)
    with engine(few(backend, "connections: 4")) as inside, contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(inside.visitor()).send(request("GET", "/slow", host=HOST))
        backend.wait("/slow", 3)
        assert asked(inside) == 200
        over.set()


def test_who_asks_nothing_gives_way_at_the_door(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has been silent longest goes first, and who asks goes on."""
    monkeypatch.setattr("bridge.proxy.engine.acceptor._SHORTLY", 0.1)
    over = threading.Event()

    def slow(call: Call) -> None:
        over.wait(BOUND)
        call.send(plain())

    backend.when("/slow", slow)
    with engine(few(backend), most=3) as inside, contextlib.ExitStack() as stack:
        busy, oldest, younger = [stack.enter_context(inside.visitor()) for _ in range(3)]
        busy.send(request("GET", "/slow", host=HOST))
        for visitor in (oldest, younger):
            visitor.send(ASK)
            assert visitor.answer().body == b"ok"
        late = stack.enter_context(inside.visitor())
        late.send(ASK)
        assert late.answer().body == b"ok"
        assert oldest.ended()
        over.set()
        assert busy.answer().body == b"ok"


def test_unfinished_heads_give_way_too(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the address that has most of the places."""
    with engine(few(backend), most=8) as inside, contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(inside.visitor()).send(b"GET / HTTP/1.1\r\n")
        assert asked(inside) == 200
