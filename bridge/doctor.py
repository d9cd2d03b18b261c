"""The examination of every configured server: routes.yaml, legacy, the broker, MongoDB, clocks.

Only asks, never changes. A server that does not answer is named with its URL, without the
password, and with the command that starts it.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import redis
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from sqlalchemy.exc import SQLAlchemyError

from bridge import https, operator
from bridge.errors import BridgeError, ConfigError, ServerAway, StateUnreadable
from bridge.findings import Finding
from bridge.proxy.routing.load import Handlers, load
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.serve.lock import AFTER_A_KILL, hands_over, killed
from bridge.proxy.telemetry import scrape as samples
from bridge.proxy.telemetry import workers as status
from bridge.proxy.telemetry.surroundings import RESTART, compare
from bridge.proxy.telemetry.workers import WorkerStatus
from bridge.proxy.tools.reach import Reached, ask_all
from bridge.queue import cluster
from bridge.queue.broker.connection import connect, kind_of
from bridge.queue.sql.cause import cause_of, check
from bridge.queue.sql.outbox import Outbox
from bridge.settings import BROKER_URL, MONGODB_URL, Settings, doubts, redact_text, redact_url
from bridge.sync.documents import Mirror
from bridge.sync.examine import collections, log, rights
from bridge.sync.examine import sources as examine_sources
from bridge.sync.propose.examine import types
from bridge.sync.relay import Sources
from bridge.sync.triggers.findings import findings as triggers
from bridge.units import several

__all__ = ["Finding", "examine"]

_PATIENCE = 3.0  # seconds for each server
_SKEW = 2.0  # seconds; Date headers have whole seconds
_MOST = 5  # files that are named one by one
_LATE = 60.0  # seconds that a row of the outbox may wait


def examine(settings: Settings) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    alone = _mirror_alone(settings)
    try:
        if alone:
            yield Finding("note", "routes.yaml", str(settings.routes), "not there: no proxy")
        else:
            yield from _proxy(settings)
    except ConfigError as error:
        for problem in error.problems:
            where = f"{problem.file}:{problem.line}:{problem.column}"
            yield Finding("bad", "routes.yaml", where, problem.message, problem.hint)
    for name, says, hint in doubts():
        yield Finding("bad", "environment", name, says, hint)
    if not alone:
        yield from _state(settings)
        yield from _odd_lines(settings)
    if settings.uses_broker:
        yield from _or_nothing(settings, _broker(settings), settings.broker_url)
    else:
        yield _unused("broker", "BRIDGE_BROKER_URL")
    if settings.uses_mongodb:
        found = _mongodb(settings.mongodb_url)
        yield from _or_nothing(settings, found, settings.mongodb_url)
    else:
        yield _unused("MongoDB", "BRIDGE_MONGODB_URL")
    yield from _outbox(settings)
    yield from log(settings)
    yield from types(settings)


def _mirror_alone(settings: Settings) -> bool:
    """Whether there is a mirror and no proxy, which is a way to use it."""
    return os.path.exists(settings.sync) and not os.path.exists(settings.routes)


def _proxy(settings: Settings) -> Iterator[Finding]:
    """routes.yaml and its backends. Raises ConfigError."""
    table = load(settings.routes)
    yield Finding("ok", "routes.yaml", str(settings.routes), several(len(table.routes), "route"))
    asked = ask_all(table.file)
    yield from _once(one for name, found in asked for one in _legacy(name, found, table))
    for name, backend in table.file.backends.items():
        yield from _once(
            one for url in backend.urls for one in https.look(name, backend, url, table)
        )
    if not settings.secret and any(route.app for route in table.routes):
        yield Finding(
            "note", "secret", "BRIDGE_SECRET", "not set", "set it to use `bridgectl preview`"
        )


def _once(findings: Iterable[Finding]) -> Iterator[Finding]:
    """What is the same of several servers said once, with all of them."""
    found = list(findings)
    where: dict[Finding, dict[str, None]] = {}
    for one in found:
        where.setdefault(replace(one, where=""), {})[one.where] = None
    for one in found:
        if one.state == "ok":
            yield one
        elif servers := where.pop(replace(one, where=""), None):
            yield replace(one, where=", ".join(servers))


def _or_nothing(settings: Settings, found: Iterable[Finding], url: str) -> Iterator[Finding]:
    """What was found of the server at `url`. One that nobody named is asked because there is a
    sync.yaml; it may have come with the example, and the proxy alone needs none."""
    named = settings.sql_url or url not in (BROKER_URL, MONGODB_URL)
    alone = not named and os.path.exists(settings.routes)
    for one in found:
        if alone and one.state == "bad":
            do = f"{one.do}; or remove {settings.sync} when nothing is mirrored"
            yield replace(one, do=do)
        else:
            yield one


def _unused(what: str, variable: str) -> Finding:
    """The proxy alone needs neither of them."""
    return Finding("note", what, variable, "not used", f"to use it: {variable}, or a sync.yaml")


def _state(settings: Settings) -> Iterator[Finding]:
    where = str(settings.state_dir)
    try:
        workers = status.read_all(settings.state_dir)
    except StateUnreadable:
        says, advice = "cannot be read as this user", "be its owner, or one of its group"
        yield Finding("bad", "state directory", where, says, advice)
        return
    yield from _writable(settings)
    if (pid := killed(settings.state_dir)) is not None:
        says = f"bridgectl serve (process {pid}) was killed or crashed"
        yield Finding("bad", "workers", where, says, AFTER_A_KILL)
    elif not workers:
        yield Finding(
            "note", "workers", where, "none runs", "bridgectl serve --bind 127.0.0.1:8080"
        )
    if not workers:
        return
    found = list(_workers(workers, settings))
    yield from found
    if not found:
        yield Finding("ok", "workers", where, f"{several(len(workers), 'runs', 'run')}")


def _writable(settings: Settings) -> Iterator[Finding]:
    """Only `bridgectl serve` must be able to write there. It may be another user's, and this one
    an operator, who may read it."""
    where = str(settings.state_dir)
    try:
        owner = os.stat(where).st_uid
    except OSError:
        return  # there is none yet
    if os.access(where, os.W_OK, effective_ids=True):
        return
    if owner == os.geteuid():
        yield Finding("bad", "state directory", where, "not writable", f"chmod u+rwx {where}")
    else:
        says = f"belongs to {_user(owner)}; this user reads it, which is enough for an operator"
        yield Finding("note", "state directory", where, says)


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _workers(workers: Sequence[WorkerStatus], settings: Settings) -> Iterator[Finding]:
    """What is wrong with those that run: with their table, their code, their settings."""
    where, of = str(settings.state_dir), f"of {several(len(workers), 'worker')}"
    if unwatched := samples.unwatched(settings.state_dir):
        says = f"{unwatched} {of} no longer notice changes of routes.yaml"
        yield Finding("bad", "workers", where, says, "restart them; their log says why")
    try:
        digest = load(settings.routes, handlers=Handlers.NAMED).digest
    except ConfigError:
        digest = ""
    if old := [worker for worker in workers if worker.error and worker.digest != digest]:
        says = f"{len(old)} {of} run an old table"
        yield Finding(
            "bad", "workers", where, says, "mend routes.yaml; `bridgectl check` shows where"
        )
    if other := [worker for worker in workers if not worker.error and worker.digest != digest]:
        says = f"{len(other)} {of} run another table than {settings.routes} is"
        yield Finding("bad", "workers", where, says, "is BRIDGE_ROUTES equal? `bridgectl routes`")
    parts = [worker for worker in workers if worker.error and worker.digest == digest]
    if parts:
        says = f"{len(parts)} {of} run without a handler or another part: {parts[0].error}"
        do = "if `bridgectl check` finds nothing, their environment or code differs: restart them"
        yield Finding("bad", "workers", where, says, do)
    if stopped := [worker for worker in workers if worker.stopped]:
        pids = " ".join(str(worker.pid) for worker in stopped)
        says = f"{len(stopped)} {of} are stopped, and answer no requests"
        yield Finding("bad", "workers", where, says, f"kill -CONT {pids}")
    if (says := operator.broken(settings.state_dir)) and not hands_over(settings.state_dir):
        do = "mend that: bridgectl serve tries again every two seconds"
        yield Finding("bad", "operator's listener", where, says, do)
    for one in status.alone(workers):
        do = "workers ask it again by themselves; look into its log, or take it out of `url:`"
        yield Finding("bad", f"legacy {one.backend}", one.server, one.says(len(workers)), do)
    for stranger in status.strangers(workers):
        state = "bad" if stranger.peer == "unix" else "note"
        says = f"in {stranger.workers} {of}, {stranger.says}"
        yield Finding(state, "trusted_proxies", str(settings.routes), says, stranger.do)
    differs = compare(workers, settings)
    for file in differs.code[:_MOST]:
        says = "is newer than what workers have imported"
        yield Finding("bad", "workers", file, says, RESTART)
    for name, how in differs.settings.items():
        do = "start `bridgectl serve` with it (EnvironmentFile= in its unit), or mend it here"
        yield Finding("bad", "environment", name, how, do)


def _odd_lines(settings: Settings) -> Iterator[Finding]:
    """Lines of legacy's answers that were dropped: visitors miss what they say."""
    try:
        found = samples.odd_lines(settings.state_dir)
    except StateUnreadable:
        return  # said already
    for (backend, line), count in found.items():
        times = several(count, "time")
        says = f"{times} it sent a line that is not a header and was dropped: {line!a} …"
        advice = "mend the header() in PHP, or the line of the web server, that writes it"
        yield Finding("note", f"legacy {backend}", str(settings.state_dir), says, advice)


