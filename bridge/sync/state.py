"""Small documents of the bridge's own bookkeeping, in the collection `bridge_state` of the mirror.

Each is read and written with a majority: what was kept is there after any server or process was
killed. A document can have an owner, who must give signs of life; MongoDB's clock alone decides
whether they still come.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Self

from pymongo import ReturnDocument
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from bridge.sync.documents import Document
from bridge.sync.entities import STATE
from bridge.sync.mongodb import MAJORITY, majority, outages

__all__ = ["Owner", "State"]


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that works on something. id: one of a kind. host, pid: where it runs."""

    id: str
    host: str
    pid: int

    @classmethod
    def me(cls) -> Self:
        """This process, as a new owner."""
        return cls(secrets.token_hex(8), _host(), os.getpid())

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self | None:
        """The owner of a document, None where nobody is."""
        found = document.get("owner")
        return cls(**found) if isinstance(found, dict) else None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.partition(' ')[0]}"

    @property
    def is_dead(self) -> bool:
        """Whether it ran on this machine and is gone, so that nobody need wait for it."""
        if self.host != _host() or self.pid == os.getpid():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def _host() -> str:
    """A name of this machine. Containers may share it, but then not the numbers of processes."""
    space = ""
    with suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()} {space}".strip()


class State:
    """The documents of one mirror, by their `_id`. Every method raises ServerAway."""

    def __init__(self, database: Database[Document]) -> None:
        self._collection = majority(database, STATE, write_concern=MAJORITY)

    def get(self, id: str) -> Document | None:
        """The document, None when it is not there."""
        with outages():
            return self._collection.find_one({"_id": id})

    def put(self, id: str, fields: Mapping[str, Any]) -> None:
        """Put this in place of what is there."""
        with outages():
            self._collection.replace_one({"_id": id}, {**fields, "_id": id}, upsert=True)

    def update(self, id: str, fields: Mapping[str, Any]) -> bool:
        """Set fields of a document, whoever owns it; whether it was there."""
        with outages():
            found = self._collection.update_one({"_id": id}, {"$set": dict(fields)})
            return found.matched_count == 1

    def delete(self, id: str) -> None:
        """Remove the document; does nothing when it is not there."""
        with outages():
            self._collection.delete_one({"_id": id})

    def take(self, id: str, owner: Owner, seconds: float) -> Document | None:
        """Own the document, made where it is not there, and give it back; None while another
        owner is alive, who was heard of less than `seconds` ago."""
        silent = {"$expr": {"$lt": ["$beat", {"$subtract": ["$$NOW", int(seconds * 1000)]}]}}
        free: list[Document] = [{"owner": None}, {"owner.id": owner.id}, silent]
        held = self.get(id)
        if held and (other := Owner.of(held)) and other.is_dead:
            free.append({"owner.id": other.id})
        with outages():
            if held is None:
                with suppress(DuplicateKeyError):
                    self._collection.insert_one({"_id": id})
            return self._collection.find_one_and_update(
                {"_id": id, "$or": free},
                [{"$set": {"owner": {"$literal": asdict(owner)}, "beat": "$$NOW"}}],
                return_document=ReturnDocument.AFTER,
            )

    def keep(self, id: str, owner: Owner, fields: Mapping[str, Any]) -> Document | None:
        """Set fields and give a sign of life; the document then, or None when it is not ours any
        more. With no fields it is a sign of life only."""
        change = {name: {"$literal": value} for name, value in fields.items()}
        with outages():
            return self._collection.find_one_and_update(
                {"_id": id, "owner.id": owner.id},
                [{"$set": {**change, "beat": "$$NOW"}}],
                return_document=ReturnDocument.AFTER,
            )

    def release(self, id: str, owner: Owner, fields: Mapping[str, Any]) -> None:
        """Set fields and own it no more; does nothing when it is not ours."""
        with outages():
            self._collection.update_one(
                {"_id": id, "owner.id": owner.id}, {"$set": {**fields, "owner": None}}
            )
