"""What a scrape shows, and that it stays small however many workers there have been."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.errors import BridgeError
from bridge.proxy.hooks import Outcome
from bridge.proxy.routing.reload import Reloader
from bridge.proxy.telemetry import cells as counters
from bridge.proxy.telemetry import metrics, scrape
from bridge.proxy.telemetry.metrics import Metrics, State
from tests.proxy.site import TOP, route

QUIET = State(0, 0, 0, {}, {})


Worker = Callable[..., Metrics]


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    scrape.prepare(tmp_path)
    return tmp_path


@pytest.fixture
def worker(state_dir: Path) -> Iterator[Worker]:
    """worker(slot=0): a new worker in this slot."""
    with contextlib.ExitStack() as end:
        yield lambda slot=0: end.enter_context(contextlib.closing(Metrics(state_dir, slot)))


def outcome(**fields: object) -> Outcome:
    made = Outcome("id", 1, "digest", status=200, seconds=0.002)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def by_legacy(**fields: object) -> Outcome:
    usual = {"route": "page", "backend": "php", "legacy": "php", "wait": 0.0, "first_byte": 0.001}
    return outcome(**{**usual, **fields})


def scraped(state_dir: Path) -> dict[str, float]:
    """Every sample by its name and labels."""
    lines = scrape.scrape(state_dir).decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_prometheus_can_read_it(worker: Worker, state_dir: Path) -> None:
    fill(worker())
    families = {
        family.name: family
        for family in text_string_to_metric_families(scrape.scrape(state_dir).decode())
    }
    assert families["bridge_requests"].type == "counter"
    assert families["bridge_stage_seconds"].type == "histogram"
    assert families["bridge_in_flight"].samples[0].value == 3
    assert all(family.documentation for family in families.values())


def test_requests_are_counted_by_route_backend_and_status_class(
    worker: Worker, state_dir: Path
) -> None:
    first, second = worker(), worker(1)
    first.after_response(by_legacy(status=204))
    second.after_response(by_legacy(status=200))
    second.after_response(by_legacy(route="", status=404))
    found = scraped(state_dir)
    assert found['bridge_requests_total{backend="php",route="page",status="2xx"}'] == 2
    assert found['bridge_requests_total{backend="php",route="-",status="4xx"}'] == 1


def test_each_stage_has_a_histogram(worker: Worker, state_dir: Path) -> None:
    one = worker()
    one.after_response(by_legacy(connect=0.0003))
    one.after_response(by_legacy())  # on a connection that was there
    one.after_response(outcome(backend="python", handler=0.2))
    found = scraped(state_dir)

    def count(stage: str, backend: str) -> float:
        return found[f'bridge_stage_seconds_count{{backend="{backend}",stage="{stage}"}}']

    assert [count(stage, "php") for stage in ("wait", "connect", "first_byte")] == [2, 1, 2]
    assert count("handler", "python") == 1
    under = 'bridge_stage_seconds_bucket{backend="python",le="%s",stage="handler"}'
    assert (found[under % "0.1"], found[under % "0.25"], found[under % "+Inf"]) == (0, 1, 1)
    assert found['bridge_stage_seconds_sum{backend="python",stage="handler"}'] == 0.2
    assert found['bridge_request_seconds_count{backend="php"}'] == 2


def test_a_backend_that_fails_is_counted_by_stage_although_the_page_is_ours(
    worker: Worker,
    state_dir: Path,
) -> None:
    failed = by_legacy(backend="bridge", status=504, stage="connect", connect=2.0, first_byte=-1.0)
    worker().after_response(failed)
    found = scraped(state_dir)
    assert found['bridge_backend_failures_total{backend="php",stage="connect"}'] == 1
    assert 'bridge_stage_seconds_count{backend="php",stage="first_byte"}' in found
    assert found['bridge_stage_seconds_count{backend="php",stage="first_byte"}'] == 0


def test_fallbacks_loops_and_freshness_are_counted(worker: Worker, state_dir: Path) -> None:
    one = worker()
    one.after_response(by_legacy(fallback="python-timeout"))
    one.after_response(by_legacy(freshness="at_once"))
    one.after_response(outcome(status=508, loop="a (php) → b (python)"))
    found = scraped(state_dir)
    assert found['bridge_fallbacks_total{reason="python-timeout",route="page"}'] == 1
    assert scrape.freshness(state_dir) == {"at_once": 1}
    assert scrape.loops(state_dir) == {"a (php) → b (python)": 1}


def test_questions_for_the_logs_end_are_counted_with_their_time(
    worker: Worker, state_dir: Path
) -> None:
    one = worker()
    one.after_response(by_legacy(log_end="asked", asked=0.0004))
    one.after_response(by_legacy(log_end="late", asked=0.02))
    one.after_response(by_legacy())
    found = scraped(state_dir)
    assert scrape.log_ends(state_dir) == {"asked": 1, "late": 1}
    assert found['bridge_log_end_total{outcome="late"}'] == 1
    assert found['bridge_log_end_seconds_bucket{le="0.0005"}'] == 1
    assert found["bridge_log_end_seconds_count"] == 2
    assert found["bridge_log_end_seconds_sum"] == pytest.approx(0.0204)


def test_very_many_kinds_of_loops_are_counted_together(worker: Worker, state_dir: Path) -> None:
    one = worker()
    for number in range(300):
        one.after_response(outcome(status=508, loop=f"{number}"))
    found = scrape.loops(state_dir)
    assert len(found) == 201
    assert found["others"] == 100


def test_what_there_is_now_is_the_sum_of_the_workers_that_serve(
    worker: Worker, state_dir: Path
) -> None:
    first, second = worker(), worker(1)
    is_open = {("page", "failures"): (True, 1)}
    first.state(State(10, 3, 1, {"php": (2, 5, 0)}, is_open))
    second.state(State(20, 4, 2, {"php": (1, 1, 7)}, is_open))
    found = scraped(state_dir)
    assert found["bridge_workers"] == 2
    assert found["bridge_visitors"] == 30
    assert found["bridge_in_flight"] == 7
    assert found["bridge_handlers"] == 3
    states = [found[f'bridge_backend_connections{{backend="php",state="{state}"}}']
              for state in ("active", "idle", "waiting")]  # fmt: skip
    assert states == [3, 6, 7]
    assert found['bridge_breaker_open{cause="failures",route="page"}'] == 2
    second.leave()
    found = scraped(state_dir)
    assert (found["bridge_workers"], found["bridge_visitors"]) == (1, 10)
    assert found['bridge_breaker_open{cause="failures",route="page"}'] == 1
    assert found['bridge_breaker_opened_total{cause="failures",route="page"}'] == 2


def test_a_worker_that_was_killed_leaves_nothing_behind_but_what_it_counted(
    worker: Worker,
    state_dir: Path,
) -> None:
    killed = worker()
    killed.after_response(by_legacy())
    killed.state(State(10, 3, 1, {"php": (2, 5, 0)}, {}))
    worker().state(QUIET)
    found = scraped(state_dir)
    assert found["bridge_visitors"] == 0
    assert found['bridge_backend_connections{backend="php",state="active"}'] == 0
    assert found['bridge_requests_total{backend="php",route="page",status="2xx"}'] == 1


def test_a_backend_that_was_removed_has_no_connections(worker: Worker, state_dir: Path) -> None:
    one = worker()
    one.state(State(0, 0, 0, {"old": (2, 5, 0)}, {}))
    one.state(State(0, 0, 0, {"php": (0, 0, 0)}, {}))
    assert scraped(state_dir)['bridge_backend_connections{backend="old",state="idle"}'] == 0


def test_workers_that_leave_a_server_alone_are_counted(worker: Worker, state_dir: Path) -> None:
    alone = {"php": {"http://a": "takes no connection"}}
    first, second = worker(), worker(1)
    for one in (first, second):
        one.state(State(0, 0, 0, {}, {}, alone=alone))
    name = 'bridge_backend_server_down{backend="php",server="http://a"}'
    assert scraped(state_dir)[name] == 2
    second.state(QUIET)
    assert scraped(state_dir)[name] == 1
    first.leave()
    assert scraped(state_dir)[name] == 0


def test_the_last_error_of_a_reload_is_shown_also_after_it_was_mended(
    worker: Worker, state_dir: Path, tmp_path: Path
) -> None:
    class Broken(Reloader):
        error: BridgeError | None = None

    file = tmp_path / "routes.yaml"
    file.write_text(TOP + f"  - {{{route('page', '/p/<name>')}}}\n")
    one, reloader = worker(), Broken(file, state_dir, lambda reloader: None)
    reloader.start()
    try:
        one.on_reload(reloader)
        assert "bridge_routes_last_error" not in scrape.scrape(state_dir).decode()
        reloader.error = BridgeError('routes.yaml:3:1: "sites" is missing\nand more')
        one.on_reload(reloader)
        assert scraped(state_dir)["bridge_routes_broken"] == 1
        reloader.error = None
        one.on_reload(reloader)
    finally:
        reloader.stop()
    found = scraped(state_dir)
    assert found["bridge_routes_broken"] == 0
    assert found['bridge_routes_generation{slot="0"}'] == reloader.table().generation
    (last,) = (name for name in found if name.startswith("bridge_routes_last_error"))
    assert last.endswith(r'{error="routes.yaml:3:1: \"sites\" is missing",slot="0"}')


def fill(one: Metrics, routes: int = 20) -> None:
    """What a worker counts in its life."""
    for number in range(routes):
        for status in (200, 302, 404):
            one.after_response(by_legacy(route=f"route-{number}", status=status, connect=0.001))
        one.after_response(outcome(route=f"route-{number}", backend="python", handler=0.01))
    one.state(State(10, 3, 1, {"php": (2, 5, 0)}, {("route-1", "failures"): (True, 1)}))


def size(state_dir: Path) -> tuple[int, int, int]:
    """Files that a scrape reads, their bytes, and the lines that it gives."""
    files = list((state_dir / "metrics").iterdir())
    lines = scrape.scrape(state_dir).count(b"\n")
    return len(files), sum(file.stat().st_size for file in files), lines


def test_a_scrape_after_200_recycled_workers_reads_what_it_read_after_the_first(
    worker: Worker,
    state_dir: Path,
) -> None:
    for slot in (0, 1, 2, 3):
        fill(worker(slot))
    first = size(state_dir)
    for number in range(200):
        one = worker(number % 4)
        fill(one)
        one.leave()
    assert size(state_dir) == first
    found = scraped(state_dir)
    assert found['bridge_requests_total{backend="php",route="route-7",status="2xx"}'] == 204
    began = time.process_time()
    scrape.scrape(state_dir)
    spent = time.process_time() - began
    print(f"a scrape of {first[2]} lines after 200 workers: {spent * 1000:.1f} ms of CPU")


def test_names_of_series_are_read_once(
    worker: Worker, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = worker()
    fill(one)
    before = scraped(state_dir)
    one.after_response(by_legacy(route="new"))

    def loads(line: bytes) -> object:
        read.append(line)
        return given(line)

    read: list[bytes] = []
    given = json.loads
    monkeypatch.setattr(counters.json, "loads", loads)
    after = scraped(state_dir)
    assert set(after) - set(before) == {
        'bridge_requests_total{backend="php",route="new",status="2xx"}'
    }
    assert len(read) == 1


def test_a_name_that_a_killed_worker_did_not_finish_is_passed_over(
    worker: Worker, state_dir: Path
) -> None:
    worker().after_response(by_legacy())
    with (state_dir / "metrics" / "0.names").open("ab") as file:
        file.write(b'["bridge_requ')
    next_one = worker()
    next_one.after_response(by_legacy(route="other"))
    found = scraped(state_dir)
    assert found['bridge_requests_total{backend="php",route="other",status="2xx"}'] == 1
    assert found['bridge_requests_total{backend="php",route="page",status="2xx"}'] == 1


def test_what_the_cache_of_the_mirror_does_is_counted_over_workers(
    worker: Worker, state_dir: Path
) -> None:
    def holds(hits: int, negative_hits: int, entries: int) -> State:
        counts = dict.fromkeys(("misses", "fills", "rejected", "evicted", "invalidated"), 2)
        counts |= {"hits": hits, "negative_hits": negative_hits, "flushes": 1}
        return State(0, 0, 0, {}, {}, {**counts, "entries": entries, "bytes": 1000 * entries})

    first = worker()
    first.state(holds(10, 3, 5))
    first.state(holds(30, 4, 7))
    first.leave()
    worker().state(holds(100, 0, 9))
    found = scraped(state_dir)
    reads = "bridge_cache_reads_total"
    assert found[f'{reads}{{result="hit"}}'] == 26 + 100
    assert found[f'{reads}{{result="nothing"}}'] == 4
    assert found[f'{reads}{{result="miss"}}'] == 4
    assert found['bridge_cache_changes_total{what="flushes"}'] == 2
    assert (found["bridge_cache_entries"], found["bridge_cache_bytes"]) == (9, 9000)


# --- slots

TAKE = """\
import sys
from pathlib import Path
from bridge.proxy.telemetry import metrics, scrape
print(metrics.take_slot(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def process_in_a_slot(state_dir: Path) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """Another process that has taken a slot, and the slot."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", TAKE, str(state_dir)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        try:
            yield int(process.stdout.readline()), process
        finally:
            process.kill()


def test_each_process_has_a_slot_of_its_own_and_the_lowest_that_is_free(state_dir: Path) -> None:
    with (
        process_in_a_slot(state_dir) as (first, process),
        process_in_a_slot(state_dir) as (second, _),
    ):
        assert (first, second) == (0, 1)
        process.kill()
        process.wait(10)
        with process_in_a_slot(state_dir) as (third, _):
            assert third == 0


def test_what_is_cleared_is_of_those_that_are_gone(worker: Worker, state_dir: Path) -> None:
    with process_in_a_slot(state_dir) as (slot, process):
        one = worker(slot)
        one.after_response(by_legacy())
        one.state(State(10, 3, 1, {}, {}))
        metrics.clear(state_dir)
        assert scraped(state_dir)["bridge_visitors"] == 10
        process.kill()
        process.wait(10)
        metrics.clear(state_dir)
        found = scraped(state_dir)
    assert found["bridge_visitors"] == 0
    assert found['bridge_requests_total{backend="php",route="page",status="2xx"}'] == 1
