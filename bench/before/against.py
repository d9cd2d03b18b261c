"""Is this checkout slower than another commit? The whole comparison, and its report.

Two measurements, each of both commits beside each other: the benchmark itself, in pairs of runs
that take turns part by part, and the instructions of our programs a unit of work. Times say what
a visitor notices, and are noisy; instructions are steady to less than a hundredth.
"""

from __future__ import annotations

import contextlib
import signal
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from bench.before.callgrind import INSTALL
from bench.before.checkout import Tree, checked_out, resolve
from bench.before.counts import COUNTED, Counts
from bench.before.ratios import Compared, Found, compare, limit_of
from bench.before.turns import Side, in_turns
from bench.report import BenchmarkFailed, Report
from stack.errors import BinaryMissing, StackError
from stack.process import REPOSITORY, find_program

__all__ = ["report", "run"]

ROUNDS = 2
"""Of a benchmark in one run: there and back through its rows."""
REPEATS = 2
"""How often the instructions are counted on each side."""


def run(
    name: str,
    commit: str,
    folder: Path,
    rounds: int,
    seconds: int,
    progress: Console,
    *,
    quick: bool = False,
    repository: Path = REPOSITORY,
) -> Report:
    """Measure `commit` beside the checkout at `repository`, as it is, with what is not committed.

    rounds: of the benchmark on each side, two in a run; with `quick` one, and little is counted.
    A run that fails after others is the last one, and is left out. Raises BenchmarkFailed and
    StackError.
    """
    with _ended_in_order():
        full = resolve(repository, commit, name)
        progress.print(f"check out {full[:12]}", style="dim")
        with checked_out(repository, full, folder / "before") as place:
            trees = Tree("before", place), Tree("now", repository)
            for tree in trees:
                tree.check()
            # First what takes less time: what is wrong with a side shows early.
            counted = _counted(name, trees, folder / "counts", quick, progress)
            each = 1 if quick else ROUNDS
            pairs = []
            for number in range(-(-rounds // each)):
                where = folder / f"pair-{number}"
                # Who is first in the first part is second in that of the next pair.
                order = trees if number % 2 == 0 else trees[::-1]
                try:
                    pairs.append(_pair(name, order, where, each, seconds, progress))
                except (BenchmarkFailed, StackError) as error:
                    if not pairs:
                        raise
                    # What was measured before is worth its hour.
                    progress.print(f"pair-{number} is left out: {error}", style="yellow")
                    break
    return report(name, full, pairs, counted, quick=quick)


def _pair(
    name: str, order: Sequence[Tree], folder: Path, rounds: int, seconds: int, progress: Console
) -> tuple[Found, Found]:
    """One run on each side: (before, now)."""
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(Side(tree, name, folder, rounds, seconds)) for tree in order]
        in_turns(sides, lambda what: progress.print(f"{folder.name}: {what}", style="dim"))
    found = {side.tree.name: side.found for side in sides}
    before, now = found["before"], found["now"]
    assert before is not None
    assert now is not None
    return before, now


def _counted(
    name: str, trees: Sequence[Tree], folder: Path, quick: bool, progress: Console
) -> list[tuple[Found, Found]]:
    """The instructions of both sides; none where there is no valgrind, which is told."""
    try:
        find_program("valgrind", INSTALL)
    except BinaryMissing as error:
        progress.print(f"without instructions: {error}", style="yellow")
        return []
    found: dict[str, dict[str, Counts]] = {tree.name: {} for tree in trees}
    with COUNTED[name](folder, quick) as count:
        for number in range(1 if quick else REPEATS):
            for tree in trees if number % 2 == 0 else reversed(trees):
                progress.print(f"count instructions {number + 1}: {tree.name}", style="dim")
                sums = found[tree.name]
                for unit, counts in count(tree, folder / f"{tree.name}-{number}").items():
                    sums[unit] = sums[unit] + counts if unit in sums else counts
    return [(_per_unit(found["before"]), _per_unit(found["now"]))]


def _per_unit(found: Mapping[str, Counts]) -> Found:
    return Found({f"instructions_{unit}": one.per_unit() for unit, one in found.items()})


def report(
    name: str,
    commit: str,
    pairs: Sequence[tuple[Found, Found]],
    counted: Sequence[tuple[Found, Found]],
    *,
    quick: bool = False,
) -> Report:
    """The ratios to the commit before beside those of this one; the figures are this one's.

    pairs: (before, now) of each pair of runs. counted: of the instructions, one or none.
    quick: ratios of one short run say nothing, so no verdict is given.
    """
    what = "one short run: no verdict" if quick else f"medians of {len(pairs)} pairs of runs"
    made = Report(
        f"{name}: this checkout over {commit[:12]}, {what} (smallest–largest); above 1 is slower",
        ("", "before", "now", "cost now over before", "", "at most", ""),
    )
    for figures, key in ((made.ratios, "ratios"), (made.figures, "figures")):
        first: dict[str, float] = dict(getattr(pairs[0][1], key))
        for what in first:
            values = [getattr(now, key).get(what, 0.0) for _, now in pairs]
            figures[what] = statistics.median(values)
    for before, now in counted:
        made.figures |= {what: round(value) for what, value in now.figures.items()}
        made.figures |= {f"{what}_before": round(value) for what, value in before.figures.items()}
    compared = compare(pairs) | (compare(counted) if counted else {})
    for what, found in compared.items():
        made.ratios[what] = round(found.ratio, 4)
        made.rows.append(_row(what, found, verdict=not quick))
    return made


def _row(what: str, found: Compared, *, verdict: bool) -> Sequence[str]:
    limit = limit_of(what)
    spread = f"({min(found.ratios):.3f}–{max(found.ratios):.3f})" if len(found.ratios) > 1 else ""
    return (
        found.figure,
        f"{found.before:,.6g}",
        f"{found.now:,.6g}",
        f"{found.ratio:.3f}",
        spread,
        f"{limit:.2f}",
        "slower" if verdict and found.ratio > limit else "",
    )


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM raises here, as Ctrl-C does, so that servers stop and the worktree goes."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
