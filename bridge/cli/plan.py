"""The verb that decides a flip on a log: plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bridge.cli.output import Format, as_json, format_option, headings, say, show_rows
from bridge.cli.reading import log_options, reading
from bridge.units import several

_BAR = 30
_HOURS = 48  # that are shown


@click.command()
@click.argument("changes", nargs=-1, required=True, metavar="ROUTE=PERCENT...")
@click.option(
    "--log",
    "logs",
    multiple=True,
    required=True,
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="A log; may be given several times.",
)
@log_options
@format_option
def plan(
    changes: tuple[str, ...], logs: tuple[str, ...], log_format: str | None, output: Format
) -> None:
    """Say what a flip would have done to the requests of a log. Nothing is sent.

    Each request of the bridge's own log is decided again with its own bucket, by the table as it
    is and as it would be; of another server's log, by the visitor's address and browser, which is
    an estimate. The exit code is 1 when a line of the log is not what its own table decides.

    \b
    Example:
      bridgectl plan project=20% --log bridge.log
      bridgectl plan lists=5% project=100% --log bridge.log.1.gz --log bridge.log
    """
    from bridge.evidence.plan import Plan, Tables, at_shares
    from bridge.settings import Settings

    routes = Settings.from_environ().routes
    shares = {}
    for change in changes:
        name, equals, share = change.rpartition("=")
        if not equals or not name:
            raise click.BadParameter(
                f"{change!r}: write it as project=20%", param_hint="ROUTE=PERCENT"
            )
        shares[name] = share
    tables = Tables(routes)
    try:
        then = at_shares(tables.now, shares)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="ROUTE=PERCENT") from None
    made = Plan(tables, then)
    with reading(logs, log_format) as reader:
        for entry in reader.entries():
            made.add(entry)
    made.end()
    data = _plan_data(made, _says_check(routes, then, shares))
    if output == "json":
        click.echo(as_json(data))
    else:
        _show_plan(data)
    if made.different:
        raise click.exceptions.Exit(1)


def _says_check(routes: Path, then: Any, shares: dict[str, str]) -> list[str]:
    """What `bridgectl check` says of the table as it would be."""
    from bridge.proxy.routing.load import Handlers, load
    from bridge.proxy.tools.lint import lint

    said = [f"{one.file}:{one.line}: {one.message}; {one.hint}" for one in lint(then, str(routes))]
    real = load(routes, handlers=Handlers.WANTED)
    said += [f"{one.file}:{one.line}: {one.message}" for one in real.problems]
    return said


def _plan_data(made: Any, check: list[str]) -> dict[str, Any]:
    from datetime import UTC, datetime

    times = made.times
    return {
        "requests": made.requests,
        "estimated": made.estimated,
        "undecided": made.undecided,
        "decided_again": {
            "as_logged": made.reproduced,
            "different": made.different,
            "of_unknown_tables": made.unknown,
            "examples": made.examples,
        },
        "change_sides": sum(one.to_python + one.to_legacy for one in made.changes.values()),
        "visitors": len(made.visitors),
        "routes": [
            {
                "route": name,
                "to_python": one.to_python,
                "to_legacy": one.to_legacy,
                "visitors": len(one.visitors),
                "hours": {
                    f"{datetime.fromtimestamp(hour, UTC):%Y-%m-%dT%H:00Z}": count
                    for hour, count in sorted(one.hours.items())
                },
            }
            for name, one in sorted(made.changes.items())
        ],
        "python": {
            "now": made.python_now,
            "then": made.python_then,
            "peak_per_s_now": made.peak_now,
            "peak_per_s": made.peak_then,
            "peak_at": made.peak_at,
        },
        "threads": made.threads,
        "seconds": None if times is None else round(times[0], 5),
        "seconds_of": None if times is None else times[1],
        "posts_that_follow": [
            {"rule": str(rule), "requests": rule.tally.requests} for rule in made.posts.rules()
        ],
        "check": check,
    }


def _show_plan(data: dict[str, Any]) -> None:
    again, python = data["decided_again"], data["python"]
    total = max(1, data["requests"])
    lines = [
        f"{data['requests']:,} requests; {data['change_sides']:,} of them, of "
        f"{several(data['visitors'], 'visitor')}, change sides",
        f"Python answers {python['now'] / total:.1%} now, {python['then'] / total:.1%} then; "
        f"its peak is {python['peak_per_s']:,} per second, and was {python['peak_per_s_now']:,}",
    ]
    if data["threads"] is not None:
        whose = (
            "Python's" if data["seconds_of"] == "python" else "legacy's, since Python has none yet"
        )
        lines.append(
            f"that takes {data['threads']:,} handler threads, enough 99% of the time "
            f"({data['seconds'] * 1000:.1f} ms a request; times are {whose})"
        )
    elif python["then"]:
        lines.append("how many handler threads that takes is not known: the log has no times")
    if data["estimated"]:
        lines.append(
            f"{data['estimated']:,} requests have no bucket: by the visitor's address and browser, an estimate"  # noqa: E501
        )
    if data["undecided"]:
        lines.append(
            f"{data['undecided']:,} requests are of routes or sites that the file does not have"
        )
    if again["as_logged"] or again["different"] or again["of_unknown_tables"]:
        lines.append(
            f"decided again: {again['as_logged']:,} as in the log, {again['different']:,} otherwise, "  # noqa: E501
            f"{again['of_unknown_tables']:,} by tables that the history does not tell, from before "
            "an edit of the file"
        )
        lines += [f"  {one}" for one in again["examples"]]
    say(None, "table", "\n".join(lines))
    if data["routes"]:
        rows = [{**one, "busiest": _busiest(one["hours"])} for one in data["routes"]]
        columns = (
            "route",
            "to_python: To Python",
            "to_legacy: To legacy",
            "visitors",
            "busiest: Busiest hour",
        )
        show_rows(rows, headings(*columns), "table", title="\nWhat changes sides")
        hours: dict[str, int] = {}
        for one in data["routes"]:
            for hour, count in one["hours"].items():
                hours[hour] = hours.get(hour, 0) + count
        most = max(hours.values())
        chart = [
            f"{hour}  {'█' * max(1, round(count / most * _BAR))} {count:,}"
            for hour, count in sorted(hours.items())[-_HOURS:]
        ]
        last = f", the last {_HOURS} of {len(hours):,}" if len(hours) > _HOURS else ""
        say(None, "table", f"\nBy hour{last}\n" + "\n".join(chart))
    if data["posts_that_follow"]:
        show_rows(
            data["posts_that_follow"][:10],
            headings("rule: POST", "requests"),
            "table",
            title="\nPOSTs within 30 minutes of a page that changes",
        )
    said = data["check"] or ["nothing"]
    say(None, "table", "\nbridgectl check says of it: " + "\n  ".join(said))


def _busiest(hours: dict[str, int]) -> str:
    hour = max(hours, key=lambda one: hours[one])
    return f"{hour}: {hours[hour]:,}"
