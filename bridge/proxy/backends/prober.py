"""Asks the servers of a backend whether they are well, on a thread of its own."""

from __future__ import annotations

import threading

import requests
import structlog

from bridge.logs import traceback_text
from bridge.proxy.backends.servers import Server, Servers
from bridge.proxy.routing import models

__all__ = ["Prober"]

log = structlog.get_logger("bridge.proxy")


class Prober:
    """Probes until `close`. A server is well that answers below 500 in time."""

    def __init__(self, spec: models.Backend, servers: Servers) -> None:
        assert spec.health is not None
        self._spec, self._health, self._servers = spec, spec.health, servers
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bridge-prober", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """No more of it."""
        self._stop.set()

    def _run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment is for other requests
            while not self._stop.is_set():
                for server in self._servers.all:
                    try:
                        self._servers.told(server, *self._ask(session, server))
                    except Exception as error:
                        log.error("bug in a probe", traceback=traceback_text(error))
                self._stop.wait(self._health.every)

    def _ask(self, session: requests.Session, server: Server) -> tuple[bool, str]:
        host = self._health.host or (self._spec.host if self._spec.host != "preserve" else "")
        try:
            answer = session.get(
                server.url.rstrip("/") + self._health.path,
                headers={"Host": host} if host else {},
                timeout=self._health.timeout,
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            return False, type(error).__name__
        with answer:
            return answer.status_code < 500, f"the probe was answered with {answer.status_code}"
