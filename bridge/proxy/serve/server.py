"""`bridgectl serve`: gunicorn with our worker, a table per worker, and the operator's listener.

gunicorn solves processes, sockets and signals; here is only what it must do differently for a
proxy: SIGHUP reloads routes.yaml in place, and what workers share in the state directory outlives
each of them.
"""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from gunicorn.app.base import BaseApplication

from bridge import logs, operator
from bridge.counts import counted
from bridge.errors import BridgeError
from bridge.files import LOOP_TOKEN, shared_token
from bridge.logpipe import unblock_standard_streams
from bridge.proxy.engine.descriptors import check_descriptors
from bridge.proxy.engine.engine import Engine
from bridge.proxy.front import Front
from bridge.proxy.gate import Gate
from bridge.proxy.python.threads import HandlerThreads
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.serve.arbiter import BridgeArbiter
from bridge.proxy.serve.beside import Beside
from bridge.proxy.serve.binding import check_addresses, check_certificate, check_operator
from bridge.proxy.serve.engineworker import EngineWorker, Loaded
from bridge.proxy.serve.lock import PID_FILE, Lock
from bridge.proxy.shadow.tap import Shadow
from bridge.proxy.telemetry import metrics, scrape, shadowing
from bridge.proxy.telemetry import workers as status
from bridge.proxy.telemetry.accesslog import AccessLog
from bridge.settings import Settings, import_limit

__all__ = ["ServeOptions", "serve"]

log = structlog.get_logger("bridge.serve")

_AS_MANY_AS_FIT = 1_000_000  # visitors; a worker has descriptors for fewer
_MODULE = (sys.executable, "-m")
_SHOW = 0.2  # seconds between two looks at what there is


StartGate = Callable[[Settings], tuple[Gate | None, str]]
"""Gives the gate, and what is wrong with it in words."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The options of `bridgectl serve`, with the names and defaults that it gives them."""

    bind: tuple[str, ...]
    workers: int
    handlers: int
    connections: int
    access_log: str
    operator: str
    graceful_timeout: int
    max_requests: int
    worker_timeout: int
    shadow_memory: int
    certfile: str
    keyfile: str


