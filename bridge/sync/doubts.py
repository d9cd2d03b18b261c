"""Whether one key differs on the two sides, or is only on its way. Pure.

SQL and MongoDB cannot be read at one moment, and what a visitor edits is behind for a while. So a
difference is a doubt first, and each side is asked again until it has reached what the other one
had at an earlier moment. MongoDB is always read before SQL: what it has then was committed in SQL
before, and only a real error can make it newer.

Rows of an entity of the log have no versions to compare. There what is equal is keys and contents,
and it is known how far the log is that each side has seen: as soon as MongoDB has come to where SQL
was when the doubt arose, and still holds what it held then, no lag explains it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

__all__ = [
    "KINDS",
    "TOLD",
    "Doubt",
    "KeyState",
    "Kind",
    "Pair",
    "look",
    "look_at_log",
    "outlasts",
    "verdict",
]

Kind = Literal[
    "missing",
    "behind",
    "different",
    "orphan",
    "tombstone",
    "ahead",
    "unusable",
    "nameless",
    "duplicate",
    "unlookable",
    "foreign",
    "unexplained",
]

KINDS: dict[Kind, str] = {
    "missing": "alive in SQL, and not in MongoDB",
    "behind": "MongoDB has an older version",
    "different": "the same version, with other content",
    "orphan": "alive in MongoDB, and SQL has no row, or a deleted one",
    "tombstone": "deleted on both sides, and not as a deletion must be",
    "ahead": "MongoDB has a version that SQL never reached",
    "unusable": "no event can be made of what SQL has",
    "nameless": "rows with NULL in a column of the key, so nothing can name them",
    "duplicate": "several rows have this key, and only one can be in MongoDB",
    "unlookable": "no row can be looked up by this key, so it is not known what it is",
    "foreign": "documents whose _id is no text of UTF-8, so they are not the mirror's",
    "unexplained": "both sides do not add up, and no key was found that explains it",
}
"""What a difference can be, in words."""

TOLD: tuple[Kind, ...] = ("unusable", "nameless", "duplicate", "unlookable", "foreign")
"""What is only told: there is nothing that could be sent."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """What one side has under a key. In MongoDB a tombstone is not alive, in SQL a row that
    stands for a deletion is not, nor is what only the table of versions knows (row is False).
    most: the highest version that SQL can have given, where that is not `version`. least: of a row
    that was so at some version up to `version`: the lowest that it can have. wrong: why no event
    can be made of the row; MongoDB has none of it."""

    version: int
    alive: bool = True
    wrong: str = ""
    row: bool = True
    most: int | None = None
    least: int | None = None

    @property
    def highest(self) -> int:
        """What is above it was never given by SQL."""
        return self.version if self.most is None else self.most

    @property
    def lowest(self) -> int:
        """What is below it is older."""
        return self.version if self.least is None else self.least


@dataclass(frozen=True, slots=True)
class Pair:
    """Both sides of a key, MongoDB read before SQL; None where a side knows nothing of it. same:
    whether the contents are equal; None where they were not compared. fault: of a tombstone that
    is not as it must be. rows: how many have this key."""

    mongodb: KeyState | None
    sql: KeyState | None
    same: bool | None = None
    unlookable: str = ""
    fault: str = ""
    rows: int = 1


@dataclass(frozen=True, slots=True)
class Doubt:
    """A difference that lag may explain. first, since: the pair that raised it, and when, in
    seconds. latest: what was found at the last look. began: in the log, the version at which SQL
    was read when it was first in doubt. is_certain: whether no lag explains it.
    """

    kind: Kind
    first: Pair
    since: float
    latest: Pair
    began: int = 0
    is_certain: bool = False


def verdict(pair: Pair) -> Kind | None:
    """How the two sides differ at the moment; None when they are equal."""
    sql, mongodb = pair.sql, pair.mongodb
    if pair.unlookable:
        return "unlookable" if mongodb is not None and mongodb.alive else None
    if pair.rows > 1:
        return "duplicate"
    if sql is not None and sql.wrong:
        return "unusable"
    if sql is None or not sql.alive:
        if mongodb is None or not mongodb.alive:
            return "tombstone" if pair.fault else None
        return "ahead" if sql is not None and mongodb.version > sql.highest else "orphan"
    if mongodb is None:
        return "missing"
    if not mongodb.alive:
        # A tombstone of the same version is not replaced by that version.
        return "ahead" if mongodb.version >= sql.version else "missing"
    if mongodb.version < sql.lowest:
        return "behind"
    if mongodb.version > sql.version:
        return "ahead"
    return "different" if pair.same is False else None


def look(doubt: Doubt | None, pair: Pair, now: float, *, beside: bool = False) -> Doubt | None:
    """What is left of a doubt after another look; None when it is settled.

    now: seconds, by a clock that only goes on.
    beside: whether versions are beside the table.

    It is settled when both sides are equal, and also when MongoDB has moved on to what SQL had
    at the first look, however often the key was edited since. A version beside the table is given
    after the row was written and before it is read: so the content may be ahead of its version,
    and the next version has all that was there at the first look.
    """
    kind = verdict(pair)
    if kind is None:
        return None
    if doubt is None:
        return Doubt(kind, pair, now, pair)
    of_lag = (*_OF_LAG, "different") if beside else _OF_LAG
    if kind in of_lag and doubt.kind in of_lag and _has_moved_on(doubt, pair):
        return None
    if kind == doubt.kind:
        return replace(doubt, latest=pair)
    # Another difference than before gets its own time.
    return Doubt(kind, pair, now, pair)


_OF_LAG: tuple[Kind, ...] = ("missing", "behind", "orphan")


def look_at_log(doubt: Doubt | None, pair: Pair, now: float, reached: int) -> Doubt | None:
    """The same of an entity of the log.

    now: seconds of a monotonic clock.
    reached: the version that MongoDB had come to before it was read.

    It is settled when both sides are equal, and also when MongoDB holds what changed after SQL was
    read for the first time. It is certain when MongoDB holds what it held at an earlier look, and
    had come to what SQL was then.
    """
    kind = verdict(pair)
    if kind is None:
        return None
    began = 0 if pair.sql is None else pair.sql.version
    if doubt is None:
        return Doubt(kind, pair, now, pair, began)
    held, sql = pair.mongodb, pair.sql
    if held is not None and sql is not None and doubt.began < held.version <= sql.version:
        return None
    if held != doubt.first.mongodb:
        return Doubt(kind, pair, now, pair, doubt.began)
    first = 0 if doubt.first.sql is None else doubt.first.sql.version
    return replace(doubt, kind=kind, latest=pair, is_certain=reached >= first)


def outlasts(doubt: Doubt, now: float, wait: float, lag: float) -> Doubt:
    """The same doubt, certain where no lag of the queue explains it: there is nothing that could be
    sent, or it has lasted for `wait` seconds and whatever was not in MongoDB when it arose is.

    now: seconds of the clock of `look`.
    wait: seconds.
    lag: the age in seconds of the oldest change that MongoDB did not hold before it was read.
    """
    age = now - doubt.since
    return replace(doubt, is_certain=doubt.kind in TOLD or (age >= wait and lag <= age))


def _has_moved_on(doubt: Doubt, pair: Pair) -> bool:
    """Whether MongoDB holds what SQL had at the first look, or something newer."""
    first, now = doubt.first, pair.mongodb
    if now is None:
        # Deleted so long ago that even its tombstone is gone: no answer to anything.
        return False
    if first.sql is not None and first.sql.alive:
        reached = now.version > first.sql.version
        same = now.version == first.sql.version and now.alive
        return reached or (same and doubt.kind != "different")
    return now.version > (first.mongodb.version if first.mongodb else -1)
