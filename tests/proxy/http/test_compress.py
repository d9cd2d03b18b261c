"""Compressing a handler's answer: whatever it says and however it comes, it is the same body."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.http.compress import Body, Press, chosen
from bridge.proxy.routing.models import Compression

ENCODINGS = ("br", "zstd", "gzip")
HTML = ("Content-Type", "text/html; charset=utf-8")


def unpacked(encoding: str | None, data: bytes) -> bytes:
    if encoding == "gzip":
        return gzip.decompress(data)
    if encoding == "br":
        return bytes(brotli.decompress(data))
    if encoding == "zstd":
        return bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data))
    return data


def value(body: Body, name: str) -> str | None:
    return next((found for key, found in body.headers if key.lower() == name.lower()), None)


def pressed(
    pieces: list[bytes],
    *headers: tuple[str, str],
    accepted: str | None = "gzip",
    length: int | None = None,
    method: str = "GET",
    status: str = "200 OK",
    rules: Compression | None = None,
) -> tuple[Body, bytes]:
    first, rest = pieces[:1], iter(pieces[1:])
    press = Press(rules or Compression(encodings=ENCODINGS, min_size="0B"), accepted)
    made = press(method, status, Body(list(headers or (HTML,)), first, rest, length))
    return made, b"".join([*made.first, *made.rest])


PIECES = st.lists(st.binary(max_size=2000), min_size=1, max_size=6).map(
    lambda pieces: [piece for piece in pieces if piece] or [b"x"]
)


@given(PIECES, st.sampled_from(ENCODINGS), st.booleans())
def test_whatever_is_compressed_is_the_same_afterwards(
    pieces: list[bytes], encoding: str, announced: bool
) -> None:
    whole = b"".join(pieces)
    body, data = pressed(pieces, accepted=encoding, length=len(whole) if announced else None)
    assert value(body, "Content-Encoding") == encoding
    assert unpacked(encoding, data) == whole
    if body.length is not None:
        assert (body.length, value(body, "Content-Length")) == (len(data), str(len(data)))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_piece_of_a_stream_can_be_read_when_it_comes(encoding: str) -> None:
    """Nothing waits in the compressor for what comes next."""
    asked: list[str] = []

    def rest() -> Iterator[bytes]:
        for number in range(3):
            asked.append(str(number))
            yield f"piece {number} ".encode()

    press = Press(Compression(encodings=ENCODINGS), encoding)
    body = press("GET", "200 OK", Body([HTML], [b"first "], rest(), None))
    reader = {
        "gzip": lambda: zlib.decompressobj(31).decompress,
        "br": lambda: brotli.Decompressor().process,
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
    }[encoding]()
    assert reader(body.first[0]) == b"first "
    assert asked == []
    for number, piece in zip(range(3), body.rest, strict=False):
        assert reader(piece) == f"piece {number} ".encode()
        assert len(asked) == number + 1


def test_a_body_that_ends_early_does_not_end_well() -> None:
    """Compressed it would look whole."""
    press = Press(Compression(), "gzip")
    body = press("GET", "200 OK", Body([HTML], [b"x" * 300], iter([b"y"]), 400))
    with pytest.raises(ValueError, match="99 bytes early"):
        list(body.rest)


def test_what_is_beyond_the_announced_length_is_not_sent() -> None:
    for pieces in ([b"x" * 400], [b"x" * 200, b"x" * 200]):
        _, data = pressed(pieces, length=300)
        assert gzip.decompress(data) == b"x" * 300


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([HTML, ("Content-Encoding", "br")], "200 OK"),
        ([HTML, ("Content-Encoding", "identity")], "200 OK"),
        ([HTML, ("Content-Range", "bytes 0-9/20")], "206 Partial Content"),
        ([HTML], "206 Partial Content"),
        ([HTML, ("Content-Range", "bytes */20")], "416 No"),
        ([HTML, ("Cache-Control", "max-age=3, No-Transform")], "200 OK"),
        ([("Content-Type", "image/png")], "200 OK"),
        ([("Content-Type", "text/event-stream")], "200 OK"),
        ([("X-Nothing", "of a type")], "200 OK"),
        ([HTML], "204 No Content"),
        ([HTML], "304 Not Modified"),
    ],
)
def test_what_may_not_be_compressed_stays_to_the_byte(
    headers: list[tuple[str, str]], status: str
) -> None:
    body, data = pressed([b"x" * 999], *headers, status=status, length=999)
    assert (body.headers, data, body.length) == (headers, b"x" * 999, 999)


def test_a_small_answer_is_left_alone() -> None:
    for size, encoding in ((255, None), (256, "gzip")):
        body, _ = pressed([b"x" * size], length=size, rules=Compression())
        assert value(body, "Content-Encoding") == encoding


def test_who_takes_no_compression_gets_none_and_caches_are_told() -> None:
    for accepted in (None, "", "identity", "deflate", "gzip;q=0"):
        body, data = pressed([b"x" * 999], accepted=accepted, length=999)
        assert (value(body, "Content-Encoding"), data) == (None, b"x" * 999)
        assert value(body, "Vary") == "Accept-Encoding"


@pytest.mark.parametrize(
    ("vary", "seen"),
    [
        ("Cookie", ["Cookie", "Accept-Encoding"]),
        ("X-Accept-Encoding", ["X-Accept-Encoding", "Accept-Encoding"]),
        ("accept-encoding, Cookie", ["accept-encoding, Cookie"]),
        ("*", ["*"]),
    ],
)
def test_what_the_answer_varies_by_is_said_once(vary: str, seen: list[str]) -> None:
    body, _ = pressed([b"x"], HTML, ("Vary", vary))
    assert [found for name, found in body.headers if name == "Vary"] == seen


def test_what_names_other_bytes_goes_or_becomes_weak() -> None:
    body, _ = pressed(
        [b"x"],
        HTML,
        ("ETag", '"a"'),
        ("Accept-Ranges", "bytes"),
        ("Content-MD5", "x"),
        ("Content-Length", "1"),
        length=None,
    )
    assert value(body, "ETag") == 'W/"a"'
    assert value(body, "Accept-Ranges") is None
    assert value(body, "Content-MD5") is None
    body, _ = pressed([b"x"], HTML, ("ETag", 'W/"a"'))
    assert value(body, "ETag") == 'W/"a"'


def test_a_head_says_what_a_get_would_say() -> None:
    """But for the length, which only the GET knows."""
    head, data = pressed([b""], HTML, ("Content-Length", "999"), method="HEAD", length=999)
    got, _ = pressed([b"x" * 999], HTML, ("Content-Length", "999"), length=999)
    assert data == b""
    assert head.headers == [one for one in got.headers if one[0] != "Content-Length"]


@pytest.mark.parametrize(
    ("accepted", "best"),
    [
        ("gzip, deflate, br, zstd", "br"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("*", "br"),
        ("*;q=0, gzip", "gzip"),
        ("br;q=0.5, gzip", "gzip"),
        ("br;q=0.5, zstd;q=0.5", "br"),
        ("br;q=0, *", "zstd"),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("identity;q=0", None),
        ("gzip ; q=0.001", "gzip"),
        ("gzip;q=1.000", "gzip"),
        ("gzip;q=2, br;q=x", None),
        ("gzip;level=9", None),
        (",, gzip ,", "gzip"),
        ("gzip\tbr", None),
    ],
)
def test_the_visitor_says_what_they_like_best(accepted: str, best: str | None) -> None:
    assert chosen(accepted, ENCODINGS) == best


@given(st.text(max_size=80))
def test_nothing_that_a_visitor_sends_is_an_error(accepted: str) -> None:
    assert chosen(accepted, ENCODINGS) in (None, *ENCODINGS)
