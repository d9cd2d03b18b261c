"""Nothing stays of a request that is over: no memory, no descriptor, no task."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge.proxy.conversation import Conversation
from bridge.proxy.engine.calls import Call
from bridge.proxy.engine.exchange import Exchange
from bridge.proxy.engine.limits import Limits
from bridge.proxy.engine.spool import Spool
from bridge.proxy.engine.turn import Turn
from bridge.proxy.engine.visitor import Visitor as Protocol
from bridge.proxy.python.threads import Answer, Job
from bridge.proxy.telemetry.workers import read_all
from stack.bridge import BridgeServe
from stack.load import Page, latencies, throughput
from stack.nginx import Nginx
from stack.waiting import wait_for
from tests.proxy.engine.inside import HOST, Inside, alive, descriptors, engine, release
from tests.proxy.shells.double import BOUND, Backend, plain
from tests.proxy.shells.double import Call as Asked
from tests.proxy.shells.visitor import Visitor as Outside
from tests.proxy.shells.visitor import request
from tests.proxy.site import TOP, table

OF_REQUESTS = (Turn, Conversation, Exchange, Call, Spool, Job, Answer, Protocol)
MEGABYTE = 1 << 20


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        backend.when("/large", plain(body=b"x" * 3_000_000))
        yield backend


@pytest.fixture
def inside(backend: Backend) -> Iterator[Inside]:
    python = 'handler: "tests.proxy.engine.inside:stuck", python: 100%, timeout: 1h'
    routes = table(
        f"name: stuck, path: /stuck, methods: [GET, POST], {python}",
        top=TOP.replace(":8090", f":{backend.port}"),
    )
    with engine(routes, limits=Limits(head=0.4, idle=5.0, stall=5.0)) as inside:
        release.set()
        yield inside


def nothing_stays(inside: Inside, visit: Callable[[], None]) -> None:
    """After a first visit for what is made once, more visits leave nothing behind."""
    visit()
    inside.wait_until_empty()
    before = _idle_closed(inside)
    for _ in range(20):
        visit()
    inside.wait_until_empty()
    wait_for(lambda: alive(*OF_REQUESTS) == 0, BOUND, "nothing of a request in memory")
    wait_for(lambda: _idle_closed(inside) <= before, BOUND, "the descriptors to be closed")
    for upstream in inside.engine.upstreams.all():
        assert (upstream.in_flight, upstream.waiting) == (0, 0)


def _idle_closed(inside: Inside) -> int:
    """Descriptors, without the connections to legacy that are kept."""

    def close() -> None:
        for upstream in inside.engine.upstreams.all():
            while upstream._idle:
                upstream.discard(upstream._idle[0])

    inside.look(close)
    return descriptors()


def test_after_pages(inside: Inside) -> None:
    def visit() -> None:
        with inside.visitor() as visitor:
            for path in ("/", "/large", "/stuck"):
                visitor.send(request("GET", path, host=HOST))
                assert visitor.answer().whole

    nothing_stays(inside, visit)


def test_after_uploads(inside: Inside) -> None:
    def visit() -> None:
        with inside.visitor() as visitor:
            for path in ("/", "/stuck"):
                visitor.send(request("POST", path, host=HOST, body=b"x" * 400_000))
                assert visitor.answer("POST").whole

    nothing_stays(inside, visit)


def test_after_visitors_who_leave_in_the_middle(inside: Inside) -> None:
    """Of a download, of an upload, of a head, and before the answer comes."""

    def visit() -> None:
        for path in ("/large", "/"):
            with inside.visitor() as visitor:
                visitor.send(request("GET", path, host=HOST))
                visitor.leave()
        for path in ("/", "/stuck"):
            with inside.visitor() as visitor:
                visitor.send(request("POST", path, host=HOST, body=b"x" * 400_000)[:-1000])
                visitor.leave()
        with inside.visitor() as visitor:
            visitor.send(b"GET / HTTP/1.1\r\nHost: ")
            visitor.leave()

    nothing_stays(inside, visit)


def test_after_legacy_that_breaks_off(inside: Inside, backend: Backend) -> None:
    def breaks(call: Asked) -> None:
        call.send(plain(body=b"x" * 100_000)[:-10])
        call.reset()

    backend.when("/breaks", breaks)

    def visit() -> None:
        with inside.visitor() as visitor, contextlib.suppress(OSError):
            visitor.send(request("GET", "/breaks", host=HOST))
            assert not visitor.answer().whole

    nothing_stays(inside, visit)


def test_after_heads_that_trickle_in(inside: Inside) -> None:
    """Slow-loris: hundreds of connections, none of which ever asks anything."""
    before = _idle_closed(inside)
    socks = [socket.create_connection(inside.address, BOUND) for _ in range(300)]
    for sock in socks:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: forge.example\r\nX-A: ")
    for sock in socks:
        assert sock.recv(12) == b"HTTP/1.1 408"
        sock.close()
    inside.wait_until_empty()
    wait_for(lambda: alive(*OF_REQUESTS) == 0, BOUND, "nothing of a request in memory")
    wait_for(lambda: _idle_closed(inside) <= before, BOUND, "the descriptors to be closed")


ORIGIN = "keepalive_requests 1000000000; server { listen @LISTEN@; location / { return 200 x; } }"
ROUTES = """\
version: 1
sites: {memory: {hosts: ["@HOST@"], legacy: origin}}
backends: {origin: {url: "@ORIGIN@"}}
"""


@contextlib.contextmanager
def worker(folder: Path) -> Iterator[tuple[Page, int]]:
    """A page of a legacy site through `bridgectl serve`, and the process id of its worker."""
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Nginx(folder / "origin", ORIGIN))
        state, file = folder / "state", folder / "routes.yaml"
        env = {"BRIDGE_ROUTES": str(file), "BRIDGE_STATE_DIR": str(state)}
        serve = BridgeServe(folder / "serve", env=env, options=["--access-log", "/dev/null"])
        file.write_text(ROUTES.replace("@HOST@", serve.address).replace("@ORIGIN@", origin.url))
        stack.enter_context(serve)
        wait_for(lambda: read_all(state), 30, "a worker with a table")
        (own,) = read_all(state)
        yield Page(f"{serve.url}/", (("Accept", "text/html"),), b"x"), own.pid


def resident(pid: int) -> int:
    """Bytes of memory of a process."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def _flat(folder: Path, warm: int, requests: int) -> None:
    with worker(folder) as (page, pid):
        _, answer = latencies(page, requests=1)

        def ask(count: int) -> None:
            while count > 0:
                count -= throughput(page, connections=32, seconds=1, answer=answer)[1]

        ask(warm)
        before = resident(pid)
        ask(requests)
        assert resident(pid) - before < 2 * MEGABYTE


