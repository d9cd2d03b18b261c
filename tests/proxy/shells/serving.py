"""The bridge under test: one site per way in which a backend or a site can be configured.

The Host header picks the site, so one process serves all of them: `main.test` is the plain
one, `hasty.test` has short time limits, and so on.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.proxy.telemetry.workers import read_all
from stack.bridge import BridgeServe, BridgeWsgi
from stack.waiting import wait_for
from tests.deploy.mod_wsgi import ModWsgi
from tests.proxy.shells.double import BOUND
from tests.proxy.shells.visitor import Answer, Visitor, request

__all__ = ["Bridge", "routes_yaml"]

HANDLERS = "tests.proxy.shells.handlers"

BACKENDS = {
    "main": "url: @DOUBLE@, limits: {connections: 64}",
    "named": "url: @DOUBLE@, host: legacy.internal",
    "prefixed": "url: @DOUBLE@/app",
    "both": "url: @DOUBLE@/app, host: legacy.internal",
    "dressed": "url: @DOUBLE@, request_headers: {remove: [accept-encoding, Via], "
    "set: {X-Forwarded-Proto: https, X-Key: secret}}",
    "closing": "url: @DOUBLE@, keep_alive: false",
    "several": "url: ['@REFUSED@', '@DOUBLE@']",
    "pair": "url: ['@DOUBLE@', '@SECOND@'], timeouts: {first_byte: 1s}",
    "probed": "url: ['@DOUBLE@', '@SECOND@'], health: {path: /ping?x, every: 100ms}",
    "accel": "url: @DOUBLE@, accel: true",
    "via": "url: @DOUBLE@, via: true",
    "narrow": "url: @DOUBLE@, limits: {response_head: 4KiB}",
    "single": "url: @DOUBLE@, limits: {connections: 1}, timeouts: {wait: 1s}",
    "few": "url: @DOUBLE@, limits: {max_in_flight: 1, waiting: 1}, timeouts: {wait: 10s}",
    "hasty": "url: @DOUBLE@, timeouts: {connect: 500ms, send: 500ms, first_byte: 500ms, "
    "between_bytes: 500ms}",
    "unix": "url: 'unix:@UNIX@'",
    "tls": "url: @TLS@",
    "refused": "url: @REFUSED@",
    "full": "url: @FULL@, timeouts: {connect: 500ms}",
    "loop": "url: @BRIDGE@",
    "nginx": "url: @NGINX@",
}

SITES = {
    "limited": "legacy: main, max_body: 1KiB",
    "pages": "legacy: refused, error_pages: {default: default.html, 502: bad-gateway.html}",
    "rules": "legacy: main, response_headers: {remove: [X-Powered-By], set: {X-Site: forge}}",
    "python": "legacy: main, compress: {encodings: [br, zstd, gzip]}, "
    "response_headers: {set: {X-Site: forge, X-Also: site}}",
}

ROUTES = {
    "text": "",
    "ruled": "response_headers: {remove: [x-site, X-Mine], set: {Cache-Control: no-cache}}",
    "split": "",
    "streaming": "timeout: 5s",
    "echo": "methods: [GET, POST]",
    "page": "",
    "page_as_it_is": "compress: false",
    "unmeasured": "",
    "stream_of_text": "",
    "echo_soon": "methods: [POST], timeout: 500ms",
    "declines": "methods: [GET, POST]",
    "declines_after_reading": "methods: [POST]",
    "reads_too_much": "methods: [POST]",
    "has_some": "methods: [GET, HEAD, POST], decline_on: [404, 405, 503]",
    "fails": "methods: [GET, HEAD, POST]",
    "fails_often": "methods: [GET, POST]",
    "answers_503": "methods: [GET, POST]",
    "hangs": "methods: [GET, POST], timeout: 300ms",
    "fails_after_the_first_byte": "",
    "fails_with_a_page": "",
    "another_page": "",
    "no_bytes": "methods: [GET, POST]",
    "no_bytes_later": "",
    "endless": "",
    "goes_on": "",
    "too_short": "",
    "too_long": "",
    "nothing_of_ten": "",
    "line_break": "",
    "bad_name": "",
    "bad_length": "",
    "endless_length": "",
    "not_latin": "",
    "shows_head": "methods: [GET, POST]",
    "answers_205": "",
    "tells": "",
    "guests": "cookies: {member_*: false}",
    "moves": "",
    "moves_always": "fallback: false",
    "moves_round": "",
    "moves_by_cache": "",
    "moves_home": "",
    "tests_cookies": "",
    "moves_cached": "",
    "moves_away": "",
}


def routes_yaml(places: Mapping[str, str], *, trusted: Sequence[str] = ()) -> str:
    """The text of routes.yaml. `places` fills in the @NAMES@; a backend whose place is not
    given is left out, with its site."""
    backends = {}
    for name, spec in BACKENDS.items():
        for place, value in places.items():
            spec = spec.replace(f"@{place}@", value)
        if "@" not in spec:
            backends[name] = spec
    sites = {name: f"legacy: {name}" for name in backends}
    sites |= {name: spec for name, spec in SITES.items() if spec.split()[1].strip(",") in backends}
    lines = ["version: 1", "sites:"]
    for name, spec in sites.items():
        lines.append(f'  {name}: {{hosts: ["{name}.test", "{name}.test:*"], {spec}}}')
    # A visitor of HTTP/1.0 need not say which host they want.
    lines.append(f'  address: {{hosts: ["{places["ADDRESS"]}"], legacy: main}}')
    lines.append("backends:")
    lines += [f"  {name}: {{{spec}}}" for name, spec in backends.items()]
    lines.append(f"trusted_proxies: {json.dumps(list(trusted))}")
    lines.append("redirect_loops: {within: 1m, to_legacy: true}")
    lines.append("routes:")
    for name, more in ROUTES.items():
        lines.append(
            f"  - {{name: {name.replace('_', '-')}, site: python, path: /py/{name}, "
            f"wsgi: '{HANDLERS}:{name}', python: {'50%' if name == 'split' else '100%'}"
            f"{', ' if more else ''}{more}}}"
        )
    return "\n".join([*lines, ""])


class Bridge:
    """A running bridge, as its visitors and its operator see it: `bridgectl serve`, or the WSGI
    application under `engine`. options: of `bridgectl serve`; app: for gunicorn."""

    def __init__(
        self,
        directory: Path,
        places: Mapping[str, str],
        *,
        trusted: Sequence[str] = (),
        options: Sequence[str] = (),
        threads: int = 16,
        env: Mapping[str, str] | None = None,
        engine: str = "event",
        app: str = "bridge.wsgi:application",
    ) -> None:
        self.engine = engine
        directory.mkdir(parents=True, exist_ok=True)
        self.state = directory / "state"
        self.routes = directory / "routes.yaml"
        self.access_log = directory / "access.jsonl"
        settings = {
            "BRIDGE_ROUTES": str(self.routes),
            "BRIDGE_STATE_DIR": str(self.state),
            "BRIDGE_SECRET": "a secret for the tests of the proxy",
            **(env or {}),
        }
        self.server: BridgeServe | BridgeWsgi | ModWsgi
        log = {"BRIDGE_ACCESS_LOG": str(self.access_log)}
        if engine == "mod_wsgi":
            # Limits are those of a process, so there is one; others ask for several.
            one = {"processes": "1", "threads": str(threads), "maximum-requests": "0"}
            self.server = ModWsgi(directory, env=settings | log, options=one)
        elif engine == "gthread":
            env = settings | log
            self.server = BridgeWsgi(directory / "wsgi", env=env, threads=threads, app=app)
        else:
            log_to = ("--access-log", str(self.access_log))
            self.server = BridgeServe(
                directory / "serve", env=settings, options=[*log_to, *options]
            )
        own = {"BRIDGE": self.server.url, "ADDRESS": self.server.address}
        text = routes_yaml({**places, **own}, trusted=trusted)
        self.routes.write_text(text, encoding="utf-8")
        (directory / "default.html").write_text("<p>ours: $status $request_id</p>")
        (directory / "bad-gateway.html").write_text("<p>no gateway, $phrase, costs 5$</p>")
        self._log_start = self._errors_start = 0

    @property
    def address(self) -> tuple[str, int]:
        return self.server.host, self.server.port

    @property
    def worker(self) -> int:
        """The process id of the one worker."""
        if isinstance(self.server, ModWsgi):
            return self.server.application()
        if isinstance(self.server, BridgeWsgi):
            (pid,) = set(self.server.processes()) - {self.server.pid}
            return pid
        (worker,) = read_all(self.state)
        return worker.pid

    def start(self) -> None:
        """Start it and wait until its worker has a table."""
        self.server.start()
        if isinstance(self.server, BridgeServe):
            wait_for(lambda: read_all(self.state), 30, "a worker with a table")

    def stop(self) -> None:
        self.server.stop()

    # visitors

    def visitor(self, bound: float = BOUND) -> Visitor:
        """A new connection."""
        return Visitor(self.address, bound)

    def send(self, raw: bytes) -> Answer:
        """One request on a connection of its own, and the answer. Its line is in the access
        log afterwards: the bridge ends a connection after it has written that."""
        with self.visitor() as visitor:
            visitor.send(raw)
            answer = visitor.answer(raw.partition(b" ")[0].decode("latin-1"))
            visitor.finish()
            return answer

    def ask(
        self,
        method: str,
        target: str | bytes,
        *lines: str,
        host: str = "main.test",
        body: bytes | None = None,
        version: str = "1.1",
    ) -> Answer:
        """As `send`, from the parts of `visitor.request`."""
        return self.send(request(method, target, *lines, host=host, body=body, version=version))

    # the operator

    def mark(self) -> None:
        """What was logged before this moment is no longer looked at."""
        self._log_start = self.access_log.stat().st_size if self.access_log.exists() else 0
        self._errors_start = len(self.server.log_text())

    def outcomes(self, path: str = "") -> list[dict[str, Any]]:
        """The lines of the access log since `mark`, of one path or of all."""
        if not self.access_log.exists():
            return []
        with self.access_log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().rpartition(b"\n")[0].splitlines()
        records = [json.loads(line) for line in lines]
        return [record for record in records if path in ("", record["path"])]

    def outcome(self, path: str) -> dict[str, Any]:
        """Wait for the line of the access log about `path`; there must be only one."""
        wait_for(lambda: self.outcomes(path), BOUND, f"a line about {path} in the access log")
        (record,) = self.outcomes(path)
        return record

    def errors(self) -> str:
        """What the server itself logged since `mark`."""
        return self.server.log_text()[self._errors_start :]

    def memory(self) -> int:
        """Resident memory of the worker, in bytes."""
        status = Path(f"/proc/{self.worker}/status").read_text(encoding="ascii")
        (line,) = [line for line in status.splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose queue is full, so that connecting to it gets no answer at all; and the
    connections that fill it."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fill: list[socket.socket] = []
    for _ in range(16):
        sock = socket.socket()
        sock.settimeout(0.2)
        fill.append(sock)
        try:
            sock.connect(listener.getsockname())
        except TimeoutError:
            return listener, fill
    raise AssertionError("the queue of a listener never fills on this machine")
