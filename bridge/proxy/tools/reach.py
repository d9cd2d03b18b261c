"""Whether a legacy backend answers, asked as `bridgectl doctor` and `status` do: GET for the path
of its `health`, or for /, with a host of one of its sites. A page that fails is an answer, and says
so by its status.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

from bridge.proxy.request.hosts import host_of
from bridge.proxy.routing import models
from bridge.settings import redact_url

__all__ = ["PATIENCE", "Reached", "ask", "ask_all"]

PATIENCE = 3.0
"""Seconds that a backend may take."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What came of asking: `status` of its answer, 0 where it only accepts connections (a unix
    socket is not asked for a page); `error` says why there was none, or is empty; `date` is its
    clock in Unix seconds, where it says what time it is; `compressed`: its page came so; `path` is
    what it was asked for."""

    where: str
    status: int = 0
    error: str = ""
    date: float | None = None
    compressed: bool = False
    path: str = "/"

    @property
    def well(self) -> bool:
        """Whether visitors get pages from it."""
        return not self.error and self.status < 500

    @property
    def says(self) -> str:
        """In words."""
        if self.error:
            return self.error
        return f"answers {self.path} with {self.status}" if self.status else "accepts connections"


def ask(name: str, url: str, file: models.File) -> Reached:
    """Ask the server at `url` of the backend `name` of a routes.yaml once, for three seconds at
    most, or for as long as a probe of its workers may take."""
    where = redact_url(url)
    if url.startswith("unix:"):
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(urlsplit(url).path)
        except OSError as error:
            return Reached(where, error=f"does not answer: {error.strerror or error}")
        return Reached(where)
    sites = [site for site, spec in file.sites.items() if spec.legacy == name]
    health = file.backends[name].health
    path, patience = (health.path, health.timeout) if health else ("/", PATIENCE)
    host = (health and health.host) or file.backends[name].host
    if host == "preserve" and sites:
        host = host_of(file.hosts, sites[0])
    headers = {"Host": host} if host != "preserve" else {}
    try:
        answer = requests.get(
            url.rstrip("/") + path,
            headers=headers,
            timeout=patience,
            allow_redirects=False,
            stream=True,
        )
        answer.close()
    except requests.Timeout:
        return Reached(where, error=f"does not answer within {patience:g} s")
    except (requests.RequestException, ValueError) as error:
        return Reached(where, error=f"does not answer: {type(error).__name__}")
    return Reached(
        where,
        answer.status_code,
        date=_seconds(answer.headers.get("Date")),
        compressed=bool(answer.headers.get("Content-Encoding")),
        path=path,
    )


def ask_all(file: models.File) -> list[tuple[str, Reached]]:
    """Ask every server of every backend of a routes.yaml, all at the same time; with the names of
    their backends."""
    servers = [(name, url) for name, backend in file.backends.items() for url in backend.urls]
    with ThreadPoolExecutor(max_workers=min(16, len(servers))) as pool:
        return list(pool.map(lambda one: (one[0], ask(one[0], one[1], file)), servers))


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, OverflowError):
        return None
