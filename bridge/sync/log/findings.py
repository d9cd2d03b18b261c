"""The reading of the log as `bridgectl doctor` sees it: what the server lacks, whether somebody
reads, how far, and what is not as the log says. Only asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import monotonic, sleep, time

import sqlalchemy as sql
from pymongo.database import Database

from bridge.findings import Finding
from bridge.queue.sql.database import reading
from bridge.settings import redact_url
from bridge.sync.documents import Document
from bridge.sync.gtid import Gtid
from bridge.sync.log.kept import LEASE, LOG, Dirty, Kept, Tally
from bridge.sync.log.needs import DAY, Facts, keeps, look, missing
from bridge.sync.log.wanted import compared, of_the_log
from bridge.sync.models import Entity
from bridge.sync.state import State
from bridge.sync.types.catalog import is_mariadb
from bridge.units import roughly, several

__all__ = ["findings"]

PATIENCE = 3.0
"""Seconds within which a reader that is well has come to where the log ends now."""
AGAIN = 0.1
"""Seconds between two looks how far it is."""
LONG = 600.0
"""Seconds after which what is dirty should have been compared."""
WHAT = "database's log"


def findings(
    engine: sql.Engine,
    database: Database[Document],
    entities: Mapping[str, Entity],
    reconciled: Mapping[str, float],
) -> Iterator[Finding]:
    """Of everything that is read from the log; nothing where no entity is.

    engine: of the site's database.
    database: the mirror, whose times are with a zone.
    entities: of sync.yaml.
    reconciled: by entity, the seconds since its last reconciling with contents began.

    Raises SQLAlchemy's errors, and ServerAway.
    """
    owned, beside = of_the_log(entities), compared(entities)
    if not (owned or beside):
        return
    where = redact_url(engine.url.render_as_string(hide_password=False))
    if engine.dialect.name not in ("mysql", "mariadb"):
        says = "its log is not read: `log:` in sync.yaml is for MariaDB and MySQL"
        yield Finding("bad", WHAT, where, says, "leave `log:` out")
        return
    with reading(engine) as connection:
        facts = look(connection)
    needs = missing(facts)
    for need in needs:
        yield Finding("note" if need.is_advice else "bad", WHAT, where, need.says, need.do)
    if all(need.is_advice for need in needs):
        yield Finding("ok", WHAT, where, "can be read")
    state = State(database)
    document = state.get(LOG) or {}
    kept = Kept.of(document)
    if kept.position is None:
        yield Finding("bad", WHAT, where, "nobody has read it yet", "bridgectl capture")
        return
    yield from _reader(engine, state, document, kept, facts)
    for name, halted in kept.halted.items():
        yield Finding("bad", f"log: {name}", where, f"stopped: {halted.why}", halted.do)
    for name, mark in kept.dirty.items():
        yield _dirty(name, mark, where)
    for name in beside:
        yield _compared(name, kept.tallies.get(name, Tally()), reconciled.get(name), where)


def _reader(
    engine: sql.Engine, state: State, document: Document, kept: Kept, facts: Facts
) -> Iterator[Finding]:
    """Whether somebody reads, and how far it is behind."""
    beat = document.get("beat")
    silent = LEASE * 2 if beat is None else max(0.0, time() - beat.timestamp())
    reads = bool(document.get("owner")) and silent <= LEASE
    owner = document.get("owner") or {}
    who = f"process {owner['pid']} on {str(owner['host']).partition(' ')[0]}" if reads else ""
    if kept.problem:
        do = kept.do or "mend that; the process that reads tries again every few seconds"
        yield Finding("bad", "capture", who, f"does not read on: {kept.problem}", do)
    elif not reads:
        says = f"nobody has read the log for {roughly(silent)}"
        yield Finding("bad", "capture", "", says, "bridgectl capture")
    end = _end(engine)
    if reads and not kept.problem:
        kept = _awaited(state, kept, end)
    position = kept.position
    assert position is not None
    behind = max(0, (end.sequence if end else 0) - position.sequence)
    if behind and not kept.problem:
        says = f"MongoDB has the log up to {position}, and it ends at {end}: {behind:,} behind"
        do = "" if not reads else "it is catching up, or its log says why not: `bridgectl status`"
        yield Finding("bad", "capture", who, says, do or "bridgectl capture")
    elif reads and not kept.problem:
        yield Finding("ok", "capture", who, f"all applied, up to {position}")
    age = time() - position.time if position.time else silent
    yield from _kept_for(keeps(facts), age, behind)


def _awaited(state: State, kept: Kept, end: Gtid | None) -> Kept:
    """What is kept when it has come to `end`, or after PATIENCE."""
    until = monotonic() + PATIENCE
    while not (kept.position is None or kept.position.reaches(end)) and monotonic() < until:
        sleep(AGAIN)
        found = Kept.of(state.get(LOG))
        kept = found if found.position is not None else kept
    return kept


def _kept_for(kept: float | None, age: float, behind: int) -> Iterator[Finding]:
    """For how long the server keeps its log, against what is not read yet. age: in seconds, of
    the last transaction that was read: what follows is no older."""
    if kept is None:
        yield Finding("ok", WHAT, "", "the server keeps it until somebody throws it away")
    elif not behind or age < kept / 2:
        yield Finding("ok", WHAT, "", f"the server keeps it for {roughly(kept)}")
    else:
        yield Finding(
            "bad",
            WHAT,
            "",
            f"the server keeps it for {roughly(kept)}, and what is to be read next may be "
            f"{roughly(age)} old: when it is gone, everything is to be loaded again",
            "bridgectl capture, now; until it is done, have the server keep it for longer: "
            f"SET GLOBAL binlog_expire_logs_seconds = {max(7 * DAY, int(4 * kept))}",
        )


def _dirty(name: str, mark: Dirty, where: str) -> Finding:
    age = time() - mark.at if mark.at else 0.0
    if age < LONG:
        says = f"dirty, and it is being compared: {mark.why}"
        return Finding("note", f"log: {name}", where, says)
    says = f"dirty for {roughly(age)}: {mark.why}"
    do = f"the log of `bridgectl capture` says why (capture.cannot_heal); bridgectl snapshot {name}"
    return Finding("bad", f"log: {name}", where, says, do)


def _compared(name: str, tally: Tally, reconciled: float | None, where: str) -> Finding:
    """What was told before the last reconciling is no news."""
    what, says = f"log: {name}", f"{several(tally.compared, 'change')} compared"
    age = None if tally.at is None else max(0.0, time() - tally.at.timestamp())
    if age is None or (reconciled is not None and age > reconciled):
        return Finding("ok", what, where, says)
    says += f", {tally.differing:,} differed, {tally.unchecked:,} could not be compared; "
    says += f"{roughly(age)} ago: {tally.why}"
    return Finding("bad", what, where, says, f"bridgectl reconcile {name} --deep --repair")


def _end(engine: sql.Engine) -> Gtid | None:
    with reading(engine) as connection:
        name = "gtid_binlog_pos" if is_mariadb(connection) else "global.gtid_executed"
        return Gtid.parse(str(connection.exec_driver_sql(f"SELECT @@{name}").scalar() or ""))
