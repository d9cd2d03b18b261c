"""Who answers: (table, head, now) -> Decision.

Pure: no I/O, and the clock, the randomness and the secret are given. Both shells, and
`bridgectl explain`, call this one. When in doubt, legacy answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.errors import VisitorError
from bridge.proxy.decision import preview
from bridge.proxy.decision.buckets import ALL, bucket, inside
from bridge.proxy.request.cookies import PREVIEW_COOKIE, SHARE_COOKIE
from bridge.proxy.request.forwarded import Client
from bridge.proxy.request.head import Head
from bridge.proxy.routing import models
from bridge.proxy.routing.table import Route, RouteTable
from bridge.reasons import Reason

__all__ = [
    "PYTHON",
    "Decider",
    "Decision",
    "by_bucket",
    "for_everybody",
    "not_ours",
    "site_of",
]

PYTHON = "python"
"""Name of the Python side where the name of a backend is asked for."""

_KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")


@dataclass(frozen=True, slots=True)
class Decision:
    """Who answers a request, and why.

    `backend` is PYTHON or the name of the legacy backend; `legacy` is the backend that answers when
    Python does not. `detail` is for people. `set_key` is the value of a new SHARE_COOKIE to give to
    the visitor. `split` means that other visitors may get the other side for this URL, so no shared
    cache may keep it; `vary` is the request header that the choice depends on. `conditions` are the
    request headers that decided which route it is. `rules` are the changes to the headers of the
    answer, whoever gives it: the same object for the same site and route of a table.
    """

    site: str
    backend: str
    legacy: str
    reason: Reason
    detail: str = ""
    route: Route | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    bucket: int | None = None
    set_key: str | None = None
    split: bool = False
    vary: str | None = None
    conditions: tuple[str, ...] = ()
    rules: models.ResponseHeaders = field(default_factory=models.ResponseHeaders)

    @property
    def python(self) -> bool:
        return self.backend == PYTHON


def site_of(table: RouteTable, head: Head) -> str:
    """The site that the Host header names. Raises VisitorError: 400 malformed, 421 not ours."""
    site = table.hosts.owner(head.host)
    if site is None:
        raise not_ours(head.host)
    return site


def not_ours(host: str) -> VisitorError:
    """What a visitor is told who asks for a host that no site has."""
    return VisitorError(421, f"host {host!r} is on no site's list")


def for_everybody(route: Route) -> tuple[str, Reason, str] | None:
    """The side that a route has for every visitor without a preview, PYTHON or `legacy`, with the
    reason and its detail; None where each visitor's bucket decides."""
    if route.app is None:
        return "legacy", Reason.NO_HANDLER if route.handler else Reason.LEGACY_ROUTE, ""
    if route.share == 0:
        return "legacy", Reason.SHARE, "0%"
    if route.share == ALL:
        return PYTHON, Reason.SHARE, "100%"
    return None


def by_bucket(number: int, share: int) -> tuple[str, str]:
    """The side of the visitors in bucket `number`, PYTHON or `legacy`, and that in words. share:
    in thousandths of a percent."""
    side = PYTHON if inside(number, share) else "legacy"
    place = "in" if side == PYTHON else "not in"
    return side, f"bucket {number / 1000:g}% is {place} {share / 1000:g}%"


_Split = tuple[str, Route, Mapping[str, Any], tuple[str, ...], models.ResponseHeaders]
_REMEMBERED = 4096  # paths
_LONGEST = 256  # characters of one