def _skew(what: str, where: str, theirs: float, ours: float) -> Iterator[Finding]:
    if abs(theirs - ours) > _SKEW:
        says = f"its clock differs by {theirs - ours:+.1f} s"
        yield Finding("bad", what, where, says, "run an NTP client on both machines")


def _legacy(name: str, found: Reached, table: RouteTable) -> Iterator[Finding]:
    what = f"legacy {name}"
    start = "start its web server, for example `systemctl start php8.2-fpm nginx`"
    do = "" if found.well else start if found.error else "look into its error log"
    yield Finding("ok" if found.well else "bad", what, found.where, found.says, do)
    sites = [site for site, spec in table.file.sites.items() if spec.legacy == name]
    plain = [site for site in sites if not table.file.sites[site].compress]
    if found.compressed and plain and any(one.app for one in table.routes):
        advice = f"write `compress: {{}}` in routes.yaml under `sites: {plain[0]}:`"
        yield Finding(
            "note", what, found.where, "compresses its pages, and Python's are not", advice
        )
    if found.date is not None:
        yield from _skew(what, found.where, found.date, time.time())


def _broker(settings: Settings) -> Iterator[Finding]:
    url = settings.broker_url
    where = redact_url(url)
    if kind_of(url).has_members:
        yield from cluster.examine(url, settings.rabbitmq_api)
        return
    try:
        with connect(url) as broker:
            if broker.redis_client is None:
                yield Finding("ok", "broker", where, "answers")
            else:
                yield from _redis(broker.redis_client, where)
    except ServerAway as error:
        name, start = kind_of(url).server(url)
        name = name.partition(",")[0].removeprefix("the ")
        yield Finding("bad", name, where, f"does not answer: {error}", start)
    except BridgeError:
        hint = "write BRIDGE_BROKER_URL as redis+streams://host:port/database"
        yield Finding("bad", "broker", where, "the URL cannot be read", hint)


