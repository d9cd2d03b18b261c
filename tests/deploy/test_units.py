"""The units for systemd: examined by systemd, and their ExecStart lines run as an ordinary user.

No systemd runs here: what it does itself (the sandbox, restarts, the timer) is unproven.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from stack.process import REPOSITORY, Server
from stack.waiting import wait_for
from tests.deploy.shipped import DEPLOY
from tests.proxy.shells.double import Backend
from tests.proxy.shells.visitor import request

pytestmark = pytest.mark.acceptance

UNITS = sorted(path.name for path in (DEPLOY / "systemd").iterdir())
SERVICES = [name for name in UNITS if name.endswith(".service")]
NOBODY = 65534
MOST_EXPOSED = 20  # of 100, as `systemd-analyze security` counts; 96 without any of it
ROUTES = """\
version: 1
sites:
  s: {{hosts: [www.example.org], legacy: php}}
backends:
  php: {{url: "http://127.0.0.1:{port}"}}
trusted_proxies: [unix]
routes:
  - {{name: hello, path: "/hello/<name>", handler: "pages:hello", python: {share}}}
"""
SYNC = """\
version: 1
outbox: {table: bridge_outbox, source: /shop}
entities:
  product: {collection: products, source: {table: products, key: id, version: ver}}
"""


@pytest.fixture
def systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return found


@dataclass
class Site:
    """/srv/shop, /run/bridge and /var/log/bridge of a machine, in a folder of their own that an
    ordinary user may write to."""

    home: Path

    @property
    def srv(self) -> Path:
        return self.home / "srv" / "shop"

    def unit(self, name: str) -> str:
        """The text of a unit, as systemd reads it for `…@shop`, with this folder's places."""
        text = (DEPLOY / "systemd" / name).read_text(encoding="utf-8").replace("%i", "shop")
        for place in ("/srv/", "/run/bridge/", "/var/log/bridge/", "/etc/bridge/"):
            text = text.replace(place, f"{self.home}{place}")
        return text

    def settings(self, name: str) -> dict[str, str]:
        """The settings of a unit, the last of each name, without its sections and comments."""
        lines = (line for line in self.unit(name).splitlines() if not line.startswith(("#", "[")))
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def words(self, name: str, setting: str = "ExecStart") -> list[str]:
        """A command line of a unit, its variables replaced as systemd does: from Environment=."""
        settings = self.settings(name)
        variable, _, value = settings.get("Environment", "").strip('"').partition("=")
        line = settings[setting]
        return (line.replace(f"${variable}", value) if variable else line).split()


@pytest.fixture
def site() -> Iterator[Site]:
    """Not in pytest's folder, which is closed to other users."""
    if os.geteuid() == 0:
        closed = [p for p in (REPOSITORY, *REPOSITORY.parents) if not p.stat().st_mode & 0o001]
        if closed:
            pytest.skip(f"{closed[0]} is closed to other users; run the tests as one, or open it")
    home = Path(tempfile.mkdtemp(prefix="bridge-units-"))
    home.chmod(0o755)
    made = Site(home)
    state = made.srv / ".bridge"
    for folder in (state, home / "run" / "bridge", home / "var" / "log" / "bridge"):
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
    (made.srv / ".venv" / "bin").mkdir(parents=True)
    (made.srv / ".venv" / "bin" / "bridgectl").symlink_to(Path(sys.prefix) / "bin" / "bridgectl")
    shutil.copy(REPOSITORY / "examples" / "site" / "pages.py", made.srv)
    yield made
    shutil.rmtree(home)


# What systemd does before it starts a program, of what any program may do to itself: who it is
# (setresuid), umask, NoNewPrivileges, MemoryDenyWriteExecute (prctl 38 and 65), its socket as
# descriptor 3, and an environment of nothing else.
LAUNCH = """\
import ctypes, json, os, socket, sys
uid, umask, listen, env, *words = sys.argv[1:]
env = json.loads(env)
if listen:
    held = socket.socket(socket.AF_UNIX)
    held.bind(listen)
    os.chmod(listen, 0o666)
    held.listen(64)
    os.dup2(held.fileno(), 3)
    os.set_inheritable(3, True)
    env |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
os.umask(int(umask, 8))
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)
os.execve(words[0], words, env)
"""


class Unit(Server):
    """A service, started as systemd would for an ordinary user. It is ready when it has said so on
    NOTIFY_SOCKET, or when `says` is in its log, or, for a unit that ends by itself, at once."""

    name: ClassVar[str] = "unit"

    def __init__(
        self, site: Site, name: str, env: Mapping[str, str], *, listen: str = "", says: str = ""
    ) -> None:
        super().__init__(site.home / name.partition("@")[0], port=0, cwd=site.srv)
        self.words, self.umask = site.words(name), site.settings(name)["UMask"]
        self.listen, self.says = listen, says
        self.unit_env = {"PATH": os.defpath, "LANG": "C.UTF-8", **env}
        self.notified: socket.socket | None = None
        if site.settings(name)["Type"] == "notify":
            path = site.home / "notify"
            self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.notified.bind(str(path))
            self.notified.setblocking(False)
            path.chmod(0o777)
            self.unit_env["NOTIFY_SOCKET"] = str(path)

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-c", LAUNCH, str(NOBODY), self.umask, self.listen),
            *(json.dumps(self.unit_env), *self.words),
        ]

    def kill(self) -> None:
        super().kill()
        if self.notified is not None:
            self.notified.close()

    def ready(self) -> bool:
        if self.notified is None:
            return self.says in self.log_text()
        try:
            return b"READY=1" in self.notified.recv(4096)
        except BlockingIOError:
            return False


