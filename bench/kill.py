"""Everything is killed while PHP edits, and nothing is lost: see `stack.kill`."""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from bench.report import BenchmarkFailed, Report
from stack.kill import KillLoop

__all__ = ["run"]


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """60 kills; with --quick, 8 and a shorter silence."""
    quick = rounds == 1
    loop = KillLoop(
        folder,
        kills=8 if quick else 60,
        silence=2.0 if quick else 30.0,
        say=lambda text: progress.print(text, style="dim"),
    )
    began = time.monotonic()
    result = loop.run()
    report = Report(
        "kill loop",
        ("", "count"),
    )
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
