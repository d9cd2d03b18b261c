"""A MariaDB of its own: durable commits, no grant tables, a private port and directory.

The program is Debian's `mariadbd` of the package `mariadb-server-core`, which starts no service.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pymysql

from stack.process import Server, find_program

__all__ = ["MariaDB"]

COMPLETE = "complete"
LOG_FILE_SIZE = "16M"
INSTALL = "apt-get install mariadb-server-core"
# The path of a unix socket must fit into 108 bytes, sun_path in unix(7).
LONGEST_SOCKET_PATH = 100


class MariaDB(Server):
    """`mariadbd` with an empty database and the user root without a password.

    database: the name in `url` and `dsn`; letters, digits and underscores.
    buffer_pool: memory for pages, for example "32M".
    options: further words of the command line, for example ["--log-bin"].
    grants: whether it has grant tables, so that users and their rights count; that takes seconds
    more to make. root has no password then either.
    """

    name: ClassVar[str] = "mariadbd"
    start_bound: ClassVar[float] = 60.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        database: str = "bridge",
        buffer_pool: str = "32M",
        options: Sequence[str] = (),
        grants: bool = False,
    ) -> None:
        super().__init__(directory, port=port)
        self.grants = grants
        self.database, self.buffer_pool, self.options = database, buffer_pool, list(options)
        self.socket = self.directory / "mariadb.sock"
        self._socket_home: Path | None = None

    @property
    def url(self) -> str:
        """mysql+pymysql://root@127.0.0.1:PORT/DATABASE, as SQLAlchemy takes it."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """The URL of another database."""
        return f"mysql+pymysql://root@{self.address}/{database}?charset=utf8mb4"

    @property
    def dsn(self) -> str:
        """mysql:host=127.0.0.1;port=PORT;…, as PDO takes it; the user is root."""
        return self.dsn_of(self.database)

    def dsn_of(self, database: str) -> str:
        """The DSN of another database."""
        return f"mysql:host={self.host};port={self.port};dbname={database};charset=utf8mb4"

    def create_database(self, name: str) -> str:
        """Make an empty database, in place of one of that name, and return its URL."""
        self.execute(f"DROP DATABASE IF EXISTS `{name}`", f"CREATE DATABASE `{name}`")
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database with all that is in it, if it is there."""
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as root, without a chosen database; the rows of the last one. Raises
        pymysql.MySQLError."""
        connection = pymysql.connect(host=self.host, port=self.port, user="root", autocommit=True)
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    @property
    def data(self) -> Path:
        """The directory of the database files."""
        return self.directory / "data"

    def command(self) -> Sequence[str]:
        self._place_socket()
        return [
            *self._basic_command(),
            f"--port={self.port}",
            f"--socket={self.socket}",
            f"--pid-file={self._pid_file}",
            f"--bind-address={self.host}",
            # Without grant tables it would open no port either.
            *([] if self.grants else ["--skip-grant-tables"]),
            "--skip-networking=0",
            "--character-set-server=utf8mb4",
            "--skip-log-bin",
            "--innodb-flush-log-at-trx-commit=1",
            f"--innodb-buffer-pool-size={self.buffer_pool}",
            *self.options,
        ]

    def prepare(self) -> None:
        if not (self.data / COMPLETE).exists():
            self._make_data()
        # Without grant tables it needs no system database, only a folder for each of ours.
        (self.data / self.database).mkdir(exist_ok=True)

    def ready(self) -> bool:
        try:
            connection = pymysql.connect(
                host=self.host, port=self.port, user="root", connect_timeout=2
            )
        except pymysql.MySQLError:
            return False
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@pid_file")
            [(file,)] = cursor.fetchall()
            return bool(file == str(self._pid_file))

    def kill(self) -> None:
        super().kill()
        if self._socket_home is not None:
            shutil.rmtree(self._socket_home, ignore_errors=True)
            self._socket_home = None
            self.socket = self.directory / "mariadb.sock"

    @property
    def _pid_file(self) -> Path:
        return self.directory / "mariadbd.pid"

    def _basic_command(self) -> list[str]:
        program = Path(find_program("mariadbd", INSTALL))
        return [
            str(program),
            "--no-defaults",
            f"--datadir={self.data}",
            f"--tmpdir={self.directory}",
            f"--lc-messages-dir={program.parent.parent}/share/mysql",
            f"--innodb-log-file-size={LOG_FILE_SIZE}",
            *(["--user=root"] if os.geteuid() == 0 else []),
        ]

    def _make_data(self) -> None:
        """Make InnoDB's files and close them properly.

        A server that makes them and is killed before its first checkpoint cannot start again.
        """
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir()
        with self.log.open("ab") as log:
            made = subprocess.run(
                [*self._basic_command(), "--bootstrap"],
                input=self._system_tables() if self.grants else b"",
                stdout=log,
                stderr=log,
                timeout=self.start_bound,
            )
        if made.returncode != 0:
            raise self._failure(f"could not make its data, status {made.returncode}")
        (self.data / COMPLETE).touch()

    def _system_tables(self) -> bytes:
        """What `mariadb-install-db` would run: the database mysql, with root alone in it."""
        share = Path(find_program("mariadbd", INSTALL)).parent.parent / "share/mysql"
        parts = [
            b"CREATE DATABASE mysql;\nUSE mysql;\n"
            b"SET @auth_root_socket = NULL, @skip_auth_anonymous = 1;\n"
        ]
        names = ("mysql_system_tables.sql", "mysql_system_tables_data.sql")
        parts += [(share / name).read_bytes() for name in names]
        return b"\n".join(parts)

    def _place_socket(self) -> None:
        if len(bytes(self.socket)) > LONGEST_SOCKET_PATH and self._socket_home is None:
            self._socket_home = Path(tempfile.mkdtemp(prefix="mariadb-"))
            self.socket = self._socket_home / "mariadb.sock"
