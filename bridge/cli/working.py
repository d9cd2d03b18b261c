"""What verbs that work for a while have in common: a bar of what is done, and less collecting."""

from __future__ import annotations

import gc

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

__all__ = ["bar", "collect_seldom"]


def bar(*more: ProgressColumn, console: Console | None = None) -> Progress:
    """What is done of how much, and `more`; on standard error, where that is a terminal."""
    console = console or Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *more
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def collect_seldom() -> None:
    """What is imported by now stays; looking through it again and again costs a fifth of the
    time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
