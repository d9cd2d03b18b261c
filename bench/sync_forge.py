"""The data of `bench.sync`: every Debian package that apt knows, in the forge's own tables.

`examples/forge/legacy/bin/load.php` fills them, as an operator of the example would. A machine
without apt's lists gets made-up packages of the same shape and number, and the table says so.
"""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo.database import Database
from pymongo.read_concern import ReadConcern

from bench.report import BenchmarkFailed
from bridge.queue.events import Event
from bridge.sync.documents import Mirror
from stack.mariadb import MariaDB
from stack.php import run_php
from stack.process import REPOSITORY

__all__ = ["SYNC", "Forge", "check_mirror", "fill", "fill_made_up"]

SYNC = REPOSITORY / "sync.yaml"
"""The example's own: with its schemas, types and indexes."""
LOAD = REPOSITORY / "examples/forge/legacy/bin/load.php"
KEYS = {"project": ("name",), "release": ("project", "version", "architecture")}
TABLES = {"project": "projects", "release": "releases"}
LOADING = 300.0
"""Seconds that this may take."""
MADE_UP = 34_000
"""Projects, where apt has no lists: as many as Debian has."""
WORDS = ("small", "fast", "library", "program", "parser", "stream", "file", "tool", "for", "text")


@dataclass(frozen=True)
class Forge:
    """One site in two databases, row for row the same.

    origin: where the packages come from. events: what its PHP would publish of every row.
    """

    sqlite_url: str
    mariadb_url: str
    origin: str
    events: Sequence[Event]

    @property
    def projects(self) -> list[Event]:
        """The events of its projects."""
        return [event for event in self.events if event.entity == "project"]


def fill(folder: Path, mariadb: MariaDB, *, every: bool) -> Forge:
    """Fill a SQLite file and a MariaDB that runs; `every`: with all packages, else with those
    that are installed here. Raises BenchmarkFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    words, origin = (["--all"], "all packages that apt knows") if every else ([], "installed")
    try:
        _load(folder, mariadb, words)
    except subprocess.CalledProcessError as error:
        if not every or "no package lists" not in error.stderr:
            raise BenchmarkFailed(f"load.php: {error.stderr.strip()}") from None
        _make_up(folder, mariadb, MADE_UP)
        origin = "made up, as apt has no package lists here"
    return _loaded(folder, mariadb, origin)


def fill_made_up(folder: Path, mariadb: MariaDB, projects: int) -> Forge:
    """Like `fill`, with so many made-up projects and their releases, on each machine the same.
    Raises BenchmarkFailed."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _make_up(folder, mariadb, projects)
    except subprocess.CalledProcessError as error:
        raise BenchmarkFailed(f"load.php: {error.stderr.strip()}") from None
    return _loaded(folder, mariadb, "made up")


def _make_up(folder: Path, mariadb: MariaDB, projects: int) -> None:
    made_up = folder / "packages"
    made_up.write_text("".join(_stanzas(projects)), encoding="utf-8")
    _load(folder, mariadb, ["--from", str(made_up)])


def _loaded(folder: Path, mariadb: MariaDB, origin: str) -> Forge:
    path = folder / "forge.sqlite"
    events = list(_events(path))
    for entity, table in TABLES.items():
        [(count,)] = mariadb.execute(f"SELECT COUNT(*) FROM {mariadb.database}.{table}")
        if count != sum(event.entity == entity for event in events):
            raise BenchmarkFailed(f"MariaDB has {count} {table}, which SQLite has not")
    return Forge(f"sqlite:///{path}", mariadb.url, origin, events)


def check_mirror(
    what: str,
    database: Database[dict[str, Any]],
    mirror: Mirror,
    events: Sequence[Event],
    *,
    whole: bool = True,
) -> None:
    """Raises BenchmarkFailed unless a majority of MongoDB holds these events and, when they are
    the `whole`, nothing else."""
    wanted: dict[str, dict[str, Any]] = {}
    for event in events:
        write = mirror.prepare(event).own
        wanted.setdefault(write.collection, {})[write.key] = write.document
    for name, documents in wanted.items():
        collection = database.get_collection(name, read_concern=ReadConcern("majority"))
        which = {} if whole else {"_id": {"$in": list(documents)}}
        found = {document["_id"]: document for document in collection.find(which, {"_at": 0})}
        if found != documents:
            wrong = sum(found.get(key) != document for key, document in documents.items())
            raise BenchmarkFailed(
                f"{what}: {name} has {len(found)} documents for {len(documents)} rows; "
                f"{wrong} are wrong or missing"
            )


def _load(folder: Path, mariadb: MariaDB, words: Sequence[str]) -> None:
    """Both at once: that is what two cores are for."""
    settings = {"FORGE_DATA_DIR": str(folder), "FORGE_REDIS_PORT": ""}
    other = settings | {"FORGE_DSN": mariadb.dsn, "FORGE_DB_USER": "root"}
    with ThreadPoolExecutor(2) as threads:
        runs = [
            threads.submit(run_php, LOAD, *words, env=env, bound=LOADING)
            for env in (settings, other)
        ]
        for run in runs:
            try:
                run.result()
            except subprocess.TimeoutExpired:
                message = f"load.php has not filled the forge within {LOADING:g} s"
                raise BenchmarkFailed(message) from None


def _events(path: Path) -> Iterator[Event]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for entity, table in TABLES.items():
            for row in connection.execute(f"SELECT * FROM {table}"):
                data = dict(row)
                version = data.pop("ver")
                key = "/".join(str(data[name]) for name in KEYS[entity])
                yield Event(entity, "changed", key, version, data, source="/forge")


def _stanzas(projects: int) -> Iterator[str]:
    """In the format of /var/lib/dpkg/status: about two packages of each source."""
    for number in range(projects):
        digest = hashlib.sha256(str(number).encode()).digest()
        name = f"{WORDS[digest[0] % 8]}-{WORDS[digest[1] % 8]}{number}"
        text = " ".join(WORDS[byte % 10] for byte in digest[2 : 6 + digest[7] % 8])
        packages = [name, f"lib{name}", f"{name}-doc"][: 1 + digest[8] % 3]
        for package in packages:
            yield (
                f"Package: {package}\n"
                f"Source: {name}\n"
                f"Version: {digest[9]}.{digest[10]}-{digest[11] % 9}+deb12u1\n"
                f"Architecture: {'all' if package.endswith('doc') else 'amd64'}\n"
                f"Section: {WORDS[digest[12] % 8]}\n"
                f"Installed-Size: {digest[13] * 40}\n"
                f"Homepage: https://forge.example/{name}/\n"
                f"Maintainer: Jörg Müller <joerg{digest[14]}@forge.example>\n"
                f"Description: {text}\n\n"
            )
