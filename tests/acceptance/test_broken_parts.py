"""Broken handlers, pages and sync.yaml stop neither a start nor an emergency flip."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.sync.freshness import COOKIE, Entry, Keys
from stack.php import PhpServer
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.raw_http import Answer, ask, request

pytestmark = pytest.mark.acceptance

TABLE = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php@PAGES@}
backends:
  php: {url: "@PHP@"}
  gone: {url: "http://127.0.0.1:1"}
routes:
  - {name: hello, path: /hello, handler: tests.acceptance.apps.handlers:hello, python: 100%@READS@}
  - {name: dead, path: /dead, legacy: gone}
"""
SLOW = '  - {name: slow, path: /slow, handler: "hanging_views:view", python: 0%}\n'
HANGING = """\
import pathlib, time
gate = pathlib.Path(__file__).with_name("open")
while not gate.exists():
    time.sleep(0.01)
from tests.acceptance.apps.handlers import hello as view
"""
OWN_PAGE = "<h1>We are sorry"
KEY = ("a1", "a-secret-of-tests-long-enough")


def table(php: PhpServer, more: str = "", pages: str = "", reads: str = "") -> str:
    text = TABLE.replace("@PHP@", php.url).replace("@PAGES@", pages).replace("@READS@", reads)
    return text + more


def get(site: BridgeSite, target: str = "/hello", **headers: str) -> Answer:
    return ask(site.address, request("GET", target, site.address, dict(headers)))


def operator(site: BridgeSite, path: str) -> Answer:
    """What the operator's listener answers, when it is there: it starts after the workers."""

    def answer() -> Answer | None:
        try:
            return ask(site.operator, request("GET", path, site.operator))
        except OSError:
            return None

    return wait_for(answer, 30, "the operator's listener")


def health(site: BridgeSite) -> Answer:
    return operator(site, "/health")


def kill_all(site: BridgeSite) -> None:
    """Kill every worker, and wait until as many others are there."""
    killed = {worker.pid for worker in site.workers()}
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    site.live(lambda worker: worker.pid not in killed, 30, "new workers")


def test_an_emergency_flip_is_live_while_an_import_hangs_and_so_is_a_start(
    tmp_path: Path, php: PhpServer
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "hanging_views.py").write_text(HANGING, encoding="utf-8")
    env = {"PYTHONPATH": f"{REPOSITORY}:{code}", "BRIDGE_IMPORT_LIMIT": "1s"}
    site = BridgeSite(tmp_path / "site", table(php), workers=2, operator=True, env=env)
    with site:
        site.write(table(php, SLOW))
        site.live(lambda w: len(w.rows) == 3, 5, "the table whose handler hangs")
        assert health(site).status == 503
        done = site.bridge("flip", "hello", "0%", "--why", "back, now")
        assert done.returncode == 0, done.stderr
        assert "live in 2 of 2 workers" in done.stdout
        assert get(site).body != b"python\n"
        site.live(lambda w: "hanging_views.py:4" in w.error, 10, "where it hangs")
        kill_all(site)
        assert get(site).body != b"python\n"
        assert site.bridge("flip", "hello", "100%", "--why", "forth").returncode == 0
        assert get(site).body == b"python\n"
        site.server.stop()
        site.start()
        assert get(site).body == b"python\n"
        (code / "open").touch()
        site.live(lambda w: not w.error, 10, "the handler")
        assert health(site).status == 200
        assert site.bridge("flip", "slow", "100%", "--why", "it is there").returncode == 0
        assert get(site, "/slow").body == b"python\n"


def unlink(page: Path) -> None:
    page.unlink()


def spoil(page: Path) -> None:
    page.write_bytes(b"caf\xe9")


def make_pipe(page: Path) -> None:
    page.unlink()
    os.mkfifo(page)


@pytest.mark.parametrize("harm", [unlink, spoil, make_pipe])
def test_workers_come_back_with_the_error_page_that_there_was(
    tmp_path: Path, php: PhpServer, harm: Callable[[Path], None]
) -> None:
    text = table(php, pages=", error_pages: {default: sorry.html}")
    site = BridgeSite(tmp_path / "site", text, workers=2, operator=True)
    page = site.routes.with_name("sorry.html")
    page.write_text(OWN_PAGE, encoding="utf-8")
    with site:
        assert get(site, "/dead").body == OWN_PAGE.encode()
        harm(page)
        site.live(lambda w: "sorry.html" in w.error, 5, "the error")
        assert health(site).status == 503
        kill_all(site)
        assert get(site, "/dead").body == OWN_PAGE.encode()
        assert get(site).body == b"python\n"
        assert site.bridge("flip", "hello", "0%", "--why", "all the same").returncode == 0
        assert get(site).body != b"python\n"
        site.server.stop()
        site.start()
        assert get(site, "/dead").body == OWN_PAGE.encode()


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "nothing kept"])
def test_workers_come_back_while_sync_yaml_is_broken(
    tmp_path: Path, php: PhpServer, kept: bool
) -> None:
    """Whoever has just written gets legacy's page, since MongoDB is not there to be asked."""
    env = {"BRIDGE_FRESHNESS_KEYS": ":".join(KEY), "BRIDGE_MONGODB_URL": "mongodb://127.0.0.1:1/x"}
    text = table(php, reads=", reads: [project]")
    site = BridgeSite(tmp_path / "site", text, workers=2, operator=True, env=env)
    sync = site.routes.with_name("sync.yaml")
    good = "version: 1\nentities:\n  project: {collection: projects}\n"
    sync.write_text(good, encoding="utf-8")
    with site:
        assert get(site).body == b"python\n"
        sync.write_text(good.replace("collection", "colection"), encoding="utf-8")
        if not kept:
            (site.state / "last-good.mirrored.json").unlink()
        kill_all(site)
        site.live(lambda w: "colection" in w.error, 5, "the error is said")
        assert get(site).body == b"python\n"
        token = Keys([KEY]).sign([Entry("project", "vim", 3, int(time.time()))])
        assert get(site, Cookie=f"{COOKIE}={token}").body != b"python\n"
        wait_for(lambda: b"broken" in health(site).body, 20, "the listener says so")
        assert b"bridge_requests_total" in operator(site, "/metrics").body
        site.server.stop()
        site.start()
        assert get(site).body == b"python\n"
        sync.write_text(good, encoding="utf-8")
        kill_all(site)
        site.live(lambda w: not w.error, 5, "no error any more")


def test_workers_start_while_the_state_directory_is_of_no_use(
    tmp_path: Path, php: PhpServer
) -> None:
    """And say what they run as soon as there is one."""
    site = BridgeSite(tmp_path / "site", table(php), workers=2, operator=False)
    with site:
        killed = {worker.pid for worker in site.workers()}
        shutil.rmtree(site.state)
        site.state.write_text("in the way", encoding="utf-8")
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert get(site).body == b"python\n"
        site.state.unlink()
        site.live(lambda w: w.pid not in killed and not w.error, 20, "new workers")
        assert site.bridge("flip", "hello", "0%", "--why", "back").returncode == 0
        assert get(site).body != b"python\n"
