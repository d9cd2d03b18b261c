"""One server process: start, wait until it is ready, stop, kill, start again on its port.

A subclass says how its command looks and when it is ready; everything about processes is here.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from stack import reaper
from stack.errors import BinaryMissing, ServerFailed, tail
from stack.ports import free_port, is_open
from stack.sessions import end_session, members

__all__ = ["REPOSITORY", "Server", "find_program"]

REPOSITORY = Path(__file__).resolve().parent.parent
"""The checkout: servers run with it as working directory unless they say otherwise."""


class Server(ABC):
    """A server process with a directory, a port and a log.

    directory: where all its files are; made if it is not there. Its content survives restarts.
    port: TCP port on 127.0.0.1; a free one if None. It stays the same over restarts.
    env: variables added to the environment. BRIDGE_* of the caller are not passed on, so that a
    server never works on a site that happens to be configured in the caller's shell.

    As a context manager it starts, waits until it is ready, and stops.
    """

    name: ClassVar[str] = "server"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    start_bound: ClassVar[float] = 30.0
    """Seconds that `start` waits at most until the server is ready."""
    stop_bound: ClassVar[float] = 15.0
    """Seconds from the stop signal to SIGKILL."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.host = "127.0.0.1"
        self.port = free_port() if port is None else port
        self.env = dict(env or {})
        self.cwd = REPOSITORY if cwd is None else cwd
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    # What a subclass says.

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Program and arguments. Raises BinaryMissing when the program is not installed."""

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Write what the server needs in its directory; called before every start."""

    def ready(self) -> bool:
        """Whether the server does its work now; by default: whether its port is open."""
        return is_open(self.port, self.host)

    # What callers use.

    @property
    def address(self) -> str:
        """host:port."""
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        """The file with what all its runs wrote to standard output and standard error."""
        return self.directory / f"{self.name}.log"

    def log_text(self) -> str:
        """What the current or last run wrote to its log."""
        with self.log.open("rb") as stream:
            stream.seek(self._log_start)
            return stream.read().decode("utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """The process id. Raises ServerFailed when the server was never started."""
        if self._process is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether its main process runs."""
        return self._process is not None and self._process.poll() is None

    def processes(self) -> list[int]:
        """Process ids of the server and of everything it forked."""
        return members(self._process.pid) if self._process is not None else []

    def start(self, bound: float | None = None) -> Self:
        """Start the server and wait until it is ready; do nothing if it runs already.

        Raises BinaryMissing, or ServerFailed with the tail of the log.
        """
        if not self.alive:
            self.launch()
            self.wait_ready(bound)
        return self

    def launch(self) -> Self:
        """Start the process and return at once; `wait_ready` belongs after it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [str(word) for word in self.command()]
        self.prepare()
        pipe = reaper.pipe()
        launcher = Path(__file__).with_name("launch.py")
        with self.log.open("ab") as log:
            log.write(f"--- {self.name} on {self.address}: {' '.join(command)}\n".encode())
            log.flush()
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(launcher), str(pipe), *command],
                cwd=self.cwd,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[pipe],
                # Its own session: Ctrl-C reaches the caller alone, which stops its servers
                # in order, and `stack.sessions` finds all that the server forks.
                start_new_session=True,
            )
        return self

    def wait_ready(self, bound: float | None = None) -> Self:
        """Wait at most `bound` seconds (default: `start_bound`) until the server is ready.

        A server that ends or is late is killed; then ServerFailed is raised.
        """
        bound = self.start_bound if bound is None else bound
        deadline = time.monotonic() + bound
        try:
            while not self.ready():
                if not self.alive:
                    code = self._process.returncode if self._process else None
                    raise self._failure(f"ended with status {code} before it was ready")
                if time.monotonic() >= deadline:
                    raise self._failure(f"was not ready after {bound:g} s")
                time.sleep(0.02)
        except BaseException:
            self.kill()
            raise
        if not self.alive:
            # Somebody else answered on this port.
            self.kill()
            raise self._failure(f"ended, and another process answers on {self.address}")
        return self

    def stop(self, bound: float | None = None) -> None:
        """Ask the server to end, wait, and SIGKILL what is left after `bound` seconds.

        Does nothing when it does not run. Never raises for a server that is already gone.
        """
        if self.alive:
            self.signal(self.stop_signal)
            self._wait_end(self.stop_bound if bound is None else bound)
        self.kill()

    def kill(self) -> None:
        """SIGKILL the server and all that it forked, as a power cut would."""
        if (process := self._process) is None:
            return
        left = end_session(process.pid)
        if not left:
            process.wait()
            reaper.forget(process.pid)

    def restart(self, bound: float | None = None) -> Self:
        """Stop, then start on the same port with the same directory."""
        self.stop()
        return self.start(bound)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process alone."""
        if self.alive:
            os.kill(self.pid, number)

    def environment(self) -> dict[str, str]:
        """The environment of the process: the caller's without BRIDGE_*, and `env`."""
        inherited = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
        return inherited | self.env

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.alive else "stopped"
        return f"<{type(self).__name__} {self.address} {state} in {self.directory}>"

    def _wait_end(self, bound: float) -> None:
        assert self._process is not None
        try:
            self._process.wait(bound)
        except subprocess.TimeoutExpired:
            return

    def _failure(self, what: str) -> ServerFailed:
        return ServerFailed(
            f"{self.name} on {self.address} {what}. Its log, {self.log}, ends:\n{tail(self.log)}"
        )


def find_program(name: str, install: str) -> str:
    """The path of a program, looked for on PATH and where Debian puts servers.

    Raises BinaryMissing with `install`, the command that installs it.
    """
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    # The PATH of a normal Debian user has no sbin.
    path = os.pathsep.join([*places, "/usr/local/sbin", "/usr/sbin", "/sbin"])
    if found := shutil.which(name, path=path):
        return found
    raise BinaryMissing(name, install)
