"""Where a message ends: whatever two parsers could read differently is refused, not guessed."""

from __future__ import annotations

import socket
import ssl

import pytest

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, answer, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Answer, request

CHUNKED = "Transfer-Encoding: chunked"
HOST = b"Host: main.test\r\n"

REFUSED = {
    "transfer-encoding with content-length": (
        b"POST /smuggled HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two content-lengths": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"
    ),
    "the same content-length twice": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nab"
    ),
    "a list of content-lengths": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: 2, 2\r\n\r\nab"
    ),
    "content-length with a sign": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: +2\r\n\r\nab"
    ),
    "content-length in hex": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: 0x2\r\n\r\nab"
    ),
    "content-length in other digits": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: \xb2\r\n\r\nab"
    ),
    "an empty content-length": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: \r\n\r\nab"
    ),
    "a negative content-length": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\nab"
    ),
    "transfer-encoding on HTTP/1.0": (
        b"POST /smuggled HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "another coding": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"
    ),
    "an unknown coding": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
    ),
    "a coding before chunked": (
        b"POST /smuggled HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
    ),
    "a coding after chunked": (
        b"POST /smuggled HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"
    ),
    "chunked twice": (
        b"POST /smuggled HTTP/1.1\r\n"
        + HOST
        + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "a space in a name": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X Name: a\r\n\r\n",
    "a space before the colon": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X-Name : a\r\n\r\n",
    "no name": b"GET /smuggled HTTP/1.1\r\n" + HOST + b": a\r\n\r\n",
    "no colon": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"smuggled\r\n\r\n",
    "a name that is no ASCII": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X-\xe9: a\r\n\r\n",
    "a bare CR in a value": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X-Name: a\rb\r\n\r\n",
    "a bare LF in a value": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X-Name: a\nX-B: b\r\n\r\n",
    "a NUL in a value": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X-Name: a\0b\r\n\r\n",
    "another control character": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X-Name: a\x0bb\r\n\r\n",
    "a folded line": b"GET /smuggled HTTP/1.1\r\n" + HOST + b"X-Name: a\r\n b\r\n\r\n",
    "a folded first line": b"GET /smuggled HTTP/1.1\r\n X-Name: a\r\n" + HOST + b"\r\n",
    "bare LFs as line ends": b"GET /smuggled HTTP/1.1\nHost: main.test\n\n",
    "no version": b"GET /smuggled\r\n" + HOST + b"\r\n",
    "another version": b"GET /smuggled HTTP/3.0\r\n" + HOST + b"\r\n",
    "two spaces in the request line": b"GET  /smuggled HTTP/1.1\r\n" + HOST + b"\r\n",
    "a tab in the target": b"GET /smug\tgled HTTP/1.1\r\n" + HOST + b"\r\n",
    "a preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_request_that_two_parsers_could_read_differently_gets_a_400_and_is_closed(
    bridge: Bridge, backend: Backend, what: str
) -> None:
    """Legacy hears nothing."""
    with bridge.visitor() as visitor:
        visitor.send(REFUSED[what])
        assert visitor.answer().status == 400
        assert visitor.ended()
    assert backend.received == []


@pytest.mark.parametrize("what", REFUSED)
def test_the_page_about_a_malformed_request_repeats_nothing_of_it(
    bridge: Bridge, what: str
) -> None:
    got = bridge.send(REFUSED[what])
    assert b"does not understand" in got.body
    for echo in (b"smuggled", b"gunicorn", b"Traceback", b"Invalid", b"chunked"):
        assert echo not in got.raw + got.body


def test_tls_on_a_port_without_it_is_named_in_the_log(bridge: Bridge, backend: Backend) -> None:
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="main.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    assert bridge.send(hello.read()).status == 400
    assert "TLS on a port that has none" in bridge.outcome("")["error"]


def test_what_follows_a_refused_request_is_not_answered(bridge: Bridge, backend: Backend) -> None:
    """It may be part of the body that the two parsers disagree about."""
    with bridge.visitor() as visitor:
        visitor.send(REFUSED["transfer-encoding with content-length"] + request("GET", "/second"))
        assert visitor.answer().status == 400
        assert visitor.ended()
    assert backend.received == []


def test_a_chunked_request_reaches_legacy_properly_framed(bridge: Bridge, backend: Backend) -> None:
    """Neither length nor chunking would be a request smuggled into the next one."""
    raw = request("POST", "/up", CHUNKED)
    got = bridge.send(raw + b'5\r\nhello\r\n7;note="x"\r\n, world\r\n0\r\n\r\n')
    received = backend.only()
    assert got.status == 200
    assert received.body == b"hello, world"
    assert received.all("Transfer-Encoding") == ["chunked"]
    assert received.get("Content-Length") is None


