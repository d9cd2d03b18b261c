"""How far a snapshot has come, kept in `bridge_state`, and who works on it.

What is kept outlives every process. Whoever takes it over goes on where the last one was; one
chunk may then be written twice, which changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal

from bridge.errors import BridgeError, ServerAway
from bridge.sync.documents import Document, Mirror
from bridge.sync.sql.keys import Position
from bridge.sync.state import Owner, State

__all__ = ["Checkpoint", "Leases", "digest", "forget_reason", "pause", "state_id"]

Phase = Literal["rows", "gone", "done"]

LEASE = 30.0
"""Seconds without a sign of life after which somebody else may go on with a snapshot."""
BEAT = 5.0

FORMAT = 1


def state_id(entity: str) -> str:
    """The `_id` of an entity's checkpoint."""
    return f"snapshot:{entity}"


@dataclass(slots=True)
class Checkpoint:
    """phase: reading `rows`, burying what is `gone`, or `done`. position: of the last row that is
    in MongoDB, None before the first. total: rows when it began. written, stale: events that
    changed MongoDB, and of which it had that version or a newer one. dead: rows that became dead
    letters. buried: documents whose row is gone. seconds: of work. rewrite: as it was asked for.
    source: digest of what is read. epoch, sequence: of an entity of the log, where the log was
    before the first row was read."""

    source: str
    rewrite: bool = False
    phase: Phase = "rows"
    position: Position | None = None
    total: int = 0
    rows: int = 0
    written: int = 0
    stale: int = 0
    dead: int = 0
    buried: int = 0
    seconds: float = 0.0
    started: str = field(default_factory=lambda: _now())
    finished: str = ""
    epoch: int = 0
    sequence: int = 0

    @classmethod
    def of(cls, document: Document) -> Checkpoint | None:
        """What a document keeps; None when it keeps none."""
        names = {one.name for one in fields(cls)}
        found: dict[str, Any] = {name: document[name] for name in names if name in document}
        return cls(**found) if "phase" in found and "source" in found else None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.phase == "done"

    def finish(self) -> None:
        """Everything is done."""
        self.phase, self.position, self.finished = "done", None, _now()


def digest(mirror: Mirror, entity: str) -> str:
    """Of all that decides which rows are read, as what, and in which order."""
    described = mirror.entities[entity]
    sources = [described.source]
    sources += [mirror.entities[child.entity].source for child in described.children.values()]
    read = [None if source is None else source.model_dump(mode="json") for source in sources]
    text = json.dumps([FORMAT, read, sorted(described.children)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def forget_reason(held: Checkpoint, source: str, *, restart: bool, rewrite: bool) -> str:
    """Why an unfinished snapshot cannot be gone on with; empty when it can.

    source: the `digest` of sync.yaml as it is.
    restart, rewrite: what is asked for now.
    """
    if restart:
        return "--restart"
    if held.source != source:
        return "its source in sync.yaml has changed since"
    if rewrite and not held.rewrite:
        return "it was begun without --rewrite"
    return ""


def pause(state: State, entity: str, *, paused: bool) -> bool:
    """Tell whoever works on a snapshot to wait, or to go on; whether there is one that is not
    done. Raises ServerAway."""
    held = state.get(state_id(entity)) or {}
    checkpoint = Checkpoint.of(held)
    unfinished = bool(held.get("owner")) or bool(checkpoint and not checkpoint.done)
    return unfinished and state.update(state_id(entity), {"paused": paused})


class Leases:
    """The checkpoints that this process works on; a thread gives the signs of life. Raises
    BridgeError when another process is alive that works on one of them."""

    def __init__(self, state: State, entities: Sequence[str]) -> None:
        self._state, self._entities = state, tuple(entities)
        self._owner = Owner.me()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Leases:
        taken: list[str] = []
        try:
            for entity in self._entities:
                if self._state.take(state_id(entity), self._owner, LEASE) is None:
                    raise BridgeError(self._refusal(entity))
                taken.append(entity)
        except BridgeError:
            self._release(taken)
            raise
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2)
        self._release(self._entities)

    def load(self, entity: str) -> Document:
        """What is kept now."""
        return self._state.get(state_id(entity)) or {}

    def keep(self, entity: str, checkpoint: Checkpoint) -> Document:
        """Keep it; the document then. Raises ServerAway, and BridgeError when another process has
        gone on with it meanwhile."""
        return self._mine(entity, asdict(checkpoint))

    def look(self, entity: str) -> Document:
        """The document, and a sign of life. Raises as `keep` does."""
        return self._mine(entity, {})

    def _mine(self, entity: str, changed: Document) -> Document:
        found = self._state.keep(state_id(entity), self._owner, changed)
        if found is None:
            raise BridgeError(
                f"another process has gone on with the snapshot of {entity}, because this one "
                f"gave no sign of life for {LEASE:g} s; nothing is lost"
            )
        return found

    def _refusal(self, entity: str) -> str:
        owner = Owner.of(self.load(entity))
        who = f" ({owner})" if owner else ""
        return (
            f"a snapshot of {entity} is under way{who}: stop it with Ctrl-C there, or pause it "
            f"with `bridgectl snapshot {entity} --pause`. If that process was killed, try again in "
            f"{LEASE:g} s"
        )

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            for entity in self._entities:
                # What it says is found out at the next checkpoint.
                with suppress(ServerAway):
                    self._state.keep(state_id(entity), self._owner, {})

    def _release(self, entities: Sequence[str]) -> None:
        for entity in entities:
            with suppress(ServerAway):  # or it ends by itself
                self._state.release(state_id(entity), self._owner, {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
