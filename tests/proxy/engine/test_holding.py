"""An answer that waits for the log's end holds up its visitor, and nobody else.

The question here is answered when the test says so: a real one has an answer, or none, within
20 ms, which shows nothing about who waits for whom.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import pytest
import uvloop

from bridge.proxy.engine.engine import Engine
from bridge.proxy.engine.visitor import Visitor as Protocol
from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.python.threads import HandlerThreads
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, plain
from tests.proxy.shells.visitor import Visitor, request
from tests.proxy.site import TOP, table

BODY = bytes(range(256)) * 200_000


class Question:
    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell
        self.since = time.perf_counter()
        self.how, self.end = "", ""

    def answer(self, end: str) -> None:
        """From another thread than the loop's."""
        self.how, self.end = "asked", end
        self.tell()


class Marker:
    """Marks with the answer itself."""

    cookie, lifetime = "bv", 30

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.questions: list[Question] = []
        self.is_away = False

    def ask(self, tell: Callable[[], None]) -> Question:
        question = Question(tell)
        if self.is_away:
            question.how = "away"
        self.questions.append(question)
        return question

    def token(self, question: Question | None, sent: Iterable[str], given: Sequence[str]) -> str:
        return question.end if question else ""

    def is_sound(self, value: str) -> bool:
        return False


class Gate:
    cookie = "bv"
    log: frozenset[str] = frozenset()

    def __init__(self, marker: Marker) -> None:
        self.marker = marker

    def wanted(self, cookies: Iterable[str]) -> None:
        return None

    def ensure(self, wanted: Any, reads: Collection[str]) -> bool:
        return True


