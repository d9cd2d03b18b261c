"""What must make a run fail: each is a damage of the processes that read the log, or of what they
have written. A proof that none of them fails is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from bench.kill_log.site import Capture, Servers

__all__ = ["DAMAGES", "damaged"]

_CODE = {
    "no healing": """
from bridge.sync.log.healing import Healing
Healing._turn = lambda self, engine, database, link: None
""",
    "marks taken away": """
from bridge.sync.log.healing import Healing
from bridge.sync.log.kept import KeptLog
def turn(self, engine, database, link):
    kept = KeptLog(database)
    for entity, mark in kept.read().dirty.items():
        kept.healed(entity, mark)
Healing._turn = turn
""",
    "no marks": """
from bridge.sync.log import capture
capture._Capture._mark = lambda self, names, why, stream, keys=None: None
""",
    "no foreign keys": """
from bridge.sync.log.wanted import Wanted
Wanted._watchers = lambda self, shape: iter(())
""",
    "changes lost": """
from bridge.sync.log import capture
events, turn = capture._Capture._events, [0]
def some(self, changes):
    turn[0] += 1
    return events(self, [] if turn[0] % 4 == 0 else changes)
capture._Capture._events = some
""",
    "place before the writing": """
from bridge.errors import ServerAway
from bridge.sync.log import capture
apply, read, turn = capture._Capture._apply, capture._Capture._read, [0]
def late(self):
    self._kept.keep(self._owner, self._at.position)
    turn[0] += bool(self._batch)
    if turn[0] % 20 == 19:
        turn[0] += 1
        raise ServerAway("made by a damage")
    apply(self)
def reading(self, follower):
    self._at = follower.stream
    read(self, follower)
capture._Capture._apply, capture._Capture._read = late, reading
""",
    "no guard": """
from bridge.sync import guard, apply
from pymongo import UpdateOne
def unguarded(write, *, twin=False):
    new = [{"$literal": write.document}, {"_at": "$$NOW"}]
    return UpdateOne({"_id": write.key}, [{"$replaceWith": {"$mergeObjects": new}}], upsert=True)
apply.guarded = unguarded
from bridge.sync.log import capture
events, kept = capture._Capture._events, []
def again(self, changes):
    found = events(self, changes)
    kept.append(found)
    return found + (kept[-9] if len(kept) % 10 == 9 else [])
capture._Capture._events = again
""",
    "dead letters": """
from bridge.sync.log import capture
from bridge.sync.dead_letters import letter_of_row
from bridge.sync.sql.source import BadRow
keep = capture._Capture._keep
def bury(self, position):
    if self._counters.dead == 0:
        self._bury([letter_of_row("account", BadRow(b"{}", "made by a damage", "k"))])
    keep(self, position)
capture._Capture._keep = bury
""",
}
"""Code that runs in a process that reads the log, before it begins."""


def _document(servers: Servers) -> None:
    """Change one behind the back of the mirror, without another version."""
    with servers.mongod.client() as client:
        accounts = client.get_default_database().accounts
        accounts.update_one({"_del": {"$ne": True}}, {"$set": {"title": "changed"}})


def _counter(servers: Servers) -> None:
    """A document that was older for a moment."""
    with servers.mongod.client() as client:
        accounts = client.get_default_database().accounts
        found = accounts.find_one({"_del": {"$ne": True}})
        assert found is not None
        accounts.update_one({"_id": found["_id"]}, {"$inc": {"n": -1}})
        accounts.update_one({"_id": found["_id"]}, {"$inc": {"n": 1}})


def _row(servers: Servers) -> None:
    """A row of which the log says nothing."""
    servers.mariadb.execute(
        f"USE {servers.mariadb.database}",
        "SET SESSION sql_log_bin = 0",
        "INSERT INTO zones VALUES (99, 'unlogged')",
        "INSERT INTO owners VALUES (99999, 'unlogged', 1)",
    )


_MEDDLE = {"a document": _document, "a counter": _counter, "a row": _row}

DAMAGES = (*_CODE, *_MEDDLE)
"""Names of them all."""


class _Damaged(Capture):
    """A process that is damaged before it starts."""

    damage: ClassVar[str] = ""

    def command(self) -> Sequence[str]:
        python, _, _, *words = super().command()
        start = "from bridge.cli import main\nmain()"
        return [python, "-c", f"{self.damage}\n{start}", *words]


def damaged(name: str) -> dict[str, Any]:
    """What makes a `LogKillLoop` of a damage: its arguments."""
    if name in _CODE:
        return {"capture": type("Damaged", (_Damaged,), {"damage": _CODE[name]})}
    return {"meddle": _MEDDLE[name]}
