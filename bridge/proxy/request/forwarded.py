"""Who the visitor is: X-Forwarded-*, Forwarded, and which proxies are believed.

Pure. Earlier values count only when the connection comes from `trusted_proxies`; otherwise
they are a visitor's invention and are dropped. Proxies write addresses in several ways; here
they become plain ones.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from weakref import proxy

from bridge.proxy.request.head import Head
from bridge.proxy.request.hosts import split_host

__all__ = [
    "Client",
    "TrustedProxies",
    "forwarded_headers",
    "household",
    "plain_address",
    "stranger",
]

_WITH_PORT = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}|\[([^\[\]]*)\](?::\d{1,5})?")
_PAIR = re.compile(r"""[ \t]*([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^",; \t]*))[ \t]*([;,]|$)""")
_GAP = re.compile(r"[ \t]*(?:[;,]|$)")
_ESCAPE = re.compile(r"\\(.)")


class TrustedProxies:
    """The networks of `trusted_proxies`; `unix` stands for connections over a unix socket."""

    def __init__(self, networks: Iterable[str]) -> None:
        names = tuple(networks)
        self._unix = "unix" in names
        self._networks = tuple(ipaddress.ip_network(n, strict=False) for n in names if n != "unix")
        # By proxy: else the two would keep each other when the table is over.
        self._known = lru_cache(maxsize=4096)(partial(TrustedProxies._contains, proxy(self)))

    def __contains__(self, address: object) -> bool:
        if not self._networks and not self._unix:
            return False
        return isinstance(address, str) and self._known(address)

    def _contains(self, address: str) -> bool:
        if address == "":
            return self._unix
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        return any(ip in network for network in self._networks)

    def client(self, head: Head) -> Client:
        """The visitor behind `head`: the last address in X-Forwarded-For that is no trusted
        proxy, and the scheme and host that the trusted proxy says the visitor used.

        What stands before that address is what the visitor claims, and is left out of the
        chain. Of several schemes or hosts the last counts: the nearest proxy wrote it.
        """
        host = head.host.removesuffix(":")  # an empty port is none (RFC 3986, section 3.2.3)
        if head.peer not in self:
            return Client(head.peer, head.scheme, (), host)
        hops, proto, shown = _said(head)
        chain: list[str] = []
        address = head.peer
        for hop in reversed(hops):
            plain = plain_address(hop)
            if plain is None:
                break
            chain.insert(0, plain)
            address = plain
            if plain not in self:
                break
        scheme = proto if proto in ("http", "https") else head.scheme
        return Client(address, scheme, tuple(chain), shown if split_host(shown) else host)


@dataclass(frozen=True, slots=True)
class Client:
    """The visitor's address, the scheme and host they used, and the believed hops in front of
    us. The host is what addresses to show are made of; it never decides which site answers."""

    address: str
    scheme: str
    chain: tuple[str, ...]
    host: str


def _said(head: Head) -> tuple[list[str], str, str]:
    """What the proxy in front says: the hops before it, the nearest one last, and the scheme
    and the host that were asked for, or empty.

    Forwarded counts where there is nothing of X-Forwarded-*: a proxy that writes the one hands
    on the visitor's other.
    """
    addresses = head.get("X-Forwarded-For")
    proto, host = _last(head.get("X-Forwarded-Proto")), _last(head.get("X-Forwarded-Host"))
    if addresses is None and not proto and not host and (given := head.get("Forwarded")):
        elements = _elements(given)
        nearest = elements[-1] if elements else {}
        hops = [element.get("for", "") for element in elements]
        return hops, nearest.get("proto", "").lower(), nearest.get("host", "").lower()
    if not proto and "on" in (
        _last(head.get("X-Forwarded-Ssl")),
        _last(head.get("Front-End-Https")),
    ):
        proto = "https"
    hops = [hop for part in (addresses or "").split(",") if (hop := part.strip())]
    return hops, proto, host


def _last(value: str | None) -> str:
    return (value or "").rstrip(", \t").rpartition(",")[2].strip().lower()


def _elements(value: str) -> list[dict[str, str]]:
    """The elements of a Forwarded header (RFC 7239, section 4), names in small letters; none
    when it is malformed."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while at < len(value):
        pair = _PAIR.match(value, at)
        gap = pair or _GAP.match(value, at)
        if gap is None:
            return []
        if pair:
            name, quoted, token, _ = pair.groups()
            text = token if quoted is None else _ESCAPE.sub(r"\1", quoted)
            elements[-1].setdefault(name.lower(), text)
        if gap[0].endswith(","):
            elements.append({})
        at = gap.end()
    return [element for element in elements if element]


def plain_address(text: str) -> str | None:
    """The address in `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1`, `[2001:db8::1]` or
    `[2001:db8::1]:5678`, without a port and without a zone; None for what is no address.

    A zone means something on one machine only, and may have any text in it.
    """
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


@lru_cache(maxsize=4096)
def household(address: str) -> str:
    """What counts as one visitor where places are shared out: an IPv4 address, or the network
    that a provider gives to one household (RFC 6177); empty for what is no address."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))


@lru_cache(maxsize=4096)
@lru_cache(maxsize=4096)
def stranger(address: str) -> str:
    """The `household` of an address on the internet; empty for one of the own networks, where a
    proxy may stand for everybody."""
    plain = plain_address(address)
    return household(address) if plain and ipaddress.ip_address(plain).is_global else ""


@lru_cache(maxsize=1024)
def forwarded_headers(client: Client, peer: str) -> tuple[tuple[str, str], ...]:
    """X-Forwarded-For/-Proto/-Host and Forwarded (RFC 7239) for the legacy side."""
    peer = plain_address(peer) or ""
    hops = [*client.chain, peer] if peer else list(client.chain)
    elements = [f"for={_node(hop)}" for hop in hops] or ["for=unknown"]
    elements[-1] += f";proto={client.scheme};host={_quoted(client.host)}"
    return (
        ("X-Forwarded-For", ", ".join(hops) or "unknown"),
        ("X-Forwarded-Proto", client.scheme),
        ("X-Forwarded-Host", client.host),
        ("Forwarded", ", ".join(elements)),
    )


def _node(address: str) -> str:
    return f'"[{address}]"' if ":" in address else address


def _quoted(host: str) -> str:
    return f'"{host}"' if any(c in host for c in ":[]") else host
