"""Which headers go on to the other side, whatever names and values there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.http.headers import (
    HOP_BY_HOP,
    PublicOrigin,
    apply_rules,
    end_to_end,
    from_handler,
    keep_apart,
    listed,
    to_legacy,
    to_visitor,
)
from bridge.proxy.request.admission import HOP_HEADER
from bridge.proxy.request.cookies import share_cookie
from bridge.proxy.request.forwarded import TrustedProxies
from bridge.proxy.request.head import Head
from bridge.proxy.request.target import parse_target
from bridge.proxy.routing import models

Headers = list[tuple[str, str]]

NAME = st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True) | st.sampled_from(
    [
        "Connection",
        "keep-alive",
        "TE",
        "Host",
        "X-Forwarded-For",
        "Set-Cookie",
        "X-Bridge-Hop",
        "Proxy",
    ]
)
HEADERS = st.lists(st.tuples(NAME, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))))
ORIGIN = PublicOrigin("https", "www.example.org", frozenset({("old.internal", 80)}))


def sent(
    headers: Headers, *, trusted: bool = False, host: str | None = None, via: bool = False
) -> Headers:
    """What legacy gets of these headers of a visitor."""
    head = Head(
        "GET", parse_target("GET", "/"), "www.example.org", tuple(headers), peer="192.0.2.7"
    )
    client = TrustedProxies(["192.0.2.7"] if trusted else []).client(head)
    return to_legacy(
        head,
        client,
        trusted_peer=trusted,
        request_id="id",
        hops=("0a1b2c3d",),
        host=host,
        via=via,
    )


def values(headers: Headers, name: str) -> list[str]:
    return [value for key, value in headers if key.lower() == name.lower()]


class TestEndToEnd:
    @given(HEADERS)
    def test_no_hop_by_hop_field_is_left(self, headers: Headers) -> None:
        assert not {name.lower() for name, _ in end_to_end(headers)} & HOP_BY_HOP

    @given(HEADERS)
    def test_what_is_left_keeps_its_order_and_count(self, headers: Headers) -> None:
        """A subsequence, and nothing is taken away that Connection does not name."""
        left = end_to_end(headers)
        named = {
            token.strip().lower()
            for name, value in headers
            if name.lower() == "connection"
            for token in value.split(",")
        }
        assert left == [pair for pair in headers if pair[0].lower() not in HOP_BY_HOP | named]

    @given(HEADERS)
    def test_a_second_time_changes_nothing(self, headers: Headers) -> None:
        assert end_to_end(end_to_end(headers)) == end_to_end(headers)


class TestToLegacy:
    @given(HEADERS)
    def test_there_is_one_host_and_one_forwarded_of_ours(self, headers: Headers) -> None:
        """Whatever a visitor sends, or names in Connection."""
        got = sent(headers)
        assert values(got, "Host") == ["www.example.org"]
        assert values(got, "X-Forwarded-For") == ["192.0.2.7"]
        assert values(got, "Forwarded") == ["for=192.0.2.7;proto=http;host=www.example.org"]
        assert values(got, HOP_HEADER) == ["0a1b2c3d"]

    @given(HEADERS)
    def test_no_name_with_an_underscore_goes_on(self, headers: Headers) -> None:
        assert not any("_" in name for name, _ in sent(headers))

    @given(HEADERS)
    def test_every_value_comes_from_the_visitor_or_from_us(self, headers: Headers) -> None:
        theirs = [pair for pair in sent(headers) if pair not in sent([])]
        assert all(pair in headers or pair == ("TE", "trailers") for pair in theirs)

    def test_an_address_only_counts_from_a_trusted_proxy(self) -> None:
        headers = [("X-Real-Ip", "6.6.6.6"), ("X-Forwarded-Port", "1"), ("X-Real-Ip-Not", "kept")]
        assert values(sent(headers), "X-Real-Ip") == []
        assert values(sent(headers), "X-Real-Ip-Not") == ["kept"]
        assert values(sent(headers, trusted=True), "X-Real-Ip") == ["6.6.6.6"]

    def test_host_and_via_are_the_backends_choice(self) -> None:
        got = sent([], host="old.internal", via=True)
        assert values(got, "Host") == ["old.internal"]
        assert values(got, "Via") == ["1.1 bridge"]


class TestToVisitor:
    @given(HEADERS)
    def test_nothing_internal_is_left(self, headers: Headers) -> None:
        got = to_visitor(headers, ORIGIN, accel=False)
        assert not any(
            name.lower().startswith(("x-bridge-", "x-accel-", "x-sendfile")) for name, _ in got
        )
        assert not any(name.lower().startswith("x-bridge-") for name, _ in from_handler(headers))

    @given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
    def test_a_location_never_names_the_backend_and_never_fails(self, rest: str) -> None:
        for url in (f"http://old.internal/{rest}", f"//old.internal/{rest}"):
            assert ORIGIN.url(url) == f"https://www.example.org/{rest}"
        ORIGIN.url(rest)
        ORIGIN.refresh(f"5; url={rest}")
        ORIGIN.cookie(rest)

    @given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
    def test_taking_a_prefix_away_never_makes_another_host(self, rest: str) -> None:
        """A path stays a path, or becomes an address of the visitor's own host."""
        origin = PublicOrigin("https", "www.example.org", frozenset(), "/app")
        got = origin.url(f"/app/{rest}")
        assert got.startswith(("https://www.example.org/", "/"))
        assert not got.startswith(("//", "/\\"))

    @given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
    def test_a_cookie_without_an_attribute_of_the_backend_is_not_touched(self, value: str) -> None:
        if "domain" not in value.lower():
            assert ORIGIN.cookie(value) == value


