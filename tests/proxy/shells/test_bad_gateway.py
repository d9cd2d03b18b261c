"""Legacy cannot be reached, or does not speak HTTP: a 502 with a page of our own."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, Call, answer, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

GARBAGE = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "an empty line first": b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 OK\r\n\r\n",
    "a NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "a bare CR in a value": b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\n\r\n",
    "a NUL in a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\0c\r\n\r\n",
    "a bare CR in a folded line": b"HTTP/1.1 200 OK\r\nX: a\r\n b\rSet-Cookie: b=c\r\n\r\n",
    "a length after a bare CR": b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 0\r\n\r\n",
    "a coding after a NUL": b"HTTP/1.1 200 OK\r\nX\0Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length with =": b"HTTP/1.1 200 OK\r\nContent-Length=2\r\n\r\nok",
    "a coding with a blank in its name": b"HTTP/1.1 200 OK\r\nTransfer Encoding: chunked\r\n\r\n",
    "a coding in a fold that has a NUL": (
        b"HTTP/1.1 200 OK\r\nX: a\r\n Transfer-Encoding: chunked\0\r\n\r\n"
    ),
    "a NUL in the reason": b"HTTP/1.1 200 O\0K\r\n\r\n",
    "another protocol asked for by nobody": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nX-One: 1\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_from_legacy_is_a_502(bridge: Bridge, backend: Backend, what: str) -> None:
    """The page shows nothing of the garbage; the log says what it was."""
    backend.when("/garbage", answer(GARBAGE[what], close=True))
    got = bridge.ask("GET", "/garbage")
    assert got.status == 502
    assert b"is not answering properly" in got.body
    assert b"Set-Cookie" not in got.raw
    record = bridge.outcome("/garbage")
    assert (record["status"], record["backend"]) == (502, "bridge")
    assert record["error"].startswith(("head: ", "first_byte: "))


def test_a_refused_connection_is_a_502(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/away", host="refused.test")
    assert got.status == 502
    assert bridge.outcome("/away")["error"].startswith("connect: ")


def test_a_refused_connection_is_a_502_for_an_upload_too(bridge: Bridge) -> None:
    assert bridge.ask("POST", "/away", host="refused.test", body=b"x" * 1000).status == 502


@pytest.mark.parametrize("size", [1000, 90_000, 300_000])
def test_an_upload_that_nobody_takes_loses_nothing_that_is_asked_next(
    bridge: Bridge, size: int
) -> None:
    """Either the answer says that it ends the connection, or the next request is answered."""
    with bridge.visitor() as visitor:
        for _ in range(20):
            visitor.send(request("POST", "/away", host="refused.test", body=b"x" * size))
            got = visitor.answer("POST")
            assert got.status == 502
            if (got.get("Connection") or "").lower() == "close":
                break


def test_a_connection_reset_before_the_answer_is_a_502(bridge: Bridge, backend: Backend) -> None:
    backend.when("/reset", Call.reset)
    assert bridge.ask("POST", "/reset", body=b"x").status == 502


def test_a_head_that_is_too_large_is_a_502(bridge: Bridge, backend: Backend) -> None:
    """`limits.response_head` is a bound on memory, not on what is forwarded: just below it
    everything goes through."""
    backend.when("/large", plain("200 OK", f"X-Large: {'x' * 5000}"))
    backend.when("/fits", plain("200 OK", f"X-Large: {'x' * 3900}"))
    assert bridge.ask("GET", "/large", host="narrow.test").status == 502
    assert "larger than 4096 bytes" in bridge.outcome("/large")["error"]
    assert bridge.ask("GET", "/fits", host="narrow.test").get("X-Large") == "x" * 3900


def test_a_head_without_end_is_a_502_and_not_read_for_ever(
    bridge: Bridge, backend: Backend
) -> None:
    def script(call: Call) -> None:
        call.send(b"HTTP/1.1 200 OK\r\n")
        while True:  # ends with an error when the bridge hangs up
            call.send(b"X-Endless: x\r\n" * 100)

    backend.when("/endless", script)
    assert bridge.ask("GET", "/endless", host="narrow.test").status == 502


def test_an_error_of_legacy_is_its_own_and_goes_through(bridge: Bridge, backend: Backend) -> None:
    """A 500 from PHP is PHP's page, not ours."""
    backend.when("/php", plain("500 Internal Server Error", body=b"PHP says no"))
    got = bridge.ask("GET", "/php")
    assert (got.status, got.body) == (500, b"PHP says no")
    assert bridge.outcome("/php")["backend"] == "main"


@pytest.mark.parametrize(
    "line", ["404 Nicht gefunden", "299 ", "299", "599 \xe9\xe9", "418 I'm a  teapot"]
)
def test_the_reason_of_legacy_is_kept(bridge: Bridge, backend: Backend, line: str) -> None:
    backend.when("/reason", plain(line))
    assert bridge.ask("GET", "/reason").line == f"HTTP/1.1 {line}".ljust(13)