def test_trailers_of_a_request_are_dropped(bridge: Bridge, backend: Backend) -> None:
    """A WSGI server reads them and has no place to show them; the body stays whole."""
    raw = request("POST", "/up", CHUNKED)
    bridge.send(raw + b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n")
    assert backend.only().body == b"hello"


def test_the_connection_to_legacy_is_usable_after_a_chunked_request(
    bridge: Bridge, backend: Backend
) -> None:
    """The last chunk was sent: the next request on it is understood."""
    bridge.send(request("POST", "/up", CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n")
    bridge.ask("GET", "/next")
    first, second = backend.received
    assert (second.connection, second.turn) == (first.connection, first.turn + 1)


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 1000])
def test_a_body_with_a_length_arrives_byte_for_byte(
    bridge: Bridge, backend: Backend, body: bytes
) -> None:
    bridge.ask("POST", "/up", body=body)
    assert backend.only().body == body
    assert backend.only().all("Content-Length") == [str(len(body))]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PROPFIND"])
def test_any_method_may_have_a_body(bridge: Bridge, backend: Backend, method: str) -> None:
    bridge.ask(method, "/up", body=b"query")
    assert (backend.only().method, backend.only().body) == (method, b"query")


def test_a_request_without_a_body_announces_none(bridge: Bridge, backend: Backend) -> None:
    bridge.ask("POST", "/up")
    assert backend.only().get("Content-Length") is None
    assert backend.only().get("Transfer-Encoding") is None


def test_a_body_that_ends_early_is_an_error_and_never_a_whole_request(
    bridge: Bridge, backend: Backend
) -> None:
    """Legacy sees the connection end before the announced length; the visitor gets a 400."""
    ended: list[bool] = []

    def script(call: Call) -> None:
        call.read(100)
        ended.append(call.left())

    backend.when("/up", script)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", "Content-Length: 100000") + b"12345")
        visitor.sock.shutdown(socket.SHUT_WR)
        assert visitor.answer().status == 400
    wait_for(lambda: ended, BOUND, "the end of the legacy connection")
    assert ended == [True]
    assert backend.only().body == b"12345"


@pytest.mark.parametrize(
    "rest", [b"zz\r\nhello\r\n", b"5\r\nhelloXX", b"-5\r\nhello\r\n", b"5\nhello\r\n0\r\n\r\n"]
)
def test_bad_chunking_in_the_middle_is_an_error_and_never_a_whole_request(
    bridge: Bridge, backend: Backend, rest: bytes
) -> None:
    """The visitor gets a 400 and the end of the connection, legacy no last chunk."""
    backend.when("/up", lambda call: call.body())
    assert _chunked_badly(bridge, backend, rest).status == 400
    assert backend.only().body in (b"", b"abc", b"3\r\nabc\r\n")  # the last is its framing


def test_the_answer_to_bad_chunking_says_that_the_connection_ends(
    bridge: Bridge, backend: Backend
) -> None:
    backend.when("/up", lambda call: call.body())
    assert _chunked_badly(bridge, backend, b"zz\r\nhello\r\n").get("Connection") == "close"


def _chunked_badly(bridge: Bridge, backend: Backend, rest: bytes) -> Answer:
    """The answer to a chunk that is right and then `rest`; it is the last one."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", CHUNKED) + b"3\r\nabc\r\n")
        backend.wait("/up")
        visitor.send(rest)
        visitor.sock.shutdown(socket.SHUT_WR)
        got = visitor.answer()
        assert visitor.ended()
    return got


@pytest.mark.parametrize("body", [b"5\n", b"5\r\nhello\r\n5\n", b"zz", b"0\r\nX-Sum: 1\n"])
def test_a_chunk_that_cannot_become_right_is_refused_at_once(
    bridge: Bridge, backend: Backend, body: bytes
) -> None:
    """Without waiting for more: there is none, the visitor waits for the answer."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/chunk", CHUNKED) + body)
        assert visitor.answer().status == 400
        assert visitor.ended()


