"""A program's whole database, mirrored from the database's own log by the commands that an operator
types. The bridge's user of the database may do what the docs say, and no more."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from pymongo.database import Database

from bridge.sync.gtid import Gtid
from bridge.sync.log.kept import KeptLog
from stack.bridge import BridgeCapture
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.ports import free_port
from stack.redis import Redis
from stack.waiting import wait_for
from tests.acceptance.fault_commands import Running
from tests.programs.mirrored import Document, Mirrored

__all__ = ["LOG_OPTIONS", "Logged", "unlike_the_package", "verified"]

LOG_OPTIONS = (
    "--log-bin=mysql-bin",
    "--server-id=1",
    "--binlog-format=ROW",
    "--binlog-row-metadata=FULL",
    "--binlog-expire-logs-seconds=604800",
)
"""What docs/log.md says of a server's settings. The log is not written to the disk for each commit:
no test kills this server."""
GRANTS = (
    "CREATE USER IF NOT EXISTS bridge@'127.0.0.1' IDENTIFIED BY 'read-only'",
    "GRANT REPLICATION SLAVE ON *.* TO bridge@'127.0.0.1'",
    "GRANT SELECT ON `{}`.* TO bridge@'127.0.0.1'",
)
"""The rights of docs/log.md."""


class Logged(Mirrored):
    """The mirror of a program's database: its sync.yaml and `bridgectl capture`.

    meanwhile: what people do while the first load runs.

    As a context manager it does what an operator does with a site that nobody has mirrored yet,
    and goes on following it.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        mariadb: MariaDB,
        mongodb: Mongod,
        redis: Redis,
        database: Database[Document],
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            folder, name, mariadb=mariadb, mongodb=mongodb, redis=redis, database=database
        )
        self.mariadb, self.meanwhile = mariadb, meanwhile
        mariadb.execute(*(one.format(name) for one in GRANTS))
        self.env |= {
            "BRIDGE_SQL_URL": f"mysql://bridge:read-only@{mariadb.address}/{name}",
            "BRIDGE_ROUTES": str(folder / "routes.yaml"),
        }
        self.operator = f"127.0.0.1:{free_port()}"
        self.capture = BridgeCapture(
            folder / "capture", env=self.env, options=["--operator", self.operator]
        )

    def __enter__(self) -> Self:
        self.schema_before = self.schema()
        self.propose()
        self.bridge("check")
        self.bridge("sync", "init")
        with ExitStack() as running:
            running.enter_context(self.capture)
            loading = Running(("snapshot",), self.env, self.folder / "commands")
            self.meanwhile()
            done = loading.end(120)
            assert done.code == 0, done
            self._running = running.pop_all()
        return self

    def propose(self) -> None:
        """Let sync.yaml be written from the database. It lacks nothing for its log to be read."""
        done = self.bridge("sync", "propose", "--from", "log", "--write")
        assert "bridge: missing" not in done.errors, done.errors
        assert "bridge: better" not in done.errors, done.errors

    def schema(self) -> dict[str, Counter[tuple[str, ...]]]:
        """All columns, triggers, indexes and routines that are in the program's database."""
        asked = {
            "COLUMNS": "TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COLUMN_DEFAULT, EXTRA",
            "TRIGGERS": "EVENT_OBJECT_TABLE, TRIGGER_NAME, ACTION_STATEMENT",
            "STATISTICS": "TABLE_NAME, INDEX_NAME, COLUMN_NAME",
            "ROUTINES": "ROUTINE_NAME",
            "EVENTS": "EVENT_NAME",
        }
        schema = {"TRIGGERS": "TRIGGER_SCHEMA", "ROUTINES": "ROUTINE_SCHEMA"}
        schema["EVENTS"] = "EVENT_SCHEMA"
        return {
            view: Counter(
                self.tables.ask(
                    f"SELECT {columns} FROM information_schema.{view} "
                    f"WHERE {schema.get(view, 'TABLE_SCHEMA')} = %s",
                    self.tables.database,
                )
            )
            for view, columns in asked.items()
        }

    def log_status(self) -> dict[str, Any]:
        """What `bridgectl status` says of the log. It must find nothing wrong."""
        told = self.bridge("status", "-o", "json").told
        assert told["errors"] == {}, told
        found: dict[str, Any] = told["log"]
        return found

    def wait_until_applied(self) -> None:
        """Wait until MongoDB has all that is in the log now, and nothing is marked any more."""
        [(end,)] = self.mariadb.execute("SELECT @@gtid_binlog_pos")

        def is_at_rest() -> bool:
            kept = KeptLog(self.database).read()
            position = kept.position
            return position is not None and position.reaches(Gtid.parse(end)) and not kept.dirty

        wait_for(is_at_rest, 60, f"the mirror at {end}, and no mark", interval=0.1)

    def check_equal(self) -> None:
        """As for other mirrors; and `bridgectl status` shows nothing that a person has to do."""
        super().check_equal()
        found = self.log_status()
        assert (found["dirty"], found["stopped"]) == ({}, {}), found
        assert (found["problem"], found["wrong"], found["silent"]) == ("", "", None), found


def verified(*packages: str) -> str:
    """What `dpkg --verify` says of the files of packages: nothing where they are as they came."""
    done = subprocess.run(["dpkg", "--verify", *packages], capture_output=True, text=True)
    assert done.stderr == "", done.stderr
    return done.stdout


def unlike_the_package(copy: Path, package: Path) -> list[str]:
    """The files of a private copy of a program that are not the package's, byte for byte, and
    those of the package that are not there."""
    files = {
        str(path.relative_to(home)): None
        for home in (copy, package)
        for path in home.rglob("*")
        if path.is_file()
    }
    return sorted(name for name in files if _content(copy / name) != _content(package / name))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None
