"""Cookies of a request arrive as browsers sent them, less our own."""

from __future__ import annotations

import pytest

from tests.proxy.shells.double import Backend
from tests.proxy.shells.serving import Bridge


def test_two_cookie_lines_are_joined_as_browsers_would(bridge: Bridge, backend: Backend) -> None:
    """RFC 9113, 8.2.3: with `; `. gunicorn's `,` would make them one cookie."""
    bridge.ask("GET", "/", "Cookie: a=1; b=2", "Accept: x", "cookie: c=3")
    assert backend.only().all("Cookie") == ["a=1; b=2; c=3"]


@pytest.mark.parametrize(
    "value",
    [
        "a=1,b=2",
        "a=1, b=2",
        'a="x,y=z"',
        "a=; b=2",
        "=nameless",
        "flag",
        "a=1;b=2;  c=3;",
        "caf\xe9=\xfc",
        "a=b=c==",
        "x[y]=1; x[y]=2",
    ],
)
def test_a_cookie_line_is_not_touched(bridge: Bridge, backend: Backend, value: str) -> None:
    bridge.ask("GET", "/", f"Cookie: {value}")
    assert backend.only().all("Cookie") == [value]


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("bridge_share=abcdefgh; a=1", ["a=1"]),
        ("a=1; bridge_preview=x; b=2", ["a=1; b=2"]),
        ("a=1; bridge_share=abcdefgh", ["a=1"]),
        ("bridge_share=abcdefgh", []),
        ("a=bridge_share; my_bridge_share=1", ["a=bridge_share; my_bridge_share=1"]),
    ],
)
def test_our_own_cookies_are_not_for_legacy(
    bridge: Bridge, backend: Backend, sent: str, received: list[str]
) -> None:
    bridge.ask("GET", "/", f"Cookie: {sent}")
    assert backend.only().all("Cookie") == received


def test_a_handler_sees_the_same_cookies(bridge: Bridge, backend: Backend) -> None:
    got = bridge.ask("GET", "/py/shows_head", "Cookie: a=1,b=2", "Cookie: c=3", host="python.test")
    assert b"HTTP_COOKIE=a=1,b=2; c=3" in got.body.splitlines()
