"""HTTP/1.1 bytes: what is written can be read again, and nothing doubtful is read at all."""

from __future__ import annotations

import itertools
import re
import tracemalloc

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bridge.proxy.http.wire import (
    REPEATABLE,
    ChunkedReader,
    Framing,
    ResponseHead,
    WireError,
    binds,
    chunk,
    content_length,
    field_lines,
    framing,
    look_at_part,
    lowered,
    only_interim,
    request_head,
    split_head,
    without_content,
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
        """Also when others came between."""
        name = lowered("X-Name-Of-A-Header")
        assert name == "x-name-of-a-header"
        lowered("X-Name-Of-Another-One")
        assert lowered("X-Name-Of-A-Header") is name

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


def test_only_a_request_that_changes_nothing_may_be_sent_again() -> None:
    """RFC 9110, section 9.2.1."""
    assert sorted(REPEATABLE) == ["GET", "HEAD", "OPTIONS"]


@pytest.mark.parametrize(
    ("lengths", "length"),
    [
        (["7"], 7),
        (["0"], 0),
        (["9" * 18], 10**18 - 1),
        (["9" * 19], None),
        (["9" * 5000], None),  # int() raises for these
        ([], None),
        (["7", "7"], None),
        (["x"], None),
        ([""], None),
        (["\xb2"], None),
        (["\u0663"], None),
    ],
)
def test_a_length_is_known_where_there_is_one_sound_one(
    lengths: list[str], length: int | None
) -> None:
    assert content_length([("X", "8"), *(("content-LENGTH", one) for one in lengths)]) == length


@pytest.mark.parametrize("lengths", [[], ["7"], ["7", "8"]])
def test_an_answer_without_content_has_a_length_of_0(lengths: list[str]) -> None:
    headers = [("X", "8"), *(("content-LENGTH", one) for one in lengths)]
    assert without_content(headers) == [("X", "8"), ("Content-Length", "0")]


def test_a_chunk_begins_with_its_size_in_hexadecimal_digits() -> None:
    assert chunk(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"


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

    @pytest.mark.parametrize(
        ("headers", "minor", "keeps"),
        [
            ([("Connection", "x"), ("connection", "Close")], 1, False),
            ([("Connection", "x"), ("Connection", "keep-alive")], 0, True),
            ([("Connection", "x")], 1, True),
            ([("Connection", "x")], 0, False),
            ([("Connection", "keep-alive, close")], 0, False),
            ([("Connection", "keep-alive"), ("Transfer-Encoding", "chunked")], 0, False),
            ([("Connection", "keep-alive"), ("Transfer-Encoding", "chunked")], 1, True),
            ([("Transfer-Encoding", "chunked")], 0, False),
        ],
    )
    def test_a_connection_is_used_again_where_both_sides_read_its_end_alike(
        self, headers: list[tuple[str, str]], minor: int, keeps: bool
    ) -> None:
        assert ResponseHead(200, "", minor, headers).keeps_alive is keeps

    @pytest.mark.parametrize(
        ("raw", "status", "reason", "minor"),
        [
            (b"HTTP/1.1 200 OK", 200, "OK", 1),
            (b"HTTP/1.0 404 Not Found", 404, "Not Found", 0),
            (b"HTTP/1.1 200", 200, "", 1),
            (b"HTTP/1.1 200 ", 200, "", 1),
            (b"HTTP/1.1 999 \xe9", 999, "\xe9", 1),
            (b"HTTP/1.1 200 OK\r", 200, "OK", 1),
        ],
    )
    def test_a_status_line_has_a_version_a_number_and_a_reason(
        self, raw: bytes, status: int, reason: str, minor: int
    ) -> None:
        for head in (raw, raw.removesuffix(b"\r") + b"\r\nX: 1", raw + b"\nX: 1"):
            parsed = ResponseHead.parse(head)
            assert (parsed.status, parsed.reason, parsed.minor) == (status, reason, minor)

    @pytest.mark.parametrize(
        "raw",
        [
            b"HTTP/1.2 200 OK",
            b"HTTP/2 200 OK",
            b"HTTP/1.1 20 OK",
            b"HTTP/1.1 099 OK",
            b"HTTP/1.1 2000 OK",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 200OK",
            b"HTTP/1.1 200 \x01",
            b" HTTP/1.1 200 OK",
            b"\r\nHTTP/1.1 200 OK",
            b"A: b",
            b"x" * 99,
        ],
    )
    def test_another_line_is_none(self, raw: bytes) -> None:
        with pytest.raises(WireError) as caught:
            ResponseHead.parse(raw)
        first = raw.decode().partition("\r\n")[0]
        assert str(caught.value) == f"no status line: {first[:60]!r}"

    @pytest.mark.parametrize("end", ["\r\n", "\n"])
    @pytest.mark.parametrize(
        ("lines", "headers", "odd"),
        [
            (["A: b"], [("A", "b")], ()),
            (["A:b \t"], [("A", "b")], ()),
            (["A \t: b"], [("A", "b")], ()),
            (["A:"], [("A", "")], ()),
            (["A: b", " c", "\td "], [("A", "b c d")], ()),
            (["A:", " c"], [("A", "c")], ()),
            (["A: b", "  "], [("A", "b")], ()),
            (["A: b", "nonsense", "C: d"], [("A", "b"), ("C", "d")], ("nonsense",)),
            (["A: b", "no(name: x"], [("A", "b")], ("no(name",)),
            (["A: b", "no name=x:y"], [("A", "b")], ("no name",)),
            (["A: b", "n(o", " fold", "C: d"], [("A", "b"), ("C", "d")], ("n(o",)),
            ([" fold", "C: d"], [("C", "d")], (" fold",)),
            ([" fold", " more", "C: d"], [("C", "d")], (" fold",)),
            (["A: b", "\t\x01"], [], ("A",)),
            (["A: b", "C: d", " \x01", " e"], [("A", "b")], ("C",)),
            (["A: b", "C: d", " \x01", "E: f", " g"], [("A", "b"), ("E", "f g")], ("C",)),
            (["x" * 50], [], ("x" * 40,)),
            (["A: \x01"], [], ("A",)),
            (["A" * 50 + ": b", " \x01"], [], ("A" * 40,)),
            ([" " + "x" * 50], [], (" " + "x" * 39,)),
        ],
    )
    def test_a_line_that_is_no_header_goes_and_is_named(
        self, end: str, lines: list[str], headers: list[tuple[str, str]], odd: tuple[str, ...]
    ) -> None:
        """With the lines that continue it; a fold becomes a space."""
        raw = end.join(["HTTP/1.1 200 OK", *lines]).encode("latin-1")
        parsed = ResponseHead.parse(raw)
        assert (parsed.headers, parsed.odd) == (headers, odd)
        assert parsed.names == tuple(name for name, _ in headers)

    @pytest.mark.parametrize(
        "line",
        [
            "Content-Length 5",
            "content_length",
            "x Transfer-Encoding: chunked",
            "transferencoding",
            "a\rb",
            "a\0b",
        ],
    )
    def test_a_line_that_speaks_of_the_framing_is_an_error(self, line: str) -> None:
        with pytest.raises(WireError) as caught:
            ResponseHead.parse(f"HTTP/1.1 200 OK\r\n{line}{'x' * 60}\r\nA: b".encode())
        assert str(caught.value) == f"no header line: {(line + 'x' * 60)[:60]!r}"

    def test_values_and_lists_are_found_by_name(self) -> None:
        parsed = head(("Vary", "a, B"), ("X", "1"), ("VARY", "\tc "))
        assert parsed.values("vary") == ["a, B", "\tc "]
        assert parsed.listed((0, 2)) == ["a", "b", "c"]

    @pytest.mark.parametrize(
        "lengths", [["5"], ["5 "], ["5,5"], ["5", "5"], ["5 ,5", "5"], []], ids=str
    )
    def test_one_length_goes_on_however_often_it_was_said(self, lengths: list[str]) -> None:
        said = "".join(f"Content-Length: {one}\r\n" for one in lengths)
        raw = f"HTTP/1.1 200 OK\r\nX: 1\r\n{said}Y: 5, 5"
        got = ResponseHead.parse(raw.encode()).plain_length()
        assert got == [("X", "1"), *([("Content-Length", "5")] if lengths else []), ("Y", "5, 5")]

    @pytest.mark.parametrize("lengths", [[], ["5"]])
    def test_headers_that_say_their_length_once_are_not_copied(self, lengths: list[str]) -> None:
        """Nearly all are so."""
        parsed = head(("X", "1"), *(("Content-Length", one) for one in lengths))
        assert parsed.plain_length() is parsed.headers

    @pytest.mark.parametrize(
        ("value", "whole"),
        [
            ("NTLM", True),
            ("ntlm abc", True),
            ("Negotiate abc", True),
            ("Basic realm=x", False),
            ("Basic realm=x, NTLM", True),
            ("XNTLM", False),
            ("NTLM-like", False),
        ],
    )
    def test_some_answers_are_about_the_whole_connection(self, value: str, whole: bool) -> None:
        assert head(("X", "1"), ("WWW-Authenticate", value)).binds is whole
        assert not head(("X", value)).binds

    def test_an_answer_that_asks_for_a_new_form_has_no_content(self) -> None:
        """Whatever it says (RFC 9110, section 15.3.6)."""
        for lengths in ([], ["5"], ["5", "5"]):
            headers = [("X", "1"), *(("content-length", one) for one in lengths)]
            expected = [("X", "1"), ("Content-Length", "0")]
            assert head(*headers, status=205).plain_length() == expected

    def test_a_length_said_twice_is_one_length(self) -> None:
        parsed = head(("Content-Length", "5, 5"), ("X", "1"), ("content-length", "5"))
        assert parsed.plain_length() == [("Content-Length", "5"), ("X", "1")]


@pytest.mark.parametrize(
    ("headers", "whole"),
    [
        ([("Authorization", "NTLM abc")], True),
        ([("authorization", " negotiate abc")], True),
        ([("Authorization", "Basic abc")], False),
        ([("Authorization", "Basic NTLM")], False),
        ([("Authorization", "Negotiated abc")], False),
        ([("X", "NTLM")], False),
        ([("X", "1"), ("Authorization", "NTLM abc")], True),
        ([], False),
    ],
)
def test_some_requests_authenticate_the_whole_connection(
    headers: list[tuple[str, str]], whole: bool
) -> None:
    assert bool(binds(headers)) is whole


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", []),
        ("A: b\r\n", [("A", "b")]),
        ("A:b\r\nA:\r\n", [("A", "b"), ("A", "")]),
        ("A: b c\r\n", [("A", "b c")]),
        ("A: b \r\n", None),
        ("A: b\t\r\n", None),
        ("A : b\r\n", None),
        ("A: b\n", None),
        ("A: b\r\n c\r\n", None),
        ("A: \0\r\n", None),
        ("A: b\r\n\r\n", None),
        ("A\r\n", None),
    ],
)
def test_only_plain_lines_are_read_in_one_go(
    text: str, fields: list[tuple[str, str]] | None
) -> None:
    assert field_lines(text) == fields


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        (b"a\r\nb\r\n\r\nrest", (b"a\r\nb", b"rest")),
        (b"a\n\nrest", (b"a", b"rest")),
        (b"a\r\n\nrest", (b"a", b"rest")),
        (b"a\n\r\nrest\r\n\r\n", (b"a", b"rest\r\n\r\n")),
        (b"a\r\n\r\n", (b"a", b"")),
        (b"a\r\nb\r\n", None),
        (b"", None),
    ],
)
def test_a_head_ends_with_an_empty_line(data: bytes, parts: tuple[bytes, bytes] | None) -> None:
    assert split_head(data) == parts