class BridgeApplication(BaseApplication):  # type: ignore[misc]
    """What gunicorn runs. In a worker it owns the table, the front and their plug-ins.

    start_gate: called in each worker.
    lock: held by the parent.
    """

    def __init__(
        self, settings: Settings, options: ServeOptions, start_gate: StartGate, lock: Lock
    ) -> None:
        self.settings, self.options, self.lock = settings, options, lock
        self._start_gate = start_gate
        self.reloader: Reloader | None = None
        self._access_log: AccessLog | None = None
        self._beside: list[Beside] = []
        self._shown = 0.0
        super().__init__()

    def load_config(self) -> None:
        options = self.options
        settings: dict[str, Any] = {
            "bind": list(options.bind),
            "worker_class": EngineWorker,
            "certfile": options.certfile or None,
            "keyfile": options.keyfile or None,
            "workers": options.workers,
            "worker_connections": options.connections or _AS_MANY_AS_FIT,
            "graceful_timeout": options.graceful_timeout,
            "timeout": options.worker_timeout,
            "max_requests": options.max_requests,
            "max_requests_jitter": options.max_requests,
            "pidfile": str(self.settings.state_dir / PID_FILE),
            "control_socket_disable": True,
            "post_fork": lambda arbiter, worker: self.lock.close(),
            "pre_exec": lambda arbiter: self.lock.hand_on(self.cfg.env_orig),
            "worker_exit": _leave,
            "child_exit": _reaped,
            "on_starting": lambda arbiter: self._start_beside(),
            "on_exit": lambda arbiter: self._stop_beside(),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Loaded:
        """In a worker: load the table, and make what all requests share."""
        state_dir = self.settings.state_dir
        slot = self._count_in(state_dir)
        counters = self.counters
        gate, broken = self._start_gate(self.settings)
        self.told = told = status.Writer(state_dir, slot, broken, self.settings)

        def on_change(reloader: Reloader) -> None:
            told.loaded(reloader)
            counters.on_reload(reloader)
            shadowing.want(state_dir, reloader.table())

        hooks: list[Any] = [counters]
        if self.options.access_log:
            self._access_log = AccessLog(self.options.access_log, batched=True)
            hooks.append(self._access_log)
        # Last: from here on the worker's status says that it is there.
        limit = import_limit()
        self.reloader = Reloader(
            self.settings.routes,
            state_dir,
            on_change,
            is_told=lambda: status.is_written(state_dir),
            import_limit=limit,
            # A worker that does not come up in time is killed.
            start_within=min(limit, self.options.worker_timeout / 2),
        )
        self.reloader.start()
        self.shadow = Shadow(state_dir)
        self.front = Front(
            self.reloader.table,
            secret=self.settings.secret,
            loop_secret=shared_token(state_dir / LOOP_TOKEN),
            hooks=hooks,
            gate=gate,
            tunnels=True,
            shadow=self.shadow,
        )
        return Loaded(self.front, HandlerThreads(self.options.handlers))

    def _count_in(self, state_dir: Path) -> int:
        """Take a slot for what this worker counts. Where the state directory is of no use now,
        it counts for itself alone: visitors do not wait until somebody has mended that."""
        try:
            slot = metrics.take_slot(state_dir)
            self.counters = metrics.Metrics(state_dir, slot)
        except OSError as error:
            log.error(
                "the state directory cannot be used: this worker serves, and nobody sees its "
                "metrics until it is replaced",
                state_dir=str(state_dir),
                error=str(error),
            )
            self._aside = tempfile.TemporaryDirectory(prefix="bridge-state-")
            slot = metrics.take_slot(Path(self._aside.name))
            self.counters = metrics.Metrics(Path(self._aside.name), slot)
        return slot

    def show(self, engine: Engine) -> None:
        """In a worker: let the operator see what there is, now and then."""
        now = time.monotonic()
        if now - self._shown < _SHOW:
            return
        self._shown = now
        pools = engine.upstreams.all()
        backends = {pool.name: (pool.in_flight, pool.idle, pool.waiting) for pool in pools}
        breakers = self.front.breakers()
        cache = counted("cache")
        watches = self.reloader is None or self.reloader.watches
        alone = {pool.name: found for pool in pools if (found := pool.servers.alone(now))}
        self.counters.state(
            metrics.State(
                len(engine.visitors),
                engine.batch.asking,
                engine.handlers.running,
                backends,
                breakers,
                cache,
                watches,
                alone,
                self.shadow.counts(),
            )
        )
        self.told.note(status.Notes(alone, self.front.strangers()))

    def flush(self) -> None:
        """Write the lines of the access log that are kept."""
        if self._access_log:
            self._access_log.flush()

    def reopen_log(self) -> None:
        """The access log may have been moved away: go on in a new file."""
        if self._access_log:
            self._access_log.reopen()

    def reload_routes(self) -> None:
        if self.reloader:
            self.reloader.check_soon()

    def run(self) -> None:
        BridgeArbiter(self).run()

    def _start_beside(self) -> None:
        """In the parent, which is known by now. After SIGUSR2 the new listener gets the operator's
        port only when the old one is gone."""
        parent, state_dir = str(os.getpid()), self.settings.state_dir
        if operator := self.options.operator:
            self._beside.append(Beside([*_MODULE, "bridge.overview", operator, parent]))
        self._beside.append(
            Beside(
                [*_MODULE, "bridge.evidence.shadow", parent, str(self.options.shadow_memory)],
                wanted=lambda: shadowing.is_wanted(state_dir),
                hangs=lambda pid, seconds: shadowing.is_silent(state_dir, pid, seconds),
                patient=True,
            )
        )
        self.keep_beside()

    def keep_beside(self) -> None:
        """In the parent: start what is to run beside the workers, and again when it ended."""
        for process in self._beside:
            try:
                process.keep()
            except OSError as error:  # no memory, no process; the workers serve
                log.warning("cannot start a process beside the workers", error=str(error))

    def _stop_beside(self) -> None:
        for process in self._beside:
            process.stop()


def _leave(arbiter: Any, worker: Any) -> None:
    """In a worker that ends in peace."""
    application: BridgeApplication = worker.app
    if application.reloader:
        application.reloader.stop()
        application.counters.leave()
        status.remove(application.settings.state_dir, os.getpid())


def _reaped(arbiter: Any, worker: Any) -> None:
    """In the parent: what a worker that was killed could not do itself."""
    state_dir = worker.app.settings.state_dir
    try:
        status.remove(state_dir, worker.pid)
        metrics.clear(state_dir)
    except Exception as error:  # nothing of this is worth the end of the server
        log.warning("cannot clear up after a worker", pid=worker.pid, error=str(error))


def _check_log(path: Path) -> None:
    """Raises BridgeError when the access log cannot be written: said once, here, and not by each
    worker that then cannot start."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe, whose reader comes later
            return
        do = "let this user write there"
        if error.errno == errno.ENOENT and not path.parent.is_dir():  # it may be a slip of the pen
            do = f"make the folder {path.parent}"
        raise BridgeError(
            f"the access log {path} cannot be written: {error.strerror}; {do}, or choose another "
            "--access-log"
        ) from None


def serve(settings: Settings, options: ServeOptions, start_gate: StartGate) -> None:
    """Run until stopped. `start_gate` makes the gate of a worker. The caller has checked that
    routes.yaml loads, and what the gate needs.

    Raises BridgeError when an address, the access log or the state directory cannot be used, when
    another one serves from there, or when there are too few descriptors.
    """
    check_descriptors()
    check_addresses(options.bind)
    check_certificate(options.certfile, options.keyfile)
    # After SIGUSR2 the old parent's workers still serve and count, and it has the operator's port.
    takes_over = "GUNICORN_PID" in os.environ
    if options.operator and not takes_over:
        check_operator(options.operator, options.bind)
    if options.access_log not in ("", "-"):
        _check_log(Path(options.access_log))
    state_dir = settings.state_dir
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o750)
        lock = Lock(state_dir)
        if not takes_over:
            scrape.prepare(state_dir)
            status.prepare(state_dir)
            shadowing.prepare(state_dir)
            operator.forget(state_dir)
        # Nobody else has the lock, so a file that is there was left behind.
        (state_dir / (f"{PID_FILE}.2" if takes_over else PID_FILE)).unlink(missing_ok=True)
    except OSError as error:
        raise BridgeError(
            f"the state directory {state_dir} cannot be used: {error.strerror}; "
            "set BRIDGE_STATE_DIR to a folder that this user may write"
        ) from None
    # Handlers are found from where the command was given, in every worker.
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    unblock_standard_streams()
    logs.configure()
    BridgeApplication(settings, options, start_gate, lock).run()
