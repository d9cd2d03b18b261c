"""Which answers of legacy are marked, and what becomes of their headers. Pure."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from bridge.proxy.gate import is_marked, mark
from bridge.proxy.request.head import Head, Headers
from bridge.proxy.request.target import parse_target
from bridge.sync.gtid import Gtid
from bridge.sync.marker import Marker
from bridge.sync.tokens import Entry, Keys, LogEnd, Token

NOW = 1_767_225_600
KEYS = Keys([("a1", "0123456789abcdef")])
END = Gtid("0", 1, 42)


class Asked(NamedTuple):
    how: str = "asked"
    end: Gtid | None = END
    since: float = 0.0


MARKER = Marker(KEYS, lambda tell: Asked(), 0.02, lambda: float(NOW))
VIM = Entry("project", "vim", 7, NOW)


HEAD = Head("POST", parse_target("POST", "/save"), "forge.example", (), "192.0.2.1", "http")


def marked(headers: Headers, *, asked: bool = True, secure: bool = False) -> Headers:
    return mark(headers, MARKER, Asked() if asked else None, HEAD, secure=secure)


@pytest.mark.parametrize(
    ("method", "status", "writes", "is_"),
    [
        ("POST", 200, False, True),
        ("POST", 500, False, True),
        ("PATCH", 304, False, True),
        ("X-OWN", 200, False, True),
        ("GET", 200, False, False),
        ("GET", 304, False, False),
        ("GET", 302, False, True),
        ("HEAD", 308, False, True),
        ("OPTIONS", 204, False, False),
        ("TRACE", 200, False, False),
        ("GET", 200, True, True),
        ("GET", 101, True, False),
    ],
)
def test_what_may_have_written_something_is_marked(
    method: str, status: int, writes: bool, is_: bool
) -> None:
    assert is_marked(method, status, writes=writes) == is_


@pytest.mark.parametrize("secure", [False, True])
def test_the_cookie_is_for_the_whole_site_and_not_for_scripts(secure: bool) -> None:
    [*_, (name, value)] = marked([("ETag", "1")], secure=secure)
    token, _, attributes = value.partition("; ")
    assert (name, KEYS.read(token.removeprefix("bv="), NOW).end) == ("Set-Cookie", LogEnd(END, NOW))
    assert attributes == "Max-Age=30; Path=/; HttpOnly; SameSite=Lax" + "; Secure" * secure


def test_no_shared_cache_keeps_the_answer() -> None:
    headers = marked([("Cache-Control", "public, max-age=60, s-maxage=60")])
    assert ("Cache-Control", "max-age=60, private") in headers


def test_of_several_cookies_of_php_the_last_sound_one_says_where_it_goes() -> None:
    """Browsers keep one for each place; both are one visitor's."""
    one, other = Entry("project", "bash", 1, NOW), KEYS.sign([VIM])
    headers = marked(
        [
            ("set-cookie", f"bv={KEYS.sign([one])}; Path=/a"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", f"bv = {other} ;Path=/b;Secure"),
            ("Set-Cookie", "bv=nonsense; Path=/c"),
        ]
    )
    cookies = [value for name, value in headers if name.lower() == "set-cookie"]
    assert [cookies[0], len(cookies)] == ["a=1", 2]
    token, _, attributes = cookies[1].partition("; ")
    found = KEYS.read(token.removeprefix("bv="), NOW)
    assert (set(found.entries), attributes) == ({one, VIM}, "Path=/b;Secure")


def test_a_cookie_without_attributes_stays_one() -> None:
    [*_, (_, value)] = marked([("Set-Cookie", f"bv={KEYS.sign([VIM])}")])
    assert KEYS.read(value.removeprefix("bv="), NOW) == Token((VIM,), LogEnd(END, NOW))


def test_what_nothing_is_added_to_is_the_same_list() -> None:
    for headers in ([("ETag", "1")], [("Set-Cookie", f"bv={KEYS.sign([VIM])}")]):
        assert marked(headers, asked=False) is headers
