"""A body that was cut short must never look like a whole one."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, Call, Script, answer, plain
from tests.proxy.shells.serving import Bridge

LENGTH = plain("200 OK", "Content-Length: 100", length=False, body=b"only this")
CHUNKED = plain("200 OK", "Transfer-Encoding: chunked", length=False, body=b"9\r\nonly this\r\n")
IN_A_CHUNK = plain("200 OK", "Transfer-Encoding: chunked", length=False, body=b"20\r\nonly this")
NO_LAST_LINE = CHUNKED + b"0\r\n"


def reset_after(raw: bytes) -> Script:
    def script(call: Call) -> None:
        call.send(raw)
        call.reset()

    return script


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("raw", [LENGTH, CHUNKED, IN_A_CHUNK, NO_LAST_LINE])
def test_legacy_cut_in_the_middle_of_a_body_is_a_cut_for_the_visitor(
    bridge: Bridge, backend: Backend, raw: bytes, version: str
) -> None:
    """Over HTTP/1.0 without a length too, where a clean end of the connection would be the end
    of the body: there the connection is reset."""
    backend.when("/cut", answer(raw, close=True))
    got = bridge.ask("GET", "/cut", version=version)
    assert got.status == 200
    assert not got.whole
    record = bridge.outcome("/cut")
    assert record["aborted"].startswith("main: ended")
    assert record["status"] == 200


@pytest.mark.parametrize("raw", [LENGTH, CHUNKED])
def test_a_reset_by_legacy_is_a_cut_for_the_visitor(
    bridge: Bridge, backend: Backend, raw: bytes
) -> None:
    backend.when("/reset", reset_after(raw))
    got = bridge.ask("GET", "/reset")
    # A reset may overtake the head, and then there can still be an error page.
    assert (got.status == 200 and not got.whole) or got.status == 502


def test_garbage_between_chunks_is_a_cut_for_the_visitor(bridge: Bridge, backend: Backend) -> None:
    def script(call: Call) -> None:
        call.send(CHUNKED)
        call.send(b"garbage\r\n")
        call.left()

    backend.when("/garbage", script)
    got = bridge.ask("GET", "/garbage")
    # The garbage may come in one piece with the head, and then there can still be an error page.
    assert (got.status == 200 and not got.whole) or got.status == 502


def test_the_next_visitor_is_not_touched_by_a_cut(bridge: Bridge, backend: Backend) -> None:
    backend.when("/cut", answer(LENGTH, close=True))
    assert not bridge.ask("GET", "/cut").whole
    got = bridge.ask("GET", "/next")
    assert (got.body, got.whole) == (b"ok", True)


def test_a_whole_body_is_whole_for_every_version(bridge: Bridge, backend: Backend) -> None:
    """The counterpart: nothing is reset that ended well."""
    whole = CHUNKED + b"0\r\n\r\n"
    backend.when("/whole", whole)
    for version in ("1.1", "1.0"):
        got = bridge.ask("GET", "/whole", version=version)
        assert (got.body, got.whole) == (b"only this", True)
