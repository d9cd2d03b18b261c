"""`python -m bench NAME --against COMMIT`: what ratios mean, which code runs, whose turn it is, and
what is left behind. How fast anything is, is not tested."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from bench.before import COMPARABLE, against
from bench.before.against import report, run
from bench.before.callgrind import Counter, under_callgrind
from bench.before.checkout import Tree, checked_out, resolve
from bench.before.counts import COUNTED, Counts
from bench.before.ratios import Found, compare, cost_key, limit_of
from bench.before.turns import Side, in_turns
from bench.report import BenchmarkFailed, Report
from stack.process import REPOSITORY
from stack.waiting import wait_for

TOY = """\
from pathlib import Path
from bench.report import BenchmarkFailed, Report
from bridge import MICROS

def run(folder, rounds, seconds, progress):
    for number in range(rounds):
        progress.print(f"round {number + 1}", style="dim")
        with (folder.parent / "turns").open("a") as turns:
            turns.write(folder.name + "\\n")
        if MICROS < 0:
            raise BenchmarkFailed("an answer was wrong")
        if MICROS == 0:
            raise RuntimeError("a mistake")
    return Report("", (), figures={"page_us": MICROS, "pages_per_s": 1e6 / MICROS})
"""
"""A benchmark that finds what its `bridge` says."""

positive = st.floats(min_value=1e-3, max_value=1e9)


def git(repository: Path, *words: str) -> str:
    """What git says in a repository, with a name and an address of its own."""
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(repository), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path, micros: float) -> str:
    """A commit whose page takes so long; its hash."""
    (repository / "bridge/__init__.py").write_text(f"MICROS = {micros}\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", f"{micros} µs")
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a benchmark `toy` and nothing else that could be measured."""
    made = tmp_path / "repository"
    for folder in ("bench", "bridge", "stack"):
        (made / folder).mkdir(parents=True)
        (made / folder / "__init__.py").touch()
    for file in ("bench/report.py", "stack/errors.py", "stack/process.py"):
        (made / file).write_bytes((REPOSITORY / file).read_bytes())
    for file in ("reaper", "ports", "sessions"):
        (made / f"stack/{file}.py").write_bytes((REPOSITORY / f"stack/{file}.py").read_bytes())
    (made / "bench/toy.py").write_text(TOY)
    (made / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "init", "-q", str(made))
    return made


@pytest.fixture
def slower(repository: Path, tmp_path: Path) -> Iterator[tuple[Tree, Tree]]:
    """A commit, and the checkout as it is: its page takes twice as long."""
    before = commit(repository, 100)
    commit(repository, 200)
    with checked_out(repository, before, tmp_path / "before") as place:
        yield Tree("before", place), Tree("now", repository)


def both(trees: tuple[Tree, Tree], folder: Path, rounds: int) -> list[Found | None]:
    """What both sides find with the toy."""
    with (
        Side(trees[0], "toy", folder, rounds, 1) as before,
        Side(trees[1], "toy", folder, rounds, 1) as now,
    ):
        in_turns([before, now], lambda _: None)
    return [before.found, now.found]


