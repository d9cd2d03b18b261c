"""The table decided again says what the log says, for every line; and no damage goes unseen."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bridge.evidence.logs import entries
from bridge.evidence.plan import Plan, Tables, at_shares
from bridge.reasons import Reason
from tests.evidence.plan.site import Site, site


def asked(where: Site, requests: int, flips: int) -> None:
    for _ in range(flips):
        where.ask(requests // (flips + 1))
        where.flip()
    where.ask(requests - where.asked)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    with site(folder) as where:
        asked(where, 3000, 12)
    return where


def planned(where: Site, log: Path | None = None, **shares: str) -> Plan:
    tables = Tables(where.routes)
    made = Plan(tables, at_shares(tables.now, shares))
    for entry in entries([log or where.log]):
        made.add(entry)
    made.end()
    return made


def lines_of(where: Site) -> list[dict[str, Any]]:
    return [json.loads(line) for line in where.log.read_text().splitlines()]


def is_as_logged(where: Site) -> None:
    made = planned(where)
    assert made.examples == []
    assert (made.reproduced, made.different, made.unknown) == (where.asked, 0, 0)
    lines = lines_of(where)
    assert made.requests == len(lines) == where.asked
    reasons = Counter(line["reason"] for line in lines)
    wanted = {
        Reason.SHARE, Reason.PREVIEW, Reason.NO_ROUTE, Reason.ODD_TARGET, Reason.LEGACY_ROUTE,
        Reason.NO_HANDLER, Reason.NO_STICKY_KEY, Reason.PYTHON_ERROR,
    }  # fmt: skip
    assert wanted <= set(reasons)
    falls = {line.get("fallback") for line in lines}
    assert {Reason.DECLINED, Reason.PYTHON_ERROR, Reason.PYTHON_5XX} <= falls
    assert len({line["table"] for line in lines}) > 5
    assert {"python", "php", "old", "bridge"} <= {line["backend"] for line in lines}


def test_every_line_is_decided_again_as_it_was(logged: Site) -> None:
    is_as_logged(logged)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_line_of_a_large_log_is_decided_again_as_it_was(tmp_path: Path) -> None:
    with site(tmp_path, seed=2) as where:
        asked(where, 100_000, 60)
    is_as_logged(where)


def damaged(line: dict[str, Any], chance: random.Random) -> dict[str, Any] | None:
    """The line with one thing that is not so, or None."""
    what = chance.choice(["backend", "reason", "bucket", "route", "fallback"])
    if not line["reason"]:
        what = "backend"
    if what == "backend":
        other = chance.choice([one for one in ("python", "php") if one != line["backend"]])
        return {**line, "backend": other}
    if what == "reason":
        others = (Reason.SHARE, Reason.NO_ROUTE, Reason.LEGACY_ROUTE)
        return {**line, "reason": chance.choice([one for one in others if one != line["reason"]])}
    if what == "bucket" and "bucket" in line:
        return {**line, "bucket": (line["bucket"] + chance.randrange(1, 99_999)) % 100_000}
    if what == "route" and line["route"]:
        return {
            **line,
            "route": chance.choice(
                [one for one in ("", "php-only", "whole", "bug") if one != line["route"]]
            ),
        }
    if what == "fallback" and not line.get("fallback") and line["backend"] in ("php", "python"):
        return {**line, "fallback": "declined"}
    return None


def test_a_line_that_is_not_what_happened_is_seen(logged: Site, tmp_path: Path) -> None:
    """Each in a log of its own, so that none hides another."""
    chance = random.Random(3)
    lines = lines_of(logged)
    tables = Tables(logged.routes)
    seen = 0
    for line in chance.sample(lines, 600):
        wrong = damaged(line, chance)
        if wrong is None:
            continue
        log = tmp_path / "log"
        log.write_text(json.dumps(wrong) + "\n")
        made = Plan(tables, tables.now)
        for entry in entries([log]):
            made.add(entry)
        assert made.different == 1, (line, wrong)
        seen += 1
    assert seen > 300


def test_tables_that_the_history_does_not_tell_are_counted(logged: Site, tmp_path: Path) -> None:
    other = tmp_path / "routes.yaml"
    other.write_text(logged.routes.read_text())
    tables = Tables(other)
    made = Plan(tables, tables.now)
    for entry in entries([logged.log]):
        made.add(entry)
    known = sum(line["table"] == tables.now.digest for line in lines_of(logged))
    assert (made.reproduced, made.different) == (known, 0)
    assert made.unknown == logged.asked - known > 0


def test_older_logs_have_the_bucket_in_words(logged: Site, tmp_path: Path) -> None:
    log = tmp_path / "old.log"
    lines = lines_of(logged)
    without = [{key: value for key, value in line.items() if key != "bucket"} for line in lines]
    log.write_text("".join(json.dumps(line) + "\n" for line in without))
    assert sum("bucket" in line for line in lines) > 300
    made, same = planned(logged, log, project="50%"), planned(logged, project="50%")
    assert (made.reproduced, made.different) == (logged.asked, 0)
    assert made.python_then == same.python_then
