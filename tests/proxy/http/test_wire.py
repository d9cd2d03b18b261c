"""HTTP/1.1 bytes: what is written can be read again, and nothing doubtful is read at all."""

from __future__ import annotations

import itertools
import re
import tracemalloc

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bridge.proxy.http.wire import (
    ChunkedReader,
    Framing,
    ResponseHead,
    WireError,
    framing,
    lowered,
    only_interim,
    request_head,
)

TOKEN = st.from_regex(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True)
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]))
VALUE = TEXT.map(lambda text: text.strip(" \t"))
HEADERS = st.lists(st.tuples(TOKEN, VALUE), max_size=8)
TARGET = st.from_regex(r"/[!-~\x80-\xff]{0,40}", fullmatch=True)
PARTS = [b"\r\n", b"\n", b"\r", b"X:", b"a", b" ", b"\t", b"\0", b"\x0b", b"\xe9"]
CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def chunked(chunks: list[bytes], end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + end


def read(raw: bytes, cuts: list[int] | None = None) -> tuple[bytes, ChunkedReader]:
    """The body in `raw`, fed in pieces that end at `cuts`."""
    reader = ChunkedReader()
    body = b""
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts or []), len(raw)]
    for start, end in itertools.pairwise(edges):
        body += b"".join(reader.feed(raw[start:end]))
    return body, reader


def head(*headers: tuple[str, str], status: int = 200) -> ResponseHead:
    return ResponseHead(status, "", 1, list(headers))


class TestLowered:
    def test_names_that_come_again_are_the_same_object(self) -> None:
        assert (
            lowered("X-Name-Of-A-Header") is lowered("X-Name-Of-A-Header") == "x-name-of-a-header"
        )

    def test_what_it_remembers_is_bounded(self) -> None:
        """Visitors may send any number of names, of 16 KB each."""
        tracemalloc.start()
        try:
            for n in range(10_000):
                lowered(f"X-{n}-{'A' * 50}")
            for n in range(200):
                name = f"X-{n}-{'A' * 16_000}"
                assert lowered(name) == name.lower()
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 2_000_000


class TestRequestHead:
    @given(TOKEN, TARGET, HEADERS)
    def test_every_part_can_be_read_back(
        self, method: str, target: str, headers: list[tuple[str, str]]
    ) -> None:
        raw = request_head(method, target, headers).decode("latin-1")
        assert raw.endswith("\r\n\r\n")
        line, *fields = raw[:-4].split("\r\n")
        assert line == f"{method} {target} HTTP/1.1"
        assert [tuple(field.split(": ", 1)) for field in fields] == headers

    def test_an_empty_value_stays_empty(self) -> None:
        assert request_head("GET", "/", [("X", "")]) == b"GET / HTTP/1.1\r\nX: \r\n\r\n"


class TestResponseHead:
    @given(st.integers(100, 999), TEXT, HEADERS)
    def test_every_part_of_a_head_is_kept(
        self, status: int, reason: str, headers: list[tuple[str, str]]
    ) -> None:
        """Order, count, spelling and values."""
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        parsed = ResponseHead.parse("\r\n".join(lines).encode("latin-1"))
        assert (parsed.status, parsed.reason, parsed.headers) == (status, reason, headers)

    @given(
        st.binary(max_size=80)
        | st.lists(st.sampled_from(PARTS) | st.binary(max_size=2), max_size=8).map(
            lambda parts: b"HTTP/1.1 200 OK" + b"".join(parts)
        )
    )
    @example(b"")
    @example(b"HTTP/1.1 200 OK\r\n: x")
    @example(b"HTTP/1.1 200 OK\r\nX: a\r\n b\0c")
    @example(b"HTTP/1.1 200 OK\r\nX: a\r\n b\rSet-Cookie: c")
    def test_any_bytes_are_a_head_or_an_error(self, raw: bytes) -> None:
        """Never another exception, and never a control character in what comes out."""
        try:
            parsed = ResponseHead.parse(raw)
        except WireError:
            return
        shown = "".join([parsed.reason, *(n + v for n, v in parsed.headers)])
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", shown)

    @pytest.mark.parametrize(
        ("minor", "connection", "keeps"),
        [
            (1, None, True),
            (1, "close", False),
            (1, "Keep-Alive, CLOSE", False),
            (0, None, False),
            (0, "keep-alive", True),
        ],
    )
    def test_keeps_alive(self, minor: int, connection: str | None, keeps: bool) -> None:
        headers = [("connection", connection)] if connection else []
        assert ResponseHead(200, "", minor, headers).keeps_alive is keeps

    def test_a_length_said_twice_is_one_length(self) -> None:
        parsed = head(("Content-Length", "5, 5"), ("X", "1"), ("content-length", "5"))
        assert parsed.plain_length() == [("Content-Length", "5"), ("X", "1")]


