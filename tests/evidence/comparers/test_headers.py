"""Headers are compared by what they mean, cookies by their attributes."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard

from bridge.evidence.comparers.content import LARGEST
from bridge.evidence.comparers.difference import Difference, NotComparable
from bridge.evidence.comparers.ignoring import Rule
from tests.evidence.comparers.pages import HTML, TEXT, answer, found, places

Header = tuple[str, str]
NOW = ("Date", "Tue, 01 Dec 2026 10:00:00 GMT")
LATER = ("Date", "Tue, 01 Dec 2026 10:00:07 GMT")


def told(legacy: list[Header], python: list[Header]) -> list[tuple[str, str]]:
    return places(answer("x", None, *legacy), answer("x", None, *python))


@pytest.mark.parametrize(
    ("legacy", "python"),
    [
        ([("A", "1"), ("B", "2")], [("b", "2"), ("a", "1")]),
        ([("Vary", "Cookie, Accept")], [("Vary", "accept"), ("Vary", "cookie")]),
        ([("Cache-Control", "no-cache, private")], [("Cache-Control", "Private,no-cache")]),
        ([("Content-Type", "text/html;charset=UTF-8")], [("Content-Type", HTML)]),
        ([("Content-Type", 'text/html; charset="utf-8"')], [("Content-Type", HTML)]),
        ([("Allow", "GET, HEAD")], [("Allow", "HEAD,GET")]),
        ([("Link", '</a,b>; rel="x", </c>; rel=y')], [("Link", '</c>; rel=y, </a,b>; rel="x"')]),
        ([("ETag", 'W/"a"')], [("ETag", '"a"')]),
        ([NOW, ("Expires", NOW[1])], [LATER, ("Expires", LATER[1])]),
        ([("Last-Modified", NOW[1])], [("Last-Modified", "Tue, 01 Dec 2026 10:00:03 GMT")]),
        ([("Server", "Apache"), ("X-Powered-By", "PHP/5")], [("Server", "bridge")]),
        ([NOW, ("Age", "3"), ("Connection", "close")], [LATER]),
        ([("Content-Length", "1")], [("Transfer-Encoding", "chunked")]),
    ],
)
def test_headers_that_mean_the_same_are_the_same(
    legacy: list[Header], python: list[Header]
) -> None:
    """
    legacy, python: the headers of each side.
    """
    assert told(legacy, python) == []
    assert told(python, legacy) == []


@pytest.mark.parametrize(
    ("legacy", "python", "place", "what"),
    [
        ([("X-Frame-Options", "DENY")], [], "header X-Frame-Options", "missing"),
        ([], [("content-language", "en")], "header Content-Language", "added"),
        ([("Location", "/a")], [("Location", "/A")], "header Location", "changed"),
        ([("Vary", "Cookie")], [("Vary", "Cookie, Accept")], "header Vary", "changed"),
        (
            [("Cache-Control", "max-age=60")],
            [("Cache-Control", "max-age=61")],
            "header Cache-Control",
            "changed",
        ),
        (
            [("Content-Type", HTML)],
            [("Content-Type", "text/html")],
            "header Content-Type",
            "changed",
        ),
        ([NOW, ("Expires", LATER[1])], [NOW, ("Expires", NOW[1])], "header Expires", "changed"),
        ([("ETag", '"a"')], [("ETag", '"b"')], "header ETag", "changed"),
    ],
)
def test_headers_that_differ_are_named(
    legacy: list[Header], python: list[Header], place: str, what: str
) -> None:
    """
    legacy, python: the headers of each side.
    place, what: of the one difference.
    """
    assert told(legacy, python) == [(place, what)]


def cookies(*lines: str, date: Header = NOW) -> list[Header]:
    return [date, *(("Set-Cookie", line) for line in lines)]


SID = "sid=abc; Path=/; Expires=Tue, 01 Dec 2026 11:00:00 GMT; HttpOnly; SameSite=Lax"


@pytest.mark.parametrize(
    "other",
    [
        "sid=abc; samesite=lax; httponly; path=/; expires=Tue, 01-Dec-2026 11:00:00 GMT",
        "sid=abc; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax",
        "sid=abc; Path=/; Max-Age=3603; HttpOnly; SameSite=Lax",
        "sid=abc; Path=/; Expires=Thu, 01 Jan 2026 00:00:00 GMT; Max-Age=3600"
        ";HttpOnly;SameSite=Lax",
    ],
)
def test_a_cookie_is_the_same_however_it_is_written(other: str) -> None:
    assert told(cookies(SID), cookies(other)) == []


def test_the_end_of_a_cookie_counts_from_its_answer() -> None:
    later = SID.replace("11:00:00", "11:00:07")
    assert told(cookies(SID), cookies(later, date=LATER)) == []
    assert told(cookies(SID), cookies(later)) == [("cookie sid; Expires", "changed")]


@pytest.mark.parametrize(
    ("other", "place", "what"),
    [
        (SID.replace("abc", "abd"), "cookie sid", "changed"),
        (SID.replace("; HttpOnly", ""), "cookie sid; HttpOnly", "missing"),
        (SID + "; Secure", "cookie sid; Secure", "added"),
        (SID.replace("Path=/", "Path=/shop"), "cookie sid; Path", "changed"),
        (SID.replace("Lax", "None"), "cookie sid; SameSite", "changed"),
        (SID.replace("11:00", "12:00"), "cookie sid; Expires", "changed"),
        (SID + "; Domain=.example.org", "cookie sid; Domain", "added"),
    ],
)
def test_each_attribute_of_a_cookie_is_compared(other: str, place: str, what: str) -> None:
    """
    place, what: of the one difference.
    """
    assert told(cookies(SID, "b=1"), cookies("b=1", other)) == [(place, what)]


def test_a_cookie_that_is_not_set_is_one_difference() -> None:
    assert told(cookies(SID, "b=1"), cookies("b=1")) == [("cookie sid", "missing")]
    twice = told(cookies("b=1", "b=2"), cookies("b=1"))
    assert twice == [("cookie b[2]", "missing")]


def test_another_status_is_one_difference_and_its_page_none() -> None:
    assert places(answer("a page"), answer("not found", status=404)) == [("status", "changed")]
    assert places(answer("a", reason="OK"), answer("a", reason="Fine")) == [("reason", "changed")]
    assert places(answer("a", reason="OK"), answer("a")) == []


def test_a_header_that_is_ignored_is_named_as_used() -> None:
    one, other = answer("x", HTML, ("X-Build", "1")), answer("x", HTML, ("X-Build", "2"))
    hidden = found(one, other, Rule("header", "x-build"), Rule("header", "x-other"))
    assert (hidden, hidden.used) == ([], {"header: x-build"})
    set_cookie = found(
        answer("x", HTML, ("Set-Cookie", "a=1")), answer("x"), Rule("header", "set-cookie")
    )
    assert (set_cookie, set_cookie.used) == ([], {"header: set-cookie"})


PACKED = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("encoding", PACKED)
def test_compressed_bodies_are_compared_by_what_is_in_them(encoding: str) -> None:
    pages = [b"<p>one " + b"word " * 5000, b"<p>two " + b"word " * 5000]
    packed = [
        answer(PACKED[encoding](page), HTML, ("Content-Encoding", encoding)) for page in pages
    ]
    assert places(*packed) == [("html > body > p", "changed")]
    plain = answer(pages[0])
    assert places(plain, packed[0]) == [("header Content-Encoding", "added")]


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_that_grows_without_end_is_not_comparable(encoding: str) -> None:
    bomb = PACKED[encoding](b"\0" * (LARGEST + 1))
    assert len(bomb) < LARGEST // 100
    with pytest.raises(NotComparable, match="larger than 64 MiB"):
        found(answer(bomb, TEXT, ("Content-Encoding", encoding)), answer("x"))


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_that_is_not_what_its_encoding_says_is_a_difference(encoding: str) -> None:
    packed = PACKED[encoding](b"<p>x" * 1000)
    good = answer(packed, HTML, ("Content-Encoding", encoding))
    for broken in (packed[: len(packed) // 2], b"\xffnothing of the kind"):
        bad = answer(broken, HTML, ("Content-Encoding", encoding))
        assert places(good, bad) == [("body", "changed")]


def test_an_encoding_that_nobody_knows_is_not_comparable() -> None:
    with pytest.raises(NotComparable, match="Content-Encoding pack200"):
        found(answer(b"a", HTML, ("Content-Encoding", "pack200")), answer("x"))


def test_a_wrong_charset_is_one_difference_and_not_one_of_each_word() -> None:
    page = "<p>é</p>" * 50
    latin = answer(page.encode("latin-1"), "text/html; charset=iso-8859-1")
    assert places(answer(page), latin) == [("header Content-Type", "changed")]
    lied = answer(page, "text/html; charset=iso-8859-1")
    assert places(answer(page), lied) == [
        ("header Content-Type", "changed"),
        ("charset", "changed"),
    ]


def test_the_charset_of_a_page_without_one_in_its_header_is_that_of_its_meta() -> None:
    page = "<meta charset={}><p>é"
    one = answer(page.format("utf-8"), "text/html")
    other = answer(page.format("latin1").encode("latin-1"), "text/html")
    assert places(one, other) == [("html > head > meta @charset", "changed")]


def test_a_body_that_is_empty_on_one_side_is_one_difference() -> None:
    assert places("<p>a<p>b", "") == [("body", "missing")]
    assert places("", "<p>a") == [("body", "added")]


def test_large_bodies_are_compared_by_length_and_digest_and_it_is_said() -> None:
    from bridge.evidence.answers import Answer

    headers = [("Content-Type", HTML)]
    one = Answer(200, "", headers, b"", 2**30, "aa" * 32, whole=False)
    other = Answer(200, "", headers, b"", 2**30 + 1, "bb" * 32, whole=False)
    assert found(one, one) == []
    [difference] = found(one, other)
    assert difference == Difference(
        "body",
        "body",
        "changed",
        "1,073,741,824 bytes, SHA-256 aaaaaaaaaaaaaaaa… (too large to look into)",
        "1,073,741,825 bytes, SHA-256 bbbbbbbbbbbbbbbb… (too large to look into)",
    )