def _redis(client: Any, where: str) -> Iterator[Finding]:
    bad = partial(Finding, "bad", "Redis", where)
    try:
        before = time.time()
        seconds, micro = client.time()
        info = client.info()
        yield Finding("ok", "Redis", where, f"answers, version {info['redis_version']}")
        if not info.get("aof_enabled"):
            yield bad(
                "has no append-only file: kill -9 loses acknowledged events",
                "redis-cli config set appendonly yes, and in redis.conf",
            )
        if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
            yield bad(
                f"maxmemory-policy is {policy}: a full Redis drops events",
                "redis-cli config set maxmemory-policy noeviction, and in redis.conf",
            )
        if int(str(info["redis_version"]).split(".")[0]) < 7:
            yield bad("is older than 7.0", "install Redis 7.0 or newer")
        yield from _skew("Redis", where, seconds + micro / 1e6, before)
    except redis.RedisError as error:
        yield bad(f"does not work: {error}", "look into its log")


def _outbox(settings: Settings) -> Iterator[Finding]:
    """sync.yaml, the outbox in the site's database, and the spool directories."""
    try:
        sources, mirror = Sources.of(settings), Mirror.of(settings)
    except ConfigError as error:
        for problem in error.problems:
            where = f"{problem.file}:{problem.line}:{problem.column}"
            yield Finding("bad", "sync.yaml", where, problem.message, problem.hint)
        return
    except BridgeError as error:
        yield Finding("bad", "SQL", redact_url(settings.sql_url), str(error), "BRIDGE_SQL_URL")
        return
    if sources.site is not None:
        where = redact_url(settings.sql_url)
        try:
            check(sources.site.engine)
            yield from examine_sources(sources.site.engine, mirror)
            if sources.site in sources.in_use():
                yield from triggers(sources.site.engine, mirror, sources.site)
                yield from _backlog(sources.site, where)
        except SQLAlchemyError as error:
            yield _unreadable(sources.site, where, error)
        except BridgeError as error:
            yield Finding("bad", "SQL", where, str(error), "BRIDGE_SQL_URL")
    if settings.uses_mongodb:
        yield from collections(settings)
    for spool in sources.spools:
        if not os.access(spool.directory, os.R_OK | os.W_OK | os.X_OK):
            says, hint = "cannot be read and written", "make it; PHP and the relay both write to it"
            yield Finding("bad", "spool", str(spool.directory), says, hint)
            continue
        for path in spool.strangers():
            says = "is a link, a FIFO or the like, not a file of PHP's, and is not read"
            yield Finding("bad", "spool", str(path), says, "remove it; who put it there?")


