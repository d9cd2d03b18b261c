"""A body is kept as text, decoded and bounded."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from bridge.evidence.answers import Answer
from bridge.evidence.differences.text import MOST, kept_text

TEXT = "<p>Grüße</p>"


def _answer(body: bytes, kind: str = "text/html; charset=utf-8", encoding: str = "") -> Answer:
    headers = [("Content-Type", kind)] if kind else []
    return Answer.of(200, [*headers, *([("Content-Encoding", encoding)] * bool(encoding))], body)


def _deflated(data: bytes, bits: int) -> bytes:
    made = zlib.compressobj(wbits=bits)
    return made.compress(data) + made.flush()


CODED = {
    "gzip": gzip.compress(TEXT.encode()),
    "deflate": _deflated(TEXT.encode(), 15),
    "Deflate": _deflated(TEXT.encode(), -15),
    "br": brotli.compress(TEXT.encode()),
    "zstd": zstandard.compress(TEXT.encode()),
}


@pytest.mark.parametrize("encoding", CODED)
def test_a_body_is_decoded(encoding: str) -> None:
    assert kept_text(_answer(CODED[encoding], encoding=encoding)) == (TEXT, "")


@pytest.mark.parametrize("encoding", CODED)
def test_what_grows_without_end_is_cut(encoding: str) -> None:
    zeros = b"0" * 50_000_000
    bomb = {
        "gzip": lambda: gzip.compress(zeros),
        "deflate": lambda: _deflated(zeros, 15),
        "Deflate": lambda: _deflated(zeros, -15),
        "br": lambda: brotli.compress(zeros, quality=1),
        "zstd": lambda: zstandard.compress(zeros),
    }[encoding]()
    text, why = kept_text(_answer(bomb, encoding=encoding))

    assert text == "0" * MOST
    assert why == "only the first 256 KiB are kept"


@pytest.mark.parametrize("encoding", CODED)
def test_what_cannot_be_decoded_is_said(encoding: str) -> None:
    text, why = kept_text(_answer(b"\xff\xffnothing of the kind", encoding=encoding))

    assert (text, why) == ("", f"it is damaged: no {encoding.lower()}")


def test_an_encoding_of_nobody_is_said() -> None:
    assert kept_text(_answer(b"abc", encoding="aws-chunked"))[1].endswith("nobody knows here")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=iso-8859-1", TEXT.encode("latin-1")),
        ('text/html; Charset="UTF-8"', TEXT.encode()),
        ("text/html", f'<meta charset="latin1">{TEXT}'.encode("latin-1")),
        ("text/html", f"<meta charset=utf-8>{TEXT}".encode()),
        ("text/html; charset=hex", TEXT.encode()),
        ("text/html; charset=idna", TEXT.encode()),
        ("text/html; charset=no-such", TEXT.encode()),
        ("", TEXT.encode()),
    ],
)
def test_the_charset_is_the_one_that_was_said_and_utf_8_where_none_is(
    kind: str, body: bytes
) -> None:
    assert TEXT in kept_text(_answer(body, kind))[0]


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "video/mp4"])
def test_what_is_no_text_is_not_kept(kind: str) -> None:
    assert kept_text(_answer(b"\x89PNG\0", kind)) == ("", "it is no text")


@pytest.mark.parametrize("kind", ["application/json", "image/svg+xml", "text/css"])
def test_other_texts_are_kept(kind: str) -> None:
    assert kept_text(_answer(b"{}", kind)) == ("{}", "")


def test_of_a_body_that_was_too_large_nothing_is_there() -> None:
    large = Answer(200, "OK", [], b"", 10**9, "0" * 64, whole=False)

    assert kept_text(large) == ("", "it was too large to be taken along")


@given(
    st.binary(max_size=400),
    st.sampled_from(["", "gzip", "br", "zstd", "deflate", "identity", "\0"]),
    st.text(max_size=60),
)
def test_any_bytes_of_any_kind_give_a_text(body: bytes, encoding: str, kind: str) -> None:
    text, why = kept_text(_answer(body, kind, encoding))

    assert text.encode()[:0] + why.encode()[:0] == b""
