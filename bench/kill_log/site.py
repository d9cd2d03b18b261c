"""The site: tables with everything that the log shows in an odd way or not at all, sync.yaml, and
the servers around it.

All rows but those of `drafts` have a column `n` that only ever grows under a key, over all lives of
it. `zones` and `audit` are no part of the mirror.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stack.bridge import BridgeCapture, BridgeRelay, BridgeWorker
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.process import REPOSITORY
from stack.redis import Redis

__all__ = ["ENTITIES", "LOG_OPTIONS", "SYNC", "TABLES", "Capture", "Entity", "Servers", "Snapshot"]

LOG_OPTIONS = [
    "--log-bin=bin",
    "--server-id=7",
    "--binlog-format=ROW",
    "--binlog-row-metadata=FULL",
    "--sync-binlog=1",
    "--max-binlog-size=8388608",
]


@dataclass(frozen=True, slots=True)
class Entity:
    """One of sync.yaml. key: its columns. compared: further columns whose values are the same on
    both sides as they are. counts: whether it has a column `n`. of_log: whether its changes come
    from the log."""

    name: str
    collection: str
    table: str
    key: tuple[str, ...]
    compared: tuple[str, ...]
    counts: bool = True
    of_log: bool = True


ENTITIES: dict[str, Entity] = {
    one.name: one
    for one in (
        Entity("account", "accounts", "accounts", ("name",), ("number", "title", "n")),
        Entity("owner", "owners", "owners", ("id",), ("code", "n")),
        Entity("thing", "things", "things", ("id",), ("owner_code", "n")),
        Entity("part", "parts", "parts", ("id",), ("thing_code", "zone_id", "n")),
        Entity("link", "links", "links", ("id",), ("owner_id", "n")),
        Entity("bulk", "bulk", "bulk", ("id",), ("label", "n")),
        Entity("mixed", "mixed", "mixed", ("a", "b"), ("note", "n")),
        Entity("draft", "drafts", "drafts", ("id",), ("text",), counts=False),
        Entity("invoice", "invoices", "invoices", ("id",), ("n",), of_log=False),
    )
}

TABLES: Sequence[str] = (
    "CREATE TABLE accounts (name VARCHAR(64) COLLATE utf8mb4_general_ci PRIMARY KEY, "
    "number INT NOT NULL, title VARCHAR(200), n BIGINT NOT NULL, KEY (number))",
    "CREATE TABLE zones (id INT PRIMARY KEY, name VARCHAR(20))",
    "CREATE TABLE owners (id INT PRIMARY KEY, code VARCHAR(32) NOT NULL UNIQUE, n BIGINT NOT NULL)",
    "CREATE TABLE things (id INT PRIMARY KEY, owner_code VARCHAR(32) UNIQUE, n BIGINT NOT NULL, "
    "FOREIGN KEY (owner_code) REFERENCES owners (code) ON DELETE CASCADE ON UPDATE CASCADE)",
    "CREATE TABLE parts (id INT PRIMARY KEY, thing_code VARCHAR(32), zone_id INT, "
    "n BIGINT NOT NULL, FOREIGN KEY (thing_code) REFERENCES things (owner_code) "
    "ON DELETE CASCADE ON UPDATE SET NULL, "
    "FOREIGN KEY (zone_id) REFERENCES zones (id) ON DELETE SET NULL)",
    "CREATE TABLE links (id INT PRIMARY KEY, owner_id INT, n BIGINT NOT NULL, "
    "FOREIGN KEY (owner_id) REFERENCES owners (id) ON DELETE SET NULL ON UPDATE SET NULL)",
    "CREATE TABLE bulk (id INT PRIMARY KEY, label VARCHAR(40) NOT NULL, n BIGINT NOT NULL)",
    "CREATE TABLE mixed (a VARCHAR(20) COLLATE utf8mb4_bin, b BIGINT UNSIGNED, n BIGINT NOT NULL, "
    "note TEXT, price DECIMAL(12,3), moment DATETIME(6), stamp TIMESTAMP(3) NULL, "
    "day DATE, clock TIME(2), year YEAR, kind ENUM('one', 'zwö', 'three'), "
    "flags SET('r', 'w', 'x'), bits BIT(13), raw VARBINARY(40), blob_ BLOB, data JSON, "
    "wide DOUBLE, narrow FLOAT, amount INT, latin VARCHAR(20) CHARACTER SET latin1, "
    "PRIMARY KEY (a, b))",
    "CREATE TABLE drafts (id INT PRIMARY KEY, text VARCHAR(100))",
    "CREATE TABLE audit (id INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(100)) ENGINE=Aria",
    "CREATE TABLE invoices (id INT PRIMARY KEY, n BIGINT NOT NULL, ver BIGINT NOT NULL)",
)

SYNC = "version: 1\nentities:\n" + "".join(
    f"  {one.name}: {{collection: {one.collection}, source: {{table: {one.table}, "
    f"key: [{', '.join(one.key)}], {'log: true' if one.of_log else 'version: ver'}}}}}\n"
    for one in ENTITIES.values()
)


class Capture(BridgeCapture):
    """`bridgectl capture`; ready also where another one reads."""

    says_when_ready: ClassVar[str] = "capture.started"


class Snapshot(BridgeWorker):
    """`bridgectl snapshot ENTITY`, which ends by itself; started with `launch`."""

    name: ClassVar[str] = "bridge-snapshot"
    verb: ClassVar[str] = "snapshot"

    @property
    def status(self) -> int | None:
        """The exit code, None while it runs."""
        return None if self._process is None else self._process.poll()


class Servers:
    """Those of one run, on ports and in folders of their own; nothing runs yet.

    folder: for all files.
    capture: the class of the processes that read the log, which a test may damage.
    """

    def __init__(self, folder: Path, capture: type[Capture] = Capture) -> None:
        self.folder = folder
        self.mariadb = MariaDB(
            folder / "mariadb", grants=True, options=LOG_OPTIONS, buffer_pool="128M"
        )
        self.redis = Redis(folder / "redis")
        self.mongod = Mongod(folder / "mongodb")
        sync = folder / "sync.yaml"
        sync.write_text(SYNC, encoding="utf-8")
        limits = "?heartbeat=5&reclaim_idle=5&reclaim_every=1"
        self.env = {
            "BRIDGE_BROKER_URL": self.redis.url + limits,
            "BRIDGE_MONGODB_URL": self.mongod.url,
            "BRIDGE_SQL_URL": self.mariadb.url,
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "BRIDGE_SYNC": str(sync),
        }
        self.captures = [capture(folder / f"capture{n}", env=self.env) for n in (1, 2)]
        self.worker = BridgeWorker(folder / "worker", env=self.env)
        self.relay = BridgeRelay(folder / "relay", env=self.env)

    @property
    def processes(self) -> list[BridgeWorker]:
        """Those of the bridge that run all the time."""
        return [*self.captures, self.worker, self.relay]

    def make_tables(self) -> None:
        """In the database of the running server."""
        outbox = (REPOSITORY / "php/sql/outbox.mysql.sql").read_text(encoding="utf-8")
        self.mariadb.execute(f"USE {self.mariadb.database}", outbox, *TABLES)

    def snapshot(self, *words: str) -> Snapshot:
        """A load, which does not run yet. words: entities and options."""
        options = [*words, "--bury-all"]
        return Snapshot(self.folder / f"snapshot-{words[0]}", env=self.env, options=options)
