"""The life of the engine's workers: reload, recycling, the end, and accidents."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.php import PhpServer
from stack.ports import is_open
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.raw_http import RawConnection, ask, request
from tests.acceptance.visitors import Visitors
from tests.proxy.shells.double import Backend, Call, plain

pytestmark = pytest.mark.acceptance

ROUTES = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: legacy}
backends:
  legacy: {url: "@LEGACY@"}
routes:
  - {name: hello, path: /hello, handler: "tests.acceptance.apps.handlers:hello", python: 100%}
  - {name: slow, path: /slow-python, handler: "tests.acceptance.apps.handlers:slow", python: 100%}
  - {name: hang, path: /hang, handler: "tests.acceptance.apps.handlers:hang", python: 100%}
"""

LATE = """\
  - {name: late, path: /late, handler: "tests.acceptance.apps.slow_import:hello", python: 100%}
"""

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
MANY = [["/hello", "/any/page"], ["/any/page", "/hello"]] * 2


@pytest.fixture
def legacy() -> Iterator[Backend]:
    with Backend() as backend:
        yield backend


def routes(legacy: Backend | PhpServer) -> str:
    return ROUTES.replace("@LEGACY@", f"http://127.0.0.1:{legacy.port}")


def pid_of(site: BridgeSite) -> int:
    """The worker that answers a new visitor."""
    return int(ask(site.address, request("GET", "/hello", site.address)).get("X-Pid") or 0)


def stop(site: BridgeSite) -> None:
    """Ask it to end, and wait until it takes no new visitors."""
    site.server.signal(signal.SIGTERM)
    wait_for(lambda: not is_open(site.server.port), what="no new visitors")


def ended_well(site: BridgeSite) -> bool:
    wait_for(lambda: not site.server.alive, what="the end of the server")
    return site.exit_code == 0 and "Traceback" not in site.server.log_text()


# --- recycling


def test_recycling_the_only_worker_under_load_fails_no_request(
    tmp_path: Path, php: PhpServer
) -> None:
    recycle(tmp_path, php, workers=1, lives=4)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [1, 2])
def test_recycling_fifty_times_under_load_fails_no_request(
    tmp_path: Path, php: PhpServer, workers: int
) -> None:
    recycle(tmp_path, php, workers, lives=50)


def recycle(folder: Path, php: PhpServer, workers: int, lives: int) -> None:
    """Visitors keep their connections and retry nothing."""
    options = ["--max-requests", "40"]
    with (
        BridgeSite(folder, routes(php), workers=workers, options=options) as site,
        Visitors(site.address, *MANY) as visitors,
    ):

        def lived() -> int:
            return site.server.log_text().count("Booting worker")

        wait_for(lambda: lived() >= workers + lives, 5 * lives, "new workers")
        assert len(site.server.processes()) <= 1 + 3 * workers
    assert visitors.failures == []
    assert len({seen.headers["X-Pid"] for seen in visitors.answers if "X-Pid" in seen.headers}) > 2


def test_a_worker_goes_on_until_the_next_one_serves(tmp_path: Path, legacy: Backend) -> None:
    """The next one takes as long to start as this test likes."""
    gate, waiting = tmp_path / "gate", tmp_path / "waiting"
    gate.touch()
    options = ["--max-requests", "1"]
    env = {"TEST_GATE": str(gate)}
    with BridgeSite(tmp_path, routes(legacy) + LATE, options=options, env=env) as site:
        first = site.workers()[0].pid
        gate.unlink()
        assert pid_of(site) == first
        ask(site.address, request("GET", "/any/page", site.address))
        wait_for(waiting.exists, what="the next worker is starting")
        assert [pid_of(site) for _ in range(20)] == [first] * 20
        gate.touch()
        wait_for(lambda: first not in site.server.processes(), what="the end of the first")
        assert pid_of(site) != first


def test_who_is_replaced_may_take_longer_than_the_graceful_timeout(
    tmp_path: Path, legacy: Backend
) -> None:
    """And the end of the whole server cuts that short."""
    legacy.when("/chat", echo)
    options = ["--max-requests", "1", "--graceful-timeout", "1"]
    with (
        BridgeSite(tmp_path, routes(legacy), options=options) as site,
        RawConnection(site.address) as tunnel,
    ):
        open_tunnel(tunnel, site)
        (first,) = site.workers()
        while pid_of(site) == first.pid:
            pass
        beats = Beats(first.pid)
        wait_for(lambda: beats.seconds() > 1.5, what="more than the graceful timeout")
        tunnel.send(b"still here")
        assert tunnel.exactly(10) == b"still here"
        assert len(site.server.processes()) <= 1 + 3
        site.server.signal(signal.SIGTERM)
        assert tunnel.ended()
        assert ended_well(site)