def _verify(site: Site, systemd_analyze: str, name: str) -> str:
    """All that systemd has to say about a unit; it says nothing about a good one."""
    folder = site.home / "units"
    folder.mkdir()
    for unit in UNITS:
        (folder / unit.replace("@", "@shop")).write_text(site.unit(unit))
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", str(folder / name.replace("@", "@shop"))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(
    site: Site, systemd_analyze: str, name: str
) -> None:
    assert _verify(site, systemd_analyze, name) == ""


def test_systemd_says_what_is_wrong_with_a_unit(
    site: Site, systemd_analyze: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the test above can fail: it sees a misspelt key."""
    good = Site.unit
    monkeypatch.setattr(Site, "unit", lambda *of: good(*of).replace("KillMode=", "KilMode="))
    assert "KilMode" in _verify(site, systemd_analyze, "bridge@.service")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_may_do_little(site: Site, systemd_analyze: str, name: str) -> None:
    file = site.home / name.replace("@", "@shop")
    file.write_text(site.unit(name))
    done = subprocess.run(
        [systemd_analyze, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_serve_takes_its_socket_says_ready_reloads_and_ends(site: Site) -> None:
    """Who comes while it is restarted waits in the socket; `Type=notify` and ExecReload hold."""
    path = site.settings("bridge@.socket")["ListenStream"]
    with Backend() as legacy:
        routes = site.srv / "routes.yaml"
        routes.write_text(ROUTES.format(port=legacy.port, share="0%"))
        with Unit(site, "bridge@.service", {}, listen=path) as unit:
            assert _ask(path, "/hello/you") == b"ok"
            assert legacy.only().get("X-Forwarded-For") == "203.0.113.5"
            routes.write_text(ROUTES.format(port=legacy.port, share="100%"))
            reload = site.words("bridge@.service", "ExecReload")
            assert (
                subprocess.run([w.replace("$MAINPID", str(unit.pid)) for w in reload]).returncode
                == 0
            )
            wait_for(lambda: _ask(path, "/hello/you").startswith(b"<h1>"), 10, "the new table")
            log = site.home / "var" / "log" / "bridge" / "shop.jsonl"
            assert log.stat().st_mode & 0o777 == 0o640
            unit.stop()
            assert unit._process is not None
            assert unit._process.returncode == 0
        assert Path(path).is_socket()


def _ask(path: str, target: str) -> bytes:
    """The body of an answer at the unix socket, for a visitor that the web server names."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(path)
        lines = ["X-Forwarded-For: 203.0.113.5", "Connection: close"]
        sock.sendall(request("GET", target, *lines, host="www.example.org"))
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    return answer.partition(b"\r\n\r\n")[2]


@pytest.fixture
def mirrored(site: Site, redis_url: str, mongodb_url: str) -> dict[str, str]:
    """A database with an outbox and a sync.yaml in the site; /etc/bridge/shop.env of it."""
    database = site.srv / "site.db"
    with closing(sqlite3.connect(database)) as connection:
        sql = (REPOSITORY / "php" / "sql" / "outbox.sqlite.sql").read_text(encoding="utf-8")
        connection.executescript(sql)
        connection.execute("CREATE TABLE products (id INTEGER PRIMARY KEY, ver INTEGER NOT NULL)")
        connection.commit()
    # The relay writes to it, and SQLite to its folder.
    for place in (site.srv, database):
        place.chmod(0o777)
    (site.srv / "sync.yaml").write_text(SYNC)
    return {
        "BRIDGE_BROKER_URL": redis_url,
        "BRIDGE_MONGODB_URL": mongodb_url,
        "BRIDGE_SQL_URL": f"sqlite:///{database}",
    }


def test_worker_and_relay_run_and_end(site: Site, mirrored: dict[str, str]) -> None:
    worker = Unit(site, "bridge-worker@.service", mirrored, says='"queue.connected"')
    relay = Unit(site, "bridge-relay@.service", mirrored, says='"relay.started"')
    for unit in (worker, relay):
        unit.launch()
    for unit in (worker, relay):
        unit.wait_ready()
        unit.stop()
        assert unit._process is not None
        assert unit._process.returncode == 0


def test_the_timer_starts_what_proves_both_sides_equal_and_fails_when_they_are_not(
    site: Site, mirrored: dict[str, str]
) -> None:
    timer, service = "bridge-reconcile@.timer", "bridge-reconcile@.service"
    assert {timer, service} <= set(UNITS)  # a timer starts the service of its name
    for rows, code in ((0, 0), (3, 1)):
        with closing(sqlite3.connect(site.srv / "site.db")) as connection:
            connection.executemany(
                "INSERT INTO products VALUES (?, 1)", [(n,) for n in range(rows)]
            )
            connection.commit()
        unit = Unit(site, service, mirrored)
        unit.words += ["--wait", "0s"]  # nothing is on its way here
        unit.launch()
        assert unit._process is not None
        assert unit._process.wait(60) == code, unit.log_text()
        unit.kill()
        assert ('"equal": false' in unit.log_text()) is bool(rows)


@pytest.mark.long
@pytest.mark.parametrize("verb", ["serve", "worker", "relay"])
def test_a_service_needs_nothing_that_its_unit_forbids(
    site: Site, mirrored: dict[str, str], systemd_analyze: str, verb: str
) -> None:
    """Every system call and every family of sockets of a run, from start to end, is among those
    that SystemCallFilter and RestrictAddressFamilies leave."""
    strace = shutil.which("strace")
    if not strace or subprocess.run([strace, "-qo", "/dev/null", "true"]).returncode:
        pytest.skip("strace is not installed, or may not trace here: apt-get install strace")
    name = "bridge@.service" if verb == "serve" else f"bridge-{verb}@.service"
    trace = site.home / ".bridge-trace"
    trace.touch(mode=0o666)
    trace.chmod(0o666)
    with Backend() as legacy:
        (site.srv / "routes.yaml").write_text(ROUTES.format(port=legacy.port, share="100%"))
        path = site.settings("bridge@.socket")["ListenStream"] if verb == "serve" else ""
        says = {"serve": "", "worker": '"queue.connected"', "relay": '"relay.started"'}[verb]
        unit = Unit(site, name, mirrored, listen=path, says=says)
        unit.words = [strace, "-D", "-f", "-q", "-o", str(trace), *unit.words]
        with unit:
            if verb == "serve":
                assert _ask(path, "/hello/you").startswith(b"<h1>")
                assert _ask(path, "/page") == b"ok"
                unit.signal(signal.SIGHUP)
            unit.signal(signal.SIGTERM)
            ended = re.compile(rf"(?m)^{unit.pid} +\+\+\+ exited with 0 ")
            wait_for(lambda: ended.search(trace.read_text(errors="replace")), 20, "its end")
    text = trace.read_text(errors="replace")
    calls = set(re.findall(r"(?m)^\d+ +(\w+)\(", text))
    assert {"execve", "socket", "openat"} <= calls
    forbidden = "@privileged", "@resources"
    assert f"SystemCallFilter=~{' '.join(forbidden)}" in site.unit(name)
    allowed = _calls(systemd_analyze, "@system-service") - _calls(systemd_analyze, *forbidden)
    assert calls - allowed == set()
    families = set(re.findall(r"socket\((AF_\w+)", text))
    assert families <= set(site.settings(name)["RestrictAddressFamilies"].split())


def _calls(systemd_analyze: str, *groups: str) -> set[str]:
    """The system calls in these groups of systemd's, and in the groups that are in them."""
    done = subprocess.run(
        [systemd_analyze, "syscall-filter", *groups], capture_output=True, text=True, check=True
    )
    words = {line.strip() for line in done.stdout.splitlines() if line.startswith("    ")}
    inner = {word for word in words if word.startswith("@")}
    calls = {word for word in words if word.isidentifier()}
    return calls | (_calls(systemd_analyze, *inner) if inner else set())


@pytest.mark.long
def test_logrotate_moves_the_log_and_serve_goes_on_in_a_new_one(site: Site) -> None:
    """As the user that owns the logs, who may tell the bridge so."""
    logrotate = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin")
    if not logrotate:
        pytest.skip("logrotate is not installed: apt-get install logrotate")
    user = pwd.getpwuid(NOBODY if os.geteuid() == 0 else os.geteuid())
    group = grp.getgrgid(NOBODY if os.geteuid() == 0 else os.getegid())
    text = (DEPLOY / "logrotate.d" / "bridge").read_text(encoding="utf-8")
    text = text.replace("su bridge bridge", f"su {user.pw_name} {group.gr_name}")
    for place in ("/var/log/bridge", "/srv/"):
        text = text.replace(place, f"{site.home}{place}")
    config = site.home / "logrotate.conf"
    config.write_text(text)
    config.chmod(0o644)
    log = site.home / "var" / "log" / "bridge" / "shop.jsonl"
    path = site.settings("bridge@.socket")["ListenStream"]
    with Backend() as legacy:
        (site.srv / "routes.yaml").write_text(ROUTES.format(port=legacy.port, share="0%"))
        with Unit(site, "bridge@.service", {}, listen=path):
            _ask(path, "/first")
            wait_for(lambda: b"/first" in log.read_bytes(), 10, "the line")
            done = subprocess.run(
                [logrotate, "--force", "--state", str(site.home / "rotated"), str(config)],
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert (done.returncode, done.stderr) == (0, "")
            wait_for(log.exists, 10, "a new log")
            _ask(path, "/second")
            wait_for(lambda: b"/second" in log.read_bytes(), 10, "the line")
    assert b"/second" not in log.with_name("shop.jsonl.1").read_bytes()
