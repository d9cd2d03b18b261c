"""What of a header list goes on to the other side.

Pure. Requests: hop-by-hop fields, smuggled names and visitors' inventions are dropped, and who
the visitor is gets added. Responses: hop-by-hop fields and internal names are dropped, backend
addresses in Location and cookies become the visitor's, and what one split route answers is
kept out of shared caches. Order, count, case and values of everything else stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol
from urllib.parse import urlsplit

from bridge.proxy.http.wire import lowered
from bridge.proxy.request.admission import HOP_HEADER
from bridge.proxy.request.cookies import without_ours
from bridge.proxy.request.forwarded import Client, forwarded_headers
from bridge.proxy.request.head import Head, Headers
from bridge.proxy.request.hosts import split_host

__all__ = [
    "PublicOrigin",
    "apply_rules",
    "end_to_end",
    "from_handler",
    "is_shared",
    "keep_apart",
    "listed",
    "renamed",
    "to_legacy",
    "to_visitor",
    "vary_on",
]

HOP_BY_HOP = frozenset(
    {
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, section 7.6.1, and what older software sends in the same spirit."""

_SET_BY_US = frozenset(
    {
        "content-length",
        "expect",
        "forwarded",
        "host",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-request-id",
    }
)
_NEVER_FROM_VISITORS = HOP_BY_HOP | _SET_BY_US | {"proxy", "x-original-url", "x-rewrite-url"}
# What proxies and CDNs call the visitor's address, scheme or host, and PHP programs believe.
_ONLY_FROM_TRUSTED = frozenset(
    {
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "client-ip",
        "cloudfront-forwarded-proto",
        "cloudfront-viewer-address",
        "fastly-client-ip",
        "fastly-ssl",
        "forwarded-for",
        "forwarded-for-ip",
        "front-end-https",
        "proxy-client-ip",
        "remote-addr",
        "true-client-ip",
        "wl-proxy-client-ip",
        "x-appengine-user-ip",
        "x-arr-ssl",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-envoy-external-address",
        "x-forwarded",
        "x-host",
        "x-http-host-override",
        "x-original-for",
        "x-original-forwarded-for",
        "x-original-host",
        "x-original-proto",
        "x-originating-ip",
        "x-proxyuser-ip",
        "x-real-ip",
        "x-remote-addr",
        "x-remote-ip",
        "x-scheme",
        "x-url-scheme",
    }
)
_INTERNAL_RESPONSE = ("x-accel-", "x-sendfile", "x-lighttpd-send")
_REFRESH = re.compile(
    r"""([^;,]*[;,][ \t]*(?:url[ \t]*=[ \t]*)?["']?)([^"']*)(.*)""", re.IGNORECASE
)
_LINK = re.compile(r'"(?:[^"\\]|\\.)*"?|<([^<>]*)>', re.DOTALL)
_NOTHING: frozenset[str] = frozenset()
_PORTS = {"http": (80,), "https": (443,), "": (80, 443)}
"""Of an address that names none, by its scheme."""


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """`headers` without hop-by-hop fields and without those that Connection names."""
    every = list(headers)
    named = (_tokens(value) for name, value in every if name.lower() == "connection")
    dropped = HOP_BY_HOP.union(*named)
    return [pair for pair in every if pair[0].lower() not in dropped]


def _tokens(value: str) -> frozenset[str]:
    """What a Connection header names, in small letters."""
    return frozenset([token.strip(" \t") for token in value.lower().split(",")])


def to_legacy(
    head: Head,
    client: Client,
    *,
    trusted_peer: bool,
    request_id: str,
    hops: Sequence[str],
    host: str | None = None,
    via: bool = False,
    expect: bool = False,
    upgrade: str = "",
) -> Headers:
    """The header list that the legacy backend gets, without the framing of the body.

    trusted_peer: whether headers that only proxies of ours may send go on.
    hops: the names of the bridges on the way, ours last.
    host: replaces the visitor's.
    via: whether the bridge names itself.
    expect: whether legacy is asked if it wants the body.
    upgrade: the protocol that a tunnel is asked for, or empty.
    """
    sent: Headers = [("Host", host or head.host)]
    connection = head.get("Connection")
    named = _tokens(connection) if connection else _NOTHING
    for pair in head.headers:
        name, value = pair
        fate = _known_fate(name) if len(name) <= _REMEMBERED else _fate(name)
        if fate == _GONE or (fate == _IF_TRUSTED and not trusted_peer):
            continue
        if named and name.lower() in named:
            continue
        if fate == _COOKIES and "bridge_" in value:
            value = without_ours(value)
            if value:
                sent.append((name, value))
            continue
        sent.append(pair)
    if "trailers" in (head.get("TE") or "").lower():
        sent.append(("TE", "trailers"))
    sent += forwarded_headers(client, head.peer)
    sent.append(("X-Request-Id", request_id))
    sent.append((HOP_HEADER, ",".join(hops)))
    if expect:
        sent.append(("Expect", "100-continue"))
    if upgrade:
        sent += [("Connection", "Upgrade"), ("Upgrade", upgrade)]
    if via:
        sent.append(("Via", f"{head.version} bridge"))
    return sent