def _backlog(outbox: Outbox, where: str) -> Iterator[Finding]:
    """What waits in an outbox. Raises SQLAlchemy's errors."""
    bad = partial(Finding, "bad", "outbox", where)
    found = outbox.backlog()
    late = found.lag > _LATE
    yield Finding(
        "bad" if late else "ok",
        "outbox",
        where,
        f"{several(found.rows, 'row waits', 'rows wait')}, the oldest for {found.lag:.0f} s"
        + (f": {found.oldest}" if late else ""),
        "is `bridgectl relay` running? `bridgectl status` and its log say more" if late else "",
    )
    if found.buried:
        says = f"the events of {several(found.buried, 'row')} are dead letters"
        yield bad(says, "bridgectl dead list, then retry or drop")
    if found.ahead > _SKEW:
        says = f"its oldest row is {found.ahead:.0f} s in the future"
        do = "the machine that wrote it needs an NTP client, or a newer BridgeProducer.php"
        yield bad(says, do)
    yield from rights(outbox)


def _unreadable(outbox: Outbox, where: str, error: SQLAlchemyError) -> Finding:
    cause = cause_of(error, outbox.engine.url)
    if cause.kind == "no table":
        says = f"there is no table {outbox.table.fullname}"
        return Finding("bad", "outbox", where, says, "php/sql/ has it, for each database")
    return Finding("bad", "outbox", where, f"the database {cause.says}", cause.do)


def _mongodb(url: str) -> Iterator[Finding]:
    where = redact_url(url)
    bad = partial(Finding, "bad", "MongoDB", where)
    patience = int(_PATIENCE * 1000)
    client: MongoClient[dict[str, Any]]
    try:
        client = MongoClient(url, serverSelectionTimeoutMS=patience, tz_aware=True)
    except (PyMongoError, ValueError) as error:
        yield bad(f"the URL is wrong: {redact_text(error, url)}", "BRIDGE_MONGODB_URL")
        return
    with client:
        try:
            before = time.time()
            hello = client.admin.command("hello")
        except PyMongoError as error:
            says = f"does not answer: {str(error).partition(' (configured')[0].partition(',')[0]}"
            yield bad(says, "mongod --replSet rs0 --dbpath DIR, once then rs.initiate()")
            return
        if "setName" not in hello:
            yield bad(
                "is not a replica set: no majority writes, no change streams",
                "start it with --replSet rs0, then rs.initiate()",
            )
        elif not hello.get("isWritablePrimary") and not hello.get("primary"):
            yield bad("has no primary", "rs.status() says why")
        else:
            yield Finding("ok", "MongoDB", where, f"answers, replica set {hello['setName']}")
        local: datetime = hello["localTime"]
        yield from _skew("MongoDB", where, local.astimezone(UTC).timestamp(), before)
