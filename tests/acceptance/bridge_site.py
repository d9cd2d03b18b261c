"""`bridgectl serve` with a routes.yaml of its own, and the eyes and hands of its operator."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bridge.proxy.telemetry.workers import WorkerStatus, read_all
from stack.bridge import BridgeServe
from stack.ports import free_port
from stack.process import REPOSITORY
from stack.waiting import wait_for

__all__ = ["HERE", "BridgeSite", "run_bridge"]

HERE = Path(__file__).resolve().parent
"""Where commands run: a folder without a routes.yaml of its own."""


def run_bridge(
    *words: str, env: Mapping[str, str], bound: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run one `bridge` command and keep what it says."""
    inherited = {key: value for key, value in os.environ.items() if key[:7] != "BRIDGE_"}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *words],
        env={**inherited, "PYTHONPATH": str(REPOSITORY)} | dict(env),
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=bound,
    )


class BridgeSite:
    """One running bridge.

    routes: the text of routes.yaml; @ADDRESS@ in it becomes host:port of this site. options:
    further words for `bridgectl serve`. A context manager.
    """

    def __init__(
        self,
        directory: Path,
        routes: str,
        *,
        workers: int = 1,
        operator: bool = False,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        folder = directory / "site"
        folder.mkdir(exist_ok=True)
        self.routes = folder / "routes.yaml"
        self.state = directory / "state"
        self.access_log = directory / "access.jsonl"
        self.operator = f"127.0.0.1:{free_port()}" if operator else ""
        self.env = {
            "BRIDGE_ROUTES": str(self.routes),
            "BRIDGE_STATE_DIR": str(self.state),
            "PYTHONPATH": str(REPOSITORY),
            **(env or {}),
        }
        self.server = BridgeServe(
            directory / "serve",
            env=self.env,
            workers=workers,
            options=[
                *("--access-log", str(self.access_log)),
                *(("--operator", self.operator) if operator else ()),
                *options,
            ],
        )
        self.write(routes)

    @property
    def address(self) -> str:
        """host:port for visitors."""
        return self.server.address

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.server.stop()

    @property
    def exit_code(self) -> int | None:
        """The exit code of its main process, None while it runs."""
        process = self.server._process
        return process.poll() if process else None

    def start(self) -> None:
        """Start it and wait until every worker has its table."""
        self.server.start()
        wait_for(lambda: len(self.workers()) == self.server.workers, 20, "all workers have a table")

    def write(self, routes: str) -> None:
        """Replace routes.yaml by rename, as editors and `bridgectl flip` do."""
        new = self.routes.with_suffix(".new")
        new.write_text(self.text(routes), encoding="utf-8")
        new.replace(self.routes)

    def text(self, routes: str) -> str:
        """`routes` with the address of this site filled in."""
        return routes.replace("@ADDRESS@", self.address)

    def workers(self) -> list[WorkerStatus]:
        """What each living worker says that it runs, as `bridgectl routes` reads it."""
        return read_all(self.state)

    def live(self, condition: Callable[[WorkerStatus], bool], bound: float, what: str) -> None:
        """Wait until `condition` holds for every worker."""

        def everywhere() -> bool:
            workers = self.workers()
            return len(workers) == self.server.workers and all(map(condition, workers))

        wait_for(everywhere, bound, what, interval=0.005)

    def bridge(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `bridge …` as its operator."""
        return run_bridge(*words, env=self.env)

    def bridge_json(self, *words: str) -> Any:
        """What `bridge … -o json` says. It must end well."""
        done = self.bridge(*words, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def log(self) -> list[dict[str, Any]]:
        """The access log so far."""
        if not self.access_log.exists():
            return []
        whole = self.access_log.read_bytes().rpartition(b"\n")[0]
        return [json.loads(line) for line in whole.splitlines()]
