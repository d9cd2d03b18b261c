"""Values of options and arguments that several verbs have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.settings import Settings
from bridge.units import parse_duration
from bridge.yamlfile import did_you_mean

if TYPE_CHECKING:
    from bridge.sync.documents import Mirror

__all__ = [
    "ALL",
    "check_entities",
    "complete_names",
    "complete_routes",
    "how_many",
    "pairs_of",
    "seconds",
]

ALL = "ALL"
"""What stands for every route and group."""


def complete_names(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the completion of a shell: every route and group that can be flipped."""
    from bridge.errors import BridgeError
    from bridge.proxy.routing.load import Handlers, load

    # While words are completed, the group has read --routes and BRIDGE_ROUTES, but has not run.
    file = ctx.find_root().params["routes_file"]
    try:
        table = load(Path(file), handlers=Handlers.NAMED)
    except BridgeError:
        return []
    own = [route.name for route in table.routes if route.handler and not route.spec.group]
    return [name for name in (*table.file.groups, *own, ALL) if name.startswith(incomplete)]


def complete_routes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the completion of a shell: every route with a Python side."""
    from bridge.errors import BridgeError
    from bridge.proxy.routing.load import Handlers, load

    try:
        table = load(Path(ctx.find_root().params["routes_file"]), handlers=Handlers.NAMED)
    except BridgeError:
        return []
    names = (route.name for route in table.routes if route.handler)
    return [name for name in names if name.startswith(incomplete)]


def check_entities(settings: Settings, mirror: Mirror, names: Sequence[str]) -> None:
    """Raises UsageError for a name that is no entity of sync.yaml, and BridgeError where there is
    no such file."""
    if not os.path.lexists(settings.sync):
        from bridge.sync.server_errors import no_entities

        raise no_entities(settings)
    for name in names:
        if name not in mirror.entities:
            hint = did_you_mean(name, mirror.entities)
            raise click.UsageError(f"{settings.sync} has no entity {name}. {hint}".strip())


def how_many(
    name: str, default: int, least: int, text: str, *, most: int | None = None, n: str | None = None
) -> Callable[[Any], Any]:
    """An option with a whole number.

    least, most: the bounds, which may be given; None: there is none.
    text, n: its help, and how that shows the number.
    """
    kind = click.IntRange(least, most)
    return click.option(name, type=kind, default=default, show_default=True, metavar=n, help=text)


def pairs_of(headers: Sequence[str], cookies: Sequence[str]) -> list[tuple[str, str]]:
    """Headers and cookies as written on the command line. Raises BadParameter."""
    pairs = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{header!r}: write 'Name: value'", param_hint="--header")
        pairs.append((name.strip(), value.strip()))
    for cookie in cookies:
        if "=" not in cookie:
            raise click.BadParameter(f"{cookie!r}: write name=value", param_hint="--cookie")
    return [*pairs, ("Cookie", "; ".join(cookies))] if cookies else pairs


def seconds(context: click.Context, parameter: click.Parameter, text: str) -> float:
    """A callback: `500ms`, `5s`, `2m`, or `0s` for none. Raises BadParameter."""
    try:
        return 0.0 if text in ("0", "0s") else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{error}") from None
