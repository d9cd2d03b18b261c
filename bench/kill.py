"""Everything is killed while a site edits, and nothing is lost: see `stack.kill` for the queue as
the source of changes, and `bench.kill_log` for the database's log."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.kill_log.damage import damaged
from bench.kill_log.judge import Verdict
from bench.kill_log.loop import LogKillLoop
from bench.report import BenchmarkFailed, Report
from stack.kill import KillLoop

__all__ = ["run"]

KILLS, QUICK = 60, {"queue": 8, "log": 5}


def run(
    folder: Path,
    rounds: int,
    seconds: int,
    progress: Console,
    *,
    source: str = "queue",
    kills: int | None = None,
    seed: int | None = None,
    damage: str | None = None,
) -> Report:
    """60 kills; with --quick, a few, and shorter waits.

    source: of the changes, `queue` or `log`.
    kills: how many, instead.
    seed: of what is random.
    damage: of `log`: which one must be found.
    """
    quick = rounds == 1
    if kills is None:
        kills = QUICK[source] if quick else KILLS
    if source == "queue":
        return _queue(folder, kills, 1 if seed is None else seed, quick, progress)
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    return _log(folder, kills, seed, quick, damage, progress)


def _queue(folder: Path, kills: int, seed: int, quick: bool, progress: Console) -> Report:
    loop = KillLoop(
        folder,
        kills=kills,
        silence=2.0 if quick else 30.0,
        seed=seed,
        say=lambda text: progress.print(text, style="dim"),
    )
    began = time.monotonic()
    result = loop.run()
    report = Report("kill loop", ("", "count"))
    counts = {
        "kills": result.kills.total(),
        "committed": result.committed,
        "lost": result.lost,
        "backwards": result.backwards,
        "different": result.different,
        "dead": result.dead,
        "watched": result.watched,
        "stops": result.stops,
        "cuts": result.cuts,
        "wipes": result.wipes,
        "seconds": round(time.monotonic() - began),
    }
    report.rows = [(name, f"{count:,}") for name, count in counts.items()]
    report.figures = dict(counts)
    if result.lost or result.backwards or result.different or result.dead:
        report.show(progress)
        raise BenchmarkFailed(f"something was lost: {counts}")
    return report


def _log(
    folder: Path, kills: int, seed: int, quick: bool, damage: str | None, progress: Console
) -> Report:
    progress.print(f"seed {seed}", style="dim")
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    )  # fmt: skip
    began = time.monotonic()
    with Progress(*columns, console=progress, transient=True) as bar:
        task = bar.add_task("kills", total=kills)
        loop = LogKillLoop(
            folder,
            kills,
            seed,
            calm=8.0 if quick else 20.0,
            huge=5_000 if quick else 50_000,
            patience=20.0 if damage else 60.0,
            say=lambda text: bar.console.print(text, style="dim", markup=False),
            step=partial(bar.advance, task),
            **(damaged(damage) if damage else {}),
        )
        verdict = loop.run()
    return _report(loop, verdict, seed, time.monotonic() - began)


def _report(loop: LogKillLoop, found: Verdict, seed: int, seconds: float) -> Report:
    tally = loop.editors.tally
    report = Report("kill loop, the log as the source", ("", "count"))
    report.figures = {
        "source": "log",
        "kills": loop.killed.total(),
        "committed": tally.edits.total(),
        "lost": found.lost,
        "backwards": found.backwards,
        "different": found.different,
        "dead": found.dead,
        "waiting": found.waiting,
        "differs": found.differs,
        "marks": found.marks,
        "unmarked": len(found.unmarked),
        "healed": found.healed,
        "healed_after_s": round(found.healed_after, 1),
        "large": loop.editors.large,
        "loads": loop.loads.total(),
        "loads_killed": loop.loads["killed"],
        "watched": loop.watcher.seen.writes,
        "seed": seed,
        "seconds": round(seconds),
    }
    more = {
        **{f"killed: {name}": count for name, count in loop.killed.items()},
        **{f"load: {name}": count for name, count in loop.loads.items()},
        **{f"edit: {name}": count for name, count in sorted(tally.edits.items())},
        "edits refused": tally.refused,
        "edits of which nobody knows": tally.unsure,
        **dict(loop.troubles.most_common(20)),
    }
    for name, value in {**report.figures, **more}.items():
        report.rows.append((name, f"{value:,}" if isinstance(value, int) else str(value)))
    if found.faults:
        report.failure = "\n".join([f"seed {seed}:", *found.faults, *found.told])
    return report
