"""Any bytes from a visitor, any bytes from legacy: no crash, no hang, nothing framed in two ways.

The whole engine runs without sockets; `hostile` says what has to hold. `tests.fuzz` goes on from
here with a fuzzer that looks at coverage.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.proxy.engine.reading import Body
from bridge.proxy.http.wire import ChunkedReader
from stack.process import REPOSITORY
from tests.fuzz.seeds import ANSWERS, REQUESTS, WORDS
from tests.proxy.engine.hostile import OK, check_answer, check_request
from tests.proxy.engine.oracle import Malformed, answers_in, requests_in
from tests.proxy.engine.wired import Wired

HOST = b"Host: forge.example\r\n"
WARM = b"GET /warm HTTP/1.1\r\n" + HOST + b"\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CUTS = st.lists(st.integers(0, 2000), max_size=6)


def mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Sound messages with words of the protocol, and any bytes, in places where they are not."""
    word = st.sampled_from(WORDS) | st.binary(max_size=4)
    edit = st.tuples(st.integers(0, 400), st.integers(0, 12), word)

    def apply(messages: list[bytes], edits: list[tuple[int, int, bytes]]) -> bytes:
        raw = b"".join(messages)
        for place, gone, new in edits:
            at = place % (len(raw) + 1)
            raw = raw[:at] + new + raw[at + gone :]
        return raw

    messages = st.lists(st.sampled_from(seeds), min_size=1, max_size=3)
    return st.builds(apply, messages, st.lists(edit, max_size=5))


def soup() -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(WORDS) | st.binary(max_size=6), max_size=40).map(b"".join)


@pytest.fixture(scope="module")
def wired() -> Wired:
    return Wired()


SHORT = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(SHORT, max_examples=60_000)


class TestAnyBytesOfAVisitor:
    @SHORT
    @given(raw=mutated(REQUESTS) | soup(), cuts=CUTS, no_more=st.booleans())
    @example(raw=b"\r\n" * 40_000 + WARM, cuts=[65_536], no_more=False)
    def test_short(self, wired: Wired, raw: bytes, cuts: list[int], no_more: bool) -> None:
        check_request(wired, raw, cuts, sends_no_more=no_more)

    @pytest.mark.long
    @pytest.mark.timeout(1200)
    @LONG
    @given(raw=mutated(REQUESTS) | soup(), cuts=CUTS, no_more=st.booleans())
    def test_long(self, wired: Wired, raw: bytes, cuts: list[int], no_more: bool) -> None:
        check_request(wired, raw, cuts, sends_no_more=no_more)

    @pytest.mark.parametrize("number", range(len(REQUESTS)))
    def test_where_the_network_cuts_a_request_changes_nothing(
        self, wired: Wired, number: int
    ) -> None:
        raw = REQUESTS[number]
        if b"websocket" in raw:
            return
        whole = [(m.start, m.body) for m in check_request(wired, raw, [])]
        assert whole
        for cut in range(1, len(raw)):
            assert [(m.start, m.body) for m in check_request(wired, raw, [cut])] == whole
        every = list(range(len(raw)))
        assert [(m.start, m.body) for m in check_request(wired, raw, every)] == whole


REFUSED_WITH_A_BODY = {
    "a host off the list": b"POST /a HTTP/1.1\r\nHost: other.example\r\n",
    "no host": b"POST /a HTTP/1.1\r\n",
    "no target": b"POST admin HTTP/1.1\r\n" + HOST,
    "two hosts": b"POST http://other.example/ HTTP/1.1\r\n" + HOST,
    "connect": b"CONNECT forge.example:80 HTTP/1.1\r\n" + HOST,
    "an expectation": b"POST /a HTTP/1.1\r\n" + HOST + b"Expect: wonders\r\n",
    "a loop": b"POST /a HTTP/1.1\r\n"
    + HOST
    + b"X-Bridge-Hop: "
    + b",".join([b"0" * 8] * 8)
    + b"\r\n",
    "no forwards left": b"OPTIONS /a HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n",
    "a trace": b"TRACE /a HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n",
}


@pytest.mark.parametrize("what", REFUSED_WITH_A_BODY)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_the_body_of_a_refused_request_is_no_next_request(
    wired: Wired, what: str, framing: str
) -> None:
    """Whatever is refused, and however early: a visitor could send one in another's name."""
    body = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    if framing == "length":
        rest = b"Content-Length: %d\r\n\r\n" % len(body) + body
    else:
        rest = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    raw = REFUSED_WITH_A_BODY[what] + rest
    for cuts in (
        [],
        [len(REFUSED_WITH_A_BODY[what])],
        [len(raw) - len(body)],
        list(range(len(raw))),
    ):
        assert check_request(wired, raw, cuts) == []


