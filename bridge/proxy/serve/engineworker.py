"""The worker of `bridgectl serve`: listening, signals, and an end in which nobody is cut off."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import mmap
import os
import signal
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvloop
from gunicorn import sock as gunicorn_sock
from gunicorn.workers.base import Worker

from bridge import logpipe
from bridge.proxy.engine.acceptor import Acceptor
from bridge.proxy.engine.descriptors import for_legacy, raise_limit, room_for_visitors
from bridge.proxy.engine.engine import Engine
from bridge.proxy.front import Front
from bridge.proxy.python.threads import HandlerThreads

__all__ = ["BOOTING", "EARLY", "ENDING", "LEAVING", "REPLACED", "SERVING", "EngineWorker", "Loaded"]

BOOTING, SERVING, LEAVING, REPLACED, ENDING = range(5)
"""Where a worker is in its life. LEAVING: it serves, and waits until another does in its place,
or others do already; REPLACED: another does, and nobody waits for this one to end; ENDING: it
takes no new visitors."""

EARLY = {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}
"""Signals that the arbiter holds back until a new worker has handlers for them."""

_NOTIFY = 0.25  # seconds between two signs of life at most
_POLL = 0.05  # seconds until a signal is noticed
_LAST_WORD = 0.5  # seconds in which a visitor who is silent may still ask, before a stop
_NO_HURRY = 3.0  # the same where others serve already
_PATIENT = 10  # times the graceful timeout that who is replaced may take
_MARGIN = 1.0  # seconds before the end of the graceful timeout, when the parent kills
_PARTING = 0.3  # seconds in which those who are let go get their last bytes
_HANDSHAKE = 30.0  # seconds
_GOODBYE = 3600.0  # seconds; who stops taking the end of an answer is ended much earlier
_FEW = 1000  # visitors, below which the log says why there can be no more
_GARBAGE = 10_000  # objects more than before until the collector looks at the new ones


@dataclass(frozen=True, slots=True)
class Loaded:
    """What gunicorn's application gives a worker to serve."""

    front: Front
    threads: HandlerThreads


