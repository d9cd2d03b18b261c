"""What the load of an entity needs whose changes come from the database's log.

Before the first row is read, the log must be read from a place that is no later, and whoever reads
it must know the entity. The place is kept by whoever comes first, this load or `bridgectl capture`.
Where the log is not the one any more that was read, a load begins a new epoch, and nobody else
does: versions of it are above all of the old ones, so that everything that is loaded wins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sql
from pymongo.database import Database

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.cause import cause_of
from bridge.sync.documents import Document, Mirror
from bridge.sync.log.follow import AnotherHistory, Follower, end_of_log
from bridge.sync.log.kept import KeptLog
from bridge.sync.log.position import Position, position_of_version, version
from bridge.sync.log.snapshots import Readings
from bridge.sync.log.wanted import of_the_log

__all__ = ["Logged", "Since"]


class Since(NamedTuple):
    """Where the log was when a load began. reading: how its rows are to be read."""

    epoch: int
    sequence: int
    reading: Readings


class Logged:
    """Loads of entities of the log, from one database.

    engine, url: of the site's database.
    say: is told a line where an epoch begins.

    Every method raises ServerAway, and BridgeError for a log that cannot be followed.
    """

    def __init__(
        self,
        engine: sql.Engine,
        url: str,
        database: Database[Document],
        mirror: Mirror,
        say: Callable[[str], None],
    ) -> None:
        self._engine, self._url, self._say = engine, url, say
        self._kept, self._names = KeptLog(database), list(of_the_log(mirror.entities))

    def begin(self, entity: str) -> Since:
        """See to it that no change of the entity is passed over from now on."""
        position = self._position()
        if not self._kept.load(entity):
            raise BridgeError(
                f"the process that reads the log does not know {entity}: start `bridgectl capture` "
                "again, with the sync.yaml that has it, and then run this again"
            )
        reading = Readings(position)
        try:
            with reading(self._engine) as (_, now):
                _, sequence, _ = position_of_version(now)
        except sql.exc.SQLAlchemyError as error:
            raise self._told(error) from error
        return Since(position.epoch, sequence, reading)

    def end(self, entity: str, sequence: int) -> None:
        """All of it is loaded, as it was after this transaction or later."""
        if not self._kept.loaded(entity, sequence):
            raise BridgeError(
                f"a process has read the log that does not know {entity}, and has passed over its "
                "changes: start `bridgectl capture` again, with the sync.yaml that has it, and run "
                f"`bridgectl snapshot {entity} --restart`"
            )
        if (halted := self._kept.read().halted.get(entity)) is not None:
            self._say(
                f"{entity}: its rows could not be read at {halted.since} in the log, which was "
                f"after this load had begun ({halted.why}): load it once more with {halted.do}"
            )

    def _position(self) -> Position:
        """From where on the log is read."""
        while True:
            kept = self._kept.read()
            position = kept.position
            if position is not None:
                why = kept.why_lost or self._is_lost(position)
                if why == "":
                    return position
            epoch = 1 if position is None else position.epoch + 1
            version(epoch, 0, 0)
            begun = end_of_log(self._url, epoch)
            if self._kept.begin(begun, self._names) and position is not None:
                self._say(
                    f"{why}: epoch {epoch} begins, and every entity of the log has to be loaded: "
                    f"{', '.join(self._names)}"
                )

    def _is_lost(self, position: Position) -> str:
        """Why the log cannot be read on from there; empty where it can."""
        try:
            with Follower(self._url, position, lambda shape: ()):
                return ""
        except AnotherHistory as error:
            return str(error)

    def _told(self, error: sql.exc.SQLAlchemyError) -> BridgeError:
        cause = cause_of(error, self._engine.url)
        text = f"the SQL database {cause}"
        return ServerAway(text) if cause.waits else BridgeError(text)