class TestSiteRules:
    def test_a_header_is_removed_in_any_case_and_a_set_one_replaced(self) -> None:
        rules = models.ResponseHeaders(remove=("Server",), set={"X-Site": "forge"})
        headers = [("SERVER", "a"), ("x-site", "old"), ("X-Kept", "1"), ("server", "b")]
        assert apply_rules(headers, rules) == [("X-Kept", "1"), ("X-Site", "forge")]

    @given(HEADERS)
    def test_without_rules_nothing_changes(self, headers: Headers) -> None:
        assert apply_rules(headers, models.ResponseHeaders()) == headers


def slowly_listed(value: str) -> Iterator[str]:
    """RFC 9110, section 5.6.1 and 5.6.4, one character after the other."""
    part, quoted, escaped = "", False, False
    for character in value:
        if character == "," and not quoted:
            if part.strip(" \t"):
                yield part.strip(" \t")
            part = ""
            continue
        part += character
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
    if part.strip(" \t"):
        yield part.strip(" \t")


class TestKeepApart:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ([], "private"),
            (["max-age=60"], "max-age=60, private"),
            (["public, max-age=60", "s-maxage=9"], "max-age=60, private"),
            (["no-store"], "no-store"),
            (["private"], "private"),
            (["Public, S-MaxAge=5"], "private"),
            (['private="Set-Cookie, X-Foo", max-age=60'], "max-age=60, private"),
            (
                ['no-cache="Set-Cookie, public", max-age=60'],
                'no-cache="Set-Cookie, public", max-age=60, private',
            ),
            (['x="a\\", s-maxage=9", public'], 'x="a\\", s-maxage=9", private'),
            ([",, max-age=60 ,,"], "max-age=60, private"),
            (['x="never closed, public'], 'x="never closed, public, private'),
        ],
    )
    def test_no_shared_cache_keeps_the_answer_of_a_split_route(
        self, before: list[str], after: str
    ) -> None:
        headers = [("Cache-Control", value) for value in before]
        assert values(keep_apart(headers, "Cookie"), "Cache-Control") == [after]

    @pytest.mark.parametrize("vary", ["Cookie", "accept, cookie", "*"])
    def test_what_the_answer_varies_by_is_said_once(self, vary: str) -> None:
        assert values(keep_apart([("Vary", vary)], "Cookie"), "Vary") == [vary]

    @pytest.mark.parametrize("vary", ["X-Cookie-Group", "Cookies, Set-Cookie", "Accept, cookie2"])
    def test_a_name_that_only_holds_the_other_one_is_another(self, vary: str) -> None:
        assert values(keep_apart([("Vary", vary)], "Cookie"), "Vary") == [vary, "Cookie"]

    @given(st.lists(st.text('ab=" \\,', min_size=1), max_size=5))
    def test_a_list_is_split_where_no_quotes_are(self, parts: list[str]) -> None:
        """Held against a reader that goes character by character."""
        value = ",".join(parts)
        assert listed(value) == list(slowly_listed(value))

    def test_what_the_answer_varies_by_is_added(self) -> None:
        got = keep_apart([("Vary", "Accept"), ("CDN-Cache-Control", "max-age=9")], "Cookie")
        assert values(got, "Vary") == ["Accept", "Cookie"]
        assert values(got, "CDN-Cache-Control") == []

    @given(HEADERS)
    def test_a_second_time_changes_nothing(self, headers: Headers) -> None:
        once = keep_apart(headers, "Cookie")
        assert sorted(keep_apart(once, "Cookie")) == sorted(once)


def test_the_share_cookie_is_secure_where_the_visitor_is() -> None:
    assert share_cookie("key", secure=True)[1].endswith("; Secure")
    assert "Secure" not in share_cookie("key", secure=False)[1]
