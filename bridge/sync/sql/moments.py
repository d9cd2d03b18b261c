"""Rows whose version is that of the moment at which they were read: those of entities of the log.

A row of such a table says nothing of its version. Whoever reads it has to know how far the log is
that the row has seen; how that is found out is `bridge.sync.log.snapshots`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import sqlalchemy as sql

from bridge.errors import BridgeError, ServerAway

__all__ = ["ONE_VERSION", "Reading", "at_one_moment"]

T = TypeVar("T")


class Reading(Protocol):
    """Opens transactions that see one moment of the database each. seconds: how long it took last
    to find out which one it is."""

    seconds: float

    def __call__(self, engine: sql.Engine) -> AbstractContextManager[tuple[sql.Connection, int]]:
        """A transaction, and the version of all that is read in it."""


ONE_VERSION = 0
"""Of the rows of an entity of the log, where they are only counted."""

OFTEN = 5
"""Times that a table is read anew because it was altered meanwhile."""
_ALTERED = 1412


def at_one_moment(
    reading: Reading | None,
    engine: sql.Engine,
    entity: str,
    question: Callable[[sql.Connection, int], T | None],
) -> T:
    """The answer to a question, with the version of the moment at which it is asked.

    reading: how rows of the entity are read.
    question: gives None where what it asked of was altered meanwhile.

    Raises BridgeError without a reading, ServerAway, and SQLAlchemy's errors.
    """
    if reading is None:
        raise BridgeError(
            f"entity {entity}: its versions come from the database's log, and MongoDB keeps no "
            f"place in it: run `bridgectl snapshot {entity}`"
        )
    for _ in range(OFTEN):
        try:
            with reading(engine) as (connection, version):
                if (answer := question(connection, version)) is not None:
                    return answer
        except sql.exc.DBAPIError as error:
            # A table was altered after the snapshot that it was to be read in.
            if error.orig is None or error.orig.args[:1] != (_ALTERED,):
                raise
    raise ServerAway(f"the SQL database alters the table of {entity} again and again")
