"""Bodies flow: as they come, in both directions, and never through memory as a whole."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable

import pytest

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Visitor, request

MIB = 1024 * 1024
SSE = ["Content-Type: text/event-stream", "Cache-Control: no-cache"]
CHUNKED = "Transfer-Encoding: chunked"

SIZES = [
    pytest.param(64 * MIB, 20 * MIB, id="64 MiB"),
    pytest.param(
        1024 * MIB, 50 * MIB, id="1 GiB", marks=[pytest.mark.long, pytest.mark.timeout(600)]
    ),
]
"""How much is sent, and by how much the worker may grow over it."""


class Steps:
    """A backend that sends one piece each time the test says so."""

    def __init__(self, head: bytes, frame: Callable[[bytes], bytes] = bytes) -> None:
        self.head, self.frame = head, frame
        self.pieces: list[bytes | None] = []
        self._more = threading.Semaphore(0)

    def say(self, piece: bytes | None) -> None:
        """The next piece, or None for the end."""
        self.pieces.append(piece)
        self._more.release()

    def __call__(self, call: Call) -> None:
        call.send(self.head)
        while self._more.acquire(timeout=BOUND) and (piece := self.pieces.pop(0)) is not None:
            call.send(self.frame(piece))
        if self.frame is chunk:
            call.send(b"0\r\n\r\n")
        else:
            call.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("framing", ["chunked", "until the end"])
def test_server_sent_events_arrive_one_by_one(
    bridge: Bridge, backend: Backend, framing: str
) -> None:
    """Each is here before the next is sent, and the head before the first."""
    chunked = framing == "chunked"
    lines = [*SSE, CHUNKED] if chunked else SSE
    steps = Steps(plain("200 OK", *lines, length=False, body=b""), chunk if chunked else bytes)
    backend.when("/events", steps)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/events"))
        got = visitor.head()
        assert got.get("Content-Type") == "text/event-stream"
        for n in range(5):
            event = b"data: %d\n\n" % n
            steps.say(event)
            assert visitor.chunk() == event
        steps.say(None)
        assert visitor.chunk() == b""


def test_pieces_of_a_body_with_a_length_arrive_as_they_come(
    bridge: Bridge, backend: Backend
) -> None:
    steps = Steps(plain("200 OK", "Content-Length: 10", length=False, body=b""))
    backend.when("/slow", steps)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/slow"))
        assert visitor.head().get("Content-Length") == "10"
        for piece in (b"123", b"4567", b"890"):
            steps.say(piece)
            assert visitor.piece() == piece
        steps.say(None)


def test_pieces_of_a_handler_arrive_as_they_come(
    bridge: Bridge, release: Callable[[], bool]
) -> None:
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/py/streaming", host="python.test"))
        visitor.head()
        assert visitor.chunk() == b"one"
        assert visitor.chunk() == b"two"
        wait_for(release, BOUND, "a handler that waits")
        assert visitor.chunk()[:4] == b"more"
        visitor.leave()
    wait_for(lambda: release() or bridge.outcomes("/py/streaming"), BOUND, "the handler's end")


def digest_of_pattern(size: int) -> tuple[bytes, str]:
    """One MiB that is not the same all over, and the SHA-256 of `size` bytes of it."""
    piece = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(MIB // 32))
    digest = hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(piece)
    return piece, digest.hexdigest()


class Growth:
    """The most that the worker grew over its size at the start."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge, self._start, self.most = bridge, bridge.memory(), 0

    def look(self) -> None:
        self.most = max(self.most, self._bridge.memory() - self._start)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(("size", "most"), SIZES)
