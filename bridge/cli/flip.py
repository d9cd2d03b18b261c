"""Verbs that change a share, and that show who changed one: flip, history."""

from __future__ import annotations

import getpass
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import click

from bridge.cli.options import ALL, complete_names, seconds
from bridge.cli.output import Format, format_option, say, show_rows
from bridge.errors import ConfigError, WrongUsage
from bridge.proxy.decision.decide import PYTHON
from bridge.proxy.routing import lastgood
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.routing.models import parse_percent, parse_required
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.tools import flip as flipping
from bridge.proxy.tools.live import Answered, Live, wait_until_live, watch_answers
from bridge.settings import Settings
from bridge.units import several


@contextmanager
def _remedy() -> Iterator[None]:
    """Says what to do at night about a file that is broken, where workers have a good one. A
    handler that cannot be imported is no such case: the file is the one that runs."""

    try:
        yield
    except ConfigError as error:
        error.remedy = _back_to_what_runs(Settings.from_environ())
        raise


def _back_to_what_runs(settings: Settings) -> str:
    try:
        load(settings.routes, handlers=Handlers.NAMED)
    except ConfigError:
        if lastgood.is_there(settings.state_dir):
            good = shlex.quote(str(settings.state_dir / lastgood.FILE))
            return (
                "mend this, or go back to what runs: cp --remove-destination "
                f"{good} {shlex.quote(str(settings.routes))}"
            )
    return ""


@click.command()
@click.argument("name", metavar="ROUTE-OR-GROUP|ALL", shell_complete=complete_names)
@click.argument("share", metavar="PERCENT")
@click.option("--why", required=True, help="The reason, for the history.")
@click.option("--who", default="", help="Default: the user of the shell.")
@click.option(
    "--watch",
    default="",
    callback=lambda context, parameter, text: seconds(context, parameter, text) if text else None,
    metavar="TIME",
    show_default="2s, less without requests",
    help="How long to show who answers afterwards; 0s: not at all.",
)
@click.option(
    "--require",
    default=None,
    callback=lambda context, parameter, text: _limit(text) if text else None,
    metavar="'different<0.1%'",
    help="Only with evidence, at 95%, that fewer answers are different.",
)
@click.option(
    "--without-evidence",
    is_flag=True,
    help="Although evidence is required and missing; the history notes it.",
)
@format_option
@_remedy()
def flip(
    name: str,
    share: str,
    why: str,
    who: str,
    watch: float | None,
    require: float | None,
    without_evidence: bool,
    output: Format,
) -> None:
    """Set the share of the visitors that Python answers, wait until every worker has it, and show
    who answers then. Write the share with its %, as in routes.yaml.

    Exactly one line of routes.yaml changes; comments and layout stay. ALL takes only 0%: it gives
    everything back to legacy at once, and names what it cannot change, with exit code 1.

    To raise a share may need evidence, by --require or by `flips: {require: …}` in routes.yaml, of
    each route that it is the share of. To lower one never does.

    \b
    Example:
      bridgectl flip project 5% --why "first visitors"
      bridgectl flip project 20% --require 'different<0.1%' --why "compared"
      bridgectl flip project 0% --why "undo: wrong dates"
      bridgectl flip ALL 0% --why "MongoDB is gone"
    """
    settings = Settings.from_environ()
    who = who or os.environ.get("SUDO_USER") or _user()
    allow = _Evidence(settings, require, without_evidence)
    if name == ALL:
        try:
            if parse_percent(share):
                raise ValueError(
                    "ALL takes 0% only: everything back to legacy; flip others by name"
                )
        except ValueError as error:
            raise WrongUsage(str(error)) from None
        done = flipping.flip_all(settings.routes, share, who=who, why=why, allow=allow)
    else:
        done = flipping.flip(settings.routes, name, share, who=who, why=why, allow=allow)
    if done.unrecorded:
        click.echo(f"bridge: changed, but not in the history: {done.unrecorded}", err=True)
    live = wait_until_live(settings, done.flips)
    data = {
        **(
            {"flips": [asdict(one) for one in done.flips]} if name == ALL else asdict(done.flips[0])
        ),
        "workers": live.workers,
        "live": live.live,
        "seconds": round(live.seconds, 3),
        "left": [asdict(one) for one in done.left],
        "without_python": live.without,
        "other_settings": dict(live.differs.settings),
        "old_code": list(live.differs.code),
        "answered": None,
    }
    if not done.changed and not done.left:
        at = "everything is at 0%" if name == ALL else f"{name} is at {done.flips[0].new}"
        say(data, output, f"{at} already; nothing changed")
        return
    if output == "table":
        _show(settings, done, live)
    answered = watch_answers(settings, done, watch) if live.live and done.changed else None
    problem = _what_is_answered(done, live, answered, output)
    if output == "json":
        say({**data, "answered": answered and asdict(answered)}, output)
    if live.live < live.workers or done.left or problem:
        raise click.exceptions.Exit(1)


