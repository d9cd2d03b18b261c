"""`python -m bench NAME`: a table for people, then one JSON object as the last line."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.before import COMPARABLE
from bench.kill_log.damage import DAMAGES
from bench.report import BenchmarkFailed, Report
from stack.errors import StackError

SECONDS = {"chaos": 600}
"""What runs for a time as a whole, and how long by default."""
SEEDED = ("chaos", "kill")
"""What is random, and takes a seed."""
NAMES = (
    "chaos", "dispatcher", "engine", "evidence", "kill", "log", "queue", "slow", "sync",
    "triggers", "truth",
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
@click.option("--seed", type=int, help="Of chaos and kill, to break the same again.")
@click.option(
    "--source",
    type=click.Choice(["queue", "log"]),
    help="Of kill: where changes come from, the queue by default, or the database's log.",
)
@click.option("--kills", type=click.IntRange(0), help="Of kill: how many, 60 by default.")
@click.option(
    "--damage",
    type=click.Choice(DAMAGES),
    help="Of kill --source log: damage what is to be proven, which must be found.",
)
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
    source: str | None,
    kills: int | None,
    damage: str | None,
    quick: bool,
    against: str | None,
    output: str,
) -> None:
    """Measure side by side. Load goes to 127.0.0.1 only and stops by itself.

    \b
    Example:
      python -m bench dispatcher --rounds 7
      python -m bench sync --against HEAD~1   is it slower than it was?
      python -m bench kill --source log       with MariaDB's log as the source
    """
    if list_names or name is None:
        click.echo("\n".join(NAMES))
        return
    if against is not None and name not in COMPARABLE:
        raise click.UsageError(
            f"{name} is no measure of speed: --against is for {', '.join(COMPARABLE)}"
        )
    if seed is not None and name not in SEEDED:
        raise click.UsageError(f"{name} takes no seed: --seed is for {', '.join(SEEDED)}")
    only = {"source": source, "kills": kills, "damage": damage}
    given = [f"--{word}" for word, value in only.items() if value is not None]
    if given and name != "kill":
        raise click.UsageError(f"{', '.join(given)} is for kill")
    if damage is not None and source != "log":
        raise click.UsageError("--damage is for kill --source log")
    seconds = SECONDS.get(name, 1) if seconds is None else seconds
    if quick:
        rounds, seconds = 1, 1
    chosen = {word: value for word, value in {"seed": seed, **only}.items() if value is not None}
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
    chosen: Mapping[str, Any],
) -> Report:
    if against is not None:
        from bench.before.against import run

        return run(name, against, folder, rounds, seconds, progress, quick=quick)
    benchmark = importlib.import_module(f"bench.{name}")
    report: Report = benchmark.run(folder, rounds, seconds, progress, **chosen)
    return report


if __name__ == "__main__":
    main()
