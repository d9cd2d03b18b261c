"""A tester's signed cookie that picks the side for one browser.

Pure but for the secret it is given. `bridgectl preview` makes the cookie,
`bridge.proxy.decision.decide` reads it. A forged, broken or expired cookie counts for nothing.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

from itsdangerous import BadData, URLSafeSerializer

from bridge.errors import PreviewUnavailable
from bridge.proxy.request.cookies import PREVIEW_COOKIE

if TYPE_CHECKING:
    from bridge.proxy.request.head import Head
    from bridge.proxy.routing.table import Route

__all__ = [
    "EVERY_ROUTE",
    "LONGEST",
    "NO_SECRET",
    "is_ignored",
    "make",
    "picked",
    "side_for",
]

EVERY_ROUTE = "*"
LONGEST = 400 * 86400.0
"""Seconds that a cookie lasts at most: browsers keep none for longer than 400 days."""
NO_SECRET = "preview cookie ignored: BRIDGE_SECRET is not set"  # noqa: S105 - it is a message
"""What the log and `bridgectl explain` say of a cookie that nobody can verify."""
Side = Literal["python", "legacy"]


def _serializer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(
        secret, salt="bridge.preview", signer_kwargs={"digest_method": hashlib.sha256}
    )


def make(secret: str, side: Side, share_key: str, expires: int) -> str:
    """Value of the cookie.

    share_key: that of a route or group (`Route.share_key`), or EVERY_ROUTE.
    expires: Unix seconds.

    Raises PreviewUnavailable without a secret.
    """
    if not secret:
        raise PreviewUnavailable(
            "no secret to sign with: set BRIDGE_SECRET or BRIDGE_SECRET_FILE for `bridgectl serve` "
            "and for this command, for example to the output of `openssl rand -hex 32`"
        )
    value = _serializer(secret).dumps([side, share_key, expires])
    return value if isinstance(value, str) else value.decode()


def is_ignored(secret: str, route: Route | None, head: Head) -> bool:
    """Whether `head` has a preview cookie for a side of `route` that no secret can verify."""
    if secret or route is None or route.app is None:
        return False
    return bool(head.cookie(PREVIEW_COOKIE))


def side_for(secret: str, value: str, share_key: str, now: float) -> Side | None:
    """The side that the cookie `value` picks, or None.

    share_key: of the route that is asked for.
    now: Unix seconds.
    """
    if not secret or len(value) > 512:
        return None
    try:
        side, key, expires = _serializer(secret).loads(value)
    except (BadData, ValueError, TypeError):
        return None
    if key not in (share_key, EVERY_ROUTE) or not isinstance(expires, int) or expires <= now:
        return None
    return side if side in ("python", "legacy") else None


_MOST = 8  # cookies of one request that are verified


def picked(secret: str, head: Head, share_key: str, now: float) -> Side | None:
    """The side that a cookie of `head` picks, or None. One that counts for nothing does not hide
    another one.

    share_key, now: as for `side_for`.
    """
    first = head.cookie(PREVIEW_COOKIE)
    if first is None:
        return None
    side = side_for(secret, first, share_key, now)
    if side is None:
        others = [value for name, value in head.cookies() if name == PREVIEW_COOKIE][1:_MOST]
        sides = (side_for(secret, value, share_key, now) for value in others)
        side = next(filter(None, sides), None)
    return side
