"""`bridge` of one checkout under callgrind: a worker, a proxy, and commands that end.

All are started as an operator starts them, so that a comparison with an old commit needs nothing
of it but its commands, the format of the queue and its configuration.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.before.callgrind import Counter, under_callgrind
from bench.before.checkout import Tree
from bench.report import BenchmarkFailed
from stack.bridge import BridgeServe, BridgeWorker, Gunicorn, PythonServer
from stack.errors import TimedOut, tail
from stack.waiting import wait_for

__all__ = ["Commands", "Job", "Serve", "Worker", "Wsgi"]

COMMANDS = Path(__file__).with_name("commands.py")
BOUND = 600.0
"""Seconds that one command may take while it is counted."""


def environment(tree: Tree, env: Mapping[str, str]) -> dict[str, str]:
    """That of the checkout; sets have the same order in each run."""
    return {**tree.environment(), "PYTHONHASHSEED": "0", **env}


class Worker(BridgeWorker):
    """`bridgectl worker` of a checkout."""

    start_bound = 120.0

    def __init__(self, tree: Tree, directory: Path, env: Mapping[str, str]) -> None:
        super().__init__(directory, env=environment(tree, env), cwd=tree.path)

    def command(self) -> Sequence[str]:
        return under_callgrind(super().command(), self.directory)

    def counter(self) -> Counter:
        """Counts from now on."""
        return Counter(self.pid, self.directory)


class Proxy(PythonServer):
    """A proxy of a checkout, with one worker; it is the worker that is counted."""

    start_bound = 120.0
    _tree: Tree

    def environment(self) -> dict[str, str]:
        return environment(self._tree, super().environment() | self._tree.environment())

    def counter(self) -> Counter:
        """Counts from now on. Raises BenchmarkFailed."""
        workers = [pid for pid in self.processes() if pid != self.pid]
        if len(workers) != 1:
            raise BenchmarkFailed(f"{self._tree.name}: {self.name} has {len(workers)} workers")
        return Counter(workers[0], self.directory)


class Serve(Proxy, BridgeServe):
    """`bridgectl serve` of a checkout."""

    def __init__(self, tree: Tree, directory: Path) -> None:
        options = ["--access-log", str(directory / "access.jsonl")]
        super().__init__(directory, env={}, options=options, cwd=tree.path)
        self._tree = tree

    def command(self) -> Sequence[str]:
        return under_callgrind(super().command(), self.directory)


class Wsgi(Proxy, Gunicorn):
    """The Dispatcher of a checkout under gunicorn gthread."""

    def __init__(self, tree: Tree, directory: Path) -> None:
        options = ["--keep-alive", "30"]
        app = "bench.apps:dispatcher()"
        super().__init__(directory, app, options=options, chdir=tree.path)
        self._tree = tree

    def command(self) -> Sequence[str]:
        return under_callgrind(super().command(), self.directory)


Job = tuple[Mapping[str, str], Sequence[str]]
"""Settings, and what follows `bridge`."""


class Commands:
    """Commands in one process, see `bench.before.commands`. Each `run` does the next one."""

    def __init__(self, tree: Tree, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self._tree, self._folder, self._process = tree, folder, process
        self._done = 0
        self._wait()

    @classmethod
    @contextlib.contextmanager
    def started(
        cls, tree: Tree, folder: Path, env: Mapping[str, str], jobs: Sequence[Job]
    ) -> Iterator[Commands]:
        """The process, waiting for its first command; ended at the end. Raises
        BenchmarkFailed."""
        folder.mkdir(parents=True)
        file = folder / "jobs.json"
        file.write_text(json.dumps([{"env": dict(e), "words": list(w)} for e, w in jobs]))
        command = [sys.executable, "-P", str(COMMANDS), str(file)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                under_callgrind(command, folder),
                cwd=tree.path,
                env=environment(tree, env),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )
        try:
            yield cls(tree, folder, process)
        finally:
            # It waits for its next command, or something has failed and nobody needs it.
            process.kill()
            process.communicate()

    def counter(self) -> Counter:
        """Counts from now on."""
        return Counter(self._process.pid, self._folder)

    def run(self) -> None:
        """Do the next command. Raises BenchmarkFailed when it fails."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._wait()

    def _wait(self) -> None:
        """Until it waits for the next command."""
        self._done += 1
        log = self._folder / "log"

        def waits() -> list[str]:
            said = log.read_text(encoding="utf-8", errors="replace").splitlines()
            files = [line.removeprefix("next: ") for line in said if line.startswith("next: ")]
            if len(files) < self._done and self._process.poll() is not None:
                raise BenchmarkFailed(f"{self._tree.name}: a command failed:\n{tail(log)}")
            return files if len(files) >= self._done else []

        try:
            self._tree.owns(wait_for(waits, BOUND)[-1])
        except TimedOut:
            raise BenchmarkFailed(
                f"{self._tree.name}: a command took {BOUND:g} s:\n{tail(log)}"
            ) from None
