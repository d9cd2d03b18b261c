"""Verbs about evidence before a flip: survey, plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.output import Format, as_json, format_option, headings, say, show_rows, visible

if TYPE_CHECKING:
    from bridge.evidence.logs import Reader
    from bridge.evidence.survey import Rule, Survey

_DAY = 86400.0
_BAR = 30


@contextmanager
def _reading(logs: tuple[str, ...], log_format: str | None) -> Iterator[Reader]:
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


@click.command()
@click.argument("logs", nargs=-1, required=True, metavar="LOG...", type=click.Path(allow_dash=True))
@log_options
@click.option("--top", default=20, show_default=True, type=click.IntRange(1), help="Rules to show.")
@click.option("--routes", "as_routes", is_flag=True, help="Print a routes.yaml with them, at 0%.")
@click.option("--host", "hosts", multiple=True, help="Of --routes: the site's; default: the log's.")
@click.option(
    "--legacy",
    default="http://127.0.0.1:8090",
    show_default=True,
    metavar="URL",
    help="Of --routes: PHP's web server.",
)
@click.option(
    "--table",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="With the bridge's own log: the routes.yaml, to name routes that nobody asks for.",
)
@click.option(
    "--unused",
    "days",
    default=30,
    show_default=True,
    type=click.IntRange(1),
    metavar="DAYS",
    help="Unused for so long.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="PHP's document root, to name scripts that nobody asks for.",
)
@format_option
def survey(
    logs: tuple[str, ...],
    log_format: str | None,
    top: int,
    as_routes: bool,
    hosts: tuple[str, ...],
    legacy: str,
    table: Path | None,
    days: int,
    root: Path | None,
    output: Format,
) -> None:
    """Say where to begin, by access logs: which pages there are, how much they are asked for, and
    in which order to move them. `-` reads standard input; no routes.yaml is needed.

    Logs of Apache, nginx and Caddy are read, plain, gz or zst, and those of `bridgectl serve`,
    which also say how much Python answers by now, day by day.

    \b
    Example:
      bridgectl survey /var/log/nginx/access.log*
      bridgectl survey access.log --routes > routes.yaml
      bridgectl survey bridge.log --table routes.yaml --root /var/www --unused 60
    """
    from bridge.evidence.survey import Survey, propose

    found = Survey()
    with _reading(logs, log_format) as reader:
        for batch in reader.batches():
            found.add(batch)
    rules = found.rules()
    proposals = propose(rules, found.total)
    if as_routes:
        from bridge.evidence.survey.routesfile import routes_file

        named = hosts or _hosts(found)
        click.echo(routes_file(proposals[:top], named, legacy), nl=False)
        return
    unused = _unused(found, table, root, days)
    if output == "json":
        click.echo(as_json(_data(found, reader, rules, proposals, unused)))
        return
    _show(found, reader, rules, top)
    rows = [
        {"at": at, "rule": str(one.rule), "why": one.why}
        for at, one in enumerate(proposals[:top], 1)
    ]
    if rows:
        show_rows(
            rows, headings("at: ", "rule: Begin with", "why: Because"), output, title="\nOrder"
        )
    else:
        say(None, output, "\nNothing here is read by GET and found: no page to begin with.")
    _show_progress(found, top)
    for what, names in unused.items():
        listed = "\n".join(f"  {name}" for name in names) or "  none"
        say(
            None,
            output,
            f"\n{what} that nobody asked for in the last {days} days of the log:\n{listed}",
        )


def _hosts(found: Survey) -> list[str]:
    """The hosts of the log that are asked for most, or a name to be replaced."""
    from bridge.proxy.request.hosts import Hosts

    good = []
    for name in sorted(found.hosts, key=lambda one: -found.hosts[one])[:5]:
        try:
            Hosts({"site": [name]})
        except ValueError:
            continue
        if name not in ("", "-", "_"):
            good.append(name.lower())
    return good or ["www.example.org"]


def _unused(
    found: Survey, table: Path | None, root: Path | None, days: int
) -> dict[str, list[str]]:
    unused = {}
    since = found.last - days * _DAY
    if table is not None and found.progress is not None:
        from bridge.proxy.routing.load import Handlers, load

        names = (route.name for route in load(table, handlers=Handlers.NAMED).routes)
        unused["Routes"] = found.progress.unused(names, since)
    if root is not None:
        unused["PHP scripts"] = list(found.scripts.unused(root, since))
    return unused


def _row(rule: Rule, total: int, sent: int) -> dict[str, Any]:
    tally = rule.tally
    slow = tally.slowest(0.99)
    return {
        "rule": str(rule),
        "path": rule.path,
        "query": rule.query,
        "requests": tally.requests,
        "share": round(tally.requests / max(1, total), 5),
        "bytes": tally.bytes,
        "share_of_bytes": round(tally.bytes / max(1, sent), 5),
        "addresses": len(tally.urls),
        "methods": tally.methods,
        "statuses": tally.statuses,
        "sets_cookies": None if tally.cookies < 0 else tally.cookies,
        "p95": tally.slowest(0.95),
        "p99": slow,
    }


def _data(found: Survey, reader: Reader, rules: Any, proposals: Any, unused: Any) -> dict[str, Any]:
    total = found.total
    progress = found.progress
    return {
        "lines": reader.lines,
        "unread": reader.unread,
        "examples": reader.examples,
        "formats": reader.formats,
        "requests": total.requests,
        "bytes": total.bytes,
        "first": found.first,
        "last": found.last,
        "static": {
            name: {"requests": one.requests, "bytes": one.bytes}
            for name, one in found.static.items()
        },
        "odd": found.odd.requests,
        "rules": [_row(rule, total.requests, total.bytes) for rule in rules],
        "order": [
            {
                "rule": str(one.rule),
                "path": one.rule.path,
                "query": one.rule.query,
                "score": round(one.score, 6),
                "why": one.why,
            }
            for one in proposals
        ],
        "days": [
            {
                "day": one.day,
                "requests": one.requests,
                "python": one.python,
                "share": round(one.share, 5),
            }
            for one in progress.days()
        ]
        if progress
        else None,
        "left": [
            {"route": one.route, "requests": one.requests, "left": one.left}
            for one in progress.left()
        ]
        if progress
        else None,
        "unused": unused,
    }


def _show(found: Survey, reader: Reader, rules: Any, top: int) -> None:
    from datetime import UTC, datetime

    total = found.total
    when = ""
    if found.last:
        ends = (
            f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" for at in (found.first, found.last)
        )
        when = f", {' to '.join(ends)} UTC"
    read = f"{total.requests:,} requests, {_size(total.bytes)}{when} ({', '.join(reader.formats)})"
    say(None, "table", read)
    static = sum(one.requests for one in found.static.values())
    sent = sum(one.bytes for one in found.static.values())
    if static:
        often = sorted(found.static, key=lambda one: -found.static[one].requests)[:6]
        say(
            None,
            "table",
            f"static files: {static / total.requests:.1%} of the requests, {sent / max(1, total.bytes):.1%} of the bytes ({', '.join(often)})",  # noqa: E501
        )
    if found.odd.requests:
        say(
            None,
            "table",
            f"no paths, or such as could be read in two ways: {found.odd.requests:,} requests",
        )
    rows = []
    for rule in rules[:top]:
        data = _row(rule, total.requests, total.bytes)
        row = {
            "rule": data["rule"],
            "requests": f"{data['requests']:,}",
            "share": f"{data['share']:.1%}",
            "bytes": f"{data['share_of_bytes']:.1%}",
            "addresses": f"{data['addresses']:,}",
            "methods": _counts(data["methods"]),
            "statuses": _counts(data["statuses"]),
        }
        if data["sets_cookies"] is not None:
            row["cookies"] = f"{data['sets_cookies'] / data['requests']:.0%}"
        if data["p99"] is not None:
            row["slow"] = f"{data['p95']:.2f} / {data['p99']:.2f}"
        rows.append(row)
    columns = ["rule: Pages", "requests", "share", "bytes", "addresses", "methods", "statuses"]
    columns += ["cookies: Set cookies"] * any("cookies" in row for row in rows)
    columns += ["slow: p95 / p99, s"] * any("slow" in row for row in rows)
    show_rows(rows, headings(*columns), "table", title="\nPages")
    if len(rules) > top:
        rest = sum(rule.tally.requests for rule in rules[top:])
        say(None, "table", f"and {len(rules) - top:,} more, with {rest:,} requests: --top N")


def _counts(counts: dict[str, int]) -> str:
    often = sorted(counts, key=lambda one: -counts[one])
    return " ".join(f"{name} {counts[name]:,}" for name in often[:3]) + (
        " …" if len(often) > 3 else ""
    )


def _size(count: int) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024  # type: ignore[assignment]
    return f"{count:,.0f} {unit}"


def _show_progress(found: Survey, top: int) -> None:
    """The burn-down, as a chart of text."""
    if found.progress is None:
        return
    lines = ["\nAnswered by Python, by day"]
    for day in found.progress.days():
        full = round(day.share * _BAR)
        lines.append(
            f"{day.day}  {'█' * full}{'·' * (_BAR - full)} {day.share:6.1%} of {day.requests:,}"
        )
    say(None, "table", "\n".join(lines))
    rows = [
        {
            "route": one.route or "(no route)",
            "left": f"{one.left:,}",
            "requests": f"{one.requests:,}",
        }
        for one in found.progress.left()[:top]
    ]
    if rows:
        show_rows(
            rows, headings("route", "left: Not by Python", "requests: Of"), "table", title="\nLeft"
        )


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
    with _reading(logs, log_format) as reader:
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
        f"{data['requests']:,} requests; {data['change_sides']:,} of {data['visitors']:,} visitors change sides",  # noqa: E501
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
    else:
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
            f"{again['of_unknown_tables']:,} by tables that the history does not tell"
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
            for hour, count in sorted(hours.items())[-48:]
        ]
        say(None, "table", "\nBy hour\n" + "\n".join(chart))
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