class TestFraming:
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("status", [100, 199, 200, 203, 204, 205, 303, 304, 305])
    @pytest.mark.parametrize("lengths", [["7"], ["7", "7"], ["7, 7"], ["0"], ["1" * 18]], ids=str)
    def test_what_has_no_body_has_none_however_its_length_is_said(
        self, method: str, status: int, lengths: list[str]
    ) -> None:
        headers = [("Content-Length", one) for one in lengths]
        none = method == "HEAD" or status < 200 or status in (204, 304)
        expected = Framing(0 if none else int(lengths[0].partition(",")[0]))
        assert framing(method, head(*headers, status=status)) == expected

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    @pytest.mark.parametrize("status", [100, 200, 204, 304])
    def test_chunks_and_no_word_are_no_body_there_either(self, method: str, status: int) -> None:
        none = method == "HEAD" or status != 200
        chunked = head(("Transfer-Encoding", "chunked"), status=status)
        assert framing(method, chunked) == (Framing(0) if none else Framing(None, True))
        assert framing(method, head(status=status)) == (Framing(0) if none else Framing())

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ([], (None, False)),
            ([("Content-Length", "0")], (0, False)),
            ([("Content-Length", "12"), ("content-length", "12")], (12, False)),
            ([("Transfer-Encoding", "Chunked")], (None, True)),
        ],
    )
    def test_where_a_body_ends(
        self, headers: list[tuple[str, str]], expected: tuple[int | None, bool]
    ) -> None:
        got = framing("GET", head(*headers))
        assert (got.length, got.chunked) == expected

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

    @given(
        st.sampled_from(b"\r\n0;\0") | st.integers(0, 255),
        st.sampled_from([b"", b"0\r\n\r\n", b"\n0\r\n\r\n"]) | st.binary(max_size=6),
        st.integers(0, 6),
    )
    def test_what_follows_a_chunk_is_its_line_end_and_nothing_else(
        self, byte: int, rest: bytes, cut: int
    ) -> None:
        """Refused as soon as it is there, also where the rest would be sound."""
        for end in (b"\r%c" % byte, b"%c\n" % byte, b"%c" % byte):
            if not b"\r\n".startswith(end):
                with pytest.raises(WireError):
                    read(b"1\r\na" + end + rest, [cut])

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


