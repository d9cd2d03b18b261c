"""Who the visitor is: said by us, and by those in front of us only if we trust them."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend
from tests.proxy.shells.serving import Bridge

INVENTED = [
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: other.example",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Prefix: /admin",
    "X-Forwarded-Anything: 1",
    "Forwarded: for=203.0.113.9;proto=https;host=other.example",
    "X-Real-IP: 203.0.113.9",
    "True-Client-IP: 203.0.113.9",
    "X-Client-IP: 203.0.113.9",
    "Client-IP: 203.0.113.9",
    "X-Cluster-Client-IP: 203.0.113.9",
    "X-Forwarded: for=203.0.113.9",
    "Forwarded-For: 203.0.113.9",
    "CF-Connecting-IP: 203.0.113.9",
    "X-Original-Host: other.example",
    "X-Original-Forwarded-For: 203.0.113.9",
    "Front-End-Https: on",
    "X-Forwarded-Ssl: on",
]


def test_legacy_is_told_who_asks(bridge: Bridge, backend: Backend) -> None:
    bridge.ask("GET", "/", host="main.test:8080")
    received = backend.only()
    assert received.all("X-Forwarded-For") == ["127.0.0.1"]
    assert received.all("X-Forwarded-Proto") == ["http"]
    assert received.all("X-Forwarded-Host") == ["main.test:8080"]
    assert received.all("Forwarded") == ['for=127.0.0.1;proto=http;host="main.test:8080"']


def test_what_a_visitor_invents_is_dropped(bridge: Bridge, backend: Backend) -> None:
    bridge.ask("GET", "/seen", *INVENTED)
    received = backend.only()
    assert received.all("X-Forwarded-For") == ["127.0.0.1"]
    assert received.all("X-Forwarded-Proto") == ["http"]
    assert received.all("X-Forwarded-Host") == ["main.test"]
    assert received.all("Forwarded") == ["for=127.0.0.1;proto=http;host=main.test"]
    assert b"203.0.113.9" not in received.raw
    assert b"other.example" not in received.raw
    assert received.get("X-Forwarded-Port") is None
    assert received.get("Front-End-Https") is None
    assert bridge.outcome("/seen")["client"] == "127.0.0.1"


def test_a_handler_does_not_see_them_either(bridge: Bridge, backend: Backend) -> None:
    got = bridge.ask("GET", "/py/shows_head", *INVENTED, host="python.test")
    lines = got.body.decode().splitlines()
    assert "REMOTE_ADDR=127.0.0.1" in lines
    assert "wsgi.url_scheme=http" in lines
    assert b"203.0.113.9" not in got.body


def test_a_trusted_proxy_is_believed(trusting: Bridge, backend: Backend) -> None:
    trusting.ask(
        "GET",
        "/seen",
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: www.example.org",
        "X-Real-IP: 203.0.113.9",
    )
    received = backend.only()
    assert received.all("X-Forwarded-For") == ["203.0.113.9, 127.0.0.1"]
    assert received.all("X-Forwarded-Proto") == ["https"]
    assert received.all("X-Forwarded-Host") == ["www.example.org"]
    assert received.all("Forwarded") == [
        "for=203.0.113.9, for=127.0.0.1;proto=https;host=www.example.org"
    ]
    assert received.all("X-Real-IP") == ["203.0.113.9"]
    assert trusting.outcome("/seen")["client"] == "203.0.113.9"


def test_what_a_visitor_told_a_trusted_proxy_is_not_believed(
    trusting: Bridge, backend: Backend
) -> None:
    """From the right: what trusted proxies added, then who asked the first of them. Further
    left is what that visitor claims, and goes nowhere."""
    trusting.ask("GET", "/seen", "X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.1.2.3")
    received = backend.only()
    assert received.all("X-Forwarded-For") == ["203.0.113.9, 10.1.2.3, 127.0.0.1"]
    assert trusting.outcome("/seen")["client"] == "203.0.113.9"


def test_several_lines_of_a_trusted_proxy_are_one_list(trusting: Bridge, backend: Backend) -> None:
    trusting.ask("GET", "/seen", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 10.1.2.3")
    assert backend.only().all("X-Forwarded-For") == ["203.0.113.9, 10.1.2.3, 127.0.0.1"]


@pytest.mark.parametrize(
    "value", ["unknown", "203.0.113.9, unknown", "1.2.3.4:x", "<script>", "", ",", "_a"]
)
def test_what_is_no_address_is_not_believed_from_anybody(
    trusting: Bridge, backend: Backend, value: str
) -> None:
    trusting.ask("GET", "/seen", f"X-Forwarded-For: {value}")
    assert backend.only().all("X-Forwarded-For") == ["127.0.0.1"]
    assert trusting.outcome("/seen")["client"] == "127.0.0.1"


WRITTEN = [
    ("203.0.113.7:17085", "203.0.113.7"),
    ("203.0.113.7,", "203.0.113.7"),
    (", 203.0.113.7 ,, ", "203.0.113.7"),
    ("[2001:db8::7]", "2001:db8::7"),
    ("[2001:DB8::7]:443", "2001:db8::7"),
    ("fe80::7%eth0", "fe80::7"),
    ('fe80::7%";proto=https;host=other.example', "fe80::7"),
]


@pytest.mark.parametrize(("value", "address"), WRITTEN)
def test_an_address_may_be_written_in_several_ways(
    trusting: Bridge, backend: Backend, value: str, address: str
) -> None:
    """Azure and IIS add the port. Everybody gets the plain address: legacy, the log, handlers."""
    trusting.ask("GET", "/seen", f"X-Forwarded-For: {value}")
    received = backend.only()
    node = f'"[{address}]"' if ":" in address else address
    assert received.all("X-Forwarded-For") == [f"{address}, 127.0.0.1"]
    assert received.all("Forwarded") == [f"for={node}, for=127.0.0.1;proto=http;host=main.test"]
    assert trusting.outcome("/seen")["client"] == address


FORWARDED = [
    ("for=203.0.113.7;proto=https;host=www.example.org", "203.0.113.7", "https"),
    ('For="[2001:db8::7]:4711" ; Proto=https', "2001:db8::7", "https"),
    (
        'for=6.6.6.6, for="203.0.113.7:80";proto=http, for=10.1.1.1;proto=https',
        "203.0.113.7",
        "https",
    ),
    ("for=203.0.113.7", "203.0.113.7", "http"),
    ('for=203.0.113.7;by="a;b,c"', "203.0.113.7", "http"),
    ("for=_hidden;proto=https", "127.0.0.1", "https"),
    ('for="203.0.113.7;proto=https', "127.0.0.1", "http"),
]


@pytest.mark.parametrize(("value", "address", "scheme"), FORWARDED)
def test_a_trusted_proxy_may_say_it_in_forwarded_alone(
    trusting: Bridge, backend: Backend, value: str, address: str, scheme: str
) -> None:
    trusting.ask("GET", "/seen", f"Forwarded: {value}")
    assert backend.only().all("X-Forwarded-Proto") == [scheme]
    assert trusting.outcome("/seen")["client"] == address


def test_forwarded_beside_other_headers_of_the_proxy_is_the_visitors(
    trusting: Bridge, backend: Backend
) -> None:
    """A proxy that writes X-Forwarded-For hands on the visitor's Forwarded as it came."""
    trusting.ask(
        "GET", "/seen", "X-Forwarded-For: 203.0.113.7", "Forwarded: for=6.6.6.6;proto=https"
    )
    assert backend.only().all("X-Forwarded-Proto") == ["http"]
    assert trusting.outcome("/seen")["client"] == "203.0.113.7"


