"""Which site a Host header belongs to.

Pure. A pattern without a port takes the default ports only, `:*` takes any port, and `*.`
takes one or more labels in front; `*` alone takes any host with any port. What matches nothing
belongs to no site. A name may end with a dot, and its port may be empty: both are the same name
without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from weakref import proxy

import idna

from bridge.proxy.request.memory import remember

__all__ = ["Hosts", "as_ascii", "host_of", "split_host"]

_LONGEST = 255  # characters of a name (RFC 1035, section 2.3.4)
_DEFAULT = ("80", "443")  # ports; browsers leave them out
_VALID = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{0,5}))?")


def split_host(host: str) -> tuple[str, str] | None:
    """Lower-case name and port (may be empty) of a Host header, or None when it is malformed."""
    if len(host) > _LONGEST + len(":65535"):
        return None
    match = _VALID.fullmatch(host.lower())
    return (match[1], match[2] or "") if match and len(match[1]) <= _LONGEST else None


def as_ascii(host: str) -> str:
    """`host`, a name, pattern or address with or without a port, as browsers ask for it: labels
    with other letters than ASCII are written `xn--…` (UTS 46, as the URL standard has it). Raises
    ValueError for what no browser asks for."""
    if host.isascii():
        return host
    name, colon, port = host.partition(":")
    labels = [label if label.isascii() else _label(label) for label in re.split("[.。．｡]", name)]
    return ".".join(labels) + colon + port


def _label(label: str) -> str:
    try:
        return idna.encode(label, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError(f"{label!r} is no part of a host name: {error}") from None


class Hosts:
    """Patterns and what they stand for: `Hosts({"forge": ["*.example.org:*"]})`."""

    def __init__(self, patterns: Mapping[str, Iterable[str]]) -> None:
        self._exact: dict[tuple[str, str], str] = {}
        self._wild: list[tuple[str, str, str]] = []
        for owner, hosts in patterns.items():
            for pattern in hosts:
                name, port = _name_and_port(pattern)
                name = name.removesuffix(".")
                if pattern == "*":
                    port = "*"
                elif port in _DEFAULT:
                    port = ""
                if name.startswith("*"):
                    self._wild.append((name[1:], port, owner))
                else:
                    self._exact.setdefault((name, port), owner)
        self._wild.sort(key=lambda entry: -len(entry[0]))
        # By proxy: else the two would keep each other when the table is over.
        self._known = remember(1024, 64)(partial(Hosts._find, proxy(self)))

    def owner(self, host: str) -> str | None:
        """Whose `host` (a Host header, any case) is, or None."""
        return self._known(host)

    def _find(self, host: str) -> str | None:
        parts = split_host(host)
        if parts is None:
            return None
        name, port = parts[0].removesuffix("."), parts[1]
        if port in _DEFAULT:
            port = ""
        for key in ((name, port), (name, "*")):
            if key in self._exact:
                return self._exact[key]
        for suffix, wanted, owner in self._wild:
            if wanted in (port, "*") and (not suffix or (name.endswith(suffix) and name != suffix)):
                return owner
        return None


def host_of(patterns: Mapping[str, Sequence[str]], site: str) -> str:
    """A host that is this site's, to ask for its pages with where nobody has named one: the first
    of its list, where `*` alone comes last and is `localhost`. `patterns`: those of all sites."""
    hosts = Hosts(patterns)
    own = sorted(patterns[site], key=lambda one: _name_and_port(one)[0] == "*")
    found = [host for pattern in own for host in _like(pattern)]
    # Another site may have a part of what a star stands for.
    return next((host for host in found if hosts.owner(host) == site), found[0])


def _like(pattern: str) -> list[str]:
    """Hosts that the pattern stands for."""
    name, port = _name_and_port(pattern)
    names = ["localhost", "any.test"] if name == "*" else [name]
    if name.startswith("*."):
        names = [f"www{name[1:]}", f"any{name[1:]}"]
    return [f"{name}:{port}" if port not in ("", "*") else name for name in names]


def _name_and_port(pattern: str) -> tuple[str, str]:
    """The port is empty where there is none, and `*` for any."""
    if re.search(r":(\d+|\*)$", pattern) is None or pattern.endswith("]"):
        return pattern, ""
    name, _, port = pattern.rpartition(":")
    return name, port