@pytest.mark.long
def test_how_long_a_worker_lives_is_drawn_for_each(tmp_path: Path, legacy: Backend) -> None:
    options = ["--max-requests", "20"]
    with BridgeSite(tmp_path, routes(legacy), options=options) as site:
        with RawConnection(site.address) as visitor:
            asked = 0
            while "ends after" not in site.server.log_text():
                visitor.send(request("GET", "/any/page", site.address))
                visitor.answer()
                asked += 1
                assert asked < 10_000
        said = site.server.log_text().partition("ends after ")[2]
        assert 20 <= int(said.split()[0]) <= asked


# --- reload


def test_three_reloads_under_load_fail_no_request_and_replace_no_worker(
    tmp_path: Path, php: PhpServer
) -> None:
    with (
        BridgeSite(tmp_path, routes(php), workers=2) as site,
        Visitors(site.address, *MANY) as visitors,
    ):
        before = {worker.pid for worker in site.workers()}
        for number in range(3):
            seen = len(visitors.answers)
            site.write(routes(php) + f"# {number}\n")
            site.server.signal(signal.SIGHUP)
            site.live(lambda worker, least=number + 2: worker.generation >= least, 10, "reload")
            wait_for(lambda seen=seen: len(visitors.answers) > seen + 20, what="more visitors")
        assert {worker.pid for worker in site.workers()} == before
    assert visitors.failures == []


# --- the end


def test_the_end_waits_for_a_slow_download_an_upload_and_a_tunnel(
    tmp_path: Path, legacy: Backend
) -> None:
    large = bytes(range(256)) * 2**16
    legacy.when("/large", plain(body=large))
    legacy.when("/upload", repeat)
    legacy.when("/chat", echo)
    with (
        BridgeSite(tmp_path, routes(legacy)) as site,
        RawConnection(site.address) as download,
        RawConnection(site.address) as upload,
        RawConnection(site.address) as tunnel,
    ):
        download.send(request("GET", "/large", site.address))
        _, framing = download.head()
        upload.send(request("POST", "/upload", site.address, body=b"0123456789")[:-5])
        wait_for(lambda: legacy.of("/upload"), what="the first half at legacy")
        open_tunnel(tunnel, site)
        stop(site)
        upload.send(b"56789")
        answer = upload.answer()
        assert (answer.body, answer.get("Connection")) == (b"0123456789", "close")
        tunnel.send(b"still here")
        assert tunnel.exactly(10) == b"still here"
        assert download.body(framing) == large
        for visitor in (download, upload, tunnel):
            visitor.close()
        assert ended_well(site)


def test_who_is_not_done_in_time_is_let_go_and_told_so(tmp_path: Path, legacy: Backend) -> None:
    """After the graceful timeout: a tunnel ends, an unanswered request gets 503."""
    legacy.when("/chat", echo)
    options = ["--graceful-timeout", "1"]
    with (
        BridgeSite(tmp_path, routes(legacy), options=options) as site,
        RawConnection(site.address) as tunnel,
        RawConnection(site.address) as slow,
    ):
        open_tunnel(tunnel, site)
        slow.send(request("GET", f"/slow-python?desk={tmp_path}", site.address))
        wait_for((tmp_path / "began").exists, what="the handler has begun")
        site.server.signal(signal.SIGTERM)
        answer = slow.answer()
        assert (answer.status, answer.get("Retry-After")) == (503, "2")
        assert slow.ended()
        assert tunnel.ended()
        assert ended_well(site)
        assert {line["status"] for line in site.log()} == {101, 503}


