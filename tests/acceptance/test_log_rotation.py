"""The access log is moved away while visitors come: `bridgectl serve` goes on in a new file."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from stack.php import PhpServer
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.raw_http import RawConnection, ask, request
from tests.acceptance.visitors import Visitors

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - {name: hello, path: /hello, handler: "tests.acceptance.apps.handlers:hello", python: 100%}
"""


def routes(php: PhpServer) -> str:
    return ROUTES.replace("@PHP@", php.url)


def writers(file: Path, site: BridgeSite) -> int:
    """How many workers have `file` open."""
    wanted, found = file.stat().st_ino, 0
    for worker in site.workers():
        for descriptor in Path(f"/proc/{worker.pid}/fd").iterdir():
            try:
                found += descriptor.stat().st_ino == wanted
            except OSError:
                continue  # closed by now
    return found


def lines(file: Path) -> list[dict[str, object]]:
    """Every line, each of which must be whole."""
    text = file.read_text(encoding="ascii")
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGHUP])
def test_no_line_is_lost_when_the_log_is_rotated_under_load(
    tmp_path: Path, php: PhpServer, number: signal.Signals
) -> None:
    with BridgeSite(tmp_path, routes(php), workers=2) as site:
        log, moved = site.access_log, []
        parent = int((site.state / "serve.pid").read_text(encoding="ascii"))
        pids = {worker.pid for worker in site.workers()}
        with Visitors(site.address, *[["/hello", "/any/page"]] * 2) as visitors:
            for turn in range(3):
                seen = len(visitors.answers)
                wait_for(lambda seen=seen: len(visitors.answers) > seen + 50, what="visitors")
                moved.append(log.with_suffix(f".{turn}"))
                log.rename(moved[-1])
                os.kill(parent, number)
                wait_for(lambda: log.exists() and writers(log, site) == 2, what="a new file")
                assert writers(moved[-1], site) == 0
            seen = len(visitors.answers)
            wait_for(lambda: len(visitors.answers) > seen + 50, what="visitors after the last one")
        assert visitors.failures == []
        assert {worker.pid for worker in site.workers()} == pids
        site.server.signal(signal.SIGTERM)
        wait_for(lambda: not site.server.alive, what="the end of the server")
        assert "Traceback" not in site.server.log_text()
    found = [lines(file) for file in (*moved, log)]
    assert all(found)
    ids = [line["request_id"] for part in found for line in part]
    assert len(ids) == len(set(ids)) == len(visitors.answers)


def test_what_ended_before_the_signal_is_in_the_old_file(tmp_path: Path, php: PhpServer) -> None:
    with (
        BridgeSite(tmp_path, routes(php)) as site,
        RawConnection(site.address) as visitor,
    ):
        old = site.access_log.with_suffix(".1")
        site.access_log.rename(old)
        visitor.send(request("GET", "/hello", site.address))
        assert visitor.answer().body == b"python\n"
        site.server.signal(signal.SIGUSR1)
        wait_for(site.access_log.exists, what="a new file")
        assert [line["path"] for line in lines(old)] == ["/hello"]
        assert lines(site.access_log) == []


def test_the_old_file_stays_while_there_can_be_no_new_one(tmp_path: Path, php: PhpServer) -> None:
    with BridgeSite(tmp_path, routes(php)) as site:
        old = site.access_log.with_suffix(".1")
        site.access_log.rename(old)
        site.access_log.mkdir()
        site.server.signal(signal.SIGUSR1)
        said = "cannot open the access log anew"
        wait_for(lambda: said in site.server.log_text(), what="the error")
        ask(site.address, request("GET", "/hello", site.address))
        wait_for(lambda: lines(old), what="its line in the old file")
        site.access_log.rmdir()
        site.server.signal(signal.SIGUSR1)
        wait_for(site.access_log.exists, what="a new file")
        ask(site.address, request("GET", "/any/page", site.address))
        wait_for(lambda: lines(site.access_log), what="its line in the new file")
        assert [line["path"] for line in lines(old)] == ["/hello"]
