"""Whether a PHP site notices that its visitors came by https, which ended before it.

The bridge tells it with X-Forwarded-Proto, and PHP itself looks only at $_SERVER['HTTPS']. A site
that is not told redirects to https for ever, or writes links that browsers refuse to load. What
an answer gives away is decided here, pure; `look` asks for `bridgectl doctor`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import requests

from bridge.findings import Finding
from bridge.proxy.http.headers import apply_rules
from bridge.proxy.request.forwarded import Client, forwarded_headers
from bridge.proxy.request.hosts import host_of
from bridge.proxy.routing import models
from bridge.proxy.routing.table import RouteTable
from bridge.settings import redact_url

__all__ = ["Answer", "judge", "look"]

_PATIENCE = 3.0  # seconds for each request
_HOPS = 3  # redirects within the site that are followed to a page
_MOST = 256 * 1024  # bytes of a page that are looked through
_LINK = rb"""(?i)\b(?:href|src|action)\s*=\s*["']?\s*(http://%s(?![\w.:-])[^\s"'<>]*)"""
_ADVICE = (
    "tell PHP, with `fastcgi_param HTTPS` (nginx), SetEnvIf (Apache) or a line in wp-config.php: "
    "docs/deploy.md, HTTPS"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came for `url`, which begins with https://: a redirect to `location`, or a page."""

    url: str
    location: str = ""
    page: bytes = b""


def judge(answer: Answer) -> tuple[str, str] | None:
    """State and words of what is wrong with an answer, None when nothing is to be seen.

    `bad` is what no visitor by https gets past; a `note` is wrong only where they come by https.
    Raises ValueError for a Location that is no URL.
    """
    asked = urlsplit(answer.url)
    if answer.location:
        to = urlsplit(urljoin(answer.url, answer.location))
        if to.hostname != asked.hostname:
            return None
        same = to._replace(fragment="", netloc="") == asked._replace(netloc="")
        if same and (to.port or 443) == (asked.port or 443):
            return "bad", f"asked by https, it redirects to {answer.url} itself, without end"
        if to.scheme == "http":
            return "note", f"asked by https, it redirects to {to.geturl()}"
        return None
    if found := re.search(_LINK % re.escape(asked.netloc.encode()), answer.page):
        link = found[1][:100].decode("utf-8", "replace")
        return "note", f"asked by https, its page has links by http: {link}"
    return None


def look(name: str, backend: models.Backend, server: str, table: RouteTable) -> Iterator[Finding]:
    """Ask for the start page of each site, as the bridge does for a visitor by https. What does not
    answer is silent here: it is named elsewhere.

    name, backend: as in routes.yaml; only sites with this backend are asked for.
    server: one of its URLs; one at a unix socket is not asked.
    """
    if not server.startswith(("http://", "https://")):
        return
    for site, spec in table.file.sites.items():
        if spec.legacy != name:
            continue
        host = host_of(table.file.hosts, site)
        try:
            found = _first(backend, server, host)
        except (requests.RequestException, ValueError):
            continue
        if found:
            state, says = found
            advice = _ADVICE if state == "bad" else f"where visitors come by https {_ADVICE}"
            yield Finding(state, f"legacy {name}", redact_url(server), says, advice)


def _first(backend: models.Backend, server: str, host: str) -> tuple[str, str] | None:
    """What is wrong with the first answers. Raises RequestException and ValueError."""
    url = f"https://{host}/"
    for _ in range(_HOPS):
        answer = _ask(backend, server, host, url)
        if found := judge(answer):
            return found
        url = urljoin(url, answer.location)
        if not answer.location or urlsplit(url)[:2] != ("https", host):
            return None
    return None


def _ask(backend: models.Backend, server: str, host: str, url: str) -> Answer:
    visitor = Client(address="127.0.0.1", scheme="https", host=host, chain=("127.0.0.1",))
    sent = [("Host", host if backend.host == "preserve" else backend.host)]
    headers = apply_rules([*sent, *forwarded_headers(visitor, "")], backend.request_headers)
    target = urlsplit(url)._replace(scheme="", netloc="", fragment="").geturl()
    with requests.get(
        server + target,
        headers=dict(headers),
        timeout=_PATIENCE,
        allow_redirects=False,
        stream=True,
    ) as got:
        location = got.headers.get("Location", "") if got.is_redirect else ""
        page = b"" if location else next(got.iter_content(_MOST), b"")
    # As bytes in a latin-1 text, as http.client reads it.
    return Answer(url, location.encode("latin-1").decode("utf-8", "replace"), page)
