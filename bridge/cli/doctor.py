"""`bridgectl doctor`: asks every configured server, and says what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict

import click

from bridge.cli.output import Format, format_option, show_rows
from bridge.doctor import examine
from bridge.settings import Settings


@click.command()
@format_option
def doctor(output: Format) -> None:
    """Ask every configured server, and report what is wrong with it and what to do.

    \b
    Example:
      bridgectl doctor -o json
    """
    findings = [asdict(finding) for finding in examine(Settings.from_environ())]
    columns = {"state": "", "what": "What", "where": "Where", "says": "Finding", "do": "To do"}
    show_rows(findings, columns, output)
    if any(finding["state"] == "bad" for finding in findings):
        raise click.exceptions.Exit(1)