class Decider:
    """Decides by one table. What it has found out for a path is remembered, for all who ask."""

    __slots__ = ("_memo", "table")

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self._memo: dict[tuple[str, str, str | None], Decision | _Split] = {}

    def decide(
        self, head: Head, client: Client, now: float, fresh_key: str, secret: str = ""
    ) -> Decision:
        """Decide one request.

        now: Unix seconds.
        fresh_key: a random key for a visitor who has none.
        secret: verifies preview cookies.

        Raises VisitorError with status 421 for a host that is not ours.
        """
        place = head.host, head.method, head.target.path
        standing = self._memo.get(place)
        if standing is None:
            standing = self._look_up(head, place)
        if isinstance(standing, Decision):
            route = standing.route
            if route is None or route.app is None or head.cookie(PREVIEW_COOKIE) is None:
                return standing
            site, params, conditions = standing.site, standing.params, standing.conditions
            rules = standing.rules
        else:
            site, route, params, conditions, rules = standing
        spec = self.table.file.sites[site]
        legacy = route.spec.legacy or spec.legacy

        def answer(side: str, reason: Reason, detail: str = "", **more: Any) -> Decision:
            backend = PYTHON if side == PYTHON else legacy
            more |= {"conditions": conditions, "rules": rules}
            return Decision(site, backend, legacy, reason, detail, route, params, **more)

        picked = preview.picked(secret, head, route.share_key, now)
        if picked:
            return answer(
                picked, Reason.PREVIEW, f"preview cookie: {picked}", split=True, vary="Cookie"
            )
        if isinstance(standing, Decision):
            return standing
        percent = f"{route.share / 1000:g}%"
        key, set_key, vary = _sticky_key(spec.sticky, head, client, fresh_key)
        if key is None:
            detail = f"{percent}, and the request has no {_name_of(spec.sticky)}"
            return answer("legacy", Reason.NO_STICKY_KEY, detail, split=True, vary=vary)
        number = bucket(route.share_key, key)
        side, detail = by_bucket(number, route.share)
        return answer(
            side, Reason.SHARE, detail, bucket=number, set_key=set_key, split=True, vary=vary
        )

    def _look_up(self, head: Head, key: tuple[str, str, str | None]) -> Decision | _Split:
        """What holds for every visitor but those with a preview: a decision, or the site, the
        route and its variables where each visitor has a side. Remembered where neither the query
        nor headers took part."""
        table = self.table
        site = site_of(table, head)
        spec = table.file.sites[site]
        legacy, rules = spec.legacy, spec.response_headers
        if head.target.path is None:
            return Decision(
                site, legacy, legacy, Reason.ODD_TARGET, head.target.oddity, rules=rules
            )
        found, question = table.look_up(head, site)
        by = question.headers
        standing: Decision | _Split
        if found is None:
            standing = Decision(site, legacy, legacy, Reason.NO_ROUTE, conditions=by, rules=rules)
        else:
            route, params = found
            legacy, rules = route.spec.legacy or legacy, route.rules.get(site, rules)
            given: dict[str, Any] = {
                "route": route,
                "params": params,
                "conditions": by,
                "rules": rules,
            }
            if (same := for_everybody(route)) is None:
                standing = site, route, params, by, rules
            else:
                side, reason, detail = same
                backend = PYTHON if side == PYTHON else legacy
                standing = Decision(site, backend, legacy, reason, detail, **given)
        if not question.varies and len(key[2] or "") <= _LONGEST:
            if len(self._memo) >= _REMEMBERED:
                self._memo.clear()
            self._memo[key] = standing
        return standing


def _sticky_key(
    sticky: models.Sticky, head: Head, client: Client, fresh_key: str
) -> tuple[str | None, str | None, str | None]:
    """The visitor's key (None: has none), a new key to set, and the header it depends on."""
    if sticky.cookie:
        return head.cookie(sticky.cookie) or None, None, "Cookie"
    if sticky.header:
        return head.get(sticky.header) or None, None, sticky.header
    if sticky.address:
        return client.address or None, None, None
    key = head.cookie(SHARE_COOKIE)
    if key is not None and not _KEY.fullmatch(key):
        # Whatever sets it, for a longer path maybe, is sent first for ever: ours comes after it.
        ours = (value for name, value in head.cookies() if name == SHARE_COOKIE)
        key = next(filter(_KEY.fullmatch, ours), None)
    if key:
        return key, None, "Cookie"
    return fresh_key, fresh_key, "Cookie"


def _name_of(sticky: models.Sticky) -> str:
    if sticky.cookie:
        return f"cookie {sticky.cookie}"
    return f"header {sticky.header}" if sticky.header else "address"
