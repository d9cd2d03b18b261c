"""`python -m bench NAME`: a table for people, then one JSON object as the last line."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import click
from rich.console import Console

from bench.before import COMPARABLE
from bench.report import BenchmarkFailed, Report
from stack.errors import StackError

SECONDS = {"chaos": 600}
"""What runs for a time as a whole, and how long by default; it is random, and takes a seed."""
NAMES = (
    "chaos", "dispatcher", "engine", "kill", "log", "queue", "slow", "sync", "triggers", "truth",
)  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", required=False, type=click.Choice(NAMES))
@click.option("--list", "list_names", is_flag=True, help="Name the benchmarks.")
@click.option("--rounds", default=9, show_default=True, type=click.IntRange(1), help="Medians of.")
@click.option(
    "--seconds",
    type=click.IntRange(1),
    help="A load, 1 by default; all of chaos, 600 by default.",
)
@click.option("--seed", type=int, help="Of chaos, to break the same again.")
@click.option("--quick", is_flag=True, help="One short round: shows that it runs, not how fast.")
@click.option(
    "--against",
    metavar="COMMIT",
    help="Measure this commit beside what is here, and show the ratios. For "
    f"{', '.join(COMPARABLE)}.",
)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def main(
    name: str | None,
    list_names: bool,
    rounds: int,
    seconds: int | None,
    seed: int | None,
    quick: bool,
    against: str | None,
    output: str,
) -> None:
    """Measure side by side. Load goes to 127.0.0.1 only and stops by itself.

    \b
    Example:
      python -m bench dispatcher --rounds 7
      python -m bench sync --against HEAD~1   is it slower than it was?
    """
    if list_names or name is None:
        click.echo("\n".join(NAMES))
        return
    if against is not None and name not in COMPARABLE:
        raise click.UsageError(
            f"{name} is no measure of speed: --against is for {', '.join(COMPARABLE)}"
        )
    if seed is not None and name not in SECONDS:
        raise click.UsageError(f"{name} takes no seed: --seed is for {', '.join(SECONDS)}")
    seconds = SECONDS.get(name, 1) if seconds is None else seconds
    if quick:
        rounds, seconds = 1, 1
    chosen = {} if seed is None else {"seed": seed}
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            report = _run(name, against, Path(folder), rounds, seconds, quick, progress, chosen)
        except (BenchmarkFailed, StackError) as error:
            raise click.ClickException(str(error)) from None
    if output == "table":
        report.show(Console(width=None if sys.stdout.isatty() else 160))
    click.echo(json.dumps({"bench": name, "ratios": report.ratios, "figures": report.figures}))
    if report.failure:
        raise click.ClickException(report.failure)


def _run(
    name: str,
    against: str | None,
    folder: Path,
    rounds: int,
    seconds: int,
    quick: bool,
    progress: Console,
    chosen: Mapping[str, int],
) -> Report:
    if against is not None:
        from bench.before.against import run

        return run(name, against, folder, rounds, seconds, progress, quick=quick)
    benchmark = importlib.import_module(f"bench.{name}")
    report: Report = benchmark.run(folder, rounds, seconds, progress, **chosen)
    return report


if __name__ == "__main__":
    main()
