"""The cookies of our own: not shown to legacy, and given to visitors whole."""

from __future__ import annotations

import pytest

from bridge.proxy.request.cookies import (
    end_cookie,
    hide_cookie,
    sets_cookie,
    share_cookie,
    trail_cookie,
    without_ours,
)


@pytest.mark.parametrize(
    ("value", "left"),
    [
        ("a=1; bridge_share=x; b=2", "a=1; b=2"),
        (" bridge_preview = x", ""),
        ("bridge_trail=x;bridge_share", ""),
        ("bridge_other=1;  a=bridge_share", "bridge_other=1;  a=bridge_share"),
    ],
)
def test_our_own_go_and_the_others_stay_as_they_are(value: str, left: str) -> None:
    assert without_ours(value) == left


@pytest.mark.parametrize(
    ("cookies", "left"),
    [
        (["a=1; b=2"], ["b=2"]),
        (["a=1"], []),
        (["b=2;a=1;  c=3"], ["b=2;  c=3"]),
        (["b=a=1", "a=1; c=3"], ["b=a=1", "c=3"]),
    ],
)
def test_a_cookie_is_hidden_and_the_others_stay(cookies: list[str], left: list[str]) -> None:
    headers = [("Accept", "a=1"), *(("COOKIE", one) for one in cookies)]
    assert hide_cookie(headers, "a") == [("Accept", "a=1"), *(("COOKIE", one) for one in left)]


@pytest.mark.parametrize(
    ("name", "value", "sets"),
    [
        ("Set-Cookie", "uid=1; Path=/", True),
        ("set-cookie", " uid = 1", True),
        ("Set-Cookie", "uid2=1", False),
        ("Set-Cookie", "a=1; uid=1", False),
        ("Cookie", "uid=1", False),
    ],
)
def test_a_cookie_is_set(name: str, value: str, sets: bool) -> None:
    assert sets_cookie([("X", "1"), (name, value)], "uid") is sets


def test_the_cookies_of_our_own_are_for_the_whole_site_and_not_for_scripts() -> None:
    rest = "Path=/; HttpOnly; SameSite=Lax"
    assert share_cookie("k", secure=False) == (
        "Set-Cookie",
        f"bridge_share=k; Max-Age=31536000; {rest}",
    )
    assert trail_cookie("v", 9.2, "") == ("Set-Cookie", f"bridge_trail=v; Max-Age=10; {rest}")
    assert trail_cookie("", 0, "a.test") == (
        "Set-Cookie",
        f"bridge_trail=; Max-Age=0; {rest}; Domain=a.test",
    )
    assert end_cookie("uid") == ("Set-Cookie", f"uid=; Max-Age=0; {rest}")


def test_the_share_cookie_is_secure_where_the_visitor_is() -> None:
    assert share_cookie("key", secure=True)[1].endswith("; Secure")
