"""The verb that asks both sides and says where they differ: compare."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge import logs as logs_of_handlers
from bridge.cli.options import how_many, pairs_of
from bridge.cli.output import Format, as_json, format_option, headings, show_rows, visible
from bridge.errors import BridgeError, WrongUsage
from bridge.settings import Settings
from bridge.units import several

if TYPE_CHECKING:
    from bridge.evidence.compare.chosen import Chosen, One
    from bridge.evidence.comparers.difference import Difference
    from bridge.evidence.order import Verdict
    from bridge.proxy.routing.table import RouteTable

_SHOWN = 20  # groups of differences


@click.command()
@click.option(
    "--log",
    "logs",
    multiple=True,
    metavar="FILE",
    help="Access log whose GETs are asked. Repeatable.",
)
@click.option("--log-format", metavar="FORMAT", help="The log's format, if it cannot be guessed.")
@how_many("--sample", 1000, 0, "With --log: so many distinct addresses, of all routes. 0: all.")
@click.option(
    "--rate",
    default="10/s",
    show_default=True,
    metavar="N/s",
    help="Most requests to legacy; also 30/m. 0: as fast as it goes.",
)
@how_many("--concurrency", 4, 1, "Comparisons at a time.", most=64)
@click.option("--cookie", "cookies", multiple=True, metavar="name=value", help="Repeatable.")
@click.option("--header", "headers", multiple=True, metavar="'Name: value'", help="Repeatable.")
@click.option("--afresh", is_flag=True, help="Do not go on with a run that was stopped.")
@click.option("--suggest", is_flag=True, help="Print rules for routes.yaml against what was noise.")
@click.argument("what", nargs=-1, metavar="[ROUTE]... [URL]...")
@format_option
def compare(
    logs: tuple[str, ...],
    log_format: str | None,
    sample: int,
    rate: str,
    concurrency: int,
    cookies: tuple[str, ...],
    headers: tuple[str, ...],
    afresh: bool,
    suggest: bool,
    what: tuple[str, ...],
    output: Format,
) -> None:
    """Ask both sides for the same, and say where their answers differ.

    Python answers as it would at 100%, in this process; legacy is asked as it is. Only GETs are
    asked. Where the answers differ, both are asked again: what legacy does not answer twice alike
    is noise, what is gone when the documents have moved on is lag, and what stays is different.

    A run that was stopped goes on where it was, when the same command is given again. The exit code
    is 1 when something is different.

    \b
    Example:
      bridgectl compare --log /var/log/nginx/access.log --sample 500
      bridgectl compare project --log access.jsonl --cookie PHPSESSID=0123abcd
      bridgectl compare /project/bash /projects?p=2
    """
    urls = [one for one in what if one.startswith(("/", "http://", "https://"))]
    names = [one for one in what if one not in urls]
    if bool(logs) == bool(urls):
        raise click.UsageError("name addresses, or a log with --log FILE")
    if log_format and not logs:
        raise click.UsageError("--log-format is for --log")
    logs_of_handlers.configure(once=True)
    _Comparison(
        Settings.from_environ(),
        urls=urls,
        logs=[Path(one) for one in logs],
        log_format=log_format,
        routes=names,
        sample=sample,
        rate=_rate(rate),
        at_once=concurrency,
        headers=pairs_of(headers, cookies),
        afresh=afresh,
        suggest=suggest,
    ).run(output)


def _rate(text: str) -> float:
    """Requests a second. Raises BadParameter."""
    from bridge.units import parse_rate

    if text in ("0", "0/s"):
        return 0.0
    try:
        return parse_rate(text)
    except ValueError as error:
        raise click.BadParameter(f"--rate: {error}") from None


class _Comparison:
    """One run of the command."""

    def __init__(
        self,
        settings: Settings,
        *,
        urls: Sequence[str],
        logs: Sequence[Path],
        log_format: str | None,
        routes: Sequence[str],
        sample: int,
        rate: float,
        at_once: int,
        headers: list[tuple[str, str]],
        afresh: bool,
        suggest: bool,
    ) -> None:
        from bridge.evidence.compare.run import Tally
        from bridge.evidence.differences.store import Evidence
        from bridge.evidence.release import release_of, rules_of
        from bridge.proxy.routing.load import load

        self.settings, self.urls, self.logs, self.log_format = settings, urls, logs, log_format
        self.routes, self.sample, self.rate = routes, sample, rate
        self.at_once, self.headers, self.afresh, self.suggest = at_once, headers, afresh, suggest
        self.table: RouteTable = load(settings.routes)
        handlers = [route.handler for route in self.table.routes]
        self.release, self.data_rules = release_of(handlers, settings), rules_of(settings)
        self.evidence = Evidence(settings.state_dir, self.table.file.compare)
        self.tally = Tally()
        self.groups: Counter[tuple[str, str, str]] = Counter()
        self.first: dict[tuple[str, str, str], tuple[str, str, str]] = {}
        self.why: Counter[tuple[str, str, str]] = Counter()
        self.noise: list[tuple[str, Difference]] = []
        self.used: set[str] = set()
        self.stop = threading.Event()

    def chosen(self) -> Chosen:
        """The requests. Raises BridgeError, and WrongUsage for a route without a Python side."""
        from bridge.evidence.compare.chosen import from_addresses, from_log
        from bridge.evidence.logs import entries
        from bridge.yamlfile import did_you_mean

        known = [route.name for route in self.table.routes if route.app is not None]
        for name in self.routes:
            if name not in known:
                hint = did_you_mean(name, known) or f"known: {', '.join(known) or 'none'}"
                raise WrongUsage(f"no route `{name}` with a Python side; {hint}")
        if self.urls:
            return from_addresses(self.table, self.urls, self.headers, self.routes)
        lines = entries(self.logs, self.log_format)
        return from_log(self.table, lines, self.headers, self.routes, self.sample)

    def run(self, output: Format) -> None:
        chosen = self.chosen()
        if not chosen.ones:
            left = ", ".join(f"{count:,} {what}" for what, count in chosen.left.most_common(3))
            raise BridgeError(f"nothing to compare: {left or 'no request was found'}")
        with ExitStack() as ends:
            through = self._ask(chosen, ends)
        whole = through == len(chosen.ones)
        self._show(chosen, through, whole, output)
        if not whole:
            raise click.exceptions.Exit(130)
        if not any(kind.is_compared for kinds in self.tally.kinds.values() for kind in kinds):
            raise BridgeError("nothing was compared, so nothing is known; it is said above why")
        if self.tally.different:
            raise click.exceptions.Exit(1)

    def _ask(self, chosen: Chosen, ends: ExitStack) -> int:
        """Compare what is not through yet; how many are through in the end."""
        from rich.progress import TextColumn, TimeRemainingColumn

        from bridge.cli.working import bar
        from bridge.evidence.asking import Both
        from bridge.evidence.compare.run import Paced, run
        from bridge.evidence.comparers.ignoring import Rules
        from bridge.evidence.differences.found import Found
        from bridge.evidence.judge import Judge
        from bridge.evidence.order import Order

        file, ones = self.table.file, chosen.ones
        names = sorted({one.route for one in ones})
        resumed = self._resumed(ones)
        for number, kind in resumed.through.items():
            if number < len(ones):
                self.tally.note(ones[number].route, kind)
        evidence = self.evidence
        ends.callback(evidence.close)
        both = Both(self.table, handlers=self.at_once)
        ends.callback(both.close)
        judge = ends.enter_context(Judge(children=min(self.at_once, os.cpu_count() or 1)))
        legacy = Paced(both.legacy, self.rate)
        rules = {name: Rules.of(file.compare, name) for name in names}
        again = {one.name: one.spec.compare.again for one in self.table.routes}
        progress = bar(TextColumn("{task.fields[says]}"), TimeRemainingColumn())
        ends.enter_context(progress)
        task = progress.add_task(
            "comparing", total=len(ones), completed=len(resumed.through), says=""
        )
        began = time.monotonic()

        def told(number: int, one: One, verdict: Verdict) -> None:
            self._note(one, verdict)
            evidence.note(
                Found(
                    one.route,
                    "compare",
                    verdict.kind,
                    one.asked,
                    verdict.legacy,
                    verdict.python,
                    verdict.differences,
                    time.time(),
                    self.release,
                    self.data_rules,
                    verdict.why,
                )
            )
            resumed.note(number, verdict.kind)
            rate = legacy.requests / max(time.monotonic() - began, 0.001)
            says = f"{self.tally.different:,} different, {rate:.1f} requests/s to legacy"
            progress.update(task, advance=1, says=says)

        left = [(at, one) for at, one in enumerate(ones) if at not in resumed.through]
        order = Order(legacy, both.python, judge)
        before = signal.signal(signal.SIGINT, lambda number, frame: self.stop.set())
        try:
            run(order, left, rules, again, told, at_once=self.at_once, stop=self.stop)
        finally:
            signal.signal(signal.SIGINT, before)
            resumed.close(whole=len(resumed.through) >= len(ones))
        return len(resumed.through)

    def _resumed(self, ones: Sequence[One]) -> Any:
        from bridge.evidence.compare.resumed import Resumed

        parts = [self.release, self.data_rules, repr(self.table.file.compare)]
        parts += [f"{one.route} {one.asked}" for one in ones]
        state_dir = self.settings.state_dir
        try:
            return Resumed.of(state_dir, parts, afresh=self.afresh)
        except OSError as error:
            raise BridgeError(
                f"the state directory {state_dir} cannot be used: {error.strerror}; set "
                "BRIDGE_STATE_DIR to a folder that this user may write"
            ) from None

    def _note(self, one: One, verdict: Verdict) -> None:
        """Count it, and keep what is said in the end: a terminal's text ends up in logs."""
        from bridge.evidence.answers import Kind
        from bridge.evidence.differences.secrets import Secrets

        self.tally.note(one.route, verdict.kind)
        if verdict.kind is Kind.NOISE and self.suggest:
            self.noise += [(one.route, difference) for difference in verdict.differences]
        elif verdict.kind in (Kind.DECLINED, Kind.NOT_COMPARED):
            self.why[one.route, verdict.kind, verdict.why[:120]] += 1
        elif verdict.kind is Kind.DIFFERENT:
            answers = [answer for answer in (verdict.legacy, verdict.python) if answer is not None]
            headers = [one.asked.headers, *(answer.headers for answer in answers)]
            secrets = Secrets(headers, [one.asked.target])
            for difference in verdict.differences:
                group = one.route, difference.what, difference.group
                if group not in self.first:
                    place = difference.place
                    legacy = secrets.out_of_excerpt(place, difference.legacy)
                    python = secrets.out_of_excerpt(place, difference.python)
                    self.first[group] = secrets.out_of(one.asked.target), legacy, python
            self.groups.update({(one.route, d.what, d.group) for d in verdict.differences})
        self.used |= verdict.used

    def _show(self, chosen: Chosen, through: int, whole: bool, output: Format) -> None:
        from bridge.evidence.answers import Kind
        from bridge.evidence.rate import upper_bound

        rows = []
        for route, kinds in sorted(self.tally.kinds.items()):
            compared = sum(kinds[kind] for kind in Kind if kind.is_compared)
            rows.append(
                {
                    "route": route,
                    "compared": compared,
                    **{kind.value: kinds[kind] for kind in Kind},
                    "bound": upper_bound(kinds[Kind.DIFFERENT], compared),
                }
            )
        unused = self._without_effect(chosen)
        rules = self._suggested() if self.suggest else []
        known = {
            (group.route, group.what, group.place): group.id
            for group in self.evidence.groups()
            if group.kind is Kind.DIFFERENT
        }
        groups = [
            {
                "id": known.get((route, what, place), ""),
                "route": route,
                "what": what,
                "place": place,
                "count": count,
                "example": self.first[route, what, place][0],
                "legacy": self.first[route, what, place][1],
                "python": self.first[route, what, place][2],
            }
            for (route, what, place), count in self.groups.most_common()
        ]
        if output == "json":
            result = {
                "complete": whole,
                "through": through,
                "requests": len(chosen.ones),
                "routes": rows,
                "differences": groups,
                "not_compared": [[*why, count] for why, count in self.why.most_common()],
                "left": dict(chosen.left),
                "unused_rules": unused,
                "suggested": rules,
            }
            click.echo(as_json(result))
            return
        self._show_table(rows, groups, unused, rules)
        if not whole:
            left = several(len(chosen.ones) - through, "request")
            click.echo(f"stopped; {left} left: give the same command again to go on", err=True)

    def _without_effect(self, chosen: Chosen) -> list[str]:
        """The rules of routes.yaml that could have hidden something here and did not."""
        from bridge.evidence.comparers.ignoring import Rule

        routes = {one.route for one in chosen.ones}
        rules = [
            Rule.of(rule).text
            for rule in self.table.file.compare.ignore
            if not rule.routes or routes & set(rule.routes)
        ]
        return [rule for rule in rules if rule not in self.used]

    def _suggested(self) -> list[dict[str, Any]]:
        """Rules against the noise that there was, each with its routes where these are not all."""
        from bridge.evidence.comparers.suggesting import suggest

        of: dict[tuple[str, str], list[str]] = {}
        for route in sorted(self.tally.kinds):
            for rule in suggest(one for name, one in self.noise if name == route):
                of.setdefault(next(iter(rule.items())), []).append(route)
        every = len(self.tally.kinds)
        return [
            {kind: value} if len(routes) == every else {kind: value, "routes": routes}
            for (kind, value), routes in of.items()
        ]

    def _show_table(
        self,
        rows: Sequence[dict[str, Any]],
        groups: Sequence[dict[str, Any]],
        unused: Sequence[str],
        rules: Sequence[dict[str, Any]],
    ) -> None:
        from bridge.evidence.rate import percent

        words = ("same", "noise", "lag", "different", "declined", "not-compared")
        shown = [
            {**row, "bound": f"under {percent(row['bound'])}" if row["compared"] else ""}
            for row in rows
        ]
        columns = headings("route", "compared", *words, "bound: Different (95%)")
        show_rows(shown, columns, "table")
        for route, kind, why in list(self.why)[:_SHOWN]:
            count = self.why[route, kind, why]
            click.echo(visible(f"{route}: {count:,} {kind}: {why}"))
        if groups:
            click.echo()
            columns = headings(
                "id", "route", "count: Requests", "what", "place", "legacy", "python", "example"
            )
            show_rows(groups[:_SHOWN], columns, "table")
            more = f"; {len(groups) - _SHOWN:,} more" if len(groups) > _SHOWN else ""
            click.echo(f"`bridgectl differences show ID` shows both sides{more}")
        for rule in unused:
            click.echo(visible(f"the rule {rule} of routes.yaml hid nothing"))
        if rules:
            click.echo("\ncompare:\n  ignore:")
            for suggested in rules:
                click.echo(visible(f"    - {as_json(suggested)}"))