def test_bytes_after_the_announced_length_are_the_next_request(
    bridge: Bridge, backend: Backend
) -> None:
    """Here they are none, so they get a 400 of their own."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", "Content-Length: 2") + b"12surplus\r\n\r\n")
        assert visitor.answer().status == 200
        assert visitor.answer().status == 400
        assert visitor.ended()
    [received] = backend.of("/up")
    assert received.body == b"12"


def test_pipelined_requests_are_answered_in_order(bridge: Bridge, backend: Backend) -> None:
    backend.when("/one", plain(body=b"one"))
    backend.when("/two", plain(body=b"two"))
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/one", body=b"12") + request("GET", "/two"))
        assert [visitor.answer().body, visitor.answer().body] == [b"one", b"two"]


BROKEN_ANSWERS = {
    "length and chunked": (
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "two lengths": b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a length that is no number": b"Content-Length: two\r\n\r\nok",
    "an empty length": b"Content-Length:\r\n\r\nok",
    "a length with a sign": b"Content-Length: +2\r\n\r\nok",
    "a length without end": b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nok",
    "another coding": b"Transfer-Encoding: gzip\r\n\r\nok",
    "a coding before chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a first chunk that is none": b"Transfer-Encoding: chunked\r\n\r\nnothing\r\n",
}


@pytest.mark.parametrize("what", BROKEN_ANSWERS)
def test_an_answer_that_two_parsers_could_read_differently_is_a_502(
    bridge: Bridge, backend: Backend, what: str
) -> None:
    backend.when("/down", b"HTTP/1.1 200 OK\r\n" + BROKEN_ANSWERS[what])
    assert bridge.ask("GET", "/down").status == 502


@pytest.mark.parametrize(
    "lines", [["Content-Length: 2", "content-length: 2"], ["Content-Length: 2, 2"]]
)
def test_a_length_said_twice_by_legacy_reaches_the_visitor_once(
    bridge: Bridge, backend: Backend, lines: list[str]
) -> None:
    """RFC 9110, 8.6, allows it when both are the same number."""
    backend.when("/down", plain("200 OK", *lines, length=False))
    got = bridge.ask("GET", "/down")
    assert (got.all("Content-Length"), got.body) == (["2"], b"ok")


def test_what_legacy_sends_beyond_its_length_reaches_nobody(
    bridge: Bridge, backend: Backend
) -> None:
    """Neither this visitor nor, on a connection used again, the next one."""
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
    backend.when("/down", plain(body=b"mine") + stray)
    assert bridge.ask("GET", "/down").body == b"mine"
    assert bridge.ask("GET", "/next").body == b"ok"
    first, second = backend.received
    assert first.connection != second.connection


def test_what_legacy_sends_after_the_last_chunk_reaches_nobody(
    bridge: Bridge, backend: Backend
) -> None:
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"
    chunks = plain("200 OK", CHUNKED, length=False, body=b"4\r\nmine\r\n0\r\n\r\n")
    backend.when("/down", chunks + stray)
    assert bridge.ask("GET", "/down").body == b"mine"
    assert bridge.ask("GET", "/next").body == b"ok"
    first, second = backend.received
    assert first.connection != second.connection


@pytest.mark.parametrize("cut", [1, 2, 3, 7])
def test_a_chunked_answer_means_the_same_wherever_the_network_cuts_it(
    bridge: Bridge, backend: Backend, cut: int
) -> None:
    raw = b"5\r\nhello\r\n1;ext=1\r\n \r\n5\r\nworld\r\n0\r\nX-Checksum: 1\r\n\r\n"

    def script(call: Call) -> None:
        call.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        call.send(plain("200 OK", CHUNKED, length=False, body=b""))
        for start in range(0, len(raw), cut):
            call.send(raw[start : start + cut])

    backend.when("/down", script)
    got = bridge.ask("GET", "/down")
    assert (got.body, got.whole) == (b"hello world", True)


def test_an_answer_without_a_length_ends_with_its_connection(
    bridge: Bridge, backend: Backend
) -> None:
    """And becomes chunked, so that the visitor can tell its end from a cut."""
    backend.when("/down", answer(plain(length=False, body=b"until the end"), close=True))
    got = bridge.ask("GET", "/down")
    assert (got.body, got.whole, got.get("Transfer-Encoding")) == (
        b"until the end",
        True,
        "chunked",
    )


def test_white_space_before_the_colon_of_an_answer_is_removed(
    bridge: Bridge, backend: Backend
) -> None:
    """RFC 9112, 5.1: what a visitor's browser would read differently must not reach it."""
    backend.when("/down", plain("200 OK", "X-One : 1"))
    assert bridge.ask("GET", "/down").get("X-One") == "1"


def test_a_folded_line_of_an_answer_is_unfolded(bridge: Bridge, backend: Backend) -> None:
    """RFC 9112, 5.2: old servers still fold."""
    backend.when("/down", plain("200 OK", "X-One: 1\r\n  and more", "X-Two: 2"))
    got = bridge.ask("GET", "/down")
    assert (got.get("X-One"), got.get("X-Two")) == ("1 and more", "2")