def test_the_end_waits_for_nobody_who_asks_nothing(tmp_path: Path, legacy: Backend) -> None:
    """And what is logged in memory is written before it."""
    with (
        BridgeSite(tmp_path, routes(legacy), options=["--graceful-timeout", "60"]) as site,
        RawConnection(site.address) as idle,
    ):
        idle.send(request("GET", "/hello", site.address))
        assert idle.answer().status == 200
        idle.send(request("GET", "/any/page", site.address))
        assert idle.answer().status == 200
        site.server.signal(signal.SIGTERM)
        assert idle.ended()
        idle.close()
        assert ended_well(site)
        assert [line["path"] for line in site.log()] == ["/hello", "/any/page"]


def repeat(call: Call) -> None:
    body = call.body()
    call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def echo(call: Call) -> None:
    call.send(SWITCHED)
    while data := call.sock.recv(65536):
        call.send(data)
    call.close()


def open_tunnel(visitor: RawConnection, site: BridgeSite) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    visitor.send(request("GET", "/chat", site.address, headers))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += visitor.exactly(1)
    assert head.startswith(b"HTTP/1.1 101 ")
    visitor.send(b"hello")
    assert visitor.exactly(5) == b"hello"


# --- accidents


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path, legacy: Backend) -> None:
    with BridgeSite(tmp_path, routes(legacy)) as site:
        (worker,) = site.workers()
        os.kill(worker.pid, signal.SIGKILL)
        # Whoever connects now waits in the queue of the socket, which is still there.
        answer = ask(site.address, request("GET", "/hello", site.address))
        assert answer.body == b"python\n"
        assert int(answer.get("X-Pid") or 0) != worker.pid
        site.live(lambda other: other.pid != worker.pid, 10, "another worker")


def test_a_worker_that_hangs_is_replaced(tmp_path: Path, legacy: Backend) -> None:
    """A handler in C that does not let go of the interpreter stops the event loop too."""
    options = ["--worker-timeout", "1"]
    with (
        BridgeSite(tmp_path, routes(legacy), options=options) as site,
        RawConnection(site.address) as stuck,
    ):
        first = pid_of(site)
        stuck.send(request("GET", f"/hang?desk={tmp_path}", site.address))
        wait_for((tmp_path / "began").exists, what="the worker hangs")
        # Not before: it may still take a visitor in at the very moment in which it hangs.
        wait_for(lambda: "WORKER TIMEOUT" in site.server.log_text(), 20, "it is given up")
        assert pid_of(site) != first


@pytest.mark.long
def test_a_worker_that_is_busy_for_long_is_not_taken_for_dead(
    tmp_path: Path, legacy: Backend
) -> None:
    """Its event loop runs on, however long a handler takes."""
    options = ["--worker-timeout", "1"]
    with (
        BridgeSite(tmp_path, routes(legacy), options=options) as site,
        RawConnection(site.address) as slow,
    ):
        (worker,) = site.workers()
        slow.send(request("GET", f"/slow-python?desk={tmp_path}", site.address))
        wait_for((tmp_path / "began").exists, what="the handler has begun")
        beats = Beats(worker.pid)
        wait_for(lambda: beats.seen() >= 3, what="three signs of life")
        (tmp_path / "go").touch()
        assert slow.answer().body == b"slow python\n"
        assert pid_of(site) == worker.pid


class Beats:
    """The signs of life that a worker gives: gunicorn's are times in a file without a name."""

    def __init__(self, pid: int) -> None:
        folder = Path(f"/proc/{pid}/fd")
        names = [fd for fd in folder.iterdir() if "wgunicorn-" in os.readlink(fd)]
        self._file = names[0]
        self._times: set[float] = set()

    def seen(self) -> int:
        """How many there were since this is looked at."""
        self._times.add(self._file.stat().st_mtime)
        return len(self._times)

    def seconds(self) -> float:
        """The time between the first and the last of them."""
        self.seen()
        return max(self._times) - min(self._times)


@pytest.mark.long
def test_a_worker_that_cannot_start_ends_no_site(tmp_path: Path, legacy: Backend) -> None:
    with BridgeSite(tmp_path, routes(legacy), workers=2) as site:
        metrics = site.state / "metrics"
        hidden = metrics.rename(site.state / "hidden")
        metrics.touch()  # where a folder is needed
        one, other = (worker.pid for worker in site.workers())
        os.kill(one, signal.SIGKILL)
        wait_for(lambda: "Trying again" in site.server.log_text(), what="a failed start")
        assert pid_of(site) == other
        metrics.unlink()
        hidden.rename(metrics)
        site.live(lambda worker: worker.pid != one, 15, "two workers again")
