"""A route whose Python side fails or declines: legacy answers, unless something may have been
written already."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import Answer, request

HOST = "python.test"
LEGACY = plain(body=b"legacy")


def ask(
    bridge: Bridge, backend: Backend, method: str, name: str, body: bytes | None = None
) -> Answer:
    """The answer to `method` on the route of the handler `name`."""
    backend.when(f"/py/{name}", LEGACY)
    return bridge.ask(method, f"/py/{name}", host=HOST, body=body)


def test_python_answers(bridge: Bridge, backend: Backend) -> None:
    assert ask(bridge, backend, "GET", "text").body == b"python"
    assert bridge.outcome("/py/text")["backend"] == "python"
    assert backend.received == []


def test_a_handler_gets_the_body(bridge: Bridge, backend: Backend) -> None:
    body = bytes(range(256)) * 100
    assert ask(bridge, backend, "POST", "echo", body).body == body


def test_a_handler_gets_a_chunked_body(bridge: Bridge, backend: Backend) -> None:
    raw = request("POST", "/py/echo", "Transfer-Encoding: chunked", host=HOST)
    assert bridge.send(raw + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").body == b"hello world"


@pytest.mark.parametrize(
    ("lines", "sent"),
    [
        (["Content-Length: 10"], b"12345"),
        (["Transfer-Encoding: chunked"], b"5\r\n12345\r\n"),
        (["Transfer-Encoding: chunked"], b"5\r\n12345\r\nzz\r\n"),
    ],
)
def test_a_handler_never_takes_half_a_body_for_a_whole_one(
    bridge: Bridge, backend: Backend, lines: list[str], sent: bytes
) -> None:
    """gunicorn ends a body quietly when the visitor hangs up. Half of a form is no form."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/py/echo", *lines, host=HOST) + sent)
        visitor.sock.shutdown(socket.SHUT_WR)
        assert visitor.answer().status == 400
    assert backend.received == []


def test_a_slow_upload_is_not_a_slow_handler(bridge: Bridge, backend: Backend) -> None:
    """`timeout` of a route (here 500 ms) is the handler's time, not that of the visitor's line:
    on the legacy side their upload would not have failed either."""
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/py/echo_soon", "Content-Length: 8", host=HOST))
        pause = threading.Event()
        for byte in b"slowly..":
            pause.wait(0.1)
            visitor.send(bytes([byte]))
        assert visitor.answer().body == b"slowly.."


def test_a_body_that_a_handler_leaves_unread_is_not_the_next_request(
    bridge: Bridge, backend: Backend
) -> None:
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/py/shows_head", host=HOST, body=b"GET /x HTTP/1.1\r\n\r\n"))
        visitor.send(request("GET", "/py/text", host=HOST))
        assert visitor.answer().status == 200
        assert visitor.answer().body == b"python"


FAILING = {
    "declines": "declined",
    "fails": "python-error",
    "answers_503": "python-5xx",
    "hangs": "python-timeout",
    "line_break": "python-error",
    "bad_name": "python-error",
    "bad_length": "python-error",
    "endless_length": "python-error",
    "not_latin": "python-error",
    "nothing_of_ten": "python-error",
    "no_bytes": "python-error",
}


@pytest.mark.parametrize("name", FAILING)
def test_legacy_answers_a_get_that_python_fails(
    bridge: Bridge, backend: Backend, name: str, release: Callable[[], bool]
) -> None:
    """The visitor sees a normal page, the operator a reason."""
    got = ask(bridge, backend, "GET", name)
    assert (got.status, got.body) == (200, b"legacy")
    assert got.get("Set-Cookie") is None
    record = bridge.outcome(f"/py/{name}")
    assert (record["backend"], record["fallback"]) == ("main", FAILING[name])
    assert len(backend.received) == 1


def test_a_head_that_python_fails_is_answered_by_legacy(bridge: Bridge, backend: Backend) -> None:
    assert ask(bridge, backend, "HEAD", "fails").status == 200
    assert backend.only().method == "HEAD"


