"""Why a request is answered by whom: the same decision as in production, and every route's no.

Pure; `bridgectl explain` shows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.errors import VisitorError
from bridge.proxy.decision import preview
from bridge.proxy.decision.decide import Decider, Decision, site_of
from bridge.proxy.request.admission import admit
from bridge.proxy.request.head import Head, Headers
from bridge.proxy.request.hosts import as_ascii, host_of
from bridge.proxy.request.target import parse_target
from bridge.proxy.routing.conditions import Question
from bridge.proxy.routing.matcher import fits
from bridge.proxy.routing.table import RouteTable

__all__ = ["Explanation", "RouteVerdict", "explain", "head_for"]


@dataclass(frozen=True, slots=True)
class RouteVerdict:
    """One route: `taken`, or `why` not."""

    route: str
    path: str
    taken: bool
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`decision` is None when the request is refused with `status`; `why` says it in words."""

    decision: Decision | None
    status: int
    why: str
    verdicts: tuple[RouteVerdict, ...]


def head_for(table: RouteTable, method: str, url: str, headers: Headers, peer: str) -> Head:
    """A request head.

    url: absolute, or a path on a host of the first site.
    headers: a Host among them replaces that of `url`.
    peer: the address that it comes from.

    Raises VisitorError for a malformed target.
    """
    try:
        parts, _ = urlsplit(url), url.encode()
    except ValueError as error:  # `[` without `]`, or bytes that are no text
        raise VisitorError(400, f"{url!r} is no address: {error}") from None
    if parts.scheme in ("http", "https") and parts.netloc:
        host, raw, scheme = parts.netloc, url.split("://", 1)[1][len(parts.netloc) :], parts.scheme
    else:
        host, raw, scheme = host_of(table.file.hosts, next(iter(table.file.sites))), url, "http"
    host = next((value for name, value in headers if name.lower() == "host"), host)
    try:
        host = as_ascii(host)
    except ValueError as error:
        raise VisitorError(400, str(error)) from None
    others = [(name, value) for name, value in headers if name.lower() != "host"]
    target = parse_target(method, raw.encode().decode("latin-1") or "/")
    return Head(method, target, host.lower(), (("Host", host), *others), peer, scheme)


def explain(
    table: RouteTable, head: Head, now: float, fresh_key: str, secret: str = ""
) -> Explanation:
    """Decide a request and say why, for every route of the table.

    now, fresh_key, secret: as for `Decider.decide`.
    """
    try:
        head = admit(head, "").head
        client = table.trusted.client(head)
        decision = Decider(table).decide(head, client, now, fresh_key, secret)
        site = site_of(table, head)
    except VisitorError as error:
        return Explanation(None, error.status, error.reason, ())
    why = decision.detail or decision.reason.says
    if preview.is_ignored(secret, decision.route, head):
        why += f"; {preview.NO_SECRET}"
    question = Question(head, site)
    verdicts = []
    for route in table.routes:
        taken = route is decision.route
        reason = "" if taken else _why_not(route.spec.path, head)
        if not taken and not reason:
            reason = route.conditions.unmet(question)
        if not taken and not reason and decision.route:
            same = decision.route.shape == route.shape
            order = "comes first" if same else "has the more specific path"
            reason = f"fits too, but {decision.route.name} {order}"
        verdicts.append(RouteVerdict(route.name, route.spec.path, taken, reason))
    return Explanation(decision, 0, why, tuple(verdicts))


def _why_not(rule: str, head: Head) -> str:
    path = head.target.path
    if path is None:
        return head.target.oddity
    if fits(rule, path):
        return ""
    other = path[:-1] if path.endswith("/") else f"{path}/"
    return "the trailing slash differs" if fits(rule, other) else "the path does not match"
