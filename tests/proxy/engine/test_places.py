"""After any storm of visitors who leave and servers that fail, every place is free again."""

from __future__ import annotations

import contextlib
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bridge.errors import LegacyError
from bridge.proxy.conversation import Conversation
from bridge.proxy.engine.limits import Limits
from bridge.proxy.engine.upstream import Upstream
from bridge.proxy.http.wire import ChunkedReader
from stack.ports import free_port
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, Inside, engine
from tests.proxy.engine.wired import Later, Wired
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import Visitor, request
from tests.proxy.site import table

_UPGRADE = ("Connection: Upgrade", "Upgrade: websocket")
_SWITCH = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def _after_the_body(raw: bytes, *, close: bool = False) -> Callable[[Call], None]:
    def script(call: Call) -> None:
        call.body()
        call.send(raw)
        if close:
            call.close()

    return script


def _then_nothing(raw: bytes) -> Callable[[Call], None]:
    def script(call: Call) -> None:
        call.send(raw)
        call.left()
        call.close()

    return script


def _early(call: Call) -> None:
    call.send(plain("413 Too Large", body=b"no"))
    while call.sock.recv(65536):
        pass
    call.close()


def _early_end(call: Call) -> None:
    call.send(plain("413 Too Large", body=b"no"))
    call.close()


def _echo(call: Call) -> None:
    call.send(_SWITCH)
    while data := call.sock.recv(1000):
        call.send(data)
    call.close()


def _challenge(call: Call) -> None:
    call.body()
    call.send(plain("401 No", "WWW-Authenticate: NTLM challenge", body=b"who?"))


def _reset(call: Call) -> None:
    call.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    call.reset()


