"""The lie detector: damage mirror and source in every way, and see whether `reconcile` tells.

A *kind* is a damage of one shape of table, in one size, in one database. For each: both sides are
equal and `reconcile --deep` says nothing; they are damaged, and it must name exactly the keys that
are; they are made what they were, and it must be silent again. `missed` are kinds of which
something was not told, `false` those of which something was told that is not so, silence where
nothing was damaged included.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from rich.console import Console

from bench.report import BenchmarkFailed, Report
from bench.truth_damage import Damage, Found, mistakes
from bench.truth_documents import documents, harmless
from bench.truth_rows import rows
from bench.truth_scenes import SHAPES, Scene
from bridge.errors import BridgeError
from stack.errors import BinaryMissing
from stack.mariadb import MariaDB
from stack.mongod import Mongod
from stack.postgres import Postgres

__all__ = ["Case", "Tally", "cases", "judge", "run"]


@dataclass(frozen=True)
class Case:
    """A damage of so many keys of one shape."""

    damage: Damage
    shape: str
    size: int

    def __str__(self) -> str:
        return f"{self.damage.name}, {self.shape}, {self.size}"


@dataclass
class Tally:
    """What came of it. kinds: done, by database. missed, false: in words."""

    kinds: Counter[str] = field(default_factory=Counter)
    harmless: int = 0
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)


def damages() -> list[Damage]:
    """Every way to make both sides differ."""
    return [*documents(), *rows()]


def cases(shapes: list[str] | None = None, *, short: bool = False) -> Iterator[Case]:
    """All of them, shape by shape. short: each damage once, the shapes and sizes in turn."""
    taken: Counter[str] = Counter()
    for number, damage in enumerate([*damages(), *harmless()]):
        possible = [
            name for name in (shapes or SHAPES) if not damage.shapes or name in damage.shapes
        ]
        if short and possible:
            # The least used shape, so that all have their turn.
            possible = [min(possible, key=lambda name: taken[name])]
            taken[possible[0]] += 1
        for name in possible:
            sizes = damage.sizes
            for size in sizes[number % len(sizes) :][:1] if short else sizes:
                yield Case(damage, name, size)


def judge(scene: Scene, case: Case, tally: Tally, where: str) -> bool:
    """Do one case on a scene that is whole, and leave it whole; whether it could be done."""
    keys = scene.keys[: case.size]
    expected = case.damage.do(scene, keys)
    if expected is None:
        scene.reset()
        return False
    _look(scene, expected, tally, f"{where}: {case}")
    if case.damage.elsewhere and scene.reconcile(case.damage.elsewhere).equal:
        tally.missed.append(f"{where}: {case}: {case.damage.elsewhere} is equal")
    scene.reset()
    _look(scene, {}, tally, f"{where}: after {case}")
    if expected:
        tally.kinds[where] += 1
    else:
        tally.harmless += 1
    return True


def _look(scene: Scene, expected: Found, tally: Tally, what: str) -> None:
    try:
        missed, false = mistakes(expected, scene.reconcile())
    except BridgeError as error:
        missed, false = [], [f"it ends with: {error}"]
    except Exception as error:
        missed, false = [], [f"it ends with {type(error).__name__}: {error}"]
    tally.missed += [f"{what}: {one}" for one in missed]
    tally.false += [f"{what}: {one}" for one in false]


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Every case in every database; with --quick each damage once in each."""
    tally = Tally()
    short = rounds == 1
    began = time.monotonic()
    with ExitStack() as stack:
        mongod = stack.enter_context(Mongod(folder / "mongod"))
        client: MongoClient[dict[str, Any]] = stack.enter_context(mongod.client())
        for where, url_of in _databases(folder, stack, progress).items():
            _in_one(where, url_of, client, folder, short, tally, progress)
    report = Report("lie detector", ("", "count"))
    counts = {
        "kinds": tally.kinds.total(),
        "damages": len(damages()),
        "harmless": tally.harmless,
        "missed": len(tally.missed),
        "false": len(tally.false),
        **{f"kinds_{where}": count for where, count in tally.kinds.items()},
        "seconds": round(time.monotonic() - began),
    }
    report.rows = [(name, f"{count:,}") for name, count in counts.items()]
    report.figures = dict(counts)
    if tally.missed or tally.false:
        report.show(progress)
        raise BenchmarkFailed(f"reconcile is no proof: {counts}")
    return report


def _in_one(
    where: str,
    url_of: Callable[[str], str],
    client: MongoClient[dict[str, Any]],
    folder: Path,
    short: bool,
    tally: Tally,
    progress: Console,
) -> None:
    todo: dict[str, list[Case]] = {}
    for case in cases(short=short):
        todo.setdefault(case.shape, []).append(case)
    for shape, some in todo.items():
        name = f"{where.lower()}_{shape}"
        scene = Scene.open(url_of(name), client[name], folder, SHAPES[shape])
        missed, false = len(tally.missed), len(tally.false)
        try:
            _look(scene, {}, tally, f"{where}: {shape} at the beginning")
            for case in some:
                judge(scene, case, tally, where)
        finally:
            scene.engine.dispose()
            client.drop_database(name)
        for text in (*tally.missed[missed:], *tally.false[false:]):
            progress.print(text, markup=False)
        progress.print(
            f"{where}, {shape}: {len(some)} cases, missed {len(tally.missed) - missed}, "
            f"false {len(tally.false) - false}",
            style="dim",
        )


def _databases(
    folder: Path, stack: ExitStack, progress: Console
) -> dict[str, Callable[[str], str]]:
    """Those that are installed; what makes an empty database of a name, and gives its URL."""
    mariadb = stack.enter_context(
        MariaDB(folder / "mariadb", options=["--innodb-flush-log-at-trx-commit=2"])
    )
    found: dict[str, Callable[[str], str]] = {
        "MariaDB": mariadb.create_database,
        "SQLite": lambda name: f"sqlite:///{folder / name}.sqlite",
    }
    try:
        found["PostgreSQL"] = stack.enter_context(Postgres(folder / "postgres")).create_database
    except BinaryMissing as error:
        progress.print(f"without PostgreSQL: {error}", markup=False)
    return found
