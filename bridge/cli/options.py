"""Values of options that several verbs have."""

from __future__ import annotations

import click

from bridge.units import parse_duration

__all__ = ["seconds"]


def seconds(context: click.Context, parameter: click.Parameter, text: str) -> float:
    """A callback: `500ms`, `5s`, `2m`, or `0s` for none. Raises BadParameter."""
    try:
        return 0.0 if text in ("0", "0s") else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}") from None