def _limit(text: str) -> float:
    try:
        return parse_required(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--require") from None


@dataclass(frozen=True)
class _Evidence:
    """Looks at what was found only when a share is raised: a flip back must be quick, and depend
    on nothing."""

    settings: Settings
    limit: float | None
    without: bool

    def __call__(self, table: RouteTable, routes: Sequence[str]) -> str:
        if self.limit is None and table.file.flips.require is None:
            return ""
        from bridge.evidence.required import Required

        return Required(self.settings, self.limit, self.without)(table, routes)


def _show(settings: Settings, done: flipping.Done, live: Live) -> None:
    """What was changed, where it is live, and how to undo it."""
    changed = [one for one in done.flips if one.changed]
    lines = [f"{one.name}: {one.old} → {one.new} ({settings.routes}:{one.line})" for one in changed]
    lines += [
        f"{one.name}: still at {one.share} ({settings.routes}:{one.line}): {one.why}"
        for one in done.left
    ]
    how = _how_live(live)
    if len(lines) == 1 and changed:
        lines = [f"{lines[0]}; {how}"]
    elif changed:
        lines.append(how)
    said = dict.fromkeys(one.evidence for one in changed if one.evidence)
    lines += [f"evidence: {says}" for says in said]
    lines += [
        f"undo: bridgectl flip {one.name} {one.old.replace(' ', '')} --why …" for one in changed
    ]
    say(None, "table", "\n".join(lines))


def _how_live(live: Live) -> str:
    if live.workers == 0:
        return "no worker runs here"
    share = f"{live.live} of {several(live.workers, 'worker')}"
    if live.live == live.workers:
        return f"live in {share} after {live.seconds:.2f} s"
    return f"only {share} have it after {live.seconds:.0f} s, see `bridgectl routes`"


def _what_is_answered(
    done: flipping.Done, live: Live, answered: Answered | None, output: Format
) -> bool:
    """Say who answers, and what keeps Python from it. Returns whether something does."""
    raised = any(parse_percent(one.new) > parse_percent(one.old) for one in done.flips)
    lines = []
    if raised and live.without:
        lines.append(
            f"but {live.without} of {several(live.workers, 'worker')} have no Python side for it, "
            f"so legacy answers there: {live.says}"
        )
    if raised:
        lines += [f"but {says}" for says in live.differs.says]
    failing = False
    if answered is not None:
        lines.append(_who_answered(answered))
        # A share of 5% may well have no visitor of Python's among the first ones.
        failing = raised and bool(answered.fallbacks) and not answered.by.get(PYTHON)
    if output == "table" and lines:
        say(None, output, "\n".join(lines))
    return failing or (raised and bool(live.without))


def _who_answered(answered: Answered) -> str:
    if not answered.by:
        waited = f"{answered.seconds:.1f} s"
        return f"no request for it in {waited}; `bridgectl status` shows later who answers"
    sides = ", ".join(f"{backend} {count:,}" for backend, count in answered.by.items())
    text = f"answered since then: {sides}"
    if answered.fallbacks:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in answered.fallbacks.items())
        text += f"; by legacy instead of Python: {reasons} (`fallback_detail` in the access log)"
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@click.command()
@format_option
def history(output: Format) -> None:
    """Show the flips so far: when, who, what and why.

    \b
    Example:
      bridgectl history -o json
    """
    flips = [asdict(flip) for flip in flipping.read_history(Settings.from_environ().routes)]
    columns = {"at": "When", "who": "Who", "name": "What", "old": "From", "new": "To", "why": "Why"}
    if any(flip["evidence"] for flip in flips):
        columns["evidence"] = "Evidence"
    show_rows(flips, columns, output)
