"""What is written to the file of evidence and read from it, one statement after the other.

Callers have opened it, are in a transaction where they write, and deal with what fails.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from bridge.evidence.differences.file import Database
from bridge.evidence.differences.found import Counts, Found, Group, Kind, Sample, Shown
from bridge.evidence.differences.pages import unpacked

__all__ = [
    "ELSEWHERE",
    "MOST_GROUPS",
    "Count",
    "bound",
    "clear",
    "count",
    "counts",
    "groups",
    "keep",
    "placed",
    "sample",
    "samples",
    "see",
    "shrink",
    "tidy",
    "transaction",
    "wants",
]

Count = tuple[str, str, str, str, str]
"""Route, release, rules, source and kind."""

MOST_GROUPS = 300
"""Of one route and one kind; what is found beyond them is counted in one more."""

ELSEWHERE = "(elsewhere)"
"""The place of that one."""

_MOST_COUNTS = 5000
_REFRESH = 300.0  # seconds until the last sample of a group is replaced by a newer one
_ORDER = (Kind.DIFFERENT, Kind.LAG, Kind.NOISE)


@contextlib.contextmanager
def transaction(database: Database) -> Iterator[None]:
    """All that is done in it is in the file at its end, or nothing is."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def count(database: Database, many: Iterable[tuple[Count, int, float]]) -> None:
    """Add to what is counted: what, how many, and when the last one was."""
    database.executemany(
        "INSERT INTO counts VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET n = n + excluded.n, last = MAX(last, excluded.last)",
        [(*key, n, last) for key, n, last in many],
    )


def counts(database: Database, release: str, rules: str) -> dict[str, Counts]:
    """By route, what is counted of this release under these rules."""
    found: dict[str, Counter[str]] = {}
    rows = database.execute(
        "SELECT route, kind, SUM(n) FROM counts WHERE release = ? AND rules = ? "
        "GROUP BY route, kind",
        (release, rules),
    )
    for route, kind, n in rows:
        found.setdefault(route, Counter())[kind.replace("-", "_")] += n
    known = {one.name for one in fields(Counts)}
    return {
        route: Counts(**{kind: n for kind, n in kinds.items() if kind in known})
        for route, kinds in sorted(found.items())
    }


def placed(database: Database, found: Found, one: Shown) -> Shown:
    """The difference itself, or the one that stands for all that have no group any more."""
    if _number(database, found, one) is not None:
        return one
    query = "SELECT COUNT(*) FROM groups WHERE route = ? AND kind = ?"
    (many,) = database.execute(query, (found.route, found.kind.value)).fetchone()
    if many < MOST_GROUPS:
        return one
    return Shown(one.place, ELSEWHERE, "various", one.legacy, one.python)


def see(database: Database, found: Found, one: Shown) -> int:
    """Count the difference; returns the number of its group."""
    number = _number(database, found, one)
    if number is None:  # an upsert would use up a number each time
        query = "INSERT INTO groups VALUES (NULL, ?, ?, ?, ?, ?, 0)"
        names = (found.route, one.group, one.what, found.kind.value)
        number = int(database.execute(query, (*names, found.at)).lastrowid or 0)
    else:
        query = "UPDATE groups SET last = MAX(last, ?) WHERE id = ?"
        database.execute(query, (found.at, number))
    database.execute(
        "INSERT INTO seen VALUES (?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO UPDATE SET "
        "n = n + 1, first = MIN(first, excluded.first), last = MAX(last, excluded.last)",
        (number, found.release, found.rules, found.source, found.at, found.at),
    )
    return number


def wants(database: Database, found: Found, one: Shown, most: int) -> bool:
    """Whether a sample of the difference is wanted. What was removed for want of room is no reason
    for another.

    found, one: what was found, and the difference.
    most: samples of one release; with as many, one is wanted when the last one is old.
    """
    row = database.execute(
        "SELECT g.sampled, COALESCE(SUM(s.n), 0) FROM groups g LEFT JOIN seen s "
        "ON s.group_id = g.id AND s.release = ? "
        "WHERE g.route = ? AND g.place = ? AND g.what = ? AND g.kind = ? GROUP BY g.id",
        (found.release, found.route, one.group, one.what, found.kind.value),
    ).fetchone()
    return row is None or bool(row[1] < most or found.at - row[0] >= _REFRESH)


def keep(database: Database, found: Found, data: bytes) -> int:
    """Keep a request with its answers; returns its number."""
    query = "INSERT INTO pages (at, weight, data) VALUES (?, ?, ?)"
    return int(database.execute(query, (found.at, len(data), data)).lastrowid or 0)


def sample(database: Database, found: Found, one: Shown, page: int, most: int) -> None:
    """Add a sample to the group of a difference, in place of one of another release, or of the
    last one where there are `most`.

    found, one: what was found, and the difference.
    page: the number that `keep` gave.
    """
    number = _number(database, found, one)
    held = database.execute(
        "SELECT id, release FROM samples WHERE group_id = ? ORDER BY id", (number,)
    ).fetchall()
    others = [key for key, release in held if release != found.release]
    own = [key for key, release in held if release == found.release]
    over = max(0, len(held) + 1 - most)
    gone = [*others, *reversed(own)][:over]
    database.executemany("DELETE FROM samples WHERE id = ?", [(key,) for key in gone])
    database.execute(
        "INSERT INTO samples (group_id, page_id, at, release, source, difference) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (number, page, found.at, found.release, found.source, json.dumps(asdict(one))),
    )
    database.execute("UPDATE groups SET sampled = ? WHERE id = ?", (found.at, number))


