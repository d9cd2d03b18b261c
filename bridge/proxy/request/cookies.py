"""The cookies of our own, in requests and in answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from bridge.proxy.request.head import Headers

__all__ = [
    "PREVIEW_COOKIE",
    "SHARE_COOKIE",
    "TRAIL_COOKIE",
    "cookie_given",
    "end_cookie",
    "fresh_cookie",
    "given_anew",
    "hide_cookie",
    "sets_cookie",
    "share_cookie",
    "trail_cookie",
    "without_ours",
]

SHARE_COOKIE = "bridge_share"
"""Keeps a visitor on one side; its value is a random key."""

PREVIEW_COOKIE = "bridge_preview"
"""Picks a side for a tester's browser, see `bridge.proxy.decision.preview`."""

TRAIL_COOKIE = "bridge_trail"
"""Carries a visitor's redirects to the next request, see `bridge.proxy.decision.loopguard`."""

_OURS = frozenset((SHARE_COOKIE, PREVIEW_COOKIE, TRAIL_COOKIE))


def without_ours(value: str) -> str:
    """`value` of a Cookie header without those of our own."""
    return _without(value, _OURS)


def _without(value: str, names: Collection[str]) -> str:
    kept = [pair for pair in value.split(";") if pair.partition("=")[0].strip() not in names]
    return ";".join(kept).strip()


def hide_cookie(headers: Headers, cookie: str) -> Headers:
    """`headers` of a request without the cookie of this name."""
    shown: Headers = []
    for name, value in headers:
        if name.lower() == "cookie":
            value = _without(value, (cookie,))
            if not value:
                continue
        shown.append((name, value))
    return shown


def share_cookie(key: str, *, secure: bool) -> tuple[str, str]:
    """The Set-Cookie header that gives a visitor their key, for a year."""
    attributes = "Max-Age=31536000; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
    return "Set-Cookie", f"{SHARE_COOKIE}={key}; {attributes}"


def trail_cookie(value: str, seconds: float, domain: str) -> tuple[str, str]:
    """The Set-Cookie header that lets a visitor carry their trail; `seconds` 0 ends it. It is not
    `Secure`: a loop between http and https is one."""
    where = f"; Domain={domain}" if domain else ""
    attributes = f"Max-Age={math.ceil(seconds)}; Path=/; HttpOnly; SameSite=Lax{where}"
    return "Set-Cookie", f"{TRAIL_COOKIE}={value}; {attributes}"


def sets_cookie(headers: Headers, cookie: str) -> bool:
    """Whether a response gives the visitor a cookie of this name."""
    return any(
        name.lower() == "set-cookie" and value.partition("=")[0].strip() == cookie
        for name, value in headers
    )


def cookie_given(headers: Headers, cookie: str) -> list[tuple[str, str]]:
    """What a response gives the visitor as the cookie of this name: each value, and its
    attributes as they are written."""
    found = []
    for name, value in headers:
        if name.lower() == "set-cookie" and value.partition("=")[0].strip() == cookie:
            given, _, attributes = value.partition("=")[2].partition(";")
            found.append((given.strip(), attributes.strip()))
    return found


def given_anew(cookie: str, value: str, attributes: str) -> tuple[str, str]:
    """The Set-Cookie header with another value and the attributes that legacy gave it."""
    return "Set-Cookie", f"{cookie}={value}" + (f"; {attributes}" if attributes else "")


def fresh_cookie(cookie: str, value: str, seconds: int, *, secure: bool) -> tuple[str, str]:
    """The Set-Cookie header that gives a visitor this cookie for `/`.

    seconds: for which it counts.
    """
    attributes = f"Max-Age={seconds}; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" * secure)
    return "Set-Cookie", f"{cookie}={value}; {attributes}"


def end_cookie(cookie: str) -> tuple[str, str]:
    """The Set-Cookie header that takes the cookie of this name, set for `/`, from a visitor."""
    return "Set-Cookie", f"{cookie}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