def test_trailers_are_kept() -> None:
    _, reader = read(b"1\r\na\r\n0\r\nX-Sum: 1 \r\nX-Other:\r\n\r\n")
    assert reader.trailers == [("X-Sum", "1"), ("X-Other", "")]


def test_a_piece_of_a_chunk_is_given_as_soon_as_it_is_there() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"5\r\nhe") == [b"he"]
    assert reader.feed(b"llo") == [b"llo"]
    assert reader.leftover == b""
    assert reader.feed(b"\r") == []
    assert reader.leftover == b""
    assert reader.feed(b"\n0\r\n\r\nx") == []
    assert (reader.done, reader.leftover) == (True, b"x")


def lasts(before: bytes, length: int, end: bytes) -> bool:
    """Whether a line of so many bytes is taken, and refused as soon as it is longer."""
    reader = ChunkedReader()
    try:
        reader.feed(before + b"X:" + b"x" * (length - 2) if before else b"1;" + b"x" * (length - 2))
        reader.feed(end)
    except WireError:
        return False
    return True


@pytest.mark.parametrize("before", [b"", b"0\r\n"])
@pytest.mark.parametrize(("length", "taken"), [(8192, True), (8193, False)])
def test_a_line_of_chunking_has_8192_bytes_at_most(before: bytes, length: int, taken: bool) -> None:
    """Also where its end has not come."""
    assert lasts(before, length, b"") is taken
    assert lasts(before, length, b"\r\n") is taken
    line = before + (b"X:" if before else b"1;") + b"x" * (length - 2) + b"\r\n"
    if taken:
        ChunkedReader().feed(line)
    else:
        with pytest.raises(WireError):
            ChunkedReader().feed(line)


