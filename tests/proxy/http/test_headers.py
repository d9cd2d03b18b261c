"""Which headers go on to the other side, whatever names and values there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.proxy.http.headers import (
    HOP_BY_HOP,
    PublicOrigin,
    _known_fate,
    apply_rules,
    end_to_end,
    from_handler,
    is_shared,
    keep_apart,
    listed,
    renamed,
    to_legacy,
    to_visitor,
    vary_on,
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


NOT_FROM_VISITORS = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-length",
    "expect",
    "proxy",
    "x-original-url",
    "x-rewrite-url",
    "x-bridge-hop",
    "x-bridge-anything",
    "x_real_ip",
    "any_name",
]
ONLY_FROM_TRUSTED = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "client-ip",
    "cloudfront-forwarded-proto",
    "cloudfront-viewer-address",
    "fastly-client-ip",
    "fastly-ssl",
    "forwarded-for",
    "forwarded-for-ip",
    "front-end-https",
    "proxy-client-ip",
    "remote-addr",
    "true-client-ip",
    "wl-proxy-client-ip",
    "x-appengine-user-ip",
    "x-arr-ssl",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-host",
    "x-http-host-override",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-proto",
    "x-originating-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-scheme",
    "x-url-scheme",
    "x-forwarded-port",
    "x-forwarded-anything",
]
SAID_BY_US = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]
GOES_ON = ["accept", "range", "x-powered-by", "authorization", "x", "bridge-x", "x" * 64, "x" * 65]


class TestEachName:
    """What becomes of each request header on its way to legacy."""

    @pytest.mark.parametrize("trusted", [False, True])
    @pytest.mark.parametrize("name", [*NOT_FROM_VISITORS, *(f"X_{'x' * n}" for n in (62, 63))])
    def test_what_is_not_a_visitors_to_say_goes(self, name: str, trusted: bool) -> None:
        for written in (name, name.upper()):
            assert sent([(written, "invented")], trusted=trusted) == sent([], trusted=trusted)

    @pytest.mark.parametrize("name", ONLY_FROM_TRUSTED)
    def test_what_proxies_say_counts_only_from_a_trusted_one(self, name: str) -> None:
        for written in (name, name.upper()):
            assert sent([(written, "1")]) == sent([])
            assert (written, "1") in sent([(written, "1")], trusted=True)

    @pytest.mark.parametrize("trusted", [False, True])
    @pytest.mark.parametrize("name", GOES_ON)
    def test_everything_else_goes_on(self, name: str, trusted: bool) -> None:
        assert (name, "1") in sent([(name, "1")], trusted=trusted)

    @pytest.mark.parametrize("trusted", [False, True])
    @pytest.mark.parametrize("name", [*SAID_BY_US, "host", "x-request-id"])
    def test_what_we_say_is_said_once_and_by_us(self, name: str, trusted: bool) -> None:
        [got] = values(sent([(name, "6.6.6.6")], trusted=trusted), name)
        if not trusted:
            assert [got] == values(sent([]), name)

    @pytest.mark.parametrize("connection", ["X-Own", " x-own ,close", "close,\tX-OWN"])
    def test_what_connection_names_goes(self, connection: str) -> None:
        """Whatever other headers say."""
        headers = [("X-Own", "1"), ("Connection", connection), ("X-Other", "x-third")]
        assert values(sent([*headers, ("X-Third", "3")]), "X-Own") == []
        assert sent([*headers, ("X-Third", "3")])[1:3] == [("X-Other", "x-third"), ("X-Third", "3")]
        assert end_to_end([*headers, ("X-Third", "3")]) == [
            ("X-Other", "x-third"),
            ("X-Third", "3"),
        ]

    def test_our_own_cookies_go_and_the_others_stay_as_they_are(self) -> None:
        for ours in ("bridge_share", "bridge_preview", "bridge_trail"):
            assert values(sent([("Cookie", f"a=1; {ours}=x; b=2")]), "Cookie") == ["a=1; b=2"]
            assert values(sent([("cookie", f" {ours} = x")]), "Cookie") == []
        for theirs in ("bridge_other=1;  a=2", "a=bridge_share", "a=1;b=2 ; "):
            assert values(sent([("Cookie", theirs)]), "Cookie") in ([theirs], [theirs.strip()])
        for whole in (("Cookie", ""), ("X", "bridge_share=x")):
            assert whole in sent([whole])

    @pytest.mark.parametrize(("length", "kept"), [(64, 1), (65, 0)])
    def test_only_short_names_are_remembered(self, length: int, kept: int) -> None:
        """Visitors can send any number of long ones."""
        before = _known_fate.cache_info().currsize
        assert before < 4000
        sent([(f"x-{'y' * (length - 2)}", "1")])
        assert _known_fate.cache_info().currsize - before == kept

    def test_the_rest_of_a_request_is_told(self) -> None:
        head = Head("GET", parse_target("GET", "/"), "a.example", (("TE", "Trailers, gzip"),), "")
        client = TrustedProxies([]).client(head)
        plain = to_legacy(head, client, trusted_peer=False, request_id="id", hops=("a", "b"))
        assert plain[0] == ("Host", "a.example")
        assert values(plain, "X-Request-Id") == ["id"]
        assert values(plain, HOP_HEADER) == ["a,b"]
        assert values(plain, "TE") == ["trailers"]
        for name in ("Expect", "Connection", "Upgrade", "Via"):
            assert values(plain, name) == []
        more = to_legacy(
            head,
            client,
            trusted_peer=False,
            request_id="id",
            hops=("a",),
            via=True,
            expect=True,
            upgrade="websocket",
        )
        assert more[len(plain) :] == [
            ("Expect", "100-continue"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Via", "1.1 bridge"),
        ]

    def test_only_trailers_are_asked_for(self) -> None:
        assert values(sent([("TE", "gzip")]), "TE") == []


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Origin", "http://www.example.org", "https://old.internal"),
        ("origin", "HTTP://WWW.example.org", "https://old.internal"),
        ("Destination", "http://www.example.org/a", "https://old.internal/app/a"),
        ("DESTINATION", "http://www.example.org", "https://old.internal/app"),
        ("Destination", "http://www.example.org?a", "https://old.internal/app?a"),
        ("Destination", "http://www.example.org#a", "https://old.internal/app#a"),
        ("Destination", "http://www.example.org.evil/", None),
        ("Destination", "https://www.example.org/", None),
        ("Destination", "/a", None),
        ("Referer", "http://www.example.org/", None),
    ],
)
def test_a_backend_finds_itself_by_its_own_name(name: str, value: str, shown: str | None) -> None:
    client = TrustedProxies([]).client(Head("GET", parse_target("GET", "/"), "www.Example.org"))
    headers = [("X", "http://www.example.org"), (name, value)]
    expected = [headers[0], (name, value if shown is None else shown)]
    assert renamed(headers, client, "https://old.internal", "/app") == expected


HIDDEN = frozenset(
    {
        ("old.internal", 80),
        ("old.internal", 443),
        ("10.0.0.7", 8080),
        ("tls.internal", 443),
        ("plain.internal", 80),
    }
)
SEEN = PublicOrigin("https", "www.example.org:8443", HIDDEN)
MOVED = PublicOrigin("https", "www.example.org", HIDDEN, "/app")


class TestAddresses:
    """What the backend calls itself becomes what visitors call it."""

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("http://old.internal/a?b#c", "https://www.example.org:8443/a?b#c"),
            ("HTTPS://OLD.internal:443/", "https://www.example.org:8443/"),
            ("https://old.internal", "https://www.example.org:8443"),
            ("http://10.0.0.7:8080?a", "https://www.example.org:8443?a"),
            ("//old.internal/a", "https://www.example.org:8443/a"),
            ("//10.0.0.7:8080/a", "https://www.example.org:8443/a"),
            ("//tls.internal/a", "https://www.example.org:8443/a"),
            ("//plain.internal/a", "https://www.example.org:8443/a"),
            ("http://tls.internal/a", None),
            ("https://plain.internal/a", None),
            ("http://u@old.internal/a", "https://www.example.org:8443/a"),
            ("http://old.internal/a//b", "https://www.example.org:8443/a//b"),
            ("http://old.int\ternal/a", "https://www.example.org:8443/a"),
            ("/a\tb", None),
            ("//10.0.0.7/a", None),
            ("http://10.0.0.7/a", None),
            ("http://old.internal:81/a", None),
            ("http://old.internal.evil/a", None),
            ("http://[::1/a", None),
            ("http://old.internal:x/", None),
            ("mailto:old.internal", None),
            ("ftp://old.internal/", None),
            ("ftp://old.internal:80/", None),
            ("http:old.internal", None),
            ("/a//b", None),
            ("//", None),
            ("", None),
        ],
    )
    def test_a_location(self, value: str, shown: str | None) -> None:
        assert SEEN.url(value) == (value if shown is None else shown)

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("/app/a", "/a"),
            ("/app", "/"),
            ("/app?a", "/?a"),
            ("/app#a", "/#a"),
            ("/apple", "/apple"),
            ("/a/app/b", "/a/app/b"),
            ("/app//evil", "https://www.example.org//evil"),
            ("/app/\\evil", "https://www.example.org/\\evil"),
            ("/app/\t/evil", "https://www.example.org//evil"),
            ("/ap\tp/a", "/a"),
            ("/apple\t", "/apple\t"),
            ("?a", "?a"),
            ("#a", "#a"),
            ("", ""),
            ("http://old.internal/app/a", "https://www.example.org/a"),
            ("http://old.internal/a", "https://www.example.org/a"),
            ("http://other/app/a", "http://other/app/a"),
        ],
    )
    def test_a_prefix_that_visitors_do_not_see(self, value: str, shown: str) -> None:
        assert MOVED.url(value) == shown

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("5; url=http://old.internal/a", "5; url=https://www.example.org:8443/a"),
            ("5;URL = 'http://old.internal/a'", "5;URL = 'https://www.example.org:8443/a'"),
            ("0, http://old.internal/", "0, https://www.example.org:8443/"),
            ("5", "5"),
            ("5; url=/a", "5; url=/a"),
            ('5; "http://old.internal/a" x', '5; "https://www.example.org:8443/a" x'),
            ("5; url=http://old.internal/it's", "5; url=https://www.example.org:8443/it's"),
        ],
    )
    def test_a_refresh(self, value: str, shown: str) -> None:
        assert SEEN.refresh(value) == shown

    def test_links(self) -> None:
        value = '<http://old.internal/a>; rel="<http://old.internal/b>", <//other/>; x="\\">"'
        assert SEEN.links(value) == value.replace(
            "<http://old.internal/a>", "<https://www.example.org:8443/a>"
        )

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("a=b; Domain=old.internal; Path=/", "a=b; Path=/"),
            ("a=b; domain= .OLD.internal", "a=b"),
            ("a=b; Domain = old.internal", "a=b"),  # as browsers read it too
            ("a=b; Domain=internal", "a=b"),
            ("a=b; Domain=example.org", "a=b; Domain=example.org"),
            ("a=b; Domain=www.example.org", "a=b; Domain=www.example.org"),
            ("a=b; Domain=other.test", "a=b; Domain=other.test"),
            ("domain=old.internal; Secure", "domain=old.internal; Secure"),
            ("a=b; Path=/app", "a=b; Path=/app"),
            ("a=b; Domain=other.test; Path = /app", "a=b; Domain=other.test; Path = /app"),
            ("a=b; Domain=example.net", "a=b; Domain=example.net"),
        ],
    )
    def test_a_cookie(self, value: str, shown: str) -> None:
        assert SEEN.cookie(value) == shown

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            ("a=b; Path=/app/x", "a=b; Path=/x"),
            ("a=b; path = /app ; Secure", "a=b; path =/; Secure"),
            ("a=b; Path=/apple", "a=b; Path=/apple"),
            ("path=/app; Secure", "path=/app; Secure"),
            ("a=b; Path=/app/c=d", "a=b; Path=/c=d"),
        ],
    )
    def test_the_path_of_a_cookie(self, value: str, shown: str) -> None:
        assert MOVED.cookie(value) == shown

    def test_all_headers_with_addresses_are_looked_into_and_no_others(self) -> None:
        url, ours = "http://old.internal/a", "https://www.example.org:8443/a"
        headers = [
            ("X-First", url),
            ("location", url),
            ("Content-Location", url),
            ("Link", f"<{url}>"),
            ("Refresh", f"1; url={url}"),
            ("Set-Cookie", "a=b; Domain=old.internal"),
            ("X-Link", f"<{url}>"),
            ("X-Refresh", f"1; url={url}"),
        ]
        assert to_visitor(headers, SEEN, accel=False) == [
            ("X-First", url),
            ("location", ours),
            ("Content-Location", ours),
            ("Link", f"<{ours}>"),
            ("Refresh", f"1; url={ours}"),
            ("Set-Cookie", "a=b"),
            ("X-Link", f"<{url}>"),
            ("X-Refresh", f"1; url={url}"),
        ]

    @pytest.mark.parametrize("accel", [False, True])
    def test_what_is_for_the_server_in_front_goes_on_only_where_one_stands(
        self, accel: bool
    ) -> None:
        headers = [
            (name, "1") for name in ("X-Accel-Redirect", "X-Sendfile", "X-LIGHTTPD-send-file")
        ]
        assert to_visitor(headers, SEEN, accel=accel) == (headers if accel else [])

    @pytest.mark.parametrize("connection", ["close", "Keep-Alive", "close,\tX-Own", "x-own", ""])
    def test_what_a_response_is_to_be_without(self, connection: str) -> None:
        headers = [("X-Own", "location"), ("Connection", connection)]
        headers += [("Server", "x"), ("Location", "/a")]
        got = to_visitor(headers, SEEN, accel=False, gone=frozenset({"server"}))
        own = [] if "own" in connection.lower() else [("X-Own", "location")]
        assert got == [*own, ("Location", "/a")]


class TestOneAnswer:
    """What answers say of themselves."""

    @pytest.mark.parametrize(
        ("value", "shared"),
        [
            ("public", True),
            ("no-cache, S-MaxAge = 5", True),
            ("max-age=5", False),
            ("private", False),
            ("publicity", False),
            ('no-cache="Set-Cookie, public, X"', False),
        ],
    )
    def test_shared_caches_are_let_in_in_so_many_words(self, value: str, shared: bool) -> None:
        assert is_shared([("X", "public"), ("cache-control", value)]) is shared
        assert not is_shared([("X", value)])

    @pytest.mark.parametrize(
        ("vary", "names", "after"),
        [
            ([], ["Cookie"], ["Cookie"]),
            (["Accept, cookie"], ["Cookie"], ["Accept, cookie"]),
            (["Accept"], ["Cookie", "ACCEPT", "X"], ["Accept", "Cookie, X"]),
            (["*"], ["Cookie"], ["*"]),
            (["Accept"], [], ["Accept"]),
        ],
    )
    def test_what_it_varies_by_is_added(
        self, vary: list[str], names: list[str], after: list[str]
    ) -> None:
        headers = [("X", "Cookie"), *(("vary", one) for one in vary)]
        assert values(vary_on(headers, names), "Vary") == after

    def test_without_a_name_a_split_answer_is_private_and_no_more(self) -> None:
        headers = [("surrogate-control", "1"), ("X", "public"), ("Vary", "A")]
        assert keep_apart(headers, None) == [
            ("X", "public"),
            ("Vary", "A"),
            ("Cache-Control", "private"),
        ]


def test_a_rule_that_only_sets_or_only_removes_counts_too() -> None:
    headers = [("A", "1"), ("B", "2")]
    assert apply_rules(headers, models.ResponseHeaders(remove=("a",))) == [("B", "2")]
    assert apply_rules(headers, models.ResponseHeaders(set={"C": "3"})) == [*headers, ("C", "3")]


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

    @given(
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E) | st.sampled_from("\t/\\"))
    )
    def test_taking_a_prefix_away_never_makes_another_host(self, rest: str) -> None:
        """A path stays a path, or becomes an address of the visitor's own host."""
        origin = PublicOrigin("https", "www.example.org", frozenset(), "/app")
        got = origin.url(f"/app/{rest}")
        assert got.startswith(("https://www.example.org/", "/"))
        assert not got.replace("\t", "").startswith(("//", "/\\"))

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
            (["s-maxage = 5, public\t=1, private =x"], "private"),
            (["No-Store = 1, public"], "No-Store = 1, public"),
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

    def test_only_vary_says_what_an_answer_varies_by(self) -> None:
        assert values(keep_apart([("X", "cookie")], "Cookie"), "Vary") == ["Cookie"]

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

    @given(st.lists(st.sampled_from(["public", "s-maxage", "PRIVATE", "no-cache", "x", "max-age"])))
    def test_no_cache_is_let_in_by_what_has_been_kept_apart(self, names: list[str]) -> None:
        for around in ("%s", "%s = 5", '%s="a, public"', ' %s\t="public, s-maxage=9" '):
            value = ",".join(around % name for name in names)
            assert not is_shared(keep_apart([("cache-control", value)], None))

    @given(HEADERS)
    def test_a_second_time_changes_nothing(self, headers: Headers) -> None:
        once = keep_apart(headers, "Cookie")
        assert sorted(keep_apart(once, "Cookie")) == sorted(once)


def test_the_share_cookie_is_secure_where_the_visitor_is() -> None:
    assert share_cookie("key", secure=True)[1].endswith("; Secure")
    assert "Secure" not in share_cookie("key", secure=False)[1]


@pytest.mark.parametrize("host", ["www.example.org", "www.example.org:8443", "WWW.Example.org"])
def test_a_cookie_for_all_names_of_a_domain_stays_where_the_visitors_is_one_of_them(
    host: str,
) -> None:
    origin = PublicOrigin("https", host, frozenset({("old.example.org", 80), ("x.test", 80)}))
    for domain, kept in (("example.org", True), ("old.example.org", False), ("test", False)):
        value = f"a=b; Domain={domain}"
        assert origin.cookie(value) == (value if kept else "a=b")


def test_a_cookie_of_the_backends_name_goes_where_the_visitor_asked_for_no_host() -> None:
    assert PublicOrigin("http", "", HIDDEN).cookie("a=b; Domain=old.internal") == "a=b"