def _rounds(folder: Path, visit: Callable[[Page, tuple[str, int]], None], rounds: int) -> None:
    """After two rounds of `visit`, more of them take no memory and leave no descriptor."""
    with worker(folder) as (page, pid):
        host, _, port = page.url.removeprefix("http://").rstrip("/").partition(":")

        def files() -> int:
            return len(list(Path(f"/proc/{pid}/fd").iterdir()))

        visit(page, (host, int(port)))
        visit(page, (host, int(port)))
        latencies(page, requests=1)  # it has begun to serve, and has seen those
        open_before, before = files(), resident(pid)
        for _ in range(rounds):
            visit(page, (host, int(port)))
        wait_for(lambda: files() <= open_before, 60, "the descriptors to be closed")
        assert resident(pid) - before < 2 * MEGABYTE


def _leave_at_once(page: Page, address: tuple[str, int]) -> None:
    """A thousand visitors ask, and reset their connections before the answer."""
    for _ in range(1000):
        visitor = Outside(address)
        visitor.send(page.request)
        visitor.leave()


def _trickle(page: Page, address: tuple[str, int]) -> None:
    """Two thousand visitors begin a head, and get a 408 in the end."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_connection(address, 60)) for _ in range(2000)]
        for sock in socks:
            sock.sendall(b"GET / HTTP/1.1\r\nX-A: ")
        for sock in socks:
            assert sock.recv(12) == b"HTTP/1.1 408"


def test_memory_is_flat_over_visitors_who_leave(tmp_path: Path) -> None:
    _rounds(tmp_path, _leave_at_once, 2)


@pytest.mark.long
def test_memory_is_flat_over_fifty_thousand_visitors_who_leave(tmp_path: Path) -> None:
    _rounds(tmp_path, _leave_at_once, 50)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_memory_is_flat_over_slow_loris(tmp_path: Path) -> None:
    _rounds(tmp_path, _trickle, 2)


def test_memory_is_flat(tmp_path: Path) -> None:
    _flat(tmp_path, 3_000, 6_000)


@pytest.mark.long
def test_memory_is_flat_over_a_million_requests(tmp_path: Path) -> None:
    _flat(tmp_path, 20_000, 1_000_000)
