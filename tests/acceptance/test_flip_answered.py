"""A flip that is live and answers nothing says so, and so do explain, doctor and status: workers
with another environment, or with older code, than the shell has."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.php import PhpServer
from stack.process import REPOSITORY
from tests.acceptance.bridge_site import BridgeSite, run_bridge
from tests.acceptance.raw_http import ask, request
from tests.acceptance.visitors import Visitors

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php}
backends: {php: {url: "@PHP@"}}
routes:
  - {name: page, path: "/page/<name>", handler: "own_views:page", python: 0%}
  - {name: mirror, path: "/mirror/<name>", handler: "own_views:mirror", python: 0%}
"""

CODE = """\
import os
from tests.acceptance.apps.handlers import hello as page
from bridge.errors import UseLegacy
def mirror(request, name):
    if "MIRROR" not in os.environ.get("BRIDGE_MONGODB_URL", ""):
        raise UseLegacy("no mirror")
    return page(request)
"""
MIRROR = "mongodb://user:hush@127.0.0.1:1/MIRROR"


@pytest.fixture
def site(tmp_path: Path, php: PhpServer) -> Iterator[BridgeSite]:
    code = tmp_path / "code"
    code.mkdir()
    (code / "own_views.py").write_text(CODE, encoding="utf-8")
    env = {"PYTHONPATH": f"{REPOSITORY}:{code}"}
    routes = ROUTES.replace("@PHP@", php.url)
    with BridgeSite(tmp_path, routes, workers=2, operator=True, env=env) as site:
        yield site


def shell(
    site: BridgeSite, *words: str, expect: int, **env: str
) -> subprocess.CompletedProcess[str]:
    done = run_bridge(*words, env={**site.env, **env})
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def test_a_flip_says_who_answers(site: BridgeSite) -> None:
    quiet = shell(site, "flip", "page", "5%", "--why", "a try", expect=0).stdout
    assert "no request for it in 0." in quiet
    with Visitors(site.address, *[["/page/a", "/other"]] * 2):
        done = shell(site, "flip", "page", "100%", "--why", "all", "--watch", "1s", expect=0)
        found = json.loads(
            shell(site, "flip", "page", "0%", "--why", "back", "-o", "json", expect=0).stdout
        )
    assert "answered since then: python " in done.stdout
    assert "instead of Python" not in done.stdout
    assert found["answered"]["by"].keys() == {"php"}
    assert "answered by" in shell(site, "status", expect=0).stdout
    (digest,) = {worker.digest for worker in site.workers()}
    assert ask(site.operator, request("GET", "/health", "x", {})).get("Bridge-Table") == digest
    shown = ask(site.operator, request("GET", "/metrics", "x", {})).body.decode()
    assert f'bridge_routes_table{{table="{digest}"}} 2\n' in shown


@pytest.mark.slow
def test_workers_without_the_environment_of_the_shell_are_named(site: BridgeSite) -> None:
    with Visitors(site.address, ["/mirror/a"]):
        words = ("flip", "mirror", "100%", "--why", "a try", "--watch", "1s")
        said = shell(site, *words, expect=1, BRIDGE_MONGODB_URL=MIRROR).stdout
    assert "live in 2 of 2 workers" in said
    assert "answered since then: php " in said
    assert "by legacy instead of Python: declined " in said
    differs = "BRIDGE_MONGODB_URL differs: bridgectl serve has mongodb://127.0.0.1:27017/bridge"
    assert f"but {differs}, this shell has mongodb://user:***@127.0.0.1:1/MIRROR" in said
    explained = shell(site, "explain", "GET", "/mirror/a", expect=0, BRIDGE_MONGODB_URL=MIRROR)
    assert f"but {differs}" in explained.stdout
    status = shell(site, "status", expect=1, BRIDGE_MONGODB_URL=MIRROR).stdout
    assert differs in " ".join(status.split())
    findings = json.loads(
        shell(site, "doctor", "-o", "json", expect=1, BRIDGE_MONGODB_URL=MIRROR).stdout
    )
    (found,) = [one for one in findings if one["what"] == "environment"]
    assert (found["state"], found["where"]) == ("bad", "BRIDGE_MONGODB_URL")
    everything = said + explained.stdout + status + str(findings)
    everything += "".join(path.read_text() for path in (site.state / "workers").glob("*.json"))
    assert "hush" not in everything


@pytest.mark.slow
def test_code_that_is_newer_than_the_workers_is_named(site: BridgeSite) -> None:
    module = site.directory / "code" / "own_views.py"
    module.write_text(CODE + "# mended\n", encoding="utf-8")
    said = shell(site, "flip", "page", "100%", "--why", "all", expect=0).stdout
    assert f"but workers run older code than {module}: `systemctl restart bridge@NAME`" in said
    findings = json.loads(shell(site, "doctor", "-o", "json", expect=1).stdout)
    (found,) = [one for one in findings if one["state"] == "bad"]
    assert (found["what"], found["where"]) == ("workers", str(module))
    module.write_text(CODE, encoding="utf-8")
    assert "older code" not in shell(site, "explain", "GET", "/page/a", expect=0).stdout


@pytest.mark.slow
def test_a_new_function_that_workers_have_not_is_named(site: BridgeSite, php: PhpServer) -> None:
    module = site.directory / "code" / "own_views.py"
    module.write_text(CODE + "front = page\n", encoding="utf-8")
    new = '  - {name: front, path: /front, handler: "own_views:front", python: 0%}\n'
    site.write(ROUTES.replace("@PHP@", php.url) + new)
    said = shell(site, "flip", "front", "100%", "--why", "all", expect=1).stdout
    assert "but 2 of 2 workers have no Python side for it, so legacy answers there" in said
    assert "`own_views` has no `front`" in said
    explained = shell(site, "explain", "GET", "/front", expect=0).stdout
    assert "python answers: front" in explained
    assert "but legacy answers now in 2 of 2 workers, which have no Python side" in explained
    findings = json.loads(shell(site, "doctor", "-o", "json", expect=1).stdout)
    says = [one["says"] for one in findings if one["what"] == "workers"]
    assert says[0].startswith("2 of 2 workers run without a handler or another part: ")
    assert not any("old table" in one for one in says)
    assert [one["state"] for one in findings if one["what"] == "routes.yaml"] == ["ok"]
