"""A PostgreSQL of its own: a fresh cluster in a private directory, on a private port.

The programs are those of Debian's package `postgresql`. They refuse to run as root; then they
run as the user `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import psycopg
from psycopg import sql

from stack.errors import BinaryMissing, ServerFailed
from stack.process import Server, find_program
from stack.sessions import members

__all__ = ["Postgres"]

INSTALL = "apt-get install postgresql"
VERSIONS = Path("/usr/lib/postgresql")
USER = "postgres"

# Directories of tests are closed to everybody but root: with this one capability left, the
# user `postgres` comes through them to its own directory.
AS_USER = [
    "setpriv",
    *(f"--reuid={USER}", f"--regid={USER}", "--init-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
]


class Postgres(Server):
    """`postgres` with an empty database and the user postgres, trusted without a password.

    database: the name in `url` and `dsn`.
    options: further settings, for example {"max_connections": "200"}.
    """

    name: ClassVar[str] = "postgres"
    # SIGTERM would wait until the last client has gone.
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT
    start_bound: ClassVar[float] = 60.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        database: str = "bridge",
        options: dict[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port=port)
        self.database = database
        self.options = {
            "listen_addresses": self.host,
            # A socket or shared memory elsewhere would survive a SIGKILL.
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": "mmap",
            "shared_buffers": "32MB",
            **(options or {}),
        }

    @property
    def url(self) -> str:
        """postgresql+psycopg://postgres@127.0.0.1:PORT/DATABASE, as SQLAlchemy takes it."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """The URL of another database."""
        return f"postgresql+psycopg://{USER}@{self.address}/{database}"

    @property
    def dsn(self) -> str:
        """pgsql:host=127.0.0.1;port=PORT;…, as PDO takes it."""
        return f"pgsql:host={self.host};port={self.port};dbname={self.database};user={USER}"

    def create_database(self, name: str) -> str:
        """Make an empty database, in place of one of that name, and return its URL."""
        self.drop_database(name)
        self._execute("CREATE DATABASE {}", name)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database if it is there; its connections are closed."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def command(self) -> Sequence[str]:
        settings = {"port": str(self.port), **self.options}
        words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        return [*_as_user(), program("postgres"), "-D", str(self.data), *words]

    @property
    def data(self) -> Path:
        """The directory of the cluster."""
        return self.directory / "data"

    def prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        # An initdb that was killed left half of a cluster.
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir()
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self.data, user.pw_uid, user.pw_gid)
        made = subprocess.run(
            [
                *(*_as_user(), program("initdb"), "-D", str(self.data), "-U", USER),
                *("--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8"),
                *("--no-sync", "--no-instructions"),
            ],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if made.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerFailed(f"initdb failed in {self.data}:\n{made.stdout}")

    def ready(self) -> bool:
        try:
            with self._connection() as connection:
                place = connection.execute("SHOW data_directory").fetchone()
                if place != (str(self.data),):
                    return False
                known = connection.execute(
                    "SELECT FROM pg_database WHERE datname = %s", [self.database]
                ).fetchone()
        except psycopg.OperationalError:
            return False
        if known is None:
            self._execute("CREATE DATABASE {}", self.database)
        return True

    def processes(self) -> list[int]:
        """The server and what it forked: each of these begins a session of its own."""
        if self._process is None:
            return []
        here = [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._owns(pid)
        ]
        return sorted({*members(self.pid), *here})

    def kill(self) -> None:
        super().kill()
        # Without their parent the others end by themselves, but not in the middle of a query.
        deadline = time.monotonic() + 5
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.005)

    def _owns(self, pid: int) -> bool:
        """All its processes, and no others of that program, work in the cluster's directory."""
        try:
            working = os.readlink(f"/proc/{pid}/cwd")
            return working == str(self.data) and Path(f"/proc/{pid}/exe").readlink().name == USER
        except OSError:  # it has ended, or it is another user's
            return False

    def _connection(self) -> psycopg.Connection:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=USER,
            dbname=USER,
            connect_timeout=2,
            autocommit=True,
        )

    def _execute(self, statement: str, name: str) -> None:
        with self._connection() as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name)))


def program(name: str) -> str:
    """A program of the newest PostgreSQL of Debian, which is not on PATH, or one of PATH.

    Raises BinaryMissing.
    """
    found = [path for path in VERSIONS.glob(f"*/bin/{name}") if path.parent.parent.name.isdigit()]
    if found:
        return str(max(found, key=lambda path: int(path.parent.parent.name)))
    return find_program(name, INSTALL)


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    try:
        pwd.getpwnam(USER)
    except KeyError:
        raise BinaryMissing("postgres", INSTALL) from None
    return AS_USER
