"""Addresses are compared as browsers compare them, held against a real one."""

from __future__ import annotations

import html
import json
import random
import re

import pytest

from bridge.proxy.request.address import resolve
from stack.chromium import Chromium

BASES = ["http://www.example.org/a/b?q=1", "https://www.example.org/", "http://example.org:8080/x/"]
TEXT = (
    "/|/|//|\\|.|..|%2e|%2E|a|b|?|#|q=1|:|:80|:443|:8080|@|http:|https:|HTTP://|;|&|+|~|http:/|"
    "http://www.example.org|www.example.org|WWW.Example.ORG|é|ü.example.org|%C3%A9|%e9|'|\"|`|<|>|"
    "{|}|^|[|]|[::1]| |\t|%|%41|127.1|0x7f.0.0.1|user:pw@|mailto:|javascript:|https:\\\\|.."
    "|xn--bcher-kva.example"
)
PIECES = TEXT.split("|")


WEB = re.compile(r"(https?)://([^/?#]*)(/[^#]*)(?:#.*)?", re.DOTALL)
HOST = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+\.?(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?")


def locations() -> list[str]:
    """The same ones every time: the browser takes seconds to start."""
    chosen = random.Random(20)
    made = ["".join(chosen.choices(PIECES, k=chosen.randint(0, 7))) for _ in range(4000)]
    return [*PIECES, *dict.fromkeys(made)]


def split(url: str) -> tuple[str, str, str]:
    """Scheme, host and target of an address as a browser has it."""
    found = WEB.fullmatch(url)
    assert found, url
    return found[1], found[2].rpartition("@")[2], found[3]


def is_web(url: str | None) -> bool:
    """Whether it goes to a host that a site can have: letters, digits, dots and hyphens."""
    found = WEB.fullmatch(url or "")
    return found is not None and HOST.fullmatch(found[2].rpartition("@")[2]) is not None


@pytest.fixture(scope="module")
def hrefs(tmp_path_factory: pytest.TempPathFactory) -> list[list[str | None]]:
    """Where Chromium would go, for each base and location."""
    home = tmp_path_factory.mktemp("chromium")
    page = home / "page.html"
    asked = json.dumps([BASES, locations()]).replace("<", "\\u003c")
    page.write_text(
        "<meta charset=utf-8><pre id=out></pre><script>"
        f"const [bases, all] = {asked};"
        "const go = (at, base) => { try { return new URL(at, base).href } catch { return null } };"
        "document.getElementById('out').textContent ="
        " JSON.stringify(bases.map(base => all.map(at => go(at, base))));</script>",
        encoding="utf-8",
    )
    shown = Chromium.shown(page.as_uri(), home / "profile")
    found = re.search(r"<pre id=\"out\">(.*?)</pre>", shown, re.DOTALL)
    assert found, shown[:500]
    answered: list[list[str | None]] = json.loads(html.unescape(found[1]))
    return answered


@pytest.mark.parametrize("number", range(len(BASES)))
def test_a_location_is_read_as_a_browser_reads_it(
    hrefs: list[list[str | None]], number: int
) -> None:
    """Headers are bytes: a browser takes those of a Location for UTF-8."""
    base, wrong = split(BASES[number]), []
    for location, href in zip(locations(), hrefs[number], strict=True):
        ours = resolve(*base, location.encode().decode("latin-1"))
        if href and WEB.fullmatch(href) and not is_web(href):
            continue
        if ours != (resolve(*split(href)) if href and is_web(href) else None):
            wrong.append((location, href, ours))
    assert not wrong, "\n".join(map(str, wrong))


def test_different_addresses_stay_different(hrefs: list[list[str | None]]) -> None:
    """Whatever differs for the browser, but for http and https, differs here."""
    seen: dict[str, str] = {}
    for found in hrefs:
        for href in found:
            if href and is_web(href):
                scheme, host, target = split(href)
                plain = f"{host}{target}".replace("^", "%5E")
                form = resolve(scheme, host, target)
                assert form
                assert seen.setdefault(form, plain) == plain


@pytest.mark.parametrize(
    "location",
    [
        "http://www.example.org",
        "HTTP://WWW.EXAMPLE.ORG/",
        "https://www.example.org:443/",
        "http://www.example.org:80/",
        "//www.example.org/#top",
        "/",
        "/x/../",
        "/%2e/",
        "\\",
        " / ",
    ],
)
def test_spellings_of_the_start_page_are_the_start_page(location: str) -> None:
    assert resolve("http", "www.example.org", "/y", location) == resolve(
        "http", "www.example.org", "/"
    )
