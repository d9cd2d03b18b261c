"""What the bridge's triggers cost a site, and whether they harm it: the same statements on tables
without triggers, with them, and with a relay at work.

Eight connections write to MariaDB, each from a process of its own: growing, random and automatic
keys, also many rows a statement; row by row, and in transactions over two tables in both orders;
under REPEATABLE READ and READ COMMITTED; beside the versions of 100,000 deleted rows. Whatever
fails with triggers and not without is counted. A change that is not noted ends the run.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sql
from rich.console import Console

from bench.queue_programs import Program, running
from bench.report import BenchmarkFailed, Report
from bench.triggers_site import SYNC, Case, entities, tables, write
from bridge.queue.relay.touched import resolve
from bridge.queue.sql.database import connect
from bridge.queue.sql.outbox import Outbox
from bridge.sync.documents import Mirror
from bridge.sync.entities import load
from bridge.sync.touched import Fetcher
from bridge.sync.triggers.commands import Triggers
from stack.mariadb import MariaDB

__all__ = ["run"]

CONNECTIONS = 8
EDITS, QUICK_EDITS = 100, 12
"""Of one connection and case."""
TOMBSTONES, QUICK_TOMBSTONES = 100_000, 2_000
WAYS = ("bare", "triggers", "relay")
"""Without triggers, with them, and with a relay beside them."""


@dataclass
class Found:
    """Of one case and way. inserts: milliseconds of INSERT statements; errors: what failed."""

    inserts: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.inserts)


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Interleaved rounds; `seconds` means nothing here. One round is short. Raises
    BenchmarkFailed and StackError."""
    quick = rounds == 1
    edits = QUICK_EDITS if quick else EDITS
    rounds = 1 if quick else min(rounds, 3)
    cases = Case.few() if quick else Case.all()
    found: dict[tuple[Case, str], Found] = {}
    with MariaDB(folder / "mariadb", database="site", buffer_pool="256M") as server:
        site = Site(folder, server.url)
        with contextlib.closing(site):
            site.bury(QUICK_TOMBSTONES if quick else TOMBSTONES)
            for number in range(rounds):
                for case in cases:
                    progress.print(f"round {number + 1} of {rounds}: {case}", style="dim")
                    # No way is always the first one.
                    for way in (*WAYS[number % 3 :], *WAYS[: number % 3]):
                        one = found.setdefault((case, way), Found())
                        site.measure(case, way, edits, one)
    return _report(found, edits * CONNECTIONS * rounds)


class Site:
    """The database, with triggers on half of its tables."""

    def __init__(self, folder: Path, url: str) -> None:
        path = folder / "sync.yaml"
        path.write_text(SYNC, encoding="utf-8")
        self._url, self._engine = url, connect(url)
        self._mirror = Mirror(load(path))
        self._outbox = Outbox(self._engine)
        with self._engine.begin() as connection:
            for statement in tables():
                connection.exec_driver_sql(statement)
        Triggers(self._engine, self._mirror, self._outbox).apply([])

    def close(self) -> None:
        self._engine.dispose()

    def bury(self, count: int) -> None:
        """The versions of so many rows that are deleted, of each table with triggers."""
        insert = sql.text(
            "INSERT INTO bridge_versions SELECT :entity, CAST(seq AS BINARY), 1 FROM "
            f"seq_1_to_{count}"
        )
        with self._engine.begin() as connection:
            for entity in entities():
                connection.execute(insert, {"entity": entity})

    def measure(self, case: Case, way: str, edits: int, found: Found) -> None:
        """All connections at once. Raises BenchmarkFailed when a change is not noted."""
        names = [f"{'bare' if way == 'bare' else 'noted'}_{one}" for one in case.tables]
        with self._engine.begin() as connection:
            for name in (*names, "bridge_outbox"):
                # TRUNCATE would have no triggers to wait for, and DELETE leaves its rows behind.
                connection.exec_driver_sql(f"TRUNCATE {name}")
        programs = [
            Program(write, self._url, case, names, number, CONNECTIONS, edits)
            for number in range(CONNECTIONS)
        ]
        changes = 0
        with self._relay(way == "relay") as relayed, running(*programs):
            for program in programs:
                program.go()
            for program in programs:
                inserts, errors, changed = program.result()
                found.inserts += inserts
                found.errors += errors
                changes += changed
        with self._engine.begin() as connection:
            left = connection.exec_driver_sql("SELECT COUNT(*) FROM bridge_outbox").scalar_one()
        noted = int(left) + sum(relayed)
        if noted != (0 if way == "bare" else changes):
            raise BenchmarkFailed(f"{case}, {way}: {changes:,} changes, and {noted:,} are noted")

    @contextlib.contextmanager
    def _relay(self, wanted: bool) -> Iterator[list[int]]:
        """What a relay does with the site's database, until the end of the context; how many
        notes it took."""
        done: list[int] = []
        errors: list[BaseException] = []
        stop = threading.Event()

        def work() -> None:
            fetch = Fetcher(self._engine, self._mirror, "/bench")
            try:
                while not stop.is_set():
                    rows = self._outbox.claim(500, 30.0)
                    found = resolve(rows, fetch)
                    if found.dead or found.waiting:
                        raise BenchmarkFailed(f"not fetched: {found.dead or found.waiting}")
                    if found.publish:
                        self._outbox.published(found.publish, 0)
                    self._outbox.free(found.publish)
                    done.append(len(rows))
                    if not rows:
                        stop.wait(0.05)
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        if wanted:
            thread.start()
        try:
            yield done
        finally:
            stop.set()
            if wanted:
                thread.join()
        if errors:
            raise BenchmarkFailed(f"the relay: {errors[0]}") from errors[0]


def _report(found: dict[tuple[Case, str], Found], edits: int) -> Report:
    report = Report(
        f"Triggers on a site's tables: {CONNECTIONS} connections to MariaDB; milliseconds of an "
        "INSERT (median), and errors",
        ("case", *WAYS, "triggers / bare", "relay / bare", "errors"),
    )
    ratios: dict[str, list[float]] = {"triggers": [], "relay": []}
    new = 0
    cases = list(dict.fromkeys(case for case, _ in found))
    for case in cases:
        ways = {way: found[case, way] for way in WAYS}
        cells = [f"{ways[way].median:.2f}" for way in WAYS]
        for way, some in ratios.items():
            some.append(ways[way].median / ways["bare"].median)
            cells.append(f"{some[-1]:.2f}")
            new += max(0, len(ways[way].errors) - len(ways["bare"].errors))
        errors = [str(len(ways[way].errors)) for way in WAYS]
        kinds = sorted(set(itertools.chain.from_iterable(one.errors for one in ways.values())))
        report.rows.append(
            (str(case), *cells, " / ".join(errors) + "".join(f" {k}" for k in kinds))
        )
    report.ratios = {
        "insert_p50_over_bare": round(statistics.median(ratios["triggers"]), 3),
        "insert_p50_over_bare_worst": round(max(ratios["triggers"]), 3),
        "insert_p50_over_bare_with_relay": round(statistics.median(ratios["relay"]), 3),
    }
    report.figures = {
        "new_errors": new,
        "errors": sum(len(found[case, "bare"].errors) for case in cases),
        "edits": edits,
        "cases": len(cases),
    }
    return report
