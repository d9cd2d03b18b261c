"""What must hold at rest: every row of SQL is in MongoDB as it is, and nothing else. It does not
use what it judges: both sides are read by their own drivers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pymysql
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from bench.kill_log.editor import Made
from bench.kill_log.site import ENTITIES, Entity
from stack.mariadb import MariaDB

__all__ = ["HEALED_WITHIN", "Verdict", "gaps", "lost"]

HEALED_WITHIN = 60.0
"""Seconds for which a mark may stand where nothing is killed any more."""


@dataclass
class Verdict:
    """What came of a run.

    lost: rows of SQL that MongoDB does not have as they are, and documents of rows that are gone.
    backwards: writes with a version or a counter below an earlier one. different: what `bridgectl
    reconcile --deep` finds. dead: dead letters. waiting: rows that are left in the outbox. differs:
    what the worker says of events that are only compared. marks: edits that must be marked; healed:
    those whose mark came and is gone; unmarked: those that were not marked. unhealed: entities that
    are still marked, or stopped. healed_after: for how many seconds a mark stood at the longest
    when MongoDB had caught up after the kills. told: the first few of all that, in words.
    """

    lost: int = 0
    backwards: int = 0
    different: int = 0
    dead: int = 0
    waiting: int = 0
    differs: int = 0
    marks: int = 0
    healed: int = 0
    unmarked: list[Made] = field(default_factory=list)
    unhealed: list[str] = field(default_factory=list)
    healed_after: float = 0.0
    told: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """What does not hold, in words; empty where all is well."""
        found = [
            f"{name} is {count}, and not 0"
            for name, count in (
                ("lost", self.lost), ("backwards", self.backwards),
                ("different", self.different), ("dead", self.dead), ("waiting", self.waiting),
                ("differs", self.differs),
            )
            if count
        ]  # fmt: skip
        if self.unmarked:
            found.append(f"{len(self.unmarked)} were not marked, the first: {self.unmarked[0]}")
        if self.unhealed:
            found.append(f"these were not healed: {', '.join(self.unhealed)}")
        if self.healed_after > HEALED_WITHIN:
            found.append(f"a mark stood for {self.healed_after:.1f} s, more than {HEALED_WITHIN}")
        return found


def lost(server: MariaDB, client: MongoClient[dict[str, Any]]) -> list[str]:
    """Rows that MongoDB does not have as they are, and documents of rows that are gone, in
    words."""
    connection = pymysql.connect(
        host=server.host, port=server.port, user="root", database=server.database
    )
    database = client.get_default_database()
    found = []
    with connection, connection.cursor() as cursor:
        for entity in ENTITIES.values():
            names = (*entity.key, *entity.compared)
            cursor.execute(f"SELECT {', '.join(names)} FROM {entity.table}")
            collection = database.get_collection(
                entity.collection, read_concern=ReadConcern("majority")
            )
            alive = collection.find({"_del": {"$ne": True}}, dict.fromkeys(names, 1))
            found += gaps(entity, cursor.fetchall(), alive)
    return found


def gaps(
    entity: Entity, rows: Iterable[tuple[Any, ...]], documents: Iterable[Mapping[str, Any]]
) -> list[str]:
    """Where the rows of a table and the documents that are alive are not the same, in words. rows:
    the columns of the key, and then those that are compared."""
    width = len(entity.key)
    wanted = {tuple(map(str, row[:width])): row[width:] for row in rows}
    found = []
    for document in documents:
        key = tuple(str(document.get(name)) for name in entity.key)
        held = tuple(document.get(name) for name in entity.compared)
        if key not in wanted:
            found.append(f"{entity.name} {'/'.join(key)} is alive, and has no row")
        elif (row := wanted.pop(key)) != held:
            found.append(f"{entity.name} {'/'.join(key)} is {held}, and its row {row}")
    found += [f"{entity.name} {'/'.join(key)} is missing" for key in wanted]
    return found
