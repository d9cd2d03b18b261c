"""A MongoDB replica set of several members on this machine, whose primary can be killed.

For what a set of one cannot show: elections, secondaries that lag, writes that are rolled back.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from stack.mongod import REPLICA_SET, Mongod
from stack.waiting import wait_for

__all__ = ["Member", "ReplicaSet"]


class Member(Mongod):
    """One member, ready when it answers, primary or not."""

    def ready(self) -> bool:
        try:
            with self.direct() as client:
                return bool(client.admin.command("serverStatus")["pid"] == self.pid)
        except PyMongoError:
            return False

    @contextmanager
    def direct(self) -> Iterator[MongoClient[dict[str, Any]]]:
        """A client of this member alone, which reads there even when it is a secondary."""
        client: MongoClient[dict[str, Any]] = MongoClient(
            f"mongodb://{self.address}/?directConnection=true&readPreference=secondaryPreferred",
            serverSelectionTimeoutMS=1000,
            connectTimeoutMS=1000,
            socketTimeoutMS=5000,
        )
        with client:
            yield client

    def hello(self) -> dict[str, Any]:
        """What it says about itself; {} where it does not answer."""
        client: MongoClient[dict[str, Any]] = MongoClient(
            f"mongodb://{self.address}/?directConnection=true",
            serverSelectionTimeoutMS=300,
            connectTimeoutMS=300,
            socketTimeoutMS=300,
        )
        with client, suppress(PyMongoError):
            return dict(client.admin.command("hello"))
        return {}

    def fail_point(self, name: str, mode: str) -> None:
        """Set one of mongod's own fail points, `alwaysOn` or `off`; this needs the parameter
        enableTestCommands=1."""
        with self.direct() as client:
            client.admin.command({"configureFailPoint": name, "mode": mode})

    def freeze(self) -> None:
        """It stops in the middle of whatever it does, and nobody is told."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self.signal(signal.SIGCONT)


class ReplicaSet:
    """`members` times mongod; `url` names them all, so that a client finds a new primary.

    election: seconds without a primary after which another one is elected. As a context manager
    it starts, waits until there is a primary and all others follow it, and stops.
    """

    def __init__(
        self,
        directory: Path,
        *,
        members: int = 3,
        database: str = "bridge",
        election: float = 2.0,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        self.database, self.election = database, election
        self.members = [
            Member(Path(directory) / f"member{number}", database=database, parameters=parameters)
            for number in range(members)
        ]

    def __repr__(self) -> str:
        return f"<ReplicaSet of {', '.join(member.address for member in self.members)}>"

    @property
    def url(self) -> str:
        """mongodb://HOST:PORT,HOST:PORT,…/DATABASE?replicaSet=…"""
        return self.url_of(self.database)

    def url_of(self, database: str) -> str:
        """The URL of another database."""
        hosts = ",".join(member.address for member in self.members)
        return f"mongodb://{hosts}/{database}?replicaSet={REPLICA_SET}"

    def client(self, **options: Any) -> MongoClient[dict[str, Any]]:
        """A new client of the set; the caller closes it."""
        patience = {"serverSelectionTimeoutMS": 10_000, "connectTimeoutMS": 2000}
        return MongoClient(self.url, **{**patience, **options})

    def start(self) -> Self:
        """Start all members that do not run, make them a set, and wait until it is complete.

        Raises BinaryMissing, ServerFailed or TimedOut.
        """
        try:
            self.launch()
            for member in self.members:
                member.wait_ready()
            self._initiate()
            self.wait_complete()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self) -> Self:
        """Start the processes of all members that do not run, and return at once; `start` belongs
        after it."""
        for member in self.members:
            if not member.alive:
                member.launch()
        return self

    def wait_complete(self, bound: float = 60.0) -> None:
        """Wait until there is a primary and every other member follows it."""

        def complete() -> bool:
            told = [member.hello() for member in self.members]
            primaries = sum(bool(one.get("isWritablePrimary")) for one in told)
            return primaries == 1 and sum(map(_works, told)) == len(told)

        wait_for(complete, bound, "a primary and its secondaries", interval=0.1)

    def primary(self, bound: float = 30.0) -> Member:
        """The member that is primary; waits for an election. Raises TimedOut."""

        def found() -> Member | None:
            told = [(member, member.hello()) for member in self.members if member.alive]
            # Of two that both believe it, the later election counts.
            terms = {m: one["electionId"] for m, one in told if one.get("isWritablePrimary")}
            return max(terms, key=lambda member: terms[member], default=None)

        return wait_for(found, bound, "a primary", interval=0.05)  # type: ignore[return-value]

    def secondaries(self) -> list[Member]:
        """The members that run and are not primary."""
        primary = self.primary()
        return [member for member in self.members if member.alive and member is not primary]

    def kill_primary(self) -> Member:
        """SIGKILL the primary; it is given back, to be started again. Waits for nothing."""
        member = self.primary()
        member.kill()
        return member

    def kill(self) -> None:
        """SIGKILL all members."""
        for member in self.members:
            member.kill()

    def stop(self) -> None:
        """Stop all members."""
        for member in self.members:
            member.thaw()
            member.signal(member.stop_signal)
        for member in self.members:
            member.stop(5)

    def _initiate(self) -> None:
        config = {
            "_id": REPLICA_SET,
            "members": [
                {"_id": number, "host": member.address}
                for number, member in enumerate(self.members)
            ],
            "settings": {
                "electionTimeoutMillis": int(self.election * 1000),
                "heartbeatIntervalMillis": int(self.election * 200),
            },
        }
        with self.members[0].direct() as client:
            if not client.admin.command("hello").get("setName"):
                deadline = time.monotonic() + 10
                while True:
                    try:
                        client.admin.command("replSetInitiate", config)
                        break
                    except PyMongoError:
                        # It says no while a member is not up, or when it is one already.
                        if client.admin.command("hello").get("setName"):
                            break
                        if time.monotonic() > deadline:
                            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _works(hello: Mapping[str, Any]) -> bool:
    return bool(hello.get("isWritablePrimary") or hello.get("secondary"))
