"""A tester's cookie: what it picks, and what counts for nothing."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from bridge.errors import PreviewUnavailable
from bridge.proxy.decision.preview import (
    EVERY_ROUTE,
    LONGEST,
    Side,
    _serializer,
    is_ignored,
    make,
    picked,
    side_for,
)
from bridge.proxy.request.cookies import PREVIEW_COOKIE
from tests.proxy.site import head, route, table

RANDOM = base64.b64encode(hashlib.shake_256(b"this can hardly be packed").digest(400)).decode()
SIDES = st.sampled_from(["python", "legacy"])


@given(SIDES, st.text(max_size=20), st.integers(1, 10**10), st.text(min_size=1, max_size=20))
def test_a_cookie_picks_its_side_until_it_expires(
    side: Side, share_key: str, expires: int, secret: str
) -> None:
    cookie = make(secret, side, share_key, expires)
    assert side_for(secret, cookie, share_key, expires - 0.5) == side
    assert side_for(secret, cookie, share_key, expires) is None
    assert side_for(secret, cookie, share_key + "x", expires - 0.5) in (
        (side,) if share_key == EVERY_ROUTE else (None,)
    )
    assert side_for(secret + "x", cookie, share_key, expires - 0.5) is None
    assert side_for("", cookie, share_key, expires - 0.5) is None


def test_a_cookie_for_every_route_picks_on_every_route() -> None:
    cookie = make("s3cret", "legacy", EVERY_ROUTE, 2000)
    assert side_for("s3cret", cookie, "route:any", 1000) == "legacy"


def test_a_cookie_is_text_that_needs_no_quotes() -> None:
    assert (
        make("s3cret", "python", "route:page", 2000)
        .replace(".", "-")
        .replace("_", "-")
        .replace("-", "")
        .isalnum()
    )


def test_without_a_secret_there_is_no_cookie() -> None:
    with pytest.raises(PreviewUnavailable, match="set BRIDGE_SECRET"):
        make("", "python", "route:page", 2000)


def test_without_a_secret_nobody_can_sign() -> None:
    """What is signed with the empty text is signed by anybody."""
    value = _serializer("").dumps(["python", EVERY_ROUTE, 2000])
    assert isinstance(value, str)
    assert side_for("", value, "route:page", 1000) is None


@pytest.mark.parametrize(
    "content",
    [
        ["both", "route:page", 2000],
        ["python", "route:page", "2000"],
        ["python", "route:page", 2000.5],
        ["python", "route:page", None],
        ["python", "route:page"],
        ["python", "route:page", 2000, 1],
        [["python"], "route:page", 2000],
        "python",
        17,
        None,
    ],
)
def test_what_is_signed_and_says_something_else_counts_for_nothing(content: Any) -> None:
    value = _serializer("s3cret").dumps(content)
    assert isinstance(value, str)
    assert side_for("s3cret", value, "route:page", 1000) is None


def test_what_the_secret_has_signed_elsewhere_counts_for_nothing() -> None:
    value = URLSafeSerializer("s3cret").dumps(["python", "route:page", 2000])
    assert isinstance(value, str)
    assert side_for("s3cret", value, "route:page", 1000) is None


def test_a_cookie_of_more_than_512_characters_is_not_looked_at() -> None:
    """Verifying costs time, and a visitor can send much."""
    sides: dict[int, set[Side | None]] = {}
    for number in range(280, 480):  # of a text that can hardly be packed
        key = RANDOM[:number]
        for expires in (2000, 20_000, 200_000):
            cookie = make("s3cret", "python", key, expires)
            sides.setdefault(len(cookie), set()).add(side_for("s3cret", cookie, key, 1000))
    assert {512, 513} <= set(sides)
    for length, found in sides.items():
        assert found == ({"python"} if length <= 512 else {None})


GOOD = make("s3cret", "python", "route:page", 2000)


@pytest.mark.parametrize(
    ("before", "side"), [(0, "python"), (1, "python"), (2, "python"), (7, "python"), (8, None)]
)
def test_of_many_cookies_eight_are_verified(before: int, side: Side | None) -> None:
    cookies = "; ".join([f"{PREVIEW_COOKIE}=x"] * before + ["other=1", f"{PREVIEW_COOKIE}={GOOD}"])
    assert picked("s3cret", head("/p", Cookie=cookies), "route:page", 1000) == side


def test_only_cookies_of_this_name_pick_a_side() -> None:
    for cookies in (f"other={GOOD}", f"{PREVIEW_COOKIE}=x; other={GOOD}", ""):
        assert picked("s3cret", head("/p", Cookie=cookies), "route:page", 1000) is None


@pytest.mark.parametrize(
    ("secret", "path", "cookie", "ignored"),
    [
        ("", "/p", "x", True),
        ("s3cret", "/p", "x", False),
        ("", "/p", "", False),
        ("", "/l", "x", False),
        ("", "/none", "x", False),
    ],
)
def test_a_cookie_is_ignored_where_it_could_have_picked_a_side_and_nobody_can_verify_it(
    secret: str, path: str, cookie: str, ignored: bool
) -> None:
    ours = table(route("page", "/p"), 'name: old, path: "/l"')
    request = head(path, Cookie=f"{PREVIEW_COOKIE}={cookie}") if cookie else head(path)
    found, _ = ours.look_up(request, "forge")
    assert is_ignored(secret, found[0] if found else None, request) is ignored


def test_browsers_keep_no_cookie_for_longer_than_400_days() -> None:
    assert LONGEST == 400 * 24 * 60 * 60