@pytest.mark.parametrize(("more", "taken"), [(0, True), (1, False)])
def test_trailers_have_64_kib_at_most(more: int, taken: bool) -> None:
    reader = ChunkedReader()
    reader.feed(b"0\r\n")
    lines = [b"X:" + b"x" * 8190] * 7 + [b"X:" + b"x" * 8188, b"X" + b"x" * more + b":"]
    assert sum(map(len, lines)) == 65536 + more
    try:
        reader.feed(b"\r\n".join([*lines, b"", b""]))
    except WireError:
        assert not taken
    else:
        assert taken
        assert reader.done


@pytest.mark.parametrize(
    ("part", "trailer", "sound"),
    [
        (b"", False, True),
        (b"1f", False, True),
        (b"1f;ext\r", False, True),
        (b"x", False, False),
        (b"1\n", False, False),
        (b"0" * 17, False, False),
        (b"", True, True),
        (b"X-Y", True, True),
        (b"X: y\r", True, True),
        (b"\xe9", True, False),
        (b"X\0", True, False),
        (b"X: y\n", True, False),
    ],
)
def test_what_no_later_byte_can_make_right_is_refused_at_once(
    part: bytes, trailer: bool, sound: bool
) -> None:
    if sound:
        look_at_part(part, trailer=trailer)
        return
    with pytest.raises(WireError, match="trailer line" if trailer else "chunk size"):
        look_at_part(part, trailer=trailer)


@pytest.mark.parametrize(("more", "interim"), [(0, True), (1, False)])
def test_interim_answers_have_64_kib_at_most(more: int, interim: bool) -> None:
    data = b"HTTP/1.1 100 Continue\r\nA: "
    assert only_interim(data + b"b" * (65536 + more - len(data))) is interim


@pytest.mark.parametrize("length", [0, 63, 64, 65])
def test_names_of_up_to_64_characters_are_remembered(length: int) -> None:
    """The objects say so: those of a longer name are made anew."""
    name = "X" * length
    assert lowered(name) == "x" * length
    again = "".join(["X"] * length)
    assert (lowered(name) is lowered(again)) is (length <= 64)


@pytest.mark.parametrize(
    ("data", "interim"),
    [
        (b"HTTP/1.0 1", True),
        (b"HTTP/1.0 199", True),
        (b"HTTP/1.2 1", False),
        (b"HTTP/1.1 2", False),
        (b"HTTP/1.1 10x", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nx", False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", False),
        (b"", True),
        (b"HTTP/1.", True),
        (b"HTTP/1.1 10", True),
        (b"HTTP/1.1 100 Continue\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\n\nHTTP/1.1 2", False),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nX: HTTP/1.1 100\r\n", False),
        (b"no HTTP", False),
        (b"HTTP/1.1 100 Continue\r\n" + b"A: b\r\n" * 20_000, False),
    ],
)
def test_interim_answers_are_no_answer_yet(data: bytes, interim: bool) -> None:
    assert only_interim(data) is interim