@pytest.mark.parametrize("status", ["404-Not-Found", "405-No", "503-Later"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_what_an_application_does_not_have_legacy_is_asked_for(
    bridge: Bridge, backend: Backend, status: str, method: str
) -> None:
    """With what was sent, to the byte, and nothing of the application's answer remains."""
    body = bytes(range(256)) * 100 if method == "POST" else None
    backend.when("/py/has_some", plain(body=b"" if method == "HEAD" else b"legacy"))
    got = bridge.ask(method, f"/py/has_some?{status}", host=HOST, body=body)
    assert (got.status, got.get("Set-Cookie")) == (200, None)
    assert backend.only().body == (body or b"")
    record = bridge.outcome("/py/has_some")
    assert (record["backend"], record["fallback"]) == ("main", "declined")
    assert record["fallback_detail"] == f"the handler answered {status.replace('-', ' ')}"


@pytest.mark.parametrize("status", ["200-OK", "403-No", "410-Gone", "500-Broken"])
def test_other_statuses_of_it_are_its_answer(bridge: Bridge, backend: Backend, status: str) -> None:
    got = bridge.ask("POST", f"/py/has_some?{status}", host=HOST, body=b"x=1")
    assert (got.status, got.body) == (int(status[:3]), b"python x=1")
    assert backend.received == []


def test_a_body_that_cannot_be_sent_again_leaves_the_answer_as_it_is(
    bridge: Bridge, backend: Backend
) -> None:
    """The WSGI shell keeps a mebibyte; the event loop keeps all of it."""
    body = b"x" * 2**21
    got = bridge.ask("POST", "/py/has_some?404-Not-Found", host=HOST, body=body)
    if bridge.engine == "event":
        assert (got.status, backend.only().body) == (200, body)
    else:
        assert (got.status, got.body) == (404, b"python xxxxx")


@pytest.mark.parametrize(("name", "status"), [("fails", 500), ("no_bytes", 500), ("hangs", 504)])
def test_a_post_that_python_fails_is_never_asked_of_legacy(
    bridge: Bridge, backend: Backend, name: str, status: int, release: Callable[[], bool]
) -> None:
    """It may have written already. The page is the site's, without a word of the exception."""
    got = ask(bridge, backend, "POST", name, b"x=1")
    assert got.status == status
    assert b"secret" not in got.body
    assert backend.received == []
    record = bridge.outcome(f"/py/{name}")
    assert record["backend"] == "bridge"
    assert "fallback" not in record


def test_a_post_that_python_answers_with_5xx_keeps_pythons_answer(
    bridge: Bridge, backend: Backend
) -> None:
    """It is an answer; only for GET there is a better one."""
    got = ask(bridge, backend, "POST", "answers_503", b"x=1")
    assert (got.status, got.body) == (503, b"python's own page")
    assert backend.received == []


@pytest.mark.parametrize("name", ["declines", "declines_after_reading"])
@pytest.mark.parametrize("size", [0, 5, 2000, 100_000])
def test_a_post_that_python_declines_reaches_legacy_byte_for_byte(
    bridge: Bridge, backend: Backend, name: str, size: int
) -> None:
    """Also what the handler has read of it, before it declined."""
    body = (b"line\n" + bytes(range(256)) * 400)[:size]
    assert ask(bridge, backend, "POST", name, body).body == b"legacy"
    received = backend.only()
    assert received.body == body
    assert received.all("Content-Length") == [str(size)]


def test_a_chunked_post_that_python_declines_reaches_legacy(
    bridge: Bridge, backend: Backend
) -> None:
    raw = request("POST", "/py/declines_after_reading", "Transfer-Encoding: chunked", host=HOST)
    assert bridge.send(raw + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").status == 200
    assert backend.only().body == b"hello world"


def test_an_early_answer_to_a_declined_post_arrives(bridge: Bridge, backend: Backend) -> None:
    """The same as for a route without a Python side: the visitor has not sent everything."""
    if bridge.engine == "event":
        pytest.skip("there a handler starts when the whole body is here")
    path = "/py/declines_after_reading"
    backend.when(path, lambda call: call.send(plain("413 Content Too Large", body=b"no")))
    with bridge.visitor() as visitor:
        visitor.send(request("POST", path, "Content-Length: 100000", host=HOST))
        visitor.send(b"line\n" + b"x" * 50_000)
        assert visitor.answer().status == 413


def test_a_post_of_which_python_read_too_much_cannot_be_declined(
    bridge: Bridge, backend: Backend
) -> None:
    """More than a megabyte is not kept for legacy; the visitor is told that it failed. The
    engine keeps it in a file, and legacy has it all."""
    if bridge.engine == "event":
        assert ask(bridge, backend, "POST", "reads_too_much", b"x" * 2_000_000).body == b"legacy"
        assert backend.only().body == b"x" * 2_000_000
        return
    assert ask(bridge, backend, "POST", "reads_too_much", b"x" * 2_000_000).status == 500
    assert backend.received == []
    assert "declined after reading" in bridge.outcome("/py/reads_too_much")["error"]


@pytest.mark.parametrize(
    "name", ["fails_after_the_first_byte", "too_short", "fails_with_a_page", "no_bytes_later"]
)
def test_a_body_that_python_breaks_off_is_a_cut_for_the_visitor(
    bridge: Bridge, backend: Backend, name: str
) -> None:
    """The head is out: legacy cannot help any more, and a clean end would be a lie."""
    got = ask(bridge, backend, "GET", name)
    assert got.status == 200
    assert not got.whole
    assert b"secret" not in got.body
    assert b"an error page" not in got.body
    assert backend.received == []
    record = bridge.outcome(f"/py/{name}")
    assert record["backend"] == "python"
    assert record["aborted"]
    assert record["aborted"] != "visitor left"


def test_a_body_longer_than_announced_ends_where_it_was_announced(
    bridge: Bridge, backend: Backend
) -> None:
    backend.when("/py/too_long", LEGACY)
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/py/too_long", host=HOST))
        assert visitor.answer().body == b"12345"
        visitor.send(request("GET", "/py/text", host=HOST))
        assert visitor.answer().body == b"python"


def test_before_the_first_byte_a_handler_may_answer_otherwise(
    bridge: Bridge, backend: Backend
) -> None:
    got = ask(bridge, backend, "GET", "another_page")
    assert (got.status, got.body) == (404, b"another page")


def test_an_answer_ends_with_its_announced_length_whatever_its_handler_does(
    bridge: Bridge, backend: Backend, events: Path
) -> None:
    """What stands after its last byte is done too, and no more."""
    before = events.read_text().count("endless closed")
    with bridge.visitor() as visitor:
        for name, body in (("endless", b"12345"), ("text", b"python")):
            visitor.send(request("GET", f"/py/{name}", host=HOST))
            assert visitor.answer().body == body
    wait_for(lambda: events.read_text().count("endless closed") > before, BOUND, "the close")
    assert events.read_text().count("after the last byte") == before + 1
    assert bridge.outcome("/py/endless").get("aborted") is None


def test_nobody_waits_for_what_a_handler_does_after_its_last_byte(
    bridge: Bridge, backend: Backend, events: Path, release: Callable[[], bool]
) -> None:
    before = events.read_text().count("went on")
    with bridge.visitor() as visitor:
        for name, body in (("goes_on", b"12345"), ("text", b"python")):
            visitor.send(request("GET", f"/py/{name}", host=HOST))
            assert visitor.answer().body == body
    wait_for(release, BOUND, "the handler that goes on")
    wait_for(lambda: events.read_text().count("went on") > before, BOUND, "its end")


def test_a_205_of_a_handler_is_empty(bridge: Bridge, backend: Backend) -> None:
    got = ask(bridge, backend, "GET", "answers_205")
    assert (got.status, got.body, got.get("Content-Length")) == (205, b"", "0")


def test_the_iterable_of_a_handler_is_closed(
    bridge: Bridge, backend: Backend, events: Path
) -> None:
    before = events.read_text().count("told and closed")
    assert ask(bridge, backend, "GET", "tells").body == b"told"
    wait_for(lambda: events.read_text().count("told and closed") == before + 1, BOUND, "the close")


def test_when_every_handler_thread_is_stuck_legacy_answers(
    trusting: Bridge, backend: Backend, release: Callable[[], bool], events: Path
) -> None:
    """`trusting` has one thread for handlers, and a handler that hangs has it: nothing of
    Python has started, so legacy may have any request."""
    backend.when("/py/hangs", LEGACY)
    backend.when("/py/text", LEGACY)
    before = events.read_text().count("hangs")
    first: list[Answer] = []
    stuck = threading.Thread(
        target=lambda: first.append(trusting.ask("GET", "/py/hangs", host=HOST))
    )
    stuck.start()
    wait_for(lambda: events.read_text().count("hangs") > before, BOUND, "the stuck handler")
    assert trusting.ask("GET", "/py/text", host=HOST).body == b"legacy"
    record = trusting.outcome("/py/text")
    assert (record["fallback"], record["backend"]) == ("python-busy", "main")
    stuck.join(BOUND)
    assert first[0].body == b"legacy"
    wait_for(release, BOUND, "the end of the stuck handler")
    wait_for(
        lambda: trusting.ask("GET", "/py/text", host=HOST).body == b"python", BOUND, "a free thread"
    )


def test_a_handler_gets_the_decoded_path_and_the_public_address(
    bridge: Bridge, backend: Backend
) -> None:
    got = bridge.ask("GET", "/py/shows_head?a=%2F&b=+", "X-One: 1", host="python.test:8080")
    seen = got.body.decode().splitlines()
    for line in (
        "PATH_INFO=/py/shows_head",
        "SCRIPT_NAME=",
        "QUERY_STRING=a=%2F&b=+",
        "SERVER_NAME=python.test",
        "SERVER_PORT=8080",
        "HTTP_HOST=python.test:8080",
        "HTTP_X_ONE=1",
    ):
        assert line in seen


def test_a_handler_that_fails_too_often_is_left_alone(bridge: Bridge, backend: Backend) -> None:
    """After five failures in a row legacy answers at once, whatever the method."""
    for _ in range(5):
        assert ask(bridge, backend, "GET", "fails_often").body == b"legacy"
    bridge.mark()
    backend.clear()
    assert ask(bridge, backend, "POST", "fails_often", b"x").body == b"legacy"
    record = bridge.outcome("/py/fails_often")
    assert (record["fallback"], record["backend"]) == ("breaker-open", "main")
