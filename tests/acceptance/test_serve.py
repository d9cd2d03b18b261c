"""`bridgectl serve` as a process: how it starts, stops, replaces workers and is looked after."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.operator import broken
from stack.nginx import Nginx
from stack.php import PhpServer
from stack.ports import free_port, is_open
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite, run_bridge
from tests.acceptance.raw_http import Answer, RawConnection, ask, request
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
  - {name: slow, path: /slow-python, handler: "tests.acceptance.apps.handlers:slow", python: 100%}
  - {name: stream, path: /stream, handler: tests.acceptance.apps.handlers:slow_stream, python: 100%}
  - {name: endless, path: /endless, handler: "tests.acceptance.apps.handlers:endless", python: 100%}
"""


def routes(php: PhpServer) -> str:
    return ROUTES.replace("@PHP@", php.url)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, php: PhpServer) -> Iterator[BridgeSite]:
    """One that stays up, with an operator's listener that wants a token."""
    with BridgeSite(
        tmp_path_factory.mktemp("serve"),
        routes(php),
        operator=True,
        env={"BRIDGE_OPERATOR_TOKEN": "the-token"},
    ) as site:
        wait_for(lambda: is_open(int(site.operator.rpartition(":")[2])), what="the operator's")
        yield site


# --- the end


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/slow", b"slow php\n"),
        ("/slow-python", b"slow python\n"),
        ("/stream", b"slow stream\n"),
    ],
)
def test_sigterm_finishes_what_runs_and_leaves_no_process(
    tmp_path: Path, php: PhpServer, path: str, body: bytes
) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()
    with (
        BridgeSite(tmp_path, routes(php), workers=2, operator=True) as site,
        RawConnection(site.address) as visitor,
    ):
        visitor.send(request("GET", f"{path}?desk={desk}", site.address))
        wait_for((desk / "began").exists, what="the request is being answered")
        site.server.signal(signal.SIGTERM)
        wait_for(lambda: not is_open(site.server.port), what="no new visitors")
        assert site.server.alive
        (desk / "go").touch()
        answer = visitor.answer()
        visitor.close()
        assert (answer.status, answer.body) == (200, body)
        wait_for(lambda: not site.server.alive, what="the end of the server")
        assert site.exit_code == 0
        wait_for(lambda: not site.server.processes(), what="the end of all its processes")
        assert "Traceback" not in site.server.log_text()


def test_nothing_is_left_when_its_main_process_is_killed(tmp_path: Path, php: PhpServer) -> None:
    with BridgeSite(tmp_path, routes(php), workers=2, operator=True) as site:
        wait_for(lambda: is_open(int(site.operator.rpartition(":")[2])), what="the operator's")
        assert ask(site.operator, request("GET", "/health", site.operator)).status == 200
        assert len(site.server.processes()) == 4  # the main one, two workers, the operator's
        os.kill(site.server.pid, signal.SIGKILL)
        wait_for(lambda: not site.server.processes(), 15, "the end of all its processes")


def test_the_operators_listener_comes_back(tmp_path: Path, php: PhpServer) -> None:
    with BridgeSite(tmp_path, routes(php), operator=True) as site:
        port = int(site.operator.rpartition(":")[2])
        wait_for(lambda: is_open(port), what="the operator's listener")
        workers = {worker.pid for worker in site.workers()}
        (listener,) = set(site.server.processes()) - workers - {site.server.pid}
        os.kill(listener, signal.SIGKILL)
        wait_for(lambda: listener not in site.server.processes(), what="its end")
        wait_for(lambda: is_open(port), what="another one")


