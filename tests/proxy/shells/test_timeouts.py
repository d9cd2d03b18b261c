"""Each stage of a request to legacy has its own time limit, and says which one it was."""

from __future__ import annotations

import threading

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, Call, answer, plain
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

HOST = "hasty.test"


def test_a_connection_that_is_never_accepted_is_a_504(bridge: Bridge) -> None:
    assert bridge.ask("GET", "/connect", host="full.test").status == 504
    assert bridge.outcome("/connect")["error"] == "connect: no connection within 0.5 s"


def test_a_legacy_that_takes_no_more_of_an_upload_is_a_504(
    bridge: Bridge, backend: Backend
) -> None:
    """It reads nothing of the body until the bridge has hung up."""
    over = threading.Event()
    backend.when("/send", lambda call: over.wait(BOUND))
    with bridge.visitor() as visitor:
        visitor.send(request("POST", "/send", "Content-Length: 100000000", host=HOST))
        sender = threading.Thread(target=_send_until_refused, args=(visitor.sock, 100_000_000))
        sender.start()
        got = visitor.head()
        over.set()
    sender.join(BOUND)
    assert got.status == 504
    assert bridge.outcome("/send")["error"] == "send: takes nothing for 0.5 s"


def _send_until_refused(sock: object, size: int) -> None:
    piece = b"x" * 65536
    try:
        for _ in range(size // len(piece)):
            sock.sendall(piece)  # type: ignore[attr-defined]
    except OSError:
        return


def test_a_legacy_that_does_not_answer_is_a_504(bridge: Bridge, backend: Backend) -> None:
    """And its connection is ended, not used again."""
    ended: list[bool] = []
    backend.when("/first", lambda call: ended.append(call.left()))
    assert bridge.ask("GET", "/first", host=HOST).status == 504
    assert bridge.outcome("/first")["error"] == "first_byte: no answer within 0.5 s"
    wait_for(lambda: ended, BOUND, "the end of the legacy connection")
    assert ended == [True]


def test_a_head_that_trickles_in_does_not_outlast_the_limit(
    bridge: Bridge, backend: Backend
) -> None:
    """The limit is for the head as a whole, not for each byte of it."""

    def script(call: Call) -> None:
        gone = threading.Event()
        while not gone.wait(0.1):
            call.send(b"H")

    backend.when("/trickle", script)
    assert bridge.ask("GET", "/trickle", host=HOST).status == 504


def test_interim_answers_do_not_extend_the_limit(bridge: Bridge, backend: Backend) -> None:
    def script(call: Call) -> None:
        gone = threading.Event()
        while not gone.wait(0.1):
            call.send(b"HTTP/1.1 102 Processing\r\n\r\n")

    backend.when("/processing", script)
    assert bridge.ask("GET", "/processing", host=HOST).status == 504


def test_a_body_that_stalls_is_cut_short(bridge: Bridge, backend: Backend) -> None:
    """Too late for a 504: the visitor has the head already."""

    def script(call: Call) -> None:
        call.send(plain("200 OK", "Content-Length: 100", length=False, body=b"only this"))
        call.left()

    backend.when("/between", script)
    got = bridge.ask("GET", "/between", host=HOST)
    assert (got.status, got.body, got.whole) == (200, b"only this", False)
    assert bridge.outcome("/between")["aborted"] == "hasty: stalled for 0.5 s"


def test_a_slow_body_that_never_stalls_arrives(bridge: Bridge, backend: Backend) -> None:
    """It takes longer than any limit, but no single pause does."""

    def script(call: Call) -> None:
        call.send(plain("200 OK", "Content-Length: 10", length=False, body=b""))
        never = threading.Event()
        for _ in range(10):
            never.wait(0.05)
            call.send(b"x")

    backend.when("/slow", script)
    got = bridge.ask("GET", "/slow", host=HOST)
    assert (got.body, got.whole) == (b"x" * 10, True)


def test_a_504_is_answered_for_every_method(bridge: Bridge, backend: Backend) -> None:
    """A POST that timed out is never sent again: it may have been done."""
    backend.when("/post", lambda call: call.left())
    assert bridge.ask("POST", "/post", host=HOST, body=b"x").status == 504
    assert len(backend.of("/post")) == 1


def test_the_next_request_is_answered_after_a_timeout(bridge: Bridge, backend: Backend) -> None:
    backend.when("/first", lambda call: call.left())
    backend.when("/next", answer(plain()))
    assert bridge.ask("GET", "/first", host=HOST).status == 504
    assert bridge.ask("GET", "/next", host=HOST).status == 200