class Site:
    """An engine in a thread of this process, whose marker answers when it is told to."""

    def __init__(self, backend: Backend, budget: float = 60) -> None:
        self.backend, self.marker = backend, Marker(budget)
        self.outcomes: list[Outcome] = []
        told = self.outcomes

        class Tell(Hooks):
            def after_response(self, outcome: Outcome) -> None:
                told.append(outcome)

        routes = table(top=TOP.replace(":8090", f":{backend.port}"))
        gate = Gate(self.marker)
        self._front = Front(lambda: routes, gate=gate, hooks=[Tell()], tunnels=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._loop = uvloop.new_event_loop()
        self.failed: list[Any] = []
        self._loop.set_exception_handler(lambda loop, context: self.failed.append(context))
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self.engine = Engine(self._front, HandlerThreads(2), self._loop)
        server = await self._loop.create_server(lambda: Protocol(self.engine), sock=self._listener)
        self.engine.start()
        await self._over.wait()
        server.close()
        for visitor in list(self.engine.visitors):
            visitor.cut_short()
            visitor.transport.abort()
        for upstream in self.engine.upstreams.all():
            upstream.close()
        await asyncio.sleep(0.05)

    def visit(self, method: str, path: str) -> Visitor:
        """A visitor who has asked."""
        visitor = Visitor(self._listener.getsockname())
        visitor.send(request(method, path, host="forge.example"))
        return visitor

    def question(self, number: int = 1) -> Question:
        """The question before the answer to so many visitors, when it is asked."""
        wait_for(lambda: len(self.marker.questions) >= number, BOUND, "a question")
        return self.marker.questions[number - 1]

    def later(self, call: Callable[[], Any]) -> None:
        """Do something on the loop."""
        self._loop.call_soon_threadsafe(call)

    @property
    def busy(self) -> int:
        """Connections to legacy that have a place."""
        return sum(upstream.in_flight for upstream in self.engine.upstreams.all())

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join()


@pytest.fixture
def backend() -> Iterator[Backend]:
    with Backend() as backend:
        backend.when("/save", plain(body=b"saved"))
        backend.when("/page", plain(body=b"page"))
        yield backend


@pytest.fixture
def site(backend: Backend) -> Iterator[Site]:
    site = Site(backend)
    yield site
    site.close()
    assert site.failed == []


def is_silent(visitor: Visitor) -> bool:
    visitor.sock.setblocking(False)
    try:
        visitor.sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    finally:
        visitor.sock.settimeout(BOUND)
    return False


def test_while_it_waits_others_are_answered_and_then_the_head_and_the_body_come(
    site: Site,
) -> None:
    with site.visit("POST", "/save") as waiting:
        question = site.question()
        with site.visit("GET", "/page") as other:
            assert other.answer().body == b"page"
        assert is_silent(waiting)
        question.answer("end")
        got = waiting.answer()
    assert (got.body, got.all("Set-Cookie")[0].partition(";")[0]) == (b"saved", "bv=end")
    wait_for(lambda: len(site.outcomes) == 2, BOUND, "both to be reported")
    assert [outcome.log_end for outcome in site.outcomes] == ["", "asked"]


def test_without_an_answer_in_time_the_head_goes_on_without(backend: Backend) -> None:
    site = Site(backend, budget=0.01)
    try:
        with site.visit("POST", "/save") as visitor:
            got = visitor.answer()
            assert (got.body, got.all("Set-Cookie")) == (b"saved", [])
            site.question().answer("too late")
            visitor.send(request("GET", "/page", host="forge.example"))
            assert visitor.answer().body == b"page"
        wait_for(lambda: len(site.outcomes) == 2, BOUND, "both to be reported")
        assert site.outcomes[0].log_end == "late"
        assert site.outcomes[0].asked >= 0.01
    finally:
        site.close()


def test_what_is_clear_at_once_holds_up_nothing(site: Site) -> None:
    site.marker.is_away = True
    with site.visit("POST", "/save") as visitor:
        assert visitor.answer().body == b"saved"


@pytest.mark.parametrize("chunked", [False, True])
def test_of_a_large_body_hardly_anything_is_read_while_the_head_waits(
    site: Site, chunked: bool
) -> None:
    sent = 0
    raw = plain(body=BODY)
    if chunked:
        raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw += b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

    def script(call: Call) -> None:
        nonlocal sent
        call.body()
        for at in range(0, len(raw), 65536):
            call.send(raw[at : at + 65536])
            sent = at

    site.backend.when("/save", script)
    with site.visit("POST", "/save") as waiting:
        question = site.question()
        with site.visit("GET", "/page") as other:
            for _ in range(300):
                assert other.answer().body == b"page"
                other.send(request("GET", "/page", host="forge.example"))
        assert sent < len(BODY) / 2
        question.answer("end")
        got = waiting.answer()
    assert (got.whole, got.body == BODY) == (True, True)


def test_a_body_that_breaks_off_meanwhile_is_cut_after_the_head(site: Site) -> None:
    def script(call: Call) -> None:
        call.body()
        call.send(plain(body=BODY)[:1000])
        call.close()

    site.backend.when("/save", script)
    with site.visit("POST", "/save") as waiting:
        site.question().answer("end")
        got = waiting.answer()
    assert (got.status, got.whole) == (200, False)


@pytest.mark.parametrize("raw", [plain(body=b"saved"), plain(body=BODY)], ids=["small", "large"])
def test_of_a_visitor_who_leaves_meanwhile_nothing_is_kept(site: Site, raw: bytes) -> None:
    def script(call: Call) -> None:
        call.body()
        call.send(raw)

    site.backend.when("/save", script)
    for number in range(1, 21):
        visitor = site.visit("POST", "/save")
        site.question(number)
        visitor.leave()
    wait_for(lambda: not site.engine.visitors, BOUND, "them to be gone")
    wait_for(lambda: not site.busy, BOUND, "legacy's places to be free")
    for question in site.marker.questions:
        question.answer("end")
    with site.visit("POST", "/save") as visitor:
        site.question(21).answer("end")
        assert visitor.answer().whole
    assert [outcome.aborted for outcome in site.outcomes[:20]] == ["visitor left"] * 20


def test_a_server_that_stops_meanwhile_answers_with_its_page(site: Site) -> None:
    with site.visit("POST", "/save") as waiting:
        question = site.question()
        site.later(lambda: [visitor.cut_short() for visitor in list(site.engine.visitors)])
        assert waiting.answer().status == 503
        question.answer("end")
    with site.visit("GET", "/page") as other:
        assert other.answer().body == b"page"


def test_an_answer_that_comes_when_the_server_is_gone_disturbs_nobody(site: Site) -> None:
    with site.visit("POST", "/save"):
        question = site.question()
        site.close()
        question.answer("end")


def test_requests_behind_it_wait_for_their_turn(site: Site) -> None:
    with site.visit("POST", "/save") as visitor:
        visitor.send(request("GET", "/page", host="forge.example"))
        question = site.question()
        assert is_silent(visitor)
        question.answer("end")
        assert [visitor.answer().body, visitor.answer().body] == [b"saved", b"page"]
