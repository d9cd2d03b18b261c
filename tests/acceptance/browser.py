"""A browser that always sends the same headers, over raw connections.

DokuWiki ties a login to User-Agent, Accept-Language and Accept-Encoding, so a proxy that
touches one of them logs its visitors out.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from tests.acceptance.raw_http import Answer, ask, request

__all__ = ["HEADERS", "Browser"]

HEADERS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate",
}


class Browser:
    """Keeps cookies as they are set and deleted; redirects are followed by `follow` alone.

    address: host:port to connect to. host: the Host header.
    """

    def __init__(self, address: str, host: str) -> None:
        self.address, self.host = address, host
        self.cookies: dict[str, str] = {}

    def send(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request with the cookies so far; the answer's body is uncompressed."""
        sent = {**HEADERS, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        raw = request(method, target, self.host, sent, body)
        answer = ask(self.address, raw)
        for cookie in answer.all("Set-Cookie"):
            pair, _, attributes = cookie.partition(";")
            name, _, value = pair.partition("=")
            if "max-age=0" in attributes.lower():
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        if answer.get("Content-Encoding") == "gzip":
            body = gzip.decompress(answer.body)
            return Answer(answer.version, answer.status, answer.reason, answer.headers, body)
        return answer

    def get(self, target: str, **headers: str) -> Answer:
        """GET with further headers; `_` in their names stands for `-`."""
        return self.send(
            "GET", target, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )

    def post(self, target: str, form: Mapping[str, str]) -> Answer:
        """Send a form."""
        return self.send(
            "POST",
            target,
            urlencode(form).encode(),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )

    def follow(self, answer: Answer) -> Answer:
        """Go where a redirect points: a page of the same site, under its public name."""
        assert answer.status in (302, 303), answer.body[:500]
        parts = urlsplit(answer.get("Location") or "")
        assert parts.netloc == self.host, answer.headers
        return self.get(parts.path + (f"?{parts.query}" if parts.query else ""))
