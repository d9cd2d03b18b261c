"""`bridgectl serve` is restarted, as systemctl does, while visitors come through the shipped
web servers: each of them is answered, forms included."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from stack.bridge import PythonServer
from stack.waiting import wait_for
from tests.deploy.fronts import FRONTS, HOST, Front, front_of
from tests.proxy.shells.double import Backend, answer, plain
from tests.proxy.shells.visitor import request

pytestmark = pytest.mark.acceptance

VISITORS = 4
RESTARTS = 2
ROUTES = """\
version: 1
sites:
  s: {{hosts: [www.example.org], legacy: php}}
backends:
  php: {{url: "http://127.0.0.1:{port}"}}
trusted_proxies: [unix]
routes: []
"""

# What systemd does for a socket unit and its service: it keeps the socket, and at a restart it
# ends the service, waits until it is gone, and starts it again.
SYSTEMD = """\
import os, signal, socket, subprocess, sys
held = socket.socket(socket.AF_UNIX)
held.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
held.listen(2048)
os.dup2(held.fileno(), 3)
os.set_inheritable(3, True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP, signal.SIGTERM})
def child():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP, signal.SIGTERM})
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
while True:
    service = subprocess.Popen(sys.argv[2:], pass_fds=[3], preexec_fn=child)
    number = signal.sigwait({signal.SIGHUP, signal.SIGTERM})
    service.terminate()
    print("the service ended with", service.wait(), flush=True)
    if number == signal.SIGTERM:
        break
"""


class Held(PythonServer):
    """`bridgectl serve` at a unix socket that outlives it; SIGHUP restarts it."""

    name: ClassVar[str] = "held"

    def __init__(self, directory: Path, routes: Path) -> None:
        super().__init__(directory, port=0, env={"BRIDGE_ROUTES": str(routes)})
        self.socket = self.directory / "shop.sock"

    def command(self) -> Sequence[str]:
        serve = [sys.executable, "-m", "bridge", "serve", "--workers", "2", "--access-log", ""]
        return [sys.executable, "-c", SYSTEMD, str(self.socket), *serve]

    def ready(self) -> bool:
        return self.starts() > 0

    def starts(self) -> int:
        """How often the service has begun to serve."""
        return self.log_text().count("Listening at")


def _come(front: Front, number: int, stop: threading.Event, wrong: list[str]) -> int:
    """Ask and send forms, each on a connection of its own, until told to stop."""
    count = 0
    while not stop.is_set() or count == 0:
        count += 1
        form = f"visitor={number}&count={count}".encode()
        with front.visitor() as visitor:
            visitor.send(request("POST", "/save", host=HOST, body=form))
            got = visitor.answer()
        if (got.status, got.body) != (200, b"saved"):
            wrong.append(f"POST {count}: {got.line}")
        if (page := front.ask("/page")).status != 200:
            wrong.append(f"GET {count}: {page.line}")
    return count


@pytest.mark.parametrize(
    "name",
    [name if name == "nginx" else pytest.param(name, marks=pytest.mark.long) for name in FRONTS],
)
def test_nobody_is_lost_when_serve_is_restarted(name: str, tmp_path: Path) -> None:
    """And no form arrives twice."""
    with Backend() as legacy:
        legacy.when("/save", answer(plain(body=b"saved")))
        routes = tmp_path / "routes.yaml"
        routes.write_text(ROUTES.format(port=legacy.port))
        held = Held(tmp_path / "held", routes)
        with held, front_of(name, tmp_path / "front", held.socket) as front:
            stop, wrong, counts = threading.Event(), [], [0] * VISITORS

            def visit(number: int) -> None:
                counts[number] = _come(front, number, stop, wrong)

            threads = [threading.Thread(target=visit, args=(n,)) for n in range(VISITORS)]
            for thread in threads:
                thread.start()
            try:
                for restart in range(1, RESTARTS + 1):
                    before = len(legacy.received)
                    wait_for(lambda n=before: len(legacy.received) > n + 20, 20, "visitors")
                    held.signal(signal.SIGHUP)
                    wait_for(lambda n=restart: held.starts() > n, 30, "the next serve")
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            assert wrong == []
            forms = [one.body for one in legacy.of("/save")]
            assert len(forms) == len(set(forms)) == sum(counts)
            assert held.log_text().count("the service ended with 0") == RESTARTS