class TestFraming:
    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ([], Framing()),
            ([("Content-Length", "0")], Framing(length=0)),
            ([("Content-Length", "12"), ("content-length", "12")], Framing(length=12)),
            ([("Transfer-Encoding", "Chunked")], Framing(chunked=True)),
        ],
    )
    def test_where_a_body_ends(self, headers: list[tuple[str, str]], expected: Framing) -> None:
        assert framing("GET", head(*headers)) == expected

    @pytest.mark.parametrize("status", [100, 103, 204, 304])
    def test_some_answers_have_no_body(self, status: int) -> None:
        assert framing("GET", head(("Content-Length", "5"), status=status)) == Framing(length=0)

    def test_the_answer_to_head_has_no_body(self) -> None:
        assert framing("HEAD", head(("Content-Length", "5"))) == Framing(length=0)

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize(
        "lengths", ["1, 2", "", "-1", "+1", "1_0", "\xb2", "9" * 19, "1,", "0x1"]
    )
    def test_a_length_that_is_no_single_number_is_an_error(self, method: str, lengths: str) -> None:
        """Even where there is no body: the number goes on to the visitor."""
        with pytest.raises(WireError):
            framing(method, head(("Content-Length", lengths)))

    @pytest.mark.parametrize(
        "headers",
        [
            [("Content-Length", "1"), ("Content-Length", "2")],
            [("Transfer-Encoding", "gzip")],
            [("Transfer-Encoding", "gzip, chunked")],
            [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
            [("Transfer-Encoding", "chunked"), ("Content-Length", "1")],
        ],
    )
    def test_what_two_readers_could_read_differently_is_an_error(
        self, headers: list[tuple[str, str]]
    ) -> None:
        with pytest.raises(WireError):
            framing("GET", head(*headers))


class TestChunkedReader:
    @given(CHUNKS, st.lists(st.integers(0, 1000), max_size=20), st.binary(max_size=10))
    def test_any_split_of_the_bytes_gives_the_same_body(
        self, chunks: list[bytes], cuts: list[int], after: bytes
    ) -> None:
        """And what follows the last chunk is left over, byte for byte, if it came with it."""
        body, reader = read(chunked(chunks) + after)
        assert (body, reader.done, reader.leftover) == (b"".join(chunks), True, after)
        again, reader = read(chunked(chunks), cuts)
        assert (again, reader.done, reader.leftover) == (b"".join(chunks), True, b"")

    @given(CHUNKS, st.lists(st.integers(0, 1000), max_size=5))
    def test_extensions_and_trailers_are_no_body(
        self, chunks: list[bytes], cuts: list[int]
    ) -> None:
        raw = b"".join(b'%X ; a="b"\r\n%b\r\n' % (len(c), c) for c in chunks)
        body, reader = read(raw + b"0;end\r\nX-Sum: 1\r\nX-Other:\r\n\r\n", cuts)
        assert (body, reader.done) == (b"".join(chunks), True)

    @given(CHUNKS, st.data())
    def test_a_body_cut_anywhere_is_never_done(
        self, chunks: list[bytes], data: st.DataObject
    ) -> None:
        raw = chunked(chunks)
        cut = data.draw(st.integers(0, len(raw) - 1))
        _, reader = read(raw[:cut])
        assert not reader.done

    @given(st.binary(min_size=1, max_size=300), st.data())
    def test_no_wrong_byte_makes_a_body_longer(self, body: bytes, data: st.DataObject) -> None:
        """One byte changed anywhere in a body of one chunk: an error, a body that is never
        done, or one that is not longer. (With several chunks a wrong size can span exactly the
        framing of others; nobody can tell.)"""
        raw = bytearray(chunked([body]))
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
        try:
            got, reader = read(bytes(raw))
        except WireError:
            return
        assert not reader.done or len(got) <= len(body)

    @given(CHUNKS.filter(bool), st.data())
    def test_a_size_that_is_wrong_by_one_is_an_error(
        self, chunks: list[bytes], data: st.DataObject
    ) -> None:
        """Whatever the bytes around it are: the line end after a chunk must be exact."""
        wrong = data.draw(st.integers(0, len(chunks) - 1))
        off = data.draw(st.sampled_from([-1, 1]))
        raw = b"".join(
            b"%x\r\n%b\r\n" % (len(c) + (off if n == wrong else 0), c) for n, c in enumerate(chunks)
        )
        if off == -1 and len(chunks[wrong]) == 1:
            return  # size 0 is the last chunk: the body ends early, and bytes are left over
        with pytest.raises(WireError):
            read(raw + b"0\r\n\r\n")

    def test_a_line_end_belongs_to_no_chunk(self) -> None:
        with pytest.raises(WireError):
            read(b"1\r\na\r\r\n0\r\n\r\n")

    @pytest.mark.parametrize(
        "raw",
        [
            b"5\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"\r\n5\r\nhello\r\n0\r\n\r\n",
            b"5\0\r\nhello\r\n0\r\n\r\n",
            b"5;\x01\r\nhello\r\n0\r\n\r\n",
            b"10000000000000000\r\nhello",
            b"5" * 9000,
            b"0\r\nno trailer\r\n\r\n",
            b"0\r\nX: a\0b\r\n\r\n",
            b"0\r\n" + b"X-Many: 1\r\n" * 10_000,
        ],
    )
    def test_bad_chunking_is_an_error_or_never_done(self, raw: bytes) -> None:
        try:
            _, reader = read(raw)
        except WireError:
            return
        assert not reader.done

    @given(CHUNKS, st.data())
    def test_a_bare_line_feed_is_refused_as_soon_as_it_is_there(
        self, chunks: list[bytes], data: st.DataObject
    ) -> None:
        """Whoever sent it waits for an answer, and sends no more."""
        pieces = [piece for c in chunks for piece in (b"%x" % len(c), c)]
        lines = [*pieces, b"0", b"X-Sum: 1", b""]
        wrong = data.draw(st.integers(0, len(lines) - 1))
        raw = b"\r\n".join(lines[: wrong + 1]) + b"\n"
        with pytest.raises(WireError):
            read(raw)

    @given(st.sampled_from([b"", b"5\r\nhello\r\n"]), st.binary(max_size=40))
    def test_who_waits_for_more_could_still_be_right(self, before: bytes, line: bytes) -> None:
        """A line that is not refused yet has an end that makes it a size."""
        assume(b"\r\n" not in line)
        reader = ChunkedReader()
        try:
            reader.feed(before + line)
        except WireError:
            return
        end = b"\n" if line.endswith(b"\r") else b"\r\n"
        ChunkedReader().feed(before + (line or b"1") + end)


@pytest.mark.parametrize(
    ("data", "interim"),
    [
        (b"", True),
        (b"HTTP/1.", True),
        (b"HTTP/1.1 10", True),
        (b"HTTP/1.1 100 Continue\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\n\nHTTP/1.1 2", False),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"no HTTP", False),
        (b"HTTP/1.1 100 Continue\r\n" + b"A: b\r\n" * 20_000, False),
    ],
)
def test_interim_answers_are_no_answer_yet(data: bytes, interim: bool) -> None:
    assert only_interim(data) is interim
