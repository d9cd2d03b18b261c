"""Python's answers are compressed as the web server compresses PHP's, in both shells."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend
from tests.proxy.shells.serving import Bridge
from tests.proxy.shells.visitor import request

HOST = "python.test"
WHOLE = (b"<p>same and same again</p>\n" * 4000)[:20_000]
UNPACK = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.mark.parametrize("encoding", UNPACK)
def test_a_page_is_compressed_as_the_visitor_wants_it(bridge: Bridge, encoding: str) -> None:
    got = bridge.ask("GET", "/py/page", f"Accept-Encoding: {encoding}", host=HOST)
    assert got.all("Content-Encoding") == [encoding]
    assert got.all("Vary") == ["Accept-Encoding"]
    assert got.all("ETag") == ['W/"one"']
    assert int(got.get("Content-Length") or 0) == len(got.body) < len(WHOLE) // 10
    assert UNPACK[encoding](got.body) == WHOLE


def test_who_wants_none_gets_none(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/py/page", host=HOST)
    assert (got.get("Content-Encoding"), got.body) == (None, WHOLE)
    assert got.all("Vary") == ["Accept-Encoding"]
    assert got.all("ETag") == ['"one"']


def test_a_head_has_the_headers_of_a_get(bridge: Bridge) -> None:
    got = bridge.ask("HEAD", "/py/page", "Accept-Encoding: gzip", host=HOST)
    assert (got.status, got.get("Content-Encoding"), got.get("ETag")) == (200, "gzip", 'W/"one"')
    assert got.get("Content-Length") is None


def test_a_head_of_a_page_that_says_no_length_is_that_of_a_get(bridge: Bridge) -> None:
    """No body is no small body."""
    for accepted, encoding in ((["Accept-Encoding: gzip"], "gzip"), ([], None)):
        for method in ("GET", "HEAD"):
            got = bridge.ask(method, "/py/unmeasured", *accepted, host=HOST)
            assert (got.get("Vary"), got.get("Content-Encoding")) == ("Accept-Encoding", encoding)


def test_a_small_answer_and_a_route_that_says_so_are_left_alone(bridge: Bridge) -> None:
    got = bridge.ask("GET", "/py/page?200", "Accept-Encoding: gzip", host=HOST)
    assert (got.get("Content-Encoding"), got.body) == (None, WHOLE[:200])
    got = bridge.ask("GET", "/py/page_as_it_is", "Accept-Encoding: gzip", host=HOST)
    assert (got.get("Content-Encoding"), got.get("Vary"), got.body) == (None, None, WHOLE)


def test_a_stream_comes_piece_by_piece(bridge: Bridge, release: Callable[[], bool]) -> None:
    """The second piece is made only when the first one has been read."""
    with bridge.visitor() as visitor:
        visitor.send(request("GET", "/py/stream_of_text", "Accept-Encoding: gzip", host=HOST))
        got = visitor.head()
        assert got.get("Content-Encoding") == "gzip"
        reader = zlib.decompressobj(31)
        assert reader.decompress(visitor.chunk()) == b"first\n"
        wait_for(release, BOUND, "the handler to wait")
        rest = b""
        while piece := visitor.chunk():
            rest += reader.decompress(piece)
        assert rest + reader.flush() == b"second\n"
        assert reader.eof


def test_what_legacy_answers_is_not_touched(bridge: Bridge, backend: Backend) -> None:
    """Also on a route of Python's, and whatever it has compressed itself."""
    got = bridge.ask("GET", "/py/declines", "Accept-Encoding: gzip", host=HOST)
    assert (got.body, got.get("Content-Encoding"), got.get("Vary")) == (b"ok", None, None)
    assert backend.only().get("Accept-Encoding") == "gzip"
