"""What `bench.sync` found, as the table for people and the figures for programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.report import Report, spread
from bench.sync_write import BATCHES

__all__ = ["WORKERS_BATCH", "Found", "report"]

WORKERS_BATCH = 200


@dataclass
class Found:
    """One value a round.

    origin: of the rows. rows: how many. documents: how many different ones are read.
    applied: events/s by batch. naive: updates/s. sides: rows/s by name. reads: µs by way;
    cpu: of the reader's own processor time. megabytes: of a cache with 100,000 documents.
    """

    origin: str
    rows: int
    documents: int
    applied: dict[int, list[float]] = field(default_factory=dict)
    naive: list[float] = field(default_factory=list)
    sides: dict[str, list[float]] = field(default_factory=dict)
    reads: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    megabytes: float = 0.0


def report(found: Found) -> Report:
    """Medians over the rounds; ratios are medians of the ratios of each round."""
    made = Report(
        f"median (smallest–largest) of the rounds; {found.rows:,} rows: {found.origin}",
        ("", "events or rows/s", "reads/s", "µs a read", "CPU", "MB"),
    )
    figures = made.figures
    made.rows.append(("naive writer", spread(found.naive), "", "", "", ""))
    figures["naive_per_s"] = round(statistics.median(found.naive))
    for size in BATCHES:
        made.rows.append((f"apply, batch {size}", spread(found.applied[size]), "", "", "", ""))
        figures[f"applied_per_s_{size}"] = round(statistics.median(found.applied[size]))
    figures["applied_per_s"] = figures[f"applied_per_s_{WORKERS_BATCH}"]
    for name, rates in found.sides.items():
        made.rows.append(
            (name.replace("_", ", ", 1).replace("_", " "), spread(rates), "", "", "", "")
        )
        figures[f"{name}_rows_per_s"] = round(statistics.median(rates))
    for side in ("snapshot", "reconcile"):
        figures[f"{side}_rows_per_s"] = figures[f"{side}_mariadb_rows_per_s"]
    for way, micros in found.reads.items():
        median = statistics.median(micros)
        spreads = f"{median:.2f} ({min(micros):.2f}–{max(micros):.2f})"
        cpu = statistics.median(found.cpu[way])
        made.rows.append((f"read: {way}", "", f"{1e6 / median:,.0f}", spreads, f"{cpu:.2f}", ""))
        figures[f"{way}_read_us"], figures[f"{way}_read_cpu_us"] = round(median, 3), round(cpu, 3)
    figures["cache_mb_per_100k"] = round(found.megabytes, 1)
    made.rows.append(("100,000 documents cached", "", "", "", "", f"{found.megabytes:,.0f}"))
    figures["rows"], figures["documents_read"] = found.rows, found.documents
    made.ratios = {
        "apply_over_naive": _over(found.applied[WORKERS_BATCH], found.naive),
        **{
            f"cache_over_{name}": _over(found.reads[way], found.reads[ours])
            for name, (way, ours) in OTHERS.items()
        },
    }
    return made


OTHERS = {
    "memcached": ("memcached", "cache"),
    "memcached_zipf": ("memcached_zipf", "cache_zipf"),
    "mongodb": ("find_one", "cache"),
    "store_uncached": ("store_uncached", "cache"),
}
"""What stands in the name of a ratio: the way that is compared, and ours."""


def _over(rates: Sequence[float], others: Sequence[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(rates, others, strict=True)), 2)
