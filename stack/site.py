"""The demo site: the PHP forge, MongoDB, Redis, the sync worker and the proxy in one directory.

`stack.demo` shows it to a person, `stack.check` puts it through the main job. The routes are a
copy of the checkout's routes.yaml with private ports, so that a flip changes no file of git.
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo.database import Database
from ruamel.yaml import YAML

from stack.bridge import BridgeRelay, BridgeServe, BridgeWorker
from stack.errors import StackError, tail
from stack.mongod import Mongod
from stack.php import PhpServer, run_php
from stack.ports import free_port
from stack.process import REPOSITORY, Server
from stack.redis import Redis

__all__ = ["LOGIN", "DemoSite", "demo_routes"]

LEGACY = REPOSITORY / "examples" / "forge" / "legacy"
LOGIN = ("maintainer", "secret")
"""User and password of the forge; load.php makes this user."""

Progress = Callable[[str], None]


class DemoSite:
    """All servers of the demo, started in order and stopped in reverse order.

    directory: everything is in it. port: of the proxy; a free one if None. As a context
    manager it starts and stops; `progress` is called with one line for each step.
    """

    def __init__(
        self, directory: Path, *, port: int | None = None, progress: Progress | None = None
    ) -> None:
        self.directory = directory.resolve()
        self.port = free_port() if port is None else port
        self._progress = progress or (lambda line: None)
        self._running = contextlib.ExitStack()

        self.routes = self.directory / "routes.yaml"
        self.state = self.directory / "state"
        self.access_log = self.directory / "access.jsonl"
        self.mongod = Mongod(self.directory / "mongodb")
        self.redis = Redis(self.directory / "redis")
        # PHP signs with it what a visitor has just written, Python checks it.
        self.freshness_key = f"demo:{secrets.token_urlsafe(32)}"
        forge = {
            "FORGE_DATA_DIR": str(self.directory / "forge"),
            "FORGE_REDIS_HOST": self.redis.host,
            "FORGE_REDIS_PORT": str(self.redis.port),
            "FORGE_OUTBOX": "1",
            "FORGE_FRESHNESS_KEY": self.freshness_key,
        }
        self.php = PhpServer(
            self.directory / "php", LEGACY / "htdocs", router=LEGACY / "router.php", env=forge
        )
        self.env = {
            "BRIDGE_ROUTES": str(self.routes),
            "BRIDGE_BROKER_URL": self.redis.url,
            "BRIDGE_MONGODB_URL": self.mongod.url,
            "BRIDGE_SQL_URL": f"sqlite:///{self.directory / 'forge' / 'forge.sqlite'}",
            "BRIDGE_SYNC": str(REPOSITORY / "sync.yaml"),
            "BRIDGE_STATE_DIR": str(self.state),
            "BRIDGE_SECRET_FILE": str(self.directory / "secret"),
            "BRIDGE_OPERATOR_TOKEN_FILE": str(self.directory / "operator-token"),
            "BRIDGE_FRESHNESS_KEYS_FILE": str(self.directory / "freshness-keys"),
            "PYTHONPATH": f"{REPOSITORY}:{self.directory}",
        }
        self.worker = BridgeWorker(self.directory / "worker", env=self.env)
        self.relay = BridgeRelay(self.directory / "relay", env=self.env)
        self.proxy = BridgeServe(
            self.directory / "proxy",
            env=self.env,
            port=self.port,
            workers=2,
            options=["--access-log", str(self.access_log)],
        )

    @property
    def servers(self) -> tuple[Server, ...]:
        """In the order in which they start."""
        return self.mongod, self.redis, self.php, self.worker, self.relay, self.proxy

    @property
    def url(self) -> str:
        """Where visitors go: the proxy."""
        return self.proxy.url

    @property
    def command(self) -> Path:
        """A script that is `bridge` with the settings of this site, for a person at a shell."""
        return self.directory / "bridge"

    def start(self) -> Self:
        """Start everything and load the data; on a failure what was started is stopped.

        Raises StackError.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop everything in reverse order of its start."""
        self._running.close()

    def database(self) -> Database[dict[str, Any]]:
        """The MongoDB database of the mirror; close its `client` after use."""
        return self.mongod.client()[self.mongod.database]

    def bridge(self, *words: str, status: int = 0) -> str:
        """What `bridge` with these words and the settings of this site says.

        Raises StackError when it ends with another status than the expected one.
        """
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            cwd=REPOSITORY,
            env=self.proxy.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode != status:
            command = shlex.join(["bridge", *words])
            raise StackError(
                f"{command} ended with status {done.returncode}, not {status}: "
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def log_tails(self, lines: int = 15) -> str:
        """The ends of all logs, to look at after a failure."""
        logs = [server.log for server in self.servers] + [self.access_log]
        return "\n".join(f"{log}:\n{tail(log, lines)}" for log in logs if log.exists())

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self.state.mkdir(exist_ok=True)
        contents = {
            "secret": secrets.token_urlsafe(32),
            "operator-token": secrets.token_urlsafe(32),
            "freshness-keys": self.freshness_key,
        }
        for name, content in contents.items():
            file = self.directory / name
            file.touch(mode=0o600)
            file.write_text(content + "\n", encoding="ascii")
        settings = [f"export {key}={shlex.quote(value)}" for key, value in self.env.items()]
        python = shlex.join([sys.executable, "-m", "bridge"])
        lines = [
            "#!/bin/sh",
            *settings,
            f"cd {shlex.quote(str(REPOSITORY))}",
            f'exec {python} "$@"',
        ]
        self.command.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.command.chmod(0o700)
        demo_routes(REPOSITORY / "routes.yaml", self.routes, port=self.port, php=self.php.url)

        self._run("MongoDB", self.mongod)
        self._run("Redis", self.redis)
        self._timed("forge: load Debian's metadata into SQLite", self._load)
        self._run("PHP forge", self.php)
        self._timed("bridgectl sync init: MongoDB's indexes", lambda: self.bridge("sync", "init"))
        self._run("sync worker", self.worker)
        self._run("relay", self.relay)
        self._timed("bridgectl snapshot: first load of MongoDB", lambda: self.bridge("snapshot"))
        self._run("proxy", self.proxy)

    def _run(self, what: str, server: Server) -> None:
        self._timed(f"{what} on {server.address}", server.start)
        self._running.callback(server.stop)

    def _timed(self, what: str, step: Callable[[], object]) -> None:
        started = time.monotonic()
        step()
        self._progress(f"{what} ({time.monotonic() - started:.1f} s)")

    def _load(self) -> None:
        run_php(LEGACY / "bin" / "load.php", env=self.php.env)


def demo_routes(source: Path, target: Path, *, port: int, php: str) -> None:
    """Copy routes.yaml with the hosts of the only site and the URL of `php` replaced.

    Comments and order stay. Raises StackError when the file is not as the demo needs it.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    try:
        routes = yaml.load(source)
        (site,) = routes["sites"].values()
        site["hosts"] = [f"127.0.0.1:{port}", f"localhost:{port}"]
        routes["backends"]["php"]["url"] = php
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise StackError(f"{source} cannot be used for the demo: {error!r}") from error
    yaml.dump(routes, target)