def started_in(folder: Path) -> list[str]:
    """The command lines of the processes that have the folder in theirs."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(folder) in line]


# What a ratio means.


@given(before=positive, cost=st.floats(min_value=0.01, max_value=100))
def test_a_ratio_is_the_cost_of_a_unit_now_over_before_for_rates_and_for_times(
    before: float, cost: float
) -> None:
    figures = {"a_us": before, "b_ms": before, "c_per_s": before, "d_rps": before}
    figures |= {"e_per_s_200": before, "f_mb_per_100k": before, "instructions_event": before}
    now = {
        key: value / cost if "per_s" in key or "rps" in key else value * cost
        for key, value in figures.items()
    }
    found = compare([(Found(figures), Found(now))])
    assert set(found) == {
        *(f"{name}_time_over_before" for name in ("a", "b", "c", "d", "e_200")),
        *("f_per_100k_memory_over_before", "instructions_event_over_before"),
    }
    assert all(one.ratio == pytest.approx(cost) for one in found.values())


@given(st.lists(st.tuples(positive, positive), min_size=1, max_size=9))
def test_the_ratio_is_the_median_of_the_pairs(values: list[tuple[float, float]]) -> None:
    pairs = [(Found({"a_us": before}), Found({"a_us": now})) for before, now in values]
    [found] = compare(pairs).values()
    ratios = sorted(now / before for before, now in values)
    assert ratios[(len(ratios) - 1) // 2] <= found.ratio <= ratios[len(ratios) // 2]


@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}(_[a-z0-9]{1,4}){0,3}", fullmatch=True), positive))
def test_what_is_no_speed_is_not_compared(figures: dict[str, float]) -> None:
    compared = {made[0] for key in figures if (made := cost_key(key))}
    assume(len(compared) == sum(cost_key(key) is not None for key in figures))
    assert set(compare([(Found(figures), Found(figures))])) == compared
    assert all(one.ratio == 1 for one in compare([(Found(figures), Found(figures))]).values())


@pytest.mark.parametrize("key", ["rows", "messages", "visible_events", "kills", "_us", "_per_s"])
def test_a_figure_without_a_unit_of_time_is_no_speed(key: str) -> None:
    assert cost_key(key) is None


@pytest.mark.parametrize("other", [{}, {"a_us": 0.0}, {"a_us": -1.0}])
def test_a_figure_that_one_side_does_not_have_is_left_out(other: dict[str, float]) -> None:
    assert compare([(Found({"a_us": 1.0}), Found(other))]) == {}
    assert compare([(Found({"a_us": 1.0, **other}), Found({"a_us": 1.0}))]).keys() <= {
        "a_time_over_before"
    }


def test_instructions_may_grow_less_than_times() -> None:
    assert limit_of("instructions_event_over_before") == 1.03
    assert limit_of("e2e_events_time_over_before") == 1.10


@pytest.mark.parametrize(("now", "verdict"), [(109.0, ""), (111.0, "slower"), (50.0, "")])
def test_the_table_says_what_is_slower(now: float, verdict: str) -> None:
    pairs = [(Found({"page_us": 100.0}), Found({"page_us": now}))]
    [row] = report("toy", "0" * 40, pairs, []).rows
    assert row[-1] == verdict


def test_a_quick_run_gives_no_verdict() -> None:
    pairs = [(Found({"page_us": 100.0}), Found({"page_us": 500.0}))]
    made = report("toy", "0" * 40, pairs, [], quick=True)
    assert "no verdict" in made.title
    assert made.rows[0][-1] == ""


# Which code runs, and whose turn it is.


def test_each_side_runs_its_own_code(slower: tuple[Tree, Tree], tmp_path: Path) -> None:
    before, now = both(slower, tmp_path / "run", rounds=1)
    assert before is not None
    assert now is not None
    assert (before.figures["page_us"], now.figures["page_us"]) == (100, 200)
    assert {one.ratio for one in compare([(before, now)]).values()} == {2.0}


def test_they_take_turns_and_who_is_first_changes(
    slower: tuple[Tree, Tree], tmp_path: Path
) -> None:
    both(slower, tmp_path / "run", rounds=4)
    turns = (tmp_path / "run/turns").read_text().split()
    assert [set(turns[number : number + 2]) for number in range(0, 8, 2)] == [{"before", "now"}] * 4
    assert turns[:4] in (["before", "now", "now", "before"], ["now", "before", "before", "now"])


def test_code_of_another_checkout_ends_the_run(slower: tuple[Tree, Tree], tmp_path: Path) -> None:
    class Elsewhere(Tree):
        def environment(self) -> dict[str, str]:
            return slower[1].environment()

    (slower[0].path / "bridge").rename(slower[0].path / "gone")
    with pytest.raises(BenchmarkFailed, match="the code that runs is not that of"):
        Elsewhere("before", slower[0].path).check()


@pytest.mark.parametrize(
    ("micros", "said"),
    [(-1, "now: an answer was wrong"), (0, "now: the benchmark ended without a word.*a mistake")],
)
def test_a_benchmark_that_fails_ends_the_run_and_says_on_which_side(
    repository: Path, tmp_path: Path, micros: int, said: str
) -> None:
    before = commit(repository, 100)
    commit(repository, micros)
    with (
        checked_out(repository, before, tmp_path / "before") as place,
        pytest.raises(BenchmarkFailed, match=f"(?s){said}"),
    ):
        both((Tree("before", place), Tree("now", repository)), tmp_path / "run", rounds=1)


# What is asked for, and what is left.


def test_a_commit_that_there_is_not_is_refused(repository: Path) -> None:
    commit(repository, 1)
    with pytest.raises(BenchmarkFailed, match="nonsense is no commit"):
        resolve(repository, "nonsense", "toy")


def test_a_commit_without_the_benchmark_is_refused(repository: Path) -> None:
    commit(repository, 1)
    with pytest.raises(BenchmarkFailed, match="has no benchmark engine"):
        resolve(repository, "HEAD", "engine")


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match="not a git repository"):
        resolve(tmp_path, "HEAD", "toy")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, BenchmarkFailed, None])
def test_the_worktree_goes_however_the_run_ends(
    repository: Path, tmp_path: Path, error: type[BaseException] | None
) -> None:
    full, place = commit(repository, 1), tmp_path / "before"

    def work() -> None:
        with checked_out(repository, full, place):
            (place / "bridge/left.log").touch()
            if error is not None:
                raise error("the end")

    with pytest.raises(error) if error is not None else contextlib.nullcontext():
        work()
    assert not place.exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize("good", [0, 1, 2])
def test_a_run_that_fails_leaves_those_before_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int
) -> None:
    """Each takes many minutes; only where there is none at all is there no report."""
    left = [(Found({"page_us": 100.0}), Found({"page_us": 50.0}))] * good

    def pair(*_: object) -> tuple[Found, Found]:
        if not left:
            raise BenchmarkFailed("no more")
        return left.pop()

    monkeypatch.setattr(against, "_pair", pair)
    monkeypatch.setattr(against, "_counted", lambda *_: [])
    full, console = commit(repository, 1), Console(file=io.StringIO())
    (tmp_path / "run").mkdir()

    def work() -> Report:
        return run("toy", full, tmp_path / "run", 6, 1, console, repository=repository)

    if not good:
        with pytest.raises(BenchmarkFailed, match="no more"):
            work()
        return
    made = work()
    assert made.ratios == {"page_time_over_before": 0.5}
    assert f"medians of {good} pairs" in made.title


@pytest.mark.parametrize("name", ["kill", "slow"])
def test_what_is_no_measure_of_speed_is_not_compared(name: str) -> None:
    command = [sys.executable, "-m", "bench", name, "--against", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"{name} is no measure of speed" in done.stderr


def test_the_benchmarks_that_are_compared_are_those_that_are_counted() -> None:
    assert set(COUNTED) == set(COMPARABLE)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "bench", "queue", "--against", "HEAD", "--quick"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={**Tree("now", REPOSITORY).environment(), "TMPDIR": str(tmp_path)},
        cwd=REPOSITORY,
        text=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "count instructions 1: before" in line:
                break
        process.send_signal(number)
        process.communicate(timeout=100)
    assert process.returncode != 0
    assert str(tmp_path) not in git(REPOSITORY, "worktree", "list")
    wait_for(lambda: not list(tmp_path.glob("bench-*")), 30, "the folder to go")
    wait_for(lambda: not started_in(tmp_path), 30, "the servers to end")


def test_a_side_whose_turn_does_not_come_any_more_ends(
    slower: tuple[Tree, Tree], tmp_path: Path
) -> None:
    def work() -> None:
        with Side(slower[0], "toy", tmp_path / "run", 9, 1) as side:
            side.step()
            assert started_in(tmp_path / "run")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not started_in(tmp_path / "run")


# Instructions.


@given(
    base=st.integers(0, 10**9),
    unit=st.integers(1, 10**6),
    beside=st.lists(st.integers(0, 10**6), min_size=2, max_size=5),
)
def test_what_a_program_does_once_or_beside_is_not_in_the_count_of_a_unit(
    base: int, unit: int, beside: list[int]
) -> None:
    beside = [*beside, 0]
    counts = Counts(
        [base + 500 * unit + b for b in beside], [base + 1000 * unit + b for b in beside], 500
    )
    assert counts.per_unit() == unit
    assert (counts + counts).per_unit() == unit


LOOP = """\
import sys
print("ready", flush=True)
for line in sys.stdin:
    for _ in range(int(line)): pass
    print("done", flush=True)
