"""The database's log as the source of changes: how fast it is decoded and mirrored, how soon a
commit is visible, and what it costs the database and a visitor. Beside it, in the same run: PyPI's
mysql-replication, the bridge's triggers with relay and worker, and a site without any of it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench.log_decode import Case, decode
from bench.log_mirror import READS, Found, mirror
from bench.log_own import Times, own_edits
from bench.log_site import CHANGES, COLUMNS
from bench.report import Report, spread
from stack.load import percentile

__all__ = ["run"]

MOST_ROUNDS = 3
"""Of what takes a minute each."""
_MIRRORED = ("log", "triggers")
_CPU = (
    ("log", "none", "over_none", "log is read", "no log"),
    ("unread", "none", "of_the_log_itself", "log nobody reads", "no log"),
    ("log", "unread", "over_unread", "log is read", "nobody reads it"),
    ("triggers", "none", "of_triggers", "triggers, relay", "no triggers"),
)
"""Two ways, the end of the ratio's name, and both in words."""


def run(folder: Path, rounds: int, seconds: int, progress: Console) -> Report:
    """Rounds in turns; `seconds` means nothing here. One round is short. Raises BenchmarkFailed and
    StackError."""
    report = Report(
        "The database's log: rows and milliseconds, median (lowest–highest)",
        ("what", "from the log", "beside it", "ratio", "beside it is"),
    )
    _say_decoded(report, decode(folder / "decode", rounds, progress))
    few = min(rounds, MOST_ROUNDS)
    _say_mirrored(report, mirror(folder / "mirror", few, progress))
    _say_own(report, own_edits(folder / "own", few, progress))
    return report


def _ratio(ones: Sequence[float], others: Sequence[float]) -> float:
    """Of two that were measured in turns."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def _row(
    report: Report, what: str, ones: Sequence[float], others: Sequence[float], beside: str
) -> float:
    """Say both and how many times as large the first one is; it."""
    ratio = _ratio(ones, others)
    show = spread if min(*ones, *others) >= 100 else _spread
    report.rows.append((what, show(ones), show(others), f"{ratio:.2f}", beside))
    return ratio


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def _say_decoded(report: Report, cases: Sequence[Case]) -> None:
    ratios = {}
    for case in cases:
        name = f"{case.change}_{COLUMNS[case.table]}"
        what = f"decode {case.change}, {COLUMNS[case.table]} columns, rows/s"
        ratios[name] = _row(report, what, case.ours, case.library, "mysql-replication")
        report.figures[f"{name}_rows_per_s"] = round(statistics.median(case.ours))
    report.ratios["decode_over_library"] = round(min(ratios.values()), 2)
    report.ratios |= {f"{name}_over_library": round(one, 2) for name, one in ratios.items()}


def _say_mirrored(report: Report, found: Found) -> None:
    rates = []
    for table, columns in COLUMNS.items():
        for change in CHANGES:
            ours, relay = (found.rates[table, change, way] for way in _MIRRORED)
            what = f"to MongoDB {change}, {columns} columns, rows/s"
            ratio = _row(report, what, ours, relay, "triggers, relay, worker")
            report.ratios[f"{change}_{columns}_over_relay"] = round(ratio, 2)
            rates.append(statistics.median(ours))
            report.figures[f"{change}_{columns}_mirrored_per_s"] = round(rates[-1])
    report.figures["rows_per_s"] = round(min(rates))
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        ours, relay = ([percentile(one, share) for one in found.delays[way]] for way in _MIRRORED)
        _row(report, f"commit to visible, {name}, ms", ours, relay, "triggers, relay, worker")
        report.figures[f"log_visible_{name}_ms"] = round(statistics.median(ours), 2)
        report.figures[f"triggers_visible_{name}_ms"] = round(statistics.median(relay), 2)
    for reads, end, beside in ((READS, "", f", {READS} reads each"), (0, "_writes_only", "")):
        for way, other, name, words, others in _CPU:
            ones, theirs = found.cpu[way, reads], found.cpu[other, reads]
            what = f"database's CPU, ms/1000 writes{beside}: {words}"
            report.ratios[f"db_cpu_{name}{end}"] = round(
                _row(report, what, ones, theirs, others), 3
            )


def _say_own(report: Report, rounds: Sequence[Times]) -> None:
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        asked, without = (
            [percentile(one[asks], share) for one in rounds] for asks in (True, False)
        )
        _row(report, f"POST that asks for the end, {name}, ms", asked, without, "does not ask")
        added = statistics.median(one - other for one, other in zip(asked, without, strict=True))
        report.figures[f"own_edit_added_{name}_ms"] = round(added, 2)
