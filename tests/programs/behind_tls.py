"""A program as it is served: nginx, which ends TLS, in front of the program's nginx and php-fpm;
with the bridge between the two, or without. And what its visitors get, to be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from stack.nginx import Nginx, NginxPhp
from stack.ports import free_port
from tests.acceptance.bridge_site import BridgeSite

__all__ = ["Way", "differences", "http_links", "recorded", "ways"]

FRONT = """
    client_max_body_size 0;
    server {
        listen @LISTEN@ ssl;
        ssl_certificate "@CERTIFICATE@";
        ssl_certificate_key "@KEY@";
        location / { include "@DIRECTORY@/pass.conf"; proxy_set_header X-Forwarded-Proto https; }
    }
    server {
        listen 127.0.0.1:@PLAIN@;
        location / { include "@DIRECTORY@/pass.conf"; proxy_set_header X-Forwarded-Proto http; }
    }
"""
PASS = """\
proxy_pass @BEHIND@;
proxy_http_version 1.1;
proxy_set_header Connection "";
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $remote_addr;
"""
ROUTES = """\
version: 1
trusted_proxies: [127.0.0.1]
sites:
  program: {hosts: ["127.0.0.1:*"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - name: all
    path: "/<path:rest>"
    methods: [GET, HEAD, POST]
    handler: "tests.acceptance.apps.handlers:hello"
    python: 0%
  - {name: start, path: /, handler: "tests.acceptance.apps.handlers:hello", python: 0%}
"""


@dataclass
class Way:
    """One way to the program: the addresses for visitors, with TLS and without."""

    url: str
    plain: str
    site: BridgeSite | None = None


class _Front(Nginx):
    """nginx that ends TLS, in front of `behind`."""

    def __init__(self, folder: Path, behind: str, certificate: tuple[Path, Path]) -> None:
        super().__init__(folder, FRONT)
        self.plain = free_port()
        self.behind = behind
        self.values = {
            "CERTIFICATE": str(certificate[0]),
            "KEY": str(certificate[1]),
            "PLAIN": str(self.plain),
        }

    def prepare(self) -> None:
        super().prepare()
        text = PASS.replace("@BEHIND@", self.behind)
        (self.directory / "pass.conf").write_text(text, encoding="utf-8")

    @property
    def way(self) -> Way:
        return Way(f"https://{self.address}", f"http://127.0.0.1:{self.plain}")


@contextmanager
def ways(folder: Path, php: NginxPhp, certificate: tuple[Path, Path]) -> Iterator[tuple[Way, Way]]:
    """The way to `php` without the bridge, and the one with it. Raises StackError."""
    site = BridgeSite(folder / "bridge", ROUTES.replace("@PHP@", php.url), workers=2)
    direct = _Front(folder / "direct", php.url, certificate)
    through = _Front(folder / "through", f"http://{site.address}", certificate)
    with ExitStack() as stack:
        for server in (php, site, direct, through):
            stack.enter_context(server)
        second = through.way
        second.site = site
        yield direct.way, second


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[requests.Response]]:
    """Every answer that comes meanwhile to anybody who uses requests, redirects among them."""
    answers: list[requests.Response] = []
    send = HTTPAdapter.send

    def noting(adapter: HTTPAdapter, *words: Any, **named: Any) -> requests.Response:
        answer = send(adapter, *words, **named)
        answers.append(answer)
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(HTTPAdapter, "send", noting)
        yield answers


_PASSING = {"date", "connection", "keep-alive", "content-length", "expires", "last-modified"}
"""Headers with times, or of one connection; the length is the body's, before it is masked."""


def _headers(answer: requests.Response, mask: Callable[[str], str]) -> list[tuple[str, str]]:
    """In their order. Of cookies the value is left out, and how it is set compared."""
    found = []
    for name, value in answer.raw.headers.items():
        if name.lower() == "set-cookie":
            pair, _, attributes = value.partition(";")
            key, _, content = pair.partition("=")
            attributes = re.sub(r"expires=[^;]*", "expires=", attributes, flags=re.IGNORECASE)
            said = content if content in ("", "deleted", " ") else "…"
            found.append((name, mask(f"{key}={said};{attributes}")))
        elif name.lower() not in _PASSING:
            found.append((name, mask(value)))
    return found


def differences(
    direct: list[requests.Response],
    through: list[requests.Response],
    masks: list[tuple[str, str]],
) -> list[str]:
    """In what the answers differ, in words. `masks`: what is of one visit alone, and what stands
    for it."""

    def mask(text: str) -> str:
        for pattern, instead in masks:
            text = re.sub(pattern, instead, text)
        return text

    found = []
    if len(direct) != len(through):
        found.append(f"{len(direct)} answers directly, {len(through)} through the bridge")
    for number, (one, other) in enumerate(zip(direct, through, strict=False)):
        name = f"{number}: {one.request.method} {one.request.url}"
        if (one.status_code, one.reason) != (other.status_code, other.reason):
            found.append(f"{name}: {one.status_code} and {other.status_code}")
        if (a := _headers(one, mask)) != (b := _headers(other, mask)):
            found.append(f"{name}: {sorted(set(a) ^ set(b)) or 'headers in another order'}")
        if _is_text(one):
            lines = mask(one.text).splitlines(), mask(other.text).splitlines()
            unlike = [_apart(a, b) for a, b in zip(*lines, strict=False) if a != b]
            if unlike or len(lines[0]) != len(lines[1]):
                found.append(f"{name}: {len(lines[0])} and {len(lines[1])} lines, {unlike[:2]}")
        elif one.content != other.content:
            found.append(f"{name}: {len(one.content)} and {len(other.content)} bytes")
    return found


def http_links(answers: list[requests.Response], way: Way) -> list[str]:
    """Where a page, or a redirect, names the site with http in place of https."""
    host = re.escape(way.url.removeprefix("https://"))
    link = re.compile(rf"http:(?:\\?/|%2F){{2}}{host.replace(':', '(?::|%3A)')}")
    return [
        f"{answer.request.url}: {found[0]}"
        for answer in answers
        if (found := link.search(f"{answer.headers} {answer.text if _is_text(answer) else ''}"))
    ]


def _apart(one: str, other: str) -> tuple[str, str]:
    """The two lines from where they differ, and a little before."""
    same = (a == b for a, b in zip(one, other, strict=False))
    at = sum(1 for _ in takewhile(bool, same))
    return one[max(0, at - 40) : at + 60], other[max(0, at - 40) : at + 60]


def _is_text(answer: requests.Response) -> bool:
    kind = answer.headers.get("Content-Type", "")
    return kind.startswith("text/") or "json" in kind or "xml" in kind