@pytest.mark.slow
def test_a_listener_that_cannot_come_back_is_told_once_and_seen_by_doctor(
    tmp_path: Path, php: PhpServer
) -> None:
    """Another program has its port. When that is gone, all is well again by itself."""
    with BridgeSite(tmp_path, routes(php), operator=True) as site:
        port = int(site.operator.rpartition(":")[2])
        wait_for(lambda: is_open(port), what="the operator's listener")
        workers = {worker.pid for worker in site.workers()}
        (listener,) = set(site.server.processes()) - workers - {site.server.pid}
        os.kill(listener, signal.SIGKILL)
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

            def has_it() -> bool:
                with contextlib.suppress(OSError):
                    holder.bind(("127.0.0.1", port))
                    holder.listen()
                    return True
                return False

            wait_for(has_it, what="another program has the port", interval=0.001)
            wait_for(lambda: broken(site.state), 20, "it is told")
            seen = wait_for(lambda: (site.state / "operator.broken").stat().st_mtime_ns, 5, "when")
            wait_for(
                lambda: (site.state / "operator.broken").stat().st_mtime_ns > seen, 20, "again"
            )
            said = json.loads(site.bridge("doctor", "-o", "json").stdout)
            (bad,) = (one for one in said if one["state"] == "bad")
            assert bad["what"] == "operator's listener"
            assert f"cannot listen on {site.operator}: Address already in use" in bad["says"]
        assert site.server.log_text().count("no metrics and no health") == 1
        wait_for(lambda: is_open(port), 20, "the listener is back")
        wait_for(lambda: not broken(site.state), what="nothing is told any more")
        assert [one["state"] for one in site.bridge_json("doctor") if one["state"] == "bad"] == []


def test_a_handler_ends_when_its_visitor_leaves(tmp_path: Path, site: BridgeSite) -> None:
    with RawConnection(site.address) as visitor:
        visitor.send(request("GET", f"/endless?desk={tmp_path}", site.address))
        answer, _ = visitor.head()
        assert answer.status == 200
        assert visitor.some()
        assert not (tmp_path / "closed").exists()
    wait_for((tmp_path / "closed").exists, what="the handler's own end")


# --- the beginning


def test_a_taken_port_is_said_plainly(tmp_path: Path, php: PhpServer) -> None:
    routes_file = tmp_path / "routes.yaml"
    routes_file.write_text(routes(php).replace("@ADDRESS@", "localhost"), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        address = f"127.0.0.1:{holder.getsockname()[1]}"
        done = run_bridge(
            *("serve", "--bind", address, "--operator", f"127.0.0.1:{free_port()}"),
            env={"BRIDGE_ROUTES": str(routes_file), "BRIDGE_STATE_DIR": str(tmp_path / "state")},
        )
    assert done.returncode == 1
    assert f"cannot listen on {address}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("whose", ["another program's", "the visitors'"])
def test_a_taken_port_of_the_operators_is_said_before_anything_starts(
    tmp_path: Path, php: PhpServer, whose: str
) -> None:
    routes_file = tmp_path / "routes.yaml"
    routes_file.write_text(routes(php).replace("@ADDRESS@", "localhost"), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as holder:
        bind = f"127.0.0.1:{free_port()}"
        taken = f"127.0.0.1:{holder.getsockname()[1]}" if whose == "another program's" else bind
        done = run_bridge(
            *("serve", "--bind", bind, "--operator", taken),
            env={"BRIDGE_ROUTES": str(routes_file), "BRIDGE_STATE_DIR": str(tmp_path / "state")},
        )
    assert done.returncode == 1
    assert taken in done.stderr
    assert "choose another" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists(), "nothing was begun"


def test_the_operators_port_of_one_that_was_killed_is_waited_for(
    tmp_path: Path, php: PhpServer
) -> None:
    """Its listener needs a second to see that its parent is gone."""
    with BridgeSite(tmp_path, routes(php), operator=True) as site:
        port = int(site.operator.rpartition(":")[2])
        wait_for(lambda: is_open(port), what="the operator's listener")
        os.kill(site.server.pid, signal.SIGKILL)
        wait_for(lambda: not site.server.alive, what="its end")
        with site:
            assert len(site.workers()) == 1


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--bind", "127.0.0.1:99999"], 2, "--bind 127.0.0.1:99999: there are ports up to 65535"),
        (["--bind", "foo"], 2, "--bind foo is no address; write host:port"),
        (["--bind", "18083"], 2, "--bind 18083 is no address; write host:port (127.0.0.1:18083"),
        (["--bind", "unix:"], 2, "--bind unix:: the path is missing; write unix:/path"),
        (["--operator", "18184"], 2, "--operator 18184 is no host:port"),
        (["--operator", "127.0.0.1:80800"], 2, "--operator 127.0.0.1:80800 is no host:port"),
        (["--keyfile", "key.pem"], 2, "--keyfile needs --certfile"),
        (["--bind", "unix:/no/such/folder/s"], 1, "there is no folder /no/such/folder"),
        (["--graceful-timeout", "-1"], 2, "Invalid value for '--graceful-timeout'"),
    ],
)
def test_a_wrong_option_is_named_at_once(
    tmp_path: Path, php: PhpServer, words: list[str], code: int, says: str
) -> None:
    routes_file = tmp_path / "routes.yaml"
    routes_file.write_text(routes(php).replace("@ADDRESS@", "localhost"), encoding="utf-8")
    env = {"BRIDGE_ROUTES": str(routes_file), "BRIDGE_STATE_DIR": str(tmp_path / "state")}
    done = run_bridge("serve", *words, env=env)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists(), "nothing was begun"


