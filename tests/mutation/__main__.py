"""`python -m tests.mutation`: a table for people, or JSON."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.mutation.equivalent import Equivalents
from tests.mutation.run import Outcome, Subject, TestsUnusable, killed, mutations, seconds_of
from tests.mutation.table import PURE, files_of

WANTED = 90
"""Percent of a module's mutations that its unit tests must kill, equivalent ones left out."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("modules", nargs=-1)
@click.option("--tests", "files", multiple=True, help="Of one module that is not in the table.")
@click.option("--sample", type=click.IntRange(1), help="So many mutations of each module only.")
@click.option("--seed", type=int, default=1, show_default=True, help="Which ones --sample takes.")
@click.option("--jobs", "-j", type=click.IntRange(1), default=os.cpu_count() or 1)
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def main(
    modules: tuple[str, ...],
    files: tuple[str, ...],
    sample: int | None,
    seed: int,
    jobs: int,
    output: str,
) -> None:
    """Change one rule of a pure module at a time, and see whether its unit tests notice.

    MODULE is a dotted name, or a part of one; all pure modules by default. No file is changed.
    The exit code is 1 where fewer than 90% of a module's mutations are noticed.

    \b
    Example:
      python -m tests.mutation request.hosts
      python -m tests.mutation --sample 10 --seed 7    a minute for all modules
    """
    console = Console(stderr=output == "json")
    try:
        subjects = _subjects(modules, files)
        results = [_result(one, sample, seed, jobs, console) for one in subjects]
    except TestsUnusable as error:
        raise click.ClickException(str(error)) from None
    if output == "json":
        print(json.dumps(results))
    else:
        _print(console, results)
    sys.exit(any(one["percent"] < WANTED or one["errors"] for one in results))


def _subjects(modules: tuple[str, ...], files: tuple[str, ...]) -> list[Subject]:
    if files:
        return [Subject(one, tuple(map(Path, files))) for one in modules]
    chosen = [one for one in PURE if not modules or any(part in one for part in modules)]
    if not chosen:
        raise click.UsageError(f"no pure module has {modules[0]} in its name: see table.py")
    return [Subject(one, files_of(one)) for one in chosen]


def _result(
    subject: Subject, sample: int | None, seed: int, jobs: int, console: Console
) -> dict[str, Any]:
    """What came of one module, as JSON has it."""
    every = mutations(subject)
    equivalents = Equivalents.of(subject.module)
    errors = equivalents.unmatched(every)
    seconds = seconds_of(subject)
    chosen = every
    if sample is not None and sample < len(every):
        chosen = random.Random(seed).sample(every, sample)
    outcomes: list[Outcome] = []
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(subject.module, total=len(chosen))
        for outcome in killed(subject, chosen, jobs, 2 + 10 * seconds):
            outcomes.append(outcome)
            progress.advance(task)
    outcomes.sort(key=lambda one: one.mutation.line)
    same = [one for one in outcomes if equivalents.name(one.mutation)]
    errors += [
        f"line {one.mutation.line}: {one.mutation.change}: named equivalent, but a test notices it"
        for one in same
        if one.killed and sample is None
    ]
    counted = [one for one in outcomes if one not in same]
    survivors = [one.mutation for one in counted if not one.killed]
    total = len(counted)
    return {
        "module": subject.module,
        "mutations": total,
        "killed": total - len(survivors),
        "equivalent": len(same),
        "percent": 100 * (total - len(survivors)) / total if total else 100.0,
        "seconds": round(seconds, 2),
        "survivors": [{"line": m.line, "text": m.text, "change": m.change} for m in survivors],
        "errors": errors,
    }


def _print(console: Console, results: list[dict[str, Any]]) -> None:
    for one in results:
        path = one["module"].replace(".", "/") + ".py"
        for survivor in one["survivors"]:
            console.print(
                f"{path}:{survivor['line']}: {survivor['change']}", markup=False, soft_wrap=True
            )
        for error in one["errors"]:
            console.print(f"{path}: {error}", markup=False, style="red", soft_wrap=True)
    table = Table("module", "mutations", "killed", "%", "equivalent", "tests take")
    for one in results:
        table.add_row(
            one["module"],
            str(one["mutations"]),
            str(one["killed"]),
            f"{one['percent']:.0f}",
            str(one["equivalent"]),
            f"{one['seconds']:.1f} s",
        )
    console.print(table)


if __name__ == "__main__":
    main()
