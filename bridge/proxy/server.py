"""`bridge serve`: gunicorn with our worker, a table per worker, and the operator's listener.

gunicorn solves processes, sockets and signals; here is only what it must do differently for a
proxy: SIGHUP reloads routes.yaml in place, no header of gunicorn's own reaches a visitor, and
Cookie lines are joined as browsers join them.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gunicorn.http.message
import gunicorn.http.wsgi
import structlog
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.http.errors import UnsupportedTransferCoding
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from bridge import logs
from bridge.errors import BridgeError
from bridge.proxy import metrics, pages, status
from bridge.proxy.accesslog import AccessLog
from bridge.proxy.dispatcher import Dispatcher
from bridge.proxy.gate import gate_of
from bridge.proxy.reload import Reloader
from bridge.settings import Settings

__all__ = ["ServeOptions", "serve"]

log = structlog.get_logger("bridge.serve")

_OPERATOR_AGAIN = 2.0  # seconds
_LINGER = 2.0  # seconds that an ended connection is read on for, as gunicorn does
_LINGER_BYTES = 2**30
_TARGET_INVALID = re.compile(r"[^\x21-\x7e\x80-\xff]")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Command line of `bridge serve`. `operator` is host:port of the operator's listener, or
    empty for none; `access_log` a file, `-` for standard output, or empty for none."""

    bind: tuple[str, ...]
    workers: int = 2
    threads: int = 16
    handlers: int = 16
    access_log: str = "-"
    operator: str = ""
    graceful_timeout: int = 30
    max_requests: int = 0


