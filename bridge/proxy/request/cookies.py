"""The cookies of our own, in requests and in answers. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from bridge.proxy.request.head import Headers

__all__ = [
    "PREVIEW_COOKIE",
    "SHARE_COOKIE",
    "TRAIL_COOKIE",
    "end_cookie",
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


def end_cookie(cookie: str) -> tuple[str, str]:
    """The Set-Cookie header that takes the cookie of this name, set for `/`, from a visitor."""
    return "Set-Cookie", f"{cookie}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"
