"""`python -m bench queue` runs, checks its messages and ends with one JSON object; its speed is
not tested."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from bench.queue_events import event, events, same
from bench.report import BenchmarkFailed
from bridge.queue.events import Event
from stack.errors import BinaryMissing
from stack.rabbitmq import program

QUEUES = {
    "stock",
    "streams_1",
    "streams_10",
    "streams_100",
    "streams_200",
    "sql",
    "sql_4",
    "sql_batched",
    "sql_batched_4",
}
DELAYS = {"stock", "streams", "sql", "sql_10ms"}


@pytest.fixture(scope="module")
def quick() -> subprocess.CompletedProcess[str]:
    """One quick run for all tests here."""
    command = [sys.executable, "-m", "bench", "queue", "--quick"]
    return subprocess.run(command, capture_output=True, text=True, timeout=110)


@pytest.fixture
def result(quick: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON object of its last line."""
    assert quick.returncode == 0, quick.stderr
    found: dict[str, Any] = json.loads(quick.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def rabbitmq() -> set[str]:
    """Its name, where it is installed."""
    try:
        program("rabbitmq-server")
    except BinaryMissing:
        return set()
    return {"rabbitmq"}


@pytest.mark.slow
def test_the_last_line_is_the_json_object_that_is_promised(result: dict[str, Any]) -> None:
    assert set(result) == {"bench", "ratios", "figures"}
    assert result["bench"] == "queue"


@pytest.mark.slow
def test_the_ratios_compare_ours_with_the_others(result: dict[str, Any]) -> None:
    assert set(result["ratios"]) == {
        "publish_over_stock",
        "publish_1_over_stock",
        "consume_over_stock",
        "consume_over_sql",
        "consume_over_sql_batched",
        "e2e_over_stock",
    }
    assert all(ratio > 0 for ratio in result["ratios"].values())


@pytest.mark.slow
def test_each_queue_has_its_figures(result: dict[str, Any], rabbitmq: set[str]) -> None:
    assert set(result["figures"]) == {
        *(f"{name}_publish_per_s" for name in QUEUES | rabbitmq),
        *(f"{name}_consume_per_s" for name in QUEUES | rabbitmq),
        *(f"{name}_server_cpu_us" for name in QUEUES | rabbitmq),
        *(f"{name}_delay_p50_ms" for name in DELAYS | rabbitmq),
        *(f"{name}_delay_p99_ms" for name in DELAYS | rabbitmq),
        *("e2e_events_per_s", "e2e_stock_per_s"),
        *("visible_p50_ms", "visible_p99_ms", "visible_events", "messages"),
    }
    assert all(figure > 0 for figure in result["figures"].values())


@pytest.mark.slow
def test_the_table_is_above_the_json_and_progress_is_elsewhere(
    quick: subprocess.CompletedProcess[str],
) -> None:
    assert "messages/s" in quick.stdout.splitlines()[0]
    assert "round 1 of 1: stock" in quick.stderr
    assert "round 1" not in quick.stdout


def test_a_message_is_an_event_of_a_usual_size() -> None:
    [text] = events(1)
    assert Event.parse(text).entity == "project"
    assert 600 <= len(text.encode()) <= 800


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sent: sent[:-1],
        lambda sent: [*sent, sent[0]],
        lambda sent: [*sent[:-1], sent[0]],
        lambda sent: [*sent[:-1], sent[-1].replace("GPL", "MIT")],
    ],
    ids=["missing", "twice", "one for another", "changed"],
)
def test_a_message_that_did_not_arrive_as_it_was_ends_the_run(
    spoil: Callable[[list[str]], list[str]],
) -> None:
    sent = events(3)
    same("queue", sent, [text.encode() for text in sent])
    with pytest.raises(BenchmarkFailed):
        same("queue", sent, spoil(sent))


def test_every_message_is_about_a_project_of_its_own() -> None:
    assert len({event(number).key for number in range(50)}) == 50
