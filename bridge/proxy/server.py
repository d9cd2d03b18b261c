"""`bridge serve`: gunicorn with our worker, a table per worker, and the operator's listener.

gunicorn solves processes, sockets and signals; here is only what it must do differently for a
proxy: SIGHUP reloads routes.yaml in place, no header of gunicorn's own reaches a visitor, and
Cookie lines are joined as browsers join them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gunicorn.http.message
import gunicorn.http.wsgi
import structlog
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.http.errors import UnsupportedTransferCoding
from gunicorn.http.wsgi import Response
from gunicorn.workers.gthread import ThreadWorker

from bridge import logs
from bridge.counted import counted
from bridge.errors import BridgeError
from bridge.proxy import metrics, pages, status
from bridge.proxy.accesslog import AccessLog
from bridge.proxy.arbiter import BridgeArbiter, give_slot
from bridge.proxy.binding import check_addresses, check_certificate
from bridge.proxy.dispatcher import Dispatcher
from bridge.proxy.engine import EngineWorker
from bridge.proxy.engine.upstream import Upstream
from bridge.proxy.engine.worker import EARLY
from bridge.proxy.gate import gate_of
from bridge.proxy.legacy import LegacyPool
from bridge.proxy.reload import Reloader
from bridge.settings import Settings

__all__ = ["ServeOptions", "serve"]

log = structlog.get_logger("bridge.serve")

_OPERATOR_AGAIN = 2.0  # seconds
_SHOW = 0.2  # seconds between two looks at what there is
_LINGER = 2.0  # seconds that an ended connection is read on for, as gunicorn does
_LINGER_BYTES = 2**30
_TARGET_INVALID = re.compile(r"[^\x21-\x7e\x80-\xff]")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Command line of `bridge serve`. `operator` is host:port of the operator's listener, or
    empty for none; `access_log` a file, `-` for standard output, or empty for none. `engine` is
    `event` (an event loop per worker) or `thread` (gunicorn's gthread). A worker that gives no sign
    of life for `worker_timeout` seconds is replaced, and so is one after `max_requests` to twice as
    many requests (0: never). `connections` are the visitors that a worker has at a time (0: as many
    as fit)."""

    bind: tuple[str, ...]
    workers: int = 2
    threads: int = 16
    handlers: int = 16
    connections: int = 0
    access_log: str = "-"
    operator: str = ""
    graceful_timeout: int = 30
    max_requests: int = 0
    worker_timeout: int = 30
    engine: str = "event"
    certfile: str = ""
    keyfile: str = ""


def _connections(options: ServeOptions) -> int:
    """A thread each, and some who wait; or as many as there are descriptors for."""
    return max(1000, options.threads * 2) if options.engine == "thread" else 1_000_000


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
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)

    def set_accept_enabled(self, enabled: bool) -> None:
        """Refuse new visitors from the moment of the stop: gunicorn keeps the port open until
        the last request is done, and whoever connects meanwhile would wait in vain."""
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                listener.close()

    def notify(self) -> None:
        super().notify()
        dispatcher = self.wsgi
        if isinstance(dispatcher, Dispatcher) and self.app.shows_now():
            handlers = dispatcher.threads.running
            self.app.show(self.nr_conns, dispatcher.in_flight, handlers, dispatcher.pools.all())

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
        dispatcher = self.wsgi
        request_id = "–"
        if isinstance(dispatcher, Dispatcher):
            request_id = dispatcher.front.refused(addr[0] if addr else "", code, str(exc))
        html = pages.render(code, request_id)
        head = (
            f"HTTP/1.1 {code} {pages.phrase(code)}\r\nDate: {util.http_date()}\r\n"
            "Connection: close\r\nContent-Type: text/html; charset=utf-8\r\n"
            f"Content-Length: {len(html)}\r\n\r\n"
        )
        try:
            client.sendall(head.encode() + html)
        except OSError:
            self.log.debug("The visitor left before the error page.")


