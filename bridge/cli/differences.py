"""Verbs about what comparisons have found: differences, and show and clear of them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from rich.table import Table
from rich.text import Text

from bridge.cli.options import complete_routes
from bridge.cli.output import Format, console, format_option, headings, say, show_rows
from bridge.errors import BridgeError, ConfigError
from bridge.evidence.differences.beside import Piece, beside, head_of, plain
from bridge.evidence.differences.file import EvidenceUnreadable
from bridge.evidence.differences.store import Evidence
from bridge.evidence.rate import percent
from bridge.evidence.standing import Standing, standing
from bridge.files import write_atomically
from bridge.settings import Settings
from bridge.units import several
from bridge.yamlfile import did_you_mean

if TYPE_CHECKING:
    from bridge.evidence.differences.found import Counts, Group, Sample

__all__ = ["differences"]

_LIST = "list"


class _Verbs(click.Group):
    """`differences project` is short for `differences list project`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [word for word in args if not word.startswith("-")]
        alone = ctx.resilient_parsing or any(word in ctx.help_option_names for word in args)
        if words[0] not in self.commands if words else not alone:
            args = [_LIST, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [
            *super().shell_complete(ctx, incomplete),
            *(
                CompletionItem(name)
                for name in _routes(ctx, incomplete)
                if name not in self.commands
            ),
        ]


def _routes(ctx: click.Context, incomplete: str) -> list[str]:
    return complete_routes(ctx, click.Argument(["route"]), incomplete)


def _ids(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For the completion of a shell: the groups, with what they are."""
    file = str(ctx.find_root().params["routes_file"])  # the group of verbs has not run
    try:
        settings = Settings.from_environ({**os.environ, "BRIDGE_ROUTES": file})
        groups = Evidence(settings.state_dir).groups()
    except BridgeError:
        return []
    return [
        CompletionItem(str(one.id), help=f"{one.route}: {one.place}")
        for one in groups
        if str(one.id).startswith(incomplete)
    ]


def _ids_and_routes(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    routes = map(CompletionItem, _routes(ctx, incomplete))
    return [*routes, *_ids(ctx, parameter, incomplete)]


@click.group(cls=_Verbs, invoke_without_command=False, subcommand_metavar="[ROUTE] | COMMAND …")
def differences() -> None:
    """Show where Python's answers differ from legacy's, as `compare` and `shadow:` have found it.

    \b
    Example:
      bridgectl differences                    all routes, and what was compared of each
      bridgectl differences project            one route
      bridgectl differences show 12            both answers beside each other
      bridgectl differences --html found.html  one file to hand around
      bridgectl differences clear project      compared anew from now on

    `bridgectl differences list --help` names --html, --all and -o.
    """


@differences.command(_LIST)
@click.argument("route", required=False, shell_complete=lambda c, p, i: _routes(c, i))
@click.option("--all", "every", is_flag=True, help="Also what only older releases had.")
@click.option(
    "--html",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one HTML file instead, with samples of both answers.",
)
@format_option
def list_(route: str | None, every: bool, file: Path | None, output: Format) -> None:
    """List the groups of differences, and how much was compared of each route.

    \b
    Example:
      bridgectl differences list project -o json
    """
    settings = Settings.from_environ()
    evidence = Evidence(settings.state_dir)
    now, unknown = _standing(settings)
    groups = evidence.groups(route)
    counts = {name: one for name, one in now.counts.items() if route in (None, name)}
    if route and not groups and not counts:
        _check_route(settings, route)
    own = [one for one in groups if every or unknown or _is_of(one, now)]
    older = len(groups) - len(own)
    if file is not None:
        _write(file, evidence, own, counts, now)
        say(
            {"file": str(file), "groups": len(own)}, output, f"{file}: {several(len(own), 'group')}"
        )
        return
    data = {
        "release": now.release,
        "rules": now.rules,
        "differences": [_as_data(one) for one in own],
        "older": older,
        "routes": {name: _counted(name, one, now) for name, one in counts.items()},
    }
    if output == "json":
        say(data, output)
        return
    if own:
        columns = ("id: ID", "route", "place", "what", "count", "kind", "last: Last seen (UTC)")
        rows = [{**asdict(one), "kind": one.kind.value, "last": _when(one.last)} for one in own]
        show_rows(rows, headings(*columns), output)
        say(None, output, "")
    if counts:
        kinds = ("compared", "same", "noise", "lag", "different", "bound: Under (95%)")
        beside_it = ("declined", "not-compared: Not compared")
        rows = [{"route": name, **_counted(name, one, now)} for name, one in counts.items()]
        show_rows(rows, headings("route", *kinds, *beside_it), output)
    else:
        of = f"release {now.release}" if now.release else "it"
        say(None, output, f"Nothing of {of} was compared{f' for {route}' if route else ''} yet.")
    if older:
        say(None, output, f"{several(older, 'group')} of older releases: --all")
    if own:
        say(None, output, f"Both answers: bridgectl differences show {own[0].id}")
    if unknown:
        say(None, output, f"Which release runs is not known: {unknown}")


@differences.command()
@click.argument("number", metavar="ID", type=click.IntRange(1), shell_complete=_ids)
@click.option(
    "--sample",
    "which",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Which one of the samples; 1 is the newest.",
)
@format_option
def show(number: int, which: int, output: Format) -> None:
    """Show both answers of a difference beside each other. -o json has all of its samples.

    In the column between them ! marks a line that differs, - one that only legacy has, and + one
    that only Python has.

    \b
    Example:
      bridgectl differences show 12
    """
    found = Evidence(Settings.from_environ().state_dir).group(number)
    if found is None:
        raise BridgeError(f"there is no difference {number}; see `bridgectl differences --all`")
    group, samples = found
    if output == "json":
        data = {**_as_data(group), "samples": [_sample_data(one) for one in reversed(samples)]}
        say(data, output)
        return
    times = "once" if group.count == 1 else f"{group.count:,} times"
    say(
        None,
        output,
        f"{group.id}. {group.route}: {group.place}\n{group.what}, {group.kind.value}, {times}, "
        f"{_when(group.first)} – {_when(group.last)} UTC, release {group.release}",
    )
    if not samples:
        say(None, output, "No sample of it is kept any more.")
        return
    if which > len(samples):
        raise BridgeError(f"there are {several(len(samples), 'sample')} of difference {number}")
    _show_sample(list(reversed(samples))[which - 1])
    if len(samples) > 1 and which == 1:
        more = several(len(samples) - 1, "more sample", "more samples")
        say(None, output, f"\n{more}: bridgectl differences show {number} --sample 2")


@differences.command()
@click.argument("what", metavar="[ROUTE|ID]", required=False, shell_complete=_ids_and_routes)
@format_option
def clear(what: str | None, output: Format) -> None:
    """Forget what was found: of a route, with its counts, so that it is compared anew; of one
    difference, whose counts stay; or all.

    \b
    Example:
      bridgectl differences clear project
    """
    settings = Settings.from_environ()
    evidence = Evidence(settings.state_dir)
    if what is not None and what.isdigit() and what.isascii() and evidence.group(int(what)):
        gone = evidence.clear(number=int(what))
    else:
        if what is not None and not evidence.groups(what):
            _check_route(settings, what)
        gone = evidence.clear(what)
    say({"cleared": gone}, output, f"{several(gone, 'group')} cleared")


def _standing(settings: Settings) -> tuple[Standing, str]:
    """What was compared of what runs now, and why that is not known, or nothing."""
    try:
        return standing(settings), ""
    except EvidenceUnreadable:
        raise
    except ConfigError as error:
        return Standing("", ""), str(error.problems[0]) if error.problems else str(error)


def _check_route(settings: Settings, name: str) -> None:
    """Raises BridgeError for a name that no route has."""
    from bridge.proxy.routing.load import Handlers, load

    known = [one.name for one in load(settings.routes, handlers=Handlers.NAMED).routes]
    if name not in known:
        hint = did_you_mean(name, known)
        raise BridgeError(f"no route `{name}`, and no difference of it; {hint}".rstrip("; "))


def _is_of(group: Group, now: Standing) -> bool:
    return (group.release, group.rules) == (now.release, now.rules)


def _as_data(group: Group) -> dict[str, Any]:
    return {**asdict(group), "kind": group.kind.value}


def _sample_data(sample: Sample) -> dict[str, Any]:
    return asdict(sample)


def _counted(name: str, counts: Counts, now: Standing) -> dict[str, Any]:
    bound = now.upper_bound(name)
    return {
        "compared": counts.compared,
        **counts.by_kind,
        "bound": "" if bound is None else percent(bound),
    }


def _when(at: float) -> str:
    try:
        return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return "?"


def _write(
    file: Path,
    evidence: Evidence,
    groups: Sequence[Group],
    counts: dict[str, Counts],
    now: Standing,
) -> None:
    from bridge.evidence.differences.page import MOST_GROUPS, page

    shelf = [
        found if at < MOST_GROUPS and (found := evidence.group(one.id)) else (one, [])
        for at, one in enumerate(groups)
    ]
    try:
        # It shows what visitors have seen.
        write_atomically(file, page(shelf, counts, now.release, time.time()), 0o600)
    except OSError as error:
        raise BridgeError(f"{file} cannot be written: {error.strerror}") from None


def _show_sample(sample: Sample) -> None:
    asked, one = sample.asked, sample.difference
    say(
        None,
        "table",
        f"\n{asked.method} {asked.scheme}://{asked.host}{asked.target}\n"
        f"{_when(sample.at)} UTC, by {sample.source}, release {sample.release}\n"
        f"at {one.place}" + (f"\n{sample.why}" if sample.why else ""),
    )
    out = console()
    width = out.width if sys.stdout.isatty() else 160
    table = Table(box=None, pad_edge=False, width=width, show_header=True)
    for heading in ("Legacy", "", "Python"):
        side = heading != ""
        table.add_column(
            heading, overflow="fold", ratio=1 if side else None, width=None if side else 1
        )
    table.add_row(
        _text(((plain(one.legacy), True),), "red"),
        "!",
        _text(((plain(one.python), True),), "green"),
    )
    heads = head_of(sample.legacy), head_of(sample.python)
    bodies = tuple(page.text if page else "" for page in (sample.legacy, sample.python))
    for texts in (heads, bodies):
        table.add_row()
        for row in beside(*texts):
            table.add_row(_text(row.legacy, "red"), row.mark, _text(row.python, "green"))
    out.print(table)
    for side_, page in (("legacy", sample.legacy), ("Python", sample.python)):
        if page is None:
            say(None, "table", f"{side_} gave no answer")
        elif page.left_out:
            say(None, "table", f"body of {side_}, {page.length:,} bytes: {page.left_out}")


def _text(pieces: Sequence[Piece] | None, colour: str) -> Text:
    """A cell; nothing in it is markup, nor a command for the terminal."""
    found = Text()
    for part, marked in pieces or ():
        found.append(part.replace("\t", "    "), style=f"bold {colour}" if marked else "")
    return found
