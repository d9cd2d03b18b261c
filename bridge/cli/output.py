"""How the command line speaks: tables for people, JSON for programs, errors with exit codes."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge import errors

__all__ = [
    "EXIT_CODES",
    "Format",
    "as_json",
    "console",
    "format_option",
    "headings",
    "printable",
    "report",
    "say",
    "show_problems",
    "show_rows",
    "visible",
]

Format = Literal["table", "json"]
F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = {
    0: "done",
    1: "the answer is no (a check failed, something was found)",
    2: "wrong usage",
    3: "a file is wrong",
    4: "a server is missing",
    5: "refused, nothing changed",
}


_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal would obey and not show: controls but for tab and line end, signs that turn
the direction of writing; and halves of signs, which cannot be written."""


def visible(text: str) -> str:
    """`text` fit for a terminal, with its controls as `\\x1b`: it may come from files and visitors,
    and must not move the cursor, or hide what stands beside it."""
    return _UNFIT.sub(lambda match: ascii(match[0])[1:-1], text)


def printable(text: str, kept: str = "") -> str:
    """Without what a terminal could take for a command, but for the signs `kept`: the text is the
    site's, or a sender's."""
    return "".join(c if c.isprintable() or c in kept else f"\\x{ord(c):02x}" for c in text)


def as_json(data: object) -> str:
    """One line of JSON that any terminal and any program can take."""
    text = json.dumps(data, ensure_ascii=False)
    return _UNFIT.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def format_option(function: F) -> F:
    """`-o json` for programs."""
    option = click.option(
        "-o",
        "--output",
        type=click.Choice(["table", "json"]),
        default="table",
        help="A table for people (default) or JSON for programs.",
    )
    return option(function)


def say(data: object, output: Format, text: str = "") -> None:
    """One result: `data` as JSON, or `text` for people."""
    if output == "json":
        click.echo(as_json(data))
    else:
        console().print(visible(text), highlight=False, markup=False, soft_wrap=True)


def headings(*columns: str) -> dict[str, str]:
    """Keys with their headings, written `key: Heading`, or `key` where that is the heading, too."""
    pairs = (column.partition(": ") for column in columns)
    return {key: says or key.capitalize() for key, _, says in pairs}


def show_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    output: Format,
    *,
    title: str = "",
    data: object = None,
) -> None:
    """Show rows as a table, or as JSON.

    columns: key of a row to its heading.
    data: what JSON has, if it is more than the rows.
    """
    if output == "json":
        click.echo(as_json(data if data is not None else list(rows)))
        return
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(escape(visible(_text(row.get(key, "")))) for key in columns))
    console().print(table)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def show_problems(problems: Iterable[errors.Problem], *, level: str) -> None:
    """Problems on standard error, one a line, as compilers write them."""
    for problem in problems:
        where = f"{problem.file}:{problem.line}:{problem.column}" if problem.line else problem.file
        click.echo(visible(f"{where}: {level}: {problem.message}"), err=True)
        if problem.hint:
            click.echo(visible(f"    {problem.hint}"), err=True)


def console() -> Console:
    """Standard output; as wide as needed when it is no terminal."""
    wide = None if sys.stdout.isatty() else 200
    return Console(width=wide)


def report(error: errors.BridgeError) -> int:
    """Say what is wrong on standard error; returns the exit code."""
    if isinstance(error, errors.ConfigError):
        show_problems(error.problems, level="error")
        if error.remedy:
            click.echo(visible(f"bridge: {error.remedy}"), err=True)
        return 3
    click.echo(visible(f"bridge: {error}"), err=True)
    if isinstance(error, errors.WrongUsage):
        return 2
    if isinstance(error, errors.ServerMissing):
        return 4
    return 5 if isinstance(error, errors.FlipRefused | errors.ExampleExists) else 1
