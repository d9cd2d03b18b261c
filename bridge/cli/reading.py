"""What verbs that read access logs have in common: a bar, and what could not be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.output import visible

if TYPE_CHECKING:
    from bridge.evidence.logs import Reader

__all__ = ["log_options", "reading"]


@contextmanager
def reading(logs: tuple[str, ...], log_format: str | None) -> Iterator[Reader]:
    """A reader with a bar on a terminal; afterwards, what it could not read is said."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )  # fmt: skip

    from bridge.evidence.logs import Reader

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("reading", total=None)
        try:
            reader = Reader(
                logs, log_format, lambda done, total: bar.update(task, completed=done, total=total)
            )
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--log-format") from None
        yield reader
    for note in reader.notes:
        click.echo(visible(f"bridge: {note}"), err=True)
    if reader.unread:
        click.echo(
            f"bridge: {reader.unread:,} of {reader.lines:,} lines are no requests, such as:",
            err=True,
        )
        for line in reader.examples:
            click.echo(visible(f"    {line!r}"), err=True)


def log_options(function: Any) -> Any:
    """How logs are written."""
    return click.option(
        "--log-format",
        metavar="FORMAT",
        help="As the server has it, in nginx's words ($remote_addr …) or Apache's (%h …). "
        "Default: guessed from the first lines.",
    )(function)
