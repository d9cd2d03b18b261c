"""`bridgectl survey` and `bridgectl plan`, as an operator types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.process import REPOSITORY
from tests.evidence.plan.site import site
from tests.evidence.survey.site import site_log


def bridge(*words: str, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "BRIDGE_STATE_DIR": str(cwd / "state")}
    command = [sys.executable, "-m", "bridge", *words]
    return subprocess.run(
        command, cwd=cwd, env=environ, capture_output=True, text=True, input=given, timeout=60
    )


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text(site_log(2000))
    return path


def test_a_survey_says_where_to_begin_and_why(log: Path, tmp_path: Path) -> None:
    done = bridge("survey", str(log), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2,000 requests" in done.stdout
    assert done.stdout.index("Begin with") < done.stdout.rindex("/project/<name>")
    assert "one rule for" in done.stdout


def test_its_routes_are_a_file_that_check_accepts(log: Path, tmp_path: Path) -> None:
    made = bridge("survey", str(log), "--routes", cwd=tmp_path)
    (tmp_path / "routes.yaml").write_text(made.stdout)
    done = bridge("check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is good" in done.stdout
    assert "python: 0%" in made.stdout


def test_a_log_is_read_from_standard_input_as_json(tmp_path: Path) -> None:
    done = bridge("survey", "-", "-o", "json", cwd=tmp_path, given=site_log(50) + "odd\n")
    found = json.loads(done.stdout)
    assert (found["requests"], found["unread"]) == (50, 1)
    assert "1 of 51 lines are no requests" in done.stderr
    assert (
        sum(one["requests"] for one in found["rules"])
        + found["odd"]
        + sum(one["requests"] for one in found["static"].values())
        == 50
    )


def test_a_file_that_is_no_log_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("dear diary\n")
    done = bridge("survey", "diary", cwd=tmp_path)
    assert done.returncode == 3
    assert "combined" in done.stderr
    assert "dear diary" in done.stderr


def test_the_bridges_own_log_says_how_far_it_is_and_what_a_flip_would_do(tmp_path: Path) -> None:
    with site(tmp_path) as where:
        where.ask(400)
    php = tmp_path / "www"
    php.mkdir()
    (php / "old.php").write_text("<?php")
    words = ["--table", "routes.yaml", "--root", "www"]
    done = bridge("survey", "access.log", *words, "-o", "json", cwd=tmp_path)
    found = json.loads(done.stdout)
    lines = [json.loads(line) for line in where.log.read_text().splitlines()]
    python = sum(line["backend"] == "python" for line in lines)
    assert sum(day["python"] for day in found["days"]) == python > 0
    assert sum(day["requests"] for day in found["days"]) == len(lines) == 400
    assert sum(one["left"] for one in found["left"]) == 400 - python
    assert found["unused"] == {"Routes": [], "PHP scripts": ["/old.php"]}
    shown = bridge("survey", "access.log", *words, cwd=tmp_path).stdout
    assert "Answered by Python, by day" in shown
    plan = bridge("plan", "project=60%", "--log", "access.log", "-o", "json", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    made = json.loads(plan.stdout)
    assert made["decided_again"]["as_logged"] == made["requests"] == 400
    assert made["routes"][0]["route"] == "project"
    assert any("no.such.module" in one for one in made["check"])
    said = bridge("plan", "project=60%", "--log", "access.log", cwd=tmp_path)
    assert "handler threads" in said.stdout
    wrong = where.log.read_text().replace('"backend":"python"', '"backend":"php"', 1)
    (tmp_path / "wrong.log").write_text(wrong)
    assert bridge("plan", "project=60%", "--log", "wrong.log", cwd=tmp_path).returncode == 1


def test_a_share_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    with site(tmp_path):
        pass
    for change in ("project", "project=much"):
        done = bridge("plan", change, "--log", "access.log", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
