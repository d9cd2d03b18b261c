"""What a flip would have done: who changes sides, how much comes, how many threads that takes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import FlipRefused
from bridge.evidence.logs import entries
from bridge.evidence.plan import Plan, Tables, at_shares
from bridge.evidence.plan.threads import threads_for
from bridge.proxy.decision.buckets import bucket

ROUTES = """\
version: 1
sites:
  forge: {hosts: [forge.example], legacy: php}
backends:
  php: {url: "http://127.0.0.1:8090"}
groups:
  lists: {python: 0%}
routes:
  - {name: project, path: /project/<name>, handler: "tests.proxy.site:view", python: 20%}
  - {name: list, path: /list, handler: "tests.proxy.site:view", group: lists}
"""


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    path = tmp_path / "routes.yaml"
    path.write_text(ROUTES)
    return path


def ours(tables: Tables, number: int, at: int = 0, **more: Any) -> dict[str, Any]:
    """A line of the bridge's own log for a page of a project, by its table."""
    python = number < 20_000
    return {
        "time": f"2026-05-17T10:{at // 60:02}:{at % 60:02}.000+00:00", "request_id": f"r{number}",
        "client": f"192.0.2.{number % 200}", "method": "GET", "host": "forge.example",
        "path": "/project/bash", "status": 200, "bytes": 10, "ms": 50.0, "site": "forge",
        "route": "project", "backend": "python" if python else "php", "reason": "share",
        "detail": f"bucket {number / 1000:g}% is {'in' if python else 'not in'} 20%",
        "bucket": number, "generation": 1, "table": tables.now.digest, **more,
    }  # fmt: skip


def planned(tables: Tables, lines: list[Any], log: Path, **shares: str) -> Plan:
    log.write_text(
        "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    )
    made = Plan(tables, at_shares(tables.now, shares))
    for entry in entries([log]):
        made.add(entry)
    made.end()
    return made


def test_those_between_the_shares_change_sides(routes: Path, tmp_path: Path) -> None:
    tables = Tables(routes)
    lines = [ours(tables, number, number % 3600) for number in range(0, 100_000, 100)]
    made = planned(tables, lines, tmp_path / "log", project="50%")
    assert (made.reproduced, made.different, made.estimated) == (1000, 0, 0)
    assert (made.python_now, made.python_then) == (200, 500)
    change = made.changes["project"]
    assert (change.to_python, change.to_legacy) == (300, 0)
    assert sum(change.hours.values()) == 300
    back = planned(tables, lines, tmp_path / "log", project="0%")
    assert (back.changes["project"].to_legacy, back.python_then) == (200, 0)


def test_the_peak_is_the_fullest_second(routes: Path, tmp_path: Path) -> None:
    tables = Tables(routes)
    lines = [ours(tables, 30_000 + n, at) for at in range(60) for n in range(1 + 4 * (at == 7))]
    made = planned(tables, lines, tmp_path / "log", project="50%")
    assert (made.peak_now, made.peak_then) == (0, 5)
    assert made.peak_at % 60 == 7


def test_posts_after_a_page_that_changes_are_named(routes: Path, tmp_path: Path) -> None:
    tables = Tables(routes)
    page = ours(tables, 30_000, 0)
    post = page | {
        "method": "POST",
        "path": "/save.php",
        "route": "",
        "reason": "no-route",
        "detail": "",
        "time": "2026-05-17T10:20:00.000+00:00",
    }
    del post["bucket"]
    late = post | {"time": "2026-05-17T10:31:00.000+00:00", "path": "/late.php"}
    made = planned(tables, [page, post, late], tmp_path / "log", project="50%")
    assert [(str(rule), rule.tally.requests) for rule in made.posts.rules()] == [("/save.php", 1)]


def test_without_a_bucket_it_is_an_estimate_by_the_visitor(routes: Path, tmp_path: Path) -> None:
    tables = Tables(routes)
    line = ours(tables, 0) | {"route": "list", "path": "/list", "detail": "0%", "backend": "php"}
    del line["bucket"]
    lines = [line | {"client": f"192.0.2.{n}"} for n in range(200)]
    made = planned(tables, lines, tmp_path / "log", lists="30%")
    chosen = sum(bucket("group:lists", f"192.0.2.{n} ") < 30_000 for n in range(200))
    assert (made.reproduced, made.estimated) == (200, 200)
    assert made.changes["list"].to_python == chosen > 30


def test_another_servers_log_is_matched_with_the_routes(routes: Path, tmp_path: Path) -> None:
    tables = Tables(routes)
    lines = [
        f"192.0.2.{n % 250} - - [17/May/2026:10:05:03 +0000] "
        f'"GET {target} HTTP/1.1" 200 5 "-" "b{n}"\n'
        for n in range(400)
        for target in ("/project/bash", "/other")
    ]
    made = planned(tables, lines, tmp_path / "log", project="70%")
    assert (made.requests, made.estimated, made.undecided) == (800, 800, 0)
    assert abs(made.python_now - 80) < 40
    assert abs(made.python_then - 280) < 50
    assert set(made.changes) == {"project"}
    assert len(made.visitors) == made.changes["project"].to_python


def test_threads_are_for_the_times_of_python(routes: Path, tmp_path: Path) -> None:
    tables = Tables(routes)
    lines = [ours(tables, 100 + n, 7, ms=200.0) for n in range(50)]
    lines += [ours(tables, 40_000 + n, 7, ms=9000.0) for n in range(50)]
    made = planned(tables, lines, tmp_path / "log", project="50%")
    assert made.peak_then == 100
    assert made.times == (pytest.approx(0.2), "python")
    assert made.threads == threads_for(100, 0.2)


@given(st.floats(0.01, 500), st.floats(0.001, 1.9))
def test_threads_are_the_fewest_that_are_enough(rate: float, seconds: float) -> None:
    load, count = rate * seconds, threads_for(rate, seconds)

    def enough(threads: int) -> float:
        logs = (n * math.log(load) - load - math.lgamma(n + 1) for n in range(threads + 1))
        return sum(math.exp(one) for one in logs)

    assert enough(count) >= 0.99 - 1e-9
    assert count == 1 or enough(count - 1) < 0.99 + 1e-9


def test_names_without_a_share_are_refused(routes: Path) -> None:
    table = Tables(routes).now
    with pytest.raises(FlipRefused, match="flips with its group"):
        at_shares(table, {"list": "5%"})
    with pytest.raises(FlipRefused, match="no route or group `projet`"):
        at_shares(table, {"projet": "5%"})
    with pytest.raises(ValueError, match="%"):
        at_shares(table, {"project": "5"})