_REMEMBERED = 64  # characters of a name: the memory that visitors can fill has a bound
_GOES_ON, _GONE, _IF_TRUSTED, _COOKIES = range(4)


def _fate(name: str) -> int:
    """What becomes of a request header of this name on its way to legacy."""
    small = name.lower()
    if small in _NEVER_FROM_VISITORS or "_" in name or small.startswith("x-bridge-"):
        return _GONE
    if small in _ONLY_FROM_TRUSTED or small.startswith("x-forwarded-"):
        return _IF_TRUSTED
    return _COOKIES if small == "cookie" else _GOES_ON


_known_fate = lru_cache(maxsize=4096)(_fate)


def renamed(headers: Headers, client: Client, own: str, prefix: str) -> Headers:
    """The headers of a request to a backend that knows itself by a name of its own: one that
    compares Origin, or WebDAV's Destination, with that finds itself there.

    own: that name, as `https://forge.internal`.
    prefix: the path in the backend's URL.
    """
    ours = f"{client.scheme}://{client.host}".lower()
    changed: Headers = []
    for name, value in headers:
        small = lowered(name)
        if small in _NAMES_US and value[: len(ours)].lower() == ours:
            rest = value[len(ours) :]
            if rest[:1] in ("", "/", "?", "#"):
                path = "" if small == "origin" else prefix
                value = f"{own}{path}{rest}"
        changed.append((name, value))
    return changed


_NAMES_US = frozenset(("destination", "origin"))


@dataclass(frozen=True, slots=True)
class PublicOrigin:
    """The address that visitors see, and the backend's own that must not show.

    `hidden` are (host, port) pairs of the backend; `prefix` is the path in its URL.
    """

    scheme: str
    host: str
    hidden: frozenset[tuple[str, int]]
    prefix: str = ""

    def url(self, value: str) -> str:
        """`value` of a Location header as the visitor must see it."""
        bare = value.replace("\t", "")  # as browsers read it, and urlsplit
        try:
            parts = urlsplit(bare)
            port = parts.port
        except ValueError:
            return value
        if not parts.netloc:
            path = self._strip(bare)
            if path == bare:
                return value
            # `/app//host` less its prefix would name a host.
            return f"{self.scheme}://{self.host}{path}" if path[:2] in ("//", "/\\") else path
        usual = _PORTS.get(parts.scheme, ())
        ports = (port,) if usual and port else usual
        if not any((parts.hostname, one) in self.hidden for one in ports):
            return value
        rest = bare.partition("//")[2][len(parts.netloc) :]
        return f"{self.scheme}://{self.host}{self._strip(rest)}"

    def _strip(self, path: str) -> str:
        rest = path.removeprefix(self.prefix)
        if rest == path or rest[:1] not in ("", "/", "?", "#"):
            return path
        return rest if rest.startswith("/") else f"/{rest}"

    def refresh(self, value: str) -> str:
        """`value` of a Refresh header, whose URL may stand in quotes."""
        match = _REFRESH.fullmatch(value)
        return f"{match[1]}{self.url(match[2])}{match[3]}" if match else value

    def links(self, value: str) -> str:
        """`value` of a Link header: its addresses stand in angle brackets."""
        return _LINK.sub(lambda m: m[0] if m[1] is None else f"<{self.url(m[1])}>", value)

    def cookie(self, value: str) -> str:
        """`value` of a Set-Cookie header; untouched unless it names the backend."""
        if "domain" not in value.lower() and not self.prefix:
            return value
        kept = []
        for index, part in enumerate(value.split(";")):
            name, _, text = part.partition("=")
            attribute = name.strip().lower() if index else ""
            if attribute == "domain" and self._hides(text.strip()):
                continue  # without Domain the cookie belongs to the host the visitor sees
            if attribute == "path" and self.prefix:
                part = f"{name}={self._strip(text.strip())}"
            kept.append(part)
        return ";".join(kept)

    def _hides(self, domain: str) -> bool:
        """Whether a cookie for `domain` is for the backend's name and not for the visitor's."""
        domain = domain.removeprefix(".").lower()
        public, _ = split_host(self.host) or (self.host, "")
        return not _within(public, domain) and any(_within(name, domain) for name, _ in self.hidden)


