"""Visitors and backends that mean harm, or are merely broken, in both shells.

What any bytes at all may do is in `tests/proxy/engine/test_hostile_bytes.py`; whether two
independent parsers agree with ours about real backends is in `test_smuggling.py`.
"""

from __future__ import annotations

import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import ANSWERS
from tests.proxy.engine.oracle import answers_in
from tests.proxy.engine.test_hostile_bytes import mutated
from tests.proxy.shells.double import Backend, Call, answer, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

CHUNKED = "Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "line",
    [
        "Transfer-Encoding: chunked\xa0",
        "Transfer-Encoding: \x85chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked;q=1",
        'Transfer-Encoding: "chunked"',
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chun\xc5\xbfked",
    ],
)
def test_a_coding_that_only_looks_like_chunked_is_a_400(
    bridge: Bridge, backend: Backend, line: str
) -> None:
    """White space of other character sets, empty list members, parameters."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", line) + b"0\r\n\r\n")
        assert visitor.answer().status in (400, 501)
        assert visitor.ended()
    assert backend.received == []


@pytest.mark.parametrize("line", ["Content-Length: 2\xa0", "Content-Length: \x852"])
def test_a_length_with_white_space_of_another_character_set_is_a_400(
    bridge: Bridge, backend: Backend, line: str
) -> None:
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", line) + b"ab")
        assert visitor.answer().status == 400
        assert visitor.ended()
    assert backend.received == []


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 2\xa0"],
        ["Content-Length: 2, 2\x85"],
        ["Transfer-Encoding: chunked\xa0"],
        ["Transfer-Encoding: \x85chunked"],
        ["Transfer-Encoding: chunked, identity"],
    ],
)
def test_framing_of_an_answer_with_odd_white_space_is_a_502(
    bridge: Bridge, backend: Backend, lines: list[str]
) -> None:
    """A browser would not take it for white space, and read another body than we do."""
    backend.when("/down", plain("200 OK", *lines, length=False, body=b"2\r\nok\r\n0\r\n\r\n"))
    assert bridge.ask("GET", "/down").status == 502


def test_a_chunked_answer_of_http_1_0_ends_its_connection(bridge: Bridge, backend: Backend) -> None:
    """RFC 9112, 6.1: its framing is faulty, so nothing that follows can be trusted."""
    body = b"2\r\nok\r\n0\r\n\r\n"
    head = b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
    backend.when("/down", head + body)
    assert bridge.ask("GET", "/down").body == b"ok"
    assert bridge.ask("GET", "/next").body == b"ok"
    first, second = backend.received
    assert first.connection != second.connection


def test_a_request_is_not_sent_again_after_an_interim_answer(
    bridge: Bridge, backend: Backend
) -> None:
    """The connection was not stale: legacy has begun to work on the request."""
    backend.when("/warm", answer(plain()))
    backend.when("/begun", answer(b"HTTP/1.1 102 Processing\r\n\r\n", close=True))
    bridge.ask("GET", "/warm")
    assert bridge.ask("GET", "/begun").status == 502
    assert len(backend.of("/begun")) == 1


@pytest.mark.parametrize("extension", [";x", ";x=y", ';x="a b"', ";" + "x" * 1000])
def test_chunk_extensions_end_here(bridge: Bridge, backend: Backend, extension: str) -> None:
    """They are of this hop only (RFC 9112, 7.1.1), and a way to hide line ends."""
    raw = f"2{extension}\r\nab\r\n0{extension}\r\n\r\n".encode()
    bridge.send(request("POST", "/up", CHUNKED) + raw)
    assert backend.only().body == b"ab"


@pytest.mark.parametrize(
    "size",
    [b"0x2", b"+2", b"-2", b" 2", b"2 2", b"2_0", b"\xb2", b"", b"2\n", b"10000000000000002", b"g"],
)
def test_a_chunk_size_that_somebody_could_read_otherwise_is_an_error(
    bridge: Bridge, backend: Backend, size: bytes
) -> None:
    backend.when("/up", Call.body)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", CHUNKED) + size + b"\r\nab\r\n0\r\n\r\n")
        visitor.sock.shutdown(socket.SHUT_WR)  # gunicorn waits for more than 2**64 bytes
        assert visitor.answer().status == 400
        assert visitor.ended()
    assert all(b"0\r\n\r\n" not in received.body for received in backend.received)


@pytest.mark.parametrize(
    "end", [b"\r\nab\r0\r\n\r\n", b"\nab\r\n0\r\n\r\n", b"\r\nab\n0\r\n\r\n", b"\r\nab0\r\n\r\n"]
)
def test_a_line_end_of_a_chunk_that_is_not_crlf_is_an_error(
    bridge: Bridge, backend: Backend, end: bytes
) -> None:
    backend.when("/up", Call.body)
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/up", CHUNKED) + b"2" + end + b"rest of it\r\n\r\n")
        assert visitor.answer().status == 400
        assert visitor.ended()


@pytest.mark.parametrize(
    "location",
    ["//evil.example/", "/\\evil.example/", "https:evil.example", "\\\\evil.example"],
)
def test_a_location_of_legacy_is_legacys_own(
    bridge: Bridge, backend: Backend, location: str
) -> None:
    """It is passed on or rewritten as a whole; no half of it becomes another host."""
    backend.when("/to", plain("302 Found", f"Location: {location}"))
    assert bridge.ask("GET", "/to").get("Location") == location


@pytest.mark.parametrize("value", ["a\rX-Evil: 1", "a\0b"])
def test_what_may_end_a_line_in_an_answer_is_a_502(
    bridge: Bridge, backend: Backend, value: str
) -> None:
    """Set-Cookie and Location are where injected line ends end up."""
    for name in ("Location", "Set-Cookie", "X-Any"):
        backend.when("/down", plain("200 OK", f"{name}: {value}"))
        got = bridge.ask("GET", "/down")
        assert (got.status, got.get("X-Evil")) == (502, None)


def test_the_answers_of_one_visitor_never_reach_another(bridge: Bridge, backend: Backend) -> None:
    """Two answers to one request: the second has no place in the line of anybody."""
    for body in (b"mine", b"yours"):
        backend.when(f"/{body.decode()}", plain(body=body))
    backend.when("/poison", plain(body=b"first") + plain(body=b"poison"))
    with bridge.visitor() as one, bridge.visitor() as two:
        for _ in range(5):
            one.send(request("GET", "/poison") + request("GET", "/mine"))
            two.send(request("GET", "/yours"))
            assert [one.answer().body, one.answer().body] == [b"first", b"mine"]
            assert two.answer().body == b"yours"


def test_trailers_of_legacy_reach_the_visitor_or_nobody(bridge: Bridge, backend: Backend) -> None:
    """The engine passes them on, less what does not belong there; WSGI has no place for them."""
    body = b"2\r\nok\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nSet-Cookie: a=b\r\n\r\n"
    backend.when("/down", plain("200 OK", CHUNKED, length=False, body=body))
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/down"))
        assert visitor.answer().body == b"ok"
        assert visitor.trailers == ([b"X-Sum: 1\r\n"] if bridge.engine == "event" else [])
        visitor.send(request("GET", "/next"))
        assert visitor.answer().body == b"ok"


@pytest.mark.parametrize(
    "target",
    [
        "//py/text",
        "/py//text",
        "/py/./text",
        "/x/../py/text",
        "/py%2Ftext",
        "/py/text%00",
        "/py\\text",
        "/PY/text",
        "/py/text/",
        "/py/text/index.php",
        "/index.php/py/text",
        "/py/text;a=b",
        "/py/text#",
    ],
)
def test_a_path_that_two_programs_read_differently_is_legacys(
    bridge: Bridge, backend: Backend, target: str
) -> None:
    """Legacy answers as it always has, to the very bytes; no handler sees a guess."""
    assert bridge.ask("GET", target).body == b"ok"
    assert backend.only().target == target.encode()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(raw=mutated(ANSWERS), method=st.sampled_from(["GET", "HEAD"]))
def test_whatever_legacy_sends_is_one_answer_or_a_cut(
    bridge: Bridge, backend: Backend, raw: bytes, method: str
) -> None:
    """The visitor's bytes pass a reader that forgives nothing, and the next one gets their own."""
    backend.when("/down", answer(raw, close=True))
    with bridge.visitor() as visitor:
        visitor.send(request(method, "/down"))
        visitor.sock.shutdown(socket.SHUT_WR)
        data = b""
        try:
            while piece := visitor.sock.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
    answers, rest = answers_in(data, [method.encode()], ended=False)
    assert len(answers) + bool(rest) == 1
    assert bridge.ask("GET", "/next").body == b"ok"


@pytest.mark.parametrize(
    "head",
    [
        request("POST", "/a", host="other.test"),
        request("POST", "/a", host=""),
        request("POST", "admin"),
        request("POST", "http://other.test/"),
        request("POST", "/a", "Expect: wonders"),
        request("OPTIONS", "/a", "Max-Forwards: 0"),
        request("TRACE", "/a", "Max-Forwards: 0"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_of_a_refused_request_is_no_next_request(
    bridge: Bridge, backend: Backend, head: bytes, chunked: bool
) -> None:
    body = request("GET", "/smuggled")
    if chunked:
        rest = f"{CHUNKED}\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    else:
        rest = b"Content-Length: %d\r\n\r\n" % len(body) + body
    with bridge.visitor() as visitor:
        visitor.send(head[:-2] + rest)
        visitor.finish()
    assert backend.received == []
