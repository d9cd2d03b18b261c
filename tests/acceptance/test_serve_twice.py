"""One state directory, and more than one `bridgectl serve` that wants it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.proxy.telemetry import scrape
from bridge.proxy.telemetry.workers import WorkerStatus
from stack.php import PhpServer
from stack.ports import free_port
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite, run_bridge
from tests.acceptance.raw_http import RawConnection, ask, request

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php}
backends:
  php: {url: "@PHP@"}
routes:
  - {name: hello, path: /hello, handler: "tests.acceptance.apps.handlers:hello", python: 100%}
  - {name: slow, path: /slow-python, handler: "tests.acceptance.apps.handlers:slow", python: 100%}
"""
REQUESTS = 'bridge_requests_total{backend="python",route="hello",status="2xx"}'


def routes(php: PhpServer) -> str:
    return ROUTES.replace("@PHP@", php.url)


@pytest.fixture
def site(tmp_path: Path, php: PhpServer) -> Iterator[BridgeSite]:
    with BridgeSite(tmp_path, routes(php)) as site:
        yield site


def hello(site: BridgeSite) -> None:
    answer = ask(site.address, request("GET", "/hello", site.address))
    assert answer.body == b"python\n"


def counted(site: BridgeSite, name: str = REQUESTS) -> float:
    """One sample of the numbers of all workers."""
    lines = scrape.scrape(site.state).decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))


def pid_file(site: BridgeSite) -> int:
    return int((site.state / "serve.pid").read_text(encoding="ascii"))


def beside(site: BridgeSite) -> subprocess.CompletedProcess[str]:
    """A second `bridgectl serve` with the same state directory, at another port."""
    return run_bridge("serve", "--bind", f"127.0.0.1:{free_port()}", env=site.env)


def start_anew(site: BridgeSite) -> list[WorkerStatus]:
    """SIGUSR2; the workers of the new parent, once they serve."""
    old = {worker.pid for worker in site.workers()}
    site.server.signal(signal.SIGUSR2)

    def new() -> list[WorkerStatus]:
        return [worker for worker in site.workers() if worker.pid not in old]

    return wait_for(new, 20, "new workers")


def new_parent(site: BridgeSite) -> int:
    wait_for((site.state / "serve.pid.2").exists, what="the new parent's pid file")
    return int((site.state / "serve.pid.2").read_text(encoding="ascii"))


def test_a_second_one_is_refused_and_costs_the_first_nothing(site: BridgeSite) -> None:
    hello(site)
    wait_for(lambda: counted(site) == 1, what="it is counted")
    before = site.workers()
    done = beside(site)
    assert done.returncode == 1
    said = f"bridgectl serve already runs here (process {site.server.pid}, state directory"
    assert f"{said} {site.state}); stop it, or set BRIDGE_STATE_DIR" in done.stderr
    assert "Traceback" not in done.stderr
    assert site.workers() == before
    hello(site)
    wait_for(lambda: counted(site) == 2, what="counting goes on")


def test_a_pid_file_that_was_left_behind_keeps_none_from_starting(
    tmp_path: Path, php: PhpServer
) -> None:
    """Its number is another process's by now."""
    foreign = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        site = BridgeSite(tmp_path, routes(php))
        site.state.mkdir()
        for name in ("serve.pid", "serve.pid.2"):
            (site.state / name).write_text(f"{foreign.pid}\n", encoding="ascii")
        with site:
            assert pid_file(site) == site.server.pid
            start_anew(site)
            assert new_parent(site) in site.server.processes()
    finally:
        foreign.communicate(b"\n", timeout=10)


def test_who_comes_after_one_that_was_killed_does_not_wait_for_its_workers(
    tmp_path: Path, site: BridgeSite, php: PhpServer
) -> None:
    env = {"BRIDGE_STATE_DIR": str(site.state)}
    other = BridgeSite(tmp_path / "other", routes(php), env=env)
    other.state = site.state
    with RawConnection(site.address) as visitor:
        visitor.send(request("GET", f"/slow-python?desk={tmp_path}", site.address))
        wait_for((tmp_path / "began").exists, what="the handler has begun")
        (busy,) = site.workers()
        os.kill(site.server.pid, signal.SIGKILL)
        wait_for(lambda: not site.server.alive, what="its end")
        with other:
            assert busy.pid in site.server.processes()

            def new() -> WorkerStatus | None:
                """Once it serves, and the other one, which goes, counts no more."""
                found = other.workers()
                return found[0] if len(found) == 1 and found[0].pid != busy.pid else None

            worker = wait_for(new, what="the new worker")
            assert worker.slot != busy.slot
            hello(other)
            (tmp_path / "go").touch()
            assert visitor.answer().body == b"slow python\n"


@pytest.mark.slow
def test_status_and_doctor_miss_one_that_was_killed_and_none_that_was_stopped(
    site: BridgeSite,
) -> None:
    pid = site.server.pid
    assert site.bridge("status").returncode == 0
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not site.server.processes(), 20, "its workers end, too")
    done = site.bridge("status", "-o", "json")
    assert done.returncode == 1
    assert f"(process {pid}) was killed or crashed" in json.loads(done.stdout)["errors"]["proxy"]
    assert "was killed" in site.bridge("status").stdout
    done = site.bridge("doctor")
    assert (done.returncode, "was killed or crashed" in " ".join(done.stdout.split())) == (1, True)
    with site:
        assert site.bridge("status").returncode == 0
    assert not (site.state / "serve.pid").exists()
    assert site.bridge("status").returncode == 0


# --- SIGUSR2


