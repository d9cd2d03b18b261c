"""`python -m bench dispatcher` runs and ends with one JSON object; its speed is not tested."""

import json
import subprocess
import sys
from typing import Any

import pytest

FRONTS = {
    "nginx",
    "proxymiddleware",
    "dispatcher",
    "dispatcher_split",
    "dispatcher_500_routes",
    "dispatcher_handler",
}


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


@pytest.fixture(scope="module")
def quick() -> subprocess.CompletedProcess[str]:
    """One quick run for all tests here."""
    return bench("dispatcher", "--quick")


@pytest.fixture
def result(quick: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object of its last line."""
    assert quick.returncode == 0, quick.stderr
    found: dict[str, Any] = json.loads(quick.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_the_last_line_is_the_json_object_that_is_promised(result: dict[str, Any]) -> None:
    assert set(result) == {"bench", "ratios", "figures"}
    assert result["bench"] == "dispatcher"


@pytest.mark.slow
def test_the_ratios_compare_the_fronts(result: dict[str, Any]) -> None:
    assert {
        "dispatcher_over_proxymiddleware",
        "dispatcher_split_over_proxymiddleware",
        "dispatcher_500_routes_over_dispatcher",
        "handler_over_dispatcher",
        "dispatcher_over_nginx",
    } == set(result["ratios"])
    assert all(ratio > 0 for ratio in result["ratios"].values())


@pytest.mark.slow
def test_each_front_has_its_figures(result: dict[str, Any]) -> None:
    kinds = ("rps", "cpu_us", "added_p50_us", "added_p99_us")
    of_fronts = {f"{front}_{kind}" for front in FRONTS for kind in kinds}
    of_all = {"direct_rps", "direct_cpu_us", "added_p50_us", "added_p99_us"}
    assert set(result["figures"]) == of_fronts | of_all


@pytest.mark.slow
def test_the_table_is_above_the_json_and_progress_is_elsewhere(
    quick: subprocess.CompletedProcess[str],
) -> None:
    assert "requests/s" in quick.stdout.splitlines()[0]
    assert "round 1 of 1: direct" in quick.stderr
    assert "round 1" not in quick.stdout


def test_the_names_of_the_benchmarks_are_listed() -> None:
    assert "dispatcher" in bench("--list").stdout.split()
