"""What a benchmark found: rows for people, ratios and figures for programs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

__all__ = ["BenchmarkFailed", "Report", "spread"]


class BenchmarkFailed(Exception):
    """A result was wrong, or something that had to be on was off."""


@dataclass
class Report:
    """`ratios` and `figures` are the keys of the JSON line; `rows` is the table;
    `failure` says why the run as a whole has failed, although there are figures."""

    title: str
    headings: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    ratios: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float | str] = field(default_factory=dict)
    failure: str = ""

    def show(self, console: Console) -> None:
        table = Table(title=self.title, title_justify="left", box=None, pad_edge=False)
        for index, heading in enumerate(self.headings):
            table.add_column(heading, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def spread(values: Sequence[float]) -> str:
    """Median, and the smallest and largest behind it."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"