@pytest.mark.parametrize("line", ["X-Forwarded-Ssl: on", "Front-End-Https: On"])
def test_a_trusted_proxy_may_say_https_in_older_words(
    trusting: Bridge, backend: Backend, line: str
) -> None:
    trusting.ask("GET", "/", "X-Forwarded-For: 203.0.113.7", line)
    trusting.ask("GET", "/", "X-Forwarded-Proto: http", line)
    assert [r.get("X-Forwarded-Proto") for r in backend.received] == ["https", "http"]


def test_an_ipv6_visitor_is_quoted_in_forwarded(trusting: Bridge, backend: Backend) -> None:
    """RFC 7239, section 6."""
    trusting.ask("GET", "/", "X-Forwarded-For: 2001:db8::1")
    assert backend.only().all("Forwarded") == [
        'for="[2001:db8::1]", for=127.0.0.1;proto=http;host=main.test'
    ]


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("X-Forwarded-Proto: gopher", "X-Forwarded-Proto", "http"),
        ("X-Forwarded-Proto: http, https", "X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host: a b", "X-Forwarded-Host", "main.test"),
        ("X-Forwarded-Host: first.example, WWW.example.org", "X-Forwarded-Host", "www.example.org"),
    ],
)
def test_a_trusted_proxy_must_make_sense(
    trusting: Bridge, backend: Backend, line: str, name: str, value: str
) -> None:
    trusting.ask("GET", "/", line)
    assert backend.only().all(name) == [value]


def test_a_trusted_proxy_cannot_pick_the_site(trusting: Bridge, backend: Backend) -> None:
    """That is the Host header's."""
    assert (
        trusting.ask("GET", "/", "X-Forwarded-Host: main.test", host="other.example").status == 421
    )
    trusting.ask("GET", "/", "X-Forwarded-Host: other.example", host="named.test")
    assert backend.only().all("Host") == ["legacy.internal"]


def test_a_trusted_proxys_request_id_is_kept(trusting: Bridge, backend: Backend) -> None:
    trusting.ask("GET", "/id", "X-Request-Id: 0123456789abcdef")
    assert backend.only().all("X-Request-Id") == ["0123456789abcdef"]
    assert trusting.outcome("/id")["request_id"] == "0123456789abcdef"


@pytest.mark.parametrize("value", ["short", "with space in it", "x" * 200, "new\tline-and-more"])
def test_a_request_id_that_makes_no_sense_is_replaced(
    trusting: Bridge, backend: Backend, value: str
) -> None:
    trusting.ask("GET", "/", f"X-Request-Id: {value}")
    assert backend.only().all("X-Request-Id") != [value]