class EngineWorker(Worker):  # type: ignore[misc]
    """Serves what a `BridgeApplication` has loaded, on an event loop.

    After max_requests it goes on until the arbiter, which reads its `stage`, has another worker
    in its place and tells it to end. On SIGHUP it reloads routes.yaml and its certificate, and
    opens its access log anew; on SIGUSR1 only that.
    """

    alive: bool
    engine: Engine
    loop: asyncio.AbstractEventLoop
    descriptors: int

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._told: list[float] = []  # when it was told to end
        self._tls: ssl.SSLContext | None = None
        self._stage = mmap.mmap(-1, 1)  # made before the fork, so both processes see it

    @property
    def stage(self) -> int:
        return self._stage[0]

    def enter(self, stage: int) -> None:
        """Begin a stage, and let the arbiter look."""
        self._stage[0] = stage
        if os.getppid() == self.ppid:
            with contextlib.suppress(OSError):
                os.kill(self.ppid, signal.SIGCHLD)

    def tell(self, stage: int) -> None:
        """In the arbiter: say where it is in its life, before the signal that ends it."""
        self._stage[0] = stage

    def handle_exit(self, sig: int, frame: Any) -> None:
        """End in peace; a second time: the whole server does, and it may take no longer."""
        self._told.append(time.monotonic())
        super().handle_exit(sig, frame)

    def init_process(self) -> None:
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.descriptors = raise_limit()  # two for every visitor
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        # What is loaded stays: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GARBAGE, 20, 20)

    def init_signals(self) -> None:
        # Handlers of Python's own and not of the loop: they also count while the loop does not
        # run yet. The loop ticks, so they run soon.
        super().init_signals()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGHUP, self._reload)
        signal.siginterrupt(signal.SIGHUP, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, EARLY)

    def _reload(self, number: int, frame: Any) -> None:
        self.app.reload_routes()
        self._soon(self._reopen)
        self._soon(self._read_certificate)

    def handle_usr1(self, number: int, frame: Any) -> None:
        self._soon(self._reopen)

    def _soon(self, call: Callable[[], None]) -> None:
        """From a signal handler: when the loop runs, and never in what it interrupted."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(call)

    def _reopen(self) -> None:
        self.engine.report()  # what has ended already belongs into the old file
        self.app.reopen_log()

    def run(self) -> None:
        self.engine = Engine(
            self.wsgi.front,
            self.wsgi.threads,
            self.loop,
            flush=self.app.flush,
            least_idle=float(self.cfg.keepalive),
            descriptors=self.descriptors,
        )
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.engine.report()
            # Handlers that are stuck are on daemon threads and do not hold up the exit.
            self.loop.close()

    async def _serve(self) -> None:
        engine = self.engine
        acceptor = await self._listen()
        engine.start()
        self.enter(SERVING)
        beat = min(_NOTIFY, self.cfg.timeout / 4 or _NOTIFY)
        while self.alive and os.getppid() == self.ppid:
            if engine.answered >= self.max_requests and self.stage == SERVING:
                self.log.info("Worker %s ends after %s requests", self.pid, engine.answered)
                self.enter(LEAVING)
            self.notify()
            self.app.show(engine)
            await self._pause(beat)
        self.alive = False
        stage = self.stage
        self.enter(ENDING)
        # Let in whoever has connected already.
        for _ in range(2):
            await asyncio.sleep(0)
        # Refuse new visitors from this moment: whoever connected would wait in vain.
        acceptor.close()
        for listener in self.sockets:
            listener.close()
        await self._drain(
            _LAST_WORD if stage == SERVING else _NO_HURRY,
            self.cfg.graceful_timeout * (_PATIENT if stage == REPLACED else 1),
        )

    async def _listen(self) -> Acceptor:
        tls: dict[str, Any] = {}
        if self.cfg.is_ssl:
            self._tls = gunicorn_sock.ssl_context(self.cfg)
            tls = {
                "ssl": self._tls,
                "ssl_handshake_timeout": _HANDSHAKE,
                "ssl_shutdown_timeout": _GOODBYE,
            }
        descriptors, wanted = self.descriptors, self.cfg.worker_connections
        backends = self.engine.front.table().file.backends.values()
        legacy = sum(backend.limits.sockets for backend in backends)
        most = room_for_visitors(wanted, descriptors, legacy)
        if most < min(wanted, _FEW):
            self.log.warning(
                "A worker may have %s descriptors: at most %s visitors and %s connections to "
                "legacy at a time. Raise `ulimit -Hn`, or LimitNOFILE= of the systemd unit",
                *(descriptors, most, min(legacy, for_legacy(descriptors))),
            )
        acceptor = Acceptor(
            self.engine,
            [listener.sock for listener in self.sockets],
            most=most,
            descriptors=descriptors,
            backlog=self.cfg.backlog,
            tls=tls,
        )
        await acceptor.open()
        return acceptor

    def _read_certificate(self) -> None:
        """Use the certificate as it is now, for visitors who come from now on."""
        if self._tls is None:
            return
        try:
            # A context that refuses a certificate or its key has lost the ones it had.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._tls):
                context.load_cert_chain(self.cfg.certfile, self.cfg.keyfile)
        except OSError as error:  # ssl.SSLError is one
            self.log.error("The certificate stays as it was: %s", error)
        else:
            self.log.info("The certificate was read anew")

    async def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.alive and (left := until - time.monotonic()) > 0:
            if self.engine.answered >= self.max_requests and self.stage == SERVING:
                return
            await asyncio.sleep(min(left, _POLL))

    async def _drain(self, last_word: float, patience: float) -> None:
        """Finish what runs, and no later than after `patience` let go who is left. Who is silent
        for `last_word` seconds is not waited for: a request that they send at the moment when
        their connection ends would be lost."""
        engine = self.engine
        engine.draining = True
        began = time.monotonic()
        # Who is not through with the handshake yet is no visitor yet.
        first = began + (_LAST_WORD if self.cfg.is_ssl else _POLL)
        while (now := time.monotonic()) < self._deadline(began, patience):
            if not engine.visitors and now >= first:
                break
            self.notify()
            if now - began > last_word:
                engine.drain()
            await asyncio.sleep(0.02)
        for visitor in list(engine.visitors):
            visitor.cut_short()
        until = time.monotonic() + _PARTING
        while engine.visitors and time.monotonic() < until:
            await asyncio.sleep(0.02)
        for visitor in list(engine.visitors):
            visitor.transport.abort()
        await asyncio.sleep(0)

    def _deadline(self, began: float, patience: float) -> float:
        """When the last are let go, a little before the parent would kill."""
        if len(self._told) > 1:
            began, patience = self._told[1], self.cfg.graceful_timeout
        return began + patience - min(_MARGIN, patience / 4)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """End at once."""
        self.alive = False
        self.cfg.worker_int(self)
        if hasattr(self, "engine"):
            self.engine.report()
        logpipe.finish()
        os._exit(0)