"""


def test_twice_the_work_is_twice_the_instructions(tmp_path: Path) -> None:
    command = under_callgrind([sys.executable, "-c", LOOP], tmp_path)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        counter = Counter(process.pid, tmp_path)

        def count(times: int) -> int:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{times}\n")
            process.stdin.flush()
            process.stdout.readline()
            return counter.take()

        count(1)
        one, two, three = (count(times) for times in (10_000, 20_000, 30_000))
        process.stdin.close()
    assert three - two == pytest.approx(two - one, rel=0.02)


def test_a_process_that_callgrind_does_not_run_is_told(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            with pytest.raises(BenchmarkFailed, match="callgrind_control"):
                Counter(process.pid, tmp_path)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("name", "units"),
    [
        pytest.param("queue", {"event"}, marks=pytest.mark.long),
        pytest.param(
            "sync",
            {"event", "row", "reconcile_row", "deep_row"},
            marks=[pytest.mark.long, pytest.mark.timeout(500)],
        ),
    ],
)
def test_what_our_programs_do_is_counted(name: str, units: set[str], tmp_path: Path) -> None:
    with COUNTED[name](tmp_path, True) as count:
        found = count(Tree("now", REPOSITORY), tmp_path / "now")
    assert set(found) == units
    # Less than a thousand instructions would be no Python at all.
    assert all(one.per_unit() > 1000 for one in found.values())


# All of it.


@pytest.fixture(scope="module")
def quick() -> subprocess.CompletedProcess[str]:
    """One quick run for the tests below."""
    command = [sys.executable, "-m", "bench", "engine", "--quick", "--against", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=REPOSITORY)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_last_line_has_the_ratios_to_the_commit_before(
    quick: subprocess.CompletedProcess[str],
) -> None:
    assert quick.returncode == 0, quick.stderr
    result: dict[str, Any] = json.loads(quick.stdout.splitlines()[-1])
    assert {
        "engine_over_nginx",
        "engine_c32_time_over_before",
        "engine_c32_cpu_time_over_before",
        "instructions_request_over_before",
        "instructions_handler_request_over_before",
    } <= set(result["ratios"])
    assert {"instructions_request", "instructions_request_before"} <= set(result["figures"])
    # The checkout may have changes, but not some that make it another program.
    assert 0.5 < result["ratios"]["instructions_request_over_before"] < 2


@pytest.mark.long
@pytest.mark.timeout(300)
def test_progress_names_both_sides(quick: subprocess.CompletedProcess[str]) -> None:
    assert "before: start the servers" in quick.stderr
    assert "now: start the servers" in quick.stderr


def test_without_valgrind_the_instructions_are_left_out_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.before import against, callgrind

    monkeypatch.setattr(against, "find_program", missing := _Missing())
    trees = Tree("before", tmp_path), Tree("now", tmp_path)
    assert against._counted("engine", trees, tmp_path, True, Console(stderr=True)) == []
    assert missing.asked == ["valgrind"]
    assert callgrind.INSTALL in " ".join(capsys.readouterr().err.split())


class _Missing:
    """`find_program` of a machine that has nothing."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, name: str, install: str) -> str:
        from stack.errors import BinaryMissing

        self.asked.append(name)
        raise BinaryMissing(name, install)
