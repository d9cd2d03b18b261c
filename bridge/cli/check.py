"""Verbs that only read routes.yaml and sync.yaml: check, explain, schema; shell completion."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict

import click
from click.shell_completion import get_completion_class

from bridge.cli.options import how_many, pairs_of
from bridge.cli.output import Format, format_option, say, show_problems, show_rows
from bridge.crosscheck import misfits, unasked
from bridge.errors import BridgeError, ConfigError, Problem, StateUnreadable
from bridge.proxy.decision.decide import Decision
from bridge.proxy.gate import is_marked
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.telemetry import scrape as samples
from bridge.proxy.telemetry.surroundings import compare
from bridge.proxy.telemetry.workers import WorkerStatus, alone, read_all
from bridge.proxy.tools import explain as explaining
from bridge.proxy.tools import redirects as following
from bridge.proxy.tools import views
from bridge.proxy.tools.lint import lint, lint_the_rest
from bridge.proxy.tools.schema import text as schema_text
from bridge.reasons import Reason
from bridge.settings import Settings, doubts
from bridge.sync import entities
from bridge.sync.documents import Mirror
from bridge.units import several


@click.command()
@click.option("--strict", is_flag=True, help="Warnings fail too.")
@click.option(
    "--follow",
    is_flag=True,
    help="Follow redirects from each URL with GET, both sides answering, and find loops.",
)
@click.option(
    "--header", "headers", multiple=True, metavar="'Name: value'", help="With --follow. Repeatable."
)
@click.option("--cookie", "cookies", multiple=True, metavar="name=value", help="The same.")
@how_many("--hops", 20, 2, "Most redirects.", most=50)
@click.option(
    "--sql/--no-sql",
    "ask_sql",
    default=None,
    help="Also check the tables. Default: if BRIDGE_SQL_URL is set and answers.",
)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@format_option
def check(
    strict: bool,
    follow: bool,
    headers: tuple[str, ...],
    cookies: tuple[str, ...],
    hops: int,
    ask_sql: bool | None,
    urls: tuple[str, ...],
    output: Format,
) -> None:
    """Validate routes.yaml and sync.yaml, alone and together: all errors, with line and column.

    If BRIDGE_SQL_URL is set, it also checks that the tables have the columns of sync.yaml, and
    that each of their types has a rule.

    With --follow it also finds redirect loops before a flip: it asks for each address, both the
    Python side, as it would answer at 100%, and legacy, and follows the redirects of both. The
    exit code is 1 when there is a loop.

    \b
    Example:
      bridgectl check --strict
      bridgectl check --follow /project/bash /login https://www.example.org/
      bridgectl check --follow /account --cookie session=0123abcd
    """
    if follow != bool(urls):
        raise click.UsageError("--follow and addresses belong together: --follow /path /other")
    if (headers or cookies) and not follow:
        raise click.UsageError("--header and --cookie are for --follow")
    settings = Settings.from_environ()
    errors: list[Problem] = []
    warnings: list[Problem] = []
    table = mirror = None
    # The mirror alone is a way to use the bridge.
    alone = os.path.exists(settings.sync) and not os.path.exists(settings.routes) and not follow
    try:
        if not alone:
            table = load(settings.routes)
            warnings = lint(table, str(settings.routes))
            errors += views.misfits(table, str(settings.routes))
    except ConfigError as error:
        errors += error.problems
        warnings = lint_the_rest(settings.routes, error.problems)
    try:
        mirror = Mirror.of(settings)
    except ConfigError as error:
        errors += error.problems
    if table and mirror:
        errors += misfits(table, str(settings.routes), mirror.entities)
        warnings += unasked(table, str(settings.routes), mirror.entities)
    warnings += [Problem(name, 0, 0, says, hint) for name, says, hint in doubts()]
    looked = ""
    if mirror:
        looked = _look_at_tables(settings, ask_sql, errors, warnings)
    found = None
    if follow and table and not errors:
        starts = [following.start_of(table, url) for url in urls]
        found = following.follow(table, starts, headers=pairs_of(headers, cookies), hops=hops)
    if output == "json":
        result: dict[str, object] = {
            "ok": not errors and (found is None or found.good),
            "table": table.digest if table else "",
            "errors": [asdict(problem) for problem in errors],
            "warnings": [asdict(problem) for problem in warnings],
            "tables": looked,
        }
        if found:
            result["follow"] = {**asdict(found), "good": found.good}
        say(result, output)
    else:
        show_problems(errors, level="error")
        show_problems(warnings, level="warning")
        if errors:
            files = ", ".join(sorted({problem.file for problem in errors}))
            click.echo(f"{several(len(errors), 'error')} in {files}", err=True)
        elif mirror:
            if table:
                routes = several(len(table.routes), "route")
                click.echo(f"{settings.routes} is good: {routes}, table {table.digest}")
            else:
                click.echo(f"{settings.routes} is not there: the mirror alone is checked")
            if os.path.exists(settings.sync):
                names = ", ".join(mirror.entities) or "nothing is mirrored"
                click.echo(f"{settings.sync} is good: {names}")
                if looked:
                    click.echo(f"{settings.sync}: {looked}")
            if found:
                _show_found(found, len(urls), hops)
    if errors:
        raise click.exceptions.Exit(3)
    if (warnings and strict) or (found and not found.good):
        raise click.exceptions.Exit(1)


def _look_at_tables(
    settings: Settings, ask: bool | None, errors: list[Problem], warnings: list[Problem]
) -> str:
    """Compare sync.yaml with the database; what was looked at, in words. Raises ServerMissing
    where that was asked for and it does not answer."""
    file, yaml = entities.read(settings.sync)
    tables = [name for name, one in file.entities.items() if one.source and one.source.table]
    if not tables or yaml is None:
        return ""
    unseen = f"columns of {several(len(tables), 'table')} were not checked"
    if ask is False:
        return f"{unseen}, as you said"
    if not settings.sql_url:
        if ask:
            raise BridgeError("--sql asks the site's database: set BRIDGE_SQL_URL")
        return f"{unseen}: BRIDGE_SQL_URL is not set"
    # Not before it is needed: `bridgectl check` must be quick.
    from sqlalchemy.exc import SQLAlchemyError

    from bridge.queue.sql import cause as sqlcause
    from bridge.queue.sql.database import connect, reading
    from bridge.sync.propose.misfits import check as compare

    engine = connect(settings.sql_url)
    try:
        sqlcause.check_there(engine.url)
        with reading(engine) as connection:
            found = compare(connection, file, yaml)
    except (SQLAlchemyError, BridgeError) as error:
        told = error if isinstance(error, BridgeError) else sqlcause.unusable(error, engine.url)
        if ask:
            raise told from error
        return f"{unseen}: {told}"
    finally:
        engine.dispose()
    errors += found.errors
    warnings += found.warnings
    return f"columns of {several(found.tables, 'table')} were checked"


def _show_found(found: following.Found, urls: int, hops: int) -> None:
    """What --follow has found, for people."""
    requests = several(found.requests, "request")
    for number, loop in enumerate(found.loops, 1):
        click.echo(f"redirect loop {number}:")
        for hop in loop.hops:
            who = f"{hop.route or 'no route'}, {' or '.join(hop.sides)}"
            click.echo(f"  {hop.url}\n    → {hop.named}   ({who})")
        if loop.moved:
            click.echo(
                "    only for visitors who change sides: without cookies, while a share is "
                "changed, or when a handler fails"
            )
    for way in found.long:
        click.echo(f"more than {hops} redirects:")
        for url in way:
            click.echo(f"  {url}")
    for step in found.failed:
        if step.fallback:
            click.echo(
                f"no answer from python to {step.url}: {step.fallback}; see legacy's instead"
            )
        else:
            click.echo(f"no answer from {step.side} to {step.url}: {step.status}, {step.error}")
    for url in found.left:
        click.echo(f"not followed, on no site of routes.yaml: {url}")
    if not found.complete:
        click.echo(f"not finished after {requests}; follow fewer addresses")
    if found.good:
        addresses = several(urls, "address", "addresses")
        click.echo(f"no redirect loop from {addresses}, {requests}")


@click.command()
@click.argument("method")
@click.argument("url")
@click.option("--header", "headers", multiple=True, metavar="'Name: value'", help="Repeatable.")
@click.option("--cookie", "cookies", multiple=True, metavar="name=value", help="Repeatable.")
@click.option("--from", "peer", default="127.0.0.1", show_default=True, help="Visitor's address.")
@format_option
def explain(
    method: str,
    url: str,
    headers: tuple[str, ...],
    cookies: tuple[str, ...],
    peer: str,
    output: Format,
) -> None:
    """Show which route takes a request and why not the others, and who answers it and why. It also
    reports an open breaker of the route, by which legacy answers for a while, and workers that run
    another table, other code or other settings than this shell.

    \b
    Example:
      bridgectl explain GET /project/bash --cookie bridge_share=abcdefgh1234
    """
    settings = Settings.from_environ()
    table = load(settings.routes, handlers=Handlers.NAMED)
    pairs = pairs_of(headers, cookies)
    try:
        head = explaining.head_for(table, method.upper(), url, pairs, peer)
    except BridgeError as error:
        raise click.BadParameter(str(error), param_hint="URL") from None
    found = explaining.explain(table, head, time.time(), secrets.token_urlsafe(12), settings.secret)
    decision = found.decision
    workers = _workers(settings)
    breakers = _open_breakers(settings, decision, workers) if decision else {}
    otherwise = _in_workers(settings, table.digest, decision, workers or ()) if decision else []
    result = {
        "status": found.status,
        "why": found.why,
        "backend": decision.backend if decision else "bridge",
        "reason": decision.reason if decision else "refused",
        "site": decision.site if decision else "",
        "route": decision.route.name if decision and decision.route else None,
        "params": {key: str(value) for key, value in decision.params.items()} if decision else {},
        "bucket": decision.bucket if decision else None,
        "own_edits": (own_edits := _own_edits(settings, decision, head.method)),
        "breakers": breakers,
        "workers": otherwise,
        "routes": [asdict(verdict) for verdict in found.verdicts],
    }
    if decision is None or output == "json":
        say(result, output, f"refused with {found.status}: {found.why}")
        return
    route = decision.route.name if decision.route else "no route"
    variables = ", ".join(f"{key}={value}" for key, value in decision.params.items())
    with_them = f" ({variables})" if variables else ""
    say(None, output, f"{decision.backend} answers: {route}{with_them}")
    say(None, output, f"because: {decision.reason} – {found.why}")
    for says in own_edits:
        say(None, output, f"own edits: {says}")
    for cause, count in breakers.items():
        workers_are = several(count, "worker")
        say(None, output, f"but legacy answers now in {workers_are}: breaker open, {cause}")
    for says in otherwise:
        say(None, output, f"but {says}")
    if decision.set_key:
        say(None, output, "(without a sticky key: a new visitor; the bucket differs each time)")
    rows = [
        {"": "→" if verdict.taken else "", **asdict(verdict), "why": verdict.why or "taken"}
        for verdict in found.verdicts
    ]
    show_rows(rows, {"": "", "route": "Route", "path": "Path", "why": "Why"}, output)


def _own_edits(settings: Settings, decision: Decision | None, method: str) -> list[str]:
    """What is done for visitors' own edits of entities of the database's log, in sentences."""
    if decision is None or not settings.freshness_keys:
        return []
    # Not before it is needed: it loads drivers.
    from bridge.gating import gate_of

    try:
        gate = gate_of(settings)
    except BridgeError as error:
        return [f"not known, {error}"]
    if gate is None or gate.marker is None:
        return []
    spec = decision.route.spec if decision.route else None
    found = []
    if of_log := sorted(gate.log.intersection(spec.reads if spec else ())):
        found.append(
            f"who has just written waits until {', '.join(of_log)} in MongoDB is as new as the "
            "log was; otherwise legacy answers"
        )
    ends = "the database is asked where its log ends, before the answer goes on"
    if is_marked(method, 200, writes=spec is not None and spec.writes):
        found.append(f"after legacy's answer {ends}")
    else:
        found.append(f"if legacy answers with a redirect, {ends}")
    return found


def _workers(settings: Settings) -> list[WorkerStatus] | None:
    """The workers that run, or None where this user may not know."""
    try:
        return read_all(settings.state_dir)
    except StateUnreadable as error:
        click.echo(f"bridge: {error}; whether a breaker is open is not known", err=True)
        return None


def _open_breakers(
    settings: Settings, decision: Decision, workers: Sequence[WorkerStatus] | None
) -> dict[str, int]:
    """By cause, in how many workers the Python side that was decided on is left alone now."""
    route = decision.route
    if not decision.python or route is None or not workers:
        return {}
    found = samples.breakers(settings.state_dir)
    # As `Conversation.asks_python`: a route without a fallback is left alone for loops only.
    causes = ("failures", Reason.REDIRECT_LOOP) if route.spec.fallback else (Reason.REDIRECT_LOOP,)
    open_in = {cause: found.get((route.name, cause), (0, 0))[0] for cause in causes}
    return {cause: count for cause, count in open_in.items() if count}


def _in_workers(
    settings: Settings, digest: str, decision: Decision, workers: Sequence[WorkerStatus]
) -> list[str]:
    """What workers would do otherwise than this file and this shell say, in sentences."""
    of = f"of {several(len(workers), 'worker')}"
    found = []
    if other := sum(worker.digest != digest for worker in workers):
        found.append(f"{other} {of} run another table than the file's, see `bridgectl routes`")
    found += [
        f"{one.server} of {one.backend} is {one.says(len(workers))}"
        for one in alone(workers)
        if one.backend == decision.backend
    ]
    if decision.python and decision.route:
        without = [worker for worker in workers if worker.missing({decision.route.name})]
        if without:
            says = without[0].error or "it cannot be imported"
            found.append(
                f"legacy answers now in {len(without)} {of}, which have no Python side: {says}"
            )
        found += compare(workers, settings).says
    return found


@click.command()
@click.argument("file", type=click.Choice(["routes", "sync", "types"]), default="routes")
def schema(file: str) -> None:
    """Print the JSON Schema of routes.yaml or of sync.yaml, for editors; or the table of column
    types in docs/sync-yaml.md.

    \b
    Example:
      bridgectl schema > routes.schema.json
      (then, as the first line of routes.yaml)
      # yaml-language-server: $schema=routes.schema.json
    """
    if file == "types":
        from bridge.sync.propose.documented import table

        click.echo(table(), nl=False)
        return
    click.echo(schema_text() if file == "routes" else entities.schema_text(), nl=False)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example:
      bridgectl completion bash > ~/.local/share/bash-completion/completions/bridgectl
    """
    from bridge.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None  # click knows all of these shells
    click.echo(kind(cli, {}, "bridgectl", "_BRIDGECTL_COMPLETE").source())
