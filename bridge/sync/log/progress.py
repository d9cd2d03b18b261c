"""How far MongoDB has come in the log, for those who compare it with SQL, and how they read SQL."""

from __future__ import annotations

import sqlalchemy as sql
from pymongo.database import Database

from bridge.errors import BridgeError, ServerAway
from bridge.queue.sql.cause import cause_of
from bridge.sync.documents import Document
from bridge.sync.log.kept import KeptLog
from bridge.sync.log.position import LAST_ROW, Position, version
from bridge.sync.log.snapshots import Readings

__all__ = ["Progress"]


class Progress:
    """Of an entity of the log. reading: how its rows are read.

    Raises BridgeError where MongoDB keeps no place in the log; every method does, too, and raises
    ServerAway.
    """

    def __init__(self, database: Database[Document], engine: sql.Engine, entity: str) -> None:
        self._kept, self._engine, self._entity = KeptLog(database), engine, entity
        self.reading = Readings(self.position())

    def __repr__(self) -> str:
        return f"<Progress of {self._entity}>"

    def position(self) -> Position:
        """Everything up to there is in MongoDB."""
        position = self._kept.read().position
        if position is None:
            raise BridgeError(
                f"entity {self._entity}: its changes come from the database's log, and nobody has "
                f"read it yet: run `bridgectl snapshot {self._entity}` and `bridgectl capture`"
            )
        return position

    def reached(self) -> int:
        """What has a version up to this one is in MongoDB."""
        position = self.position()
        return version(position.epoch, position.sequence, LAST_ROW)

    def newest(self) -> int:
        """A version that no document is above now."""
        try:
            return self.reading.newest(self._engine)
        except sql.exc.SQLAlchemyError as error:
            raise ServerAway(f"the SQL database {cause_of(error, self._engine.url)}") from error