SCRIPTS: dict[str, Callable[[Call], None]] = {
    "/": _after_the_body(plain(body=b"fine")),
    "/last": _after_the_body(plain(body=b"fine"), close=True),
    "/early": _early,
    "/early-end": _early_end,
    "/silent": _then_nothing(b""),
    "/stalls": _then_nothing(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
    "/stalls-in-chunks": _then_nothing(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
    ),
    "/short": _after_the_body(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", close=True),
    "/garbage": _after_the_body(b"nonsense\r\n\r\n"),
    "/bad-chunk": _after_the_body(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"),
    "/twice": _after_the_body(plain(body=b"fine") * 2),
    "/unasked-switch": _after_the_body(_SWITCH),
    "/reset": _reset,
    "/hangs-up": Call.close,
    "/large": _after_the_body(plain(body=b"x" * 3_000_000)),
    "/to-the-end": _after_the_body(b"HTTP/1.1 200 OK\r\n\r\nabc", close=True),
    "/204": _after_the_body(b"HTTP/1.1 204 No\r\n\r\n"),
    "/205": _after_the_body(b"HTTP/1.1 205 Reset\r\nContent-Length: 2\r\n\r\nab"),
    "/tunnel": _echo,
    "/office": _challenge,
}


class _Guest:
    """One connection, and what somebody does with it who may do anything. Most come from one
    address on the internet, the others from another one or from nearby."""

    def __init__(self, visitor: Visitor, dice: random.Random) -> None:
        self.visitor, self.dice = visitor, dice
        address = dice.choice(["8.8.8.8", "8.8.8.8", "9.9.9.9", "10.0.0.1"])
        self.come_from = f"X-Forwarded-For: {address}"

    def request(self, method: str, path: str, *lines: str, **more: Any) -> bytes:
        return request(method, path, self.come_from, *lines, host=HOST, **more)

    def path(self) -> str:
        return self.dice.choice(list(SCRIPTS))

    def asks(self) -> None:
        for _ in range(self.dice.randrange(1, 4)):
            method = self.dice.choice(["GET", "HEAD", "DELETE"])
            version = self.dice.choice(["1.0", "1.1"])
            self.visitor.send(self.request(method, self.path(), version=version))
            self.visitor.answer(method)

    def asks_all_at_once(self) -> None:
        self.visitor.send(b"".join(self.request("GET", self.path()) for _ in range(5)))
        self.visitor.answer()

    def uploads(self) -> None:
        body = b"x" * self.dice.choice([0, 10, 1000, 70_000, 400_000])
        lines = ["Expect: 100-continue"] if self.dice.random() < 0.3 else []
        raw = self.request("POST", self.path(), *lines, body=body)
        most = len(raw) if self.dice.random() < 0.6 else self.dice.randrange(len(raw))
        for cut in sorted((self.dice.randrange(most + 1), most)):
            self.visitor.send(raw[:cut])
            raw = raw[cut:]
        self.visitor.answer()

    def uploads_chunks(self) -> None:
        head = self.request("POST", self.path(), "Transfer-Encoding: chunked")
        end = self.dice.choice([b"0\r\n\r\n", b"", b"z\r\n", b"0\n"])
        size = self.dice.choice([3, 70_000])
        self.visitor.send(head + b"%x\r\n%b\r\n" % (size, b"x" * size) + end)
        self.visitor.answer()

    def opens_a_tunnel(self) -> None:
        path = self.dice.choice(["/tunnel", "/tunnel", self.path()])
        self.visitor.send(self.request("GET", path, *_UPGRADE) + b"early")
        self.visitor._until(b"\r\n\r\n")
        self.visitor.send(b"more")
        self.visitor.piece()

    def says_who_they_are(self) -> None:
        for _ in range(3):
            path = self.dice.choice(["/office", "/office", self.path()])
            body = b"x" * self.dice.choice([10, 70_000]) if self.dice.random() < 0.5 else None
            method = "POST" if body else "GET"
            lines = ["Authorization: NTLM begin"] if self.dice.random() < 0.7 else []
            self.visitor.send(self.request(method, path, *lines, body=body))
            self.visitor.answer(method)

    def comes(self) -> None:
        """Do one of these things, and leave in one of the ways."""
        does = self.dice.choice(
            [
                self.asks,
                self.asks_all_at_once,
                self.uploads,
                self.uploads_chunks,
                self.opens_a_tunnel,
                self.says_who_they_are,
            ]
        )
        self.visitor.sock.settimeout(self.dice.choice([0.001, 0.02, 0.1, 1.0]))
        # What the visitor gets is other tests' matter.
        with contextlib.suppress(OSError, EOFError, ValueError, IndexError):
            does()
        if self.dice.random() < 0.5:
            self.visitor.leave()


def _pools(inside: Inside) -> list[Upstream]:
    return inside.engine.upstreams.all()


def _taken(inside: Inside) -> dict[str, object]:
    """What is taken, by what it is; empty when nothing is."""
    found: dict[str, object] = {
        "holding": len(inside.engine.holding),
        "asking": inside.engine.batch.asking,
        "unread": len(inside.engine.unread),
    }
    for pool in _pools(inside):
        found |= {
            f"{pool.name} in flight": pool.in_flight,
            f"{pool.name} waiting": pool.waiting,
            f"{pool.name} tunnels": len(pool.tunnels),
            f"{pool.name} bound": len(pool._bound),
        }
        found |= {f"{server.url} busy": server.busy for server in pool.servers.all}
        found[f"{pool.name} counted"] = (pool._counts or Counter()).total()
    return {name: count for name, count in found.items() if count}


def _miscounted(inside: Inside) -> list[object]:
    """How many places each address has, and how many are counted where that differs."""
    found: list[object] = []
    for pool in _pools(inside):
        taken = [connection.user for connection in pool.active]
        real = Counter(one.place for one in (*taken, *pool._connecting) if one is not None)
        if pool._counts is not None and +pool._counts != +real:
            found.append((pool._counts, real))
    return found


@pytest.fixture
def servers() -> Iterator[list[Backend]]:
    with Backend() as one, Backend() as other:
        for path, script in SCRIPTS.items():
            one.when(path, script)
            other.when(path, script)
        yield [one, other]


def _routes(urls: list[str], more: str) -> str:
    listed = ", ".join(f"'{url}'" for url in urls)
    return f"""
version: 1
trusted_proxies: [127.0.0.1]
sites: {{forge: {{hosts: [{HOST}], legacy: php}}}}
backends:
  php:
    url: [{listed}]
    timeouts: {{connect: 300ms, send: 200ms, first_byte: 200ms, between_bytes: 200ms, wait: 200ms}}
    limits: {{max_in_flight: 6, waiting: 6, tunnels: 2}}
    {more}
routes:
"""


@pytest.mark.parametrize("more", ["", "keep_alive: false"])
@pytest.mark.parametrize("count", [1, 3])
def test_every_place_is_free_again_after_a_storm(
    servers: list[Backend], count: int, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one server, or of three of which one refuses; whoever left, hung up, was late, or has
    become something else. Then the site answers as if nothing had been."""
    monkeypatch.setattr("bridge.proxy.backends.servers._FIRST", 0.001)  # who refuses is asked again
    urls = [f"http://127.0.0.1:{port}" for port in (servers[0].port, servers[1].port, free_port())]
    routes = table(top=_routes(urls[:count], more))
    limits = Limits(head=0.3, body=0.3, idle=0.3, stall=0.3, tunnel_idle=0.3)
    with engine(routes, limits=limits) as inside:

        def visits(seed: int) -> None:
            dice = random.Random(seed)
            for _ in range(25):
                with inside.visitor() as visitor:
                    _Guest(visitor, dice).comes()

        threads = [threading.Thread(target=visits, args=(seed,)) for seed in range(16)]
        for thread in threads:
            thread.start()
        counted = 0
        for thread in threads:
            while thread.is_alive():
                assert inside.look(lambda: _miscounted(inside)) == []
                counted += inside.look(lambda: _pools(inside)[0]._counts is not None)
                thread.join(0.005)
        assert counted, "the places were never scarce"
        inside.wait_until_empty()
        wait_for(lambda: not inside.look(lambda: _taken(inside)), BOUND, "every place to be free")
        [pool] = _pools(inside)
        wait_for(
            lambda: sum(server.open for server in servers) == inside.look(lambda: pool.idle),
            BOUND,
            "an end of every connection that nobody needs",
        )
        for _ in range(20):
            with inside.visitor() as visitor:
                visitor.send(request("GET", "/", host=HOST))
                assert visitor.answer().body == b"fine"
        assert inside.look(lambda: _taken(inside)) == {}


def test_a_body_that_waited_here_keeps_its_order() -> None:
    """Also where the connection to legacy is there at once, as the one that is authenticated as
    the visitor: what still waits in the visitor's connection comes after what waits for legacy."""
    later = Later()
    wired = Wired(loop=later)
    visitor, _ = wired.visit()
    visitor.data_received(request("GET", "/", "Authorization: NTLM begin", host=HOST))
    [legacy] = wired.legacy
    legacy.send(plain())
    asked = len(legacy.wire.out)
    body = b"".join(b"%05d" % number for number in range(10_000))
    chunks = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    raw = request("POST", "/", "Transfer-Encoding: chunked", host=HOST)
    for chunk in chunks:
        raw += b"%x\r\n%b\r\n" % (len(chunk), chunk)
    visitor.data_received(raw + b"0\r\n\r\n")
    [turn] = visitor.engine.holding
    turn.go_to_legacy()
    while later.step():
        pass
    _, _, sent = bytes(legacy.wire.out[asked:]).partition(b"\r\n\r\n")
    reader = ChunkedReader()
    assert b"".join(reader.feed(sent)) == body
    assert reader.done


def test_a_connection_of_a_visitors_own_waits_for_a_place_with_them(
    servers: list[Backend],
) -> None:
    """Who is authenticated stays it when the site is busy; who leaves the line takes it along."""
    server, goes_on = servers[0], threading.Event()

    def slow(call: Call) -> None:
        goes_on.wait(BOUND)
        call.send(plain())

    server.when("/slow", slow)
    places = "connections: 2"
    routes = table(
        top=_routes([f"http://127.0.0.1:{server.port}"], "")
        .replace("max_in_flight: 6, waiting: 6, tunnels: 2", places)
        .replace("200ms", "20s")
    )
    with engine(routes) as inside, contextlib.ExitStack() as stack:
        alice, eve = [stack.enter_context(inside.visitor()) for _ in range(2)]
        for visitor in (alice, eve):
            visitor.send(request("GET", "/office", "Authorization: NTLM begin", host=HOST))
            assert visitor.answer().status == 401
        [pool] = _pools(inside)
        for _ in range(2):
            busy = stack.enter_context(inside.visitor())
            busy.send(request("GET", "/slow", host=HOST))
        server.wait("/slow", 2)
        for visitor in (alice, eve):
            visitor.send(request("GET", "/office", host=HOST))
        wait_for(lambda: inside.look(lambda: pool.waiting) == 2, BOUND, "two in the line")
        eve.leave()
        wait_for(lambda: inside.look(lambda: len(pool._bound)) == 1, BOUND, "eve's to be closed")
        goes_on.set()
        assert alice.answer().status == 401
        numbers = [received.connection for received in server.of("/office")]
        assert len(numbers) == 3
        assert len(set(numbers)) == 2


def test_a_switch_that_cannot_be_passed_on_frees_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wired = Wired()
    visitor, wire = wired.visit()
    visitor.data_received(request("GET", "/", *_UPGRADE, host=HOST))

    def broken(*_: object) -> None:
        raise LegacyError("head", 502, "nothing that goes on")

    monkeypatch.setattr(Conversation, "legacy_answer", broken)
    [legacy] = wired.legacy
    legacy.send(_SWITCH)
    assert wire.out.startswith(b"HTTP/1.1 502 ")
    assert legacy.wire.closed == "aborted"
    assert not wired.busy


def test_a_connection_of_a_visitors_own_ends_with_its_pool(servers: list[Backend]) -> None:
    """It was busy when the file was saved, and its visitor asks another pool from then on."""
    server, goes_on = servers[0], threading.Event()

    def challenge(call: Call) -> None:
        goes_on.wait(BOUND)
        _challenge(call)

    server.when("/office", challenge)
    url = f"http://127.0.0.1:{server.port}"
    with engine(table(top=_routes([url], ""))) as inside, inside.visitor() as visitor:
        visitor.send(request("GET", "/office", "Authorization: NTLM begin", host=HOST))
        server.wait("/office")
        inside.table = table(top=_routes([url], "keep_alive: false"), generation=1)
        with inside.visitor() as other:
            other.send(request("GET", "/last", host=HOST))
            assert other.answer().body == b"fine"
        goes_on.set()
        assert visitor.answer().status == 401
        wait_for(lambda: not server.open, BOUND, "the end of the connection")
