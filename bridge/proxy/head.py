"""A request head, as every decision sees it.

Pure: frozen data, and the reading of its cookies. Building one from a WSGI environment is in
`bridge.proxy.wsgi`; the event-loop engine builds the same from raw bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.proxy.target import Target

__all__ = ["Head"]


@dataclass(frozen=True, slots=True)
class Head:
    """Method, target and headers of a request, and who sent it.

    `headers` keep their order; names are as the server gave them, values are Latin-1 text.
    `host` is the lower-case Host header with its port. `peer` is the address of the
    connection, empty for a unix socket. `scheme` is http or https.
    """

    method: str
    target: Target
    host: str
    headers: tuple[tuple[str, str], ...] = ()
    peer: str = ""
    scheme: str = "http"
    version: str = "1.1"

    def get(self, name: str) -> str | None:
        """Value of the first header `name`, any case, or None."""
        lowered = name.lower()
        for key, value in self.headers:
            if key.lower() == lowered:
                return value
        return None

    def cookies(self) -> Iterator[tuple[str, str]]:
        """Every cookie as sent, names and values untouched, in order."""
        for key, value in self.headers:
            if key.lower() == "cookie":
                for pair in value.split(";"):
                    name, _, text = pair.partition("=")
                    yield name.strip(), text.strip()

    def cookie(self, name: str) -> str | None:
        """Value of the first cookie `name`, or None."""
        return next((value for key, value in self.cookies() if key == name), None)
