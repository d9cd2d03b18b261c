"""Python servers: gunicorn with any WSGI application, and the processes of the bridge."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from stack.process import REPOSITORY, Server

__all__ = [
    "ActivatedServe",
    "BridgeCapture",
    "BridgeRelay",
    "BridgeServe",
    "BridgeWorker",
    "BridgeWsgi",
    "Gunicorn",
]


class PythonServer(Server):
    """A server run by this Python, with the checkout importable."""

    def environment(self) -> dict[str, str]:
        inherited = super().environment()
        places = [str(REPOSITORY), *filter(None, [inherited.get("PYTHONPATH")])]
        return {**inherited, "PYTHONPATH": ":".join(places), "PYTHONUNBUFFERED": "1", **self.env}

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT, without a slash at the end."""
        return f"http://{self.address}"


class Gunicorn(PythonServer):
    """gunicorn with one WSGI application.

    app: `module:attribute`; `chdir` (default: the checkout) is importable.
    worker_class: gthread, sync, or a `module.Class`. options: further command-line words.
    """

    name: ClassVar[str] = "gunicorn"

    def __init__(
        self,
        directory: Path,
        app: str,
        *,
        worker_class: str = "gthread",
        workers: int = 1,
        threads: int = 4,
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        chdir: Path = REPOSITORY,
        port: int | None = None,
    ) -> None:
        super().__init__(directory, port=port, env=env, cwd=chdir)
        self.app, self.worker_class = app, worker_class
        self.workers, self.threads, self.options = workers, threads, list(options)

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "gunicorn"),
            *("--bind", self.address),
            *("--worker-class", self.worker_class),
            *("--workers", str(self.workers)),
            *("--threads", str(self.threads)),
            *("--chdir", str(self.cwd)),
            *("--worker-tmp-dir", str(self.directory)),
            # Its control socket would be shared by all that this user runs.
            "--no-control-socket",
            *self.options,
            self.app,
        ]


class BridgeWsgi(Gunicorn):
    """The bridge as a WSGI application under stock gunicorn, with the options of the docs.

    env: BRIDGE_ROUTES and the other BRIDGE_* variables. options: further command-line words.
    app: another application than `bridge.wsgi`'s.
    """

    name: ClassVar[str] = "bridge-wsgi"
    documented: ClassVar[Sequence[str]] = (
        "--forwarded-allow-ips=",
        "--limit-request-line=8190",
        "--limit-request-field_size=16380",
    )

    def __init__(
        self,
        directory: Path,
        *,
        env: Mapping[str, str],
        workers: int = 1,
        threads: int = 16,
        options: Sequence[str] = (),
        app: str = "bridge.wsgi:application",
    ) -> None:
        super().__init__(
            directory,
            app,
            workers=workers,
            threads=threads,
            options=[*self.documented, *options],
            env=env,
        )


class BridgeServe(PythonServer):
    """`bridgectl serve`: the proxy, ready when its port answers.

    env: BRIDGE_ROUTES and the other BRIDGE_* variables. options: further command-line words,
    for example ["--access-log", "FILE"].
    """

    name: ClassVar[str] = "bridge-serve"

    def __init__(
        self,
        directory: Path,
        *,
        env: Mapping[str, str],
        workers: int = 1,
        options: Sequence[str] = (),
        port: int | None = None,
        cwd: Path | None = None,
    ) -> None:
        super().__init__(directory, port=port, env=env, cwd=cwd)
        self.workers, self.options = workers, list(options)

    def command(self) -> Sequence[str]:
        return [
            *(sys.executable, "-m", "bridge", "serve"),
            *("--bind", self.address),
            *("--workers", str(self.workers)),
            *self.options,
        ]


_ACTIVATE = """\
import os, socket, sys
held = socket.create_server((sys.argv[1], int(sys.argv[2])))
os.dup2(held.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
os.execv(sys.executable, [sys.executable, *sys.argv[3:]])
"""


class ActivatedServe(BridgeServe):
    """`bridgectl serve` whose socket was made by another program, as systemd does. It counts as
    ready when that listens: visitors are let in before there is a server."""

    def command(self) -> Sequence[str]:
        _, *words = super().command()
        return [sys.executable, "-c", _ACTIVATE, self.host, str(self.port), *words]


class BridgeWorker(PythonServer):
    """`bridgectl worker`: carries events to MongoDB; ready when its log says so."""

    name: ClassVar[str] = "bridge-worker"

    def __init__(
        self,
        directory: Path,
        *,
        env: Mapping[str, str],
        options: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> None:
        super().__init__(directory, port=0, env=env, cwd=cwd)
        self.options = list(options)

    @property
    def address(self) -> str:
        """It listens nowhere; this is what names it in messages."""
        return "the queue"

    verb: ClassVar[str] = "worker"
    says_when_ready: ClassVar[str] = "queue.connected"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "bridge", self.verb, *self.options]

    def ready(self) -> bool:
        return f'"{self.says_when_ready}"' in self.log_text()


class BridgeRelay(BridgeWorker):
    """`bridgectl relay`: carries outbox rows to the queue; ready when its log says so."""

    name: ClassVar[str] = "bridge-relay"
    verb: ClassVar[str] = "relay"
    says_when_ready: ClassVar[str] = "relay.started"


class BridgeCapture(BridgeWorker):
    """`bridgectl capture`: reads the database's log; ready when its log says where it begins."""

    name: ClassVar[str] = "bridge-capture"
    verb: ClassVar[str] = "capture"
    says_when_ready: ClassVar[str] = "capture.follows"