class BridgeEngine(EngineWorker):
    """The event-loop worker, which reloads routes.yaml and its certificate on SIGHUP."""

    slot: int = 0
    hands_over = True

    def init_process(self) -> None:
        self.app.slot = self.slot
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGHUP, self._reload)
        signal.siginterrupt(signal.SIGHUP, False)
        self.hear()

    def _reload(self, number: int, frame: Any) -> None:
        self.app.reload_routes()
        if self.booted:
            self.loop.call_soon_threadsafe(self.read_certificate)

    def flush(self) -> None:
        self.app.flush()

    def show(self) -> None:
        if not self.app.shows_now():
            return
        service = self.service
        asking = sum(visitor.turn is not None for visitor in service.visitors)
        self.app.show(
            len(service.visitors), asking, service.handlers.running, service.upstreams.all()
        )


class BridgeApplication(BaseApplication):  # type: ignore[misc]
    """What gunicorn runs. In a worker it owns the table, the dispatcher and their plug-ins."""

    def __init__(self, settings: Settings, options: ServeOptions) -> None:
        self.settings, self.options = settings, options
        self.slot = 0
        self.reloader: Reloader | None = None
        self._access_log: AccessLog | None = None
        self._operator: subprocess.Popen[bytes] | None = None
        self._operator_since = -_OPERATOR_AGAIN
        self._shown = 0.0
        super().__init__()

    def load_config(self) -> None:
        options = self.options
        settings: dict[str, Any] = {
            "bind": list(options.bind),
            "worker_class": BridgeEngine if options.engine == "event" else BridgeWorker,
            "certfile": options.certfile or None,
            "keyfile": options.keyfile or None,
            "workers": options.workers,
            "threads": options.threads,
            "worker_connections": options.connections or _connections(options),
            "graceful_timeout": options.graceful_timeout,
            "timeout": options.worker_timeout,
            "max_requests": options.max_requests,
            "max_requests_jitter": options.max_requests,
            "pidfile": str(self.settings.state_dir / "serve.pid"),
            "limit_request_line": 8190,
            "limit_request_field_size": 16380,
            "header_map": "drop",
            # Whom to believe is in routes.yaml, not in gunicorn's own settings.
            "forwarded_allow_ips": "",
            "secure_scheme_headers": {},
            "forwarder_headers": "",
            "control_socket_disable": True,
            "pre_fork": give_slot,
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
        self.counters = counters = metrics.Metrics(state_dir, self.slot)

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
            batched = self.options.engine == "event"
            self._access_log = AccessLog(self.options.access_log, batched=batched)
            hooks.append(self._access_log)
        self.dispatcher = Dispatcher(
            self.reloader.table,
            secret=self.settings.secret,
            hooks=hooks,
            handler_threads=self.options.handlers,
            exact_cookies=True,
            gate=gate_of(self.settings),
        )
        return self.dispatcher

    def show(
        self,
        visitors: int,
        in_flight: int,
        handlers: int,
        pools: Sequence[LegacyPool | Upstream],
    ) -> None:
        """In a worker: let the operator see what there is at this moment."""
        backends = {pool.name: (pool.in_flight, pool.idle, pool.waiting) for pool in pools}
        breakers = self.dispatcher.front.breakers()
        cache = counted("cache")
        state = metrics.State(visitors, in_flight, handlers, backends, breakers, cache)
        self.counters.state(state)

    def shows_now(self) -> bool:
        """Whether it is time again to `show`."""
        now = time.monotonic()
        if now - self._shown < _SHOW:
            return False
        self._shown = now
        return True

    def flush(self) -> None:
        """Write the lines of the access log that are kept."""
        if self._access_log:
            self._access_log.flush()

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
        application.counters.leave()
        state_dir = application.settings.state_dir
        # After SIGUSR2 a new worker may have the slot already.
        if any(own.pid == os.getpid() for own in status.read_all(state_dir)):
            status.remove(state_dir, worker.slot)


def serve(settings: Settings, options: ServeOptions) -> None:
    """Run until stopped. The caller has checked that routes.yaml loads, and what the gate needs.

    Raises BridgeError when an address or the state directory cannot be used.
    """
    check_addresses(options.bind)
    check_certificate(options.certfile, options.keyfile)
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