def test_a_large_download_does_not_fill_the_memory(
    bridge: Bridge, backend: Backend, framing: str, size: int, most: int
) -> None:
    piece, wanted = digest_of_pattern(size)

    def script(call: Call) -> None:
        if framing == "length":
            call.send(plain("200 OK", f"Content-Length: {size}", length=False, body=b""))
        else:
            call.send(plain("200 OK", CHUNKED, length=False, body=b""))
        for _ in range(size // MIB):
            call.send(piece if framing == "length" else chunk(piece))
        if framing == "chunked":
            call.send(b"0\r\n\r\n")

    backend.when("/large", script)
    growth, digest = Growth(bridge), hashlib.sha256()
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/large"))
        left, looked = size, size
        visitor.head()
        while left:
            data = visitor._more(left) if framing == "length" else visitor.chunk()
            assert data
            digest.update(data)
            left -= len(data)
            if looked - left > 4 * MIB:
                growth.look()
                looked = left
        if framing == "chunked":
            assert visitor.chunk() == b""
    assert digest.hexdigest() == wanted
    assert growth.most < most


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(("size", "most"), SIZES)
def test_a_large_upload_does_not_fill_the_memory(
    bridge: Bridge, backend: Backend, framing: str, size: int, most: int
) -> None:
    piece, wanted = digest_of_pattern(size)
    growth, digest = Growth(bridge), hashlib.sha256()

    def script(call: Call) -> None:
        _digest_body(call, digest, growth.look)
        call.send(plain())

    backend.when("/large", script)
    line = f"Content-Length: {size}" if framing == "length" else CHUNKED
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/large", line))
        for _ in range(size // MIB):
            visitor.send(piece if framing == "length" else chunk(piece))
        if framing == "chunked":
            visitor.send(b"0\r\n\r\n")
        assert visitor.answer().status == 200
    assert digest.hexdigest() == wanted
    assert growth.most < most


def _digest_body(call: Call, digest: hashlib._Hash, look: Callable[[], None]) -> None:
    """Read a body piece by piece; the double itself would keep it whole."""
    length = call.received.get("Content-Length")
    count = 0
    while True:
        size = int(length) if length is not None else int(call._line(), 16)
        while size:
            data = call.read(min(size, 256 * 1024))
            if not data:
                raise OSError("the body ended early")
            call.received.body = b""
            digest.update(data)
            size -= len(data)
            count += len(data)
            if count > 4 * MIB:
                count = 0
                look()
        if length is not None:
            return
        if call._line() == b"\r\n" and not data:
            return
        data = b""


def test_a_stalled_visitor_stops_reading_from_legacy(bridge: Bridge, backend: Backend) -> None:
    """What is on the way is in the buffers of four sockets, however large the body is."""
    sent = 0
    stalled = threading.Event()

    def script(call: Call) -> None:
        nonlocal sent
        call.send(plain("200 OK", f"Content-Length: {1024 * MIB}", length=False, body=b""))
        call.sock.settimeout(1.0)
        piece = b"x" * 65536
        try:
            while sent < 1024 * MIB:
                sent += call.sock.send(piece)
        except TimeoutError:
            stalled.set()  # nothing was taken for a whole second
        call.close()

    backend.when("/large", script)
    growth = Growth(bridge)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/large"))
        visitor.head()
        assert stalled.wait(BOUND)
        growth.look()
        visitor.leave()
    assert sent < 32 * MIB
    assert growth.most < 20 * MIB


def test_a_stalled_legacy_stops_reading_from_the_visitor(bridge: Bridge, backend: Backend) -> None:
    """The other way round."""
    over = threading.Event()
    backend.when("/large", lambda call: over.wait(BOUND))
    sent = 0
    growth = Growth(bridge)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/large", f"Content-Length: {1024 * MIB}"))
        visitor.sock.settimeout(1.0)
        with contextlib.suppress(TimeoutError):  # nothing was taken for a whole second
            while sent < 1024 * MIB:
                sent += visitor.sock.send(b"x" * 65536)
        growth.look()
        visitor.leave()
    over.set()
    assert sent < 32 * MIB
    assert growth.most < 20 * MIB


REFUSED = plain("413 Content Too Large", "Connection: close", body=b"too much")


@pytest.mark.parametrize("line", [f"Content-Length: {MIB}", CHUNKED])
def test_an_early_answer_arrives_while_the_visitor_pauses(
    bridge: Bridge, backend: Backend, line: str
) -> None:
    """Waiting for the rest of the upload is given up for it."""

    def script(call: Call) -> None:
        call.read(1)
        call.send(REFUSED)

    backend.when("/up", script)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", line))
        visitor.send(chunk(b"x" * 40_000) if line == CHUNKED else b"x" * 40_000)
        got = visitor.answer()
        assert (got.status, got.body) == (413, b"too much")


def test_an_early_answer_arrives_while_the_visitor_goes_on_sending(
    bridge: Bridge, backend: Backend
) -> None:
    """Legacy answers and reads no more. The visitor sends everything first and looks for an
    answer afterwards, as most programs do, and finds it."""
    backend.when("/up", _refuse_and_wait)
    size = 16 * MIB
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", f"Content-Length: {size}"))
        for _ in range(size // MIB):
            visitor.send(b"x" * MIB)
        got = visitor.answer()
        assert (got.status, got.body, got.whole) == (413, b"too much", True)


def _refuse_and_wait(call: Call) -> None:
    call.send(REFUSED)
    call.sock.settimeout(BOUND)
    over.wait(BOUND)


over = threading.Event()


@pytest.fixture(autouse=True)
def _end_of_waiting() -> object:
    over.clear()
    yield
    over.set()


def test_an_early_answer_may_come_with_a_hang_up(bridge: Bridge, backend: Backend) -> None:
    """nginx does so; the reset that follows must not swallow the answer."""

    def script(call: Call) -> None:
        call.read(1)
        call.send(REFUSED)
        call.close()

    backend.when("/up", script)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", f"Content-Length: {4 * MIB}"))
        for _ in range(4):
            visitor.send(b"x" * MIB)
        assert visitor.answer().status == 413


def test_an_answer_can_stream_while_the_upload_still_runs(bridge: Bridge, backend: Backend) -> None:
    """Its head and first bytes come at once. The rest of the upload is not sent on: a WSGI
    server reads the request or writes the answer, never both."""
    steps = Steps(plain("200 OK", CHUNKED, length=False, body=b""), chunk)
    backend.when("/both", steps)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/both", CHUNKED) + chunk(b"first"))
        steps.say(b"heard you")
        assert visitor.head().status == 200
        assert visitor.chunk() == b"heard you"
        steps.say(None)
        assert visitor.chunk() == b""


def test_many_streams_leave_room_for_a_quick_request(bridge: Bridge, backend: Backend) -> None:
    """One thread each: as many as `--threads`, less one, may be slow at a time. (Held open by
    the thousand they are the event-loop engine's.)"""
    steps = [
        Steps(plain("200 OK", *SSE, CHUNKED, length=False, body=b""), chunk) for _ in range(12)
    ]
    visitors: list[Visitor] = []
    for n, script in enumerate(steps):
        backend.when(f"/stream{n}", script)
        visitor = bridge.visitor()
        visitors.append(visitor)
        visitor.send(request("GET", f"/stream{n}"))
        assert visitor.head().status == 200
    assert bridge.ask("GET", "/quick").status == 200
    for script, visitor in zip(steps, visitors, strict=True):
        script.say(None)
        assert visitor.chunk() == b""
        visitor.sock.close()