def test_the_help_says_what_the_defaults_are_and_what_the_operator_gets() -> None:
    said = " ".join(run_bridge("serve", "--help", env={}).stdout.split())
    assert "[default: (standard output)]" in said
    assert "/metrics, /health and /routes here, and take /events" in said


# --- replacing workers


def test_replacing_workers_under_load_fails_no_request(tmp_path: Path, php: PhpServer) -> None:
    """Visitors keep their connections and retry nothing."""
    options = ["--max-requests", "60"]
    with BridgeSite(tmp_path, routes(php), workers=2, options=options) as site:
        pids: set[int] = set()

        def eight_workers_came_and_went() -> bool:
            pids.update(worker.pid for worker in site.workers())
            return len(pids) >= 10

        targets = ["/hello", "/any/page"]
        with Visitors(site.address, *[targets, targets[::-1]] * 2) as visitors:
            wait_for(eight_workers_came_and_went, 30, "ten different workers")
        assert visitors.failures == []
        sides = {b"python\n" if seen.target == "/hello" else b"php" for seen in visitors.answers}
        assert sides == {b"python\n", b"php"}
        for seen in visitors.answers:
            wanted = b"python\n" if seen.target == "/hello" else b"php GET /any/page\n"
            assert seen.body.startswith(wanted)
        # A worker that replaces another goes on in its files: recycling leaves nothing behind.
        slots = [path.stem for path in (site.state / "metrics").glob("*.cells")]
        assert 2 <= len(slots) <= 6
        living = {f"{pid}.json" for pid in site.server.processes()}
        assert {path.name for path in (site.state / "workers").glob("*.json")} <= living


# --- the operator's listener


def test_without_the_token_the_operators_listener_says_nothing(site: BridgeSite) -> None:
    for path in ("/metrics", "/routes", "/health", "/nothing"):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic the-token"},
        ):
            answer = ask(site.operator, request("GET", path, site.operator, headers))
            assert answer.status == 401
            assert answer.body == b"a bearer token is needed\n"


def test_with_the_token_it_shows_what_runs(site: BridgeSite) -> None:
    headers = {"Authorization": "Bearer the-token"}

    def tell(path: str, method: str = "GET") -> Answer:
        return ask(site.operator, request(method, path, site.operator, headers))

    ask(site.address, request("GET", "/hello", site.address))
    wanted = 'bridge_requests_total{backend="python",route="hello",status="2xx"}'
    wait_for(lambda: wanted in tell("/metrics").body.decode(), what=wanted)
    (worker,) = json.loads(tell("/routes").body)
    assert [row["route"] for row in worker["rows"]] == ["hello", "slow", "stream", "endless"]
    assert tell("/health").body == b"ok\n"
    assert tell("/routes", "POST").status == 405