class VisitorResponse(Response):  # type: ignore[misc]
    """gunicorn's response without its Server header, and with Date only where there is none."""

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Take Server and Date as any other header; gunicorn drops those of an application."""
        for name, value in headers:
            if name.lower() not in ("server", "date"):
                super().process_headers([(name, value)])
                continue
            super().process_headers([(f"X-{name}", value)])  # the same checks, another name
            self.headers[-1] = (name, self.headers[-1][1])

    def should_close(self) -> bool:
        # After a body that broke off, nobody knows where the next request would begin.
        failed = getattr(self.req.body, "failed", False)
        return failed or super().should_close()

    def default_headers(self) -> list[str]:
        has_date = any(name.lower() == "date" for name, _ in self.headers)
        return [
            line
            for line in super().default_headers()
            if not line.startswith("Server:") and not (has_date and line.startswith("Date:"))
        ]


class BridgeWorker(ThreadWorker):  # type: ignore[misc]
    """A gthread worker that reloads routes.yaml on SIGHUP and shows no sign of gunicorn."""

    slot: int = 0

    def init_process(self) -> None:
        # gunicorn has no settings for these; this process serves nothing else.
        gunicorn.http.wsgi.Response = VisitorResponse
        # Links with raw UTF-8 or Latin-1 have always worked with Apache and nginx.
        gunicorn.http.message.RFC9112_TARGET_INVALID = _TARGET_INVALID
        self.app.slot = self.slot
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGHUP, lambda signum, frame: self.app.reload_routes())
        signal.siginterrupt(signal.SIGHUP, False)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Refuse new visitors from the moment of the stop: gunicorn keeps the port open until
        the last request is done, and whoever connects meanwhile would wait in vain."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def handle(self, conn: Any) -> Any:
        """Answer a request, and end the connection if it is not kept, in this thread: gunicorn
        ends it in the thread that accepts, which a visitor who stays could hold up."""
        kept = super().handle(conn)
        if not kept:
            # Reads on for a while: data that arrives at a closed socket resets the connection,
            # and an answer to somebody who still uploads would be lost.
            util.close_graceful(conn.sock, timeout=_LINGER, max_drain=_LINGER_BYTES)
            conn.close = lambda graceful=False: None
        return kept

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Answer what gunicorn's parser refused, with a page that repeats nothing of it."""
        sent: list[bytes] = []

        class Probe:
            def sendall(self, data: bytes) -> None:
                sent.append(data)

            send = sendall

            def gettimeout(self) -> float:
                return 0.0

        super().handle_error(req, Probe(), addr, exc)
        first = b"".join(sent).split(b" ", 2)
        code = int(first[1]) if len(first) > 1 and first[1].isdigit() else 400
        if isinstance(exc, UnsupportedTransferCoding):
            code = 400  # like every other framing that two parsers could read differently
        html = pages.render(code, "–")
        head = (
            f"HTTP/1.1 {code} {pages.phrase(code)}\r\nDate: {util.http_date()}\r\n"
            "Connection: close\r\nContent-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(html)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + html)
        except OSError:
            self.log.debug("The visitor left before the error page.")


class BridgeArbiter(Arbiter):  # type: ignore[misc]
    """SIGHUP is handed to the workers; none is replaced. SIGUSR2 starts `bridge` anew."""

    def __init__(self, application: BridgeApplication) -> None:
        super().__init__(application)
        # gunicorn would run the script itself, whose folder would then be searched for modules.
        self.START_CTX["args"] = [sys.executable, "-m", "bridge", *sys.argv[1:]]

    def manage_workers(self) -> None:
        super().manage_workers()
        self.app.keep_operator()

    def handle_hup(self) -> None:
        self.log.info("Reloading routes.yaml in every worker")
        self.kill_workers(signal.SIGHUP)


class BridgeApplication(BaseApplication):  # type: ignore[misc]
    """What gunicorn runs. In a worker it owns the table, the dispatcher and their plug-ins."""

    def __init__(self, settings: Settings, options: ServeOptions) -> None:
        self.settings, self.options = settings, options
        self.slot = 0
        self.reloader: Reloader | None = None
        self._operator: subprocess.Popen[bytes] | None = None
        self._operator_since = -_OPERATOR_AGAIN
        super().__init__()

    def load_config(self) -> None:
        options = self.options
        settings = {
            "bind": list(options.bind),
            "worker_class": BridgeWorker,
            "workers": options.workers,
            "threads": options.threads,
            "worker_connections": max(1000, options.threads * 2),
            "graceful_timeout": options.graceful_timeout,
            "max_requests": options.max_requests,
            "max_requests_jitter": options.max_requests // 2,
            "pidfile": str(self.settings.state_dir / "serve.pid"),
            "limit_request_line": 8190,
            "limit_request_field_size": 16380,
            "header_map": "drop",
            # Whom to believe is in routes.yaml, not in gunicorn's own settings.
            "forwarded_allow_ips": "",
            "secure_scheme_headers": {},
            "forwarder_headers": "",
            "control_socket_disable": True,
            "pre_fork": _give_slot,
            "pre_request": _join_cookies,
            "worker_exit": _leave,
            "on_starting": lambda arbiter: self.keep_operator(),
            "on_exit": lambda arbiter: self.stop_operator(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Dispatcher:
        """In a worker: load the table and make the dispatcher."""
        state_dir = self.settings.state_dir
        counters = metrics.Metrics(state_dir, self.slot)

        def on_change(reloader: Reloader) -> None:
            counters.on_reload(reloader)
            try:
                status.write(state_dir, self.slot, reloader)
            except OSError as error:
                log.warning("cannot write the worker's status", error=str(error))

        self.reloader = Reloader(self.settings.routes, state_dir, on_change)
        self.reloader.start()
        hooks: list[Any] = [counters]
        if self.options.access_log:
            hooks.append(AccessLog(self.options.access_log))
        return Dispatcher(
            self.reloader.table,
            secret=self.settings.secret,
            hooks=hooks,
            handler_threads=self.options.handlers,
            exact_cookies=True,
            gate=gate_of(self.settings),
        )

    def reload_routes(self) -> None:
        if self.reloader:
            self.reloader.check_soon()

    def run(self) -> None:
        BridgeArbiter(self).run()

    def keep_operator(self) -> None:
        """Start the operator's listener, and again when it ended: after SIGUSR2 the new one
        gets the port only when the old one is gone.

        It is a process of its own: nothing of it is in the workers.
        """
        ended = self._operator is None or self._operator.poll() is not None
        if not self.options.operator or not ended:
            return
        now = time.monotonic()
        if now - self._operator_since > _OPERATOR_AGAIN:
            self._operator_since = now
            command = [sys.executable, "-m", "bridge.operator", self.options.operator]
            self._operator = subprocess.Popen([*command, str(os.getpid())])

    def stop_operator(self) -> None:
        if self._operator:
            self._operator.terminate()
            self._operator.wait(10)


def _give_slot(arbiter: Any, worker: BridgeWorker) -> None:
    taken = {other.slot for other in arbiter.WORKERS.values()}
    worker.slot = next(slot for slot in range(len(taken) + 1) if slot not in taken)


def _join_cookies(worker: BridgeWorker, request: Any) -> None:
    """One Cookie line of several, as RFC 9113, section 8.2.3, joins them; gunicorn uses `,`."""
    lines = [value for name, value in request.headers if name == "COOKIE"]
    if len(lines) > 1:
        joined, others = "; ".join(lines), []
        for name, value in request.headers:
            if name != "COOKIE":
                others.append((name, value))
            elif joined:
                others.append((name, joined))
                joined = ""
        request.headers = others


def _leave(arbiter: Any, worker: BridgeWorker) -> None:
    application: BridgeApplication = worker.app
    if application.reloader:
        application.reloader.stop()
        state_dir = application.settings.state_dir
        # After SIGUSR2 a new worker may have the slot already.
        if any(own.pid == os.getpid() for own in status.read_all(state_dir)):
            status.remove(state_dir, worker.slot)


def _check_addresses(bind: tuple[str, ...]) -> None:
    """Try to listen on each address; gunicorn would try for five seconds and then exit.

    Raises BridgeError.
    """
    if {"LISTEN_FDS", "GUNICORN_FD"} & os.environ.keys():
        return  # the sockets were handed to us
    for text in bind:
        try:
            address = util.parse_address(text)
        except RuntimeError as error:
            raise BridgeError(f"--bind {text}: {error}; write host:port or unix:/path") from None
        if not isinstance(address, tuple):
            continue  # a unix socket, which gunicorn replaces
        family = socket.AF_INET6 if util.is_ipv6(address[0]) else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise BridgeError(
                    f"cannot listen on {text}: {error.strerror}; "
                    "stop what listens there (`ss -ltnp` shows it), or choose another --bind"
                ) from None


def serve(settings: Settings, options: ServeOptions) -> None:
    """Run until stopped. The caller has checked that routes.yaml loads, and what the gate needs.

    Raises BridgeError when an address or the state directory cannot be used.
    """
    _check_addresses(options.bind)
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        metrics.prepare(settings.state_dir)
        for old in (settings.state_dir / "workers").glob("*.json"):
            old.unlink()
    except OSError as error:
        raise BridgeError(
            f"the state directory {settings.state_dir} cannot be used: {error.strerror}; "
            "set BRIDGE_STATE_DIR to a folder that this user may write"
        ) from None
    # Handlers are found from where the command was given, in every worker.
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    logs.configure()
    if options.access_log not in ("", "-"):
        Path(options.access_log).parent.mkdir(parents=True, exist_ok=True)
    BridgeApplication(settings, options).run()
