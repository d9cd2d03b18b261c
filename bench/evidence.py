"""Evidence before a flip: how fast logs are read, what is found where answers differ, and what
visitors notice of a shadow.
"""

from __future__ import annotations

import statistics
from pathlib import Path

from rich.console import Console

from bench import evidence_shadow
from bench.evidence_found import found
from bench.evidence_survey import lines_per_s, write_log
from bench.report import Report, spread
from bridge.evidence.answers import Kind

__all__ = ["run"]

_LINES, _FEW_LINES = 1_000_000, 50_000
_LOGS = (
    ("survey_lines_per_s", 8.0, "pages asked for as on a site"),
    ("survey_diverse_lines_per_s", 2.0, "half of them another page each time"),
)
_COMPARISONS, _FEW = 10_000, 200


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Rounds in turns, loads of `seconds`; one of each is the short form. Raises BenchmarkFailed
    and StackError."""
    quick = rounds == seconds == 1
    report = Report(
        "Evidence: median (lowest–highest)", ("what", "a second, or how many", "p99, µs")
    )
    log, lines = folder / "access.log", _FEW_LINES if quick else _LINES
    for name, skew, what in _LOGS:
        write_log(log, lines, skew=skew)
        speeds = [lines_per_s(log, lines) for _ in range(rounds)]
        report.rows.append((f"survey: lines of a combined log, {what}", spread(speeds), ""))
        report.figures[name] = round(statistics.median(speeds))
    _say_found(report, folder / "found", _FEW if quick else _COMPARISONS, progress)
    (folder / "shadow").mkdir()
    evidence_shadow.parts(report, folder / "shadow", rounds, seconds, progress)
    return report


def _say_found(report: Report, folder: Path, comparisons: int, progress: Console) -> None:
    result = found(folder, comparisons, progress)
    for name, instead in result.missed.items():
        progress.print(f"missed: {name}: {instead}", markup=False)
    for one in result.false:
        progress.print(f"false: {one}", markup=False)
    report.rows += [
        ("compare: defects found, of those seeded", f"{len(result.found)} of {result.defects}", ""),
        ("compare: false alarms, of comparisons", f"{len(result.false)} of {comparisons:,}", ""),
        ("compare: requests to legacy for these", f"{result.requests:,}", ""),
        *(
            (f"compare: {kind}", f"{result.kinds[kind]:,}", "")
            for kind in Kind
            if result.kinds[kind]
        ),
    ]
    report.figures |= {
        "defects": result.defects,
        "found": len(result.found),
        "compared": comparisons,
        "false": len(result.false),
        "lag": result.kinds[Kind.LAG],
        "edits": result.edits,
    }
