"""Many reloads while visitors ask: no request fails, and none sees two tables."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import create_environ, run_wsgi_app

from bridge.proxy.front import Front
from bridge.proxy.hooks import Hooks, Outcome
from bridge.proxy.routing.load import load_text
from bridge.proxy.routing.table import RouteTable
from bridge.proxy.wsgi.dispatcher import Dispatcher
from stack.nginx import NginxPhp
from stack.php import PhpServer
from stack.waiting import wait_for
from tests.acceptance.bridge_site import BridgeSite
from tests.acceptance.conftest import PAGES
from tests.acceptance.visitors import Visitors

pytestmark = pytest.mark.acceptance

TABLE = """\
version: 1
sites:
  s: {hosts: ["@ADDRESS@"], legacy: php, response_headers: {set: {X-Table: @NAME@}}}
backends:
  php: {url: "@PHP@/@NAME@", host: @NAME@.legacy}
groups:
  both: {python: @SHARE@}
routes:
  - {name: one, path: /across, query: {decline: false}, group: both,
     handler: "tests.acceptance.apps.handlers:across"}
  - {name: two, path: /across, query: {decline: true}, group: both,
     handler: "tests.acceptance.apps.handlers:across"}
"""


def table(php: str, name: str, share: str) -> str:
    """One of the two tables: they differ in everything that a request gets from its table."""
    return TABLE.replace("@PHP@", php).replace("@NAME@", name).replace("@SHARE@", share)


@pytest.mark.slow
def test_many_reloads_under_load_fail_no_request_and_mix_no_tables(tmp_path: Path) -> None:
    reload_under_load(tmp_path, reloads=200)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_thousand_reloads_under_load_fail_no_request_and_mix_no_tables(tmp_path: Path) -> None:
    reload_under_load(tmp_path, reloads=1000)


def reload_under_load(directory: Path, reloads: int) -> None:
    """Flip between two tables that differ in everything while visitors ask.

    What a request gets from its table is: the side (share of the group), the address and the
    Host that legacy is asked for (backend), the header X-Table (site), its generation and the
    digest in the access log. The tables differ in each, and all of one answer must be of one.
    Most requests begin under one table and end under another: handler and page wait for a
    reload in between.
    """
    php = NginxPhp(directory / "php", PAGES, fallback="rewrite ^ /router.php last;", children=8)
    with php, two_tables(directory, php) as (site, tables):
        watch = f"watch={site.state / 'last-good.yaml'}"
        crossing = [f"/across?{watch}", f"/across?{watch}&decline=1"]
        quick = ["/across", "/across?decline=1"]
        with Visitors(site.address, crossing, crossing[::-1], crossing, quick) as visitors:
            for number in range(1, reloads + 1):
                text, digest = tables["ab"[number % 2]]
                site.write(text)
                site.live(
                    lambda worker, digest=digest: worker.digest == digest, 5, f"reload {number}"
                )
        generations = [worker.generation for worker in site.workers()]
        wait_for(lambda: len(site.log()) >= len(visitors.answers), 5, "the whole access log")
        log = {line["request_id"]: line for line in site.log()}
    assert visitors.failures == []
    assert generations == [reloads + 1] * 2
    crossed = {"python": 0, "php": 0, "declined": 0}
    for seen in visitors.answers:
        name = seen.headers["X-Table"]
        lines = [json.loads(line) for line in seen.body.splitlines()]
        faults = [fault_of(seen.target, name, line, tables, log) for line in lines]
        assert faults == [""] * len(lines)
        assert len({line.get("generation") for line in lines}) == 1
        side = lines[0]["side"]
        kind = "declined" if side == "php" and name == "a" else side
        crossed[kind] += lines[0]["reloaded"]
    # It would prove nothing if the requests had stood still while the tables changed.
    assert min(crossed.values()) >= reloads / 10, crossed


def fault_of(
    target: str,
    name: str,
    line: dict[str, Any],
    tables: dict[str, tuple[str, str]],
    log: dict[str, dict[str, Any]],
) -> str:
    """What in an answer is not of table `name`; empty if all of it is."""
    logged = log[line["request_id"]]
    seen: dict[str, object] = {
        "digest": logged["table"],
        "odd generation": logged["generation"] % 2 == 1,
        "side": logged["reason"] + " " + logged["detail"],
    }
    percent = "100%" if name == "a" else "0%"
    wanted = {"digest": tables[name][1], "odd generation": name == "a", "side": f"share {percent}"}
    if line["side"] == "python":
        seen |= {"share": line["share"], "generation": line["generation"]}
        wanted |= {"share": 100_000, "generation": logged["generation"]}
    else:
        seen |= {"host": line["host"], "prefix": line["prefix"]}
        wanted |= {"host": f"{name}.legacy", "prefix": f"/{name}"}
    declined = "decline" in target
    if line["side"] != ("python" if name == "a" and not declined else "php"):
        return f"{target} was answered by {line['side']} under table {name}"
    return "" if seen == wanted else f"{target}: {seen} is not {wanted}"


@pytest.mark.parametrize(
    ("target", "side"),
    [("/across", "python"), ("/across?decline=1", "php"), ("/elsewhere", "php"), ("*", "bridge")],
)
def test_a_request_reads_the_table_once(php: PhpServer, target: str, side: str) -> None:
    """The same without chance: every further read would give the other table."""
    site = f"{php.host}:{php.port}"
    one, other = (
        load_text(
            table(php.url, name, share).replace("@ADDRESS@", site),
            Path("routes.yaml"),
            generation=generation,
        )
        for generation, name, share in ((1, "a", "100%"), (2, "b", "0%"))
    )
    reads = [one]
    outcomes: list[Outcome] = []

    class Seen(Hooks):
        def after_response(self, outcome: Outcome) -> None:
            outcomes.append(outcome)

    def read() -> RouteTable:
        return reads.pop() if reads else other

    dispatcher = Dispatcher(Front(read, hooks=[Seen()]))
    environ = create_environ("/across", f"http://{site}")
    environ |= {"RAW_URI": target, "QUERY_STRING": target.partition("?")[2]}
    body, status, headers = run_wsgi_app(dispatcher, environ, buffered=True)
    text = b"".join(body).decode()
    (outcome,) = outcomes
    assert (outcome.backend, outcome.digest) == (side, one.digest)
    if side == "bridge":
        assert status.startswith("400")
        return
    assert headers["X-Table"] == "a"
    if target != "/elsewhere":
        line = json.loads(text.splitlines()[0])
        assert line["side"] == side
        assert line.get("host", "a.legacy") == "a.legacy"
        assert line.get("prefix", "/a") == "/a"
        assert line.get("generation", one.generation) == one.generation


@contextlib.contextmanager
def two_tables(
    directory: Path, php: NginxPhp
) -> Iterator[tuple[BridgeSite, dict[str, tuple[str, str]]]]:
    """A bridge with two workers that runs table a, and the text and digest of both tables."""
    texts = {
        "a": table(php.url, "a", "100%"),
        "b": table(php.url, "b", "0%"),
    }
    with BridgeSite(directory / "site", texts["a"], workers=2) as site:
        path = site.routes
        digests = {name: load_text(site.text(text), path).digest for name, text in texts.items()}
        yield site, {name: (texts[name], digests[name]) for name in texts}
