"""A flip that needs evidence, on a site that runs: refused, then done, and void with new code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.evidence.differences.store import Evidence
from stack.php import PhpServer
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.raw_http import ask, request
from tests.evidence.differences.notes import note

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites: {s: {hosts: ["@ADDRESS@"], legacy: php}}
backends: {php: {url: "@PHP@"}}
flips: {require: different<1%}
groups: {pages: {python: 0%}}
routes:
  - {name: front, path: /front, handler: "shop_views:front", group: pages}
  - {name: back, path: /back, handler: "shop_views:front", group: pages}
"""
VIEW = "from tests.acceptance.apps.handlers import hello as front\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "shop_views.py").write_text(VIEW)
    return folder


@pytest.fixture
def site(tmp_path: Path, code: Path, php: PhpServer) -> Iterator[BridgeSite]:
    env = {"PYTHONPATH": f"{REPOSITORY}:{code}"}
    routes = ROUTES.replace("@PHP@", php.url)
    with BridgeSite(tmp_path, routes, workers=2, env=env, operator=True) as site:
        yield site


def _standing(site: BridgeSite) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(site.bridge("routes", "-o", "json").stdout)["evidence"]
    return found


def _compared(site: BridgeSite, route: str, many: int) -> None:
    """As `bridgectl compare` and the shadow note it."""
    now = _standing(site)
    evidence = Evidence(site.state)
    for _ in range(many):
        evidence.note(note(route=route, release=now["release"], rules=now["rules"]))
    evidence.close()


def test_a_group_is_raised_when_each_of_its_routes_has_been_compared(
    site: BridgeSite, code: Path
) -> None:
    flip = ("flip", "pages", "100%", "--why", "compared", "--watch", "0s")
    _compared(site, "front", 300)
    refused = site.bridge(*flip)
    assert refused.returncode == 5
    assert "back: nothing was compared; 299 that are the same are needed" in refused.stderr
    assert "front" not in refused.stderr

    _compared(site, "back", 299)
    done = site.bridge(*flip)
    assert done.returncode == 0, done.stderr
    assert "live in 2 of 2 workers" in done.stdout
    assert "front 0 of 300 compared were different" in done.stdout
    answer = ask(site.address, request("GET", "/back", site.address, {}))
    assert answer.get("X-Side") == "python"

    def metrics() -> str:
        return ask(site.operator, request("GET", "/metrics", site.operator)).body.decode()

    line = 'bridge_compared_total{kind="same",route="front"} 300.0'
    wait_for(lambda: line in metrics(), 30, "what was compared in the metrics")
    assert 'bridge_different_upper_bound{route="back"} 0.00996' in metrics()

    (code / "shop_views.py").write_text(f"{VIEW}# another release\n")
    assert _standing(site)["routes"] == {}
    assert site.bridge("flip", "pages", "50%", "--why", "less", "--watch", "0s").returncode == 0
    again = site.bridge(*flip)
    assert again.returncode == 5
    assert "front: nothing was compared" in again.stderr

    for route in ("front", "back"):
        _compared(site, route, 300)
    again = site.bridge(*flip)
    assert again.returncode == 5
    assert "workers run older code than" in again.stderr
    assert "nothing was changed" in again.stderr
