"""The process that compares, by itself: what it makes of copies, and when it ends."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.evidence.asking import PURPOSE
from bridge.evidence.differences.found import Counts
from bridge.evidence.differences.store import Evidence
from bridge.evidence.release import release_of, rules_of
from bridge.files import is_alive
from bridge.proxy.shadow.copies import Copied
from bridge.proxy.shadow.sender import SOCKET, Sender, socket_address
from bridge.proxy.telemetry import scrape, shadowing
from bridge.proxy.telemetry.scrape import by_two
from bridge.settings import Settings
from stack.process import REPOSITORY
from stack.waiting import wait_for
from tests.proxy.shells.double import BOUND, Backend, plain

HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Set-Cookie", "seen=1; Path=/")]
HANDLER = "tests.evidence.shadow.handlers:page"


@dataclass
class Running:
    """The process, and a worker that sends to it."""

    process: subprocess.Popen[bytes]
    state: Path
    routes: Path
    sender: Sender
    settings: dict[str, str]
    sent: Counter[bool] = field(default_factory=Counter)

    def copy(self, target: str = "/page", body: bytes = b"page", **fields: object) -> None:
        """A visitor has asked for this, and legacy has answered with `body`."""
        told = {
            "route": "page", "digest": "d", "method": "GET", "target": target,
            "host": "forge.example", "headers": [("Cookie", "a=1")], "scheme": "http",
            "peer": "192.0.2.7", "status": 200, "reason": "OK",
            "answer": HEADERS, "length": len(body), "sha256": "", "whole": True, "at": 1.0,
            "body": body,
        }  # fmt: skip
        self.sender.put(Copied(**(told | fields)), 0)  # type: ignore[arg-type]

    def kinds(self, count: int) -> dict[str, int]:
        """How many comparisons there were of each kind, when there are so many."""

        def found() -> Counter[str]:
            kinds: Counter[str] = Counter()
            for (_, kind), number in by_two(self.state, scrape.SHADOW).items():
                kinds[kind] += number
            return kinds

        wait_for(lambda: found().total() >= count, BOUND * 3, f"{count} comparisons")
        return found()


def text(port: int, more: str = "") -> str:
    return (
        "version: 1\nsites: {forge: {hosts: [forge.example], legacy: php}}\n"
        f'backends: {{php: {{url: "http://127.0.0.1:{port}"}}}}\n'
        f'routes:\n  - {{name: page, path: /page, handler: "{HANDLER}", python: 0%, '
        f"timeout: 300ms, shadow: {{share: 100%}}{more}}}\n"
    )


@pytest.fixture(scope="module")
def double() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


@pytest.fixture
def backend(double: Backend) -> Backend:
    double.clear()
    double.when("/page", plain("200 OK", *map(": ".join, HEADERS), body=b"page"))
    return double


Start = Callable[..., Running]


@pytest.fixture
def start(backend: Backend, tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(more: str = "", memory: int = 512) -> Running:
        routes, state = tmp_path / "routes.yaml", tmp_path / "state"
        routes.write_text(text(backend.port, more))
        scrape.prepare(state)
        settings = {"BRIDGE_ROUTES": str(routes), "BRIDGE_STATE_DIR": str(state)}
        words = [sys.executable, "-m", "bridge.evidence.shadow", str(os.getpid()), str(memory)]
        env = os.environ | settings | {"PYTHONPATH": str(REPOSITORY)}
        process = subprocess.Popen(words, env=env, cwd=tmp_path)
        started.append(process)
        sent: Counter[bool] = Counter()
        sender = Sender(state, lambda copied, size, well: sent.update([well]))
        running = Running(process, state, routes, sender, settings, sent)
        sign = state / "shadow" / str(process.pid)
        wait_for(lambda: sign.exists() or process.poll() is not None, 30, "a sign of life")
        return running

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_each_kind_of_answer_is_counted_and_is_evidence_of_this_release(
    start: Start, backend: Backend
) -> None:
    running = start()
    for what in ("", "decline", "differ", "fail"):
        running.copy(f"/page?do={what}")
    running.copy(body=b"another")  # legacy answers otherwise now
    running.copy(status=503)
    running.copy(status=429)
    running.copy(route="gone")
    kinds = running.kinds(8)
    assert kinds == {
        "same": 1, "declined": 1, "different": 2, "noise": 1, "not-compared": 3,
    }  # fmt: skip
    running.process.send_signal(signal.SIGINT)
    running.process.wait(BOUND * 3)
    settings = Settings.from_environ(running.settings)
    release = release_of([HANDLER], settings)
    found = Evidence(running.state).counts(release, rules_of(settings))
    page = found["page"]
    assert (page.same, page.declined, page.different, page.noise) == (1, 1, 2, 1)
    assert page.not_compared + found["gone"].not_compared == 3


def test_legacy_is_asked_again_only_where_something_differs_and_can_tell(
    start: Start, backend: Backend
) -> None:
    running = start()
    running.copy()
    running.kinds(1)
    assert backend.received == []
    running.copy("/page?do=differ")
    running.kinds(2)
    assert len(backend.received) == 2
    for again in backend.received:
        assert again.method == "GET"
        assert again.target == b"/page?do=differ"
        assert again.get("Cookie") == "a=1"
        assert again.get(PURPOSE[0]) == PURPOSE[1]


def test_a_route_may_forbid_to_ask_legacy_again(start: Start, backend: Backend) -> None:
    running = start(", compare: {again: false}")
    running.copy("/page?do=differ")
    assert running.kinds(1) == {"different": 1}
    assert backend.received == []


def test_a_larger_body_is_compared_by_its_digest(start: Start) -> None:
    running = start()
    digest = hashlib.sha256(b"page").hexdigest()
    running.copy(body=b"", length=4, sha256=digest, whole=False)
    assert running.kinds(1) == {"same": 1}


def test_a_change_of_routes_yaml_is_followed(start: Start, backend: Backend) -> None:
    running = start()
    running.copy("/page?do=differ")
    running.kinds(1)
    running.routes.write_text(text(backend.port, ", compare: {again: false}"))

    def followed() -> bool:
        before = len(backend.received)
        running.copy("/page?do=differ")
        running.kinds(running.sent.total())
        return len(backend.received) == before

    wait_for(followed, BOUND, "the new file")


def test_the_socket_is_of_this_user_alone_and_the_process_yields(start: Start) -> None:
    running = start()
    assert stat.S_IMODE((running.state / SOCKET).stat().st_mode) == 0o600
    assert os.getpriority(os.PRIO_PROCESS, running.process.pid) == 19


def test_bytes_of_a_stranger_end_that_connection_only(start: Start) -> None:
    running = start()
    with socket.socket(socket.AF_UNIX) as stranger, socket_address(running.state) as address:
        stranger.connect(address)
        stranger.settimeout(BOUND)
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(1) == b""
    running.copy()
    assert running.kinds(1) == {"same": 1}
    assert b'bridge_shadow_dropped_total{why="broken"} 1.0' in scrape.scrape(running.state)


@pytest.mark.parametrize("what", ["hang", "grow", "crash"])
def test_it_ends_when_handlers_hang_grow_or_crash(start: Start, what: str) -> None:
    running = start(memory=200)
    for _ in range(24):
        running.copy(f"/page?do={what}")
    running.process.wait(BOUND * 3)
    assert running.process.returncode != 0


def counted(running: Running) -> Counts:
    """What is evidence of this release."""
    settings = Settings.from_environ(running.settings)
    release = release_of([HANDLER], settings)
    return Evidence(running.state).counts(release, rules_of(settings)).get("page", Counts())


def test_a_request_of_which_python_dies_again_and_again_is_different(start: Start) -> None:
    running = start()
    running.copy("/page?do=crash")
    running.process.wait(BOUND * 3)
    for _ in range(2):  # it is asked for alone, and each process dies of it
        running = start()
        running.process.wait(BOUND * 3)
    assert counted(running) == Counts()
    running = start()
    wait_for(lambda: counted(running).different == 1, BOUND, "the one that kills")
    (group,) = Evidence(running.state).groups("page")
    assert (group.place, group.what) == ("answer", "died")
    running.copy()
    assert running.kinds(2)["same"] == 1


def test_what_was_under_way_when_somebody_killed_it_is_asked_once_more(start: Start) -> None:
    running = start()
    running.copy("/page?do=hang")
    work = running.state / "shadow-unfinished"
    wait_for(lambda: work.is_dir() and any(work.iterdir()), BOUND, "a request under way")
    text = next(work.iterdir()).read_text()
    assert "a=1" not in text  # the visitor's cookie
    running.process.kill()
    running.process.wait()
    (work / "0").write_text(text.replace("do=hang", "do="))
    running = start()
    assert running.kinds(1) == {"same": 1}
    wait_for(lambda: not any(work.iterdir()), BOUND, "nothing under way")


def test_equal_heads_are_no_evidence_of_pages(start: Start) -> None:
    running = start()
    running.copy(method="HEAD", body=b"", length=0)
    assert running.kinds(1) == {"not-compared": 1}


@pytest.mark.slow
def test_one_that_holds_the_interpreter_is_seen_to_be_silent(start: Start) -> None:
    running = start()
    pid = running.process.pid
    assert not shadowing.is_silent(running.state, pid, 1.0)
    running.copy("/page?do=hold")
    wait_for(lambda: shadowing.is_silent(running.state, pid, 1.0), 30, "its silence")
    assert running.process.poll() is None


def test_it_ends_with_its_parent(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "routes.yaml").write_text(text(backend.port))
    code = (
        "import os, subprocess, sys, pathlib, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'bridge.evidence.shadow', "
        "str(os.getpid())])\n"
        "sign = pathlib.Path('.bridge/shadow', str(child.pid))\n"
        "while not sign.exists() and child.poll() is None: time.sleep(0.01)\n"
        "print(child.pid, flush=True)\n"
    )
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-c", code]
    out = subprocess.run(words, env=env, cwd=tmp_path, stdout=subprocess.PIPE, timeout=60).stdout
    wait_for(lambda: not is_alive(int(out)), BOUND, "its end")
