"""PHP as a server: the built-in one, and php-fpm for use behind nginx."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from stack.errors import BinaryMissing
from stack.process import Server, find_program

__all__ = ["PhpFpm", "PhpServer", "run_php"]

# The path of a unix socket must fit into 108 bytes, sun_path in unix(7).
LONGEST_SOCKET_PATH = 100
FPM_NAME = re.compile(r"php-fpm[0-9.]*")


class PhpServer(Server):
    """`php -S`: closes every connection after one answer, so it is no test of pooling.

    docroot: the directory that is served, or None with a router alone.
    router: script that is asked first, as in `php -S host:port router.php`.
    settings: php.ini settings, for example {"session.save_path": "/tmp/x"}.
    workers: processes that answer at the same time.
    """

    name: ClassVar[str] = "php"

    def __init__(
        self,
        directory: Path,
        docroot: Path,
        *,
        router: Path | None = None,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        workers: int = 4,
    ) -> None:
        super().__init__(directory, port=port, env=env, cwd=docroot)
        self.docroot, self.router = Path(docroot).resolve(), router
        self.settings = dict(settings or {})
        if workers > 1:
            self.env["PHP_CLI_SERVER_WORKERS"] = str(workers)

    @property
    def url(self) -> str:
        """http://127.0.0.1:PORT, without a slash at the end."""
        return f"http://{self.address}"

    def command(self) -> Sequence[str]:
        words = [php_program(), *_ini(self.settings), "-S", self.address, "-t", str(self.docroot)]
        return [*words, str(self.router.resolve())] if self.router else words


class PhpFpm(Server):
    """php-fpm with one static pool on a unix socket; it has no TCP port of its own.

    settings: php.ini settings. env: variables that the scripts see. children: processes.
    """

    name: ClassVar[str] = "php-fpm"

    def __init__(
        self,
        directory: Path,
        *,
        env: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        children: int = 4,
    ) -> None:
        super().__init__(directory, port=0, env=env)
        self.settings, self.children = dict(settings or {}), children
        self.socket = self.directory / "fpm.sock"
        self._socket_home: Path | None = None

    @property
    def address(self) -> str:
        """unix:PATH, as nginx writes it."""
        return f"unix:{self.socket}"

    def command(self) -> Sequence[str]:
        words = [fpm_program(), "--nodaemonize", "--fpm-config", str(self.config)]
        return [*words, "--allow-to-run-as-root"] if os.geteuid() == 0 else words

    @property
    def config(self) -> Path:
        """The configuration that every start writes anew."""
        return self.directory / "php-fpm.conf"

    def prepare(self) -> None:
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET_PATH and self._socket_home is None:
            self._socket_home = Path(tempfile.mkdtemp(prefix="php-fpm-"))
            self.socket = self._socket_home / "fpm.sock"
        lines = [
            "[global]",
            "error_log = /proc/self/fd/2",
            f"pid = {self.directory / 'php-fpm.pid'}",
            "[www]",
            f"listen = {self.socket}",
            "pm = static",
            f"pm.max_children = {self.children}",
            "clear_env = no",
            "catch_workers_output = yes",
        ]
        if os.geteuid() == 0:
            # The directories of tests and of the demo belong to root then.
            lines += ["user = root", "group = root"]
        lines += [f"php_admin_value[{key}] = {value}" for key, value in self.settings.items()]
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def ready(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def kill(self) -> None:
        super().kill()
        self.socket.unlink(missing_ok=True)
        if self._socket_home is not None:
            shutil.rmtree(self._socket_home, ignore_errors=True)
            self._socket_home = None
            self.socket = self.directory / "fpm.sock"


def php_program() -> str:
    """The path of `php`. Raises BinaryMissing."""
    return find_program("php", "apt-get install php-cli")


def fpm_program() -> str:
    """The path of php-fpm, whose name in Debian holds its version. Raises BinaryMissing."""
    places = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/local/sbin", "/usr/sbin"]
    names = {name for place in places for name in _listing(place) if FPM_NAME.fullmatch(name)}
    if not names:
        raise BinaryMissing("php-fpm", "apt-get install php-fpm")
    return find_program(max(names), "apt-get install php-fpm")


def run_php(
    script: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    bound: float = 60.0,
) -> str:
    """Run a PHP script once with `php` and return its standard output.

    Raises subprocess.CalledProcessError with its output when it does not exit with 0, and
    subprocess.TimeoutExpired after `bound` seconds.
    """
    done = subprocess.run(
        [php_program(), *_ini(settings or {}), str(script), *arguments],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=bound,
    )
    if done.returncode != 0:
        raise subprocess.CalledProcessError(
            done.returncode, done.args, done.stdout, done.stdout + done.stderr
        )
    return done.stdout


def _ini(settings: Mapping[str, str]) -> list[str]:
    return [word for key, value in settings.items() for word in ("-d", f"{key}={value}")]


def _listing(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # PATH may name what is not there, or what this user may not read
        return []