def test_after_sigusr2_both_count_in_slots_of_their_own_and_no_number_falls(
    site: BridgeSite,
) -> None:
    hello(site)
    (old,) = site.workers()
    (new,) = start_anew(site)
    assert new.slot != old.slot
    wait_for(lambda: counted(site, "bridge_workers") == 2, what="both serve")
    assert counted(site) == 1
    site.server.signal(signal.SIGTERM)
    wait_for(lambda: not site.server.alive, what="the end of the old one")
    wait_for(lambda: counted(site, "bridge_workers") == 1, what="only the new one serves")
    hello(site)
    wait_for(lambda: counted(site) == 2, what="counting goes on")


def documented(beginning: str) -> str:
    """The command of docs/deploy.md that begins so."""
    text = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    command = re.escape(beginning)
    (found,) = re.findall(rf"(?m)^ *({command}.*)$|`({command}.*?)`", text)
    return "".join(found)


def operator_does(site: BridgeSite, command: str, **env: str) -> None:
    """In the folder of the site, in a shell."""
    command = command.replace(".bridge/", f"{site.state}/")
    subprocess.run(["sh", "-ec", command], env={**os.environ, **env}, check=True)


@pytest.mark.parametrize("back", [False, True], ids=["on", "back"])
def test_the_documented_commands_restart_it_and_take_that_back(
    site: BridgeSite, back: bool
) -> None:
    old, (worker,) = site.server.pid, site.workers()
    operator_does(site, documented("old=$(cat"))
    wait_for(lambda: len(site.workers()) == 2, 20, "workers of both")
    (new,) = (one for one in site.workers() if one.pid != worker.pid)
    if back:
        operator_does(site, documented("kill -TERM $(cat .bridge/serve.pid.2)"))
    else:
        operator_does(site, documented("kill -TERM $old"), old=str(old))
    stays = worker if back else new
    wait_for(lambda: [one.pid for one in site.workers()] == [stays.pid], 20, "one worker")
    wait_for(lambda: site.server.alive is back, what="who is the parent")
    hello(site)


def test_an_old_one_that_is_killed_is_not_missed_where_a_new_one_serves(site: BridgeSite) -> None:
    start_anew(site)
    new = new_parent(site)
    site.server.signal(signal.SIGKILL)
    wait_for(lambda: not site.server.alive, what="its end")
    assert site.bridge("status").returncode == 0
    wait_for(lambda: pid_file(site) == new, what="the new one is the only one")
    assert site.bridge("status").returncode == 0


def test_after_sigusr2_the_directory_is_taken_until_both_are_gone(site: BridgeSite) -> None:
    start_anew(site)
    new = new_parent(site)
    assert "already runs here" in beside(site).stderr
    site.server.signal(signal.SIGTERM)
    wait_for(lambda: not site.server.alive, what="the end of the old one")
    assert "already runs here" in beside(site).stderr
    wait_for((site.state / "serve.pid").exists, what="the new one is the only one")
    assert pid_file(site) == new
    assert f"process {new}," in beside(site).stderr
    os.kill(new, signal.SIGTERM)
    wait_for(lambda: not site.server.processes(), what="the end of the new one")
    with site:
        hello(site)


def test_a_new_one_that_cannot_start_leaves_the_old_one_as_it_was(site: BridgeSite) -> None:
    hello(site)
    good = site.routes.read_bytes()
    (site.state / "last-good.yaml").unlink()
    site.routes.write_text("version: 2\n", encoding="utf-8")
    site.server.signal(signal.SIGUSR2)
    wait_for(lambda: "routes.yaml:1:" in site.server.log_text(), 20, "the refusal")
    site.routes.write_bytes(good)
    site.live(lambda worker: not worker.error, 10, "the good table")
    assert "already runs here" in beside(site).stderr
    assert counted(site) == 1


def test_old_workers_with_a_broken_table_neither_hide_nor_remove_what_the_new_ones_say(
    tmp_path: Path, site: BridgeSite
) -> None:
    """They say so again and again, as long as a visitor keeps them from ending."""
    (old,) = site.workers()
    with RawConnection(site.address) as visitor:
        visitor.send(request("GET", f"/slow-python?desk={tmp_path}", site.address))
        wait_for((tmp_path / "began").exists, what="the handler has begun")
        (new,) = start_anew(site)
        site.server.signal(signal.SIGTERM)
        good = site.routes.read_text(encoding="utf-8")
        site.routes.write_text(good.replace("/hello", "hello"), encoding="utf-8")
        wait_for(lambda: all(worker.error for worker in site.workers()), what="both say it")
        said = site.state / "workers" / f"{old.pid}.json"
        before = said.stat().st_ino
        wait_for(lambda: said.stat().st_ino != before, what="the old one says it again")
        assert {worker.pid for worker in site.workers()} == {old.pid, new.pid}
        (tmp_path / "go").touch()
        assert visitor.answer().body == b"slow python\n"
    wait_for(lambda: not site.server.alive, what="the end of the old one")
    (left,) = site.bridge_json("routes")["workers"]
    assert left["pid"] == new.pid


def test_what_a_killed_worker_had_is_gone_when_its_parent_notices(site: BridgeSite) -> None:
    (worker,) = site.workers()
    with RawConnection(site.address) as visitor:
        wait_for(lambda: counted(site, "bridge_visitors") == 1, what="a visitor")
        assert (site.state / "workers" / f"{worker.pid}.json").exists()
        os.kill(worker.pid, signal.SIGKILL)
        assert visitor.ended()
    site.live(lambda other: other.pid != worker.pid, 10, "another worker")
    assert not (site.state / "workers" / f"{worker.pid}.json").exists()
    wait_for(lambda: counted(site, "bridge_visitors") == 0, what="no visitor")
