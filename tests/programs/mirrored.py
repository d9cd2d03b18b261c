"""A program's whole database, mirrored by the commands that an operator types, and the proofs that
every one of the programs has to pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from bson import Int64, decode, encode
from pymongo.database import Database
from ruamel.yaml import YAML

from stack.bridge import BridgeRelay, BridgeWorker
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.redis import Redis
from stack.waiting import wait_for
from tests.acceptance.fault_commands import Difference, Done, Running
from tests.programs.truth import Tables

Document = dict[str, Any]


class Mirrored:
    """The mirror of a program's database: its sync.yaml, `bridgectl relay` and `bridgectl worker`.

    name: of the database in MariaDB; in MongoDB it is `database`. As a context manager it does
    what an operator does with a site that nobody has mirrored yet, and goes on following it.
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
    ) -> None:
        self.folder, self.database = folder, database
        self.tables = Tables(mariadb, name)
        self.sync = folder / "sync.yaml"
        self.env = {
            "BRIDGE_BROKER_URL": redis.url,
            "BRIDGE_MONGODB_URL": mongodb.url_of(database.name),
            "BRIDGE_SQL_URL": mariadb.url_of(name),
            "BRIDGE_STATE_DIR": str(folder / "state"),
            "BRIDGE_SYNC": str(self.sync),
        }
        self.relay = BridgeRelay(folder / "relay", env=self.env)
        self.worker = BridgeWorker(folder / "worker", env=self.env)

    def __enter__(self) -> Self:
        self.propose()
        self.bridge("sync", "init")
        self.bridge("sync", "triggers", "--apply")
        with ExitStack() as running:
            running.enter_context(self.relay)
            running.enter_context(self.worker)
            self.bridge("snapshot")
            self._running = running.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._running.close()

    def bridge(self, *words: str, codes: tuple[int, ...] = (0,)) -> Done:
        """Run a command; AssertionError when it ends with a code that is none of these."""
        done = Running(words, self.env, self.folder / "commands").end(120)
        assert done.code in codes, (words, done)
        return done

    def propose(self) -> None:
        """Let sync.yaml be written from the database."""
        self.bridge("sync", "propose", "--write")

    @property
    def entities(self) -> dict[str, Any]:
        """What sync.yaml mirrors: entity and its declaration."""
        declared = YAML(typ="safe").load(self.sync.read_text(encoding="utf-8"))["entities"]
        return dict(declared)

    def documents(self, entity: str) -> list[Document]:
        """All of an entity, without tombstones."""
        name = self.entities[entity]["collection"]
        return list(self.database[name].find({"_del": {"$ne": True}}))

    def wait_until_applied(self) -> None:
        """Wait until MongoDB holds every row of the outbox."""
        wait_for(
            lambda: self.tables.ask("SELECT COUNT(*) FROM bridge_outbox") == [("0",)],
            120,
            "an empty outbox",
            interval=0.1,
        )

    def reconcile(self, *words: str) -> Done:
        """`bridgectl reconcile --deep`: 0 when both sides are equal, 1 when they are not."""
        given = ("--deep", "--wait", "100ms", "--limit", "0", "-o", "json", *words)
        return self.bridge("reconcile", *given, codes=(0, 1))

    def dead_letters(self) -> Any:
        """What `bridgectl dead list` shows."""
        return self.bridge("dead", "list", "-o", "json").told

    # Proofs.

    def check_equal(self) -> None:
        """Nothing is a dead letter, both sides are equal by `bridgectl reconcile --deep`, and they
        are by what this test reads itself."""
        self.wait_until_applied()
        assert self.dead_letters() == []
        done = self.reconcile()
        assert (done.code, done.told["equal"]) == (0, True), done
        wrong = {entity: both for entity in self.entities if (both := self.unlike(entity))}
        assert not wrong, {entity: both[:2] for entity, both in wrong.items()}

    def unlike(self, entity: str) -> list[tuple[str, Document]]:
        """What is in one side only: of each row what its document has to hold, and of each
        document what it holds."""
        declared = self.entities[entity]
        table, utf8 = declared["source"]["table"], _in_utf8(declared)
        rows = Counter(_frozen(one) for one in self.tables.expected(table, utf8))
        documents = Counter(_frozen(_data(one)) for one in self.documents(entity))
        only_rows = [("MariaDB", decode(one)) for one in (rows - documents).elements()]
        return only_rows + [("MongoDB", decode(one)) for one in (documents - rows).elements()]

    def check_damage_is_found(self) -> None:
        """In every collection documents are changed, removed and put in; reconcile names exactly
        these, and repairs them."""
        damaged = {one for entity in self.entities for one in self._damage(entity)}
        assert {kind for _, kind, _ in damaged} == {"different", "missing", "orphan", "behind"}
        done = self.reconcile()
        assert done.code == 1, done
        assert done.differences == damaged, (done.differences - damaged, damaged - done.differences)
        self.reconcile("--repair")
        wait_for(lambda: self.reconcile().code == 0, 60, "what was sent again to be applied")
        self.check_equal()

    def _damage(self, entity: str) -> Iterator[Difference]:
        collection = self.database[self.entities[entity]["collection"]]
        documents = self.documents(entity)[:4]
        for kind, one in zip(("different", "missing", "behind", "orphan"), documents, strict=False):
            key = one["_id"]
            if kind == "different":
                name = max(_data(one))
                collection.update_one({"_id": key}, {"$set": {name: ["damaged"]}})
            elif kind == "missing":
                collection.delete_one({"_id": key})
            elif kind == "behind":
                collection.update_one({"_id": key}, {"$inc": {"_v": -1}})
            else:
                if not self._has_numbers_for_keys(entity):
                    continue  # a key that no row could have would be a difference of another kind
                key = "60000"
                collection.insert_one({"_id": key, "_v": 1})
            yield entity, kind, key

    def _has_numbers_for_keys(self, entity: str) -> bool:
        source = self.entities[entity]["source"]
        key = [source["key"]] if isinstance(source["key"], str) else source["key"]
        types = {one.name: one.type for one in self.tables.columns(source["table"])}
        return len(key) == 1 and types[key[0]] in ("smallint", "mediumint", "int", "bigint")


def _in_utf8(declared: dict[str, Any]) -> set[str]:
    """The fields of which sync.yaml says that their bytes are UTF-8, not what the column says."""
    fields = declared.get("fields", {})
    texts = {name: one["text"] for name, one in fields.items() if "text" in one}
    assert all(one["stored"] == "utf-8" for one in texts.values()), texts
    return set(texts)


def _data(document: Document) -> Document:
    """What is the site's in a document."""
    return {name: value for name, value in document.items() if not name.startswith("_")}


def _frozen(fields: Document) -> bytes:
    """The same for the same fields, whatever their order, and whether the driver has 32 or 64 bits
    for an integer."""
    return encode(
        {
            name: int(value) if isinstance(value, Int64) else value
            for name, value in sorted(fields.items())
        }
    )