def test_an_address_for_other_machines_is_refused_without_a_token(
    tmp_path: Path, php: PhpServer
) -> None:
    routes_file = tmp_path / "routes.yaml"
    routes_file.write_text(routes(php).replace("@ADDRESS@", "localhost"), encoding="utf-8")
    for host in ("0.0.0.0", "[::]", "192.0.2.1", "operator.example.org"):
        done = run_bridge(
            *("serve", "--bind", f"127.0.0.1:{free_port()}", "--operator", f"{host}:9180"),
            env={"BRIDGE_ROUTES": str(routes_file), "BRIDGE_STATE_DIR": str(tmp_path / "state")},
        )
        assert done.returncode == 1
        assert "set BRIDGE_OPERATOR_TOKEN, or listen on 127.0.0.1" in done.stderr


def test_the_public_port_has_nothing_of_the_operators(site: BridgeSite) -> None:
    for path in ("/metrics", "/routes", "/health"):
        headers = {"Authorization": "Bearer the-token"}
        answer = ask(site.address, request("GET", path, site.address, headers))
        assert answer.body.startswith(f"php GET {path}\n".encode())


# --- the bytes


TARGETS = [
    "/größe?q=ü".encode(),
    "/größe?q=ü".encode("latin-1"),
    b"/a%2Fb//c/../d;x=%25?a=1&&b=+%zz%00",
    b"//elsewhere.example/x",
]


def test_the_target_reaches_nginx_byte_for_byte(tmp_path: Path) -> None:
    """Links with raw bytes have always worked with nginx and Apache."""
    echo = "server { listen @LISTEN@; location / { return 200 $request_uri; } }"
    with Nginx(tmp_path / "nginx", echo) as nginx:
        text = ROUTES.replace("@PHP@", nginx.url)
        with BridgeSite(tmp_path / "site", text) as site:
            head = b" HTTP/1.1\r\nHost: %b\r\n\r\n" % site.address.encode()
            answers = [ask(site.address, b"GET " + target + head) for target in TARGETS]
    assert [(answer.status, answer.body) for answer in answers] == [(200, t) for t in TARGETS]


def test_new_handler_code_is_taken_up_without_a_failed_request(
    tmp_path: Path, php: PhpServer
) -> None:
    """SIGUSR2 starts new processes beside the old ones, SIGTERM then ends the old."""
    with (
        BridgeSite(tmp_path, routes(php), workers=2, operator=True) as site,
        Visitors(site.address, *[["/hello", "/any/page"]] * 4) as visitors,
    ):
        wait_for(lambda: is_open(int(site.operator.rpartition(":")[2])), what="the operator's")
        old = set(site.server.processes())
        site.server.signal(signal.SIGUSR2)
        wait_for(lambda: len({w.pid for w in site.workers()} - old) == 2, 20, "two new workers")
        assert len(site.workers()) == 4, "the old ones still serve"
        site.server.signal(signal.SIGTERM)
        wait_for(lambda: not old & set(site.server.processes()), 20, "the end of the old ones")
        seen = len(visitors.answers)
        wait_for(lambda: len(visitors.answers) > seen + 100, what="more visitors")
        assert pids_of(visitors) - old, "the new workers answer"
        new = set(site.server.processes())
        assert {worker.pid for worker in site.workers()} < new
        assert len(site.workers()) == 2
        pid_file = site.state / "serve.pid"
        wait_for(pid_file.exists, what="the new main process takes over the pid file")
        assert int(pid_file.read_text(encoding="ascii")) in new
        wait_for(lambda: is_open(int(site.operator.rpartition(":")[2])), what="the operator's")
    assert visitors.failures == []


def pids_of(visitors: Visitors) -> set[int]:
    """The workers whose handlers answered."""
    return {int(seen.headers["X-Pid"]) for seen in visitors.answers if "X-Pid" in seen.headers}
