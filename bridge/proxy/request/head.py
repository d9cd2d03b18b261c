"""A request head, as every decision sees it.

Pure: frozen data, and the reading of its cookies. Building one from a WSGI environment is in
`bridge.proxy.wsgi.environ`; the event-loop engine builds the same from raw bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bridge.errors import VisitorError
from bridge.proxy.request.hosts import split_host
from bridge.proxy.request.target import Target

__all__ = ["Head", "Headers", "host_of"]

Headers = list[tuple[str, str]]
"""Names and values in their order, as HTTP text in Latin-1."""


@dataclass(slots=True, unsafe_hash=True)
class Head:
    """Method, target and headers of a request, and who sent it.

    `headers` keep their order; names are as the server gave them, values are Latin-1 text.
    `host` is the lower-case Host header with its port. `peer` is the address of the
    connection, empty for a unix socket. `scheme` is http or https. Nobody changes one; it is not
    `frozen` because that makes it three times as slow to make.
    """

    method: str
    target: Target
    host: str
    headers: tuple[tuple[str, str], ...] = ()
    peer: str = ""
    scheme: str = "http"
    version: str = "1.1"
    jar: Mapping[str, str] | None = field(default=None, repr=False, compare=False)
    """The first cookie of each name, where whoever made the head has read them already."""
    index: Mapping[str, str] | None = field(default=None, repr=False, compare=False)
    """The values by name in small letters, several lines as one list; likewise."""

    def get(self, name: str) -> str | None:
        """Value of the header `name`, any case, or None; several lines are one list."""
        lowered = name.lower()
        if self.index is not None:
            return self.index.get(lowered)
        found = [value for key, value in self.headers if key.lower() == lowered]
        return ",".join(found) if found else None

    def cookies(self) -> Iterator[tuple[str, str]]:
        """Every cookie as sent, names and values untouched, in order."""
        for key, value in self.headers:
            if key.lower() == "cookie":
                for pair in value.split(";"):
                    name, _, text = pair.partition("=")
                    yield name.strip(), text.strip()

    def cookie(self, name: str) -> str | None:
        """Value of the first cookie `name`, or None."""
        if self.jar is not None:
            return self.jar.get(name)
        return next((value for key, value in self.cookies() if key == name), None)


def host_of(given: str, version: str, target: Target, server: tuple[str, str]) -> str:
    """The lower-case host that a request is for.

    given: its Host header, or empty.
    version: `1.0` may leave that out.
    target, server: then it is that of an absolute target, or the name and port connected to.

    Raises VisitorError (400).
    """
    host = given.lower()
    if not host:
        if version != "1.0":
            raise VisitorError(400, "no Host header")
        name, port = server
        host = target.authority.lower() or (name if port in ("", "80", "443") else f"{name}:{port}")
    if split_host(host) is None:
        raise VisitorError(400, "malformed Host header")
    return host
