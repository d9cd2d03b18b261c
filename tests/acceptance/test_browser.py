"""A real browser sees the same site through the bridge as without it, in both shells."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.bridge import BridgeWsgi
from stack.chromium import Chromium
from stack.nginx import NginxPhp
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.proxy.shells.double import Backend, Call

PAGES = Path(__file__).parent / "browser_pages"
BOUND = 120.0  # seconds for a whole page of checks

ROUTES = """\
version: 1
sites:
  pages: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - name: round
    path: /round
    wsgi: "tests.acceptance.apps.moving:round_and_round"
    python: 100%
"""

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def echo(call: Call) -> None:
    """A WebSocket that gives every message back (RFC 6455)."""
    key = (call.received.get("Sec-WebSocket-Key") or "").encode()
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    call.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    while head := call.read(2):
        size = head[1] & 127
        extended = call.read({126: 2, 127: 8}.get(size, 0))
        size = int.from_bytes(extended) if extended else size
        mask, data = call.read(4), call.read(size)
        plain = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))
        call.send(head[:1] + bytes((head[1] & 127,)) + extended + plain)
        if head[0] & 15 == 8:
            break
    call.close()


class Site:
    """The pages behind nginx and php-fpm, and the report of a browser that was there."""

    def __init__(self, php: NginxPhp, report: Path) -> None:
        self.php, self.report = php, report

    def seen_by(self, browser: Chromium, url: str) -> dict[str, Any]:
        """What the browser saw at `url`."""
        self.report.unlink(missing_ok=True)
        browser.open(f"{url}/page.html")

        def report() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = json.loads(self.report.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                return None
            return found

        found = wait_for(report, BOUND, "the report of the browser")
        assert found is not None
        return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def site(home: Path) -> Iterator[Site]:
    report = home / "report.json"
    with Backend() as sockets:
        sockets.when("/socket", echo)
        extra = f"""
            location /socket {{
                proxy_pass http://127.0.0.1:{sockets.port};
                proxy_http_version 1.1;
                proxy_set_header Upgrade $http_upgrade;
                proxy_set_header Connection upgrade;
            }}
        """
        env = {"REPORT": str(report)}
        with NginxPhp(home / "php", PAGES, extra=extra, env=env, children=8) as php:
            yield Site(php, report)


@pytest.fixture(scope="module")
def browser(home: Path) -> Iterator[Chromium]:
    with Chromium(home / "chromium") as browser:
        yield browser


@pytest.fixture(scope="module")
def without(site: Site, browser: Chromium) -> dict[str, Any]:
    """What the browser sees without the bridge."""
    found = site.seen_by(browser, site.php.url)
    wrong = [name for name, seen in found.items() if "Error" in str(seen) or seen == "never came"]
    assert wrong == ["leaves"], found  # where the page itself gives up
    return found


@pytest.fixture(scope="module")
def bridge(site: Site, home: Path) -> Iterator[BridgeSite]:
    with BridgeSite(home / "serve", ROUTES.replace("@PHP@", site.php.url)) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def wsgi(site: Site, home: Path) -> Iterator[BridgeWsgi]:
    """The same site under stock gunicorn."""
    folder = home / "wsgi"
    env = {"BRIDGE_ROUTES": str(folder / "routes.yaml"), "BRIDGE_STATE_DIR": str(folder / "state")}
    server = BridgeWsgi(folder, env=env)
    routes = ROUTES.replace("@PHP@", site.php.url).replace("@ADDRESS@", server.address)
    folder.mkdir()
    (folder / "routes.yaml").write_text(routes, encoding="utf-8")
    with server:
        yield server


def test_every_check_of_the_page_ends_as_without_the_bridge(
    site: Site, browser: Chromium, bridge: BridgeSite, without: dict[str, Any]
) -> None:
    assert site.seen_by(browser, bridge.server.url) == without


def test_under_stock_gunicorn_only_the_websocket_ends_otherwise(
    site: Site, browser: Chromium, wsgi: BridgeWsgi, without: dict[str, Any]
) -> None:
    """WSGI has no tunnel."""
    assert site.seen_by(browser, wsgi.url) == without | {"socket": ["refused", 1006]}


def test_a_tab_that_is_closed_lets_legacy_go(
    site: Site, browser: Chromium, bridge: BridgeSite
) -> None:
    """The page gives up on /slow.php, which takes seconds, and closes the connection."""
    site.seen_by(browser, bridge.server.url)
    slow = [line for line in bridge.log() if line["path"] == "/slow.php"]
    assert {line["status"] for line in slow} == {499}
    assert all(line["ms"] < 3000 for line in slow)


def test_a_redirect_loop_ends_with_a_page_that_says_so(
    bridge: BridgeSite, wsgi: BridgeWsgi, home: Path
) -> None:
    for server in (bridge.server, wsgi):
        shown = Chromium.shown(f"{server.url}/round", home / server.address)
        assert "This page refers back to itself without end." in shown
