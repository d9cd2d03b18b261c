"""Who the visitor is: X-Forwarded-*, Forwarded, and which proxies are believed.

Pure. Earlier values count only when the connection comes from `trusted_proxies`; otherwise
they are a visitor's invention and are dropped.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial
from weakref import proxy

from bridge.proxy.head import Head
from bridge.proxy.hosts import split_host

__all__ = ["Client", "TrustedProxies", "forwarded_headers"]


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
        if head.peer not in self:
            return Client(head.peer, head.scheme, (), head.host)
        chain: list[str] = []
        address = head.peer
        for part in reversed((head.get("X-Forwarded-For") or "").split(",")):
            hop = part.strip()
            if not _is_address(hop):
                break
            chain.insert(0, hop)
            address = hop
            if hop not in self:
                break
        proto = _last(head.get("X-Forwarded-Proto"))
        scheme = proto if proto in ("http", "https") else head.scheme
        host = _last(head.get("X-Forwarded-Host"))
        return Client(address, scheme, tuple(chain), host if split_host(host) else head.host)


@dataclass(frozen=True, slots=True)
class Client:
    """The visitor's address, the scheme and host they used, and the believed hops in front of
    us. The host is what addresses to show are made of; it never decides which site answers."""

    address: str
    scheme: str
    chain: tuple[str, ...]
    host: str


def _last(value: str | None) -> str:
    return (value or "").rpartition(",")[2].strip().lower()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=1024)
def forwarded_headers(client: Client, peer: str) -> tuple[tuple[str, str], ...]:
    """X-Forwarded-For/-Proto/-Host and Forwarded (RFC 7239) for the legacy side."""
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