def bound(database: Database, size: int) -> None:
    """Remove the oldest samples until all fit into `size` bytes; those of noise and lag first."""
    _without_orphans(database)
    (total,) = database.execute("SELECT COALESCE(SUM(weight), 0) FROM pages").fetchone()
    if total <= size:
        return
    rows = database.execute(
        "SELECT p.id, p.weight FROM pages p JOIN samples s ON s.page_id = p.id "
        "JOIN groups g ON g.id = s.group_id GROUP BY p.id "
        "ORDER BY MAX(g.kind = 'different'), p.at, p.id"
    ).fetchall()
    for number, weight in rows:
        if total <= size:
            break
        database.execute("DELETE FROM pages WHERE id = ?", (number,))
        total -= weight


def tidy(database: Database, oldest: float) -> None:
    """Remove what is older than `oldest`, in Unix seconds, and counts of releases of long ago."""
    database.execute("DELETE FROM pages WHERE at < ?", (oldest,))
    database.execute("DELETE FROM seen WHERE last < ?", (oldest,))
    database.execute("DELETE FROM groups WHERE last < ?", (oldest,))
    _without_orphans(database)
    database.execute(
        "DELETE FROM counts WHERE last < COALESCE("
        "(SELECT last FROM counts ORDER BY last DESC LIMIT 1 OFFSET ?), -1e300)",
        (_MOST_COUNTS,),
    )


def shrink(database: Database) -> None:
    """Give room back to the disk. Not within a transaction."""
    database.execute("PRAGMA incremental_vacuum(500)").fetchall()


def groups(database: Database, route: str | None = None, number: int | None = None) -> list[Group]:
    """Those of a route, or the one of this number, or all; what matters most comes first."""
    rows = database.execute(
        "SELECT g.id, g.route, g.place, g.what, g.kind, "
        "s.release, s.rules, s.source, s.n, s.first, s.last "
        "FROM groups g JOIN seen s ON s.group_id = g.id "
        "WHERE (?1 IS NULL OR g.route = ?1) AND (?2 IS NULL OR g.id = ?2) ORDER BY g.id, s.last",
        (route, number),
    )
    by_id: dict[int, list[Sequence[Any]]] = {}
    for row in rows:
        by_id.setdefault(row[0], []).append(row)
    found = [_group(same) for same in by_id.values()]
    return sorted(found, key=lambda one: (_rank(one.kind), -one.count, one.id))


def samples(database: Database, number: int) -> list[Sample]:
    """Those of a group, the oldest first."""
    rows = database.execute(
        "SELECT s.at, s.source, s.release, s.difference, p.data FROM samples s "
        "JOIN pages p ON p.id = s.page_id WHERE s.group_id = ? ORDER BY s.at, s.id",
        (number,),
    )
    found = []
    for at, source, release, difference, data in rows:
        kept, one = unpacked(data), Shown(**json.loads(difference))
        found.append(
            Sample(at, source, release, kept.asked, kept.legacy, kept.python, one, kept.why)
        )
    return found


def clear(database: Database, route: str | None, number: int | None) -> int:
    """Forget a route with its counts, or one group, or all; returns how many groups went."""
    if number is None:
        database.execute("DELETE FROM counts WHERE ?1 IS NULL OR route = ?1", (route,))
    gone = database.execute(
        "DELETE FROM groups WHERE (?1 IS NULL OR route = ?1) AND (?2 IS NULL OR id = ?2)",
        (route, number),
    ).rowcount
    _without_orphans(database)
    return gone


def _number(database: Database, found: Found, one: Shown) -> int | None:
    row = database.execute(
        "SELECT id FROM groups WHERE route = ? AND place = ? AND what = ? AND kind = ?",
        (found.route, one.group, one.what, found.kind.value),
    ).fetchone()
    return int(row[0]) if row else None


def _without_orphans(database: Database) -> None:
    """Remove pages that no sample shows any more."""
    database.execute(
        "DELETE FROM pages WHERE NOT EXISTS (SELECT 1 FROM samples WHERE page_id = pages.id)"
    )


def _group(rows: Sequence[Sequence[Any]]) -> Group:
    """One group of its rows in `seen`, the last of which is the newest: it counts what its
    release, under its rules, has come to."""
    number, route, place, what, kind, release, rules, *_ = newest = rows[-1]
    own = [row for row in rows if row[5:7] == newest[5:7]]
    return Group(
        number,
        route,
        place,
        what,
        Kind(kind),
        sum(row[8] for row in own),
        min(row[9] for row in rows),
        newest[10],
        release,
        rules,
        tuple(sorted({row[7] for row in own})),
    )


def _rank(kind: Kind) -> int:
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
