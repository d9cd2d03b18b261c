"""`bridgectl snapshot` and `reconcile`, as an operator starts them; parts of `bench.sync`.

The rates are those that the programs report, from their first row to their last; how long the
whole process took, Python's own start included, stands beside them.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

from bench.report import BenchmarkFailed
from bench.sync_forge import SYNC, Forge, check_mirror
from bridge.sync.documents import Mirror
from stack.mongod import Mongod
from stack.process import REPOSITORY
from stack.redis import Redis

__all__ = ["Sides", "read_reconcile", "read_snapshot"]

BOUND = 300.0
"""Seconds that one program may take."""


@dataclass
class Sides:
    """A forge in SQL databases, and a MongoDB for it."""

    folder: Path
    forge: Forge
    mongod: Mongod
    redis: Redis
    mirror: Mirror

    def snapshot(self, sql_url: str, name: str) -> tuple[float, float]:
        """Load all rows into an empty database of MongoDB: rows/s by the program's report, and
        by the life of its process. Raises BenchmarkFailed unless exactly all are there."""
        with self._database(name) as database:
            database.client.drop_database(database)
            seconds, output = self._run(sql_url, name, "snapshot", "-o", "json")
            rows, took = read_snapshot(output)
            self._all_rows("snapshot", rows)
            check_mirror("snapshot", database, self.mirror, self.forge.events)
        return rows / took, rows / seconds

    def reconcile(self, sql_url: str, name: str, *words: str) -> float:
        """Rows/s of a comparison of both sides. Raises BenchmarkFailed unless they are equal."""
        _, output = self._run(sql_url, name, "reconcile", *words, "-o", "json")
        rows, took = read_reconcile(output)
        self._all_rows("reconcile", rows)
        return rows / took

    def _all_rows(self, what: str, rows: int) -> None:
        if rows != (wanted := len(self.forge.events)):
            raise BenchmarkFailed(f"{what} has seen {rows} rows of {wanted}")

    def _run(self, sql_url: str, name: str, *words: str) -> tuple[float, Any]:
        settings = {
            "BRIDGE_BROKER_URL": self.redis.url,
            "BRIDGE_MONGODB_URL": self.mongod.url_of(name),
            "BRIDGE_SQL_URL": sql_url,
            "BRIDGE_STATE_DIR": str(self.folder),
            "BRIDGE_SYNC": str(SYNC),
        }
        begin = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *words],
            cwd=REPOSITORY,
            env=self.redis.environment() | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=BOUND,
        )
        seconds = time.monotonic() - begin
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-500:]
            raise BenchmarkFailed(f"bridge {words[0]} ended with {done.returncode}: {said}")
        return seconds, json.loads(done.stdout)

    @contextlib.contextmanager
    def _database(self, name: str) -> Iterator[Database[dict[str, Any]]]:
        client: MongoClient[dict[str, Any]]
        with MongoClient(self.mongod.url_of(name), serverSelectionTimeoutMS=5000) as client:
            yield client[name]


def read_snapshot(report: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
    """Rows, and seconds from beginning to end, of what `bridgectl snapshot -o json` says.

    Raises BenchmarkFailed for one that did not write each row, and write it now.
    """
    for found in report:
        if found["written"] != found["rows"] or found["resumed"]:
            raise BenchmarkFailed(f"snapshot did not load everything: {dict(found)}")
    return sum(found["rows"] for found in report), sum(found["seconds"] for found in report)


def read_reconcile(report: Mapping[str, Any]) -> tuple[int, float]:
    """Rows, and seconds from beginning to end, of what `bridgectl reconcile -o json` says.

    Its own rows/s are those of the sums alone; with --deep most of the time is not in them.
    Raises BenchmarkFailed unless both sides are equal, and all of them was looked at.
    """
    if not report["equal"] or report["unchecked"]:
        counts = {found["entity"]: found["counts"] for found in report["entities"]}
        raise BenchmarkFailed(f"reconcile: {counts}, unchecked: {report['unchecked']}")
    return int(report["rows"]), float(report["seconds"])