def _within(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


def from_handler(headers: Iterable[tuple[str, str]]) -> Headers:
    """The header list of a Python handler's answer as the visitor gets it."""
    return [pair for pair in end_to_end(headers) if not lowered(pair[0]).startswith("x-bridge-")]


def to_visitor(
    headers: Headers, origin: PublicOrigin, *, accel: bool, gone: frozenset[str] = _NOTHING
) -> Headers:
    """The header list of a legacy answer as the visitor gets it.

    accel: whether X-Accel and X-Sendfile go on, for a server before us.
    gone: names, in small letters, that the site removes or replaces.
    """
    names = tuple([name for name, _ in headers])
    plan = _plan(names, accel, gone)
    if plan.connections:
        named = (_tokens(headers[place][1]) for place in plan.connections)
        plan = _plan(names, accel, gone.union(*named))
    sent = [headers[place] for place in plan.kept]
    for place, kind in plan.changed:
        name, value = sent[place]
        if kind == _ADDRESS:
            value = origin.url(value)
        elif kind == _COOKIE:
            value = origin.cookie(value)
        elif kind == _LINKS:
            value = origin.links(value)
        else:
            value = origin.refresh(value)
        sent[place] = name, value
    return sent


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is to be done with headers of these names: which are kept, which of those are looked
    into, and where Connection is."""

    kept: tuple[int, ...]
    changed: tuple[tuple[int, int], ...]
    connections: tuple[int, ...]


@lru_cache(maxsize=2048)
def _plan(names: tuple[str, ...], accel: bool, gone: frozenset[str]) -> _Plan:
    """Made once for each sequence of names, of which a backend has few."""
    kept: list[int] = []
    changed: list[tuple[int, int]] = []
    for place, name in enumerate(names):
        kind = _kind(name)
        dropped = kind == _DROPPED or (kind == _INTERNAL and not accel)
        if dropped or name.lower() in gone:
            continue
        if kind in (_ADDRESS, _COOKIE, _REFRESHES, _LINKS):
            changed.append((len(kept), kind))
        kept.append(place)
    connections = (place for place, name in enumerate(names) if name.lower() == "connection")
    return _Plan(tuple(kept), tuple(changed), tuple(connections))


_DROPPED, _INTERNAL, _ADDRESS, _COOKIE, _REFRESHES, _LINKS = range(1, 7)
_KINDS = {
    "location": _ADDRESS,
    "content-location": _ADDRESS,
    "set-cookie": _COOKIE,
    "link": _LINKS,
    "refresh": _REFRESHES,
}


def _kind(name: str) -> int:
    """What is to be done about a response header of this name; 0 for nothing."""
    small = name.lower()
    if small.startswith(_INTERNAL_RESPONSE):
        return _INTERNAL
    dropped = small in HOP_BY_HOP or small.startswith("x-bridge-")
    return _KINDS.get(small) or (_DROPPED if dropped else 0)


public_origin = lru_cache(maxsize=1024)(PublicOrigin)
"""The same address again, for as long as it is asked for."""


class Rules(Protocol):
    """What routes.yaml does with headers. `gone` are the names, in small letters, of those that do
    not stay as they came."""

    @property
    def gone(self) -> frozenset[str]: ...

    @property
    def set(self) -> Mapping[str, str]: ...


def apply_rules(headers: Headers, rules: Rules) -> Headers:
    """What routes.yaml removes and sets: of answers the same for both sides."""
    gone = rules.gone
    if not gone:
        return headers
    return [pair for pair in headers if lowered(pair[0]) not in gone] + list(rules.set.items())


_ELEMENT = re.compile(r'(?:"(?:[^"\\]|\\.)*"?|[^",])+', re.DOTALL)


def listed(value: str) -> list[str]:
    """The elements of a header that is a list (RFC 9110, section 5.6.1); a comma within quotes
    separates nothing."""
    parts = _ELEMENT.findall(value) if '"' in value else value.split(",")
    return [part.strip(" \t") for part in parts if part.strip(" \t")]


def keep_apart(headers: Headers, vary: str | None) -> Headers:
    """Make a split route's answer private, so that no shared cache mixes the two sides.

    Cache-Control gets `private` and loses what overrules it (RFC 9111, section 5.2.2); the
    cache headers meant for a CDN alone go; Vary names `vary`, the header the choice hangs on.
    """
    directives: list[str] = []
    kept: Headers = []
    for name, value in headers:
        small = lowered(name)
        if small == "cache-control":
            directives += listed(value)
        elif small not in ("cdn-cache-control", "surrogate-control"):
            kept.append((name, value))
    if "no-store" not in map(_named, directives):
        overruled = ("public", "s-maxage", "private")
        directives = [one for one in directives if _named(one) not in overruled]
        directives.append("private")
    kept.append(("Cache-Control", ", ".join(directives)))
    if vary and not any(
        lowered(name) == "vary" and not {vary.lower(), "*"}.isdisjoint(listed(value.lower()))
        for name, value in kept
    ):
        kept.append(("Vary", vary))
    return kept


def vary_on(headers: Headers, names: Sequence[str]) -> Headers:
    """`headers` with `names` in Vary: which side answered depended on these request headers."""
    there = {
        token
        for name, value in headers
        if lowered(name) == "vary"
        for token in listed(value.lower())
    }
    missing = [name for name in names if name.lower() not in there]
    return headers if "*" in there or not missing else [*headers, ("Vary", ", ".join(missing))]


def is_shared(headers: Headers) -> bool:
    """Whether Cache-Control lets shared caches keep an answer in so many words."""
    return any(
        _named(one) in ("public", "s-maxage")
        for name, value in headers
        if lowered(name) == "cache-control"
        for one in listed(value)
    )


def _named(directive: str) -> str:
    """The name of a directive of Cache-Control, in small letters; some write white space after
    it, which some caches read over."""
    return directive.partition("=")[0].rstrip(" \t").lower()
