"""The verb that says where to begin, by access logs: survey."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.output import Format, as_json, format_option, headings, say, show_rows
from bridge.cli.reading import log_options, reading

if TYPE_CHECKING:
    from bridge.evidence.logs import Reader
    from bridge.evidence.survey import Rule, Survey

_DAY = 86400.0
_BAR = 30


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
    with reading(logs, log_format) as reader:
        for batch in reader.batches():
            found.add(batch)
    rules = found.rules()
    proposals = propose(rules, found.total)
    if as_routes:
        from bridge.evidence.survey.routesfile import routes_file

        named = hosts or _hosts(found)
        queries = found.progress is None  # the bridge's own log has none
        click.echo(routes_file(proposals[:top], named, legacy, queries=queries), nl=False)
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
    from pydantic import ValidationError

    from bridge.proxy.routing.models import Site

    good = []
    for name in sorted(found.hosts, key=lambda one: -found.hosts[one])[:5]:
        try:
            Site(hosts=(name.lower(),), legacy="php")
        except ValidationError:
            continue
        if "*" not in name and name not in ("", "-", "_"):
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
        if found.scripts.full:
            click.echo(
                "bridge: the log asks for too many scripts to say which are unused", err=True
            )
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