class TestAnyBytesOfLegacy:
    @SHORT
    @given(
        raw=mutated(ANSWERS) | soup(), cuts=CUTS, method=st.sampled_from([b"GET", b"HEAD", b"POST"])
    )
    def test_short(self, wired: Wired, raw: bytes, cuts: list[int], method: bytes) -> None:
        check_answer(wired, raw, cuts, method)

    @pytest.mark.long
    @pytest.mark.timeout(1200)
    @LONG
    @given(
        raw=mutated(ANSWERS) | soup(), cuts=CUTS, method=st.sampled_from([b"GET", b"HEAD", b"POST"])
    )
    def test_long(self, wired: Wired, raw: bytes, cuts: list[int], method: bytes) -> None:
        check_answer(wired, raw, cuts, method)

    @pytest.mark.parametrize("number", range(len(ANSWERS)))
    def test_where_the_network_cuts_an_answer_changes_nothing(
        self, wired: Wired, number: int
    ) -> None:
        raw = ANSWERS[number]
        whole = check_answer(wired, raw, [])
        for cut in range(1, len(raw)):
            assert check_answer(wired, raw, [cut]) == whole
        assert check_answer(wired, raw, list(range(len(raw)))) == whole


class TestWhatManySmallThingsCost:
    """A copy of all the rest for each of them would take minutes here."""

    CHUNKS = b"1\r\nx\r\n" * 400_000

    def test_small_chunks(self) -> None:
        reader = ChunkedReader()
        assert len(reader.feed(self.CHUNKS + b"0\r\n\r\n")) == 400_000
        assert reader.done

    def test_small_chunks_of_a_visitor(self) -> None:
        body = Body(None)
        pieces, rest = body.feed(self.CHUNKS + b"0\r\n\r\nGET")
        assert (len(pieces), rest, body.done) == (400_000, b"GET", True)

    def test_empty_lines_before_a_request(self, wired: Wired) -> None:
        (seen,) = check_request(wired, b"\r\n" * 4_000_000 + WARM, [])
        assert seen.start == (b"GET", b"/warm")

    def test_empty_lines_before_a_request_that_is_not_all_here(self, wired: Wired) -> None:
        raw = b"\r\n" * 40_001 + WARM
        (seen,) = check_request(wired, raw, [len(raw) - 4])
        assert seen.start == (b"GET", b"/warm")


class TestTunnels:
    def ask(self, wired: Wired, raw: bytes) -> bytes:
        """The head that legacy gets for `raw`."""
        wired.fresh()
        visitor, _ = wired.visit()
        visitor.data_received(raw)
        return bytes(wired.legacy[0].wire.out)

    def test_what_was_sent_before_the_101_goes_through_it(self, wired: Wired) -> None:
        wired.fresh()
        visitor, wire = wired.visit()
        visitor.data_received(b"GET /chat HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\nearly ")
        visitor.data_received(b"bird ")
        (legacy,) = wired.legacy
        assert legacy.wire.out.endswith(b"\r\n\r\n")
        legacy.send(SWITCHED + b"hello")
        visitor.data_received(b"worm")
        assert legacy.wire.out.endswith(b"\r\n\r\nearly bird worm")
        assert wire.out.endswith(b"\r\n\r\nhello")

    def test_what_was_sent_before_a_refusal_is_the_next_request(self, wired: Wired) -> None:
        wired.fresh()
        visitor, wire = wired.visit()
        visitor.data_received(b"GET /chat HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n" + WARM)
        wired.legacy[0].send(OK)
        wired.legacy[-1].send(OK)
        answers, rest = answers_in(bytes(wire.out), [b"GET", b"GET"], ended=False)
        assert ([a.status for a in answers], rest) == ([200, 200], b"")

    @pytest.mark.parametrize(
        "raw",
        [
            b"POST /chat HTTP/1.1\r\n" + HOST + UPGRADE + b"Content-Length: 2\r\n\r\nab",
            b"GET /chat HTTP/1.1\r\n" + HOST + UPGRADE + b"Content-Length: 2\r\n\r\nab",
            b"GET /chat HTTP/1.1\r\n"
            + HOST
            + UPGRADE
            + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET /chat HTTP/1.0\r\n" + HOST + UPGRADE + b"\r\n",
            b"GET /chat HTTP/1.1\r\n"
            + HOST
            + b"Connection: Upgrade\r\nUpgrade: xwebsocket\r\n\r\n",
            b"GET /chat HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            b"GET /chat HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\n\r\n",
        ],
    )
    def test_only_a_get_without_a_body_asks_for_one(self, wired: Wired, raw: bytes) -> None:
        assert b"pgrade" not in self.ask(wired, raw)

    def test_a_switch_to_what_nobody_asked_for_is_a_502(self, wired: Wired) -> None:
        wired.fresh()
        visitor, wire = wired.visit()
        visitor.data_received(b"GET /chat HTTP/1.1\r\n" + HOST + UPGRADE + b"\r\n")
        wired.legacy[0].send(SWITCHED.replace(b"websocket", b"h2c"))
        assert wire.out.startswith(b"HTTP/1.1 502 ")


class TestTheOracle:
    """A reader that forgave something would find nothing."""

    @pytest.mark.parametrize(
        "raw",
        [
            b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\n\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;a\r\na\r\n0\r\n\r\n",
            b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        ],
    )
    def test_it_forgives_nothing(self, raw: bytes) -> None:
        with pytest.raises(Malformed):
            requests_in(raw)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [15, pytest.param(600, marks=pytest.mark.long)])
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
def test_a_fuzzer_that_sees_coverage_finds_nothing(tmp_path: Path, seconds: int) -> None:
    limits = [f"-max_total_time={seconds}", "-max_len=1500", "-timeout=20"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.engine_bytes", *limits),
            *(f"-artifact_prefix={tmp_path}/", str(tmp_path / "corpus")),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"Done \d+ runs", done.stderr)
