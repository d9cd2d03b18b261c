"""A request's line, its header block and its body, from bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import VisitorError
from bridge.proxy.engine.reading import (
    LONGEST_FIELD,
    LONGEST_HEAD,
    LONGEST_LINE,
    MOST_FIELDS,
    Block,
    Body,
    read_block,
    read_line,
    target_of,
)
from bridge.proxy.request.target import parse_target


def block(*lines: str) -> Block:
    return read_block("".join(f"{line}\r\n" for line in lines).encode("latin-1"))


def refused(*lines: str) -> int:
    """The status that these header lines are refused with."""
    with pytest.raises(VisitorError) as caught:
        block(*lines)
    return caught.value.status


class TestLine:
    @pytest.mark.parametrize(
        ("line", "read"),
        [
            (b"GET / HTTP/1.1", ("GET", "/", 1)),
            (b"GET / HTTP/1.0", ("GET", "/", 0)),
            (b"M-SEARCH * HTTP/1.1", ("M-SEARCH", "*", 1)),
            (b"GET /\xe9?a=b HTTP/1.1", ("GET", "/\xe9?a=b", 1)),
            (b"x" * 64 + b" / HTTP/1.1", ("x" * 64, "/", 1)),
        ],
    )
    def test_it_has_a_method_a_target_and_a_version(
        self, line: bytes, read: tuple[str, str, int]
    ) -> None:
        assert read_line(line) == read

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"GET /",
            b"GET  / HTTP/1.1",
            b"GET / HTTP/1.2",
            b"GET / HTTP/2.0",
            b"GET / HTTP/1.1 ",
            b" GET / HTTP/1.1",
            b"GET / HTTP/1.1x",
            b"GET / a HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"GET /\x00 HTTP/1.1",
            b"GET / http/1.1",
            b"x" * 65 + b" / HTTP/1.1",
        ],
    )
    def test_another_one_is_a_400(self, line: bytes) -> None:
        for whole in (
            line,
            line.replace(b"/ ", b"/" + b"x" * 300 + b" ") if b"/ " in line else line,
        ):
            with pytest.raises(VisitorError) as caught:
                read_line(whole)
            assert caught.value.status == 400

    @pytest.mark.parametrize("longest", [LONGEST_LINE, 1000])
    def test_a_longer_one_than_the_limit_is_a_414(self, longest: int) -> None:
        room = longest - len(b"GET / HTTP/1.1")
        line = b"GET /" + b"x" * room + b" HTTP/1.1"
        assert read_line(line, longest)[1] == "/" + "x" * room
        with pytest.raises(VisitorError) as caught:
            read_line(b"GET /" + b"x" * (room + 1) + b" HTTP/1.1", longest)
        assert caught.value.status == 414

    def test_the_limit_is_that_of_apache(self) -> None:
        assert len(read_line(b"GET /" + b"x" * (8190 - 14) + b" HTTP/1.1")[1]) == 8177

    @pytest.mark.parametrize(("length", "kept"), [(255, True), (256, False)])
    def test_only_short_targets_are_remembered(self, length: int, kept: bool) -> None:
        """Visitors can send any number of long ones."""
        raw = "/" + "x" * length
        assert target_of("GET", raw) == parse_target("GET", raw)
        assert (target_of("GET", raw) is target_of("GET", raw)) is kept

    @pytest.mark.parametrize(("length", "kept"), [(256, True), (257, False)])
    def test_only_short_lines_are_remembered(self, length: int, kept: bool) -> None:
        line = b"GET /" + b"x" * (length - 14) + b" HTTP/1.1"
        assert (read_line(line) is read_line(line)) is kept


LINES = [
    b"A: b",
    b"x-b:\tc ",
    b"Empty:",
    b"Empty: ",
    b"Host: a",
    b"Cookie: a=1",
    b"Cookie: b=2 ",
    b"Connection: close, upgrade ",
    b"Upgrade: websocket",
    b"Content-Length: 0",
    b"Content-Length: 7 ",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding: gzip",
    b"A: \xe9\x85\xa0",
    b":",
    b"A",
]
PARTS = [*(line + b"\r\n" for line in LINES * 2), b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x00", b":"]
"""Of header blocks: lines mostly, and what breaks them."""


class TestFields:
    def test_they_keep_their_order_and_their_names(self) -> None:
        read = block("X-B: 1", "x-a:2", "X-B:\t 3 \t", "Empty:")
        assert read.headers == (("X-B", "1"), ("x-a", "2"), ("X-B", "3"), ("Empty", ""))
        assert read.index == {"x-b": "1,3", "x-a": "2", "empty": ""}
        assert read.raw == b"X-B: 1\r\nx-a:2\r\nX-B:\t 3 \t\r\nEmpty:\r\n"

    def test_no_fields_are_no_fields(self) -> None:
        read = block()
        assert (read.headers, read.index, read.host, read.cookies, read.jar) == ((), {}, "", "", {})

    @pytest.mark.parametrize(
        "raw",
        [
            b"A: b\n",
            b"A: b\r",
            b"A: b",
            b"A\r\n",
            b" A: b\r\n",
            b"A: b\r\n c\r\n",
            b"A : b\r\n",
            b"A: \x00\r\n",
            b"A: b\x7f\r\n",
            b": b\r\n",
            b"\r\n",
            b"A: b\r\n\r\n",
            b"A(: b\r\n",
        ],
    )
    def test_what_two_parsers_could_read_differently_is_a_400(self, raw: bytes) -> None:
        with pytest.raises(VisitorError) as caught:
            read_block(raw)
        assert caught.value.status == 400

    @given(st.lists(st.sampled_from(PARTS), max_size=12))
    def test_every_line_of_a_block_that_is_taken_is_one_field(self, parts: list[bytes]) -> None:
        """Held against a split at colons, in either of the two ways that it is read."""
        raw = b"".join(parts)
        try:
            got = read_block(raw)
        except VisitorError:
            return
        lines = [line.decode("latin-1").partition(":") for line in raw.split(b"\r\n")[:-1]]
        fields = [(name, value.strip(" \t")) for name, _, value in lines]
        assert raw[-2:] in (b"", b"\r\n")
        assert all(colon for _, colon, _ in lines)
        assert [pair for pair in got.headers if pair[0] != "Cookie"] == [
            pair for pair in fields if pair[0] != "Cookie"
        ]
        assert got.cookies == "; ".join(value for name, value in fields if name == "Cookie")

    @pytest.mark.parametrize("space", ["", " "])
    def test_more_or_longer_ones_than_the_limits_are_a_431(self, space: str) -> None:
        """Read in either of the two ways."""
        assert len(block(*[f"A: b{space}"] * MOST_FIELDS).headers) == MOST_FIELDS == 100
        assert refused(*[f"A: b{space}"] * (MOST_FIELDS + 1)) == 431
        long = "A: " + "b" * (LONGEST_FIELD - 3 - len(space)) + space
        assert len(long) == LONGEST_FIELD == 16380
        assert len(block("A: b", long).headers) == 2
        assert refused("A: b", f"A{long}") == 431

    def test_a_block_may_have_64_kib(self) -> None:
        assert LONGEST_HEAD == 65_536

    def test_the_limits_may_be_others(self) -> None:
        raw = b"A: b\r\nA: bb\r\n"
        assert len(read_block(raw, 5, 2).headers) == 2
        for longest, most in ((4, 2), (5, 1)):
            with pytest.raises(VisitorError) as caught:
                read_block(raw, longest, most)
            assert caught.value.status == 431


class TestHost:
    @pytest.mark.parametrize(
        ("lines", "host"),
        [
            (["Host: A.test:80"], "a.test:80"),
            (["HOST:a.test"], "a.test"),
            (["Host:"], ""),
            (["X: y"], ""),
        ],
    )
    def test_it_is_in_small_letters(self, lines: list[str], host: str) -> None:
        assert block(*lines).host == host

    @pytest.mark.parametrize("lines", [["Host: a", "Host: a"], ["Host: a b"], ["Host: a/b"]])
    def test_two_and_a_malformed_one_are_a_400(self, lines: list[str]) -> None:
        assert refused(*lines) == 400


class TestCookies:
    @pytest.mark.parametrize(
        ("lines", "cookies", "jar"),
        [
            (["Cookie: a=1"], "a=1", {"a": "1"}),
            (["Cookie: a=1; b=2;c = 3 "], "a=1; b=2;c = 3", {"a": "1", "b": "2", "c": "3"}),
            (["Cookie: a=1; a=2"], "a=1; a=2", {"a": "1"}),
            (["Cookie: a=b=c"], "a=b=c", {"a": "b=c"}),
            (["Cookie: a=1", "X: y", "COOKIE: a=2; b=3"], "a=1; a=2; b=3", {"a": "1", "b": "3"}),
            (["Cookie:"], "", {}),
        ],
    )
    def test_the_first_of_a_name_counts_over_all_lines(
        self, lines: list[str], cookies: str, jar: dict[str, str]
    ) -> None:
        read = block(*lines)
        assert (read.cookies, read.jar, read.index["cookie"]) == (cookies, jar, cookies)

    def test_several_lines_become_one_where_the_first_was(self) -> None:
        read = block("A: 1", "cookie: a=1", "B: 2", "Cookie: b=2")
        assert read.headers == (("A", "1"), ("cookie", "a=1; b=2"), ("B", "2"))


class TestConnection:
    @pytest.mark.parametrize(
        ("lines", "keeps"),
        [
            ([], (False, True)),
            (["Connection: close"], (False, False)),
            (["Connection: Keep-Alive"], (True, True)),
            (["Connection: keep-alive, close"], (False, False)),
            (["Connection: x", "connection:\tClose "], (False, False)),
            (["Connection: closed"], (False, True)),
        ],
    )
    def test_http_1_1_is_kept_where_nobody_says_close_and_1_0_where_somebody_says_keep_alive(
        self, lines: list[str], keeps: tuple[bool, bool]
    ) -> None:
        assert block(*lines).keeps == keeps

    def test_its_tokens_are_in_small_letters(self) -> None:
        assert block("Connection: A , b", "Connection: c").tokens == {"a", "b", "c"}
        assert block().tokens == frozenset()

    @pytest.mark.parametrize(
        ("lines", "upgrade"),
        [
            (["Connection: upgrade", "Upgrade: websocket"], "websocket"),
            (["Connection: keep-alive, Upgrade", "Upgrade: h2c , WebSocket"], "websocket"),
            (["Connection: upgrade", "Upgrade: h2c", "Upgrade: websocket"], "websocket"),
            (["Connection: upgrade", "Upgrade: websocket", "Content-Length: 0"], "websocket"),
            (["Upgrade: websocket"], ""),
            (["Connection: upgrade"], ""),
            (["Connection: upgrade", "Upgrade: h2c"], ""),
            (["Connection: upgrade", "Upgrade: websocket", "Content-Length: 1"], ""),
            (["Connection: upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"], ""),
        ],
    )
    def test_a_tunnel_is_asked_for_where_no_body_comes_first(
        self, lines: list[str], upgrade: str
    ) -> None:
        assert block("Host: a", *lines).upgrade == upgrade


class TestBodyAnnounced:
    @pytest.mark.parametrize("length", ["0", "7", "007", "9" * 18])
    def test_a_length_is_digits(self, length: str) -> None:
        read = block(f"Content-Length: {length}")
        assert (read.length, read.chunked) == (int(length), False)
        body = read.body(0)
        assert body is not None
        assert body.length == int(length)

    def test_chunks_have_no_length(self) -> None:
        read = block("Transfer-Encoding: Chunked")
        assert (read.length, read.chunked) == (None, True)
        body = read.body(1)
        assert body is not None
        assert body.length is None
        with pytest.raises(VisitorError) as caught:
            read.body(0)
        assert caught.value.status == 400

    def test_nothing_is_announced_where_nothing_is_said(self) -> None:
        assert block("Host: a").body(1) is None

    @pytest.mark.parametrize(
        "lines",
        [
            ["Content-Length: -1"],
            ["Content-Length: 1, 1"],
            ["Content-Length: x"],
            ["Content-Length:"],
            ["Content-Length: \xb2"],
            ["Content-Length: " + "9" * 19],
            ["Content-Length: 1", "Content-Length: 1"],
            ["Transfer-Encoding: gzip"],
            ["Transfer-Encoding: gzip, chunked"],
            ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding:"],
            ["Content-Length: 1", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", "Content-Length: 0"],
            ["Content-Type: a", "Content-Type: b"],
        ],
    )
    def test_what_could_end_elsewhere_is_a_400(self, lines: list[str]) -> None:
        assert refused("Host: a", *lines) == 400

    def test_one_content_type_is_right(self) -> None:
        assert block("Content-Type: a").index["content-type"] == "a"

    @pytest.mark.parametrize(
        ("lines", "expect"),
        [
            ([], ""),
            (["Expect: 100-Continue"], "100-continue"),
            (["Expect: 100-continue, 100-continue "], "100-continue"),
            (["Expect: a", "Expect:\tB"], "a,b"),
        ],
    )
    def test_what_a_visitor_expects_is_told_once(self, lines: list[str], expect: str) -> None:
        assert block(*lines).expect == expect

    @pytest.mark.parametrize(
        ("lines", "plain"),
        [
            (["Host: a"], True),
            (["Host: a", "Connection: close", "Cookie: a=b"], True),
            ([], False),
            (["Host: a", "Content-Length: 0"], False),
            (["Host: a", "Transfer-Encoding: chunked"], False),
            (["Host: a", "Expect: 100-continue"], False),
            (["Host: a", "Connection: upgrade", "Upgrade: websocket"], False),
        ],
    )
    def test_a_plain_block_has_a_host_and_nothing_of_a_body(
        self, lines: list[str], plain: bool
    ) -> None:
        assert block(*lines).plain is plain


def fed(body: Body, data: bytes, sizes: list[int]) -> tuple[bytes, bytes]:
    """What a body takes of data that come in pieces of these sizes, and what is after it."""
    taken, after, at = b"", b"", 0
    for size in [*sizes, len(data)]:
        piece, at = data[at : at + size], at + size
        if body.done:
            after += piece
            continue
        pieces, rest = body.feed(piece)
        assert all(pieces)
        taken += b"".join(pieces)
        after += rest
        assert body.size == len(taken)
    return taken, after


SIZES = st.lists(st.integers(1, 9), max_size=30)


class TestBody:
    @given(st.binary(max_size=40), st.binary(max_size=10), SIZES)
    def test_a_body_with_a_length_ends_there(
        self, content: bytes, after: bytes, sizes: list[int]
    ) -> None:
        body = Body(len(content))
        assert body.done == (not content)
        assert fed(body, content + after, sizes) == (content, after)
        assert (body.done, body.left, body.size) == (True, 0, len(content))

    @given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), st.binary(max_size=9), SIZES)
    def test_a_chunked_body_ends_after_its_last_chunk(
        self, chunks: list[bytes], after: bytes, sizes: list[int]
    ) -> None:
        data = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in [*chunks, b""])
        body = Body(None)
        assert not body.done
        assert fed(body, data + after, sizes) == (b"".join(chunks), after)
        assert body.done

    def test_broken_chunks_are_a_400(self) -> None:
        with pytest.raises(VisitorError, match="the request body breaks off") as caught:
            Body(None).feed(b"x\r\n")
        assert caught.value.status == 400

    def test_what_is_missing_is_said(self) -> None:
        body = Body(10)
        body.feed(b"abc")
        assert (body.left, body.done) == (7, False)
        assert re.search("ends 7 bytes early", body.missing)
        assert "ended before the last chunk" in Body(None).missing


@pytest.mark.parametrize(
    "fields",
    [
        [("Content-Length", "²")],
        [("Content-Length", "-1")],
        [("Content-Length", "+1")],
        [("Content-Length", "")],
        [("Content-Length", "1, 1")],
        [("Content-Length", "1" * 19)],
        [("Content-Length", "1"), ("content-length", "1")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "1")],
        [("Transfer-Encoding", "chunked"), ("transfer-encoding", "chunked")],
        [("Transfer-Encoding", "gzip, chunked")],
    ],
)
def test_what_leaves_the_end_of_a_body_open_is_refused_whatever_llhttp_makes_of_it(
    fields: list[tuple[str, str]],
) -> None:
    with pytest.raises(VisitorError) as refused:
        Block(b"", fields)
    assert refused.value.status == 400


def test_a_request_line_has_8190_bytes_at_most() -> None:
    """As Apache takes them."""
    fits = b"GET /%b HTTP/1.1" % (b"a" * (8190 - len("GET / HTTP/1.1")))
    assert len(read_line(fits)[1]) == 8190 - len("GET  HTTP/1.1")
    with pytest.raises(VisitorError) as refused:
        read_line(fits + b" ")
    assert refused.value.status == 414


def test_no_bytes_are_no_piece_of_a_body() -> None:
    body = Body(5)
    assert body.feed(b"") == ([], b"")
    assert not body.done
