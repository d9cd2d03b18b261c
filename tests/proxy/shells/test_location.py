"""Addresses in answers are the visitor's: the backend's own name never shows."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend, plain
from tests.proxy.shells.serving import Bridge


def told(bridge: Bridge, backend: Backend, host: str, line: str) -> str | None:
    """What the visitor of `host` gets of this header of legacy. @PORT@ is legacy's port."""
    backend.when("/", plain("302 Found", line.replace("@PORT@", str(backend.port))))
    backend.when("/app/", plain("302 Found", line.replace("@PORT@", str(backend.port))))
    return bridge.ask("GET", "/", host=host).get(line.partition(":")[0])


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("host", "value", "seen"),
    [
        ("main.test", "http://127.0.0.1:@PORT@/a?b=c#d", "http://main.test/a?b=c#d"),
        ("main.test", "http://127.0.0.1:@PORT@", "http://main.test"),
        ("main.test", "HTTP://127.0.0.1:@PORT@/A", "http://main.test/A"),
        ("main.test", "//127.0.0.1:@PORT@/a", "http://main.test/a"),
        ("main.test:8080", "http://127.0.0.1:@PORT@/a", "http://main.test:8080/a"),
        ("named.test", "http://legacy.internal/a", "http://named.test/a"),
        ("named.test", "http://LEGACY.internal:80/a", "http://named.test/a"),
        ("named.test", "//legacy.internal/a", "http://named.test/a"),
        (
            "named.test",
            "https://legacy.internal/a?u=http://x/",
            "https://legacy.internal/a?u=http://x/",
        ),
        ("main.test", "/a/b", "/a/b"),
        ("main.test", "b?c", "b?c"),
        ("main.test", "../b", "../b"),
        ("main.test", "?page=2", "?page=2"),
        ("main.test", "", ""),
        ("main.test", "https://other.example/a", "https://other.example/a"),
        ("main.test", "http://127.0.0.1:1/a", "http://127.0.0.1:1/a"),
        ("main.test", "http://main.test/a", "http://main.test/a"),
        ("main.test", "//other.example/a", "//other.example/a"),
        ("main.test", "mailto:a@b.example", "mailto:a@b.example"),
        ("main.test", "http://[broken/", "http://[broken/"),
        ("main.test", "/caf\xe9%2F?x=%zz", "/caf\xe9%2F?x=%zz"),
        ("prefixed.test", "/app/a?b", "/a?b"),
        ("prefixed.test", "/app", "/"),
        ("prefixed.test", "/app?b", "/?b"),
        ("prefixed.test", "/application/a", "/application/a"),
        ("prefixed.test", "/other", "/other"),
        ("prefixed.test", "a/app/b", "a/app/b"),
        ("prefixed.test", "http://127.0.0.1:@PORT@/app/a", "http://prefixed.test/a"),
        ("prefixed.test", "http://other.example/app/a", "http://other.example/app/a"),
        ("both.test", "http://legacy.internal/app/a", "http://both.test/a"),
    ],
)
def test_a_location_is_the_visitors(
    bridge: Bridge, backend: Backend, name: str, host: str, value: str, seen: str
) -> None:
    assert told(bridge, backend, host, f"{name}: {value}") == seen


@pytest.mark.parametrize("value", ["/app//other.example/a", "/app/\\other.example/a"])
def test_taking_the_prefix_away_does_not_make_another_host(
    bridge: Bridge, backend: Backend, value: str
) -> None:
    """`//other.example/a` would be a redirect to a stranger, made by us."""
    seen = told(bridge, backend, "prefixed.test", f"Location: {value}")
    assert seen == f"http://prefixed.test{value.removeprefix('/app')}"


def test_a_location_has_the_scheme_of_the_visitor(trusting: Bridge, backend: Backend) -> None:
    """They came by https to the proxy in front of us."""
    backend.when("/", plain("302 Found", f"Location: http://127.0.0.1:{backend.port}/a"))
    lines = ["X-Forwarded-Proto: https", "X-Forwarded-Host: www.example.org"]
    assert trusting.ask("GET", "/", *lines).get("Location") == "https://www.example.org/a"


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("5; url=http://127.0.0.1:@PORT@/a", "5; url=http://main.test/a"),
        ("5;URL=http://127.0.0.1:@PORT@/a", "5;URL=http://main.test/a"),
        ("0; url='http://127.0.0.1:@PORT@/a'", "0; url='http://main.test/a'"),
        ('0; Url = "http://127.0.0.1:@PORT@/a"', '0; Url = "http://main.test/a"'),
        ("5, http://127.0.0.1:@PORT@/a;b", "5, http://main.test/a;b"),
        ("5", "5"),
        ("5; url=/a", "5; url=/a"),
        ("5; url=http://other.example/", "5; url=http://other.example/"),
    ],
)
def test_a_refresh_is_the_visitors(bridge: Bridge, backend: Backend, value: str, seen: str) -> None:
    assert told(bridge, backend, "main.test", f"Refresh: {value}") == seen


@pytest.mark.parametrize(
    ("host", "value", "seen"),
    [
        ("named.test", "a=1; Domain=legacy.internal; Path=/", "a=1; Path=/"),
        ("named.test", "a=1; path=/; DOMAIN=.Legacy.Internal", "a=1; path=/"),
        ("named.test", "a=1; Domain=internal", "a=1"),
        ("named.test", "a=1; Domain=named.test", "a=1; Domain=named.test"),
        ("named.test", "a=1; Domain=.test; HttpOnly", "a=1; Domain=.test; HttpOnly"),
        ("named.test", "a=1; Domain=other.example", "a=1; Domain=other.example"),
        ("named.test", "a=Domain=legacy.internal", "a=Domain=legacy.internal"),
        ("named.test", "a=1;Path=/app;  Secure", "a=1;Path=/app;  Secure"),
        ("main.test", "a=1; Domain=127.0.0.1", "a=1"),
        ("prefixed.test", "a=1; Path=/app/forum; Secure", "a=1; Path=/forum; Secure"),
        ("prefixed.test", "a=1; path=/app", "a=1; path=/"),
        ("prefixed.test", "a=1; Path=/application", "a=1; Path=/application"),
        ("prefixed.test", "a=1", "a=1"),
        ("prefixed.test", "path=/app; Path=/", "path=/app; Path=/"),
    ],
)
def test_a_cookie_belongs_to_the_visitors_host(
    bridge: Bridge, backend: Backend, host: str, value: str, seen: str
) -> None:
    """Without Domain a cookie belongs to the host that the visitor asked."""
    assert told(bridge, backend, host, f"Set-Cookie: {value}") == seen
